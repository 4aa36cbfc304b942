//! Elements of a buffer at a snapshot, read piece by piece: a trace may claim any size.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use twinstep_traces::{BufferId, BufferRecord, ChunkHash, SnapshotId, Trace, chunk_hash};

use crate::ReplayError;
use crate::value::Value;

/// Elements that are read at once, unless a chunk holds more.
const BLOCK: u64 = 1 << 16;

/// Other values for some elements of one buffer at one snapshot of B: a copy of the trace, changed.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    pub(crate) snapshot: SnapshotId,
    pub(crate) buffer: BufferId,
    /// By flat index.
    pub(crate) values: BTreeMap<u64, Value>,
}

/// One buffer at one snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Elements<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) snapshot: SnapshotId,
    pub(crate) id: BufferId,
    pub(crate) record: &'a BufferRecord,
    overlay: Option<&'a Overlay>,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(
        trace: &'a Trace,
        snapshot: SnapshotId,
        id: BufferId,
        overlay: Option<&'a Overlay>,
    ) -> Option<Self> {
        let overlay = overlay.filter(|o| o.snapshot == snapshot && o.buffer == id);
        Some(Elements { trace, snapshot, id, record: trace.buffer(id)?, overlay })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.record.bytes / self.record.dtype.size()
    }

    /// Elements that are read at once.
    pub(crate) fn block(&self) -> u64 {
        BLOCK.max(u64::from(self.record.chunk_bytes) / self.record.dtype.size())
    }

    /// The elements that a chunk holds, wholly or in part.
    pub(crate) fn of_chunk(&self, chunk: u64) -> Range<u64> {
        let (size, chunk_bytes) = (self.record.dtype.size(), u64::from(self.record.chunk_bytes));
        let start = chunk.saturating_mul(chunk_bytes);
        let end = start.saturating_add(chunk_bytes).min(self.record.bytes);
        start / size..end.div_ceil(size).min(self.count())
    }

    /// The values of some elements, at most [`Elements::block`].
    pub(crate) fn values(&self, range: Range<u64>) -> Result<Vec<Value>, ReplayError> {
        let (size, chunk_bytes) = (self.record.dtype.size(), u64::from(self.record.chunk_bytes.max(1)));
        let (start, end) = (range.start * size, range.end * size);
        let mut bytes = Vec::new();
        let mut at = start;
        while at < end {
            let chunk = at / chunk_bytes;
            let first = chunk * chunk_bytes;
            let part = self.trace.read_chunk(self.snapshot, self.id, chunk)?.unwrap_or_default();
            let (from, to) = ((at - first) as usize, (end - first).min(part.len() as u64) as usize);
            let Some(part) = part.get(from..to).filter(|part| !part.is_empty()) else { break };
            bytes.extend_from_slice(part);
            at += part.len() as u64;
        }
        let mut values: Vec<Value> = Value::all(self.record.dtype, &bytes).collect();
        for (flat, value) in self.overlay.iter().flat_map(|o| o.values.range(range.clone())) {
            if let Some(slot) = values.get_mut((flat - range.start) as usize) {
                *slot = *value;
            }
        }
        Ok(values)
    }

    /// One element.
    pub(crate) fn value(&self, flat: u64) -> Result<Option<Value>, ReplayError> {
        Ok(self.values(flat..flat.saturating_add(1).min(self.count()))?.first().copied())
    }

    /// Chunks that the overlay changes, with their hashes.
    pub(crate) fn overlaid(&self) -> Result<Vec<(u64, ChunkHash)>, ReplayError> {
        let Some(overlay) = self.overlay else { return Ok(Vec::new()) };
        let (size, chunk_bytes) = (self.record.dtype.size(), u64::from(self.record.chunk_bytes.max(1)));
        let touched = |flat: &u64| flat * size / chunk_bytes..=(flat * size + size - 1) / chunk_bytes;
        let chunks: BTreeSet<u64> = overlay.values.keys().flat_map(touched).collect();
        let mut hashes = Vec::new();
        for chunk in chunks {
            let Some(part) = self.trace.read_chunk(self.snapshot, self.id, chunk)? else { continue };
            let mut part = part.to_vec();
            for (flat, value) in &overlay.values {
                for (i, byte) in (flat * size..).zip(value.to_bytes()) {
                    if let Some(slot) =
                        i.checked_sub(chunk * chunk_bytes).and_then(|i| part.get_mut(i as usize))
                    {
                        *slot = byte;
                    }
                }
            }
            hashes.push((chunk, chunk_hash(&part)));
        }
        Ok(hashes)
    }
}

/// The elements where two buffers of the same shape can differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Differing {
    /// All: nothing is known of their chunks.
    All,
    /// Those of these chunks; elsewhere the bits are equal.
    Chunks(BTreeSet<u64>),
}

impl Differing {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Differing::Chunks(chunks) if chunks.is_empty())
    }

    /// Ranges of these elements within `rows`, rising, each no longer than a block.
    pub(crate) fn ranges(
        &self,
        elements: &Elements<'_>,
        rows: Range<u64>,
    ) -> Box<dyn Iterator<Item = Range<u64>>> {
        let block = elements.block();
        let Differing::Chunks(chunks) = self else {
            // Made one by one: a buffer of unknown chunks may claim any size.
            let starts = (0..(rows.end.saturating_sub(rows.start)).div_ceil(block)).map(move |i| i * block);
            return Box::new(starts.map(move |i| {
                let start = rows.start + i;
                start..start.saturating_add(block).min(rows.end)
            }));
        };
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for range in chunks.iter().map(|&chunk| elements.of_chunk(chunk)) {
            let (mut start, end) = (range.start.max(rows.start), range.end.min(rows.end));
            if let Some(last) = ranges.last_mut().filter(|last| last.end >= start) {
                if end.saturating_sub(last.start) <= block {
                    last.end = last.end.max(end);
                    continue;
                }
                // Chunks smaller than an element share it.
                start = last.end;
            }
            if start < end {
                ranges.push(start..end);
            }
        }
        Box::new(ranges.into_iter())
    }
}
