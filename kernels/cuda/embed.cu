// Text embedding, and fused codebook embedding with feedback select (ops/embed.rs). One block a
// row; the first thread reports indices out of range.

template <class Weight>
INLINE void embed_text(const i32* ids,                   // (T)
                       const typename Weight::Bits* table, // (vocab, D)
                       float* out,                       // (T, D)
                       u32* faults, u32 vocab, u32 d) {
    u64 row = blockIdx.x;
    i32 id = ids[row];
    bool known = in_range(id, vocab);
    if (!known && threadIdx.x == 0) set_fault(faults, FAULT_TEXT_ID);
    for (u32 i = threadIdx.x; i < d; i += blockDim.x)
        out[row * d + i] = known ? canonical(Weight::widen(table[(u64)id * d + i])) : 0.0f;
}

KERNEL embed_text_f16(const i32* ids, const u16* table, float* out, u32* faults, u32 vocab, u32 d) {
    embed_text<F16>(ids, table, out, faults, vocab, d);
}

KERNEL embed_text_bf16(const i32* ids, const u16* table, float* out, u32* faults, u32 vocab, u32 d) {
    embed_text<Bf16>(ids, table, out, faults, vocab, d);
}

template <class Weight>
INLINE void embed_codes(const i64* codes,                  // (R, N)
                        const u8* has_codes,               // (R)
                        const typename Weight::Bits* table, // (N * vocab, D)
                        const float* text,                 // (R, D)
                        float* out,                        // (R, D)
                        u32* faults, u32 codebooks, u32 vocab, u32 d) {
    u64 row = blockIdx.x;
    if (has_codes[row] == 0) {
        for (u32 i = threadIdx.x; i < d; i += blockDim.x) out[row * d + i] = canonical(text[row * d + i]);
        return;
    }
    codes += row * codebooks;
    if (threadIdx.x == 0)
        for (u32 k = 0; k < codebooks; k++)
            if (!in_range(codes[k], vocab)) set_fault(faults, FAULT_CODE);
    for (u32 i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0.0f;
        for (u32 k = 0; k < codebooks; k++) {
            float value = 0.0f;
            if (in_range(codes[k], vocab))
                value = Weight::widen(table[((u64)k * vocab + (u64)codes[k]) * d + i]);
            // The first value is taken as it is: +0 plus it would turn -0 into +0.
            sum = k == 0 ? value : add(sum, value);
        }
        out[row * d + i] = canonical(sum);
    }
}

KERNEL embed_codes_f16(const i64* codes, const u8* has_codes, const u16* table, const float* text, float* out,
                       u32* faults, u32 codebooks, u32 vocab, u32 d) {
    embed_codes<F16>(codes, has_codes, table, text, out, faults, codebooks, vocab, d);
}

KERNEL embed_codes_bf16(const i64* codes, const u8* has_codes, const u16* table, const float* text, float* out,
                        u32* faults, u32 codebooks, u32 vocab, u32 d) {
    embed_codes<Bf16>(codes, has_codes, table, text, out, faults, codebooks, vocab, d);
}
