//! The records of a trace as a program sees them: plain data, no file layout.
//!
//! `traces` knows nothing of kernels: a launch here names its op, its operands and its scalars
//! by strings, so that a reader needs no table of ops to show it. How these records become
//! bytes is the business of the writer, the reader and `FORMAT.md`.

use serde::{Deserialize, Serialize};

/// Element type of a buffer or a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned byte, or bytes of a type that the recorder could not name.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// All of them, in the order of their numbers in a file.
    pub const ALL: [DType; 9] = [
        DType::F32,
        DType::F16,
        DType::Bf16,
        DType::I64,
        DType::I32,
        DType::U32,
        DType::U64,
        DType::U8,
        DType::Bool,
    ];

    /// Size of one element in bytes.
    pub fn size(self) -> u64 {
        match self {
            DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::Bf16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// The name shown to people and used in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Constant for the whole run; contents are referenced, not stored (see [`Contents`]).
    Weight,
    /// Constant for the whole run, made on the host and written once (RoPE angles).
    Table,
    /// Decode state that the device advances.
    State,
    /// Written by the host before a step.
    Input,
    /// Result of a step that the host or a person looks at.
    Output,
    /// Memory that a step should write before it reads it.
    Scratch,
}

impl Role {
    /// The name shown to people and used in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Table => "table",
            Role::State => "state",
            Role::Input => "input",
            Role::Output => "output",
            Role::Scratch => "scratch",
        }
    }
}

/// Index of a buffer, that is of a (name, generation), in the trace's buffer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// Index of a program in the order in which programs were first stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProgramId(pub u32);

/// Number of a captured graph, counted from 0 in order of capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GraphId(pub u32);

/// Index of a snapshot in order of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotId(pub u32);

/// Where the bytes of a weight come from: parts of safetensors files, concatenated, each
/// optionally converted, and the SHA-256 of the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contents {
    /// In order of concatenation.
    pub parts: Vec<ContentPart>,
    /// Element type that the parts are converted to (round to nearest even) before concatenation.
    pub dtype: DType,
    /// SHA-256 of the concatenated, converted bytes.
    pub sha256: [u8; 32],
}

/// One tensor of a weights file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentPart {
    /// File name within the model's folder, without any folder: `talker.safetensors`.
    pub file: String,
    /// Tensor name within that file.
    pub tensor: String,
}

/// One allocation of a named buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BufferRecord {
    /// Name without generation: `last_codes`.
    pub name: String,
    /// 0 for the first allocation of that name, then 1, 2, ...
    pub generation: u32,
    /// Element type.
    pub dtype: DType,
    /// Elements along each axis, outermost first, dense and row-major.
    pub shape: Vec<u64>,
    /// What it is for.
    pub role: Role,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes that one chunk of this buffer covers; a power of two, the last chunk may be shorter.
    pub chunk_bytes: u32,
    /// Device address, where the recorder knew one.
    pub address: Option<u64>,
    /// For weights.
    pub contents: Option<Contents>,
}

impl BufferRecord {
    /// How many chunks it has: `bytes / chunk_bytes`, rounded up.
    pub fn chunks(&self) -> u64 {
        self.bytes.div_ceil(u64::from(self.chunk_bytes.max(1)))
    }

    /// Length in bytes of chunk `chunk`; only the last may be shorter than `chunk_bytes`.
    /// `None` beyond the last.
    pub fn chunk_length(&self, chunk: u64) -> Option<u64> {
        let chunk_bytes = u64::from(self.chunk_bytes);
        let start = chunk.checked_mul(chunk_bytes)?;
        (start < self.bytes).then(|| chunk_bytes.min(self.bytes - start))
    }

    /// Whether the record agrees with itself: a chunk size that is a power of two up to
    /// [`MAX_CHUNK_BYTES`](crate::MAX_CHUNK_BYTES), and as many bytes as shape and type say.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if !self.chunk_bytes.is_power_of_two() || self.chunk_bytes > crate::MAX_CHUNK_BYTES {
            let limit = crate::MAX_CHUNK_BYTES;
            return Err(format!("a chunk of {} bytes is not a power of two up to {limit}", self.chunk_bytes));
        }
        let bytes = self.shape.iter().try_fold(self.dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
        match bytes {
            Some(bytes) if bytes == self.bytes => Ok(()),
            Some(bytes) => Err(format!(
                "shape {:?} of {} has {bytes} bytes, the record says {}",
                self.shape,
                self.dtype.name(),
                self.bytes
            )),
            None => Err(format!("shape {:?} of {} has more than 2^64 bytes", self.shape, self.dtype.name())),
        }
    }
}

/// How a launch uses an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// Only read.
    Read,
    /// Written without being read first.
    Write,
    /// Read, then written.
    ReadWrite,
    /// A foreign kernel's operand whose use is not known.
    Unknown,
}

/// A named operand of a launch: a view of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ViewRecord {
    /// The op's name for this operand: `weight`.
    pub name: String,
    /// The buffer viewed.
    pub buffer: BufferId,
    /// Bytes from the start of the buffer.
    pub offset: u64,
    /// Elements along each axis.
    pub shape: Vec<u64>,
    /// Elements between neighbours along each axis.
    pub strides: Vec<u64>,
    /// Element type.
    pub dtype: DType,
    /// How the op uses it.
    pub access: Access,
}

/// The value of a scalar argument. Floats are kept as bits so that records compare exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScalarValue {
    /// Unsigned 32-bit.
    U32(u32),
    /// Signed 32-bit.
    I32(i32),
    /// Unsigned 64-bit.
    U64(u64),
    /// Bits of a binary32.
    F32Bits(u32),
}

/// A named scalar argument of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScalarRecord {
    /// The op's name for it: `eps`.
    pub name: String,
    /// Its value.
    pub value: ScalarValue,
}

/// Part of a step that a launch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Before the first request, or between requests.
    Setup,
    /// Forward pass of step 1.
    Prefill,
    /// Forward pass of a decode step.
    Forward,
    /// Masks, sampling and state update.
    Sample,
    /// Codes to waveform, after the last step of a request.
    Codec,
}

impl Phase {
    /// The name shown to people and used in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Setup => "setup",
            Phase::Prefill => "prefill",
            Phase::Forward => "forward",
            Phase::Sample => "sample",
            Phase::Codec => "codec",
        }
    }
}

/// A launch of an op whose meaning is known: it can be executed again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// Op name: `rms_norm`.
    pub op: String,
    /// Version of the op's numerics contract.
    pub version: u32,
    /// Part of the step.
    pub phase: Phase,
    /// What the launch computes in its model, for people: `layer.3.mlp.down`. May be empty.
    pub label: String,
    /// Stream number; 0 is the recorder's own.
    pub stream: u32,
    /// Operands in the op's order.
    pub views: Vec<ViewRecord>,
    /// Scalars in the op's order.
    pub scalars: Vec<ScalarRecord>,
}

/// A kernel launch of a foreign engine. It can be shown, checked and compared, not executed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpaqueLaunch {
    /// Kernel name as the driver gives it (mangled or not).
    pub kernel: String,
    /// Part of the step.
    pub phase: Phase,
    /// Stream number.
    pub stream: u32,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z.
    pub block: [u32; 3],
    /// Blocks of a cluster along x, y, z; zeros where there is none.
    pub cluster: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// Parameter bytes, one entry a parameter.
    pub parameters: Vec<Vec<u8>>,
    /// Parameters that could be resolved to a buffer: (parameter, byte offset in it) -> view.
    pub operands: Vec<(u32, u32, ViewRecord)>,
}

/// One entry of a program, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Item {
    /// A launch that can be executed again.
    Launch(LaunchRecord),
    /// All nodes of a captured graph, in order, with the arguments frozen at capture.
    GraphLaunch {
        /// Which graph.
        graph: GraphId,
        /// Stream number.
        stream: u32,
    },
    /// A graph was captured here. Capturing does not execute.
    Capture {
        /// Which graph.
        graph: GraphId,
    },
    /// A graph was destroyed.
    DestroyGraph {
        /// Which graph.
        graph: GraphId,
    },
    /// A buffer came into being, filled with 0xA5 unless it is a weight.
    Allocate {
        /// Which buffer.
        buffer: BufferId,
    },
    /// A buffer's memory was given back.
    Free {
        /// Which buffer.
        buffer: BufferId,
    },
    /// A foreign kernel.
    Opaque(OpaqueLaunch),
    /// A device-to-device, host-to-device or device-to-host copy of a foreign engine.
    Copy {
        /// Stream number.
        stream: u32,
        /// Source, where it is a known buffer.
        source: Option<ViewRecord>,
        /// Target, where it is a known buffer.
        target: Option<ViewRecord>,
        /// Raw source address.
        source_address: u64,
        /// Raw target address.
        target_address: u64,
        /// Bytes copied.
        bytes: u64,
    },
    /// A memset of a foreign engine.
    Fill {
        /// Stream number.
        stream: u32,
        /// Target, where it is a known buffer.
        target: Option<ViewRecord>,
        /// Raw target address.
        target_address: u64,
        /// Byte pattern.
        pattern: Vec<u8>,
        /// Bytes filled.
        bytes: u64,
    },
    /// An event was recorded on a stream.
    EventRecord {
        /// Event number.
        event: u32,
        /// Stream number.
        stream: u32,
    },
    /// A stream waits for an event.
    EventWait {
        /// Event number.
        event: u32,
        /// Stream number.
        stream: u32,
    },
    /// Something happened here that was not recorded.
    Gap {
        /// Why not.
        reason: String,
    },
    /// What a foreign engine says is going on: `warm-up: capture`, an exception, a note. It has no
    /// effect on memory. Since format 0.2.
    Mark {
        /// In its words.
        text: String,
    },
}

impl Item {
    /// Every buffer that the item names.
    pub fn buffers(&self) -> Vec<BufferId> {
        match self {
            Item::Launch(launch) => launch.views.iter().map(|view| view.buffer).collect(),
            Item::Opaque(launch) => launch.operands.iter().map(|(_, _, view)| view.buffer).collect(),
            Item::Allocate { buffer } | Item::Free { buffer } => vec![*buffer],
            Item::Copy { source, target, .. } => {
                source.iter().chain(target).map(|view| view.buffer).collect()
            }
            Item::Fill { target, .. } => target.iter().map(|view| view.buffer).collect(),
            Item::GraphLaunch { .. }
            | Item::Capture { .. }
            | Item::DestroyGraph { .. }
            | Item::EventRecord { .. }
            | Item::EventWait { .. }
            | Item::Gap { .. }
            | Item::Mark { .. } => Vec::new(),
        }
    }

    /// The graph that the item names.
    pub fn graph(&self) -> Option<GraphId> {
        match self {
            Item::GraphLaunch { graph, .. } | Item::Capture { graph } | Item::DestroyGraph { graph } => {
                Some(*graph)
            }
            _ => None,
        }
    }
}

/// A list of launches and events over named buffers. Stored once by content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Program {
    /// In order of execution.
    pub items: Vec<Item>,
}

/// A captured graph: it owns its nodes with the arguments frozen as they were.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GraphRecord {
    /// Its number.
    pub id: GraphId,
    /// What it is in its model, for people: `decode`, `layer.3.mlp`.
    pub label: String,
    /// Its nodes; items of this program are launches, copies and fills only.
    pub program: ProgramId,
    /// Edges between nodes where they are not a simple chain.
    pub edges: Vec<(u32, u32)>,
    /// Request and step in which it was captured; `(0, 0)` is set-up, before the first request.
    pub captured_at: (u32, u32),
}

/// Bytes that the host wrote into a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostWrite {
    /// Index of the program item before which it happened; 0 is before `step.before`.
    pub position: u32,
    /// Target buffer.
    pub buffer: BufferId,
    /// Bytes from its start.
    pub offset: u64,
    /// What was written.
    pub bytes: Vec<u8>,
}

/// Bytes that the host read from a buffer, and what it decided from them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostRead {
    /// Index of the program item before which it happened; the number of items is after the last.
    pub position: u32,
    /// Source buffer.
    pub buffer: BufferId,
    /// Bytes from its start.
    pub offset: u64,
    /// What was read.
    pub bytes: Vec<u8>,
    /// `continue`, `stop: end of speech`, or empty where nothing was decided.
    pub decision: String,
}

/// What a [`StepRecord`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StepKind {
    /// Allocation, capture and the like before the first request; request 0, step 0.
    Setup,
    /// Step 1 of a request.
    Prefill,
    /// Steps 2, 3, ... of a request.
    Decode,
    /// Codes to waveform after a request's last step; its step number is one more than that step's.
    /// Not counted as a step.
    Codec,
}

/// Reference from a step to one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PointRecord {
    /// `step.before`, `step.after`, `layer.3.mlp.before`, ...
    pub point: String,
    /// Index of the program item before which it was taken.
    pub position: u32,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// One step: host writes, `before`, the program, `after`, host reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepRecord {
    /// What it is.
    pub kind: StepKind,
    /// Request, counted from 1; 0 for set-up.
    pub request: u32,
    /// Step within the request, 1 = prefill; 0 for set-up.
    pub step: u32,
    /// Rank and process for foreign engines; 0 otherwise.
    pub rank: u32,
    /// What ran.
    pub program: ProgramId,
    /// In order.
    pub host_writes: Vec<HostWrite>,
    /// In order.
    pub host_reads: Vec<HostRead>,
    /// In order of position.
    pub points: Vec<PointRecord>,
}

/// One utterance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Counted from 1.
    pub request: u32,
    /// The text spoken, normalised.
    pub text: String,
    /// Prompt token ids.
    pub prompt: Vec<u32>,
    /// The row of the batch that it occupies.
    pub row: u32,
}

/// What ran the launches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// `cpu` or `cuda`.
    pub backend: String,
    /// Device name as it gives itself.
    pub name: String,
    /// Compute capability such as `9.0`, or the vector extension used on a CPU.
    pub capability: String,
    /// Driver version, empty on a CPU.
    pub driver: String,
    /// SHA-256 of the PTX text that was loaded, hex, empty on a CPU.
    pub ptx_sha256: String,
}

/// How codes were chosen. Floats are kept as bits so that records compare exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplingRecord {
    /// Bits of the temperature; 0 means greedy.
    pub temperature_bits: u32,
    /// 0 means off.
    pub top_k: u32,
    /// Bits of top-p; 1.0 means off.
    pub top_p_bits: u32,
    /// Seed of the counter-based generator.
    pub seed: u64,
}

/// What made a trace and from what. Written first; says nothing about planted faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Tool and version that wrote it.
    pub tool: String,
    /// `eager`, `graph`, `piecewise`, or a foreign engine's word.
    pub mode: String,
    /// The device.
    pub device: DeviceRecord,
    /// Model name.
    pub model: String,
    /// `embedded`, or the folder that the weights were read from.
    pub model_source: String,
    /// SHA-256 over the model's configuration and weights files.
    pub model_sha256: [u8; 32],
    /// Element type of the weights as used.
    pub weights_dtype: String,
    /// Element type of the KV cache.
    pub kv_dtype: String,
    /// Delay profile.
    pub profile: String,
    /// The text as given.
    pub prompt: String,
    /// Rows of the batch.
    pub rows: u32,
    /// Sampling parameters.
    pub sampling: SamplingRecord,
    /// Samples a second of the `waveform` output, 0 where there is none.
    pub sample_rate: u32,
    /// Anything else a foreign recorder wants to say, sorted by key.
    pub notes: Vec<(String, String)>,
}
