"""Record encoding: bincode 1.3.3 with fixed-width integers (FORMAT.md, "Record encoding").

A type of the format is an object here that writes a value and reads one back; ``records.py``
composes them.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, Tuple

from .errors import TraceError

MAX_RECORD_BYTES = 256 << 20


class Cursor:
    """A place in encoded bytes. Nothing is reserved on the word of a count."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise TraceError(f"a record ends {count - (len(self.data) - self.at)} bytes too early")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def count(self, smallest: int) -> int:
        """A list's count; each element has at least ``smallest`` bytes."""
        count = U64.read(self)
        if count > (len(self.data) - self.at) // smallest:
            raise TraceError(f"a record claims a list of {count} elements that are not there")
        return count


class Integer:
    def __init__(self, code: str):
        self.form = struct.Struct("<" + code)
        self.smallest = self.form.size

    def write(self, out: bytearray, value: int) -> None:
        try:
            out += self.form.pack(value)
        except struct.error:
            raise TraceError(f"{value} does not fit in {8 * self.smallest} bits") from None

    def read(self, cursor: Cursor) -> int:
        return self.form.unpack(cursor.take(self.smallest))[0]


U8, U32, U64, I32 = Integer("B"), Integer("I"), Integer("Q"), Integer("i")


class Bytes:
    """A list of u8, as ``bytes``."""

    smallest = 8

    def write(self, out: bytearray, value) -> None:
        U64.write(out, len(value))
        out += value

    def read(self, cursor: Cursor) -> bytes:
        return bytes(cursor.take(cursor.count(1)))


BYTES = Bytes()


class Text:
    """A string. Surrogates that stand for undecodable bytes of file names are escaped, not refused."""

    smallest = 8

    def write(self, out: bytearray, value: str) -> None:
        BYTES.write(out, value.encode("utf-8", "backslashreplace"))

    def read(self, cursor: Cursor) -> str:
        try:
            return BYTES.read(cursor).decode("utf-8")
        except UnicodeDecodeError:
            raise TraceError("a string of a record is no UTF-8") from None


TEXT = Text()


class Digest:
    """A fixed number of bytes without a count."""

    def __init__(self, size: int):
        self.smallest = size

    def write(self, out: bytearray, value: bytes) -> None:
        if len(value) != self.smallest:
            raise TraceError(f"{len(value)} bytes where {self.smallest} are due")
        out += value

    def read(self, cursor: Cursor) -> bytes:
        return bytes(cursor.take(self.smallest))


class ListOf:
    smallest = 8

    def __init__(self, element):
        self.element = element

    def write(self, out: bytearray, value) -> None:
        U64.write(out, len(value))
        for element in value:
            self.element.write(out, element)

    def read(self, cursor: Cursor) -> List[Any]:
        count = cursor.count(self.element.smallest)
        return [self.element.read(cursor) for _ in range(count)]


class Option:
    smallest = 1

    def __init__(self, element):
        self.element = element

    def write(self, out: bytearray, value) -> None:
        U8.write(out, 0 if value is None else 1)
        if value is not None:
            self.element.write(out, value)

    def read(self, cursor: Cursor):
        there = U8.read(cursor)
        if there > 1:
            raise TraceError(f"an option of a record begins with {there}")
        return self.element.read(cursor) if there else None


class TupleOf:
    def __init__(self, *elements):
        self.elements = elements
        self.smallest = sum(element.smallest for element in elements)

    def write(self, out: bytearray, value) -> None:
        if len(value) != len(self.elements):
            raise TraceError(f"{len(value)} values where {len(self.elements)} are due")
        for element, part in zip(self.elements, value):
            element.write(out, part)

    def read(self, cursor: Cursor) -> Tuple[Any, ...]:
        return tuple(element.read(cursor) for element in self.elements)


class Names:
    """An enum without fields, as the variant's name."""

    smallest = 4

    def __init__(self, what: str, *names: str):
        self.what, self.names = what, names
        self.numbers = {name: number for number, name in enumerate(names)}

    def write(self, out: bytearray, value: str) -> None:
        if value not in self.numbers:
            raise TraceError(f"{value!r} is no {self.what}: one of {', '.join(self.names)}")
        U32.write(out, self.numbers[value])

    def read(self, cursor: Cursor) -> str:
        number = U32.read(cursor)
        if number >= len(self.names):
            raise TraceError(f"{self.what} {number} is not known")
        return self.names[number]


class Struct:
    """Fields in order, as an object of ``make``."""

    def __init__(self, make, **fields):
        self.make, self.fields = make, fields
        self.smallest = sum(field.smallest for field in fields.values())

    def write(self, out: bytearray, value) -> None:
        for name, field in self.fields.items():
            field.write(out, getattr(value, name))

    def read(self, cursor: Cursor):
        return self.make(**{name: field.read(cursor) for name, field in self.fields.items()})


class Variants:
    """An enum with fields: each variant is a :class:`Struct` with a class of its own."""

    smallest = 4

    def __init__(self, what: str, *variants: Struct):
        self.what, self.variants = what, variants
        self.numbers: Dict[type, int] = {variant.make: n for n, variant in enumerate(variants)}

    def write(self, out: bytearray, value) -> None:
        number = self.numbers[type(value)]
        U32.write(out, number)
        self.variants[number].write(out, value)

    def read(self, cursor: Cursor):
        number = U32.read(cursor)
        if number >= len(self.variants):
            raise TraceError(f"{self.what} {number} is not known")
        return self.variants[number].read(cursor)


def encode(kind, value) -> bytes:
    """The bytes of a record.

    Raises :class:`TraceError` for a value that the format cannot hold or a record over 256 MiB.
    """
    out = bytearray()
    kind.write(out, value)
    if len(out) > MAX_RECORD_BYTES:
        raise TraceError(f"a record of {len(out)} bytes is over the limit of {MAX_RECORD_BYTES}")
    return bytes(out)


def decode(kind, data):
    """The record that ``data`` is, all of it. Raises :class:`TraceError`."""
    if len(data) > MAX_RECORD_BYTES:
        raise TraceError(f"a record of {len(data)} bytes is over the limit of {MAX_RECORD_BYTES}")
    cursor = Cursor(data)
    value = kind.read(cursor)
    if cursor.at != len(data):
        raise TraceError(f"{len(data) - cursor.at} bytes are left over after a record")
    return value
