"""Files that end early, are damaged or forged: the last commit, or one TraceError; never anything else."""

import struct
import time
import zlib

import numpy as np
import pytest
from test_round_trip import random_trace

import twinstep
from twinstep import TraceError, layout


def small_trace(path, steps):
    """A few hundred bytes a step: contents, a graph's worth of items, a generation."""
    state, codes = np.zeros(9, np.float32), [np.arange(3)]
    with twinstep.record(path, mode="graph", rank=1) as r:
        r.watch("state", state)
        r.watch("codes", lambda: codes[0])
        r.request("one", [1, 2])
        for step in range(steps):
            with r.launch("k"):
                state += 1
            if step == 1:
                codes[0] = np.arange(4)
            r.step()


def commits(data):
    """Ends of the commit frames."""
    ends, offset = [], 64
    while offset < len(data):
        frame = layout.read_frame(memoryview(data), offset, len(data))
        if frame.kind == layout.COMMIT:
            ends.append(frame.end)
        offset = frame.end
    return ends


def read_all(path):
    """Everything that a trace has; what is not sensible raises TraceError."""
    with twinstep.open(path) as trace:
        for step in trace.records:
            trace.items(step)
        _ = trace.graphs
        for snapshot in range(trace.snapshot_count):
            for number in trace.covered(snapshot):
                trace.read(snapshot, number)
        return len(trace.steps)


def test_cut_at_every_byte(tmp_path):
    small_trace(tmp_path / "a.twin", 3)
    data = (tmp_path / "a.twin").read_bytes()
    ends = commits(data)
    assert len(ends) == 5  # the first, the set-up, three steps
    cut = tmp_path / "cut.twin"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        whole = sum(end <= length for end in ends)
        if whole == 0:
            with pytest.raises(TraceError):
                twinstep.open(cut)
            continue
        with twinstep.open(cut) as trace:
            assert not trace.complete
            assert (len(trace.steps), trace.committed) == (max(0, whole - 2), ends[whole - 1]), length
        if length in (ends[whole - 1], ends[whole - 1] + 1):
            assert read_all(cut) == max(0, whole - 2)


@pytest.mark.parametrize("value", [0x00, 0xFF, 0x01])
def test_every_byte_changed(tmp_path, value):
    small_trace(tmp_path / "a.twin", 2)
    data = (tmp_path / "a.twin").read_bytes()
    hurt = tmp_path / "hurt.twin"
    begun = time.process_time()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= value or 0x80
        hurt.write_bytes(damaged)
        try:
            read_all(hurt)
        except TraceError as error:
            assert "\n" not in str(error)
    assert time.process_time() - begun < 60


def with_checksums(data):
    """A forger's file: frames, commits and footer have right checksums whatever is in them."""
    out, offset, start, previous = bytearray(data), 64, 0, 0
    while offset + 16 <= len(out):
        kind, flags, _, length = struct.unpack_from("<HHIQ", out, offset)
        end = offset + 16 + layout.padded(length)
        if end > len(out):
            break
        if kind == layout.COMMIT and length == 40:
            struct.pack_into("<II", out, offset + 48, zlib.crc32(out[start:offset]), previous)
            previous, start = zlib.crc32(out[start:offset]), end
        payload = out[offset + 16 : offset + 16 + length]
        crc = zlib.crc32(payload, zlib.crc32(struct.pack("<HHQ", kind, flags, length)))
        struct.pack_into("<I", out, offset + 4, crc)
        offset = end
    return bytes(out)


@pytest.mark.parametrize("seed", range(4))
def test_forged_files(tmp_path, seed):
    random = np.random.default_rng(seed)
    random_trace(tmp_path / "a.twin", seed, steps=2)
    data = (tmp_path / "a.twin").read_bytes()
    assert with_checksums(data) == data
    forged = tmp_path / "forged.twin"
    begun = time.process_time()
    opened = 0
    for _ in range(250):
        damaged = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            place = int(random.integers(80, len(data) - 8)) // 4 * 4
            number = int(random.choice([0, 1, 2, 0xFFFFFFFF, 0x7FFFFFFF, 4096, random.integers(1 << 32)]))
            struct.pack_into("<I", damaged, place, number)
        forged.write_bytes(with_checksums(damaged))
        try:
            read_all(forged)
            opened += 1
        except TraceError:
            pass
    assert opened  # the forging keeps files that open: the checks behind the checksums were reached
    assert time.process_time() - begun < 60


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "no .twin file"),
        (b"hello", "no .twin file"),
        (b"PK\3\4" + bytes(100), "no .twin file"),
        (layout.header(), "nothing was recorded"),
        (layout.header()[:20], "nothing was recorded"),
        (layout.header()[:8] + bytes(56), "checksum of the file header"),
    ],
)
def test_what_is_no_trace(tmp_path, content, says):
    path = tmp_path / "x.twin"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=says):
        twinstep.open(path)


def test_other_versions_are_named(tmp_path):
    head = layout.SIGNATURE + struct.pack("<HHI", 0, 9, 64) + bytes(44)
    (tmp_path / "x.twin").write_bytes(head + struct.pack("<I", zlib.crc32(head)))
    with pytest.raises(TraceError, match="format 0.9, this package reads 0.1 and 0.2"):
        twinstep.open(tmp_path / "x.twin")
    with pytest.raises(TraceError, match="cannot be opened"):
        twinstep.open(tmp_path / "none.twin")
    with pytest.raises(TraceError, match="cannot be opened"):
        twinstep.open(tmp_path)


def test_a_changed_byte_ends_belief_at_the_commit_before_it(tmp_path):
    small_trace(tmp_path / "a.twin", 3)
    data = (tmp_path / "a.twin").read_bytes()
    ends = commits(data)
    hurt = tmp_path / "hurt.twin"
    for place in range(ends[0], ends[-1], 5):
        damaged = bytearray(data[: ends[-1]])
        damaged[place] ^= 0x10
        hurt.write_bytes(damaged)
        with twinstep.open(hurt) as trace:
            assert trace.committed == max(end for end in ends if end <= place), place


def test_an_index_that_cannot_be_believed_is_ignored(tmp_path):
    random_trace(tmp_path / "a.twin", 8, steps=3)
    data = (tmp_path / "a.twin").read_bytes()
    with twinstep.open(tmp_path / "a.twin") as trace:
        due = [trace.read(s, b).tobytes() for s in range(trace.snapshot_count) for b in trace.covered(s)]
        assert trace.complete
    footer = layout.TRAILER.unpack(data[-16:])[0]
    for place, number in [(footer + 16, len(data)), (footer + 24, 9), (footer + 32, 99), (footer + 40, 8), (footer + 48, 1 << 40)]:
        forged = bytearray(data)
        struct.pack_into("<Q", forged, place, number)
        (tmp_path / "forged.twin").write_bytes(with_checksums(forged))
        with twinstep.open(tmp_path / "forged.twin") as trace:
            assert not trace.complete
            assert due == [trace.read(s, b).tobytes() for s in range(trace.snapshot_count) for b in trace.covered(s)]
