//! Properties of patches, on a tiny synthetic trace.

mod tiny;

use proptest::prelude::*;
use tiny::{LENGTH, NAMES, Start, Values, clean, no_weights, trace};
use twinstep_replayer::{At, StepReport, step, verify_replay};
use twinstep_traces::Trace;

/// Small whole numbers: sums are exact, so runs that begin differently stay different.
fn values() -> impl Strategy<Value = Values> {
    prop::array::uniform8((-100i16..=100).prop_map(f32::from))
}

fn starts() -> impl Strategy<Value = Start> {
    (values(), values(), values()).prop_map(|(x, y, spare)| Start { x, y, spare })
}

fn recorded(start: &Start) -> Trace {
    trace(start, &clean(), None)
}

fn run(a: &Trace, b: Option<&Trace>, at: u32, patches: &[String]) -> StepReport {
    let at = At { request: 1, step: Some(at) };
    let report = step(a, b, at, patches, &no_weights()).unwrap();
    assert_eq!(report.self_check, "equal");
    assert_eq!(report.patches.len(), patches.len());
    report
}

fn outputs(report: &StepReport) -> String {
    serde_json::to_string(&report.outputs).unwrap()
}

/// A buffer's recorded bits before a step, as a patch that writes them down.
fn as_text(trace: &Trace, name: &str, at: u32) -> String {
    let record = trace.step(trace.find_step(1, at).unwrap().unwrap()).unwrap();
    let before = record.points.iter().find(|p| p.point == "step.before").unwrap().snapshot;
    let id = trace.find_buffer(name, None).unwrap();
    let bytes = trace.read_buffer(before, id).unwrap().unwrap();
    let element = |b: &[u8]| format!("0x{:08x}", u32::from_le_bytes(b.try_into().unwrap()));
    format!("{name}={}", bytes.chunks_exact(4).map(element).collect::<Vec<_>>().join(","))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The trace that the properties stand on is one that replay reproduces.
    #[test]
    fn the_tiny_trace_is_sound(start in starts()) {
        let report = verify_replay(&recorded(&start), &no_weights(), &mut |_, _| {}).unwrap();
        prop_assert!(report.ok && report.complete, "{:?}", report.damage);
        prop_assert_eq!((report.steps_replayed, report.snapshots_compared), (2, 4));
    }

    /// What is there already, from the run itself or typed, changes no byte and says so.
    #[test]
    fn the_present_value_has_no_effect(start in starts(), name in 0..3usize, at in 1..=2u32) {
        let (trace, name) = (recorded(&start), NAMES[name]);
        for patch in [format!("{name}=self@{at}"), as_text(&trace, name, at), format!("{name}=other")] {
            let report = run(&trace, Some(&trace), at, std::slice::from_ref(&patch));
            prop_assert_eq!(report.patches[0].bytes_changed, 0, "{}", patch);
            prop_assert!(report.patches[0].no_effect.as_ref().unwrap().contains("no byte"), "{}", patch);
            prop_assert!(report.outputs.iter().all(|o| !o.changed && o.equals_other == Some(true)));
            prop_assert_eq!(report.outputs.len(), NAMES.len());
        }
    }

    /// A patch made twice is the patch made once; the second time it has no effect.
    #[test]
    fn twice_is_once(a in starts(), b in starts(), name in 0..3usize, at in 1..=2u32) {
        let patch = format!("{}=other", NAMES[name]);
        let (a, b) = (recorded(&a), recorded(&b));
        let once = run(&a, Some(&b), at, std::slice::from_ref(&patch));
        let twice = run(&a, Some(&b), at, &[patch.clone(), patch]);
        prop_assert_eq!(outputs(&once), outputs(&twice));
        prop_assert_eq!(once.patches[0].bytes_changed, twice.patches[0].bytes_changed);
        prop_assert_eq!(twice.patches[1].bytes_changed, 0);
        prop_assert!(twice.patches[1].no_effect.is_some());
    }

    /// One value is spread over all elements that are selected.
    #[test]
    fn one_value_is_spread(start in starts(), value in -100i16..=100, at in 1..=2u32) {
        let trace = recorded(&start);
        let all = vec![value.to_string(); LENGTH].join(",");
        let spread = run(&trace, None, at, &[format!("y={value}")]);
        let typed = run(&trace, None, at, &[format!("y={all}")]);
        prop_assert_eq!(outputs(&spread), outputs(&typed));
        prop_assert_eq!(spread.patches[0].bytes_changed, typed.patches[0].bytes_changed);
    }

    /// Patches of different buffers do not depend on their order.
    #[test]
    fn order_does_not_matter(a in starts(), b in starts(), at in 1..=2u32) {
        let mut patches = NAMES[..3].iter().map(|name| format!("{name}=other")).collect::<Vec<_>>();
        let (a, b) = (recorded(&a), recorded(&b));
        let forth = run(&a, Some(&b), at, &patches);
        patches.reverse();
        let back = run(&a, Some(&b), at, &patches);
        prop_assert_eq!(outputs(&forth), outputs(&back));
        let changed = |r: &StepReport| r.patches.iter().map(|p| p.bytes_changed).sum::<u64>();
        prop_assert_eq!(changed(&forth), changed(&back));
    }

    /// The step equals the other run's exactly when every buffer that differs is patched, innocent ones or
    /// not; and a patch is said to be read exactly when a launch reads what it changed.
    #[test]
    fn equal_when_all_that_differs_is_patched(
        start in starts(),
        differing in prop::array::uniform3(any::<bool>()),
        patched in prop::array::uniform3(any::<bool>()),
        element in 0..LENGTH,
        at in 1..=2u32,
    ) {
        let mut other = start;
        let all = [&mut other.x, &mut other.y, &mut other.spare];
        for (values, _) in all.into_iter().zip(differing).filter(|(_, differs)| *differs) {
            values[element] += 1000.0;
        }
        let (a, b) = (recorded(&start), recorded(&other));
        // In step 2 `x` has met a `y` that differs.
        let differs = [differing[0] || (at == 2 && differing[1]), differing[1], differing[2]];
        let patches: Vec<String> =
            (0..3).filter(|&i| patched[i]).map(|i| format!("{}=other", NAMES[i])).collect();
        let report = run(&a, Some(&b), at, &patches);
        let all = (0..3).all(|i| patched[i] || !differs[i]);
        prop_assert_eq!(report.equals_other, Some(all));
        for patch in &report.patches {
            let i = (0..3).find(|&i| patch.patch == format!("{}=other", NAMES[i])).unwrap();
            prop_assert_eq!(patch.bytes_changed > 0, differs[i]);
            // What `add` leaves in `x` depends on what it read there, so its reader reads the patch too.
            let read_by: &[&str] = if differs[i] { [&["add", "squash"][..], &["add"], &[]][i] } else { &[] };
            prop_assert_eq!(&patch.read_by, read_by, "{:?}", patch);
            prop_assert_eq!(patch.no_effect.is_none(), !read_by.is_empty(), "{:?}", patch);
        }
    }

    /// Bytes that nothing reads, or that are written before anything reads them, have no effect, and the
    /// other outputs stay as recorded.
    #[test]
    fn what_no_launch_reads_has_no_effect(start in starts(), element in 0..LENGTH, at in 1..=2u32) {
        let trace = recorded(&start);
        for name in ["spare", "out"] {
            let report = run(&trace, None, at, &[format!("{name}[{element}]=12345")]);
            let patch = &report.patches[0];
            prop_assert!(patch.bytes_changed > 0 && patch.read_by.is_empty(), "{:?}", patch);
            prop_assert!(patch.no_effect.as_ref().unwrap().contains("no launch"), "{:?}", patch);
            for output in &report.outputs {
                // `spare` keeps what was put there; `out` is written anew.
                prop_assert_eq!(output.changed, name == "spare" && output.buffer.starts_with("spare"));
            }
        }
    }
}
