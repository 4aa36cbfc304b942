//! Bad input gets one clear line and exit status 2, with nothing written or harmed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use twinstep_tests::{Run, binary, record, root, twinstep};

/// Every file in a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: fs::DirEntry| {
        let bytes = if entry.path().is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    };
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// Runs a command that must fail in one line that names `mentions`, twice: as text and as JSON.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], mentions: &[&str]) {
    let before = contents(folder);
    let run = twinstep(folder, arguments).expect(2);
    let errors: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{run:?}");
    assert!(run.stderr.lines().count() <= 2 && run.stdout.is_empty(), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    for word in mentions {
        assert!(run.stderr.contains(word), "`{word}` is missing: {run:?}");
    }
    let json = twinstep(folder, &[arguments, &["--json"]].concat()).expect(2).json();
    for key in ["code", "message"] {
        assert!(json["error"][key].is_string(), "{json}");
    }
    assert!(contents(folder) == before, "{arguments:?} changed the folder");
}

#[test]
fn files_that_are_no_traces() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("folder")).unwrap();
    fs::write(folder.join("empty.twin"), "").unwrap();
    fs::write(folder.join("text.twin"), "not a trace, but longer than a header would be\n".repeat(100))
        .unwrap();
    for name in ["missing.twin", "folder", "empty.twin", "text.twin"] {
        for command in [
            &["info", name][..],
            &["log", name],
            &["print", name, "last_codes", "--at", "2"],
            &["verify", name],
            &["verify", name, "--replay"],
            &["diff", name, name],
            &["step", name, "--at", "2"],
        ] {
            refused(folder, command, &[name]);
        }
    }
}

#[test]
fn a_truncated_trace_opens_at_its_last_commit_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "whole.twin", "good night.", &["--max-steps", "8"]);
    let whole = fs::read(folder.join("whole.twin")).unwrap();
    let mut opened = 0;
    for tenth in 0..10 {
        fs::write(folder.join("cut.twin"), &whole[..whole.len() * tenth / 10]).unwrap();
        for command in
            [&["info", "cut.twin"][..], &["verify", "cut.twin"], &["diff", "cut.twin", "whole.twin"]]
        {
            let run = twinstep(folder, command);
            assert!(matches!(run.status, Some(0..=2)) && !run.stderr.contains("panicked"), "{run:?}");
            opened += u32::from(run.status != Some(2));
        }
    }
    assert!(opened > 0);
    // Flipped bytes are damage, or bytes that nothing depends on; never a crash.
    for i in (0..whole.len()).step_by(whole.len() / 40) {
        let mut flipped = whole.clone();
        flipped[i] ^= 0x10;
        fs::write(folder.join("flipped.twin"), flipped).unwrap();
        for command in [&["verify", "flipped.twin", "--replay"][..], &["diff", "flipped.twin", "whole.twin"]]
        {
            let run = twinstep(folder, command);
            assert!(
                matches!(run.status, Some(0..=2)) && !run.stderr.contains("panicked"),
                "byte {i}: {run:?}"
            );
        }
        // Damage, or (in the index or the footer, on which no content depends) no longer a clean close.
        let verify = twinstep(folder, &["verify", "flipped.twin", "--json"]);
        let seen = verify.status != Some(0) || verify.json()["complete"] == false;
        assert!(seen, "a flipped bit in byte {i} went unseen: {verify:?}");
    }
}

#[test]
fn texts_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let record =
        |more: &[&'static str]| [&["record", "-o", "out.twin", "--wav", "out.wav"][..], more].concat();
    refused(folder, &record(&["--text", ""]), &["text"]);
    refused(folder, &record(&["--text", "   "]), &["text"]);
    refused(folder, &record(&["--text", "(§) … — ?!"]), &["text"]);
    refused(folder, &record(&["--text", "hello.", "--mode", "grpah"]), &["grpah", "graph"]);
    refused(folder, &record(&["--text", "hello.", "--fault", "stale-code"]), &["stale-code"]);
    refused(folder, &record(&["--text", "hello.", "--fault", "stale-codes"]), &["graph"]);
    refused(folder, &record(&["--text", "hello.", "--batch", "0"]), &["batch"]);
    refused(folder, &record(&["--text", "hello.", "--max-steps", "0"]), &["steps"]);
    refused(folder, &record(&["--text", "hello.", "--temperature", "NaN"]), &["temperature"]);
    refused(folder, &record(&["--text", "hello.", "--top-p", "1.5"]), &["top-p"]);
    refused(folder, &record(&["--text", "hello.", "--voice", "nowhere"]), &["nowhere"]);
    refused(folder, &["record"], &["--text"]);
    refused(folder, &["recrod"], &["recrod"]);
}

#[test]
fn a_program_that_cannot_be_attached_to_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let json = twinstep(folder.path(), &["doctor", "--program", "nosuch", "--json"]).expect(1).json();
    assert_eq!(json["attach"]["program"], false);
    let text = twinstep(folder.path(), &["doctor", "--program", "nosuch"]).expect(1).stdout;
    assert!(text.contains("there is no program `nosuch`"), "{text}");
    std::fs::write(folder.path().join("notes"), "text").unwrap();
    for (program, what) in
        [("./nosuch", "there is no program"), ("./notes", "may not be executed"), ("/", "is a folder")]
    {
        let run = twinstep(folder.path(), &["attach", "-o", "x.twin", "--", program]).expect(2);
        assert!(run.stderr.contains(what), "{program}: {}", run.stderr);
    }
    twinstep(folder.path(), &["doctor"]).expect(0);
}

#[test]
fn cuda_without_a_driver() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = twinstep(folder.path(), &["doctor", "--json"]).expect(0).json();
    if doctor["cuda"]["available"] == true {
        eprintln!("skipped: this machine has a CUDA device");
        return;
    }
    let run = ["record", "--text", "hello.", "--device", "cuda", "-o", "out.twin"];
    refused(folder.path(), &run, &["CUDA"]);
}

#[test]
fn outputs_that_exist_or_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("mine.twin"), "precious").unwrap();
    fs::write(folder.join("mine.wav"), "precious").unwrap();
    let text = ["record", "--device", "cpu", "--max-steps", "6", "--text", "hello."];
    refused(folder, &[&text[..], &["-o", "mine.twin"]].concat(), &["mine.twin", "--force"]);
    refused(
        folder,
        &[&text[..], &["-o", "new.twin", "--wav", "mine.wav"]].concat(),
        &["mine.wav", "--force"],
    );
    refused(folder, &[&text[..], &["-o", "no/such/folder/new.twin"]].concat(), &["no/such/folder"]);
    refused(folder, &[&text[..], &["-o", ".", "--force"]].concat(), &["."]);
    twinstep(folder, &[&text[..], &["-o", "mine.twin", "--force"]].concat()).expect(0);
    twinstep(folder, &["verify", "mine.twin"]).expect(0);
}

#[test]
fn voices_that_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = root().join("recorder/voice");
    let voice = folder.join("voice");
    fs::create_dir(&voice).unwrap();
    for name in ["talker.safetensors", "codec.safetensors", "config.json"] {
        fs::copy(good.join(name), voice.join(name)).unwrap();
    }
    let run = ["record", "--device", "cpu", "--max-steps", "6", "--text", "hello.", "--voice", "voice"];
    twinstep(folder, &[&run[..], &["-o", "good.twin"]].concat()).expect(0);

    // The header is JSON after eight bytes of length: edits of equal length keep the file well formed.
    let talker = fs::read(voice.join("talker.safetensors")).unwrap();
    let edit = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = talker.windows(from.len()).position(|w| w == from.as_bytes()).expect("the header says so");
        let mut edited = talker.clone();
        edited[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(voice.join("talker.safetensors"), edited).unwrap();
    };
    let bad = [&run[..], &["-o", "bad.twin"]].concat();
    edit("body.layers.3.self_attn.k_norm.weight", "body.layers.3.self_attn.x_norm.weight");
    refused(folder, &bad, &["talker.safetensors", "body.layers.3.self_attn.k_norm.weight"]);
    edit("[264,256]", "[256,264]");
    refused(folder, &bad, &["talker.safetensors", "text_embedding"]);
    fs::write(voice.join("talker.safetensors"), &talker[..talker.len() / 2]).unwrap();
    refused(folder, &bad, &["talker.safetensors"]);
    fs::remove_file(voice.join("talker.safetensors")).unwrap();
    refused(folder, &bad, &["talker.safetensors"]);
    fs::write(voice.join("talker.safetensors"), talker).unwrap();
    fs::write(voice.join("config.json"), "{}").unwrap();
    refused(folder, &bad, &["config.json"]);
}

#[test]
fn patches_and_places() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a.twin", "hello.", &["--max-steps", "6"]);
    record(folder, "b.twin", "hello.", &["--max-steps", "6", "--mode", "graph"]);
    record(folder, "c.twin", "good night.", &["--max-steps", "6"]);
    let step = |patch: &'static str| ["step", "a.twin", "b.twin", "--at", "2", "--patch", patch];
    refused(folder, &step("last_code=other"), &["last_code", "last_codes"]);
    refused(folder, &step("last_codes[0,:]=1,2,3"), &["last_codes"]);
    refused(folder, &step("last_codes[0,9]=1"), &["last_codes"]);
    refused(folder, &step("last_codes[9,0]=1"), &["last_codes"]);
    refused(folder, &step("last_codes@7=other"), &["last_codes@7"]);
    refused(folder, &step("last_codes=other@99"), &["99"]);
    refused(folder, &step("last_codes=@nothing.npy"), &["nothing.npy"]);
    refused(folder, &step("last_codes"), &["last_codes"]);
    refused(folder, &step("has_codes[0]=banana"), &["banana"]);
    refused(folder, &["step", "a.twin", "--at", "2", "--patch", "last_codes=other"], &["other"]);
    refused(folder, &["step", "a.twin", "--at", "77"], &["77"]);
    refused(folder, &["step", "a.twin", "--at", "0"], &["0"]);
    refused(folder, &["step", "a.twin", "--at", "9:2"], &["9:2"]);
    refused(folder, &["step", "a.twin", "--at", "two"], &["two"]);
    refused(folder, &["log", "a.twin", "--at", "77"], &["77"]);
    refused(folder, &["print", "a.twin", "hiden", "--at", "2"], &["hiden", "hidden"]);
    refused(folder, &["print", "a.twin", "hidden[0,999]", "--at", "2"], &["hidden"]);
    refused(folder, &["diff", "a.twin", "c.twin"], &["text"]);
    refused(folder, &["diff", "a.twin", "b.twin", "--stat", "hiden:mean"], &["hiden", "hidden"]);
    refused(folder, &["diff", "a.twin", "b.twin", "--stat", "hidden:mode"], &["mode"]);
}

/// A file system of its own with room for a part of the recording, where the kernel lets us mount one.
#[test]
fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("small")).unwrap();
    let script = r#"mount -t tmpfs -o size=1m none small || exit 77
        "$0" record --device cpu --text "good night. see you tomorrow." -o small/out.twin >out 2>err
        echo "status $?" >>err; "$0" info small/out.twin --json >info; "$0" verify small/out.twin >verify; echo "verify $?" >>err"#;
    let unshared = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(binary())
        .current_dir(folder.path())
        .output();
    let run: Run = match unshared {
        Ok(output) if output.status.success() => output.into(),
        _ => {
            eprintln!("skipped: no private mounts here");
            return;
        }
    };
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let errors = read("err");
    assert!(errors.contains("status 2") && errors.contains("small/out.twin"), "{errors} {run:?}");
    assert_eq!(errors.lines().filter(|l| l.starts_with("error:")).count(), 1, "{errors}");
    // What was committed before the disk was full can be read.
    assert!(errors.contains("verify 0"), "{errors}");
    let info: serde_json::Value = serde_json::from_str(&read("info")).unwrap();
    assert_eq!(info["complete"], false);
    assert!(info["steps"].as_u64().unwrap() >= 1, "{info}");
}
