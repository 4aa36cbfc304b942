//! Traces recorded on a GPU, against this CPU.

use twinstep_tests::{SENTENCE, record, root, twinstep};

/// Recording the same sentence here gives what the GPU gave, bit for bit, in every mode, greedy and sampled.
#[test]
fn a_cpu_records_what_the_gpu_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let samples = root().join("traces/samples");
    for sampling in ["greedy", "sampled"] {
        for mode in ["eager", "graph", "piecewise"] {
            let sample = samples.join(format!("{mode}-{sampling}.twin"));
            let sample = sample.to_str().unwrap();
            let info = twinstep(folder.path(), &["info", sample, "--json"]).expect(0).json();
            assert_eq!(info["device"]["backend"], "cuda", "{info}");
            assert!(!info["device"]["ptx_sha256"].as_str().unwrap().is_empty(), "{info}");
            let mut arguments = vec!["--mode", mode, "--force", "--max-steps", "48", "--context", "256"];
            if sampling == "sampled" {
                arguments.extend([
                    "--temperature",
                    "0.8",
                    "--top-k",
                    "50",
                    "--top-p",
                    "0.95",
                    "--seed",
                    "42",
                ]);
            }
            record(folder.path(), "here.twin", SENTENCE, &arguments);
            let diff = twinstep(folder.path(), &["diff", "here.twin", sample, "--json"]).expect(0).json();
            assert_eq!(diff["identical"], true, "{mode} {sampling}: {diff}");
            assert!(diff["steps"].as_array().unwrap().len() > 40);
            let report = twinstep(folder.path(), &["assert", "here.twin", sample, "--json"]).expect(0).json();
            assert_eq!(report["steps_judged"], 48, "{mode} {sampling}: {report}");
        }
    }
}

/// The faults recorded on the GPU are seen, and undone by the patch that names their cause.
#[test]
fn faults_recorded_on_the_gpu_are_found_here() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "clean.twin", SENTENCE, &["--max-steps", "12", "--context", "256"]);
    let sample = |name: &str| root().join("traces/samples").join(name).to_str().unwrap().to_owned();
    let stale = sample("graph-stale-codes.twin");
    let diff = twinstep(folder.path(), &["diff", &stale, "clean.twin", "--json"]).expect(1).json();
    assert_eq!(
        (&diff["first"]["step"], &diff["first"]["buffer"]),
        (&2.into(), &"last_codes".into()),
        "{diff}"
    );
    let patched = ["step", &stale, "clean.twin", "--at", "2", "--patch", "last_codes=other"];
    twinstep(folder.path(), &patched).expect(0);
    let unlaunched = sample("piecewise-unlaunched-capture.twin");
    let diff = twinstep(folder.path(), &["diff", &unlaunched, "clean.twin", "--json"]).expect(1).json();
    // Layer 0's MLP was never computed, so the first state that shows it is layer 1's keys and values.
    let first = &diff["first"];
    assert_eq!((&first["step"], &first["buffer"]), (&2.into(), &"kv_cache.1".into()), "{diff}");
    assert_eq!((&first["point"], &first["phase"]), (&"step.after".into(), &"forward".into()), "{diff}");
}
