//! Host copies of serving engines: sound ones accuse nobody, whatever they copy when; one copy that is left out is found.

use twinstep_replayer::{CheckReport, Finding, Kind};
use twinstep_traces::{DType, StepKind};

use crate::engine::copying::{Loop, Made};
use crate::engine::{Arg, Engine, Kernel};
use crate::serving::{Dummy, INPUTS, Policy, Served};
use crate::{found, verdict, why};

/// Not of any seed: a single count that is copied where it has changed can look like a position, in one of some ten
/// thousand runs.
#[test]
fn sound_engines_accuse_nobody() {
    for seed in 0..1000 {
        let plan = Served::random(seed);
        let findings = found(&plan.record().0).findings;
        assert!(findings.is_empty(), "{plan:?}: {findings:#?}");
    }
}

/// Findings of missing copies in one step: of how many runs in which the copy mattered.
fn found_of(input: usize, plan: impl Fn(u64) -> Served, seeds: std::ops::Range<u64>) -> (usize, usize) {
    let (mut planted, mut right) = (0, 0);
    for seed in seeds {
        let plan = plan(seed);
        let launch = plan.omitted.unwrap().0;
        let (trace, harmful) = plan.record();
        let findings = found(&trace).findings;
        let is_it = |f: &Finding| {
            let name = f.buffer.as_deref().unwrap_or("").split('@').next();
            f.kind == Kind::MissingHostWrite && f.step == launch + 1 && name == Some(INPUTS[input].0)
        };
        assert!(findings.iter().all(is_it), "{plan:?}: {findings:#?}");
        planted += usize::from(harmful);
        right += usize::from(harmful && !findings.is_empty());
    }
    (right, planted)
}

/// A run of 40 launches in which the copy of an input is left out before one of them.
fn left_out(input: usize, seed: u64) -> Served {
    let launch = 8 + seed as u32 % 30;
    Served { omitted: Some((launch, input)), block: [1, 4, 16][seed as usize % 3], ..Served::plain(seed, 40) }
}

#[test]
fn one_copy_that_is_left_out_is_found() {
    let (positions, seq_lens, slots) = (1, 2, 3);
    for input in [positions, seq_lens] {
        let (right, planted) = found_of(input, |seed| left_out(input, seed), 0..140);
        assert!(right == planted && planted == 140, "{right} of {planted}");
        // Beside tables that are copied where they changed.
        let dirty = |seed| {
            let mut plan = left_out(input, seed);
            plan.policies[4..].fill(Policy::Dirty);
            plan
        };
        let (right, planted) = found_of(input, dirty, 0..140);
        // A table that goes on by one by chance says that it was a dummy run.
        assert!(right * 20 >= planted * 19 && planted == 140, "{right} of {planted}");
    }
    // Slots go on by one but at the end of a block.
    let (right, planted) = found_of(slots, |seed| Served { block: 16, ..left_out(slots, seed) }, 0..140);
    assert!(right * 4 >= planted * 3 && planted == 140, "{right} of {planted}");
}

#[test]
fn a_token_that_is_left_out_is_found_after_many_that_were_not() {
    let tokens = 0;
    let plan =
        |seed: u64| Served { omitted: Some((34 + seed as u32 % 20, tokens)), ..Served::plain(seed, 60) };
    let (right, planted) = found_of(tokens, plan, 0..60);
    assert!(right == planted && planted == 60, "{right} of {planted}");
    // A host that compares what it copies leaves one out where it is the same.
    let careful = |seed: u64| Served { policies: [Policy::Dirty; 8], ..plan(seed) };
    assert_eq!(found_of(tokens, careful, 0..60).0, 0);
}

#[test]
fn one_copy_for_all_inputs_that_is_left_out_is_one_mistake() {
    for seed in 0..20 {
        let plan = Served { staging: true, ..left_out(1, seed) };
        let findings = found(&plan.record().0).findings;
        let one = findings.len() == 1 && findings[0].kind == Kind::MissingHostWrite;
        assert!(one, "{plan:?}: {findings:#?}");
    }
}

#[test]
fn dummy_runs_that_copy_some_of_the_inputs() {
    for what in [Dummy::Nothing, Dummy::SeqLens, Dummy::SeqLensAndSlots] {
        for seed in 0..40 {
            let plan = Served { dummies: (10, what), ..Served::plain(seed, 40) };
            let findings = found(&plan.record().0).findings;
            assert!(findings.is_empty(), "{plan:?}: {findings:#?}");
        }
    }
    // A copy that is left out between dummy runs is found all the same, where steps enough go before it.
    let plan = |seed: u64| Served { dummies: (3, Dummy::SeqLens), ..left_out(1, seed) };
    let found = (0..140).filter(|&seed| found(&plan(seed).record().0).findings.len() == 1).count();
    assert!(found > 80, "{found} of 140");
}

#[test]
fn tables_that_are_copied_where_they_changed() {
    for seed in 0..200 {
        let mut plan = Served { arrivals: [0, 5, 20][seed as usize % 3], ..Served::plain(seed, 60) };
        plan.block = [1, 4, 16][seed as usize / 3 % 3];
        plan.policies[4..].fill([Policy::Dirty, Policy::DirtyRows][seed as usize % 2]);
        let findings = found(&plan.record().0).findings;
        assert!(findings.is_empty(), "{plan:?}: {findings:#?}");
    }
}

/// Launches of a graph, each with what the host copies before it: a position, and two counts that are equal; and
/// always a token.
fn launches(all: impl IntoIterator<Item = (Option<i32>, Option<i32>)>) -> CheckReport {
    let mut e = Engine::new("graph", 0x7f20_0000_0000, 0);
    e.around_graphs = true;
    let (_, pool) = e.segment(512, None);
    let (token, position, counts, out) = (pool, pool + 64, pool + 128, pool + 192);
    for (name, words, address) in
        [("token", 1, token), ("position", 1, position), ("counts", 2, counts), ("out", 1, out)]
    {
        e.watch(name, DType::I32, words, address);
    }
    let args = [token, position, counts, out].map(Arg::Pointer).to_vec();
    let kernel = Kernel {
        name: "decode".into(),
        args,
        grid: 1,
        effect: |m, p| m.set_i32(p[3], m.i32(p[3]) + m.i32(p[0]) + m.i32(p[1]) + m.i32(p[2])),
    };
    let graph = e.capture("decode", vec![kernel]);
    e.end_set_up();
    e.request(1, "", &[]);
    for (step, (at, count)) in (1..).zip(all) {
        e.open(StepKind::Decode, 1, step);
        e.host_copy(token, &7i32.to_le_bytes());
        if let Some(at) = at {
            e.host_copy(position, &at.to_le_bytes());
        }
        if let Some(count) = count {
            e.host_copy(counts, &[count.to_le_bytes(), count.to_le_bytes()].concat());
        }
        e.launch_graph(graph);
        e.close();
    }
    found(&e.finish())
}

/// Buffers of findings, and how many inputs lacked a copy that may have been due.
fn accused(report: &CheckReport) -> (Vec<&str>, usize) {
    let buffers = report.findings.iter().filter_map(|f| f.buffer.as_deref()).collect();
    let unknown = report.not_looked_at.iter().filter(|n| n.ends_with("whether it was due is not known"));
    (buffers, unknown.count())
}

#[test]
fn several_copies_that_lack_at_one_launch() {
    // What launch 11 lacks, and where it goes on.
    let run = |position: i32, count: i32| {
        launches((1..=20).map(|i| match i {
            11 => (None, None),
            12.. => (Some(i + position), Some(10 * (i + count))),
            _ => (Some(i), Some(10 * i)),
        }))
    };
    // A dummy run, and whatever it is that counts in leaps.
    assert_eq!(accused(&run(-1, -1)), (vec![], 2));
    assert_eq!(accused(&run(0, -1)), (vec![], 2), "one says that it was a dummy run");
    assert_eq!(accused(&run(-1, 0)), (vec![], 2));
    // Two that are forgotten at once are not told from that; one that alone stands out is.
    assert_eq!(accused(&run(0, 0)), (vec![], 2));
    assert_eq!(accused(&run(0, 5)), (vec!["position@0"], 1));
}

#[test]
fn a_count_that_stays_at_times_and_leaps_then() {
    let mut count = 0;
    // Up by 1 five times, not at all and not copied, up by 2.
    let all: Vec<_> = (0..42)
        .map(|i| {
            count += [1, 1, 1, 1, 1, 0, 2][i as usize % 7];
            (Some(i), (i % 7 != 5).then_some(count))
        })
        .collect();
    assert_eq!(accused(&launches(all.clone())), (vec![], 1));
    // Once in the run it is a copy that is missing.
    assert_eq!(accused(&launches(all.into_iter().take(9))).0, ["counts@0"]);
}

#[test]
fn more_copies_than_are_followed_are_said() {
    for (names, said) in [(2, 0), (4096, 1)] {
        let mut e = Engine::new("graph", 0x7f20_0000_0000, 0);
        let (_, pool) = e.segment(512, None);
        for i in 0..names {
            e.watch(&format!("input.{i}"), DType::I32, 1, pool);
        }
        e.end_set_up();
        e.request(1, "", &[]);
        for step in 1..=60 {
            e.open(StepKind::Decode, 1, step);
            (0..100).for_each(|_| e.host_copy(pool, &[0; 4]));
            e.close();
        }
        let report = found(&e.finish());
        assert_eq!(report.findings, []);
        let notes = report.not_looked_at.iter().filter(|n| n.contains("there are too many to follow"));
        assert_eq!(notes.count(), said, "{:?}", report.not_looked_at);
    }
}

#[test]
fn a_copy_between_two_graphs_of_a_step_is_in_time() {
    let run = |words: &str| Loop::new(Made::PLAIN).run(words);
    // Another graph comes first, and the copy before the one that reads it; the other run copies before both.
    let (early, between) = (run("ptOL|ptOL|ptOL|ptOL|"), run("tOpL|tOpL|tOpL|tOpL|"));
    for (a, b) in [(&early, &between), (&between, &early)] {
        let report = why(a, b, None);
        assert_eq!(verdict(&report), (Kind::Unknown, None, Some(2)), "{}", report.verdict.text);
        let accused = report.evidence.iter().filter(|e| e.text.contains("host-write")).count();
        assert_eq!(accused, 0, "{:#?}", report.evidence);
    }
    // After the one that reads it, it is late; so it is where the other graph comes last.
    for (clean, wrong, kind) in [
        ("ptOL|ptOL|ptOL|ptOL|", "tOLp|tOLp|tOLp|tOLp|", Kind::LateHostWrite),
        ("ptLO|ptLO|ptLO|ptLO|", "tLpO|tLpO|tLpO|tLpO|", Kind::LateHostWrite),
        ("ptOL|ptOL|ptOL|ptOL|", "tOL|tOL|tOL|tOL|", Kind::MissingHostWrite),
    ] {
        let (clean, wrong) = (run(clean), run(wrong));
        for (report, side) in [(why(&clean, &wrong, None), "b"), (why(&wrong, &clean, None), "a")] {
            assert_eq!(verdict(&report), (kind, Some(side), Some(2)), "{}", report.verdict.text);
        }
    }
}

/// Not a test of its own: the figures behind the check's thresholds. `FROM=SEED COUNT=N cargo test --test foreign -- --ignored --nocapture figures`
#[test]
#[ignore = "prints figures"]
fn figures() {
    let number = |name: &str, or: u64| std::env::var(name).map_or(or, |n| n.parse().unwrap());
    let (from, count) = (number("FROM", 0), number("COUNT", 2000));
    let mut falsely: std::collections::BTreeMap<String, u64> = Default::default();
    let mut runs = 0;
    for seed in from..from + count {
        let findings = found(&Served::random(seed).record().0).findings;
        runs += u64::from(!findings.is_empty());
        for f in findings {
            println!("{:?} step {} {}", Served::random(seed), f.step, f.message);
            *falsely.entry(format!("{} {:?}", f.check, f.buffer)).or_default() += 1;
        }
    }
    println!("sound: {runs} of {count} runs accused: {falsely:#?}");
    for (input, (name, _)) in INPUTS.iter().enumerate().take(4) {
        let (right, planted) = found_of(input, |seed| left_out(input, seed), from..from + count / 4);
        println!("{name}: {right} of {planted} found");
    }
}
