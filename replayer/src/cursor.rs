//! Goes through the snapshots of a trace in order, at the cost of what changes between them.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, ChunkHash, SnapshotId, Trace};

use crate::ReplayError;

/// The chunk hashes of all buffers at one snapshot.
pub(crate) struct HashCursor<'a> {
    trace: &'a Trace,
    next: u32,
    /// By chunk: as many entries as the file has changes, whatever sizes it claims.
    hashes: BTreeMap<BufferId, BTreeMap<u64, ChunkHash>>,
}

impl<'a> HashCursor<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        HashCursor { trace, next: 0, hashes: BTreeMap::new() }
    }

    /// Goes to a snapshot: on from the last one, or from the start where it lies before that.
    pub(crate) fn advance(&mut self, snapshot: SnapshotId) -> Result<(), ReplayError> {
        if snapshot.0 + 1 < self.next {
            self.next = 0;
            self.hashes.clear();
        }
        while self.next <= snapshot.0 {
            for change in self.trace.changes(SnapshotId(self.next))? {
                self.hashes.entry(change.buffer).or_default().insert(change.chunk, change.hash);
            }
            self.next += 1;
        }
        Ok(())
    }

    /// The hashes of a buffer's chunks; a snapshot that covers it has them all.
    pub(crate) fn of(&self, buffer: BufferId) -> Option<&BTreeMap<u64, ChunkHash>> {
        self.hashes.get(&buffer)
    }
}

/// The recorded bytes of all buffers at one snapshot.
pub(crate) struct ByteCursor<'a> {
    trace: &'a Trace,
    next: u32,
    bytes: BTreeMap<BufferId, Vec<u8>>,
}

impl<'a> ByteCursor<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        ByteCursor { trace, next: 0, bytes: BTreeMap::new() }
    }

    /// Goes to a snapshot: on from the last one, or from the start where it lies before that.
    pub(crate) fn advance(&mut self, snapshot: SnapshotId) -> Result<(), ReplayError> {
        if snapshot.0 + 1 < self.next {
            self.next = 0;
            self.bytes.clear();
        }
        while self.next <= snapshot.0 {
            let at = SnapshotId(self.next);
            for change in self.trace.changes(at)? {
                let Some(record) = self.trace.buffer(change.buffer) else { continue };
                let Some(chunk) = self.trace.read_chunk(at, change.buffer, change.chunk)? else { continue };
                let bytes = self.bytes.entry(change.buffer).or_default();
                let start = (change.chunk * u64::from(record.chunk_bytes)) as usize;
                // Chunks come in rising order, so a buffer first covered grows by one chunk at a time.
                if start > bytes.len() {
                    return Err(ReplayError::Opaque(format!(
                        "snapshot {} lacks the start of `{}`",
                        self.next, record.name
                    )));
                }
                if bytes.len() < start + chunk.len() {
                    bytes.resize(start + chunk.len(), 0);
                }
                bytes[start..start + chunk.len()].copy_from_slice(chunk);
            }
            self.next += 1;
        }
        Ok(())
    }

    /// The bytes of a buffer that the snapshot covers.
    pub(crate) fn of(&self, buffer: BufferId) -> &[u8] {
        self.bytes.get(&buffer).map_or(&[], Vec::as_slice)
    }
}
