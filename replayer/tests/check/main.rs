//! Each check on a small trace that has the mistake, and on its twin that has not.

#[path = "../fixture/mod.rs"]
mod fixture;
mod foreign;
mod graphs;
mod host_writes;
mod memory;
mod streams;
mod values;

use std::path::{Path, PathBuf};

use twinstep_replayer::{CheckReport, Finding, check, check_explanation, check_names};
use twinstep_traces::Trace;

/// Check, request, step, node and buffer of each finding.
type Found<'a> = Vec<(&'a str, u32, u32, Option<u32>, Option<&'a str>)>;

fn found(report: &CheckReport) -> Found<'_> {
    let place = |f: &'_ Finding| (f.request, f.step, f.node);
    report
        .findings
        .iter()
        .map(|f| (f.check.as_str(), place(f).0, place(f).1, place(f).2, f.buffer.as_deref()))
        .collect()
}

#[track_caller]
fn clean(trace: &Trace) {
    let report = check(trace).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// The only finding.
#[track_caller]
fn one(trace: &Trace) -> Finding {
    let report = check(trace).unwrap();
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    report.findings[0].clone()
}

fn samples() -> Vec<(PathBuf, Trace)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("traces/samples");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "twin"));
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), Trace::open(&p).unwrap())).collect()
}

#[test]
fn recorded_samples_without_a_mistake_have_no_findings() {
    let mut clean_samples = 0;
    for (path, trace) in samples() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.contains("unlaunched") {
            continue;
        }
        // Recorded on a GPU: buffers that a graph binds although their names mean others by then.
        for (mistake, found) in [("codes-reallocated", "stale-binding"), ("pool-aliasing", "aliased-memory")]
        {
            if name.contains(mistake) {
                let report = check(&trace).unwrap();
                let first = report.findings.first().unwrap_or_else(|| panic!("{name}: nothing found"));
                assert_eq!((first.request, first.step, first.graph), (1, 2, Some(0)), "{name}: {first:?}");
                assert!(report.findings.iter().all(|f| f.check == found), "{name}: {:#?}", report.findings);
            }
        }
        if name.contains("codes-reallocated") || name.contains("pool-aliasing") {
            continue;
        }
        // Nothing in the log alone says that the host should have written `last_codes`: a rule does.
        let report = check(&trace).unwrap();
        assert!(report.findings.is_empty(), "{name}: {:#?}", report.findings);
        clean_samples += 1;
    }
    assert!(clean_samples >= 7);
}

#[test]
fn the_recorded_unlaunched_capture_is_found_in_every_layer_and_nothing_else() {
    let (_, trace) =
        samples().into_iter().find(|(p, _)| p.ends_with("piecewise-unlaunched-capture.twin")).unwrap();
    let report = check(&trace).unwrap();
    let names: Vec<String> = (0..6).map(|i| format!("layer.{i}.mlp_out@0")).collect();
    let expected: Found<'_> = names
        .iter()
        .zip(0..)
        .map(|(name, i)| ("unlaunched-capture", 1, 2, Some(13 + 12 * i), Some(name.as_str())))
        .collect();
    assert_eq!(found(&report), expected);
}

#[test]
fn every_check_explains_itself() {
    let names: Vec<&str> = check_names().collect();
    assert_eq!(names.len(), 13);
    for name in names {
        let text = check_explanation(name).unwrap();
        assert!(text.contains("Seen in: ") && text.contains("Confirm: `twinstep "), "{name}");
        assert!(text.lines().all(|l| l.len() <= 112), "{name}");
    }
    assert!(check_explanation("no-such-check").is_none());
}
