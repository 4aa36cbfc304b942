//! `twinstep import` on dumps as they lie around: links, leftovers, names of several engines, files that are
//! no dumps; and what a killed or failed import leaves behind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use twinstep_tests::dumps::{floats, npy, npy_with, npz, tensors};
use twinstep_tests::screen::Screen;
use twinstep_tests::{Run, binary, twinstep};
use twinstep_traces::{DType, Trace};

fn import(folder: &Path, arguments: &[&str]) -> Run {
    twinstep(folder, &[&["import"], arguments].concat())
}

/// What a successful import of folder `d` tells.
#[track_caller]
fn imported(folder: &Path, arguments: &[&str]) -> Value {
    let run = import(folder, &[&["--eager", "d", "-o", "run", "--force", "--json"], arguments].concat());
    run.expect(0).json()
}

/// Names of the buffers of an imported trace.
fn buffers(report: &Value) -> Vec<&str> {
    let buffers = report["traces"][0]["buffers"].as_array().unwrap();
    buffers.iter().map(|buffer| buffer["name"].as_str().unwrap()).collect()
}

/// What it left out.
fn left_out(report: &Value) -> Vec<&str> {
    report["traces"][0]["left_out"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Refused with status 2: the first line, which holds `words`. Nothing has been written.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) -> Run {
    let before = names(folder);
    let run = import(folder, &[&["--eager", "d", "-o", "out"], arguments].concat()).expect(2);
    let mut lines = run.stderr.lines();
    let line = lines.next().unwrap_or_default();
    assert!(
        line.starts_with("error: ") && words.iter().all(|word| line.contains(word)),
        "{words:?}: {run:?}"
    );
    assert!(lines.all(|line| line.starts_with("  hint: ")) && run.stdout.is_empty(), "{run:?}");
    assert_eq!(names(folder), before, "something was left behind");
    run
}

/// What lies in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The one number that a buffer of one element holds after a step.
fn value(folder: &Path, request: u32, step: u32, name: &str) -> f32 {
    let trace = Trace::open(&folder.join("run.eager.twin")).unwrap();
    let step = trace.step(trace.find_step(request, step).unwrap().unwrap()).unwrap();
    let after = step.points.iter().find(|p| p.point == "step.after").unwrap().snapshot;
    let covered = trace.covered(after).unwrap();
    let id = covered.into_iter().rfind(|id| trace.buffer(*id).is_some_and(|b| b.name == name)).unwrap();
    f32::from_le_bytes(trace.read_buffer(after, id).unwrap().unwrap().try_into().unwrap())
}

fn one(n: f32) -> Vec<u8> {
    floats(&[1], &[n])
}

/// Writes one-element arrays under these paths of folder `d`.
fn files(folder: &Path, paths: &[(&str, f32)]) {
    let _ = fs::remove_dir_all(folder.join("d"));
    for (path, n) in paths {
        let path = folder.join("d").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match path.extension().and_then(|e| e.to_str()) {
            Some("npz") => npz(&path, false, &[("h", one(*n))]),
            Some("safetensors") => {
                tensors(&path, &[("h".into(), safetensors::Dtype::F32, vec![1], n.to_le_bytes().to_vec())])
            }
            _ => fs::write(&path, one(*n)).unwrap(),
        }
    }
}

/// Names as engines and people give them, without a map.
#[test]
fn names_of_dumps_that_lie_around_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let check = |paths: &[(&str, f32)], steps: (u32, u32), expected: &[&str], last: f32| {
        files(folder, paths);
        let report = imported(folder, &[]);
        let request = &report["traces"][0]["requests"][0];
        assert_eq!((&request["first"], &request["last"]), (&steps.0.into(), &steps.1.into()), "{paths:?}");
        assert_eq!(buffers(&report), expected, "{paths:?}");
        assert_eq!(value(folder, 1, steps.1, expected[expected.len() - 1]), last, "{paths:?}");
        report
    };
    check(&[("step_0001/codes.npy", 1.0), ("step_0002/codes.npy", 2.0)], (1, 2), &["codes"], 2.0);
    let layers = [("decode.17.layer3.k.npy", 1.0), ("decode.17.layer4.k.npy", 2.0)];
    check(&layers, (17, 17), &["layer3.k", "layer4.k"], 2.0);
    // The number of a layer is not the step, whether or not a word says which is.
    let layers = [("model.layers.0.out.5.npy", 1.0), ("model.layers.7.out.5.npy", 2.0)];
    check(&layers, (5, 5), &["model.layers.0.out", "model.layers.7.out"], 2.0);
    check(&[("step_9.npz", 9.0), ("step_10.npz", 10.0)], (9, 10), &["h"], 10.0);
    check(&[("prefill_0.npz", 1.0), ("decode_0.npz", 2.0), ("decode_1.npz", 3.0)], (1, 3), &["h"], 3.0);
    check(&[("a dump step 1 of hidden.npy", 1.0)], (1, 1), &["a_dump_of_hidden"], 1.0);
    check(&[("step=1,layer=2.npy", 1.0)], (1, 1), &["layer_2"], 1.0);
    // What tells ranks apart is no part of a name.
    let ranks =
        [("TP0_Rank0_pid7/Pass00001.safetensors", 1.0), ("TP1_Rank1_pid8/Pass00001.safetensors", 2.0)];
    let report = check(&ranks, (1, 1), &["h"], 1.0);
    assert_eq!(report["traces"][1]["buffers"][0]["name"], "h");
    assert_eq!((&report["traces"][0]["files"], &report["traces"][1]["rank"]), (&1.into(), &1.into()));

    // Keys that begin with the point; members that are arrays without the usual name.
    files(folder, &[]);
    fs::create_dir(folder.join("d")).unwrap();
    npz(&folder.join("d/step_1.npz"), false, &[("before/h", one(1.0)), ("after/h", one(2.0))]);
    assert_eq!(buffers(&imported(folder, &[])), ["h"]);
    assert_eq!(value(folder, 1, 1, "h"), 2.0);
    let mut zip = zip::ZipWriter::new(fs::File::create(folder.join("d/step_1.npz")).unwrap());
    for (name, bytes) in [("h", one(3.0)), ("about.txt", b"words".to_vec())] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    let report = imported(folder, &[]);
    assert_eq!(
        (value(folder, 1, 1, "h"), left_out(&report)),
        (3.0, vec!["about.txt in step_1.npz: no array"])
    );

    // An engine's own names take a pattern.
    let sglang = "forward_pass_id=1___rank=0___name=hidden___dump_index=4.npy";
    files(folder, &[(sglang, 1.0)]);
    refused(folder, &[], &["several numbers, and no word such as `step`"]);
    let pattern = r"step = 'forward_pass_id=(?<step>\d+)___rank=(?<rank>\d+)___name=(?<buffer>\w+?)___'";
    fs::write(folder.join("names.toml"), pattern).unwrap();
    assert_eq!(buffers(&imported(folder, &["--map", "names.toml"])), ["hidden"]);
    files(folder, &[("0/1.npy", 1.0)]);
    refused(folder, &[], &["0/1.npy: its name has several numbers"]);
}

/// Links are followed; one that leads back ends there. What is left out is named.
#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_end() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    files(folder, &[("step_1.npz", 1.0)]);
    fs::rename(folder.join("d"), folder.join("elsewhere")).unwrap();
    fs::create_dir_all(folder.join("one")).unwrap();
    fs::write(folder.join("one/h.npy"), one(2.0)).unwrap();
    fs::create_dir(folder.join("d")).unwrap();
    let link = |to: &str, at: &str| symlink(to, folder.join("d").join(at)).unwrap();
    link("../elsewhere/step_1.npz", "step_1.npz");
    link("../one", "step_2");
    link(".", "again");
    link("x", "x");
    link("nowhere.npz", "step_3.npz");
    symlink("../d", folder.join("one/back")).unwrap();
    let pipe = folder.join("d/step_4.npz");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let report = imported(folder, &[]);
    assert_eq!((value(folder, 1, 1, "h"), value(folder, 1, 2, "h")), (1.0, 2.0));
    let expected = [
        "again: a link back to a folder that it is in",
        "step_2/back: a link back to a folder that it is in",
        "step_3.npz: a link that leads nowhere",
        "step_4.npz: neither a file nor a folder",
        "x: a link that leads nowhere",
    ];
    assert_eq!(left_out(&report), expected);
    let all = symlink("d", folder.join("all"));
    all.unwrap();
    import(folder, &["--graph", "all", "-o", "linked"]).expect(0);
}

/// Files in a form that is not read, and what there is to do about each.
#[test]
fn what_is_not_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join("d").join(name), bytes).unwrap();
    files(folder, &[("step_1.npz", 1.0)]);

    // Pickles: with a command that makes tensors of them. What it made counts.
    write("step_2.pt", b"PK");
    let run = refused(folder, &[], &["d/step_2.pt: this is a pickle", "safetensors.torch.save_file"]);
    assert!(run.stderr.contains("torch.load(p, map_location=\"cpu\", weights_only=True)"), "{run:?}");
    assert!(run.stderr.trim_end().ends_with("' d '*.pt'"), "{run:?}");
    tensors(
        &folder.join("d/step_2.safetensors"),
        &[("h".into(), safetensors::Dtype::F32, vec![1], 2f32.to_le_bytes().to_vec())],
    );
    assert_eq!(left_out(&imported(folder, &[])), ["step_2.pt: a pickle"]);
    assert_eq!(value(folder, 1, 2, "h"), 2.0);
    // One by another name.
    let mut zip = zip::ZipWriter::new(fs::File::create(folder.join("d/step_3.npz")).unwrap());
    zip.start_file("archive/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    refused(folder, &[], &["d/step_3.npz: this is a pickle"]);
    fs::remove_file(folder.join("d/step_3.npz")).unwrap();

    // Packed files.
    write("step_3.npy.gz", &[0x1f, 0x8b]);
    refused(folder, &[], &["d/step_3.npy.gz: it is packed", "(gunzip -k)"]);
    fs::rename(folder.join("d/step_3.npy.gz"), folder.join("d/step_2.safetensors.gz")).unwrap();
    write("notes.txt.gz", &[0x1f, 0x8b]);
    let report = imported(folder, &[]);
    let expected =
        ["notes.txt.gz: no dump by its extension", "step_2.pt: a pickle", "step_2.safetensors.gz: packed"];
    assert_eq!(left_out(&report), expected);

    // Nothing but other files; files without arrays.
    files(folder, &[]);
    fs::create_dir(folder.join("d")).unwrap();
    write("step_1.json", b"{}");
    refused(folder, &[], &["d: it holds no dump, .npz, .npy or .safetensors", "step_1.json: no dump by"]);
    npz(&folder.join("d/step_1.npz"), false, &[]);
    refused(folder, &[], &["its dumps hold nothing to import"]);
    fs::remove_file(folder.join("d/step_1.json")).unwrap();
    refused(folder, &[], &["(left out: step_1.npz: it holds no array)"]);
    for (step, n) in [(0, 1.0), (2, 3.0)] {
        npz(&folder.join(format!("d/step_{step}.npz")), false, &[("h", one(n))]);
    }
    refused(folder, &[], &["step 1: not dumped (left out: step_1.npz: it holds no array)", "--allow-gaps"]);
    imported(folder, &["--allow-gaps"]);

    // More bytes than arrays.
    files(folder, &[("step_1.safetensors", 1.0)]);
    let mut bytes = fs::read(folder.join("d/step_1.safetensors")).unwrap();
    bytes.extend([0; 4]);
    write("step_1.safetensors", &bytes);
    refused(folder, &[], &["4 bytes follow its arrays"]);
}

/// Arrays of kinds that are not read can be left out; a map that is about nothing says so.
#[test]
fn a_map_leaves_out_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d")).unwrap();
    let records = npy_with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]);
    let half = npy("<V2", false, &[2], &[0x80, 0x3f, 0, 0x40]);
    let arrays = [
        ("h", one(1.0)),
        ("meta", npy("|O", false, &[], b"\x80\x04].")),
        ("request id", npy("<U6", false, &[1], &[0; 24])),
        ("records", records),
        ("hidden", half),
    ];
    npz(&folder.join("d/step_1.npz"), true, &arrays);
    let run = refused(folder, &[], &["d/step_1.npz: array `meta`: it holds Python objects"]);
    assert!(run.stderr.contains(r#"hint: or leave it out: ignore = ["meta"] in a --map"#), "{run:?}");
    let map = |text: &str| fs::write(folder.join("names.toml"), text).unwrap();
    map("ignore = ['meta', 'request*']\n");
    refused(folder, &["--map", "names.toml"], &["array `records`", "structured dtype"]);
    map("ignore = ['meta', 'request*', 'records']\n");
    let report = imported(folder, &["--map", "names.toml"]);
    assert_eq!(buffers(&report), ["h", "hidden"]);
    let note = "hidden: 16 bits without a type; if they are bfloat16, `[dtypes]` and `\"hidden\" = \"bf16\"` in a --map say so";
    assert_eq!(report["traces"][0]["notes"], serde_json::json!([note]));
    assert_eq!(report["notes"], serde_json::json!([]));

    map(concat!(
        "ignore = ['meta', 'request*', 'records', 'w.*']\n[dtypes]\nhidden = 'bf16'\nhiden = 'bf16'\n",
        "[names]\nlogits = 'l'\n[roles]\n'*x' = 'output'\n[requests.2]\ntext = 'a'\n"
    ));
    let report = imported(folder, &["--map", "names.toml"]);
    let about = |what: &str| format!("{what} in the map is about nothing in these dumps");
    let expected =
        ["`logits` of [names]", "`w.*` of ignore", "`*x` of [roles]", "`hiden` of [dtypes]", "[requests.2]"];
    assert_eq!(report["notes"], serde_json::json!(expected.map(about)));
    let trace = Trace::open(&folder.join("run.eager.twin")).unwrap();
    assert_eq!(trace.buffers()[1].dtype, DType::Bf16);
    let shown = twinstep(folder, &["print", "run.eager.twin", "hidden", "--at", "1", "--after"]).expect(0);
    assert!(shown.stdout.contains("[0]  1\n") && shown.stdout.contains("[1]  2\n"), "{shown:?}");
}

/// Two sides that do not begin at the same number.
#[test]
fn sides_that_count_from_other_numbers_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    files(folder, &[("step_1.npz", 1.0), ("step_2.npz", 2.0)]);
    fs::rename(folder.join("d"), folder.join("g")).unwrap();
    files(folder, &[("step_0.npz", 1.0), ("step_1.npz", 2.0)]);
    let report = imported(folder, &["--graph", "g"]);
    let told = "request 1 begins at step 1 in the eager run and at step 2 in the other: steps are compared by number";
    assert_eq!(report["notes"][1], told);
}

/// A line break in the name of a file or an array does not break the one line.
#[cfg(unix)]
#[test]
fn line_breaks_in_names_are_shown_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d")).unwrap();
    npz(&folder.join("d/step_1.npz"), false, &[("a\nb", npy("|O", false, &[], &[]))]);
    refused(folder, &[], &["array `a\\nb`: it holds Python objects"]);
    npz(&folder.join("d/step_1.npz"), false, &[("a", one(1.0))]);
    npz(&folder.join("d/step\n2.npz"), false, &[("a", one(1.0))]);
    let run = import(folder, &["--eager", "d", "-o", "run"]).expect(0);
    assert!(run.stdout.contains("left out: step\\n2.npz"), "{run:?}");
}

/// What a killed import leaves is removed by the next one; traces and files of others stay.
#[cfg(unix)]
#[test]
fn a_killed_import_leaves_nothing_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    files(folder, &[("step_1.npz", 1.0)]);
    imported(folder, &[]);
    let old = fs::read(folder.join("run.eager.twin")).unwrap();
    // Large and sparse: long enough to be killed in the middle.
    fs::create_dir(folder.join("large")).unwrap();
    for step in 1..=16 {
        let file = fs::File::create(folder.join(format!("large/step_{step}.npy"))).unwrap();
        let header = npy("<f4", false, &[64 << 20], &[]);
        (&file).write_all(&header).unwrap();
        file.set_len(header.len() as u64 + (256 << 20)).unwrap();
    }
    let mut child = Command::new(binary())
        .args(["import", "--eager", "large", "-o", "run", "--force"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let passing = || names(folder).into_iter().find(|name| name.starts_with(".twinstep-import-"));
    while passing().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Another import at the same time takes nothing from it.
    import(folder, &["--eager", "d", "-o", "other"]).expect(0);
    assert!(passing().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(passing().is_some(), "it was killed, and cleaned up?");
    assert_eq!(fs::read(folder.join("run.eager.twin")).unwrap(), old);
    fs::write(folder.join(".twinstep-import-mine.txt"), "mine").unwrap();
    import(folder, &["--eager", "d", "-o", "third"]).expect(0);
    let expected =
        [".twinstep-import-mine.txt", "d", "large", "other.eager.twin", "run.eager.twin", "third.eager.twin"];
    assert_eq!(names(folder), expected);
}

/// A bare name means what it meant at the point: before a step that has new memory under it, the old.
#[test]
fn a_name_means_what_it_meant_at_the_point() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d")).unwrap();
    let file =
        |name: &str, key: &str, array: Vec<u8>| npz(&folder.join("d").join(name), false, &[(key, array)]);
    file("step_1.npz", "h", floats(&[2], &[1.0, 2.0]));
    file("step_2.before.npz", "h", floats(&[2], &[3.0, 4.0]));
    file("step_2.npz", "h", floats(&[3], &[5.0, 6.0, 7.0]));
    imported(folder, &["--allow-reshape"]);
    let print = |more: &[&str]| twinstep(folder, &[&["print", "run.eager.twin"], more].concat());
    let shown = print(&["h", "--at", "2"]).expect(0).stdout;
    assert!(shown.starts_with("h@0 f32 [2] at step.before of step 2") && shown.contains("[1]  4"), "{shown}");
    let shown = print(&["h[2]", "--at", "2", "--after"]).expect(0).stdout;
    assert!(shown.starts_with("h@1 f32 [3] at step.after of step 2") && shown.contains("[2]  7"), "{shown}");
    assert!(print(&["h@1", "--at", "2"]).expect(2).stderr.contains("not known at step.before"));
    assert!(print(&["h", "--at", "1"]).expect(2).stderr.contains("add --after"));
}

/// Requests of two runs that were imported by themselves, numbered by each run's own ids.
#[test]
fn the_terminal_pairs_requests_as_diff_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("names.toml"), r"step = '(?<request>\w+)/(?<step>\d+)\.npy'").unwrap();
    // A: a is 1, b is 2. B: b is 1, c is 2.
    for (side, run) in [("--eager", [("a", 10.0), ("b", 20.0)]), ("--graph", [("b", 21.0), ("c", 77.0)])] {
        let _ = fs::remove_dir_all(folder.join("d"));
        for (request, first) in run {
            fs::create_dir_all(folder.join("d").join(request)).unwrap();
            for step in 1..=2u32 {
                fs::write(folder.join(format!("d/{request}/{step}.npy")), one(first + 100.0 * step as f32))
                    .unwrap();
            }
        }
        import(folder, &[side, "d", "--map", "names.toml", "-o", "run"]).expect(0);
    }
    let diff = twinstep(folder, &["diff", "run.eager.twin", "run.graph.twin"]).expect(1).stdout;
    assert!(
        diff.contains("request 2 (1 in B), step 1, at step.after: array[0] is 120 in A, 121 in B"),
        "{diff}"
    );
    let mut screen = Screen::start(folder, &["run.eager.twin", "run.graph.twin"]);
    screen.shows("first difference: step 2:1");
    // The rest of B comes after all of A.
    screen.shows("3:2");
    screen.keys("3");
    screen.shows("120");
    screen.until("B's b", |text| text.contains("121") && !text.contains("177"));
    screen.keys("\x1b\x1b");
    screen.keys("G3");
    screen.shows("277");
    screen.keys("q");
    screen.ends();
}

/// What `assert` says to run next can be run, and says more.
#[test]
fn the_next_commands_of_assert_work_on_imported_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pair = ["run.eager.twin", "run.graph.twin"];
    let sides = |eager: &[(&str, f32)], graph: &[(&str, f32)]| {
        let _ = fs::remove_dir_all(folder.join("g"));
        files(folder, graph);
        fs::rename(folder.join("d"), folder.join("g")).unwrap();
        files(folder, eager);
        imported(folder, &["--graph", "g"]);
        let report = twinstep(folder, &["assert", pair[0], pair[1], "--json"]).expect(1).json();
        report["next"].as_array().unwrap().iter().map(|next| next.as_str().unwrap().to_owned()).collect()
    };
    let next: Vec<String> =
        sides(&[("step1.npz", 1.0), ("step2.npz", 2.0)], &[("step1.npz", 1.0), ("step2.npz", 3.0)]);
    let expected = [
        "twinstep diff run.eager.twin run.graph.twin",
        "twinstep print run.eager.twin 'h[0]' --at 1:2 --after",
        "twinstep run.eager.twin run.graph.twin",
    ];
    assert_eq!(next, expected);
    let shown = twinstep(folder, &["print", pair[0], "h[0]", "--at", "1:2", "--after"]).expect(0).stdout;
    assert!(shown.contains("[0]  2"), "{shown}");
    // No place differs: there is nothing to print.
    let next: Vec<String> = sides(&[("step1.npz", 1.0), ("step2.npz", 2.0)], &[("step1.npz", 1.0)]);
    assert_eq!(next, expected[..1]);

    // Nor does an element where a shape does.
    fs::remove_dir_all(folder.join("g")).unwrap();
    for (side, shape) in [("d", 1), ("g", 2)] {
        fs::create_dir_all(folder.join(side)).unwrap();
        npz(
            &folder.join(side).join("step1.npz"),
            false,
            &[("h", floats(&[shape], &vec![1.0; shape as usize]))],
        );
        npz(
            &folder.join(side).join("step2.npz"),
            false,
            &[("h", floats(&[shape], &vec![1.0; shape as usize]))],
        );
    }
    imported(folder, &["--graph", "g"]);
    let diff = twinstep(folder, &["diff", pair[0], pair[1]]).expect(1).stdout;
    let told = "first difference: request 1, step 1, at step.after: h is f32 [1] in A, f32 [2] in B";
    assert!(diff.starts_with(told), "{diff}");
}

#[test]
fn what_explain_advises_can_be_done_with_dumps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (side, last) in [("e", 3.0), ("g", 4.0)] {
        fs::create_dir(folder.join(side)).unwrap();
        for (step, value) in (1..).zip([1.0, 2.0, last]) {
            npz(&folder.join(format!("{side}/step{step}.npz")), false, &[("h", one(value))]);
        }
    }
    import(folder, &["--eager", "e", "--graph", "g", "-o", "run"]).expect(0);
    let run = twinstep(folder, &["explain", "run.eager.twin", "run.graph.twin"]).expect(1);
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!text.contains("reexecute") && !text.contains("--launches"), "{text}");
    assert!(text.contains("dump more buffers that feed h") && text.contains("`twinstep attach`"), "{text}");
}
