//! `read_twin.py`, written from `FORMAT.md` alone, reads what this crate writes.
#![cfg(not(miri))]

mod fixture;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use fixture::*;
use twinstep_traces::*;

/// The same lines as `read_twin.py` prints.
fn lines(trace: &Trace) -> String {
    let told = told(trace).unwrap();
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").unwrap();
    line(format_args!("run {} {} {}", told.run.tool, told.run.mode, told.run.prompt));
    for b in &told.buffers {
        line(format_args!(
            "buffer {} {} {} {}",
            b.name,
            b.generation,
            b.bytes,
            b.address.map_or("None".to_owned(), |address| address.to_string())
        ));
    }
    for program in &told.programs {
        let items: Vec<&str> = program.items.iter().map(item_word).collect();
        line(format_args!("program {}", items.join(" ")));
    }
    for g in &told.graphs {
        line(format_args!("graph {} {} {} {}", g.id.0, g.label, g.program.0, g.edges.len()));
    }
    for r in &told.requests {
        line(format_args!("request {} {} {}", r.request, r.text, r.prompt.len()));
    }
    for s in &told.steps {
        let points: Vec<String> = s.points.iter().map(|p| format!("{}={}", p.point, p.snapshot.0)).collect();
        let (writes, reads) = (s.host_writes.len(), s.host_reads.len());
        line(format_args!(
            "step {} {} {} {writes} {reads} {}",
            s.request,
            s.step,
            s.program.0,
            points.join(" ")
        ));
    }
    for (number, (covered, _, contents)) in told.snapshots.iter().enumerate() {
        for buffer in covered {
            let crc = crc32fast::hash(contents[buffer.0 as usize].as_ref().unwrap());
            line(format_args!("snapshot {number} {} {crc}", buffer.0));
        }
    }
    out
}

fn item_word(item: &Item) -> &'static str {
    match item {
        Item::Launch(_) => "launch",
        Item::GraphLaunch { .. } => "graph launch",
        Item::Capture { .. } => "capture",
        Item::DestroyGraph { .. } => "destroy graph",
        Item::Allocate { .. } => "allocate",
        Item::Free { .. } => "free",
        Item::Opaque(_) => "opaque",
        Item::Copy { .. } => "copy",
        Item::Fill { .. } => "fill",
        Item::EventRecord { .. } => "event record",
        Item::EventWait { .. } => "event wait",
        Item::Gap { .. } => "gap",
        Item::Mark { .. } => "mark",
    }
}

/// What another language reads of a file, and what this crate does, without trailing spaces.
fn both(path: &Path) -> (Vec<String>, Vec<String>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_twin.py");
    let output = Command::new("python3")
        .args(["-B", script])
        .arg(path)
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    (trimmed(&String::from_utf8(output.stdout).unwrap()), trimmed(&lines(&Trace::open(path).unwrap())))
}

fn no_python() -> bool {
    let none = Command::new("python3").arg("--version").output().is_err();
    if none {
        eprintln!("skipped: there is no python3 here");
    }
    none
}

#[test]
fn another_language_reads_the_same() {
    if no_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.twin");
    let closed = small_closed();
    for length in [closed.len(), closed.len() - 1, closed.len() / 2] {
        std::fs::write(&path, &closed[..length]).unwrap();
        let (printed, expected) = both(&path);
        assert_eq!(printed, expected, "cut at {length} of {}", closed.len());
    }
}

/// Traces of another engine.
#[test]
fn another_language_reads_imported_traces() {
    if no_python() {
        return;
    }
    for name in ["imported/run.eager.twin", "imported/run.graph.twin"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name);
        let (printed, expected) = both(&path);
        assert!(printed.len() > 60 && printed.iter().any(|line| line == "program gap"), "{printed:#?}");
        assert_eq!(printed, expected, "{name}");
    }
}
