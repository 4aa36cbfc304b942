//! Which chunks of two buffers differ, at the cost of what changes from snapshot to snapshot.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, ChunkHash, SnapshotId, Trace};

use crate::ReplayError;

/// The chunk hashes of one trace at one snapshot, and the chunks that changed since they were last compared.
struct Side<'a> {
    trace: &'a Trace,
    next: u32,
    hashes: BTreeMap<BufferId, BTreeMap<u64, ChunkHash>>,
    changed: BTreeMap<BufferId, BTreeSet<u64>>,
}

impl<'a> Side<'a> {
    fn new(trace: &'a Trace) -> Self {
        Side { trace, next: 0, hashes: BTreeMap::new(), changed: BTreeMap::new() }
    }

    /// Whether it had to begin again, since the snapshot lies before the last one.
    fn advance(&mut self, snapshot: SnapshotId) -> Result<bool, ReplayError> {
        let again = snapshot.0 < self.next.saturating_sub(1);
        if again {
            *self = Side::new(self.trace);
        }
        while self.next <= snapshot.0 {
            for change in self.trace.changes(SnapshotId(self.next))? {
                self.hashes.entry(change.buffer).or_default().insert(change.chunk, change.hash);
                self.changed.entry(change.buffer).or_default().insert(change.chunk);
            }
            self.next += 1;
        }
        Ok(again)
    }

    fn of(&self, buffer: BufferId, chunk: u64) -> Option<ChunkHash> {
        self.hashes.get(&buffer)?.get(&chunk).copied()
    }
}

/// Goes through two traces side by side.
pub(crate) struct PairHashes<'a> {
    a: Side<'a>,
    b: Side<'a>,
    /// By buffer of A: the buffer of B that it was compared with last, and the chunks that differ.
    differing: BTreeMap<BufferId, (BufferId, BTreeSet<u64>)>,
    /// By buffer of B: what it was compared with last.
    partners: BTreeMap<BufferId, BufferId>,
}

impl<'a> PairHashes<'a> {
    pub(crate) fn new(a: &'a Trace, b: &'a Trace) -> Self {
        PairHashes { a: Side::new(a), b: Side::new(b), differing: BTreeMap::new(), partners: BTreeMap::new() }
    }

    /// Goes to a snapshot of each.
    pub(crate) fn advance(&mut self, a: SnapshotId, b: SnapshotId) -> Result<(), ReplayError> {
        if self.a.advance(a)? | self.b.advance(b)? {
            self.differing.clear();
            self.partners.clear();
        }
        Ok(())
    }

    /// The chunks in which two buffers of equal chunk size differ.
    pub(crate) fn differing(&mut self, ia: BufferId, ib: BufferId) -> &BTreeSet<u64> {
        let changed: Vec<u64> = [self.a.changed.remove(&ia), self.b.changed.remove(&ib)]
            .into_iter()
            .flatten()
            .flat_map(BTreeSet::into_iter)
            .collect();
        let known = self.partners.insert(ib, ia) == Some(ia)
            && self.differing.get(&ia).is_some_and(|(with, _)| *with == ib);
        let chunks: Vec<u64> = if known {
            changed
        } else {
            self.differing.insert(ia, (ib, BTreeSet::new()));
            let all = [self.a.hashes.get(&ia), self.b.hashes.get(&ib)];
            all.into_iter().flatten().flat_map(|chunks| chunks.keys().copied()).collect()
        };
        let (_, differing) = self.differing.entry(ia).or_insert_with(|| (ib, BTreeSet::new()));
        for chunk in chunks {
            if self.a.of(ia, chunk) == self.b.of(ib, chunk) {
                differing.remove(&chunk);
            } else {
                differing.insert(chunk);
            }
        }
        differing
    }

    /// A's hash of a chunk.
    pub(crate) fn of_a(&self, ia: BufferId, chunk: u64) -> Option<ChunkHash> {
        self.a.of(ia, chunk)
    }
}
