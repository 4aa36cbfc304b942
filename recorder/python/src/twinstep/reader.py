"""Reads a trace: records as objects, buffers as arrays over the mapped file."""

from __future__ import annotations

import mmap
import os
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from . import encoding, layout, records
from .errors import TraceError
from .hash import chunk_hashes, hash_each
from .recovery import parse_snapshot, recover

# A buffer read whole, as FORMAT.md limits it.
_MAX_READ_BYTES = 4 << 30

# Tables of the index with a row for each chunk: to open a trace does not take reading them.
_LARGE_TABLES = ("contents", "versions")

_NUMPY = {
    "f32": "<f4", "f16": "<f2", "bf16": "<u2", "i64": "<i8", "i32": "<i4",
    "u32": "<u4", "u64": "<u8", "u8": "|u1", "bool": "|b1",
}  # fmt: skip


class Values(np.ndarray):
    """An array with the format's name of its element type.

    ``dtype_name`` is ``bf16`` where ``dtype`` can only say ``uint16``. Views keep it; results of
    arithmetic do too, so ask the array that was read.
    """

    dtype_name: Optional[str] = None

    def __array_finalize__(self, source) -> None:
        self.dtype_name = getattr(source, "dtype_name", None)


class Trace:
    """A trace file, open for reading.

    Opens at the last commit if the recording was killed (``complete`` is then false). The file is
    mapped: only what is looked at is read, and a program that shortens the file at that moment
    ends this process.

    All that is handed out was compared with its checksum, contents of buffers with their hash (each
    once). Every method raises :class:`TraceError` for what is damaged, for a file that makes
    no sense and for what it does not have.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self._map: Any = b""
        self._records_cache: Optional[Tuple[records.Step, ...]] = None
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise TraceError(f"{self.path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
        self._data = memoryview(self._map)
        try:
            layout.check_header(self._data)
            found = _find_index(self._data)
            self.complete = found is not None
            self._tables, self.committed, self._unchecked = found or (*recover(self._data), {})
            # Contents that were found to have their hash.
            self._believed = np.zeros(len(self._tables["contents"]), np.bool_)
            if not self.committed or not len(self._tables["run"]):
                raise TraceError("nothing was recorded: there is no commit")
            self.info: records.Run = self._records("run", layout.RUN, records.RUN)[0]
            self.buffers: Tuple[records.Buffer, ...] = tuple(
                self._records("buffers", layout.BUFFER, records.BUFFER)
            )
            self.requests: Tuple[records.Request, ...] = tuple(
                self._records("requests", layout.REQUEST, records.REQUEST)
            )
        except TraceError as error:
            self.close()
            raise TraceError(f"{self.path}: {error}") from None
        self._rows: Dict[int, np.ndarray] = {}

    def close(self) -> None:
        """Lets go of the file; arrays that were read keep what they need of it."""
        self._tables: Dict[str, np.ndarray] = {}
        self._records_cache = None
        self._rows = {}
        data, self._data = self._data, memoryview(b"")
        mapped, self._map = self._map, b""
        try:
            data.release()
            if isinstance(mapped, mmap.mmap):
                mapped.close()
        except BufferError:
            pass  # arrays still look at it; the last one that goes unmaps it

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        what = f"{len(self.steps)} steps of {self.info.mode}" if self._tables else "closed"
        return f"<twinstep.Trace {self.path!r}, {what}>"

    def _table(self, name: str) -> np.ndarray:
        """A table of the index. The large ones are compared with their checksums when first asked for."""
        if name not in self._tables:
            raise TraceError(f"{self.path} is closed")
        frame = self._unchecked.get(name)
        if frame is not None:
            try:
                frame.check(self._data)
                del self._unchecked[name]
            except TraceError:
                # The index repeats what the frames say: do without it.
                tables, committed = recover(self._data)
                if committed != self.committed:
                    raise TraceError(
                        f"{self.path}: the index is damaged, and so is the file from byte {committed} on"
                    ) from None
                self._tables, self._unchecked, self.complete = tables, {}, False
                self._believed = np.zeros(len(tables["contents"]), np.bool_)
        return self._tables[name]

    # Records.

    def _records(self, table: str, kind: int, schema) -> List[Any]:
        """All records of a table. They must lie in order and apart, or one could be decoded often."""
        out, end = [], 0
        for offset in self._offsets(table).tolist():
            if offset < end:
                raise TraceError(f"byte {offset}: records of the index overlap")
            frame = layout.read_frame(self._data, offset, self.committed, kind)
            out.append(self._decode(frame, schema))
            end = frame.end
        return out

    def _offsets(self, table: str) -> np.ndarray:
        rows = self._table(table)
        return rows["offset"] if rows.dtype.names else rows

    def _decode(self, frame: layout.Frame, schema):
        try:
            return encoding.decode(schema, frame.check(self._data))
        except TraceError as error:
            raise TraceError(f"byte {frame.offset}: {error}") from None

    def _one(self, table: str, number: int, kind: int) -> layout.Frame:
        rows = self._table(table)
        if not 0 <= number < len(rows):
            raise TraceError(f"{self.path} has {len(rows)} {table}, not number {number}")
        return layout.read_frame(self._data, int(rows[number]), self.committed, kind)

    @property
    def records(self) -> Tuple[records.Step, ...]:
        """All step records in order of recording, set-up and warm-up included."""
        if self._records_cache is None:
            self._records_cache = tuple(self._records("steps", layout.STEP, records.STEP))
        return self._records_cache

    @property
    def steps(self) -> Tuple[records.Step, ...]:
        """The steps of requests, in order of recording."""
        return tuple(step for step in self.records if step.kind != "setup")

    def items(self, step: records.Step) -> List[Any]:
        """What a step ran, in order: launches, captures, allocations, marks (classes of ``twinstep.records``)."""
        return self.program(step.program)

    def program(self, number: int) -> List[Any]:
        """Items of program ``number``."""
        return self._decode(self._one("programs", number, layout.PROGRAM), records.PROGRAM).items

    @property
    def graphs(self) -> Tuple[records.Graph, ...]:
        """Captured graphs."""
        return tuple(self._records("graphs", layout.GRAPH, records.GRAPH))

    @property
    def snapshot_count(self) -> int:
        """Number of snapshots; they are numbered from 0."""
        return len(self._table("snapshots"))

    # Contents.

    def step(self, step: int, request: int = 1) -> records.Step:
        """The record of a step, counted from 1 within its request."""
        for record in self.records:
            if (record.request, record.step) == (request, step) and record.kind != "setup":
                return record
        raise TraceError(f"{self.path} has no step {step} of request {request}")

    def covered(self, snapshot: int) -> Tuple[int, ...]:
        """Numbers of the buffers that a snapshot vouches for."""
        payload = self._one("snapshots", snapshot, layout.SNAPSHOT).check(self._data)
        return tuple(parse_snapshot(payload)[1].tolist())

    def buffer(self, name: str, step: int, point: str = "step.after", request: int = 1) -> Values:
        """What a buffer held at a point of a step.

        ``name``: ``last_codes``, or ``last_codes@1`` for a generation; a bare name means the newest
        generation there. ``step``: counted from 1 within ``request``, itself counted from 1.
        ``point``: ``step.before``, ``step.after``, or around a launch ``forward.before``.

        Returns a read-only array of the buffer's shape. bf16 comes as ``uint16`` with
        ``dtype_name == "bf16"``; an element type that the format does not name comes as its bytes
        along one more axis, and ``.view()`` gives it back.

        >>> trace.buffer("last_codes", step=2)  # doctest: +SKIP
        Values([[ 90, 512, 512, 512]])
        """
        record = self.step(step, request)
        snapshot = record.snapshot(point)
        if snapshot is None:
            there = ", ".join(p.point for p in record.points) or "no point"
            raise TraceError(f"step {request}:{step} has no point {point}: it has {there}")
        found = None
        for number in self.covered(snapshot):
            if number < len(self.buffers):
                one = self.buffers[number]
                if name == one.label or (name == one.name and (found is None or one.generation > found[1])):
                    found = (number, one.generation)
        if found is None:
            raise TraceError(f"{name} is not recorded at {point} of step {request}:{step}{self._first(name)}")
        return self.read(snapshot, found[0])

    def _first(self, name: str) -> str:
        """Where a name is recorded first, in words; nothing where it never is."""
        numbers = {n for n, one in enumerate(self.buffers) if name in (one.name, one.label)}
        for record in self.steps if numbers else ():
            for point in record.points:
                if numbers.intersection(self.covered(point.snapshot)):
                    return f"; its first point is {point.point} of step {record.request}:{record.step}"
        return ""

    def read(self, snapshot: int, buffer: int) -> Values:
        """What buffer number ``buffer`` held at snapshot number ``snapshot``; see :meth:`buffer`."""
        if not 0 <= buffer < len(self.buffers) or buffer not in self.covered(snapshot):
            raise TraceError(f"snapshot {snapshot} does not cover buffer {buffer}")
        record = self.buffers[buffer]
        fault = record.fault()
        if fault:
            raise TraceError(f"buffer {record.label}: {fault}")
        if record.bytes > _MAX_READ_BYTES:
            raise TraceError(f"buffer {record.label} has {record.bytes} bytes, over the limit of {_MAX_READ_BYTES}")
        data = self._bytes(snapshot, buffer, record)
        values = data.view(_NUMPY[record.dtype])
        try:
            values = values.reshape(record.shape)
        except ValueError as error:
            raise TraceError(f"buffer {record.label} is no array for NumPy: {error}") from None
        values.flags.writeable = False
        values = values.view(Values)
        values.dtype_name = record.dtype
        return values

    def _bytes(self, snapshot: int, buffer: int, record: records.Buffer) -> np.ndarray:
        table = self._table("contents")
        rows = self._versions(buffer)
        rows = rows[(rows["snapshot"] <= snapshot) & (rows["chunk"] < record.chunks)]
        chunks = record.chunks
        if len(rows) < chunks:
            raise TraceError(f"{record.label}: not all of its chunks are there at snapshot {snapshot}")
        newest = np.full(chunks, -1, np.int64)
        # Rows ascend by snapshot within a chunk, and the last of several assignments holds.
        newest[rows["chunk"].astype(np.int64)] = rows["content"]
        if (newest < 0).any() or (newest >= len(table)).any():
            raise TraceError(f"{record.label}: not all of its chunks are there at snapshot {snapshot}")
        places = table[newest]
        size = record.chunk_bytes
        out = None if chunks == 1 else np.empty(record.bytes, np.uint8)
        for chunk, (offset, length) in enumerate(zip(places["offset"].tolist(), places["length"].tolist())):
            if length != min(size, record.bytes - chunk * size) or offset + length > self.committed:
                raise TraceError(f"{record.label}: the content of chunk {chunk} does not fit it")
            piece = np.frombuffer(self._data, np.uint8, length, offset)
            if out is None:
                out = piece
            else:
                out[chunk * size : chunk * size + length] = piece
        self._believe(out, newest, places, record)
        return out

    def _believe(self, data: np.ndarray, contents: np.ndarray, places: np.ndarray, record: records.Buffer) -> None:
        """Compares a buffer's chunks with their hashes, each content once."""
        fresh, chunks = np.unique(contents, return_index=True)
        unknown = ~self._believed[fresh]
        fresh, chunks = fresh[unknown], chunks[unknown]
        if not len(fresh):
            return
        size = record.chunk_bytes
        if len(chunks) == len(contents) and size >= 4:
            hashes = chunk_hashes(data, size)[chunks]
        else:
            hashes = hash_each([data[chunk * size : (chunk + 1) * size] for chunk in chunks.tolist()])
        wrong = np.flatnonzero((hashes != places["hash"][chunks]).any(axis=1))
        if len(wrong):
            chunk = int(chunks[wrong[0]])
            offset = int(places["offset"][chunk])
            raise TraceError(f"{record.label}: the content of chunk {chunk}, at byte {offset} of the file, is damaged")
        self._believed[fresh] = True

    def _versions(self, buffer: int) -> np.ndarray:
        """Rows of the version table for a buffer."""
        if buffer not in self._rows:
            table = self._table("versions")
            rows = table[_first_at(table, buffer) : _first_at(table, buffer + 1)]
            self._rows[buffer] = rows[rows["buffer"] == buffer]
        return self._rows[buffer]


def _first_at(table: np.ndarray, buffer: int) -> int:
    """The first row of a buffer not below ``buffer``. Ends whether or not the table is sorted."""
    low, high = 0, len(table)
    while low < high:
        middle = (low + high) // 2
        if table[middle]["buffer"] < buffer:
            low = middle + 1
        else:
            high = middle
    return low


def _find_index(data) -> Optional[Tuple[Dict[str, np.ndarray], int, Dict[str, layout.Frame]]]:
    """The tables that the file's last bytes point to, where the committed bytes end, and tables not checked yet."""
    size = len(data)
    if size < layout.HEADER_BYTES + layout.TRAILER.size:
        return None
    footer, signature = layout.TRAILER.unpack_from(data, size - layout.TRAILER.size)
    if signature != layout.FOOTER_SIGNATURE:
        return None
    try:
        frame = layout.read_frame(data, footer, size, layout.FOOTER)
        payload = frame.check(data)
        if frame.end != size or len(payload) < layout.FOOTER_HEAD.size + layout.TRAILER.size:
            return None
        committed, tables, _ = layout.FOOTER_HEAD.unpack_from(payload)
        room = len(payload) - layout.FOOTER_HEAD.size - layout.TRAILER.size
        if not layout.HEADER_BYTES <= committed <= footer or tables > room // layout.DIRECTORY.itemsize:
            return None
        directory = np.frombuffer(payload, layout.DIRECTORY, tables, layout.FOOTER_HEAD.size)
        listed = {int(row["table"]): row for row in directory[::-1]}
        out, unchecked = {}, {}
        for number, name, entry in layout.TABLES:
            row = listed[number]
            offset, count = int(row["offset"]), int(row["count"])
            part = layout.read_frame(data, offset, footer, layout.INDEX)
            if offset < committed or row["entry_bytes"] != entry.itemsize or count * entry.itemsize != part.length:
                return None
            if name in _LARGE_TABLES:
                unchecked[name] = part
            else:
                part.check(data)
            out[name] = np.frombuffer(data, entry, count, part.at)
        return out, committed, unchecked
    except (TraceError, KeyError):
        return None


def open_trace(path) -> Trace:
    """Opens a trace for reading, as ``twinstep.open``.

    >>> trace = twinstep.open("graph.twin")  # doctest: +SKIP
    >>> trace.steps[0].kind, trace.info.mode  # doctest: +SKIP
    ('prefill', 'graph')

    Raises :class:`TraceError` where the file cannot be read, is no trace or holds none.
    """
    return Trace(path)
