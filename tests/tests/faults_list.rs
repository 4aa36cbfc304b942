//! Every planted fault shows where it says it does, replays, and leaves no word of itself in the trace.

use std::path::Path;

use serde_json::Value;
use twinstep_replayer::Kind;
use twinstep_tests::{record, twinstep};

const SHORT: &str = "good night.";
/// Two requests, the second shorter than the first.
const TWO: &str = "thank you very much. good night.";
/// Prompt and 40 steps go beyond 64 positions.
const MIDDLE: &str = "the weather is nice today.";
/// Prompt and 106 steps go beyond 192 positions.
const LONG: &str =
    "they have been working on this problem for many years and the company will announce it now.";
const SAMPLED: [&str; 6] = ["--temperature", "1.5", "--top-k", "50", "--seed", "7"];

fn faults(folder: &Path) -> Vec<Value> {
    let document = twinstep(folder, &["dev", "faults", "--json"]).expect(0).json();
    assert_eq!(document["schema"], "twinstep.dev-faults/1");
    document["faults"].as_array().expect("a list").clone()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// What to say, and for how many steps, for a fault to show.
fn speech(fault: &Value) -> (&'static str, &'static str) {
    match text(&fault["name"]) {
        "workspace-capped" => (MIDDLE, "40"),
        "reduction-order" => (LONG, "106"),
        _ if fault["needs"]["requests"] == 2 => (TWO, "8"),
        _ => (SHORT, "8"),
    }
}

fn arguments<'a>(fault: &Value, sampled: bool, steps: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["--max-steps", steps, "--context", "256"];
    if fault["needs"]["batch"] != 2 {
        arguments.extend(["--batch", "1"]);
    }
    if sampled {
        arguments.extend(SAMPLED);
    }
    arguments
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

fn check(folder: &Path, fault: &Value, sampled: bool) {
    let (name, (said, steps)) = (text(&fault["name"]), speech(fault));
    let mut faulty = arguments(fault, sampled, steps);
    let clean = format!("clean-{steps}-{}-{}.twin", said.len(), faulty.len());
    if !folder.join(&clean).exists() {
        record(folder, &clean, said, &faulty);
    }
    let mode = fault["needs"]["mode"].as_str().unwrap_or("graph");
    faulty.extend(["--mode", mode, "--fault", name, "--force"]);
    record(folder, "faulty.twin", said, &faulty);

    let same = name == "graph-never-engaged";
    let diff = twinstep(folder, &["diff", "faulty.twin", &clean, "--json"]);
    let diff = diff.expect(i32::from(!same)).json();
    assert_eq!(diff["identical"], same, "{name}: {diff}");
    let steps = |at: &str| twinstep(folder, &["step", "faulty.twin", "--at", at, "--json"]).expect(0).json();
    assert_eq!((&steps("2")["self_check"], &steps("3")["self_check"]), (&"equal".into(), &"equal".into()));
    let verify = twinstep(folder, &["verify", "--replay", "faulty.twin", "--json"]);
    assert_eq!(verify.expect(0).json()["ok"], true, "{name}");

    let bytes = std::fs::read(folder.join("faulty.twin")).unwrap();
    for word in [name, &name.replace('-', "_"), &name.replace('-', " "), "--fault", "planted"] {
        assert!(!holds(&bytes, word), "{name}: the trace says `{word}`");
    }
    record(folder, "again.twin", said, &faulty);
    assert!(bytes == std::fs::read(folder.join("again.twin")).unwrap(), "{name}: another trace next time");
}

fn check_all(sampled: bool) {
    let folder = tempfile::tempdir().unwrap();
    let faults = faults(folder.path());
    assert!(faults.len() >= 24, "{} faults", faults.len());
    for fault in faults.iter().filter(|fault| sampled || fault["needs"]["sampled"] == false) {
        check(folder.path(), fault, sampled);
    }
}

#[test]
fn every_fault_shows_and_replays_greedy() {
    check_all(false);
}

#[test]
fn every_fault_shows_and_replays_sampled() {
    check_all(true);
}

#[test]
fn descriptions_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let faults = faults(folder.path());
    let mut names: Vec<&str> = faults.iter().map(|fault| text(&fault["name"])).collect();
    let lines = twinstep(folder.path(), &["dev", "faults"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), faults.len());
    for (fault, line) in faults.iter().zip(lines.lines()) {
        let (name, kind, sentence) = (text(&fault["name"]), text(&fault["kind"]), text(&fault["sentence"]));
        assert!(Kind::ALL.iter().any(|k| k.name() == kind), "{name}: no kind `{kind}`");
        assert!(["graph", "piecewise", "both"].contains(&text(&fault["side"])), "{fault}");
        assert!(sentence.ends_with('.') && !text(&fault["report"]).is_empty(), "{fault}");
        assert!(line.starts_with(name) && line.contains(kind) && line.ends_with(sentence), "{line}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), faults.len(), "names are unique");
}

#[test]
fn a_record_call_that_a_fault_cannot_show_in_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut refusals = 0;
    for fault in faults(folder) {
        let (name, needs) = (text(&fault["name"]), &fault["needs"]);
        let mode = needs["mode"].as_str().unwrap_or("graph");
        let good =
            ["--mode", mode, "--batch", "2", "--temperature", "1", "--text", TWO, "--max-steps", "200"];
        let other = |option: &str, value: &'static str| {
            let at = good.iter().position(|word| *word == option).expect("one of them");
            let mut arguments = good;
            arguments[at + 1] = value;
            arguments
        };
        let mut bad = Vec::new();
        if needs["mode"].is_string() {
            bad.push((other("--mode", "eager"), format!("--mode {mode}")));
        }
        if needs["batch"] == 2 {
            bad.push((other("--batch", "1"), "--batch 2".to_owned()));
        }
        if needs["sampled"] == true {
            bad.push((other("--temperature", "0"), "--temperature".to_owned()));
        }
        if needs["requests"] == 2 {
            bad.push((other("--text", SHORT), "2 sentences".to_owned()));
        }
        if needs["positions"].as_u64() > Some(1) {
            bad.push((other("--max-steps", "4"), format!("{} positions", needs["positions"])));
        }
        for (arguments, needed) in bad {
            let arguments = [&["record", "-o", "out.twin", "--fault", name][..], &arguments].concat();
            let run = twinstep(folder, &arguments).expect(2);
            assert_eq!((run.stderr.lines().count(), run.stdout.as_str()), (1, ""), "{run:?}");
            assert!(run.stderr.contains(name) && run.stderr.contains(&needed), "{run:?}");
            assert!(!folder.join("out.twin").exists(), "{name}: something was written");
            refusals += 1;
        }
    }
    assert!(refusals > 25, "{refusals}");
}

/// Eager and graph runs that make the same mistake agree; both differ from a correct run.
#[test]
fn a_mistake_in_both_modes_is_seen_by_no_comparison_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let wrong = |name: &str, mode| {
        record(folder, name, SHORT, &["--max-steps", "8", "--mode", mode, "--fault", "in-both"]);
    };
    record(folder, "clean.twin", SHORT, &["--max-steps", "8"]);
    wrong("eager.twin", "eager");
    wrong("graph.twin", "graph");
    twinstep(folder, &["diff", "eager.twin", "graph.twin"]).expect(0);
    twinstep(folder, &["diff", "eager.twin", "clean.twin"]).expect(1);
}

/// Two at once are not one of them, and replay.
#[test]
fn two_faults_together() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pairs = [
        ["stale-codes", "seq-len-baked"],
        ["pool-aliasing", "shared-pool"],
        ["rope-table-replaced", "table-freed"],
        ["wrong-graph", "shared-pool"],
        ["nan-in-padding", "rng-not-advanced"],
    ];
    let arguments = ["--max-steps", "6", "--batch", "2", "--mode", "graph"];
    for pair in pairs {
        for (name, faults) in [("a.twin", &pair[..1]), ("b.twin", &pair[1..]), ("both.twin", &pair[..])] {
            let planted = faults.iter().flat_map(|fault| ["--fault", fault]);
            let arguments: Vec<&str> = arguments.into_iter().chain(planted).chain(["--force"]).collect();
            record(folder, name, SHORT, &arguments);
        }
        for one in ["a.twin", "b.twin"] {
            twinstep(folder, &["diff", "both.twin", one]).expect(1);
        }
        let verify = twinstep(folder, &["verify", "--replay", "both.twin", "--json"]).expect(0).json();
        assert_eq!(verify["ok"], true, "{pair:?}: {verify}");
    }
}
