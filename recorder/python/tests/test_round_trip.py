"""Whatever is written is read back, closed or not, and the Rust reader finds it in order."""

import numpy as np
import pytest
from conftest import NAMED, fill, same_bits

import twinstep
from twinstep import records as R
from twinstep.writer import _THREADED_BYTES, TraceWriter, chunk_bytes_of


def random_trace(path, seed, steps=5, close=True):
    """A trace with buffers of any shape and type that change at random; and what each snapshot must hold."""
    random = np.random.default_rng(seed)
    writer = TraceWriter(path, R.Run("twinstep-python 0.1.0", "eager", notes=[("engine", "foreign")]))
    live, expected = {}, []
    writer.add_request(R.Request(1, "one", [1, 2]))
    for step in range(1, steps + 1):
        for _ in range(int(random.integers(1 if not live else 0, 4))):
            dtype = str(random.choice(list(NAMED)))
            shape = tuple(int(n) for n in random.integers(0, [9, 40, 30][: int(random.integers(0, 4))]))
            size = int(np.prod(shape, dtype=np.int64)) * R.ITEM_BYTES[dtype]
            chunk = chunk_bytes_of(size) if random.integers(2) else int(2 ** random.integers(6, 14))
            record = R.Buffer(f"b{len(writer._buffers)}", 0, dtype, list(shape), "state", size, chunk, None)
            live[writer.add_buffer(record)] = fill(random, dtype, shape)
        points = []
        for point in ("step.before", "step.after"):
            for number, values in live.items():
                flat = values.reshape(-1).view(np.uint8)
                if flat.size and random.integers(2):
                    place = int(random.integers(flat.size))
                    flat[place : place + 9] ^= 1
            covered = [number for number in live if random.integers(4)] or list(live)
            writer.observe([(n, live[n].reshape(-1).view(np.uint8)) for n in covered])
            points.append(R.Point(point, 0, writer.snapshot(covered)))
            expected.append({n: live[n].copy() for n in covered})
        program = writer.add_program([R.OpaqueLaunch("k"), R.Mark(str(step % 2))])
        writer.commit_step(R.Step("decode", 1, step, 0, program, points=points))
    if close:
        writer.close()
    else:
        writer.abandon()
    return expected


@pytest.mark.parametrize("seed", range(12))
def test_random_traces(tmp_path, twinstep_binary, seed):
    path = tmp_path / "a.twin"
    expected = random_trace(path, seed, close=seed % 2 == 0)
    with twinstep.open(path) as trace:
        assert trace.complete == (seed % 2 == 0)
        assert trace.snapshot_count == len(expected)
        for snapshot, buffers in enumerate(expected):
            assert trace.covered(snapshot) == tuple(sorted(buffers))
            for number, values in buffers.items():
                found = trace.read(snapshot, number)
                assert same_bits(found, values) and found.dtype_name == trace.buffers[number].dtype
                assert not found.flags.writeable
    told = twinstep_binary.json("verify", path)
    assert told["ok"] and told["complete"] == (seed % 2 == 0) and told["damage"] == []


def test_equal_contents_are_stored_once(tmp_path):
    path = tmp_path / "a.twin"
    block = np.random.default_rng(1).integers(0, 256, 1 << 20, dtype=np.uint8)
    with twinstep.record(path) as r:
        r.watch("a", block)
        r.watch("b", np.concatenate([block, block]))
        for _ in range(10):
            r.step()
    assert path.stat().st_size < 1.1 * (1 << 20)


def test_a_large_buffer_that_threads_hash(tmp_path, twinstep_binary):
    random = np.random.default_rng(2)
    state = random.integers(0, 256, _THREADED_BYTES + 3 * (1 << 20) + 77, dtype=np.uint8)
    due = []
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", state)
        for _ in range(2):
            state[random.integers(0, state.size, 50)] ^= 3
            due.append(state.copy())
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert all(same_bits(trace.buffer("state", n + 1), values) for n, values in enumerate(due))
    assert (tmp_path / "a.twin").stat().st_size < state.size * 1.1
    assert twinstep_binary.json("verify", tmp_path / "a.twin")["ok"]


def test_a_wrong_size_is_refused(tmp_path):
    writer = TraceWriter(tmp_path / "a.twin", R.Run("t", "eager"))
    number = writer.add_buffer(R.Buffer("x", 0, "u8", [4], "state", 4, 64))
    with pytest.raises(twinstep.TraceError, match="never looked at"):
        writer.snapshot([number])
    with pytest.raises(twinstep.TraceError, match="5 bytes are given for x@0 of 4"):
        writer.observe([(number, np.zeros(5, np.uint8))])
    with pytest.raises(twinstep.TraceError, match="has that name and generation"):
        writer.add_buffer(R.Buffer("x", 0, "u8", [4], "state", 4, 64))
    writer.close()
