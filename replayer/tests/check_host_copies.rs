//! Copies from the host before the graphs of another engine, missing, late and elsewhere: found where they are, and
//! nothing where a loop is sound, however it goes about it.

mod engine;

use engine::Engine;
use engine::copying::{Advances, Loop, Made};
use twinstep_replayer::{CheckReport, Kind, check};
use twinstep_traces::DType;

fn report(words: &str) -> CheckReport {
    check(&Loop::new(Made::PLAIN).run(words)).unwrap()
}

#[track_caller]
fn clean(words: &str) {
    let report = report(words);
    assert!(report.findings.is_empty(), "{words}: {:#?}", report.findings);
}

/// The only finding: its kind, step and buffer.
#[track_caller]
fn one(words: &str, kind: Kind, step: u32, buffer: &str) -> String {
    let report = report(words);
    let found: Vec<_> =
        report.findings.iter().map(|f| (f.kind, f.step, f.buffer.as_deref().unwrap_or(""))).collect();
    assert_eq!(found, [(kind, step, buffer)], "{words}: {:#?}", report.findings);
    let finding = &report.findings[0];
    assert_eq!((finding.check.as_str(), finding.graph, finding.node), (kind.name(), Some(0), Some(0)));
    finding.message.clone()
}

#[test]
fn a_copy_that_came_in_every_step_and_then_not() {
    let message = one("ptL|ptL|ptL|tL|ptL|", Kind::MissingHostWrite, 5, "position@0");
    assert_eq!(
        message,
        "graph 0 node 0 (decode) parameter 0 binds position@0, to which the host copied another value in each of 3 \
         decode steps before, and nothing in this one"
    );
    // The only input.
    one("pL|pL|pL|L|pL|", Kind::MissingHostWrite, 5, "position@0");
    // Written ahead, in the step before.
    one("ptLp|tLp|tLp|tLp|tL|tLp|tL|", Kind::MissingHostWrite, 7, "position@0");
    // A kernel that is given the position in every step does not write it.
    one("kptL|kptL|kptL|ktL|kptL|", Kind::MissingHostWrite, 5, "position@0");
    // Steps of another graph and of another request come in between.
    one("ptL|M|ptL|ptL|ptL|tL|ptL|", Kind::MissingHostWrite, 7, "position@0");
}

/// Inputs of which it is told that a copy lacked and may have been due.
fn unknown(words: &str) -> usize {
    report(words).not_looked_at.iter().filter(|n| n.ends_with("whether it was due is not known")).count()
}

#[test]
fn a_copy_that_comes_no_more_may_not_be_due() {
    // The trace ends, another graph comes, and so does nothing.
    for words in ["ptL|ptL|ptL|tL|", "ptL|ptL|ptL|tL|ptM|ptM|", "ptL|ptL|ptL|tL|tL|tL|ptL|ptL|ptL|"] {
        clean(words);
        assert_eq!(unknown(words), 1, "{words}");
    }
    // A prefill in between is no launch of a decode step.
    one("ptL|ptL|ptL|tL|PptL|ptL|", Kind::MissingHostWrite, 5, "position@0");
    assert_eq!(unknown("ptL|ptL|ptL|tL|ptL|"), 0);
}

#[test]
fn two_of_three_steps_are_no_rule() {
    clean("ptL|ptL|tL|ptL|");
    clean("tL|tL|ptL|ptL|tL|tL|tL|");
    // The count begins anew with a request, a prefill, another graph, a gap.
    clean("ptL|ptL|ptL|QtL|tL|");
    clean("ptL|ptL|ptL|PtL|tL|");
    clean("ptL|ptL|ptL|M|tL|tL|");
    clean("ptL|ptL|ptL|gtL|tL|");
    clean("ptL|ptL|gptL|tL|tL|");
    clean("ptL|ptL|ptL|RtL|tL|");
}

#[test]
fn sound_loops() {
    // In order, ahead, twice a step, now and then, always the same.
    clean("ptL|ptL|ptL|ptL|ptL|ptL|");
    clean("ptLpt|Lpt|Lpt|Lpt|Lpt|L|");
    clean("ptLpLt|pLpLt|pLpLt|pLpLt|pLpL|");
    clean("ptL|tL|tL|ptL|tL|tL|ptL|");
    clean("ptL|stL|stL|stL|tL|tL|");
    // Somebody else writes: on the device, by a kernel that is not recorded, by one that is and was not before.
    clean("ptL|ptL|ptL|dtL|ptL|");
    clean("ptL|ptL|ptL|utL|ptL|");
    clean("ptL|ptL|ptL|ktL|ptL|");
    // A change to ahead is none to late.
    clean("ptL|ptL|ptL|ptLp|tLp|tLp|tL|");
    // A ring of rows: another one each time, and then none.
    clean("rtL|rtL|rtL|tL|rtL|tL|");
    // Two sizes by turns.
    clean("ptL|ptM|ptL|ptM|ptL|ptM|");
    clean("ptL|ptM|ptL|ptM|tL|tM|");
    // The graph is not launched.
    clean("ptL|ptL|ptL|t|ptL|");
}

#[test]
fn what_the_graph_advances_itself_needs_no_copy() {
    let trace = Loop::new(Made { advances: Advances::Last, ..Made::PLAIN }).run("ptL|ptL|ptL|tL|tL|");
    assert_eq!(check(&trace).unwrap().findings, []);
}

#[test]
fn what_the_graph_changes_at_times_is_no_series() {
    // The graph left it alone once, after the copies of other values.
    let trace = Loop::new(Made { advances: Advances::UpTo4, ..Made::PLAIN }).run("ptL|ptL|ptL|ptL|tL|");
    assert_eq!(check(&trace).unwrap().findings, []);
    // Left alone in each of three steps, it is one.
    let trace =
        Loop::new(Made { advances: Advances::UpTo4, ..Made::PLAIN }).run("ptL|ptL|ptL|ptL|ptL|ptL|tL|ptL|");
    assert_eq!(check(&trace).unwrap().findings.len(), 1);
}

#[test]
fn two_names_of_the_same_memory_are_one_input() {
    let trace = Loop::new(Made { alias: true, ..Made::PLAIN }).run("ptL|ptL|ptL|tL|ptL|");
    let findings = check(&trace).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:#?}");
}

#[test]
fn more_buffers_than_are_followed_are_said() {
    for (count, said) in [(4096, 0), (4097, 1)] {
        let mut e = Engine::new("graph", 0x7f20_0000_0000, 0);
        let (_, pool) = e.segment(1 << 15, None);
        for i in 0..count {
            e.watch(&format!("input.{i}"), DType::I32, 1, pool + 4 * i);
        }
        e.host_copy(pool, &vec![0; 4 * count as usize]);
        e.end_set_up();
        let report = check(&e.finish()).unwrap();
        let notes =
            report.not_looked_at.iter().filter(|n| n.contains("more buffers that the host copies to"));
        assert_eq!(notes.count(), said, "{count}");
    }
}

#[test]
fn a_step_without_any_copy_is_a_dummy_run() {
    let report = report("ptL|ptL|ptL|L|ptL|");
    assert_eq!(report.findings, []);
    let said = report.not_looked_at.iter().filter(|n| n.contains("in step 5: the host copies nothing there"));
    assert_eq!(said.count(), 2, "{:?}", report.not_looked_at);
    // So with another graph that is launched first, as long as nothing is copied before that either.
    clean("ptOL|ptOL|ptOL|OL|ptOL|");
    one("ptOL|ptOL|ptOL|tOL|ptOL|", Kind::MissingHostWrite, 5, "position@0");
}

#[test]
fn a_copy_that_comes_after_the_launch() {
    let message = one("ptL|ptL|ptL|tLp|ptL|", Kind::LateHostWrite, 5, "position@0");
    assert_eq!(
        message,
        "graph 0 node 0 (decode) parameter 0 binds position@0, to which the host copies only afterwards; in each of 3 \
         decode steps before, it copied another value there first"
    );
    one("pL|pL|pL|Lp|pL|", Kind::LateHostWrite, 5, "position@0");
    // From then on it is ahead.
    one("ptL|ptL|ptL|tLp|tLp|tLp|tL|", Kind::LateHostWrite, 5, "position@0");
    // Where steps are guessed, the copy is counted to the next step.
    one("ptL|ptL|ptL|tL|pptL|ptL|", Kind::LateHostWrite, 5, "position@0");
    // One copy of two.
    one("pptL|pptL|pptL|tLp|pptL|", Kind::MissingHostWrite, 5, "position@0");
}

#[test]
fn a_copy_that_goes_elsewhere() {
    let message = one("ptL|ptL|ptL|mptL|ptL|", Kind::StaleBinding, 5, "position@0");
    let elsewhere = "in this one it copies as much to 0x7f2000000600 instead, where it never did";
    assert!(message.ends_with(elsewhere), "{message}");
    // In another order it may be another input, and nothing comes to this one any more.
    clean("ptL|ptL|ptL|mtpL|ptL|");
    assert_eq!(unknown("ptL|ptL|ptL|mtpL|ptL|"), 1);
    // What has a name is told by that.
    let message = one("ptL|ptL|ptL|nptL|ptL|", Kind::StaleBinding, 5, "position@0");
    assert!(message.contains("but position is position@1 since step 5"), "{message}");
    let message = one("ptL|ptL|ptL|ftL|tL|", Kind::UseAfterFree, 5, "position@0");
    assert!(message.contains("whose memory was given back in step 5"), "{message}");
}

#[test]
fn a_copy_on_another_stream_that_the_launch_does_not_wait_for() {
    let message = one("ytL|ytL|ytL|xtL|ytL|", Kind::UnorderedWriters, 5, "position@0");
    assert_eq!(
        message,
        "graph 0 node 0 (decode) parameter 0 binds position@0, to which the host copies on stream 1; the launch on stream \
         0 was given what the one before it had, and the copy took effect while it ran"
    );
    clean("ytL|ytL|ytL|ytL|ytL|");
    // Once in three steps is enough to be seen, and not enough to be expected.
    clean("ytL|ytL|xtL|ytL|ytL|");
    // On the launch's own stream it is the graph that changes it.
    clean("ptL|ptL|ptL|ztL|ptL|");
    // The graph advances it itself now and then, and was given another value.
    let made = Made { advances: Advances::Last, ..Made::PLAIN };
    assert_eq!(check(&Loop::new(made).run("ytL|ytL|ytL|xtL|ytL|")).unwrap().findings, []);
}

#[test]
fn what_no_snapshot_shows_is_not_judged() {
    let trace = Loop::new(Made { watched: false, ..Made::PLAIN }).run("ptL|ptL|ptL|tL|ptL|");
    assert_eq!(check(&trace).unwrap().findings, []);
}
