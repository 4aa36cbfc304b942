//! The chunk hash: 128 bits that the threads of a GPU compute in any order.
//!
//! Definition (`FORMAT.md`, "The chunk hash", has test vectors). The bytes are read as
//! little-endian 32-bit words `w[0..n)`, padded with zero bytes to a whole word. For each of two
//! lanes `j`:
//!
//! ```text
//! S_j = sum over i of mix64(w[i] ^ (i << 32) ^ K_j)          modulo 2^64
//! H_j = mix64(S_j ^ (length * 0x9fb21c651e98df25) ^ K_{1-j})  length in bytes
//! ```
//!
//! The hash is `H_0` then `H_1`, each little-endian. `mix64` is the finaliser of MurmurHash3
//! (Austin Appleby, `fmix64`), a bijection of 64-bit integers. A sum does not depend on the
//! order of its terms, so each thread takes any words it likes and adds its part.
//!
//! It tells equal content from different content among data that nobody shaped to fool it: a
//! change of one word always changes both lanes, anything else collides with probability near
//! 2^-128 a pair. It is no cryptographic hash: sums of 64-bit terms can be made to collide on
//! purpose, and a stranger who does so misleads about their own file only.

use std::fmt;

/// Hash of a chunk's bytes, see [`chunk_hash`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkHash(pub [u8; 16]);

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

/// The keys that tell the two lanes apart.
const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

/// Spreads the length over 64 bits before it enters the last mixing.
const LENGTH_FACTOR: u64 = 0x9fb2_1c65_1e98_df25;

/// `fmix64` of MurmurHash3.
#[inline]
fn mix64(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The 128-bit hash of `bytes`, at most 16 GiB of them so that a word's index fits 32 bits
/// (chunks are far smaller, see [`crate::MAX_CHUNK_BYTES`]). Beyond that the index wraps and the
/// hash stays defined but distinguishes less.
///
/// ```
/// use twinstep_traces::chunk_hash;
/// assert_eq!(chunk_hash(b"").to_string(), "7e85c49996e6f20fea2eaba4f166a09c");
/// assert_ne!(chunk_hash(&[0]), chunk_hash(&[0, 0]), "the length counts");
/// ```
pub fn chunk_hash(bytes: &[u8]) -> ChunkHash {
    let mut sums = [0u64; 2];
    let mut add = |index: u32, word: [u8; 4]| {
        let input = u64::from(u32::from_le_bytes(word)) ^ (u64::from(index) << 32);
        sums[0] = sums[0].wrapping_add(mix64(input ^ KEYS[0]));
        sums[1] = sums[1].wrapping_add(mix64(input ^ KEYS[1]));
    };
    let (words, rest) = bytes.as_chunks::<4>();
    let mut index = 0u32;
    for word in words {
        add(index, *word);
        index = index.wrapping_add(1);
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        add(index, word);
    }
    let length = (bytes.len() as u64).wrapping_mul(LENGTH_FACTOR);
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&mix64(sums[0] ^ length ^ KEYS[1]).to_le_bytes());
    hash[8..].copy_from_slice(&mix64(sums[1] ^ length ^ KEYS[0]).to_le_bytes());
    ChunkHash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition read aloud: bytes padded to whole words, 128-bit arithmetic reduced at the
    /// end, words taken from the last to the first.
    fn naive(bytes: &[u8]) -> [u8; 16] {
        fn mix(x: u128) -> u128 {
            let low = (1u128 << 64) - 1;
            let x = x ^ (x >> 33);
            let x = (x * 0xff51afd7ed558ccd) & low;
            let x = x ^ (x >> 33);
            let x = (x * 0xc4ceb9fe1a85ec53) & low;
            x ^ (x >> 33)
        }
        let mut padded = bytes.to_vec();
        while !padded.len().is_multiple_of(4) {
            padded.push(0);
        }
        let keys = [0x9e3779b97f4a7c15u128, 0xc2b2ae3d27d4eb4f];
        let mut hash = [0; 16];
        for lane in 0..2 {
            let mut sum = 0u128;
            for i in (0..padded.len() / 4).rev() {
                let mut word = 0u128;
                for byte in (0..4).rev() {
                    word = word * 256 + u128::from(padded[4 * i + byte]);
                }
                sum += mix((word + ((i as u128) << 32)) ^ keys[lane]);
            }
            let low = (1u128 << 64) - 1;
            let length = (bytes.len() as u128 * 0x9fb21c651e98df25) & low;
            let half = mix((sum & low) ^ length ^ keys[1 - lane]);
            for byte in 0..8 {
                hash[8 * lane + byte] = (half >> (8 * byte)) as u8;
            }
        }
        hash
    }

    /// The vectors of `FORMAT.md`; the op in `kernels` is held to the same.
    #[test]
    fn test_vectors_of_the_format_document() {
        let counting: Vec<u8> = (0..4096u32).map(|i| (i % 251) as u8).collect();
        let vectors: [(&[u8], &str); 7] = [
            (b"", "7e85c49996e6f20fea2eaba4f166a09c"),
            (&[0], "9b5b6d2b09703963e604e23f907850da"),
            (&[0; 4], "9c76d40a8123c98b6f15703eff337f3f"),
            (b"twinstep", "16aac45cd4b9b6b66e79a7afb022014c"),
            (b"twinstep!", "826fb73bcde65af801573cdb095ec2cd"),
            (&[0xa5; 4096], "02b4eede57ef8c234d2dba69711934d2"),
            (&counting, "45c4b8bfbcbdedcf795ce8408eb1a777"),
        ];
        for (bytes, expected) in vectors {
            assert_eq!(chunk_hash(bytes).to_string(), expected, "of {} bytes", bytes.len());
            assert_eq!(ChunkHash(naive(bytes)), chunk_hash(bytes));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn equals_the_naive_form(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(chunk_hash(&bytes).0, naive(&bytes));
        }

        /// A sum forgets order; the index mixed into each term must not let it forget position.
        #[test]
        fn tells_position_and_single_bits(
            words in proptest::collection::vec(any::<u32>(), 2..64),
            bit in 0usize..32,
            at in any::<proptest::sample::Index>(),
        ) {
            let bytes = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
            let hash = chunk_hash(&bytes(&words));
            let i = at.index(words.len());
            let mut flipped = words.clone();
            flipped[i] ^= 1 << bit;
            prop_assert_ne!(chunk_hash(&bytes(&flipped)), hash);
            let j = (i + 1) % words.len();
            if words[i] != words[j] {
                let mut swapped = words.clone();
                swapped.swap(i, j);
                prop_assert_ne!(chunk_hash(&bytes(&swapped)), hash);
            }
        }
    }
}
