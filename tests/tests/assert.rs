//! `twinstep assert` on traces recorded on a GPU: exit status, documents, reports and the policy file.

use std::fs;
use std::path::Path;

use twinstep_tests::{Run, root, twinstep};

/// A folder with three of the recorded traces.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (sample, name) in
        [("eager-greedy", "a.twin"), ("graph-greedy", "b.twin"), ("graph-stale-codes", "stale.twin")]
    {
        let from = root().join("traces/samples").join(format!("{sample}.twin"));
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    folder
}

fn assert(folder: &Path, arguments: &[&str]) -> Run {
    twinstep(folder, &[&["assert"], arguments].concat())
}

#[test]
fn passes_fails_and_trouble_have_their_status() {
    let folder = folder();
    let folder = folder.path();
    let passes = assert(folder, &["a.twin", "b.twin", "--self-test"]).expect(0);
    insta::assert_snapshot!(passes.stdout.lines().next().unwrap(), @"passes: 48 steps judged, 2844 places (buffer, step, point)");
    assert!(passes.stdout.contains("turns red: `everything else: exact`"), "{passes:?}");
    let fails = assert(folder, &["a.twin", "stale.twin"]).expect(1);
    insta::assert_snapshot!(fails.stdout.trim_end(), @r"
    FAILS: 8 steps judged, 464 places (buffer, step, point)
    rule `everything else: exact`: 120 of 464 places fail
      first: step 2 step.before: last_codes[0,0] is 90 in A, 512 in B; 422 ulps apart, 0 allowed
      worst: step 2 step.after: audio_logits[0,1,26] is 5.814067 in A, -3.1165576 in B; 2164359812 ulps apart, 0 allowed
    the codes of request 1 differ from step 8 on; 41 later steps were not judged
    first difference: request 1, step 2, at step.before: last_codes[0,0] is 90 in A, 512 in B
    next: twinstep diff a.twin stale.twin
    next: twinstep step a.twin stale.twin --at 2
    next: twinstep explain a.twin stale.twin
    ");
    let json = assert(folder, &["a.twin", "stale.twin", "--json"]).expect(1).json();
    assert_eq!((&json["schema"], &json["passes"]), (&"twinstep.assert/1".into(), &false.into()));
    assert_eq!(json["first"]["buffer"], "last_codes");
    assert_eq!(json["rules"][0]["failed"], 120);
    assert_eq!(json["next"].as_array().unwrap().len(), 3);
    // One file under two names is one file.
    fs::hard_link(folder.join("a.twin"), folder.join("again.twin")).unwrap();
    assert!(assert(folder, &["a.twin", "again.twin"]).expect(1).stdout.contains("guard two-traces"));
    assert(folder, &["a.twin", "again.twin", "--same-file"]).expect(0);
    let sampled = root().join("traces/samples/eager-sampled.twin");
    let trouble = assert(folder, &["a.twin", sampled.to_str().unwrap()]).expect(2);
    assert!(trouble.stderr.contains("not comparable") && trouble.stderr.contains("sampling"), "{trouble:?}");
    assert(folder, &["a.twin", "missing.twin"]).expect(2);
}

#[test]
fn a_policy_with_a_mistake_is_refused_in_one_line() {
    let folder = folder();
    let folder = folder.path();
    fs::write(folder.join("p.toml"), "rows = 'all'\n[[rule]]\nbuffer = 'hidden'\nulps = 1\n").unwrap();
    let run = assert(folder, &["a.twin", "b.twin", "--policy", "p.toml"]).expect(2);
    assert!(
        run.stderr.starts_with("error: p.toml:4:1: `ulps` is no key of a rule; did you mean `ulp`?\n"),
        "{run:?}"
    );
    assert!(run.stdout.is_empty() && run.stderr.lines().count() == 2, "{run:?}");
    let json = assert(folder, &["a.twin", "b.twin", "--policy", "p.toml", "--json"]).expect(2).json();
    assert_eq!(json["error"]["code"], "policy");
    fs::write(folder.join("p.toml"), "[[rule]]\nbuffer = 'hidden'\ncodes = true\n").unwrap();
    let run = assert(folder, &["a.twin", "b.twin", "--policy", "p.toml"]).expect(2);
    assert!(run.stderr.contains("p.toml:1:1: `codes` wants integers"), "{run:?}");
    assert!(
        assert(folder, &["a.twin", "b.twin", "--policy", "no.toml"]).expect(2).stderr.contains("no.toml")
    );
    assert(folder, &["a.twin", "b.twin", "--accept"]).expect(2);
}

#[test]
fn what_is_accepted_passes_and_no_longer_when_it_is_gone() {
    let folder = folder();
    let folder = folder.path();
    let pair = ["a.twin", "stale.twin", "--policy", "p.toml"];
    let accept = [&pair[..], &["--accept", "--reason", "stale feedback, 4711"]].concat();
    assert(folder, &pair).expect(2);
    assert(folder, &accept).expect(0);
    let made = fs::read_to_string(folder.join("p.toml")).unwrap();
    assert!(made.contains("reason = \"stale feedback, 4711\"") && made.contains("\"last_codes\""), "{made}");
    assert(folder, &pair).expect(0);
    // Nothing is left to accept, and the file stays as it is.
    assert(folder, &accept).expect(0);
    assert_eq!(fs::read_to_string(folder.join("p.toml")).unwrap(), made);
    let gone = assert(folder, &["a.twin", "b.twin", "--policy", "p.toml"]).expect(1);
    assert!(gone.stdout.contains("no longer occurs"), "{gone:?}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 4, "no passing file is left");
}

#[test]
fn reports_for_machines() {
    let folder = folder();
    let folder = folder.path();
    let run = assert(folder, &["a.twin", "stale.twin", "--junit", "out.xml", "--github"]).expect(1);
    let annotation = run.stdout.lines().find(|l| l.starts_with("::error ")).expect(&run.stdout);
    assert!(
        annotation.starts_with("::error title=twinstep assert%3A everything else%3A exact::120 of 464"),
        "{annotation}"
    );
    let xml = fs::read_to_string(folder.join("out.xml")).unwrap();
    let parsed = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((parsed.test_suites[0].tests, parsed.test_suites[0].failures), (9, 1), "{xml}");
    // An older report is replaced, anything else is not.
    assert(folder, &["a.twin", "b.twin", "--junit", "out.xml"]).expect(0);
    let before = fs::read(folder.join("b.twin")).unwrap();
    assert(folder, &["a.twin", "b.twin", "--junit", "b.twin"]).expect(2);
    assert!(fs::read(folder.join("b.twin")).unwrap() == before);
    let run = assert(folder, &["a.twin", "stale.twin", "--github", "--json"]).expect(1);
    assert!(run.stderr.starts_with("::error ") && run.json()["passes"] == false, "{run:?}");
}
