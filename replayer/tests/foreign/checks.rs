//! What checks find in one run of another engine.

use twinstep_replayer::{CheckReport, Kind};
use twinstep_traces::{BufferId, DType};

use crate::engine::talker::{Mistake, Plan};
use crate::engine::{Arg, Engine, Kernel};
use crate::{eager_with_launches, found, kinds};

#[test]
fn checks_name_what_a_graph_binds() {
    let cases = [
        (Mistake::Rebound, Kind::StaleBinding, "last_codes@0"),
        (Mistake::Freed, Kind::UseAfterFree, "last_codes@0"),
        (Mistake::Aliased, Kind::AliasedMemory, "last_codes@0"),
    ];
    for (mistake, kind, buffer) in cases {
        for around_graphs in [false, true] {
            let trace = Plan { around_graphs, ..Plan::new("graph", mistake) }.record();
            let findings = found(&trace).findings;
            assert_eq!(findings.len(), 1, "{mistake:?}: {findings:?}");
            let finding = &findings[0];
            assert_eq!(
                (finding.kind, finding.buffer.as_deref()),
                (kind, Some(buffer)),
                "{}",
                finding.message
            );
            assert_eq!(
                (finding.request, finding.step, finding.graph),
                (1, 4, Some(0)),
                "{}",
                finding.message
            );
            let named = "graph 0 node 0 (sm90_embed) parameter 0 binds last_codes@0";
            assert!(finding.message.starts_with(named), "{}", finding.message);
        }
        // The same happens in an eager run, without a graph: no mistake.
        assert_eq!(kinds(&eager_with_launches(mistake)), [], "{mistake:?} eagerly");
    }
}

#[test]
fn a_graph_that_is_not_launched_where_it_was_captured() {
    for launches in [false, true] {
        let trace = Plan { launches, ..Plan::new("piecewise", Mistake::Unlaunched) }.record();
        let findings = found(&trace).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        let finding = &findings[0];
        assert_eq!(finding.kind, Kind::UnlaunchedCapture);
        assert_eq!((finding.request, finding.step, finding.graph), (1, 2, Some(0)));
        assert_eq!(finding.buffer.as_deref(), Some("mlp_out@0"), "{}", finding.message);
        let said = "graph 0 (mlp) was captured in step 2 and not launched in it, though 6 later steps launch it: mlp_out@0 \
                    did not change in step 2, and changed with every later launch";
        assert!(finding.message.starts_with(said), "{}", finding.message);
        let used = finding.message.contains("sm90_head binds mlp_out@0 in that step");
        assert_eq!(used, launches, "{}", finding.message);
    }
}

#[test]
fn a_warm_up_before_a_capture_that_is_not_launched() {
    // Of results that were used it is no mistake; without a record of it, whether they were is not known.
    for launches in [false, true] {
        let warm = Plan { warm_capture: true, launches, ..Plan::new("piecewise", Mistake::None) }.record();
        let report = found(&warm);
        assert_eq!(report.findings, []);
        let notes = report.not_looked_at.iter().filter(|n| n.contains("whether its outputs were used there"));
        assert_eq!(notes.count(), usize::from(!launches), "{:?}", report.not_looked_at);
    }
    // The same kernel on other memory computes nothing of what is used.
    let trace = Plan { launches: true, ..Plan::new("piecewise", Mistake::WarmedElsewhere) }.record();
    assert_eq!(kinds(&trace), [Kind::UnlaunchedCapture]);
}

/// A graph over `state`, captured in step 2 and launched in the steps given; something else changes `other` from
/// step 3 on. `state` is watched from a step on.
fn captured_in_step_2(launched: &[u32], in_set_up: bool, watched_from: u32) -> CheckReport {
    let mut e = Engine::new("graph", 0x7f40_0000_0000, 0);
    let (_, pool) = e.segment(1024, None);
    let (state, other) = (pool, pool + 256);
    let advance = Kernel {
        name: "advance".into(),
        args: vec![Arg::Pointer(state)],
        grid: 1,
        effect: |m, p| m.set_f32(p[0], 0, m.f32(p[0], 0) + 1.0),
    };
    e.watch("other", DType::F32, 4, other);
    if watched_from == 0 {
        e.watch("state", DType::F32, 4, state);
    }
    e.end_set_up();
    e.request(1, "", &[]);
    let mut graph = None;
    for step in 1..=6 {
        if step == watched_from {
            e.watch("state", DType::F32, 4, state);
        }
        e.begin(1, step);
        if step == 2 {
            e.launch(&advance);
            graph = Some(e.capture("", vec![advance.clone()]));
        }
        if step > 2 {
            e.memory.set_f32(other, 0, step as f32);
        }
        if let Some(graph) = graph.filter(|_| launched.contains(&step)) {
            e.launch_graph(graph);
        }
        e.end();
    }
    if let Some(graph) = graph.filter(|_| in_set_up) {
        e.launch_graph(graph);
    }
    e.end_set_up();
    found(&e.finish())
}

#[test]
fn what_is_no_output_of_the_graph_or_was_not_looked_at_accuses_nobody() {
    let notes =
        |report: &CheckReport| report.not_looked_at.iter().filter(|n| n.contains("unlaunched-")).count();
    // Something else changes from the next step on; the graph does not bind it.
    let report = captured_in_step_2(&[3, 4, 5, 6], false, 0);
    assert_eq!((report.findings.len(), notes(&report)), (0, 1), "{report:#?}");
    // What it does bind is watched only later.
    let report = captured_in_step_2(&[3, 4, 5, 6], false, 4);
    assert_eq!((report.findings.len(), notes(&report)), (0, 1), "{report:#?}");
    // Launched in set-up alone, or not at all: another step does not tell what this one lacks.
    for in_set_up in [false, true] {
        let report = captured_in_step_2(&[], in_set_up, 0);
        assert_eq!(notes(&report), 0, "{report:#?}");
        assert!(report.findings.iter().all(|f| f.kind == Kind::NotEngaged), "{report:#?}");
    }
}

/// A graph over two buffers, each in a segment of its own.
fn two_bound(more: impl FnOnce(&mut Engine, [BufferId; 2], [u64; 2])) -> Vec<(Kind, String)> {
    let mut e = Engine::new("graph", 0x7f50_0000_0000, 0);
    let ((_, codes), (table_segment, table)) = (e.segment(512, None), e.segment(512, None));
    let (codes_id, _) = (e.watch("codes", DType::I32, 1, codes), e.watch("table", DType::F32, 4, table));
    let args = vec![Arg::Pointer(codes), Arg::Pointer(table)];
    let graph = e.capture("", vec![Kernel { name: "embed".into(), args, grid: 1, effect: |_, _| {} }]);
    e.end_set_up();
    more(&mut e, [codes_id, table_segment], [codes, table]);
    e.request(1, "", &[]);
    e.begin(1, 1);
    e.launch_graph(graph);
    e.end();
    found(&e.finish()).findings.into_iter().map(|f| (f.kind, f.buffer.unwrap_or_default())).collect()
}

#[test]
fn each_buffer_that_a_graph_binds_is_told_by_its_own() {
    let rebound = |e: &mut Engine| {
        let (_, address) = e.segment(512, None);
        e.watch("codes", DType::I32, 1, address);
    };
    let stale = (Kind::StaleBinding, "codes@0".to_owned());
    assert_eq!(two_bound(|e, _, _| rebound(e)), std::slice::from_ref(&stale));
    let both = two_bound(|e, [_, segment], _| {
        e.free(segment);
        rebound(e);
    });
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.contains(&stale) && both.contains(&(Kind::UseAfterFree, "table@0".to_owned())), "{both:?}");
    // The named buffer itself is given back: once.
    let freed = two_bound(|e, [codes, _], _| e.free(codes));
    assert_eq!(freed, [(Kind::UseAfterFree, "codes@0".to_owned())]);
}

#[test]
fn a_graph_over_an_older_allocation_that_still_lives_means_it() {
    let mut e = Engine::new("graph", 0x7f60_0000_0000, 0);
    let ((_, old), (_, new)) = (e.segment(512, None), e.segment(512, None));
    e.watch("cache", DType::F32, 4, old);
    e.watch("cache", DType::F32, 4, new);
    let args = vec![Arg::Pointer(old)];
    let graph = e.capture("", vec![Kernel { name: "k".into(), args, grid: 1, effect: |_, _| {} }]);
    e.end_set_up();
    e.request(1, "", &[]);
    e.begin(1, 1);
    e.launch_graph(graph);
    e.end();
    assert_eq!(kinds(&e.finish()), []);
}

#[test]
fn memory_that_holds_no_numbers_when_it_is_first_looked_at() {
    let mut e = Engine::new("eager", 0x7f70_0000_0000, 0);
    let (_, pool) = e.segment(512, None);
    e.memory.set_f32(pool, 0, f32::NAN);
    e.watch("fresh", DType::F32, 4, pool);
    e.end_set_up();
    e.request(1, "", &[]);
    for step in 1..=3 {
        e.begin(1, step);
        e.memory.set_f32(pool, 1, f32::NAN);
        e.end();
    }
    let report = found(&e.finish());
    assert_eq!(report.findings, []);
    let said = "nonfinite: fresh@0 is not finite since it was first looked at".to_owned();
    assert!(report.not_looked_at.contains(&said), "{:?}", report.not_looked_at);
}

#[test]
fn the_first_value_that_is_no_number_comes_with_what_ran() {
    let findings = found(&eager_with_launches(Mistake::NotANumber)).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let message = &findings[0].message;
    assert!(message.contains("logits[2] is NaN at step.after"), "{message}");
    assert!(
        message.contains("it was finite at step.before of step 5, and in between ran sm90_embed"),
        "{message}"
    );
}

#[test]
fn graphs_that_no_step_launches() {
    let mut e = Engine::new("graph", 0x7f00_0000_0000, 0);
    let (_, address) = e.segment(512, None);
    e.watch("state", DType::F32, 4, address);
    let kernel = Kernel {
        name: "k".into(),
        args: vec![Arg::Pointer(address)],
        grid: 1,
        effect: |m, p| {
            let value = m.f32(p[0], 0);
            m.set_f32(p[0], 0, value + 1.0);
        },
    };
    e.capture("decode", vec![kernel.clone()]);
    e.end_set_up();
    e.request(1, "", &[]);
    for step in 1..=6 {
        e.begin(1, step);
        e.launch(&kernel);
        e.end();
    }
    let findings = found(&e.finish()).findings;
    assert_eq!(findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::NotEngaged], "{findings:?}");
}

/// Memory that was filled before anybody named it: nothing in the log wrote it since.
#[test]
fn a_name_that_comes_after_the_bytes_is_no_stray_write() {
    for launches in [false, true] {
        let mut e = Engine::new("graph", 0x7f30_0000_0000, 0);
        e.launches = launches;
        let (_, pool) = e.segment(1024, None);
        let (state, weights) = (pool, pool + 256);
        let fill = Kernel {
            name: "fill".into(),
            args: vec![Arg::Pointer(weights)],
            grid: 1,
            effect: |m, p| (0..4).for_each(|i| m.set_f32(p[0], i, 0.5)),
        };
        let step = Kernel {
            name: "step".into(),
            args: vec![Arg::Pointer(state), Arg::Pointer(weights)],
            grid: 1,
            effect: |m, p| m.set_f32(p[0], 0, m.f32(p[0], 0) + m.f32(p[1], 0)),
        };
        e.watch("state", DType::F32, 4, state);
        e.launch(&fill);
        e.end_set_up();
        e.request(1, "", &[]);
        // Named after it was filled, and once more where other bytes are in between.
        e.watch("weights", DType::F32, 4, weights);
        for number in 1..=3 {
            e.begin(1, number);
            e.launch(&step);
            e.end();
            e.launch(&fill);
            e.watch("late", DType::F32, 4, weights);
        }
        e.end_set_up();
        let report = found(&e.finish());
        assert_eq!(report.findings, []);
    }
}
