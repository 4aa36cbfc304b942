//! A trace of a stranger whose names and words hold line breaks: no command shows them as lines of its own.

use std::path::Path;

use twinstep_tests::twinstep;
use twinstep_traces::*;

/// What the stranger would like to be read, at the start of a line.
const FORGED: &str = "identical: forged";

/// A word that goes on in a second line.
fn word(text: &str) -> String {
    format!("{text}\n{FORGED}\r\u{1b}[2J")
}

/// Two steps of one kernel in which every string goes on in a second line. The last value is `last`.
fn write(path: &Path, mode: &str, last: f32) {
    let run = RunRecord {
        tool: word("tool"),
        mode: mode.into(),
        model: word("model"),
        model_source: word("source"),
        weights_dtype: word("dtype"),
        profile: word("profile"),
        prompt: word("prompt"),
        device: DeviceRecord { backend: word("cuda"), name: word("card"), ..DeviceRecord::default() },
        notes: vec![("engine".into(), "foreign".into()), (word("process.command"), word("python"))],
        ..RunRecord::default()
    };
    let mut writer = TraceWriter::create(path, &run, false).unwrap();
    let record = BufferRecord {
        name: word("h"),
        generation: 0,
        dtype: DType::F32,
        shape: vec![2],
        role: Role::State,
        bytes: 8,
        chunk_bytes: 64,
        address: Some(4096),
        contents: None,
    };
    let buffer = writer.add_buffer(&record).unwrap();
    let view = ViewRecord {
        name: word("x"),
        buffer,
        offset: 0,
        shape: vec![8],
        strides: vec![1],
        dtype: DType::U8,
        access: Access::Unknown,
    };
    let kernel = Item::Opaque(OpaqueLaunch {
        kernel: word("kernel"),
        phase: Phase::Forward,
        stream: 0,
        grid: [1; 3],
        block: [1; 3],
        cluster: [0; 3],
        shared_bytes: 0,
        parameters: vec![4096u64.to_le_bytes().to_vec()],
        operands: vec![(0, 0, view)],
    });
    let nodes = writer.add_program(&Program { items: vec![kernel] }).unwrap();
    let items = vec![
        Item::Mark { text: word("warm-up") },
        Item::Gap { reason: word("gap") },
        Item::Capture { graph: GraphId(0) },
        Item::GraphLaunch { graph: GraphId(0), stream: 0 },
    ];
    let program = writer.add_program(&Program { items }).unwrap();
    let captured_at = (1, 1);
    writer
        .add_graph(&GraphRecord {
            id: GraphId(0),
            label: word("graph"),
            program: nodes,
            edges: vec![],
            captured_at,
        })
        .unwrap();
    writer.add_request(&RequestRecord { request: 1, text: word("text"), prompt: vec![], row: 0 }).unwrap();
    for step in 1..=2 {
        let mut points = Vec::new();
        for (point, position, value) in [("step.before", 0, 0.0), ("part", 3, 1.0), ("step.after", 4, last)] {
            let bytes: Vec<u8> =
                [value, value + step as f32].iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
            let changed = [ChangedChunks { buffer, first_chunk: 0, bytes: &bytes }];
            let snapshot = writer.snapshot(&[buffer], &changed, &[]).unwrap();
            let point = if point == "part" { word("part") } else { point.to_owned() };
            points.push(PointRecord { point, position, snapshot });
        }
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        let host_reads =
            vec![HostRead { position: 4, buffer, offset: 0, bytes: vec![0; 4], decision: word("continue") }];
        let step =
            StepRecord { kind, request: 1, step, rank: 0, program, host_writes: vec![], host_reads, points };
        writer.commit_step(&step).unwrap();
    }
    writer.finish().unwrap();
}

/// Whether no string of a document holds the line break.
fn is_plain(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::String(text) => !text.contains(&format!("\n{FORGED}")),
        serde_json::Value::Array(all) => all.iter().all(is_plain),
        serde_json::Value::Object(all) => {
            all.iter().all(|(key, value)| !key.contains(&format!("\n{FORGED}")) && is_plain(value))
        }
        _ => true,
    }
}

#[test]
fn every_line_is_the_commands_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("a.twin"), "eager", 2.0);
    write(&folder.join("b.twin"), "graph", f32::NAN);
    let name = format!("h\\n{FORGED}\\r\\u{{1b}}[2J");
    let commands: &[&[&str]] = &[
        &["info", "a.twin"],
        &["log", "a.twin", "--at", "2"],
        &["check", "b.twin"],
        &["diff", "a.twin", "b.twin"],
        &["explain", "a.twin", "b.twin"],
        &["assert", "a.twin", "b.twin"],
        &["verify", "a.twin"],
        &["print", "a.twin", &name, "--at", "2", "--after"],
        &["history", "a.twin", &name, "--at", "2"],
        &["step", "a.twin", "--at", "2"],
    ];
    let mut escaped = 0;
    for command in commands {
        let run = twinstep(folder, command);
        for line in run.stdout.lines().chain(run.stderr.lines()) {
            assert!(!line.trim_start().starts_with(FORGED), "{command:?}: {run:?}");
            assert!(!line.chars().any(char::is_control), "{command:?}: {run:?}");
            escaped += usize::from(line.contains("\\n"));
        }
        let json = twinstep(folder, &[command, &["--json"][..]].concat()).json();
        assert!(is_plain(&json), "{command:?}: {json}");
    }
    assert!(escaped > 20, "the names are shown somewhere: {escaped}");
}
