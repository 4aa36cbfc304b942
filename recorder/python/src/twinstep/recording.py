"""Recording a decode loop: the part that an engine's program calls."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
import weakref
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set

from . import attached, source, tensors
from .errors import TraceError
from .records import ROLE
from .standalone import Standalone, run_record

_NO_BRACKETS = str.maketrans("[]", "__")
_ROLES = tuple(role for role in ROLE.names if role not in ("weight", "table"))


def record(
    path=None,
    *,
    mode: str = "eager",
    model: str = "",
    prompt: str = "",
    force: bool = False,
    on_error: str = "raise",
    rank: Optional[int] = None,
    notes: Optional[Dict[str, str]] = None,
) -> "Recording":
    """Starts a recording.

    ::

        with twinstep.record("graph.twin", mode="graph") as r:
            r.watch("last_codes", engine.last_codes)
            for _ in range(steps):
                with r.launch("forward"):
                    engine.decode()
                r.step()

    ``path``: the trace. Under ``twinstep attach`` the preloaded library writes the file that the
    command line names, ``path`` may be ``None``, and another one is told in a warning. ``None`` in a
    process that is not attached: a warning, and nothing is recorded.
    ``mode``: how steps run: ``eager``, ``graph``, ``piecewise`` or a word of yours.
    ``model``, ``prompt``: what is compared before two runs are; empty: not compared.
    ``force``: replace a file that exists.
    ``on_error``: ``raise``, or ``warn`` to let the loop go on: without recording where the file
    cannot be created or written (a full disk), without a buffer that cannot be read, without what
    an attached library refuses.
    ``rank``: of this process among several; by default from ``RANK`` or ``LOCAL_RANK``, which are
    all that counts attached. Each process needs a file of its own: ``f"graph.rank{rank}.twin"``.
    ``notes``: more facts of the run, compared as such.

    Closing warns where parts ran or names were watched and ``step`` was never called, and where
    nothing was watched. A recording that the program drops or ends without is closed then.

    Raises :class:`TraceError` where the file exists (whatever ``on_error`` says) or cannot be
    created, ``ValueError`` for a wrong argument.
    """
    return Recording(path, mode, model, prompt, force, on_error, rank, notes or {})


def _rank() -> Optional[int]:
    for name in ("RANK", "LOCAL_RANK"):
        with contextlib.suppress(ValueError):
            rank = int(os.environ.get(name, ""))
            if 0 <= rank < 1 << 32:
                return rank
    return None


class _Nothing:
    """Where nothing is recorded: every call is answered with 0."""

    path, names, closed, warming = None, (), True, False

    def __init__(self):
        self.trouble: List[str] = []
        self.notices: List[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: 0


def _close_late(to: Standalone, lock: Any) -> None:
    """The program dropped the recording, or ends, and never closed it."""
    # Another thread may be within a call, for ever.
    if to.writer.stopped or not lock.acquire(timeout=5):
        return
    try:
        to.close(None if hasattr(sys, "ps1") else getattr(sys, "last_value", None))
    except TraceError as error:
        to.notices.append(str(error))
    finally:
        lock.release()
    for text in to.notices:
        _tell(text)


# The program's own line is what a warning names.
_NOT_THE_PROGRAMS = (os.path.dirname(__file__) + os.sep, contextlib.__file__)


def _tell(text: str) -> None:
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_PROGRAMS):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, RuntimeWarning, stacklevel=level)


class Recording:
    """A recording in progress, made by :func:`record`. Its methods may be called from any thread.

    Recording stops for good at the first write that fails: one :class:`TraceError` is raised (or
    warned of, with ``on_error="warn"``), and all later calls do nothing. What was recorded until
    then stays readable; so it does if the process is killed. A forked child records nothing. What is
    told after :meth:`close`, or after the ``with`` block, is not recorded: one warning says so.
    """

    def __init__(self, path, mode, model, prompt, force, on_error, rank, notes):
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error is raise or warn, not {on_error!r}")
        for what, text in (("mode", mode), ("model", model), ("prompt", prompt)):
            if not isinstance(text, str):
                raise ValueError(f"{what} is text, not a {type(text).__name__}")
        for key, value in notes.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"a note is text for text, not {key!r}: {value!r}")
            if key == "engine" or key.split(".")[0] in ("process", "source", "recorder"):
                raise ValueError(f"the note {key!r} is the recorder's own")
        if rank is None:
            rank = _rank()
        elif not hasattr(rank, "__index__") or not 0 <= rank < 1 << 32:
            raise ValueError(f"a rank is a number from 0, not {rank!r}")
        self._warn = on_error == "warn"
        self._lock = threading.RLock()
        self._done = False
        self._forked = False
        # The program closed it; and what it said after that was told.
        self._ended = self._told_ended = False
        # Calls of this package that are under way, in the thread that has the lock; and whether one of
        # them is to close the recording when it is done.
        self._within = 0
        self._closing = False
        self._requests: Set[str] = set()
        self._told_again = False
        library = attached.library()
        if library is not None:
            self._to: Any = attached.Attached(library, path, mode, model, prompt, notes)
        elif path is None:
            # A program with these lines in it runs unattached, too.
            _tell("nothing is recorded: this process is not attached, and record() was given no path")
            self._to = _Nothing()
        else:
            try:
                self._to = Standalone(path, run_record(mode, model, prompt, rank, notes), force, rank or 0)
                weakref.finalize(self, _close_late, self._to, self._lock)
            except TraceError as error:
                # A name that is taken is a mistake; a disk is not.
                if not self._warn or not isinstance(error.__cause__, OSError):
                    raise
                _tell(f"nothing is recorded: {error}")
                self._to = _Nothing()
        _live.add(self)

    def __reduce__(self):
        raise TypeError("a Recording cannot be copied or sent to another process: it has one file, here")

    @property
    def path(self) -> Optional[str]:
        """The trace's file, where it is known."""
        return self._to.path

    @property
    def attached(self) -> bool:
        """Whether a preloaded library records, not this package."""
        return isinstance(self._to, attached.Attached)

    @property
    def recording(self) -> bool:
        """False once closed, stopped by a write that failed, or in a forked child."""
        return not (self._done or self._forked or self._to.closed)

    def _records(self, call: str) -> bool:
        """Whether what a call tells is recorded. Once closed it is not, which the program hears once."""
        if self.recording:
            return True
        if self._ended and not (self._forked or self._told_ended):
            self._told_ended = True
            which = f"the recording {self.path}" if self.path else "the recording"
            _tell(f"r.{call}() is not recorded, nor are later calls: {which} was closed before")
        return False

    @contextlib.contextmanager
    def _call(self) -> Iterator[Any]:
        """The lock; and what a trouble of the recorder means for the program."""
        with self._lock:
            # Another thread may have closed it a moment ago.
            to = self._to if self.recording else _Nothing()
            if self._within and self._half_written():
                self._to.notices.append("a signal handler's call, while another call wrote to the file, is not recorded")
                to = _Nothing()
            self._within += 1
            try:
                yield to
            except TraceError as error:
                self._done = self._done or self._stopped()
                if not self._warn:
                    raise
                _tell(str(error))
            finally:
                self._within -= 1
            self._tell_trouble(to)
            if self._closing and not self._within:
                self._closing = False
                self._close(None)

    def _half_written(self) -> bool:
        return isinstance(self._to, Standalone) and self._to.writer.writing

    def _stopped(self) -> bool:
        return isinstance(self._to, Standalone) and self._to.writer.stopped

    def _tell_trouble(self, to: Any) -> None:
        trouble, to.trouble = to.trouble, []
        if trouble and not self._warn:
            raise TraceError("; ".join(trouble))
        notices, to.notices = to.notices, []
        for text in trouble + notices:
            _tell(text)

    # What is watched.

    def watch(self, name: str, tensor: Any, role: str = "state", address: bool = True) -> None:
        """Records a tensor under a name, from now on, at every point.

        ``tensor``: a PyTorch tensor, a NumPy array, an object with ``__cuda_array_interface__`` or
        ``__dlpack__``, a whole number; or a callable without arguments that gives one. A tensor is
        held while it is watched (attached, it is not); a callable is asked at each point, so give
        one where the engine rebinds or drops the tensor (``lambda: engine.last_codes``). Memory at
        another address, or of another shape or type, is a new generation of the name. Watching a
        name again rebinds it.
        ``role``: ``state``, ``input``, ``output`` or ``scratch``.
        ``address``: false where the callable makes a fresh array each time, whose address means
        nothing; and for a NumPy array that is resized in place, which NumPy refuses where its end is
        to be known.

        Attached, what is not in memory of the device (a NumPy array, a number) or is a strided view
        is left out of the recording: one warning and a mark in the trace name it and say why.

        Raises ``TypeError`` for what has no plain bytes, ``ValueError`` where a callable or the copy
        fails now, for a wrong role or a name that commands could not tell: control characters, ``@``
        (a generation), brackets (elements).
        """
        self._check_name(name)
        if role not in _ROLES:
            raise ValueError(f"{role!r} is no role: one of {', '.join(_ROLES)}")
        if self._records("watch"):
            with self._call() as to:
                to.watch(name, source.of_object(tensor, role, address, hold=not self.attached))

    def watch_module(self, module: Any, pattern: str = "*", prefix: str = "", role: str = "state") -> List[str]:
        """Records the tensors of a module whose dotted path matches a glob; gives their names.

        Buffers and parameters of a ``torch.nn.Module``, and tensors that are plain attributes of it
        or of a submodule (of any other object: its attributes). They are looked up at each point,
        so rebinding is noticed. What ``torch.compile`` made has the paths of what it was made of.
        ``prefix`` goes before each name. A path that cannot be written in
        commands is changed, with a warning: ``x[0]`` is ``x_0_``.

        >>> r.watch_module(model, "*_decode_*")  # doctest: +SKIP
        ['talker.last_decode_codes']

        Raises ``ValueError`` where nothing matches or a name is watched already, and what
        :meth:`watch` raises; none of them is watched then.
        """
        if not self._records("watch_module"):
            return []
        if prefix:
            self._check_name(prefix)
        found = source.of_module(module, pattern, role)
        if role not in _ROLES:
            raise ValueError(f"{role!r} is no role: one of {', '.join(_ROLES)}")
        if not found:
            there = sorted(source.of_module(module, "*", role))
            some = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
            raise ValueError(f"no tensor of the {type(module).__name__} matches {pattern!r}; there is {some or 'none'}")
        names: Dict[str, str] = {}
        for path in found:
            name = prefix + source.plain(path)
            if name in names:
                raise ValueError(f"{names[name]!r} and {path!r} would both be {name}: watch one by itself")
            names[name] = path
        with self._lock:
            for name in names:
                if name in self._to.names:
                    raise ValueError(f"{name} is watched already: pass a prefix")
            try:
                for name, path in names.items():
                    with self._call() as to:
                        to.watch(name, found[path])
                        if name != prefix + path:
                            text = f"{prefix + path!r} cannot be written in commands: it is recorded as {name}"
                            to.notices.append(text)
            except (TypeError, ValueError, TraceError):
                for name in names:
                    with contextlib.suppress(TraceError):
                        if name in self._to.names:
                            self._to.unwatch(name)
                raise
            return [name for name in names if name in self._to.names]

    def unwatch(self, name: str) -> None:
        """Records the name no longer. ``ValueError`` if it is not watched."""
        self._known(name, "unwatch")

    def free(self, name: str) -> None:
        """The engine gives back the name's memory; the name is watched no longer.

        Memory of PyTorch's that was watched through a callable or a module is noticed by itself.
        """
        self._known(name, "free")

    def _known(self, name: str, what: str) -> None:
        if self.recording:
            with self._call() as to:
                if name not in to.names and self.recording:
                    raise ValueError(f"{name!r} is not watched")
                getattr(to, what)(name)

    @staticmethod
    def _check_name(name: str) -> None:
        fault = source.fault(name)
        if fault:
            raise ValueError(f"{name!r} is no name of a buffer: {fault}")

    # What happens.

    def request(self, id: str = "", prompt: Iterable[int] = ()) -> None:
        """A new request begins; its steps count from 1.

        ``id``: the engine's own, by which two runs' requests are matched. ``prompt``: token ids.
        A loop that never calls this has one request. A request cannot be resumed: an ``id`` that
        began before begins another request, and one warning says so. What to do where requests
        take turns is in the package's README, "Requests that take turns".

        Raises ``ValueError`` for an ``id`` that is no text and a ``prompt`` of anything but token ids.
        """
        if not isinstance(id, str) or "\0" in id:
            raise ValueError("a request's id is text")
        try:
            tokens = list(tensors.whole_numbers(prompt))
        except TypeError as error:
            raise ValueError(f"a prompt is a list of token ids, whole numbers: {error}") from None
        if any(not 0 <= token < 1 << 32 for token in tokens):
            raise ValueError("token ids are numbers from 0 to 2^32 - 1")
        if self._records("request"):
            with self._call() as to:
                if id and not to.warming:
                    self._tell_again(id, to)
                to.request(id, tokens)

    def _tell_again(self, id: str, to: Any) -> None:
        """Two runs' requests are matched by ids that occur once: a loop that resumes them hears of it."""
        if id in self._requests and not self._told_again:
            self._told_again = True
            to.notices.append(
                f"request {id!r} began before and cannot be resumed: this is another request, with steps from 1, and "
                "`twinstep diff` matches such by prompt or number only. Call r.request() once for each; where they "
                'take turns, see "Requests that take turns" in the README of the package'
            )
        self._requests.add(id)

    def step(self, kind: Optional[str] = None) -> int:
        """The step that ran since the last call ends here; gives its number within the request.

        ``kind``: ``prefill`` or ``decode``; by default a request's first step is the prefill.
        Takes the snapshot ``step.after``; what a step is given, ``step.before``, is what the step
        before it left. The step is in the file when this returns. 0 in a warm-up, or where nothing
        is recorded.

        Raises :class:`TraceError` where the file cannot be written or a watched name not be read.
        """
        if kind not in (None, "prefill", "decode"):
            raise ValueError(f"{kind!r} is no kind of step: prefill or decode")
        number = 0
        if self._records("step"):
            with self._call() as to:
                number = to.step(kind)
        return number

    @contextlib.contextmanager
    def launch(self, name: str, stream: int = 0) -> Iterator[None]:
        """A named part of a step, with snapshots ``NAME.before`` and ``NAME.after``.

        The second time in a step they are ``NAME#2.before`` and ``NAME#2.after``. It ends within the
        step that it began in; where it does not, or ends by an exception, there is no ``NAME.after``.

        ``stream``: attached only, the CUDA stream that it runs on (``torch.cuda.current_stream().cuda_stream``).

        Raises :class:`TraceError` as :meth:`step` does; of a block that ends by an exception of the
        program's, that one goes on.

        >>> with r.launch("forward"):  # doctest: +SKIP
        ...     engine.decode()
        """
        fault = isinstance(name, str) and source.fault(name.translate(_NO_BRACKETS))
        if fault or not isinstance(name, str):
            raise ValueError(f"{name!r} is no name of a part of a step: {fault or 'text is due'}")
        if name == "step":
            raise ValueError("step.before and step.after are points of the whole step: give its part another name")
        part, begun = None, False
        if self._records("launch"):
            with self._call() as to:
                part = to.launch_begin(name, stream) if self.attached else to.launch_begin(name) or None
                begun = True
        failed = True
        try:
            yield
            failed = False
        finally:
            if begun and self.recording:
                with self._end_of(failed) as to:
                    if self.attached:
                        to.launch_end(name, stream)
                    else:
                        to.launch_end(part, failed)

    @contextlib.contextmanager
    def warmup(self, label: str = "") -> Iterator[None]:
        """What runs inside is set-up: warm-up, compilation, dummy runs. Its steps are not counted.

        >>> with r.warmup("compile"):  # doctest: +SKIP
        ...     engine.decode()
        ...     r.step()
        """
        if not isinstance(label, str) or "\0" in label:
            raise ValueError("a warm-up's label is text")
        begun = False
        if self._records("warmup"):
            with self._call() as to:
                to.warmup_begin(label)
                begun = True
        failed = True
        try:
            yield
            failed = False
        finally:
            if begun and self.recording:
                with self._end_of(failed) as to:
                    to.warmup_end()

    @contextlib.contextmanager
    def _end_of(self, failed: bool) -> Iterator[Any]:
        """As :meth:`_call`. A block that ``failed`` ends by the program's exception, which matters more than ours."""
        try:
            with self._call() as to:
                yield to
        except TraceError as error:
            if not failed:
                raise
            with contextlib.suppress(RuntimeWarning):
                _tell(str(error))

    def host_write(self, name: str, values: Any, offset: int = 0) -> None:
        """Notes that the host wrote ``values`` to a watched buffer, ``offset`` in bytes.

        It writes nothing itself. ``values`` has the buffer's element type. Attached, the library
        sees copies by itself and this does nothing.

        Raises ``ValueError`` where the name is not watched, the values are of another type or their
        bytes lie outside it.
        """
        given = tensors.tensor(values)
        if self._records("host_write") and not self.attached:
            with self._call() as to:
                to.host_write(name, given, offset)

    def mark(self, text: str) -> None:
        """A note at this place of the run, shown in its log."""
        text = str(text).replace("\0", "\\0")
        if self._records("mark"):
            with self._call() as to:
                to.mark(text)

    def reexecute(self, step: int, patch: Optional[Dict[str, Any]] = None, request: int = 1,
                  graph_launch: int = 0, stop_after: Optional[int] = None) -> "Dict[str, attached.Output]":  # fmt: skip
        """Executes a recorded step's graph launch again in this process, with buffers replaced.

        Attached only. Restores what the step was given, puts in ``patch`` (name: tensor of the same
        type and size), launches the graph, and puts the process's memory back. ``graph_launch``
        counts the step's graph launches from 0; ``stop_after`` runs the graph's nodes up to that one
        only. Gives, by name, what the buffers hold then. Waits for the device.

        >>> out = r.reexecute(2, patch={"last_codes": eager_codes})  # doctest: +SKIP
        >>> out["logits"].equal_to_recorded  # doctest: +SKIP
        False

        Raises :class:`TraceError` where the process is not attached or the library cannot do it.
        """
        with self._lock:
            if not self.recording:
                raise TraceError("this recording has ended")
            return self._to.reexecute(request, step, graph_launch, stop_after, patch or {})

    def flush(self) -> None:
        """Attached: waits, bounded, until what has completed on the device is in the file."""
        if self.recording:
            with self._call() as to:
                to.flush()

    # The end.

    def close(self) -> None:
        """Ends the recording and closes the file. A second call does nothing.

        From a signal handler it is done when the call that the signal came amid is.
        """
        self._close(None)

    def _close(self, error: Optional[BaseException]) -> None:
        if self.recording:
            with self._lock:
                if self._within:
                    # From a signal handler or a watched callable: the call that it came amid ends first.
                    self._closing = True
                    return
            with self._call() as to:
                self._done = self._ended = True
                to.close(error)

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        try:
            self._close(error)
        except TraceError:
            # The program's own exception matters more.
            if error is None:
                raise
        return False

    def _after_fork(self) -> None:
        """In a child the file is the parent's: nothing may be written to it."""
        self._lock = threading.RLock()
        self._within, self._closing = 0, False
        if self.recording:
            self._forked = True
            self._to.abandon()


_live: "weakref.WeakSet[Recording]" = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_live):
        one._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
