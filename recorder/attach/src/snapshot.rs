//! Copies of watched buffers, made on the launch's own stream.
//!
//! The program's thread calls [`Snapshotter::enqueue`] before and after a launch; the copy happens on the device
//! in the order of that stream. The writer thread calls [`Snapshotter::poll`] and gets what has arrived on the
//! host. Neither waits for the device.

pub mod arrivals;
pub mod choice;
pub mod hashed;
pub mod kernels;
pub mod lane;
pub mod order;
pub mod pinned;
pub mod plain;
pub mod tables;

use std::sync::Arc;

use twinstep_traces::{AuditRange, BufferId};

use crate::driver::CUstream;

/// Largest chunk that a kernel of ours copies.
pub const CHUNK_LIMIT: u32 = 1024;

/// A buffer to copy. Its memory is allocated at least until `enqueue` has returned: who gives it back waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The trace's number of this name and generation.
    pub buffer: BufferId,
    /// Device address.
    pub address: u64,
    /// Size in bytes, above 0.
    pub bytes: u64,
    /// Size of its chunks in the trace; a power of two, at most [`CHUNK_LIMIT`].
    pub chunk_bytes: u32,
    /// Others may write it without a call that is seen, the host or another process: it is looked at whole each time.
    pub of_others: bool,
}

/// Numbers snapshots in the order in which they were enqueued, from 0, without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Chunks that differ from the last snapshot of their buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Which buffer.
    pub buffer: BufferId,
    /// Its first chunk here.
    pub first_chunk: u64,
    /// Whole chunks, one after another.
    pub bytes: Vec<u8>,
}

/// A snapshot that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Which.
    pub ticket: Ticket,
    /// The buffers it vouches for. One that no earlier snapshot covered is in `changed` whole.
    pub covered: Vec<BufferId>,
    /// What changed.
    pub changed: Vec<Changed>,
    /// Chunks that were looked at.
    pub audited: Vec<AuditRange>,
    /// Why there is no such snapshot; the two lists are empty then.
    pub lost: Option<String>,
}

/// Makes snapshots. One for the process; several threads, streams and contexts may use it at once.
pub trait Snapshotter: Send + Sync {
    /// Enqueues a look at `watched` on `stream` (never 0: the default streams are said outright). The program's
    /// context is current. Where it is `quiet`, no call that we see may have written memory since the last snapshot:
    /// of large buffers that others do not write a part in turn is looked at. Never waits for the device and never
    /// allocates where that would. Another thread may be capturing: calls that a capture forbids (allocation) need
    /// `cuThreadExchangeStreamCaptureMode` around them.
    ///
    /// # Errors
    /// Why this snapshot can't be taken; nothing was enqueued and no ticket is used up.
    fn enqueue(&self, stream: CUstream, watched: &Arc<[Watched]>, quiet: bool) -> Result<Ticket, String>;

    /// Appends the snapshots that have arrived since the last call, in the order of their tickets: one that has
    /// arrived waits for those before it. Called by the writer thread only; no context is current.
    fn poll(&self, completed: &mut Vec<Completed>);

    /// Waits, on the host alone and for 2 s at most, until no snapshot that is under way looks at memory in a range.
    /// Called before the program gives such memory back. `false` where that took too long.
    fn settle(&self, address: u64, bytes: u64) -> bool;
}

/// All chunks of a buffer.
fn whole(watched: &Watched) -> AuditRange {
    let chunks = watched.bytes.div_ceil(u64::from(watched.chunk_bytes.max(1)));
    AuditRange { buffer: watched.buffer, first_chunk: 0, chunks }
}
