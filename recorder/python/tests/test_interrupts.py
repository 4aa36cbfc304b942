"""Ctrl-C and missing memory, at any line of this package: what was recorded until then is in the file."""

import os
import sys

import numpy as np
import pytest

import twinstep
from twinstep import TraceError, writer

PACKAGE = os.path.dirname(twinstep.__file__) + os.sep


class Interrupting:
    """Raises once, at the n-th line that this package runs; counts its lines."""

    def __init__(self, at, error=KeyboardInterrupt):
        self.at, self.error, self.lines = at, error, 0

    def __enter__(self):
        sys.settrace(self.call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def call(self, frame, event, argument):
        return self.line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def line(self, frame, event, argument):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                raise self.error("here")
        return self.line


def loop(path, interrupting, told, catches=False):
    """Tells what each step left, once ``step`` has returned."""
    small, large, late = np.zeros(3, np.float32), np.zeros(3000, np.float32), [np.zeros(2, np.int32)]
    with interrupting, twinstep.record(path, force=True) as r:
        r.watch("small", small)
        r.watch("large", large)
        r.watch("late", lambda: late[0])
        r.request("one", [1, 2])
        for step in range(1, 5):
            try:
                with r.launch("forward"):
                    small += 1
                    large[step :: 700] += step
                    if step == 3:
                        late[0] = np.full(2, 7, np.int32)
                if r.step() == step:
                    told.append((small.copy(), large.copy(), late[0].copy()))
            except (KeyboardInterrupt, TraceError):
                if not catches:
                    raise
                break


def as_told(path, told):
    with twinstep.open(path) as trace:
        for step, values in enumerate(told, 1):
            for name, value in zip(("small", "large", "late"), values):
                assert trace.buffer(name, step).tolist() == value.tolist(), (step, name)
        for record in trace.records:
            trace.items(record)
            for point in record.points:
                for number in trace.covered(point.snapshot):
                    trace.read(point.snapshot, number)
        numbers = [step.step for step in trace.steps]
        assert numbers == sorted(set(numbers)) and len(numbers) in (len(told), len(told) + 1)
        for record in trace.steps:
            names = [point.point for point in record.points]
            assert len(set(names)) == len(names)
        return trace.complete


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_at_any_line(tmp_path, twinstep_binary, error, part):
    path = tmp_path / "a.twin"
    lines = Interrupting(0)
    loop(path, lines, [])
    asked = 0
    for at in range(1 + 19 * part, lines.lines, 76):
        if path.exists():
            path.unlink()
        told = []
        try:
            loop(path, Interrupting(at, error), told, catches=part % 2)
        except (KeyboardInterrupt, MemoryError, TraceError, ValueError):
            pass
        if not path.exists() or not told:
            continue
        as_told(path, told)
        asked += 1
        if asked % 8 == 1:
            assert twinstep_binary.json("verify", path)["ok"], at
        # The file is nobody's now.
        twinstep.record(path, force=True)._to.abandon()
    assert asked > 5


def test_what_is_asked_after_an_interrupt_is_told_once(tmp_path, monkeypatch):
    with twinstep.record(tmp_path / "a.twin") as r:
        state = np.zeros(3, np.float32)
        r.watch("state", state)
        r.step()
        state += 1

        def cut(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(writer.TraceWriter, "_store", cut)
            with pytest.raises(KeyboardInterrupt):
                r.step()
        with pytest.raises(TraceError, match="recording has stopped: KeyboardInterrupt cut it off; the file keeps its first 1 steps"):
            r.step()
        assert not r.recording and r.step() == 0
    with twinstep.open(tmp_path / "a.twin") as trace:
        assert len(trace.steps) == 1 and trace.buffer("state", 1).tolist() == [0] * 3


class Calling(Interrupting):
    """Calls once, at the n-th line that this package runs, as a signal handler does."""

    def __init__(self, at, call):
        super().__init__(at)
        self.made = call

    def line(self, frame, event, argument):
        try:
            return super().line(frame, event, argument)
        except KeyboardInterrupt:
            sys.settrace(None)
            self.made()
            return None


@pytest.mark.filterwarnings("ignore:a signal handler's call", "ignore:.* is not recorded, nor are later calls")
@pytest.mark.parametrize("call", ["close", "step"])
def test_a_signal_handler_that_calls_at_any_line(tmp_path, twinstep_binary, call):
    """What one call was writing stays whole, whatever another does amid it."""
    path = tmp_path / "a.twin"

    def record(at):
        state = np.zeros(3000, np.float32)
        r = twinstep.record(path, force=True)
        r.watch("state", state)
        r.step()
        state += 1
        calling = Calling(at, getattr(r, call))
        with calling:
            r.step()
        state += 1
        r.step()
        assert r.recording == (call != "close" or calling.lines < at)
        r.close()
        return calling.lines

    lines = record(1 << 30)
    assert lines > 300
    for at in range(1, lines, 13):
        record(at)
        trace = twinstep.open(path)
        assert trace.complete and len(trace.steps) in ((1, 2, 3) if call == "close" else (3, 4)), at
        assert trace.buffer("state", 1)[0] == 0 and (call == "close" or trace.buffer("state", len(trace.steps))[0] == 2)
        told = twinstep_binary.json("verify", path)
        assert told["ok"] and told["damage"] == [], at


def test_a_callable_that_closes_the_recording(tmp_path):
    state = np.zeros(3)
    with twinstep.record(tmp_path / "a.twin") as r:
        def source():
            if state[0] == 2:
                r.close()
                assert r.recording
            return state

        r.watch("state", source)
        for _ in range(2):
            state += 1
            assert r.step() == state[0]
        assert not r.recording
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.complete and len(trace.steps) == 2 and trace.buffer("state", 2).reshape(-1).view(np.float64)[0] == 2
