"""Where a watched name's tensor comes from, now: an object, a callable, or an attribute of a module."""

from __future__ import annotations

import fnmatch
import weakref
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from .tensors import is_tensor


def fault(name: Any) -> Optional[str]:
    """Why text is no name of a buffer, if it is none."""
    if not isinstance(name, str) or not name or any(_is_control(c) for c in name) or "@" in name:
        return "text without @ and control characters"
    if "[" in name or "]" in name:
        return "in commands brackets choose elements, as in x[0]; write x.0"
    return None


def plain(name: str) -> str:
    """A name that can be written in commands; as ``twinstep import`` does it, ``x[0]`` is ``x_0_``."""
    return "".join("_" if c in "[]@" or _is_control(c) else c for c in name)


def _is_control(c: str) -> bool:
    return ord(c) < 32 or 127 <= ord(c) < 160


class Source:
    """A watched name: ``get`` gives the tensor that it means at this moment."""

    def __init__(self, get: Callable[[], Any], role: str, address: bool):
        self.get, self.role, self.address = get, role, address


def of_object(value: Any, role: str, address: bool, hold: bool) -> Source:
    """A tensor or a callable that gives one. Without ``hold`` a tensor that is gone is ``None``."""
    if callable(value) and not is_tensor(value):
        return Source(value, role, address)
    if not hold:
        try:
            return Source(weakref.ref(value), role, address)
        except TypeError:
            pass  # numbers and the like
    return Source(lambda: value, role, address)


def of_module(module: Any, pattern: str, role: str) -> Dict[str, Source]:
    """Tensors of a module whose dotted path matches a glob, by path.

    Buffers and parameters of a ``torch.nn.Module``, tensors that are plain attributes of it or of
    its submodules, or the plain attributes of any other object. They are looked up by path each
    time, so that a rebound attribute is noticed and a tensor that was dropped is not kept alive.
    A module that ``torch.compile`` made has the one it was made of as ``_orig_mod``: its paths are
    given without that, as an eager run has them.
    """
    found: Dict[str, Source] = {}
    for owner, path, name in _attributes(module):
        parts = [part for part in path.split(".") if part and part != "_orig_mod"]
        dotted = ".".join([*parts, name])
        if fnmatch.fnmatchcase(dotted, pattern) and dotted not in found:
            found[dotted] = Source(_getter(owner, name), role, True)
    return found


def _getter(owner: Any, name: str) -> Callable[[], Any]:
    return lambda: getattr(owner, name)


def _attributes(module: Any) -> Iterator[Tuple[Any, str, str]]:
    """(object that owns it, dotted path of that object, attribute) of every tensor."""
    named_modules = getattr(module, "named_modules", None)
    for path, owner in named_modules() if callable(named_modules) else [("", module)]:
        held = dict(getattr(owner, "__dict__", {}))
        for table in ("_buffers", "_parameters"):
            held.update(held.get(table) or {})
        for name, value in held.items():
            if isinstance(name, str) and is_tensor(value):
                yield owner, path, name
