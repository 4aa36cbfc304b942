"""In an attached process: everything goes to the preloaded library, and no file is written here."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from conftest import ROOT

import twinstep

HERE = pathlib.Path(__file__).parent
SOURCE = os.path.dirname(os.path.dirname(twinstep.__file__))


def build(folder, *defines):
    path = folder / "libtwinstep_attach.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", "-Werror", *defines, "-o", path, HERE / "fake_library.c"], check=True
    )
    return path


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("fake"))


def attached(tmp_path, library, code, preload=True, **environment):
    """Runs a program with the library; gives what it printed, its warnings and the library's log."""
    log = tmp_path / "log"
    more = {"LD_PRELOAD": str(library)} if preload else {}
    done = subprocess.run(
        [sys.executable, "-c", "import numpy as np, twinstep, sys, gc, ctypes\n" + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=SOURCE, PYTHONDONTWRITEBYTECODE="1", FAKE_LOG=str(log),
                 TWINSTEP_ATTACH_OUT=str(tmp_path / "run.twin"), **more, **environment),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("*.twin"))
    return done.stdout.splitlines(), done.stderr, log.read_text().splitlines() if log.exists() else []


def test_a_loop(tmp_path, library):
    out, err, log = attached(tmp_path, library, """
        codes, hidden = np.zeros((2, 4), np.int64), np.zeros(3, np.float64)
        now = [np.zeros(5, np.float32), np.zeros(6, np.float32)]
        which = [0]
        print(codes.ctypes.data, now[0].ctypes.data, now[1].ctypes.data, hidden.ctypes.data)
        with twinstep.record(mode="graph", prompt="hi", notes={"context": "256"}) as r:
            assert r.attached and r.path.endswith("run.twin")
            r.watch("codes", codes)
            r.watch("hidden", hidden, role="output")
            r.watch("state", lambda: now[which[0]])
            with r.warmup("compile"):
                print(r.step())
            r.request("id-1", prompt=[7, 9])
            with r.launch("forward", stream=77):
                pass
            print(r.step())
            which[0] = 1
            r.host_write("codes", codes)
            print(r.step("decode"))
            r.mark("a word")
            r.unwatch("hidden")
            r.free("codes")
            r.flush()
    """)
    codes, one, two, hidden = out[0].split()
    assert out[1:] == ["0", "1", "2"] and err == ""
    assert log == [
        "note mode graph", "note prompt hi", "note context 256",
        f"watch codes {codes} i64 2x4 state",
        f"watch hidden {hidden} u8 3x8 output",
        "mark hidden is float64, a type that the format does not name: kept as its bytes, 8 to an element",
        f"watch state {one} f32 5 state",
        "warmup 1 compile", "step 0", "warmup 0 ",
        "request id-1 2 9", "begin forward 77", "end forward 77", "step 0",
        f"watch state {two} f32 6 state", "step 2",
        "mark a word", "unwatch hidden", "freed codes", "flush", "unwatch state", "flush",
    ]  # fmt: skip


def test_tensors_are_not_kept_alive_and_their_end_is_told(tmp_path, library):
    _, _, log = attached(tmp_path, library, """
        class Engine: pass
        engine = Engine()
        engine.state = np.zeros(4, np.float32)
        codes = np.zeros(4, np.int64)
        view = codes[1:]
        with twinstep.record() as r:
            r.watch("codes", codes)
            r.watch("view", view)
            r.watch_module(engine, "state")
            r.step()
            del codes, view
            r.step()
            engine.state = np.zeros(4, np.float32)
            r.step()
    """)
    words = [" ".join(line.split()[:2]) for line in log]
    assert words == [
        "note mode", "watch codes", "watch view", "watch state", "step 0", "freed view", "freed codes", "step 0",
        "freed state", "watch state", "step 0", "unwatch state", "flush",
    ] or words == [
        "note mode", "watch codes", "watch view", "watch state", "step 0", "freed codes", "freed view", "step 0",
        "freed state", "watch state", "step 0", "unwatch state", "flush",
    ]  # fmt: skip


def test_reexecution(tmp_path, library):
    out, _, log = attached(tmp_path, library, """
        codes = np.zeros((2, 2), np.int64)
        with twinstep.record() as r:
            r.watch("codes", codes)
            r.step()
            done = r.reexecute(1, patch={"codes": np.array([[1, 2], [3, 4]])}, graph_launch=2)
            assert done["codes"].values.tolist() == [[1, 2], [3, 4]] and done["codes"].values.dtype_name == "i64"
            assert done["codes"].changed_by_patch is True and done["codes"].equal_to_recorded is False
            assert done["cuda.0"].values.tolist() == [1, 2, 3] and done["cuda.0"].equal_to_recorded is True
            r.reexecute(1, request=3, stop_after=5)
            for wrong in (dict(step=99), dict(step=1, patch={"x": codes}), dict(step=1, patch={"codes": codes[:1]}),
                          dict(step=1, patch={"codes": np.zeros(8, np.float32)})):
                try:
                    r.reexecute(**wrong)
                except (twinstep.TraceError, ValueError) as error:
                    print(type(error).__name__, error)
    """)
    assert [line for line in log if line.startswith("reexecute")] == [
        "reexecute 1 1 2 4294967295 1", "reexecute 3 1 0 5 0", "reexecute 1 99 0 4294967295 0",
    ]  # fmt: skip
    assert out == [
        "TraceError twinstep attach: step 99 is not recorded",
        "ValueError x is not watched: a patch names a watched buffer",
        "ValueError the patch of codes has 16 bytes of i64, the buffer 32 of i64",
        "ValueError the patch of codes has 32 bytes of f32, the buffer 32 of i64",
    ]


def test_what_cannot_be_watched(tmp_path, library):
    out, _, log = attached(tmp_path, library, """
        with twinstep.record() as r:
            for name, value in {"unknown": np.zeros(3), "text": "x", "a\\nb": np.zeros(3), "": np.zeros(3)}.items():
                try:
                    r.watch(name, value)
                except Exception as error:
                    print(type(error).__name__, error)
            r.step()
    """)
    assert out == [
        "TraceError twinstep attach: no allocation at this address",
        "TypeError text: a str is no tensor, array or whole number",
        "ValueError 'a\\nb' is no name of a buffer: text without @ and control characters",
        "ValueError '' is no name of a buffer: text without @ and control characters",
    ]
    assert log == ["note mode eager", "step 0", "flush"]


LEFT_OUT = {
    "host": "it is not in device memory, which is all that is recorded attached",
    "number": "it is no tensor in memory: attached, the memory of the device is recorded",
    "strided": "it is a strided view: attached, watch the tensor that it is a view of",
}


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize("callables", [False, True])
def test_what_is_not_the_devices_is_left_out(tmp_path, library, on_error, callables):
    """The same lines run alone and attached: one warning a name, and the loop goes on."""
    _, err, log = attached(tmp_path, library, f"""
        values = dict(host=np.zeros(3), number=3, strided=np.zeros((4, 4)).T[:2], codes=np.zeros(3, np.int32))
        with twinstep.record(on_error={on_error!r}) as r:
            for name, value in values.items():
                r.watch(name, (lambda value=value: value) if {callables} else value)
            for _ in range(3):
                with r.launch("forward"):
                    pass
                r.step()
            r.unwatch("host")
            r.free("number")
            assert r.recording
    """)
    for name, why in LEFT_OUT.items():
        assert err.count(f"RuntimeWarning: {name} is left out: {why}") == 1, err
        assert log.count(f"mark {name} is left out: {why}") == 1
    assert err.count("RuntimeWarning") == 3 and "<string>" in err
    words = [line.split()[0] + " " + line.split()[1] for line in log if line.split()[0] in ("watch", "unwatch", "freed", "step")]
    assert words == ["watch codes", "step 0", "step 0", "step 0", "unwatch codes"]


def test_a_forgotten_step_is_told(tmp_path, library):
    for step, said in (("pass", True), ("r.step()", False), ("raise SystemExit", False)):
        _, err, _ = attached(tmp_path, library, f"""
            with twinstep.record() as r:
                with r.launch("forward"):
                    pass
                {step}
        """)
        assert ("RuntimeWarning: r.step() was never called, so all parts are one step" in err) == said, err


def test_a_name_that_moves_from_the_device_and_back(tmp_path, library):
    _, err, log = attached(tmp_path, library, """
        one, two = np.zeros((4, 4), np.int32), np.zeros((4, 4), np.int32).T
        now, count = [one], [1]
        with twinstep.record() as r:
            r.watch("state", lambda: now[0])
            r.watch("count", lambda: count[0])
            for value in (two, two, 5, 6, one):
                now[0] = value
                count[0] += 1
                r.step()
    """)
    words = [" ".join(line.split()[:4]) for line in log if not line.startswith("watch")]
    watches = [line.split()[1] for line in log if line.startswith("watch")]
    assert watches == ["state", "state"]
    assert words == [
        "note mode eager", "mark count is left", "unwatch state", "mark state is left", "step 0", "step 0",
        "mark state is left", "step 0", "step 0", "step 0", "unwatch state", "flush",
    ]  # fmt: skip
    assert err.count("RuntimeWarning: state is left out") == 2 and err.count("RuntimeWarning: count is left out") == 1


def test_a_name_watched_again(tmp_path, library):
    """Each time anew; and the end of the memory that it means then is told."""
    _, _, log = attached(tmp_path, library, """
        codes = np.zeros(4, np.int32)
        with twinstep.record() as r:
            r.watch("codes", codes)
            r.watch("codes", lambda: codes)
            codes = None
            codes = np.zeros((2, 2), np.int32)
            r.step()
            r.watch("codes", 3)
            r.step()
    """)
    assert [" ".join(line.split()[:2]) for line in log] == [
        "note mode", "watch codes", "watch codes", "freed codes", "watch codes", "step 0",
        "mark codes", "unwatch codes", "step 0", "flush",
    ]  # fmt: skip


def test_the_librarys_words_for_memory_that_is_not_the_devices():
    words = (ROOT / "recorder" / "attach" / "src" / "api.rs").read_text(encoding="utf-8")
    assert twinstep.attached._NOT_THE_DEVICES in words


def test_a_refusal_may_be_a_warning(tmp_path, library):
    _, err, log = attached(tmp_path, library, """
        with twinstep.record(on_error="warn") as r:
            r.watch("unknown", np.zeros(3))
            assert r.recording and r.step() == 1
    """)
    assert "RuntimeWarning: twinstep attach: no allocation at this address" in err
    assert log == ["note mode eager", "step 0", "flush"]


def test_a_module_goes_on_without_what_is_refused(tmp_path, library):
    out, err, log = attached(tmp_path, library, """
        class Engine: pass
        engine = Engine()
        engine.first, engine.unknown, engine.last = (np.zeros(3, np.int32) for _ in range(3))
        with twinstep.record() as r:
            try:
                r.watch_module(engine)
            except twinstep.TraceError as error:
                print(error)
        with twinstep.record(on_error="warn") as r:
            print(r.watch_module(engine))
    """)
    refused = "twinstep attach: no allocation at this address"
    assert out == [refused, "['first', 'last']"] and err.count(f"RuntimeWarning: {refused}") == 1
    words = [" ".join(line.split()[:2]) for line in log]
    assert words == [
        "note mode", "watch first", "unwatch first", "flush",
        "note mode", "watch first", "watch last", "unwatch first", "unwatch last", "flush",
    ]  # fmt: skip


def test_a_source_that_fails(tmp_path, library):
    """At once an error, as alone; another one that ends a watch none."""
    out, err, log = attached(tmp_path, library, """
        def fails():
            raise RuntimeError("no codes\\nnow")
        def ends():
            asked.append(1)
            if len(asked) == 2:
                r.unwatch("codes")
            return state
        state, asked = np.zeros(3, np.int32), []
        with twinstep.record() as r:
            try:
                r.watch("x", fails)
            except ValueError as error:
                print(error)
            r.watch("ends", ends)
            r.watch("codes", state)
            print(r.step())
    """)
    assert out == ["x: RuntimeError: no codes; now", "1"] and err == ""
    assert [" ".join(line.split()[:2]) for line in log[1:]] == [
        "watch ends", "watch codes", "unwatch codes", "step 0", "unwatch ends", "flush",
    ]  # fmt: skip


def test_a_library_that_has_stopped_is_told_once(tmp_path, library):
    out, err, _ = attached(tmp_path, library, """
        with twinstep.record() as r:
            for step in range(3):
                try:
                    r.step()
                except twinstep.TraceError as error:
                    print(step, error)
    """, FAKE_STOPPED="1")
    assert out == ["0 twinstep attach: nothing is recorded in this process (any more)"]
    assert "<string>:3: RuntimeWarning: twinstep attach: not everything has arrived" in err


def test_another_path_is_told(tmp_path, library):
    for path, said in (("other.twin", True), ("run.twin", False)):
        _, err, _ = attached(tmp_path, library, f"""
            with twinstep.record({path!r}) as r:
                r.step()
        """)
        assert ("attached: this run is recorded into" in err and "other.twin is not written" in err) == said, err


def test_an_exception_is_marked(tmp_path, library):
    out, _, log = attached(tmp_path, library, """
        try:
            with twinstep.record() as r:
                with r.launch("forward"):
                    raise KeyError("mid")
        except KeyError:
            print("went on")
    """)
    assert out == ["went on"]
    assert log[1:] == ["begin forward 0", "end forward 0", "mark exception: KeyError: 'mid'", "flush"]


def test_the_programs_exception_matters_more_than_the_librarys(tmp_path, library):
    out, err, _ = attached(tmp_path, library, """
        def codes():
            if broken:
                raise RuntimeError("no codes now")
            return state
        state, broken = np.zeros(3, np.float32), False
        with twinstep.record() as r:
            r.watch("codes", codes)
            try:
                with r.launch("forward"):
                    broken = True
                    raise KeyError("mid")
            except KeyError:
                print("the program's own")
            r.step()
    """)
    assert out == ["the program's own"] and err.count("RuntimeWarning: codes cannot be watched") == 1


def test_what_is_told_after_the_end_is_told_once(tmp_path, library):
    _, err, log = attached(tmp_path, library, """
        with twinstep.record() as r:
            r.step()
        for _ in range(3):
            r.watch("codes", np.zeros(3))
            with r.launch("forward"):
                pass
            r.step()
    """)
    assert err.count("RuntimeWarning") == err.count("RuntimeWarning: r.watch() is not recorded, nor are later calls: the recording") == 1
    assert log == ["note mode eager", "step 0", "flush"]


def test_a_warm_up_within_a_warm_up(tmp_path, library):
    """The library knows one at a time: it hears of the outer one, and of its end."""
    _, _, log = attached(tmp_path, library, """
        with twinstep.record() as r:
            with r.warmup("outer"):
                with r.warmup("inner"):
                    assert r.step() == 0
                assert r.step() == 0
            assert r.step() == 1
    """)
    assert log == [
        "note mode eager", "warmup 1 outer", "mark warm-up: inner", "step 0", "mark warm-up ended: inner", "step 0",
        "warmup 0 ", "step 0", "flush",
    ]  # fmt: skip


def test_a_library_taken_in_by_the_driver_is_found(tmp_path, library):
    """Loaded without making its names global, as the CUDA driver does."""
    _, _, log = attached(tmp_path, library, f"""
        kept = ctypes.CDLL({str(library)!r}, ctypes.RTLD_LOCAL)
        with twinstep.record() as r:
            assert r.attached
            r.step()
    """, preload=False)
    assert log == ["note mode eager", "step 0", "flush"]


def test_another_version_is_refused(tmp_path):
    library = build(tmp_path, "-DVERSION=2")
    out, _, _ = attached(tmp_path, library, """
        try:
            twinstep.record()
        except twinstep.TraceError as error:
            print(error)
    """)
    assert out == [
        "twinstep attach speaks version 2 and this package version 1: install the package and the command of one release"
    ]


def test_a_forked_child_tells_nothing(tmp_path, library):
    _, _, log = attached(tmp_path, library, """
        import os
        with twinstep.record() as r:
            r.watch("codes", np.zeros(3))
            child = os.fork()
            if not child:
                r.step()
                r.mark("child")
                os._exit(0)
            os.waitpid(child, 0)
            r.step()
    """)
    assert [line for line in log if line.startswith(("step", "mark"))] == ["mark codes is float64, a type that the format does not name: kept as its bytes, 8 to an element", "step 0"]
