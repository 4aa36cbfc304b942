//! Launch records from strangers: refused, or executed and found to differ, and never a panic.

mod tiny;

use proptest::prelude::*;
use tiny::{OUT, SPARE, Start, X, Y, clean, launch, no_weights, trace, view};
use twinstep_kernels::Op;
use twinstep_replayer::{At, ReplayError, StepReport, diff, info, log, step, verify_replay};
use twinstep_traces::{
    Access, BufferId, DType, GraphId, Item, LaunchRecord, Program, ScalarRecord, ScalarValue, Trace,
    ViewRecord,
};

fn start() -> Start {
    let ramp = |from: f32| std::array::from_fn(|i| from + i as f32);
    Start { x: ramp(1.0), y: ramp(-3.5), spare: ramp(9.0) }
}

fn honest() -> Trace {
    trace(&start(), &clean(), None)
}

/// Looks at a trace in every way that needs no weights, beside an honest one; what `step` made of steps 1
/// and 2, and what `verify --replay` found, `false` where it was refused.
fn look(hostile: &Trace) -> (Vec<Result<StepReport, ReplayError>>, bool) {
    let honest = honest();
    let weights = no_weights();
    let _ = info(hostile);
    let _ = log(hostile, None);
    let _ = diff(hostile, &honest, &[]);
    let _ = diff(&honest, hostile, &[]);
    let mut steps = Vec::new();
    for number in [1, 2] {
        let at = At { request: 1, step: Some(number) };
        let _ = log(hostile, Some(at));
        let patches = ["x=1", "spare=other", "launch:0=skip", "node:*.x=y"].map(str::to_owned);
        for patch in &patches {
            let _ = step(hostile, Some(&honest), at, std::slice::from_ref(patch), &weights);
            let _ = step(&honest, Some(hostile), at, std::slice::from_ref(patch), &weights);
        }
        steps.push(step(hostile, Some(&honest), at, &[], &weights));
    }
    let verified = verify_replay(hostile, &weights, &mut |_, _| {}).is_ok_and(|report| report.ok);
    (steps, verified)
}

/// Inserts its launches in an honest run.
fn insert(hostile: &Trace) {
    for number in [1, 2] {
        let at = At { request: 1, step: Some(number) };
        let patch = "launch:other:*=insert".to_owned();
        let _ = step(&honest(), Some(hostile), at, &[patch], &no_weights());
    }
}

/// The first launch of the clean program with something changed.
fn first(change: impl FnOnce(&mut LaunchRecord)) -> Program {
    let mut program = clean();
    if let Item::Launch(record) = &mut program.items[0] {
        change(record);
    }
    program
}

#[test]
fn an_honest_record_is_executed() {
    let (steps, verified) = look(&honest());
    assert!(verified);
    for step in steps {
        let step = step.unwrap();
        assert_eq!((step.self_check, step.equals_other), ("equal", Some(true)));
    }
}

#[test]
fn what_cannot_be_a_launch_is_refused() {
    let cases: Vec<(&str, Program)> = vec![
        ("unknown op", first(|r| r.op = "residual_sub".into())),
        ("unknown version", first(|r| r.version = u32::MAX)),
        ("no operands", first(|r| r.views.clear())),
        ("an operand too many", first(|r| r.views.push(r.views[1].clone()))),
        (
            "a scalar too many",
            first(|r| r.scalars.push(ScalarRecord { name: "eps".into(), value: ScalarValue::F32Bits(0) })),
        ),
        (
            "a scalar of a type that no op has",
            first(|r| r.scalars.push(ScalarRecord { name: "eps".into(), value: ScalarValue::I32(-1) })),
        ),
        ("another type", first(|r| r.views[0].dtype = DType::F16)),
        ("an offset beyond the buffer", first(|r| r.views[0].offset = 4)),
        ("an offset beyond everything", first(|r| r.views[0].offset = u64::MAX - 3)),
        ("an offset in an element", first(|r| r.views[1].offset = 2)),
        ("a shape beyond the buffer", first(|r| r.views.iter_mut().for_each(|v| v.shape = vec![9]))),
        (
            "a shape of 2^64 elements",
            first(|r| {
                r.views
                    .iter_mut()
                    .for_each(|v| (v.shape, v.strides) = (vec![1 << 32, 1 << 32], vec![1 << 32, 1]))
            }),
        ),
        ("a shape of 2^63 bytes", first(|r| r.views.iter_mut().for_each(|v| v.shape = vec![1 << 61]))),
        ("no elements", first(|r| r.views.iter_mut().for_each(|v| v.shape = vec![0]))),
        ("shapes that differ", first(|r| r.views[1].shape = vec![4])),
        ("strides that overflow", first(|r| r.views[0].strides = vec![u64::MAX])),
        ("strides that repeat an element", first(|r| r.views[0].strides = vec![0])),
        ("strides missing", first(|r| r.views[0].strides.clear())),
        ("operands that share memory", first(|r| r.views[1].buffer = X)),
    ];
    for (name, program) in cases {
        let trace = trace(&start(), &program, None);
        let (steps, verified) = look(&trace);
        insert(&trace);
        assert!(!verified, "{name}: verify --replay");
        for step in steps {
            let error = step.expect_err(name).to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{name}: {error}");
        }
    }
}

/// What could have run but did not give what was recorded is never taken for the recording.
#[test]
fn what_was_not_recorded_is_not_reproduced() {
    let cases: Vec<(&str, Program)> = vec![
        ("operands swapped", first(|r| r.views.swap(0, 1))),
        ("another buffer", first(|r| r.views[1].buffer = SPARE)),
        ("bound to its own output", first(|r| r.views[0].buffer = OUT)),
        (
            "another op",
            first(|r| {
                (r.op, r.views) =
                    ("tanh".into(), vec![view("x", X, Access::Read), view("out", Y, Access::Write)])
            }),
        ),
        ("a launch missing", Program { items: clean().items[1..].to_vec() }),
        ("a launch twice", Program { items: [&clean().items[..1], &clean().items[..]].concat() }),
        ("in another order", Program { items: clean().items.into_iter().rev().collect() }),
    ];
    for (name, program) in cases {
        let trace = trace(&start(), &program, None);
        let (steps, verified) = look(&trace);
        insert(&trace);
        assert!(!verified, "{name}: verify --replay");
        for step in steps.into_iter().flatten() {
            assert_eq!((step.self_check, step.equals_other), ("differs", None), "{name}");
        }
    }
}

#[test]
fn graphs_and_memory_that_make_no_sense_are_refused() {
    let with = |item: Item| Program { items: [vec![item], clean().items].concat() };
    let launched = Item::GraphLaunch { graph: GraphId(0), stream: 0 };
    let looped = Program { items: vec![launched.clone()] };
    let cases: Vec<(&str, Program, Option<Program>)> = vec![
        ("a graph that is not there", with(Item::GraphLaunch { graph: GraphId(7), stream: 0 }), None),
        ("a graph that launches itself", with(launched.clone()), Some(looped)),
        (
            "a graph that allocates",
            with(launched),
            Some(Program { items: vec![Item::Allocate { buffer: X }] }),
        ),
        ("not recorded", with(Item::Gap { reason: "the profiler was late".into() }), None),
    ];
    for (name, program, graph) in cases {
        let (steps, verified) = look(&trace(&start(), &program, graph.as_ref()));
        assert!(!verified, "{name}: verify --replay");
        steps.into_iter().for_each(|step| drop(step.expect_err(name)));
    }
}

/// A mark is a note: what runs is what ran without it, and the log shows its text.
#[test]
fn a_mark_changes_nothing() {
    let mark = Item::Mark { text: "capture failed: out of memory".into() };
    let program = Program { items: [vec![mark], clean().items].concat() };
    let trace = trace(&start(), &program, None);
    let (steps, verified) = look(&trace);
    assert!(verified, "verify --replay");
    assert!(steps.into_iter().all(|step| step.unwrap().self_check == "equal"));
    assert!(diff(&trace, &honest(), &[]).unwrap().identical);
    assert_eq!(info(&trace).unwrap().capabilities.step, "yes");
    let report = log(&trace, Some(At { request: 1, step: Some(2) })).unwrap();
    let shown: Vec<_> = report.entries.iter().filter(|e| e.kind == "mark").map(|e| &e.text).collect();
    assert_eq!(shown, ["capture failed: out of memory"]);
}

fn any_view() -> impl Strategy<Value = ViewRecord> {
    let number = || prop_oneof![4 => 0..=9u64, 1 => any::<u64>(), 1 => (0..64u32).prop_map(|n| 1 << n)];
    let names = prop::sample::select(vec!["x", "y", "out", "", "weight", "\u{1b}[2J"]);
    let dtypes = vec![DType::F32, DType::F16, DType::Bf16, DType::I64, DType::I32, DType::U8, DType::Bool];
    let accesses = vec![Access::Read, Access::Write, Access::ReadWrite, Access::Unknown];
    let numbers = || prop::collection::vec(number(), 0..4);
    let what = (prop::sample::select(dtypes), prop::sample::select(accesses));
    (names, 0..4u32, number(), numbers(), numbers(), what).prop_map(
        |(name, id, offset, shape, strides, what)| {
            let (name, buffer, (dtype, access)) = (name.to_owned(), BufferId(id), what);
            ViewRecord { name, buffer, offset, shape, strides, dtype, access }
        },
    )
}

fn any_launch() -> impl Strategy<Value = LaunchRecord> {
    let value = prop_oneof![
        any::<u32>().prop_map(ScalarValue::U32),
        any::<i32>().prop_map(ScalarValue::I32),
        any::<u64>().prop_map(ScalarValue::U64),
        any::<u32>().prop_map(ScalarValue::F32Bits),
    ];
    let scalar = ("[a-z]{0,3}", value).prop_map(|(name, value)| ScalarRecord { name, value });
    let op = prop::sample::select(Op::ALL.to_vec());
    let views = prop::collection::vec(any_view(), 0..4);
    (op, views, prop::collection::vec(scalar, 0..3)).prop_map(|(op, views, scalars)| {
        let mut record = launch(op.name(), "", views);
        record.version = op.schema().version;
        record.scalars = scalars;
        record
    })
}

/// A launch that fits the op's signature, so that only shapes, bounds and values are left to be wrong.
fn likely_launch() -> impl Strategy<Value = LaunchRecord> {
    let op = prop::sample::select(Op::ALL.to_vec());
    let shapes = prop::collection::vec(prop::collection::vec(1..=4u64, 0..4), 12);
    let bindings = prop::collection::vec(0..4u32, 12);
    let scalars = prop::collection::vec(prop_oneof![0..=8u32, any::<u32>()], 12);
    (op, shapes, bindings, scalars).prop_map(|(op, shapes, bindings, scalars)| {
        let schema = op.schema();
        let dtype = |d: twinstep_kernels::DType| match d {
            twinstep_kernels::DType::F32 => DType::F32,
            twinstep_kernels::DType::F16 => DType::F16,
            twinstep_kernels::DType::Bf16 => DType::Bf16,
            twinstep_kernels::DType::I64 => DType::I64,
            twinstep_kernels::DType::I32 => DType::I32,
            twinstep_kernels::DType::U32 => DType::U32,
            twinstep_kernels::DType::U64 => DType::U64,
            twinstep_kernels::DType::U8 => DType::U8,
            twinstep_kernels::DType::Bool => DType::Bool,
        };
        let operand = |(i, param): (usize, &twinstep_kernels::Param)| {
            let shape = shapes[i % shapes.len()].clone();
            let mut strides: Vec<u64> =
                shape.iter().rev().scan(1, |n, d| Some(std::mem::replace(n, *n * d))).collect();
            strides.reverse();
            let access = match param.access {
                twinstep_kernels::Access::Read => Access::Read,
                twinstep_kernels::Access::Write => Access::Write,
                twinstep_kernels::Access::ReadWrite => Access::ReadWrite,
            };
            let (name, buffer) = (param.name.to_owned(), BufferId(bindings[i % bindings.len()]));
            ViewRecord { name, buffer, offset: 0, shape, strides, dtype: dtype(param.dtypes[0]), access }
        };
        let mut record = launch(op.name(), "", schema.params.iter().enumerate().map(operand).collect());
        record.version = schema.version;
        record.scalars = schema
            .scalars
            .iter()
            .zip(&scalars)
            .map(|(param, &value)| ScalarRecord {
                name: param.name.to_owned(),
                value: match param.kind {
                    twinstep_kernels::ScalarKind::U32 => ScalarValue::U32(value),
                    twinstep_kernels::ScalarKind::F32 => ScalarValue::F32Bits(value),
                },
            })
            .collect();
        record
    })
}

/// The record says something else about an operand than the op does.
#[test]
fn what_contradicts_the_op_is_refused() {
    let cases: Vec<(&str, Program)> = vec![
        ("written, says read", first(|r| r.views[0].access = Access::Read)),
        ("read, says written", first(|r| r.views[1].access = Access::Write)),
        ("unknown access", first(|r| r.views[0].access = Access::Unknown)),
        ("another name", first(|r| r.views[0].name = "z".into())),
        ("names swapped", first(|r| (r.views[0].name, r.views[1].name) = ("y".into(), "x".into()))),
    ];
    for (name, program) in cases {
        let (steps, verified) = look(&trace(&start(), &program, None));
        assert!(!verified, "{name}: verify --replay");
        steps.into_iter().for_each(|step| drop(step.expect_err(name)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a launch record says, direct or as a node: an error or a result, no panic, and soon.
    #[test]
    fn no_launch_record_causes_a_panic(record in prop_oneof![any_launch(), likely_launch()]) {
        let program = Program { items: [vec![Item::Launch(record)], clean().items].concat() };
        look(&trace(&start(), &program, None));
        let launched = Program { items: vec![Item::GraphLaunch { graph: GraphId(0), stream: 0 }] };
        look(&trace(&start(), &launched, Some(&program)));
    }

    /// The same as the launches of the other run.
    #[test]
    fn no_inserted_launch_causes_a_panic(record in prop_oneof![any_launch(), likely_launch()]) {
        let program = Program { items: [vec![Item::Launch(record)], clean().items].concat() };
        insert(&trace(&start(), &program, None));
    }
}
