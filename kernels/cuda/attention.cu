// Attention over the paged KV cache (ops/attention.rs): tiles of 64 positions from position 0,
// each with its own greatest score and sum; the tiles of a split merged left to right, then the
// splits.
//
// A block works on one query and walks over its tiles. Scores: 8 lanes a position, 8 neighbouring
// accumulators a lane. Values: a thread takes 8 positions of one dimension, then 8 such sums are
// added. The weighted sum so far is in registers, one dimension a thread; a head with more
// dimensions than a block has threads is gone over again for each further part of it.

#define TILE WIDTH
#define ATTENTION_THREADS 256
#define LANES 8
#define DIMENSIONS ATTENTION_THREADS

// The paged cache of one layer, as one sequence sees it.
template <class Cache>
struct Pages {
    const typename Cache::Bits* k;  // (blocks, block_size, kv_heads, D)
    const typename Cache::Bits* v;  // (blocks, block_size, kv_heads, D)
    const i32* block_table;         // (entries)
    u32 blocks, block_size, kv_heads, d;
    u32 aligned;  // D is a multiple of 8; q and k start at multiples of 16 bytes

    // Element index of the first value of a position and head; -1 where the block does not exist.
    INLINE i64 start(u32 position, u32 kv_head) const {
        i32 block = block_table[position / block_size];
        if (!in_range(block, blocks)) return -1;
        return (((i64)block * block_size + position % block_size) * kv_heads + kv_head) * d;
    }
};

// Softmax-weighted sum so far: the value of this thread's dimension; greatest score and sum of
// exponentials, which are the same in all threads.
struct Partial {
    float o, m, l;
};

// Adds the positions of a partial to the right.
INLINE Partial merge(Partial left, Partial right) {
    float m = order_key(right.m) > order_key(left.m) ? right.m : left.m;
    float a = contract_exp(sub(left.m, m)), b = contract_exp(sub(right.m, m));
    Partial merged = {add(mul(left.o, a), mul(right.o, b)), m, add(mul(left.l, a), mul(right.l, b))};
    return merged;
}

// Product of 8 lanes: dot(q, key) in the contract's order; every lane gets it.
template <class Cache>
INLINE float score(const float* q, const typename Cache::Bits* key, u32 d, bool aligned) {
    u32 lane = threadIdx.x % LANES, len = segment_len(d);
    float total = 0.0f;
    for (u32 start = 0; start < d; start += len) {
        u32 end = least(start + len, d);
        float sums[8] = {};
#pragma unroll 1
        for (u32 i = start + lane * 8; i < end; i += WIDTH) {
            float query[8];
            typename Cache::Bits bits[8];
            if (aligned) {
                load8(q + i, query);
                if (key) load8(key + i, bits);
            } else {
#pragma unroll
                for (u32 e = 0; e < 8; e++)
                    if (i + e < end) {
                        query[e] = q[i + e];
                        if (key) bits[e] = key[i + e];
                    }
            }
#pragma unroll
            for (u32 e = 0; e < 8; e++)
                if (i + e < end) sums[e] = fused(query[e], key ? Cache::widen(bits[e]) : 0.0f, sums[e]);
        }
        float segment = eight_lanes(eight(sums));
        total = start == 0 ? segment : add(total, segment);
    }
    return total;
}

// Attention of q over positions start to end, at least one, for dimensions base to base + width:
// the thread's own is base + thread.
template <class Cache>
INLINE Partial attend(const float* q,  // (D)
                      const Pages<Cache>& pages, u32 kv_head, u32 start, u32 end, float scale, u32 base, u32 width,
                      u32* faults) {
    __shared__ i64 starts[TILE];
    __shared__ float scores[TILE], weights[TILE], sums[8][DIMENSIONS];
    u32 thread = threadIdx.x, lane = thread % WARP;
    Partial sofar = {0.0f, 0.0f, 0.0f};
    for (u32 s = start; s < end; s += TILE) {
        u32 count = least(end - s, TILE);
        if (thread < count) {
            starts[thread] = pages.start(s + thread, kv_head);
            if (starts[thread] < 0) set_fault(faults, FAULT_BLOCK);
        }
        __syncthreads();
        // All lanes of a warp go round equally often, as the exchanges in `score` want.
        for (u32 j = thread / LANES; j < TILE; j += ATTENTION_THREADS / LANES) {
            i64 at = j < count ? starts[j] : -1;
            float product = score<Cache>(q, at < 0 ? 0 : pages.k + at, pages.d, pages.aligned);
            if (thread % LANES == 0) scores[j] = mul(product, scale);
        }
        __syncthreads();

        u32 key = lane < count ? order_key(scores[lane]) : 0;
        u32 other = lane + WARP < count ? order_key(scores[lane + WARP]) : 0;
        key = key > other ? key : other;
        for (u32 step = WARP / 2; step > 0; step /= 2) {
            other = __shfl_xor_sync(ALL_LANES, key, step);
            key = key > other ? key : other;
        }
        Partial tile = {0.0f, from_order_key(key), 0.0f};
        if (thread < TILE) weights[thread] = thread < count ? contract_exp(sub(scores[thread], tile.m)) : 0.0f;
        __syncthreads();
        tile.l = warp_tree_sum(weights[lane], weights[lane + WARP]);

        for (u32 unit = thread; unit < 8 * width; unit += ATTENTION_THREADS) {
            u32 eighth = unit / width, i = unit % width;
            float products[8];
#pragma unroll
            for (u32 e = 0; e < 8; e++) {
                u32 j = eighth * 8 + e;
                products[e] = 0.0f;
                if (j < count) {
                    float value = starts[j] < 0 ? 0.0f : Cache::widen(pages.v[starts[j] + base + i]);
                    products[e] = fused(weights[j], value, 0.0f);
                }
            }
            sums[eighth][i] = eight(products);
        }
        __syncthreads();
        if (thread < width) {
            float parts[8];
#pragma unroll
            for (u32 e = 0; e < 8; e++) parts[e] = sums[e][thread];
            tile.o = eight(parts);
        }
        sofar = s == start ? tile : merge(sofar, tile);
        // The next tile's products go where these were read.
        __syncthreads();
    }
    return sofar;
}

// A sequence length as a number of positions that the block table can hold.
INLINE u32 clamp_seq_len(i64 seq_len, u64 capacity, u32* faults) {
    i64 clamped = seq_len < 0 ? 0 : (u64)seq_len > capacity ? (i64)capacity : seq_len;
    if (clamped != seq_len && threadIdx.x == 0) set_fault(faults, FAULT_SEQ_LEN);
    return (u32)clamped;
}

// One block a row, head and split.
template <class Cache>
INLINE void attention_decode(const float* q,         // (R, heads, D)
                             Pages<Cache> pages,     // its block table: (R, entries)
                             const i32* seq_lens,    // (R)
                             float* partial,         // (R, heads, splits, D + 2)
                             u32* faults, u32 heads, u32 entries, u32 splits, u32 tiles_per_split, u32 fixed,
                             float scale) {
    u32 split = blockIdx.x % splits, head = blockIdx.x / splits % heads, row = blockIdx.x / splits / heads;
    i64 wanted = fixed != FROM_OPERAND ? (i64)fixed : seq_lens[row];
    u32 d = pages.d, seq_len = clamp_seq_len(wanted, (u64)entries * pages.block_size, faults);
    u64 split_len = (u64)tiles_per_split * TILE, from = split * split_len, to = from + split_len;
    u32 start = from < seq_len ? (u32)from : seq_len, end = to < seq_len ? (u32)to : seq_len;
    pages.block_table += (u64)row * entries;
    q += ((u64)row * heads + head) * d;
    partial += (u64)blockIdx.x * (d + 2);
    for (u32 base = 0; base < d; base += DIMENSIONS) {
        u32 width = least(d - base, DIMENSIONS);
        Partial sum = {0.0f, negated(infinity()), 0.0f};
        if (start < end)
            sum = attend(q, pages, head / (heads / pages.kv_heads), start, end, scale, base, width, faults);
        if (threadIdx.x < width) partial[base + threadIdx.x] = canonical(sum.o);
        if (base == 0 && threadIdx.x == 0) partial[d] = canonical(sum.m), partial[d + 1] = canonical(sum.l);
    }
}

#define ATTENTION_DECODE(NAME, CACHE)                                                               \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                 \
        NAME(const float* q, const CACHE::Bits* k_cache, const CACHE::Bits* v_cache,                \
             const i32* block_table, const i32* seq_lens, float* partial, u32* faults, u32 heads,   \
             u32 entries, u32 splits, u32 blocks, u32 block_size, u32 kv_heads, u32 d, u32 aligned, \
             u32 tiles_per_split, u32 seq_len, float scale) {                                       \
        Pages<CACHE> pages = {k_cache, v_cache, block_table, blocks, block_size, kv_heads, d, aligned}; \
        attention_decode(q, pages, seq_lens, partial, faults, heads, entries, splits, tiles_per_split, seq_len, \
                         scale);                                                                    \
    }

ATTENTION_DECODE(attention_decode_f16, F16)
ATTENTION_DECODE(attention_decode_bf16, Bf16)
ATTENTION_DECODE(attention_decode_f32, F32)

// One block a row and head, one thread a dimension; each thread merges the statistics for itself.
KERNEL attention_merge(const float* partial,   // (R, heads, splits, D + 2)
                       const i32* seq_lens,    // (R)
                       float* out,             // (R, heads * D)
                       u32 heads, u32 splits, u32 d, u32 tiles_per_split) {
    u64 split_len = (u64)tiles_per_split * TILE, a_split = (u64)d + 2;
    i32 seq_len = seq_lens[blockIdx.x / heads];
    u64 used = seq_len > 0 ? ((u64)seq_len + split_len - 1) / split_len : 0;
    if (used > splits) used = splits;
    partial += (u64)blockIdx.x * splits * a_split;
    out += (u64)blockIdx.x * d;
    for (u32 i = threadIdx.x; i < d; i += blockDim.x) {
        Partial sum = {partial[i], partial[d], partial[d + 1]};
        for (u64 s = 1; s < used; s++) {
            const float* from = partial + s * a_split;
            Partial right = {from[i], from[d], from[d + 1]};
            sum = merge(sum, right);
        }
        out[i] = used > 0 ? canonical(quotient(sum.o, sum.l)) : 0.0f;
    }
}

// One block a row and head: the row's position sees itself and all before it.
template <class Cache>
INLINE void attention_prefill(const float* q,        // (T, heads, D)
                              Pages<Cache> pages,    // its block table: (entries)
                              const i64* positions,  // (T)
                              float* out,            // (T, heads * D)
                              u32* faults, u32 heads, u32 entries, u32 tiles_per_split, float scale) {
    u32 row = blockIdx.x / heads, head = blockIdx.x % heads, d = pages.d;
    i64 position = positions[row];
    // One past the greatest position would overflow; it is out of range in any case.
    i64 wanted = position == 0x7fffffffffffffffll ? position : position + 1;
    u32 seq_len = clamp_seq_len(wanted, (u64)entries * pages.block_size, faults);
    u64 tiles = (u64)tiles_per_split * TILE;
    u32 split_len = tiles < seq_len ? (u32)tiles : seq_len;
    q += (u64)blockIdx.x * d, out += (u64)blockIdx.x * d;
    for (u32 base = 0; base < d; base += DIMENSIONS) {
        u32 width = least(d - base, DIMENSIONS);
        Partial sum = {0.0f, 0.0f, 0.0f};
        for (u32 start = 0; start < seq_len; start += split_len) {
            u32 end = least(start + split_len, seq_len);
            Partial split =
                attend(q, pages, head / (heads / pages.kv_heads), start, end, scale, base, width, faults);
            sum = start == 0 ? split : merge(sum, split);
        }
        if (threadIdx.x < width) out[base + threadIdx.x] = seq_len > 0 ? canonical(quotient(sum.o, sum.l)) : 0.0f;
    }
}

#define ATTENTION_PREFILL(NAME, CACHE)                                                              \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                 \
        NAME(const float* q, const CACHE::Bits* k_cache, const CACHE::Bits* v_cache,                \
             const i32* block_table, const i64* positions, float* out, u32* faults, u32 heads,      \
             u32 entries, u32 blocks, u32 block_size, u32 kv_heads, u32 d, u32 aligned,             \
             u32 tiles_per_split, float scale) {                                                    \
        Pages<CACHE> pages = {k_cache, v_cache, block_table, blocks, block_size, kv_heads, d, aligned}; \
        attention_prefill(q, pages, positions, out, faults, heads, entries, tiles_per_split, scale);                 \
    }

ATTENTION_PREFILL(attention_prefill_f16, F16)
ATTENTION_PREFILL(attention_prefill_bf16, Bf16)
ATTENTION_PREFILL(attention_prefill_f32, F32)
