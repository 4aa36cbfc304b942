//! Memory: bytes that nobody wrote, that were given back, that two buffers share, that nothing in the log writes.

use twinstep_replayer::check;
use twinstep_traces::{Access, DType, Item, Role, Trace};

use crate::fixture::Builder;
use crate::{clean, one};

#[test]
fn a_read_of_bytes_that_nobody_wrote() {
    let trace = |write: bool| {
        let mut t = Builder::new();
        let (x, y) = (t.row("x", Role::Input), t.row("y", Role::State));
        t.end();
        for step in 2..5 {
            t.decode(
                step,
                |t| {
                    if write {
                        t.host(x, 1);
                    }
                },
                |t| t.launch(t.silu("act", x, x, y)),
            );
        }
        t.finish()
    };
    clean(&trace(true));
    let finding = one(&trace(false));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("uninitialised-read", 2, Some(0)));
    assert_eq!(
        finding.message,
        "act reads bytes 0..16 of x@0, which nothing has written since it was allocated (0xA5) (2 times more, last in step 4)"
    );
}

#[test]
fn index_operands_decide_what_is_read() {
    // Row 1 of the codes was never written; only a row with codes reads it.
    let trace = |has_codes: u8| {
        let mut t = Builder::new();
        let codes = t.buffer("codes", DType::I64, &[2, 2], Role::State);
        let flags = t.buffer("has_codes", DType::Bool, &[2], Role::State);
        let table = t.buffer("table", DType::F16, &[4, 2], Role::Weight);
        let text = t.buffer("text", DType::F32, &[2, 2], Role::Input);
        let out = t.buffer("out", DType::F32, &[2, 2], Role::Output);
        let faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
        t.host(faults, 0);
        t.host(text, 0);
        t.host_bytes(codes, 0, &[0; 16]);
        t.end();
        let operands = [
            ("codes", codes, Access::Read),
            ("has_codes", flags, Access::Read),
            ("table", table, Access::Read),
            ("text", text, Access::Read),
            ("out", out, Access::Write),
            ("op_faults", faults, Access::ReadWrite),
        ];
        t.decode(
            2,
            |t| t.host_bytes(flags, 0, &[1, has_codes]),
            |t| t.launch(t.op("embed_codes", "embed", &operands, &[])),
        );
        t.finish()
    };
    clean(&trace(0));
    let finding = one(&trace(1));
    assert!(finding.message.contains("embed reads bytes 16..32 of codes@0"), "{}", finding.message);
}

/// A graph over a buffer of an own name, which is given back in step 3 or stays.
fn given_back(free: bool) -> Trace {
    let mut t = Builder::new();
    let (x, out) = (t.row("x", Role::State), t.row("out", Role::State));
    t.host(x, 1);
    let graph = t.capture("decode", vec![t.silu("embed", x, x, out)]);
    t.end();
    for step in 2..5 {
        let run = |t: &mut Builder| {
            if free && step == 3 {
                t.free(x);
            }
            t.launch_graph(graph);
        };
        t.decode(step, |_| {}, run);
    }
    t.finish()
}

#[test]
fn memory_that_was_given_back() {
    clean(&given_back(false));
    let finding = one(&given_back(true));
    assert_eq!((finding.check.as_str(), finding.step), ("use-after-free", 3), "{finding:?}");
    assert!(finding.message.contains("whose memory was given back in step 3"), "{}", finding.message);
}

/// Two buffers, `b` in the second half of `a`'s memory or elsewhere; `a` is written first or last.
fn sharing(overlap: bool, a_last: bool) -> Trace {
    let mut t = Builder::new();
    let x = t.row("x", Role::Input);
    let a = t.row_at("a", Role::Scratch, 0x1000);
    let b = t.declare("b", DType::F32, &[1, 4], Role::Scratch, Some(if overlap { 0x1008 } else { 0x2000 }));
    let (out, other) = (t.row("out", Role::State), t.row("other", Role::State));
    t.allocate(b);
    let (into_a, into_b) = (t.silu("into a", x, x, a), t.silu("into b", x, x, b));
    let (from_a, from_b) = (t.silu("from a", a, a, out), t.silu("from b", b, b, other));
    t.end();
    for step in 2..5 {
        t.decode(
            step,
            |t| t.host(x, step as u8),
            |t| {
                if a_last {
                    t.launch(into_b.clone());
                    t.launch(from_b.clone());
                    t.launch(into_a.clone());
                } else {
                    t.launch(into_a.clone());
                    t.launch(into_b.clone());
                    t.launch(from_b.clone());
                }
                t.launch(from_a.clone());
            },
        );
    }
    t.finish()
}

#[test]
fn memory_that_two_buffers_share() {
    clean(&sharing(false, false));
    // Sharing is no mistake where each writes before it reads.
    clean(&sharing(true, true));
    let finding = one(&sharing(true, false));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("aliased-memory", 2, Some(3)));
    assert_eq!(finding.buffer.as_deref(), Some("a@0"));
    assert_eq!(
        finding.message,
        "from a reads bytes 8..16 of a@0, which into b of step 2 (node 1) overwrote as b@0 (2 times more, last in step 4)"
    );
}

/// What was never written through a name is meant to be read through it, however often.
#[test]
fn a_second_name_for_what_another_writes() {
    let mut t = Builder::new();
    let x = t.row("x", Role::Input);
    let (a, b) = (t.row_at("a", Role::Scratch, 0x1000), t.row_at("b", Role::Scratch, 0x1000));
    let out = t.row("out", Role::State);
    let (into_b, from_a) = (t.silu("into b", x, x, b), t.silu("from a", a, a, out));
    t.end();
    for step in 2..5 {
        let run = |t: &mut Builder| [&into_b, &from_a, &from_a].map(|item| t.launch(item.clone()));
        t.decode(
            step,
            |t| t.host(x, step as u8),
            |t| {
                run(t);
            },
        );
    }
    clean(&t.finish());
}

/// A graph reads `table`, which is given back and made anew in step 3; the pool may hand its memory out again.
fn evicted(handed_out: bool) -> Trace {
    let mut t = Builder::new();
    let table = t.row_at("table", Role::Table, 0x1000);
    let out = t.row("out", Role::State);
    t.host(table, 1);
    let graph = t.capture("decode", vec![t.silu("rope", table, table, out)]);
    t.end();
    let anew = t.declare("table", DType::F32, &[1, 4], Role::Table, Some(0x2000));
    let keys = t.declare("keys", DType::F32, &[1, 4], Role::Scratch, Some(0x1000));
    for step in 2..5 {
        let run = |t: &mut Builder| {
            if step == 3 {
                t.free(table);
                t.allocate(anew);
                t.host(anew, 1);
                if handed_out {
                    t.allocate(keys);
                }
            }
            t.launch_graph(graph);
        };
        t.decode(step, |_| {}, run);
    }
    t.finish()
}

#[test]
fn memory_that_was_given_back_and_handed_out_again() {
    assert_eq!(one(&evicted(false)).check, "use-after-free");
    let finding = one(&evicted(true));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("aliased-memory", 3, Some(0)));
    let said = "graph 0 node 0 (rope) reads bytes 0..16 of table@0, which its allocation in step 3 (0xA5) overwrote as keys@0";
    assert!(finding.message.starts_with(said), "{}", finding.message);
}

#[test]
fn bytes_that_nothing_in_the_log_writes() {
    let trace = |stray: bool, chunk: usize| {
        let mut t = Builder::new();
        let x = t.row("x", Role::Input);
        let state = t.buffer("state", DType::F32, &[2, 4], Role::State);
        t.host(state, 1);
        t.end();
        t.decode(2, |t| t.host(x, 1), |_| {});
        t.decode(
            3,
            // Half of the first chunk is written, so that a look at whole chunks would not be enough.
            |t| t.host_bytes(state, 0, &[9; 8]),
            |t| {
                if stray {
                    t.poke(state, chunk as u64, &[7, 7, 7]);
                }
            },
        );
        t.decode(4, |_| {}, |_| {});
        t.finish()
    };
    clean(&trace(false, 0));
    for byte in [8, 20] {
        let finding = one(&trace(true, byte));
        assert_eq!((finding.check.as_str(), finding.step), ("stray-write", 3), "{finding:?}");
        assert!(
            finding.message.starts_with(&format!("3 bytes of state@0 from byte {byte} on")),
            "{}",
            finding.message
        );
    }
}

#[test]
fn what_no_snapshot_looks_at_is_said() {
    let mut t = Builder::new();
    let (x, _scratch) = (t.row("x", Role::Input), t.row("scratch", Role::Scratch));
    t.end();
    t.decode(2, |t| t.host(x, 1), |_| {});
    let report = check(&t.finish()).unwrap();
    assert!(report.not_looked_at.iter().any(|n| n.contains("scratch@0")), "{:?}", report.not_looked_at);
    assert!(report.not_looked_at.iter().any(|n| n.contains("audit nothing")), "{:?}", report.not_looked_at);
}

#[test]
fn results_in_memory_that_was_given_back() {
    let mut t = Builder::new();
    let (x, out) = (t.row("x", Role::State), t.row("out", Role::State));
    t.host(x, 1);
    let graph = t.capture("decode", vec![t.silu("embed", x, x, out)]);
    t.end();
    t.decode(
        2,
        |_| {},
        |t| {
            t.free(out);
            t.launch_graph(graph);
        },
    );
    let message = one(&t.finish()).message;
    assert_eq!(message, "graph 0 node 0 (embed) writes out@0, whose memory was given back in step 2");
}

#[test]
fn a_copy_may_carry_what_nobody_wrote() {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::State), t.row("y", Role::State));
    t.end();
    let copy = Item::Copy {
        stream: 0,
        source: Some(t.view("", x, Access::Read)),
        target: Some(t.view("", y, Access::Write)),
        source_address: 0,
        target_address: 0,
        bytes: 16,
    };
    t.decode(2, |_| {}, |t| t.item(copy));
    clean(&t.finish());
}
