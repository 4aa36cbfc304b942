//! Runs of another engine on the command line: control runs, ranks, causes.

#[path = "../../replayer/tests/engine/mod.rs"]
mod engine;

use std::path::Path;

use engine::talker::{Mistake, Plan};
use twinstep_tests::twinstep;

fn write(folder: &Path, name: &str, plan: &Plan) {
    std::fs::write(folder.join(name), plan.bytes()).unwrap();
}

#[test]
fn noise_of_the_control_is_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in [("a.twin", 1), ("a2.twin", 2), ("b.twin", 3)] {
        write(folder.path(), name, &Plan::new("eager", Mistake::Noise(seed)));
    }
    twinstep(folder.path(), &["diff", "a.twin", "b.twin", "--stat", "logits:mean"]).expect(1);
    let arguments = ["diff", "a.twin", "b.twin", "--control", "a2.twin", "--stat", "logits:mean"];
    let run = twinstep(folder.path(), &arguments).expect(0);
    assert!(run.stdout.starts_with("no difference beyond noise of the control: 8 steps"), "{}", run.stdout);
    let json = twinstep(folder.path(), &[&arguments[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(json["steps"][4]["state"], "noise");
    assert_eq!(json["identical"], false);
    assert_eq!(json["control"]["noisy"][0]["buffer"], "logits");
    let explained =
        twinstep(folder.path(), &["explain", "a.twin", "b.twin", "--control", "a2.twin"]).expect(0);
    assert!(explained.stdout.starts_with("verdict: noise"), "{}", explained.stdout);
    // A control of another model's rank does not fit.
    write(folder.path(), "rank1.twin", &Plan { rank: 1, ..Plan::new("eager", Mistake::None) });
    let run = twinstep(folder.path(), &["diff", "a.twin", "b.twin", "--control", "rank1.twin"]).expect(2);
    assert!(run.stderr.contains("the control run does not fit A: the rank differs"), "{}", run.stderr);
}

#[test]
fn ranks_lie_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [("a", "eager"), ("b", "graph")] {
        let mistake = if name == "b" { Mistake::FrozenLength } else { Mistake::None };
        write(folder.path(), &format!("{name}.twin"), &Plan::new(mode, Mistake::None));
        let one = Plan { rank: 1, ..Plan::new(mode, mistake) };
        write(folder.path(), &format!("{name}.rank1.twin"), &one);
    }
    let stat = ["--stat", "logits:mean"];
    let run = twinstep(folder.path(), &[&["diff", "a.twin", "b.twin"][..], &stat].concat()).expect(1);
    assert!(run.stdout.starts_with("identical: 8 steps"), "{}", run.stdout);
    assert!(run.stdout.contains("rank 1: first difference: request 1, step 2"), "{}", run.stdout);
    let arguments = [&["diff", "a.twin", "b.twin", "--json"][..], &stat].concat();
    let json = twinstep(folder.path(), &arguments).expect(1).json();
    assert_eq!((&json["ranks"][0]["rank"], &json["ranks"][0]["identical"]), (&1.into(), &false.into()));
    // So an assertion of the whole run fails, unless its policy is for one rank.
    let run = twinstep(folder.path(), &["assert", "a.twin", "b.twin", "--json"]).expect(1).json();
    let guard = run["guards"].as_array().unwrap().iter().find(|g| g["guard"] == "ranks").unwrap();
    let text = guard["text"].as_str().unwrap();
    assert!(text.starts_with("rank 1: first difference: request 1, step 2"), "{text}");
    assert!(text.contains("twinstep assert a.rank1.twin b.rank1.twin"), "{text}");
    let run = twinstep(folder.path(), &["assert", "a.twin", "b.twin", "--junit", "j.xml"]).expect(1);
    assert!(run.stdout.starts_with("FAILS"), "{}", run.stdout);
    let xml = std::fs::read_to_string(folder.path().join("j.xml")).unwrap();
    assert!(xml.contains("name=\"ranks\"") && xml.contains("failures=\"1\""), "{xml}");
    std::fs::write(folder.path().join("one.toml"), "require_ranks = false\n").unwrap();
    twinstep(folder.path(), &["assert", "a.twin", "b.twin", "--policy", "one.toml"]).expect(0);
    // A rank that has no trace in one run is missed.
    std::fs::rename(folder.path().join("b.rank1.twin"), folder.path().join("away")).unwrap();
    let run = twinstep(folder.path(), &["assert", "a.twin", "b.twin"]).expect(1);
    assert!(run.stdout.contains("rank 1: its trace lies beside A only"), "{}", run.stdout);
    let run = twinstep(folder.path(), &[&["diff", "a.twin", "b.twin"][..], &stat].concat()).expect(0);
    assert!(run.stdout.contains("rank 1: its trace lies beside A only, not compared"), "{}", run.stdout);
    std::fs::rename(folder.path().join("away"), folder.path().join("b.rank1.twin")).unwrap();
    // Mixed up: the file that would fit is named.
    let run = twinstep(folder.path(), &["diff", "a.twin", "b.rank1.twin"]).expect(2);
    assert!(run.stderr.contains("the rank differs: 0 in A, 1 in B"), "{}", run.stderr);
    assert!(run.stderr.contains("b.twin is of rank 0"), "{}", run.stderr);
}

#[test]
fn the_control_run_is_one_of_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in [("a", 1), ("a2", 2), ("b", 3)] {
        write(folder.path(), &format!("{name}.twin"), &Plan::new("eager", Mistake::None));
        let noisy = Plan { rank: 1, ..Plan::new("eager", Mistake::Noise(seed)) };
        write(folder.path(), &format!("{name}.rank1.twin"), &noisy);
    }
    let run = twinstep(folder.path(), &["diff", "a.twin", "b.twin"]).expect(1);
    assert!(run.stdout.contains("rank 1: first difference: "), "{}", run.stdout);
    let run = twinstep(folder.path(), &["diff", "a.twin", "b.twin", "--control", "a2.twin"]).expect(0);
    let line = "rank 1: no difference beyond noise of the control: 8 steps (twinstep diff a.rank1.twin b.rank1.twin \
                --control a2.rank1.twin)";
    assert!(run.stdout.contains(line), "{}", run.stdout);
    std::fs::remove_file(folder.path().join("a2.rank1.twin")).unwrap();
    let run = twinstep(folder.path(), &["diff", "a.twin", "b.twin", "--control", "a2.twin"]).expect(1);
    let line = "rank 1 without a control run, which has no trace of it: first difference: ";
    assert!(run.stdout.contains(line), "{}", run.stdout);
}

#[test]
fn a_cause_from_logs_is_named_and_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "eager.twin", &Plan::new("eager", Mistake::Rebound));
    write(folder.path(), "graph.twin", &Plan::new("graph", Mistake::Rebound));
    let run = twinstep(folder.path(), &["check", "graph.twin"]).expect(1);
    assert!(
        run.stdout.starts_with("error[stale-binding]: graph 0 node 0 (sm90_embed) parameter 0"),
        "{}",
        run.stdout
    );
    let json = twinstep(folder.path(), &["explain", "eager.twin", "graph.twin", "--json"]).expect(1).json();
    assert_eq!(json["verdict"]["kind"], "stale-binding");
    assert_eq!(json["verdict"]["side"], "b");
    assert_eq!(json["verdict"]["proven"], false);
    assert_eq!(json["commands"].as_array().unwrap().len(), 0);
    let run = twinstep(folder.path(), &["history", "graph.twin", "logits", "--at", "5", "--after"]).expect(0);
    assert!(
        run.stdout.contains("bytes changed between step.before of step 5 and step.after of step 5"),
        "{}",
        run.stdout
    );
}

/// What `assert` says to run next says more about another engine's runs, too.
#[test]
fn the_next_commands_of_assert_work() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.twin", &Plan::new("eager", Mistake::None));
    write(folder.path(), "b.twin", &Plan::new("graph", Mistake::FrozenLength));
    let report = twinstep(folder.path(), &["assert", "a.twin", "b.twin", "--json"]).expect(1).json();
    let next: Vec<&str> = report["next"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert_eq!(
        (next.len(), next[0], next[2]),
        (3, "twinstep diff a.twin b.twin", "twinstep explain a.twin b.twin")
    );
    assert!(next[1].starts_with("twinstep print a.twin '"), "{next:?}");
    for command in next {
        let words: Vec<&str> = command.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
        let run = twinstep(folder.path(), &words);
        assert!(matches!(run.status, Some(0 | 1)) && !run.stdout.is_empty(), "{command}: {run:?}");
    }
}
