"""Records: every variant there and back; nothing hostile gets through."""

import dataclasses

import numpy as np
import pytest

from twinstep import TraceError, encoding, records
from twinstep import records as R

VIEW = R.View("x", 1, 8, [2, 3], [3, 1], "bf16", "read-write")
ITEMS = [
    R.Launch("gemm", 2, "forward", "layer.0", 1, [VIEW], [
        R.NamedScalar("a", R.ScalarU32(7)), R.NamedScalar("b", R.ScalarI32(-7)),
        R.NamedScalar("c", R.ScalarU64(1 << 63)), R.NamedScalar("d", R.ScalarF32(0x7FC00000)),
    ]),
    R.GraphLaunch(0, 1), R.Capture(0), R.DestroyGraph(0), R.Allocate(1), R.Free(1),
    R.OpaqueLaunch("k<float>", "sample", 3, (1, 2, 3), (4, 5, 6), (1, 1, 2), 99, [b"\x01\x02", b""], [(0, 1, VIEW)]),
    R.Copy(0, None, VIEW, 1 << 40, 5, 64), R.Fill(0, VIEW, 4096, b"\xa5", 64),
    R.EventRecord(1, 2), R.EventWait(1, 2), R.Gap("why"), R.Mark("warm-up: ü"),
]  # fmt: skip
VALUES = [
    (records.PROGRAM, R.Program(ITEMS)),
    (records.RUN, R.Run("tool", "graph", notes=[("engine", "foreign")], model_sha256=bytes(range(32)))),
    (records.BUFFER, R.Buffer("x", 1, "f16", [2, 2], "state", 8, 64, None, None)),
    (records.BUFFER, R.Buffer("w", 0, "f16", [4], "weight", 8, 64, 1 << 47,
                              R.Contents([R.Part("a.safetensors", "w")], "bf16", bytes(32)))),
    (records.GRAPH, R.Graph(0, "decode", 1, [(0, 1)], (1, 2))),
    (records.REQUEST, R.Request(1, "id", [1, 2, 3], 0)),
    (records.STEP, R.Step("decode", 1, 2, 0, 3, [R.HostWrite(0, 1, 8, b"abc")],
                          [R.HostRead(1, 1, 0, b"d", "stop")], [R.Point("step.before", 0, 5)])),
]  # fmt: skip


@pytest.mark.parametrize("schema, value", VALUES)
def test_there_and_back(schema, value):
    data = encoding.encode(schema, value)
    assert encoding.decode(schema, data) == value
    for cut in range(len(data)):
        with pytest.raises(TraceError):
            encoding.decode(schema, data[:cut])
    with pytest.raises(TraceError):
        encoding.decode(schema, data + b"\0")


def test_all_variants_are_here():
    assert {type(item) for item in ITEMS} == set(records.ITEM.numbers)
    # Their order is the format: the table of FORMAT.md.
    assert [dataclasses.fields(v.make)[0].name for v in records.ITEM.variants] == [
        "op", "graph", "graph", "graph", "buffer", "buffer", "kernel", "stream", "stream", "event", "event",
        "reason", "text",
    ]  # fmt: skip
    assert encoding.encode(records.PROGRAM, R.Program([R.Mark("a")])).hex() == (
        "0100000000000000" "0c000000" "0100000000000000" "61"
    )


@pytest.mark.parametrize("seed", range(6))
def test_damaged_records_are_refused_or_decoded(seed):
    random = np.random.default_rng(seed)
    for schema, value in VALUES:
        data = bytearray(encoding.encode(schema, value))
        for _ in range(60):
            damaged = bytearray(data)
            for _ in range(int(random.integers(1, 4))):
                damaged[int(random.integers(len(damaged)))] = int(random.choice([0, 1, 255, random.integers(256)]))
            try:
                encoding.decode(schema, damaged)
            except TraceError:
                pass


def test_what_does_not_fit_is_refused():
    for schema, value in [
        (records.REQUEST, R.Request(1 << 32, "", [])),
        (records.REQUEST, R.Request(-1, "", [])),
        (records.BUFFER, R.Buffer("x", 0, "f64", [1], "state", 8, 64)),
        (records.BUFFER, R.Buffer("x", 0, "f32", [1], "feedback", 4, 64)),
        (records.RUN, R.Run("tool", "eager", model_sha256=b"short")),
    ]:
        with pytest.raises(TraceError):
            encoding.encode(schema, value)
