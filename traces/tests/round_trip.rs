//! What is written is what is read, and what makes no sense is refused.

mod fixture;

use fixture::*;
use twinstep_traces::*;

#[test]
fn one_of_everything() {
    let trace = Trace::from_bytes(small_closed()).unwrap();
    assert!(trace.complete());
    assert!(!trace.recording());
    assert_eq!(trace.uncommitted_bytes(), 0);
    let all = told(&trace).unwrap();
    assert_eq!(all.run, run());
    assert_eq!(all.programs[0], every_item(BufferId(0)));
    assert_eq!(all.found, [0, 1, 2, 3].map(Some));
    assert_eq!(trace.find_step(1, 4).unwrap(), None);
    assert_eq!(trace.find_step(2, 1).unwrap(), None);
    assert_eq!(trace.find_buffer("last_codes", None), Some(BufferId(2)));
    assert_eq!(trace.find_buffer("last_codes", Some(0)), Some(BufferId(0)));
    assert_eq!(trace.find_buffer("last_codes", Some(2)), None);
    assert_eq!(trace.find_buffer("codes", None), None);
    assert_eq!(trace.graph(GraphId(0)).unwrap().label, "decode");
    assert_eq!(all.requests[0].text, "hello");
    assert_eq!(all.steps[2].host_reads[0].decision, "continue");
    let mut second = vec![1; 21];
    second[16..].fill(2);
    let mut fourth = second.clone();
    fourth[..8].fill(3);
    let bytes = |s: usize| all.snapshots[s].2.clone();
    assert_eq!(bytes(0), [Some(vec![1; 21]), Some(vec![]), None]);
    assert_eq!(bytes(1), [Some(second.clone()), None, None]);
    assert_eq!(bytes(2), [None, None, Some(vec![1; 8])]);
    assert_eq!(bytes(3), [Some(fourth), None, Some(vec![1; 8])]);
    assert_eq!(bytes(4), [Some(second), None, None]);
    assert_eq!(all.snapshots[1].1, [AuditRange { buffer: BufferId(0), first_chunk: 0, chunks: 2 }]);
    let verification = trace.verify();
    assert!(verification.ok(), "{verification:?}");
    // Ones (8 bytes), ones (5 bytes), twos (5 bytes), threes (8 bytes): nothing is stored twice.
    assert_eq!((verification.chunks, verification.snapshots, verification.steps), (4, 5, 4));
    // The start and four steps: closing commits again only what no step has.
    assert_eq!(verification.commits, 5);
}

#[test]
fn dropped_without_closing_reads_the_same_but_is_not_complete() {
    let closed = told(&Trace::from_bytes(small_closed()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    let storage = Shared(&mut bytes);
    drop(write_small(storage).unwrap());
    let trace = Trace::from_bytes(bytes).unwrap();
    assert!(!trace.complete());
    assert_eq!(told(&trace).unwrap(), closed);
    assert!(trace.verify().ok());
}

/// Memory that outlives its writer.
struct Shared<'a>(&'a mut Vec<u8>);

impl Storage for Shared<'_> {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn three_hundred_equal_steps_add_one_program() {
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run()).unwrap();
    let codes = writer.add_buffer(&buffer("codes", 0, 4096, 512)).unwrap();
    let bytes = [5; 4096];
    let whole = ChangedChunks { buffer: codes, first_chunk: 0, bytes: &bytes };
    let program = every_item(codes);
    for n in 1..=300 {
        // The whole buffer is given each time; only what differs may be stored.
        let snapshot = writer.snapshot(&[codes], &[whole], &[]).unwrap();
        let id = writer.add_program(&program).unwrap();
        assert_eq!(id, ProgramId(0));
        writer.commit_step(&step(1, n, id, &[("step.before", snapshot)])).unwrap();
    }
    let bytes_a_step = (writer.bytes_written() - 4096) / 300;
    assert!(bytes_a_step < 300, "a step that changes nothing took {bytes_a_step} bytes");
    let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
    assert_eq!((trace.program_count(), trace.step_count()), (1, 300));
    assert_eq!(trace.verify().chunks, 1);
    assert_eq!(trace.read_buffer(SnapshotId(299), codes).unwrap(), Some(vec![5; 4096]));
    assert_eq!(trace.find_step(1, 300).unwrap(), Some(299));
}

#[test]
fn steps_are_found_in_any_order_of_recording() {
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run()).unwrap();
    let program = writer.add_program(&Program::default()).unwrap();
    let order = [(2, 1), (1, 1), (2, 2), (1, 3), (1, 2), (1, 2)];
    for (request, n) in order {
        writer.commit_step(&step(request, n, program, &[])).unwrap();
    }
    let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
    for (request, n) in order {
        let first = order.iter().position(|&other| other == (request, n));
        assert_eq!(trace.find_step(request, n).unwrap(), first);
    }
    assert_eq!(trace.find_step(1, 0).unwrap(), None);
    assert_eq!(trace.find_step(1, 4).unwrap(), None);
}

#[test]
fn asking_beyond_the_trace_is_an_error_that_says_how_much_there_is() {
    let trace = Trace::from_bytes(small_closed()).unwrap();
    let codes = BufferId(0);
    let none = |result: Result<(), ReadError>, message: &str| {
        assert_eq!(result.unwrap_err().to_string(), message);
    };
    none(trace.step(4).map(drop), "there is no step 4: the trace has 4, counted from 0");
    none(trace.program(ProgramId(2)).map(drop), "there is no program 2: the trace has 2, counted from 0");
    none(
        trace.covers(SnapshotId(5), codes).map(drop),
        "there is no snapshot 5: the trace has 5, counted from 0",
    );
    none(
        trace.covers(SnapshotId(0), BufferId(3)).map(drop),
        "there is no buffer 3: the trace has 3, counted from 0",
    );
    none(
        trace.read_chunk(SnapshotId(0), codes, 3).map(drop),
        "there is no chunk 3: the trace has 3, counted from 0",
    );
    none(
        trace.read_buffer(SnapshotId(9), codes).map(drop),
        "there is no snapshot 9: the trace has 5, counted from 0",
    );
}

#[test]
fn senseless_arguments_are_refused_and_change_nothing() {
    let mut writer = write_small(MemoryStorage::default()).unwrap();
    let length = writer.bytes_written();
    let codes = BufferId(0);
    let program = ProgramId(0);
    let piece = |first_chunk, bytes| ChangedChunks { buffer: codes, first_chunk, bytes };
    let mut refused = Vec::new();
    let mut refuse = |error: WriteError| refused.push(error.to_string());

    let bad = BufferRecord { chunk_bytes: 12, ..buffer("x", 0, 24, 8) };
    refuse(writer.add_buffer(&bad).unwrap_err());
    refuse(writer.add_buffer(&buffer("x", 0, 1, MAX_CHUNK_BYTES * 2)).unwrap_err());
    refuse(writer.add_buffer(&BufferRecord { bytes: 25, ..buffer("x", 0, 24, 8) }).unwrap_err());
    refuse(
        writer
            .add_buffer(&BufferRecord { shape: vec![1 << 40, 1 << 40], ..buffer("x", 0, 24, 8) })
            .unwrap_err(),
    );
    refuse(writer.add_buffer(&buffer("last_codes", 1, 8, 8)).unwrap_err());
    refuse(writer.add_program(&every_item(BufferId(3))).unwrap_err());
    let graph =
        |id, program| GraphRecord { id, label: "g".into(), program, edges: vec![], captured_at: (0, 0) };
    refuse(writer.add_graph(&graph(GraphId(0), program)).unwrap_err());
    refuse(writer.add_graph(&graph(GraphId(1), ProgramId(2))).unwrap_err());
    refuse(writer.snapshot(&[BufferId(3)], &[], &[]).unwrap_err());
    refuse(writer.snapshot(&[], &[piece(0, &[0; 8])], &[]).unwrap_err());
    refuse(writer.snapshot(&[codes], &[piece(0, &[0; 7])], &[]).unwrap_err());
    refuse(writer.snapshot(&[codes], &[piece(2, &[0; 8])], &[]).unwrap_err());
    refuse(writer.snapshot(&[codes], &[piece(u64::MAX, &[0; 8])], &[]).unwrap_err());
    refuse(writer.snapshot(&[codes], &[piece(0, &[0; 16]), piece(1, &[0; 8])], &[]).unwrap_err());
    let audit = AuditRange { buffer: codes, first_chunk: 2, chunks: 2 };
    refuse(writer.snapshot(&[codes], &[], &[audit]).unwrap_err());
    refuse(writer.commit_step(&step(1, 4, ProgramId(2), &[])).unwrap_err());
    refuse(writer.commit_step(&step(1, 4, program, &[("step.before", SnapshotId(5))])).unwrap_err());
    let host_writes = vec![HostWrite { position: 0, buffer: codes, offset: 21, bytes: vec![0] }];
    refuse(writer.commit_step(&StepRecord { host_writes, ..step(1, 4, program, &[]) }).unwrap_err());
    let host_writes = vec![HostWrite { position: 14, buffer: codes, offset: 0, bytes: vec![0] }];
    refuse(writer.commit_step(&StepRecord { host_writes, ..step(1, 4, program, &[]) }).unwrap_err());
    assert_eq!(writer.bytes_written(), length, "after {refused:#?}");

    // A buffer first covered must be given whole: not at all, without its start, without its end.
    let fresh = writer.add_buffer(&buffer("fresh", 0, 16, 8)).unwrap();
    let length = writer.bytes_written();
    let piece = |first_chunk, bytes| ChangedChunks { buffer: fresh, first_chunk, bytes };
    refuse(writer.snapshot(&[fresh], &[], &[]).unwrap_err());
    refuse(writer.snapshot(&[fresh], &[piece(1, &[0; 8])], &[]).unwrap_err());
    refuse(writer.snapshot(&[fresh], &[piece(0, &[0; 8])], &[]).unwrap_err());
    assert_eq!(writer.bytes_written(), length);
    let halves = [piece(1, &[2; 8]), piece(0, &[1; 8])];
    let snapshot = writer.snapshot(&[fresh, fresh], &halves, &[]).unwrap();

    assert_eq!(refused.len(), 22);
    assert!(refused.iter().all(|message| message.len() > 40), "each says what and where: {refused:#?}");
    let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
    assert!(trace.verify().ok());
    assert_eq!(trace.snapshot_count(), 6);
    let mut expected = vec![1; 8];
    expected.extend([2; 8]);
    assert_eq!(trace.read_buffer(snapshot, fresh).unwrap(), Some(expected));
}

#[test]
fn a_trace_begins_in_an_empty_storage_only() {
    let mut storage = MemoryStorage::default();
    storage.append(b"someone's data").unwrap();
    assert!(matches!(TraceWriter::new(storage, &run()), Err(WriteError::NotEmpty { bytes: 14 })));
}

#[test]
fn what_is_not_a_trace_is_told_apart() {
    let message = |bytes: &[u8]| Trace::from_bytes(bytes.to_vec()).unwrap_err().to_string();
    assert!(message(b"").contains("it is empty"));
    assert!(message(b"hello, I am a text file\n").contains("signature"));
    assert!(message(&small_closed()[..40]).contains("before the first commit"));
    assert!(message(&small_closed()[..200]).contains("before the first commit"));
    let mut future = small_closed();
    for (major, minor) in [(0, 3), (0, 0), (1, 1)] {
        (future[8], future[10]) = (major, minor);
        let crc = crc32fast::hash(&future[..60]);
        future[60..64].copy_from_slice(&crc.to_le_bytes());
        let told = message(&future);
        let expected = format!("trace format {major}.{minor}, this twinstep reads 0.1 to 0.2; open it with");
        assert!(told.contains(&expected) && !told.contains('\n'), "{told}");
    }
}

#[test]
fn the_version_before_is_still_read() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/graph-codes-reallocated.twin");
    let bytes = std::fs::read(sample).unwrap();
    assert_eq!(bytes[8..12], [0, 0, 1, 0], "a sample of format 0.1");
    let trace = Trace::from_bytes(bytes).unwrap();
    assert!(trace.complete() && trace.verify().ok());
    assert_eq!(trace.run().tool, "twinstep 0.1.0");
    let steps = (0..trace.step_count()).map(|i| trace.step(i).unwrap());
    assert_eq!(steps.filter(|step| step.kind == StepKind::Decode).count(), 3);
    // What is written now says so.
    assert_eq!(small_closed()[8..12], [0, 0, 2, 0]);
}
