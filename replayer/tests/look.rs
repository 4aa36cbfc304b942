//! What an interactive view asks of a trace, against the plain readers, on traces recorded on a GPU.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use twinstep_replayer::{
    At, Condition, ReplayError, Sameness, WeightFolder, beside, code_grid, diff, kv_map, memory_inside,
    next_stop, patched_memory, print, read_elements, snapshot_at, sound, step, step_list,
};
use twinstep_traces::{BufferId, Role, SnapshotId, StepKind, Trace};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sample(name: &str) -> Trace {
    Trace::open(&root().join("traces/samples").join(format!("{name}.twin"))).unwrap()
}

fn weights() -> WeightFolder {
    WeightFolder(root().join("recorder/voice"))
}

fn at(step: u32) -> At {
    At { request: 1, step: Some(step) }
}

#[test]
fn the_list_holds_every_step_and_codec_section_once() {
    let trace = sample("graph-greedy");
    let list = step_list(&trace).unwrap();
    let records = (0..trace.step_count()).map(|i| trace.step(i).unwrap());
    assert_eq!(list.len(), records.filter(|s| s.kind != StepKind::Setup).count());
    assert_eq!(list.iter().filter(|s| s.codec).count(), trace.requests().len());
    assert!(list.iter().all(|s| s.points.iter().any(|p| p == "step.after")));
    let last = list.iter().rfind(|s| !s.codec).unwrap();
    assert!(last.decision.contains("stop"), "{last:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_slice_is_that_part_of_the_whole(snapshot in 0u32..60, buffer in 0usize..200, start: u16, count: u16) {
        let trace = sample("graph-greedy");
        let snapshot = SnapshotId(snapshot % trace.snapshot_count() as u32);
        let id = BufferId((buffer % trace.buffers().len()) as u32);
        let size = trace.buffer(id).unwrap().dtype.size() as usize;
        let whole = trace.read_buffer(snapshot, id).unwrap();
        let part = read_elements(&trace, snapshot, id, start.into(), count.into()).unwrap();
        let cut = whole.map(|w| {
            let from = (usize::from(start) * size).min(w.len());
            let to = ((usize::from(start) + usize::from(count)) * size).min(w.len());
            w[from..to].to_vec()
        });
        prop_assert_eq!(part, cut);
    }
}

#[test]
fn a_slice_of_any_size_is_refused_not_allocated() {
    let trace = sample("graph-greedy");
    let all = read_elements(&trace, SnapshotId(0), BufferId(0), 0, u64::MAX);
    assert!(
        !matches!(&all, Ok(Some(bytes)) if bytes.len() as u64 > trace.buffer(BufferId(0)).unwrap().bytes)
    );
    let beyond = BufferId(trace.buffers().len() as u32);
    assert!(matches!(read_elements(&trace, SnapshotId(0), beyond, 0, 1), Err(ReplayError::Selection(_))));
}

#[test]
fn side_by_side_says_what_diff_says() {
    let (a, b) = (sample("graph-greedy"), sample("graph-stale-codes"));
    let report = diff(&a, &b, &[]).unwrap();
    let mut compared = 0;
    for listed in
        report.steps.iter().filter(|s| s.kind == "step" && s.state != twinstep_replayer::StepState::Forked)
    {
        let place = at(listed.step);
        let Ok(there) = beside(&a, Some(&b), place) else { panic!("step {place}") };
        if !(there.in_a && there.in_b) {
            continue;
        }
        let differs =
            there.buffers.iter().any(|b| b.before == Sameness::Differs || b.after == Sameness::Differs);
        assert_eq!(differs, !listed.differing.is_empty(), "step {place}");
        for name in &listed.differing {
            let row = there.buffers.iter().find(|b| b.name() == name).unwrap();
            assert!(row.before == Sameness::Differs || row.after == Sameness::Differs, "{name} at {place}");
            let sample = row.sample.unwrap();
            assert_ne!(sample.a.unwrap().bits(), sample.b.unwrap().bits(), "{name} at {place}");
        }
        compared += 1;
    }
    assert!(compared > 5);
}

#[test]
fn samples_are_what_print_prints() {
    let (a, b) = (sample("graph-greedy"), sample("graph-stale-codes"));
    let there = beside(&a, Some(&b), at(2)).unwrap();
    let mut seen = 0;
    for buffer in &there.buffers {
        let (Some(sample), Some(side)) = (buffer.sample, &buffer.a) else { continue };
        let Some(value) = sample.a else { continue };
        let name = format!("{}@{}", side.record.name, side.record.generation);
        let printed = print(&a, &name, at(2), sample.after).unwrap();
        assert_eq!(printed.elements.get(sample.flat).unwrap().value, value, "{name}");
        seen += 1;
    }
    assert!(seen > 20);
}

#[test]
fn buffers_come_in_the_order_of_dataflow_and_each_once() {
    let (a, b) = (sample("graph-greedy"), sample("piecewise-greedy"));
    let there = beside(&a, Some(&b), at(3)).unwrap();
    let mut ids: Vec<_> = there.buffers.iter().filter_map(|b| b.a.as_ref().map(|s| s.id)).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "a buffer twice");
    let place = |name: &str| there.buffers.iter().position(|b| b.name() == name).unwrap();
    assert!(place("last_codes") < place("hidden") && place("hidden") < place("codes_out"));
    let numbers: Vec<usize> = there.launches.iter().filter_map(|l| l.a.as_ref().map(|s| s.number)).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
}

#[test]
fn alone_a_run_is_shown_without_the_other() {
    let a = sample("eager-greedy");
    let there = beside(&a, None, at(2)).unwrap();
    assert!(there.in_a && !there.in_b && there.launches.iter().all(|l| l.a.is_some() && l.b.is_none()));
    assert!(there.buffers.iter().all(|b| b.b.is_none() && b.after != Sameness::Differs));
    assert!(matches!(beside(&a, None, at(99_999)), Err(ReplayError::Place(_))));
}

#[test]
fn all_launches_give_what_is_recorded_and_none_give_the_state_before() {
    for name in ["graph-greedy", "piecewise-greedy"] {
        let trace = sample(name);
        let (before, after) =
            (snapshot_at(&trace, at(2), "step.before"), snapshot_at(&trace, at(2), "step.after"));
        let launches = beside(&trace, None, at(2)).unwrap().launches.len();
        for (upto, snapshot) in [(0, before.unwrap().unwrap()), (launches, after.unwrap().unwrap())] {
            let memory = memory_inside(&trace, at(2), upto, &weights()).unwrap();
            assert_eq!(memory.launches, upto);
            let mut compared = 0;
            for id in trace.covered(snapshot).unwrap() {
                if matches!(trace.buffer(id).unwrap().role, Role::Weight | Role::Table) {
                    continue;
                }
                let recorded = trace.read_buffer(snapshot, id).unwrap().unwrap();
                assert_eq!(memory.buffers[&id], recorded, "{name} after {upto}");
                compared += 1;
            }
            assert!(compared > 10);
        }
    }
}

#[test]
fn one_launch_more_changes_what_it_writes_alone() {
    let trace = sample("graph-greedy");
    let launches = beside(&trace, None, at(2)).unwrap().launches;
    for n in [0, 1, 7, 9, launches.len() - 1] {
        let (before, after) = (
            memory_inside(&trace, at(2), n, &weights()).unwrap(),
            memory_inside(&trace, at(2), n + 1, &weights()).unwrap(),
        );
        let written = &launches[n].a.as_ref().unwrap().writes;
        let changed: Vec<_> =
            before.buffers.iter().filter(|(id, b)| after.buffers[id] != **b).map(|(id, _)| id).collect();
        assert!(changed.iter().all(|id| written.contains(id)), "launch {n}");
    }
}

#[test]
fn patched_memory_refuses_what_a_step_refuses() {
    let (a, other) = (sample("graph-greedy"), sample("graph-sampled"));
    let patches = ["last_codes=other".to_owned()];
    let memory = patched_memory(&a, Some(&other), at(2), &patches, &weights()).unwrap_err();
    let report = step(&a, Some(&other), at(2), &patches, &weights()).unwrap_err();
    assert!(matches!(memory, ReplayError::NotComparable(_)), "{memory}");
    assert_eq!(memory.to_string(), report.to_string());
}

#[test]
fn patched_memory_agrees_with_the_step_report() {
    let (a, b) = (sample("graph-greedy"), sample("graph-stale-codes"));
    let patches = ["last_codes=other".to_owned()];
    let memory = patched_memory(&b, Some(&a), at(2), &patches, &weights()).unwrap();
    let report = step(&b, Some(&a), at(2), &patches, &weights()).unwrap();
    assert_eq!(report.equals_other, Some(true));
    let theirs = snapshot_at(&a, at(2), "step.after").unwrap().unwrap();
    for (id, bytes) in &memory.buffers {
        let record = b.buffer(*id).unwrap();
        let twin = a.find_buffer(&record.name, Some(record.generation)).unwrap();
        assert_eq!(a.read_buffer(theirs, twin).unwrap().as_ref(), Some(bytes), "{}", record.name);
    }
    assert_eq!(memory.buffers.len(), report.outputs.len());
}

#[test]
fn the_grid_of_codes_is_codes_out_of_every_step() {
    let trace = sample("eager-greedy");
    let grid = code_grid(&trace, 1).unwrap();
    assert_eq!((grid.boc, grid.eoc), (Some(512), Some(513)));
    assert_eq!(grid.steps, (1..=grid.steps.len() as u32).collect::<Vec<_>>());
    for (n, codes) in grid.steps.iter().zip(&grid.codes) {
        let printed = print(&trace, "codes_out[0,:]", at(*n), true).unwrap();
        let values: Vec<i64> = printed.elements.iter().map(|e| e.value.bits() as i64).collect();
        assert_eq!(*codes, values, "step {n}");
    }
    // The delay profile starts codebook 3 three steps after codebook 0.
    assert_eq!(grid.codes[1][3], 512);
    assert!(code_grid(&trace, 7).unwrap().steps.is_empty());
}

#[test]
fn the_map_of_the_kv_cache_marks_the_slot_that_differs() {
    let (a, b) = (sample("graph-greedy"), sample("graph-stale-codes"));
    let map = kv_map(&a, Some(&b), at(2), true).unwrap();
    assert_eq!(map.layers.len(), 6);
    for cells in &map.cells {
        let differing: Vec<usize> = (0..cells.len()).filter(|&i| cells[i].differs).collect();
        // The step writes one position.
        assert_eq!(differing.len(), 1, "{differing:?}");
        assert!(!cells[differing[0]].fresh && cells[differing[0] + 1].fresh);
    }
    let before = kv_map(&a, Some(&b), at(2), false).unwrap();
    assert!(before.cells.iter().flatten().all(|c| !c.differs));
}

#[test]
fn sound_is_the_waveform_of_the_codec_section() {
    let trace = sample("eager-greedy");
    let found = sound(&trace, 1).unwrap().unwrap();
    let printed = print(&trace, "waveform", At { request: 1, step: None }, true).unwrap();
    let samples: Vec<u32> = printed.elements.iter().map(|e| e.value.bits() as u32).collect();
    assert_eq!(found.samples.iter().map(|s| s.to_bits()).collect::<Vec<_>>(), samples);
    assert_eq!(found.sample_rate, 16_000);
    assert!(sound(&trace, 9).unwrap().is_none());
}

fn stop(a: &Trace, b: Option<&Trace>, condition: &str, from: u32, forward: bool) -> Option<String> {
    let condition: Condition = condition.parse().unwrap();
    let stop = next_stop(a, b, &[condition], at(from), forward, &|| false).unwrap();
    stop.map(|stop| stop.at.to_string())
}

#[test]
fn conditions_stop_at_the_first_step_that_meets_them() {
    let (a, b) = (sample("graph-greedy"), sample("graph-stale-codes"));
    assert_eq!(stop(&a, None, "step == 4", 1, true).as_deref(), Some("4"));
    assert_eq!(stop(&a, None, "step == 4", 4, true), None);
    assert_eq!(stop(&a, None, "step < 4", 9, false).as_deref(), Some("3"));
    assert_eq!(stop(&a, None, "nan in hidden", 1, true), None);
    // The first step whose codes differ, found by hand.
    let codes = |t: &Trace, n: u32| {
        print(t, "codes_out[0,:]", at(n), true)
            .unwrap()
            .elements
            .iter()
            .map(|e| e.value.bits())
            .collect::<Vec<_>>()
    };
    let forked = (2..12).find(|&n| codes(&a, n) != codes(&b, n)).unwrap();
    assert_eq!(stop(&a, Some(&b), "differs codes_out[0,:]", 1, true), Some(forked.to_string()));
    let changed = (3..12).find(|&n| codes(&a, n)[0] != codes(&a, n - 1)[0]).unwrap();
    assert_eq!(stop(&a, None, "changes codes_out[0][0]", 2, true), Some(changed.to_string()));
    let value = codes(&a, 5)[1];
    let first = (2..).find(|&n| codes(&a, n)[1] == value).unwrap();
    assert_eq!(stop(&a, None, &format!("codes_out[0][1] == {value}"), 1, true), Some(first.to_string()));
    assert!(next_stop(&a, None, &["changes nonsense".parse().unwrap()], at(1), true, &|| false).is_err());
    let given_up = next_stop(&a, None, &["step == 4".parse().unwrap()], at(1), true, &|| true).unwrap();
    assert!(given_up.is_none());
}
