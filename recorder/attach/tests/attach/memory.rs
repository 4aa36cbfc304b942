//! Memory and graphs that come and go.

use std::collections::HashSet;

use twinstep_traces::{BufferId, GraphId, Item};

use crate::engine::{all_items, codes_are_as_printed, open, points, record, steps, value};

#[test]
fn memory_is_given_back_and_taken_again_without_a_read_of_what_is_gone() {
    // The stub unmaps what is freed: a copy of it would end the program.
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let run = record(folder.path(), &[], ["proc", "memory", "12"]);
        let trace = open(folder.path(), "run.twin");
        assert_eq!(steps(&trace).len(), run.stdout.lines().count());
        let (mut live, mut freed, mut graphs) = (HashSet::<BufferId>::new(), 0, HashSet::<GraphId>::new());
        for item in all_items(&trace) {
            match item {
                Item::Allocate { buffer } => assert!(live.insert(buffer), "{buffer:?} twice"),
                Item::Free { buffer } => {
                    assert!(live.remove(&buffer), "{buffer:?} was not there");
                    freed += 1;
                }
                Item::Capture { graph } => assert!(graphs.insert(graph)),
                Item::DestroyGraph { graph } => assert!(graphs.remove(&graph)),
                Item::GraphLaunch { graph, .. } => assert!(graphs.contains(&graph), "{graph:?} is gone"),
                _ => {}
            }
        }
        // Twelve allocations are given back, and with each but the first, which no graph used, the name in it.
        assert_eq!(freed, 12 + 11);
        assert!(graphs.is_empty());
        assert_eq!(trace.graphs().len(), 12);
    }
}

#[test]
fn a_graph_captured_again_is_another_graph() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["dlsym", "recapture", "6"]);
    let trace = open(folder.path(), "run.twin");
    codes_are_as_printed(&trace, "g0.n0.p0", &run.stdout);
    let all = all_items(&trace);
    let lives: Vec<String> = all
        .iter()
        .filter_map(|item| match item {
            Item::Capture { graph } => Some(format!("+{}", graph.0)),
            Item::DestroyGraph { graph } => Some(format!("-{}", graph.0)),
            Item::GraphLaunch { graph, .. } => Some(graph.0.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(lives, ["+0", "0", "0", "0", "-0", "+1", "1", "1", "1"]);
}

#[test]
fn a_launch_on_one_device_looks_at_no_other_devices_memory() {
    // The stub ends a program that has one device read another's memory.
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[], ["moves-proc", "devices", "5"]);
    let trace = open(folder.path(), "run.twin");
    let steps = steps(&trace);
    assert_eq!(steps.len(), 5);
    for step in &steps {
        assert_eq!(
            points(step),
            [
                "step.before",
                "graph.0.before",
                "graph.0.after",
                "graph.1.before",
                "graph.1.after",
                "step.after"
            ]
        );
        for graph in 0..2 {
            let input = value(&trace, step, &format!("graph.{graph}.after"), &format!("g{graph}.n0.p1"));
            assert!(input.iter().all(|&byte| byte == 0x3f + graph), "step {}", step.step);
        }
        let covered: Vec<usize> = step
            .points
            .iter()
            .filter(|point| point.point.starts_with("graph."))
            .map(|point| trace.covered(point.snapshot).unwrap().len())
            .collect();
        assert_eq!(covered, [2; 4], "each its own two buffers");
    }
}
