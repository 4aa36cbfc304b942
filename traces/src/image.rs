//! The bytes of a trace being read: a memory map of a file, or memory.
//!
//! The only module with `unsafe`. A map has two dangers, and neither can be closed by the
//! reader alone:
//!
//! - *The file shrinks.* Touching a page beyond its end kills the process (SIGBUS). A writer of
//!   this crate never shrinks a file: it only appends, and to overwrite one it puts a new file
//!   in its place, so a map keeps the old one. Against other programs every access first
//!   compares the file's length with the map's and fails with [`ReadError::Shrunk`]. A file cut
//!   between that look and the access still kills the process; the shared lock held while a
//!   trace is open keeps out those who ask for an exclusive one.
//! - *The bytes change.* Committed bytes are never written again by this crate. Another program
//!   that rewrites them breaks checksums, which is noticed, and breaks the promise below, which
//!   is not.
//!
//! Who must read a file that an enemy rewrites at the same time reads it into memory first and
//! opens that.

#![allow(unsafe_code)]

use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use zerocopy::FromBytes;

use crate::error::{OpenError, ReadError};

#[derive(Debug)]
enum Source {
    Mapped { map: Mmap, file: File },
    Memory(Vec<u8>),
}

/// Bytes with a name. Their number is fixed when they are opened, even if the file grows on.
#[derive(Debug)]
pub(crate) struct Image {
    source: Source,
    origin: String,
    recording: bool,
    /// Bytes handed out so far, so that tests can see how much of a file an operation looks at.
    #[cfg(test)]
    requested: AtomicU64,
}

impl Image {
    fn new(source: Source, origin: String, recording: bool) -> Self {
        Self {
            source,
            origin,
            recording,
            #[cfg(test)]
            requested: AtomicU64::new(0),
        }
    }

    /// Bytes in memory.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::new(Source::Memory(bytes), "trace in memory".into(), false)
    }

    /// Maps the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let origin = path.display().to_string();
        let io = |source| OpenError::Io { origin: origin.clone(), source };
        // Asked before opening, because opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let reason = if metadata.is_dir() { "it is a folder" } else { "it is not a regular file" };
            return Err(OpenError::NotATrace { origin, reason: reason.into() });
        }
        let file = File::open(path).map_err(io)?;
        // A lock that is taken already means that a writer is at work, not that we must wait: what it
        // has committed can be read. File systems without locks are read without.
        let recording = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        // SAFETY: the map is read-only and lives in the same value as the file. That its bytes
        // neither vanish nor change under a reference is upheld by every writer of this crate
        // (append-only, replacement by rename) and checked against others as far as a reader
        // can, see the module's introduction.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::new(Source::Mapped { map, file }, origin, recording))
    }

    /// The path, or `trace in memory`.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a writer held the file when it was opened.
    pub(crate) fn recording(&self) -> bool {
        self.recording
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        match &self.source {
            Source::Mapped { map, .. } => map.len() as u64,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Gives the pages of a map back to the system, which reads them again when they are wanted.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Source::Mapped { map, .. } = &self.source {
            // SAFETY: the map is a read-only one of a file and was never written through, so a page that
            // is dropped comes back from the file with the same bytes. Where the system refuses, the
            // pages stay, which is as good.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// `length` bytes from `offset`, if the file has them, and has them still.
    pub(crate) fn slice(&self, offset: u64, length: u64) -> Result<&[u8], ReadError> {
        let bytes = match &self.source {
            Source::Memory(bytes) => bytes.as_slice(),
            Source::Mapped { map, file } => {
                let (expected, actual) = (map.len() as u64, file.metadata()?.len());
                if actual < expected {
                    return Err(ReadError::Shrunk { expected, actual });
                }
                map
            }
        };
        let range = offset
            .checked_add(length)
            .and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
        let slice = range.and_then(|range| bytes.get(range)).ok_or_else(|| ReadError::Damaged {
            offset,
            what: format!("{length} bytes are expected here, the file ends at byte {}", bytes.len()),
        })?;
        #[cfg(test)]
        self.requested.fetch_add(length, Ordering::Relaxed);
        Ok(slice)
    }

    /// The fixed-size value at `offset`.
    pub(crate) fn get<T: FromBytes>(&self, offset: u64) -> Result<T, ReadError> {
        let bytes = self.slice(offset, size_of::<T>() as u64)?;
        T::read_from_bytes(bytes).map_err(|_| ReadError::Damaged {
            offset,
            what: format!("{} bytes are no fixed-size value", bytes.len()),
        })
    }

    #[cfg(test)]
    pub(crate) fn requested(&self) -> u64 {
        self.requested.load(Ordering::Relaxed)
    }
}
