"""What an engine's tensor is and holds: NumPy, PyTorch, ``__cuda_array_interface__``, DLPack, numbers.

No framework is imported here. PyTorch is looked for among the modules that the program itself
has imported, and only then is an object compared with its types.
"""

from __future__ import annotations

import mmap
import operator
import sys
import weakref
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from . import cuda_memory

# The format's name of an element type by (kind, bytes); all others are kept as their bytes.
_NAMED = {
    ("f", 4): "f32", ("f", 2): "f16", ("i", 8): "i64", ("i", 4): "i32",
    ("u", 4): "u32", ("u", 8): "u64", ("u", 1): "u8", ("b", 1): "bool",
}  # fmt: skip
_TORCH_NAMED = {
    "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "uint32": "u32", "uint64": "u64", "uint8": "u8", "bool": "bool",
}  # fmt: skip


class Described(NamedTuple):
    """A tensor without its bytes.

    ``dtype`` is a name of the format, ``shape`` that of the record; ``own_dtype`` is the
    framework's name where the record keeps bytes instead. ``address`` is ``None`` for values
    without memory of their own.
    """

    dtype: str
    shape: Tuple[int, ...]
    bytes: int
    address: Optional[int]
    dense: bool
    own_dtype: Optional[str]


class Tensor:
    """One tensor, described; :meth:`copy` brings its bytes to the host."""

    def __init__(self, described: Described, copy: Callable[[], np.ndarray], owner: Any):
        self.described = described
        self._copy = copy
        self._owner = owner

    def copy(self) -> np.ndarray:
        """All bytes as contiguous ``uint8`` of one axis, in row-major order of the tensor.

        What lies on a GPU is copied on the current stream, and the host waits for it. Host
        memory that is dense is not copied: use the bytes before the engine goes on.
        """
        return self._copy()

    def when_freed(self, then: Callable[[], None]) -> Optional[weakref.finalize]:
        """Calls ``then`` when the engine has given back the memory, if that can be known."""
        if self._owner is None:
            return None
        try:
            finalizer = weakref.finalize(self._owner, then)
        except TypeError:
            return None
        finalizer.atexit = False
        return finalizer


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is an array of some framework (numbers and lists are none)."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return True
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, (type, np.generic)):
        return False
    return hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack__")


def tensor(value: Any) -> Tensor:
    """Describes ``value``.

    Raises ``TypeError`` for what is no tensor and for tensors without plain bytes (sparse,
    quantized, meta, object arrays).
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _torch(torch, value)
    if isinstance(value, np.ndarray):
        return _numpy(value, owned=True)
    if isinstance(value, (bool, int, np.generic)):
        try:
            return _numpy(np.asarray(value), owned=False)
        except OverflowError:
            raise TypeError(f"{value} does not fit in 64 bits") from None
    if isinstance(value, type):
        raise TypeError(f"{value!r} is a type, no tensor")
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        return _cuda(value, interface)
    if hasattr(value, "__dlpack__"):
        try:
            return _numpy(np.from_dlpack(value), owned=False, address=True)
        except (BufferError, RuntimeError) as error:
            if not hasattr(value, "__array__"):
                raise TypeError(f"a {type(value).__name__} that NumPy cannot read: {error}") from None
    if hasattr(value, "__array__"):
        return _numpy(np.asarray(value), owned=False)
    raise TypeError(f"a {type(value).__name__} is no tensor, array or whole number")


def whole_numbers(values: Any) -> Iterator[int]:
    """The elements of lists and tensors, those of a GPU too, in any nesting. Raises ``TypeError`` for others."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    for value in values:
        if isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0)):
            yield from whole_numbers(value)
        else:
            yield operator.index(value)


def _record(name: Optional[str], own: str, shape, item: int, address: Optional[int], dense: bool) -> Described:
    shape = tuple(int(axis) for axis in shape)
    size = item
    for axis in shape:
        size *= axis
    if name is None:
        return Described("u8", shape + (item,), size, address, dense, own)
    return Described(name, shape, size, address, dense, None)


def _numpy(array: np.ndarray, owned: bool, address: Optional[bool] = None) -> Tensor:
    dtype = array.dtype
    if dtype.hasobject:
        raise TypeError("an object array holds references, not values")
    if dtype.itemsize == 0:
        raise TypeError(f"elements of type {dtype} have no bytes")
    name = "bf16" if dtype.name == "bfloat16" else _NAMED.get((dtype.kind, dtype.itemsize))
    at = array.__array_interface__["data"][0] if (owned if address is None else address) else None
    dense = bool(array.flags.c_contiguous)
    def copy() -> np.ndarray:
        native = array if dtype.isnative else array.astype(dtype.newbyteorder("="))
        return np.ascontiguousarray(native).reshape(-1).view(np.uint8)

    return Tensor(_record(name, dtype.name, array.shape, dtype.itemsize, at, dense), copy, _memory_of(array) if owned else None)


def _memory_of(array: np.ndarray) -> Any:
    """What lives as long as the memory that an array looks at; ``None`` where that is not known.

    An array over memory that is not NumPy's may be made anew each time, and its end says nothing.
    """
    owner: Any = array
    while True:
        if isinstance(owner, memoryview):
            owner = owner.obj
        elif isinstance(getattr(owner, "base", None), (np.ndarray, memoryview)) or (
            isinstance(owner, np.ndarray) and owner.base is not None
        ):
            owner = owner.base  # of NumPy's stand-in for strided views, too
        else:
            break
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(owner, torch.Tensor):
        return owner.untyped_storage() if hasattr(owner, "untyped_storage") else None
    return owner if isinstance(owner, mmap.mmap) or (isinstance(owner, np.ndarray) and owner.flags.owndata) else None


def _torch(torch: Any, value: Any) -> Tensor:
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        kind = "quantized" if value.is_quantized else value.device.type if value.device.type == "meta" else value.layout
        raise TypeError(f"a tensor that is {kind} has no plain bytes")
    own = str(value.dtype).split(".")[-1]
    address = value.data_ptr()
    described = _record(
        _TORCH_NAMED.get(own), own, value.shape, value.element_size(), address or None, value.is_contiguous()
    )

    def copy() -> np.ndarray:
        with torch.no_grad():
            plain = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
            if plain.numel() == 0:
                return np.empty(0, np.uint8)
            return plain.view(torch.uint8).cpu().numpy()

    # A storage's object lives as long as the memory does, whatever tensors look at it.
    return Tensor(described, copy, value.untyped_storage() if hasattr(value, "untyped_storage") else None)


def capturing() -> bool:
    """Whether PyTorch's current stream is being captured: a copy to the host would break the capture."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    try:
        return cuda is not None and cuda.is_initialized() and cuda.is_current_stream_capturing()
    except (AttributeError, RuntimeError):
        return False


def _cuda(value: Any, interface: dict) -> Tensor:
    dtype = np.dtype(interface["typestr"])
    if dtype.hasobject or dtype.itemsize == 0:
        raise TypeError(f"elements of type {dtype} have no bytes")
    shape = tuple(interface["shape"])
    address = interface["data"][0]
    packed = []
    step = dtype.itemsize
    for axis in reversed(shape):
        packed.insert(0, step)
        step *= axis
    strides = tuple(interface.get("strides") or packed)
    name = _NAMED.get((dtype.kind, dtype.itemsize)) if dtype.isnative else None
    dense = all(s == p for s, p, n in zip(strides, packed, shape) if n > 1)
    own = dtype.name if dtype.isnative else dtype.str
    described = _record(name, own, shape, dtype.itemsize, address or None, dense)

    def copy() -> np.ndarray:
        if described.bytes == 0:
            return np.empty(0, np.uint8)
        if dense:
            return cuda_memory.copy_to_host(address, described.bytes)
        reach = [(n - 1) * s for n, s in zip(shape, strides)]
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + dtype.itemsize
        span = cuda_memory.copy_to_host(address + low, high - low)
        strided = np.ndarray(shape, dtype, span, -low, strides)
        return np.ascontiguousarray(strided).reshape(-1).view(np.uint8)

    return Tensor(described, copy, None)
