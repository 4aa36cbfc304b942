//! A row's result is the same alone as in a batch, bit for bit: for each op with a leading row
//! axis, rows with an index out of range included.

use proptest::prelude::*;
use twinstep_kernels::Op;

use crate::case::{Case, FORMS};
use crate::generate::{Random, case};

/// Operands of `op` whose leading axis is the batch; all others are shared by the rows.
fn row_operands(op: Op) -> &'static [&'static str] {
    match op {
        Op::EmbedText => &["ids", "out"],
        Op::EmbedCodes => &["codes", "has_codes", "text", "out"],
        Op::RmsNorm => &["x", "out"],
        Op::QkNormRope => &["x", "positions", "out"],
        Op::Linear => &["x", "out"],
        Op::LmHead | Op::AudioHead => &["x", "logits"],
        Op::AttentionDecode => &["q", "block_table", "seq_lens", "partial"],
        Op::AttentionMerge => &["partial", "seq_lens", "out"],
        Op::AttentionPrefill => &["q", "positions", "out"],
        Op::SiluMul => &["gate", "up", "out"],
        Op::ResidualAdd => &["x", "y"],
        Op::SeedState => {
            &["last_codes", "has_codes", "delay_count", "eoc_countdown", "generation_done", "sampler_counter"]
        }
        Op::DelayMask => &["logits", "delay_count", "eoc_countdown", "out"],
        Op::Sample => &["logits", "sampler_key", "sampler_counter", "sampled"],
        Op::UpdateState => &[
            "sampled",
            "has_codes",
            "delay_count",
            "eoc_countdown",
            "generation_done",
            "sampler_counter",
            "feedback",
            "codes_out",
        ],
        Op::Snake => &["x", "alpha", "out"],
        Op::Tanh => &["x", "out"],
        // Rows of these meet in the cache, in time, or in one list of bytes.
        Op::KvWrite | Op::RvqDecode | Op::Conv1d | Op::ConvTranspose1d | Op::ChunkHash => &[],
    }
}

/// The launch of row `index` alone.
fn alone(case: &Case, index: usize) -> Case {
    let mut alone = case.clone();
    for name in row_operands(case.op) {
        let operand = case.index(name);
        alone.operands[operand] = case.operands[operand].row(index);
    }
    alone
}

fn check(op: Op, seed: u64) {
    let case = case(op, &mut Random::new(seed));
    let rows = case.operands[case.index(row_operands(op)[0])].shape[0];
    for form in FORMS {
        let together = case.run(form);
        let mut faults = None;
        for row in 0..rows {
            let single = alone(&case, row);
            let after = single.run(form);
            for i in case.written() {
                let name = op.schema().params[i].name;
                assert_eq!(
                    after[i],
                    together[i].row(row),
                    "{op:?} {form:?}: `{name}` of row {row}\n{case:?}"
                );
            }
            if op.schema().params.iter().any(|p| p.name == "op_faults") {
                *faults.get_or_insert(0) |= after[case.index("op_faults")].elements::<u32>()[0];
            }
        }
        if let Some(faults) = faults {
            assert_eq!(together[case.index("op_faults")].elements::<u32>()[0], faults, "{op:?} {form:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_row_alone_equals_the_row_in_a_batch(seed: u64) {
        for &op in Op::ALL.iter().filter(|&&op| !row_operands(op).is_empty()) {
            check(op, seed);
        }
    }

    /// Rows written one launch after the other leave the cache as one launch of all does, rows
    /// that share a slot included.
    #[test]
    fn kv_rows_one_by_one_equal_all_at_once(seed: u64) {
        let case = case(Op::KvWrite, &mut Random::new(seed));
        for form in FORMS {
            let together = case.run(form);
            let mut state = case.clone();
            for row in 0..case.operands[0].shape[0] {
                let mut single = state.clone();
                for i in 0..3 {
                    single.operands[i] = case.operands[i].row(row);
                }
                let after = single.run(form);
                state.operands[3..].clone_from_slice(&after[3..]);
            }
            prop_assert_eq!(&state.operands[3..], &together[3..]);
        }
    }
}
