//! Whether what a recorder hands in makes sense: asked before a writer changes anything.

use std::collections::HashMap;

use super::{BufferState, TraceWriter, next_number};
use crate::error::WriteError;
use crate::record::{BufferId, ProgramId, StepRecord};
use crate::snapshot::{AuditRange, ChangedChunks};
use crate::storage::Storage;

impl<S: Storage> TraceWriter<S> {
    pub(super) fn check_buffer(
        &self,
        buffer: BufferId,
        user: impl Fn() -> String,
    ) -> Result<&BufferState, WriteError> {
        let count = self.buffers.len();
        let state = self.buffers.get(buffer.0 as usize);
        state.ok_or_else(|| WriteError::UnknownBuffer { user: user(), buffer, count })
    }

    pub(super) fn check_program(
        &self,
        program: ProgramId,
        user: impl Fn() -> String,
    ) -> Result<usize, WriteError> {
        let count = self.program_items.len();
        let items = self.program_items.get(program.0 as usize);
        items.copied().ok_or_else(|| WriteError::UnknownProgram { user: user(), program, count })
    }

    pub(super) fn check_covered(&self, covered: &[BufferId]) -> Result<Vec<BufferId>, WriteError> {
        let mut covered = covered.to_vec();
        covered.sort_unstable();
        covered.dedup();
        for &buffer in &covered {
            self.check_buffer(buffer, || "a snapshot's coverage".into())?;
        }
        Ok(covered)
    }

    /// The pieces of a snapshot in order of buffer and chunk, once they are known to be right.
    pub(super) fn check_pieces<'a>(
        &self,
        covered: &[BufferId],
        changed: &[ChangedChunks<'a>],
    ) -> Result<Vec<ChangedChunks<'a>>, WriteError> {
        let mut pieces = changed.to_vec();
        pieces.sort_by_key(|piece| (piece.buffer, piece.first_chunk));
        let mut free = HashMap::new();
        for piece in &pieces {
            let state = self.check_buffer(piece.buffer, || "a snapshot piece".into())?;
            let bad = |reason| WriteError::BadPiece {
                buffer: state.label(),
                first_chunk: piece.first_chunk,
                bytes: piece.bytes.len(),
                reason,
            };
            if covered.binary_search(&piece.buffer).is_err() {
                return Err(bad("the snapshot does not cover this buffer"));
            }
            let start = piece.first_chunk.checked_mul(state.chunk_bytes);
            let end = start.and_then(|start| start.checked_add(piece.bytes.len() as u64));
            let end = end
                .filter(|&end| end <= state.record_bytes)
                .ok_or_else(|| bad("it ends beyond the buffer"))?;
            if end != state.record_bytes && !end.is_multiple_of(state.chunk_bytes) {
                return Err(bad("it ends inside a chunk; give whole chunks"));
            }
            let free: &mut u64 = free.entry(piece.buffer).or_default();
            if piece.first_chunk < *free {
                return Err(bad("it overlaps another piece of the same snapshot"));
            }
            if !state.covered && piece.first_chunk != *free {
                return Err(bad(
                    "the buffer is covered for the first time and must be given whole; chunks before this piece are missing",
                ));
            }
            *free = end.div_ceil(state.chunk_bytes);
        }
        for buffer in covered {
            let state = &self.buffers[buffer.0 as usize];
            let given = free.get(buffer).copied().unwrap_or(0);
            if !state.covered && given != state.chunks {
                return Err(WriteError::BadSnapshot(format!(
                    "buffer {} is covered for the first time and must be given whole; \
                     {given} of its {} chunks were",
                    state.label(),
                    state.chunks
                )));
            }
        }
        Ok(pieces)
    }

    pub(super) fn check_audited(&self, audited: &[AuditRange]) -> Result<(), WriteError> {
        next_number(audited.len(), "audited ranges")?;
        for audit in audited {
            let state = self.check_buffer(audit.buffer, || "an audited range".into())?;
            let end = audit.first_chunk.checked_add(audit.chunks);
            if end.is_none_or(|end| end > state.chunks) {
                return Err(WriteError::BadSnapshot(format!(
                    "{} chunks of buffer {} from chunk {} cannot have been audited, it has {}",
                    audit.chunks,
                    state.label(),
                    audit.first_chunk,
                    state.chunks
                )));
            }
        }
        Ok(())
    }

    pub(super) fn check_step(&self, s: &StepRecord) -> Result<(), WriteError> {
        let user = || format!("step {}:{}", s.request, s.step);
        let items = self.check_program(s.program, user)?;
        let positions = s.host_writes.iter().map(|write| write.position);
        let positions = positions.chain(s.host_reads.iter().map(|read| read.position));
        for position in positions.chain(s.points.iter().map(|point| point.position)) {
            if position as usize > items {
                return Err(WriteError::BadPosition { request: s.request, step: s.step, position, items });
            }
        }
        for point in &s.points {
            let (snapshot, count) = (point.snapshot, self.tables.snapshots.len());
            if snapshot.0 as usize >= count {
                return Err(WriteError::UnknownSnapshot { user: user(), snapshot, count });
            }
        }
        let writes = s.host_writes.iter().map(|w| ("write", w.buffer, w.offset, w.bytes.len()));
        let reads = s.host_reads.iter().map(|r| ("read", r.buffer, r.offset, r.bytes.len()));
        for (access, buffer, offset, bytes) in writes.chain(reads) {
            let state = self.check_buffer(buffer, || format!("a host {access} of {}", user()))?;
            let size = state.record_bytes;
            if offset.checked_add(bytes as u64).is_none_or(|end| end > size) {
                let (request, step, buffer) = (s.request, s.step, state.label());
                return Err(WriteError::BadHostAccess { request, step, access, bytes, offset, buffer, size });
            }
        }
        Ok(())
    }
}
