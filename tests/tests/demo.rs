//! The main job, as a stranger runs it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use twinstep_tests::{Run, binary, twinstep};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Runs commands as the demo prints them; each says itself how it ends, or any end but trouble will do.
fn run_all<'a>(folder: &Path, commands: impl Iterator<Item = (&'a str, Option<i64>)>) {
    for (command, status) in commands {
        let words = split(command);
        assert_eq!(words[0], "twinstep");
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let run = twinstep(folder, &words);
        let end = run.status.map(i64::from);
        assert!(
            if status.is_some() { end == status } else { matches!(end, Some(0 | 1)) },
            "{words:?}: {run:?}"
        );
    }
}

/// Words of a command line with simple quotes, as a shell would cut them.
fn split(line: &str) -> Vec<String> {
    let pieces = line.split('\'').enumerate();
    let words = pieces.flat_map(|(i, piece)| match i % 2 {
        0 => piece.split_whitespace().map(str::to_owned).collect(),
        _ => vec![piece.to_owned()],
    });
    words.collect()
}

/// What the demo says is what its traces and its data say.
#[test]
fn demo_tells_the_whole_story_twice() {
    let folder = tempfile::tempdir().unwrap();
    binary();
    for _ in 0..2 {
        let text = twinstep(folder.path(), &["demo"]).expect(0).stdout;
        for part in [
            "cpu",
            "0 differing bits",
            "vllm-omni #4564",
            "planted",
            "lm_logits:mean",
            "no effect",
            "stale-codes",
            "at step.before: last_codes[0,0]",
            "--at 2 \\\n     --patch last_codes=other\n",
            "verdict: unlaunched-capture, run A (proven)",
            "--patch graph:0-5=launch",
            "error[unlaunched-capture]",
            "second request",
            "enable_mlp_cudagraph: false",
            "nobody has",
            "Next:",
            ".wav",
        ] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "wider than 100 columns: {wide:#?}");
    }
    let data = twinstep(folder.path(), &["demo", "--json"]).expect(0).json();
    assert_eq!(data["schema"], "twinstep.demo/1");
    assert_eq!(data["planted"], "unlaunched-capture");
    assert_eq!(data["clean"]["identical"], true);
    assert!(data["clean"]["steps"].as_array().unwrap().len() > 100);
    let first = &data["faulty"]["first"];
    assert_eq!(
        (&first["request"], &first["step"], &first["phase"]),
        (&1.into(), &2.into(), &"forward".into())
    );
    // The piecewise run is the one whose step 2 stands out of its own series, by the figures of the table.
    let stats = |run: &str| -> Vec<f64> {
        let steps = data["faulty"]["steps"].as_array().unwrap().iter();
        let steps = steps.filter(|s| s["request"] == 1 && s["kind"] == "step");
        steps.map(|s| s["stats"][0][run].as_f64().unwrap()).collect()
    };
    let (a, b) = (stats("a"), stats("b"));
    assert!(a.iter().enumerate().all(|(i, &x)| i == 1 || x > a[1]), "{a:?}");
    assert!(b.iter().any(|&x| x < b[1]), "{b:?}");
    assert_eq!(data["place_of_step_2"]["a"], 1);
    assert_eq!(data["place_of_step_2"]["b"], 1 + b.iter().filter(|&&x| x < b[1]).count());
    assert_eq!(data["place_of_step_2"]["of"], a.len());
    assert_eq!(data["steps"]["unpatched"]["equals_other"], false);
    assert_eq!(data["steps"]["patched"]["equals_other"], true);
    assert_eq!(data["steps"]["innocent"]["equals_other"], false);
    let guesses = data["guesses"].as_array().unwrap();
    let patches = guesses.iter().flat_map(|g| g["step"]["patches"].as_array().unwrap());
    let tried: BTreeSet<&str> = patches
        .map(|p| {
            assert!(p["no_effect"].is_string() && p["bytes_changed"] == 0, "{p}");
            text(&p["patch"])
        })
        .collect();
    for buffer in ["last_codes", "has_codes", "seq_lens", "positions", "block_table", "slot_mapping"] {
        assert!(tried.contains(format!("{buffer}=other").as_str()), "{buffer} was not tried: {tried:?}");
    }
    assert!(guesses.iter().all(|g| g["step"]["equals_other"] == false));
    let guess = &data["first_guess_planted"];
    assert_eq!(guess["planted"], "stale-codes");
    let first = &guess["diff"]["first"];
    assert_eq!(
        (&first["request"], &first["step"], &first["buffer"], &first["point"]),
        (&1.into(), &2.into(), &"last_codes".into(), &"step.before".into()),
        "{first}"
    );
    let follows = guess["diff"]["steps"].as_array().unwrap().iter().filter(|s| s["state"] != "identical");
    assert!(follows.count() > 2, "{guess}");
    assert_eq!(guess["steps"]["unpatched"]["equals_other"], false);
    assert_eq!(guess["steps"]["patched"]["equals_other"], true);
    assert_eq!(guess["steps"]["patched"]["patches"][0]["patch"], "last_codes=other");
    assert_eq!(guess["steps"]["innocent"]["equals_other"], false);
    assert_ne!(guess["steps"]["innocent"]["patches"][0]["patch"], "last_codes=other");
    let shown = guess["commands"].as_array().unwrap();
    assert_eq!(shown.iter().map(|c| c["exit_status"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 0, 1]);
    run_all(folder.path(), shown.iter().map(|c| (text(&c["command"]), c["exit_status"].as_i64())));
    let verdict = &data["explain"]["verdict"];
    assert_eq!(
        (&verdict["kind"], &verdict["proven"]),
        (&"unlaunched-capture".into(), &true.into()),
        "{verdict}"
    );
    assert_eq!(data["check"]["findings"][0]["check"], "unlaunched-capture");
    let second = &data["second_request"];
    assert_eq!(second["same_samples"], true);
    assert_eq!(second["same_statistic"], second["steps"]);
    assert_eq!(second["unpatched"]["equals_other"], false, "what request 1 left behind differs");
    assert_eq!(second["patched"]["equals_other"], true);
    let patches = second["patched"]["patches"].as_array().unwrap();
    assert!(!patches.is_empty() && patches.iter().all(|p| p["no_effect"].is_string()), "{second}");
    assert_eq!(data["upstream"].as_array().unwrap().len(), 3);
    for wav in data["wavs"].as_array().unwrap() {
        let path = folder.path().join(text(wav));
        let reader = hound::WavReader::open(&path).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().bits_per_sample), (16000, 16));
        assert!(reader.duration() > 16000, "{path:?}");
    }
    let commands = data["commands"].as_array().unwrap().iter();
    run_all(folder.path(), commands.map(|c| (text(&c["command"]), c["exit_status"].as_i64())));
    let next: Vec<&str> = data["next"].as_array().unwrap().iter().map(text).collect();
    let quiet = next.iter().filter(|c| !c.starts_with("twinstep demo") && !c.starts_with("twinstep tui"));
    run_all(folder.path(), quiet.map(|c| (*c, None)));
    // There is no terminal here; but the traces that it is given can be opened.
    let words = split(next.iter().find(|c| c.starts_with("twinstep tui")).expect("the terminal UI"));
    let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    assert!(twinstep(folder.path(), &words).expect(2).stderr.contains("needs a terminal"));
}

/// The demo's blind traces recorded again with the fault that it says it planted.
fn record_again(folder: &Path, data: &Value, mode: &str) -> Run {
    let fault = text(&data["planted"]["name"]);
    let words =
        ["record", "--text", text(&data["text"]), "--mode", mode, "--temperature", "1", "--top-k", "50"];
    let more = ["--fault", fault, "-o", "again.twin", "--force"];
    twinstep(folder, &[&words[..], &more[..]].concat()).expect(0)
}

#[test]
fn a_blind_demo_can_be_repeated_and_says_what_it_planted() {
    let folder = tempfile::tempdir().unwrap();
    let mut planted = BTreeSet::new();
    for seed in ["1", "2", "1"] {
        let run = twinstep(folder.path(), &["demo", "--blind", "--seed", seed, "--json"]);
        let data = run.json();
        assert_eq!(data["schema"], "twinstep.demo-blind/1");
        let named = data["explain"]["verdict"]["kind"] == data["planted"]["kind"];
        assert_eq!((&data["named"], run.status), (&named.into(), Some(i32::from(!named))));
        planted.insert((seed, text(&data["planted"]["name"]).to_owned()));
        let commands = data["commands"].as_array().unwrap().iter();
        run_all(folder.path(), commands.map(|c| (text(&c["command"]), c["exit_status"].as_i64())));
        if planted.len() == 1 {
            record_again(folder.path(), &data, text(&data["recordings"][0]["mode"]));
            twinstep(folder.path(), &["diff", "twinstep-demo/blind.twin", "again.twin"]).expect(0);
            twinstep(folder.path(), &["diff", "twinstep-demo/blind-eager.twin", "again.twin"]).expect(1);
        }
    }
    assert_eq!(planted.len(), 2, "a seed always plants the same: {planted:?}");
    let text = twinstep(folder.path(), &["demo", "--blind", "--seed", "1"]).stdout;
    let name = &planted.iter().find(|(seed, _)| *seed == "1").unwrap().1;
    let (before, after) = text.split_once("3. What was planted").unwrap();
    assert!(before.contains("--seed 1") && before.contains("verdict: "), "{text}");
    assert!(!before.contains(name.as_str()) && after.contains(name.as_str()), "{text}");
    let seeded = twinstep(folder.path(), &["demo", "--seed", "1"]).expect(2);
    assert!(seeded.stderr.contains("--blind"), "{seeded:?}");
}

#[test]
fn demo_leaves_a_folder_alone_that_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("twinstep-demo")).unwrap();
    std::fs::write(folder.path().join("twinstep-demo/precious"), "mine").unwrap();
    for arguments in [&["demo"][..], &["demo", "--blind"]] {
        let run = twinstep(folder.path(), arguments).expect(2);
        assert!(run.stderr.contains("twinstep-demo"), "{run:?}");
        assert_eq!(std::fs::read_dir(folder.path().join("twinstep-demo")).unwrap().count(), 1);
    }
}
