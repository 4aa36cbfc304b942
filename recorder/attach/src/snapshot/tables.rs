//! What a lane looks at: its table of watched buffers, and where their hashes lie.

use std::collections::HashMap;
use std::sync::Arc;

use twinstep_traces::BufferId;

use super::Watched;

/// Chunks that a block of the kernel hashes: 4 warps, 2 chunks each.
const CHUNKS_A_BLOCK: u64 = 8;

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

/// Where the hashes of a buffer's chunks lie, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    watched: Watched,
    first: u64,
    /// How often lanes began to share the buffer, as of when the place was taken.
    epoch: u32,
}

/// Places in a lane's table of hashes.
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
    /// Some entry is new to the lane: all its chunks are handed over.
    pub fresh: bool,
}

impl Places {
    /// Hashes that there must be room for.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Gives places to buffers that have none. `epoch` says how often lanes began to share a buffer.
    ///
    /// # Errors
    /// More chunks than one launch can have.
    pub fn encode(
        &mut self,
        watched: &[Watched],
        epoch: impl Fn(BufferId) -> u32,
    ) -> Result<Encoded, String> {
        let (mut words, mut block, mut any_fresh) =
            (Vec::with_capacity(watched.len() * ENTRY_WORDS), 0u64, false);
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
            any_fresh |= fresh;
            words.extend([
                w.address,
                w.bytes,
                first,
                block | u64::from(w.chunk_bytes) << 32,
                u64::from(fresh),
            ]);
            block += chunks.div_ceil(CHUNKS_A_BLOCK);
        }
        let blocks = i32::try_from(block).map_err(|_| format!("{block} blocks of chunks are too many"))?;
        Ok(Encoded { words, blocks: blocks.unsigned_abs(), fresh: any_fresh })
    }

    /// Gives back the places of buffers that no table has any more.
    pub fn keep(&mut self, live: impl Fn(BufferId) -> bool) {
        let gone: Vec<BufferId> = self.held.keys().copied().filter(|&b| !live(b)).collect();
        gone.into_iter().for_each(|buffer| self.give_back(buffer));
    }

    fn give_back(&mut self, buffer: BufferId) {
        if let Some(place) = self.held.remove(&buffer) {
            self.free.push((place.first, chunks(&place.watched)));
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
        Watched { buffer: BufferId(buffer), address: 0x1000 * u64::from(buffer), bytes, chunk_bytes: 4096 }
    }

    #[test]
    fn places_stay_while_a_buffer_is_the_same_and_blocks_count_up() {
        let mut places = Places::default();
        let (a, b) = (watched(1, 100_000), watched(2, 1));
        let first = places.encode(&[a, b], |_| 0).unwrap();
        assert!(first.fresh && places.end() == 26);
        assert_eq!(first.words, [0x1000, 100_000, 0, 4096 << 32, 1, 0x2000, 1, 25, 4 | 4096 << 32, 1]);
        assert_eq!(first.blocks, 5);
        let again = places.encode(&[b, a], |_| 0).unwrap();
        assert!(!again.fresh);
        assert_eq!(again.words, [0x2000, 1, 25, 4096 << 32, 0, 0x1000, 100_000, 0, 1 | 4096 << 32, 0]);
        // Another address under the same number, or lanes that share it: nothing is known.
        assert!(places.encode(&[Watched { address: 8, ..a }], |_| 0).unwrap().fresh);
        assert!(places.encode(&[b], |_| 1).unwrap().fresh);
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
}
