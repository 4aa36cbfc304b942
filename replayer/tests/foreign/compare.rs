//! Two runs of another engine beside each other, a control run, and what changed when.

use twinstep_replayer::{HistoryOptions, Kind, ReplayError, StepState, diff, diff_with, history};
use twinstep_traces::*;

use crate::engine::talker::{Mistake, Plan};
use crate::engine::{Arg, Engine, Kernel, Memory};
use crate::{eager_with_launches, evidence, run, verdict, why};

#[test]
fn a_control_run_that_says_something_else() {
    let a = run("eager", Mistake::None);
    // Its codes are others from step 4 on: what differs from then on is no measure.
    let control = run("eager", Mistake::Rebound);
    let with = diff_with(&a, &run("eager", Mistake::Rebound), &[], Some(&control)).unwrap();
    assert!(with.same() && !with.identical, "{:?}", with.first);
    let told = with.control.unwrap();
    assert_eq!(told.notes, ["the control run says something else from step 4 on"]);
    assert!(told.noisy.iter().any(|n| n.buffer == "last_codes" && n.since == "4" && n.greatest.is_none()));
    // An element of integers in which it does not differ is no noise at any time.
    let skipped = diff_with(&a, &run("graph", Mistake::Skipped), &[], Some(&control)).unwrap();
    assert_eq!(skipped.first.map(|f| (f.step, f.buffer)), Some((5, "seq_len".to_owned())));
    // Before it, all that differs counts; what is no number is no noise.
    let early = run("graph", Mistake::FrozenLength);
    assert_eq!(diff_with(&a, &early, &[], Some(&control)).unwrap().first.unwrap().step, 2);
    let noisy = run("eager", Mistake::Off(100));
    let no_number = run("eager", Mistake::NotANumber);
    assert_eq!(diff_with(&a, &no_number, &[], Some(&noisy)).unwrap().first.unwrap().step, 5);
    // Another mode is no second run, nor is one with nothing in common.
    assert_eq!(diff_with(&a, &a, &[], Some(&a)).unwrap().control.unwrap().notes, [""; 0]);
    let error = diff_with(&a, &a, &[], Some(&run("graph", Mistake::None))).unwrap_err().to_string();
    let said = "A ran in mode \"eager\", the control in \"graph\": give a second run of A's mode";
    assert!(error.ends_with(said), "{error}");
    let other = Plan { requests: vec![("z", vec![1])], ..Plan::new("eager", Mistake::None) }.record();
    let error = diff_with(&a, &a, &[], Some(&other)).unwrap_err();
    assert!(
        matches!(&error, ReplayError::NotComparable(why) if why.contains("they have no step in common")),
        "{error}"
    );
}

#[test]
fn a_control_run_tells_noise_apart() {
    let [a, a2, b] = [1, 2, 3].map(|seed| run("eager", Mistake::Noise(seed)));
    let without = diff(&a, &b, &[]).unwrap();
    assert!(!without.same() && without.control.is_none());
    let with = diff_with(&a, &b, &[], Some(&a2)).unwrap();
    assert!(with.same() && !with.identical && with.first.is_none());
    let states: Vec<StepState> = with.steps.iter().map(|s| s.state).collect();
    let (before, after) = (&states[..4], &states[4..]);
    assert!(before.iter().all(|s| *s == StepState::Identical), "{states:?}");
    assert!(after.iter().all(|s| *s == StepState::Noise), "{states:?}");
    assert_eq!(with.control.as_ref().unwrap().noisy[0].buffer, "logits");
    assert_eq!(why(&a, &b, Some(&a2)).verdict.kind, Kind::Noise);
    // What the control does not show is a divergence, and the noise beside it is not what is named.
    let wrong = run("graph", Mistake::Stray);
    let with = diff_with(&a, &wrong, &[], Some(&a2)).unwrap();
    assert!(!with.same());
    let step = with.steps.iter().find(|s| s.state == StepState::Diverged).unwrap();
    assert!(step.step == 5 && step.differing.contains(&"kv".to_owned()), "{:?}", step.differing);
    assert_eq!(with.first.as_ref().unwrap().step, 5);
    let report = why(&a, &wrong, Some(&a2));
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(5)));
    assert!(!report.verdict.text.contains("--control"), "{}", report.verdict.text);
    // An equal control makes no noise of anything.
    let equal = run("eager", Mistake::Noise(1));
    assert!(!diff_with(&a, &b, &[], Some(&equal)).unwrap().same());
    // A noisy buffer is noisy from its first difference on, and only up to the factor.
    let early = Plan { steps: 4, ..Plan::new("eager", Mistake::Noise(2)) }.record();
    let short = diff_with(&a, &b, &[], Some(&early)).unwrap();
    assert!(!short.same(), "the control shows no noise up to step 4");
    assert!(short.control.unwrap().notes.iter().any(|n| n.contains("lacks step 5")));
}

#[test]
fn differences_just_beyond_noise() {
    let [a, control, within, beyond] = [0, 100, 399, 401].map(|off| run("eager", Mistake::Off(off)));
    let report = why(&a, &within, Some(&control));
    assert_eq!(verdict(&report), (Kind::Noise, None, Some(5)), "{}", report.verdict.text);
    let report = why(&a, &beyond, Some(&control));
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(5)), "{}", report.verdict.text);
    let said = "A differs from its control run as well (logits), but in less than from B";
    assert_eq!(evidence(&report, "control").last(), Some(&said));
    assert_eq!(report.first.unwrap().buffer, "logits");
    // The other way round as well, and no noise in a buffer in which the control has none.
    assert_eq!(why(&within, &a, Some(&run("eager", Mistake::Off(98)))).verdict.kind, Kind::Noise);
    assert_eq!(why(&a, &run("graph", Mistake::Stray), Some(&control)).verdict.kind, Kind::Unknown);
}

#[test]
fn requests_are_matched_by_id_then_prompt_then_number() {
    let plan = |requests: &[(&'static str, Vec<u32>)]| {
        Plan { requests: requests.to_vec(), steps: 4, ..Plan::new("eager", Mistake::None) }.record()
    };
    let (p, q) = (vec![5, 6, 7], vec![9, 1]);
    let a = plan(&[("x", p.clone()), ("y", q.clone())]);
    let swapped = plan(&[("y", q.clone()), ("x", p.clone())]);
    assert!(diff(&a, &swapped, &[]).unwrap().steps.iter().all(|s| s.state == StepState::Identical));
    // Without ids the prompt decides.
    let (m, n) = (plan(&[("", p.clone()), ("", q.clone())]), plan(&[("", q.clone()), ("", p.clone())]));
    assert!(diff(&m, &n, &[]).unwrap().identical);
    // Another id, and another prompt: nothing of it is on both sides.
    let other = plan(&[("z", vec![3, 3, 3])]);
    let report = diff(&a, &other, &[]).unwrap();
    assert!(report.steps.iter().all(|s| matches!(s.state, StepState::OnlyA | StepState::OnlyB)));
    // Nothing but numbers.
    let (m, n) = (plan(&[("", vec![])]), plan(&[("", vec![])]));
    assert!(diff(&m, &n, &[]).unwrap().identical);
    // A mistake in a request that has another number in the other run is found at its place.
    let wrong = Plan { requests: vec![("x", p), ("y", q)], steps: 6, ..Plan::new("graph", Mistake::Partial) };
    let right = Plan { requests: wrong.requests.iter().rev().cloned().collect(), ..wrong.clone() };
    let (wrong, right) = (wrong.record(), Plan { mistake: Mistake::None, ..right }.record());
    let report = diff(&right, &wrong, &[]).unwrap();
    let first = report.first.unwrap();
    assert_eq!((first.request, first.request_b, first.step), (2, Some(1), 5));
}

#[test]
fn ranks_are_not_mixed() {
    let of = |rank| Plan { rank, steps: 3, ..Plan::new("eager", Mistake::None) }.record();
    let error = diff(&of(0), &of(1), &[]).unwrap_err();
    assert!(
        matches!(&error, ReplayError::NotComparable(what) if what.contains("the rank differs: 0 in A, 1 in B"))
    );
    assert!(diff(&of(1), &of(1), &[]).unwrap().identical);
}

#[test]
fn history_says_between_which_points_bytes_changed() {
    let trace = run("graph", Mistake::None);
    let report =
        history(&trace, "logits[1]", "5".parse().unwrap(), HistoryOptions { after: true, limit: 2 }).unwrap();
    let changes = report.changes.unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!(
        (changes[0].after.as_str(), changes[0].before.as_str()),
        ("step.before of step 5", "step.after of step 5")
    );
    assert_eq!(changes[0].ran, ["graph 0 (decode)"]);
    assert_eq!(
        changes[0].candidates,
        [
            "graph 0 node 3 sm90_head binds it as parameter 1 (access unknown)",
            "graph 0 node 4 sm90_sample binds it as parameter 0 (access unknown)",
        ]
    );
    // From before the step: the change of the step before.
    let report = history(&trace, "logits[1]", "5".parse().unwrap(), HistoryOptions::default()).unwrap();
    assert_eq!(report.changes.unwrap()[0].before, "step.after of step 4");
    let names: Vec<&str> = report.groups[0].writers.iter().map(|w| w.name.as_str()).collect();
    assert!(names.contains(&"graph 0 node 4 (sm90_sample)"), "{names:?}");
}

/// A loop in brackets whose results lie where an earlier run left something; from step `wrong` on they are others.
/// Each step first launches a kernel that has the address of its results (`Some(true)`) or of something else.
fn over_old_results(left_over: f32, wrong: u32, prepares: Option<bool>, gap: bool) -> Trace {
    fn prepare(memory: &mut Memory, args: &[u64]) {
        let _ = memory.f32(args[0], 0);
    }
    fn forward(memory: &mut Memory, args: &[u64]) {
        memory.set_f32(args[0], 0, args[1] as f32);
    }
    let mut e = Engine::new("graph", 0x7f10_0000_0000, 0);
    e.launches = true;
    let (_, results) = e.segment(1024, None);
    e.watch("logits", DType::F32, 16, results);
    let (_, other) = e.segment(1024, None);
    e.watch("codes", DType::F32, 16, other);
    e.memory.set_f32(results, 0, left_over);
    e.end_set_up();
    e.request(1, "r", &[1]);
    for step in 1..=4 {
        e.begin(1, step);
        if let Some(results_too) = prepares {
            let args = vec![Arg::Pointer(if results_too { results } else { other })];
            e.launch(&Kernel { name: "prepare".into(), args, grid: 1, effect: prepare });
        }
        if gap {
            e.item(Item::Gap { reason: "something ran".into() });
        }
        e.point("forward.before");
        let value = step as i32 + if step >= wrong { 100 } else { 0 };
        let args = vec![Arg::Pointer(results), Arg::I32(value)];
        e.launch(&Kernel { name: "forward".into(), args, grid: 1, effect: forward });
        e.point("forward.after");
        e.end();
    }
    e.finish()
}

#[test]
fn what_memory_held_before_a_request_is_no_difference() {
    let of = |left_over, wrong| over_old_results(left_over, wrong, None, false);
    let clean = of(0.0, 9);
    for prepares in [None, Some(false)] {
        let (clean, dirty) =
            (over_old_results(0.0, 9, prepares, false), over_old_results(7.0, 9, prepares, false));
        let report = diff(&clean, &dirty, &[]).unwrap();
        assert!(report.identical, "{:?}", report.first);
    }
    // What the step was at before the point is no left-over.
    let prepared = |left_over| over_old_results(left_over, 9, Some(true), false);
    // Nor is what may have been written by what was not recorded, once the step has begun.
    let gap = |left_over, prepares| over_old_results(left_over, 9, prepares, true);
    assert!(diff(&gap(0.0, None), &gap(7.0, None), &[]).unwrap().identical);
    let first = diff(&gap(0.0, Some(false)), &gap(7.0, Some(false)), &[]).unwrap().first.unwrap();
    assert_eq!((first.step, first.point.as_str()), (1, "forward.before"));
    for (a, b) in [(prepared(0.0), prepared(7.0)), (prepared(0.0), of(7.0, 9)), (of(0.0, 9), prepared(7.0))] {
        let first = diff(&a, &b, &[]).unwrap().first.unwrap();
        assert_eq!((first.step, first.point.as_str()), (1, "forward.before"));
    }
    // What the first step leaves is compared, and so is what later steps are given.
    for wrong in [1, 3] {
        let report = diff(&clean, &of(7.0, wrong), &[]).unwrap();
        let first = report.first.unwrap();
        assert_eq!(
            (first.step, first.point.as_str(), first.a.to_string()),
            (wrong, "forward.after", wrong.to_string())
        );
    }
}

#[test]
fn the_first_buffer_is_the_one_that_is_computed_first() {
    let names = |a: &Trace, b: &Trace| {
        let report = diff(a, b, &[]).unwrap();
        let step = report.steps.iter().find(|s| s.state == StepState::Diverged).unwrap();
        assert_eq!(report.first.as_ref().unwrap().buffer, step.differing[0]);
        step.differing.clone()
    };
    let clean =
        [run("eager", Mistake::None), eager_with_launches(Mistake::None), run("graph", Mistake::None)];
    // `last_codes` is the graph's first operand and its last result: the sampler's, after the logits.
    let wrong = run("graph", Mistake::Partial);
    for clean in &clean {
        assert_eq!(names(clean, &wrong), ["logits", "last_codes"]);
        assert_eq!(names(&wrong, clean), ["logits", "last_codes"]);
    }
    let wrong = run("graph", Mistake::FrozenLength);
    assert_eq!(names(&clean[1], &wrong), ["hidden", "kv", "mlp_out", "logits", "last_codes"]);
    // Kernel by kernel as well as in a graph.
    let wrong = eager_with_launches(Mistake::Stray);
    assert_eq!(names(&clean[1], &wrong), ["hidden", "kv", "mlp_out", "logits", "last_codes"]);
}

#[test]
fn a_run_without_steps_has_the_rank_that_its_notes_tell() {
    let trace = Engine::new("graph", 0x7f10_0000_0000, 3).finish();
    assert_eq!((trace.step_count(), twinstep_replayer::rank(&trace).unwrap()), (0, 3));
}

#[test]
fn a_buffer_of_another_type_or_shape_is_told_as_such() {
    let run = |dtype, elements| {
        let mut e = Engine::new("eager", 0x7f10_0000_0000, 0);
        let (_, memory) = e.segment(1024, None);
        e.watch("hidden", dtype, elements, memory);
        // The same bytes in all runs: as f32 and as i32 they are other values.
        e.memory.set_f32(memory, 0, 1.0);
        e.end_set_up();
        e.request(1, "r", &[1]);
        e.begin(1, 1);
        e.end();
        e.finish()
    };
    let wide = run(DType::F32, 16);
    for (other, form) in [(run(DType::I32, 16), "i32 [16]"), (run(DType::F32, 8), "f32 [8]")] {
        let first = diff(&wide, &other, &[]).unwrap().first.unwrap();
        assert_eq!(first.to_string(), format!("hidden is f32 [16] in A, {form} in B"));
        assert_eq!(first.a.to_string(), "1");
    }
    assert!(diff(&wide, &run(DType::F32, 16), &[]).unwrap().first.is_none());
}

#[test]
fn other_versions_of_what_was_run_are_said() {
    let run = |libraries: &str, driver: &str, wrong: bool| {
        let mut e = Engine::with_versions("eager", 0x7f10_0000_0000, 0, libraries, driver);
        let (_, memory) = e.segment(1024, None);
        e.watch("hidden", DType::F32, 16, memory);
        e.end_set_up();
        e.request(1, "r", &[1]);
        for step in 1..=3 {
            e.begin(1, step);
            e.memory.set_f32(memory, 0, if wrong && step == 2 { 9.0 } else { step as f32 });
            e.end();
        }
        e.finish()
    };
    let a = run("python 3.11, torch 2.4.0", "550.54", false);
    let said = |b: &Trace| diff(&a, b, &[]).unwrap().notes;
    assert_eq!(said(&a), [""; 0]);
    // What one of them does not know is no difference.
    assert_eq!(said(&run("", "", false)), [""; 0]);
    assert_eq!(said(&run("", "550.54", false)), [""; 0]);
    let libraries = "libraries \"python 3.11, torch 2.4.0\" in A, \"python 3.11, torch 2.5.1\" in B";
    let both = format!(
        "recorded with other versions, which may round differently: {libraries}; driver \"550.54\" in A, \"560.28\" in B"
    );
    assert_eq!(said(&run("python 3.11, torch 2.5.1", "560.28", false)), std::slice::from_ref(&both));
    let report = why(&a, &run("python 3.11, torch 2.5.1", "560.28", true), None);
    assert_eq!(evidence(&report, "comparison"), [both.as_str()]);
    assert_eq!(evidence(&why(&a, &run("", "", true), None), "comparison"), [""; 0]);
}

/// Requests that all begin with one launch of `operands` addresses and `launches` launches of a graph that has as many.
fn first_steps(requests: u32, operands: u32, launches: usize) -> Trace {
    let run = RunRecord { notes: vec![("engine".into(), "foreign".into())], ..RunRecord::default() };
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    let (name, dtype) = ("hidden".to_owned(), DType::U8);
    let id = writer
        .add_buffer(&BufferRecord {
            name,
            generation: 0,
            dtype,
            shape: vec![16],
            role: Role::State,
            bytes: 16,
            chunk_bytes: 16,
            address: Some(4096),
            contents: None,
        })
        .unwrap();
    let view = ViewRecord {
        name: String::new(),
        buffer: id,
        offset: 0,
        shape: vec![16],
        strides: vec![1],
        dtype,
        access: Access::Unknown,
    };
    let launch = Item::Opaque(OpaqueLaunch {
        kernel: "k".into(),
        phase: Phase::Forward,
        stream: 0,
        grid: [1; 3],
        block: [1; 3],
        cluster: [0; 3],
        shared_bytes: 0,
        parameters: vec![vec![0; 8]],
        operands: (0..operands).map(|i| (0, 8 * i, view.clone())).collect(),
    });
    let nodes = writer.add_program(&Program { items: vec![launch.clone()] }).unwrap();
    let graph = GraphId(0);
    let captured_at = (0, 0);
    writer
        .add_graph(&GraphRecord {
            id: graph,
            label: String::new(),
            program: nodes,
            edges: Vec::new(),
            captured_at,
        })
        .unwrap();
    let mut items = vec![launch];
    items.extend((0..launches).map(|_| Item::GraphLaunch { graph, stream: 0 }));
    let program = writer.add_program(&Program { items }).unwrap();
    let whole = [ChangedChunks { buffer: id, first_chunk: 0, bytes: &[7; 16] }];
    let snapshot = writer.snapshot(&[id], &whole, &[]).unwrap();
    for request in 1..=requests {
        let (text, prompt) = (format!("{request}"), Vec::new());
        writer.add_request(&RequestRecord { request, text, prompt, row: 0 }).unwrap();
        let point = |point: &str, position| PointRecord { point: point.into(), position, snapshot };
        writer
            .commit_step(&StepRecord {
                kind: StepKind::Prefill,
                request,
                step: 1,
                rank: 0,
                program,
                host_writes: Vec::new(),
                host_reads: Vec::new(),
                points: vec![point("step.before", 0), point("step.after", 1)],
            })
            .unwrap();
    }
    Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
}

#[test]
fn first_steps_that_hold_too_much_are_compared_whole() {
    let said = |trace: &Trace| {
        let report = diff(trace, trace, &[]).unwrap();
        assert!(report.identical, "{}", report.headline());
        report.notes.iter().filter(|n| n.contains("there is too much in them")).count()
    };
    assert_eq!(said(&first_steps(3, 1000, 1)), 0);
    // A graph that is launched again has what it had.
    assert_eq!(said(&first_steps(3, 10_000, 10_000)), 0);
    assert_eq!(said(&first_steps(110, 100_000, 1)), 1);
}

#[test]
fn more_buffers_that_differ_than_are_looked_at_one_by_one_are_said() {
    let run = |count: u64, wrong: bool| {
        let mut e = Engine::new("eager", 0x7f10_0000_0000, 0);
        let (_, memory) = e.segment(8192, None);
        for i in 0..count {
            e.watch(&format!("state.{i}"), DType::F32, 1, memory + 4 * i);
        }
        e.end_set_up();
        e.request(1, "r", &[1]);
        for step in 1..=3 {
            e.begin(1, step);
            let value = if wrong && step == 2 { 9.0 } else { step as f32 };
            (0..count).for_each(|i| e.memory.set_f32(memory, i, value));
            e.end();
        }
        e.finish()
    };
    for (count, said) in [(256, 0), (257, 1)] {
        let report = why(&run(count, false), &run(count, true), None);
        assert_eq!(evidence(&report, "not-looked-at").len(), said, "{count}");
    }
}
