"""The tables of a file that was never closed: a walk over its frames up to the last commit."""

from __future__ import annotations

import zlib
from typing import Dict, Tuple

import numpy as np

from . import encoding, layout, records
from .errors import TraceError
from .layout import padded
from .writer import sorted_tables


def recover(data) -> Tuple[Dict[str, np.ndarray], int]:
    """Tables and the end of the last good commit, 0 if there is none."""
    walk = _Walk(data)
    offset, committed, kept = layout.HEADER_BYTES, 0, {}
    while offset < len(data):
        try:
            frame = layout.read_frame(data, offset, len(data))
            if frame.kind == layout.COMMIT:
                walk.commit(frame)
                committed = frame.end
                kept = {name: len(rows) for name, rows in walk.tables.items()}
            else:
                walk.enter(frame)
        except TraceError:
            break
        offset = frame.end
    tables = {name: rows[: kept.get(name, 0)] for name, rows in walk.tables.items()}
    return sorted_tables(tables), committed


class _Walk:
    def __init__(self, data):
        self.data = data
        self.tables: Dict[str, list] = {name: [] for _, name, _ in layout.TABLES}
        self.sequence, self.start, self.previous = 0, 0, 0

    def commit(self, frame: layout.Frame) -> None:
        """Goes on if the commit is the one due and every byte that it vouches for is as it was."""
        payload = frame.check(self.data)
        if len(payload) != layout.COMMIT_PAYLOAD.size:
            raise TraceError("this is no commit")
        found = layout.COMMIT_PAYLOAD.unpack(payload)
        checksum = found[4]
        due = (layout.COMMIT_SIGNATURE, self.sequence, self.start, frame.offset, checksum, self.previous)
        if found != due or zlib.crc32(self.data[self.start : frame.offset]) != checksum:
            raise TraceError("this commit does not match what it vouches for")
        self.sequence, self.start, self.previous = self.sequence + 1, frame.end, checksum

    def enter(self, frame: layout.Frame) -> None:
        if layout.RUN <= frame.kind <= layout.REQUEST:
            name = ("run", "buffers", "programs", "graphs", "requests")[frame.kind - layout.RUN]
            self.tables[name].append(frame.offset)
        elif frame.kind == layout.CHUNKS:
            self._chunks(frame)
        elif frame.kind == layout.SNAPSHOT:
            self._snapshot(frame)
        elif frame.kind == layout.STEP:
            step = encoding.decode(records.STEP, frame.payload(self.data))
            self.tables["steps"].append((frame.offset, step.request, step.step))

    def _chunks(self, frame: layout.Frame) -> None:
        payload = frame.payload(self.data)
        if len(payload) < 8:
            raise TraceError("a chunks frame without its count")
        count = layout.CHUNKS_HEAD.unpack_from(payload)[0]
        if count > (len(payload) - 8) // layout.CHUNK.itemsize:
            raise TraceError("a chunks frame claims more chunks than it has bytes")
        heads = np.frombuffer(payload, layout.CHUNK, count, 8)
        lengths = heads["length"].astype(np.uint64)
        if (lengths == 0).any() or (lengths > records.MAX_CHUNK_BYTES).any():
            raise TraceError("a chunk has an impossible length")
        lengths += (-lengths) & np.uint64(7)
        ends = np.cumsum(lengths) + np.uint64(8 + heads.nbytes)
        if (int(ends[-1]) if count else 8) != len(payload):
            raise TraceError("a chunks frame has other data than it lists")
        rows = np.zeros(count, layout.CONTENT_ENTRY)
        rows["hash"], rows["length"] = heads["hash"], heads["length"]
        rows["offset"] = ends - lengths + np.uint64(frame.at)
        self.tables["contents"].append(rows)

    def _snapshot(self, frame: layout.Frame) -> None:
        number, _, changes = parse_snapshot(frame.payload(self.data))
        if number != len(self.tables["snapshots"]):
            raise TraceError(f"snapshot {number} is not the one due")
        self.tables["snapshots"].append(frame.offset)
        rows = np.zeros(len(changes), layout.VERSION_ENTRY)
        for name in ("chunk", "buffer", "content"):
            rows[name] = changes[name]
        rows["snapshot"] = number
        self.tables["versions"].append(rows)


def parse_snapshot(payload) -> Tuple[int, np.ndarray, np.ndarray]:
    """Number, covered buffers and changes of a snapshot's payload."""
    if len(payload) < layout.SNAPSHOT_HEAD.size:
        raise TraceError("a snapshot without its head")
    number, covered, changes, audits = layout.SNAPSHOT_HEAD.unpack_from(payload)
    first = layout.SNAPSHOT_HEAD.size + padded(4 * covered)
    due = first + changes * layout.CHANGE.itemsize + audits * layout.AUDIT.itemsize
    if due != len(payload):
        raise TraceError(f"snapshot {number} has {len(payload)} bytes where {due} are due")
    listed = np.frombuffer(payload, "<u4", covered, layout.SNAPSHOT_HEAD.size)
    return number, listed, np.frombuffer(payload, layout.CHANGE, changes, first)
