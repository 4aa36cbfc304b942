//! Steps: what the host wrote and read around a program, and where snapshots were taken.

use serde::{Deserialize, Serialize};

use super::line::line;
use super::{BufferId, ProgramId, SnapshotId};

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
    #[serde(deserialize_with = "line")]
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
    #[serde(deserialize_with = "line")]
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
