//! Where a writer appends its bytes.
//!
//! The writer needs three things of a disk, so tests can put a faulty one in its place.

use std::fs::File;
use std::io::{self, Write};

/// Bytes that only grow.
pub trait Storage {
    /// Appends all of `bytes`. After an error any prefix of them may have been appended.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// How many bytes there are.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Returns once everything appended survives a loss of power.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file. Appends are plain writes: a full disk is an ordinary error of the write that met it,
/// and nothing is mapped while it grows.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
}

impl FileStorage {
    /// Appends to `file`, which must have been opened for writing and stand at its end.
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// The file.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Storage for FileStorage {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MemoryStorage {
    bytes: Vec<u8>,
}

impl MemoryStorage {
    /// What was appended so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was appended.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Storage for MemoryStorage {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
