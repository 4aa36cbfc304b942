"""Requests: an id that comes again, and what the README says to do where requests take turns."""

import warnings

import numpy as np
import pytest
from test_attached import attached, library  # noqa: F401

import twinstep

AGAIN = "request 'A' began before and cannot be resumed: this is another request"


def test_an_id_that_comes_again_is_told_once(tmp_path):
    state = np.zeros(3, np.float32)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with twinstep.record(tmp_path / "a.twin") as r:
            r.watch("state", state)
            for _ in range(2):
                with r.warmup("dummy"):
                    r.request("A")  # begins none
                    r.step()
            for id in "AABAB":
                r.request(id)
                r.step()
    assert [str(one.message)[: len(AGAIN)] for one in told] == [AGAIN]
    text = str(told[0].message)
    assert told[0].filename == __file__ and "\n" not in text and "Requests that take turns" in text
    trace = twinstep.open(tmp_path / "a.twin")
    assert [(s.request, s.step) for s in trace.steps] == [(n, 1) for n in range(1, 6)]


def test_requests_without_an_id_are_others_each_time(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", 1)
        for id in ("", "A", "", "B", ""):
            r.request(id)
            r.step()
    assert len(twinstep.open(tmp_path / "a.twin").requests) == 5


def test_attached_it_is_told_as_alone(tmp_path, library):  # noqa: F811
    _, err, log = attached(tmp_path, library, """
        with twinstep.record() as r:
            for _ in range(2):
                with r.warmup("dummy"):
                    r.request("A")
                    assert r.step() == 0
            for id in "ABAB":
                r.request(id)
                assert r.step() == 1
    """)
    assert err.count(AGAIN) == err.count("RuntimeWarning") == 1
    dummy = ["warmup 1 dummy", "mark request: A", "step 0", "warmup 0 "]
    steps = [line for id in "ABAB" for line in (f"request {id} 0 0", "step 0")]
    assert log == ["note mode eager", *dummy, *dummy, *steps, "flush"]


@pytest.mark.parametrize("how", ["files", "batch"])
def test_requests_that_take_turns_as_the_readme_says(tmp_path, twinstep_binary, how):
    """Two runs of the same values; the files' steps come in another order, the batch's in one."""

    def run(name, order):
        tokens, runs = {"A": np.zeros(2, np.int64), "B": np.full(2, 100)}, {}
        for id in order:
            key = id if how == "files" else "batch"
            if key not in runs:
                runs[key] = twinstep.record(tmp_path / f"{name}.{key}.twin")
                for one in [id] if how == "files" else tokens:
                    runs[key].watch(f"codes.{one}", tokens[one])
            with runs[key].launch("forward"):
                tokens[id] += 1
            runs[key].step()
        for one in runs.values():
            one.close()
        return sorted(runs)

    keys = run("one", "ABAB")
    assert keys == run("two", "BABA" if how == "files" else "ABAB")
    for key in keys:
        told = twinstep_binary.json("diff", tmp_path / f"one.{key}.twin", tmp_path / f"two.{key}.twin")
        assert told["identical"] and told["first"] is None


class OnTheDevice:
    """As a tensor of a GPU: NumPy cannot read it, nor its elements."""

    def __init__(self, values):
        self.values, self.ndim = values, 1 + isinstance(values[0], list)

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __iter__(self):
        return iter([OnTheDevice([value] if isinstance(value, int) else value) for value in self.values])

    def tolist(self):
        return self.values


@pytest.mark.parametrize("prompt", [
    [1, 2, 3], (1, 2, 3), iter([1, 2, 3]), [np.int64(1), np.uint8(2), 3], np.array([1, 2, 3], np.uint32), np.array([[1, 2, 3]]),
    [np.array([1, 2]), np.array(3)], [[1, 2], [3]], OnTheDevice([1, 2, 3]), OnTheDevice([[1, 2, 3]]),
])  # fmt: skip
def test_prompts(tmp_path, prompt):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", 1)
        r.request("A", prompt)
        r.step()
    assert twinstep.open(tmp_path / "a.twin").requests[0].prompt == [1, 2, 3]


@pytest.mark.parametrize("prompt", [[1.5], np.array([1.0]), None, 3, ["x"], [None], [-1], [1 << 32]])
def test_what_is_no_prompt(tmp_path, prompt):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("x", 1)
        with pytest.raises(ValueError, match="token ids"):
            r.request("A", prompt)
        r.request("A")  # was not there before
        r.step()
    assert len(twinstep.open(tmp_path / "a.twin").requests) == 1
