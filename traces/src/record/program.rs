//! Programs and graphs: launches, copies and events over named buffers.

use serde::{Deserialize, Serialize};

use super::line::line;
use super::{BufferId, DType, GraphId, ProgramId};

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
    #[serde(deserialize_with = "line")]
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
    #[serde(deserialize_with = "line")]
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
    #[serde(deserialize_with = "line")]
    pub op: String,
    /// Version of the op's numerics contract.
    pub version: u32,
    /// Part of the step.
    pub phase: Phase,
    /// What the launch computes in its model, for people: `layer.3.mlp.down`. May be empty.
    #[serde(deserialize_with = "line")]
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
    #[serde(deserialize_with = "line")]
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
        #[serde(deserialize_with = "line")]
        reason: String,
    },
    /// What a foreign engine says is going on: `warm-up: capture`, an exception, a note. It has no
    /// effect on memory. Since format 0.2.
    Mark {
        /// In its words.
        #[serde(deserialize_with = "line")]
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
    #[serde(deserialize_with = "line")]
    pub label: String,
    /// Its nodes; items of this program are launches, copies and fills only.
    pub program: ProgramId,
    /// Edges between nodes where they are not a simple chain.
    pub edges: Vec<(u32, u32)>,
    /// Request and step in which it was captured; `(0, 0)` is set-up, before the first request.
    pub captured_at: (u32, u32),
}
