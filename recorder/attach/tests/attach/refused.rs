//! What is refused before the program starts: one line, exit status 2.

use crate::engine::{Run, attach, files, twinstep};

#[track_caller]
fn refused(run: Run, words: &[&str]) {
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run:#?}");
    let first = run.stderr.lines().next().unwrap_or_default();
    for word in words {
        assert!(first.contains(word), "{word}: {run:#?}");
    }
    assert!(run.stderr.lines().count() <= 2, "{run:#?}");
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(
        path.join("watch.toml"),
        "[[watch]]\nname = \"a\"\naddress = \"0x1\"\nshape = [4]\ndtype = \"f8\"\n",
    )
    .unwrap();
    let run = |options: &[&str]| Run::from(attach(path, options, ["dlsym", "loop", "2"]).output().unwrap());
    refused(run(&["--watch", "watch.toml"]), &["watch.toml:5:9", "no element type `f8`"]);
    refused(run(&["--watch", "none.toml"]), &["none.toml"]);
    for (name, word) in [("cuda.0", "an allocation of the driver"), ("a\\nb", "control characters")] {
        let watch = format!("[[watch]]\nname = \"{name}\"\nkernel = \"*\"\nparameter = 0\nshape = [4]\n");
        std::fs::write(path.join("watch.toml"), watch).unwrap();
        refused(run(&["--watch", "watch.toml"]), &["watch.toml:2:8", word]);
    }
    refused(run(&["--ring", "two"]), &["--ring"]);
    refused(run(&["--start-on", "request:0"]), &["request:N"]);
    refused(run(&["--emits", "x"]), &["--check-undisturbed"]);
    let plain = |arguments: &[&str]| Run::from(twinstep(path, arguments).output().unwrap());
    refused(plain(&["attach", "-o", "run.twin", "--", "no-such-program"]), &["no program `no-such-program`"]);
    refused(plain(&["attach", "-o", "none/run.twin", "--", "true"]), &["no folder none"]);
    refused(plain(&["attach", "-o", "run.twin"]), &["PROGRAM"]);
    let mut missing = twinstep(path, &["attach", "-o", "run.twin", "--", "true"]);
    refused(missing.env("TWINSTEP_ATTACH_LIBRARY", "/nowhere.so").output().unwrap().into(), &["/nowhere.so"]);
    std::fs::write(path.join("broken.so"), "no library").unwrap();
    let mut broken = twinstep(path, &["attach", "-o", "run.twin", "--", "true"]);
    let broken: Run = broken.env("TWINSTEP_ATTACH_LIBRARY", path.join("broken.so")).output().unwrap().into();
    refused(broken, &["cannot be preloaded", "broken.so"]);
    assert_eq!(files(path), ["broken.so", "watch.toml"], "nothing was made");
}

#[test]
fn the_hint_of_a_wrong_watch_file_keeps_its_promise() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("watch.toml"), "[[watch]\n").unwrap();
    let run: Run =
        attach(folder.path(), &["--watch", "watch.toml"], ["dlsym", "loop", "2"]).output().unwrap().into();
    assert!(run.stderr.contains("twinstep attach --help"), "{run:#?}");
    let help: Run = twinstep(folder.path(), &["attach", "--help"]).output().unwrap().into();
    // The example of the help, as it stands there, is a watch file.
    let example: Vec<&str> = help
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("The watch file:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .collect();
    std::fs::write(folder.path().join("watch.toml"), example.join("\n")).unwrap();
    let run: Run =
        attach(folder.path(), &["--watch", "watch.toml"], ["dlsym", "loop", "2"]).output().unwrap().into();
    assert_eq!(run.status, Some(0), "{example:#?} {run:#?}");
    assert!(run.stderr.contains("`hidden` of the watch file was never found"), "{run:#?}");
}

#[test]
fn doctor_says_whether_attaching_can_work() {
    let folder = tempfile::tempdir().unwrap();
    let run: Run = twinstep(folder.path(), &["doctor", "--program", "sh"]).output().unwrap().into();
    let line = |word: &str| run.stdout.lines().any(|line| line.contains(word));
    assert!(line("attach yes") && line("libcuda.so.1 is there, for CUDA 12.4"), "{run:#?}");
    assert!(line("sh can be attached to"), "{run:#?}");
    let mut without = twinstep(folder.path(), &["doctor"]);
    let without: Run = without.env_remove("LD_LIBRARY_PATH").output().unwrap().into();
    if !without.stdout.contains("libcuda.so.1 is there") {
        assert!(without.stdout.contains("attach no") || without.stdout.contains("no driver"), "{without:#?}");
    }
}

#[test]
fn a_document_is_all_that_json_leaves_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let run: Run = attach(folder.path(), &["--json"], ["dlsym", "loop", "3"]).output().unwrap().into();
    let document: serde_json::Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:#?}"));
    assert_eq!(document["schema"], "twinstep.attach/1");
    assert_eq!((document["status"].as_i64(), document["cuda"].as_bool()), (Some(0), Some(true)));
    assert_eq!(document["traces"][0]["steps"], 3);
    assert_eq!(document["traces"][0]["complete"], true);
}
