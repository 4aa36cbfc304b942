//! The timeline against what the recorded samples hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use twinstep_traces::{BufferId, SnapshotId, Trace};

use super::{By, Flow, Moment, Timeline, What};
use crate::history::last_writers;
use crate::selection::resolve;

fn samples() -> Vec<(PathBuf, Trace)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("traces/samples");
    let files = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path());
    let traces = files.filter(|p| p.extension().is_some_and(|e| e == "twin"));
    traces.map(|p| (p.clone(), Trace::open(&p).unwrap())).collect()
}

/// At every snapshot of every sample: bytes that differ from the last snapshot of the same buffer were
/// written since; bytes whose last writer is the host hold what it wrote; bytes that nothing wrote hold
/// 0xA5.
#[test]
fn snapshots_hold_what_the_last_writers_left() {
    let (mut changed, mut by_host, mut fresh) = (0u64, 0u64, 0u64);
    // Sampling changes values and no log: the greedy runs and those with a mistake are enough.
    for (path, trace) in samples().into_iter().filter(|(p, _)| !p.to_string_lossy().contains("sampled")) {
        let mut last: BTreeMap<BufferId, (u32, SnapshotId)> = BTreeMap::new();
        Timeline::walk(&trace, &mut |timeline, event| {
            let What::Point(point) = event.what else { return Ok(Flow::On) };
            for buffer in trace.covered(point.snapshot)? {
                let bytes = trace.read_buffer(point.snapshot, buffer)?.unwrap();
                let before = last.insert(buffer, (event.time, point.snapshot));
                let earlier = before.map(|(_, id)| trace.read_buffer(id, buffer).unwrap().unwrap());
                for piece in timeline.writers(buffer, 0, bytes.len() as u64) {
                    let range = piece.start as usize..piece.end as usize;
                    let what = format!("{path:?} {} {range:?} at {}", timeline.label(buffer), point.point);
                    let writer = piece.writer.unwrap_or_else(|| panic!("{what}: no writer"));
                    if let (Some((time, _)), Some(earlier)) = (before, &earlier)
                        && earlier[range.clone()] != bytes[range.clone()]
                    {
                        assert!(writer.time > time, "{what}: changed since, written before");
                        changed += 1;
                    }
                    match writer.by {
                        By::Host(i) => {
                            let step = trace.step(writer.step as usize)?;
                            let write = &step.host_writes[i as usize];
                            let from = (piece.start - write.offset) as usize;
                            assert_eq!(bytes[range.clone()], write.bytes[from..from + range.len()], "{what}");
                            by_host += 1;
                        }
                        By::Fresh => {
                            assert!(bytes[range].iter().all(|b| *b == 0xA5), "{what}: not fresh");
                            fresh += 1;
                        }
                        _ => {}
                    }
                }
            }
            Ok(Flow::On)
        })
        .unwrap();
    }
    assert!(changed > 4_000 && by_host > 5_000 && fresh > 1_000, "{changed} {by_host} {fresh}");
}

/// Every launch of every sample but those of prefill's state update has values for its index operands.
#[test]
fn index_operands_of_decode_steps_are_known() {
    for (path, trace) in samples() {
        let mut launches = 0;
        Timeline::walk(&trace, &mut |_, event| {
            if let (Some(launch), false) = (event.launch(), event.step.step == 1) {
                launches += 1;
                assert!(
                    !event.accesses.iter().any(|a| a.may),
                    "{path:?} step {} {launch:?}",
                    event.step.step
                );
            }
            Ok(Flow::On)
        })
        .unwrap();
        assert!(launches > 300, "{path:?}");
    }
}

/// The last writers of `x` and `last_codes` as moments of step 2 of the graph sample see them.
#[test]
fn a_moment_is_before_what_happens_then() {
    let (_, trace) = samples().into_iter().find(|(p, _)| p.ends_with("graph-greedy.twin")).unwrap();
    let index = trace.find_step(1, 2).unwrap().unwrap();
    let step = trace.step(index).unwrap();
    let last = |name: &str, moment| {
        let buffer = resolve(&trace, &step, name).unwrap();
        let pieces = last_writers(&trace, index, moment, buffer, 0, 32).unwrap();
        assert_eq!((pieces.len(), pieces[0].start, pieces[0].end), (1, 0, 32), "{pieces:?}");
        let writer = pieces[0].writer.unwrap();
        (writer.step as usize, writer.by)
    };
    // The prefill seeds `last_codes`, the host hands on its codes, and the last node updates it.
    assert!(matches!(last("last_codes", Moment::Start), (before, By::Launch(100)) if before + 1 == index));
    assert!(matches!(last("last_codes", Moment::Before), (at, By::Host(_)) if at == index));
    assert!(matches!(last("last_codes", Moment::Launch(109)), (at, By::Host(_)) if at == index));
    assert_eq!(last("last_codes", Moment::End), (index, By::Launch(109)));
    // `x` is written by the second launch of the graph for the first time.
    assert!(matches!(last("x", Moment::Launch(1)), (_, By::Fresh)));
    assert_eq!(last("x", Moment::Launch(2)), (index, By::Launch(1)));
    let buffer = resolve(&trace, &step, "x").unwrap();
    assert!(last_writers(&trace, index, Moment::Launch(999), buffer, 0, 32).is_err());
    assert!(last_writers(&trace, 999, Moment::Start, buffer, 0, 32).is_err());
}
