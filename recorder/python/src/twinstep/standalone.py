"""Records into a file of its own, from the program's own calls; nothing is preloaded.

Snapshots are taken on the host: a tensor on a GPU is copied to it, which waits for the current
stream. ``twinstep attach`` is the way without.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from . import records, tensors
from .errors import TraceError, said
from .source import Source
from .version import __version__
from .writer import SMALL_BYTES, TraceWriter, chunk_bytes_of


# Between its named parts the program may write anywhere, and nobody tells what.
_UNTOLD = records.Gap("what runs outside the named parts of a step")


class _Name:
    """A watched name and its present generation."""

    def __init__(self, source: Source):
        self.source = source
        self.generation = -1
        self.number: Optional[int] = None
        self.identity: Any = None
        self.finalizer: Any = None


class Standalone:
    """The recording that :class:`twinstep.Recording` speaks to where no library is preloaded."""

    def __init__(self, path, run: records.Run, force: bool, rank: int):
        self.writer = TraceWriter(path, run, force)
        self.path = self.writer.path
        self.rank = rank
        self.names: Dict[str, _Name] = {}
        self.generations: Dict[str, int] = {}
        self.told: set = set()
        # How often the program said what, apart from warm-ups.
        self.watches = self.parts = self.steps = 0
        self.request_number = 0
        self.step_number = 0
        self.warming: List[str] = []
        self.warm_steps = 0
        # The set-up record, or the step, that is being filled.
        self.items: List[Any] = []
        self.points: List[records.Point] = []
        self.host_writes: List[records.HostWrite] = []
        self.open = False
        # Of the step that is open: which one it is, how often each part began, and the parts' names at its points.
        self.steps_begun = 0
        self.brackets: Counter = Counter()
        self.labels: set = set()
        # Buffers observed since, or at, the last snapshot; and that snapshot, if it still tells all of them.
        self.seen: List[int] = []
        self.seen_snapshot: Optional[int] = None
        # Filled by finalizers, which run at any time in any thread: nothing is written there.
        self.freed: List[Tuple[str, int]] = []
        self.closed = False
        # For the program: what went wrong, and what it should know.
        self.trouble: List[str] = []
        self.notices: List[str] = []

    # Names.

    def watch(self, name: str, source: Source) -> None:
        """Takes what the name means now, too: state before the first step."""
        old = self.names.get(name)
        one = _Name(source)
        if old is not None:
            one.generation, one.number, one.identity = old.generation, old.number, old.identity
            one.finalizer = old.finalizer
        self.names[name] = one
        try:
            if tensors.capturing():
                tensors.tensor(source.get())  # no copy, which would break the capture
            else:
                self._observe([name], strict=True)
                self._untold()
            self.watches += 1
        except Exception:
            if old is None:
                del self.names[name]
            else:
                self.names[name] = old
            raise

    def unwatch(self, name: str) -> None:
        one = self.names.pop(name)
        if one.finalizer is not None:
            one.finalizer.detach()
        self._forget(one.number)

    def free(self, name: str) -> None:
        self._take_freed()
        one = self.names[name]
        if one.number is not None:
            self.items.append(records.Free(one.number))
        self.unwatch(name)

    def _forget(self, number: Optional[int]) -> None:
        if number in self.seen:
            self.seen = [n for n in self.seen if n != number]
            self.seen_snapshot = None

    def _take_freed(self) -> None:
        while self.freed:
            name, number = self.freed.pop(0)
            self.items.append(records.Free(number))
            self._forget(number)
            one = self.names.get(name)
            if one is not None and one.number == number:
                one.number = one.identity = None

    # Looking at memory.

    def _observe(self, names: List[str], strict: bool = False) -> None:
        """Takes what the names mean and hold now.

        A name that cannot be read is in no snapshot until it can; ``strict`` raises instead.
        """
        self._take_freed()
        # Small ones are hashed together, large ones not held.
        pieces, taken, failed = [], set(), set()
        for name in names:
            one = self.names.get(name)
            if one is None:
                continue  # a callable before it ended the watch
            try:
                tensor = tensors.tensor(one.source.get())
                described = tensor.described
                data = tensor.copy()
                if data.size <= SMALL_BYTES:
                    data = data.copy()  # the next callable may fill the same memory
            except Exception as error:
                if strict:
                    if isinstance(error, (TypeError, TraceError)):
                        raise TypeError(f"{name}: {error}") from error
                    raise ValueError(f"{name}: {said(error)}") from error
                failed.add(one.number)
                text = f"{name} cannot be read: {said(error)}"
                if self.once(text):
                    self.trouble.append(text)
                continue
            address = described.address if one.source.address else None
            identity = (described.dtype, described.shape, address, described.own_dtype)
            if one.number is None or identity != one.identity:
                self._new_generation(name, one, tensor, identity)
            taken.add(one.number)
            if data.size <= SMALL_BYTES:
                pieces.append((one.number, data))
            else:
                self.writer.observe([(one.number, data)])
        self.writer.observe(pieces)
        self.seen = sorted((set(self.seen) - failed) | taken)
        self.seen_snapshot = None

    def _new_generation(self, name: str, one: _Name, tensor: tensors.Tensor, identity) -> None:
        described, address = tensor.described, identity[2]
        if one.finalizer is not None:
            # The old memory lives on under the old generation, unless it is given back later.
            one.finalizer = None
        self._forget(one.number)
        one.generation = self.generations.get(name, -1) + 1
        record = records.Buffer(
            name=name,
            generation=one.generation,
            dtype=described.dtype,
            shape=list(described.shape),
            role=one.source.role,
            bytes=described.bytes,
            chunk_bytes=chunk_bytes_of(described.bytes),
            address=address,
        )
        one.number = self.writer.add_buffer(record)
        self.generations[name] = one.generation
        one.identity = identity
        self.items.append(records.Allocate(one.number))
        if described.own_dtype:
            item = described.shape[-1]
            self.once(f"{name} is {described.own_dtype}, a type that the format does not name: kept as its bytes, {item} to an element")
        if not described.dense:
            self.once(f"{name} is a strided view: its elements are kept in row-major order, without the gaps")
        if address is not None:
            freed, number = self.freed, one.number
            one.finalizer = tensor.when_freed(lambda: freed.append((name, number)))

    def once(self, text: str) -> bool:
        """A mark, unless it was made before."""
        if text in self.told:
            return False
        self.told.add(text)
        self.items.append(records.Mark(text))
        return True

    def _look(self, untold: bool) -> Optional[int]:
        """Observes all names and takes a snapshot; ``None`` where that cannot be.

        ``untold``: something may have run since the last item.
        """
        if tensors.capturing():
            self.once("no snapshot while the stream is being captured")
            # What was seen before may be no longer so.
            self.seen, self.seen_snapshot = [], None
            return None
        self._observe(list(self.names))
        if untold:
            self._untold()
        return self._snapshot()

    def _untold(self) -> None:
        if not self.items or self.items[-1] is not _UNTOLD:
            self.items.append(_UNTOLD)

    def _snapshot(self) -> Optional[int]:
        if self.seen_snapshot is None and self.seen:
            self.seen_snapshot = self.writer.snapshot(self.seen)
        return self.seen_snapshot

    def _point(self, name: str, snapshot: Optional[int], position: int) -> None:
        if snapshot is not None:
            self.points.append(records.Point(name, position, snapshot))

    # Requests and steps.

    def request(self, text: str, prompt: List[int]) -> None:
        if self.warming:
            self.items.append(records.Mark(f"request: {text}"))
            return
        self._end_open()
        self._begin_request(text, prompt)
        self._look_again()

    def _look_again(self) -> None:
        """What the next step is given: between steps nobody tells what the host writes."""
        if not tensors.capturing():
            self._observe(list(self.names))
            if self.names:
                self._untold()

    def _begin_request(self, text: str, prompt: List[int]) -> None:
        self._setup()
        self.request_number += 1
        self.step_number = 0
        self.writer.add_request(records.Request(self.request_number, text, prompt))

    def _setup(self) -> None:
        if self.items:
            self._commit("setup", 0, 0)

    def _commit(self, kind: str, request: int, step: int) -> None:
        items, points, host_writes = self.items, self.points, self.host_writes
        # Before it is written: an interrupt must not have it written twice.
        self.items, self.points, self.host_writes, self.open = [], [], [], False
        program = self.writer.add_program(items)
        self.writer.commit_step(records.Step(kind, request, step, self.rank, program, host_writes, [], points))

    def _begin_step(self) -> None:
        if self.open:
            return
        if self.request_number == 0:
            self._begin_request("", [])
        self._take_freed()
        self.open = True
        self.steps_begun += 1
        self.brackets.clear()
        self.labels = set()
        # What is observed is what it was at the last step's end, or when a name was watched.
        self._point("step.before", self._snapshot(), 0)

    def step(self, kind: Optional[str]) -> int:
        if self.warming and self.open:
            self.items.append(records.Mark("warm-up: a step"))
            return 0
        if self.warming:
            self._commit("setup", 0, 0)
            self.items = [records.Mark(f"warm-up: {self.warming[0]}")]
            self.warm_steps += 1
            return 0
        self.steps += 1
        self._begin_step()
        snapshot = self._look(untold=True)
        self._point("step.after", snapshot, len(self.items))
        self.step_number += 1
        kind = kind or ("prefill" if self.step_number == 1 else "decode")
        self._commit(kind, self.request_number, self.step_number)
        return self.step_number

    def _end_open(self) -> None:
        """A step that began and never ended is kept without ``step.after``."""
        if self.open:
            self.once(f"step {self.request_number}:{self.step_number + 1} did not end")
            self.step_number += 1
            kind = "prefill" if self.step_number == 1 else "decode"
            self._commit(kind, self.request_number, self.step_number)

    def warmup_begin(self, label: str) -> None:
        if self.open or self.warming:
            self.items.append(records.Mark(f"warm-up: {label}"))
        else:
            self._setup()
            self.items = [records.Mark(f"warm-up: {label}")]
            self.warm_steps = 0
        self.warming.append(label)

    def warmup_end(self) -> None:
        label = self.warming.pop()
        if self.open or self.warming:
            self.items.append(records.Mark(f"warm-up ended: {label}"))
            return
        if self.warm_steps and len(self.items) == 1:
            self.items = []  # its steps have said so
        self._look_again()
        self._setup()

    # Brackets and notes.

    def launch_begin(self, name: str) -> Optional[Tuple[str, int]]:
        """Gives what :meth:`launch_end` is to be told; ``None`` for a part of a warm-up."""
        part = None
        if not self.warming:
            self.parts += 1
            self._begin_step()
            label = self._label(name)
            part = label, self.steps_begun
            snapshot = self._look(untold=True)
            self._point(f"{label}.before", snapshot, len(self.items))
        self.items.append(records.OpaqueLaunch(kernel=name))
        return part

    def _label(self, name: str) -> str:
        """The part's name, or with its number: never one that the step has already."""
        while True:
            self.brackets[name] += 1
            number = self.brackets[name]
            label = name if number == 1 else f"{name}#{number}"
            if label not in self.labels:
                self.labels.add(label)
                return label

    def launch_end(self, part: Optional[Tuple[str, int]], failed: bool) -> None:
        if part is None or failed or self.warming:
            return
        label, begun_in = part
        if not self.open or begun_in != self.steps_begun:
            text = f"{label} ended after the step that it began in: that step has no {label}.after"
            if self.once(text):
                self.notices.append(text)
            return
        snapshot = self._look(untold=False)
        self._point(f"{label}.after", snapshot, len(self.items))

    def host_write(self, name: str, values: tensors.Tensor, offset: int) -> None:
        one = self.names.get(name)
        if one is None or one.number is None:
            raise ValueError(f"{name} is not watched")
        dtype, shape, _, own = one.identity
        given = values.described
        if (given.dtype, given.own_dtype) != (dtype, own):
            raise ValueError(f"the values are {given.own_dtype or given.dtype}, and {name} is {own or dtype}")
        data = values.copy()
        size = int(np.prod(shape, dtype=object)) * records.ITEM_BYTES[dtype]
        if offset < 0 or offset + data.size > size:
            raise ValueError(f"{data.size} bytes at {offset} do not lie in {name} of {size} bytes")
        if self.warming:
            return
        self._begin_step()
        self.host_writes.append(records.HostWrite(len(self.items), one.number, offset, data.tobytes()))

    def mark(self, text: str) -> None:
        self.items.append(records.Mark(text))

    def reexecute(self, *_) -> Any:
        raise TraceError(
            "a step can be executed again only in an attached process: run the program under "
            "`twinstep attach -o RUN.twin -- python ...`"
        )

    def flush(self) -> None:
        """Nothing waits: each step is in the file when ``step`` returns."""

    # The end.

    def close(self, error: Optional[BaseException]) -> None:
        self._take_freed()
        if error is not None:
            self.items.append(records.Mark(f"exception: {said(error)}"))
        if self.warming:
            self.warming = []
        if self.open and error is not None:
            self.step_number += 1
            kind = "prefill" if self.step_number == 1 else "decode"
            self._commit(kind, self.request_number, self.step_number)
        self._end_open()
        self._setup()
        self.closed = True
        self.writer.close()
        forgotten = self._forgotten()
        if error is None and forgotten:
            self.notices.append(f"{self.path}: {forgotten}")

    def _forgotten(self) -> Optional[str]:
        """What the program seems to have left out, and what to do."""
        if not self.steps and self.parts:
            return "r.step() was never called, so all parts are one step: call it where each step ends"
        if not self.steps and self.watches:
            return "no step was recorded: call r.step() where each step ends, not within a warm-up"
        if not self.watches:
            what = "the steps hold no values" if self.steps else "nothing was recorded"
            return f"{what}: call r.watch(NAME, TENSOR) before the loop, and r.step() where each step ends"
        return None

    def abandon(self) -> None:
        self.writer.abandon()


def run_record(mode: str, model: str, prompt: str, rank: Optional[int], notes: Dict[str, str]) -> records.Run:
    """What the file says of this process."""
    torch = sys.modules.get("torch")
    versions = [f"python {'.'.join(map(str, sys.version_info[:3]))}", f"numpy {np.__version__}"]
    device = records.Device("host")
    if torch is not None and hasattr(torch, "__version__"):
        versions.append(f"torch {torch.__version__}")
        device = _torch_device(torch) or device
    told = [
        ("engine", "foreign"),
        ("process.command", " ".join(sys.argv) or sys.executable or ""),
        ("process.pid", str(os.getpid())),
        ("process.versions", ", ".join(versions)),
    ]
    if rank is not None:
        told.append(("process.rank", str(rank)))
    told += sorted(notes.items())
    return records.Run(
        tool=f"twinstep-python {__version__}", mode=mode, device=device, model=model, prompt=prompt, notes=told
    )


def _torch_device(torch: Any) -> Optional[records.Device]:
    """The GPU, where the program uses one already: asking must not start CUDA here."""
    try:
        if not torch.cuda.is_initialized():
            return None
        major, minor = torch.cuda.get_device_capability()
        return records.Device("cuda", torch.cuda.get_device_name(), f"{major}.{minor}", f"CUDA {torch.version.cuda}")
    except (AttributeError, RuntimeError, AssertionError):
        return None
