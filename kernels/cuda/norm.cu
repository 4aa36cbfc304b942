// RMSNorm, and per-head RMSNorm with rotary position embedding (ops/norm.rs). The sum of squares
// has the contract's order: a warp takes a segment.

// 1 / sqrt(sum / d + eps).
INLINE float reciprocal_rms(float sum, u32 d, float eps) {
    return quotient(1.0f, root(add(quotient(sum, __uint2float_rn(d)), eps)));
}

// One block of 8 warps a row, one warp a segment.
template <class Weight>
INLINE void rms_norm(const float* x,                       // (T, D)
                     const typename Weight::Bits* weight,  // (D)
                     float* out,                           // (T, D)
                     u32 d, float eps) {
    __shared__ float segments[SEGMENTS];
    x += (u64)blockIdx.x * d, out += (u64)blockIdx.x * d;
    u32 len = segment_len(d), warp = threadIdx.x / WARP;
    u64 start = (u64)warp * len;
    if (start < d) {
        float segment = warp_segment(x, x, (u32)start, (u32)(start + len < d ? start + len : d));
        if (threadIdx.x % WARP == 0) segments[warp] = segment;
    }
    __syncthreads();
    float sum = segments[0];
    for (u32 s = 1; s < SEGMENTS && (u64)s * len < d; s++) sum = add(sum, segments[s]);
    float r = reciprocal_rms(sum, d, eps);
    for (u32 i = threadIdx.x; i < d; i += blockDim.x)
        out[i] = canonical(mul(mul(x[i], r), Weight::widen(weight[i])));
}

KERNEL rms_norm_f16(const float* x, const u16* weight, float* out, u32 d, float eps) {
    rms_norm<F16>(x, weight, out, d, eps);
}

KERNEL rms_norm_bf16(const float* x, const u16* weight, float* out, u32 d, float eps) {
    rms_norm<Bf16>(x, weight, out, d, eps);
}

// One warp a row and head: heads are short, so their segments follow one another.
template <class Weight>
INLINE void qk_norm_rope(const float* x,                      // (T, heads, D)
                         const typename Weight::Bits* weight, // (D)
                         const i64* positions,                // (T)
                         const float* cosines,                // (P, D / 2)
                         const float* sines,                  // (P, D / 2)
                         float* out,                          // (T, heads, D)
                         u32* faults, u32 rows, u32 heads, u32 half, u32 table, u32 fixed,
                         float eps) {
    u32 lane = threadIdx.x % WARP, d = 2 * half;
    u64 unit = grid_index() / WARP, row = unit / heads;
    if (row >= rows) return;
    i64 position = fixed != FROM_OPERAND ? (i64)fixed : positions[row];
    bool known = in_range(position, table);
    if (!known && lane == 0) set_fault(faults, FAULT_POSITION);
    x += unit * d, out += unit * d;
    if (!known) {
        for (u32 i = lane; i < d; i += WARP) out[i] = 0.0f;
        return;
    }
    u32 len = segment_len(d);
    float sum = 0.0f;
    for (u64 start = 0; start < d; start += len) {
        float segment = warp_segment(x, x, (u32)start, (u32)(start + len < d ? start + len : d));
        sum = start == 0 ? segment : add(sum, segment);
    }
    float r = reciprocal_rms(sum, d, eps);
    for (u32 i = lane; i < half; i += WARP) {
        float c = cosines[position * half + i], s = sines[position * half + i];
        float low = mul(mul(x[i], r), Weight::widen(weight[i]));
        float high = mul(mul(x[i + half], r), Weight::widen(weight[i + half]));
        out[i] = canonical(sub(mul(low, c), mul(high, s)));
        out[i + half] = canonical(add(mul(high, c), mul(low, s)));
    }
}

KERNEL qk_norm_rope_f16(const float* x, const u16* weight, const i64* positions, const float* cosines,
                        const float* sines, float* out, u32* faults, u32 rows, u32 heads, u32 half, u32 table,
                        u32 position, float eps) {
    qk_norm_rope<F16>(x, weight, positions, cosines, sines, out, faults, rows, heads, half, table, position,
                      eps);
}

KERNEL qk_norm_rope_bf16(const float* x, const u16* weight, const i64* positions, const float* cosines,
                         const float* sines, float* out, u32* faults, u32 rows, u32 heads, u32 half, u32 table,
                         u32 position, float eps) {
    qk_norm_rope<Bf16>(x, weight, positions, cosines, sines, out, faults, rows, heads, half, table, position,
                      eps);
}
