// One code a row and codebook (ops/sample.rs), one block each. Codes are sorted in shared memory by
// 64-bit keys; from the weights on everything is integer, so the order of sums is of no matter.

#define MAX_CODES 4096
#define SAMPLE_THREADS 512
#define TOP_P_ONE (1ull << 24)

// Philox 4x32 with 10 rounds: the first two words, the first one low (contract/philox.rs).
INLINE u64 philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    for (u32 round = 0; round < 10; round++) {
        if (round > 0) k0 += 0x9e3779b9, k1 += 0xbb67ae85;
        u32 hi0 = __umulhi(0xd2511f53, c0), lo0 = 0xd2511f53 * c0;
        u32 hi1 = __umulhi(0xcd9e8d57, c2), lo1 = 0xcd9e8d57 * c2;
        c0 = hi1 ^ c1 ^ k0, c1 = lo1, c2 = hi0 ^ c3 ^ k1, c3 = lo0;
    }
    return (u64)c1 << 32 | c0;
}

// Greater for a greater logit and, among equal logits, for a lower index; never 0.
INLINE u64 sort_key(float logit, u32 index) { return (u64)order_key(logit) << 32 | (0xffffffffu - index); }
INLINE u32 key_index(u64 key) { return 0xffffffffu - (u32)key; }

// trunc(exp(logit / temperature - greatest) * 2^24); 0 for NaN.
INLINE u32 weight_of(float logit, float temperature, float greatest) {
    float w = mul(contract_exp(sub(quotient(logit, temperature), greatest)), 16777216.0f);
    return is_nan(w) ? 0 : __float2uint_rz(w);
}

// Greatest key of the block; every thread gets it.
INLINE u64 block_max(u64 key) {
    __shared__ u64 warps[SAMPLE_THREADS / WARP];
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        u64 other = __shfl_xor_sync(ALL_LANES, key, step);
        key = key > other ? key : other;
    }
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = key;
    __syncthreads();
    for (u32 w = 0; w < SAMPLE_THREADS / WARP; w++) key = key > warps[w] ? key : warps[w];
    return key;
}

// Sorts keys[0 .. size], size a power of two, greatest first: Batcher's bitonic network.
INLINE void sort_falling(u64* keys, u32 size) {
    for (u32 run = 2; run <= size; run *= 2)
        for (u32 step = run / 2; step > 0; step /= 2) {
            for (u32 pair = threadIdx.x; pair < size / 2; pair += SAMPLE_THREADS) {
                u32 i = pair / step * 2 * step + pair % step, j = i + step;
                bool falling = (i & run) == 0;
                u64 a = keys[i], b = keys[j];
                if ((a < b) == falling) keys[i] = b, keys[j] = a;
            }
            __syncthreads();
        }
}

// Sum of `own` of all threads before this one, and of all threads.
struct Scan {
    u64 before, total;
};

INLINE Scan block_scan(u64 own) {
    __shared__ u64 warps[SAMPLE_THREADS / WARP];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u64 sum = own;
    for (u32 step = 1; step < WARP; step *= 2) {
        u64 left = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane >= step) sum += left;
    }
    __syncthreads();
    if (lane == WARP - 1) warps[warp] = sum;
    __syncthreads();
    Scan scan = {sum - own, 0};
    for (u32 w = 0; w < SAMPLE_THREADS / WARP; w++) {
        if (w < warp) scan.before += warps[w];
        scan.total += warps[w];
    }
    return scan;
}

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
    sample(const float* logits,         // (R, N, V)
           const u32* sampler_key,      // (R, 4)
           const u32* sampler_counter,  // (R)
           i64* sampled,                // (R, N)
           u32 codebooks, u32 vocab, u32 top_k, u32 fixed_top_p, float temperature) {
    __shared__ u64 keys[MAX_CODES];
    __shared__ u64 kept_total;
    __shared__ u32 kept;
    u32 row = blockIdx.x / codebooks, codebook = blockIdx.x % codebooks, thread = threadIdx.x;
    logits += (u64)blockIdx.x * vocab;
    if (!(temperature > 0.0f)) {
        u64 best = 0;
        for (u32 i = thread; i < vocab; i += SAMPLE_THREADS) {
            u64 key = sort_key(logits[i], i);
            best = key > best ? key : best;
        }
        best = block_max(best);
        if (thread == 0) sampled[blockIdx.x] = key_index(best);
        return;
    }

    u32 size = 1;
    while (size < vocab) size *= 2;
    for (u32 i = thread; i < size; i += SAMPLE_THREADS) keys[i] = i < vocab ? sort_key(logits[i], i) : 0;
    __syncthreads();
    sort_falling(keys, size);

    // Each thread takes `each` neighbouring codes; their weights take the place of the order keys.
    u32 count = top_k > 0 ? least(top_k, vocab) : vocab;
    u32 each = (size + SAMPLE_THREADS - 1) / SAMPLE_THREADS;
    u32 from = least(thread * each, count), to = least(from + each, count);
    u32 first = key_index(keys[0]);
    float greatest = quotient(logits[first], temperature);
    __syncthreads();
    u64 own = 0;
    for (u32 i = from; i < to; i++) {
        u32 index = key_index(keys[i]), weight = weight_of(logits[index], temperature, greatest);
        keys[i] = (u64)weight << 32 | index;
        own += weight;
    }
    Scan scan = block_scan(own);
    u64 enough = (scan.total * fixed_top_p + TOP_P_ONE - 1) / TOP_P_ONE;

    // Exactly one code is the first at which the running sum reaches `enough`; the thread that holds it
    // tells the others. Then the same for the draw.
    u64 sum = scan.before;
    for (u32 i = from; i < to; i++) {
        u64 with = sum + (keys[i] >> 32);
        if (with >= enough && (i == 0 || sum < enough)) kept = i + 1, kept_total = with;
        sum = with;
    }
    __syncthreads();
    if (kept_total == 0) {
        if (thread == 0) sampled[blockIdx.x] = first;
        return;
    }
    const u32* key = sampler_key + (u64)row * 4;
    u64 left = __umul64hi(kept_total, philox(sampler_counter[row], codebook, key[2], 0, key[0], key[1]));
    sum = scan.before;
    for (u32 i = from; i < to && i < kept; i++) {
        u64 with = sum + (keys[i] >> 32);
        if (sum <= left && left < with) sampled[blockIdx.x] = (u32)keys[i];
        sum = with;
    }
}
