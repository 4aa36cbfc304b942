"""Writes one trace: records and contents in, an append-only file out (FORMAT.md, "Commit and recovery")."""

from __future__ import annotations

import functools
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from . import encoding, layout, records
from .errors import TraceError
from .hash import chunk_hash, chunk_hashes, hash_each

try:
    import fcntl
except ImportError:  # no locks on this system: a live recording cannot be told from a killed one
    fcntl = None

# Collected before they are appended in one go; a commit always appends what there is.
_APPEND_BYTES = 1 << 20

# Buffers of one chunk up to this size are hashed together.
SMALL_BYTES = 4096

# The recorder's own: equal chunks let two traces be compared by hashes.
_MAX_CHUNK_BYTES = 4096

# Copied, hashed and stored at a time.
_BLOCK_BYTES = 1 << 20

# Buffers from this size on are hashed by two threads: NumPy lets the other run meanwhile. More wait
# for Python's lock: on an Intel Xeon one hashed 589 MB/s, two 944, four 737.
_THREADED_BYTES = 8 << 20
_THREADS = 2

_UNKNOWN = 0xFFFFFFFF


def chunk_bytes_of(size: int) -> int:
    """The chunk of a buffer of ``size`` bytes: a power of two from 64 to 4096."""
    return min(max(64, 1 << max(0, size - 1).bit_length()), _MAX_CHUNK_BYTES)


def _hashed_blocks(data: np.ndarray, chunk_bytes: int) -> Iterator[Tuple[int, np.ndarray, np.ndarray]]:
    """(place, bytes, chunk hashes) of a buffer's blocks in order; large buffers on two threads."""

    def hashed(first: int) -> Tuple[int, np.ndarray, np.ndarray]:
        # The engine may write to it meanwhile: hash and bytes must be of one moment.
        block = data[first : first + _BLOCK_BYTES].copy()
        return first, block, chunk_hashes(block, chunk_bytes)

    places = range(0, data.size, _BLOCK_BYTES)
    workers = min(_THREADS, os.cpu_count() or 1)
    if data.size < _THREADED_BYTES or workers == 1:
        yield from map(hashed, places)
        return
    with ThreadPoolExecutor(workers) as pool:
        # A few at a time, so that a buffer is never copied whole.
        for first in range(0, len(places), 2 * workers):
            try:
                done = pool.map(hashed, places[first : first + 2 * workers])
            except RuntimeError:
                # The main thread has ended: there are no more new threads, and others may record on.
                yield from map(hashed, places[first:])
                return
            yield from done


def _whole(method):
    """Of a method that writes: cut off in its middle (Ctrl-C, no memory) it stops the recording.

    What would be written after half of a frame could not be read.
    """

    @functools.wraps(method)
    def wrapped(self, *arguments):
        self.writing = True
        try:
            return method(self, *arguments)
        except TraceError:
            raise
        except BaseException as error:
            self.abandon()
            self._why = f": {type(error).__name__} cut it off; {self._kept()}"
            if isinstance(error, Exception):
                raise TraceError(f"{self.path}: recording stopped: {type(error).__name__}: {error}; {self._kept()}") from error
            raise
        finally:
            self.writing = False

    return wrapped


class _Watched:
    """What the writer knows of a buffer: contents of its chunks now, and at the last snapshot that covers it."""

    def __init__(self, buffer: records.Buffer):
        self.bytes, self.chunk_bytes, self.chunks = buffer.bytes, buffer.chunk_bytes, buffer.chunks
        self.label = buffer.label
        # Both empty until the buffer is first observed; then one entry a chunk.
        self.hashes: Optional[np.ndarray] = None
        self.now: Optional[np.ndarray] = None
        self.written: Optional[np.ndarray] = None


class TraceWriter:
    """A trace being recorded at ``path``.

    An existing file is refused unless ``force``; it is then replaced by a rename once the new
    one's first commit is in it. Contents are taken with :meth:`observe`, and a later
    :meth:`snapshot` tells what buffers held then. Every method raises :class:`TraceError` where
    the file cannot be written; after that every further call fails, and the file opens at its
    last commit.
    """

    def __init__(self, path, run: records.Run, force: bool = False):
        self.path = os.fsdecode(path)
        self.stopped = False
        # A frame may be half written: a signal handler of the program's can run then.
        self.writing = False
        self._why = ""
        self._offset = 0
        self._pending = bytearray()
        self._checksum = 0
        self._commit = (0, 0, 0)  # sequence of the next, end of the last, its checksum
        self._committed_steps = 0
        # Until there is a commit at ``path``: what is there then.
        self._else: Optional[str] = ""
        self._tables: Dict[str, list] = {name: [] for _, name, _ in layout.TABLES}
        self._buffers: List[_Watched] = []
        self._names: Dict[bytes, int] = {}
        self._programs: Dict[Tuple[bytes, int], int] = {}
        self._items: List[int] = []
        self._contents: Dict[bytes, int] = {}
        self._file = -1
        self._open(run, force)

    def _open(self, run: records.Run, force: bool) -> None:
        exists = os.path.lexists(self.path)
        target = os.path.realpath(self.path) if exists else self.path
        try:
            if exists and not force:
                raise TraceError(f"{self.path} exists: name another file, or pass force=True to replace it")
            if exists and os.path.exists(target):
                if not os.path.isfile(target):
                    raise TraceError(f"{self.path} is no regular file")
                self._refuse_live(target)
            folder, name = os.path.split(target)
            self._else = "; the file that is there stays as it is" if exists else ""
            first = os.path.join(folder, f".{name}.{os.getpid()}") if exists else target
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            self._file = os.open(first, flags, 0o666)
        except OSError as error:
            raise TraceError(f"{self.path} cannot be created: {error.strerror or error}") from error
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    pass  # a file system without locks is no reason not to record
            self._put(layout.header())
            self._tables["run"].append(self._record(layout.RUN, records.RUN, run))
            self._commit_now()
            if first != target:
                os.replace(first, target)
            self._else = None
        except BaseException as error:
            # This file was made a moment ago, here; the error is what matters.
            self.abandon()
            try:
                os.unlink(first)
            except OSError:
                pass
            if isinstance(error, OSError):
                raise TraceError(f"{self.path} cannot be replaced: {error.strerror or error}{self._else}") from error
            raise

    def _refuse_live(self, target: str) -> None:
        if fcntl is None:
            return
        file = os.open(target, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TraceError(f"{self.path} is being recorded by another process") from None
        except OSError:
            pass
        finally:
            os.close(file)

    def abandon(self) -> None:
        """Lets go of the file without writing to it, as a forked child must."""
        self.stopped = True
        self._pending = bytearray()
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)

    # Appending.

    def _put(self, part) -> None:
        if self.stopped:
            raise TraceError(f"{self.path}: recording has stopped{self._why}")
        self._checksum = zlib.crc32(part, self._checksum)
        self._offset += len(part)
        if len(part) >= _APPEND_BYTES:
            self._flush()
            self._append(part)
        else:
            self._pending += part
            if len(self._pending) >= _APPEND_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            part, self._pending = self._pending, bytearray()
            self._append(part)

    def _append(self, part) -> None:
        view = memoryview(part)
        try:
            while len(view):
                view = view[os.write(self._file, view) :]
        except OSError as error:
            # A later append would leave a hole before it.
            self.abandon()
            reason = error.strerror or error
            if self._else is not None:
                raise TraceError(f"{self.path} cannot be written: {reason}{self._else}") from error
            raise TraceError(f"{self.path}: recording stopped: {reason}; {self._kept()}") from error

    def _kept(self) -> str:
        """What a file is that was stopped."""
        steps = self._committed_steps
        return f"the file keeps its first {steps} steps" if steps else "the file keeps no step"

    def _frame(self, kind: int, parts) -> int:
        """Appends a frame and gives its offset."""
        offset = self._offset
        parts = [memoryview(part).cast("B") if len(part) else b"" for part in parts]
        self._put(layout.frame_header(kind, parts))
        for part in parts:
            self._put(part)
        length = self._offset - offset
        if length % 8:
            self._put(bytes(-length % 8))
        return offset

    def _record(self, kind: int, schema, value) -> int:
        return self._frame(kind, [encoding.encode(schema, value)])

    # Records.

    @_whole
    def add_buffer(self, buffer: records.Buffer) -> int:
        """Adds an allocation of a named buffer and gives its number."""
        fault = buffer.fault()
        # As the file has it: surrogates are escaped there.
        label = encoding.encode(encoding.TEXT, buffer.label)
        if fault is None and label in self._names:
            fault = f"buffer {self._names[label]} has that name and generation already"
        if fault:
            raise TraceError(f"buffer {buffer.label}: {fault}")
        number = self._next("buffers")
        self._tables["buffers"].append(self._record(layout.BUFFER, records.BUFFER, buffer))
        self._names[label] = number
        self._buffers.append(_Watched(buffer))
        return number

    @_whole
    def add_program(self, items: Sequence) -> int:
        """Stores a program, unless an equal one is stored already, and gives its number."""
        encoded = encoding.encode(records.PROGRAM, records.Program(list(items)))
        key = (chunk_hash(encoded), len(encoded))
        number = self._programs.get(key)
        if number is None:
            number = self._next("programs")
            self._tables["programs"].append(self._frame(layout.PROGRAM, [encoded]))
            self._programs[key] = number
            self._items.append(len(items))
        return number

    @_whole
    def add_graph(self, graph: records.Graph) -> None:
        """Adds a captured graph; its ``id`` is the number of graphs before it."""
        if graph.id != len(self._tables["graphs"]) or graph.program >= len(self._items):
            raise TraceError(f"graph {graph.id} is not the next one, or has no program")
        self._tables["graphs"].append(self._record(layout.GRAPH, records.GRAPH, graph))

    @_whole
    def add_request(self, request: records.Request) -> None:
        self._tables["requests"].append(self._record(layout.REQUEST, records.REQUEST, request))

    def _next(self, table: str, more: int = 1) -> int:
        count = len(self._tables[table])
        if count + more > 0xFFFFFFFF:
            raise TraceError(f"a trace can hold no more {table}")
        return count

    # Contents.

    def observe(self, pieces: Sequence[Tuple[int, np.ndarray]]) -> None:
        """Takes what buffers hold now: (buffer, all its bytes as contiguous ``uint8``).

        Only chunks whose contents are not in the file yet are stored.
        """
        for number, data in pieces:
            if data.size != self._buffers[number].bytes:
                label = self._buffers[number].label
                raise TraceError(f"{data.size} bytes are given for {label} of {self._buffers[number].bytes}")
        small, large = [], []
        for number, data in pieces:
            buffer = self._buffers[number]
            if buffer.now is None:
                buffer.hashes = np.zeros((buffer.chunks, 2), np.uint64)
                buffer.now = np.full(buffer.chunks, _UNKNOWN, np.uint32)
            if 0 < data.size <= SMALL_BYTES and buffer.chunks == 1:
                small.append((buffer, data.copy()))
            else:
                large.append((buffer, data))
        for (buffer, data), one in zip(small, hash_each([data for _, data in small])):
            self._observe(buffer, 0, data, one[None])
        for buffer, data in large:
            size = buffer.chunk_bytes
            for first, block, hashes in _hashed_blocks(data, size):
                self._observe(buffer, first // size, block, hashes)

    @_whole
    def _observe(self, buffer: _Watched, first: int, data: np.ndarray, hashes: np.ndarray) -> None:
        """Enters the chunks from ``first`` on, whose bytes are ``data``."""
        places = slice(first, first + len(hashes))
        now = buffer.now[places]
        changed = np.flatnonzero((hashes != buffer.hashes[places]).any(axis=1) | (now == _UNKNOWN)).tolist()
        if not changed:
            return
        fresh: List[int] = []
        count = len(self._contents)
        size = buffer.chunk_bytes
        keys = hashes.tobytes()
        for chunk in changed:
            length = min(size, data.size - chunk * size)
            key = keys[16 * chunk : 16 * chunk + 16] + length.to_bytes(4, "little")
            content = self._contents.setdefault(key, count)
            if content == count:
                fresh.append(chunk)
                count += 1
                if count >= _UNKNOWN:
                    self.abandon()
                    raise TraceError("a trace can hold no more contents")
            now[chunk] = content
        buffer.hashes[places] = hashes
        if fresh:
            self._store(size, data, hashes, fresh)

    def _store(self, size: int, data: np.ndarray, hashes: np.ndarray, fresh: List[int]) -> None:
        """Appends a chunks frame with the chunks ``fresh`` of ``data``, ``size`` bytes each."""
        heads = np.zeros(len(fresh), layout.CHUNK)
        heads["hash"] = hashes[fresh]
        heads["length"] = [min(size, data.size - chunk * size) for chunk in fresh]
        # All but the last have a multiple of 8 bytes, so what is contiguous in the buffer is so in the frame.
        parts, first = [layout.CHUNKS_HEAD.pack(len(fresh), 0), heads.tobytes()], 0
        for n in range(1, len(fresh) + 1):
            if n == len(fresh) or fresh[n] != fresh[n - 1] + 1:
                parts.append(data[fresh[first] * size : (fresh[n - 1] + 1) * size])
                first = n
        tail = -int(heads["length"][-1]) % 8
        if tail:
            parts.append(bytes(tail))
        offset = self._frame(layout.CHUNKS, parts)
        rows = np.zeros(len(fresh), layout.CONTENT_ENTRY)
        rows["hash"], rows["length"] = heads["hash"], heads["length"]
        lengths = heads["length"].astype(np.uint64)
        lengths += (-lengths) & np.uint64(7)
        ends = np.cumsum(lengths)
        rows["offset"] = np.uint64(offset + layout.FRAME_BYTES + 8 + heads.nbytes) + ends - lengths
        self._tables["contents"].append(rows)

    @_whole
    def snapshot(self, covered: Sequence[int]) -> int:
        """Tells what the buffers ``covered`` held when last observed; gives the snapshot's number."""
        number = self._next("snapshots")
        covered = sorted(set(covered))
        changes = []
        for b in covered:
            buffer = self._buffers[b]
            if buffer.now is None:
                raise TraceError(f"{buffer.label} was never looked at")
            if buffer.written is None:
                chunks = np.arange(buffer.chunks)
            else:
                chunks = np.flatnonzero(buffer.now != buffer.written)
            if len(chunks):
                rows = np.zeros(len(chunks), layout.CHANGE)
                rows["buffer"], rows["chunk"], rows["content"] = b, chunks, buffer.now[chunks]
                changes.append(rows)
            buffer.written = buffer.now.copy()
        rows = np.concatenate(changes) if changes else np.zeros(0, layout.CHANGE)
        head = layout.SNAPSHOT_HEAD.pack(number, len(covered), len(rows), 0)
        listed = np.array(covered, "<u4").tobytes()
        listed += bytes(-len(listed) % 8)
        self._tables["snapshots"].append(self._frame(layout.SNAPSHOT, [head, listed, rows.tobytes()]))
        versions = np.zeros(len(rows), layout.VERSION_ENTRY)
        for name in ("chunk", "buffer", "content"):
            versions[name] = rows[name]
        versions["snapshot"] = number
        self._tables["versions"].append(versions)
        return number

    # Commits.

    @_whole
    def commit_step(self, step: records.Step) -> None:
        """Writes a step's record and the commit that makes all since the last one part of the trace."""
        self._next("steps")
        offset = self._record(layout.STEP, records.STEP, step)
        self._tables["steps"].append((offset, step.request, step.step))
        self._commit_now()
        self._committed_steps += step.kind != "setup"

    def _commit_now(self) -> None:
        sequence, start, previous = self._commit
        end, checksum = self._offset, self._checksum
        self._frame(
            layout.COMMIT,
            [layout.COMMIT_PAYLOAD.pack(layout.COMMIT_SIGNATURE, sequence, start, end, checksum, previous)],
        )
        self._commit = (sequence + 1, self._offset, checksum)
        self._checksum = 0
        self._flush()

    @_whole
    def close(self) -> None:
        """Commits what is left, writes index and footer and waits until the disk has them."""
        if self._offset != self._commit[1]:
            self._commit_now()
        committed = self._offset
        tables = sorted_tables(self._tables)
        directory = np.zeros(len(layout.TABLES), layout.DIRECTORY)
        for n, (table, name, entry) in enumerate(layout.TABLES):
            rows = tables[name]
            directory[n] = (table, entry.itemsize, self._frame(layout.INDEX, [rows.tobytes()]), len(rows))
        head = layout.FOOTER_HEAD.pack(committed, len(directory), 0)
        trailer = layout.TRAILER.pack(self._offset, layout.FOOTER_SIGNATURE)
        self._frame(layout.FOOTER, [head, directory.tobytes(), trailer])
        self._flush()
        try:
            os.fsync(self._file)
        except OSError as error:
            self.abandon()
            raise TraceError(f"{self.path}: the disk did not take the file: {error.strerror or error}") from error
        self.abandon()


def sorted_tables(tables: Dict[str, list]) -> Dict[str, np.ndarray]:
    """The index's tables as arrays, in the order in which they are searched."""
    out = {}
    for _, name, entry in layout.TABLES:
        rows = tables[name]
        if name in ("contents", "versions"):
            out[name] = np.concatenate(rows) if rows else np.zeros(0, entry)
        else:
            out[name] = np.array(rows, entry)
    versions = out["versions"]
    out["versions"] = versions[np.lexsort((versions["snapshot"], versions["chunk"], versions["buffer"]))]
    steps = out["steps"]
    order = np.lexsort((np.arange(len(steps)), steps["step"], steps["request"]))
    out["step_order"] = order.astype(layout.ORDER_ENTRY)
    return out
