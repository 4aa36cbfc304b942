"""Both ways against the Rust reader: what Python writes it reads, what it writes Python reads."""

import pathlib

import numpy as np
import pytest
from conftest import ROOT, fill, same_bits

import twinstep
from twinstep import records as R
from twinstep.hash import chunk_hash

SAMPLES = sorted((ROOT / "traces" / "samples").glob("*.twin"))


def printed(binary, path, name, at, after, dtype, shape):
    """A buffer as `print --json` tells it, by the bits of its elements."""
    told = binary.json("print", path, name, "--at", at, *(["--after"] if after else []))
    assert (told["dtype"], told["shape"]) == (dtype, list(shape)), (path, name)
    bits = [int(e["bits"], 16) for e in told["elements"]]
    item = R.ITEM_BYTES[dtype]
    return np.frombuffer(b"".join(b.to_bytes(item, "little") for b in bits), f"<u{item}").reshape(shape)


@pytest.mark.parametrize("seed", range(3))
def test_print_tells_what_was_recorded(tmp_path, twinstep_binary, seed):
    random = np.random.default_rng(seed)
    path = tmp_path / "a.twin"
    held = {}
    for dtype in ("f32", "f16", "i64", "i32", "u32", "u64", "u8", "bool"):
        shape = tuple(int(n) for n in random.integers(1, 5, int(random.integers(1, 4))))
        held[f"{dtype}_buffer"] = fill(random, dtype, shape)
    with twinstep.record(path, mode="graph") as r:
        for name, values in held.items():
            r.watch(name, values)
        r.request("1")
        for _ in range(2):
            for values in held.values():
                values[...] = np.roll(values, 1)
            r.step()
    trace = twinstep.open(path)
    for buffer in trace.buffers:
        for step in (1, 2):
            for after in (False, True):
                mine = trace.buffer(buffer.name, step, "step.after" if after else "step.before")
                theirs = printed(twinstep_binary, path, buffer.name, step, after, buffer.dtype, mine.shape)
                assert same_bits(mine, theirs), (buffer.name, step, after)
    assert same_bits(trace.buffer("i64_buffer", 2), held["i64_buffer"])


def test_info_tells_what_was_recorded(tmp_path, twinstep_binary):
    path = tmp_path / "a.twin"
    with twinstep.record(path, mode="piecewise", model="m", prompt="hi") as r:
        r.watch("codes", np.zeros((2, 3), np.int64), role="input")
        r.watch("x", np.zeros(5, np.float64), role="scratch")
        r.step()
    told = twinstep_binary.json("info", path)
    assert (told["mode"], told["model"], told["prompt"]) == ("piecewise", "m", "hi")
    assert (told["tool"], told["steps"], told["requests"], told["complete"]) == ("twinstep-python 0.1.0", 1, 1, True)
    assert told["model_sha256"] in (None, "", "0" * 64)
    assert [(b["name"], b["generation"], b["role"], b["dtype"], b["shape"]) for b in told["buffers"]] == [
        ("codes", 0, "input", "i64", [2, 3]), ("x", 0, "scratch", "u8", [5, 8]),
    ]  # fmt: skip
    assert "forward" not in twinstep_binary.run("log", path)
    assert twinstep.open(path).info.sampling == R.Sampling(0, 0, 0, 0)


def test_a_recording_and_an_import_are_of_the_same_run(tmp_path, twinstep_binary):
    """What no tool was told, sampling for one, sets the runs of two tools not apart."""
    state = np.zeros(2, np.float32)
    (tmp_path / "dumps").mkdir()
    with twinstep.record(tmp_path / "graph.twin", mode="graph") as r:
        r.watch("state", state)
        for step in (1, 2):
            state += 1
            r.step()
            np.savez(tmp_path / "dumps" / f"step_{step}.npz", state=state)
    twinstep_binary.run("import", "--eager", tmp_path / "dumps", "-o", tmp_path / "imported")
    told = twinstep_binary.json("diff", tmp_path / "graph.twin", tmp_path / "imported.eager.twin")
    assert told["identical"] and told["first"] is None


def test_diff_finds_the_element(tmp_path, twinstep_binary):
    paths = [tmp_path / "a.twin", tmp_path / "b.twin", tmp_path / "c.twin"]
    for run, path in enumerate(paths):
        hidden, codes = np.zeros((2, 3), np.float32), np.zeros(4, np.int64)
        with twinstep.record(path) as r:
            r.watch("hidden", hidden)
            r.watch("codes", codes)
            for step in range(1, 5):
                with r.launch("forward"):
                    hidden += step
                    codes += 1
                    if run == 1 and step == 3:
                        hidden[1, 2] += 0.5
                r.step()
    told = twinstep_binary.json("diff", paths[0], paths[1], "--stat", "hidden:mean", status=1)
    first = told["first"]
    assert (first["request"], first["step"], first["point"], first["buffer"]) == (1, 3, "forward.after", "hidden")
    assert first["element"]["index"] == [1, 2]
    assert (first["a"]["value"], first["b"]["value"]) == (6.0, 6.5)
    assert twinstep_binary.json("diff", paths[0], paths[2], "--stat", "hidden:mean")["identical"]


def test_a_mark_is_in_the_log(tmp_path, twinstep_binary):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", np.zeros(3))
        r.request("one")
        r.mark("a word of the engine")
        with r.launch("forward"):
            pass
        r.step()
    log = twinstep_binary.run("log", tmp_path / "a.twin", "--at", "1")
    assert "a word of the engine" in log and "forward" in log


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_recorded_traces_are_read(path, twinstep_binary):
    """Every content has its hash; a few buffers are as printed. (A Rust test compares all of all.)"""
    told = twinstep_binary.json("info", path)
    trace = twinstep.open(path)
    assert trace.complete and trace.snapshot_count == told["snapshots"]
    assert [(b.name, b.generation, b.role, b.dtype, b.shape) for b in trace.buffers] == [
        (b["name"], b["generation"], b["role"], b["dtype"], b["shape"]) for b in told["buffers"]
    ]
    assert trace.info.model_sha256.hex() == told["model_sha256"] and len(trace.requests) == told["requests"]
    for row in trace._tables["contents"][::7]:
        data = trace._data[int(row["offset"]) : int(row["offset"]) + int(row["length"])]
        assert chunk_hash(data) == row["hash"].tobytes()
    for name in ("last_codes", "lm_logits"):
        mine = trace.buffer(name, 3)
        theirs = printed(twinstep_binary, path, name, 3, True, mine.dtype_name, mine.shape)
        assert same_bits(mine, theirs)


def test_a_fresh_recording_of_the_binary(tmp_path, twinstep_binary):
    path = tmp_path / "own.twin"
    twinstep_binary.run(
        "record", "--device", "cpu", "--text", "hello.", "--max-steps", "3", "--context", "256",
        "--batch", "1", "--mode", "graph", "-o", path,
    )  # fmt: skip
    trace = twinstep.open(path)
    assert trace.complete and len(trace.graphs) == 1
    steps = [s for s in trace.steps if s.kind in ("prefill", "decode")]
    assert len(steps) == 3
    read = 0
    for number in trace.covered(steps[1].snapshot("step.after")):
        buffer = trace.buffers[number]
        if buffer.role in ("state", "output") and buffer.bytes <= 4096:
            mine = trace.buffer(buffer.label, 2)
            assert same_bits(mine, printed(twinstep_binary, path, buffer.label, 2, True, buffer.dtype, mine.shape))
            read += 1
    assert read >= 8
    assert {type(item).__name__ for s in steps for item in trace.items(s)} >= {"Launch", "GraphLaunch"}


def test_samples_are_there():
    assert len(SAMPLES) >= 10 and all(isinstance(path, pathlib.Path) for path in SAMPLES)
