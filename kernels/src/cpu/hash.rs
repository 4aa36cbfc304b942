//! Vectorised form of the chunk hash: the terms of a sum in any order.

use super::extension::Kernel;
use super::lanes::Lanes;
use super::processor::Processor;
use crate::ops::Operands;
use crate::ops::hash::{K, MIX, finish, term};

/// Bytes a nanosecond of one thread, roughly.
const SPEED: usize = 4;

/// `chunk_hash`.
pub(crate) fn chunk_hash(o: &mut Operands<'_>, processor: Processor) {
    let chunk = o.launch().u32(0) as usize;
    let (data, out) = (o.read::<u8>(0), o.write::<u64>(1));
    let chunks = (out.len() / 2).div_ceil(processor.parts(data.len() / SPEED));
    let tasks = data.chunks(chunk * chunks).zip(out.chunks_mut(2 * chunks));
    processor.for_each(tasks.collect(), |(data, out)| processor.run(ChunkHash { data, chunk, out }));
}

struct ChunkHash<'a> {
    data: &'a [u8],
    chunk: usize,
    out: &'a mut [u64],
}

impl Kernel for ChunkHash<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (bytes, out) in self.data.chunks(self.chunk).zip(self.out.chunks_exact_mut(2)) {
            let sums = sums(lanes, bytes);
            (out[0], out[1]) = (finish(sums[0], bytes.len(), 0), finish(sums[1], bytes.len(), 1));
        }
    }
}

/// Both sums of the hash over all words of a chunk.
#[inline(always)]
fn sums<L: Lanes>(lanes: L, bytes: &[u8]) -> [u64; 2] {
    let words = L::COUNT / 2;
    let whole = bytes.chunks_exact(words * 4);
    let rest = whole.remainder();
    let keys = [lanes.splat_u64(K[0]), lanes.splat_u64(K[1])];
    let step = lanes.splat_u64(words as u64);
    let mut index = lanes.count_u64(0);
    let mut sums = [lanes.splat_u64(0); 2];
    for bytes in whole {
        let word = lanes.xor_u64(lanes.widen_u32(bytes), lanes.shl32_u64(index));
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = lanes.add_u64(*sum, mix64(lanes, lanes.xor_u64(word, key)));
        }
        index = lanes.add_u64(index, step);
    }
    let first = (bytes.len() - rest.len()) / 4;
    let mut totals = [lanes.total_u64(sums[0]), lanes.total_u64(sums[1])];
    for (lane, total) in totals.iter_mut().enumerate() {
        let tail = rest.chunks(4).enumerate().map(|(i, word)| term(word, first + i, lane));
        *total = tail.fold(*total, u64::wrapping_add);
    }
    totals
}

/// As [`crate::ops::hash`].
#[inline(always)]
fn mix64<L: Lanes>(lanes: L, x: L::U64) -> L::U64 {
    let x = lanes.mul_u64(lanes.xor_u64(x, lanes.shr33_u64(x)), lanes.splat_u64(MIX[0]));
    let x = lanes.mul_u64(lanes.xor_u64(x, lanes.shr33_u64(x)), lanes.splat_u64(MIX[1]));
    lanes.xor_u64(x, lanes.shr33_u64(x))
}
