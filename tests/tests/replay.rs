//! A trace holds all that is needed to execute it again.

use twinstep_tests::{SENTENCE, record, twinstep};

#[test]
fn every_snapshot_of_a_fresh_run_is_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let sampled = ["--temperature", "0.9", "--top-k", "40", "--seed", "3"];
    for mode in ["eager", "graph", "piecewise"] {
        let name = format!("{mode}.twin");
        let arguments = [&["--mode", mode][..], &sampled].concat();
        record(folder.path(), &name, "good night. see you tomorrow.", &arguments);
        let verify = twinstep(folder.path(), &["verify", &name, "--replay", "--json"]).expect(0).json();
        assert_eq!((&verify["ok"], &verify["complete"]), (&true.into(), &true.into()), "{verify}");
        let info = twinstep(folder.path(), &["info", &name, "--json"]).expect(0).json();
        assert!(verify["steps_replayed"].as_u64() >= info["steps"].as_u64(), "{verify} {info}");
        assert!(verify["snapshots_compared"].as_u64() >= verify["steps_replayed"].as_u64(), "{verify}");
    }
}

#[test]
fn a_step_is_re_executed_and_patches_decide() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "eager.twin", SENTENCE, &["--max-steps", "12"]);
    record(
        folder,
        "graph.twin",
        SENTENCE,
        &["--max-steps", "12", "--mode", "graph", "--fault", "stale-codes"],
    );
    let step = |more: &[&str]| {
        twinstep(folder, &[&["step", "graph.twin", "eager.twin", "--at", "2", "--json"][..], more].concat())
    };
    let plain = step(&[]).expect(1).json();
    assert_eq!((&plain["self_check"], &plain["equals_other"]), (&"equal".into(), &false.into()), "{plain}");

    let cured = step(&["--patch", "last_codes=other"]).expect(0).json();
    assert_eq!(cured["equals_other"], true, "{cured}");
    assert!(cured["patches"][0]["bytes_changed"].as_u64().unwrap() > 0, "{cured}");
    assert!(!cured["patches"][0]["read_by"].as_array().unwrap().is_empty(), "{cured}");

    for innocent in ["seq_lens=other", "delay_count=other", "kv_cache.0=other", "sampler_counter[0]=9"] {
        let still = step(&["--patch", innocent]).expect(1).json();
        assert_eq!(still["equals_other"], false, "{innocent}: {still}");
    }
    // One step later both runs agree on what they are given only where the codes agree again.
    twinstep(folder, &["step", "graph.twin", "--at", "5", "--json"]).expect(0);
}

#[test]
fn a_patch_without_effect_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a.twin", "good night.", &["--max-steps", "6"]);
    // Changes no byte; is read by nothing in a decode step.
    for patch in ["last_codes=self@3", "prefill_codes[0,0]=5"] {
        let run = twinstep(folder, &["step", "a.twin", "--at", "3", "--patch", patch]).expect(0);
        assert!(run.stdout.contains("no effect"), "{patch}: {run:?}");
    }
}

#[test]
fn clean_decode_steps_add_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let long = "they have been working on this problem for many years and the company will announce it now.";
    for mode in ["eager", "graph"] {
        let name = format!("{mode}.twin");
        record(folder.path(), &name, long, &["--mode", mode]);
        let info = twinstep(folder.path(), &["info", &name, "--json"]).expect(0).json();
        assert!(info["steps"].as_u64().unwrap() > 200, "{info}");
        // Set-up, prefill, decode and codec each have one, and the captured graph its nodes.
        assert_eq!(info["programs"].as_u64(), Some(if mode == "graph" { 5 } else { 4 }), "{info}");
    }
}
