"""What a trace's records hold (FORMAT.md, "Record encoding" onwards), a class each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple

from .encoding import (
    BYTES, I32, TEXT, U32, U64, Digest, ListOf, Names, Option, Struct, TupleOf, Variants,
)

DTYPE = Names("element type", "f32", "f16", "bf16", "i64", "i32", "u32", "u64", "u8", "bool")
ROLE = Names("role", "weight", "table", "state", "input", "output", "scratch")
ACCESS = Names("access", "read", "write", "read-write", "unknown")
PHASE = Names("phase", "setup", "prefill", "forward", "sample", "codec")
STEP_KIND = Names("kind of step", "setup", "prefill", "decode", "codec")

ITEM_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i64": 8, "i32": 4, "u32": 4, "u64": 8, "u8": 1, "bool": 1}
MAX_CHUNK_BYTES = 64 << 20


@dataclass
class Device:
    backend: str = ""
    name: str = ""
    capability: str = ""
    driver: str = ""
    ptx_sha256: str = ""


@dataclass
class Sampling:
    """``_bits`` are those of a binary32. All zeros: not known, as in every trace of a foreign engine."""

    temperature_bits: int = 0
    top_k: int = 0
    top_p_bits: int = 0
    seed: int = 0


@dataclass
class Run:
    """What made a trace. Empty strings, a ``model_sha256`` of zeros and ``rows`` 0: not known."""

    tool: str
    mode: str
    device: Device = field(default_factory=Device)
    model: str = ""
    model_source: str = ""
    model_sha256: bytes = bytes(32)
    weights_dtype: str = ""
    kv_dtype: str = ""
    profile: str = ""
    prompt: str = ""
    rows: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    sample_rate: int = 0
    notes: List[Tuple[str, str]] = field(default_factory=list)


@dataclass
class Contents:
    parts: List[Any]
    dtype: str
    sha256: bytes


@dataclass
class Part:
    file: str
    tensor: str


@dataclass
class Buffer:
    """One allocation of a named buffer; ``address`` where it is known."""

    name: str
    generation: int
    dtype: str
    shape: List[int]
    role: str
    bytes: int
    chunk_bytes: int
    address: Optional[int] = None
    contents: Optional[Contents] = None

    @property
    def label(self) -> str:
        """``last_codes@0``."""
        return f"{self.name}@{self.generation}"

    @property
    def chunks(self) -> int:
        """Number of chunks; all but the last have ``chunk_bytes`` bytes."""
        return -(-self.bytes // self.chunk_bytes)

    def fault(self) -> Optional[str]:
        """What is wrong with the record, if anything."""
        size = ITEM_BYTES[self.dtype]
        for axis in self.shape:
            size *= axis
        if size != self.bytes:
            return f"its shape takes {size} bytes, it has {self.bytes}"
        if not 0 < self.chunk_bytes <= MAX_CHUNK_BYTES or self.chunk_bytes & (self.chunk_bytes - 1):
            return f"a chunk of {self.chunk_bytes} bytes is no power of two up to {MAX_CHUNK_BYTES}"
        return None


@dataclass
class View:
    name: str
    buffer: int
    offset: int
    shape: List[int]
    strides: List[int]
    dtype: str
    access: str


@dataclass
class ScalarU32:
    value: int


@dataclass
class ScalarI32:
    value: int


@dataclass
class ScalarU64:
    value: int


@dataclass
class ScalarF32:
    bits: int


@dataclass
class NamedScalar:
    name: str
    value: Any


@dataclass
class Launch:
    op: str
    version: int
    phase: str
    label: str
    stream: int
    views: List[View]
    scalars: List[NamedScalar]


@dataclass
class GraphLaunch:
    graph: int
    stream: int


@dataclass
class Capture:
    graph: int


@dataclass
class DestroyGraph:
    graph: int


@dataclass
class Allocate:
    buffer: int


@dataclass
class Free:
    buffer: int


@dataclass
class OpaqueLaunch:
    """A kernel, or a named part of a step (zeros as dimensions)."""

    kernel: str
    phase: str = "forward"
    stream: int = 0
    grid: Tuple[int, int, int] = (0, 0, 0)
    block: Tuple[int, int, int] = (0, 0, 0)
    cluster: Tuple[int, int, int] = (0, 0, 0)
    shared_bytes: int = 0
    parameters: List[bytes] = field(default_factory=list)
    operands: List[Tuple[int, int, View]] = field(default_factory=list)


@dataclass
class Copy:
    stream: int
    source: Optional[View]
    target: Optional[View]
    source_address: int
    target_address: int
    bytes: int


@dataclass
class Fill:
    stream: int
    target: Optional[View]
    target_address: int
    pattern: bytes
    bytes: int


@dataclass
class EventRecord:
    event: int
    stream: int


@dataclass
class EventWait:
    event: int
    stream: int


@dataclass
class Gap:
    """Something was not recorded; memory may hold anything after it."""

    reason: str


@dataclass
class Mark:
    """A note in the engine's words, without any effect on memory."""

    text: str


@dataclass
class Program:
    items: List[Any]


@dataclass
class Graph:
    id: int
    label: str
    program: int
    edges: List[Tuple[int, int]]
    captured_at: Tuple[int, int]


@dataclass
class Request:
    """``text``: the engine's id of the request, or its text; ``prompt``: token ids."""

    request: int
    text: str
    prompt: List[int]
    row: int = 0


@dataclass
class HostWrite:
    position: int
    buffer: int
    offset: int
    bytes: bytes


@dataclass
class HostRead:
    position: int
    buffer: int
    offset: int
    bytes: bytes
    decision: str


@dataclass
class Point:
    """A place in a step's program with a snapshot: before item ``position``."""

    point: str
    position: int
    snapshot: int


@dataclass
class Step:
    """One step: ``program`` is a number, see :meth:`twinstep.Trace.items`."""

    kind: str
    request: int
    step: int
    rank: int
    program: int
    host_writes: List[HostWrite] = field(default_factory=list)
    host_reads: List[HostRead] = field(default_factory=list)
    points: List[Point] = field(default_factory=list)

    def snapshot(self, point: str) -> Optional[int]:
        """The snapshot at a point such as ``step.after``, or ``None``."""
        return next((p.snapshot for p in self.points if p.point == point), None)


_STRINGS = dict(backend=TEXT, name=TEXT, capability=TEXT, driver=TEXT, ptx_sha256=TEXT)
_THREE = TupleOf(U32, U32, U32)

RUN = Struct(
    Run,
    tool=TEXT,
    mode=TEXT,
    device=Struct(Device, **_STRINGS),
    model=TEXT,
    model_source=TEXT,
    model_sha256=Digest(32),
    weights_dtype=TEXT,
    kv_dtype=TEXT,
    profile=TEXT,
    prompt=TEXT,
    rows=U32,
    sampling=Struct(Sampling, temperature_bits=U32, top_k=U32, top_p_bits=U32, seed=U64),
    sample_rate=U32,
    notes=ListOf(TupleOf(TEXT, TEXT)),
)
BUFFER = Struct(
    Buffer,
    name=TEXT,
    generation=U32,
    dtype=DTYPE,
    shape=ListOf(U64),
    role=ROLE,
    bytes=U64,
    chunk_bytes=U32,
    address=Option(U64),
    contents=Option(
        Struct(Contents, parts=ListOf(Struct(Part, file=TEXT, tensor=TEXT)), dtype=DTYPE, sha256=Digest(32))
    ),
)
VIEW = Struct(
    View,
    name=TEXT,
    buffer=U32,
    offset=U64,
    shape=ListOf(U64),
    strides=ListOf(U64),
    dtype=DTYPE,
    access=ACCESS,
)
SCALAR = Variants(
    "kind of scalar",
    Struct(ScalarU32, value=U32),
    Struct(ScalarI32, value=I32),
    Struct(ScalarU64, value=U64),
    Struct(ScalarF32, bits=U32),
)
ITEM = Variants(
    "kind of item",
    Struct(
        Launch,
        op=TEXT,
        version=U32,
        phase=PHASE,
        label=TEXT,
        stream=U32,
        views=ListOf(VIEW),
        scalars=ListOf(Struct(NamedScalar, name=TEXT, value=SCALAR)),
    ),
    Struct(GraphLaunch, graph=U32, stream=U32),
    Struct(Capture, graph=U32),
    Struct(DestroyGraph, graph=U32),
    Struct(Allocate, buffer=U32),
    Struct(Free, buffer=U32),
    Struct(
        OpaqueLaunch,
        kernel=TEXT,
        phase=PHASE,
        stream=U32,
        grid=_THREE,
        block=_THREE,
        cluster=_THREE,
        shared_bytes=U32,
        parameters=ListOf(BYTES),
        operands=ListOf(TupleOf(U32, U32, VIEW)),
    ),
    Struct(
        Copy,
        stream=U32,
        source=Option(VIEW),
        target=Option(VIEW),
        source_address=U64,
        target_address=U64,
        bytes=U64,
    ),
    Struct(Fill, stream=U32, target=Option(VIEW), target_address=U64, pattern=BYTES, bytes=U64),
    Struct(EventRecord, event=U32, stream=U32),
    Struct(EventWait, event=U32, stream=U32),
    Struct(Gap, reason=TEXT),
    Struct(Mark, text=TEXT),
)
PROGRAM = Struct(Program, items=ListOf(ITEM))
GRAPH = Struct(
    Graph, id=U32, label=TEXT, program=U32, edges=ListOf(TupleOf(U32, U32)), captured_at=TupleOf(U32, U32)
)
REQUEST = Struct(Request, request=U32, text=TEXT, prompt=ListOf(U32), row=U32)
STEP = Struct(
    Step,
    kind=STEP_KIND,
    request=U32,
    step=U32,
    rank=U32,
    program=U32,
    host_writes=ListOf(Struct(HostWrite, position=U32, buffer=U32, offset=U64, bytes=BYTES)),
    host_reads=ListOf(Struct(HostRead, position=U32, buffer=U32, offset=U64, bytes=BYTES, decision=TEXT)),
    points=ListOf(Struct(Point, point=TEXT, position=U32, snapshot=U32)),
)
