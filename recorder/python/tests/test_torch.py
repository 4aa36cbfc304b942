"""PyTorch's tensors, where PyTorch is; those on a GPU, where there is one."""

import numpy as np
import pytest

import twinstep
from twinstep import records as R

torch = pytest.importorskip("torch")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


class Talker(torch.nn.Module):
    def __init__(self, device):
        super().__init__()
        self.head = torch.nn.Linear(3, 2, device=device)
        self.register_buffer("last_decode_codes", torch.zeros(2, 4, dtype=torch.int64, device=device))
        self.plain_decode_state = torch.zeros(5, dtype=torch.bfloat16, device=device)
        self.name = "talker"


class Model(torch.nn.Module):
    def __init__(self, device):
        super().__init__()
        self.talker = Talker(device)
        self.step_decode_count = torch.zeros((), dtype=torch.int32, device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_types_and_views(tmp_path, device):
    random = torch.Generator().manual_seed(1)
    values = {}
    named = dict(float32="f32", float16="f16", bfloat16="bf16", int64="i64", int32="i32", uint8="u8", bool="bool")
    for name in [*named, "float64", "int16", "int8", "complex64", "float8_e4m3fn"]:
        dtype = getattr(torch, name)
        values[name] = torch.randint(0, 2 if name == "bool" else 100, (3, 5), generator=random).to(dtype).to(device)
    values["turned"] = values["float32"].T
    values["part"] = values["int64"][::2, 1:4]
    values["scalar"] = torch.tensor(2.5, device=device)
    values["grown"] = torch.zeros(2, device=device, requires_grad=True)
    values["empty"] = torch.zeros(0, 3, device=device)
    values["conjugate"] = torch.tensor([1 + 2j], device=device).conj()
    values["spread"] = torch.ones(1, device=device).expand(4)
    with twinstep.record(tmp_path / "a.twin") as r:
        for name, value in values.items():
            r.watch(name, value)
        r.step()
        values["bfloat16"].add_(1)
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    by_name = {b.name: b for b in trace.buffers}
    for name, kind in named.items():
        found = trace.buffer(name, 2)
        assert found.dtype_name == kind and by_name[name].address == values[name].data_ptr()
        due = values[name].cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        assert found.reshape(-1).view(np.uint8).tolist() == due.tolist(), name
    for name in ("float64", "int16", "int8", "complex64", "float8_e4m3fn"):
        found = trace.buffer(name, 2)
        assert found.dtype_name == "u8" and found.shape == (3, 5, values[name].element_size())
        assert found.tobytes() == values[name].cpu().view(torch.uint8).numpy().tobytes(), name
    assert trace.buffer("turned", 1).tolist() == values["turned"].cpu().tolist()
    assert trace.buffer("part", 1).tolist() == values["part"].cpu().tolist()
    assert float(trace.buffer("scalar", 1)) == 2.5 and trace.buffer("empty", 1).shape == (0, 3)
    assert trace.buffer("conjugate", 1).reshape(-1).view(np.complex64).tolist() == [1 - 2j]
    assert trace.buffer("spread", 1).tolist() == [1] * 4
    before, after = trace.buffer("bfloat16", 1), trace.buffer("bfloat16", 2)
    assert before.dtype == np.uint16 and (before != after).any()


@pytest.mark.parametrize("device", DEVICES)
def test_modules_and_rebinding(tmp_path, device):
    model = Model(device)
    with twinstep.record(tmp_path / "a.twin") as r:
        names = r.watch_module(model, "*_decode_*")
        assert sorted(names) == ["step_decode_count", "talker.last_decode_codes", "talker.plain_decode_state"]
        assert r.watch_module(model, "talker.head.*") == ["talker.head.weight", "talker.head.bias"]
        with r.launch("forward"):
            model.talker.last_decode_codes += 1
        r.step()
        old = model.talker.last_decode_codes
        model.talker.last_decode_codes = torch.full((2, 4), 9, device=device)
        r.step()
        del old
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert trace.buffer("talker.last_decode_codes", 1).tolist() == [[1] * 4] * 2
    assert trace.buffer("talker.last_decode_codes", 2).tolist() == [[9] * 4] * 2
    numbers = {b.label: n for n, b in enumerate(trace.buffers)}
    old, new = numbers["talker.last_decode_codes@0"], numbers["talker.last_decode_codes@1"]
    assert trace.items(trace.steps[1])[:-1] == [R.Allocate(new)]
    # PyTorch gave back the old memory only when nobody held it any more.
    assert trace.items(trace.steps[2])[:-1] == [R.Free(old)]


def test_tensors_without_plain_bytes(tmp_path):
    with twinstep.record(tmp_path / "a.twin") as r:
        for value in (torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta")):
            with pytest.raises(TypeError, match="no plain bytes"):
                r.watch("x", value)
        with torch.inference_mode():
            r.watch("inference", torch.ones(2))
            r.step()
    assert twinstep.open(tmp_path / "a.twin").buffer("inference", 1).tolist() == [1, 1]


@needs_gpu
def test_a_captured_loop_with_a_frozen_feedback(tmp_path):
    """Recording from outside the capture; and within it nothing is copied that would break it."""
    codes, hidden = torch.zeros(4, dtype=torch.int64, device="cuda"), torch.zeros(4, device="cuda")
    with twinstep.record(tmp_path / "a.twin", mode="graph") as r:
        assert r._to.writer is not None
        r.watch("codes", codes)
        r.watch("hidden", hidden)
        graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        with r.warmup("capture"):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                hidden.add_(codes)
            torch.cuda.current_stream().wait_stream(side)
            hidden.zero_()
        with torch.cuda.graph(graph):
            with r.launch("captured"):
                hidden.add_(codes)
            r.watch("late", codes)
        for step in range(3):
            codes.fill_(step)
            with r.launch("forward"):
                graph.replay()
            r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    assert [trace.buffer("hidden", s).tolist() for s in (1, 2, 3)] == [[0] * 4, [1] * 4, [3] * 4]
    assert trace.buffer("codes", 3, "forward.before").tolist() == [2] * 4
    texts = [i.text for s in trace.records for i in trace.items(s) if isinstance(i, R.Mark)]
    assert "no snapshot while the stream is being captured" in texts
    assert trace.info.device.backend == "cuda" and trace.info.device.name == torch.cuda.get_device_name()


@needs_gpu
def test_arrays_of_others_in_device_memory(tmp_path):
    class Foreign:
        """Only the interface, as CuPy and Numba have it."""

        def __init__(self, tensor, strides=None):
            self.tensor = tensor
            self.__cuda_array_interface__ = dict(tensor.__cuda_array_interface__)

    base = torch.arange(24, dtype=torch.float32, device="cuda").reshape(4, 6)
    with twinstep.record(tmp_path / "a.twin") as r:
        r.watch("dense", Foreign(base))
        r.watch("turned", Foreign(base.T))
        r.watch("part", Foreign(base[1:, ::2]))
        r.watch("empty", Foreign(base[:0]))
        base += 1
        r.step()
    trace = twinstep.open(tmp_path / "a.twin")
    due = base.cpu()
    assert trace.buffer("dense", 1).tolist() == due.tolist()
    assert trace.buffer("turned", 1).tolist() == due.T.tolist()
    assert trace.buffer("part", 1).tolist() == due[1:, ::2].tolist()
    assert trace.buffer("empty", 1).shape == (0, 6)
    assert trace.buffers[0].address == base.data_ptr()
    cupy = pytest.importorskip("cupy")
    array = cupy.arange(10, dtype=cupy.int32)[::-2]
    with twinstep.record(tmp_path / "b.twin") as r:
        r.watch("cupy", array)
        r.step()
    assert twinstep.open(tmp_path / "b.twin").buffer("cupy", 1).tolist() == [9, 7, 5, 3, 1]


def test_attached_storages_that_end_are_told(tmp_path):
    """The library hears of memory that PyTorch gives back, though the driver would not."""
    from test_attached import attached, build

    _, err, log = attached(tmp_path, build(tmp_path), """
        import torch
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("codes", torch.zeros(4, dtype=torch.bfloat16))
        model = Model()
        view = torch.zeros(8)[2:]
        kept = torch.ones(3)
        with twinstep.record() as r:
            r.watch_module(model, "codes")
            r.watch("view", view)
            r.watch("kept", kept)
            r.step()
            model.codes = torch.ones(4, dtype=torch.bfloat16)
            del view
            r.step()
    """)
    words = [" ".join(line.split()[:2]) for line in log]
    assert words == [
        "note mode", "watch codes", "watch view", "watch kept", "step 0", "freed codes", "freed view",
        "watch codes", "step 0", "unwatch codes", "unwatch kept", "flush",
    ], err  # fmt: skip
    assert log[1].split()[3:] == ["bf16", "4", "state"]
