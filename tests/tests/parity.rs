//! Modes, batches, weights and recording change no bit; planted faults do.

use std::path::Path;

use twinstep_tests::{record, twinstep};

const TWO_REQUESTS: &str = "thank you. good night.";
const SAMPLED: [&str; 8] = ["--temperature", "0.8", "--top-k", "50", "--top-p", "0.95", "--seed", "7"];
/// A fault with the mode that it shows in.
const FAULTS: [(&str, &str); 2] = [("graph", "stale-codes"), ("piecewise", "unlaunched-capture")];

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn speak(folder: &Path, name: &str, more: &[&str]) {
    let (trace, wav) = (format!("{name}.twin"), format!("{name}.wav"));
    let mut arguments = vec!["--wav", &wav];
    arguments.extend(more);
    record(folder, &trace, TWO_REQUESTS, &arguments);
}

#[track_caller]
fn identical(folder: &Path, a: &str, b: &str) {
    let diff =
        twinstep(folder, &["diff", &format!("{a}.twin"), &format!("{b}.twin"), "--json"]).expect(0).json();
    assert_eq!(diff["identical"], true, "{a} {b}: {diff}");
    assert!(diff["steps"].as_array().unwrap().len() > 20, "{diff}");
    assert!(bytes(folder, &format!("{a}.wav")) == bytes(folder, &format!("{b}.wav")), "{a}.wav {b}.wav");
}

#[test]
fn modes_are_identical_in_every_batch_greedy_and_sampled_f16_and_bf16() {
    for weights in ["f16", "bf16"] {
        for sampling in [&[][..], &SAMPLED] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            for batch in ["1", "2", "4"] {
                let run = |mode: &str| {
                    let mut arguments = vec!["--dtype", weights, "--batch", batch, "--mode", mode];
                    arguments.extend(sampling);
                    speak(folder, &format!("{mode}-{batch}"), &arguments);
                };
                ["eager", "graph", "piecewise"].into_iter().for_each(run);
                identical(folder, &format!("eager-{batch}"), &format!("graph-{batch}"));
                identical(folder, &format!("eager-{batch}"), &format!("piecewise-{batch}"));
                // Other batches have buffers of other shapes; what is heard is the same.
                assert!(bytes(folder, "eager-1.wav") == bytes(folder, &format!("eager-{batch}.wav")));
            }
        }
    }
}

#[test]
fn a_planted_fault_breaks_the_equality_of_modes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    speak(folder, "clean", &["--max-steps", "20"]);
    for (mode, fault) in FAULTS {
        speak(folder, fault, &["--max-steps", "20", "--mode", mode, "--fault", fault]);
        let diff =
            twinstep(folder, &["diff", &format!("{fault}.twin"), "clean.twin", "--json"]).expect(1).json();
        assert_eq!(diff["identical"], false);
        assert_eq!((&diff["first"]["request"], &diff["first"]["step"]), (&1.into(), &2.into()), "{diff}");
        // A trace never says what was planted.
        let trace = bytes(folder, &format!("{fault}.twin"));
        for word in [fault, "fault NAME", "--fault", &fault.replace('-', "_")] {
            assert!(!trace.windows(word.len()).any(|w| w == word.as_bytes()), "the trace says `{word}`");
        }
    }
}

/// The equalities above, with a fault in one of the two runs: none is left. Short runs, since a fault
/// shows in step 2.
#[test]
fn a_planted_fault_breaks_the_equality_in_every_batch_greedy_and_sampled_f16_and_bf16() {
    for weights in ["f16", "bf16"] {
        for sampling in [&[][..], &SAMPLED] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            for batch in ["1", "2", "4"] {
                let run = |name: &str, more: &[&str]| {
                    let mut arguments = vec!["--dtype", weights, "--batch", batch, "--max-steps", "8"];
                    arguments.extend(sampling.iter().chain(more));
                    speak(folder, &format!("{name}-{batch}"), &arguments);
                };
                run("clean", &[]);
                // Without the fault the batches agree in runs this short too.
                assert!(bytes(folder, &format!("clean-{batch}.wav")) == bytes(folder, "clean-1.wav"));
                for (mode, fault) in FAULTS {
                    run(fault, &["--mode", mode, "--fault", fault]);
                    let case = format!("{weights} {sampling:?} {batch} {fault}");
                    let (faulty, clean) = (format!("{fault}-{batch}"), format!("clean-{batch}"));
                    let pair = [&format!("{faulty}.twin"), &format!("{clean}.twin")];
                    let diff = twinstep(folder, &["diff", pair[0], pair[1], "--json"]).expect(1).json();
                    assert_eq!(diff["identical"], false, "{case}: {diff}");
                    let first = (&diff["first"]["request"], &diff["first"]["step"]);
                    assert_eq!(first, (&1.into(), &2.into()), "{case}: {diff}");
                    // Within the batch and, like what is heard of clean runs, across batches.
                    for clean in ["clean-1", &clean] {
                        let (faulty, clean) = (format!("{faulty}.wav"), format!("{clean}.wav"));
                        assert!(bytes(folder, &faulty) != bytes(folder, &clean), "{case}: {clean}");
                    }
                }
            }
        }
    }
}

#[test]
fn sampling_and_seeds_matter() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    speak(folder, "greedy", &[]);
    speak(folder, "seed-7", &SAMPLED);
    speak(folder, "seed-8", &["--temperature", "0.8", "--top-k", "50", "--top-p", "0.95", "--seed", "8"]);
    assert!(bytes(folder, "greedy.wav") != bytes(folder, "seed-7.wav"));
    assert!(bytes(folder, "seed-7.wav") != bytes(folder, "seed-8.wav"));
}

#[test]
fn recording_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for mode in ["eager", "graph", "piecewise"] {
        let on = record(
            folder,
            "on.twin",
            TWO_REQUESTS,
            &["--mode", mode, "--wav", "on.wav", "--force", "--json"],
        );
        let off = ["record", "--text", TWO_REQUESTS, "--device", "cpu", "--mode", mode, "--snapshots", "off"];
        let off =
            twinstep(folder, &[&off[..], &["--wav", "off.wav", "--force", "--json"]].concat()).expect(0);
        let (on, off) = (on.json(), off.json());
        assert_eq!(on["requests"], off["requests"]);
        assert!(on["requests"][1]["codes"].as_array().unwrap().len() > 10, "{on}");
        assert!(bytes(folder, "on.wav") == bytes(folder, "off.wav"));
    }
}

/// A fault is heard alike in a recorded and an unrecorded run, so the equality of the two is one of what
/// was really computed; and it is heard: the unrecorded run differs from the clean one.
#[test]
fn recording_neither_hides_nor_causes_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (mode, fault) in FAULTS {
        let run = |name: &str, more: &[&str]| {
            let wav = format!("{name}.wav");
            let arguments =
                ["record", "--text", TWO_REQUESTS, "--device", "cpu", "--mode", mode, "--wav", &wav];
            let short = ["--max-steps", "12", "--force", "--json"];
            let json = twinstep(folder, &[&arguments[..], &short, more].concat()).expect(0).json();
            (json["requests"].clone(), bytes(folder, &wav))
        };
        let recorded = run("recorded", &["-o", "recorded.twin", "--fault", fault]);
        let unrecorded = run("unrecorded", &["--snapshots", "off", "--fault", fault]);
        let clean = run("clean", &["-o", "clean.twin"]);
        let clean_unrecorded = run("clean-unrecorded", &["--snapshots", "off"]);
        assert!(recorded == unrecorded && clean == clean_unrecorded, "{fault}");
        for (a, b) in [(&unrecorded, &clean), (&recorded, &clean_unrecorded)] {
            assert!(a.0 != b.0 && a.1 != b.1, "{fault} {} {}", a.0, b.0);
        }
    }
}
