//! What a lane looks at: its table of watched buffers, and where the fingerprints of their chunks lie.

use std::collections::HashMap;
use std::sync::Arc;

use twinstep_traces::{AuditRange, BufferId};

use super::Watched;
use super::kernels::Look;

/// Chunks that a block of the kernel looks at: 16 groups of threads, 2 chunks each.
const CHUNKS_A_BLOCK: u64 = 32;

/// The words of one `Entry` of the kernel.
pub const ENTRY_WORDS: usize = 5;

/// Watched buffers, as one launch of the kernel sees them.
#[derive(Debug)]
pub struct Table {
    /// In the order of the kernel's entries.
    pub watched: Arc<[Watched]>,
    /// For each: whether other lanes look at it too.
    pub shared: Vec<bool>,
}

/// Where the fingerprints of a buffer's chunks lie, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    watched: Watched,
    first: u64,
    /// How often lanes began to share the buffer, as of when the place was taken.
    epoch: u32,
}

/// Places among a lane's fingerprints.
#[derive(Debug, Default)]
pub struct Places {
    held: HashMap<BufferId, Place>,
    /// Given back: first, how many.
    free: Vec<(u64, u64)>,
    end: u64,
}

/// A table as the kernels read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Encoded {
    /// `Entry` after `Entry`.
    pub words: Vec<u64>,
    /// Blocks of a launch.
    pub blocks: u32,
    /// Where each entry's blocks begin.
    pub first_blocks: Vec<u32>,
    /// Buffers that are new to the lane: all their chunks are handed over. Where the table does not get to the device
    /// their places are to be given back: what lies there is of other buffers still.
    pub fresh: Vec<BufferId>,
}

/// Buffers up to this size, and those that others write, are looked at whole by every snapshot.
const SMALL_BYTES: u64 = 1 << 20;

/// A quiet snapshot looks at one part in so many of the large buffers.
const PARTS: u32 = 16;

/// Whether a quiet snapshot looks at a part of it.
fn in_turn(watched: &Watched) -> bool {
    watched.bytes > SMALL_BYTES && !watched.of_others
}

/// How many of `watched`, which is in the order of a table, are looked at whole by every snapshot.
fn always_whole(watched: &[Watched]) -> usize {
    watched.partition_point(|w| !in_turn(w))
}

/// What is looked at whole by every snapshot first: the order of a table.
pub fn sorted(watched: &[Watched]) -> Arc<[Watched]> {
    let mut sorted = watched.to_vec();
    sorted.sort_by_key(|w| (in_turn(w), w.bytes, w.buffer));
    sorted.into()
}

/// What the `turn`-th quiet snapshot of a table of `blocks` blocks looks at, and those chunks.
pub fn part(watched: &[Watched], first_blocks: &[u32], blocks: u32, turn: u32) -> (Look, Vec<AuditRange>) {
    let whole = always_whole(watched);
    let always = first_blocks.get(whole).copied().unwrap_or(blocks);
    let each = (blocks - always).div_ceil(PARTS);
    let slice = (always + turn % PARTS * each).min(blocks);
    let look = Look { always, slice, blocks: each.min(blocks - slice) };
    let mut audited: Vec<AuditRange> = watched[..whole].iter().map(super::whole).collect();
    for (w, &first) in watched.iter().zip(first_blocks).skip(whole) {
        let all = super::whole(w);
        let begin = u64::from(look.slice.saturating_sub(first)) * CHUNKS_A_BLOCK;
        let end = u64::from((look.slice + look.blocks).saturating_sub(first)) * CHUNKS_A_BLOCK;
        let (begin, end) = (begin.min(all.chunks), end.min(all.chunks));
        if begin < end {
            audited.push(AuditRange { first_chunk: begin, chunks: end - begin, ..all });
        }
    }
    (look, audited)
}

impl Places {
    /// Chunks that there must be room for.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Gives places to buffers that have none. `epoch` says how often lanes began to share a buffer.
    ///
    /// # Errors
    /// More chunks than one launch can have; no place was given then.
    pub fn encode(
        &mut self,
        watched: &[Watched],
        epoch: impl Fn(BufferId) -> u32,
    ) -> Result<Encoded, String> {
        let mut first_blocks = Vec::with_capacity(watched.len());
        let total: u64 = watched.iter().map(|w| chunks(w).div_ceil(CHUNKS_A_BLOCK)).sum();
        let blocks = i32::try_from(total).map_err(|_| format!("{total} blocks of chunks are too many"))?;
        let (mut words, mut block, mut all_fresh) =
            (Vec::with_capacity(watched.len() * ENTRY_WORDS), 0u64, Vec::new());
        for w in watched {
            let chunks = chunks(w);
            let epoch = epoch(w.buffer);
            let known = self.held.get(&w.buffer).filter(|p| p.watched == *w && p.epoch == epoch).copied();
            let fresh = known.is_none();
            let first = match known {
                Some(place) => place.first,
                None => {
                    self.give_back(w.buffer);
                    let first = self.room(chunks);
                    self.held.insert(w.buffer, Place { watched: *w, first, epoch });
                    first
                }
            };
            if fresh {
                all_fresh.push(w.buffer);
            }
            words.extend([
                w.address,
                w.bytes,
                first,
                block | u64::from(w.chunk_bytes) << 32,
                u64::from(fresh),
            ]);
            first_blocks.push(u32::try_from(block).unwrap_or(u32::MAX));
            block += chunks.div_ceil(CHUNKS_A_BLOCK);
        }
        Ok(Encoded { words, blocks: blocks.unsigned_abs(), first_blocks, fresh: all_fresh })
    }

    /// Gives back the places of buffers that no table has any more.
    pub fn keep(&mut self, live: impl Fn(BufferId) -> bool) {
        let gone: Vec<BufferId> = self.held.keys().copied().filter(|&b| !live(b)).collect();
        gone.into_iter().for_each(|buffer| self.give_back(buffer));
    }

    /// What is known of a buffer's chunks counts no longer.
    pub fn give_back(&mut self, buffer: BufferId) {
        let Some(place) = self.held.remove(&buffer) else { return };
        let (mut first, mut room) = (place.first, chunks(&place.watched));
        // With what is free beside it: else small places could never hold a large buffer again.
        self.free.retain(|&(other, chunks)| {
            let beside = other + chunks == first || first + room == other;
            if beside {
                first = first.min(other);
                room += chunks;
            }
            !beside
        });
        // What was too much for the device must not be asked for with every table from then on.
        if first + room == self.end {
            self.end = first;
        } else {
            self.free.push((first, room));
        }
    }

    fn room(&mut self, chunks: u64) -> u64 {
        if let Some(found) = self.free.iter_mut().find(|(_, room)| *room >= chunks) {
            let first = found.0;
            *found = (first + chunks, found.1 - chunks);
            self.free.retain(|&(_, room)| room > 0);
            return first;
        }
        self.end += chunks;
        self.end - chunks
    }
}

fn chunks(watched: &Watched) -> u64 {
    watched.bytes.div_ceil(u64::from(watched.chunk_bytes.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(buffer: u32, bytes: u64) -> Watched {
        let (address, chunk_bytes) = (0x1000 * u64::from(buffer), 4096);
        Watched { buffer: BufferId(buffer), address, bytes, chunk_bytes, of_others: false }
    }

    #[test]
    fn places_stay_while_a_buffer_is_the_same_and_blocks_count_up() {
        let mut places = Places::default();
        let (a, b) = (watched(1, 100_000), watched(2, 1));
        let first = places.encode(&[a, b], |_| 0).unwrap();
        assert_eq!((&first.fresh[..], places.end()), (&[BufferId(1), BufferId(2)][..], 26));
        assert_eq!(first.words, [0x1000, 100_000, 0, 4096 << 32, 1, 0x2000, 1, 25, 1 | 4096 << 32, 1]);
        assert_eq!(first.blocks, 2);
        let again = places.encode(&[b, a], |_| 0).unwrap();
        assert!(again.fresh.is_empty());
        assert_eq!(again.words, [0x2000, 1, 25, 4096 << 32, 0, 0x1000, 100_000, 0, 1 | 4096 << 32, 0]);
        // Another address under the same number, or lanes that share it: nothing is known.
        assert_eq!(places.encode(&[Watched { address: 8, ..a }, b], |_| 0).unwrap().fresh, [BufferId(1)]);
        assert_eq!(places.encode(&[b], |_| 1).unwrap().fresh, [BufferId(2)]);
    }

    #[test]
    fn places_are_used_again() {
        let mut places = Places::default();
        places.encode(&[watched(1, 40_960), watched(2, 4096)], |_| 0).unwrap();
        assert_eq!(places.end(), 11);
        places.keep(|buffer| buffer == BufferId(2));
        places.encode(&[watched(3, 20_480), watched(4, 20_480)], |_| 0).unwrap();
        assert_eq!(places.end(), 11, "both lie where the first buffer did");
    }

    #[test]
    fn places_that_adjoin_are_one_and_the_last_are_no_room_any_more() {
        let mut places = Places::default();
        let all = [1, 2, 3, 4].map(|buffer| watched(buffer, 4096));
        places.encode(&all, |_| 0).unwrap();
        [1, 3, 2].into_iter().for_each(|buffer| places.give_back(BufferId(buffer)));
        places.encode(&[watched(5, 3 * 4096)], |_| 0).unwrap();
        assert_eq!(places.end(), 4, "it lies where three did");
        // A table that the device has no room for is given back, and small ones go on.
        places.encode(&[watched(6, 1 << 40)], |_| 0).unwrap();
        places.give_back(BufferId(6));
        assert_eq!(places.end(), 4);
        [5, 4].into_iter().for_each(|buffer| places.give_back(BufferId(buffer)));
        assert_eq!((places.end(), places.free.len()), (0, 0));
    }

    #[test]
    fn too_many_chunks_take_no_place() {
        let mut places = Places::default();
        places.encode(&[watched(1, 4096)], |_| 0).unwrap();
        let endless = Watched { chunk_bytes: 1, ..watched(2, 1 << 40) };
        assert!(places.encode(&[watched(3, 1), endless], |_| 0).is_err());
        assert_eq!(
            (places.end(), places.encode(&[watched(3, 1)], |_| 0).unwrap().fresh),
            (1, vec![BufferId(3)])
        );
    }

    /// Small buffers and those of others are looked at each time, and every chunk of a large one once in so many turns.
    #[test]
    fn parts_in_turn_are_the_whole() {
        let of_others = Watched { of_others: true, ..watched(4, 9 << 20) };
        let watched = sorted(&[watched(1, 3 << 20), of_others, watched(2, 10), watched(3, (2 << 20) + 1)]);
        assert_eq!(watched.iter().map(|w| w.buffer.0).collect::<Vec<_>>(), [2, 4, 3, 1]);
        let (small, of_others) = (super::super::whole(&watched[0]), super::super::whole(&watched[1]));
        let encoded = Places::default().encode(&watched, |_| 0).unwrap();
        let mut seen = std::collections::BTreeMap::<BufferId, Vec<u64>>::new();
        for turn in 0..PARTS {
            let (look, audited) = part(&watched, &encoded.first_blocks, encoded.blocks, turn);
            assert_eq!((look.always, &audited[..2]), (1 + 9 * 8, &[small, of_others][..]));
            assert!(look.slice + look.blocks <= encoded.blocks);
            for range in &audited[2..] {
                let chunks = range.first_chunk..range.first_chunk + range.chunks;
                seen.entry(range.buffer).or_default().extend(chunks);
            }
        }
        for w in &watched[2..] {
            let all: Vec<u64> = (0..super::super::whole(w).chunks).collect();
            assert_eq!(seen[&w.buffer], all, "{:?}", w.buffer);
        }
    }
}
