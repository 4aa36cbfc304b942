// 128-bit hashes of chunks of bytes (ops/hash.rs). A warp a chunk where chunks are short, else a
// block a chunk; the sums wrap, so threads may share a chunk in any order.

#define HASH_THREADS 128

KERNEL chunk_hash(const u8* data,  // (len)
                  u64* out,        // (chunks, 2)
                  u64 len, u32 chunk_bytes, u32 threads_a_chunk) {
    const u64 K0 = CHUNK_K0, K1 = CHUNK_K1, M = CHUNK_LENGTH;
    __shared__ u64 sums[HASH_THREADS / WARP][2];
    u32 thread = threadIdx.x % threads_a_chunk, warp = threadIdx.x / WARP;
    u64 chunk = grid_index() / threads_a_chunk, start = chunk * chunk_bytes;
    bool present = start < len;
    u64 bytes = !present ? 0 : len - start < chunk_bytes ? len - start : chunk_bytes;
    const u8* p = data + start;
    u64 words = (bytes + 3) / 4, s0 = 0, s1 = 0, done = 0;
    if ((u64)p % 16 == 0) {
        u64 quads = bytes / 16;
#pragma unroll 2
        for (u64 q = thread; q < quads; q += threads_a_chunk) {
            uint4 v = ((const uint4*)p)[q];
            u32 four[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (u32 w = 0; w < 4; w++) {
                u64 x = four[w] ^ (4 * q + w) << 32;
                s0 += mix64(x ^ K0), s1 += mix64(x ^ K1);
            }
        }
        done = quads * 4;
    }
    for (u64 i = done + thread; i < words; i += threads_a_chunk) {
        u64 x = word_at(p, i, bytes) ^ i << 32;
        s0 += mix64(x ^ K0), s1 += mix64(x ^ K1);
    }
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        s0 += __shfl_xor_sync(ALL_LANES, s0, step);
        s1 += __shfl_xor_sync(ALL_LANES, s1, step);
    }
    if (threadIdx.x % WARP == 0) sums[warp][0] = s0, sums[warp][1] = s1;
    __syncthreads();
    if (thread != 0 || !present) return;
    s0 = s1 = 0;
    for (u32 w = warp; w < warp + threads_a_chunk / WARP; w++) s0 += sums[w][0], s1 += sums[w][1];
    out[2 * chunk] = mix64(s0 ^ bytes * M ^ K1);
    out[2 * chunk + 1] = mix64(s1 ^ bytes * M ^ K0);
}
