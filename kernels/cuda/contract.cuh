// The scalar arithmetic of the numerics contract on a CUDA device: the counterpart of
// src/contract/, step by step and constant by constant. It is put in front of every other file of
// this folder before compiling; nothing is included, so that a compiler without headers will do.
//
// Arithmetic goes through the intrinsics that name their rounding. They are never contracted, and
// a lint of the PTX refuses any other float instruction.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define KERNEL extern "C" __global__ void
#define INLINE __device__ __forceinline__

INLINE float add(float a, float b) { return __fadd_rn(a, b); }
INLINE float sub(float a, float b) { return __fsub_rn(a, b); }
INLINE float mul(float a, float b) { return __fmul_rn(a, b); }
INLINE float quotient(float a, float b) { return __fdiv_rn(a, b); }
INLINE float root(float a) { return __fsqrt_rn(a); }
INLINE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
INLINE float from_bits(u32 bits) { return __uint_as_float(bits); }
INLINE u32 to_bits(float x) { return __float_as_uint(x); }

// ---- NaN, order, conversions (contract/round.rs, contract/order.rs)

INLINE float canonical_nan() { return from_bits(0x7fc00000); }
INLINE float infinity() { return from_bits(0x7f800000); }
INLINE bool is_nan(float x) { return (to_bits(x) & 0x7fffffff) > 0x7f800000; }
INLINE float magnitude(float x) { return from_bits(to_bits(x) & 0x7fffffff); }
INLINE float negated(float x) { return from_bits(to_bits(x) ^ 0x80000000); }

// x, or the canonical NaN: which NaN an operation returns differs between devices.
INLINE float canonical(float x) { return is_nan(x) ? canonical_nan() : x; }

// A key whose unsigned order is the order of the values: NaN is 0, below -inf; -0 equals +0.
INLINE u32 order_key(float x) {
    if (is_nan(x)) return 0;
    u32 bits = to_bits(add(x, 0.0f));
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

// The value that order_key made a key of, with NaN canonical and +0 for both zeros.
INLINE float from_order_key(u32 key) {
    if (key == 0) return canonical_nan();
    return from_bits(key >> 31 ? key & 0x7fffffff : ~key);
}

// Storage types: `widen` is exact, `narrow` rounds to nearest even and canonicalises NaN.

struct F16 {
    typedef u16 Bits;
    static INLINE float widen(u16 bits) {
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
    }
    static INLINE u16 narrow(float x) {
        u16 bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
        return is_nan(x) ? 0x7e00 : bits;
    }
};

struct Bf16 {
    typedef u16 Bits;
    static INLINE float widen(u16 bits) { return from_bits((u32)bits << 16); }
    static INLINE u16 narrow(float x) {
        // Adding just under half, and one more where the kept part is odd, carries as rounding to
        // nearest even does, into the exponent and up to infinity.
        u32 bits = to_bits(x);
        return is_nan(x) ? 0x7fc0 : (u16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
};

struct F32 {
    typedef float Bits;
    static INLINE float widen(float x) { return x; }
    static INLINE float narrow(float x) { return canonical(x); }
};

// Eight elements from a 16-byte boundary.
INLINE void load8(const u16* p, u16 (&x)[8]) {
    uint4 v = *(const uint4*)p;
    u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) x[2 * i] = (u16)words[i], x[2 * i + 1] = (u16)(words[i] >> 16);
}

INLINE void load8(const float* p, float (&x)[8]) {
    float4 a = *(const float4*)p, b = *(const float4*)(p + 4);
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}

// ---- Dot products (contract/dot.rs)

#define SEGMENTS 8
#define WIDTH 64
#define WARP 32
#define ALL_LANES 0xffffffffu

// Elements of a segment of a dot product over k elements.
INLINE u32 segment_len(u32 k) { return (u32)(((u64)k + SEGMENTS * WIDTH - 1) / (SEGMENTS * WIDTH)) * WIDTH; }

INLINE u32 least(u32 a, u32 b) { return a < b ? a : b; }

INLINE float eight(const float (&v)[8]) {
    return add(add(add(v[0], v[1]), add(v[2], v[3])), add(add(v[4], v[5]), add(v[6], v[7])));
}

// Sum over groups of 8 neighbouring lanes, as `eight`: addition commutes, so an exchange across
// 1, 2, then 4 lanes gives every lane the same bits.
INLINE float eight_lanes(float x) {
    x = add(x, __shfl_xor_sync(ALL_LANES, x, 1));
    x = add(x, __shfl_xor_sync(ALL_LANES, x, 2));
    return add(x, __shfl_xor_sync(ALL_LANES, x, 4));
}

// tree_sum of 64 accumulators, of which lane l holds l and l + 32; every lane gets it. The two
// halves of the tree are summed side by side.
INLINE float warp_tree_sum(float low, float high) {
    low = eight_lanes(low), high = eight_lanes(high);
    low = add(low, __shfl_xor_sync(ALL_LANES, low, 8)), high = add(high, __shfl_xor_sync(ALL_LANES, high, 8));
    low = add(low, __shfl_xor_sync(ALL_LANES, low, 16)), high = add(high, __shfl_xor_sync(ALL_LANES, high, 16));
    return add(low, high);
}

// One segment of dot(a, b), elements start to end, by one warp; every lane gets the sum.
INLINE float warp_segment(const float* a, const float* b, u32 start, u32 end) {
    u32 lane = threadIdx.x % WARP;
    float low = 0.0f, high = 0.0f;
    for (u64 i = (u64)start + lane; i < end; i += WIDTH) {
        low = fused(a[i], b[i], low);
        if (i + WARP < end) high = fused(a[i + WARP], b[i + WARP], high);
    }
    return warp_tree_sum(low, high);
}

// ---- Indices (ops/fault.rs)

#define FAULT_TEXT_ID (1u << 0)
#define FAULT_CODE (1u << 1)
#define FAULT_POSITION (1u << 2)
#define FAULT_SLOT (1u << 3)
#define FAULT_BLOCK (1u << 4)
#define FAULT_SEQ_LEN (1u << 5)
#define FAULT_CODEC_CODE (1u << 6)

// A scalar that takes the place of an operand in every row is this where the operand has the values.
#define FROM_OPERAND 0xffffffffu

INLINE bool in_range(i64 index, u64 len) { return index >= 0 && (u64)index < len; }

// Sets a bit in op_faults; bits stay set, so the order in which threads do it is of no matter.
INLINE void set_fault(u32* faults, u32 bit) { atomicOr(faults, bit); }

// Index of this thread over the whole grid.
INLINE u64 grid_index() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
