//! The records of a trace as a program sees them: plain data, no file layout.
//!
//! `traces` knows nothing of kernels: a launch here names its op, its operands and its scalars
//! by strings, so that a reader needs no table of ops to show it. How these records become
//! bytes is the business of the writer, the reader and `FORMAT.md`.

mod buffer;
mod line;
mod program;
mod run;
mod step;

use serde::{Deserialize, Serialize};

pub use buffer::*;
pub use program::*;
pub use run::*;
pub use step::*;

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
