//! A tiny synthetic trace: two steps of two launches over four buffers, recorded without the recorder.

// Each test binary compiles this file and uses its own part of it.
#![allow(dead_code)]

use twinstep_kernels as kernels;
use twinstep_kernels::{BufferSpec, CpuBackend, Launch, Op, Stream, View};
use twinstep_replayer::WeightFiles;
use twinstep_traces::*;

/// Elements of each buffer.
pub(crate) const LENGTH: usize = 8;
/// Contents of a buffer.
pub(crate) type Values = [f32; LENGTH];

/// `x` and `y` are read, `spare` is state that no launch reads, `out` is written before anything reads it.
pub(crate) const X: BufferId = BufferId(0);
pub(crate) const Y: BufferId = BufferId(1);
pub(crate) const SPARE: BufferId = BufferId(2);
pub(crate) const OUT: BufferId = BufferId(3);
pub(crate) const NAMES: [&str; 4] = ["x", "y", "spare", "out"];

/// What the buffers hold when step 1 begins, after its host write of `y`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Start {
    pub(crate) x: Values,
    pub(crate) y: Values,
    pub(crate) spare: Values,
}

/// No weights are needed.
pub(crate) fn no_weights() -> WeightFiles {
    WeightFiles::default()
}

pub(crate) fn bytes(values: &Values) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(crate) fn view(name: &str, buffer: BufferId, access: Access) -> ViewRecord {
    let (shape, strides) = (vec![LENGTH as u64], vec![1]);
    ViewRecord { name: name.into(), buffer, offset: 0, shape, strides, dtype: DType::F32, access }
}

pub(crate) fn launch(op: &str, label: &str, views: Vec<ViewRecord>) -> LaunchRecord {
    let (op, label) = (op.into(), label.into());
    LaunchRecord { op, version: 1, phase: Phase::Forward, label, stream: 0, views, scalars: vec![] }
}

/// `x = x + y`, then `out = tanh(x)`.
pub(crate) fn clean() -> Program {
    let add = vec![view("x", X, Access::ReadWrite), view("y", Y, Access::Read)];
    let tanh = vec![view("x", X, Access::Read), view("out", OUT, Access::Write)];
    Program {
        items: vec![
            Item::Launch(launch("residual_add", "add", add)),
            Item::Launch(launch("tanh", "squash", tanh)),
        ],
    }
}

/// What the two launches do, done by the kernels themselves.
fn compute(x: &Values, y: &Values) -> (Values, Values) {
    let mut stream = Stream::new(Box::new(CpuBackend::new().unwrap()));
    let mut buffer = |name: &str, values: &Values| {
        let (shape, role) = (vec![LENGTH], kernels::Role::State);
        let spec = BufferSpec { name: name.into(), dtype: kernels::DType::F32, shape, role };
        let view = View::whole(&stream.allocate(spec).unwrap());
        stream.write(&view, &bytes(values)).unwrap();
        view
    };
    let (x, y, out) = (buffer("x", x), buffer("y", y), buffer("out", &[0.0; LENGTH]));
    stream.launch(&Launch::new(Op::ResidualAdd, vec![x.clone(), y], vec![]).unwrap()).unwrap();
    stream.launch(&Launch::new(Op::Tanh, vec![x.clone(), out.clone()], vec![]).unwrap()).unwrap();
    let mut values = |view: &View| {
        let bytes = stream.read(view).unwrap();
        let mut floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        std::array::from_fn(|_| floats.next().unwrap())
    };
    (values(&x), values(&out))
}

/// A trace of two steps that recorded what [`clean`] does, and says that `program` did it. `graph` is the
/// program of graph 0, where there is one.
pub(crate) fn trace(start: &Start, program: &Program, graph: Option<&Program>) -> Trace {
    let run = RunRecord { tool: "test".into(), mode: "eager".into(), rows: 1, ..RunRecord::default() };
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    for name in NAMES {
        let shape = vec![LENGTH as u64];
        let bytes = 4 * LENGTH as u64;
        let record = BufferRecord {
            name: name.into(),
            generation: 0,
            dtype: DType::F32,
            shape,
            role: if name == "out" { Role::Output } else { Role::State },
            bytes,
            chunk_bytes: 16,
            address: None,
            contents: None,
        };
        writer.add_buffer(&record).unwrap();
    }
    let step = |kind, request, step, program| StepRecord {
        kind,
        request,
        step,
        rank: 0,
        program,
        host_writes: vec![],
        host_reads: vec![],
        points: vec![],
    };
    let write = |buffer, values: &Values| HostWrite { position: 0, buffer, offset: 0, bytes: bytes(values) };
    let allocate = [X, Y, SPARE, OUT].map(|buffer| Item::Allocate { buffer });
    let setup = writer.add_program(&Program { items: allocate.to_vec() }).unwrap();
    let program_id = writer.add_program(program).unwrap();
    if let Some(graph) = graph {
        let (id, label) = (GraphId(0), "decode".into());
        let program = writer.add_program(graph).unwrap();
        writer.add_graph(&GraphRecord { id, label, program, edges: vec![], captured_at: (0, 0) }).unwrap();
    }
    let mut record = step(StepKind::Setup, 0, 0, setup);
    let end = allocate.len() as u32;
    record.host_writes = vec![write(X, &start.x), write(SPARE, &start.spare)];
    record.host_writes.iter_mut().for_each(|w| w.position = end);
    writer.commit_step(&record).unwrap();
    let request = RequestRecord { request: 1, text: "a".into(), prompt: vec![1], row: 0 };
    writer.add_request(&request).unwrap();
    let mut x = start.x;
    for (number, kind) in [(1, StepKind::Prefill), (2, StepKind::Decode)] {
        // The host writes another `y` in each step.
        let y = start.y.map(|v| v * number as f32);
        let mut record = step(kind, 1, number, program_id);
        record.host_writes = vec![write(Y, &y)];
        let snapshot = |writer: &mut TraceWriter<MemoryStorage>, state: &[(BufferId, &Values)]| {
            let all: Vec<Vec<u8>> = state.iter().map(|(_, values)| bytes(values)).collect();
            let covered: Vec<BufferId> = state.iter().map(|(id, _)| *id).collect();
            let changed: Vec<_> = covered
                .iter()
                .zip(&all)
                .map(|(&buffer, bytes)| ChangedChunks { buffer, first_chunk: 0, bytes })
                .collect();
            writer.snapshot(&covered, &changed, &[]).unwrap()
        };
        let before = snapshot(&mut writer, &[(X, &x), (Y, &y), (SPARE, &start.spare)]);
        let out;
        (x, out) = compute(&x, &y);
        let after = snapshot(&mut writer, &[(X, &x), (Y, &y), (SPARE, &start.spare), (OUT, &out)]);
        let end = program.items.len() as u32;
        record.points = [("step.before", 0, before), ("step.after", end, after)]
            .map(|(point, position, snapshot)| PointRecord { point: point.into(), position, snapshot })
            .to_vec();
        writer.commit_step(&record).unwrap();
    }
    Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
}
