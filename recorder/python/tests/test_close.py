"""How a recording ends: what was forgotten is told, and nothing is lost where nobody closes it."""

import copy
import gc
import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
from test_recording import marks, points, run_python

import twinstep
from twinstep import TraceError


def part(r, name="forward"):
    with r.launch(name):
        pass


def nothing(r):
    r.mark("m")


def watched(r):
    r.watch("state", np.zeros(3, np.float32))


def steps_in_a_warm_up(r):
    watched(r)
    with r.warmup():
        part(r)
        r.step()


def parts(r):
    watched(r)
    part(r), part(r)


def parts_and_requests(r):
    parts(r)
    r.request("next")
    part(r)


def steps(r):
    part(r)
    r.step()


def all_of_it(r):
    watched(r)
    steps(r)


@pytest.mark.parametrize(
    "loop, says",
    [
        (nothing, "nothing was recorded: call r.watch"),
        (watched, "no step was recorded: call r.step"),
        (steps_in_a_warm_up, "no step was recorded: call r.step.* not within a warm-up"),
        (parts, "r.step.* was never called, so all parts are one step: call it where"),
        (parts_and_requests, "r.step.* was never called"),
        (steps, "the steps hold no values: call r.watch"),
        (all_of_it, None),
    ],
)
def test_what_was_forgotten_is_told_once(tmp_path, loop, says):
    for how in ("with", "close"):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            if how == "with":
                with twinstep.record(tmp_path / "with.twin") as r:
                    loop(r)
            else:
                r = twinstep.record(tmp_path / "close.twin")
                loop(r)
                r.close()
                r.close()
        if says is None:
            assert told == []
        else:
            assert [one.category for one in told] == [RuntimeWarning] and told[0].filename == __file__
            text = str(told[0].message)
            assert text.startswith(str(tmp_path / how)) and "\n" not in text
            with pytest.warns(RuntimeWarning, match=says):
                warnings.warn(text, RuntimeWarning, stacklevel=1)
        assert twinstep.open(tmp_path / f"{how}.twin").complete


@pytest.mark.parametrize("loop", [nothing, watched, parts, steps])
def test_after_an_exception_nothing_is_told(tmp_path, loop):
    with pytest.raises(KeyError):
        with twinstep.record(tmp_path / "a.twin") as r:
            loop(r)
            raise KeyError
    assert twinstep.open(tmp_path / "a.twin").complete


LEFT = """
    import gc, sys
    import numpy as np, twinstep
    state = np.zeros(3, np.float32)
    def main():
        r = twinstep.record(sys.argv[1])
        r.watch("state", state)
        for _ in range(2):
            state[:] += 1
            r.step()
        with r.launch("forward"):
            state[:] += 1
        return r
    {then}
"""


@pytest.mark.parametrize("then", ["kept = main()", "main()", "main(); gc.collect(); print(twinstep.open(sys.argv[1]).complete)"])
def test_a_recording_that_nobody_closes(tmp_path, then):
    done = run_python(LEFT.format(then=then), tmp_path / "a.twin")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout in ("", "True\n")
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and [points(s)[-1] for s in trace.steps] == ["step.after", "step.after", "forward.after"]
    assert marks(trace) == ["step 1:3 did not end"]
    assert trace.buffer("state", 3, "forward.after").tolist() == [3] * 3


def test_a_program_that_ends_by_an_exception(tmp_path):
    done = run_python(LEFT.format(then="kept = main(); raise KeyError('mid')"), tmp_path / "a.twin")
    assert done.returncode == 1 and "Warning" not in done.stderr
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and marks(trace) == ["exception: KeyError: 'mid'"] and len(trace.steps) == 3


def test_what_was_forgotten_is_told_at_the_programs_end(tmp_path):
    done = run_python("""
        import sys, twinstep
        r = twinstep.record(sys.argv[1])
        r.watch("x", 1)
        with r.launch("forward"):
            pass
    """, tmp_path / "a.twin")  # fmt: skip
    assert done.returncode == 0 and done.stderr.count("r.step() was never called") == 1
    assert len(twinstep.open(tmp_path / "a.twin").steps) == 1


def test_a_thread_that_goes_on_after_the_end(tmp_path):
    """A worker that meets the end of the recording between two lines is not stopped by it."""
    for _ in range(20):
        with twinstep.record(tmp_path / "a.twin", force=True) as r:
            r.watch("state", np.zeros(3))
            r.step()
            failed, go_on = [], [True]

            def work(r=r, failed=failed, go_on=go_on):
                try:
                    while go_on[0]:
                        r.mark("m")
                        r.watch("own", np.zeros(2))
                        with r.launch("part"):
                            r.step()
                        if r.recording:
                            r.unwatch("own")
                except Exception as error:
                    failed.append(error)

            thread = threading.Thread(target=work)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                thread.start()
                r.close()
                go_on[0] = False
                thread.join()
            assert failed == []
    assert twinstep.open(tmp_path / "a.twin").complete


LATE = {
    "step": lambda r: r.step(),
    "launch": lambda r: part(r),
    "watch": lambda r: r.watch("late", np.zeros(1)),
    "watch_module": lambda r: r.watch_module(np, "*"),
    "request": lambda r: r.request("late"),
    "warmup": lambda r: r.warmup("late").__enter__(),
    "mark": lambda r: r.mark("late"),
    "host_write": lambda r: r.host_write("state", np.zeros(1, np.float32)),
}


@pytest.mark.parametrize("call", LATE)
@pytest.mark.parametrize("how", ["with", "exception", "close"])
def test_what_is_told_after_the_end_is_told_once(tmp_path, call, how):
    path = tmp_path / "a.twin"
    if how == "close":
        r = twinstep.record(path)
        all_of_it(r)
        r.close()
    else:
        try:
            with twinstep.record(path) as r:
                all_of_it(r)
                if how == "exception":
                    raise KeyError
        except KeyError:
            pass
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        r.close(), r.flush(), r.unwatch("state"), r.free("state")  # lose nothing
        assert told == []
        LATE[call](r)
        for late in LATE.values():
            late(r)
        assert r.step() == 0 and not r.recording
    says = f"r.{call}() is not recorded, nor are later calls: the recording {path} was closed before"
    assert [(one.category, str(one.message)) for one in told] == [(RuntimeWarning, says)]
    assert told[0].filename == __file__
    assert len(twinstep.open(path).steps) == 1


def test_a_recording_that_stopped_or_never_began_is_not_told_of_again(tmp_path, monkeypatch):
    with pytest.warns(RuntimeWarning, match="nothing is recorded") as told:
        with twinstep.record() as r:
            pass
        all_of_it(r)
    assert len(told) == 1
    r = twinstep.record(tmp_path / "a.twin")
    all_of_it(r)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(twinstep.writer.os, "write", full)
        with pytest.raises(TraceError, match="No space left"):
            r.step()
    assert r.step() == 0
    r.close()
    assert r.step() == 0


@pytest.mark.parametrize("block", ["launch", "warmup"])
def test_the_programs_exception_matters_more_than_the_recorders(tmp_path, block):
    """A device that fails fails for the recorder, too: the program sees its own error type."""
    broken = [False]

    def codes():
        if broken[0]:
            raise RuntimeError("unspecified launch failure")
        return np.zeros(3)

    with pytest.raises(ZeroDivisionError):
        with twinstep.record(tmp_path / "a.twin") as r:
            r.watch("codes", codes, address=False)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                with getattr(r, block)("forward"):
                    broken[0] = True
                    _ = 1 // 0
    said = "codes cannot be read: RuntimeError: unspecified launch failure"
    assert [str(one.message) for one in told] == ([said] if block == "warmup" else [])
    assert twinstep.open(tmp_path / "a.twin").complete


def test_a_recording_is_not_copied(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        all_of_it(r)
        for how in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a Recording cannot be copied"):
                how({"r": r} if how is copy.deepcopy else r)
        r.step()
    gc.collect()
    assert len(twinstep.open(tmp_path / "a.twin").steps) == 2


FULL_FROM_THE_START = """
    import resource, signal, sys, warnings
    import numpy as np, twinstep
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    warnings.simplefilter("always")
    try:
        with twinstep.record(sys.argv[1], on_error=sys.argv[2], force=True) as r:
            r.watch("state", np.zeros(3))
            for step in range(3):
                with r.launch("forward"):
                    pass
                r.step()
        print("went on", r.recording, r.path)
    except twinstep.TraceError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit of a file's size")
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_disk_that_is_full_from_the_start(tmp_path, on_error, there):
    path = tmp_path / "a.twin"
    if there:
        with twinstep.record(path) as r:
            watched(r)
            for _ in range(6):
                r.step()
    old = path.read_bytes() if there else b""
    done = run_python(FULL_FROM_THE_START, path, on_error)
    assert done.returncode == 0, done.stderr
    said = f"{path} cannot be written: File too large" + ("; the file that is there stays as it is" if there else "")
    if on_error == "raise":
        assert done.stdout == said + "\n" and done.stderr == ""
    else:
        assert done.stdout == "went on False None\n"
        assert done.stderr.count("RuntimeWarning") == 1 and f"RuntimeWarning: nothing is recorded: {said}\n" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == (["a.twin"] if there else [])
    if there:
        assert path.read_bytes() == old and len(twinstep.open(path).steps) == 6


def test_a_path_that_cannot_be_created(tmp_path):
    with pytest.warns(RuntimeWarning, match="nothing is recorded: .* cannot be created") as told:
        with twinstep.record(tmp_path / "none" / "a.twin", on_error="warn") as r:
            assert not r.recording and r.step() == 0
    assert told[0].filename == __file__
    (tmp_path / "a.twin").write_bytes(b"precious")
    with pytest.raises(TraceError, match="exists: name another file"):
        twinstep.record(tmp_path / "a.twin", on_error="warn")
    with twinstep.record(tmp_path / "b.twin") as r:
        all_of_it(r)
        with pytest.raises(TraceError, match="is being recorded"):
            twinstep.record(tmp_path / "b.twin", force=True, on_error="warn")


def test_an_exception_is_marked_and_goes_on(tmp_path):
    state = np.zeros(2, np.float32)
    with pytest.raises(ZeroDivisionError):
        with twinstep.record(tmp_path / "a.twin") as r:
            r.watch("state", state)
            r.step()
            with r.launch("forward"):
                state += 1
                _ = 1 // 0
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and [s.step for s in trace.steps] == [1, 2]
    assert points(trace.steps[1]) == ["step.before", "forward.before"]
    assert marks(trace)[-1].startswith("exception: ZeroDivisionError: ")
    with pytest.raises(KeyError):
        with twinstep.record(tmp_path / "b.twin") as r:
            r.watch("state", state)
            r.step()
            raise KeyError("between steps")
    trace = twinstep.open(tmp_path / "b.twin")
    assert [s.kind for s in trace.records] == ["setup", "prefill", "setup"]
    assert marks(trace) == ["exception: KeyError: 'between steps'"]


def test_a_step_that_never_ended(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", np.zeros(2))
        with r.launch("forward"):
            pass
        r.request("next")
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [(s.request, s.step, points(s)[-1]) for s in trace.steps] == [(1, 1, "forward.after"), (2, 1, "step.after")]
    assert "step 1:1 did not end" in marks(trace)


@pytest.mark.filterwarnings("ignore:.*nothing was recorded")
def test_a_source_that_fails(tmp_path):
    good = [True]

    def codes():
        if not good[0]:
            raise RuntimeError("no codes now")
        return np.arange(3)

    for on_error in ("raise", "warn"):
        path = tmp_path / f"{on_error}.twin"
        good[0] = True
        with twinstep.record(path, on_error=on_error) as r:
            r.watch("codes", codes, address=False)
            r.watch("state", np.zeros(3))
            r.step()
            good[0] = False
            if on_error == "raise":
                with pytest.raises(TraceError, match="codes cannot be read: RuntimeError: no codes now"):
                    r.step()
            else:
                with pytest.warns(RuntimeWarning, match="codes cannot be read"):
                    r.step()
            r.step()
            good[0] = True
            r.step()
        trace = twinstep.open(path)
        covered = [trace.covered(s.snapshot("step.after")) for s in trace.steps]
        assert covered == [(0, 1), (1,), (1,), (0, 1)]
        assert "codes cannot be read: RuntimeError: no codes now" in marks(trace)
    with twinstep.record(tmp_path / "c.twin") as r:
        good[0] = False
        with pytest.raises(ValueError, match="^codes: RuntimeError: no codes now"):
            r.watch("codes", codes)


FULL = """
    import resource, signal, sys, warnings
    import numpy as np, twinstep
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    warnings.simplefilter("always")
    random = np.random.default_rng(1)
    state = random.integers(0, 256, 100_000, dtype=np.uint8)
    with twinstep.record(sys.argv[1], on_error=sys.argv[2]) as r:
        r.watch("state", state)
        for step in range(10):
            state[...] = random.integers(0, 256, 100_000, dtype=np.uint8)
            try:
                r.step()
            except twinstep.TraceError as error:
                print("raised", step + 1, error)
    print("went on", r.recording)
"""


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_full_disk_stops_recording_and_not_the_program(tmp_path, on_error):
    path = tmp_path / "a.twin"
    done = run_python(FULL, path, on_error)
    assert done.returncode == 0, done.stderr
    said = done.stdout if on_error == "raise" else done.stderr
    assert said.count("recording stopped: File too large; the file keeps its first 2 steps") == 1
    assert done.stdout.splitlines()[-1] == "went on False" and len(done.stdout.splitlines()) == (2 if on_error == "raise" else 1)
    trace = twinstep.open(path)
    assert not trace.complete and len(trace.steps) == 2


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)"])
def test_killed(tmp_path, how, twinstep_binary):
    code = f"""
        import os, signal, sys
        import numpy as np, twinstep
        state = np.zeros(5000, np.float32)
        r = twinstep.record(sys.argv[1])
        r.watch("state", state)
        for step in range(5):
            with r.launch("forward"):
                state += 1
            r.step()
        with r.launch("forward"):
            {how}
    """
    assert run_python(code, tmp_path / "a.twin").returncode in (3, -signal.SIGKILL)
    trace = twinstep.open(tmp_path / "a.twin")
    assert not trace.complete and len(trace.steps) == 5
    assert trace.buffer("state", 5)[0] == 5
    told = twinstep_binary.json("verify", tmp_path / "a.twin")
    assert told["ok"] and not told["complete"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_writes_nothing(tmp_path):
    code = """
        import os, sys
        import numpy as np, twinstep
        state = np.zeros(50, np.float32)
        with twinstep.record(sys.argv[1]) as r:
            r.watch("state", state)
            r.step()
            r.mark("pending")
            child = os.fork()
            state += 1 if child else 77
            for _ in range(3):
                with r.launch("forward"):
                    state += 1
                number = r.step()
            if not child:
                assert number == 0 and not r.recording
                with twinstep.record(sys.argv[1] + ".child") as own:
                    own.watch("state", state)
                    own.step()
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            r.step()
    """
    done = run_python(code, tmp_path / "a.twin")
    assert done.returncode == 0, done.stderr
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and [float(trace.buffer("state", s)[0]) for s in range(1, 6)] == [0, 2, 3, 4, 4]
    assert len(twinstep.open(tmp_path / "a.twin.child").steps) == 1


class Textless(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Long(Exception):
    def __str__(self):
        return "CUDA error: an illegal memory access\n  Compile with TORCH_USE_CUDA_DSA\n\n"


SAID = {Textless: "Textless: ", Long: "Long: CUDA error: an illegal memory access; Compile with TORCH_USE_CUDA_DSA"}


@pytest.mark.parametrize("error", SAID)
def test_an_exception_whose_text_fails_or_has_many_lines(tmp_path, error):
    fails = [False]

    def source():
        if fails[0]:
            raise error
        return 1

    with pytest.raises(error):
        with twinstep.record(tmp_path / "a.twin") as r:
            with pytest.raises(ValueError) as raised:
                fails[0] = True
                r.watch("x", source)
            assert str(raised.value) == f"x: {SAID[error]}"
            fails[0] = False
            r.watch("x", source)
            fails[0] = True
            with pytest.raises(TraceError) as raised:
                r.step()
            assert str(raised.value) == f"x cannot be read: {SAID[error]}"
            raise error
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and marks(trace) == [f"x cannot be read: {SAID[error]}", f"exception: {SAID[error]}"]
