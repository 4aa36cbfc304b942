"""The API of a recording that writes its own file."""

import os
import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest
from conftest import same_bits

import twinstep
from twinstep import TraceError, standalone, writer
from twinstep import records as R

SOURCE = os.path.dirname(os.path.dirname(twinstep.__file__))


def marks(trace, records=None):
    items = [item for step in (records or trace.records) for item in trace.items(step)]
    return [item.text for item in items if isinstance(item, R.Mark)]


GAP = R.Gap("what runs outside the named parts of a step")


def points(step):
    return [point.point for point in step.points]


def run_python(code, *arguments, **more):
    """A process of its own, with this package."""
    environment = dict(os.environ, PYTHONPATH=SOURCE, PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, env=environment, timeout=60, check=False, **more,
    )  # fmt: skip


def test_a_loop(tmp_path):
    path = tmp_path / "a.twin"
    codes, hidden = np.zeros((2, 4), np.int64), np.zeros(8, np.float32)
    history = []
    with twinstep.record(path, mode="graph", model="m", prompt="hi", rank=3, notes={"context": "256"}) as r:
        r.watch("codes", codes)
        r.watch("hidden", hidden, role="output")
        r.request("first", prompt=np.array([5, 6]))
        for step in range(1, 4):
            with r.launch("forward"):
                codes += step
                hidden += 0.5
            with r.launch("forward"):
                hidden *= 2
            history.append((codes.copy(), hidden.copy()))
            assert r.step() == step
        r.request("second")
        assert r.step("decode") == 1
    trace = twinstep.open(path)
    assert trace.complete
    info = trace.info
    assert (info.mode, info.model, info.prompt, info.tool) == ("graph", "m", "hi", "twinstep-python 0.1.0")
    notes = dict(info.notes)
    assert info.notes[0] == ("engine", "foreign") and notes["context"] == "256"
    assert notes["process.rank"] == "3" and notes["process.pid"] == str(os.getpid())
    assert "numpy" in notes["process.versions"] and notes["process.command"]
    assert [(r.request, r.text, r.prompt) for r in trace.requests] == [(1, "first", [5, 6]), (2, "second", [])]
    assert [(s.kind, s.request, s.step, s.rank) for s in trace.steps] == [
        ("prefill", 1, 1, 3), ("decode", 1, 2, 3), ("decode", 1, 3, 3), ("decode", 2, 1, 3),
    ]  # fmt: skip
    first = trace.steps[0]
    assert [(p.point, p.position) for p in first.points] == [
        ("step.before", 0), ("forward.before", 1), ("forward.after", 2),
        ("forward#2.before", 3), ("forward#2.after", 4), ("step.after", 5),
    ]  # fmt: skip
    forward = R.OpaqueLaunch("forward", grid=(0, 0, 0), parameters=[])
    assert trace.items(first) == [GAP, forward, GAP, forward, GAP]
    zero = np.zeros((2, 4), np.int64)
    for step, (c, h) in enumerate(history, 1):
        assert same_bits(trace.buffer("codes", step), c) and same_bits(trace.buffer("hidden@0", step), h)
        before = history[step - 2][0] if step > 1 else zero
        assert same_bits(trace.buffer("codes", step, "step.before"), before)
        assert same_bits(trace.buffer("codes", step, "forward.after"), c)
        assert same_bits(trace.buffer("hidden", step, "forward#2.before"), h / 2)
    assert [b.role for b in trace.buffers] == ["state", "output"]
    assert trace.buffers[0].address == codes.ctypes.data
    for wrong, says in [
        (lambda: trace.buffer("codes", 9), "no step 9 of request 1"),
        (lambda: trace.buffer("codes", 1, "mid"), "no point mid: it has step.before"),
        (lambda: trace.buffer("codec", 1), "codec is not recorded at step.after"),
        (lambda: trace.buffer("codes@1", 1), "codes@1 is not recorded"),
    ]:
        with pytest.raises(TraceError, match=says):
            wrong()


def test_rebinding_is_a_new_generation(tmp_path):
    path = tmp_path / "a.twin"
    keep = [np.arange(4), np.arange(4) + 10, np.arange(5.0, dtype=np.float32)]
    now = [keep[0]]
    with twinstep.record(path) as r:
        r.watch("codes", lambda: now[0])
        r.step()
        now[0] = keep[1]
        r.step()
        r.step()
        now[0] = keep[2]
        r.step()
    trace = twinstep.open(path)
    assert [(b.label, b.dtype, b.shape) for b in trace.buffers] == [
        ("codes@0", "i64", [4]), ("codes@1", "i64", [4]), ("codes@2", "f32", [5]),
    ]  # fmt: skip
    assert [b.address for b in trace.buffers] == [a.ctypes.data for a in keep]
    kinds = [[type(i).__name__ for i in trace.items(s)] for s in trace.records]
    assert kinds == [["Allocate", "Gap"], ["Gap"], ["Allocate", "Gap"], ["Gap"], ["Allocate", "Gap"]]
    assert same_bits(trace.buffer("codes", 2, "step.before"), keep[0])
    assert same_bits(trace.buffer("codes", 2), keep[1])
    assert same_bits(trace.buffer("codes", 4), keep[2])
    with pytest.raises(TraceError):
        trace.buffer("codes@0", 2)


def test_memory_given_back_is_freed_before_the_new_generation(tmp_path):
    class Engine:
        pass

    engine = Engine()
    engine.codes, engine.other = np.arange(4), np.arange(3)
    with twinstep.record(tmp_path / "a.twin") as r:
        assert r.watch_module(engine, "codes", prefix="engine.") == ["engine.codes"]
        r.watch("other", engine.other)
        r.step()
        engine.codes = np.arange(4) + 1
        r.step()
        r.free("other")
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [trace.items(s) for s in trace.steps] == [[GAP], [R.Free(0), R.Allocate(2), GAP], [R.Free(1), GAP]]
    assert [b.label for b in trace.buffers] == ["engine.codes@0", "other@0", "engine.codes@1"]
    assert trace.covered(trace.steps[2].snapshot("step.after")) == (2,)


def test_fresh_arrays_are_one_generation_without_an_address(tmp_path):
    length = [3]
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("seq_len", lambda: np.array([length[0]], np.int32), address=False)
        r.watch("count", lambda: length[0])
        for _ in range(3):
            length[0] += 1
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [(b.label, b.dtype, b.address) for b in trace.buffers] == [("seq_len@0", "i32", None), ("count@0", "i64", None)]
    assert [int(trace.buffer("seq_len", s)[0]) for s in (1, 2, 3)] == [4, 5, 6]
    assert [int(trace.buffer("count", s)) for s in (1, 2, 3)] == [4, 5, 6]


def test_warm_up_counts_as_no_steps(tmp_path):
    state = np.zeros(4, np.float32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", state)
        with r.warmup("compile"):
            r.request("dummy")
            for _ in range(2):
                with r.launch("forward"):
                    state += 100
                assert r.step() == 0
        state[:] = 0
        with r.warmup("capture"):
            state += 7
        for _ in range(2):
            with r.launch("forward"):
                state += 1
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [(s.kind, s.request, s.step) for s in trace.records] == [("setup", 0, 0)] * 5 + [("prefill", 1, 1), ("decode", 1, 2)]
    setups = [trace.items(s) for s in trace.records[1:5]]
    marked = [R.Mark("warm-up: compile"), R.Mark("warm-up: compile"), GAP, R.Mark("warm-up: capture")]
    assert [items[0] for items in setups] == marked and setups[3] == [marked[3], GAP]
    assert setups[0][1:] == [R.Mark("request: dummy"), R.OpaqueLaunch("forward")]
    # What the warm-up left is what the first step is given.
    assert trace.buffer("state", 1, "step.before").tolist() == [7] * 4
    assert len(trace.requests) == 1


def test_types_that_the_format_does_not_name_and_strided_views(tmp_path):
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    values = {
        "double": base.copy(), "complex": np.array([1 + 2j, 3]), "short": np.array([-1, 2], np.int16),
        "big": np.arange(3, dtype=">i4"), "turned": np.asfortranarray(base.astype(np.float32)), "part": np.arange(20, dtype=np.int32)[::-3],
        "none": np.zeros((0, 3), np.float32), "one": np.float32(2.5), "flag": True,
    }  # fmt: skip
    with twinstep.record(tmp_path / "a.twin") as r:
        for name, value in values.items():
            r.watch(name, value)
        r.step()
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    read = {name: trace.buffer(name, 2) for name in values}
    assert read["double"].shape == (4, 6, 8) and read["double"].dtype_name == "u8"
    assert same_bits(read["double"].reshape(4, 48).view(np.float64), base)
    assert same_bits(read["complex"].reshape(-1).view(np.complex128), values["complex"])
    assert read["short"].reshape(-1).view(np.int16).tolist() == [-1, 2]
    assert read["big"].tolist() == [0, 1, 2] and read["big"].dtype_name == "i32"
    assert read["turned"].tolist() == base.tolist() and read["part"].tolist() == [19, 16, 13, 10, 7, 4, 1]
    assert read["none"].shape == (0, 3) and float(read["one"]) == 2.5 and bool(read["flag"])
    told = marks(trace)
    assert len(told) == len(set(told)) == 5
    assert any("double is float64" in t and "8 to an element" in t for t in told)
    assert sum("strided view" in t for t in told) == 2


@pytest.mark.parametrize("value", [[1, 2], "text", None, 2.5, np.array([None]), 1 << 70, object()])
def test_what_is_no_tensor(tmp_path, value):
    with twinstep.record(tmp_path / "a.twin") as r:
        with pytest.raises(TypeError, match="^x: "):
            r.watch("x", value)
        assert r.recording
        r.watch("y", 1)
        r.step()
    assert twinstep.open(tmp_path / "a.twin").complete


def test_without_a_path_and_unattached_the_program_runs_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="nothing is recorded.*not attached") as told:
        with twinstep.record(mode="graph") as r:
            r.watch("codes", np.zeros(3))
            r.request("a", prompt=[1])
            with r.warmup("w"), r.launch("forward"):
                pass
            r.mark("m")
            r.host_write("codes", np.zeros(1))
            assert (r.recording, r.path, r.attached, r.step()) == (False, None, False, 0)
            r.unwatch("codes")
            r.flush()
            with pytest.raises(twinstep.TraceError, match="has ended"):
                r.reexecute(1)
    assert [told[0].filename, len(told)] == [__file__, 1]
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*no step was recorded")
def test_wrong_arguments(tmp_path):
    for wrong in (dict(on_error="ignore"), dict(mode=1), dict(rank=-1), dict(rank=1.5), dict(rank="1"), dict(notes={"process.pid": "1"}), dict(notes={"a": 1})):
        with pytest.raises(ValueError):
            twinstep.record(tmp_path / "b.twin", **wrong)
    assert not (tmp_path / "b.twin").exists()

    class Engine:
        decode_codes = np.zeros(2)
        def __init__(self):
            self.decode_codes, self.hidden = np.zeros(2, np.float32), np.zeros(2, np.float32)

    with twinstep.record(tmp_path / "a.twin") as r:
        for name in ("", "a@1", 3, "a\0", "a\nb", "\x1b[31m"):
            with pytest.raises(ValueError, match="no name of a buffer"):
                r.watch(name, np.zeros(1))
        for name in ("x[0]", "x[:]", "x]", "[", "kv[3].k"):
            with pytest.raises(ValueError, match="in commands brackets choose elements.*write x.0"):
                r.watch(name, np.zeros(1))
        for name in ("", "a@1", 3, "a\nb"):
            with pytest.raises(ValueError, match="no name of a part of a step"):
                with r.launch(name):
                    pass
        for prefix in ("a[0].", "a\n", "a@"):
            with pytest.raises(ValueError, match="no name of a buffer"):
                r.watch_module(Engine(), "*", prefix=prefix)
        assert "x" not in r._to.names and not r._to.names
        with pytest.raises(ValueError, match="no role"):
            r.watch("x", np.zeros(1), role="weight")
        with pytest.raises(ValueError, match="matches '\\*_prefill_\\*'; there is decode_codes, hidden"):
            r.watch_module(Engine(), "*_prefill_*")
        engine = Engine()
        r.watch_module(engine)
        with pytest.raises(ValueError, match="is watched already: pass a prefix"):
            r.watch_module(engine)
        for call in (r.unwatch, r.free):
            with pytest.raises(ValueError, match="not watched"):
                call("x")
        with pytest.raises(ValueError, match="no kind of step"):
            r.step("codec")
        with pytest.raises(ValueError, match="token ids"):
            r.request("x", [-1])
        with pytest.raises(ValueError, match="is not watched"):
            r.host_write("x", np.zeros(1))
        with pytest.raises(ValueError, match="do not lie in hidden of 8 bytes"):
            r.host_write("hidden", np.zeros(1, np.float32), offset=6)
        with pytest.raises(TraceError, match="twinstep attach -o"):
            r.reexecute(1, patch={})
    with pytest.raises(TraceError, match="ended"):
        r.reexecute(1)
    assert len(twinstep.open(tmp_path / "a.twin").steps) == 0


def test_a_module_is_watched_whole_or_not(tmp_path):
    class Engine:
        pass

    engine = Engine()
    engine.first, engine.none, engine.last = np.zeros(2, np.int32), np.array([None]), np.zeros(3, np.int32)
    with twinstep.record(tmp_path / "a.twin") as r:
        with pytest.raises(TypeError, match="none: an object array"):
            r.watch_module(engine)
        del engine.none
        assert r.watch_module(engine) == ["first", "last"]
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [trace.buffers[n].name for n in trace.covered(trace.steps[0].snapshot("step.after"))] == ["first", "last"]


def test_a_callable_that_ends_another_watch(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        asked = []

        def source():
            asked.append(1)
            if len(asked) == 2:
                r.unwatch("other")
            return 1

        r.watch("first", source)
        r.watch("other", 2)
        assert (r.step(), r.step()) == (1, 2)
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.covered(trace.steps[1].snapshot("step.after")) == (0,)


def test_a_name_that_was_watched_later(tmp_path):
    state = np.zeros(3, np.float32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("a", state)
        r.step()
        r.watch("c", state)
        r.step()
        r.unwatch("c")
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    for name, step in (("c", 1), ("c@0", 1), ("c", 3)):
        with pytest.raises(TraceError, match=f"{name} is not recorded at step.after of step 1:{step}; its first point is step.before of step 1:2$"):
            trace.buffer(name, step)
    with pytest.raises(TraceError, match="d is not recorded at step.after of step 1:1$"):
        trace.buffer("d", 1)
    trace.close()
    assert repr(trace) == f"<twinstep.Trace {str(tmp_path / 'a.twin')!r}, closed>"


def test_host_writes(tmp_path, twinstep_binary):
    ids = np.zeros(4, np.int32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("ids", ids, role="input")
        with r.launch("forward"):
            pass
        ids[1:3] = [7, 8]
        r.host_write("ids", ids[1:3], offset=4)
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.steps[0].host_writes == [R.HostWrite(2, 0, 4, np.array([7, 8], np.int32).tobytes())]
    assert twinstep_binary.json("verify", tmp_path / "a.twin")["ok"]


@pytest.mark.filterwarnings("ignore:.*the steps hold no values")
def test_existing_files(tmp_path):
    path = tmp_path / "a.twin"
    path.write_bytes(b"precious")
    with pytest.raises(TraceError, match="exists: name another file, or pass force=True"):
        twinstep.record(path)
    assert path.read_bytes() == b"precious"
    with twinstep.record(path, force=True) as r:
        r.step()
        with pytest.raises(TraceError, match="is being recorded by another process"):
            twinstep.record(path, force=True)
    assert len(twinstep.open(path).steps) == 1
    assert os.listdir(tmp_path) == ["a.twin"]
    with pytest.raises(TraceError, match="no regular file"):
        twinstep.record(tmp_path, force=True)
    with pytest.raises(TraceError, match="cannot be created: No such file or directory"):
        twinstep.record(tmp_path / "none" / "a.twin")


@pytest.mark.filterwarnings("ignore:.* ended after the step that it began in")
def test_threads(tmp_path, twinstep_binary):
    with twinstep.record(tmp_path / "a.twin") as r:
        def work(n):
            r.watch(f"state{n}", np.full(300, n))
            for _ in range(20):
                with r.launch(f"part{n}"):
                    r.mark(f"from {n}")
                r.step()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert len(twinstep.open(tmp_path / "a.twin").steps) == 80
    assert twinstep_binary.json("verify", tmp_path / "a.twin")["ok"]


def test_an_engine_that_writes_meanwhile_leaves_no_damage(tmp_path, twinstep_binary, monkeypatch):
    """Hash and bytes of a chunk are of one moment, though another thread writes just between the two."""
    large, small = np.zeros(1 << 19, np.uint8), np.zeros(9, np.uint8)
    hashed = []

    def writes_after(function):
        def wrapped(*arguments):
            out = function(*arguments)
            large[:] += 1
            small[:] += 1
            hashed.append(function.__name__)
            return out

        return wrapped

    for function in (writer.chunk_hashes, writer.hash_each):
        monkeypatch.setattr(writer, function.__name__, writes_after(function))
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("large", large)
        r.watch("small", small)
        for _ in range(4):
            r.step()
    assert set(hashed) == {"chunk_hashes", "hash_each"}
    assert twinstep_binary.json("verify", tmp_path / "a.twin")["damage"] == []


def test_no_framework_is_imported():
    done = run_python("import sys, twinstep; print('torch' in sys.modules, sorted(m for m in sys.modules if 'cupy' in m))")
    assert done.stdout.strip() == "False []", done.stderr


def test_rank_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "5")
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", 1)
        r.step()
    assert twinstep.open(tmp_path / "a.twin").steps[0].rank == 5
    monkeypatch.setenv("RANK", "2")
    with twinstep.record(tmp_path / "b.twin") as r:
        r.watch("x", 1)
        r.step()
    assert twinstep.open(tmp_path / "b.twin").steps[0].rank == 2


def test_reading_after_close_and_while_recording(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with twinstep.record(tmp_path / "a.twin") as r:
            r.watch("state", np.arange(5000))
            r.step()
            with twinstep.open(tmp_path / "a.twin") as live:
                values = live.buffer("state", 1)
                assert not live.complete
            assert values.tolist() == list(range(5000))


def test_nothing_is_copied_while_a_stream_is_being_captured(tmp_path, monkeypatch):
    capturing, asked = [False], []
    state = np.zeros(3, np.float32)

    def source():
        asked.append(capturing[0])
        return state

    monkeypatch.setattr(standalone.tensors, "capturing", lambda: capturing[0])
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", source)
        r.step()
        capturing[0] = True
        with r.launch("captured"):
            state += 1
        r.step()
        capturing[0] = False
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    # What the captured step left was not looked at, so nobody can say what the next one was given.
    assert [points(s) for s in trace.steps] == [["step.before", "step.after"], ["step.before"], ["step.after"]]
    assert not any(asked) and "no snapshot while the stream is being captured" in marks(trace)
    assert trace.buffer("state", 3).tolist() == [1] * 3
