"""Names of buffers as commands can tell them."""

import numpy as np
import pytest
from test_recording import points

import twinstep
from twinstep import records as R
from twinstep import writer


def test_paths_of_a_module_that_commands_could_not_tell(tmp_path, twinstep_binary):
    class Engine:
        pass

    engine = Engine()
    engine.__dict__.update({"kv[0]": np.arange(3), "a\nb@1": np.arange(4), "plain": np.arange(5)})
    with twinstep.record(tmp_path / "a.twin") as r:
        with pytest.warns(RuntimeWarning) as told:
            assert r.watch_module(engine, prefix="e.") == ["e.kv_0_", "e.a_b_1", "e.plain"]
        assert [str(one.message) for one in told] == [
            "'e.kv[0]' cannot be written in commands: it is recorded as e.kv_0_",
            "'e.a\\nb@1' cannot be written in commands: it is recorded as e.a_b_1",
        ]
        engine.__dict__["kv_0_"] = np.arange(2)
        with pytest.raises(ValueError, match="'kv.0.' and 'kv_0_' would both be f.kv_0_"):
            r.watch_module(engine, prefix="f.")
        with r.launch("layer[0]"):
            pass
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.buffer("e.kv_0_", 1).tolist() == [0, 1, 2] and "layer[0].after" in points(trace.steps[0])
    for name, count in (("e.kv_0_", 3), ("e.a_b_1", 4), ("e.kv_0_[1]", 1)):
        assert len(twinstep_binary.json("print", tmp_path / "a.twin", name, "--at", 1)["elements"]) == count


def test_a_trace_with_brackets_in_names_is_read(tmp_path):
    """Releases before this one recorded such names."""
    old = writer.TraceWriter(tmp_path / "a.twin", R.Run("twinstep-python 0.1.0", "eager"))
    number = old.add_buffer(R.Buffer("x[0]", 0, "u8", [1], "state", 1, 64))
    old.observe([(number, np.full(1, 7, np.uint8))])
    after = R.Point("step.after", 0, old.snapshot([number]))
    old.commit_step(R.Step("prefill", 1, 1, 0, old.add_program([]), points=[after]))
    old.close()
    assert twinstep.open(tmp_path / "a.twin").buffer("x[0]", 1).tolist() == [7]


def test_a_compiled_module_has_the_names_of_the_one_it_was_made_of(tmp_path):
    class Module:
        def __init__(self, **modules):
            self.codes = np.zeros(2, np.int32)
            self.modules = modules

        def named_modules(self, prefix=""):
            yield prefix, self
            for name, module in self.modules.items():
                yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    class Compiled(Module):
        def __init__(self, **modules):
            self.modules = modules

    eager = Module(head=Module())
    compiled = Compiled(_orig_mod=Module(head=Compiled(_orig_mod=Module())))
    names = []
    for i, module in enumerate([eager, compiled]):
        with twinstep.record(tmp_path / f"{i}.twin") as r:
            names.append(r.watch_module(module))
            r.step()
    assert names == [["codes", "head.codes"]] * 2
