//! Traces of other numerics and of other format versions: one clear line, exit status 2, never a verdict.

use std::path::Path;

use twinstep_tests::{record, twinstep};
use twinstep_traces::*;

const SHORT: &str = "good night.";
const MODEST: [&str; 6] = ["--max-steps", "4", "--context", "256", "--batch", "2"];

/// Writes a trace again, with every launch of an op said to be of another version.
fn with_version(from: &Path, to: &Path, op: &str, version: u32) {
    let trace = Trace::open(from).unwrap();
    let mut writer = TraceWriter::create(to, trace.run(), false).unwrap();
    for buffer in trace.buffers() {
        writer.add_buffer(buffer).unwrap();
    }
    let mut launches = 0;
    for id in 0..trace.program_count() {
        let mut program = (*trace.program(ProgramId(id as u32)).unwrap()).clone();
        for item in &mut program.items {
            if let Item::Launch(launch) = item
                && launch.op == op
            {
                launch.version = version;
                launches += 1;
            }
        }
        assert_eq!(writer.add_program(&program).unwrap(), ProgramId(id as u32));
    }
    assert!(launches > 0, "no launch of {op}");
    trace.graphs().iter().for_each(|graph| writer.add_graph(graph).unwrap());
    trace.requests().iter().for_each(|request| writer.add_request(request).unwrap());
    for id in 0..trace.snapshot_count() {
        let id = SnapshotId(id as u32);
        let covered = trace.covered(id).unwrap();
        let bytes: Vec<_> =
            covered.iter().map(|&buffer| trace.read_buffer(id, buffer).unwrap().unwrap()).collect();
        let whole = covered.iter().zip(&bytes);
        let whole: Vec<_> =
            whole.map(|(&buffer, bytes)| ChangedChunks { buffer, first_chunk: 0, bytes }).collect();
        assert_eq!(writer.snapshot(&covered, &whole, &trace.audited(id).unwrap()).unwrap(), id);
    }
    for index in 0..trace.step_count() {
        writer.commit_step(&trace.step(index).unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

/// One line on standard error beside its hint, exit status 2; as a document the same, and nothing else.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], code: &str, mentions: &[&str]) {
    let run = twinstep(folder, arguments).expect(2);
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines[0].starts_with("error: ") && lines.len() <= 2, "{run:?}");
    assert!(lines[1..].iter().all(|line| line.trim_start().starts_with("hint: ")), "{run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
    for word in mentions {
        assert!(lines[0].contains(word), "`{word}` is missing: {run:?}");
    }
    let document = twinstep(folder, &[arguments, &["--json"]].concat()).expect(2).json();
    assert_eq!(document["error"]["code"], code, "{document}");
    let message = document["error"]["message"].as_str().unwrap();
    assert!(lines[0].ends_with(message) && document.get("verdict").is_none(), "{document}");
}

#[test]
fn other_numerics() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    record(folder, "clean.twin", SHORT, &MODEST);
    let planted = ["--mode", "graph", "--fault", "stale-codes"];
    record(folder, "wrong.twin", SHORT, &[&MODEST[..], &planted].concat());
    let (op, version) = ("rms_norm", 9);
    for name in ["clean", "wrong"] {
        with_version(&path(&format!("{name}.twin")), &path(&format!("{name}-9.twin")), op, version);
    }
    // An older version that means the same today is no difference.
    with_version(&path("wrong.twin"), &path("wrong-1.twin"), "attention_decode", 1);
    let old = twinstep(folder, &["explain", "wrong-1.twin", "clean.twin", "--json"]).expect(1).json();
    assert_eq!(old["verdict"]["kind"], "missing-host-write", "{old}");
    assert_eq!(old["verdict"]["proven"], true, "{old}");
    let said = ["`rms_norm`", "version 9 in ", "this build has version 1"];
    for (a, b, more) in [
        // Both runs of a version that this build does not have.
        ("wrong-9.twin", "clean-9.twin", "in A"),
        // One of them: what the other has is said.
        ("wrong-9.twin", "clean.twin", "version 1 in B"),
        ("wrong.twin", "clean-9.twin", "version 1 in A"),
        // Same bits, and nothing that could be executed: still no verdict.
        ("clean.twin", "clean-9.twin", "version 1 in A"),
    ] {
        refused(folder, &["explain", a, b], "numerics", &[&said[..], &[more]].concat());
    }
    // It can be looked at, and compared; `step` says why it does not run.
    twinstep(folder, &["diff", "wrong-9.twin", "clean-9.twin"]).expect(1);
    twinstep(folder, &["verify", "wrong-9.twin"]).expect(0);
    let step = twinstep(folder, &["step", "wrong-9.twin", "--at", "2"]).expect(2);
    assert!(step.stderr.contains("no op `rms_norm` version 9 in this build"), "{step:?}");
}

/// The header with another version: bytes 8 to 11, and their checksum in the last 4 of its 64.
fn with_format(from: &Path, to: &Path, (major, minor): (u16, u16)) {
    let mut bytes = std::fs::read(from).unwrap();
    bytes[8..10].copy_from_slice(&major.to_le_bytes());
    bytes[10..12].copy_from_slice(&minor.to_le_bytes());
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(to, bytes).unwrap();
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn other_format_versions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    record(folder, "a.twin", SHORT, &MODEST);
    let (major, minor) = FORMAT_VERSION;
    // Nothing but the version is wrong with such a file.
    with_format(&path("a.twin"), &path("same.twin"), FORMAT_VERSION);
    twinstep(folder, &["explain", "same.twin", "a.twin"]).expect(0);
    for (name, version) in [
        ("minor.twin", (major, minor + 41)),
        ("major.twin", (major + 7, minor)),
        ("other.twin", (u16::MAX, u16::MAX)),
    ] {
        with_format(&path("a.twin"), &path(name), version);
        let said = format!("trace format {}.{}", version.0, version.1);
        let reads = format!("reads {major}.1 to {major}.{minor}");
        refused(folder, &["explain", name, "a.twin"], "input", &[name, &said, &reads]);
        refused(folder, &["explain", "a.twin", name], "input", &[name, &said, &reads]);
        refused(folder, &["info", name], "input", &[name, &said]);
    }
}
