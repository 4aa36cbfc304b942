// Codes to waveform (ops/codec.rs): residual vector quantiser, causal convolutions, activations.
// Activations are (channels, time).

// One block an instant; the first thread reports codes out of range.
template <class Table>
INLINE void rvq_decode(const i64* codes,                     // (T, N)
                       const typename Table::Bits* tables,   // (N, size, E)
                       float* out,                           // (E, T)
                       u32* faults, u32 t, u32 codebooks, u32 size, u32 e) {
    u32 time = blockIdx.x;
    codes += (u64)time * codebooks;
    if (threadIdx.x == 0)
        for (u32 k = 0; k < codebooks; k++)
            if (!in_range(codes[k], size)) set_fault(faults, FAULT_CODEC_CODE);
    for (u32 i = threadIdx.x; i < e; i += blockDim.x) {
        float sum = 0.0f;
        for (u32 k = 0; k < codebooks; k++) {
            float value = 0.0f;
            if (in_range(codes[k], size)) value = Table::widen(tables[((u64)k * size + (u64)codes[k]) * e + i]);
            sum = k == 0 ? value : add(sum, value);
        }
        out[(u64)i * t + time] = canonical(sum);
    }
}

KERNEL rvq_decode_f16(const i64* codes, const u16* tables, float* out, u32* faults, u32 t, u32 codebooks,
                      u32 size, u32 e) {
    rvq_decode<F16>(codes, tables, out, faults, t, codebooks, size, e);
}

KERNEL rvq_decode_bf16(const i64* codes, const u16* tables, float* out, u32* faults, u32 t, u32 codebooks,
                       u32 size, u32 e) {
    rvq_decode<Bf16>(codes, tables, out, faults, t, codebooks, size, e);
}

// Output channels of a thread: each element of x that it loads serves all of them.
#define CHANNELS 4

// Weights and bias may be of different types.
INLINE float widen_bias(u16 bits, u32 bias_is_bf16) { return bias_is_bf16 ? Bf16::widen(bits) : F16::widen(bits); }

// Where a thread of a convolution works: consecutive threads on consecutive times.
struct Place {
    u64 time;
    u32 channel;   // the first of CHANNELS
    bool present;
};

INLINE Place place(u64 times, u32 channels) {
    u64 i = grid_index();
    u64 channel = i / times * CHANNELS;
    Place place = {i % times, (u32)channel, channel < channels};
    return place;
}

template <class Weight>
INLINE void conv1d(const float* x,                       // (in, T)
                   const typename Weight::Bits* weight,  // (out, in, taps)
                   const u16* bias,                      // (out)
                   float* out,                           // (out, T)
                   u32 in, u32 t, u32 channels, u32 taps, u32 dilation, u32 bias_is_bf16) {
    Place at = place(t, channels);
    if (!at.present) return;
    float sums[CHANNELS] = {};
    for (u32 tap = 0; tap < taps; tap++) {
        u64 back = (u64)(taps - 1 - tap) * dilation;
        if (back > at.time) continue;
        const float* from = x + (at.time - back);
        for (u32 i = 0; i < in; i++) {
            float value = from[(u64)i * t];
#pragma unroll
            for (u32 c = 0; c < CHANNELS; c++) {
                u64 channel = least(at.channel + c, channels - 1);
                sums[c] = fused(value, Weight::widen(weight[(channel * in + i) * taps + tap]), sums[c]);
            }
        }
    }
#pragma unroll
    for (u32 c = 0; c < CHANNELS; c++) {
        u64 channel = at.channel + c;
        if (channel < channels)
            out[channel * t + at.time] = canonical(add(sums[c], widen_bias(bias[channel], bias_is_bf16)));
    }
}

template <class Weight>
INLINE void conv_transpose1d(const float* x,                       // (in, T)
                             const typename Weight::Bits* weight,  // (in, out, 2 * stride)
                             const u16* bias,                      // (out)
                             float* out,                           // (out, T * stride)
                             u32 in, u32 t, u32 channels, u32 stride, u32 bias_is_bf16) {
    u64 times = (u64)t * stride;
    Place at = place(times, channels);
    if (!at.present) return;
    u64 now = at.time / stride, taps = 2ull * stride;
    u32 phase = (u32)(at.time % stride);
    float sums[CHANNELS] = {};
    // The input before this one at the later tap, then this one at the earlier tap.
    for (u32 turn = 0; turn < 2; turn++) {
        u32 earlier = 1 - turn;
        if (earlier > now) continue;
        const float* from = x + (now - earlier);
        u64 tap = phase + (u64)earlier * stride;
        for (u32 i = 0; i < in; i++) {
            float value = from[(u64)i * t];
#pragma unroll
            for (u32 c = 0; c < CHANNELS; c++) {
                u64 channel = least(at.channel + c, channels - 1);
                sums[c] = fused(value, Weight::widen(weight[((u64)i * channels + channel) * taps + tap]), sums[c]);
            }
        }
    }
#pragma unroll
    for (u32 c = 0; c < CHANNELS; c++) {
        u64 channel = at.channel + c;
        if (channel < channels)
            out[channel * times + at.time] = canonical(add(sums[c], widen_bias(bias[channel], bias_is_bf16)));
    }
}

// One thread an element.
template <class Alpha>
INLINE void snake(const float* x,                     // (C, T)
                  const typename Alpha::Bits* alpha,  // (C)
                  float* out,                         // (C, T)
                  u32 channels, u32 t) {
    u64 i = grid_index();
    if (i >= (u64)channels * t) return;
    float a = Alpha::widen(alpha[i / t]);
    float s = contract_sin(mul(a, x[i]));
    out[i] = canonical(add(x[i], quotient(mul(s, s), add(a, 1e-9f))));
}

#define CONVOLUTIONS(SUFFIX, WEIGHT)                                                                 \
    KERNEL conv1d_##SUFFIX(const float* x, const u16* weight, const u16* bias, float* out, u32 in,   \
                           u32 t, u32 channels, u32 taps, u32 dilation, u32 bias_is_bf16) {          \
        conv1d<WEIGHT>(x, weight, bias, out, in, t, channels, taps, dilation, bias_is_bf16);         \
    }                                                                                                \
    KERNEL conv_transpose1d_##SUFFIX(const float* x, const u16* weight, const u16* bias, float* out, \
                                     u32 in, u32 t, u32 channels, u32 stride, u32 bias_is_bf16) {    \
        conv_transpose1d<WEIGHT>(x, weight, bias, out, in, t, channels, stride, bias_is_bf16);       \
    }                                                                                                \
    KERNEL snake_##SUFFIX(const float* x, const u16* alpha, float* out, u32 channels, u32 t) {       \
        snake<WEIGHT>(x, alpha, out, channels, t);                                                   \
    }

CONVOLUTIONS(f16, F16)
CONVOLUTIONS(bf16, Bf16)

// One thread an element; plain `tanh` is the compiler's own.
KERNEL tanh_f32(const float* x,  // (len)
                float* out,      // (len)
                u64 len) {
    u64 i = grid_index();
    if (i < len) out[i] = contract_tanh(x[i]);
}
