//! What a snapshot covers and which chunks it changed: arguments, payload, validity.
//!
//! Snapshot payloads are fixed-size entries read in place, not encoded records: a first
//! snapshot of a large KV cache lists as many chunks as the cache has.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::hash::ChunkHash;
use crate::layout::padded;
use crate::record::BufferId;

/// A piece of a buffer that may have changed, with its present bytes.
///
/// It starts at chunk `first_chunk` of the buffer and covers whole chunks; the last chunk of
/// the buffer may be shorter than the others.
#[derive(Debug, Clone, Copy)]
pub struct ChangedChunks<'a> {
    /// Which buffer.
    pub buffer: BufferId,
    /// Where the piece begins, in chunks from the start of the buffer.
    pub first_chunk: u64,
    /// The bytes of the piece.
    pub bytes: &'a [u8],
}

/// Chunks that a snapshot looked at although nothing was known to have written them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditRange {
    /// Which buffer.
    pub buffer: BufferId,
    /// First chunk looked at.
    pub first_chunk: u64,
    /// How many chunks.
    pub chunks: u64,
}

/// A chunk whose content changed at a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkChange {
    /// Which buffer.
    pub buffer: BufferId,
    /// Which of its chunks, from 0.
    pub chunk: u64,
    /// Hash of the new content.
    pub hash: ChunkHash,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SnapshotHead {
    pub(crate) snapshot: U32,
    pub(crate) covered: U32,
    pub(crate) changes: U32,
    pub(crate) audits: U32,
}

/// From this snapshot on, until the next change, this chunk holds this content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Change {
    pub(crate) buffer: U32,
    /// Index in the chunk table.
    pub(crate) content: U32,
    pub(crate) chunk: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Audit {
    pub(crate) buffer: U32,
    pub(crate) reserved: U32,
    pub(crate) first_chunk: U64,
    pub(crate) chunks: U64,
}

/// A snapshot's payload, taken apart in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot<'a> {
    pub(crate) id: u32,
    /// Buffers, strictly ascending.
    pub(crate) covered: &'a [U32],
    /// Strictly ascending by buffer, then chunk.
    pub(crate) changes: &'a [Change],
    pub(crate) audits: &'a [Audit],
}

impl<'a> Snapshot<'a> {
    /// Takes a payload apart; its parts must fill it exactly.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, String> {
        let short = || format!("a snapshot of {} bytes is too short for what it lists", payload.len());
        let (head, rest) = SnapshotHead::read_from_prefix(payload).map_err(|_| short())?;
        let (covered, rest) = split::<U32>(rest, head.covered).ok_or_else(short)?;
        let gap = padded(size_of_val(covered) as u64).unwrap_or(0) as usize - size_of_val(covered);
        let rest = rest.get(gap..).ok_or_else(short)?;
        let (changes, rest) = split::<Change>(rest, head.changes).ok_or_else(short)?;
        let (audits, rest) = split::<Audit>(rest, head.audits).ok_or_else(short)?;
        if !rest.is_empty() {
            return Err(format!("a snapshot has {} bytes more than it lists", rest.len()));
        }
        Ok(Self { id: head.snapshot.get(), covered, changes, audits })
    }

    pub(crate) fn covers(&self, buffer: BufferId) -> bool {
        self.covered.binary_search_by_key(&buffer.0, |id| id.get()).is_ok()
    }

    /// The payload of a snapshot. The caller has sorted all parts.
    pub(crate) fn encode(
        id: u32,
        covered: &[BufferId],
        changes: &[Change],
        audits: &[AuditRange],
    ) -> Vec<u8> {
        let count = |n: usize| U32::new(n as u32);
        let head = SnapshotHead {
            snapshot: id.into(),
            covered: count(covered.len()),
            changes: count(changes.len()),
            audits: count(audits.len()),
        };
        let mut payload = head.as_bytes().to_vec();
        for buffer in covered {
            payload.extend_from_slice(&buffer.0.to_le_bytes());
        }
        payload.resize(payload.len().next_multiple_of(8), 0);
        payload.extend_from_slice(changes.as_bytes());
        for audit in audits {
            let entry = Audit {
                buffer: audit.buffer.0.into(),
                reserved: 0.into(),
                first_chunk: audit.first_chunk.into(),
                chunks: audit.chunks.into(),
            };
            payload.extend_from_slice(entry.as_bytes());
        }
        payload
    }
}

/// One chunk of a chunks frame.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct StoredChunk {
    pub(crate) hash: [u8; 16],
    pub(crate) length: U32,
    pub(crate) reserved: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ChunksHead {
    pub(crate) count: U32,
    pub(crate) reserved: U32,
}

impl ChunksHead {
    /// The list at the start of a chunks frame, and where in the payload its data begins.
    pub(crate) fn parse(payload: &[u8]) -> Result<(&[StoredChunk], u64), String> {
        let short = || format!("a chunks frame of {} bytes is too short for its list", payload.len());
        let (head, rest) = Self::read_from_prefix(payload).map_err(|_| short())?;
        let (chunks, data) = split::<StoredChunk>(rest, head.count).ok_or_else(short)?;
        Ok((chunks, (payload.len() - data.len()) as u64))
    }

    /// The list of a chunks frame, and the bytes of zeros after each chunk that align the next.
    pub(crate) fn encode(chunks: &[(ChunkHash, &[u8])]) -> Vec<u8> {
        let head = Self { count: (chunks.len() as u32).into(), reserved: 0.into() };
        let mut list = head.as_bytes().to_vec();
        for (hash, bytes) in chunks {
            let length = (bytes.len() as u32).into();
            list.extend_from_slice(StoredChunk { hash: hash.0, length, reserved: 0.into() }.as_bytes());
        }
        list
    }
}

/// The first `count` entries of `bytes`, and the bytes after them.
fn split<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    bytes: &[u8],
    count: U32,
) -> Option<(&[T], &[u8])> {
    <[T]>::ref_from_prefix_with_elems(bytes, usize::try_from(count.get()).ok()?).ok()
}
