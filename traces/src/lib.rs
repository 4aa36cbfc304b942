//! The `.twin` trace format: writer, reader, recovery, chunk store, index.
//!
//! One file holds one run of a decode loop: what ran (buffers, programs, graphs, requests,
//! steps) and what memory held around it (snapshots, cut in content-addressed chunks). The
//! layout, byte by byte, and the argument why a killed recording opens at its last commit are
//! in `FORMAT.md` beside this crate's `Cargo.toml`.
//!
//! | module | concept |
//! | --- | --- |
//! | `record` | the records as a program sees them |
//! | `hash` | the chunk hash, which a CPU and a GPU compute alike |
//! | `codec` | records to bytes and back; the only module that knows bincode |
//! | `layout` | file header, frames, commit and footer as they lie in the file |
//! | `snapshot` | what a snapshot covers and which chunks it changed |
//! | `index` | the tables that turn (snapshot, buffer, chunk) into bytes |
//! | `storage` | where a writer appends: a file, memory, or a test's faulty disk |
//! | `writer` | recording |
//! | `image` | the bytes of a file being read; the only module with `unsafe` |
//! | `recovery` | the tables of a file that was never closed |
//! | `reader` | looking |
//! | `verify` | every checksum, hash and reference |
//!
//! # Example
//!
//! ```
//! use twinstep_traces::*;
//!
//! let run = RunRecord { tool: "example".into(), mode: "eager".into(), ..RunRecord::default() };
//! let mut writer = TraceWriter::new(MemoryStorage::default(), &run)?;
//! let codes = writer.add_buffer(&BufferRecord {
//!     name: "last_codes".into(),
//!     generation: 0,
//!     dtype: DType::I32,
//!     shape: vec![4],
//!     role: Role::State,
//!     bytes: 16,
//!     chunk_bytes: 8,
//!     address: None,
//!     contents: None,
//! })?;
//! let program = writer.add_program(&Program::default())?;
//! let whole = ChangedChunks { buffer: codes, first_chunk: 0, bytes: &[7; 16] };
//! let before = writer.snapshot(&[codes], &[whole], &[])?;
//! let second_half = ChangedChunks { buffer: codes, first_chunk: 1, bytes: &[9; 8] };
//! let after = writer.snapshot(&[codes], &[second_half], &[])?;
//! let point = |point: &str, snapshot| PointRecord { point: point.into(), position: 0, snapshot };
//! writer.commit_step(&StepRecord {
//!     kind: StepKind::Prefill,
//!     request: 1,
//!     step: 1,
//!     rank: 0,
//!     program,
//!     host_writes: vec![],
//!     host_reads: vec![],
//!     points: vec![point("step.before", before), point("step.after", after)],
//! })?;
//! let bytes = writer.finish()?.into_bytes();
//!
//! let trace = Trace::from_bytes(bytes)?;
//! assert!(trace.complete() && trace.verify().ok());
//! assert_eq!(trace.find_step(1, 1)?, Some(0));
//! assert_eq!(trace.read_buffer(before, codes)?, Some(vec![7; 16]));
//! assert_eq!(trace.read_chunk(after, codes, 1)?, Some(&[9; 8][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod codec;
mod error;
mod hash;
mod image;
mod index;
mod layout;
mod reader;
mod record;
mod recovery;
mod snapshot;
mod storage;
mod verify;
mod writer;

pub use error::{OpenError, ReadError, WriteError};
pub use hash::{ChunkHash, chunk_hash};
pub use layout::{FORMAT_VERSION, MAX_CHUNK_BYTES, MAX_RECORD_BYTES, OLDEST_MINOR};
pub use reader::{MAX_READ_BYTES, Trace};
pub use record::*;
pub use snapshot::{AuditRange, ChangedChunks, ChunkChange};
pub use storage::{FileStorage, MemoryStorage, Storage};
pub use verify::{Damage, Verification};
pub use writer::TraceWriter;
