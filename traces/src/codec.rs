//! Records to bytes and back: the one module that names bincode.
//!
//! bincode 1.3.3 is complete and frozen, and no longer maintained. It is therefore kept to small
//! metadata records that arrive framed and checksummed, behind these two functions. The tests
//! pin the bytes, and decode them with a second library, so that the format outlives the crate.
//! The encoding itself is written down in `FORMAT.md`, "Record encoding".

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

use crate::layout::MAX_RECORD_BYTES;

/// Fixed-width little-endian integers, a size limit, and no bytes left over after a record.
fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(MAX_RECORD_BYTES)
        .reject_trailing_bytes()
}

/// The bytes of a record. Errors if they would exceed [`MAX_RECORD_BYTES`].
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, String> {
    options().serialize(record).map_err(|e| e.to_string())
}

/// The record that exactly `bytes` encode. Memory used is bounded by a constant times
/// `bytes.len()`, whatever lengths they claim: serde reserves at most 1 MiB ahead of elements
/// that really are there.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    options().deserialize(bytes).map_err(|e| e.to_string())
}
