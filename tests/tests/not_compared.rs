//! What was not compared is never called identical: names on one side only, steps with nothing in common, points whose
//! name comes more than once.

use std::fs;
use std::path::Path;

use twinstep_tests::dumps::{floats, npz};
use twinstep_tests::twinstep;
use twinstep_traces::*;

/// One dump a step, with the arrays that it holds.
fn dumps(folder: &Path, steps: &[&[(&str, f32)]], first: usize) {
    fs::create_dir_all(folder).unwrap();
    for (number, arrays) in (first..).zip(steps) {
        let arrays: Vec<_> = arrays.iter().map(|(name, value)| (*name, floats(&[1], &[*value]))).collect();
        npz(&folder.join(format!("step{number}.npz")), false, &arrays);
    }
}

fn import(folder: &Path, arguments: &[&str]) -> String {
    twinstep(folder, &[&["import", "-o", "run", "--force"], arguments].concat()).expect(0).stdout
}

const PAIR: [&str; 2] = ["run.eager.twin", "run.graph.twin"];

#[test]
fn runs_without_a_common_buffer_are_not_identical() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    dumps(&folder.join("e"), &[&[("kv_cache", 1.0)], &[("kv_cache", 2.0)]], 1);
    dumps(&folder.join("g"), &[&[("k_cache", 1.0)], &[("k_cache", 2.0)]], 1);
    let said = import(folder, &["--eager", "e", "--graph", "g"]);
    assert!(
        said.contains("in the eager folder only: kv_cache; in the graph folder only: k_cache;"),
        "{said}"
    );
    let run = twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(1);
    assert!(run.stdout.starts_with("nothing was compared: no buffer has the same name"), "{}", run.stdout);
    assert!(run.stdout.contains("kv_cache (A, 2 steps)"), "{}", run.stdout);
    let json = twinstep(folder, &[&["diff", "--json"][..], &PAIR].concat()).expect(1).json();
    assert_eq!((&json["identical"], &json["steps"][0]["state"]), (&false.into(), &"not_compared".into()));
    assert_eq!(
        (&json["one_sided"][1]["buffer"], &json["one_sided"][1]["side"]),
        (&"kv_cache".into(), &"a".into())
    );
    let run = twinstep(folder, &[&["explain"][..], &PAIR].concat()).expect(1);
    assert!(run.stdout.starts_with("verdict: unknown"), "{}", run.stdout);
    assert!(run.stdout.contains("Nothing was compared"), "{}", run.stdout);
    // With a map they are one buffer.
    fs::write(folder.join("m.toml"), "[names]\n\"kv_cache\" = \"k_cache\"\n").unwrap();
    let said = import(folder, &["--eager", "e", "--graph", "g", "--map", "m.toml"]);
    assert!(!said.contains("folder only"), "{said}");
    twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(0);
}

#[test]
fn what_is_on_one_side_in_some_steps_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    dumps(
        &folder.join("e"),
        &[&[("h", 1.0), ("k", 1.0)], &[("h", 2.0), ("k", 2.0)], &[("h", 3.0), ("k", 3.0)]],
        1,
    );
    dumps(&folder.join("g"), &[&[("h", 1.0), ("k", 1.0)], &[("h", 2.0)], &[("x", 3.0)]], 1);
    import(folder, &["--eager", "e", "--graph", "g"]);
    let run = twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(0);
    assert!(run.stdout.starts_with("identical where they can be compared: 2 steps"), "{}", run.stdout);
    for words in [
        "1 steps have no buffer in common, the first is 1:3",
        "1:3  not compared",
        "h (A, 1 step, the first 3)",
        "k (A, 2 steps, the first 2)",
        "x (B, 1 step)",
    ] {
        let text: String = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(&words.split_whitespace().collect::<Vec<_>>().join(" ")),
            "{words}: {}",
            run.stdout
        );
    }
    twinstep(folder, &[&["assert"][..], &PAIR].concat()).expect(1);
}

#[test]
fn dumps_that_were_numbered_anew_by_themselves_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    dumps(&folder.join("e"), &[&[("h", 0.0)], &[("h", 1.0)], &[("h", 2.0)]], 0);
    dumps(&folder.join("g"), &[&[("h", 1.0)], &[("h", 2.0)]], 1);
    import(folder, &["--eager", "e"]);
    import(folder, &["--graph", "g"]);
    let run = twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(1);
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("1 was added to the numbers of A's steps when it was imported, 0 to B's"),
        "{text}"
    );
    import(folder, &["--eager", "e", "--graph", "g"]);
    let run = twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(1);
    assert!(!run.stdout.contains("was added") && run.stdout.contains("only in A"), "{}", run.stdout);
}

/// A snapshot of a step: the point, the generation of `x` that is looked at, its value.
type Look = (&'static str, u32, f32);

/// A run of two steps with the same snapshots, each value ten more in the second step; `x` has so many generations.
fn looks(path: &Path, generations: u32, all: &[Look]) {
    let notes = vec![("engine".to_owned(), "foreign".to_owned())];
    let run = RunRecord { mode: "eager".into(), notes, ..RunRecord::default() };
    let mut writer = TraceWriter::create(path, &run, false).unwrap();
    let mut add = |generation| {
        let record = BufferRecord {
            name: "x".into(),
            generation,
            dtype: DType::F32,
            shape: vec![1],
            role: Role::State,
            bytes: 4,
            chunk_bytes: 64,
            address: None,
            contents: None,
        };
        writer.add_buffer(&record).unwrap()
    };
    let buffers: Vec<BufferId> = (0..generations).map(&mut add).collect();
    let items = vec![Item::Mark { text: "a step".into() }; all.len()];
    let program = writer.add_program(&Program { items }).unwrap();
    writer.add_request(&RequestRecord { request: 1, text: String::new(), prompt: vec![], row: 0 }).unwrap();
    for step in 1..=2 {
        let mut points = Vec::new();
        for (position, &(point, generation, value)) in (1..).zip(all) {
            let buffer = buffers[generation as usize];
            let bytes = (value + 10.0 * step as f32).to_le_bytes();
            let changed = [ChangedChunks { buffer, first_chunk: 0, bytes: &bytes }];
            let snapshot = writer.snapshot(&[buffer], &changed, &[]).unwrap();
            points.push(PointRecord { point: point.into(), position, snapshot });
        }
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        let (host_writes, host_reads) = (vec![], vec![]);
        writer
            .commit_step(&StepRecord {
                kind,
                request: 1,
                step,
                rank: 0,
                program,
                host_writes,
                host_reads,
                points,
            })
            .unwrap();
    }
    writer.finish().unwrap();
}

/// The points of part `layer` come three times by the same name; `values` after each.
fn repeated(path: &Path, values: [f32; 3]) {
    looks(path, 1, &values.map(|value| ("layer.after", 0, value)));
}

/// One run allocates anew within the step, the other does not: the name means what each has at the point.
#[test]
fn a_buffer_that_is_allocated_anew_within_a_step_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let of = |name: &str, generation, first| {
        let all = [("a.after", 0, first), ("b.after", generation, 2.0), ("step.after", generation, 3.0)];
        looks(&folder.join(name), generation + 1, &all);
    };
    of("anew.twin", 1, 1.0);
    of("kept.twin", 0, 1.0);
    of("wrong.twin", 0, 7.0);
    for (a, b) in [("anew.twin", "kept.twin"), ("kept.twin", "anew.twin")] {
        let run = twinstep(folder, &["diff", a, b]).expect(0);
        assert!(run.stdout.starts_with("identical: 2 steps"), "{}", run.stdout);
        assert!(!run.stdout.contains("on one side only"), "{}", run.stdout);
    }
    for (a, b) in [("anew.twin", "wrong.twin"), ("wrong.twin", "anew.twin")] {
        let run = twinstep(folder, &["diff", a, b]).expect(1);
        assert!(run.stdout.contains("step 1, at a.after: x[0] is"), "{}", run.stdout);
    }
}

#[test]
fn points_of_one_name_are_compared_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    repeated(&folder.join("a.twin"), [1.0, 2.0, 3.0]);
    repeated(&folder.join("same.twin"), [1.0, 2.0, 3.0]);
    repeated(&folder.join("b.twin"), [1.0, 2.0, 4.0]);
    let run = twinstep(folder, &["diff", "a.twin", "same.twin"]).expect(0);
    assert!(run.stdout.starts_with("identical: 2 steps"), "{}", run.stdout);
    twinstep(folder, &["assert", "a.twin", "same.twin"]).expect(0);
    let run = twinstep(folder, &["diff", "a.twin", "b.twin"]).expect(1);
    assert!(run.stdout.contains("x[0] is 13 in A, 14 in B"), "{}", run.stdout);
    let run = twinstep(folder, &["assert", "a.twin", "b.twin"]).expect(1);
    assert!(run.stdout.contains("2 of 6 places fail"), "{}", run.stdout);
}

#[test]
fn runs_without_steps_are_not_identical() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["a.twin", "b.twin"] {
        let notes = vec![("engine".to_owned(), "foreign".to_owned())];
        let run = RunRecord { mode: "graph".into(), notes, ..RunRecord::default() };
        TraceWriter::create(&folder.join(name), &run, false).unwrap().finish().unwrap();
    }
    let run = twinstep(folder, &["diff", "a.twin", "b.twin"]).expect(1);
    assert!(run.stdout.starts_with("nothing was compared: neither run has a step"), "{}", run.stdout);
}

/// Dumps that hold arrays of these shapes, all zeros.
fn shapes(folder: &Path, steps: &[u64], all: &[(&str, &[u64])]) {
    fs::create_dir_all(folder).unwrap();
    for number in steps {
        let zeros = |shape: &[u64]| floats(shape, &vec![0.0; shape.iter().product::<u64>() as usize]);
        let arrays: Vec<_> = all.iter().map(|(name, shape)| (*name, zeros(shape))).collect();
        npz(&folder.join(format!("step{number}.npz")), false, &arrays);
    }
}

#[test]
fn arrays_without_elements_are_nothing_to_compare() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    shapes(&folder.join("e"), &[1, 2], &[("e", &[0, 4])]);
    shapes(&folder.join("g"), &[1, 2], &[("e", &[0, 7])]);
    import(folder, &["--eager", "e", "--graph", "g"]);
    let run = twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(1);
    let said =
        "not comparable element by element: at request 1, step 1, e is f32 [0, 4] in A, f32 [0, 7] in B";
    assert!(run.stdout.starts_with(said), "{}", run.stdout);
    let json = twinstep(folder, &[&["diff", "--json"][..], &PAIR].concat()).expect(1).json();
    assert_eq!(json["other_form"]["b"], "f32 [0, 7]", "{json}");
    shapes(&folder.join("g"), &[1, 2], &[("e", &[0, 4])]);
    import(folder, &["--eager", "e", "--graph", "g"]);
    let run = twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(1);
    let said =
        "nothing was compared: all that both runs have at the same point are arrays without elements: e";
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.starts_with(said), "{text}");
    let run = twinstep(folder, &[&["explain"][..], &PAIR].concat()).expect(1);
    assert!(run.stdout.contains("arrays without elements"), "{}", run.stdout);
    // Beside others they do no harm.
    for name in ["e", "g"] {
        shapes(&folder.join(name), &[1, 2], &[("e", &[0, 4]), ("h", &[1])]);
    }
    import(folder, &["--eager", "e", "--graph", "g"]);
    twinstep(folder, &[&["diff"][..], &PAIR].concat()).expect(0);
}

#[test]
fn steps_of_one_side_stand_where_they_belong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    shapes(&folder.join("e"), &[0, 1, 2, 3], &[("h", &[1])]);
    shapes(&folder.join("g"), &[1, 3], &[("h", &[1])]);
    import(folder, &["--eager", "e", "--graph", "g", "--allow-gaps"]);
    let states = |a: &str, b: &str| -> Vec<(u64, String)> {
        let json = twinstep(folder, &["diff", a, b, "--json"]).expect(1).json();
        let steps = json["steps"].as_array().unwrap();
        steps.iter().map(|s| (s["step"].as_u64().unwrap(), s["state"].as_str().unwrap().to_owned())).collect()
    };
    let expected = |alone: &str| {
        [(1, alone), (2, "identical"), (3, alone), (4, "identical")].map(|(step, s)| (step, s.to_owned()))
    };
    let [eager, graph] = PAIR;
    assert_eq!(states(eager, graph), expected("only_a"));
    assert_eq!(states(graph, eager), expected("only_b"));
}

/// A run of `steps` steps of one buffer; the last one holds a mark, and the recording is cut off after it.
fn ended(path: &Path, steps: u32, mark: Option<&str>, cut: bool) {
    let notes = vec![("engine".to_owned(), "foreign".to_owned())];
    let run = RunRecord { mode: "eager".into(), notes, ..RunRecord::default() };
    let mut writer = TraceWriter::create(path, &run, false).unwrap();
    let record = BufferRecord {
        name: "x".into(),
        generation: 0,
        dtype: DType::F32,
        shape: vec![1],
        role: Role::State,
        bytes: 4,
        chunk_bytes: 64,
        address: None,
        contents: None,
    };
    let buffer = writer.add_buffer(&record).unwrap();
    writer.add_request(&RequestRecord { request: 1, text: String::new(), prompt: vec![], row: 0 }).unwrap();
    for step in 1..=steps {
        let last = mark.filter(|_| step == steps);
        let items = last.map(|text| Item::Mark { text: text.into() }).into_iter().collect();
        let program = writer.add_program(&Program { items }).unwrap();
        let bytes = (step as f32).to_le_bytes();
        let changed = [ChangedChunks { buffer, first_chunk: 0, bytes: &bytes }];
        let snapshot = writer.snapshot(&[buffer], &changed, &[]).unwrap();
        let points = vec![PointRecord { point: "step.after".into(), position: 0, snapshot }];
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        let (host_writes, host_reads) = (vec![], vec![]);
        let (request, rank) = (1, 0);
        let record = StepRecord { kind, request, step, rank, program, host_writes, host_reads, points };
        writer.commit_step(&record).unwrap();
    }
    if !cut {
        writer.finish().unwrap();
    }
}

/// A run that ends before the other is never called identical to it.
#[test]
fn runs_that_end_early_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ended(&folder.join("whole.twin"), 5, None, false);
    ended(&folder.join("three.twin"), 3, None, false);
    ended(&folder.join("broken.twin"), 3, Some("exception: RuntimeError: illegal memory access"), false);
    ended(&folder.join("cut.twin"), 3, None, true);
    for (name, said) in [
        ("three.twin", ""),
        ("broken.twin", "A ended in step 3 by an exception: RuntimeError: illegal memory access"),
        ("cut.twin", "A is not complete: its recording was cut off after step 3"),
    ] {
        for command in ["diff", "explain"] {
            let run = twinstep(folder, &[command, name, "whole.twin"]).expect(1);
            let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(said), "{command}: {text}");
            if command == "explain" {
                assert!(text.starts_with("verdict: unknown (not proven)"), "{text}");
                assert!(text.contains("only B has request 1, step 4."), "{text}");
            }
        }
        let json = twinstep(folder, &["explain", "whole.twin", name, "--json"]).expect(1).json();
        assert_eq!((&json["verdict"]["step"], &json["verdict"]["kind"]), (&4.into(), &"unknown".into()));
    }
    // What both have is the same: said, and no difference.
    ended(&folder.join("all.twin"), 5, Some("exception: KeyError: 7"), false);
    for command in ["diff", "explain"] {
        let run = twinstep(folder, &[command, "whole.twin", "all.twin"]).expect(0);
        let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("B ended in step 5 by an exception: KeyError: 7"), "{text}");
    }
}
