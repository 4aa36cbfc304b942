//! Runs of another engine, as an attached process gives them: what checks, `diff`, `explain` and `history` say of
//! planted mistakes, and that they stay silent on clean runs.

#[path = "../engine/mod.rs"]
mod engine;

mod checks;
mod compare;
mod copies;
mod mechanisms;
mod serving;

use engine::talker::{Mistake, Plan};
use twinstep_replayer::{
    CheckReport, ExplainOptions, ExplainReport, Kind, WeightFiles, check, explain, info,
};
use twinstep_traces::Trace;

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

/// What `explain` says of a pair: kind, side, step.
fn verdict(report: &ExplainReport) -> (Kind, Option<&'static str>, Option<u32>) {
    (report.verdict.kind, report.verdict.side, report.verdict.step)
}

/// Texts of evidence of a sort.
fn evidence<'a>(report: &'a ExplainReport, what: &str) -> Vec<&'a str> {
    report.evidence.iter().filter(|e| e.what == what).map(|e| e.text.as_str()).collect()
}

#[test]
fn recorded_runs_of_attached_programs() {
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("traces/samples/attached");
    let of = |name: &str| kinds(&Trace::open(&root.join(name)).unwrap());
    assert_eq!(of("cuda12.twin"), []);
    assert_eq!(of("graph-rebound.twin"), [Kind::UseAfterFree]);
}

#[test]
fn what_checks_do_not_judge_in_runs_of_another_engine_is_said() {
    let not_judged = "uninitialised-read, stray-write (what its kernels read and write is not recorded); \
                      unordered-writers (but for copies that come too late by what snapshots show: how its host waits for streams is not recorded); \
                      op-faults, undersized-workspace (of ops that only twinstep's own engine has)";
    let trace = run("graph", Mistake::None);
    let report = found(&trace);
    let said = format!("in a run of another engine, what these checks are for: {not_judged}");
    assert!(report.not_looked_at.contains(&said), "{:?}", report.not_looked_at);
    let of = |check: &str| report.not_looked_at.iter().filter(|note| note.starts_with(check)).count();
    assert_eq!(of("stray-write: "), 0, "said once, and not with counts of what it looked at");
    assert_eq!(info(&trace).unwrap().capabilities.check, format!("in part: all but {not_judged}"));
}
