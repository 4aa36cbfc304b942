//! Kernels of another engine, and records that make no sense.

use twinstep_replayer::check;
use twinstep_traces::{Access, DType, Item, Role, StepKind};

use crate::clean;
use crate::fixture::Builder;

/// A kernel of another engine, with one operand whose use is not known.
fn kernel(operand: twinstep_traces::ViewRecord) -> Item {
    Item::Opaque(twinstep_traces::OpaqueLaunch {
        kernel: "reshape_and_cache".into(),
        phase: twinstep_traces::Phase::Forward,
        stream: 0,
        grid: [1; 3],
        block: [1; 3],
        cluster: [0; 3],
        shared_bytes: 0,
        parameters: vec![vec![0; 8]],
        operands: vec![(0, 0, operand)],
    })
}

#[test]
fn what_a_foreign_kernel_may_have_done_is_no_finding() {
    let trace = |foreign: bool| {
        let mut t = Builder::new();
        let (x, y, z) = (t.row("x", Role::State), t.row("y", Role::State), t.row("z", Role::State));
        t.host(z, 1);
        t.end();
        t.decode(
            2,
            |_| {},
            |t| {
                if foreign {
                    t.item(kernel(t.view("p0", z, Access::Unknown)));
                }
                t.launch(t.silu("act", x, x, y));
                t.poke(z, 0, &[1, 2, 3]);
            },
        );
        t.finish()
    };
    assert_eq!(check(&trace(false)).unwrap().findings.len(), 2, "the read and the stray write");
    clean(&trace(true));
    let report = check(&trace(true)).unwrap();
    assert!(
        report.not_looked_at.iter().any(|n| n.contains("reshape_and_cache")),
        "{:?}",
        report.not_looked_at
    );
}

#[test]
fn records_that_make_no_sense_are_said_and_give_no_panic() {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::State), t.row("y", Role::State));
    let mut outside = t.silu("outside", x, x, y);
    let mut huge = t.silu("huge", x, x, y);
    let mut unknown = t.silu("unknown", x, x, y);
    if let (Item::Launch(outside), Item::Launch(huge), Item::Launch(unknown)) =
        (&mut outside, &mut huge, &mut unknown)
    {
        outside.views[2].offset = u64::MAX - 3;
        huge.views[2].shape = vec![u64::MAX, u64::MAX];
        unknown.version = 99;
        unknown.views.clear();
    }
    let far = t.declare("far", DType::U8, &[1 << 60], Role::Scratch, Some(u64::MAX - 5));
    let nothing = t.declare("nothing", DType::F32, &[0], Role::State, Some(8));
    t.item(Item::Allocate { buffer: far });
    t.allocate(nothing);
    let cyclic =
        t.capture("cyclic", vec![Item::GraphLaunch { graph: twinstep_traces::GraphId(0), stream: 0 }]);
    let untold = t.capture("untold", vec![Item::Gap { reason: "nobody tells what this node does".into() }]);
    t.end();
    t.begin(StepKind::Decode, 1, 2);
    for item in [outside, huge, unknown] {
        t.item(item);
    }
    t.item(Item::GraphLaunch { graph: twinstep_traces::GraphId(7), stream: 9 });
    t.item(Item::GraphLaunch { graph: cyclic, stream: 9 });
    t.item(Item::GraphLaunch { graph: untold, stream: 9 });
    t.item(Item::EventWait { event: 5, stream: 3 });
    t.item(Item::Free { buffer: x });
    t.item(Item::Free { buffer: x });
    t.commit();
    let report = check(&t.finish()).unwrap();
    for note in
        ["leaves its buffer", "version 99", "graph 7", "a node that is no launch", "graph 1: nobody tells"]
    {
        assert!(report.not_looked_at.iter().any(|n| n.contains(note)), "{note}: {:#?}", report.not_looked_at);
    }
}
