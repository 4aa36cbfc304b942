// Keys and values into the paged cache (ops/kv.rs). One block a row. Of rows with the same slot
// the last one stays: a row that finds its slot again further down leaves it alone, so no two
// blocks write the same bytes.

template <class Cache>
INLINE void kv_write(const float* k,                 // (T, width)
                     const float* v,                 // (T, width)
                     const i64* slot_mapping,        // (T)
                     typename Cache::Bits* k_cache,  // (slots, width)
                     typename Cache::Bits* v_cache,  // (slots, width)
                     u32* faults, u32 rows, u64 slots, u64 width) {
    u32 row = blockIdx.x;
    i64 slot = slot_mapping[row];
    if (slot == -1) return;
    if (!in_range(slot, slots)) {
        if (threadIdx.x == 0) set_fault(faults, FAULT_SLOT);
        return;
    }
    bool again = false;
    for (u64 later = (u64)row + 1 + threadIdx.x; later < rows; later += blockDim.x)
        again |= slot_mapping[later] == slot;
    if (__syncthreads_or(again)) return;
    for (u64 i = threadIdx.x; i < width; i += blockDim.x) {
        k_cache[slot * width + i] = Cache::narrow(k[row * width + i]);
        v_cache[slot * width + i] = Cache::narrow(v[row * width + i]);
    }
}

KERNEL kv_write_f16(const float* k, const float* v, const i64* slot_mapping, u16* k_cache, u16* v_cache,
                    u32* faults, u32 rows, u64 slots, u64 width) {
    kv_write<F16>(k, v, slot_mapping, k_cache, v_cache, faults, rows, slots, width);
}

KERNEL kv_write_bf16(const float* k, const float* v, const i64* slot_mapping, u16* k_cache, u16* v_cache,
                     u32* faults, u32 rows, u64 slots, u64 width) {
    kv_write<Bf16>(k, v, slot_mapping, k_cache, v_cache, faults, rows, slots, width);
}

KERNEL kv_write_f32(const float* k, const float* v, const i64* slot_mapping, float* k_cache, float* v_cache,
                    u32* faults, u32 rows, u64 slots, u64 width) {
    kv_write<F32>(k, v, slot_mapping, k_cache, v_cache, faults, rows, slots, width);
}
