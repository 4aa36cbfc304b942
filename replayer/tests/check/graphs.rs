//! Graphs: captured and not launched, never launched at all, bound to what a name no longer means.

use twinstep_replayer::check;
use twinstep_traces::{Role, Trace};

use crate::fixture::Builder;
use crate::{clean, one};

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

#[test]
fn launches_that_are_not_the_graphs_are_no_fallback() {
    let mut t = Builder::new();
    let (x, y, z) = (t.row("x", Role::Input), t.row("y", Role::State), t.row("z", Role::State));
    t.capture("decode", vec![t.silu("first", x, x, y), t.silu("second", y, y, z)]);
    t.end();
    for step in 2..5 {
        let run = |t: &mut Builder| {
            t.launch(t.silu("third", x, x, y));
            t.launch(t.silu("fourth", y, y, z));
        };
        t.decode(step, |t| t.host(x, step as u8), run);
    }
    clean(&t.finish());
}

#[test]
fn results_in_memory_that_a_name_no_longer_means() {
    let mut t = Builder::new();
    let (x, out) = (t.row("x", Role::State), t.row("out", Role::State));
    t.host(x, 1);
    let graph = t.capture("decode", vec![t.silu("embed", x, x, out)]);
    t.end();
    t.decode(
        2,
        |t| {
            t.row("out", Role::State);
        },
        |t| t.launch_graph(graph),
    );
    let message = one(&t.finish()).message;
    assert_eq!(message, "graph 0 node 0 (embed) writes out@0, but out is out@1 since step 2");
}

/// Of two operands of a launch, one is an output of a graph that was not launched, and one was never written.
#[test]
fn what_one_check_explains_is_not_all_that_a_launch_reads() {
    let mut t = Builder::new();
    let (x, mid, fresh) = (t.row("x", Role::Input), t.row("mid", Role::State), t.row("fresh", Role::State));
    let out = t.row("out", Role::State);
    t.end();
    t.decode(
        2,
        |t| t.host(x, 1),
        |t| {
            t.capture("mlp", vec![t.silu("mlp", x, x, mid)]);
            t.launch(t.silu("add", mid, fresh, out));
        },
    );
    let report = check(&t.finish()).unwrap();
    let found: Vec<_> = report.findings.iter().map(|f| (f.check.as_str(), f.buffer.as_deref())).collect();
    assert_eq!(
        found,
        [("unlaunched-capture", Some("mid@0")), ("uninitialised-read", Some("fresh@0"))],
        "{report:#?}"
    );
}

#[test]
fn more_findings_than_are_kept_apart_are_said() {
    let report = |count: usize| {
        let mut t = Builder::new();
        let out = t.row("out", Role::State);
        let inputs: Vec<_> = (0..count).map(|i| t.row(&format!("in.{i}"), Role::State)).collect();
        t.end();
        t.decode(2, |_| {}, |t| inputs.iter().for_each(|&x| t.launch(t.silu("act", x, x, out))));
        check(&t.finish()).unwrap()
    };
    for (count, said) in [(64, 0), (65, 1)] {
        let report = report(count);
        assert_eq!(report.findings.len(), 64);
        let notes = report.not_looked_at.iter().filter(|n| n.contains("more than 64 findings"));
        assert_eq!(notes.count(), said, "{count}");
    }
}
