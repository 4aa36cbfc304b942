"""Header, frames, commit, footer and index tables as they lie in the file (FORMAT.md, "Byte maps")."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

from .errors import TraceError

SIGNATURE = b"\x89TWIN\r\n\x1a"
VERSION = (0, 2)
READ_VERSIONS = ((0, 1), (0, 2))
HEADER_BYTES = 64
FRAME_BYTES = 16

# Kinds of frame.
RUN, BUFFER, PROGRAM, GRAPH, REQUEST, CHUNKS, SNAPSHOT, STEP, COMMIT, INDEX, FOOTER = range(1, 12)
KINDS = "unknown run buffer program graph request chunks snapshot step commit index footer".split()

COMMIT_SIGNATURE = b"TWCOMMIT"
COMMIT_PAYLOAD = struct.Struct("<8sQQQII")
FOOTER_SIGNATURE = b"TWINDEX\n"
FOOTER_HEAD = struct.Struct("<QII")
TRAILER = struct.Struct("<Q8s")
SNAPSHOT_HEAD = struct.Struct("<IIII")
CHUNKS_HEAD = struct.Struct("<II")

_FRAME = struct.Struct("<HHIQ")

CHANGE = np.dtype([("buffer", "<u4"), ("content", "<u4"), ("chunk", "<u8")])
AUDIT = np.dtype([("buffer", "<u4"), ("zero", "<u4"), ("first_chunk", "<u8"), ("chunks", "<u8")])
CHUNK = np.dtype([("hash", "<u8", (2,)), ("length", "<u4"), ("zero", "<u4")])
DIRECTORY = np.dtype([("table", "<u4"), ("entry_bytes", "<u4"), ("offset", "<u8"), ("count", "<u8")])

# Tables of the index: number, name, entry.
OFFSET_ENTRY = np.dtype("<u8")
STEP_ENTRY = np.dtype([("offset", "<u8"), ("request", "<u4"), ("step", "<u4")])
ORDER_ENTRY = np.dtype("<u4")
CONTENT_ENTRY = np.dtype([("hash", "<u8", (2,)), ("offset", "<u8"), ("length", "<u4"), ("zero", "<u4")])
VERSION_ENTRY = np.dtype(
    [("chunk", "<u8"), ("buffer", "<u4"), ("snapshot", "<u4"), ("content", "<u4"), ("zero", "<u4")]
)
TABLES = (
    (1, "run", OFFSET_ENTRY),
    (2, "buffers", OFFSET_ENTRY),
    (3, "programs", OFFSET_ENTRY),
    (4, "graphs", OFFSET_ENTRY),
    (5, "requests", OFFSET_ENTRY),
    (6, "snapshots", OFFSET_ENTRY),
    (7, "steps", STEP_ENTRY),
    (8, "step_order", ORDER_ENTRY),
    (9, "contents", CONTENT_ENTRY),
    (10, "versions", VERSION_ENTRY),
)


def padded(length: int) -> int:
    """``length`` rounded up to the alignment of frames."""
    return length + (-length % 8)


def header() -> bytes:
    """The 64 bytes that begin a file."""
    head = SIGNATURE + struct.pack("<HHI", *VERSION, HEADER_BYTES) + bytes(44)
    return head + struct.pack("<I", zlib.crc32(head))


def check_header(data) -> None:
    """Raises :class:`TraceError` unless ``data`` begins with a header that this package reads."""
    if len(data) < HEADER_BYTES:
        if bytes(data[:8]) == SIGNATURE[: len(data)] and len(data):
            raise TraceError(f"nothing was recorded: the file ends after {len(data)} bytes")
        raise TraceError("this is no .twin file")
    if bytes(data[:8]) != SIGNATURE:
        raise TraceError("this is no .twin file")
    major, minor, header_bytes = struct.unpack_from("<HHI", data, 8)
    if zlib.crc32(data[:60]) != struct.unpack_from("<I", data, 60)[0]:
        raise TraceError("byte 0: the checksum of the file header is wrong")
    if (major, minor) not in READ_VERSIONS:
        known = " and ".join(f"{a}.{b}" for a, b in READ_VERSIONS)
        raise TraceError(f"the file has format {major}.{minor}, this package reads {known}")
    if header_bytes != HEADER_BYTES:
        raise TraceError(f"byte 12: the header claims {header_bytes} bytes where {HEADER_BYTES} are due")


def frame_header(kind: int, parts) -> bytes:
    """The header of a frame whose payload is ``parts``, one after the other."""
    length = sum(len(part) for part in parts)
    crc = zlib.crc32(struct.pack("<HHQ", kind, 0, length))
    for part in parts:
        crc = zlib.crc32(part, crc)
    return _FRAME.pack(kind, 0, crc, length)


class Frame(NamedTuple):
    """A frame found in a file; header and payload lie in it, no more is known."""

    kind: int
    flags: int
    crc: int
    length: int
    offset: int
    end: int

    @property
    def at(self) -> int:
        """Where the payload begins."""
        return self.offset + FRAME_BYTES

    def payload(self, data) -> memoryview:
        return data[self.at : self.at + self.length]

    def check(self, data) -> memoryview:
        """The payload, if the checksum is right."""
        payload = self.payload(data)
        crc = zlib.crc32(payload, zlib.crc32(struct.pack("<HHQ", self.kind, self.flags, self.length)))
        if crc != self.crc:
            name = KINDS[self.kind] if self.kind < len(KINDS) else "unknown"
            raise TraceError(f"byte {self.offset}: the checksum of this {name} frame is wrong")
        return payload


def read_frame(data, offset: int, limit: int, kind: int = 0) -> Frame:
    """The frame at ``offset``, all of it below ``limit``; of ``kind``, unless that is 0."""
    if offset < HEADER_BYTES or offset % 8 or offset + FRAME_BYTES > limit:
        raise TraceError(f"byte {offset}: no frame can begin here")
    found, flags, crc, length = _FRAME.unpack_from(data, offset)
    end = offset + FRAME_BYTES + padded(length)
    if end > limit:
        raise TraceError(f"byte {offset}: a frame of {length} bytes does not fit before byte {limit}")
    if kind and found != kind:
        raise TraceError(f"byte {offset}: a {KINDS[kind]} frame is due, this is one of kind {found}")
    return Frame(found, flags, crc, length, offset, end)
