//! Traces that only this module can make: with frames of other kinds, and with a forged index.

use super::*;
use crate::{MemoryStorage, Trace};

fn bytes_buffer(name: &str, bytes: u64) -> BufferRecord {
    BufferRecord {
        name: name.into(),
        generation: 0,
        dtype: DType::U8,
        shape: vec![bytes],
        role: Role::State,
        bytes,
        chunk_bytes: 64,
        address: None,
        contents: None,
    }
}

fn step(step: u32, program: ProgramId) -> StepRecord {
    StepRecord {
        kind: StepKind::Decode,
        request: 1,
        step,
        rank: 0,
        program,
        host_writes: vec![],
        host_reads: vec![],
        points: vec![],
    }
}

/// Words of the buffer that `recorded` changes; fewer under Miri, which is slow.
const WORDS: u32 = if cfg!(miri) { 1 << 8 } else { 1 << 14 };

/// A trace of `steps` steps, each changing one buffer throughout.
fn recorded(steps: u32) -> TraceWriter<MemoryStorage> {
    let mut writer = TraceWriter::new(MemoryStorage::default(), &RunRecord::default()).unwrap();
    let buffer = writer.add_buffer(&bytes_buffer("b", 4 * u64::from(WORDS))).unwrap();
    for n in 1..=steps {
        let bytes: Vec<u8> = (0..WORDS).flat_map(|i| (i ^ (n << 14)).to_le_bytes()).collect();
        writer.snapshot(&[buffer], &[ChangedChunks { buffer, first_chunk: 0, bytes: &bytes }], &[]).unwrap();
        let reason = format!("program {n}");
        let program = writer.add_program(&Program { items: vec![Item::Gap { reason }] }).unwrap();
        writer.commit_step(&step(n, program)).unwrap();
    }
    writer
}

#[test]
fn frames_of_unknown_kinds_are_skipped() {
    let mut writer = recorded(1);
    writer.put_frame(4711, &[b"from a later version"]).unwrap();
    let program = writer.add_program(&Program::default()).unwrap();
    writer.put_frame(0xffff, &[]).unwrap();
    writer.commit_step(&step(2, program)).unwrap();
    let closed = writer.finish().unwrap().into_bytes();
    let cut = closed[..closed.len() - 1].to_vec();
    for (bytes, complete) in [(closed, true), (cut, false)] {
        let trace = Trace::from_bytes(bytes).unwrap();
        assert_eq!((trace.complete(), trace.step_count(), trace.program_count()), (complete, 2, 2));
        assert_eq!(trace.step(1).unwrap().step, 2);
        let verification = trace.verify();
        assert!(verification.ok(), "{verification:?}");
    }
}

#[test]
fn opening_costs_the_same_at_any_size() {
    let open = |steps| {
        let bytes = recorded(steps).finish().unwrap().into_bytes();
        let length = bytes.len();
        let trace = Trace::from_bytes(bytes).unwrap();
        assert_eq!(trace.step_count() as u32, steps);
        (length, trace.bytes_requested())
    };
    let many = if cfg!(miri) { 4 } else { 200 };
    let ((small, first), (large, second)) = (open(2), open(many));
    assert!(large > small * many as usize / 4);
    assert_eq!(first, second, "bytes looked at to open {small} and {large} bytes");
    assert!(first < 2000);
}

#[test]
fn one_read_looks_at_no_more_than_it_must() {
    let trace = Trace::from_bytes(recorded(3).finish().unwrap().into_bytes()).unwrap();
    let before = trace.bytes_requested();
    trace.step(1).unwrap();
    assert!(trace.bytes_requested() - before < 500);
}

/// A file of a few bytes must not fill the memory by naming one record many times.
#[test]
fn an_index_that_names_a_record_twice_is_refused() {
    let mut writer = recorded(1);
    let offset = writer.tables.buffers[0];
    writer.tables.buffers = vec![offset; 1000];
    let error = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
}

#[test]
fn a_snapshot_that_claims_more_than_the_file_holds_is_an_error() {
    let mut writer = recorded(1);
    let bytes = crate::MAX_READ_BYTES;
    writer.add_buffer(&bytes_buffer("huge", bytes)).unwrap();
    writer.add_buffer(&bytes_buffer("larger", bytes + 1)).unwrap();
    // Coverage without contents, which `snapshot` itself would refuse.
    let payload = Snapshot::encode(1, &[BufferId(1), BufferId(2)], &[], &[]);
    let offset = writer.put_frame(kind::SNAPSHOT, &[&payload]).unwrap();
    writer.tables.snapshots.push(offset.into());
    let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
    let read = |buffer| trace.read_buffer(SnapshotId(1), BufferId(buffer)).unwrap_err().to_string();
    assert!(read(1).contains("never stored"), "{}", read(1));
    assert!(read(2).contains("read it chunk by chunk"), "{}", read(2));
    let damage = trace.verify().damage;
    assert!(damage.iter().any(|d| d.what.contains("first covers buffer 1 but not whole")), "{damage:?}");
}

#[test]
fn verify_compares_the_index_with_the_records() {
    for table in 0..4 {
        let mut writer = recorded(2);
        let tables = &mut writer.tables;
        match table {
            0 => tables.steps.swap(0, 1),
            1 => tables.versions[3].content = 0.into(),
            2 => tables.chunks[1].offset = tables.chunks[0].offset,
            _ => tables.programs.truncate(1),
        }
        let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
        let damage = trace.verify().damage;
        assert!(
            damage.iter().any(|d| d.what.contains("contradicts the records")),
            "table {table}: {damage:?}"
        );
    }
}

#[test]
fn a_payload_longer_than_what_it_lists_is_damage() {
    let snapshot = Snapshot::encode(1, &[], &[], &[]);
    for (kind, mut payload) in [(kind::SNAPSHOT, snapshot), (kind::CHUNKS, ChunksHead::encode(&[]))] {
        payload.extend([0; 8]);
        let mut writer = recorded(1);
        let offset = writer.put_frame(kind, &[&payload]).unwrap();
        let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
        let damage = trace.verify().damage;
        assert!(damage.iter().any(|d| d.offset == offset && d.what.contains("more")), "{damage:?}");
    }
}
