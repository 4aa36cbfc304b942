//! Memory that buffers share: what a pool hands out again, and what graphs still use.

use proptest::prelude::*;
use twinstep_kernels::{
    Buffer, BufferId, BufferSpec, CpuForm, DType, Error, FRESH_BYTE, Launch, Op, Role, Stream, View,
};

use crate::case::{FORMS, stream};
use crate::generate::Random;

fn floats(stream: &mut Stream, name: &str, values: &[f32]) -> Buffer {
    let spec = BufferSpec::new(name, DType::F32, &[values.len()], Role::State);
    let buffer = stream.allocate(spec).expect("small");
    stream.write(&View::whole(&buffer), bytemuck::cast_slice(values)).expect("in bounds");
    buffer
}

fn read(stream: &mut Stream, buffer: &Buffer) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&stream.read(&View::whole(buffer)).expect("kept"))
}

fn add(x: &View, y: &View) -> Launch {
    Launch::new(Op::ResidualAdd, vec![x.clone(), y.clone()], vec![]).expect("valid")
}

#[test]
fn a_retired_buffer_serves_graphs_only() {
    for form in FORMS {
        let mut stream = stream(form);
        let (x, old) = (floats(&mut stream, "x", &[1.0]), floats(&mut stream, "y", &[10.0]));
        let launch = add(&View::whole(&x), &View::whole(&old));
        stream.begin_capture().expect("none in progress");
        stream.launch(&launch).expect("live");
        let graph = stream.end_capture().expect("in progress");
        stream.retire(old.id).expect("live");
        assert_eq!((stream.resolve("y"), stream.buffer(old.id)), (None, None));
        assert!(matches!(stream.launch(&launch), Err(Error::NoBuffer(id)) if id == old.id));
        assert!(matches!(stream.launch_aside(&launch), Err(Error::NoBuffer(id)) if id == old.id));
        assert!(matches!(stream.write(&View::whole(&old), &[0; 4]), Err(Error::NoBuffer(_))));
        assert!(matches!(stream.retire(old.id), Err(Error::NoBuffer(_))), "once");
        let new = floats(&mut stream, "y", &[1000.0]);
        assert_eq!((stream.resolve("y").map(|b| b.id), new.generation), (Some(new.id), 1));
        stream.launch_graph(&graph).expect("the memory is kept");
        assert_eq!(read(&mut stream, &x), [11.0]);
        assert_eq!(read(&mut stream, &old), [10.0], "can be looked at");
        stream.free(old.id).expect("retired");
        assert!(matches!(stream.launch_graph(&graph), Err(Error::NoBuffer(id)) if id == old.id));
        assert!(matches!(stream.free(old.id), Err(Error::NoBuffer(_))), "once");
    }
}

#[test]
fn memory_handed_out_again_is_fresh_and_shared_with_the_graph() {
    for form in FORMS {
        let mut stream = stream(form);
        let x = floats(&mut stream, "x", &[0.0; 4]);
        let y = floats(&mut stream, "y", &[1.0, 2.0, 3.0, 4.0]);
        stream.begin_capture().expect("none in progress");
        stream.launch(&add(&View::whole(&x), &View::whole(&y))).expect("live");
        let graph = stream.end_capture().expect("in progress");
        stream.retire(y.id).expect("live");
        let spec = BufferSpec::new("z", DType::F32, &[2], Role::Scratch);
        let z = stream.allocate_in(spec, y.id, 8).expect("fits");
        assert_eq!(stream.read(&View::whole(&z)).expect("live"), [FRESH_BYTE; 8]);
        stream.write(&View::whole(&z), bytemuck::cast_slice(&[50.0f32, 60.0])).expect("live");
        stream.launch_graph(&graph).expect("kept");
        assert_eq!(read(&mut stream, &x), [1.0, 2.0, 50.0, 60.0]);
        stream.free(y.id).expect("retired");
        assert_eq!(read(&mut stream, &z), [50.0, 60.0], "the last buffer in it keeps the memory");
    }
}

#[test]
fn operands_that_share_bytes_through_another_name_are_refused() {
    let mut stream = stream(CpuForm::Naive);
    let x = floats(&mut stream, "x", &[0.0; 8]);
    let spec = |len| BufferSpec::new("z", DType::F32, &[len], Role::Scratch);
    let z = stream.allocate_in(spec(4), x.id, 16).expect("fits");
    let inner = stream.allocate_in(spec(2), z.id, 8).expect("fits");
    let whole = |b: &Buffer| View::whole(b);
    let overlaps =
        |stream: &mut Stream, a, b| matches!(stream.launch(&add(&a, &b)), Err(Error::Overlap { .. }));
    for capturing in [false, true] {
        if capturing {
            stream.begin_capture().expect("none in progress");
        }
        assert!(overlaps(&mut stream, whole(&x).rows(4, 4), whole(&z)), "the same bytes");
        assert!(overlaps(&mut stream, whole(&z), whole(&x).rows(1, 4)), "one element");
        assert!(overlaps(&mut stream, whole(&x).rows(6, 2), whole(&inner)), "through two names");
    }
    stream.end_capture().expect("in progress");
    stream.launch(&add(&whole(&z), &whole(&x).rows(0, 4))).expect("neighbours");
    stream.launch(&add(&whole(&z).rows(0, 2), &whole(&inner))).expect("neighbours");
}

#[test]
fn places_that_do_not_exist_are_refused() {
    let mut stream = stream(CpuForm::Naive);
    let x = floats(&mut stream, "x", &[0.0; 8]);
    let mut inside = |donor, offset, len: usize| {
        let spec = BufferSpec::new("z", DType::F32, &[len], Role::Scratch);
        stream.allocate_in(spec, donor, offset)
    };
    assert!(matches!(inside(x.id, 8, 7), Err(Error::OutOfBounds { start: 8, end: 36, bytes: 32, .. })));
    assert!(matches!(inside(x.id, usize::MAX - 7, 2), Err(Error::OutOfBounds { .. })));
    assert!(matches!(inside(x.id, 4, 1), Err(Error::Launch { op: "allocate_in", .. })));
    assert!(matches!(inside(BufferId(7), 0, 1), Err(Error::NoBuffer(BufferId(7)))));
    assert!(matches!(inside(x.id, 0, usize::MAX), Err(Error::OutOfMemory { .. })));
    let z = inside(x.id, 24, 2).expect("fits exactly");
    assert_eq!((z.id.0, z.generation), (1, 0), "what was refused left no trace");
    stream.free(x.id).expect("live");
    let spec = BufferSpec::new("late", DType::F32, &[1], Role::Scratch);
    assert!(matches!(stream.allocate_in(spec, x.id, 0), Err(Error::NoBuffer(id)) if id == x.id));
}

/// A buffer as the model of [`sequence`] sees it.
struct Known {
    buffer: Buffer,
    /// Which memory, and from which byte on.
    place: (usize, usize),
    live: bool,
    freed: bool,
}

/// Random allocations, places inside others, writes, retirements and frees against plain vectors of bytes.
fn sequence(form: CpuForm, seed: u64) {
    let (mut stream, mut random) = (stream(form), Random::new(seed));
    let (mut memories, mut known): (Vec<Vec<u8>>, Vec<Known>) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let kept: Vec<usize> = (0..known.len()).filter(|&i| !known[i].freed).collect();
        let chosen = if kept.is_empty() { None } else { Some(random.pick(&kept)) };
        match (random.between(0, 5), chosen) {
            (0, _) | (_, None) => {
                let spec = BufferSpec::new("b", DType::U8, &[random.between(1, 300)], Role::State);
                let buffer = stream.allocate(spec).expect("small");
                memories.push(vec![FRESH_BYTE; buffer.bytes()]);
                known.push(Known { buffer, place: (memories.len() - 1, 0), live: true, freed: false });
            }
            (1, Some(donor)) => {
                let room = known[donor].buffer.bytes();
                let offset = random.between(0, (room - 1) / 8) * 8;
                let bytes = random.between(1, room - offset);
                let spec = BufferSpec::new("b", DType::U8, &[bytes], Role::State);
                let buffer = stream.allocate_in(spec, known[donor].buffer.id, offset).expect("fits");
                let (memory, start) = known[donor].place;
                memories[memory][start + offset..][..bytes].fill(FRESH_BYTE);
                known.push(Known { buffer, place: (memory, start + offset), live: true, freed: false });
            }
            (2, Some(i)) if known[i].live => {
                stream.retire(known[i].buffer.id).expect("live");
                known[i].live = false;
            }
            (3, Some(i)) if n % 3 == 0 => {
                stream.free(known[i].buffer.id).expect("kept");
                (known[i].live, known[i].freed) = (false, true);
            }
            (_, Some(i)) => {
                let bytes = random.bytes(known[i].buffer.bytes());
                let written = stream.write(&View::whole(&known[i].buffer), &bytes);
                assert_eq!(written.is_ok(), known[i].live);
                if known[i].live {
                    let (memory, start) = known[i].place;
                    memories[memory][start..][..bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        for (i, k) in known.iter().enumerate() {
            let found = stream.read(&View::whole(&k.buffer)).ok();
            let (memory, start) = k.place;
            let wanted = (!k.freed).then(|| memories[memory][start..][..k.buffer.bytes()].to_vec());
            assert_eq!(found, wanted, "buffer {i} after {n} steps");
            assert_eq!(stream.buffer(k.buffer.id).is_some(), k.live);
        }
        let newest = known.iter().rev().find(|k| k.live).map(|k| k.buffer.id);
        assert_eq!(stream.resolve("b").map(|b| b.id), newest);
    }
    // Addresses tell who shares which bytes.
    let kept: Vec<&Known> = known.iter().filter(|k| !k.freed).collect();
    for (a, b) in kept.iter().flat_map(|a| kept.iter().map(move |b| (a, b))) {
        let [from_a, from_b] =
            [a, b].map(|k| stream.address(k.buffer.id).expect("the CPU has some") as usize);
        if a.place.0 == b.place.0 {
            assert_eq!(from_a.wrapping_sub(from_b), a.place.1.wrapping_sub(b.place.1));
        } else {
            assert!(from_a + a.buffer.bytes() <= from_b || from_b + b.buffer.bytes() <= from_a);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn memory_is_what_was_written_through_any_name(seed: u64) {
        FORMS.iter().for_each(|&form| sequence(form, seed));
    }
}
