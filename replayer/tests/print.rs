//! Values at a step's points: which points there are, and that no more is read than is shown.

use twinstep_replayer::{At, PrintReport, print, print_at};
use twinstep_traces::*;

const HIDDEN: BufferId = BufferId(0);
const OTHER: BufferId = BufferId(1);
/// Elements of `hidden`, in two rows; a chunk holds four.
const LENGTH: usize = 64;

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn at(request: u32, step: u32) -> At {
    At { request, step: Some(step) }
}

/// A step of another engine for each request; `hidden` holds its element's number, plus 100 at each further point.
/// `other` is covered at the ends alone.
fn recorded(requests: &[u32]) -> Vec<u8> {
    let notes = vec![("engine".into(), "foreign".into())];
    let mut writer =
        TraceWriter::new(MemoryStorage::default(), &RunRecord { notes, ..Default::default() }).unwrap();
    for (name, length) in [("hidden", LENGTH), ("other", 1)] {
        writer
            .add_buffer(&BufferRecord {
                name: name.into(),
                generation: 0,
                dtype: DType::F32,
                shape: if length == 1 { vec![1] } else { vec![2, length as u64 / 2] },
                role: Role::State,
                bytes: 4 * length as u64,
                chunk_bytes: 16,
                address: None,
                contents: None,
            })
            .unwrap();
    }
    let program = writer.add_program(&Program { items: vec![Item::Gap { reason: "test".into() }] }).unwrap();
    for &request in requests {
        let (text, prompt) = (String::new(), vec![request]);
        writer.add_request(&RequestRecord { request, text, prompt, row: 0 }).unwrap();
        let mut points = Vec::new();
        let names = ["step.before", "layer.0.before", "layer.0.after", "layer.0#2.before", "step.after"];
        for (i, name) in names.iter().enumerate() {
            let values: Vec<f32> = (0..LENGTH).map(|n| (n + 100 * i) as f32).collect();
            let hidden = bytes(&values);
            let mut changed = vec![ChangedChunks { buffer: HIDDEN, first_chunk: 0, bytes: &hidden }];
            let mut covered = vec![HIDDEN];
            let one = bytes(&[7.0]);
            if name.starts_with("step") {
                covered.push(OTHER);
                changed.push(ChangedChunks { buffer: OTHER, first_chunk: 0, bytes: &one });
            }
            let snapshot = writer.snapshot(&covered, &changed, &[]).unwrap();
            points.push(PointRecord { point: (*name).into(), position: 0, snapshot });
        }
        writer
            .commit_step(&StepRecord {
                kind: StepKind::Decode,
                request,
                step: 1,
                rank: 0,
                program,
                host_writes: vec![],
                host_reads: vec![],
                points,
            })
            .unwrap();
    }
    writer.finish().unwrap().into_bytes()
}

fn trace() -> Trace {
    Trace::from_bytes(recorded(&[1])).unwrap()
}

fn values(report: &PrintReport) -> Vec<f64> {
    report.elements.iter().map(|e| e.value.to_f64()).collect()
}

#[test]
fn values_at_a_named_point() {
    let trace = trace();
    for (i, point) in ["layer.0.before", "layer.0.after", "layer.0#2.before"].iter().enumerate() {
        let report = print_at(&trace, "hidden[1,2-3]", at(1, 1), point, u64::MAX).unwrap();
        let first = (34 + 100 * (i + 1)) as f64;
        assert_eq!((report.point.as_str(), values(&report)), (*point, vec![first, first + 1.0]));
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&document["point"], &document["elements"][1]["index"]),
            (&(*point).into(), &vec![1, 3].into())
        );
    }
    let before = print(&trace, "hidden", at(1, 1), false).unwrap();
    let named = print_at(&trace, "hidden", at(1, 1), "step.before", u64::MAX).unwrap();
    assert_eq!(values(&before), values(&named));
}

#[test]
fn an_unknown_point_is_told_with_those_that_there_are() {
    let error = print_at(&trace(), "hidden", at(1, 1), "layer.1.after", 1).unwrap_err().to_string();
    assert!(error.contains("step 1 has no point `layer.1.after`"), "{error}");
    assert!(
        error.contains("step.before, layer.0.before, layer.0.after, layer.0#2.before, step.after"),
        "{error}"
    );
    let error = print_at(&trace(), "other", at(1, 1), "layer.0.after", 1).unwrap_err().to_string();
    assert!(
        error.contains("not recorded at layer.0.after of step 1; it is at step.before, step.after (--point)"),
        "{error}"
    );
}

/// A step that has a name twice: the second is `NAME#2`, unless something is called so.
#[test]
fn points_of_one_name_are_told_apart() {
    let twice = |names: &[&str]| {
        let run = RunRecord { notes: vec![("engine".into(), "foreign".into())], ..Default::default() };
        let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
        let record = BufferRecord {
            name: "x".into(),
            generation: 0,
            dtype: DType::U8,
            shape: vec![1],
            role: Role::State,
            bytes: 1,
            chunk_bytes: 16,
            address: None,
            contents: None,
        };
        writer.add_buffer(&record).unwrap();
        let program = writer.add_program(&Program::default()).unwrap();
        let mut points = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let changed = ChangedChunks { buffer: HIDDEN, first_chunk: 0, bytes: &[i as u8] };
            let snapshot = writer.snapshot(&[HIDDEN], &[changed], &[]).unwrap();
            points.push(PointRecord { point: (*name).into(), position: 0, snapshot });
        }
        writer
            .commit_step(&StepRecord {
                kind: StepKind::Decode,
                request: 1,
                step: 1,
                rank: 0,
                program,
                host_writes: vec![],
                host_reads: vec![],
                points,
            })
            .unwrap();
        Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
    };
    let value = |trace: &Trace, point| values(&print_at(trace, "x", at(1, 1), point, 1).unwrap())[0];
    let trace = twice(&["f.after", "f.after", "step.after"]);
    assert_eq!(["f.after", "f.after#2", "step.after"].map(|p| value(&trace, p)), [0.0, 1.0, 2.0]);
    let error = print_at(&trace, "x", at(1, 1), "f.after#3", 1).unwrap_err().to_string();
    assert!(error.contains("it has f.after, f.after#2, step.after"), "{error}");
    let trace = twice(&["f.after", "f.after#2", "f.after"]);
    assert_eq!(["f.after", "f.after#2"].map(|p| value(&trace, p)), [0.0, 1.0]);
}

#[test]
fn what_is_not_shown_is_not_read() {
    let mut bytes = recorded(&[1]);
    let last = (LENGTH as f32 - 1.0 + 400.0).to_le_bytes();
    let place = bytes.windows(4).rposition(|found| found == last).unwrap();
    bytes[place] ^= 1;
    let trace = Trace::from_bytes(bytes).unwrap();
    let some = print_at(&trace, "hidden", at(1, 1), "step.after", 60).unwrap();
    assert_eq!((some.elements.len(), some.left_out, values(&some)[59]), (60, 4, 459.0));
    // The chunk of the last four is damaged.
    for most in [61, u64::MAX] {
        assert!(print_at(&trace, "hidden", at(1, 1), "step.after", most).is_err(), "{most}");
    }
    assert!(print_at(&trace, "hidden[0]", at(1, 1), "step.after", u64::MAX).is_ok());
}

#[test]
fn a_step_that_is_not_there_is_told_with_the_numbers_that_are() {
    let told = |requests: &[u32], place| {
        let trace = Trace::from_bytes(recorded(requests)).unwrap();
        print(&trace, "hidden", place, false).unwrap_err().to_string()
    };
    let error = told(&[1, 2, 7], at(9, 1));
    assert!(error.contains("there is no step 9:1: the trace has 3 requests, numbers 1 to 2, 7"), "{error}");
    assert!(!error.contains("7 requests"), "{error}");
    let error = told(&[1, 2, 7], at(7, 2));
    assert!(error.contains("there is no step 7:2: request 7 has step 1"), "{error}");
    let error = told(&[1], At { request: 1, step: None });
    assert!(error.contains("no codec section"), "{error}");
    let error = told(&[], at(1, 1));
    assert!(error.contains("the trace has no steps"), "{error}");
}

/// Decode steps of another engine: for each the buffers, by number, that each of its points covers. Buffer `i` holds `i`
/// and `10 + i`.
fn covering(names: &[&str], steps: &[&[(&str, &[u32])]]) -> Trace {
    let run = RunRecord { notes: vec![("engine".into(), "foreign".into())], ..Default::default() };
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    let contents: Vec<Vec<u8>> = (0..names.len()).map(|i| bytes(&[i as f32, 10.0 + i as f32])).collect();
    for name in names {
        let record = BufferRecord {
            name: (*name).into(),
            generation: 0,
            dtype: DType::F32,
            shape: vec![2],
            role: Role::State,
            bytes: 8,
            chunk_bytes: 16,
            address: None,
            contents: None,
        };
        writer.add_buffer(&record).unwrap();
    }
    let program = writer.add_program(&Program { items: vec![Item::Gap { reason: "test".into() }] }).unwrap();
    writer.add_request(&RequestRecord { request: 1, text: String::new(), prompt: vec![1], row: 0 }).unwrap();
    let mut known = std::collections::BTreeSet::new();
    for (step, points) in (1..).zip(steps) {
        let mut recorded = Vec::new();
        for (point, buffers) in *points {
            let covered: Vec<BufferId> = buffers.iter().map(|&b| BufferId(b)).collect();
            let new = covered.iter().filter(|buffer| known.insert(**buffer));
            let changed: Vec<ChangedChunks<'_>> = new
                .map(|&buffer| ChangedChunks { buffer, first_chunk: 0, bytes: &contents[buffer.0 as usize] })
                .collect();
            let snapshot = writer.snapshot(&covered, &changed, &[]).unwrap();
            recorded.push(PointRecord { point: (*point).into(), position: 0, snapshot });
        }
        let step = StepRecord {
            kind: StepKind::Decode,
            request: 1,
            step,
            rank: 0,
            program,
            host_writes: vec![],
            host_reads: vec![],
            points: recorded,
        };
        writer.commit_step(&step).unwrap();
    }
    Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
}

/// Engines name what they have as their language does.
#[test]
fn names_may_have_brackets() {
    let trace = covering(&["layers[0].k", "k[1]", "k"], &[&[("step.after", &[0, 1, 2])]]);
    let shown = |what: &str| {
        let report = print_at(&trace, what, at(1, 1), "step.after", 9);
        report.map(|report| values(&report)).map_err(|e| e.to_string())
    };
    assert_eq!(shown("layers[0].k"), Ok(vec![0.0, 10.0]));
    assert_eq!(shown("layers[0].k[1]"), Ok(vec![10.0]));
    assert_eq!(shown("k[1]").map(|v| v.len()), Ok(2), "a buffer of that name comes first");
    assert_eq!(shown("k[1][0]"), Ok(vec![1.0]));
    assert_eq!(shown("k[0]"), Ok(vec![2.0]));
    assert_eq!(shown("k[]"), Ok(vec![2.0, 12.0]), "as scalars are shown");
    assert!(shown("layers[0].k[5]").unwrap_err().contains("out of range"));
    assert!(shown("k[0").unwrap_err().contains("`[` without `]`"));
}

#[test]
fn where_a_buffer_is_recorded_instead_is_told() {
    let first: &[(&str, &[u32])] =
        &[("step.before", &[0]), ("qkv", &[0, 1]), ("attn", &[1]), ("step.after", &[0])];
    let second: &[(&str, &[u32])] = &[("step.before", &[0]), ("mlp", &[2]), ("step.after", &[0])];
    let trace = covering(&["x", "inside", "late", "never"], &[first, second]);
    let error = |what: &str, step: u32, point: &str| {
        print_at(&trace, what, at(1, step), point, 9).unwrap_err().to_string()
    };
    let inside = error("inside", 1, "step.after");
    assert!(
        inside.ends_with("is not recorded at step.after of step 1; it is at qkv, attn (--point)"),
        "{inside}"
    );
    let late = error("late", 1, "step.before");
    assert!(late.ends_with("nor at any other point of that step; it is first at mlp of step 2"), "{late}");
    let never = error("never", 2, "step.after");
    assert!(never.ends_with("is not recorded at step.after of step 2; nor anywhere else"), "{never}");
}
