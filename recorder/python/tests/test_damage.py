"""Whatever bit of a file is flipped: each value that is handed out is right, or there is a TraceError."""

import numpy as np
import pytest
from conftest import same_bits
from test_recovery import small_trace
from test_round_trip import random_trace

import twinstep
from twinstep import TraceError, layout, reader


def handed_out(path):
    """All that a reader can ask for, by what it asks; where it was refused, nothing."""
    out, refused = {}, 0

    def ask(key, question):
        nonlocal refused
        try:
            out[key] = question()
        except TraceError as error:
            assert "\n" not in str(error)
            refused += 1

    try:
        trace = twinstep.open(path)
    except TraceError:
        return {}, 1
    with trace:
        for key, value in (("info", trace.info), ("buffers", trace.buffers), ("requests", trace.requests)):
            out[key] = value
        ask("graphs", lambda: trace.graphs)
        ask("steps", lambda: trace.records)
        for place, step in enumerate(out.get("steps", ())):
            ask(("items", place), lambda step=step: trace.items(step))
            for point in step.points:
                ask(("covered", place, point.point), lambda point=point: trace.covered(point.snapshot))
                for number in out.get(("covered", place, point.point), ()):
                    key = ("values", place, point.point, number)
                    ask(key, lambda point=point, number=number: trace.read(point.snapshot, number).tobytes())
    return out, refused


def assert_right(found, due, damaged):
    for key, value in found.items():
        if key in ("buffers", "requests", "graphs", "steps"):
            # A file that opens at an earlier commit has fewer.
            assert tuple(value) == tuple(due[key])[: len(value)], (key, damaged)
        else:
            assert value == due[key], (key, damaged)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_random_flips(tmp_path, seed, closed):
    random = np.random.default_rng(seed)
    random_trace(tmp_path / "a.twin", seed, steps=3, close=closed)
    data = (tmp_path / "a.twin").read_bytes()
    due, refused = handed_out(tmp_path / "a.twin")
    assert not refused
    hurt = tmp_path / "hurt.twin"
    told = 0
    for _ in range(150):
        place = int(random.integers(len(data))) if random.integers(3) else len(data) - 1 - int(random.integers(4000)) % len(data)
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        hurt.write_bytes(damaged)
        found, refused = handed_out(hurt)
        assert_right(found, due, place)
        told += refused > 0 or found != due
    assert told > 10


def test_every_bit_of_a_small_file(tmp_path):
    small_trace(tmp_path / "a.twin", 1)
    data = (tmp_path / "a.twin").read_bytes()
    due, _ = handed_out(tmp_path / "a.twin")
    hurt = tmp_path / "hurt.twin"
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place * 7) % 8
        hurt.write_bytes(damaged)
        assert_right(handed_out(hurt)[0], due, place)


def table_frame(data, name):
    """Where a table of the index lies."""
    number = next(number for number, table, _ in layout.TABLES if table == name)
    footer = layout.TRAILER.unpack(data[-16:])[0]
    first = footer + layout.FRAME_BYTES + layout.FOOTER_HEAD.size
    rows = np.frombuffer(data, layout.DIRECTORY, len(layout.TABLES), first)
    return layout.read_frame(memoryview(data), int(rows[rows["table"] == number]["offset"][0]), footer, layout.INDEX)


@pytest.mark.parametrize("table", [name for _, name, _ in layout.TABLES if name not in ("graphs",)])
def test_a_damaged_table_of_the_index_is_done_without(tmp_path, table):
    random_trace(tmp_path / "a.twin", 8, steps=3)
    data = (tmp_path / "a.twin").read_bytes()
    due, _ = handed_out(tmp_path / "a.twin")
    frame = table_frame(data, table)
    for place in range(frame.at, frame.at + frame.length, 11):
        damaged = bytearray(data)
        damaged[place] ^= 4
        (tmp_path / "hurt.twin").write_bytes(damaged)
        found, refused = handed_out(tmp_path / "hurt.twin")
        assert not refused and found == due
        with twinstep.open(tmp_path / "hurt.twin") as trace:
            trace.read(0, trace.covered(0)[0])
            assert not trace.complete


def test_each_content_is_hashed_once(tmp_path, monkeypatch):
    state, codes = np.arange(20_000, dtype=np.float32), np.zeros(3, np.int32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", state)
        r.watch("zeros", np.zeros(1 << 18, np.uint8))
        r.watch("codes", codes)
        for step in range(4):
            state[step] += 1
            codes += 1
            r.step()
    hashed = []
    for name in ("chunk_hashes", "hash_each"):
        def counted(data, *more, plain=getattr(reader, name)):
            hashed.append(sum(one.size for one in data) if isinstance(data, list) else data.size)
            return plain(data, *more)

        monkeypatch.setattr(reader, name, counted)
    trace = twinstep.open(tmp_path / "a.twin")
    for step in (1, 2, 3, 4, 1):
        assert trace.buffer("zeros", step).sum() == 0 and trace.buffer("codes", step)[0] == step
        assert trace.buffer("state", step)[0] == 1
    assert same_bits(trace.buffer("state", 4), state)
    # All of it once, a changed chunk each of the other steps, one chunk of zeros, and 12 bytes a step.
    assert sum(hashed) == state.nbytes + 3 * 4096 + 4096 + 4 * 12


def test_a_closed_trace_says_so(tmp_path):
    small_trace(tmp_path / "a.twin", 2)
    with twinstep.open(tmp_path / "a.twin") as trace:
        kept = trace.buffer("state", 1)
        step = trace.steps[0]
    for question in (
        lambda: trace.buffer("state", 1), lambda: trace.read(0, 0), lambda: trace.items(step), lambda: trace.covered(0),
        lambda: trace.graphs, lambda: trace.steps, lambda: trace.snapshot_count, lambda: trace.step(1),
    ):  # fmt: skip
        with pytest.raises(TraceError, match="a.twin is closed"):
            question()
    assert kept.tolist() == [1] * 9 and len(trace.buffers) == 3
