//! Content hashes of chunks.

use super::{Definition, Operands, axes, read, want, write};
use crate::{DType, Schema};

/// 128-bit hash of each chunk of `chunk_bytes` (the last may be shorter), the trace format's chunk
/// hash: `out[c] = [H_0, H_1]`. With w the chunk's little-endian u32 words, the last padded with
/// zeros: `S_j = sum over i of mix64(w[i] ^ (i << 32) ^ K_j)`, wrapping, and
/// `H_j = mix64(S_j ^ (bytes * M) ^ K_{1-j})`. A sum has no order, so any number of threads may share
/// a chunk.
pub(crate) const CHUNK_HASH: Definition = Definition {
    schema: Schema {
        name: "chunk_hash",
        version: 1,
        since: 1,
        params: &[read("data", &[DType::U8]), write("out", &[DType::U64])],
        scalars: &[crate::ScalarParam::new("chunk_bytes", crate::ScalarKind::U32)],
    },
    check: |l| {
        let ([bytes], chunk) = (axes(l, 0)?, l.u32(0) as usize);
        if !chunk.is_power_of_two() || chunk < 4 {
            return Err(format!("`chunk_bytes` is {chunk}, wants a power of two from 4 on"));
        }
        want(l, 1, &[Some(bytes.div_ceil(chunk)), Some(2)])
    },
    touched: None,
    naive: chunk_hash,
    vector: Some(crate::cpu::hash::chunk_hash),
};

/// Keys that tell the two lanes apart.
pub(crate) const K: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];
const M: u64 = 0x9fb2_1c65_1e98_df25;
/// Factors of [`mix64`].
pub(crate) const MIX: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

/// The 64-bit finaliser of MurmurHash3 (Appleby, public domain): a bijection.
fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(MIX[0]);
    x = (x ^ (x >> 33)).wrapping_mul(MIX[1]);
    x ^ (x >> 33)
}

/// What word `i` of a chunk adds to `S_lane`; a word may lack bytes at the end of the chunk.
pub(crate) fn term(word: &[u8], i: usize, lane: usize) -> u64 {
    let mut padded = [0; 4];
    padded[..word.len()].copy_from_slice(word);
    let word = u64::from(u32::from_le_bytes(padded));
    mix64(word ^ (i as u64) << 32 ^ K[lane])
}

/// `H_lane` from `S_lane`.
pub(crate) fn finish(sum: u64, bytes: usize, lane: usize) -> u64 {
    mix64(sum ^ (bytes as u64).wrapping_mul(M) ^ K[1 - lane])
}

fn hash(bytes: &[u8], lane: usize) -> u64 {
    let words = bytes.chunks(4).enumerate();
    let sum = words.fold(0u64, |sum, (i, word)| sum.wrapping_add(term(word, i, lane)));
    finish(sum, bytes.len(), lane)
}

fn chunk_hash(o: &mut Operands<'_>) {
    let chunk = o.launch().u32(0) as usize;
    let (data, out) = (o.read::<u8>(0), o.write::<u64>(1));
    for (bytes, out) in data.chunks(chunk).zip(out.chunks_exact_mut(2)) {
        (out[0], out[1]) = (hash(bytes, 0), hash(bytes, 1));
    }
}
