//! No byte can change unnoticed, and none can make a reader panic.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use twinstep_traces::*;

/// Opens, verifies and reads `bytes`: either reading fails, or all that it gives is as it was; and what fails to be
/// read, `verify` calls damaged. Without an index it may end at an earlier commit, which `verify` calls damage too.
fn noticed_or_harmless(bytes: Vec<u8>, original: &Told, what: &str) {
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    let verification = trace.verify();
    match told(&trace) {
        Ok(now) if !trace.complete() && now != *original => {
            assert!(now.is_beginning_of(original), "{what}: something else is read, and no error");
            assert!(!verification.ok(), "{what}: less is read, without damage being told");
        }
        Ok(now) => assert!(now == *original, "{what}: something else is read, and no error"),
        Err(error) => assert!(!verification.ok(), "{what}: {error}, but verify found nothing"),
    }
}

fn flip_every_bit(whole: &[u8]) {
    let original = told(&Trace::from_bytes(whole.to_vec()).unwrap()).unwrap();
    let every = if cfg!(miri) { 211 } else { 1 };
    for bit in (0..8 * whole.len()).step_by(every) {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        noticed_or_harmless(bytes, &original, &format!("bit {} of byte {}", bit % 8, bit / 8));
    }
}

#[test]
fn every_bit_of_a_closed_trace() {
    flip_every_bit(&small_closed());
}

#[test]
fn every_bit_of_a_trace_cut_short() {
    let closed = small_closed();
    let last = (0..closed.len()).rfind(|&i| closed[i..].starts_with(b"TWCOMMIT")).unwrap();
    let cut = &closed[..last + 40];
    // A flip in the last commit itself looks like a tail that was never committed, and is told as that:
    // its step is gone, with nothing behind it to prove that it had been there.
    let original = told(&Trace::from_bytes(cut.to_vec()).unwrap()).unwrap();
    let previous = (0..last).rfind(|&i| closed[i..].starts_with(b"TWCOMMIT")).unwrap() + 40;
    for bit in 0..8 * cut.len() {
        if cfg!(miri) && bit % 211 != 0 {
            continue;
        }
        let mut bytes = cut.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let in_commit = bit / 8 >= last - 16;
        if in_commit {
            let trace = Trace::from_bytes(bytes).unwrap();
            assert_eq!(trace.uncommitted_bytes() as usize, cut.len() - previous);
            assert!(told(&trace).unwrap().is_beginning_of(&original));
        } else {
            noticed_or_harmless(bytes, &original, &format!("bit {} of byte {}", bit % 8, bit / 8));
        }
    }
}

#[test]
fn every_byte_set_to_extremes() {
    let whole = small_closed();
    let original = told(&Trace::from_bytes(whole.clone()).unwrap()).unwrap();
    let every = if cfg!(miri) { 53 } else { 1 };
    for at in (0..whole.len()).step_by(every) {
        for value in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            noticed_or_harmless(bytes, &original, &format!("byte {at} set to {value:#x}"));
        }
    }
}

#[test]
fn damage_says_where_it_is() {
    let whole = small_closed();
    // The threes of `last_codes` are stored once, as one chunk.
    let at = whole.windows(8).position(|bytes| bytes == [3; 8]).unwrap();
    let mut bytes = whole;
    bytes[at] ^= 1;
    let trace = Trace::from_bytes(bytes).unwrap();
    let damage = trace.verify().damage;
    assert!(
        damage.iter().any(|d| d.offset == at as u64 && d.what.contains("does not match its hash")),
        "{damage:#?}"
    );
    assert!(damage.iter().any(|d| d.what.contains("commit 3")), "{damage:#?}");
    let error = trace.read_buffer(SnapshotId(3), BufferId(0)).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { offset, .. } if offset == at as u64), "{error}");
    // What the damage does not touch reads on.
    assert!(trace.read_buffer(SnapshotId(1), BufferId(0)).unwrap().is_some());
}

#[test]
fn a_middle_commit_damaged_in_an_unclosed_trace_is_damage_not_a_tail() {
    let closed = small_closed();
    let ends: Vec<usize> =
        (0..closed.len()).filter(|&i| closed[i..].starts_with(b"TWCOMMIT")).map(|i| i + 40).collect();
    let mut bytes = closed[..ends[4]].to_vec();
    bytes[ends[1] + 30] ^= 0x10;
    let trace = Trace::from_bytes(bytes).unwrap();
    assert_eq!(trace.step_count(), 1);
    let verification = trace.verify();
    assert_eq!(verification.damage.len(), 1, "{verification:?}");
    assert_eq!(verification.damage[0].offset, ends[1] as u64);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 2000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Corruption that a checksum would catch is cheap to catch. Here lengths, counts and
    /// references are forged and every checksum is made right again, as an enemy would: nothing
    /// may panic, and nothing is promised about the contents.
    #[test]
    fn forged_with_right_checksums(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        close in any::<bool>(),
    ) {
        let mut bytes = small_closed();
        if !close {
            let last = (0..bytes.len()).rfind(|&i| bytes[i..].starts_with(b"TWCOMMIT")).unwrap();
            bytes.truncate(last + 40);
        }
        let frames = frames(&bytes);
        for (at, value) in edits {
            let at = 64 + at.index(bytes.len() - 64);
            bytes[at] = value;
        }
        repair(&mut bytes, &frames, None);
        if let Ok(trace) = Trace::from_bytes(bytes) {
            trace.verify();
            let _ = trace.find_step(1, 2);
            for snapshot in 0..trace.snapshot_count().min(100) {
                for buffer in 0..trace.buffers().len() {
                    let (snapshot, buffer) = (SnapshotId(snapshot as u32), BufferId(buffer as u32));
                    let _ = trace.read_buffer(snapshot, buffer);
                    let _ = trace.read_chunk(snapshot, buffer, 1);
                }
            }
            for index in 0..trace.step_count().min(100) {
                let _ = trace.step(index);
            }
            for id in 0..trace.program_count().min(100) {
                let _ = trace.program(ProgramId(id as u32));
            }
        }
    }
}

/// Offset, payload length of every frame of a trace that is whole.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = 64;
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize;
        frames.push((at, length));
        at += 16 + length.next_multiple_of(8);
    }
    frames
}

/// Makes the checksums of all commits right, and of all frames but the one at `spared`, where
/// frames were before the forgery.
fn repair(bytes: &mut [u8], frames: &[(usize, usize)], spared: Option<usize>) {
    let mut previous = 0u32;
    let mut start = 0;
    for &(at, length) in frames {
        let payload = at + 16;
        if u16::from_le_bytes([bytes[at], bytes[at + 1]]) == 9 && length == 40 {
            let checksum = crc32fast::hash(&bytes[start..at]);
            bytes[payload + 32..payload + 36].copy_from_slice(&checksum.to_le_bytes());
            bytes[payload + 36..payload + 40].copy_from_slice(&previous.to_le_bytes());
            previous = checksum;
            start = payload + length;
        }
        if spared == Some(at) {
            continue;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 4]);
        crc.update(&bytes[at + 8..at + 16]);
        crc.update(&bytes[payload..payload + length]);
        let crc = crc.finalize();
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn repairing_what_was_not_forged_changes_nothing() {
    let whole = small_closed();
    let mut repaired = whole.clone();
    repair(&mut repaired, &frames(&whole), None);
    assert_eq!(repaired, whole);
}

/// A commit belongs to one place in one chain, even where all its bytes are consistent.
#[test]
fn a_commit_out_of_its_chain_is_damage() {
    for field in [8, 16, 24, 36] {
        let mut bytes = small_closed();
        let third = (0..bytes.len()).filter(|&i| bytes[i..].starts_with(b"TWCOMMIT")).nth(2).unwrap();
        bytes[third + field] ^= 1;
        let at = third - 16;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 4]);
        crc.update(&bytes[at + 8..third + 40]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.finalize().to_le_bytes());
        let damage = Trace::from_bytes(bytes.clone()).unwrap().verify().damage;
        assert!(damage.iter().any(|d| d.what.contains("does not continue")), "field {field}: {damage:?}");
        bytes.truncate(bytes.len() - 1);
        let trace = Trace::from_bytes(bytes).unwrap();
        assert_eq!(trace.step_count(), 1, "field {field}: recovery ends before that commit");
    }
}

/// Single records are read without their commit, so their own checksums must be right as well.
#[test]
fn every_frame_has_its_own_checksum_verified() {
    let whole = small_closed();
    let all = frames(&whole);
    // The last is the footer: without it the trace opens by recovery.
    for &(at, _) in &all[..all.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at + 4] ^= 1;
        repair(&mut bytes, &all, Some(at));
        match Trace::from_bytes(bytes) {
            Err(error) => assert!(error.to_string().contains("checksum"), "{error}"),
            Ok(trace) => {
                let damage = trace.verify().damage;
                assert!(
                    damage.iter().any(|d| d.offset == at as u64 && d.what.contains("checksum")),
                    "{at}: {damage:?}"
                );
            }
        }
    }
}
