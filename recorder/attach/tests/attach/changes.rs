//! Graphs that are changed in place: what a trace says that they hold is what ran.

use std::collections::HashMap;

use twinstep_traces::{Item, Trace};

use crate::engine::{all_items, items, open, points, record, steps, twinstep};
use crate::moves::line;

/// The graph that a step launches.
fn launched(trace: &Trace, step: &twinstep_traces::StepRecord) -> u32 {
    let launches: Vec<u32> = items(trace, step)
        .iter()
        .filter_map(|item| if let Item::GraphLaunch { graph, .. } = item { Some(graph.0) } else { None })
        .collect();
    assert_eq!(launches.len(), 1, "one launch a step");
    launches[0]
}

/// A graph's nodes in one line each: kernels by their last parameter and block.
fn nodes(trace: &Trace, graph: u32) -> Vec<String> {
    let program = trace.program(trace.graphs()[graph as usize].program).unwrap();
    let names = [("g0.n2.p0", "state"), ("g0.n2.p1", "hidden")];
    let node = |item: &Item| match item {
        Item::Opaque(kernel) if kernel.kernel.starts_with("step_kernel") => {
            let count = kernel.parameters.last().unwrap().as_slice();
            format!("step {} x {}", i32::from_le_bytes(count.try_into().unwrap()), kernel.block[0])
        }
        Item::Mark { text } => text.clone(),
        other => {
            let mut text = line(trace, other).unwrap();
            names.iter().for_each(|(from, to)| text = text.replace(from, to));
            text
        }
    };
    program.items.iter().map(node).collect()
}

/// What the engine's marks say, for each step in order.
fn labels(stdout: &str) -> Vec<String> {
    let words = |line: &str| {
        let words: Vec<&str> = line.split(' ').filter(|w| w.parse::<u64>().is_err()).collect();
        words[..words.len().saturating_sub(2)].join(" ")
    };
    stdout.lines().map(words).collect()
}

#[test]
fn after_a_change_in_place_a_graph_holds_what_it_was_changed_to() {
    for route in ["moves-dlsym", "moves-proc", "moves-old"] {
        let folder = tempfile::tempdir().unwrap();
        let run = record(folder.path(), &[], [route, "changes", "2"]);
        let trace = open(folder.path(), "run.twin");
        let steps = steps(&trace);
        let (copy, fill) = ("copy 16 to hidden+128 from hidden+0", "fill 8 of hidden+0 with [1]");
        let (copied, filled) =
            ("copy 32 to hidden+64 from hidden+0", "fill of 2 rows of 4 bytes to hidden+0[2x4 by 16x1]");
        let off = "switched off: step_kernel(float*, float const*, int)";
        let (any, small) = ("copy 8 to hidden+64 from hidden+0", "fill 4 of hidden+0 with [9]");
        let expected: &[(&str, [&str; 4])] = &[
            ("as it was", [copy, fill, "step 4 x 32", "step 2 x 32"]),
            ("kernel", [copy, fill, "step 5 x 64", "step 2 x 32"]),
            ("kernel", [copy, fill, "step 6 x 64", "step 2 x 32"]),
            ("copy", [copied, fill, "step 6 x 64", "step 2 x 32"]),
            ("fill", [copied, filled, "step 6 x 64", "step 2 x 32"]),
            ("child", [copied, filled, "step 6 x 64", "step 3 x 32"]),
            ("off", [copied, filled, off, "step 3 x 32"]),
            ("off and set", [copied, filled, off, "step 3 x 32"]),
            ("on", [copied, filled, "step 6 x 64", "step 3 x 32"]),
            ("any copy", [any, small, "step 6 x 64", "step 4 x 32"]),
            ("refused", [any, small, "step 6 x 64", "step 4 x 32"]),
            ("whole", [copy, fill, "step 9 x 32", "step 5 x 32"]),
            ("unknown", [copy, fill, "step 9 x 32", "step 5 x 32"]),
        ];
        assert_eq!(steps.len(), expected.len(), "{route}");
        assert_eq!(labels(&run.stdout), expected.iter().map(|(label, _)| *label).collect::<Vec<_>>());
        for (step, (label, nodes_then)) in steps.iter().zip(expected) {
            let graph = launched(&trace, step);
            assert_eq!(nodes(&trace, graph), nodes_then, "{route}: {label}");
            assert_eq!(points(step), ["step.before", "step.after"], "{route}: {label}");
        }
        // What is no other contents is no other graph; what it held before is found again.
        let graphs: Vec<u32> = steps.iter().map(|step| launched(&trace, step)).collect();
        assert_eq!(graphs, [0, 1, 2, 3, 4, 5, 6, 6, 5, 7, 7, 8, 8], "{route}");
        let all = all_items(&trace);
        let gaps: Vec<&Item> = all
            .iter()
            .filter(|item| matches!(item, Item::Gap { reason } if !reason.starts_with("kernels launched")))
            .collect();
        assert!(gaps.is_empty(), "{route}: what the driver refused is no change: {gaps:?}");
        // Each is captured in the step that launches it first, and destroyed with the graph.
        let count = |wanted: fn(&Item) -> bool| all.iter().filter(|item| wanted(item)).count();
        assert_eq!(count(|item| matches!(item, Item::Capture { .. })), 9 + 1, "{route}: one twice");
        assert_eq!(count(|item| matches!(item, Item::DestroyGraph { .. })), 9, "{route}");
        for (step, graph) in steps.iter().zip(graphs).skip(1) {
            let captured =
                items(&trace, step).iter().any(|i| matches!(i, Item::Capture { graph: g } if g.0 == graph));
            let first = launched(&trace, &steps[step.step as usize - 2]) != graph;
            assert_eq!(captured, first, "{route}: step {}", step.step);
        }
    }
}

#[test]
fn a_node_that_cannot_be_followed_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[], ["moves-proc", "lost", "1"]);
    let trace = open(folder.path(), "run.twin");
    let steps = steps(&trace);
    assert_eq!(steps.iter().map(|step| launched(&trace, step)).collect::<Vec<_>>(), [0, 1, 1]);
    let other = trace.program(trace.graphs()[1].program).unwrap();
    assert!(
        matches!(&other.items[..], [Item::Opaque(kernel)] if kernel.kernel == "wait_a_while"),
        "{other:?}"
    );
    let gaps = all_items(&trace).into_iter().filter(|item| {
        matches!(item, Item::Gap { reason } if reason.contains("in a node of graph 0") || reason.contains("graph 1"))
    });
    assert_eq!(gaps.count(), 1);
}

#[test]
fn a_graph_updated_in_every_step_is_told_as_often_as_it_changes() {
    // How it is updated, and how many graphs there are then, of 40 steps.
    for (how, graphs) in [("update-same", 1), ("update-freed", 1), ("update-turn", 2), ("update-new", 40)] {
        for route in ["moves-proc", "moves-old"] {
            let folder = tempfile::tempdir().unwrap();
            record(folder.path(), &[], [route, how, "40"]);
            let trace = open(folder.path(), "run.twin");
            assert_eq!((trace.graphs().len(), steps(&trace).len()), (graphs, 40), "{how}");
            for (i, step) in steps(&trace).iter().enumerate() {
                let count = match how {
                    "update-new" => 4 + i,
                    "update-turn" => 4 + i % 2,
                    _ => 4,
                };
                assert_eq!(
                    nodes(&trace, launched(&trace, step)),
                    [format!("step {count} x 32")],
                    "{how} {i}"
                );
            }
            let mut captured: HashMap<u32, usize> = HashMap::new();
            for item in all_items(&trace) {
                match item {
                    Item::Capture { graph } => *captured.entry(graph.0).or_default() += 1,
                    Item::GraphLaunch { graph, .. } => {
                        assert!(captured.contains_key(&graph.0), "{how}: {graph:?}")
                    }
                    _ => {}
                }
            }
            // What was given back since may be other memory by now: the same addresses were given on purpose again.
            let again = captured.values().sum::<usize>() - captured.len();
            let expected = match how {
                "update-freed" => 40,
                "update-turn" => 38,
                _ => 0,
            };
            assert_eq!(again, expected, "{how}");
        }
    }
}

#[test]
fn points_keep_the_number_that_a_graph_was_instantiated_with() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[], ["moves-proc", "update-two", "4"]);
    let trace = open(folder.path(), "run.twin");
    let expected =
        ["step.before", "graph.0.before", "graph.0.after", "graph.1.before", "graph.1.after", "step.after"];
    for (i, step) in steps(&trace).iter().enumerate() {
        assert_eq!(points(step), expected);
        let launched: Vec<u32> = items(&trace, step)
            .iter()
            .filter_map(|item| if let Item::GraphLaunch { graph, .. } = item { Some(graph.0) } else { None })
            .collect();
        assert_eq!(launched, [0, 1 + i as u32], "step {}", step.step);
    }
}

#[test]
fn a_value_that_is_updated_in_every_step_is_not_called_frozen() {
    let explained = |a: &str, b: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (how, name) in [(a, "a.twin"), (b, "b.twin")] {
            record(folder.path(), &[], ["moves-proc", how, "12"]);
            std::fs::rename(folder.path().join("run.twin"), folder.path().join(name)).unwrap();
        }
        let output = twinstep(folder.path(), &["explain", "--json", "a.twin", "b.twin"]).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let verdict = &document["verdict"];
        (verdict["kind"].as_str().unwrap().to_owned(), verdict["side"].as_str().map(str::to_owned))
    };
    // The run that passes the same in every step is the one that froze it.
    assert_eq!(explained("update-new", "update-same"), ("frozen-argument".to_owned(), Some("b".to_owned())));
    assert_eq!(explained("update-same", "update-new"), ("frozen-argument".to_owned(), Some("a".to_owned())));
    // Both pass another value in every step: neither did.
    assert_eq!(explained("update-new", "update-turn").0, "unknown");
}

#[test]
fn a_ring_does_not_carry_what_graphs_held_before() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &["--ring", "64KiB"], ["moves-proc", "update-new", "300"]);
    let trace = open(folder.path(), "run.twin");
    let kept = steps(&trace);
    assert!(kept.len() > 5 && kept.len() < 250, "{} steps", kept.len());
    for step in &kept {
        let graph = launched(&trace, step);
        assert_eq!(nodes(&trace, graph), [format!("step {} x 32", 3 + step.step)], "step {}", step.step);
    }
    let first = trace.program(trace.graphs()[1].program).unwrap();
    assert!(
        matches!(&first.items[..], [Item::Gap { reason }] if reason.contains("changed in place")),
        "{first:?}"
    );
}
