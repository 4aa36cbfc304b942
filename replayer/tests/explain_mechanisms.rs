//! What `explain` may say of mistakes that no list of faults has: neither run is taken for the truth, and what
//! the records do not tell is not proven.

mod tiny;

use std::collections::BTreeMap;

use tiny::{LENGTH, NAMES, OUT, SPARE, Values, X, Y, bytes, launch, no_weights, view};
use twinstep_kernels as kernels;
use twinstep_kernels::{BufferSpec, CpuBackend, Launch, Op, Stream, View};
use twinstep_replayer::{BUDGET, ExplainOptions, ExplainReport, Kind, explain};
use twinstep_traces::*;

/// Launches of the tiny model.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Do {
    /// `x = x + y`.
    Add,
    /// `x = x + spare`, under the same label.
    AddSpare,
    /// `out = tanh(x)`.
    Squash,
    /// `x = x + spare`, in decode steps alone.
    More,
    /// `x = x + y`, under that label.
    MoreY,
}

impl Do {
    fn record(self) -> LaunchRecord {
        let add = |label, from| {
            launch(
                "residual_add",
                label,
                vec![view("x", X, Access::ReadWrite), view("y", from, Access::Read)],
            )
        };
        match self {
            Do::Add => add("add", Y),
            Do::AddSpare => add("add", SPARE),
            Do::More => add("more", SPARE),
            Do::MoreY => add("more", Y),
            Do::Squash => {
                launch("tanh", "squash", vec![view("x", X, Access::Read), view("out", OUT, Access::Write)])
            }
        }
    }
}

/// An engine that may be wrong.
#[derive(Clone)]
struct Engine {
    prefill: Vec<Do>,
    decode: Vec<Do>,
    captured: bool,
    /// The step in which the host also writes `spare`.
    writes_spare: Option<u32>,
    /// What `spare` holds from the beginning.
    spare: f32,
    steps: u32,
}

impl Engine {
    fn new(captured: bool) -> Engine {
        let program = vec![Do::Add, Do::Squash];
        Engine {
            prefill: program.clone(),
            decode: program,
            captured,
            writes_spare: None,
            spare: 0.5,
            steps: 3,
        }
    }

    fn decoding(captured: bool, decode: &[Do]) -> Engine {
        Engine { decode: decode.to_vec(), ..Engine::new(captured) }
    }

    /// Runs it on the kernels and records what it does.
    fn record(&self) -> Trace {
        let run = RunRecord { tool: "test".into(), mode: "eager".into(), rows: 1, ..RunRecord::default() };
        let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
        let mut stream = Stream::new(Box::new(CpuBackend::new().unwrap()));
        let mut memory: BTreeMap<BufferId, View> = BTreeMap::new();
        for (i, name) in NAMES.into_iter().enumerate() {
            let roles = match name {
                "y" => (Role::Input, kernels::Role::Input),
                "out" => (Role::Output, kernels::Role::Output),
                _ => (Role::State, kernels::Role::State),
            };
            let record = BufferRecord {
                name: name.into(),
                generation: 0,
                dtype: DType::F32,
                shape: vec![LENGTH as u64],
                role: roles.0,
                bytes: 4 * LENGTH as u64,
                chunk_bytes: 16,
                address: None,
                contents: None,
            };
            writer.add_buffer(&record).unwrap();
            let (dtype, shape) = (kernels::DType::F32, vec![LENGTH]);
            let spec = BufferSpec { name: name.into(), dtype, shape, role: roles.1 };
            memory.insert(BufferId(i as u32), View::whole(&stream.allocate(spec).unwrap()));
        }
        let items = |launches: &[Do]| launches.iter().map(|l| Item::Launch(l.record())).collect::<Vec<_>>();
        let mut setup: Vec<Item> = [X, Y, SPARE, OUT].map(|buffer| Item::Allocate { buffer }).to_vec();
        if self.captured {
            let program = writer.add_program(&Program { items: items(&self.decode) }).unwrap();
            let (id, label) = (GraphId(0), "decode".into());
            writer
                .add_graph(&GraphRecord { id, label, program, edges: vec![], captured_at: (0, 0) })
                .unwrap();
            setup.push(Item::Capture { graph: id });
        }
        let mut writes: Vec<(BufferId, Values)> =
            [(X, 0.25), (SPARE, self.spare), (OUT, 0.0)].map(|(b, v)| (b, [v; LENGTH])).to_vec();
        for step in 0..=self.steps {
            let launches: &[Do] = match step {
                0 => &[],
                1 => &self.prefill,
                _ => &self.decode,
            };
            let program = match step {
                0 => setup.clone(),
                2.. if self.captured => vec![Item::GraphLaunch { graph: GraphId(0), stream: 0 }],
                _ => items(launches),
            };
            if step > 0 {
                writes = vec![(Y, [step as f32 / 8.0; LENGTH])];
                if self.writes_spare == Some(step) {
                    writes.push((SPARE, [0.75; LENGTH]));
                }
            }
            let end = program.len() as u32;
            let position = if step == 0 { end } else { 0 };
            let program = writer.add_program(&Program { items: program }).unwrap();
            let mut host_writes = Vec::new();
            for (buffer, values) in &writes {
                stream.write(&memory[buffer], &bytes(values)).unwrap();
                host_writes.push(HostWrite { position, buffer: *buffer, offset: 0, bytes: bytes(values) });
            }
            let mut snapshot = |stream: &mut Stream| {
                let covered = [X, Y, SPARE, OUT];
                let all = covered.map(|id| stream.read(&memory[&id]).unwrap());
                let changed: Vec<_> = covered
                    .iter()
                    .zip(&all)
                    .map(|(&buffer, bytes)| ChangedChunks { buffer, first_chunk: 0, bytes })
                    .collect();
                writer.snapshot(&covered, &changed, &[]).unwrap()
            };
            let before = snapshot(&mut stream);
            for launch in launches {
                let record = launch.record();
                let views = record.views.iter().map(|v| memory[&v.buffer].clone()).collect();
                let op = if record.op == "tanh" { Op::Tanh } else { Op::ResidualAdd };
                stream.launch(&Launch::new(op, views, vec![]).unwrap()).unwrap();
            }
            let after = snapshot(&mut stream);
            let kind = match step {
                0 => StepKind::Setup,
                1 => StepKind::Prefill,
                _ => StepKind::Decode,
            };
            let point = |(point, position, snapshot): (&str, u32, SnapshotId)| PointRecord {
                point: point.into(),
                position,
                snapshot,
            };
            let points = [("step.before", 0, before), ("step.after", end, after)].map(point).to_vec();
            if step == 1 {
                let request = RequestRecord { request: 1, text: "a".into(), prompt: vec![1], row: 0 };
                writer.add_request(&request).unwrap();
            }
            let (request, rank, host_reads) = (u32::from(step > 0), 0, vec![]);
            let record = StepRecord { kind, request, step, rank, program, host_writes, host_reads, points };
            writer.commit_step(&record).unwrap();
        }
        Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
    }
}

fn explained(a: &Engine, b: &Engine, budget: usize) -> ExplainReport {
    let findings = |_: &Trace| Ok(Vec::new());
    let options = ExplainOptions { control: None, budget, findings: &findings };
    explain(&a.record(), &b.record(), &no_weights(), &options, &mut |_| {}).unwrap()
}

/// A clean engine against a wrong one, in each mode and in either place: kind, side (`wrong` or not), proven.
fn judged(decode: &[Do], clean: &[Do]) -> Vec<(Kind, Option<bool>, bool)> {
    let mut found = Vec::new();
    for (captured_clean, captured_wrong) in [(false, true), (true, false), (false, false)] {
        let (clean, wrong) =
            (Engine::decoding(captured_clean, clean), Engine::decoding(captured_wrong, decode));
        for (a, b, letter) in [(&clean, &wrong, "b"), (&wrong, &clean, "a")] {
            let verdict = explained(a, b, BUDGET).verdict;
            assert_eq!((verdict.request, verdict.step), (Some(1), Some(2)), "{}", verdict.text);
            found.push((verdict.kind, verdict.side.map(|side| side == letter), verdict.proven));
        }
    }
    found
}

#[test]
fn a_launch_that_prefill_has_as_well_is_missing_where_it_is_not() {
    let found = judged(&[Do::Squash], &[Do::Add, Do::Squash]);
    assert_eq!(found, [(Kind::MissingLaunch, Some(true), true); 6]);
}

#[test]
fn a_launch_made_twice_is_not_missing_in_the_other_run() {
    let found = judged(&[Do::Add, Do::Add, Do::Squash], &[Do::Add, Do::Squash]);
    assert_eq!(found, [(Kind::Unknown, Some(true), false); 6]);
}

#[test]
fn nothing_tells_whether_a_launch_of_decode_steps_alone_is_missing_or_too_many() {
    let found = judged(&[Do::Add, Do::Squash], &[Do::Add, Do::More, Do::Squash]);
    assert_eq!(found, [(Kind::Unknown, None, false); 6]);
}

#[test]
fn an_operand_that_is_another_one_in_prefill_is_wrong() {
    let found = judged(&[Do::AddSpare, Do::Squash], &[Do::Add, Do::Squash]);
    assert_eq!(found, [(Kind::Unknown, Some(true), false); 6]);
}

#[test]
fn a_graph_is_not_accused_for_being_one() {
    let found = judged(&[Do::Add, Do::MoreY, Do::Squash], &[Do::Add, Do::More, Do::Squash]);
    assert!(found.iter().all(|(kind, _, proven)| *kind == Kind::Unknown && !proven), "{found:?}");
    assert!(found.iter().all(|(_, side, _)| side.is_none()), "{found:?}");
}

#[test]
fn a_host_write_of_state_in_one_run_accuses_nobody() {
    for captured in [false, true] {
        let program = [Do::Add, Do::More, Do::Squash];
        let clean = Engine::decoding(!captured, &program);
        let wrong = Engine { writes_spare: Some(3), ..Engine::decoding(captured, &program) };
        for (a, b) in [(&clean, &wrong), (&wrong, &clean)] {
            let verdict = explained(a, b, BUDGET).verdict;
            assert_eq!((verdict.kind, verdict.side, verdict.proven), (Kind::Unknown, None, false));
            assert_eq!((verdict.step, &verdict.buffers[..]), (Some(3), &["spare".to_owned()][..]));
        }
    }
}

#[test]
fn a_search_that_was_cut_short_proves_nothing() {
    let (clean, wrong) = (Engine::new(false), Engine::decoding(true, &[Do::Squash]));
    let whole = explained(&clean, &wrong, BUDGET);
    assert!(whole.verdict.proven && !whole.exhausted);
    for budget in 0..whole.executions {
        let report = explained(&clean, &wrong, budget);
        assert!(report.executions <= budget && report.exhausted);
        assert!(!report.verdict.text.is_empty());
        // What was shown before the budget ended stands.
        let decided = report.evidence.iter().any(|e| e.what == "decided");
        assert!(
            decided || (report.verdict.kind, report.verdict.proven) == (Kind::Unknown, false),
            "{budget}"
        );
    }
    for budget in 0..5 {
        assert!(!explained(&clean, &wrong, budget).verdict.proven, "{budget}");
    }
}

#[test]
fn equal_runs_of_different_lengths_are_not_proven_identical() {
    let (long, short) = (Engine::new(false), Engine { steps: 2, ..Engine::new(true) });
    for (a, b, more) in [(&long, &short, "only A has"), (&short, &long, "only B has")] {
        let verdict = explained(a, b, BUDGET).verdict;
        assert_eq!((verdict.kind, verdict.proven, verdict.step), (Kind::Unknown, false, Some(3)));
        assert!(verdict.text.contains(more), "{}", verdict.text);
    }
    let verdict = explained(&long, &long, BUDGET).verdict;
    assert!(verdict.proven && verdict.kind == Kind::Identical);
}

/// Of two launches too many one adds nothing: leaving it out as well is no part of the proof.
#[test]
fn what_need_not_be_patched_is_not() {
    let more = Engine { spare: 0.0, ..Engine::decoding(false, &[Do::Add, Do::More, Do::MoreY, Do::Squash]) };
    let fewer = Engine { spare: 0.0, ..Engine::new(false) };
    let report = explained(&more, &fewer, BUDGET);
    let [cause] = &report.causes[..] else { panic!("{report:?}") };
    assert_eq!((cause.patched, &cause.patches[..]), ("a", &["launch:2=skip".to_owned()][..]), "{report:?}");
    let repaired: Vec<_> = cause.proof.iter().filter(|p| p.equals_other && p.executed == "a").collect();
    assert_eq!(repaired.len(), 1, "{report:?}");
    assert_eq!(repaired[0].patches, ["launch:2=skip"], "{report:?}");
}
