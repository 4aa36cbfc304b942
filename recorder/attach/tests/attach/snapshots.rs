//! Snapshots by the kernels: what a quiet one looks at, on which device, and what follows where the driver refuses.

use twinstep_traces::{Item, StepRecord, Trace};

use crate::engine::{all_items, open, record, record_with_kernels, steps, value};

/// What the engine says that it wrote: where, and which byte.
fn written(stdout: &str) -> Vec<(usize, u8)> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix("wrote ")?.split_once(' '));
    lines.map(|(at, byte)| (at.parse().unwrap(), byte.parse().unwrap())).collect()
}

/// Names that a point covers.
fn covered<'a>(trace: &'a Trace, step: &StepRecord, point: &str) -> Vec<&'a str> {
    let found = step.points.iter().find(|p| p.point == point);
    let covered = trace.covered(found.unwrap_or_else(|| panic!("no {point}")).snapshot).unwrap();
    covered.iter().map(|&buffer| trace.buffer(buffer).unwrap().name.as_str()).collect()
}

/// Chunks of a buffer that a point looked at.
fn looked_at(trace: &Trace, step: &StepRecord, point: &str, name: &str) -> u64 {
    let snapshot = step.points.iter().find(|p| p.point == point).unwrap().snapshot;
    let audited = trace.audited(snapshot).unwrap();
    let of = audited.iter().filter(|range| trace.buffer(range.buffer).unwrap().name == name);
    of.map(|range| range.chunks).sum()
}

fn gaps(trace: &Trace) -> Vec<String> {
    let gap = |item| if let Item::Gap { reason } = item { Some(reason) } else { None };
    let all = all_items(trace).into_iter().filter_map(gap);
    all.filter(|reason| !reason.starts_with("kernels launched outside")).collect()
}

#[test]
fn what_others_write_in_a_quiet_moment_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = record_with_kernels(folder.path(), ["moves-proc", "others", "16"]);
    let trace = open(folder.path(), "run.twin");
    let (steps, written) = (steps(&trace), written(&run.stdout));
    assert_eq!((steps.len(), written.len()), (3 + 16, 16));
    let chunks = (4 << 20) / 1024;
    for (step, (at, byte)) in steps[3..].iter().zip(written) {
        for name in ["pinned", "opened", "managed"] {
            assert_eq!(value(&trace, step, "step.before", name)[at], byte, "{name} in step {}", step.step);
            assert_eq!(looked_at(&trace, step, "step.before", name), chunks, "{name}");
        }
        // The program's own is looked at in turn: nothing that it called wrote there.
        assert_eq!(looked_at(&trace, step, "step.before", "own"), chunks / 16, "step {}", step.step);
        assert_eq!(looked_at(&trace, step, "step.after", "own"), chunks);
    }
}

#[test]
fn memory_by_handles_is_of_others_once_they_may_have_it_and_multicast_addresses_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = record_with_kernels(folder.path(), ["moves-proc", "handles", "16"]);
    let trace = open(folder.path(), "run.twin");
    let (steps, written) = (steps(&trace), written(&run.stdout));
    assert_eq!((steps.len(), written.len()), (3 + 16 + 1, 16));
    let chunks = (4 << 20) / 1024;
    let looked = |step: usize, name: &str| looked_at(&trace, &steps[step], "step.before", name);
    // All but two are handed on after the third step: until then they are looked at in turn.
    let later = ["late", "retained", "bound", "bound2", "ipc"];
    assert_eq!(["imported", "early"].map(|name| looked(2, name)), [chunks; 2]);
    assert_eq!(later.map(|name| looked(2, name)).iter().sum::<u64>() + looked(2, "own"), 6 * chunks / 16);
    for (i, (at, byte)) in (3..).zip(&written) {
        let held = |name: &str| value(&trace, &steps[i], "step.before", name)[*at];
        for name in ["imported", "early"].into_iter().chain(later) {
            assert_eq!((held(name), looked(i, name)), (*byte, chunks), "{name} in step {}", i + 1);
        }
        // With what became of others the table is a new one: the first look with it is at all.
        let own = if i == 3 { chunks } else { chunks / 16 };
        assert_eq!((held("own"), looked(i, "own")), (0, own), "step {}", i + 1);
    }
    let gaps = gaps(&trace);
    assert_eq!(gaps.iter().filter(|gap| gap.contains("(multicast)")).count(), gaps.len(), "{gaps:?}");
    assert_eq!(gaps.len(), 2);
    assert!(!covered(&trace, &steps[0], "step.after").iter().any(|name| name.starts_with("g0.n1.p1")));
    assert!(covered(&trace, &steps[19], "step.after").contains(&"plain"));
}

#[test]
fn a_kernel_counts_from_when_it_is_enqueued() {
    let folder = tempfile::tempdir().unwrap();
    let run = record_with_kernels(folder.path(), ["moves-proc", "between", "8"]);
    let trace = open(folder.path(), "run.twin");
    let (steps, written) = (steps(&trace), written(&run.stdout));
    assert_eq!((steps.len(), written.len()), (3 + 2 * 8, 8));
    for (pair, (at, byte)) in steps[3..].chunks(2).zip(written) {
        let held = |step, point| value(&trace, step, point, "large")[at];
        assert_ne!(byte, 0);
        assert_eq!((held(&pair[0], "step.after"), held(&pair[1], "step.before")), (0, byte));
    }
}

#[test]
fn default_streams_of_two_devices_are_two_streams() {
    let folder = tempfile::tempdir().unwrap();
    let run = record_with_kernels(folder.path(), ["moves-proc", "defaults", "8"]);
    let trace = open(folder.path(), "run.twin");
    let (steps, written) = (steps(&trace), written(&run.stdout));
    assert_eq!((steps.len(), written.len()), (8, 8));
    for (step, (at, byte)) in steps.iter().zip(written) {
        let held = value(&trace, step, "graph.1.before", "large1");
        assert_eq!(held[at], byte, "step {}: what the second device wrote before", step.step);
        assert_eq!(covered(&trace, step, "graph.0.before"), ["large0"]);
    }
}

#[test]
fn memory_that_only_the_driver_knows_is_looked_at_on_its_device_until_it_is_given_back() {
    for kernels in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["moves-proc", "unseen", "4"];
        match kernels {
            false => record(folder.path(), &[], arguments),
            true => record_with_kernels(folder.path(), arguments),
        };
        let trace = open(folder.path(), "run.twin");
        let steps = steps(&trace);
        assert_eq!(steps.len(), 4);
        for step in &steps {
            assert_eq!(covered(&trace, step, "graph.0.after"), ["mine0", "host"], "kernels: {kernels}");
            let there: &[_] = if step.step < 4 { &["mine1", "there", "host"] } else { &["mine1", "host"] };
            assert_eq!(covered(&trace, step, "graph.1.after"), there, "kernels: {kernels}");
        }
        assert_eq!(value(&trace, &steps[0], "graph.1.after", "there"), [7; 128]);
        let said =
            |item: &&Item| matches!(item, Item::Mark { text } if text.contains("allocation was not seen"));
        assert_eq!(all_items(&trace).iter().filter(said).count(), 2);
    }
}

#[test]
fn memory_of_an_io_device_is_left_out_and_said() {
    for route in ["moves-dlsym", "moves-proc", "moves-old"] {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &[], [route, "io", "1"]);
        let trace = open(folder.path(), "run.twin");
        assert_eq!(gaps(&trace).len(), 1, "{route}");
        assert!(gaps(&trace)[0].starts_with("4096 bytes of an I/O device at 0x"), "{route}");
        let steps = steps(&trace);
        assert_eq!(steps.len(), 2, "{route}");
        // The graph points to it: what is watched by itself is the rest.
        assert_eq!(covered(&trace, &steps[0], "step.after"), ["g0.n0.p0"], "{route}");
        // It is the host's later.
        assert_eq!(covered(&trace, &steps[1], "step.after"), ["g0.n0.p0", "host"], "{route}");
    }
}

#[test]
fn what_a_refused_snapshot_was_to_look_at_first_is_looked_at_whole_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    record_with_kernels(folder.path(), ["moves-proc", "refused", "1"]);
    let trace = open(folder.path(), "run.twin");
    assert_eq!(gaps(&trace).len(), 1, "{:?}", gaps(&trace));
    let steps = steps(&trace);
    assert_eq!(steps.len(), 6);
    for (i, step) in steps.iter().enumerate() {
        let (set, byte) = (i.min(4), 1 + i.min(4) as u8 % 4);
        assert_eq!(value(&trace, step, "step.after", &format!("set{set}")), [byte; 8192], "step {}", i + 1);
    }
}

#[test]
fn a_device_without_memory_costs_snapshots_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    record_with_kernels(folder.path(), ["moves-proc", "full", "20"]);
    let trace = open(folder.path(), "run.twin");
    assert_eq!(gaps(&trace).len(), 40, "before and after each launch");
    let steps = steps(&trace);
    assert_eq!(steps.len(), 22);
    assert!(steps[..20].iter().all(|step| step.points.is_empty()));
    assert_eq!(value(&trace, &steps[21], "step.before", "hidden"), [0; 512]);
}
