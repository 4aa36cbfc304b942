//! `twinstep explain` as people run it: commands that show what they say, exit statuses, documents, bad input.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use twinstep_tests::{Run, SENTENCE, binary, record, root, twinstep};

const SHORT: &str = "good night.";
const LONG: &str =
    "they have been working on this problem for many years and the company will announce it now.";
const MODEST: [&str; 6] = ["--max-steps", "6", "--context", "256", "--batch", "2"];

/// A command line as a shell runs it, with the binary on the path.
fn shell(folder: &Path, line: &str) -> Run {
    let mut path = binary().parent().expect("a folder").as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).output().expect("a shell").into()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// Runs what the document says to run: each command gives its status, each innocent suspect what is claimed.
/// Returns how many of each there were.
fn see_for_yourself(folder: &Path, (a, b): (&str, &str), report: &Value) -> (usize, usize) {
    let (mut equal, mut differing) = (0, 0);
    for command in list(&report["commands"]) {
        let run = shell(folder, text(&command["command"]));
        let status = command["exit_status"].as_i64().expect("a number");
        assert_eq!(run.status.map(i64::from), Some(status), "{command}: {run:?}");
        assert!(!text(&command["shows"]).is_empty(), "{command}");
        (equal, differing) = (equal + usize::from(status == 0), differing + usize::from(status == 1));
    }
    // One as recorded and one repaired at least: else nothing was shown.
    assert!(equal >= 1 && differing >= 1, "{report}");
    let verdict = &report["verdict"];
    let at = format!("{}:{}", verdict["request"], verdict["step"]);
    let (first, second) = if report["causes"][0]["patched"] == "a" { (a, b) } else { (b, a) };
    // Nothing is patched that need not be: without any of the patches the step differs, or cannot run.
    let repaired = list(&report["causes"][0]["proof"]).iter().find(|p| p["equals_other"] == true);
    let patches: Vec<&str> = repaired.map_or(Vec::new(), |p| list(&p["patches"]).iter().map(text).collect());
    for left_out in patches.iter().filter(|_| patches.len() > 1) {
        let mut arguments = vec!["step", first, second, "--at", &at];
        arguments.extend(patches.iter().filter(|p| *p != left_out).flat_map(|patch| ["--patch", patch]));
        assert_ne!(twinstep(folder, &arguments).status, Some(0), "{left_out} is not needed: {report}");
    }
    for suspect in list(&report["exonerated"]) {
        let mut arguments = vec!["step", first, second, "--at", &at, "--json"];
        let patches: Vec<&str> = text(&suspect["patch"]).split(' ').collect();
        arguments.extend(patches.iter().flat_map(|patch| ["--patch", patch]));
        // An innocent one leaves the step different from the other run's.
        let step = twinstep(folder, &arguments).expect(1).json();
        let reports = list(&step["patches"]);
        let bytes: u64 = reports.iter().map(|p| p["bytes_changed"].as_u64().expect("a number")).sum();
        assert_eq!(bytes, suspect["bytes_changed"].as_u64().expect("a number"), "{suspect}: {step}");
        let nothing = reports.iter().all(|p| p["no_effect"].is_string());
        assert_eq!(nothing, text(&suspect["result"]).starts_with("no effect: "), "{suspect}: {step}");
        if nothing {
            let reasons = reports.iter().map(|p| format!("no effect: {}", text(&p["no_effect"])));
            assert!(reasons.into_iter().any(|reason| reason == text(&suspect["result"])), "{suspect}");
        } else {
            assert_eq!(suspect["result"], "the step still differs");
        }
    }
    (list(&report["commands"]).len(), list(&report["exonerated"]).len())
}

#[test]
fn every_command_of_a_proof_gives_what_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "clean.twin", SHORT, &MODEST);
    let faults = [
        "stale-codes",
        "codes-reallocated",
        "gate-baked",
        "seq-len-baked",
        "rng-not-advanced",
        "reset-skipped",
        "write-missed-capture",
        "late-host-write",
        "pool-aliasing",
        "shared-pool",
        "padding-row",
        "nan-in-padding",
        "wrong-graph",
        "rope-table-replaced",
        "unlaunched-capture",
    ];
    let (mut commands, mut suspects) = (0, 0);
    for (i, fault) in faults.into_iter().enumerate() {
        let mode = if fault == "unlaunched-capture" { "piecewise" } else { "graph" };
        let planted = ["--mode", mode, "--fault", fault, "--force"];
        record(folder, "it's wrong.twin", SHORT, &[&MODEST[..], &planted].concat());
        // Both orders of arguments, and a name that a shell must have quoted.
        let (a, b) = [("it's wrong.twin", "clean.twin"), ("clean.twin", "it's wrong.twin")][i % 2];
        let report = twinstep(folder, &["explain", a, b, "--json"]).expect(1).json();
        assert_eq!(report["verdict"]["proven"], true, "{fault}: {report}");
        let (run, tried) = see_for_yourself(folder, (a, b), &report);
        (commands, suspects) = (commands + run, suspects + tried);
        // What people see holds the same commands and the verdict's text.
        let seen = unwrapped(&twinstep(folder, &["explain", a, b]).expect(1).stdout);
        for command in list(&report["commands"]) {
            let line = text(&command["command"]);
            assert!(seen.contains(line), "{line}\n{seen}");
        }
        assert!(seen.contains(text(&report["verdict"]["text"])), "{seen}");
    }
    assert!(commands >= 3 * faults.len() && suspects > faults.len(), "{commands} {suspects}");
}

/// Text without the line breaks of a terminal's width; a command is broken after a backslash.
fn unwrapped(text: &str) -> String {
    text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn traces_recorded_on_a_gpu_are_explained_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, steps) in [("clean.twin", "48"), ("short.twin", "12")] {
        record(folder, name, SENTENCE, &["--max-steps", steps, "--context", "256"]);
    }
    let sample = |name: &str| root().join("traces/samples").join(name).to_str().unwrap().to_owned();
    for (name, kind, buffer) in [
        ("graph-stale-codes.twin", "missing-host-write", "last_codes"),
        ("piecewise-unlaunched-capture.twin", "unlaunched-capture", "layer.0.mlp_out"),
    ] {
        let wrong = sample(name);
        let pair = (wrong.as_str(), "short.twin");
        let report = twinstep(folder, &["explain", pair.0, pair.1, "--json"]).expect(1).json();
        let verdict = &report["verdict"];
        assert_eq!((&verdict["kind"], &verdict["side"]), (&kind.into(), &"a".into()), "{report}");
        assert_eq!((&verdict["request"], &verdict["step"]), (&1.into(), &2.into()), "{report}");
        assert_eq!(verdict["proven"], true, "{report}");
        assert_eq!(verdict["buffers"][0], buffer, "{report}");
        see_for_yourself(folder, pair, &report);
    }
    for name in ["eager-greedy.twin", "graph-greedy.twin", "piecewise-greedy.twin"] {
        let report = twinstep(folder, &["explain", &sample(name), "clean.twin", "--json"]).expect(0).json();
        assert_eq!(report["verdict"]["kind"], "identical", "{name}: {report}");
    }
}

#[test]
fn exit_statuses_and_documents() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let planted = |fault| ["--mode", "graph", "--fault", fault];
    record(folder, "clean.twin", SHORT, &MODEST);
    record(folder, "graph.twin", SHORT, &[&MODEST[..], &["--mode", "graph"]].concat());
    record(folder, "wrong.twin", SHORT, &[&MODEST[..], &planted("stale-codes")].concat());
    record(folder, "wrong-again.twin", SHORT, &[&MODEST[..], &planted("stale-codes")].concat());
    record(folder, "again.twin", SHORT, &MODEST);
    let long = ["--max-steps", "102", "--context", "256", "--batch", "1"];
    record(folder, "long.twin", LONG, &long);
    record(folder, "rounded.twin", LONG, &[&long[..], &planted("reduction-order")].concat());
    for (arguments, status, kind) in [
        (&["graph.twin", "clean.twin"][..], 0, "identical"),
        (&["rounded.twin", "long.twin"], 0, "rounding"),
        (&["wrong.twin", "clean.twin"], 1, "missing-host-write"),
        // A budget that is used up before anything is shown.
        (&["wrong.twin", "clean.twin", "--budget", "3"], 1, "unknown"),
        // A control that equals A takes nothing away; one that differs from it as B does is noise.
        (&["clean.twin", "wrong.twin", "--control", "again.twin"], 1, "missing-host-write"),
        (&["graph.twin", "wrong.twin", "--control", "wrong-again.twin"], 0, "noise"),
    ] {
        let arguments = [&["explain"], arguments].concat();
        let report = twinstep(folder, &[&arguments[..], &["--json"]].concat()).expect(status).json();
        let verdict = &report["verdict"];
        assert_eq!(verdict["kind"], kind, "{report}");
        assert_eq!(verdict["proven"], !matches!(kind, "unknown" | "noise"), "{report}");
        let exhausted = arguments.contains(&"--budget");
        assert_eq!(report["exhausted"], exhausted, "{report}");
        if exhausted {
            assert!(text(&verdict["text"]).contains("--budget"), "{report}");
            assert_eq!(report["executions"], 3, "{report}");
        }
        fields(&report);
        // The first line says it to people.
        let seen = twinstep(folder, &arguments).expect(status).stdout;
        assert!(seen.starts_with(&format!("verdict: {kind}")), "{seen}");
    }
}

/// What a document has, whatever the verdict.
fn fields(report: &Value) {
    assert_eq!(report["schema"], "twinstep.explain/1");
    let keys = |value: &Value, names: &[&str]| {
        let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
        for name in names {
            assert!(object.contains_key(*name), "{name}: {value}");
        }
    };
    keys(
        report,
        &["verdict", "causes", "ambiguous", "evidence", "exonerated", "findings", "first", "commands"],
    );
    let verdict =
        ["kind", "side", "request", "step", "phase", "node", "buffers", "arguments", "proven", "text"];
    keys(&report["verdict"], &verdict);
    assert!(text(&report["verdict"]["text"]).ends_with('.'), "{report}");
    for cause in list(&report["causes"]) {
        keys(cause, &verdict);
        keys(cause, &["patches", "patched", "proof"]);
    }
    list(&report["evidence"]).iter().for_each(|e| keys(e, &["what", "at", "node", "text"]));
    list(&report["exonerated"]).iter().for_each(|e| keys(e, &["patch", "bytes_changed", "result"]));
    list(&report["commands"]).iter().for_each(|c| keys(c, &["command", "exit_status", "shows"]));
    let finding = ["side", "check", "kind", "request", "step", "graph", "node", "buffer", "message"];
    list(&report["findings"]).iter().for_each(|f| keys(f, &finding));
}

/// One line that names `mentions`, exit status 2, and the same as a document.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], mentions: &[&str]) {
    let run = twinstep(folder, arguments).expect(2);
    let errors = run.stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert!(errors == 1 && run.stderr.lines().count() <= 2 && run.stdout.is_empty(), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    for word in mentions {
        assert!(run.stderr.contains(word), "`{word}` is missing: {run:?}");
    }
    let json = twinstep(folder, &[arguments, &["--json"]].concat()).expect(2).json();
    assert!(json["error"]["code"].is_string() && json["error"]["message"].is_string(), "{json}");
}

#[test]
fn runs_that_have_nothing_to_say_about_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a.twin", SHORT, &MODEST);
    for (name, said, more, mentions) in [
        ("text.twin", "it is late.", &["--max-steps", "6"][..], "text"),
        ("seed.twin", SHORT, &["--seed", "43"], "sampling"),
        ("temperature.twin", SHORT, &["--temperature", "1"], "sampling"),
        ("dtype.twin", SHORT, &["--dtype", "bf16"], "element type"),
        ("batch.twin", SHORT, &["--batch", "1"], "batch"),
        ("context.twin", SHORT, &["--context", "512"], "context"),
        ("profile.twin", SHORT, &["--profile", "omni"], "profile"),
    ] {
        let mut arguments: Vec<&str> = MODEST.to_vec();
        for option in more.chunks(2) {
            match arguments.iter().position(|word| *word == option[0]) {
                Some(at) => arguments[at + 1] = option[1],
                None => arguments.extend(option),
            }
        }
        record(folder, name, said, &arguments);
        refused(folder, &["explain", "a.twin", name], &[mentions]);
        refused(folder, &["explain", name, "a.twin"], &[mentions]);
    }
    let one = ["--max-steps", "1", "--context", "256", "--batch", "2"];
    record(folder, "one.twin", SHORT, &one);
    refused(folder, &["explain", "a.twin", "one.twin"], &["B has fewer than two steps"]);
    refused(folder, &["explain", "one.twin", "a.twin"], &["A has fewer than two steps"]);
    refused(folder, &["explain", "a.twin", "missing.twin"], &["missing.twin"]);
}

/// A voice of which one weight is another: its own model, not found where it is not.
#[test]
fn another_model_and_weights_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["voice", "empty"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    for name in ["config.json", "codec.safetensors", "talker.safetensors"] {
        std::fs::copy(root().join("recorder/voice").join(name), folder.join("voice").join(name)).unwrap();
    }
    let talker = folder.join("voice/talker.safetensors");
    let mut bytes = std::fs::read(&talker).unwrap();
    // The lowest bit of the last weight.
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&talker, bytes).unwrap();
    let other = [&MODEST[..], &["--voice", "voice"]].concat();
    record(folder, "a.twin", SHORT, &MODEST);
    record(folder, "b.twin", SHORT, &other);
    refused(folder, &["explain", "a.twin", "b.twin"], &["model"]);
    let planted = ["--mode", "graph", "--fault", "stale-codes"];
    record(folder, "wrong.twin", SHORT, &[&other[..], &planted].concat());
    refused(folder, &["explain", "wrong.twin", "b.twin"], &["text_embedding.weight", "--weights"]);
    refused(folder, &["explain", "wrong.twin", "b.twin", "--weights", "empty"], &["talker.safetensors"]);
    let found = ["explain", "wrong.twin", "b.twin", "--weights", "voice", "--json"];
    let report = twinstep(folder, &found).expect(1).json();
    assert_eq!(report["verdict"]["kind"], "missing-host-write", "{report}");
    see_commands(folder, &report);
}

/// Commands say where the weights are.
fn see_commands(folder: &Path, report: &Value) {
    for command in list(&report["commands"]) {
        let run = shell(folder, text(&command["command"]));
        assert_eq!(run.status.map(i64::from), command["exit_status"].as_i64(), "{command}: {run:?}");
    }
    assert!(list(&report["commands"]).len() >= 2);
}

#[test]
fn rules_files_with_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a.twin", SHORT, &MODEST);
    record(folder, "b.twin", SHORT, &[&MODEST[..], &["--mode", "graph"]].concat());
    let sound = std::fs::read_to_string(root().join("recorder/voice/rules.toml")).unwrap();
    let lines = sound.lines().count();
    for (name, mistake) in [("toml.toml", "[[rule]\n"), ("rule.toml", "[[rule]]\nname = 7\n")] {
        std::fs::write(folder.join(name), format!("{sound}\n{mistake}")).unwrap();
        for command in [&["explain", "a.twin", "b.twin"][..], &["check", "a.twin"]] {
            let arguments = [command, &["--rules", name]].concat();
            let run = twinstep(folder, &arguments).expect(2);
            let place = run.stderr.split(&format!("{name}:")).nth(1).unwrap_or_else(|| panic!("{run:?}"));
            let mut numbers = place.split(':').map(|n| n.trim().parse::<usize>());
            let (line, column) = (numbers.next().unwrap(), numbers.next().unwrap());
            assert!(line.is_ok_and(|l| l > lines && l <= lines + 3) && column.is_ok(), "{run:?}");
            refused(folder, &arguments, &[name]);
        }
    }
    std::fs::write(folder.join("sound.toml"), sound).unwrap();
    twinstep(folder, &["explain", "a.twin", "b.twin", "--rules", "sound.toml"]).expect(0);
    refused(folder, &["explain", "a.twin", "b.twin", "--rules", "none.toml"], &["none.toml"]);
}
