//! Opens any bytes as a trace and reads what it can: no panic, no endless loop, no large allocation.
//!
//! `cargo +nightly fuzz run open` in this folder's parent. Checksums are made right first where
//! frames can be walked, or the fuzzer would spend its time on guessing them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinstep_traces::{BufferId, ProgramId, SnapshotId, Trace};

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    repair(&mut bytes);
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    trace.verify();
    for index in 0..trace.step_count().min(16) {
        let _ = trace.step(index).map(|step| trace.find_step(step.request, step.step));
    }
    for id in 0..trace.program_count().min(16) {
        let _ = trace.program(ProgramId(id as u32));
    }
    for snapshot in 0..trace.snapshot_count().min(16) {
        for buffer in 0..trace.buffers().len().min(16) {
            let (snapshot, buffer) = (SnapshotId(snapshot as u32), BufferId(buffer as u32));
            let _ = trace.read_chunk(snapshot, buffer, 0);
            if trace.buffers()[buffer.0 as usize].bytes < 1 << 20 {
                let _ = trace.read_buffer(snapshot, buffer);
            }
        }
    }
});

/// Sets the checksums of the header, of all frames that can be walked to, and of commits.
fn repair(bytes: &mut [u8]) {
    if bytes.len() < 64 {
        return;
    }
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let (mut at, mut start, mut previous) = (64, 0, 0u32);
    while at + 16 <= bytes.len() {
        let length = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap_or_default());
        let Ok(length) = usize::try_from(length) else { return };
        let payload = at + 16;
        let Some(end) = length.checked_next_multiple_of(8).and_then(|padded| payload.checked_add(padded)) else {
            return;
        };
        if end > bytes.len() {
            return;
        }
        if bytes[at..at + 2] == [9, 0] && length == 40 {
            let checksum = crc32fast::hash(&bytes[start..at]);
            bytes[payload + 32..payload + 36].copy_from_slice(&checksum.to_le_bytes());
            bytes[payload + 36..payload + 40].copy_from_slice(&previous.to_le_bytes());
            (previous, start) = (checksum, end);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 4]);
        crc.update(&bytes[at + 8..at + 16]);
        crc.update(&bytes[payload..payload + length]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.finalize().to_le_bytes());
        at = end;
    }
}
