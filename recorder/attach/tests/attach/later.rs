//! Recording that begins later or keeps the end only.

use twinstep_traces::{Item, StepKind};

use crate::engine::{Run, all_items, alone, attach, codes, files, open, record, records, steps, value};

#[test]
fn a_ring_keeps_the_last_steps_and_everything_they_refer_to() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &["--ring", "64KiB"], ["proc", "loop", "600"]);
    assert_eq!(files(folder.path()), ["run.twin"]);
    let trace = open(folder.path(), "run.twin");
    assert!(trace.complete());
    let kept = steps(&trace);
    assert!(kept.len() > 5 && kept.len() < 300, "{} steps", kept.len());
    assert!(trace.file_bytes() < 160 << 10, "{} bytes", trace.file_bytes());
    // The last ones, numbered as they ran, with the contents they had.
    assert_eq!(kept.last().unwrap().step, 600);
    let lines: Vec<&str> = run.stdout.lines().collect();
    for (i, step) in kept.iter().enumerate() {
        assert_eq!(step.step as usize, 600 - kept.len() + 1 + i);
        let printed = lines[step.step as usize - 1];
        assert_eq!(codes(&value(&trace, step, "step.after", "g0.n0.p0")), printed, "step {}", step.step);
        assert_eq!(codes(&value(&trace, step, "step.before", "g0.n0.p0")), lines[step.step as usize - 2]);
    }
    // Captures and allocations of the beginning are there, and how many steps are not.
    let all = all_items(&trace);
    assert_eq!(all.iter().filter(|item| matches!(item, Item::Capture { .. })).count(), 1);
    assert!(all.iter().filter(|item| matches!(item, Item::Allocate { .. })).count() >= 3);
    let dropped = format!("ring: {} steps before this were not kept", kept[0].step - 1);
    assert!(all.contains(&Item::Mark { text: dropped.clone() }), "{dropped}");
}

#[test]
fn recording_can_begin_at_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &["--start-on", "request:2"], ["proc", "told", "3"]);
    let trace = open(folder.path(), "run.twin");
    let steps = steps(&trace);
    assert_eq!(steps.iter().map(|s| (s.request, s.step)).collect::<Vec<_>>(), [(2, 1), (2, 2), (2, 3)]);
    for (step, line) in steps.iter().zip(run.stdout.lines().skip(3)) {
        assert_eq!(codes(&value(&trace, step, "step.after", "last_codes")), line);
    }
    let all = all_items(&trace);
    assert!(all.contains(&Item::Capture { graph: trace.graphs()[0].id }), "what came before is followed");
    assert!(all.iter().any(|i| matches!(i, Item::Mark { text } if text.contains("request 2"))), "{all:?}");
}

#[test]
fn recording_can_begin_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let run: Run =
        attach(folder.path(), &["--start-on", "signal"], ["proc", "signal", "10"]).output().unwrap().into();
    // Unrecorded, the signal ends the engine.
    let plain = alone(folder.path(), ["proc", "loop", "10"]);
    assert_eq!((run.status, &run.stdout), (Some(0), &plain.stdout), "{run:#?}");
    let trace = open(folder.path(), "run.twin");
    let steps = steps(&trace);
    assert_eq!(steps.len(), 5);
    for (step, line) in steps.iter().zip(run.stdout.lines().skip(5)) {
        assert_eq!(codes(&value(&trace, step, "step.after", "g0.n0.p0")), line);
    }
    let setup = records(&trace).into_iter().filter(|step| step.kind == StepKind::Setup).count();
    assert!(setup >= 1);
}
