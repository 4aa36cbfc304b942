"""Names of a step's points: unique in the step, and the same in every step with the same parts."""

import contextlib
import threading

import numpy as np
import pytest
from test_recording import marks, points

import twinstep

NAMES = ("layer", "head", "layer#2", "a.b")


class Stopped(Exception):
    pass


def named(parts):
    """The points that a step with these parts has; a part is (name, parts within, whether it fails)."""
    used = set()

    def of(part):
        name, within, fails = part
        number = 1
        while (label := name if number == 1 else f"{name}#{number}") in used:
            number += 1
        used.add(label)
        yield f"{label}.before"
        for one in within:
            yield from of(one)
        if not fails:
            yield f"{label}.after"

    return ["step.before", *(point for part in parts for point in of(part)), "step.after"]


def random_parts(random, depth=0):
    return [
        (str(random.choice(NAMES)), random_parts(random, depth + 1) if depth < 2 else [], random.integers(6) == 0)
        for _ in range(int(random.integers(0, 4)))
    ]


def run(r, parts):
    for name, within, fails in parts:
        with contextlib.suppress(Stopped), r.launch(name):
            run(r, within)
            if fails:
                raise Stopped


@pytest.mark.parametrize("seed", range(25))
def test_names_depend_on_the_steps_parts_alone(tmp_path, seed):
    random = np.random.default_rng(seed)
    kinds = [random_parts(random) for _ in range(3)]
    state, due = np.zeros(3, np.float32), []
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", state)
        for _ in range(12):
            parts = kinds[int(random.integers(3))]
            between = int(random.integers(8))
            if between == 0:
                r.request()
            elif between == 1:
                with r.warmup("w"):
                    run(r, parts)
                    assert r.step() == 0
            elif between == 2:
                r.mark("between")
            elif between == 3:
                r.watch(f"late{len(due)}", np.zeros(2))
            run(r, parts)
            if parts and random.integers(4) == 0:
                with r.warmup("within a step"):
                    run(r, parts)
                    assert r.step() == 0
            if random.integers(4):
                r.step()
            else:
                if not parts:
                    continue  # no step began
                r.request()  # ends the step
            due.append((named(parts), parts))
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    found = [points(step) for step in trace.steps]
    for place, (names, _) in enumerate(due):
        assert found[place] in (names, names[:-1]), place
    assert all(len(set(names)) == len(names) for names in found)


@pytest.mark.parametrize("first", ["nothing", "mark", "warm-up", "request"])
def test_the_first_step_is_numbered_as_the_others(tmp_path, twinstep_binary, first):
    path = tmp_path / "a.twin"
    with twinstep.record(path) as r:
        r.watch("state", np.zeros(3))
        if first == "mark":
            r.mark("m")
        elif first == "warm-up":
            with r.warmup(), r.launch("layer"):
                pass
        elif first == "request":
            r.request("one")
        for _ in range(3):
            for _ in range(3):
                with r.launch("layer"):
                    pass
            r.step()
    due = named([("layer", [], False)] * 3)
    assert [points(step) for step in twinstep.open(path).steps] == [due] * 3
    assert twinstep_binary.json("diff", path, path)["identical"]


@pytest.mark.parametrize("ends", ["step", "request", "warm-up's step"])
def test_a_part_around_the_end_of_its_step(tmp_path, ends):
    state = np.zeros(3, np.float32)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", state)
        with contextlib.ExitStack() as open_parts:
            open_parts.enter_context(r.launch("loop"))
            state += 1
            if ends == "step":
                r.step()
            elif ends == "request":
                r.request("next")
            else:
                with r.warmup("w"):
                    r.step()
            if ends != "warm-up's step":
                expected = pytest.warns(RuntimeWarning, match="loop ended after the step that it began in")
                with expected as told:
                    open_parts.close()
                assert told[0].filename.endswith(("test_parts.py", "contextlib.py"))
        with r.launch("loop"):
            pass
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    found = [points(step) for step in trace.steps]
    if ends == "warm-up's step":
        assert found == [named([("loop", [], False)] * 2)]
    else:
        assert found[0][:2] == ["step.before", "loop.before"] and found[1] == named([("loop", [], False)])
        assert "loop ended after the step that it began in: that step has no loop.after" in marks(trace)
    if ends != "request":
        assert trace.buffer("state", 1).tolist() == [1] * 3


@pytest.mark.filterwarnings("ignore:.* ended after the step that it began in")
def test_parts_of_several_threads_have_names_of_their_own(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", np.zeros(3))

        def work():
            for step in range(30):
                with r.launch("part"), r.launch("inner"):
                    pass
                if step % 7 == 0:
                    r.step()

        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    found = [points(step) for step in trace.steps]
    assert sum(name.endswith(".before") for names in found for name in names) == 240 + len(found)
    for names in found:
        assert len(set(names)) == len(names) and names[0] == "step.before" and names[-1] == "step.after"
        for name in names:
            assert not name.endswith(".after") or name[:-6] + ".before" in names


def test_the_steps_own_name_is_refused(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("state", np.zeros(3))
        with pytest.raises(ValueError, match="points of the whole step"):
            with r.launch("step"):
                pass
        r.step()
