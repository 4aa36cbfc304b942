//! The Python package and the Rust crate read the same from the same file: every record, and every buffer
//! at every snapshot.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use twinstep_tests::{root, twinstep};
use twinstep_traces::{Role, SnapshotId, StepKind, Trace, chunk_hash};

/// A Python with NumPy. Where there is none, CI fails and anybody else is told what to do.
fn python() -> Option<String> {
    let python = std::env::var("TWINSTEP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if Command::new(&python).args(["-c", "import numpy"]).output().is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have NumPy");
    eprintln!("skipped: {python} has no NumPy; name one that has in TWINSTEP_PYTHON");
    None
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same lines as `recorder/python/tests/listing.py` prints.
fn lines(trace: &Trace) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").unwrap();
    let run = trace.run();
    line(format_args!("run {} {} {} {}", run.tool, run.mode, run.prompt, hex(&run.model_sha256)));
    for b in trace.buffers() {
        let shape: Vec<String> = b.shape.iter().map(u64::to_string).collect();
        line(format_args!(
            "buffer {}@{} {} {} {} {} {} {}",
            b.name,
            b.generation,
            role(b.role),
            b.dtype.name(),
            shape.join("x"),
            b.bytes,
            b.chunk_bytes,
            b.address.unwrap_or(0)
        ));
    }
    for r in trace.requests() {
        line(format_args!("request {} {} {:?} {}", r.request, r.text, r.prompt, r.row));
    }
    for g in trace.graphs() {
        let (request, step) = g.captured_at;
        line(format_args!("graph {} {} {} {} {request}:{step}", g.id.0, g.label, g.program.0, g.edges.len()));
    }
    for index in 0..trace.step_count() {
        let s = trace.step(index).unwrap();
        let points: Vec<String> =
            s.points.iter().map(|p| format!("{}@{}={}", p.point, p.position, p.snapshot.0)).collect();
        let written: usize = s.host_writes.iter().map(|w| w.bytes.len()).sum();
        let read: String = s.host_reads.iter().map(|r| r.decision.as_str()).collect();
        let items = trace.program(s.program).unwrap().items.len();
        line(format_args!(
            "step {} {}:{} {} {items} {written} {read} {}",
            kind(s.kind),
            s.request,
            s.step,
            s.rank,
            points.join(" ")
        ));
    }
    for snapshot in 0..trace.snapshot_count() {
        let snapshot = SnapshotId(u32::try_from(snapshot).unwrap());
        for buffer in trace.covered(snapshot).unwrap() {
            let bytes = trace.read_buffer(snapshot, buffer).unwrap().unwrap();
            line(format_args!("snapshot {} {} {}", snapshot.0, buffer.0, hex(&chunk_hash(&bytes).0)));
        }
    }
    out
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Weight => "weight",
        Role::Table => "table",
        Role::State => "state",
        Role::Input => "input",
        Role::Output => "output",
        Role::Scratch => "scratch",
    }
}

fn kind(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Setup => "setup",
        StepKind::Prefill => "prefill",
        StepKind::Decode => "decode",
        StepKind::Codec => "codec",
    }
}

fn compare(python: &str, path: &Path) {
    let output = Command::new(python)
        .arg("-B")
        .arg(root().join("recorder/python/tests/listing.py"))
        .arg(path)
        .env("PYTHONPATH", root().join("recorder/python/src"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let due = lines(&Trace::open(path).unwrap());
    let first = printed.lines().zip(due.lines()).find(|(a, b)| a.trim_end() != b.trim_end());
    assert_eq!(first, None, "{}", path.display());
    assert_eq!(printed.lines().count(), due.lines().count(), "{}", path.display());
    assert!(due.lines().filter(|line| line.starts_with("snapshot")).count() > 100, "{}", path.display());
}

#[test]
fn python_reads_every_sample_as_rust_does() {
    let Some(python) = python() else { return };
    let samples: Vec<PathBuf> = std::fs::read_dir(root().join("traces/samples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "twin"))
        .collect();
    assert!(samples.len() >= 10);
    samples.iter().for_each(|path| compare(&python, path));
}

#[test]
fn python_reads_a_fresh_trace_and_one_that_was_cut() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recording =
        "record --device cpu --text hello. --max-steps 4 --context 256 --mode piecewise -o own.twin";
    twinstep(folder.path(), &recording.split(' ').collect::<Vec<_>>()).expect(0);
    let path = folder.path().join("own.twin");
    compare(&python, &path);
    let whole = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.twin");
    for length in [whole.len() - 1, whole.len() * 3 / 4] {
        std::fs::write(&cut, &whole[..length]).unwrap();
        compare(&python, &cut);
    }
}
