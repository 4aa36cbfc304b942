"""Speaks to the library that ``twinstep attach`` preloads: names, steps and requests go there, it records."""

from __future__ import annotations

import ctypes
import os
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from . import tensors
from .errors import TraceError, said
from .reader import _NUMPY, Values
from .source import Source

_VERSION = 1
_WHOLE_GRAPH = 0xFFFFFFFF
_KINDS = {None: 0, "prefill": 1, "decode": 2}

# How the library says that an address is no memory of the device.
_NOT_THE_DEVICES = "of device memory are known"


class Output(NamedTuple):
    """What a buffer holds after a step was executed again.

    ``values``: of the buffer's shape. ``changed_by_patch``: whether it differs from the
    re-execution without patches; ``equal_to_recorded``: from what was recorded after the step.
    """

    values: np.ndarray
    changed_by_patch: bool
    equal_to_recorded: bool


class _Patch(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("bytes", ctypes.c_void_p), ("length", ctypes.c_uint64)]


_OUTPUT = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_int
)

_U32, _U64, _TEXT = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p
_CALLS = {
    "twinstep_watch": [_TEXT, _U64, _TEXT, _U32, ctypes.POINTER(_U64), _TEXT],
    "twinstep_unwatch": [_TEXT],
    "twinstep_freed": [_TEXT],
    "twinstep_request": [_TEXT, ctypes.POINTER(_U32), _U64],
    "twinstep_step": [_U32],
    "twinstep_warmup": [_U32, _TEXT],
    "twinstep_launch_begin": [_TEXT, _U64],
    "twinstep_launch_end": [_TEXT, _U64],
    "twinstep_mark": [_TEXT],
    "twinstep_note": [_TEXT, _TEXT],
    "twinstep_flush": [],
    "twinstep_reexecute": [_U32, _U32, _U32, _U32, ctypes.POINTER(_Patch), _U64, _OUTPUT, ctypes.c_void_p],
}


def library() -> Optional[ctypes.CDLL]:
    """The preloaded library, if this process has one.

    Raises :class:`TraceError` if it speaks another version than this package.
    """
    found = None
    for path in _candidates():
        try:
            found = ctypes.CDLL(path)
            found.twinstep_attach_version.restype = _U32
            break
        except (OSError, AttributeError):
            found = None
    if found is None:
        return None
    version = found.twinstep_attach_version()
    if version != _VERSION:
        raise TraceError(
            f"twinstep attach speaks version {version} and this package version {_VERSION}: "
            "install the package and the command of one release"
        )
    found.twinstep_last_error.restype = ctypes.c_char_p
    for name, arguments in _CALLS.items():
        call = getattr(found, name)
        call.argtypes, call.restype = arguments, ctypes.c_int
    return found


def _candidates() -> List[Optional[str]]:
    paths: List[Optional[str]] = [None]
    if "TWINSTEP_ATTACH_OUT" in os.environ:
        # Taken in by the CUDA driver instead of the loader, its names are not global.
        try:
            with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
                for line in maps:
                    path = line.rstrip("\n").split(None, 5)[-1]
                    if "libtwinstep_attach" in os.path.basename(path) and path not in paths:
                        paths.append(path)
        except OSError:
            pass
    return paths


class _Name:
    def __init__(self, source: Source):
        self.source = source
        self.identity: Any = None
        self.finalizer: Any = None
        # What it means is left out of the recording: the identity and why.
        self.left_out: Any = None


class Attached:
    """The recording that :class:`twinstep.Recording` speaks to in an attached process. It writes no file."""

    def __init__(self, lib: ctypes.CDLL, path, mode: str, model: str, prompt: str, notes: Dict[str, str]):
        self.lib = lib
        self.path = os.environ.get("TWINSTEP_ATTACH_OUT")
        self.names: Dict[str, _Name] = {}
        self.trouble: List[str] = []
        self.notices: List[str] = []
        self.told: Set[str] = set()
        self.closed = False
        self.step_number = 0
        self.warming: List[str] = []
        # How often the program said it, apart from warm-ups.
        self.parts = self.steps = 0
        if path is not None and self.path and os.path.abspath(os.fsdecode(path)) != os.path.abspath(self.path):
            warnings.warn(
                f"attached: this run is recorded into {self.path}, and {os.fsdecode(path)} is not written",
                RuntimeWarning,
                stacklevel=4,
            )
        told = {"mode": mode, "model": model, "prompt": prompt}
        for key, value in list(told.items()) + sorted(notes.items()):
            if value:
                self._call("note", _text(key), _text(value))

    def _call(self, name: str, *arguments) -> None:
        if getattr(self.lib, f"twinstep_{name}")(*arguments):
            reason = self.lib.twinstep_last_error() or b"the library does not say why"
            raise TraceError(f"twinstep attach: {reason.decode('utf-8', 'replace')}")

    def _event(self, name: str, *arguments) -> None:
        """A call that the loop makes again and again: what keeps failing is told once."""
        try:
            self._call(name, *arguments)
        except TraceError as error:
            if str(error) not in self.told:
                self.told.add(str(error))
                raise

    # Names.

    def watch(self, name: str, source: Source) -> None:
        one = _Name(source)
        old = self.names.get(name)
        try:
            value = source.get()
        except Exception as error:
            raise ValueError(f"{name}: {said(error)}") from error
        self._tell(name, one, value)
        if old is not None:
            if one.left_out is not None and old.identity is not None:
                self._event("unwatch", _text(name))
            if old.finalizer is not None:
                old.finalizer.detach()
        self.names[name] = one

    def _tell(self, name: str, one: _Name, value: Any) -> None:
        """Has the library know the memory that the name means now, or leaves the name out and says why."""
        try:
            tensor = tensors.tensor(value)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from error
        except Exception as error:
            raise ValueError(f"{name}: {said(error)}") from error
        described = tensor.described
        identity = (described.dtype, described.shape, described.address, described.own_dtype)
        if not described.dense:
            self._leave_out(name, one, identity, "a strided view: attached, watch the tensor that it is a view of")
            return
        if described.address is None:
            identity = (described.dtype, (), None, described.own_dtype)
            self._leave_out(name, one, identity, "no tensor in memory: attached, the memory of the device is recorded")
            return
        if identity in (one.identity, one.left_out):
            return
        shape = (_U64 * len(described.shape))(*described.shape)
        try:
            self._call(
                "watch", _text(name), described.address, _text(described.dtype), len(shape), shape, _text(one.source.role)
            )
        except TraceError as error:
            if _NOT_THE_DEVICES not in str(error):
                raise
            self._leave_out(name, one, identity, "not in device memory, which is all that is recorded attached")
            return
        one.left_out = None
        if described.own_dtype:
            self.mark(
                f"{name} is {described.own_dtype}, a type that the format does not name: "
                f"kept as its bytes, {described.shape[-1]} to an element"
            )
        one.identity = identity
        if one.finalizer is not None:
            one.finalizer.detach()
        lib, encoded = self.lib, _text(name)

        def freed() -> None:
            # Only the memory that the name means now: of older generations nobody asks any more.
            one.identity = None
            lib.twinstep_freed(encoded)

        one.finalizer = tensor.when_freed(freed)

    def _leave_out(self, name: str, one: _Name, identity: Any, why: str) -> None:
        """A program that is recorded alone, too, has names for which there is nothing to do here."""
        if one.identity is not None:
            self._event("unwatch", _text(name))
            one.identity = None
        if one.finalizer is not None:
            one.finalizer.detach()
            one.finalizer = None
        one.left_out = identity
        text = f"{name} is left out: it is {why}"
        if text not in self.told:
            self.told.add(text)
            self.mark(text)
            self.notices.append(text)

    def _look_again(self) -> None:
        """Names whose memory has moved since: new generations."""
        for name, one in list(self.names.items()):
            if self.names.get(name) is not one:
                continue  # a callable before it ended the watch
            try:
                value = one.source.get()
                if value is not None:
                    self._tell(name, one, value)
            except Exception as error:
                text = f"{name} cannot be watched: {said(error)}"
                if text not in self.told:
                    self.told.add(text)
                    self.trouble.append(text)

    def unwatch(self, name: str) -> None:
        one = self.names.pop(name)
        if one.finalizer is not None:
            one.finalizer.detach()
        # Of memory that was given back the library knows already.
        if one.identity is not None:
            self._event("unwatch", _text(name))

    def free(self, name: str) -> None:
        one = self.names[name]
        if one.identity is not None:
            self._event("freed", _text(name))
            one.identity = None
        self.unwatch(name)

    # What happens.

    def request(self, text: str, prompt: List[int]) -> None:
        if self.warming:
            # To the library it would be one of the run's requests.
            self.mark(f"request: {text}")
            return
        self._look_again()
        self.step_number = 0
        self._event("request", _text(text), (_U32 * len(prompt))(*prompt), len(prompt))

    def step(self, kind: Optional[str]) -> int:
        self._look_again()
        self._event("step", _KINDS[kind])
        if self.warming:
            return 0
        self.steps += 1
        self.step_number += 1
        return self.step_number

    def warmup_begin(self, label: str) -> None:
        # The library knows one at a time: the end of an inner one would be that of all.
        if self.warming:
            self.mark(f"warm-up: {label}")
        else:
            self._event("warmup", 1, _text(label))
        self.warming.append(label)

    def warmup_end(self) -> None:
        label = self.warming.pop()
        if self.warming:
            self.mark(f"warm-up ended: {label}")
        else:
            self._event("warmup", 0, b"")

    def launch_begin(self, name: str, stream: int) -> None:
        self._look_again()
        self.parts += not self.warming
        self._event("launch_begin", _text(name), stream)

    def launch_end(self, name: str, stream: int) -> None:
        self._look_again()
        self._event("launch_end", _text(name), stream)

    def mark(self, text: str) -> None:
        self._event("mark", _text(text))

    def flush(self) -> None:
        self._call("flush")

    def reexecute(
        self, request: int, step: int, graph_launch: int, stop_after: Optional[int], patch: Dict[str, Any]
    ) -> Dict[str, Output]:
        """See :meth:`twinstep.Recording.reexecute`."""
        kept: List[Tuple[bytes, np.ndarray]] = []
        for name, value in patch.items():
            if name not in self.names:
                raise ValueError(f"{name} is not watched: a patch names a watched buffer")
            tensor = tensors.tensor(value)
            identity = self.names[name].identity
            if identity is not None and (tensor.described.dtype, tensor.described.bytes) != (
                identity[0],
                _bytes_of(identity),
            ):
                raise ValueError(
                    f"the patch of {name} has {tensor.described.bytes} bytes of {tensor.described.dtype}, "
                    f"the buffer {_bytes_of(identity)} of {identity[0]}"
                )
            kept.append((_text(name), np.ascontiguousarray(tensor.copy())))
        patches = (_Patch * len(kept))(
            *[_Patch(name, data.ctypes.data if data.size else None, data.size) for name, data in kept]
        )
        out: Dict[str, Output] = {}

        def output(_, name, data, length, changed, equal) -> None:
            name = name.decode("utf-8", "replace")
            out[name] = Output(self._values(name, ctypes.string_at(data, length)), bool(changed), bool(equal))

        self._call(
            "reexecute", request, step, graph_launch, _WHOLE_GRAPH if stop_after is None else stop_after,
            patches, len(kept), _OUTPUT(output), None,
        )  # fmt: skip
        return out

    def _values(self, name: str, data: bytes) -> np.ndarray:
        """Bytes as the array that a watched name is; plain bytes for other names."""
        values = np.frombuffer(data, np.uint8)
        one = self.names.get(name)
        kind = "u8"
        if one is not None and one.identity is not None and len(data) == _bytes_of(one.identity):
            kind = one.identity[0]
            values = values.view(_NUMPY[kind]).reshape(one.identity[1])
        values = values.view(Values)
        values.dtype_name = kind
        return values

    # The end.

    def close(self, error: Optional[BaseException]) -> None:
        """The process is recorded on; the names, whose memory may go now, are not."""
        try:
            if error is not None:
                self.mark(f"exception: {said(error)}".replace("\0", "\\0"))
            for name in list(self.names):
                self.unwatch(name)
        finally:
            self.abandon()
        if error is None and self.parts and not self.steps:
            self.notices.append("r.step() was never called, so all parts are one step: call it where each step ends")
        try:
            self.flush()
        except TraceError as trouble:
            self.notices.append(str(trouble))

    def abandon(self) -> None:
        for one in self.names.values():
            if one.finalizer is not None:
                one.finalizer.detach()
        self.names = {}


def _bytes_of(identity) -> int:
    size = np.dtype(_NUMPY[identity[0]]).itemsize
    for axis in identity[1]:
        size *= axis
    return size


def _text(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
