//! `twinstep check` and `twinstep history` on real runs.

use twinstep_tests::{record, root, twinstep};

/// Several requests in every mode, with padding rows and without, greedy and sampled: nothing is found.
#[test]
fn clean_runs_have_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    let sampled = ["--temperature", "0.8", "--top-k", "50", "--top-p", "0.95", "--seed", "42"];
    for mode in ["eager", "graph", "piecewise"] {
        for (batch, sampling) in [("1", &sampled[..]), ("2", &[]), ("4", &sampled[..])] {
            let mut arguments = vec!["--mode", mode, "--batch", batch, "--max-steps", "10", "--force"];
            arguments.extend(sampling);
            record(folder.path(), "a.twin", "hello there. good morning to you. it is late.", &arguments);
            let run = twinstep(folder.path(), &["check", "a.twin", "--json"]);
            let report = run.json();
            assert_eq!(report["schema"], "twinstep.check/1");
            assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{mode} {batch}: {report}");
            run.expect(0);
        }
    }
}

/// The report as people see it: cargo's form, a command to copy, and what was not looked at.
#[test]
fn findings_read_like_those_of_a_compiler() {
    let samples = root().join("traces/samples");
    let run = twinstep(&samples, &["check", "piecewise-unlaunched-capture.twin"]).expect(1);
    insta::assert_snapshot!("unlaunched_capture", run.stdout);
    // The command that it gives shows that nobody wrote the output.
    let command = run.stdout.lines().find_map(|l| l.trim().strip_prefix("help: twinstep ")).unwrap();
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let history = twinstep(&samples, &arguments).expect(0);
    insta::assert_snapshot!("unlaunched_capture_history", history.stdout);
    insta::assert_snapshot!("clean", twinstep(&samples, &["check", "graph-greedy.twin"]).expect(0).stdout);
}

#[test]
fn history_of_an_element() {
    let samples = root().join("traces/samples");
    let arguments = ["history", "graph-greedy.twin", "last_codes[0,1]", "--at", "4", "--limit", "4"];
    insta::assert_snapshot!("last_codes", twinstep(&samples, &arguments).expect(0).stdout);
    let json = twinstep(&samples, &[&arguments[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(json["schema"], "twinstep.history/1");
    let writers = json["groups"][0]["writers"].as_array().unwrap();
    let what: Vec<&str> = writers.iter().map(|w| w["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["node", "node", "host-write", "launch"], "{json}");
    assert_eq!(writers[2]["values"][0]["value"], 512);
}

#[test]
fn a_check_explains_itself_and_an_unknown_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = twinstep(folder.path(), &["check", "--explain", "stale-binding"]).expect(0).stdout;
    insta::assert_snapshot!("explain_stale_binding", text);
    let json = twinstep(folder.path(), &["check", "--explain", "nonfinite", "--json"]).expect(0).json();
    assert_eq!(json["check"], "nonfinite");
    let refused = twinstep(folder.path(), &["check", "--explain", "stale"]).expect(2);
    assert!(
        refused.stderr.contains("no check `stale`") && refused.stderr.contains("stale-binding"),
        "{refused:?}"
    );
    twinstep(folder.path(), &["check"]).expect(2);
    twinstep(folder.path(), &["check", "missing.twin"]).expect(2);
    let samples = root().join("traces/samples");
    for (selection, at) in [("no_such_buffer", "2"), ("hidden[9,0]", "2"), ("hidden", "99"), ("hidden", "x")]
    {
        let run = twinstep(&samples, &["history", "graph-greedy.twin", selection, "--at", at]).expect(2);
        assert_eq!(run.stdout, "", "{selection} {at}");
        assert!(run.stderr.starts_with("error: "), "{run:?}");
    }
}
