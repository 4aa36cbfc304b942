//! A recording that is killed at any moment leaves a file that opens up to its last commit.

use std::process::Stdio;
use std::time::Duration;

use twinstep_tests::{SENTENCE, command, record, twinstep};

#[test]
fn sigkill_at_any_moment_leaves_a_readable_trace() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "whole.twin", SENTENCE, &[]);
    let mut cut_short = 0;
    // From before the file exists to after the recording may have ended, by wall clock: where a kill
    // falls differs from run to run, and every place must be fine.
    for (i, delay_ms) in [5, 15, 30, 60, 90, 130, 180, 250, 350, 500, 700, 1000].into_iter().enumerate() {
        let name = format!("killed-{i}.twin");
        let run = ["record", "--text", SENTENCE, "--device", "cpu", "-o", &name];
        let mut child =
            command(folder.path(), &run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let Ok(meta) = std::fs::metadata(folder.path().join(&name)) else { continue };
        let info = twinstep(folder.path(), &["info", &name, "--json"]);
        if info.status == Some(2) {
            // Killed before the first commit: said in one line, whatever the file holds.
            assert_eq!(
                info.json()["error"]["message"].as_str().map(|m| m.lines().count()),
                Some(1),
                "{info:?}"
            );
            assert!(meta.len() < 1 << 20, "{} bytes written and none readable", meta.len());
            continue;
        }
        let info = info.expect(0).json();
        let verify = twinstep(folder.path(), &["verify", &name, "--json"]).expect(0).json();
        assert_eq!(verify["ok"], true, "{verify}");
        assert_eq!(verify["complete"], info["complete"]);
        let diff = twinstep(folder.path(), &["diff", &name, "whole.twin", "--json"]);
        if info["complete"] == false {
            cut_short += 1;
            // Nothing that was committed differs; the rest exists only on the other side.
            let diff = diff.json();
            assert_eq!(diff["first"], serde_json::Value::Null, "{}", diff["first"]);
        }
        twinstep(folder.path(), &["verify", &name, "--replay"]).expect(0);
    }
    assert!(cut_short >= 2, "no kill fell into a recording: {cut_short}");
}
