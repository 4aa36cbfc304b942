//! What `sample` draws, and how often.

use std::collections::BTreeSet;

use twinstep_kernels::{CpuForm, DType, Op, Scalar};

use crate::case::{Case, FORMS, Operand};

#[derive(Clone, Copy)]
struct Settings {
    temperature: f32,
    top_k: u32,
    top_p: f32,
}

const PLAIN: Settings = Settings { temperature: 1.0, top_k: 0, top_p: 1.0 };

/// Codes of `rows` steps with the same logits `[n, v]` in each: row r has counter `first + r`.
fn draw(form: CpuForm, logits: &[Vec<f32>], settings: Settings, first: u32, rows: usize) -> Vec<i64> {
    let (n, v) = (logits.len(), logits[0].len());
    let key = [0x1234_5678u32, 0x9abc_def0, 7, 0];
    let counters: Vec<u32> = (0..rows as u32).map(|r| first.wrapping_add(r)).collect();
    let operands = vec![
        Operand::floats(DType::F32, &[rows, n, v], &logits.concat().repeat(rows)),
        Operand::new(DType::U32, &[rows, 4], &key.repeat(rows)),
        Operand::new(DType::U32, &[rows], &counters),
        Operand::filled(DType::I64, &[rows, n], 0xA5),
    ];
    let Settings { temperature, top_k, top_p } = settings;
    let scalars = vec![Scalar::F32(temperature), Scalar::U32(top_k), Scalar::F32(top_p)];
    Case::new(Op::Sample, operands, scalars).result(form, "sampled").elements()
}

/// The codes that occur in 2000 steps of one codebook.
fn support(form: CpuForm, logits: &[f32], settings: Settings) -> BTreeSet<i64> {
    draw(form, &[logits.to_vec()], settings, 0, 2000).into_iter().collect()
}

fn one(form: CpuForm, logits: &[f32], settings: Settings) -> i64 {
    draw(form, &[logits.to_vec()], settings, 0, 1)[0]
}

/// Pearson's statistic of counts against probabilities.
fn chi_square(counts: &[u32], probabilities: &[f64]) -> f64 {
    let total: f64 = counts.iter().map(|&c| f64::from(c)).sum();
    let term = |(&c, &p): (&u32, &f64)| (f64::from(c) - total * p).powi(2) / (total * p);
    counts.iter().zip(probabilities).map(term).sum()
}

#[test]
fn frequencies_are_the_probabilities() {
    const STEPS: usize = 20_000;
    let logits = vec![
        vec![0.0, 1.0, -1.0, 0.5, 2.0, -0.25, 1.5, 0.75],
        vec![3.0, 2.9, 2.8, 0.0, 0.1, 0.2, 2.7, 1.0],
        vec![0.0; 8],
    ];
    let temperature = 1.3f32;
    for form in FORMS {
        let codes = draw(form, &logits, Settings { temperature, ..PLAIN }, 0, STEPS);
        for (k, logits) in logits.iter().enumerate() {
            let weights: Vec<f64> =
                logits.iter().map(|&x| (f64::from(x) / f64::from(temperature)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let probabilities: Vec<f64> = weights.iter().map(|w| w / total).collect();
            let mut counts = [0u32; 8];
            codes.iter().skip(k).step_by(3).for_each(|&code| counts[code as usize] += 1);
            // 7 degrees of freedom: a right sampler exceeds 29.9 once in 10,000 seeds.
            let statistic = chi_square(&counts, &probabilities);
            assert!(statistic < 29.9, "{form:?} codebook {k}: chi-square {statistic}, counts {counts:?}");
        }
        // Codebooks are independent: all 64 pairs of codes of the third (uniform) and of the first.
        let mut pairs = [0u32; 64];
        for row in codes.chunks_exact(3) {
            pairs[(row[0] * 8 + row[2]) as usize] += 1;
        }
        let weights: Vec<f64> =
            logits[0].iter().map(|&x| (f64::from(x) / f64::from(temperature)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let joint: Vec<f64> = weights.iter().flat_map(|w| [w / total / 8.0; 8]).collect();
        // 63 degrees of freedom: exceeded once in 10,000 seeds at 114.
        let statistic = chi_square(&pairs, &joint);
        assert!(statistic < 114.0, "{form:?}: chi-square of pairs {statistic}");
    }
}

#[test]
fn a_step_is_reproducible_and_differs_from_the_next() {
    let logits = vec![vec![0.0; 100]; 4];
    for form in FORMS {
        let once = draw(form, &logits, PLAIN, 5, 40);
        assert_eq!(once[4..], draw(form, &logits, PLAIN, 6, 39), "counter 6 is counter 6, whatever the row");
        let distinct: BTreeSet<&[i64]> = once.chunks_exact(4).collect();
        assert_eq!(distinct.len(), 40, "steps draw anew");
    }
}

#[test]
fn top_k_keeps_exactly_k() {
    // Three codes share the third place; the lowest index has it.
    let logits = [1.0, 3.0, 1.0, 0.0, 2.0, 1.0];
    for form in FORMS {
        let with = |top_k| support(form, &logits, Settings { top_k, ..PLAIN });
        assert_eq!(with(1), BTreeSet::from([1]));
        assert_eq!(with(2), BTreeSet::from([1, 4]));
        assert_eq!(with(3), BTreeSet::from([0, 1, 4]));
        assert_eq!(with(4), BTreeSet::from([0, 1, 2, 4]));
        assert_eq!(with(6), BTreeSet::from([0, 1, 2, 3, 4, 5]));
        assert_eq!(with(0), with(6), "0 is off");
        assert_eq!(with(100), with(6));
    }
}

#[test]
fn top_p_keeps_the_shortest_prefix_that_reaches_p() {
    // Probabilities 1/2, 1/4, 1/8, 1/8 at indices 2, 0, 1, 3.
    let ln2 = std::f32::consts::LN_2;
    let logits = [2.0 * ln2, ln2, 3.0 * ln2, ln2];
    for form in FORMS {
        let with = |top_p| support(form, &logits, Settings { top_p, ..PLAIN });
        for top_p in [0.0, -1.0, f32::NEG_INFINITY, 1e-6, 0.49] {
            assert_eq!(with(top_p), BTreeSet::from([2]), "{top_p}");
        }
        assert_eq!(with(0.51), BTreeSet::from([0, 2]));
        assert_eq!(with(0.74), BTreeSet::from([0, 2]));
        assert_eq!(with(0.76), BTreeSet::from([0, 1, 2]), "of equal codes the lower index comes first");
        for top_p in [0.88, 1.0, 2.0, f32::NAN] {
            assert_eq!(with(top_p), BTreeSet::from([0, 1, 2, 3]), "{top_p}");
        }
        // Of two equal codes the first reaches one half exactly, and is enough.
        let half = support(form, &[1.0, 1.0], Settings { top_p: 0.5, ..PLAIN });
        assert_eq!(half, BTreeSet::from([0]));
        // top-p is taken of what top-k has left: 2/3 and 1/3.
        let both = |top_p| support(form, &logits, Settings { top_k: 2, top_p, ..PLAIN });
        assert_eq!(both(0.65), BTreeSet::from([2]));
        assert_eq!(both(0.68), BTreeSet::from([0, 2]));
    }
}

#[test]
fn greedy_takes_the_lowest_of_equal_codes() {
    for form in FORMS {
        for temperature in [0.0, -1.0, f32::NAN] {
            let greedy = |logits: &[f32]| one(form, logits, Settings { temperature, ..PLAIN });
            assert_eq!(greedy(&[1.0, 5.0, 5.0, 2.0]), 1);
            assert_eq!(greedy(&[-0.0, 0.0]), 0, "-0 equals +0");
            assert_eq!(greedy(&[f32::NAN, f32::NEG_INFINITY, -3.0]), 2, "NaN is below everything");
            assert_eq!(greedy(&[f32::NAN, f32::NEG_INFINITY]), 1);
            assert_eq!(greedy(&[1.0, f32::INFINITY]), 1);
        }
    }
}

#[test]
fn rows_without_a_finite_logit_fall_back_to_the_greatest() {
    for form in FORMS {
        for temperature in [0.0, 0.7] {
            let code = |logits: &[f32]| one(form, logits, Settings { temperature, ..PLAIN });
            assert_eq!(code(&[f32::NEG_INFINITY; 5]), 0);
            assert_eq!(code(&[f32::NAN; 5]), 0);
            assert_eq!(code(&[f32::NAN, f32::NEG_INFINITY, f32::NAN]), 1);
            assert_eq!(code(&[0.0, f32::INFINITY, 2.0]), 1);
        }
    }
}

#[test]
fn masked_codes_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 40];
    (logits[7], logits[31], logits[33]) = (0.0, -1.0, f32::NAN);
    for form in FORMS {
        assert_eq!(support(form, &logits, PLAIN), BTreeSet::from([7, 31]));
    }
}

#[test]
fn temperatures_at_the_extremes() {
    let logits = [1.0, 4.0, 3.0, -2.0];
    for form in FORMS {
        let with = |temperature| support(form, &logits, Settings { temperature, ..PLAIN });
        // Differences beyond exp's range, and quotients that overflow: only the greatest is left.
        for temperature in [f32::from_bits(1), f32::MIN_POSITIVE, 1e-30, 1e-3] {
            assert_eq!(with(temperature), BTreeSet::from([1]), "{temperature}");
        }
        // All alike.
        for temperature in [1e30, f32::INFINITY] {
            assert_eq!(with(temperature), BTreeSet::from([0, 1, 2, 3]), "{temperature}");
        }
    }
}
