//! Streams: two users of the same bytes without an order.

use twinstep_replayer::check;
use twinstep_traces::{Access, DType, Item, Role, StepKind, Trace};

use crate::fixture::Builder;
use crate::{clean, found, one};

/// A writer on stream 0 and a user of the same bytes on stream 1.
fn two_streams(event: bool, writes: bool, read_first: bool) -> Trace {
    let mut t = Builder::new();
    let (x, y, z) = (t.row("x", Role::Input), t.row("y", Role::State), t.row("z", Role::State));
    t.host(x, 1);
    t.host(y, 1);
    t.end();
    t.decode(
        2,
        |_| {},
        |t| {
            let first = if read_first { t.silu("first", y, y, z) } else { t.silu("first", x, x, y) };
            t.launch(first);
            if event {
                t.item(Item::EventRecord { event: 7, stream: 0 });
                t.item(Item::EventWait { event: 7, stream: 1 });
            }
            t.on_stream(1);
            let second = if writes { t.silu("second", x, x, y) } else { t.silu("second", y, y, z) };
            t.launch(second);
        },
    );
    t.finish()
}

#[test]
fn two_streams_without_an_order() {
    for (writes, read_first) in [(true, false), (false, false), (true, true)] {
        clean(&two_streams(true, writes, read_first));
        let trace = two_streams(false, writes, read_first);
        let finding = one(&trace);
        assert_eq!((finding.check.as_str(), finding.node), ("unordered-writers", Some(1)), "{finding:?}");
        assert_eq!(finding.buffer.as_deref(), Some("y@0"));
    }
    // Two readers need no order, and a host read makes one.
    let mut t = Builder::new();
    let (x, y, z) = (t.row("x", Role::Input), t.row("y", Role::State), t.row("z", Role::State));
    t.host(x, 1);
    t.end();
    t.decode(2, |_| {}, |t| t.launch(t.silu("a", x, x, y)));
    t.begin(StepKind::Decode, 1, 3);
    t.read(y);
    t.on_stream(1);
    t.launch(t.silu("b", x, y, z));
    t.end();
    clean(&t.finish());
}

/// Two launches in set-up on different streams, or in one step, that both may set bits of `op_faults` and
/// write `y`.
fn beside(step: bool, bits: bool) -> Trace {
    let mut t = Builder::new();
    let x = t.buffer("x", DType::I32, &[1], Role::Input);
    let table = t.buffer("table", DType::F16, &[4, 2], Role::Weight);
    let outs = [0, 1].map(|i| t.buffer(&format!("out.{i}"), DType::F32, &[1, 2], Role::Output));
    let faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
    t.host(x, 0);
    t.host(faults, 0);
    if step {
        t.end();
        t.begin(StepKind::Decode, 1, 2);
    }
    for stream in 0..2u32 {
        t.on_stream(stream);
        let out = outs[if bits { stream as usize } else { 0 }];
        let operands = [
            ("ids", x, Access::Read),
            ("table", table, Access::Read),
            ("out", out, Access::Write),
            ("op_faults", faults, Access::ReadWrite),
        ];
        t.launch(t.op("embed_text", "embed", &operands, &[]));
    }
    t.end();
    t.on_stream(0);
    let operands = [("gate", outs[0]), ("up", outs[0]), ("out", outs[1])];
    let operands = operands.map(|(n, b)| (n, b, if n == "out" { Access::Write } else { Access::Read }));
    t.decode(3, |_| {}, |t| t.launch(t.op("silu_mul", "later", &operands, &[])));
    t.finish()
}

#[test]
fn bits_are_set_in_any_order_and_set_up_ends_before_the_first_request() {
    clean(&beside(false, true));
    let report = check(&beside(true, true)).unwrap();
    let messages: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "later on stream 0 writes out.1@0, which embed of step 2 (node 1) writes on stream 1, with no event between them"
        ]
    );
    let report = check(&beside(true, false)).unwrap();
    assert_eq!(found(&report)[0].4, Some("out.0@0"), "{report:#?}");
}

#[test]
fn an_event_orders_only_what_came_before_it() {
    let trace = |late: bool| {
        let mut t = Builder::new();
        let (x, y, z) = (t.row("x", Role::Input), t.row("y", Role::State), t.row("z", Role::State));
        let other = t.row("other", Role::State);
        t.host(x, 1);
        t.end();
        t.decode(
            2,
            |_| {},
            |t| {
                t.launch(t.silu("first", x, x, other));
                let into_y = t.silu("second", x, x, y);
                if !late {
                    t.launch(into_y.clone());
                }
                t.item(Item::EventRecord { event: 7, stream: 0 });
                t.item(Item::EventWait { event: 7, stream: 1 });
                if late {
                    t.launch(into_y);
                }
                t.on_stream(1);
                t.launch(t.silu("third", y, y, z));
            },
        );
        t.finish()
    };
    clean(&trace(false));
    assert_eq!(
        one(&trace(true)).message,
        "third on stream 1 reads y@0, which second of step 2 (node 1) writes on stream 0, with no event between them"
    );
}

#[test]
fn more_streams_than_are_told_apart_are_said() {
    let report = |streams: u32| {
        let mut t = Builder::new();
        let (x, y) = (t.row("x", Role::Input), t.row("y", Role::State));
        t.host(x, 1);
        t.end();
        let run = |t: &mut Builder| {
            for stream in 0..streams {
                t.on_stream(stream);
                t.launch(t.silu("act", x, x, y));
            }
            t.on_stream(0);
        };
        t.decode(2, |_| {}, run);
        check(&t.finish()).unwrap()
    };
    let said = |streams| report(streams).not_looked_at.iter().any(|n| n.contains("more than 64 streams"));
    assert!(!said(64));
    assert!(said(65));
    assert!(!report(2).findings.is_empty());
}
