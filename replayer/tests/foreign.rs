//! Runs of another engine, as an attached process gives them: what checks, `diff`, `explain` and `history` say of
//! planted mistakes, and that they stay silent on clean runs.

mod engine;

use engine::talker::{Mistake, Plan};
use engine::{Arg, Engine, Kernel, Memory};
use twinstep_replayer::{
    CheckReport, ExplainOptions, ExplainReport, HistoryOptions, Kind, ReplayError, StepState, WeightFiles,
    check, diff, diff_with, explain, history,
};
use twinstep_traces::{DType, Trace};

fn found(trace: &Trace) -> CheckReport {
    check(trace).unwrap()
}

fn kinds(trace: &Trace) -> Vec<Kind> {
    found(trace).findings.iter().map(|f| f.kind).collect()
}

fn why(a: &Trace, b: &Trace, control: Option<&Trace>) -> ExplainReport {
    let findings = |trace: &Trace| Ok(check(trace)?.findings);
    let options = ExplainOptions { control, budget: 10, findings: &findings };
    explain(a, b, &WeightFiles::default(), &options, &mut |_| {}).unwrap()
}

fn run(mode: &'static str, mistake: Mistake) -> Trace {
    Plan::new(mode, mistake).record()
}

fn eager_with_launches(mistake: Mistake) -> Trace {
    Plan { launches: true, ..Plan::new("eager", mistake) }.record()
}

/// Ways to record the same clean loop.
fn clean() -> Vec<(&'static str, Trace)> {
    let plan = |mode| Plan::new(mode, Mistake::None);
    vec![
        ("eager", plan("eager").record()),
        ("eager with launches", Plan { launches: true, ..plan("eager") }.record()),
        ("graph", plan("graph").record()),
        ("graph with points around", Plan { around_graphs: true, ..plan("graph") }.record()),
        ("piecewise", plan("piecewise").record()),
        ("piecewise with launches", Plan { launches: true, ..plan("piecewise") }.record()),
        ("warm capture", Plan { warm_capture: true, ..plan("piecewise") }.record()),
        (
            "warm capture with launches",
            Plan { warm_capture: true, launches: true, ..plan("piecewise") }.record(),
        ),
        ("other addresses", Plan { base: 0x7e12_3400_0000, ..plan("graph") }.record()),
        ("other kernels", Plan { arch: "sm80", launches: true, ..plan("eager") }.record()),
        ("more warm-up", Plan { warm_ups: 3, ..plan("graph") }.record()),
        ("bound by value", Plan { bound: true, launches: true, ..plan("eager") }.record()),
        ("bound in the graph", Plan { bound: true, ..plan("graph") }.record()),
    ]
}

#[test]
fn clean_runs_have_no_findings_and_accuse_nobody() {
    let runs = clean();
    for (name, trace) in &runs {
        let report = found(trace);
        assert!(report.findings.is_empty(), "{name}: {:?}", report.findings);
    }
    for (mine, a) in &runs {
        for (theirs, b) in &runs {
            let report = why(a, b, None);
            assert_eq!(report.verdict.kind, Kind::Identical, "{mine}, {theirs}: {}", report.verdict.text);
            assert!(!report.verdict.proven, "nothing was executed");
        }
    }
}

#[test]
fn checks_name_what_a_graph_binds() {
    let cases = [
        (Mistake::Rebound, Kind::StaleBinding, "last_codes@0"),
        (Mistake::Freed, Kind::UseAfterFree, "last_codes@0"),
        (Mistake::Aliased, Kind::AliasedMemory, "last_codes@0"),
    ];
    for (mistake, kind, buffer) in cases {
        for around_graphs in [false, true] {
            let trace = Plan { around_graphs, ..Plan::new("graph", mistake) }.record();
            let findings = found(&trace).findings;
            assert_eq!(findings.len(), 1, "{mistake:?}: {findings:?}");
            let finding = &findings[0];
            assert_eq!(
                (finding.kind, finding.buffer.as_deref()),
                (kind, Some(buffer)),
                "{}",
                finding.message
            );
            assert_eq!(
                (finding.request, finding.step, finding.graph),
                (1, 4, Some(0)),
                "{}",
                finding.message
            );
            let named = "graph 0 node 0 (sm90_embed) parameter 0 binds last_codes@0";
            assert!(finding.message.starts_with(named), "{}", finding.message);
        }
        // The same happens in an eager run, without a graph: no mistake.
        assert_eq!(kinds(&eager_with_launches(mistake)), [], "{mistake:?} eagerly");
    }
}

#[test]
fn a_graph_that_is_not_launched_where_it_was_captured() {
    for launches in [false, true] {
        let trace = Plan { launches, ..Plan::new("piecewise", Mistake::Unlaunched) }.record();
        let findings = found(&trace).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        let finding = &findings[0];
        assert_eq!(finding.kind, Kind::UnlaunchedCapture);
        assert_eq!((finding.request, finding.step, finding.graph), (1, 2, Some(0)));
        assert_eq!(finding.buffer.as_deref(), Some("mlp_out@0"), "{}", finding.message);
        let used = finding.message.contains("sm90_head binds mlp_out@0 in that step");
        assert_eq!(used, launches, "{}", finding.message);
    }
}

#[test]
fn the_first_value_that_is_no_number_comes_with_what_ran() {
    let findings = found(&eager_with_launches(Mistake::NotANumber)).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let message = &findings[0].message;
    assert!(message.contains("logits[2] is NaN at step.after"), "{message}");
    assert!(
        message.contains("it was finite at step.before of step 5, and in between ran sm90_embed"),
        "{message}"
    );
}

#[test]
fn graphs_that_no_step_launches() {
    let mut e = engine::Engine::new("graph", 0x7f00_0000_0000, 0);
    let (_, address) = e.segment(512, None);
    e.watch("state", twinstep_traces::DType::F32, 4, address);
    let kernel = engine::Kernel {
        name: "k".into(),
        args: vec![engine::Arg::Pointer(address)],
        grid: 1,
        effect: |m, p| {
            let value = m.f32(p[0], 0);
            m.set_f32(p[0], 0, value + 1.0);
        },
    };
    e.capture("decode", vec![kernel.clone()]);
    e.end_set_up();
    e.request(1, "", &[]);
    for step in 1..=6 {
        e.begin(1, step);
        e.launch(&kernel);
        e.end();
    }
    let findings = found(&e.finish()).findings;
    assert_eq!(findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::NotEngaged], "{findings:?}");
}

/// What `explain` says of a pair: kind, side, step.
fn verdict(report: &ExplainReport) -> (Kind, Option<&'static str>, Option<u32>) {
    (report.verdict.kind, report.verdict.side, report.verdict.step)
}

#[test]
fn mechanisms_are_named_from_the_logs() {
    let cases: Vec<(&str, Trace, Trace, (Kind, u32))> = vec![
        (
            "rebound",
            eager_with_launches(Mistake::Rebound),
            run("graph", Mistake::Rebound),
            (Kind::StaleBinding, 4),
        ),
        (
            "rebound, no launches",
            run("eager", Mistake::Rebound),
            run("graph", Mistake::Rebound),
            (Kind::StaleBinding, 4),
        ),
        (
            "frozen length",
            eager_with_launches(Mistake::None),
            run("graph", Mistake::FrozenLength),
            (Kind::FrozenArgument, 2),
        ),
        (
            "unlaunched",
            run("graph", Mistake::None),
            run("piecewise", Mistake::Unlaunched),
            (Kind::UnlaunchedCapture, 2),
        ),
        ("aliased", run("eager", Mistake::None), run("graph", Mistake::Aliased), (Kind::AliasedMemory, 4)),
    ];
    for (name, a, b, (kind, step)) in &cases {
        let report = why(a, b, None);
        assert_eq!(verdict(&report), (*kind, Some("b"), Some(*step)), "{name}: {:#?}", report);
        assert!(!report.verdict.proven, "{name}");
        assert!(report.verdict.text.contains("--control"), "{name}: {}", report.verdict.text);
        assert!(report.verdict.text.ends_with('.'), "{name}");
        // The other way round, the side goes with the run.
        let report = why(b, a, None);
        assert_eq!(
            verdict(&report),
            (*kind, Some("a"), Some(*step)),
            "{name} reversed: {}",
            report.verdict.text
        );
    }
    let report = why(&cases[2].1, &cases[2].2, None);
    assert_eq!(report.verdict.arguments, ["sm90_attend parameter 3"]);
    assert!(report.verdict.text.contains("is 1 in every step"), "{}", report.verdict.text);
    assert!(report.verdict.text.contains("passes 3 at step 2"), "{}", report.verdict.text);
}

#[test]
fn what_is_not_known_stays_unknown() {
    let clean =
        [run("eager", Mistake::None), eager_with_launches(Mistake::None), run("graph", Mistake::None)];
    for mistake in [Mistake::Skipped, Mistake::WrongGraph, Mistake::Partial, Mistake::Stray] {
        let wrong = run("graph", mistake);
        assert_eq!(kinds(&wrong), [], "{mistake:?}");
        for a in &clean {
            for report in [why(a, &wrong, None), why(&wrong, a, None)] {
                assert_eq!(
                    verdict(&report),
                    (Kind::Unknown, None, Some(5)),
                    "{mistake:?}: {}",
                    report.verdict.text
                );
                assert!(report.evidence.iter().any(|e| e.what == "located"), "{mistake:?}");
                assert!(report.evidence.iter().any(|e| e.what == "next"), "{mistake:?}");
            }
        }
    }
    // A mistake that had no effect for three steps is not what makes a difference now.
    let wrong = run("graph", Mistake::FreedAndSkipped);
    assert_eq!(kinds(&wrong), [Kind::UseAfterFree]);
    assert_eq!(verdict(&why(&clean[0], &wrong, None)), (Kind::Unknown, None, Some(7)));
    let (a, b) = (eager_with_launches(Mistake::ReboundUnseen), run("graph", Mistake::ReboundUnseen));
    assert_eq!(verdict(&why(&a, &b, None)), (Kind::Unknown, None, Some(4)));
    // A clean capture after a warm-up, beside a mistake of another kind at the same step.
    let warm = Plan { warm_capture: true, ..Plan::new("piecewise", Mistake::None) };
    for launches in [false, true] {
        let warm = Plan { launches, ..warm.clone() }.record();
        let report = why(&warm, &run("graph", Mistake::FrozenLength), None);
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
    }
}

#[test]
fn the_same_mistake_in_both_runs_tells_nothing_apart() {
    // Both graphs bind the old memory; one of them is skipped in step 5.
    let a = run("graph", Mistake::Rebound);
    let b = Plan { base: 0x7e00_1000_0000, ..Plan::new("graph", Mistake::Rebound) }.record();
    assert_eq!(why(&a, &b, None).verdict.kind, Kind::Identical);
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
    // A noisy buffer is noisy from its first difference on, and only up to twice as much.
    let early = Plan { steps: 4, ..Plan::new("eager", Mistake::Noise(2)) }.record();
    let short = diff_with(&a, &b, &[], Some(&early)).unwrap();
    assert!(!short.same(), "the control shows no noise up to step 4");
    assert!(short.control.unwrap().notes.iter().any(|n| n.contains("lacks step 5")));
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

/// A cache that each step appends to: the kernel works on a copy, which goes back to the cache.
fn appending(mode: &str, goes_back: bool) -> Trace {
    fn append(memory: &mut Memory, args: &[u64]) {
        let length = memory.f32(args[0], 0);
        memory.set_f32(args[0], 0, length + 1.0);
        memory.set_f32(args[0], 1 + length as u64, 10.0 + length);
    }
    let mut e = Engine::new(mode, 0x7f10_0000_0000, 0);
    e.launches = true;
    let (_, cache) = e.segment(1024, None);
    let (_, own) = e.segment(1024, None);
    e.watch("cache", DType::F32, 16, cache);
    let kernel = Kernel { name: "append".into(), args: vec![Arg::Pointer(own)], grid: 1, effect: append };
    let graph = (mode == "graph").then(|| e.capture("", vec![kernel.clone()]));
    e.end_set_up();
    e.request(1, "r", &[1]);
    for step in 1..=6 {
        e.begin(1, step);
        e.copy(cache, own, 64);
        match graph {
            Some(graph) => e.launch_graph(graph),
            None => e.launch(&kernel),
        }
        if goes_back {
            e.copy(own, cache, 64);
        }
        e.end();
    }
    e.finish()
}

#[test]
fn results_that_only_one_run_copies_back() {
    let (eager, sound, lost) =
        (appending("eager", true), appending("graph", true), appending("graph", false));
    assert_eq!(why(&eager, &sound, None).verdict.kind, Kind::Identical);
    for (a, b, side) in [(&lost, &eager, "a"), (&eager, &lost, "b"), (&lost, &sound, "a")] {
        let verdict = why(a, b, None).verdict;
        assert_eq!((verdict.kind, verdict.side, verdict.proven), (Kind::MissingLaunch, Some(side), false));
        assert_eq!((verdict.step, verdict.buffers), (Some(1), vec!["cache".to_owned()]));
    }
}

/// A loop in brackets whose results lie where an earlier run left something; from step `wrong` on they are others.
fn over_old_results(left_over: f32, wrong: u32) -> Trace {
    fn forward(memory: &mut Memory, args: &[u64]) {
        memory.set_f32(args[0], 0, args[1] as f32);
    }
    let mut e = Engine::new("graph", 0x7f10_0000_0000, 0);
    e.launches = true;
    let (_, results) = e.segment(1024, None);
    e.watch("logits", DType::F32, 16, results);
    e.memory.set_f32(results, 0, left_over);
    e.end_set_up();
    e.request(1, "r", &[1]);
    for step in 1..=4 {
        e.begin(1, step);
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
    let (clean, dirty) = (over_old_results(0.0, 9), over_old_results(7.0, 9));
    let report = diff(&clean, &dirty, &[]).unwrap();
    assert!(report.identical, "{:?}", report.first);
    // What the first step leaves is compared, and so is what later steps are given.
    for wrong in [1, 3] {
        let report = diff(&clean, &over_old_results(7.0, wrong), &[]).unwrap();
        let first = report.first.unwrap();
        assert_eq!(
            (first.step, first.point.as_str(), first.a.to_string()),
            (wrong, "forward.after", wrong.to_string())
        );
    }
}
