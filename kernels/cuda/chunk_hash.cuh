// The chunk hash of traces/FORMAT.md, word by word. The sums wrap, so words come in any order.

#define CHUNK_K0 0x9e3779b97f4a7c15ull
#define CHUNK_K1 0xc2b2ae3d27d4eb4full
#define CHUNK_LENGTH 0x9fb21c651e98df25ull

INLINE u64 mix64(u64 x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdull;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

// The i-th little-endian word of a chunk, the last padded with zeros.
INLINE u32 word_at(const u8* chunk, u64 i, u64 bytes) {
    u32 word = 0;
    for (u32 b = 0; b < 4; b++)
        if (4 * i + b < bytes) word |= (u32)chunk[4 * i + b] << (8 * b);
    return word;
}

INLINE void add_word(u32 word, u64 i, u64& s0, u64& s1) {
    u64 x = word ^ i << 32;
    s0 += mix64(x ^ CHUNK_K0), s1 += mix64(x ^ CHUNK_K1);
}

// The two halves of the hash from the sums over all words.
INLINE u64 chunk_lane0(u64 s0, u64 bytes) { return mix64(s0 ^ bytes * CHUNK_LENGTH ^ CHUNK_K1); }
INLINE u64 chunk_lane1(u64 s1, u64 bytes) { return mix64(s1 ^ bytes * CHUNK_LENGTH ^ CHUNK_K0); }
