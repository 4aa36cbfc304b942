//! Assertions over small traces made in memory: every kind of rule at its boundary, every guard, and that
//! passing means something.

use proptest::prelude::*;
use twinstep_replayer::{
    AssertError, AssertReport, Policy, SelfTestState, accept, assert_traces, github_annotations, junit,
    self_test,
};
use twinstep_traces::*;

#[path = "assertion/boundaries.rs"]
mod boundaries;
#[path = "assertion/places.rs"]
mod places;

/// One buffer with its bytes after each step.
#[derive(Clone)]
struct Buffer {
    name: &'static str,
    generation: u32,
    dtype: DType,
    shape: Vec<u64>,
    chunk_bytes: u32,
    /// One entry a step; the last one goes on.
    after: Vec<Vec<u8>>,
}

fn buffer(name: &'static str, dtype: DType, shape: &[u64], after: Vec<Vec<u8>>) -> Buffer {
    Buffer { name, generation: 0, dtype, shape: shape.to_vec(), chunk_bytes: 16, after }
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// `hidden` of one row with these values after every step.
fn hidden(values: &[f32]) -> Buffer {
    buffer("hidden", DType::F32, &[1, values.len() as u64], vec![f32s(values)])
}

#[derive(Clone)]
struct Run {
    mode: &'static str,
    rows: u32,
    steps: u32,
    requests: u32,
    closed: bool,
    launches_graph: bool,
    /// Of the batch, which every request occupies.
    row: u32,
    rank: u32,
    /// Of another engine, with these ids of its requests.
    ids: Option<Vec<&'static str>>,
    /// Whether values go on from request to request.
    in_turn: bool,
    /// Whether the first step launches a graph.
    graph_in_prefill: bool,
    /// Whether a codec section follows each request.
    codec: bool,
    /// What the first buffer holds before each step, where that is recorded.
    before: Vec<Vec<u8>>,
    buffers: Vec<Buffer>,
}

fn run(buffers: &[Buffer]) -> Run {
    Run {
        mode: "eager",
        rows: 1,
        steps: 3,
        requests: 1,
        closed: true,
        launches_graph: false,
        row: 0,
        rank: 0,
        ids: None,
        in_turn: false,
        graph_in_prefill: false,
        codec: false,
        before: vec![],
        buffers: buffers.to_vec(),
    }
}

impl Run {
    fn bytes(&self) -> Vec<u8> {
        let notes = self.ids.iter().map(|_| ("engine".to_owned(), "foreign".to_owned())).collect();
        let record = RunRecord { mode: self.mode.into(), rows: self.rows, notes, ..RunRecord::default() };
        let mut writer = TraceWriter::new(MemoryStorage::default(), &record).unwrap();
        let ids: Vec<BufferId> = self
            .buffers
            .iter()
            .map(|b| {
                let record = BufferRecord {
                    name: b.name.into(),
                    generation: b.generation,
                    dtype: b.dtype,
                    shape: b.shape.clone(),
                    role: Role::State,
                    bytes: b.shape.iter().product::<u64>() * b.dtype.size(),
                    chunk_bytes: b.chunk_bytes,
                    address: None,
                    contents: None,
                };
                writer.add_buffer(&record).unwrap()
            })
            .collect();
        let empty = writer.add_program(&Program::default()).unwrap();
        let graph = GraphRecord {
            id: GraphId(0),
            label: "decode".into(),
            program: empty,
            edges: vec![],
            captured_at: (0, 0),
        };
        writer.add_graph(&graph).unwrap();
        let launch = Program { items: vec![Item::GraphLaunch { graph: GraphId(0), stream: 0 }] };
        let launch = writer.add_program(&launch).unwrap();
        for request in 1..=self.requests {
            let text = self.ids.as_ref().map_or("", |ids| ids[request as usize - 1]).to_owned();
            writer.add_request(&RequestRecord { request, text, prompt: vec![], row: self.row }).unwrap();
            for step in 1..=self.steps + u32::from(self.codec) {
                let number =
                    step as usize - 1 + if self.in_turn { (request - 1) * self.steps } else { 0 } as usize;
                let mut points = Vec::new();
                if let Some(bytes) = self.before.get(number).or(self.before.last()) {
                    let piece = ChangedChunks { buffer: ids[0], first_chunk: 0, bytes };
                    let snapshot = writer.snapshot(&ids[..1], &[piece], &[]).unwrap();
                    points.push(PointRecord { point: "step.before".into(), position: 0, snapshot });
                }
                let pieces: Vec<ChangedChunks<'_>> = self
                    .buffers
                    .iter()
                    .zip(&ids)
                    .filter_map(|(b, &buffer)| {
                        let bytes = b.after.get(number).or(b.after.last())?;
                        // Nothing where there are elements: not known at this step.
                        let known = !bytes.is_empty() || b.shape.contains(&0);
                        known.then_some(ChangedChunks { buffer, first_chunk: 0, bytes })
                    })
                    .collect();
                let covered: Vec<BufferId> = pieces.iter().map(|p| p.buffer).collect();
                let snapshot = writer.snapshot(&covered, &pieces, &[]).unwrap();
                points.push(PointRecord { point: "step.after".into(), position: 0, snapshot });
                let decode = step > 1;
                let launches = if decode { self.launches_graph } else { self.graph_in_prefill };
                let kind = match (decode, step > self.steps) {
                    (_, true) => StepKind::Codec,
                    (true, _) => StepKind::Decode,
                    (false, _) => StepKind::Prefill,
                };
                let program = if launches { launch } else { empty };
                let (host_writes, host_reads) = (vec![], vec![]);
                writer
                    .commit_step(&StepRecord {
                        kind,
                        request,
                        step,
                        rank: self.rank,
                        program,
                        host_writes,
                        host_reads,
                        points,
                    })
                    .unwrap();
            }
        }
        if !self.closed {
            // What a killed recording leaves: everything up to its last commit, and no index.
            let closed = writer.finish().unwrap().into_bytes();
            return closed[..closed.len() - 1].to_vec();
        }
        writer.finish().unwrap().into_bytes()
    }

    fn trace(&self) -> Trace {
        Trace::from_bytes(self.bytes()).unwrap()
    }
}

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn judge(a: &Run, b: &Run, text: &str) -> AssertReport {
    assert_traces(&a.trace(), &b.trace(), &policy(text)).unwrap()
}

/// Whether a rule over all of the only buffer lets two contents pass.
#[track_caller]
fn passes(a: &Buffer, b: &Buffer, demand: &str) -> bool {
    let report = judge(
        &run(std::slice::from_ref(a)),
        &run(std::slice::from_ref(b)),
        &format!("[[rule]]\nbuffer = '*'\n{demand}"),
    );
    assert!(report.guards.iter().all(|g| g.passes || g.guard == "fork"), "{:?}", report.guards);
    assert_eq!(report.passes, report.rules.iter().all(|r| r.failed == 0));
    report.passes
}

fn guard(report: &AssertReport, name: &str) -> bool {
    report.guards.iter().find(|g| g.guard == name).unwrap_or_else(|| panic!("no guard {name}")).passes
}

#[test]
fn n_ulps_pass_and_one_more_fails() {
    let at = |dtype: DType, bits: u64| {
        let bytes = bits.to_le_bytes()[..dtype.size() as usize].to_vec();
        buffer("x", dtype, &[1], vec![bytes])
    };
    for (dtype, a, b, apart) in [
        (DType::F32, 0x3f80_0000, 0x3f80_0003, 3),
        (DType::F32, 0x8000_0001, 0x0000_0001, 2),
        (DType::F16, 0x3c00, 0x3c05, 5),
        (DType::Bf16, 0x3f80, 0x3f81, 1),
        (DType::I64, u64::MAX, 4, 5),
        (DType::U8, 200, 100, 100),
    ] {
        let (a, b) = (at(dtype, a), at(dtype, b));
        for (a, b) in [(&a, &b), (&b, &a)] {
            assert!(passes(a, b, &format!("ulp = {apart}")), "{dtype:?}");
            assert!(!passes(a, b, &format!("ulp = {}", apart - 1)), "{dtype:?}");
            assert!(!passes(a, b, "exact = true"), "{dtype:?}");
        }
    }
    let zero = |bits| at(DType::F32, bits);
    assert!(passes(&zero(0), &zero(1 << 31), "ulp = 0") && !passes(&zero(0), &zero(1 << 31), "exact = true"));
    // The greatest float is one ulp from infinity, and no tolerance covers infinity.
    assert!(!passes(&zero(0x7f7f_ffff), &zero(0x7f80_0000), "ulp = 5"));
}

#[test]
fn tolerances_are_inclusive_and_never_cover_what_is_not_finite() {
    let x = |v: f32| hidden(&[v]);
    assert!(passes(&x(1.0), &x(1.5), "abs = 0.5"));
    assert!(!passes(&x(1.0), &x(1.5), "abs = 0.4999999"));
    assert!(passes(&x(3.0), &x(4.0), "rel = 0.25") && passes(&x(4.0), &x(3.0), "rel = 0.25"));
    assert!(!passes(&x(3.0), &x(4.0), "rel = 0.2499999"));
    // Whichever allows more, not their sum.
    assert!(!passes(&x(3.0), &x(4.0), "abs = 0.9\nrel = 0.2"));
    assert!(passes(&x(3.0), &x(4.0), "abs = 1\nrel = 0.2"));
    for demand in ["abs = 1e30", "rel = 1e30", "ulp = 4000000000"] {
        assert!(passes(&x(f32::NAN), &x(f32::NAN), demand));
        assert!(passes(&x(f32::NAN), &x(-f32::NAN), demand), "all NaN are one");
        assert!(!passes(&x(f32::NAN), &x(1.0), demand));
        assert!(!passes(&x(f32::INFINITY), &x(f32::MAX), demand));
        assert!(!passes(&x(f32::INFINITY), &x(f32::NEG_INFINITY), demand));
        assert!(passes(&x(f32::INFINITY), &x(f32::INFINITY), demand));
    }
    let far = |v| buffer("x", DType::I64, &[1], vec![i64s(&[v])]);
    assert!(passes(&far(i64::MAX), &far(i64::MAX - 2), "abs = 2"));
    assert!(!passes(&far(i64::MAX), &far(i64::MAX - 2), "abs = 1"));
}

#[test]
fn statistics_stay_within_their_band() {
    let (a, b) = (hidden(&[1.0, 2.0, 3.0, 6.0]), hidden(&[1.0, 2.0, 5.0, 8.0]));
    for (demand, distance) in [("mean", 1.0), ("max", 2.0), ("min", 0.0), ("nonfinite", 0.0)] {
        assert!(passes(&a, &b, &format!("statistic = '{demand}'\nabs = {distance}")), "{demand}");
        if distance > 0.0 {
            assert!(
                !passes(&a, &b, &format!("statistic = '{demand}'\nabs = {}", distance - 1e-6)),
                "{demand}"
            );
        }
    }
    let rms = (94f64 / 4.0).sqrt() - (50f64 / 4.0).sqrt();
    assert!(passes(&a, &b, &format!("statistic = 'rms'\nabs = {}", rms + 1e-9)));
    assert!(!passes(&a, &b, &format!("statistic = 'rms'\nabs = {}", rms - 1e-9)));
    let b = hidden(&[0.5, f32::NAN, f32::INFINITY, 6.0]);
    assert!(
        !passes(&a, &b, "statistic = 'nonfinite'\nabs = 1")
            && passes(&a, &b, "statistic = 'nonfinite'\nabs = 2")
    );
    assert!(!passes(&a, &b, "statistic = 'mean'\nabs = 1e30"), "NaN is near nothing");
    for statistic in ["min", "max", "mean", "rms"] {
        let demand = format!("statistic = '{statistic}'\nabs = 1e30");
        let nan = hidden(&[1.0, f32::NAN, 3.0, 6.0]);
        assert!(
            !passes(&a, &nan, &demand) && !passes(&nan, &a, &demand) && passes(&nan, &nan, &demand),
            "{statistic}"
        );
    }
    let b = hidden(&[0.5, 2.0, f32::INFINITY, 6.0]);
    let report = judge(&run(&[a]), &run(&[b]), "[[rule]]\nbuffer = '*'\nstatistic = 'min'\nabs = 0.25");
    let worst = report.rules[0].worst.as_ref().unwrap();
    assert_eq!(
        worst.to_string(),
        "step 1 step.after: hidden is 1 in A, 0.5 in B; min: 0.5 apart, 0.25 allowed"
    );
}

#[test]
fn the_greatest_are_compared_by_index_ties_to_the_lowest() {
    let logits = |rows: [[f32; 4]; 2]| buffer("logits", DType::F32, &[2, 4], vec![f32s(rows.as_flattened())]);
    let a = logits([[1.0, 4.0, 3.0, 2.0], [0.0, 0.0, 7.0, 0.0]]);
    let top = |b: [[f32; 4]; 2], k: u32| passes(&a, &logits(b), &format!("top_k = {k}"));
    // Other values, same order.
    assert!(top([[-1.0, 9.0, 3.5, 3.0], [0.0, 0.0, 7.0, 0.0]], 4));
    // The third and fourth change places.
    assert!(top([[2.5, 4.0, 3.0, 2.0], [0.0, 0.0, 7.0, 0.0]], 2));
    assert!(!top([[2.5, 4.0, 3.0, 2.0], [0.0, 0.0, 7.0, 0.0]], 3));
    // Equal elements come in the order of their indices; -0 equals 0; NaN is below -inf.
    assert!(top([[1.0, 4.0, 3.0, 2.0], [-0.0, 0.0, 7.0, -0.0]], 4));
    assert!(!top([[1.0, 4.0, 3.0, 2.0], [0.0, 0.5, 7.0, 0.0]], 2));
    assert!(top([[f32::NAN, 4.0, 3.0, f32::NEG_INFINITY], [0.0, 0.0, 7.0, 0.0]], 4));
    let b = logits([[1.0, 4.0, 3.0, 2.0], [0.0, 0.5, 7.0, 0.0]]);
    let report = judge(&run(std::slice::from_ref(&a)), &run(&[b]), "[[rule]]\nbuffer = '*'\ntop_k = 2");
    let worst = report.rules[0].worst.as_ref().unwrap();
    assert_eq!(worst.text, "number 2 of the top 2 is index 0 in A, 1 in B");
    assert_eq!(worst.element.as_ref().unwrap().index, [1, 0]);
}

#[test]
fn codes_are_integers_whatever_their_type() {
    let wide = buffer("codes", DType::I64, &[2], vec![i64s(&[3, -1])]);
    let narrow = |v: [i32; 2]| {
        buffer("codes", DType::I32, &[2], vec![v.iter().flat_map(|v| v.to_le_bytes()).collect()])
    };
    assert!(passes(&wide, &narrow([3, -1]), "codes = true"));
    assert!(!passes(&wide, &narrow([3, 0]), "codes = true"));
    assert!(!passes(&wide, &narrow([3, -1]), "exact = true"), "another type is a difference");
    let floats = run(&[hidden(&[1.0])]).trace();
    let rule = policy("\n[[rule]]\nbuffer = 'hidden'\ncodes = true");
    let other = run(&[hidden(&[1.0])]).trace();
    match assert_traces(&floats, &other, &rule) {
        Err(AssertError::Policy(error)) => {
            assert_eq!((error.line, error.message.as_str()), (2, "`codes` wants integers, `hidden` is f32"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_rule_that_matches_judges_and_the_rest_is_exact() {
    let a = run(&[hidden(&[1.0]), buffer("other", DType::F32, &[1], vec![f32s(&[1.0])])]);
    let mut b = a.clone();
    b.buffers[0].after = vec![f32s(&[1.0]), f32s(&[2.0])];
    let rule = |steps: &str, demand: &str| {
        format!("[[rule]]\nbuffer = 'hid*'\nsteps = '{steps}'\npoint = 'after'\n{demand}\n")
    };
    // Steps 2 and 3 differ by 1.
    assert!(judge(&a, &b, &rule("2-", "abs = 1")).passes);
    assert!(!judge(&a, &b, &rule("2", "abs = 1")).passes, "step 3 is judged by the rest");
    let both = rule("3", "exact = true") + &rule("1-3", "abs = 1");
    let report = judge(&a, &b, &both);
    let counts: Vec<(u64, u64)> = report.rules.iter().map(|r| (r.matched, r.failed)).collect();
    assert_eq!(counts, [(1, 1), (2, 0), (3, 0)]);
    assert!(
        !judge(&a, &b, &(rule("1-3", "abs = 1") + &rule("3", "exact = true"))).passes,
        "it judges nothing"
    );
    b.buffers[1].after = vec![f32s(&[1.0000001])];
    let report = judge(&a, &b, &rule("2-", "abs = 1"));
    assert_eq!(report.rules.last().unwrap().failed, 3);
    // What is ignored is not judged, and is said.
    let report =
        judge(&a, &b, "[[rule]]\nbuffer = 'other'\nignore = 'why'\n[[rule]]\nbuffer = 'hidden'\nabs = 1");
    assert!(report.passes && report.rules[0].ignored.as_deref() == Some("why"));
    // Where all is ignored nothing is left that could pass.
    let report = judge(&a, &b, "[[rule]]\nbuffer = '*'\nignore = 'why'");
    assert!(!report.passes && !guard(&report, "steps"), "{:?}", report.guards);
}

#[test]
fn rows_that_no_request_occupies_can_be_left_out() {
    let rows =
        |second: f32| Run { rows: 2, ..run(&[buffer("x", DType::F32, &[2, 1], vec![f32s(&[1.0, second])])]) };
    let (a, b) = (rows(1.0), rows(2.0));
    assert!(!judge(&a, &b, "").passes);
    assert!(judge(&a, &b, "rows = 'occupied'").passes);
    assert!(judge(&a, &b, "[[rule]]\nbuffer = 'x'\nrows = 'occupied'\nexact = true").passes);
    assert!(!judge(&a, &b, "rows = 'occupied'\n[[rule]]\nbuffer = 'x'\nrows = 'all'\nexact = true").passes);
    // The occupied one is row 0.
    let mut c = rows(1.0);
    c.buffers[0].after = vec![f32s(&[5.0, 1.0])];
    assert!(!judge(&a, &c, "rows = 'occupied'").passes);
}

#[test]
fn after_a_fork_the_request_is_not_judged_or_fails() {
    let codes = |after: Vec<i64>| {
        buffer("codes_out", DType::I64, &[1, 1], after.iter().map(|&c| i64s(&[c])).collect())
    };
    let a = Run { steps: 4, requests: 2, ..run(&[codes(vec![1, 2, 3, 4]), hidden(&[1.0])]) };
    let mut b = a.clone();
    b.buffers[0] = codes(vec![1, 7, 3, 9]);
    b.buffers[1].after = vec![f32s(&[1.0]), f32s(&[1.0]), f32s(&[8.0])];
    let rest = "[[rule]]\nbuffer = 'codes_out'\nignore = 'sampled'";
    let report = judge(&a, &b, rest);
    assert!(report.passes, "{:?}", report.rules);
    let forks: Vec<(u32, u32, usize)> =
        report.forks.iter().map(|f| (f.request, f.step, f.not_judged)).collect();
    assert_eq!(forks, [(1, 2, 2), (2, 2, 2)]);
    assert_eq!(report.steps_judged, 4);
    let report = judge(&a, &b, &format!("after_fork = 'fail'\n{rest}"));
    assert!(!report.passes && !guard(&report, "fork"));
    // Steps that only one side has are no failure once the request has forked.
    let longer = Run { steps: 6, ..b.clone() };
    assert!(judge(&a, &longer, rest).passes);
    assert!(!judge(&a, &b, "").passes, "the codes themselves are judged");
}

#[test]
fn nothing_passes_by_accident() {
    let good = Run { mode: "graph", launches_graph: true, ..run(&[hidden(&[1.0])]) };
    let eager = run(&[hidden(&[1.0])]);
    let fails = |a: &Run, b: &Run, name: &str, relaxed: &str| {
        let report = judge(a, b, "");
        let failed: Vec<&str> = report.guards.iter().filter(|g| !g.passes).map(|g| g.guard).collect();
        assert_eq!(failed, [name]);
        // No element differs, so there is nothing to execute again.
        assert!(!report.passes);
        assert_eq!(report.next, ["twinstep diff A B"], "{name}");
        if !relaxed.is_empty() {
            assert!(judge(a, b, relaxed).passes, "{name}");
        }
    };
    assert!(judge(&eager, &good, "").passes);
    fails(&eager, &Run { closed: false, ..good.clone() }, "complete", "require_complete = false");
    fails(&Run { closed: false, ..eager.clone() }, &good, "complete", "require_complete = false");
    let prefill = Run { launches_graph: false, graph_in_prefill: true, ..good.clone() };
    fails(&eager, &prefill, "graph", "require_graph = false");
    fails(&eager, &Run { launches_graph: false, ..good.clone() }, "graph", "require_graph = false");
    fails(&Run { mode: "piecewise", ..eager.clone() }, &good, "graph", "require_graph = false");
    // A recorder of another engine that has seen graphs would have seen this one; one that has not tells nothing.
    let theirs = Run { ids: Some(vec!["a"]), ..eager.clone() };
    let alone = Run { mode: "graph", ..theirs.clone() };
    assert!(judge(&theirs, &alone, "").passes);
    fails(&theirs, &Run { graph_in_prefill: true, ..alone }, "graph", "require_graph = false");
    fails(&Run { steps: 1, ..eager.clone() }, &Run { steps: 1, ..eager.clone() }, "steps", "min_steps = 1");
    fails(&eager, &Run { steps: 4, ..eager.clone() }, "same-steps", "");
    fails(&Run { requests: 2, ..eager.clone() }, &eager, "same-steps", "");
    let report = judge(&eager, &good, "[[rule]]\nbuffer = 'hiden'\nulp = 1");
    assert!(!report.passes && !guard(&report, "rules-match"));
    let bare = run(&[buffer("other", DType::F32, &[1], vec![f32s(&[1.0])])]);
    let report = judge(&eager, &bare, "");
    assert!(!report.passes && !guard(&report, "compared"));
    assert_eq!(report.not_compared, ["hidden only in A", "other only in B"]);
    let trace = eager.trace();
    let report = assert_traces(&trace, &trace, &Policy::default()).unwrap();
    assert!(!report.passes && !guard(&report, "two-traces"));
    let other = Run { rows: 2, ..eager.clone() }.trace();
    assert!(matches!(assert_traces(&trace, &other, &Policy::default()), Err(AssertError::Replay(_))));
}

#[test]
fn expected_divergences_are_strict() {
    let a = run(&[hidden(&[1.0]), buffer("other", DType::F32, &[1], vec![f32s(&[1.0])])]);
    let mut b = a.clone();
    b.buffers[0].after = vec![f32s(&[1.0]), f32s(&[2.0]), f32s(&[1.0])];
    let expected = "[[expected]]\nbuffer = 'hidden'\nsteps = '1:2'\nreason = 'known'\n";
    let report = judge(&a, &b, expected);
    assert!(report.passes && report.expected[0].occurs == 1 && report.rules[0].expected == 1);
    let report = judge(&a, &a, expected);
    assert!(!report.passes && report.expected[0].occurs == 0);
    b.buffers[1].after = vec![f32s(&[3.0])];
    assert!(!judge(&a, &b, expected).passes, "what is not expected fails");
}

#[test]
fn accepting_keeps_the_rest_of_the_policy_and_passes_then() {
    let a = Run {
        steps: 5,
        requests: 2,
        ..run(&[hidden(&[1.0]), buffer("k[0]@*", DType::F32, &[1], vec![f32s(&[1.0])])])
    };
    let mut b = a.clone();
    b.buffers[0].after = [1.0, 2.0, 2.0, 1.0, 2.0].map(|v| f32s(&[v])).to_vec();
    b.buffers[1].after = vec![f32s(&[2.0])];
    let text = "# Why we compare.\nrows = 'all'   # of the batch\n\n[[rule]]\nbuffer = \"hidden\" # state\nulp = 1\n";
    let report = judge(&a, &b, text);
    let accepted = accept(text, &report.divergences, "a \"reason\"\nof two lines").unwrap();
    assert!(accepted.starts_with(text), "{accepted}");
    assert!(judge(&a, &b, &accepted).passes, "{accepted}");
    assert_eq!(policy(&accepted).expected.len(), 6, "{accepted}");
    assert!(accepted.contains("steps = \"1:2-3\"") && accepted.contains("steps = \"2:5\""), "{accepted}");
    // A divergence that is not among them fails still, and one that has gone too.
    b.buffers[0].after[3] = f32s(&[2.0]);
    assert!(!judge(&a, &b, &accepted).passes);
    b.buffers[0].after = vec![f32s(&[1.0])];
    assert!(!judge(&a, &b, &accepted).passes);
    assert!(accept(text, &report.divergences, "  ").is_err());
    assert!(accept("rows = 3", &report.divergences, "x").is_err());
}

#[test]
fn newest_generations_are_compared() {
    let mut old = hidden(&[9.0]);
    old.after = vec![f32s(&[9.0])];
    let new = Buffer { generation: 1, ..hidden(&[1.0]) };
    let (a, b) = (run(&[old, new]), run(&[hidden(&[1.0])]));
    assert!(judge(&a, &b, "").passes && judge(&b, &a, "").passes);
    assert!(!judge(&a, &run(&[hidden(&[9.0])]), "").passes);
}

#[test]
fn equal_buffers_are_not_read() {
    let words: Vec<f32> = (0..1024).map(|i| i as f32).collect();
    let good = Run { steps: 2000, ..run(&[hidden(&words)]) };
    let mut bytes = good.bytes();
    let at = bytes.windows(64).position(|w| w == &f32s(&words)[1024..1088]).unwrap();
    bytes[at] ^= 1;
    let (a, b) = (Trace::from_bytes(bytes.clone()).unwrap(), Trace::from_bytes(bytes).unwrap());
    assert!(a.complete() && a.read_buffer(SnapshotId(0), BufferId(0)).is_err(), "reading it is an error");
    for demand in ["exact = true", "ulp = 1", "statistic = 'mean'\nabs = 1", "top_k = 3"] {
        let report = assert_traces(&a, &b, &policy(&format!("[[rule]]\nbuffer = '*'\n{demand}"))).unwrap();
        assert!(report.passes && report.rules[0].matched == 2000, "{demand}");
    }
    // Where a chunk differs, it is read and no other.
    let mut other = words.clone();
    other[0] = 1.0;
    let c = Run { steps: 2000, ..run(&[hidden(&other)]) }.trace();
    let report = assert_traces(&a, &c, &policy("[[rule]]\nbuffer = '*'\nabs = 1")).unwrap();
    assert!(report.passes);
    assert!(assert_traces(&a, &c, &policy("[[rule]]\nbuffer = '*'\ntop_k = 1")).is_err());
}

#[test]
fn mistakes_in_a_policy_have_a_place() {
    for (text, line, column, mentions) in [
        ("after_fork = 'halt'", 1, 14, "\"stop\" or \"fail\""),
        ("rows = 3", 1, 8, "a string"),
        ("\nrequire_grpah = true", 2, 1, "did you mean `require_graph`"),
        ("[[rule]]\nbuffer = 'x'\nulps = 3", 3, 1, "did you mean `ulp`"),
        ("[[rule]]\nbuffer = 'x'\nulp = -1", 3, 7, "at least 0"),
        ("[[rule]]\nbuffer = 'x'\nulp = 1.5", 3, 7, "integer"),
        ("[[rule]]\nbuffer = 'x'\nabs = nan", 3, 7, "finite"),
        ("[[rule]]\nbuffer = 'x'\nrel = -0.5", 3, 7, "at least 0"),
        ("[[rule]]\nbuffer = 'x'\ntop_k = 0", 3, 9, "from 1"),
        ("[[rule]]\nbuffer = 'x'\nexact = false", 3, 1, "wants true"),
        ("[[rule]]\nbuffer = 'x'\nignore = ' '", 3, 10, "reason"),
        ("[[rule]]\nbuffer = 'x'\nstatistic = 'maen'\nabs = 1", 3, 13, "mean"),
        ("[[rule]]\nbuffer = 'x'\nstatistic = 'mean'", 3, 1, "band"),
        ("[[rule]]\nbuffer = 'x'\nulp = 1\nabs = 1", 4, 1, "two demands"),
        ("[[rule]]\nbuffer = 'x'\nulp = 1\ncodes = true", 4, 1, "two demands"),
        ("[[rule]]\nbuffer = 'x'", 1, 1, "demands nothing"),
        ("# c\n[[rule]]\nulp = 1", 2, 1, "`buffer` is missing"),
        ("[[rule]]\nbuffer = 'x@1'\nulp = 1", 2, 10, "without generation"),
        ("[[rule]]\nbuffer = 'x'\nsteps = '4-2'\nulp = 1", 3, 9, "2-10"),
        ("[[rule]]\nbuffer = 'x'\npoint = 'afer'\nulp = 1", 3, 9, "did you mean `after`"),
        ("[rule]\nbuffer = 'x'", 1, 2, "[[rule]]"),
        ("[[expected]]\nbuffer = 'x'", 1, 1, "reason"),
        ("[[expected]]\nbuffer = 'x'\nreason = 'y'\nulp = 1", 4, 1, "`ulp` is no key"),
        ("ü = 1", 1, 1, ""),
        ("rows = 'all' 'x'", 1, 14, ""),
        ("rows = 'all'\nrows = 'all'", 2, 1, "duplicate"),
    ] {
        let error = Policy::parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.message.contains(mentions), "{text}: {error}");
        assert!(!error.message.contains('\n') && !error.message.is_empty(), "{text}: {error}");
    }
}

#[test]
fn reports_for_machines_say_what_failed() {
    let a = run(&[hidden(&[1.0])]);
    let b = Run { closed: false, ..run(&[hidden(&[2.0])]) };
    let text = "[[rule]]\nbuffer = 'hidden'\nsteps = '2-'\nname = 'a, b: <c> & \"d\"'\nulp = 1\n[[rule]]\nbuffer = '*'\nignore = 'w'";
    let report = judge(&a, &b, text);
    let xml = junit(&report).unwrap();
    let parsed = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let suite = &parsed.test_suites[0];
    // Eight guards, two rules and what judges the rest.
    assert_eq!((suite.tests, suite.failures), (11, 2), "{xml}");
    let case = suite.test_cases.iter().find(|c| c.name.as_str() == "a, b: <c> & \"d\"").expect(&xml);
    assert!(matches!(case.status, quick_junit::TestCaseStatus::NonSuccess { .. }), "{xml}");
    let lines = github_annotations(&report, Some("p,q.toml"));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("::error title=twinstep assert%3A complete::"), "{lines:?}");
    assert!(
        lines[1].starts_with(
            "::error file=p%2Cq.toml,line=1,title=twinstep assert%3A a%2C b%3A <c> & \"d\"::2 of 2"
        ),
        "{lines:?}"
    );
}

#[test]
fn a_rule_that_allows_everything_stays_green() {
    let bytes = |name| buffer(name, DType::U8, &[1, 4], vec![vec![1, 2, 3, 4]]);
    let a = run(&[bytes("x"), hidden(&[1.0])]);
    let (x, y) = (a.trace(), a.trace());
    for (text, state) in [
        ("[[rule]]\nbuffer = 'x'\nulp = 255", SelfTestState::Green),
        ("[[rule]]\nbuffer = 'x'\nulp = 250", SelfTestState::Red),
        ("[[rule]]\nbuffer = 'x'\nabs = 254", SelfTestState::Green),
        ("[[rule]]\nbuffer = 'hidden'\ntop_k = 1", SelfTestState::Green),
        ("[[rule]]\nbuffer = 'x'\nstatistic = 'nonfinite'\nabs = 0", SelfTestState::Green),
        ("[[rule]]\nbuffer = 'x'\nignore = 'w'", SelfTestState::NotChecked),
        ("[[rule]]\nbuffer = 'y'\nulp = 1", SelfTestState::NoMatch),
    ] {
        let test = self_test(&x, &y, &policy(text)).unwrap();
        assert_eq!(test.rules[0].state, state, "{text}: {:?}", test.rules);
        let passes = matches!(state, SelfTestState::Red | SelfTestState::NotChecked);
        assert_eq!(test.passes, passes, "{text}");
        // What judges the rest can fail too.
        assert_eq!(test.rules[1].state, SelfTestState::Red, "{text}");
    }
    let different = run(&[bytes("x"), hidden(&[2.0])]).trace();
    let test = self_test(&x, &different, &policy("[[rule]]\nbuffer = 'hidden'\nulp = 1")).unwrap();
    assert_eq!(test.rules[0].state, SelfTestState::AlreadyRed);
}

#[test]
fn the_change_is_just_beyond_what_is_allowed() {
    let (x, y) = (run(&[hidden(&[1.0, 3.0])]).trace(), run(&[hidden(&[1.0, 3.0])]).trace());
    for (demand, text) in [
        ("exact = true", "step 1 step.after: hidden[0,0] from 1 to 1.0000001"),
        ("ulp = 7", "step 1 step.after: hidden[0,0] from 1 to 1.000001"),
        ("abs = 0.5", "step 1 step.after: hidden[0,0] from 1 to 1.5000001"),
        ("statistic = 'mean'\nabs = 0.5", "step 1 step.after: hidden[0,0] from 1 to 2.0000002"),
        ("statistic = 'max'\nabs = 1", "step 1 step.after: hidden[0,0] from 1 to 4.0000005"),
        ("statistic = 'nonfinite'\nabs = 1", "step 1 step.after: hidden[0,0] from 1 to NaN and 1 more"),
        ("top_k = 1", "step 1 step.after: hidden[0,1] from 3 to 0.99999994"),
    ] {
        let test = self_test(&x, &y, &policy(&format!("[[rule]]\nbuffer = '*'\n{demand}"))).unwrap();
        assert_eq!(
            (test.rules[0].state, test.rules[0].text.as_str()),
            (SelfTestState::Red, text),
            "{demand}"
        );
    }
}

fn demand() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("exact = true".to_owned()),
        (0u32..1000).prop_map(|n| format!("ulp = {n}")),
        (0.0f64..1e6).prop_map(|x| format!("abs = {x:?}")),
        (0.0f64..0.9).prop_map(|x| format!("rel = {x:?}")),
        (0usize..4, 0.0f64..100.0).prop_map(|(i, x)| {
            format!("statistic = '{}'\nabs = {x:?}", ["mean", "rms", "min", "max"][i])
        }),
        (1u32..6).prop_map(|k| format!("top_k = {k}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_trace_passes_against_itself_and_every_rule_can_turn_red(
        bits in prop::collection::vec(any::<u32>(), 2..40),
        demand in demand(),
        chunk in 0u32..4,
    ) {
        let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        let mut only = hidden(&values);
        only.chunk_bytes = [2, 4, 16, 64][chunk as usize];
        let trace = run(&[only]).trace();
        let policy = policy(&format!("same_file = true\n[[rule]]\nbuffer = '*'\n{demand}"));
        let report = assert_traces(&trace, &trace, &policy).unwrap();
        prop_assert!(report.passes, "{:?}", report);
        let test = self_test(&trace, &trace, &policy).unwrap();
        prop_assert!(test.rules[0].state == SelfTestState::Red || unmoved(&demand, &values), "{:?}", test);
    }

    #[test]
    fn ulps_decide(bits: u32, apart in 0u32..1 << 22, allowed in 0u32..1 << 22) {
        // Half of the floats of one sign: moving up stays finite.
        let bits = bits & 0x80ff_ffff | 0x3000_0000;
        let at = |bits: u32| buffer("x", DType::F32, &[1], vec![bits.to_le_bytes().to_vec()]);
        let passes = passes(&at(bits), &at(bits + apart), &format!("ulp = {allowed}"));
        prop_assert_eq!(passes, apart <= allowed);
    }

    #[test]
    fn any_text_is_a_policy_or_an_error_with_a_place(text in "(\\[\\[(rule|expected)\\]\\]|[a-z_]{1,6} ?= ?|'[a-z*]{0,3}'|[0-9.-]{1,3}|\n|\\PC){0,20}") {
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1);
            prop_assert!(error.column >= 1 && !error.message.contains('\n'));
        }
    }
}

/// Whether a statistic is no finite number to begin with, so that no finite element moves it.
fn unmoved(demand: &str, values: &[f32]) -> bool {
    demand.contains("statistic") && values.iter().any(|v| !v.is_finite())
}
