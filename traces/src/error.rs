//! What can go wrong: opening, reading and writing are three layers with one enum each.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::record::{BufferId, ProgramId, SnapshotId};

/// Why a trace could not be opened. `origin` is the path, or `trace in memory`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot open {origin}: {source}")]
    Io {
        /// Which file.
        origin: String,
        /// What it said.
        source: io::Error,
    },
    /// Not a `.twin` file at all.
    #[error("{origin} is not a twinstep trace: {reason}; a trace is written by `twinstep record`")]
    NotATrace {
        /// Which file.
        origin: String,
        /// How that shows.
        reason: String,
    },
    /// A `.twin` file of a version that this reader does not know.
    #[error(
        "{origin} has trace format {major}.{minor}, this twinstep reads {0}.{1} to {0}.{2}; \
         open it with the version that recorded it, or record it again",
        crate::FORMAT_VERSION.0, crate::OLDEST_MINOR, crate::FORMAT_VERSION.1
    )]
    Version {
        /// Which file.
        origin: String,
        /// Major version found.
        major: u16,
        /// Minor version found.
        minor: u16,
    },
    /// The recording ended before its first commit was written.
    #[error("{origin} holds no committed data: its recording ended before the first commit; record it again")]
    NothingCommitted {
        /// Which file.
        origin: String,
    },
    /// The file is a trace, but what must be read first is damaged.
    #[error("{origin} is damaged: {source}; get another copy or record it again")]
    Damaged {
        /// Which file.
        origin: String,
        /// Where and how.
        source: ReadError,
    },
}

/// Why something could not be read from an open trace.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Bytes are not what the format demands.
    #[error("at byte {offset}: {what}")]
    Damaged {
        /// Byte of the file where it shows.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The caller asked for something that the trace does not have.
    #[error("there is no {what} {index}: the trace has {count}, counted from 0")]
    OutOfRange {
        /// `step`, `buffer`, `snapshot`, ...
        what: &'static str,
        /// What was asked for.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// Someone cut the file while it was open.
    #[error("the trace file shrank from {expected} to {actual} bytes while it was open; open it again")]
    Shrunk {
        /// Bytes when it was opened.
        expected: u64,
        /// Bytes now.
        actual: u64,
    },
    /// Too much for one read.
    #[error("{what} has {bytes} bytes, more than the {limit} that are read at once; read it chunk by chunk")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The operating system refused.
    #[error("reading the trace file failed: {0}")]
    Io(#[from] io::Error),
}

/// Why something could not be written to a trace. After any error but a refused argument the
/// writer accepts nothing more, and the file opens at its last commit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The target is there already.
    #[error("{} exists already; choose another name or overwrite it with --force", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The target is a folder, a device or the like.
    #[error("{} is not a regular file and will not be replaced; choose another name", path.display())]
    NotAFile {
        /// Which path.
        path: PathBuf,
    },
    /// Another recording is writing the file that was to be overwritten.
    #[error("{} is being recorded by another process; wait for it to end or choose another name", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The file could not be made.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes could not be appended, for instance to a full disk.
    #[error(
        "writing {bytes} bytes at byte {offset} of the trace failed: {source}; \
         the {steps} steps committed so far stay readable"
    )]
    Append {
        /// Length of the file before.
        offset: u64,
        /// Bytes that were to follow.
        bytes: u64,
        /// Steps that are safe.
        steps: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes could not be made durable.
    #[error("flushing the trace to disk failed: {0}; it may be lost if power fails now")]
    Sync(io::Error),
    /// An earlier write failed.
    #[error(
        "this recording stopped at an earlier write error; the {steps} steps committed before it stay readable"
    )]
    Stopped {
        /// Steps that are safe.
        steps: usize,
    },
    /// A trace must begin at byte 0.
    #[error("the storage holds {bytes} bytes already; a trace must begin in an empty one")]
    NotEmpty {
        /// Bytes found.
        bytes: u64,
    },
    /// A buffer record contradicts itself or an earlier one.
    #[error("buffer {name}@{generation} cannot be added: {reason}")]
    BadBuffer {
        /// Its name.
        name: String,
        /// Its generation.
        generation: u32,
        /// What is wrong.
        reason: String,
    },
    /// A buffer was named that was never added.
    #[error("{user} names buffer {}, of which there are {count}; add the buffer first", buffer.0)]
    UnknownBuffer {
        /// What named it.
        user: String,
        /// The buffer.
        buffer: BufferId,
        /// Buffers added so far.
        count: usize,
    },
    /// A program was named that was never added.
    #[error("{user} names program {}, of which there are {count}; add the program first", program.0)]
    UnknownProgram {
        /// What named it.
        user: String,
        /// The program.
        program: ProgramId,
        /// Programs added so far.
        count: usize,
    },
    /// A snapshot was named that was never taken.
    #[error("{user} names snapshot {}, of which there are {count}; take the snapshot first", snapshot.0)]
    UnknownSnapshot {
        /// What named it.
        user: String,
        /// The snapshot.
        snapshot: SnapshotId,
        /// Snapshots taken so far.
        count: usize,
    },
    /// Graphs are numbered in the order in which they are added.
    #[error("graph {given} was added where graph {due} was due; number graphs from 0 in order of capture")]
    GraphOutOfOrder {
        /// Its number.
        given: u32,
        /// The next number.
        due: usize,
    },
    /// A piece of a snapshot does not fit its buffer.
    #[error("snapshot piece of buffer {buffer} from chunk {first_chunk}, {bytes} bytes: {reason}")]
    BadPiece {
        /// Which buffer, by name.
        buffer: String,
        /// Where the piece begins.
        first_chunk: u64,
        /// How long it is.
        bytes: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A snapshot's list of covered buffers or of audited ranges is wrong.
    #[error("snapshot: {0}")]
    BadSnapshot(String),
    /// A host write or read lies outside its buffer.
    #[error(
        "step {request}:{step} has a host {access} of {bytes} bytes at {offset} of buffer {buffer}, which has {size}"
    )]
    BadHostAccess {
        /// Request of the step.
        request: u32,
        /// The step.
        step: u32,
        /// `write` or `read`.
        access: &'static str,
        /// Bytes accessed.
        bytes: usize,
        /// Where.
        offset: u64,
        /// Which buffer, by name.
        buffer: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A host write, host read or point lies beyond its step's program.
    #[error("step {request}:{step} names position {position} of a program of {items} items")]
    BadPosition {
        /// Request of the step.
        request: u32,
        /// The step.
        step: u32,
        /// Position named.
        position: u32,
        /// Items of its program.
        items: usize,
    },
    /// A metadata record cannot be encoded.
    #[error("a {kind} record cannot be stored (the limit is {} bytes): {reason}", crate::MAX_RECORD_BYTES)]
    BadRecord {
        /// Which kind.
        kind: &'static str,
        /// What the codec said.
        reason: String,
    },
    /// The format counts these in 32 bits.
    #[error("the trace is full: it cannot number more than {} {what}", u32::MAX)]
    TooMany {
        /// What there are too many of.
        what: &'static str,
    },
}
