//! Histories of small traces whose every event is known, and of recorded ones.

mod fixture;

use std::path::Path;

use fixture::Builder;
use twinstep_replayer::{At, HistoryOptions, HistoryReport, ReplayError, history};
use twinstep_traces::{DType, Item, Role, StepKind, Trace};

fn at(step: u32) -> At {
    At { request: 1, step: Some(step) }
}

fn ask(trace: &Trace, selection: &str, step: u32, after: bool) -> HistoryReport {
    history(trace, selection, at(step), HistoryOptions { after, limit: 16 }).unwrap()
}

/// `2 launch act`, newest first, of the only group.
fn lines(report: &HistoryReport) -> Vec<String> {
    assert_eq!(report.groups.len(), 1, "{report:#?}");
    report.groups[0].writers.iter().map(|w| format!("{} {} {}", w.at, w.what, w.name)).collect()
}

/// Set-up, then three steps: a host write and a launch into `y`, a graph into `y`, and nothing.
fn three_steps() -> Trace {
    let mut t = Builder::new();
    let (x, y, z) = (t.row("x", Role::Input), t.row("y", Role::State), t.row("z", Role::State));
    let act = t.silu("act", x, x, y);
    let graph = t.capture("decode", vec![t.silu("first", x, y, z), t.silu("second", z, z, y)]);
    t.end();
    t.decode(
        2,
        |t| {
            t.host(x, 1);
            t.host_bytes(y, 4, &2.5f32.to_le_bytes());
        },
        |t| t.launch(act),
    );
    t.decode(3, |t| t.host(x, 3), |t| t.launch_graph(graph));
    t.decode(4, |_| {}, |_| {});
    t.finish()
}

#[test]
fn writers_come_newest_first_across_steps_graphs_and_the_host() {
    let trace = three_steps();
    let report = ask(&trace, "y[0,1]", 4, false);
    assert_eq!(
        lines(&report),
        ["3 node second", "2 launch act", "2 host-write ", "set-up allocation "],
        "{report:#?}"
    );
    let writers = &report.groups[0].writers;
    assert_eq!((writers[0].launch, writers[0].graph, writers[0].graph_node), (Some(1), Some(0), Some(1)));
    assert_eq!(writers[2].values.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2.5"]);
    // The host wrote one element only, so another has one writer less.
    assert_eq!(lines(&ask(&trace, "y[0,2]", 4, false)).len(), 3);
}

#[test]
fn a_step_is_seen_from_before_or_from_after_it() {
    let trace = three_steps();
    assert_eq!(lines(&ask(&trace, "y[0,1]", 3, false))[0], "2 launch act");
    assert_eq!(lines(&ask(&trace, "y[0,1]", 3, true))[0], "3 node second");
    // The host writes of a step come before its `step.before`.
    assert_eq!(lines(&ask(&trace, "y[0,1]", 2, false))[0], "2 host-write ");
    assert_eq!(lines(&ask(&trace, "x", 2, false)), ["2 host-write ", "set-up allocation "]);
}

#[test]
fn inputs_of_a_launch_say_who_wrote_them() {
    let trace = three_steps();
    let report = ask(&trace, "y[0,1]", 4, false);
    let inputs = &report.groups[0].writers[0].inputs;
    assert_eq!(inputs.len(), 2, "z is read through two operands: {inputs:#?}");
    let first = ask(&trace, "z", 4, false);
    let inputs: Vec<(&str, &str, &[String])> = first.groups[0].writers[0]
        .inputs
        .iter()
        .map(|i| (i.operand.as_str(), i.buffer.as_str(), i.writers.as_slice()))
        .collect();
    let (host, launch) = (["a host write of step 3".to_owned()], ["act of step 2 (node 0)".to_owned()]);
    assert_eq!(inputs, [("gate", "x@0", host.as_slice()), ("up", "y@0", launch.as_slice())]);
}

#[test]
fn what_nobody_wrote_says_so_and_a_limit_is_kept() {
    let trace = three_steps();
    assert_eq!(lines(&ask(&trace, "z", 2, true)), ["set-up allocation "]);
    let one = history(&trace, "y[0,1]", at(4), HistoryOptions { after: false, limit: 1 }).unwrap();
    assert_eq!(lines(&one), ["3 node second"]);
    assert!(one.groups[0].more);
    assert!(!ask(&trace, "y[0,1]", 4, false).groups[0].more);
}

#[test]
fn a_write_to_shared_memory_is_a_write_to_both_buffers() {
    let mut t = Builder::new();
    let x = t.row("x", Role::Input);
    let a = t.row_at("a", Role::State, 0x1000);
    t.host(a, 1);
    let b = t.row_at("b", Role::State, 0x1008);
    let into_b = t.silu("into b", x, x, b);
    t.end();
    t.decode(2, |t| t.host(x, 1), |t| t.launch(into_b));
    t.decode(3, |_| {}, |_| {});
    let trace = t.finish();
    let report = ask(&trace, "a", 3, false);
    let groups: Vec<(Vec<[u64; 2]>, &str, &str)> = report
        .groups
        .iter()
        .map(|g| (g.bytes.clone(), g.writers[0].what, g.writers[0].buffer.as_str()))
        .collect();
    assert_eq!(groups, [(vec![[0, 8]], "host-write", "a@0"), (vec![[8, 16]], "launch", "b@0")]);
}

#[test]
fn unknown_kernels_are_named_as_what_the_trace_does_not_tell() {
    let mut t = Builder::new();
    let x = t.row("x", Role::State);
    t.host(x, 1);
    t.end();
    let operand = t.view("p0", x, twinstep_traces::Access::Unknown);
    let kernel = twinstep_traces::OpaqueLaunch {
        kernel: "reshape_and_cache".into(),
        phase: twinstep_traces::Phase::Forward,
        stream: 0,
        grid: [1; 3],
        block: [1; 3],
        cluster: [0; 3],
        shared_bytes: 0,
        parameters: vec![vec![0; 8]],
        operands: vec![(0, 0, operand)],
    };
    t.decode(2, |_| {}, |t| t.item(Item::Opaque(kernel)));
    let trace = t.finish();
    let report = ask(&trace, "x", 2, true);
    assert_eq!(lines(&report), ["2 foreign reshape_and_cache", "set-up host-write ", "set-up allocation "]);
    assert!(report.groups[0].writers[0].may);
    assert!(report.not_looked_at[0].contains("reshape_and_cache"), "{report:#?}");
}

#[test]
fn records_that_make_no_sense_give_no_panic() {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::State), t.row("y", Role::State));
    let mut outside = t.silu("outside", x, x, y);
    let mut huge = t.silu("huge", x, x, y);
    if let (Item::Launch(outside), Item::Launch(huge)) = (&mut outside, &mut huge) {
        outside.views[2].offset = u64::MAX - 3;
        huge.views[2].shape = vec![u64::MAX, u64::MAX];
    }
    t.end();
    t.begin(StepKind::Decode, 1, 2);
    t.point("step.before");
    t.item(outside);
    t.item(huge);
    t.item(Item::GraphLaunch { graph: twinstep_traces::GraphId(7), stream: 0 });
    t.item(Item::Free { buffer: x });
    t.item(Item::Free { buffer: x });
    t.commit();
    let trace = t.finish();
    let report = ask(&trace, "y", 2, true);
    assert!(!report.not_looked_at.is_empty(), "{report:#?}");
    assert!(report.groups[0].writers[0].may, "what such a launch writes is not certain");
    assert!(matches!(history(&trace, "y", at(9), HistoryOptions::default()), Err(ReplayError::Place(_))));
}

/// Step 2 of the sample without its launches: the MLP's output was never written.
#[test]
fn a_recorded_unlaunched_capture_shows_an_output_that_nobody_wrote() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("traces/samples");
    let faulty = Trace::open(&root.join("piecewise-unlaunched-capture.twin")).unwrap();
    assert_eq!(lines(&ask(&faulty, "layer.0.mlp_out[0,1]", 2, true)), ["set-up allocation "]);
    let clean = Trace::open(&root.join("piecewise-greedy.twin")).unwrap();
    let written = ask(&clean, "layer.0.mlp_out[0,1]", 2, true);
    assert_eq!(lines(&written), ["2 node layer.0.mlp.down", "set-up allocation "]);
}

#[test]
fn what_is_asked_for_is_said_and_found() {
    let trace = three_steps();
    assert_eq!(ask(&trace, "y", 2, false).point, "step.before");
    assert_eq!(ask(&trace, "y", 2, true).point, "step.after");
    // The section after the last step has that step's number in its record.
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::Input), t.row("y", Role::State));
    let launch = |t: &Builder, label: &str| t.silu(label, x, x, y);
    t.end();
    t.decode(2, |t| t.host(x, 1), |t| t.launch(launch(t, "")));
    t.begin(StepKind::Codec, 1, 2);
    t.point("step.before");
    t.launch(launch(&t, "vocode"));
    t.end();
    let trace = t.finish();
    let codec = At { request: 1, step: None };
    let report = history(&trace, "y", codec, HistoryOptions { after: true, limit: 16 }).unwrap();
    // Without a label, the op's name.
    assert_eq!(lines(&report), ["1:codec launch vocode", "2 launch silu_mul", "set-up allocation "]);
}

#[test]
fn too_many_stretches_and_none() {
    let mut t = Builder::new();
    let (wide, fits) = (
        t.buffer("wide", DType::U8, &[4097, 2], Role::State),
        t.buffer("fits", DType::U8, &[4096, 2], Role::State),
    );
    let nothing = t.buffer("nothing", DType::F32, &[4, 0], Role::State);
    t.host(wide, 1);
    t.host(fits, 1);
    t.end();
    t.decode(2, |_| {}, |_| {});
    let trace = t.finish();
    let ask = |selection: &str| history(&trace, selection, at(2), HistoryOptions::default());
    assert_eq!(ask("fits[:,0]").unwrap().groups[0].bytes.len(), 4096);
    let error = ask("wide[:,0]").unwrap_err();
    assert!(
        matches!(&error, ReplayError::Selection(why) if why.contains("more than 4096 separate stretches")),
        "{error}"
    );
    assert_eq!(ask("wide").unwrap().groups[0].bytes, [[0, 8194]]);
    assert_eq!(ask("nothing").unwrap().groups.len(), 0, "{nothing:?}");
}

#[test]
fn writers_are_told_once_and_not_beyond_an_allocation() {
    // The same writer on both sides of another one.
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::State), t.row("y", Role::State));
    t.host(x, 1);
    t.end();
    t.decode(2, |t| t.host_bytes(x, 4, &[2; 4]), |t| t.launch(t.silu("act", x, x, y)));
    let report = ask(&t.finish(), "y", 2, true);
    let inputs = &report.groups[0].writers[0].inputs;
    assert_eq!(inputs[0].writers, ["a host write of step 2", "a host write of set-up"]);
    // A kernel that has the buffer twice is one writer.
    let mut t = Builder::new();
    let x = t.row("x", Role::State);
    t.end();
    let operand = |n| (n, 0, t.view("p", x, twinstep_traces::Access::Unknown));
    let kernel = twinstep_traces::OpaqueLaunch {
        kernel: "add".into(),
        phase: twinstep_traces::Phase::Forward,
        stream: 0,
        grid: [1; 3],
        block: [1; 3],
        cluster: [0; 3],
        shared_bytes: 0,
        parameters: vec![vec![0; 8]; 2],
        operands: vec![operand(0), operand(1)],
    };
    t.decode(2, |_| {}, |t| t.item(Item::Opaque(kernel)));
    assert_eq!(lines(&ask(&t.finish(), "x", 2, true)), ["2 foreign add", "set-up allocation "]);
    // Memory that had another owner before: what that one wrote reaches nobody.
    let mut t = Builder::new();
    let old = t.row_at("old", Role::State, 0x1000);
    t.host(old, 1);
    t.end();
    let new = t.declare("new", DType::F32, &[1, 4], Role::State, Some(0x1000));
    t.decode(
        2,
        |_| {},
        |t| {
            t.free(old);
            t.allocate(new);
        },
    );
    assert_eq!(lines(&ask(&t.finish(), "new", 2, true)), ["2 allocation "]);
}
