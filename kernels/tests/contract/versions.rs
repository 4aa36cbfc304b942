//! Launches of older versions, and scalars in place of an index operand.

use proptest::prelude::*;
use twinstep_kernels::{DType, Error, Launch, Op, Scalar};

use crate::case::{Case, FORMS, Operand, stream};
use crate::generate::{Random, case};

/// Position of the operand that the last scalar takes the place of.
fn replaced(op: Op) -> usize {
    if op == Op::QkNormRope { 2 } else { 4 }
}

/// The case with the same value in every row of that operand.
fn with_rows(case: &Case, value: u32) -> Case {
    let mut rows = case.clone();
    let i = replaced(case.op);
    let (dtype, shape) = (rows.operands[i].dtype, rows.operands[i].shape.clone());
    rows.operands[i] = match dtype {
        DType::I64 => Operand::new(dtype, &shape, &vec![i64::from(value); shape[0]]),
        _ => Operand::new(dtype, &shape, &vec![value as i32; shape[0]]),
    };
    rows
}

const OPS: [Op; 2] = [Op::QkNormRope, Op::AttentionDecode];

#[test]
fn versions_that_are_known_are_found_and_no_others() {
    for &op in Op::ALL {
        let schema = op.schema();
        for version in 0..schema.version + 2 {
            let found = Op::find(schema.name, version);
            if (schema.since..=schema.version).contains(&version) {
                assert_eq!(found.ok(), Some(op));
            } else {
                assert!(matches!(found, Err(Error::UnknownOp { .. })), "{op:?} version {version}");
            }
        }
    }
    assert_eq!(Op::find("attention_decode", 1).ok(), Some(Op::AttentionDecode));
    assert_eq!(Op::find("qk_norm_rope", 1).ok(), Some(Op::QkNormRope));
}

#[test]
fn a_launch_of_version_1_means_what_it_meant() {
    for op in OPS {
        let whole = case(op, &mut Random::new(4));
        let (_, launch) = whole.place(&mut stream(FORMS[0])).expect("valid");
        let mut old = launch.scalars().to_vec();
        old.pop();
        let old = Launch::new(op, launch.views().to_vec(), old).expect("the last scalar has a default");
        assert_eq!(old.scalars().last(), Some(&Scalar::U32(u32::MAX)), "{op:?}");
        let fewer = launch.scalars()[..op.schema().scalars.len() - 2].to_vec();
        assert!(Launch::new(op, launch.views().to_vec(), fewer).is_err(), "{op:?}: that one has none");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// By value is as by operand, with that value in all rows, and the operand is not looked at.
    #[test]
    fn a_scalar_takes_the_place_of_the_operand(seed: u64, value in 0u32..300) {
        for op in OPS {
            let mut random = Random::new(seed);
            let mut by_value = case(op, &mut random);
            let last = by_value.scalars.len() - 1;
            by_value.scalars[last] = Scalar::U32(value);
            let mut by_operand = with_rows(&by_value, value);
            by_operand.scalars[last] = Scalar::U32(u32::MAX);
            for form in FORMS {
                let (given, wanted) = (by_value.run(form), by_operand.run(form));
                for i in (0..given.len()).filter(|&i| i != replaced(op)) {
                    prop_assert_eq!(&given[i], &wanted[i], "{:?} {:?} operand {}", op, form, i);
                }
            }
            let mut stream = stream(FORMS[0]);
            let (buffers, launch) = by_value.place(&mut stream).expect("valid");
            let touched = stream.touched(&launch).expect("in bounds");
            prop_assert!(touched.iter().all(|range| range.buffer != buffers[replaced(op)].id));
        }
    }
}
