// Decode state of the delay pattern: seed, mask, update (ops/state.rs).

#define MASK_LEAD_IN (1u << 0)
#define BAN_SPECIALS (1u << 1)
#define FORCE_RAMP (1u << 2)
#define FEED_LAST_ROW (1u << 3)

// One thread a code, and one a row.
KERNEL seed_state(i64* last_codes,       // (R, N)
                  u8* has_codes,         // (R)
                  i64* delay_count,      // (R)
                  i64* eoc_countdown,    // (R)
                  u8* generation_done,   // (R)
                  u32* sampler_counter,  // (R)
                  u32 rows, u32 codebooks, u32 boc) {
    u64 i = grid_index();
    if (i < (u64)rows * codebooks) last_codes[i] = boc;
    if (i >= rows) return;
    has_codes[i] = 1;
    delay_count[i] = 0;
    eoc_countdown[i] = -1;
    generation_done[i] = 0;
    sampler_counter[i] = 0;
}

// One thread a logit.
KERNEL delay_mask(const float* logits,        // (R, N, V)
                  const i64* delay_count,     // (R)
                  const i64* eoc_countdown,   // (R)
                  float* out,                 // (R, N, V)
                  u32 rows, u32 codebooks, u32 vocab, u32 boc, u32 eoc, u32 eoc_from, u32 flags) {
    u64 i = grid_index(), a_row = (u64)codebooks * vocab;
    if (i >= rows * a_row) return;
    u32 code = (u32)(i % vocab);
    i64 k = (i64)(i / vocab % codebooks), d = delay_count[i / a_row], c = eoc_countdown[i / a_row];
    bool lead_in = (flags & MASK_LEAD_IN) && c < 0 && k > d;
    bool ended = (flags & FORCE_RAMP) && c >= 0 && k < (i64)codebooks - c;
    bool may_end = k == 0 && c < 0 && d >= (i64)eoc_from;
    bool allowed = true;
    if (lead_in)
        allowed = code == boc;
    else if (ended)
        allowed = code == eoc;
    else if (flags & BAN_SPECIALS)
        allowed = code != boc && (code != eoc || may_end);
    out[i] = allowed ? canonical(logits[i]) : negated(infinity());
}

// One thread a row.
KERNEL update_state(const i64* sampled,    // (R, N)
                    u8* has_codes,         // (R)
                    i64* delay_count,      // (R)
                    i64* eoc_countdown,    // (R)
                    u8* generation_done,   // (R)
                    u32* sampler_counter,  // (R)
                    i64* feedback,         // (R, N)
                    i64* codes_out,        // (R, N)
                    u32 rows, u32 codebooks, u32 boc, u32 eoc, u32 eoc_from, u32 flags, u32 delay_cap,
                    u32 countdown) {
    u64 row = grid_index();
    if (row >= rows) return;
    sampled += row * codebooks, feedback += row * codebooks, codes_out += row * codebooks;
    if (has_codes[row] == 0 || generation_done[row] != 0) {
        for (u32 k = 0; k < codebooks; k++) codes_out[k] = -1;
        return;
    }
    i64 d = delay_count[row], c = eoc_countdown[row];
    bool ending = c >= 0, last = false;
    for (u32 k = 0; k < codebooks; k++) {
        bool lead_in = !ending && (i64)k > d;
        bool ended = ending && (flags & FORCE_RAMP) && (i64)k < (i64)codebooks - c;
        codes_out[k] = lead_in ? boc : ended ? eoc : sampled[k];
    }
    if (ending) {
        eoc_countdown[row] = c - 1;
        last = c - 1 <= 0;
    } else if (codes_out[0] == (i64)eoc && d >= (i64)eoc_from) {
        eoc_countdown[row] = countdown;
        last = countdown == 0;
    }
    // d + 1 would overflow at the greatest d, where the cap is the lesser anyway.
    delay_count[row] = d < (i64)delay_cap ? d + 1 : (i64)delay_cap;
    sampler_counter[row]++;
    if (!last || (flags & FEED_LAST_ROW))
        for (u32 k = 0; k < codebooks; k++) feedback[k] = codes_out[k];
    if (!last) return;
    generation_done[row] = 1;
    has_codes[row] = 0;
    delay_count[row] = 0;
    eoc_countdown[row] = -1;
}
