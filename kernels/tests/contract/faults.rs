//! An index out of range reads zeros or writes nothing, and sets its bit of `op_faults` and no other.

use twinstep_kernels::{DType, Op, Scalar, fault};

use crate::case::{Case, FORMS, Operand};
use crate::generate::{Random, case};

/// Bits that no op sets: they have to stay.
const OLDER: u32 = 0x8000_0100;

fn i64s(shape: &[usize], values: &[i64]) -> Operand {
    Operand::new(DType::I64, shape, values)
}

fn i32s(shape: &[usize], values: &[i32]) -> Operand {
    Operand::new(DType::I32, shape, values)
}

fn ones(dtype: DType, shape: &[usize]) -> Operand {
    Operand::floats(dtype, shape, &vec![1.0; shape.iter().product()])
}

fn unwritten(shape: &[usize]) -> Operand {
    Operand::filled(DType::F32, shape, 0xA5)
}

fn older() -> Operand {
    Operand::new(DType::U32, &[1], &[OLDER])
}

/// Runs the case in both forms; gives the faults that were added and the operand of that name.
fn run(case: &Case, name: &str) -> (u32, Vec<f32>) {
    let [naive, vector] = FORMS.map(|form| {
        let after = case.run(form);
        let faults = after[case.index("op_faults")].elements::<u32>()[0];
        assert_eq!(faults & OLDER, OLDER, "older faults stay");
        (faults & !OLDER, after[case.index(name)].to_f32())
    });
    assert_eq!(naive, vector);
    naive
}

#[test]
fn embeddings() {
    for (id, faults, value) in [
        (0, 0, 1.0),
        (2, 0, 1.0),
        (3, fault::TEXT_ID, 0.0),
        (-1, fault::TEXT_ID, 0.0),
        (i32::MIN, fault::TEXT_ID, 0.0),
    ] {
        let operands = vec![i32s(&[1], &[id]), ones(DType::F16, &[3, 2]), unwritten(&[1, 2]), older()];
        assert_eq!(run(&Case::new(Op::EmbedText, operands, vec![]), "out"), (faults, vec![value; 2]), "{id}");
    }
    for (code, faults, value) in
        [(2, 0, 2.0), (3, fault::CODE, 1.0), (-1, fault::CODE, 1.0), (i64::MAX, fault::CODE, 1.0)]
    {
        for (has, faults, value) in [(1u8, faults, value), (0, 0, 1.0)] {
            let operands = vec![
                i64s(&[1, 2], &[0, code]),
                Operand::new(DType::Bool, &[1], &[has]),
                ones(DType::Bf16, &[6, 1]),
                ones(DType::F32, &[1, 1]),
                unwritten(&[1, 1]),
                older(),
            ];
            let got = run(&Case::new(Op::EmbedCodes, operands, vec![]), "out");
            assert_eq!(got, (faults, vec![value]), "code {code}, has_codes {has}");
        }
    }
    for (code, faults, value) in [(2, 0, 2.0), (3, fault::CODEC_CODE, 1.0), (-7, fault::CODEC_CODE, 1.0)] {
        let operands =
            vec![i64s(&[1, 2], &[code, 1]), ones(DType::F16, &[2, 3, 1]), unwritten(&[1, 1]), older()];
        assert_eq!(run(&Case::new(Op::RvqDecode, operands, vec![]), "out"), (faults, vec![value]), "{code}");
    }
}

#[test]
fn positions() {
    for (position, faults) in [(0, 0), (4, 0), (5, fault::POSITION), (-1, fault::POSITION)] {
        let operands = vec![
            ones(DType::F32, &[1, 1, 2]),
            ones(DType::F16, &[2]),
            i64s(&[1], &[position]),
            ones(DType::F32, &[5, 1]),
            ones(DType::F32, &[5, 1]),
            unwritten(&[1, 1, 2]),
            older(),
        ];
        let (got, out) = run(&Case::new(Op::QkNormRope, operands, vec![Scalar::F32(0.0)]), "out");
        assert_eq!(got, faults, "{position}");
        assert_eq!(out, if faults == 0 { [0.0, 2.0] } else { [0.0, 0.0] }, "{position}");
    }
}

#[test]
fn slots() {
    for (slot, faults) in
        [(0, 0), (5, 0), (-1, 0), (6, fault::SLOT), (-2, fault::SLOT), (i64::MIN, fault::SLOT)]
    {
        let cache = Operand::filled(DType::F32, &[2, 3, 1, 1], 0);
        let (k, v) = (ones(DType::F32, &[1, 1, 1]), ones(DType::F32, &[1, 1, 1]));
        let operands = vec![k, v, i64s(&[1], &[slot]), cache.clone(), cache, older()];
        let (got, cache) = run(&Case::new(Op::KvWrite, operands, vec![]), "k_cache");
        assert_eq!(got, faults, "{slot}");
        let written: Vec<usize> = (0..6).filter(|&i| cache[i] != 0.0).collect();
        assert_eq!(written, usize::try_from(slot).ok().filter(|&s| s < 6).into_iter().collect::<Vec<_>>());
    }
}

/// A cache of two blocks of two slots, all ones; a block table of three entries.
fn attention(op: Op, length: i64, block_table: [i32; 3]) -> (u32, Vec<f32>) {
    let cache = ones(DType::F16, &[2, 2, 1, 1]);
    let mut operands = vec![ones(DType::F32, &[1, 1, 1]), cache.clone(), cache, i32s(&[1, 3], &block_table)];
    let scalars = vec![Scalar::F32(1.0), Scalar::U32(1)];
    if op == Op::AttentionPrefill {
        operands.extend([i64s(&[1], &[length - 1]), unwritten(&[1, 1]), older()]);
        return run(&Case::new(op, operands, scalars), "out");
    }
    operands.extend([i32s(&[1], &[length as i32]), unwritten(&[1, 1, 1, 3]), older()]);
    let (faults, partial) = run(&Case::new(op, operands, scalars), "partial");
    (faults, if partial[2] == 0.0 { vec![0.0] } else { vec![partial[0] / partial[2]] })
}

#[test]
fn lengths_and_blocks() {
    for op in [Op::AttentionDecode, Op::AttentionPrefill] {
        let good = [1, 0, 1];
        assert_eq!(attention(op, 6, good), (0, vec![1.0]));
        assert_eq!(attention(op, 0, good), (0, vec![0.0]), "{op:?}: no position");
        assert_eq!(attention(op, 7, good), (fault::SEQ_LEN, vec![1.0]), "{op:?}: clamped to the block table");
        assert_eq!(attention(op, -1, good), (fault::SEQ_LEN, vec![0.0]), "{op:?}: clamped to 0");
        // The last entry is bad: it shows only where it is used.
        for bad in [2, -1] {
            assert_eq!(attention(op, 4, [1, 0, bad]), (0, vec![1.0]));
            let (faults, out) = attention(op, 5, [1, 0, bad]);
            assert_eq!(faults, fault::BLOCK, "{op:?}: block {bad}");
            // Four ones with score 1, and a zero with score 0.
            let e = std::f32::consts::E;
            assert!((out[0] - 4.0 * e / (4.0 * e + 1.0)).abs() < 1e-6, "{op:?}: {out:?}");
        }
    }
}

/// A workspace with room for one split of two: the positions beyond are dropped, without a fault.
#[test]
fn a_workspace_that_is_too_small_drops_positions() {
    let mut random = Random::new(9);
    let mut case = case(Op::AttentionDecode, &mut random);
    let (dtype, d) = (DType::F32, 4);
    let cache = random.floats(dtype, &[10, 10, 1, d]);
    let table: Vec<i32> = (0..10).collect();
    let q = random.floats(DType::F32, &[1, 1, d]);
    let decode = |seq_len: i32, splits: usize, case: &mut Case| {
        case.operands = vec![
            q.clone(),
            cache.clone(),
            cache.clone(),
            i32s(&[1, 10], &table),
            i32s(&[1], &[seq_len]),
            unwritten(&[1, 1, splits, d + 2]),
            older(),
        ];
        case.scalars = vec![Scalar::F32(1.0), Scalar::U32(1)];
        run(case, "partial")
    };
    let (faults, short) = decode(100, 1, &mut case);
    assert_eq!(faults, 0);
    assert_eq!(short, decode(64, 1, &mut case).1, "the first 64 of 100 positions");
    assert_eq!(short, decode(100, 2, &mut case).1[..d + 2], "the first split of two");
}
