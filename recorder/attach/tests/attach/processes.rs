//! Several processes: ranks, forks.

use crate::engine::{codes_are_as_printed, files, open, record, steps};

#[test]
fn each_rank_has_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::engine::attach(folder.path(), &[], ["dlsym", "children", "4"]);
    let run: crate::engine::Run = command.output().unwrap().into();
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert_eq!(files(folder.path()), ["run.rank0.twin", "run.rank1.twin"]);
    for rank in 0..2 {
        let trace = open(folder.path(), &format!("run.rank{rank}.twin"));
        assert!(trace.run().notes.contains(&("process.rank".to_owned(), rank.to_string())));
        let steps = steps(&trace);
        assert_eq!(steps.len(), 4);
        assert!(steps.iter().all(|step| step.rank == rank));
    }
}

#[test]
fn a_child_that_initialises_cuda_itself_has_a_trace_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::engine::attach(folder.path(), &[], ["proc", "fork-first", "3"]);
    let run: crate::engine::Run = command.output().unwrap().into();
    assert_eq!(run.status, Some(0), "{run:#?}");
    let names = files(folder.path());
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"run.twin".to_owned()));
    let mut process = Vec::new();
    for name in names {
        let trace = open(folder.path(), &name);
        assert_eq!(steps(&trace).len(), 3);
        process.extend(trace.run().notes.iter().find(|(key, _)| key == "process.pid").cloned());
    }
    assert_ne!(process[0], process[1]);
}

#[test]
fn a_process_that_only_looks_at_the_driver_takes_no_name_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "helper", "3"]);
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert_eq!(files(folder.path()), ["run.twin"]);
    assert_eq!(steps(&open(folder.path(), "run.twin")).len(), 3);
}

#[test]
fn a_child_that_no_handler_of_a_fork_saw_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "clone", "6"]);
    assert!(run.stdout.contains("child 0\n"), "{run:#?}");
    let codes: Vec<&str> = run.stdout.lines().filter(|line| !line.starts_with("child")).collect();
    assert_eq!(files(folder.path()), ["run.twin"]);
    codes_are_as_printed(&open(folder.path(), "run.twin"), "g0.n0.p0", &codes.join("\n"));
}

#[test]
fn children_of_a_recorded_process_leave_its_trace_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "fork", "6"]);
    // Two children leave it at that; the third initialises CUDA itself.
    let names = files(folder.path());
    assert_eq!((names.len(), names[1].as_str()), (2, "run.twin"), "{names:?}");
    assert_eq!(steps(&open(folder.path(), &names[0])).len(), 2);
    let trace = open(folder.path(), "run.twin");
    assert!(trace.complete());
    codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);
}
