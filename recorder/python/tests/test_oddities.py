"""Arrays as programs have them: made anew over one memory, filled again, resized, watched twice."""

import array
import mmap
import os

import numpy as np
import pytest
from conftest import same_bits
from test_recording import run_python

import twinstep
from twinstep import TraceError
from twinstep import records as R
from twinstep.tensors import tensor


def events(trace):
    kinds = (R.Allocate, R.Free)
    return [[item for item in trace.items(step) if isinstance(item, kinds)] for step in trace.records]


def memories(tmp_path):
    """Memory that is no NumPy array's, and a view of it made anew at each call."""
    raw = bytearray(4096)
    yield "bytearray", lambda: np.frombuffer(raw, np.int32)
    yield "memoryview", lambda: np.asarray(memoryview(raw).cast("i"))
    numbers = array.array("i", range(20))
    yield "array", lambda: np.frombuffer(numbers, np.int32)
    with open(tmp_path / "mapped", "w+b") as file:
        file.write(bytes(4096))
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0)
    yield "mmap", lambda: np.ndarray((8, 4), np.int32, buffer=mapped)
    yield "memmap", lambda: np.memmap(tmp_path / "mapped", np.int32, "r", shape=(5,))[1:]
    own = np.zeros(64, np.int32)
    yield "slice", lambda: own[3:40]
    yield "strided", lambda: np.lib.stride_tricks.as_strided(own, (4, 2), (4, 8))
    yield "read-only", lambda: np.broadcast_to(own[:1], (3, 5))
    yield "within a view", lambda: np.frombuffer(memoryview(own)[4:8], np.int32)[1:]


def test_views_made_anew_over_one_memory_are_one_generation(tmp_path):
    sources = dict(memories(tmp_path))
    kept = {name: source() for name, source in sources.items() if name == "memmap"}
    with twinstep.record(tmp_path / "a.twin") as r:
        for name, source in sources.items():
            r.watch(name, (lambda: kept["memmap"][:]) if name == "memmap" else source)
        for _ in range(3):
            with r.launch("forward"):
                pass
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [b.label for b in trace.buffers] == [f"{name}@0" for name in sources]
    assert events(trace)[1:] == [[], [], []]
    for name, source in sources.items():
        assert same_bits(trace.buffer(name, 3), source()), name


def test_memory_that_ends_is_known_to_be_free(tmp_path):
    own = [np.zeros(2000, np.int32)]
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("slice", lambda: own[0][5:])
        r.watch("strided", lambda: np.lib.stride_tricks.as_strided(own[0], (4, 2), (4, 8)))
        r.step()
        own[0] = np.zeros(3000, np.int32)
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert set(map(repr, events(trace)[-1])) == set(map(repr, [R.Free(0), R.Free(1), R.Allocate(2), R.Allocate(3)]))


@pytest.mark.parametrize("count", [3, 5000])
def test_callables_that_fill_one_memory(tmp_path, count):
    """What each name held when it was asked, though the next fills the same array."""
    scratch, states = np.zeros(count, np.float32), [np.full(count, n, np.float32) for n in range(4)]

    def filled(n):
        def ask():
            scratch[:] = states[n]
            return scratch

        return ask

    with twinstep.record(tmp_path / "a.twin") as r:
        for n in range(4):
            r.watch(f"state{n}", filled(n))
        for _ in range(2):
            for state in states:
                state += 10
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    for n in range(4):
        assert [trace.buffer(f"state{n}", step)[0] for step in (1, 2)] == [10 + n, 20 + n]


def test_another_type_at_the_same_address_is_a_new_generation(tmp_path):
    memory = np.arange(4, dtype=np.float64)
    now = [memory]
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", lambda: now[0])
        r.step()
        for dtype in ("datetime64[s]", "timedelta64[ns]", np.complex64, ">f8"):
            now[0] = memory.view(dtype)
            r.step()
        now[0] = memory.view(np.int64)
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [(b.generation, b.dtype, b.shape) for b in trace.buffers] == [
        (0, "u8", [4, 8]), (1, "u8", [4, 8]), (2, "u8", [4, 8]), (3, "u8", [4, 8]), (4, "u8", [4, 8]), (5, "i64", [4]),
    ]  # fmt: skip
    assert trace.buffer("x", 1).tobytes() == trace.buffer("x", 4).tobytes() == memory.tobytes()
    assert trace.buffer("x", 5).tobytes() == memory.byteswap().tobytes()


def test_an_array_resized_in_place(tmp_path):
    grown = np.arange(4, dtype=np.int32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", grown, address=False)
        r.step()
        for size in (6, 0, 5000, 2):
            grown.resize(size, refcheck=False)
            grown[:] = size
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [trace.buffer("x", step).tolist() for step in (1, 2, 3, 5)] == [[0, 1, 2, 3], [6] * 6, [], [2, 2]]
    assert trace.buffer("x", 4).tolist() == [5000] * 5000


def test_memory_watched_twice_and_given_back_once(tmp_path, twinstep_binary):
    class Engine:
        pass

    engine = Engine()
    engine.state = np.zeros(3, np.float32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch_module(engine, "state", prefix="a.")
        r.watch_module(engine, "state", prefix="b.")
        r.watch("b.state", lambda: engine.state)
        r.step()
        engine.state = None
        r.free("a.state")  # the program says what was noticed already
        engine.state = np.ones(4, np.float32)
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [item.buffer for step in events(trace) for item in step if isinstance(item, R.Free)] in ([0, 1], [1, 0])
    assert trace.buffer("b.state", 2).tolist() == [1] * 4
    assert twinstep_binary.json("verify", tmp_path / "a.twin")["ok"]
    with pytest.raises(TraceError, match="a.state is not recorded"):
        trace.buffer("a.state", 2)


@pytest.mark.parametrize("values, says", [
    (7, "the values are i64, and ids is i32"),
    (np.zeros(2, np.float32), "the values are f32, and ids is i32"),
    (np.zeros(2, np.int16), "the values are int16, and ids is i32"),
])  # fmt: skip
def test_host_writes_of_another_type_are_refused(tmp_path, values, says):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("ids", np.zeros(8, np.int32))
        r.watch("doubles", np.zeros(8))
        with pytest.raises(ValueError, match=says):
            r.host_write("ids", values)
        with pytest.raises(ValueError, match="the values are datetime64.*, and doubles is float64"):
            r.host_write("doubles", np.zeros(1, "datetime64[s]"))
        r.host_write("doubles", np.ones(1))
        r.step()
    [write] = twinstep.open(tmp_path / "a.twin").steps[0].host_writes
    assert write.bytes == np.ones(1).tobytes()


def test_device_arrays_of_the_other_byte_order_are_kept_as_bytes():
    class Foreign:
        __cuda_array_interface__ = {"shape": (3,), "typestr": ">f4", "data": (4096, True), "version": 3}

    assert tensor(Foreign()).described[:3] == ("u8", (3, 4), 12)
    Foreign.__cuda_array_interface__["typestr"] = "<f4"
    assert tensor(Foreign()).described[:3] == ("f32", (3,), 12)


def test_two_recordings_at_once(tmp_path):
    state = np.zeros(3, np.float32)
    with twinstep.record(tmp_path / "a.twin") as a, twinstep.record(tmp_path / "b.twin") as b:
        for r in (a, b):
            r.watch("state", state)
        for step in range(4):
            with a.launch("forward"), b.launch("forward"):
                state += 1
            a.step()
            if step % 2:
                b.step()
    a, b = twinstep.open(tmp_path / "a.twin"), twinstep.open(tmp_path / "b.twin")
    assert [a.buffer("state", s)[0] for s in (1, 2, 3, 4)] == [1, 2, 3, 4] and len(b.steps) == 2
    assert [b.buffer("state", s)[0] for s in (1, 2)] == [2, 4] and b.buffer("state", 2, "forward.after")[0] == 3


def test_a_thread_that_records_when_the_main_thread_has_ended(tmp_path):
    """Python gives it no new threads then, and large buffers are hashed all the same."""
    done = run_python("""
        import sys, threading, time
        import numpy as np, twinstep
        from twinstep import writer
        writer._THREADED_BYTES = 1 << 20
        writer.os.cpu_count = lambda: 4
        state = np.zeros(3 << 20, np.uint8)
        def work():
            threading.main_thread().join()
            time.sleep(0.2)
            with twinstep.record(sys.argv[1]) as r:
                r.watch("state", state)
                for step in range(3):
                    state[step] = 7
                    r.step()
        threading.Thread(target=work).start()
    """, tmp_path / "a.twin")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and len(trace.steps) == 3 and trace.buffer("state", 3).sum() == 21


def test_names_and_paths_that_are_no_plain_text(tmp_path, twinstep_binary):
    with twinstep.record(os.fsencode(tmp_path / "a.twin")) as r:
        r.watch("\ud800", 1)
        with pytest.raises((TypeError, ValueError, TraceError), match="has that name and generation already"):
            r.watch("\\ud800", 2)
        r.step()
    assert r.path == str(tmp_path / "a.twin")
    with twinstep.record(os.fsencode(tmp_path / "a.twin"), force=True) as r:
        r.watch("x", 1)
        r.step()
    assert twinstep_binary.json("verify", tmp_path / "a.twin")["ok"]
