//! Traces as files: creating, replacing, reading while they are written, losing their end.
//!
//! Miri can neither map nor lock files, so these tests are not for it; the same reading code runs
//! over memory in the others.
#![cfg(not(miri))]

mod fixture;

use std::fs;
use std::path::Path;

use fixture::*;
use twinstep_traces::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write_closed(path: &Path) {
    fs::write(path, small_closed()).unwrap();
}

#[test]
fn a_file_reads_like_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    let mut writer = TraceWriter::create(&path, &run(), false).unwrap();
    let codes = writer.add_buffer(&buffer("codes", 0, 5000, 4096)).unwrap();
    let bytes: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    let whole = ChangedChunks { buffer: codes, first_chunk: 0, bytes: &bytes };
    let snapshot = writer.snapshot(&[codes], &[whole], &[]).unwrap();
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert!(trace.complete() && !trace.recording() && trace.verify().ok());
    assert_eq!(trace.read_buffer(snapshot, codes).unwrap(), Some(bytes));
    assert_eq!(trace.file_bytes(), fs::metadata(&path).unwrap().len());
    assert_eq!(names(folder.path()), ["run.twin"]);
}

#[test]
fn an_existing_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    fs::write(&path, "precious").unwrap();
    let error = TraceWriter::create(&path, &run(), false).unwrap_err();
    assert!(matches!(error, WriteError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn overwriting_replaces_the_file_and_spares_those_who_have_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    write_closed(&path);
    let old = Trace::open(&path).unwrap();
    let writer = TraceWriter::create(&path, &run(), true).unwrap();
    let new = Trace::open(&path).unwrap();
    assert_eq!((new.step_count(), new.complete(), new.recording()), (0, false, true));
    assert_eq!(names(folder.path()), ["run.twin"], "nothing lies beside it");
    assert_eq!(old.read_buffer(SnapshotId(0), BufferId(0)).unwrap(), Some(vec![1; 21]));
    assert!(old.verify().ok());
    writer.finish().unwrap();
    assert!(Trace::open(&path).unwrap().complete());
}

#[test]
fn only_regular_files_that_nobody_records_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let error = TraceWriter::create(folder.path(), &run(), true).unwrap_err();
    assert!(matches!(error, WriteError::NotAFile { .. }), "{error}");
    let path = folder.path().join("live.twin");
    let mut writer = TraceWriter::create(&path, &run(), false).unwrap();
    let error = TraceWriter::create(&path, &run(), true).unwrap_err();
    assert!(matches!(error, WriteError::InUse { .. }), "{error}");
    let program = writer.add_program(&Program::default()).unwrap();
    writer.commit_step(&step(1, 1, program, &[])).unwrap();
    assert_eq!(Trace::open(&path).unwrap().step_count(), 1);
    let error = TraceWriter::create(&folder.path().join("no/such/folder.twin"), &run(), true).unwrap_err();
    assert!(matches!(error, WriteError::Create { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_keeps_leading_to_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target.twin"), folder.path().join("link.twin"));
    write_closed(&target);
    std::os::unix::fs::symlink(&target, &link).unwrap();
    TraceWriter::create(&link, &run(), true).unwrap().finish().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Trace::open(&target).unwrap().step_count(), 0);
}

#[cfg(unix)]
#[test]
fn a_replacement_that_cannot_be_made_leaves_the_old_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    write_closed(&path);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // Whoever may write everywhere (root) is not stopped by permissions; there is nothing to see then.
    let stopped = fs::write(folder.path().join("probe"), "").is_err();
    let result = TraceWriter::create(&path, &run(), true).map(drop);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if stopped {
        assert!(matches!(result, Err(WriteError::Create { .. })), "{result:?}");
        assert_eq!(fs::read(&path).unwrap(), small_closed());
    } else {
        assert!(result.is_ok());
    }
}

#[test]
fn a_live_recording_opens_at_its_last_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    let mut writer = TraceWriter::create(&path, &run(), false).unwrap();
    let program = writer.add_program(&Program::default()).unwrap();
    let first = Trace::open(&path).unwrap();
    for n in 1..=3 {
        writer.commit_step(&step(1, n, program, &[])).unwrap();
        let trace = Trace::open(&path).unwrap();
        assert_eq!((trace.step_count(), trace.complete(), trace.recording()), (n as usize, false, true));
        assert!(trace.verify().ok());
    }
    assert_eq!(first.step_count(), 0, "a trace does not change under its reader");
    drop(writer);
    let trace = Trace::open(&path).unwrap();
    assert_eq!((trace.step_count(), trace.complete(), trace.recording()), (3, false, false));
}

#[test]
fn a_file_that_shrinks_while_open_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    write_closed(&path);
    let length = fs::metadata(&path).unwrap().len();
    let trace = Trace::open(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The map is of whole pages: what was cut would read as zeros or kill the process.
    file.set_len(100).unwrap();
    let shrunk = |result: Result<(), ReadError>| match result.unwrap_err() {
        ReadError::Shrunk { expected, actual } => assert_eq!((expected, actual), (length, 100)),
        error => panic!("{error}"),
    };
    shrunk(trace.read_buffer(SnapshotId(0), BufferId(0)).map(drop));
    shrunk(trace.read_chunk(SnapshotId(0), BufferId(0), 0).map(drop));
    shrunk(trace.step(0).map(drop));
    shrunk(trace.program(ProgramId(0)).map(drop));
    shrunk(trace.find_step(1, 1).map(drop));
    let verification = trace.verify();
    assert!(!verification.ok());
    assert!(verification.damage[0].what.contains("shrank"), "{verification:?}");
}

#[test]
fn paths_that_are_no_traces() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Trace::open(path).unwrap_err().to_string();
    assert!(message(folder.path()).contains("it is a folder"));
    assert!(message(&folder.path().join("missing.twin")).contains("cannot open"));
    let empty = folder.path().join("empty.twin");
    fs::write(&empty, "").unwrap();
    assert!(message(&empty).contains("it is empty"));
    assert!(message(&empty).contains("empty.twin"), "the path is named");
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_is_not_replaced_and_a_full_one_is_an_error() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    assert!(matches!(TraceWriter::create(full, &run(), true), Err(WriteError::NotAFile { .. })));
    let storage = FileStorage::new(fs::OpenOptions::new().write(true).open(full).unwrap());
    let error = TraceWriter::new(storage, &run()).unwrap_err();
    assert!(
        matches!(&error, WriteError::Append { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    );
}
