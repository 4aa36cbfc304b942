//! Names of a buffer's axes, for people: what is known of the talker's buffers, else the axis' number.

use twinstep_traces::BufferRecord;

/// A name an axis.
pub(crate) fn axes(record: &BufferRecord, rows: bool) -> Vec<String> {
    let name = record.name.rsplit_once('.').map_or(record.name.as_str(), |(head, tail)| {
        if tail.chars().all(|c| c.is_ascii_digit()) { head } else { tail }
    });
    let known: &[&str] = match (name, record.shape.len()) {
        ("kv_cache", 5) => &["key/value", "block", "token", "head", "dim"],
        ("audio_logits" | "masked_logits", 3) => &["row", "codebook", "code"],
        ("last_codes" | "codes_out" | "sampled" | "prefill_codes", 2) => &["row", "codebook"],
        ("lm_logits", 2) => &["row", "token"],
        ("block_table", 2) => &["row", "block"],
        ("attn_partial", 4) => &["row", "head", "split", "part"],
        ("rope_cos" | "rope_sin", 2) => &["position", "dim"],
        (_, 2) => &["row", "dim"],
        (_, 1) if rows => &["row"],
        _ => &[],
    };
    match known.len() == record.shape.len() {
        true => known.iter().map(|&name| name.to_owned()).collect(),
        false => (0..record.shape.len()).map(|axis| format!("axis {axis}")).collect(),
    }
}
