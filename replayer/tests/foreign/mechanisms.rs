//! What `explain` names of two runs of another engine, what is only possible, and what stays unknown.

use twinstep_replayer::Kind;
use twinstep_traces::{DType, Trace};

use crate::engine::copying::{Advances, Loop, Made};
use crate::engine::talker::{Mistake, Plan};
use crate::engine::{Arg, Engine, Kernel, Memory};
use crate::{eager_with_launches, evidence, kinds, run, verdict, why};

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

fn evidence_of_next(report: &twinstep_replayer::ExplainReport) -> Vec<String> {
    evidence(report, "next").into_iter().map(str::to_owned).collect()
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
    // What to do next: kernels of the eager run are asked for where they are not recorded.
    let wrong = run("graph", Mistake::Partial);
    for (a, count) in clean.iter().zip([3, 2, 3]) {
        let next = evidence_of_next(&why(a, &wrong, None));
        assert_eq!(next.len(), count, "{next:?}");
        assert!(next[1].starts_with("watch more buffers that feed logits"), "{next:?}");
        assert_eq!(next.last().unwrap().contains("attach --launches"), count == 3, "{next:?}");
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
    let report = why(&a, &b, None);
    assert_eq!(report.verdict.kind, Kind::Identical);
    let said = " Checks find 2 things in them, which had no effect on what was recorded.";
    assert!(report.verdict.text.ends_with(said), "{}", report.verdict.text);
    let clean = why(&run("eager", Mistake::None), &run("graph", Mistake::None), None);
    assert!(!clean.verdict.text.contains("Checks find"), "{}", clean.verdict.text);
    // Another mistake right after it, in one of them.
    let b = run("graph", Mistake::ReboundAndPartial);
    for report in [why(&a, &b, None), why(&b, &a, None)] {
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(5)), "{}", report.verdict.text);
        assert!(report.verdict.text.contains("both ran graph 0 (decode)"), "{}", report.verdict.text);
        assert_eq!(evidence(&report, "candidate"), [""; 0]);
    }
}

#[test]
fn a_mistake_in_a_request_that_has_another_number_or_comes_after_others() {
    let (w, y) = (("w", vec![9, 1]), ("y", vec![5, 6, 7]));
    let alone = |mode, mistake| Plan { requests: vec![y.clone()], ..Plan::new(mode, mistake) };
    let second = |mode, mistake| Plan {
        requests: vec![w.clone(), y.clone()],
        in_request: 2,
        ..Plan::new(mode, mistake)
    };
    let (a, b) = (alone("eager", Mistake::Rebound).record(), second("graph", Mistake::Rebound).record());
    let (of_a, of_b) = (why(&a, &b, None), why(&b, &a, None));
    assert_eq!(verdict(&of_a), (Kind::StaleBinding, Some("b"), Some(4)), "{}", of_a.verdict.text);
    assert_eq!(verdict(&of_b), (Kind::StaleBinding, Some("a"), Some(4)), "{}", of_b.verdict.text);
    assert_eq!((of_a.verdict.request, of_b.verdict.request), (Some(1), Some(2)));
    // Steps of a request that both have and one of them ends early come before what differs later.
    let short = Plan { steps: 3, ..alone("eager", Mistake::None) }.record();
    let report = why(&short, &b, None);
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(4)), "{}", report.verdict.text);
    assert!(report.verdict.text.contains("only B has request 2, step 4"), "{}", report.verdict.text);
}

#[test]
fn arguments_are_found_among_other_kernels_and_in_structures() {
    let eager = Plan { launches: true, ..Plan::new("eager", Mistake::None) };
    let graph = Plan::new("graph", Mistake::FrozenLength);
    let (a, b) =
        (Plan { extra: Some("embed"), ..eager.clone() }, Plan { extra: Some("attend"), ..graph.clone() });
    for (a, b) in [(&a, &b), (&a, &graph), (&eager, &b)] {
        for (report, side) in
            [(why(&a.record(), &b.record(), None), "b"), (why(&b.record(), &a.record(), None), "a")]
        {
            assert_eq!(
                verdict(&report),
                (Kind::FrozenArgument, Some(side), Some(2)),
                "{}",
                report.verdict.text
            );
            assert_eq!(report.verdict.arguments, ["sm90_attend parameter 3"]);
            assert_eq!(report.causes[0].patched, side);
            assert!(
                report.verdict.text.contains("is 1 in every step of this run"),
                "{}",
                report.verdict.text
            );
        }
    }
    // An address of the host changes from launch to launch as well, and is no value.
    let (a, b) = (Plan { packed: true, ..eager }, Plan { packed: true, ..graph });
    let report = why(&a.record(), &b.record(), None);
    assert_eq!(verdict(&report), (Kind::FrozenArgument, Some("b"), Some(2)), "{}", report.verdict.text);
    assert_eq!(report.verdict.arguments, ["sm90_attend parameter 3 byte 8"]);
    assert_eq!(evidence(&report, "argument"), ["sm90_attend parameter 3 byte 8 is 3 in A, 1 in B"]);
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
    let report = why(&clean[2], &wrong, None);
    let bound = "last_codes@0, hidden@0, kv@0, seq_len@0, mlp_out@0, logits@0";
    assert_eq!(
        evidence(&report, "located"),
        [
            "equal at step.before of step 5, not at step.after of step 5",
            "in between A ran graph 0 (decode)",
            &format!("graphs of A bind {bound}"),
            "in between B ran nothing that is recorded",
        ]
    );
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
    let ran = "A ran nothing that is recorded, B ran graph 1 (decode of another size)";
    assert!(report.verdict.text.contains(ran), "{}", report.verdict.text);
    let said = "possible, and not more, is wrong-dispatch in B; what";
    assert!(report.verdict.text.contains(said), "{}", report.verdict.text);
    // A graph that is captured for the step, or changed in place, and another one from then on may be meant; so may
    // kernels in a graph's place, which are not recorded.
    for (mistake, kind) in [
        (Mistake::Changed, "wrong-dispatch"),
        (Mistake::Switched, "wrong-dispatch"),
        (Mistake::FellBack, "missing-launch"),
    ] {
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
    // Zero in a structure is not even followed.
    let packed = |mode, mistake, launches| {
        Plan { packed: true, captured_length: 0, launches, ..Plan::new(mode, mistake) }.record()
    };
    let (a, b) = (packed("eager", Mistake::None, true), packed("graph", Mistake::FrozenLength, false));
    let report = why(&a, &b, None);
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
    assert_eq!(evidence(&report, "possible"), [""; 0]);
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
            let unused = "no graph of the step has its address";
            assert!(!report.verdict.text.contains(unused), "{}", report.verdict.text);
        }
    }
    // A value that the device advances is given to the launch before it is right, and needs no copy.
    let advances = |advances| Loop::new(Made { advances, ..Made::PLAIN }).run("tL|tL|tL|");
    let short = run("ptL|ptL|ptL|");
    for wrong in [advances(Advances::First), advances(Advances::Last)] {
        let report = why(&short, &wrong, None);
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
    }
    // A run that does not use it at all lacks nothing.
    let unread = Loop::new(Made { advances: Advances::Unread, ..Made::PLAIN }).run("tL|tL|tL|");
    let report = why(&short, &unread, None);
    assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
    let possible = evidence(&report, "possible");
    assert!(
        possible.len() == 1 && possible[0].ends_with("; no graph of the step has its address"),
        "{possible:?}"
    );
    // A race that a check finds.
    let report = why(&clean, &run("ptL|ptL|ptL|xtL|ptL|"), None);
    assert_eq!(verdict(&report), (Kind::UnorderedWriters, Some("b"), Some(5)), "{}", report.verdict.text);
    // Written ahead, or by something that is not recorded: the same values.
    assert_eq!(why(&clean, &run("ptLp|tLp|tLp|tLp|tL|"), None).verdict.kind, Kind::Identical);
    assert_eq!(why(&clean, &run("ptL|utL|utL|utL|utL|"), None).verdict.kind, Kind::Identical);
    // Something was not recorded, or wrote another value there: nobody lacks a copy.
    for words in ["ptL|gtL|ptL|ptL|ptL|", "ptL|dtL|ptL|ptL|ptL|", "ptL|uutL|ptL|ptL|ptL|"] {
        let report = why(&clean, &run(words), None);
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(3)), "{words}: {}", report.verdict.text);
    }
}

/// A loop that reads a row of a table by the host's position, eager or from a graph that kept the first step's row.
/// `named`: the table has a name. What the loop writes may lie in memory taken anew in each step.
fn reads_rows(graph: bool, base: u64, named: bool, fresh: bool, indirect: bool) -> Trace {
    const ROW: u64 = 64;
    fn read(memory: &mut Memory, args: &[u64]) {
        let value = memory.f32(args[1], 0);
        memory.set_f32(args[0], 0, value);
    }
    fn copy_out(memory: &mut Memory, args: &[u64]) {
        let value = memory.f32(args[1], 0);
        memory.set_f32(args[0], 0, 2.0 * value);
    }
    let mut e = Engine::new(if graph { "graph" } else { "eager" }, base, 0);
    e.launches = true;
    let (_, table) = e.segment(1024, None);
    let (_, scratch) = e.segment(16 * 512, None);
    let (_, results) = e.segment(512, None);
    if named {
        e.watch("table", DType::F32, 256, table);
    }
    e.watch("logits", DType::F32, 4, results);
    for row in 0..16 {
        e.memory.set_f32(table + row * ROW, 0, row as f32 + 1.0);
    }
    e.end_set_up();
    e.request(1, "r", &[1]);
    let mut captured = None;
    for step in 1..=8u32 {
        e.begin(1, step);
        let at = u64::from(step - 1);
        let hidden = scratch + if fresh { at * 512 } else { 0 };
        let kernel = |name: &str, to, from, effect| {
            // The graph's kernels may be given their place by a table of places instead.
            let places = if indirect && graph { Arg::Pointer(results) } else { Arg::Pointer(0) };
            let args = vec![Arg::Pointer(to), Arg::Pointer(from), places];
            Kernel { name: name.into(), args, grid: 1, effect }
        };
        let kernels = vec![
            kernel("read_row", hidden, table + at * ROW, read as fn(&mut Memory, &[u64])),
            kernel("norm", hidden + 256, hidden, read),
            kernel("head", results, hidden + 256, copy_out),
        ];
        e.point("forward.before");
        if graph {
            let exec = *captured.get_or_insert_with(|| e.capture("step", kernels));
            e.launch_graph(exec);
        } else {
            kernels.iter().for_each(|kernel| e.launch(kernel));
        }
        e.point("forward.after");
        e.end();
    }
    e.finish()
}

#[test]
fn a_slice_that_stays_where_it_was_at_capture() {
    for fresh in [false, true] {
        for named in [true, false] {
            let eager = reads_rows(false, 0x7f10_0000_0000, named, fresh, false);
            let graph = reads_rows(true, 0x7f55_0000_0000, named, fresh, false);
            let report = why(&graph, &eager, None);
            let said = if named { "candidate" } else { "possible" };
            let texts = evidence(&report, said);
            let slice = texts
                .iter()
                .find(|text| text.contains("read_row parameter 1"))
                .unwrap_or_else(|| panic!("{report:#?}"));
            assert!(slice.contains("64 bytes further at each step"), "{slice}");
            if named {
                assert_eq!(verdict(&report), (Kind::FrozenArgument, Some("a"), Some(2)), "{report:#?}");
                assert!(slice.contains("one place in table"), "{slice}");
            } else {
                assert_eq!(report.verdict.kind, Kind::Unknown, "{report:#?}");
                assert!(texts[0].contains("read_row"), "what moves alone comes first: {texts:?}");
            }
        }
    }
    let [eager, graph] = [false, true].map(|graph| {
        reads_rows(graph, if graph { 0x7f55_0000_0000 } else { 0x7f10_0000_0000 }, true, false, true)
    });
    let report = why(&graph, &eager, None);
    assert_eq!(report.verdict.kind, Kind::Unknown, "the address may not be in use: {report:#?}");
}
