//! What a control run excuses, and what it does not.

use std::fs;
use std::path::Path;

use twinstep_tests::dumps::{floats, npz};
use twinstep_tests::{Run, twinstep};

/// An imported run whose only buffer `h` holds these values, step by step.
fn record(folder: &Path, name: &str, mode: &str, steps: &[Vec<f32>]) {
    let dumps = folder.join(name);
    fs::create_dir_all(&dumps).unwrap();
    for (number, values) in (1..).zip(steps) {
        let array = floats(&[values.len() as u64], values);
        npz(&dumps.join(format!("step_{number}.npz")), false, &[("h", array)]);
    }
    twinstep(folder, &["import", &format!("--{mode}"), name, "-o", name, "--force"]).expect(0);
    fs::rename(folder.join(format!("{name}.{mode}.twin")), folder.join(format!("{name}.twin"))).unwrap();
}

/// Six steps of four values, each off by a little that `seed` decides.
fn steps(seed: usize) -> Vec<Vec<f32>> {
    let value = |step: usize, i: usize| step as f32 + ((seed * 7 + step * 5 + i * 3) % 11) as f32 * 1e-6;
    (1..=6).map(|step| (0..4).map(|i| value(step, i)).collect()).collect()
}

fn changed(seed: usize, change: impl Fn(&mut Vec<Vec<f32>>)) -> Vec<Vec<f32>> {
    let mut all = steps(seed);
    change(&mut all);
    all
}

fn diff(folder: &Path, control: &str, status: i32) -> Run {
    let control = format!("{control}.twin");
    twinstep(folder, &["diff", "a.twin", "b.twin", "--control", &control]).expect(status)
}

fn words(run: &Run) -> String {
    run.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_value_that_is_not_finite_excuses_its_own_element_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a", "eager", &steps(0));
    record(folder, "b", "eager", &changed(1, |all| all[5].iter_mut().for_each(|v| *v = -*v)));
    record(folder, "nan", "eager", &changed(2, |all| all[3][0] = f32::NAN));
    let run = diff(folder, "nan", 1);
    assert!(run.stdout.starts_with("first difference: request 1, step 6, at step.after: h[1]"), "{run:?}");
    let run = twinstep(folder, &["explain", "a.twin", "b.twin", "--control", "nan.twin"]).expect(1);
    assert!(run.stdout.starts_with("verdict: unknown"), "{run:?}");
    // The same element, from the step on in which the control shows it.
    for (step, status) in [(2, 1), (3, 0), (5, 0)] {
        record(folder, "b", "eager", &changed(1, |all| all[step][0] = f32::NAN));
        diff(folder, "nan", status);
    }
    record(folder, "b", "eager", &changed(1, |all| all[3][1] = f32::INFINITY));
    diff(folder, "nan", 1);
}

#[test]
fn nothing_later_excuses_anything_earlier() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a", "eager", &steps(0));
    record(folder, "late", "eager", &changed(2, |all| all[4][2] += 1.0));
    for (step, status) in [(1, 1), (3, 1), (4, 0), (5, 0)] {
        record(folder, "b", "eager", &changed(1, |all| all[step][2] += 0.5));
        let run = diff(folder, "late", status);
        let said = format!("step {}, at step.after: h[2]", step + 1);
        assert_eq!(run.stdout.contains(&said), status == 1, "{run:?}");
    }
    // What is noise is said.
    let text = words(&diff(folder, "late", 0));
    assert!(
        text.contains("control: h differs by up to ")
            && text.contains(
                "e-6 from step 1 on, 1.0e0 from step 5 on; up to 4 times what it showed so far is noise"
            ),
        "{text}"
    );
    let json = twinstep(folder, &["diff", "a.twin", "b.twin", "--control", "late.twin", "--json"]);
    let json = json.expect(0).json();
    let rises = json["control"]["noisy"][0]["rises"].as_array().unwrap();
    assert_eq!(rises.last().unwrap()["from"], "5", "{json}");
    assert!(rises[0]["greatest"].as_f64().unwrap() < 1e-4, "{json}");
    // Equal to A, it makes noise of nothing.
    record(folder, "again", "eager", &steps(0));
    let text = words(&diff(folder, "again", 1));
    assert!(text.contains("control: equals A in all 6 steps that both have"), "{text}");
}

#[test]
fn the_first_element_beyond_the_noise_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a", "eager", &steps(0));
    record(folder, "b", "eager", &changed(1, |all| all[3][2] += 1.0));
    record(folder, "a2", "eager", &steps(2));
    let run = diff(folder, "a2", 1);
    assert!(run.stdout.starts_with("first difference: request 1, step 4, at step.after: h[2] is"), "{run:?}");
    let run = twinstep(folder, &["diff", "a.twin", "b.twin"]).expect(1);
    assert!(run.stdout.contains("step 1, at step.after: h[0] is"), "{run:?}");
}

#[test]
fn a_control_run_is_a_second_run_of_the_mode_of_a() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder, "a", "graph", &steps(0));
    record(folder, "b", "eager", &steps(1));
    record(folder, "b2", "eager", &steps(2));
    fs::create_dir(folder.join("x")).unwrap();
    for (control, said) in [
        ("b.twin", "the control run is the file of B"),
        ("x/../a.twin", "the control run is the file of A"),
        (
            "b2.twin",
            "A ran in mode \"graph\", the control in \"eager\": give a second run of A's mode, or swap A and B",
        ),
    ] {
        for command in ["diff", "explain"] {
            let run = twinstep(folder, &[command, "a.twin", "b.twin", "--control", control]).expect(2);
            assert!(run.stdout.is_empty() && run.stderr.contains(said), "{command}: {run:?}");
            assert!(run.stderr.lines().count() <= 2, "{run:?}");
        }
    }
}
