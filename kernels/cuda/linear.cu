// Matrix products with 16-bit weights (ops/linear.rs): GEMV for one row, small GEMM for several.
//
// 64 threads share an output: 8 lanes a segment, and a lane takes 8 neighbouring accumulators, so
// that it loads 16 bytes of weights at a time, keeps the sums in registers and meets its
// neighbours only at the end of the segment. A block has two such groups. ROWS rows of x share
// each weight that is loaded, COLUMNS outputs of a group share each element of x. The order of
// every sum is the contract's, so rows and columns of a tile are of no matter to the result.

#define GROUP 64
#define GROUPS 2
#define LANES (GROUP / SEGMENTS)

// Eight elements from i on; those from `end` on are zeros, which the caller skips.
template <class T>
INLINE void load8_checked(const T* p, u64 i, u64 end, T (&x)[8]) {
#pragma unroll
    for (u32 e = 0; e < 8; e++) x[e] = i + e < end ? p[i + e] : (T)0;
}

// ALIGNED: K is a multiple of 8, and x and weight start at multiples of 16 bytes.
template <class Weight, class Out, u32 ROWS, u32 COLUMNS, bool ALIGNED>
INLINE void product(const float* __restrict__ x,                       // (T, K)
                    const typename Weight::Bits* __restrict__ weight,  // (M, K)
                    typename Out::Bits* __restrict__ out,              // (T, M)
                    u32 rows, u32 k, u32 m) {
    __shared__ float segments[GROUPS][ROWS * COLUMNS][SEGMENTS];
    // Row tiles vary fastest: blocks that run side by side read the same weights.
    u32 tiles = (rows + ROWS - 1) / ROWS, group = threadIdx.x / GROUP;
    u32 first_row = blockIdx.x % tiles * ROWS;
    u64 first_column = ((u64)(blockIdx.x / tiles) * GROUPS + group) * COLUMNS;
    u32 segment = threadIdx.x % GROUP / LANES, lane = threadIdx.x % LANES;
    u64 len = segment_len(k), start = segment * len, end = start + len < k ? start + len : k;

    // Past the last row or column the last one is computed again and not stored.
    const float* x_rows[ROWS];
    const typename Weight::Bits* columns[COLUMNS];
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) x_rows[r] = x + (u64)least(first_row + r, rows - 1) * k;
#pragma unroll
    for (u32 c = 0; c < COLUMNS; c++)
        columns[c] = weight + (first_column + c < m ? first_column + c : m - 1) * k;

    float sums[ROWS][COLUMNS][8] = {};
#pragma unroll 2
    for (u64 i = start + lane * 8; i < end; i += WIDTH) {
        typename Weight::Bits bits[COLUMNS][8];
#pragma unroll
        for (u32 c = 0; c < COLUMNS; c++)
            if (ALIGNED)
                load8(columns[c] + i, bits[c]);
            else
                load8_checked(columns[c], i, end, bits[c]);
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            float values[8];
            if (ALIGNED)
                load8(x_rows[r] + i, values);
            else
                load8_checked(x_rows[r], i, end, values);
#pragma unroll
            for (u32 c = 0; c < COLUMNS; c++)
#pragma unroll
                for (u32 e = 0; e < 8; e++)
                    if (ALIGNED || i + e < end)
                        sums[r][c][e] = fused(values[e], Weight::widen(bits[c][e]), sums[r][c][e]);
        }
    }

#pragma unroll
    for (u32 r = 0; r < ROWS; r++)
#pragma unroll
        for (u32 c = 0; c < COLUMNS; c++) {
            float sum = eight_lanes(eight(sums[r][c]));
            if (lane == 0) segments[group][r * COLUMNS + c][segment] = sum;
        }
    __syncthreads();
    u32 own = threadIdx.x % GROUP;
    u32 row = first_row + own / COLUMNS;
    u64 column = first_column + own % COLUMNS;
    if (own >= ROWS * COLUMNS || row >= rows || column >= m) return;
    float sum = segments[group][own][0];
    for (u32 s = 1; s < SEGMENTS && s * len < k; s++) sum = add(sum, segments[group][own][s]);
    out[row * (u64)m + column] = Out::narrow(sum);
}

#define PRODUCT(NAME, WEIGHT, OUT, ROWS, COLUMNS, ALIGNED)                                          \
    extern "C" __global__ void __launch_bounds__(GROUP* GROUPS)                                     \
        NAME(const float* __restrict__ x, const WEIGHT::Bits* __restrict__ weight,                  \
             OUT::Bits* __restrict__ out, u32 rows, u32 k, u32 m) {                                 \
        product<WEIGHT, OUT, ROWS, COLUMNS, ALIGNED>(x, weight, out, rows, k, m);                   \
    }

PRODUCT(linear_f16_rows1, F16, F32, 1, 2, true)
PRODUCT(linear_f16_rows2, F16, F32, 2, 2, true)
PRODUCT(linear_f16_rows4, F16, F32, 4, 2, true)
PRODUCT(linear_f16_unaligned, F16, F32, 1, 1, false)
PRODUCT(linear_bf16_rows1, Bf16, F32, 1, 2, true)
PRODUCT(linear_bf16_rows2, Bf16, F32, 2, 2, true)
PRODUCT(linear_bf16_rows4, Bf16, F32, 4, 2, true)
PRODUCT(linear_bf16_unaligned, Bf16, F32, 1, 1, false)

PRODUCT(lm_head_f16_rows1, F16, F16, 1, 2, true)
PRODUCT(lm_head_f16_rows2, F16, F16, 2, 2, true)
PRODUCT(lm_head_f16_rows4, F16, F16, 4, 2, true)
PRODUCT(lm_head_f16_unaligned, F16, F16, 1, 1, false)
PRODUCT(lm_head_bf16_rows1, Bf16, Bf16, 1, 2, true)
PRODUCT(lm_head_bf16_rows2, Bf16, Bf16, 2, 2, true)
PRODUCT(lm_head_bf16_rows4, Bf16, Bf16, 4, 2, true)
PRODUCT(lm_head_bf16_unaligned, Bf16, Bf16, 1, 1, false)
