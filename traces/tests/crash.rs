//! A recording that stops at any byte, for any reason, opens at its last commit.

mod fixture;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use fixture::*;
use twinstep_traces::*;

/// A disk that a test can look at while a writer has it, and that can fail.
#[derive(Clone, Default)]
struct Disk {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// It takes this many bytes; of an append that goes beyond, it takes the part that fits.
    room: Option<usize>,
    kind: Option<io::ErrorKind>,
}

impl Storage for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.bytes.borrow_mut();
        let room = self.room.map_or(bytes.len(), |room| (room - disk.len()).min(bytes.len()));
        disk.extend_from_slice(&bytes[..room]);
        if room < bytes.len() { Err(self.kind.unwrap_or(io::ErrorKind::StorageFull).into()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.borrow().len() as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.kind.filter(|_| self.room.is_none()).map_or(Ok(()), |kind| Err(kind.into()))
    }
}

/// Where each commit of the small trace ends, found by its own signature, not by the reader.
fn commit_ends(bytes: &[u8]) -> Vec<usize> {
    let positions = (0..bytes.len()).filter(|&i| bytes[i..].starts_with(b"TWCOMMIT"));
    positions.map(|payload| payload + 40).collect()
}

#[test]
fn cut_at_every_byte() {
    let whole = small_closed();
    let all = told(&Trace::from_bytes(whole.clone()).unwrap()).unwrap();
    let ends = commit_ends(&whole);
    assert_eq!(ends.len(), 5, "the start and four steps");
    let step = if cfg!(miri) { 97 } else { 1 };
    for length in (0..whole.len()).step_by(step) {
        let committed = ends.iter().filter(|&&end| end <= length).count();
        match Trace::from_bytes(whole[..length].to_vec()) {
            Err(error) => assert_eq!(committed, 0, "cut at {length}: {error}"),
            Ok(trace) => {
                assert!(!trace.complete(), "cut at {length}");
                assert_eq!(trace.step_count(), committed - 1, "cut at {length}");
                assert_eq!(trace.uncommitted_bytes() as usize, length - ends[committed - 1]);
                assert!(told(&trace).unwrap().is_beginning_of(&all), "cut at {length}");
                let verification = trace.verify();
                assert!(verification.ok(), "an uncommitted tail is no damage: {verification:?}");
            }
        }
    }
}

#[test]
fn a_tail_of_garbage_or_zeros_is_ignored() {
    let whole = small_closed();
    let all = told(&Trace::from_bytes(whole.clone()).unwrap()).unwrap();
    for end in commit_ends(&whole) {
        for tail in [vec![0; 4096], vec![0xff; 4096], whole[64..].to_vec(), whole.clone()] {
            let mut bytes = whole[..end].to_vec();
            bytes.extend_from_slice(&tail);
            let trace = Trace::from_bytes(bytes).unwrap();
            assert!(!trace.complete());
            assert!(told(&trace).unwrap().is_beginning_of(&all));
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_loses_no_committed_step() {
    let whole = small_closed();
    let all = told(&Trace::from_bytes(whole.clone()).unwrap()).unwrap();
    let ends = commit_ends(&whole);
    let step = if cfg!(miri) { 131 } else { 1 };
    for room in (0..whole.len()).step_by(step) {
        let disk = Disk { room: Some(room), ..Disk::default() };
        let error = match write_small(disk.clone()).and_then(TraceWriter::finish) {
            Ok(_) => panic!("{} bytes fitted in {room}", whole.len()),
            Err(error) => error,
        };
        let WriteError::Append { steps, source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        let committed = ends.iter().filter(|&&end| end <= room).count();
        assert_eq!(*steps, committed.saturating_sub(1), "{error}");
        let bytes = disk.bytes.take();
        assert_eq!(bytes, whole[..room], "what fitted is there");
        if committed > 0 {
            let trace = Trace::from_bytes(bytes).unwrap();
            assert_eq!(trace.step_count(), committed - 1);
            assert!(told(&trace).unwrap().is_beginning_of(&all));
        }
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_written() {
    let mut disk = Disk::default();
    let mut writer = TraceWriter::new(disk.clone(), &run()).unwrap();
    drop(writer);
    let length = disk.bytes.borrow().len();
    disk.bytes.borrow_mut().clear();
    disk.room = Some(length + 10);
    writer = TraceWriter::new(disk.clone(), &run()).unwrap();
    let program = writer.add_program(&Program::default()).unwrap();
    assert!(matches!(
        writer.commit_step(&step(1, 1, program, &[])),
        Err(WriteError::Append { steps: 0, .. })
    ));
    let stopped = |result: Result<(), WriteError>| {
        assert!(matches!(result, Err(WriteError::Stopped { steps: 0 })), "{result:?}");
    };
    // A later, smaller write might fit; it would leave a hole before it.
    stopped(writer.add_buffer(&buffer("b", 0, 8, 8)).map(drop));
    stopped(writer.add_program(&Program::default()).map(drop));
    stopped(writer.add_request(&RequestRecord { request: 1, text: String::new(), prompt: vec![], row: 0 }));
    stopped(writer.snapshot(&[], &[], &[]).map(drop));
    stopped(writer.commit_step(&step(1, 1, program, &[])));
    stopped(writer.finish().map(drop));
    assert_eq!(disk.bytes.borrow().len(), length + 10);
    assert_eq!(Trace::from_bytes(disk.bytes.take()).unwrap().step_count(), 0);
}

#[test]
fn a_failed_sync_is_an_error() {
    let disk = Disk { kind: Some(io::ErrorKind::Other), ..Disk::default() };
    let error = write_small(disk.clone()).unwrap().finish().err().expect("sync fails");
    assert!(matches!(error, WriteError::Sync(_)), "{error}");
    assert!(Trace::from_bytes(disk.bytes.take()).unwrap().complete(), "it was written all the same");
}

#[test]
fn a_step_is_readable_as_soon_as_it_is_committed() {
    let disk = Disk::default();
    let mut writer = TraceWriter::new(disk.clone(), &run()).unwrap();
    let program = writer.add_program(&Program::default()).unwrap();
    for n in 1..=3 {
        writer.commit_step(&step(1, n, program, &[])).unwrap();
        let trace = Trace::from_bytes(disk.bytes.borrow().clone()).unwrap();
        assert_eq!(trace.step_count(), n as usize);
        assert_eq!(trace.uncommitted_bytes(), 0);
    }
}
