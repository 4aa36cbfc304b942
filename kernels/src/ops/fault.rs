//! Bits of the state buffer `op_faults`, set by ops that met an index out of range. The op reads
//! zeros or writes nothing there, so that evidence survives and nothing crashes.

/// A token id outside the text table.
pub const TEXT_ID: u32 = 1 << 0;
/// A code outside the fused table.
pub const CODE: u32 = 1 << 1;
/// A position outside the RoPE table.
pub const POSITION: u32 = 1 << 2;
/// A slot that is neither -1 nor in the KV cache.
pub const SLOT: u32 = 1 << 3;
/// A block number outside the KV cache.
pub const BLOCK: u32 = 1 << 4;
/// A sequence length that is negative or beyond the block table.
pub const SEQ_LEN: u32 = 1 << 5;
/// A code outside a codec codebook.
pub const CODEC_CODE: u32 = 1 << 6;

/// Names of the bits set in `faults`, lowest first.
pub fn names(faults: u32) -> Vec<&'static str> {
    let all = [
        (TEXT_ID, "text_id"),
        (CODE, "code"),
        (POSITION, "position"),
        (SLOT, "slot"),
        (BLOCK, "block"),
        (SEQ_LEN, "seq_len"),
        (CODEC_CODE, "codec_code"),
    ];
    all.iter().filter(|(bit, _)| faults & bit != 0).map(|&(_, name)| name).collect()
}
