//! Every way in which a program gets the driver's functions.

use twinstep_traces::{Item, StepKind};

use crate::engine::{
    Run, all_items, alone, attach, codes, codes_are_as_printed, engine, items, open, points, record,
    record_with_kernels, steps, twinstep, value,
};

#[test]
fn every_route_is_recorded_and_changes_nothing() {
    for route in ["linked", "dlsym", "proc", "proc-old", "thread"] {
        let folder = tempfile::tempdir().unwrap();
        let run = record(folder.path(), &[], [route, "loop", "6"]);
        let trace = open(folder.path(), "run.twin");
        assert!(trace.complete(), "{route}");
        assert_eq!(
            (trace.run().mode.as_str(), trace.run().device.name.as_str()),
            ("graph", "stub on host memory")
        );
        codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);
        for (i, step) in steps(&trace).iter().enumerate() {
            assert_eq!((step.kind, step.request, step.step), (StepKind::Decode, 1, i as u32 + 1), "{route}");
            assert_eq!(points(step), ["step.before", "step.after"], "{route}");
            let launches =
                items(&trace, step).iter().filter(|i| matches!(i, Item::GraphLaunch { .. })).count();
            assert_eq!(launches, 1, "{route}");
        }
    }
}

#[test]
fn a_graph_holds_its_kernels_with_parameters_and_the_buffers_they_point_to() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[], ["proc", "loop", "2"]);
    let trace = open(folder.path(), "run.twin");
    let program = trace.program(trace.graphs()[0].program).unwrap();
    let kernels: Vec<_> =
        program.items.iter().filter_map(|i| if let Item::Opaque(o) = i { Some(o) } else { None }).collect();
    assert_eq!(kernels.len(), 3, "{:?}", program.items);
    assert!(kernels[0].kernel.starts_with("embed_kernel("), "{}", kernels[0].kernel);
    assert_eq!((kernels[0].grid, kernels[0].block), ([1; 3], [32, 1, 1]));
    assert_eq!(kernels[0].parameters[2], 4u32.to_le_bytes());
    let named = |parameter| {
        let (.., view) = kernels[1].operands.iter().find(|(p, ..)| *p == parameter).unwrap();
        trace.buffer(view.buffer).unwrap().name.clone()
    };
    // The step kernel reads what the embedding wrote: one buffer, one name.
    assert_eq!((named(0), named(1)), ("g0.n1.p0".to_owned(), "g0.n0.p1".to_owned()));
}

#[test]
fn kernels_outside_graphs_are_recorded_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &["--launches"], ["proc", "eager", "3"]);
    let trace = open(folder.path(), "run.twin");
    let all = all_items(&trace);
    let kernels = all.iter().filter(|item| matches!(item, Item::Opaque(o) if !o.operands.is_empty()));
    assert_eq!(kernels.count(), 9, "three steps of three kernels");

    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[], ["proc", "eager", "3"]);
    let all = all_items(&open(folder.path(), "run.twin"));
    assert!(!all.iter().any(|item| matches!(item, Item::Opaque(_))));
}

#[test]
fn two_graphs_on_two_streams_have_points_of_their_own_and_events_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "streams", "5"]);
    let trace = open(folder.path(), "run.twin");
    codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);
    for step in steps(&trace) {
        assert_eq!(
            points(&step),
            [
                "step.before",
                "graph.0.before",
                "graph.0.after",
                "graph.1.before",
                "graph.1.after",
                "step.after"
            ]
        );
        let items = items(&trace, &step);
        let streams: Vec<u32> = items
            .iter()
            .filter_map(|i| if let Item::GraphLaunch { stream, .. } = i { Some(*stream) } else { None })
            .collect();
        assert_eq!(streams.len(), 2);
        assert_ne!(streams[0], streams[1]);
        let events = items.iter().filter(|i| matches!(i, Item::EventRecord { .. } | Item::EventWait { .. }));
        assert_eq!(events.count(), 4);
    }
}

#[test]
fn a_run_can_be_compared_with_an_unrecorded_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = attach(folder.path(), &["--check-undisturbed"], ["proc", "loop", "3"]);
    let run: Run = command.output().unwrap().into();
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert!(run.stderr.contains("undisturbed: both runs emitted the same"), "{run:#?}");
    assert_eq!(run.stdout.lines().count(), 3, "the unrecorded run's output is not shown");

    // A program that is not equal to itself.
    let mut command = twinstep(folder.path(), &["attach", "-o", "b.twin", "--check-undisturbed"]);
    let run: Run = command.args(["--", "sh", "-c", "echo $$; exit 0"]).output().unwrap().into();
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert!(run.stderr.contains("NOT the same: standard output differs"), "{run:#?}");
}

#[test]
fn the_driver_itself_lets_us_in_where_preloading_was_dropped() {
    for route in ["linked", "dlsym", "proc", "proc-old", "thread"] {
        let folder = tempfile::tempdir().unwrap();
        // A launcher that cleans the loader's variable: `env -u` is itself preloaded, what it starts is not.
        let engine = engine(route);
        let mut command =
            twinstep(folder.path(), &["attach", "-o", "run.twin", "--", "env", "-u", "LD_PRELOAD"]);
        let run: Run = command.arg(&engine).args([route, "loop", "6"]).output().unwrap().into();
        let plain = alone(folder.path(), [route, "loop", "6"]);
        assert_eq!((run.status, &run.stdout), (Some(0), &plain.stdout), "{route}: {run:#?}");
        let trace = open(folder.path(), "run.twin");
        assert!(trace.complete(), "{route}");
        codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);
    }
}

#[test]
fn a_driver_that_unloads_what_it_let_in_has_no_effect() {
    // Where nothing could be written, no thread of ours is left by then.
    for out in ["run.twin", "/proc/run.twin"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = twinstep(folder.path(), &["attach", "-o", out, "--", "env", "-u", "LD_PRELOAD"]);
        let run: Run = command.arg(engine("proc")).args(["proc", "unload", "6"]).output().unwrap().into();
        let plain = alone(folder.path(), ["proc", "unload", "6"]);
        assert_eq!((run.status, &run.stdout), (Some(0), &plain.stdout), "{out}: {run:#?}");
        if out == "run.twin" {
            codes_are_as_printed(&open(folder.path(), out), "g0.n0.p0", &run.stdout);
        }
    }
}

#[test]
fn threads_that_end_leave_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = record_with_kernels(folder.path(), ["thread", "threads", "24"]);
    let trace = open(folder.path(), "run.twin");
    codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);
    let all = all_items(&trace);
    assert!(!all.iter().any(|item| matches!(item, Item::Gap { reason } if reason.contains("snapshot"))));
}

#[test]
fn a_graph_launched_into_a_capture_runs_with_that() {
    for kernels in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["moves-proc", "nested", "3"];
        match kernels {
            false => record(folder.path(), &[], arguments),
            true => record_with_kernels(folder.path(), arguments),
        };
        let trace = open(folder.path(), "run.twin");
        assert_eq!((steps(&trace).len(), trace.graphs().len()), (3, 2));
        let launches = all_items(&trace).into_iter().filter_map(|item| match item {
            Item::GraphLaunch { graph, .. } => Some(graph.0),
            _ => None,
        });
        assert_eq!(launches.collect::<Vec<_>>(), [1; 3], "the one within was never launched by itself");
    }
}

#[test]
fn what_the_host_writes_for_a_step_belongs_to_that_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "feed", "4"]);
    let trace = open(folder.path(), "run.twin");
    let steps = steps(&trace);
    assert_eq!(steps.len(), 4);
    for (i, step) in steps.iter().enumerate() {
        // The first step's input came before anything was launched: it is set-up.
        let items = items(&trace, step);
        let kinds: Vec<&str> = items
            .iter()
            .map(|item| match item {
                Item::Copy { target: Some(_), source: None, .. } => "write",
                Item::Copy { .. } => "read",
                Item::GraphLaunch { .. } => "launch",
                _ => "other",
            })
            .collect();
        let expected: &[&str] = if i == 0 { &["launch", "read"] } else { &["write", "launch", "read"] };
        assert_eq!(kinds, expected, "step {}", step.step);
        let before = value(&trace, step, "step.before", "g0.n0.p0");
        assert_eq!(codes(&before), format!("{i} {} {} {}", i + 1, i + 2, i + 3));
        let after = value(&trace, step, "step.after", "g0.n0.p0");
        assert_eq!(codes(&after), run.stdout.lines().nth(i).unwrap());
    }
}
