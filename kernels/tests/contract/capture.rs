//! Capture adds nodes and runs nothing; a graph runs what was captured, on contents as they are
//! when it is launched.

use twinstep_kernels::{Buffer, BufferSpec, CpuForm, DType, Error, Launch, Op, Role, Scalar, Stream, View};

use crate::case::{FORMS, stream};

fn buffer(stream: &mut Stream, name: &str, values: &[f32]) -> Buffer {
    let spec = BufferSpec::new(name, DType::F32, &[values.len()], Role::State);
    let buffer = stream.allocate(spec).expect("small");
    write(stream, &buffer, values);
    buffer
}

fn write(stream: &mut Stream, buffer: &Buffer, values: &[f32]) {
    stream.write(&View::whole(buffer), bytemuck::cast_slice(values)).expect("in bounds");
}

fn read(stream: &mut Stream, buffer: &Buffer) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&stream.read(&View::whole(buffer)).expect("in bounds"))
}

fn add(x: &Buffer, y: &Buffer) -> Launch {
    Launch::new(Op::ResidualAdd, vec![View::whole(x), View::whole(y)], vec![]).expect("valid")
}

#[test]
fn nodes_run_when_the_graph_is_launched_and_only_then() {
    for form in FORMS {
        let mut stream = stream(form);
        let (x, y) = (buffer(&mut stream, "x", &[1.0, 2.0]), buffer(&mut stream, "y", &[10.0, 20.0]));
        stream.begin_capture().expect("none in progress");
        stream.launch(&add(&x, &y)).expect("valid");
        stream.launch(&add(&y, &x)).expect("valid");
        let graph = stream.end_capture().expect("in progress");
        assert_eq!(graph.nodes(), [add(&x, &y), add(&y, &x)]);
        assert_eq!(read(&mut stream, &x), [1.0, 2.0], "captured, not run");

        stream.launch_graph(&graph).expect("live");
        assert_eq!(read(&mut stream, &x), [11.0, 22.0]);
        assert_eq!(read(&mut stream, &y), [21.0, 42.0], "in order");
        stream.launch_graph(&graph).expect("live");
        assert_eq!(read(&mut stream, &x), [32.0, 64.0], "once a launch");
    }
}

#[test]
fn a_launch_beside_a_capture_runs_at_once_and_is_no_node() {
    for form in FORMS {
        let mut stream = stream(form);
        let (x, y) = (buffer(&mut stream, "x", &[1.0]), buffer(&mut stream, "y", &[10.0]));
        stream.launch(&add(&x, &y)).expect("valid");
        stream.begin_capture().expect("none in progress");
        stream.launch(&add(&y, &x)).expect("valid");
        stream.launch_aside(&add(&x, &y)).expect("valid");
        let graph = stream.end_capture().expect("in progress");
        assert_eq!(graph.nodes(), [add(&y, &x)]);
        assert_eq!((read(&mut stream, &x), read(&mut stream, &y)), (vec![21.0], vec![10.0]));
        stream.launch_graph(&graph).expect("live");
        assert_eq!((read(&mut stream, &x), read(&mut stream, &y)), (vec![21.0], vec![31.0]));
        stream.launch_aside(&add(&x, &y)).expect("without a capture it is a launch");
        assert_eq!(read(&mut stream, &x), [52.0]);
    }
}

#[test]
fn contents_are_those_of_the_launch() {
    for form in FORMS {
        let mut stream = stream(form);
        let (x, y) = (buffer(&mut stream, "x", &[1.0]), buffer(&mut stream, "y", &[10.0]));
        stream.begin_capture().expect("none in progress");
        stream.launch(&add(&x, &y)).expect("valid");
        let graph = stream.end_capture().expect("in progress");
        write(&mut stream, &x, &[5.0]);
        write(&mut stream, &y, &[0.25]);
        stream.launch_graph(&graph).expect("live");
        assert_eq!(read(&mut stream, &x), [5.25]);
    }
}

/// The program that captured changes its variables afterwards: the buffer that a name stands for,
/// and a scalar. The graph keeps what it was given.
#[test]
fn bindings_and_scalars_are_frozen_at_capture() {
    for form in FORMS {
        let mut stream = stream(form);
        let (mut x, y) = (buffer(&mut stream, "x", &[1.0, 2.0]), buffer(&mut stream, "y", &[0.0; 2]));
        let rms_norm = |x: &Buffer, weight: &View, y: &Buffer, eps: f32| {
            let views =
                vec![View::whole(x).reshape(&[1, 2]), weight.clone(), View::whole(y).reshape(&[1, 2])];
            Launch::new(Op::RmsNorm, views, vec![Scalar::F32(eps)]).expect("valid")
        };
        let ones = stream.allocate(BufferSpec::new("ones", DType::Bf16, &[2], Role::Weight)).expect("small");
        stream.write(&View::whole(&ones), bytemuck::cast_slice(&[0x3f80u16; 2])).expect("in bounds");

        let mut eps = 1.5f32;
        let mut launch = rms_norm(&x, &View::whole(&ones), &y, eps);
        stream.begin_capture().expect("none in progress");
        stream.launch(&launch).expect("valid");
        let graph = stream.end_capture().expect("in progress");
        let old = x.clone();
        x = buffer(&mut stream, "x", &[100.0, 200.0]);
        eps += 20000.0;
        launch = rms_norm(&x, &View::whole(&ones), &y, eps);

        stream.launch(&launch).expect("valid");
        assert_ne!(read(&mut stream, &y), [0.5, 1.0], "a launch of now has the arguments of now");
        // sqrt((1 + 4) / 2 + 1.5) = 2
        stream.launch_graph(&graph).expect("live");
        assert_eq!(read(&mut stream, &y), [0.5, 1.0], "generation 0 of x and the first eps");
        assert_eq!(stream.resolve("x").map(|b| b.generation), Some(1), "the bare name moved on");
        assert_eq!(graph.nodes()[0].views()[0].buffer, old.id);
    }
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let mut stream = stream(CpuForm::Naive);
    let (x, y) = (buffer(&mut stream, "x", &[1.0]), buffer(&mut stream, "y", &[10.0]));
    stream.begin_capture().expect("none in progress");
    stream.launch(&add(&x, &y)).expect("valid");
    let graph = stream.end_capture().expect("in progress");
    assert!(matches!(stream.end_capture(), Err(Error::Capture(_))), "none in progress");

    stream.begin_capture().expect("none in progress");
    assert!(matches!(stream.begin_capture(), Err(Error::Capture(_))), "no capture in a capture");
    assert!(matches!(stream.write(&View::whole(&x), &[0; 4]), Err(Error::Capture(_))), "host write");
    assert!(matches!(stream.read(&View::whole(&x)), Err(Error::Capture(_))), "host read");
    assert!(matches!(stream.launch_graph(&graph), Err(Error::Capture(_))), "graph launch");
    let empty = stream.end_capture().expect("in progress");
    assert!(empty.nodes().is_empty());
    assert_eq!(read(&mut stream, &x), [1.0], "the refused write changed nothing");
}

#[test]
fn a_graph_whose_buffer_was_freed_is_refused() {
    let mut stream = stream(CpuForm::Naive);
    let (x, y) = (buffer(&mut stream, "x", &[1.0]), buffer(&mut stream, "y", &[10.0]));
    stream.begin_capture().expect("none in progress");
    stream.launch(&add(&x, &y)).expect("valid");
    let graph = stream.end_capture().expect("in progress");
    stream.free(y.id).expect("live");
    assert!(matches!(stream.launch_graph(&graph), Err(Error::NoBuffer(id)) if id == y.id));
    assert!(matches!(stream.launch(&add(&x, &y)), Err(Error::NoBuffer(id)) if id == y.id));
    assert_eq!(read(&mut stream, &x), [1.0]);
}

#[test]
fn fresh_memory_is_filled_with_a5() {
    let mut stream = stream(CpuForm::Naive);
    let spec = BufferSpec::new("fresh", DType::F32, &[3], Role::Scratch);
    let fresh = stream.allocate(spec).expect("small");
    assert_eq!(stream.read(&View::whole(&fresh)).expect("in bounds"), [0xA5; 12]);
}
