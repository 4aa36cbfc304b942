//! However a program ends, what was committed can be read; whatever happens to the disk, the program goes on.

use std::process::Stdio;
use std::time::Duration;

use twinstep_traces::{Item, Trace};

use crate::engine::{
    Run, all_items, alone, attach, codes, codes_are_as_printed, engine, files, open, record,
    record_with_kernels, steps, twinstep, value,
};

#[test]
fn endings_without_a_farewell_leave_a_readable_trace() {
    for scenario in ["_exit", "abort", "kill"] {
        let folder = tempfile::tempdir().unwrap();
        let run = record(folder.path(), &[], ["proc", scenario, "8"]);
        let trace = open(folder.path(), "run.twin");
        // `_exit` is wrapped: what ran before it is written first.
        let whole = scenario == "_exit";
        assert_eq!(trace.complete(), whole, "{scenario}");
        let steps = steps(&trace);
        // The last step is not over until the next begins.
        assert!(steps.len() >= 7, "{scenario}: {} steps", steps.len());
        for (step, line) in steps.iter().zip(run.stdout.lines()) {
            assert_eq!(codes(&value(&trace, step, "step.after", "g0.n0.p0")), line, "{scenario}");
        }
        assert_eq!(run.stderr.contains("not closed"), !whole, "{scenario}: {}", run.stderr);
    }
}

#[test]
fn a_program_that_waits_has_all_its_steps_in_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "idle-kill", "5"]);
    let trace = open(folder.path(), "run.twin");
    assert!(!trace.complete());
    codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);

    // One that goes on has as many steps as without the pause.
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "idle", "5"]);
    let trace = open(folder.path(), "run.twin");
    let printed: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((printed.len(), printed[4]), (9, printed[5]), "it reads once more after the pause");
    let launches = [&printed[..5], &printed[6..]].concat().join("\n");
    codes_are_as_printed(&trace, "g0.n0.p0", &launches);
    let numbers: Vec<u32> = steps(&trace).iter().map(|step| step.step).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn sigkill_at_any_moment_leaves_a_readable_trace() {
    let mut cut_short = 0;
    for (i, delay_ms) in [20, 40, 80, 150, 300].into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        // Killed from outside, in whatever both threads do.
        let script = format!(
            "{} proc forever 0 & child=$!; sleep {}; kill -9 $child; wait $child; exit 0",
            engine("proc").display(),
            f64::from(delay_ms) / 1000.0
        );
        let mut command = twinstep(folder.path(), &["attach", "-o", "run.twin", "--", "sh", "-c", &script]);
        let run: Run = command.output().unwrap().into();
        assert_eq!(run.status, Some(0), "{run:#?}");
        if !files(folder.path()).contains(&"run.twin".to_owned()) {
            continue;
        }
        let trace = open(folder.path(), "run.twin");
        assert!(!trace.complete());
        let steps = steps(&trace);
        cut_short += usize::from(!steps.is_empty());
        for (step, line) in steps.iter().zip(run.stdout.lines()) {
            assert_eq!(codes(&value(&trace, step, "step.after", "g0.n0.p0")), line, "kill {i}");
        }
    }
    assert!(cut_short >= 2, "no kill fell into a recording: {cut_short}");
}

/// As [`attach`], with files of so many blocks of 512 bytes at most.
fn limited(folder: &std::path::Path, blocks: u32, options: &[&str], arguments: [&str; 3]) -> Run {
    let command = attach(folder, options, arguments);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", &format!("ulimit -f {blocks}; exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    let environment = command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
    limited.envs(environment).current_dir(folder).stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let plain = alone(folder.path(), ["proc", "loop", "400"]);
    let run = limited(folder.path(), 64, &[], ["proc", "loop", "400"]);
    assert_eq!((run.status, &run.stdout), (Some(0), &plain.stdout), "{}", run.stderr);
    assert!(run.stderr.contains("recording ended"), "{}", run.stderr);
    let trace = open(folder.path(), "run.twin");
    assert!(!trace.complete() && !steps(&trace).is_empty());
    assert!(steps(&trace).len() < 400);
}

#[test]
fn a_disk_that_fills_leaves_no_second_file_of_a_ring() {
    let folder = tempfile::tempdir().unwrap();
    let plain = alone(folder.path(), ["proc", "loop", "600"]);
    // The second file is begun at half the size, with room for less than the first needs.
    let run = limited(folder.path(), 100, &["--ring", "64KiB"], ["proc", "loop", "600"]);
    assert_eq!((run.status, &run.stdout), (Some(0), &plain.stdout), "{}", run.stderr);
    assert!(run.stderr.contains("recording ended"), "{}", run.stderr);
    assert_eq!(files(folder.path()), ["run.twin"]);
    assert!(!steps(&open(folder.path(), "run.twin")).is_empty());
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_recording_and_not_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let plain = alone(folder.path(), ["proc", "loop", "40"]);
    // Nobody makes files there, whoever asks.
    let mut command = twinstep(folder.path(), &["attach", "-o", "/proc/run.twin", "--"]);
    let run: Run = command.arg(engine("proc")).args(["proc", "loop", "40"]).output().unwrap().into();
    assert_eq!((run.status, &run.stdout), (Some(0), &plain.stdout), "{}", run.stderr);
    assert!(
        run.stderr.contains("recording ended") && run.stderr.contains("/proc/run.twin"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_context_that_goes_takes_the_recording_with_it_and_not_the_program() {
    for (how, kernels) in [
        ("gone-reset", true),
        ("gone-reset", false),
        ("gone-destroyed", true),
        ("gone-destroyed", false),
        ("gone-released", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = match kernels {
            true => record_with_kernels(folder.path(), ["moves-proc", how, "1"]),
            false => record(folder.path(), &[], ["moves-proc", how, "1"]),
        };
        assert_eq!((run.status, run.stdout.lines().count()), (Some(0), 54), "{how}: {run:#?}");
        let trace = open(folder.path(), "run.twin");
        assert!(trace.complete(), "{how}");
        assert_eq!(steps(&trace).len(), 4, "{how}: contexts that had nothing changed nothing");
        let said =
            |item: &Item| matches!(item, Item::Mark { text } if text.starts_with("the recording ended here"));
        assert!(all_items(&trace).last().is_some_and(said), "{how}");
    }
}

#[test]
fn what_led_to_a_first_launch_that_never_ends_is_in_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let run: Run = attach(folder.path(), &[], ["moves-proc", "hang", "1"]).output().unwrap().into();
    assert_eq!((run.status, run.stdout.as_str()), (Some(137), "launched\n"), "{run:#?}");
    let trace = open(folder.path(), "run.twin");
    assert!(!trace.complete() && steps(&trace).is_empty());
    assert_eq!((trace.run().mode.as_str(), trace.graphs().len()), ("graph", 1));
    let all = all_items(&trace);
    assert!(all.iter().any(|item| matches!(item, Item::Capture { .. })), "{all:?}");
    assert!(all.iter().any(|item| matches!(item, Item::Allocate { .. })), "{all:?}");
}

#[test]
fn a_program_without_cuda_is_told_in_one_line_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["dlsym", "no-cuda", "1"]);
    assert_eq!(run.stderr, "twinstep: nothing was recorded: the program never initialised CUDA\n");
    assert_eq!(run.status, Some(7));
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_trace_without_steps_or_memory_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &["--launches"], ["dlsym", "eager", "3"]);
    assert!(run.stderr.contains("no step is in it") && run.stderr.contains("r.step()"), "{}", run.stderr);
    std::fs::write(folder.path().join("watch.toml"), "auto_bytes = 0\n").unwrap();
    let run = record(folder.path(), &["--force", "--watch", "watch.toml"], ["dlsym", "loop", "3"]);
    assert!(run.stderr.contains("no memory is in it"), "{}", run.stderr);
    let run = record(folder.path(), &["--force", "--start-on", "signal"], ["dlsym", "loop", "3"]);
    assert!(run.stderr.contains("--start-on signal did not come"), "{}", run.stderr);
    let run = record(folder.path(), &["--force"], ["dlsym", "loop", "3"]);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

#[test]
fn a_program_whose_main_thread_leaves_first_ends() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["dlsym", "main-leaves", "4"]);
    assert_eq!(run.status, Some(0));
    assert_eq!(run.stdout, "still here\n");
    assert!(open(folder.path(), "run.twin").complete());
}

#[test]
fn an_older_trace_is_replaced_only_when_asked_for_and_only_once_there_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.twin");
    std::fs::write(&path, "precious").unwrap();
    let refused: Run = attach(folder.path(), &[], ["dlsym", "loop", "2"]).output().unwrap().into();
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""), "{refused:#?}");
    assert!(refused.stderr.contains("--force"), "{refused:#?}");
    // No CUDA, no trace: the old file stays.
    attach(folder.path(), &["--force"], ["dlsym", "no-cuda", "2"]).output().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let replaced: Run = attach(folder.path(), &["--force"], ["dlsym", "loop", "2"]).output().unwrap().into();
    assert_eq!(replaced.status, Some(0), "{replaced:#?}");
    assert_eq!(steps(&open(folder.path(), "run.twin")).len(), 2);
    assert_eq!(files(folder.path()), ["run.twin"]);
}

#[test]
fn a_second_process_never_takes_the_first_ones_file() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{0} dlsym loop 2; {0} dlsym loop 3", engine("dlsym").display());
    let mut command =
        twinstep(folder.path(), &["attach", "-o", "run.twin", "--force", "--", "sh", "-c", &script]);
    assert!(command.output().unwrap().status.success());
    let counts: Vec<usize> =
        files(folder.path()).iter().map(|name| steps(&open(folder.path(), name)).len()).collect();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts.iter().sum::<usize>(), 5);
    assert_eq!(steps(&open(folder.path(), "run.twin")).len(), 2);
}

#[test]
fn a_reader_sees_committed_steps_while_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = attach(folder.path(), &[], ["proc", "forever", "0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let path = folder.path().join("run.twin");
    let seen = (0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(25));
        Trace::open(&path).is_ok_and(|trace| steps(&trace).len() > 20)
    });
    // What ends attach is passed on to the program.
    std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let status = child.wait().unwrap();
    assert!(seen);
    assert_eq!(status.code(), Some(128 + 15));
    let all = all_items(&open(folder.path(), "run.twin"));
    assert!(!all.iter().any(|item| matches!(item, Item::Gap { .. })));
}
