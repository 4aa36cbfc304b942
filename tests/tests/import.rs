//! `twinstep import`: dumps as other engines make them, good and bad, through the real binary.

use std::fs;
use std::path::Path;

use serde_json::Value;
use twinstep_tests::dumps::{export, floats, npy, npy_with, npz, tensors};
use twinstep_tests::screen::Screen;
use twinstep_tests::{Run, root, twinstep};
use twinstep_traces::{BufferId, DType, Item, StepKind, Trace};

fn sample(name: &str) -> Trace {
    Trace::open(&root().join(format!("traces/samples/{name}.twin"))).unwrap()
}

fn import(folder: &Path, arguments: &[&str]) -> Run {
    twinstep(folder, &[&["import"], arguments].concat())
}

/// Refused with status 2 and one line that holds `words`; nothing has been written.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let before = names(folder);
    let run = import(folder, &[arguments, &["-o", "out"]].concat()).expect(2);
    let mut lines = run.stderr.lines();
    let line = lines.next().unwrap_or_default();
    assert!(line.starts_with("error: "), "{run:?}");
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {run:?}");
    assert!(lines.all(|line| line.starts_with("  hint: ")) && run.stdout.is_empty(), "{run:?}");
    assert_eq!(names(folder), before, "something was left behind");
}

/// What lies in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The bytes of a buffer at a point.
fn held(trace: &Trace, request: u32, step: u32, point: &str, name: &str) -> Option<Vec<u8>> {
    let step = trace.step(trace.find_step(request, step).unwrap()?).unwrap();
    let snapshot = step.points.iter().find(|p| p.point == point)?.snapshot;
    let covered = trace.covered(snapshot).unwrap();
    let id = covered.into_iter().rfind(|id| trace.buffer(*id).is_some_and(|b| b.name == name))?;
    trace.read_buffer(snapshot, id).unwrap()
}

/// Steps 1 to 3 of one buffer, `h` of 2 x 3, one file a step.
fn simple(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for step in 1..=3 {
        npz(&folder.join(format!("step_{step}.npz")), false, &[("h", floats(&[2, 3], &[step as f32; 6]))]);
    }
}

/// The dumps of two recorded runs, one in each format, differ where the runs do.
#[test]
fn imported_runs_differ_where_the_recorded_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    export(&sample("eager-greedy"), &folder.join("eager"), "npz", 4, &|_| true);
    export(&sample("graph-stale-codes"), &folder.join("graph"), "safetensors", 4, &|_| true);
    fs::write(folder.join("names.toml"), "run = { rows = 4 }\n").unwrap();
    let both = ["--eager", "eager", "--graph", "graph", "--map", "names.toml", "-o", "run"];
    let run = import(folder, &both).expect(0);
    assert!(run.stdout.contains("next: twinstep diff run.eager.twin run.graph.twin"), "{run:?}");
    assert_eq!(names(folder), ["eager", "graph", "names.toml", "run.eager.twin", "run.graph.twin"]);

    let pair = ["run.eager.twin", "run.graph.twin"];
    let imported = twinstep(folder, &["diff", pair[0], pair[1], "--json"]).expect(1).json();
    let samples = root().join("traces/samples");
    let recorded = ["diff", "eager-greedy.twin", "graph-stale-codes.twin", "--json"];
    let recorded = twinstep(&samples, &recorded).expect(1).json();
    for key in ["request", "step", "point", "buffer", "row", "element", "a", "b"] {
        assert_eq!(imported["first"][key], recorded["first"][key], "{key}");
    }
    assert_eq!(imported["first"]["buffer"], "last_codes");
    let states = |diff: &Value| {
        let steps = diff["steps"].as_array().unwrap().iter().take(4);
        steps.map(|step| step["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(states(&imported), states(&recorded));

    // Every byte that was dumped is in the trace.
    let (original, copy) = (sample("eager-greedy"), Trace::open(&folder.join(pair[0])).unwrap());
    assert!(copy.complete() && copy.verify().ok());
    let mut compared = 0;
    for step in 1..=4 {
        for name in original.buffers().iter().map(|b| b.name.as_str()) {
            for point in ["step.before", "step.after"] {
                if let Some(bytes) = held(&copy, 1, step, point, name) {
                    assert_eq!(Some(bytes), held(&original, 1, step, point, name), "{name} {point} {step}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

/// The committed pair is what the command makes of these dumps, and can be read.
#[test]
fn the_committed_pair_is_what_import_makes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let small =
        |name: &str| ["last_codes", "has_codes", "delay_count", "positions", "seq_lens"].contains(&name);
    export(&sample("eager-greedy"), &folder.join("eager"), "npz", 6, &small);
    export(&sample("graph-stale-codes"), &folder.join("graph"), "safetensors", 6, &small);
    import(folder, &["--eager", "eager", "--graph", "graph", "-o", "run"]).expect(0);
    let committed = root().join("traces/samples/imported");
    for name in ["run.eager.twin", "run.graph.twin"] {
        if std::env::var_os("TWINSTEP_MAKE_SAMPLES").is_some() {
            fs::create_dir_all(&committed).unwrap();
            fs::copy(folder.join(name), committed.join(name)).unwrap();
        }
        let (made, kept) =
            (Trace::open(&folder.join(name)).unwrap(), Trace::open(&committed.join(name)).unwrap());
        assert!(kept.complete() && kept.verify().ok());
        assert_eq!((made.run(), made.buffers()), (kept.run(), kept.buffers()));
        assert_eq!((made.requests(), made.step_count()), (kept.requests(), kept.step_count()));
        assert_eq!(kept.step_count(), 7, "set-up and six steps");
        for index in 0..kept.step_count() {
            let (step, twin) = (kept.step(index).unwrap(), made.step(index).unwrap());
            assert_eq!(step, twin);
            assert_eq!(kept.program(step.program).unwrap(), made.program(twin.program).unwrap());
            for point in &step.points {
                for id in kept.covered(point.snapshot).unwrap() {
                    let bytes = kept.read_buffer(point.snapshot, id).unwrap();
                    assert!(bytes.is_some() && bytes == made.read_buffer(point.snapshot, id).unwrap());
                }
            }
        }
    }
    let diff = twinstep(&committed, &["diff", "run.eager.twin", "run.graph.twin", "--json"]).expect(1).json();
    let first = &diff["first"];
    assert_eq!((&first["step"], &first["point"]), (&2.into(), &"step.before".into()), "{first}");
    assert_eq!(
        (&first["buffer"], &first["a"]["value"], &first["b"]["value"]),
        (&"last_codes".into(), &90.into(), &512.into())
    );
}

/// All that looks at a trace looks at these too, or says why not.
#[test]
fn what_can_be_done_with_imported_runs_is_done_and_the_rest_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut values = [1.0; 6];
    for mode in ["eager", "graph"] {
        simple(&folder.join(mode));
    }
    values[4] = 1.5;
    npz(&folder.join("graph/step_2.npz"), false, &[("h", floats(&[2, 3], &values))]);
    values[5] = f32::NAN;
    npz(&folder.join("graph/step_3.npz"), false, &[("h", floats(&[2, 3], &values))]);
    import(folder, &["--eager", "eager", "--graph", "graph", "-o", "run"]).expect(0);
    let (a, b) = ("run.eager.twin", "run.graph.twin");

    let info = twinstep(folder, &["info", b, "--json"]).expect(0).json();
    assert_eq!((&info["foreign"], &info["steps"], &info["mode"]), (&true.into(), &3.into(), &"graph".into()));
    assert_eq!(info["notes"]["source.folder"], "graph");
    let able = &info["capabilities"];
    assert_eq!(able["diff"], "yes");
    for (what, reason) in [
        ("check", "in part: values that are not finite, and rules"),
        ("history", "twinstep print"),
        ("step", "what ran in this step (it was imported from dumps); `twinstep print`"),
        ("explain", "what ran in this step (it was imported from dumps); `twinstep diff`"),
    ] {
        assert!(able[what].as_str().unwrap().contains(reason), "{what}: {able}");
    }
    let shown = twinstep(folder, &["info", b]).expect(0).stdout;
    for line in
        ["text      not known", "model     not known, of another engine", "a device that is not known"]
    {
        assert!(shown.contains(line), "{shown}");
    }

    let diff = twinstep(folder, &["diff", a, b, "--stat", "h:mean"]).expect(1).stdout;
    assert!(
        diff.contains("first difference: request 1, step 2, at step.after: h[0,0] is 2 in A, 1 in B"),
        "{diff}"
    );
    let next = format!("next: twinstep print {a} 'h[0]' --at 1:2 --after");
    assert!(diff.contains(&next), "{diff}");
    assert!(
        twinstep(folder, &["print", a, "h[0]", "--at", "1:2", "--after"])
            .expect(0)
            .stdout
            .contains("[0, 2]  2")
    );
    let before = twinstep(folder, &["print", a, "h", "--at", "2"]).expect(2).stderr;
    assert!(before.contains("not known at step.before of step 2; add --after"), "{before}");

    let log = twinstep(folder, &["log", b, "--at", "2"]).expect(0).stdout;
    assert!(log.contains("gap      not recorded: what ran in this step"), "{log}");
    let check = twinstep(folder, &["check", b]).expect(1).stdout;
    assert!(
        check.contains("error[nonfinite]: h[1,2] is NaN at step.after; who wrote it is not known"),
        "{check}"
    );
    assert!(check.contains("not looked at: not recorded: what ran in this step"), "{check}");
    assert!(twinstep(folder, &["check", a]).expect(0).stdout.contains("no findings"));
    let rules = "[[rule]]\nname = \"small\"\ntext = \"h stays small.\"\nkind = \"rule-broken\"\nholds = \"after.h[0,0] <= 2\"\n";
    fs::write(folder.join("rules.toml"), rules).unwrap();
    let found = twinstep(folder, &["check", a, "--rules", "rules.toml", "--json"]);
    assert_eq!(found.status, Some(1), "{found:?}");
    assert_eq!(found.json()["findings"][0]["step"], 3);

    let judged = twinstep(folder, &["assert", a, a, "--same-file"]).expect(0).stdout;
    assert!(judged.contains("passes"), "{judged}");
    let judged = twinstep(folder, &["assert", a, b]).expect(1).stdout;
    assert!(judged.contains("h[0,0] is 2 in A, 1 in B") && !judged.contains("guard graph"), "{judged}");
    for again in [&["step", a, "--at", "2"][..], &["verify", a, "--replay"]] {
        let run = twinstep(folder, again).expect(2);
        assert!(run.stderr.contains("cannot be executed again: not recorded"), "{run:?}");
    }
    twinstep(folder, &["verify", a]).expect(0);
    twinstep(folder, &["history", a, "h[0,0]", "--at", "2", "--after"]).expect(0);
    let cause = twinstep(folder, &["explain", a, b, "--json"]).expect(1).json();
    assert_eq!(cause["verdict"]["proven"], false, "{cause}");
}

/// Every view and every key of the terminal UI, on a pair without launches and without `step.before`.
#[test]
fn the_terminal_shows_imported_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for mode in ["eager", "graph"] {
        simple(&folder.join(mode));
    }
    npz(&folder.join("graph/step_2.npz"), false, &[("h", floats(&[2, 3], &[2.0, 2.0, 2.5, 2.0, 2.0, 2.0]))]);
    import(folder, &["--eager", "eager", "--graph", "graph", "-o", "run"]).expect(0);
    let mut screen = Screen::start(folder, &["run.eager.twin", "run.graph.twin"]);
    screen.shows("first difference: step 2");
    screen.keys("3");
    screen.shows("2.5");
    for keys in [
        "1", "2", "4", "5", "6", "7", "8", "9", "1\r", "s", "S", "f", "c", "C", "\x1b", "o", "O", "R", "u",
        "H", "E", "K", "n", "N", "]", "[", "3", "i", "\r", "H", "\x1b", "\x1b", "2", "\r", "\x1b",
    ] {
        screen.keys(keys);
        screen.take(std::time::Duration::from_millis(40));
    }
    screen.keys("\x1b");
    screen.take(std::time::Duration::from_millis(300));
    screen.insist("1", "phases of step");
    screen.keys("q");
    assert_eq!(screen.ends(), 0, "{}", String::from_utf8_lossy(&screen.raw));
    screen.is_restored();
}

/// Requests, ranks, points, one file a buffer, a run in one file, and steps that count from 0.
#[test]
fn names_say_where_an_array_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let value = |n: f32| floats(&[1], &[n]);
    let all = folder.join("all");
    for name in ["req2/step_0", "req2/step_1", "req1/prefill", "req1/step_0"] {
        fs::create_dir_all(all.join(name)).unwrap();
    }
    for (name, n) in [
        ("req1/prefill/x.npy", 1.0),
        ("req1/step_0/x.npy", 2.0),
        ("req2/step_0/x.npy", 3.0),
        ("req2/step_1/x.npy", 4.0),
        ("req2/step_1/x.before.npy", 5.0),
        ("req2_step1_rank1.x.npy", 6.0),
    ] {
        fs::write(all.join(name), value(n)).unwrap();
    }
    fs::write(all.join("notes.txt"), "text").unwrap();
    fs::write(all.join("weights.npy"), value(0.0)).unwrap();
    let report = import(folder, &["--eager", "all", "-o", "run", "--json"]).expect(0).json();
    assert_eq!(report["notes"][0], "steps count from 1 in a trace: 2 was added to their numbers");
    assert_eq!(report["traces"][0]["left_out"].as_array().unwrap().len(), 2);
    assert_eq!(report["traces"][1]["trace"], "run.eager.rank1.twin");
    let trace = Trace::open(&folder.join("run.eager.twin")).unwrap();
    let at = |request, step, point| {
        let bytes = held(&trace, request, step, point, "x")?;
        Some(f32::from_le_bytes(bytes.try_into().unwrap()))
    };
    assert_eq!([at(1, 1, "step.after"), at(1, 2, "step.after")], [Some(1.0), Some(2.0)]);
    assert_eq!([at(2, 2, "step.after"), at(2, 3, "step.after")], [Some(3.0), Some(4.0)]);
    assert_eq!([at(2, 3, "step.before"), at(2, 2, "step.before")], [Some(5.0), None]);
    let kinds: Vec<StepKind> = (0..trace.step_count()).map(|i| trace.step(i).unwrap().kind).collect();
    use StepKind::{Decode, Prefill, Setup};
    assert_eq!(kinds, [Setup, Prefill, Decode, Decode, Decode]);
    let other = Trace::open(&folder.join("run.eager.rank1.twin")).unwrap();
    assert_eq!(held(&other, 2, 3, "step.after", "x"), Some(6.0f32.to_le_bytes().to_vec()));
    assert_eq!(other.step(1).unwrap().rank, 1);

    // A whole run in one file: its keys say the steps.
    fs::create_dir(folder.join("one")).unwrap();
    let arrays = [("step1.x", value(1.0)), ("step2.x", value(2.0)), ("step2.x.before", value(9.0))];
    npz(&folder.join("one/run.npz"), true, &arrays);
    import(folder, &["--graph", "one", "-o", "one"]).expect(0);
    let trace = Trace::open(&folder.join("one.graph.twin")).unwrap();
    assert_eq!(held(&trace, 1, 2, "step.before", "x"), Some(9.0f32.to_le_bytes().to_vec()));
    assert_eq!(held(&trace, 1, 1, "step.after", "x"), Some(1.0f32.to_le_bytes().to_vec()));
}

/// A map renames, chooses, and says of whom and what.
#[test]
fn a_map_says_what_names_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d")).unwrap();
    for (id, step) in [("cmpl-a", 5), ("cmpl-a", 6), ("cmpl-b", 5)] {
        let arrays = [
            ("model.h", npy("<i2", false, &[2], &[1, 2, 3, 4])),
            ("logits", floats(&[1], &[step as f32])),
            ("w.weight", floats(&[1], &[0.0])),
        ];
        npz(&folder.join(format!("d/{id}~{step}.npz")), false, &arrays);
    }
    fs::write(
        folder.join("names.toml"),
        r#"
        step = '(?<request>[\w-]+)~(?<step>\d+)\.npz'
        point = "before"
        prefill = false
        ignore = ["*.weight"]
        [names]
        "model.h" = "hidden"
        [roles]
        logits = "output"
        [dtypes]
        hidden = "bf16"
        [requests.cmpl-b]
        prompt = [7, 8]
        [run]
        model = "toy"
        "#,
    )
    .unwrap();
    let run = ["--eager", "d", "--map", "names.toml", "-o", "run"];
    import(folder, &run).expect(0);
    let trace = Trace::open(&folder.join("run.eager.twin")).unwrap();
    let buffers: Vec<_> = trace.buffers().iter().map(|b| (b.name.as_str(), b.dtype, b.role.name())).collect();
    assert_eq!(buffers, [("hidden", DType::Bf16, "state"), ("logits", DType::F32, "output")]);
    let requests: Vec<_> =
        trace.requests().iter().map(|r| (r.request, r.text.as_str(), r.prompt.clone())).collect();
    assert_eq!(requests, [(1, "cmpl-a", vec![]), (2, "cmpl-b", vec![7, 8])]);
    assert!((0..trace.step_count()).all(|i| trace.step(i).unwrap().kind != StepKind::Prefill));
    assert_eq!(held(&trace, 1, 6, "step.before", "hidden"), Some(vec![1, 2, 3, 4]));
    assert_eq!(trace.run().model, "toy");

    let map = |text: &str| fs::write(folder.join("names.toml"), text).unwrap();
    map("ignore = ['a']\nnames = 3\n");
    refused(folder, &run[..4], &["names.toml:2:9: ", "invalid type"]);
    map("point = 'after'\nstep = '(?<stop>.)'\n");
    refused(folder, &run[..4], &["names.toml:2:8: no group `stop`"]);
    map("[roles]\nh = 'weight'\n");
    refused(folder, &run[..4], &["names.toml:2:5: `weight` is no role"]);
    map("[names]\n'model.h' = 'x'\nlogits = 'x'\n");
    refused(folder, &run[..4], &["no dump that says of which step"]);
    map("step = '~(?<step>\\d)'\n[names]\n'model.h' = 'x'\nlogits = 'x'\n");
    refused(folder, &run[..4], &["cmpl-b~5.npz", "same step", "cmpl-a~5.npz"]);
    map("step = 'a~(?<step>\\d)'\n[names]\n'model.h' = 'x'\nlogits = 'x'\n");
    refused(folder, &run[..4], &["cmpl-a~5.npz", "`model.h` and `logits` of step 5 are both `x`"]);
    map("step = '(?<step>\\w+)~'\n");
    refused(folder, &run[..4], &["cmpl-a~5.npz", "is no number"]);
    map("step = 'a~(?<step>\\d)'\n[dtypes]\nlogits = 'bf16'\n");
    refused(folder, &run[..4], &["array `logits`", "4 bytes (f32); bf16 of the map has 2"]);
    refused(folder, &["--eager", "d", "--map", "no.toml"], &["no.toml", "No such file"]);
}

/// Orders and types that are not a trace's own.
#[test]
fn arrays_are_turned_into_row_major_little_endian() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d")).unwrap();
    // 2 x 3 values 0 to 5, first axis fastest, big-endian.
    let columns = [0u16, 3, 1, 4, 2, 5].map(|n| half(n).to_be_bytes()).concat();
    let arrays = [
        ("columns", npy(">f2", true, &[2, 3], &columns)),
        ("wide", npy(">f8", false, &[2], &[1.0f64.to_be_bytes(), 2.0f64.to_be_bytes()].concat())),
        ("pair", npy(">c8", false, &[1], &[0x3f, 0x80, 0, 0, 0x40, 0, 0, 0])),
        ("flag", npy("|b1", false, &[], &[1])),
        ("nothing", npy("<f4", false, &[0, 5], &[])),
        ("a name [x]", floats(&[1], &[1.0])),
    ];
    npz(&folder.join("d/step_1.npz"), true, &arrays);
    import(folder, &["--eager", "d", "-o", "run"]).expect(0);
    let trace = Trace::open(&folder.join("run.eager.twin")).unwrap();
    let bytes = |name: &str| held(&trace, 1, 1, "step.after", name).unwrap();
    assert_eq!(bytes("columns"), [0, 1, 2, 3, 4, 5].map(|n| half(n).to_le_bytes()).concat());
    assert_eq!(bytes("wide"), [1.0f64.to_le_bytes(), 2.0f64.to_le_bytes()].concat());
    assert_eq!(bytes("pair"), [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
    assert_eq!((bytes("flag"), bytes("nothing")), (vec![1], vec![]));
    assert_eq!(bytes("a_name__x_"), 1.0f32.to_le_bytes());
    let shapes: Vec<_> = trace.buffers().iter().map(|b| (b.dtype, b.shape.clone())).collect();
    let expected = [
        (DType::F16, vec![2, 3]),
        (DType::U8, vec![2, 8]),
        (DType::U8, vec![1, 8]),
        (DType::Bool, vec![]),
        (DType::F32, vec![0, 5]),
        (DType::F32, vec![1]),
    ];
    assert_eq!(shapes, expected);
    // What is stored as bytes says so, and every buffer has been allocated.
    let items = &trace.program(trace.step(0).unwrap().program).unwrap().items;
    let marks = items.iter().filter_map(|item| match item {
        Item::Mark { text } => Some(text.as_str()),
        _ => None,
    });
    let told = |name, dtype| format!("{name} is {dtype}: stored as bytes, the last axis is one element");
    assert_eq!(marks.collect::<Vec<_>>(), [told("wide", "float64"), told("pair", "complex64")]);
    let allocated = items.iter().filter_map(|item| match item {
        Item::Allocate { buffer } => Some(*buffer),
        _ => None,
    });
    assert!(allocated.eq((0..6).map(BufferId)));
    // Nothing to show is shown as nothing.
    twinstep(folder, &["print", "run.eager.twin", "nothing", "--at", "1", "--after"]).expect(0);
    twinstep(folder, &["diff", "run.eager.twin", "run.eager.twin", "--stat", "nothing:mean"]).expect(0);
    twinstep(folder, &["check", "run.eager.twin"]).expect(0);
}

/// The binary16 of a small whole number.
fn half(n: u16) -> u16 {
    match n {
        0 => 0,
        n => {
            let exponent = n.ilog2() as u16;
            ((15 + exponent) << 10) | ((n << (10 - exponent)) & 0x3ff)
        }
    }
}

/// Steps that lack something: refused by default where one could be misled, and imported where asked.
#[test]
fn missing_steps_and_changing_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    simple(&folder.join("d"));
    let file = |name: &str, arrays: &[(&str, Vec<u8>)]| npz(&folder.join("d").join(name), false, arrays);
    file("step_7.npz", &[("h", floats(&[2, 3], &[7.0; 6]))]);
    refused(folder, &["--eager", "d"], &["steps 4 to 6: not dumped", "--allow-gaps"]);
    import(folder, &["--eager", "d", "-o", "gaps", "--allow-gaps"]).expect(0);
    let log = twinstep(folder, &["log", "gaps.eager.twin", "--at", "7"]).expect(0).stdout;
    assert!(log.contains("not recorded: steps 4 to 6: not dumped"), "{log}");
    fs::remove_file(folder.join("d/step_7.npz")).unwrap();

    file("step_2.npz", &[("h", floats(&[1, 3], &[2.0; 3])), ("late", floats(&[1], &[1.0]))]);
    let words = ["step_2.npz", "`h` is f32 [1, 3] at step 1:2, it was f32 [2, 3] at 1:1", "--allow-reshape"];
    refused(folder, &["--eager", "d"], &words);
    let run = import(folder, &["--eager", "d", "-o", "shapes", "--allow-reshape"]).expect(0);
    assert!(
        run.stdout.contains("late is not in the dumps of 1:1, 1:3 (step.after): not known there"),
        "{run:?}"
    );
    assert!(run.stdout.contains("and 2 other shapes or types"), "{run:?}");
    let trace = Trace::open(&folder.join("shapes.eager.twin")).unwrap();
    let generations: Vec<_> =
        trace.buffers().iter().map(|b| (b.name.as_str(), b.generation, b.shape.len())).collect();
    assert_eq!(generations, [("h", 0, 2), ("h", 1, 2), ("late", 0, 1), ("h", 2, 2)]);
    for (step, first) in [(1, "1"), (2, "2"), (3, "3")] {
        let at = step.to_string();
        let run =
            twinstep(folder, &["print", "shapes.eager.twin", "h[0,0]", "--at", &at, "--after"]).expect(0);
        assert!(run.stdout.contains(&format!("[0, 0]  {first}")), "{run:?}");
    }
    let same =
        twinstep(folder, &["diff", "shapes.eager.twin", "shapes.eager.twin", "--json"]).expect(0).json();
    assert_eq!(same["identical"], true);
    file("step_2.npz", &[("h", npy("<i4", false, &[2, 3], &[0; 24]))]);
    refused(folder, &["--eager", "d"], &["`h` is i32 [2, 3] at step 1:2, it was f32 [2, 3] at 1:1"]);
}

#[test]
fn what_is_no_dump_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    refused(folder, &["--eager", "none"], &["none: there is no such folder"]);
    fs::create_dir(folder.join("empty")).unwrap();
    refused(folder, &["--graph", "empty"], &["empty: it holds no dump: .npz, .npy or .safetensors"]);
    simple(&folder.join("d"));
    let file = folder.join("d/step_2.npz");
    let whole = fs::read(&file).unwrap();
    refused(folder, &["--eager", "d/step_2.npz"], &["this is a file"]);
    refused(folder, &[], &["required arguments were not provided"]);

    // Two files for one step, in one format and in two.
    fs::write(folder.join("d/step_02.npz"), &whole).unwrap();
    refused(folder, &["--eager", "d"], &["step_2.npz", "are for the same step", "step_02.npz"]);
    fs::remove_file(folder.join("d/step_02.npz")).unwrap();
    tensors(&folder.join("d/step_2.safetensors"), &[("g".into(), safetensors::Dtype::U8, vec![1], vec![0])]);
    refused(folder, &["--eager", "d"], &["step_2.safetensors", "are for the same step", "step_2.npz"]);
    fs::remove_file(folder.join("d/step_2.safetensors")).unwrap();

    // A file that is cut, at every kind of place, and one that has changed.
    for length in [0, 10, 60, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        refused(folder, &["--eager", "d"], &["step_2.npz: no whole .npz file"]);
    }
    let mut flipped = whole.clone();
    let value = whole.windows(4).position(|w| w == 2.0f32.to_le_bytes()).unwrap();
    flipped[value] ^= 1;
    fs::write(&file, &flipped).unwrap();
    refused(folder, &["--eager", "d"], &["step_2.npz: array `h`: damaged", "checksum"]);

    // Arrays of kinds that are not read.
    let with = |array: Vec<u8>| npz(&file, true, &[("h", array)]);
    with(npy("|O", false, &[1], b"\x80\x04]."));
    refused(folder, &["--eager", "d"], &["step_2.npz: array `h`: it holds Python objects"]);
    with(npy("<U3", false, &[1], &[0; 12]));
    refused(folder, &["--eager", "d"], &["element type `<U3` is not known"]);
    with(npy_with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]));
    refused(folder, &["--eager", "d"], &["records"]);
    with(npy("<f4", false, &[2, 3], &[0; 20]));
    refused(folder, &["--eager", "d"], &["step_2.npz: array `h`: it is cut short: 20 of 24 bytes"]);
    with(npy("<f4", false, &[2, 3], &[0; 28]));
    refused(folder, &["--eager", "d"], &["step_2.npz: array `h`: it is longer than its header says"]);
    with(npy("<f4", false, &[1 << 40, 1 << 40], &[]));
    refused(folder, &["--eager", "d"], &["is more than the 4 GiB that an array may have"]);
    with(npy("<f4", false, &[1 << 28], &[0; 4]));
    refused(folder, &["--eager", "d"], &["it is cut short"]);
    with(vec![0; 100]);
    refused(folder, &["--eager", "d"], &["no NumPy array"]);

    fs::write(&file, &whole).unwrap();
    fs::write(folder.join("d/step_4.pt"), "PK").unwrap();
    let words = ["step_4.pt: this is a pickle", "safetensors.torch.save_file or numpy.savez"];
    refused(folder, &["--eager", "d"], &words);
    fs::rename(folder.join("d/step_4.pt"), folder.join("d/model.pt")).unwrap();
    let run = import(folder, &["--eager", "d", "-o", "run"]).expect(0);
    assert!(run.stdout.contains("left out: model.pt: a pickle"), "{run:?}");

    // What is there already stays, byte for byte, unless asked.
    let before = fs::read(folder.join("run.eager.twin")).unwrap();
    let run = import(folder, &["--eager", "d", "--graph", "d", "-o", "run"]).expect(2);
    assert!(run.stderr.contains("run.eager.twin exists already; --force overwrites it"), "{run:?}");
    assert!(!folder.join("run.graph.twin").exists());
    assert_eq!(fs::read(folder.join("run.eager.twin")).unwrap(), before);
    let document = import(folder, &["--eager", "d", "-o", "run", "--json"]).expect(2).json();
    assert_eq!(document["error"]["code"], "output");
    import(folder, &["--eager", "d", "-o", "run", "--force"]).expect(0);
    refused(folder, &["--eager", "empty", "--force"], &["no dump"]);
    assert!(
        import(folder, &["--eager", "d", "-o", "no/run"]).expect(2).stderr.contains("there is no folder no")
    );
}

#[test]
fn safetensors_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d")).unwrap();
    let path = folder.join("d/step1.safetensors");
    let file = |header: &str, bytes: &[u8]| {
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&path, [&length, header.as_bytes(), bytes].concat()).unwrap();
    };
    file(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 8]);
    import(folder, &["--eager", "d", "-o", "good"]).expect(0);
    file(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 7]);
    refused(folder, &["--eager", "d"], &["step1.safetensors: array `x`", "cut short"]);
    file(r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8]);
    refused(folder, &["--eager", "d"], &["step1.safetensors: no safetensors file: invalid shape"]);
    file(r#"{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, &[0; 8]);
    refused(folder, &["--eager", "d"], &["step1.safetensors"]);
    file(r#"{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, &[0; 1]);
    refused(folder, &["--eager", "d"], &["element type F4 has less than a byte"]);
    file("{", &[]);
    refused(folder, &["--eager", "d"], &["no safetensors file"]);
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    refused(folder, &["--eager", "d"], &["no safetensors file: its header claims"]);
    fs::write(&path, 50u64.to_le_bytes()).unwrap();
    refused(folder, &["--eager", "d"], &["its header: it is cut short: 0 of 50 bytes"]);
    fs::write(&path, [1, 2]).unwrap();
    refused(folder, &["--eager", "d"], &["cut short"]);
}
