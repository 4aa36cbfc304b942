//! Each check on a small trace that has the mistake, and on its twin that has not.

mod fixture;

use std::path::{Path, PathBuf};

use fixture::Builder;
use twinstep_replayer::{CheckReport, Finding, check, check_explanation, check_names};
use twinstep_traces::{Access, DType, Item, Role, ScalarValue, StepKind, Trace};

/// Check, request, step, node and buffer of each finding.
type Found<'a> = Vec<(&'a str, u32, u32, Option<u32>, Option<&'a str>)>;

fn found(report: &CheckReport) -> Found<'_> {
    let place = |f: &'_ Finding| (f.request, f.step, f.node);
    report
        .findings
        .iter()
        .map(|f| (f.check.as_str(), place(f).0, place(f).1, place(f).2, f.buffer.as_deref()))
        .collect()
}

#[track_caller]
fn clean(trace: &Trace) {
    let report = check(trace).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// The only finding.
#[track_caller]
fn one(trace: &Trace) -> Finding {
    let report = check(trace).unwrap();
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    report.findings[0].clone()
}

fn samples() -> Vec<(PathBuf, Trace)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("traces/samples");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "twin"));
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), Trace::open(&p).unwrap())).collect()
}

#[test]
fn recorded_samples_without_a_mistake_have_no_findings() {
    let mut clean_samples = 0;
    for (path, trace) in samples() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.contains("unlaunched") {
            continue;
        }
        // Recorded on a GPU: buffers that a graph binds although their names mean others by then.
        for (mistake, found) in [("codes-reallocated", "stale-binding"), ("pool-aliasing", "aliased-memory")]
        {
            if name.contains(mistake) {
                let report = check(&trace).unwrap();
                let first = report.findings.first().unwrap_or_else(|| panic!("{name}: nothing found"));
                assert_eq!((first.request, first.step, first.graph), (1, 2, Some(0)), "{name}: {first:?}");
                assert!(report.findings.iter().all(|f| f.check == found), "{name}: {:#?}", report.findings);
            }
        }
        if name.contains("codes-reallocated") || name.contains("pool-aliasing") {
            continue;
        }
        // Nothing in the log alone says that the host should have written `last_codes`: a rule does.
        let report = check(&trace).unwrap();
        assert!(report.findings.is_empty(), "{name}: {:#?}", report.findings);
        clean_samples += 1;
    }
    assert!(clean_samples >= 7);
}

#[test]
fn the_recorded_unlaunched_capture_is_found_in_every_layer_and_nothing_else() {
    let (_, trace) =
        samples().into_iter().find(|(p, _)| p.ends_with("piecewise-unlaunched-capture.twin")).unwrap();
    let report = check(&trace).unwrap();
    let names: Vec<String> = (0..6).map(|i| format!("layer.{i}.mlp_out@0")).collect();
    let expected: Found<'_> = names
        .iter()
        .zip(0..)
        .map(|(name, i)| ("unlaunched-capture", 1, 2, Some(13 + 12 * i), Some(name.as_str())))
        .collect();
    assert_eq!(found(&report), expected);
}

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

/// A graph captured inside step 2; its output is read there, and again in later steps.
fn lazily_captured(launched: bool, warm_up: bool, earlier: bool) -> Trace {
    let mut t = Builder::new();
    let (x, mid, out) = (t.row("x", Role::Input), t.row("mid", Role::Scratch), t.row("out", Role::State));
    if earlier {
        t.host(mid, 7);
    }
    t.end();
    let mlp = t.silu("mlp", x, x, mid);
    let read = t.silu("add", mid, mid, out);
    let mut graph = None;
    for step in 2..5 {
        t.decode(
            step,
            |t| t.host(x, step as u8),
            |t| {
                let captured_now = graph.is_none();
                if captured_now && warm_up {
                    t.launch(mlp.clone());
                }
                let graph = *graph.get_or_insert_with(|| t.capture("mlp", vec![mlp.clone()]));
                if launched || !captured_now {
                    t.launch_graph(graph);
                }
                t.launch(read.clone());
            },
        );
    }
    t.finish()
}

#[test]
fn a_graph_whose_outputs_are_read_before_it_is_launched() {
    for earlier in [false, true] {
        clean(&lazily_captured(true, false, earlier));
        // What the capturing step computed before it captured is meant to be read.
        clean(&lazily_captured(false, true, earlier));
        let trace = lazily_captured(false, false, earlier);
        let finding = one(&trace);
        assert_eq!((finding.check.as_str(), finding.step), ("unlaunched-capture", 2), "{finding:?}");
        assert_eq!((finding.graph, finding.node), (Some(0), Some(0)));
        let holds = if earlier {
            "it still holds what a host write of set-up left"
        } else {
            "nothing has written it"
        };
        assert!(finding.message.contains(holds), "{}", finding.message);
    }
}

/// A graph over `codes`, which is allocated again after capture, and given back or not.
fn reallocated(again: bool, recapture: bool, free: bool) -> Trace {
    let mut t = Builder::new();
    let (old, out) = (t.row("codes", Role::State), t.row("out", Role::State));
    t.host(old, 1);
    let mut graph = t.capture("decode", vec![t.silu("embed", old, old, out)]);
    t.end();
    let mut now = old;
    for step in 2..5 {
        let host = |t: &mut Builder| {
            if step == 3 && again {
                now = t.row("codes", Role::State);
                if recapture {
                    graph = t.capture("decode", vec![t.silu("embed", now, now, out)]);
                }
            }
            if step == 3 && free {
                t.free(old);
            }
            t.host(now, step as u8);
        };
        t.decode(step, host, |_| {});
        t.decode(step + 10, |_| {}, |t| t.launch_graph(graph));
    }
    t.finish()
}

#[test]
fn a_graph_that_binds_what_its_name_no_longer_means() {
    clean(&reallocated(false, false, false));
    clean(&reallocated(true, true, false));
    clean(&reallocated(true, true, true));
    let finding = one(&reallocated(true, false, false));
    assert_eq!((finding.check.as_str(), finding.step, finding.graph), ("stale-binding", 13, Some(0)));
    assert_eq!(
        finding.message,
        "graph 0 node 0 (embed) reads codes@0, but codes is codes@1 since step 3 (once more, last in step 14)"
    );
    // Given back as well: one finding that says both.
    let finding = one(&reallocated(true, false, true));
    assert_eq!((finding.check.as_str(), finding.step), ("use-after-free", 13));
    let said =
        "graph 0 node 0 (embed) reads codes@0, whose memory was given back in step 3; codes is codes@1 now";
    assert!(finding.message.starts_with(said), "{}", finding.message);
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

/// Steps 2 to 8 with a position that the host writes in every step but those left out.
fn positions(left_out: &[u32], constant: bool) -> Trace {
    let mut t = Builder::new();
    let (x, y) = (t.row("positions", Role::Input), t.row("y", Role::State));
    t.host(x, 200);
    t.end();
    for step in 2..9 {
        let host = |t: &mut Builder| {
            if !left_out.contains(&step) {
                t.host(x, if constant { 1 } else { step as u8 });
            }
        };
        t.decode(step, host, |t| t.launch(t.silu("rope", x, x, y)));
    }
    t.finish()
}

#[test]
fn an_input_that_changed_in_every_step_and_then_not() {
    clean(&positions(&[], false));
    // A constant need not be written again, and nor need what was written only now and then.
    clean(&positions(&[6], true));
    clean(&positions(&[3, 5, 7], false));
    let finding = one(&positions(&[6], false));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("missing-host-write", 6, Some(0)));
    assert_eq!(finding.buffer.as_deref(), Some("positions@0"));
}

/// When the host writes a step's input.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
    Ahead,
}

fn written(when: When) -> Trace {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::Input), t.row("y", Role::State));
    t.host(x, 100);
    t.end();
    t.begin(StepKind::Prefill, 1, 1);
    t.host(x, 1);
    t.point("step.before");
    t.launch(t.silu("prefill", x, x, y));
    if when == When::Ahead {
        t.host(x, 2);
    }
    t.end();
    for step in 2..5u32 {
        t.begin(StepKind::Decode, 1, step);
        if when == When::Before {
            t.host(x, step as u8);
        }
        t.point("step.before");
        t.launch(t.silu("decode", x, x, y));
        if when != When::Before {
            t.host(x, step as u8 + 1);
        }
        t.end();
    }
    t.finish()
}

#[test]
fn an_input_that_is_written_after_its_reader() {
    clean(&written(When::Before));
    clean(&written(When::Ahead));
    let finding = one(&written(When::After));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("late-host-write", 2, Some(0)));
    assert_eq!(finding.message, "decode reads x@0, which the host writes only afterwards in this step");
}

/// A graph captured in set-up, and perhaps one of the same launches for another batch; decode steps launch
/// one of them or run the launches directly.
fn engaged(graphs: usize, launch: Option<usize>, direct: bool) -> Trace {
    let mut t = Builder::new();
    let (x, y, z) = (t.row("x", Role::Input), t.row("y", Role::State), t.row("z", Role::State));
    let nodes = vec![t.silu("first", x, x, y), t.silu("second", y, y, z)];
    let captured: Vec<_> = (0..graphs).map(|_| t.capture("decode", nodes.clone())).collect();
    t.end();
    for step in 2..5 {
        t.decode(
            step,
            |t| t.host(x, step as u8),
            |t| {
                if let Some(graph) = launch {
                    t.launch_graph(captured[graph]);
                }
                if direct {
                    nodes.iter().for_each(|node| t.launch(node.clone()));
                }
            },
        );
    }
    t.finish()
}

#[test]
fn a_graph_that_is_captured_and_never_launched() {
    clean(&engaged(1, Some(0), false));
    clean(&engaged(2, Some(1), false));
    clean(&engaged(0, None, true));
    clean(&engaged(1, None, false));
    let finding = one(&engaged(1, None, true));
    assert_eq!((finding.check.as_str(), finding.step, finding.graph), ("not-engaged", 0, Some(0)));
    assert_eq!(
        finding.message,
        "graph 0 (decode) was captured in set-up and never launched: 3 decode steps after it ran its launches one by one"
    );
}

/// A KV write to slot 99 of 4; `faults` is what the buffer holds afterwards.
fn kv_write(faults: u32) -> Trace {
    let mut t = Builder::new();
    let shape = [1, 1, 2];
    let (k, v) =
        (t.buffer("k", DType::F32, &shape, Role::Input), t.buffer("v", DType::F32, &shape, Role::Input));
    let slots = t.buffer("slot_mapping", DType::I64, &[1], Role::Input);
    let cache = [2, 2, 1, 2];
    let k_cache = t.buffer("k_cache", DType::F32, &cache, Role::State);
    let v_cache = t.buffer("v_cache", DType::F32, &cache, Role::State);
    let op_faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
    for buffer in [k, v, op_faults] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("k", k, Access::Read),
        ("v", v, Access::Read),
        ("slot_mapping", slots, Access::Read),
        ("k_cache", k_cache, Access::Write),
        ("v_cache", v_cache, Access::Write),
        ("op_faults", op_faults, Access::ReadWrite),
    ];
    for step in 2..4 {
        t.decode(
            step,
            |t| t.host_bytes(slots, 0, &i64::from(step).to_le_bytes()),
            |t| {
                let write = t.op("kv_write", "layer.0.kv_write", &operands, &[]);
                t.item(write);
                if step == 3 {
                    t.poke(op_faults, 0, &faults.to_le_bytes());
                }
            },
        );
    }
    t.finish()
}

#[test]
fn a_bit_of_op_faults() {
    clean(&kv_write(0));
    let finding = one(&kv_write(8));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("op-faults", 3, Some(0)));
    assert!(finding.message.contains("the bit `slot`"), "{}", finding.message);
    let both = check(&kv_write(8 | 4)).unwrap();
    assert_eq!(both.findings.len(), 2, "{:#?}", both.findings);
}

/// `value` written by a launch into a buffer of the role.
fn float(value: f32, role: Role, op: &str) -> Trace {
    let mut t = Builder::new();
    let shape = [1, 1, 4];
    let x = t.buffer("x", DType::F32, &shape, Role::Input);
    let counters = t.buffer("counters", DType::I64, &[1], Role::Input);
    let y = t.buffer("y", DType::F32, &shape, role);
    let later = t.buffer("later", DType::F32, &shape, Role::Output);
    t.host(counters, 0);
    t.end();
    let launch = match op {
        "delay_mask" => {
            let operands = [
                ("logits", x, Access::Read),
                ("delay_count", counters, Access::Read),
                ("eoc_countdown", counters, Access::Read),
                ("out", y, Access::Write),
            ];
            let scalars = ["boc", "eoc", "eoc_from", "flags"].map(|name| (name, ScalarValue::U32(0)));
            t.op("delay_mask", "mask", &operands, &scalars)
        }
        _ => t.silu("act", x, x, y),
    };
    for step in 2..4 {
        t.decode(
            step,
            |t| t.host(x, step as u8),
            |t| {
                t.launch(launch.clone());
                t.launch(t.silu("later", y, y, later));
                if step == 3 {
                    t.poke(y, 4, &value.to_le_bytes());
                    t.poke(later, 4, &f32::NAN.to_le_bytes());
                }
                if value.is_finite() {
                    t.poke(later, 4, &1f32.to_le_bytes());
                }
            },
        );
    }
    t.finish()
}

#[test]
fn the_first_value_that_is_not_finite() {
    clean(&float(1.0, Role::State, "silu_mul"));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let finding = one(&float(value, Role::State, "silu_mul"));
        assert_eq!((finding.check.as_str(), finding.step, finding.node), ("nonfinite", 3, Some(0)));
        assert_eq!(finding.buffer.as_deref(), Some("y@0"));
        let said = finding.message.starts_with("y[0,0,1] is ")
            && finding.message.contains("written by act of step 3");
        assert!(said && finding.message.ends_with("so are values of 1 more buffers"), "{}", finding.message);
    }
    // Masked logits hold -inf on purpose: what comes of them is the first finding then.
    let finding = one(&float(f32::NEG_INFINITY, Role::State, "delay_mask"));
    assert_eq!(finding.buffer.as_deref(), Some("later@0"));
    assert_eq!(one(&float(f32::NAN, Role::State, "delay_mask")).buffer.as_deref(), Some("y@0"));
}

/// A decode attention over 4 blocks of 64 positions, with this many splits.
fn attention(splits: u64, tiles_per_split: u32) -> Trace {
    let mut t = Builder::new();
    let q = t.buffer("q", DType::F32, &[1, 1, 2], Role::Input);
    let cache = [4, 64, 1, 2];
    let (k, v) = (
        t.buffer("k_cache", DType::F32, &cache, Role::State),
        t.buffer("v_cache", DType::F32, &cache, Role::State),
    );
    let table = t.buffer("block_table", DType::I32, &[1, 4], Role::Input);
    let seq_lens = t.buffer("seq_lens", DType::I32, &[1], Role::Input);
    let partial = t.buffer("attn_partial", DType::F32, &[1, 1, splits, 4], Role::Scratch);
    let faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
    for buffer in [q, k, v, table, faults] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("q", q, Access::Read),
        ("k_cache", k, Access::Read),
        ("v_cache", v, Access::Read),
        ("block_table", table, Access::Read),
        ("seq_lens", seq_lens, Access::Read),
        ("partial", partial, Access::Write),
        ("op_faults", faults, Access::ReadWrite),
    ];
    let scalars =
        [("scale", ScalarValue::F32Bits(0)), ("tiles_per_split", ScalarValue::U32(tiles_per_split))];
    for step in 2..4 {
        t.decode(
            step,
            |t| t.host_bytes(seq_lens, 0, &step.to_le_bytes()),
            |t| t.item(t.op("attention_decode", "layer.0.attn", &operands, &scalars)),
        );
    }
    t.finish()
}

#[test]
fn a_workspace_for_fewer_positions_than_the_block_table() {
    clean(&attention(4, 1));
    clean(&attention(2, 2));
    let finding = one(&attention(3, 1));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("undersized-workspace", 2, Some(0)));
    assert!(
        finding.message.contains("192 positions") && finding.message.contains("256"),
        "{}",
        finding.message
    );
}

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
    t.end();
    t.begin(StepKind::Decode, 1, 2);
    for item in [outside, huge, unknown] {
        t.item(item);
    }
    t.item(Item::GraphLaunch { graph: twinstep_traces::GraphId(7), stream: 9 });
    t.item(Item::GraphLaunch { graph: cyclic, stream: 9 });
    t.item(Item::EventWait { event: 5, stream: 3 });
    t.item(Item::Free { buffer: x });
    t.item(Item::Free { buffer: x });
    t.commit();
    let report = check(&t.finish()).unwrap();
    for note in ["leaves its buffer", "version 99", "graph 7", "a node that is no launch"] {
        assert!(report.not_looked_at.iter().any(|n| n.contains(note)), "{note}: {:#?}", report.not_looked_at);
    }
}

#[test]
fn every_check_explains_itself() {
    let names: Vec<&str> = check_names().collect();
    assert_eq!(names.len(), 13);
    for name in names {
        let text = check_explanation(name).unwrap();
        assert!(text.contains("Seen in: ") && text.contains("Confirm: `twinstep "), "{name}");
        assert!(text.lines().all(|l| l.len() <= 112), "{name}");
    }
    assert!(check_explanation("no-such-check").is_none());
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
fn a_graph_that_was_captured_over_an_older_allocation_means_it() {
    let mut t = Builder::new();
    let (old, out) = (t.row("codes", Role::State), t.row("out", Role::State));
    t.row("codes", Role::State);
    t.host(old, 1);
    let graph = t.capture("decode", vec![t.silu("embed", old, old, out)]);
    t.end();
    t.decode(2, |_| {}, |t| t.launch_graph(graph));
    clean(&t.finish());
}
