//! Launches that make no sense are refused with an error: none panics, overflows or runs for ever.

use proptest::prelude::*;
use twinstep_kernels::{BufferSpec, CpuForm, DType, Error, Launch, Op, Role, Scalar, View};

use crate::case::{Case, FORMS, Operand, stream};
use crate::generate::{Random, case};

fn launch(case: &Case) -> Result<Launch, Error> {
    case.place(&mut stream(CpuForm::Naive)).map(|(_, launch)| launch)
}

fn refusal(case: &Case) -> String {
    match launch(case) {
        Err(error @ Error::Launch { .. }) => error.to_string(),
        other => panic!("wanted a refusal, got {other:?}"),
    }
}

#[test]
fn an_operand_without_elements_is_refused_for_every_op() {
    for &op in Op::ALL {
        let whole = case(op, &mut Random::new(1));
        for i in 0..whole.operands.len() {
            for axis in 0..whole.operands[i].shape.len() {
                let mut empty = whole.clone();
                empty.operands[i].shape[axis] = 0;
                empty.operands[i].bytes.clear();
                let message = refusal(&empty);
                let name = op.schema().params[i].name;
                assert!(message.contains(op.name()) && message.contains(name), "{message}");
            }
        }
    }
}

#[test]
fn another_shape_rank_or_type_is_refused_for_every_operand() {
    for &op in Op::ALL {
        let whole = case(op, &mut Random::new(2));
        let (_, good) = whole.place(&mut stream(CpuForm::Naive)).expect("valid");
        for i in 0..good.views().len() {
            let with = |view: View| {
                let mut views = good.views().to_vec();
                views[i] = view;
                Launch::new(op, views, good.scalars().to_vec())
            };
            let view = good.views()[i].clone();
            let elementwise = matches!(op, Op::SiluMul | Op::ResidualAdd | Op::Tanh);
            let deeper = View::dense(view.buffer, view.dtype, 0, &[&view.shape[..], &[1]].concat());
            assert!(with(deeper).is_err(), "{op:?} operand {i}: one axis more");
            let wrong = if view.dtype == DType::U64 { DType::U32 } else { DType::U64 };
            assert!(
                with(View::dense(view.buffer, wrong, 0, &view.shape)).is_err(),
                "{op:?} operand {i}: type"
            );
            let mut strided = view.clone();
            strided.strides[0] += 1;
            assert!(with(strided).is_err(), "{op:?} operand {i}: strides");
            if view.dtype.size() > 1 {
                let crooked = View { offset: 1, ..view.clone() };
                assert!(with(crooked).is_err(), "{op:?} operand {i}: alignment");
            }
            assert!(!elementwise || view.shape.len() == 2);
        }
        let mut views = good.views().to_vec();
        views.pop();
        assert!(Launch::new(op, views, good.scalars().to_vec()).is_err(), "{op:?}: an operand less");
        let mut scalars = good.scalars().to_vec();
        scalars.push(Scalar::U32(0));
        assert!(Launch::new(op, good.views().to_vec(), scalars).is_err(), "{op:?}: a scalar more");
        for i in 0..good.scalars().len() {
            let mut scalars = good.scalars().to_vec();
            scalars[i] = match scalars[i] {
                Scalar::U32(_) => Scalar::F32(1.0),
                Scalar::F32(_) => Scalar::U32(1),
            };
            assert!(Launch::new(op, good.views().to_vec(), scalars).is_err(), "{op:?}: kind of scalar {i}");
        }
    }
}

#[test]
fn scalars_that_make_no_sense_are_refused() {
    let with_scalar = |op: Op, index: usize, scalar: Scalar| {
        let mut case = case(op, &mut Random::new(3));
        case.scalars[index] = scalar;
        case
    };
    assert!(refusal(&with_scalar(Op::AttentionDecode, 1, Scalar::U32(0))).contains("tiles_per_split"));
    assert!(refusal(&with_scalar(Op::AttentionPrefill, 1, Scalar::U32(0))).contains("tiles_per_split"));
    assert!(refusal(&with_scalar(Op::AttentionMerge, 0, Scalar::U32(0))).contains("tiles_per_split"));
    assert!(refusal(&with_scalar(Op::ConvTranspose1d, 0, Scalar::U32(0))).contains("stride"));
    for chunk in [0, 1, 2, 3, 5, 48] {
        assert!(refusal(&with_scalar(Op::ChunkHash, 0, Scalar::U32(chunk))).contains("chunk_bytes"));
    }
}

#[test]
fn caches_of_different_types_are_refused() {
    let (q, out) = (Operand::floats(DType::F32, &[1, 1, 2], &[0.0; 2]), Operand::no_faults());
    let cache = |dtype| Operand::floats(dtype, &[1, 1, 1, 2], &[0.0; 2]);
    let index = Operand::new(DType::I32, &[1, 1], &[0i32]);
    let operands = vec![
        q,
        cache(DType::F16),
        cache(DType::Bf16),
        index,
        Operand::new(DType::I64, &[1], &[0i64]),
        Operand::floats(DType::F32, &[1, 2], &[0.0; 2]),
        out,
    ];
    let case = Case::new(Op::AttentionPrefill, operands, vec![Scalar::F32(1.0), Scalar::U32(1)]);
    assert!(refusal(&case).contains("v_cache"));
}

/// Views far greater than any memory, alone or multiplied with one another, as a hostile trace
/// may hold them.
#[test]
fn monstrous_shapes_are_refused_and_do_not_overflow() {
    let mut stream = stream(CpuForm::Naive);
    let buffer = stream.allocate(BufferSpec::new("b", DType::U8, &[64], Role::State)).expect("small");
    for &op in Op::ALL {
        let good = case(op, &mut Random::new(4));
        for factor in [1usize << 31, 1 << 59, 1 << 62, usize::MAX] {
            for axis in 0..4 {
                let views = good.operands.iter().map(|operand| {
                    let mut shape = operand.shape.clone();
                    if let Some(length) = shape.get_mut(axis) {
                        *length = length.saturating_mul(factor);
                    }
                    View::dense(buffer.id, operand.dtype, 0, &shape)
                });
                let Ok(launch) = Launch::new(op, views.collect(), good.scalars.clone()) else { continue };
                let small = launch.views().iter().all(|view| view.bytes().is_some_and(|n| n <= 64));
                assert_eq!(stream.touched(&launch).is_ok(), small, "{launch:?}");
                assert!(stream.launch(&launch).is_err(), "{launch:?}");
            }
        }
        let views = good
            .operands
            .iter()
            .map(|operand| View::dense(buffer.id, operand.dtype, usize::MAX - 7, &operand.shape));
        assert!(Launch::new(op, views.collect(), good.scalars.clone()).is_err(), "{op:?}: offset");
    }
}

/// A block table times a block size that no integer holds: what is touched is still told.
#[test]
fn a_capacity_beyond_all_integers_does_not_overflow() {
    let mut stream = stream(CpuForm::Naive);
    let buffer = stream.allocate(BufferSpec::new("b", DType::U8, &[512], Role::State)).expect("small");
    let view = |dtype, offset, shape: &[usize]| View::dense(buffer.id, dtype, offset, shape);
    stream.write(&view(DType::I32, 0, &[64]), &[0; 256]).expect("in bounds");
    for position in [i64::MAX, i64::MIN, -1, 5] {
        stream.write(&view(DType::I64, 256, &[1]), &position.to_le_bytes()).expect("in bounds");
        let cache = view(DType::F16, 0, &[1, 1 << 59, 1, 1]);
        let views = vec![
            view(DType::F32, 264, &[1, 1, 1]),
            cache.clone(),
            cache,
            view(DType::I32, 0, &[1, 64]),
            view(DType::I64, 256, &[1]),
            view(DType::F32, 272, &[1, 1]),
            view(DType::U32, 280, &[1]),
        ];
        let scalars = vec![Scalar::F32(1.0), Scalar::U32(u32::MAX)];
        let launch = Launch::new(Op::AttentionPrefill, views, scalars).expect("within one's own bounds");
        let bound = launch.bound();
        let touched = launch.touched(&mut |view| stream.read(view)).expect("index operands are in bounds");
        for range in touched {
            assert!(bound.iter().any(|b| b.start <= range.start && range.end <= b.end), "{range:?}");
        }
        assert!(matches!(stream.launch(&launch), Err(Error::OutOfBounds { .. })));
    }
}

#[test]
fn written_operands_share_no_bytes_with_others() {
    for form in FORMS {
        let mut stream = stream(form);
        let x = stream.allocate(BufferSpec::new("x", DType::F32, &[8], Role::State)).expect("small");
        let view = |start: usize| View::dense(x.id, DType::F32, 4 * start, &[4]);
        let add = |a, b| Launch::new(Op::ResidualAdd, vec![view(a), view(b)], vec![]).expect("valid");
        assert!(matches!(stream.launch(&add(0, 3)), Err(Error::Overlap { .. })));
        assert!(stream.launch(&add(0, 4)).is_ok());
        assert!(stream.launch(&add(4, 0)).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever values index operands hold, a valid launch runs.
    #[test]
    fn arbitrary_contents_never_panic(seed: u64) {
        for form in FORMS {
            for &op in Op::ALL {
                let mut random = Random::new(seed);
                let mut case = case(op, &mut random);
                for operand in &mut case.operands {
                    operand.bytes = random.bytes(operand.bytes.len());
                }
                case.run(form);
            }
        }
    }
}
