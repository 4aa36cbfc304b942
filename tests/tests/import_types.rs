//! Types that traces do not have, names of one side only, order and points: what `import` says of dumps, and what
//! `assert`, `check` and `diff` make of it.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use twinstep_tests::dumps::{floats, npy, npz, tensors};
use twinstep_tests::{Run, twinstep};
use twinstep_traces::{Item, Trace};

const PAIR: [&str; 2] = ["run.graph.twin", "run.eager.twin"];

fn import(folder: &Path, arguments: &[&str]) -> Run {
    twinstep(folder, &[&["import", "-o", "run", "--force"], arguments].concat())
}

/// Steps of two folders, `e` and `g`, imported: an array `x` each, of this type and with these bytes.
fn pair(folder: &Path, descr: [&str; 2], shape: &[u64], eager: &[u8], graph: &[u8]) {
    for (side, descr, bytes) in [("e", descr[0], eager), ("g", descr[1], graph)] {
        let _ = fs::remove_dir_all(folder.join(side));
        fs::create_dir(folder.join(side)).unwrap();
        for step in 1..=3 {
            // The first step is alike, so that what is found is not of old memory.
            let bytes = if step == 2 { bytes } else { eager };
            let file = folder.join(side).join(format!("step_{step}.npz"));
            npz(&file, false, &[("x", npy(descr, false, shape, bytes)), ("same", floats(&[1], &[1.0]))]);
        }
    }
    import(folder, &["--eager", "e", "--graph", "g"]).expect(0);
}

fn assert(folder: &Path, policy: &str) -> Run {
    fs::write(folder.join("p.toml"), policy).unwrap();
    twinstep(folder, &[&["assert"], &PAIR[..], &["--policy", "p.toml"]].concat())
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn no_rule_for_numbers_judges_single_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pair(folder, ["<f8", "<f8"], &[2], &doubles(&[1.0, 1.0]), &doubles(&[1.0, 65536.0]));
    let trace = Trace::open(&folder.join(PAIR[0])).unwrap();
    assert!(trace.run().notes.contains(&("source.dtype.x".into(), "float64".into())));
    let demands = [
        "ulp = 4",
        "abs = 1",
        "rel = 1",
        "statistic = 'mean'\nabs = 1",
        "statistic = 'nonfinite'\nabs = 0",
        "top_k = 1",
        "codes = true",
    ];
    for demand in demands {
        for more in [&[][..], &["--self-test"]] {
            fs::write(folder.join("p.toml"), format!("[[rule]]\nbuffer = 'x'\n{demand}\n")).unwrap();
            let run =
                twinstep(folder, &[&["assert"], &PAIR[..], &["--policy", "p.toml"], more].concat()).expect(2);
            let line = run.stderr.lines().next().unwrap_or_default();
            assert!(
                line.starts_with("error: p.toml:1:1: `x` is float64, a type that traces do not have"),
                "{run:?}"
            );
            assert!(line.contains("only `exact` and `ignore` rules"), "{run:?}");
        }
    }
    let failed = assert(folder, "[[rule]]\nbuffer = 'x'\nexact = true\n").expect(1);
    assert!(failed.stdout.contains("x[1,"), "{failed:?}");
    assert(folder, "[[rule]]\nbuffer = 'x'\nignore = 'wide'\n").expect(0);
    // Of the last step alone nothing differs: the kind of rule counts, not the values.
    assert(folder, "[[rule]]\nbuffer = 'x'\nsteps = '3'\nabs = 1\n").expect(2);
    assert(folder, "[[rule]]\nbuffer = 'same'\nabs = 1\n[[rule]]\nbuffer = 'x'\nignore = 'wide'\n").expect(0);
}

#[test]
fn check_says_which_floats_it_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pair(folder, ["<f8", "<f8"], &[2], &doubles(&[1.0, 1.0]), &doubles(&[1.0, f64::NAN]));
    let run = twinstep(folder, &["check", PAIR[0]]).expect(0);
    let note =
        "not looked at: nonfinite: of types that the format does not name, stored as bytes: x (float64)";
    assert!(run.stdout.contains(note), "{run:?}");
    pair(folder, ["<i2", "<i2"], &[2], &[0; 4], &[0; 4]);
    let run = twinstep(folder, &["check", PAIR[0]]).expect(0);
    assert!(!run.stdout.contains("nonfinite: of types"), "{run:?}");
}

#[test]
fn bytes_of_other_types_are_not_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pair(folder, ["<i2", "<u2"], &[2], &[255; 4], &[255; 4]);
    let run = twinstep(folder, &[&["assert"], &PAIR[..]].concat()).expect(1);
    assert!(run.stdout.contains("x (uint16 in A, int16 in B)"), "{run:?}");
    let run = twinstep(folder, &[&["diff"], &PAIR[..]].concat());
    assert!(run.stdout.contains("x (uint16 in A, int16 in B)"), "{run:?}");
    assert(folder, "[[rule]]\nbuffer = 'x'\nignore = 'bits'\n").expect(0);
    // The same types by two formats' words, and bits that NumPy has no type for.
    for (dtype, descr, bytes) in
        [(Dtype::F64, "<f8", 8), (Dtype::F8_E5M2, "<f1", 1), (Dtype::F8_E4M3, "|V1", 1)]
    {
        pair(folder, [descr, descr], &[2], &vec![0; 2 * bytes], &vec![0; 2 * bytes]);
        fs::remove_dir_all(folder.join("g")).unwrap();
        fs::create_dir(folder.join("g")).unwrap();
        for step in 1..=3 {
            let x = ("x".to_owned(), dtype, vec![2], vec![0; 2 * bytes]);
            let same = ("same".to_owned(), Dtype::F32, vec![1], 1f32.to_le_bytes().to_vec());
            tensors(&folder.join(format!("g/step_{step}.safetensors")), &[x, same]);
        }
        import(folder, &["--eager", "e", "--graph", "g"]).expect(0);
        twinstep(folder, &[&["assert"], &PAIR[..]].concat()).expect(0);
    }
}

#[test]
fn names_of_one_run_alone_fail_an_assertion() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (side, names) in [("e", ["pt", "hidden", "lm_logits"]), ("g", ["pt", "hidden_states", "logits"])] {
        fs::create_dir(folder.join(side)).unwrap();
        for step in 1..=3 {
            let arrays = names.map(|name| (name, floats(&[1], &[1.0])));
            npz(&folder.join(side).join(format!("step_{step}.npz")), false, &arrays);
        }
    }
    import(folder, &["--eager", "e", "--graph", "g"]).expect(0);
    let run = twinstep(folder, &[&["assert"], &PAIR[..]].concat()).expect(1);
    assert!(run.stdout.contains("only in A: hidden_states, logits; only in B: hidden, lm_logits"), "{run:?}");
    assert(folder, "require_buffers = false\n").expect(0);
    let run = assert(folder, "[[rule]]\nbuffer = '*logits'\nignore = 'renamed'\n").expect(1);
    assert!(run.stdout.contains("only in A: hidden_states; only in B: hidden"), "{run:?}");
    let ignores =
        ["*logits", "hidden*"].map(|name| format!("[[rule]]\nbuffer = '{name}'\nignore = 'renamed'\n"));
    assert(folder, &ignores.concat()).expect(0);
    let idle =
        assert(folder, &format!("{}[[rule]]\nbuffer = 'z'\nignore = 'slip'\n", ignores.concat())).expect(1);
    assert!(idle.stdout.contains("rules that judge nothing: `z: ignore`"), "{idle:?}");
}

#[test]
fn layers_are_declared_as_people_count_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for side in ["e", "g"] {
        fs::create_dir_all(folder.join(side).join("step_2")).unwrap();
        let value = |layer: u32| if side == "g" && layer >= 2 { 1f32 } else { 0.0 };
        let tensor = |n: u32| (format!("layer.{n}.k"), Dtype::F32, vec![1], value(n).to_le_bytes().to_vec());
        let all: Vec<_> = (0..12).map(tensor).collect();
        tensors(&folder.join(side).join("step_1.safetensors"), &all);
        for n in 0..12 {
            fs::write(folder.join(side).join(format!("step_2/layer.{n}.v.npy")), floats(&[1], &[value(n)]))
                .unwrap();
        }
    }
    import(folder, &["--eager", "e", "--graph", "g"]).expect(0);
    let trace = Trace::open(&folder.join(PAIR[0])).unwrap();
    let names: Vec<&str> = trace.buffers().iter().map(|b| b.name.as_str()).collect();
    let expected: Vec<String> =
        ["k", "v"].iter().flat_map(|l| (0..12).map(move |n| format!("layer.{n}.{l}"))).collect();
    assert_eq!(names, expected);
    let run = twinstep(folder, &[&["diff"], &PAIR[..]].concat()).expect(1);
    assert!(
        run.stdout.starts_with("first difference: request 1, step 1, at step.after: layer.2.k"),
        "{run:?}"
    );
}

#[test]
fn points_of_a_step_have_an_order_and_gaps_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("e")).unwrap();
    for (step, point) in (1..=2).flat_map(|n| ["qkv", "layer.10", "layer.2", "after"].map(move |p| (n, p))) {
        npz(
            &folder.join(format!("e/step_{step}.{point}.npz")),
            false,
            &[("x", floats(&[1], &[step as f32]))],
        );
    }
    let step = r"step = 'step_(?<step>\d+)\.(?<point>.*)\.npz'";
    let map = |points: &str| fs::write(folder.join("m.toml"), format!("{step}\n{points}\n")).unwrap();
    let points = || {
        import(folder, &["--eager", "e", "--map", "m.toml"]).expect(0);
        let trace = Trace::open(&folder.join(PAIR[1])).unwrap();
        let step = trace.step(trace.find_step(1, 2).unwrap().unwrap()).unwrap();
        let items = &trace.program(step.program).unwrap().items;
        // Something unknown ran before each of them.
        for point in &step.points {
            assert!(matches!(items[point.position as usize - 1], Item::Gap { .. }), "{}", point.point);
        }
        let mut positions: Vec<u32> = step.points.iter().map(|p| p.position).collect();
        positions.dedup();
        assert_eq!(positions.len(), step.points.len());
        step.points.iter().map(|p| p.point.clone()).collect::<Vec<_>>()
    };
    map("");
    assert_eq!(points(), ["layer.2", "layer.10", "qkv", "step.after"]);
    map("points = ['qkv', 'layer.10', 'layer.2']");
    assert_eq!(points(), ["qkv", "layer.10", "layer.2", "step.after"]);
    for (list, told) in [
        (
            "points = ['qkv', 'mlp']",
            "m.toml:2:18: `mlp` is no point of these dumps: they have layer.10, layer.2, qkv",
        ),
        (
            "points = ['qkv', 'layer.2']",
            "m.toml:2:10: `layer.10` is a point of these dumps and not in `points`",
        ),
        ("points = ['after']", "m.toml:2:11: `after` has its place"),
    ] {
        map(list);
        let run = import(folder, &["--eager", "e", "--map", "m.toml"]).expect(2);
        assert!(run.stderr.starts_with(&format!("error: {told}")), "{run:?}");
    }
}

/// Refused with status 2 and this beginning of the first line.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) -> Run {
    let run = import(folder, arguments).expect(2);
    let line = run.stderr.lines().next().unwrap_or_default();
    assert!(
        line.starts_with("error: ") && words.iter().all(|word| line.contains(word)),
        "{words:?}: {run:?}"
    );
    run
}

#[test]
fn numbers_of_steps_that_mislead_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let dump = |side: &str, names: &[&str]| {
        let _ = fs::remove_dir_all(folder.join(side));
        fs::create_dir(folder.join(side)).unwrap();
        for name in names {
            npz(&folder.join(side).join(name), false, &[("h", floats(&[1], &[1.0]))]);
        }
    };
    dump("e", &["step_-2.npz", "step_-1.npz", "step_0.npz"]);
    refused(folder, &["--eager", "e"], &["e/step_-", "its step has a minus before it"]);
    dump("e", &["prefill.npz", "step_1.npz", "step_2.npz", "step_3.npz"]);
    dump("g", &["prefill.npz", "step_0.npz", "step_1.npz", "step_2.npz"]);
    import(folder, &["--eager", "e"]).expect(0);
    let words = ["e has a prefill and steps 1 to 3, g has a prefill and steps 0 to 2", "different numbers"];
    let run = refused(folder, &["--eager", "e", "--graph", "g"], &words);
    assert!(!run.stderr.contains("not dumped"), "{run:?}");
    // What is really missing is still told.
    dump("g", &["prefill.npz", "step_1.npz", "step_3.npz"]);
    refused(folder, &["--eager", "e", "--graph", "g"], &["step 2: not dumped"]);
}

#[test]
fn members_scalars_and_arrays_too_large_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let side = |name: &str| {
        let _ = fs::remove_dir_all(folder.join(name));
        fs::create_dir(folder.join(name)).unwrap();
        folder.join(name)
    };
    let mut zip = zip::ZipWriter::new(fs::File::create(side("e").join("step_1.npz")).unwrap());
    for name in ["x", "x.npy"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &floats(&[1], &[1.0])).unwrap();
    }
    zip.finish().unwrap();
    refused(folder, &["--eager", "e"], &["step_1.npz: its members `x` and `x.npy` are both the array `x`"]);

    for (name, shape) in [("e", &[][..]), ("g", &[1])] {
        fs::write(side(name).join("x_step1.npy"), floats(shape, &[1.0])).unwrap();
        fs::write(folder.join(name).join("x_step2.npy"), floats(shape, &[1.0])).unwrap();
    }
    import(folder, &["--eager", "e", "--graph", "g"]).expect(0);
    let run = twinstep(folder, &[&["assert"], &PAIR[..]].concat()).expect(1);
    assert!(run.stdout.contains("f32 [1] in A, f32 [] in B"), "{run:?}");
    let shown = twinstep(folder, &["print", PAIR[1], "x", "--at", "1", "--after"]).expect(0);
    assert!(shown.stdout.contains('1'), "{shown:?}");

    for (name, value) in [("e", 1.0), ("g", 2.0)] {
        fs::write(folder.join(name).join("x_step1.npy"), floats(&[], &[1.0])).unwrap();
        fs::write(folder.join(name).join("x_step2.npy"), floats(&[], &[value])).unwrap();
    }
    import(folder, &["--eager", "e", "--graph", "g"]).expect(0);
    let run = twinstep(folder, &[&["diff"], &PAIR[..]].concat()).expect(1);
    assert!(run.stdout.contains("step 2, at step.after: x[] is 2 in A, 1 in B"), "{run:?}");

    // What is too large can be left out by the name of its buffer, and what cannot work is not advised.
    let huge = npy("<f4", false, &[1 << 40, 1 << 40], &[0; 4]);
    fs::write(side("e").join("y_step1.npy"), &huge).unwrap();
    fs::write(folder.join("e/x_step1.npy"), floats(&[1], &[1.0])).unwrap();
    let run = refused(folder, &["--eager", "e"], &["y_step1.npy"]);
    assert!(!run.stderr.contains("ignore = [\"\"]"), "{run:?}");
    fs::write(folder.join("m.toml"), "ignore = ['y']\n").unwrap();
    npz(&folder.join("e/step_1.npz"), false, &[("y", huge), ("z", floats(&[1], &[1.0]))]);
    fs::remove_file(folder.join("e/y_step1.npy")).unwrap();
    let run = refused(folder, &["--eager", "e"], &["array `y`"]);
    assert!(run.stderr.contains("ignore = [\"y\"]"), "{run:?}");
    import(folder, &["--eager", "e", "--map", "m.toml"]).expect(0);
}
