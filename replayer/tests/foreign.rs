//! Runs of another engine, as an attached process gives them: what checks, `diff`, `explain` and `history` say of
//! planted mistakes, and that they stay silent on clean runs.

mod engine;

use engine::copying::{Advances, Loop, Made};
use engine::talker::{Mistake, Plan};
use engine::{Arg, Engine, Kernel, Memory};
use twinstep_replayer::{
    CheckReport, ExplainOptions, ExplainReport, HistoryOptions, Kind, ReplayError, StepState, WeightFiles,
    check, diff, diff_with, explain, history, info,
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
    for mistake in [Mistake::Partial, Mistake::Stray] {
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
    assert_eq!(verdict(&why(&clean[0], &wrong, None)), (Kind::MissingLaunch, Some("b"), Some(7)));
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
}

/// Texts of evidence of a sort.
fn evidence<'a>(report: &'a ExplainReport, what: &str) -> Vec<&'a str> {
    report.evidence.iter().filter(|e| e.what == what).map(|e| e.text.as_str()).collect()
}

#[test]
fn graphs_that_are_launched_in_all_steps_but_one() {
    let clean =
        [run("eager", Mistake::None), eager_with_launches(Mistake::None), run("graph", Mistake::None)];
    let wrong = run("graph", Mistake::Skipped);
    for a in &clean {
        for (report, side) in [(why(a, &wrong, None), "b"), (why(&wrong, a, None), "a")] {
            let verdict = &report.verdict;
            assert_eq!(
                (verdict.kind, verdict.side, verdict.step, verdict.graph, verdict.proven),
                (Kind::MissingLaunch, Some(side), Some(5), Some(0), false),
                "{}",
                verdict.text
            );
            let said = "no graph is launched and nothing that was recorded changes, where the decode steps before and \
                        after launch graph 0 (decode)";
            assert!(verdict.text.contains(said), "{}", verdict.text);
        }
    }
    let wrong = run("graph", Mistake::WrongGraph);
    let text = "graph 1 (decode of another size) is launched, where the decode steps before and after launch graph 0 (decode)";
    for a in &clean[1..] {
        let report = why(a, &wrong, None);
        assert_eq!(verdict(&report), (Kind::WrongDispatch, Some("b"), Some(5)), "{}", report.verdict.text);
        assert!(report.verdict.text.contains(text), "{}", report.verdict.text);
        assert_eq!(report.verdict.graph, Some(1));
    }
    // Whether the other run does what it always does is not recorded.
    let report = why(&clean[0], &wrong, None);
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(5)), "{}", report.verdict.text);
    assert_eq!(evidence(&report, "possible"), [format!("wrong-dispatch in B: {text}")]);
    let said = "possible, and not more, is wrong-dispatch in B; what";
    assert!(report.verdict.text.contains(said), "{}", report.verdict.text);
    // Another graph from then on may be meant, and so may kernels in a graph's place, which are not recorded.
    for (mistake, kind) in [(Mistake::Switched, "wrong-dispatch"), (Mistake::FellBack, "missing-launch")] {
        for a in &clean {
            let report = why(a, &run("graph", mistake), None);
            assert_eq!(verdict(&report), (Kind::Unknown, None, Some(5)), "{}", report.verdict.text);
            let possible = evidence(&report, "possible");
            assert!(possible.len() == 1 && possible[0].starts_with(kind), "{mistake:?}: {possible:?}");
        }
    }
}

#[test]
fn several_mechanisms_that_fit_are_told_the_most_specific_first() {
    let (a, b) = (eager_with_launches(Mistake::Rebound), run("graph", Mistake::ReboundAndWrongGraph));
    for (report, side) in [(why(&a, &b, None), "B"), (why(&b, &a, None), "A")] {
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(4)), "{}", report.verdict.text);
        let said = format!(
            "More than one mechanism fits: stale-binding in {side}, wrong-dispatch in {side}; what another engine"
        );
        assert!(report.verdict.text.contains(&said), "{}", report.verdict.text);
        let candidates = evidence(&report, "candidate");
        assert_eq!(candidates.len(), 2, "{candidates:?}");
        assert!(
            candidates[0].starts_with(&format!("stale-binding in {side}: graph 1 node 0")),
            "{candidates:?}"
        );
        let next = evidence(&report, "next");
        let begins = [
            format!(
                "stale-binding in {side}: `twinstep history {side}.twin last_codes@0 --at 4 --after` shows"
            ),
            format!("wrong-dispatch in {side}: `twinstep log {side}.twin --at 4`"),
            "in the process that was recorded: r.reexecute(4".to_owned(),
        ];
        assert_eq!(next.len(), begins.len(), "{next:?}");
        assert!(next.iter().zip(&begins).all(|(text, begin)| text.starts_with(begin)), "{next:?}");
    }
}

#[test]
fn arguments_that_may_be_frozen_are_possible_and_not_accused() {
    let graph = |captured_length, scattered| {
        Plan { captured_length, scattered, ..Plan::new("graph", Mistake::FrozenLength) }.record()
    };
    let eager = |scattered| Plan { scattered, launches: true, ..Plan::new("eager", Mistake::None) }.record();
    let (zero, ahead) = ("; zero may mean that it is not in use", "; it may be a bound that was meant so");
    for (captured, scattered, doubt) in [(0, false, zero), (30, false, ahead), (1, true, "at each step")] {
        let (a, b) = (eager(scattered), graph(captured, scattered));
        for (report, side) in [(why(&a, &b, None), "B"), (why(&b, &a, None), "A")] {
            assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
            let possible = evidence(&report, "possible");
            assert_eq!(possible.len(), 1, "{possible:?}");
            let begin = format!("frozen-argument in {side}: sm90_attend parameter 3 (graph 0 node 1) is ");
            assert!(possible[0].starts_with(&begin) && possible[0].ends_with(doubt), "{possible:?}");
        }
    }
    // What is possible is no doubt about what fits.
    let report = why(&eager(false), &graph(1, false), None);
    assert_eq!(verdict(&report), (Kind::FrozenArgument, Some("b"), Some(2)));
}

#[test]
fn copies_that_one_run_lacks() {
    let run = |words: &str| Loop::new(Made::PLAIN).run(words);
    let clean = run("ptL|ptL|ptL|ptL|ptL|");
    let cases = [
        ("ptL|ptL|ptL|tL|ptL|", Kind::MissingHostWrite, 5),
        // Too few steps for a check; the other run shows what is expected.
        ("tL|tL|tL|tL|tL|", Kind::MissingHostWrite, 2),
        ("ptL|tL|ptL|ptL|ptL|", Kind::MissingHostWrite, 3),
        ("ptL|ptL|ptL|tLp|ptL|", Kind::LateHostWrite, 5),
        ("tLp|tLp|tLp|tLp|tLp|", Kind::LateHostWrite, 2),
    ];
    for (words, kind, step) in cases {
        let wrong = run(words);
        for (report, side) in [(why(&clean, &wrong, None), "b"), (why(&wrong, &clean, None), "a")] {
            assert_eq!(verdict(&report), (kind, Some(side), Some(step)), "{words}: {}", report.verdict.text);
            let names = report.verdict.buffers.iter().map(|b| b.split('@').next().unwrap());
            assert!(
                names.clone().count() > 0 && names.clone().all(|n| n == "position"),
                "{:?}",
                report.verdict
            );
            assert!(!report.verdict.proven);
        }
    }
    // A value that the device advances is given to the launch before it is right, and needs no copy.
    let advances = |advances| Loop::new(Made { advances, ..Made::PLAIN }).run("tL|tL|tL|");
    let short = run("ptL|ptL|ptL|");
    for wrong in [advances(Advances::First), advances(Advances::Last)] {
        let report = why(&short, &wrong, None);
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
    }
    // Written ahead, or by something that is not recorded: the same values.
    assert_eq!(why(&clean, &run("ptLp|tLp|tLp|tLp|tL|"), None).verdict.kind, Kind::Identical);
    assert_eq!(why(&clean, &run("ptL|utL|utL|utL|utL|"), None).verdict.kind, Kind::Identical);
    // Something was not recorded, or wrote another value there: nobody lacks a copy.
    for words in ["ptL|gtL|ptL|ptL|ptL|", "ptL|dtL|ptL|ptL|ptL|", "ptL|uutL|ptL|ptL|ptL|"] {
        let report = why(&clean, &run(words), None);
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(3)), "{words}: {}", report.verdict.text);
    }
}

#[test]
fn differences_just_beyond_noise() {
    let [a, control, within, beyond] = [0, 100, 199, 201].map(|off| run("eager", Mistake::Off(off)));
    let report = why(&a, &within, Some(&control));
    assert_eq!(verdict(&report), (Kind::Noise, None, Some(5)), "{}", report.verdict.text);
    let report = why(&a, &beyond, Some(&control));
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(5)), "{}", report.verdict.text);
    let said = "A differs from its control run as well (logits), but in less than from B";
    assert_eq!(evidence(&report, "control"), [said]);
    assert_eq!(report.first.unwrap().buffer, "logits");
    // The other way round as well, and no noise in a buffer in which the control has none.
    assert_eq!(why(&within, &a, Some(&run("eager", Mistake::Off(98)))).verdict.kind, Kind::Noise);
    assert_eq!(why(&a, &run("graph", Mistake::Stray), Some(&control)).verdict.kind, Kind::Unknown);
}

/// Memory that was filled before anybody named it: nothing in the log wrote it since.
#[test]
fn a_name_that_comes_after_the_bytes_is_no_stray_write() {
    for launches in [false, true] {
        let mut e = Engine::new("graph", 0x7f30_0000_0000, 0);
        e.launches = launches;
        let (_, pool) = e.segment(1024, None);
        let (state, weights) = (pool, pool + 256);
        let fill = Kernel {
            name: "fill".into(),
            args: vec![Arg::Pointer(weights)],
            grid: 1,
            effect: |m, p| (0..4).for_each(|i| m.set_f32(p[0], i, 0.5)),
        };
        let step = Kernel {
            name: "step".into(),
            args: vec![Arg::Pointer(state), Arg::Pointer(weights)],
            grid: 1,
            effect: |m, p| m.set_f32(p[0], 0, m.f32(p[0], 0) + m.f32(p[1], 0)),
        };
        e.watch("state", DType::F32, 4, state);
        e.launch(&fill);
        e.end_set_up();
        e.request(1, "", &[]);
        // Named after it was filled, and once more where other bytes are in between.
        e.watch("weights", DType::F32, 4, weights);
        for number in 1..=3 {
            e.begin(1, number);
            e.launch(&step);
            e.end();
            e.launch(&fill);
            e.watch("late", DType::F32, 4, weights);
        }
        e.end_set_up();
        let report = found(&e.finish());
        assert_eq!(report.findings, []);
    }
}

#[test]
fn what_checks_do_not_judge_in_runs_of_another_engine_is_said() {
    let not_judged = "uninitialised-read, stray-write (what its kernels read and write is not recorded); \
                      unordered-writers (how its host waits for streams is not recorded); \
                      op-faults, undersized-workspace (of ops that only twinstep's own engine has)";
    let trace = run("graph", Mistake::None);
    let report = found(&trace);
    let said = format!("these checks judge nothing in a run of another engine: {not_judged}");
    assert!(report.not_looked_at.contains(&said), "{:?}", report.not_looked_at);
    let of = |check: &str| report.not_looked_at.iter().filter(|note| note.starts_with(check)).count();
    assert_eq!(of("stray-write: "), 0, "said once, and not with counts of what it looked at");
    assert_eq!(info(&trace).unwrap().capabilities.check, format!("in part: all but {not_judged}"));
}

#[test]
fn recorded_runs_of_attached_programs() {
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("traces/samples/attached");
    let of = |name: &str| kinds(&Trace::open(&root.join(name)).unwrap());
    assert_eq!(of("cuda12.twin"), []);
    assert_eq!(of("graph-rebound.twin"), [Kind::UseAfterFree]);
}
