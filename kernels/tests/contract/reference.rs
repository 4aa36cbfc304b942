//! Every float op against binary64, within bounds that follow from its order of operations.
//!
//! `U` is the unit roundoff of binary32. A result of n roundings in a row has relative error at most
//! [`gamma`]`(n)`, for a sum relative to the sum of magnitudes (Higham: Accuracy and stability of
//! numerical algorithms, section 3.1). Inputs are widened exactly, so the reference is computed from
//! the very same values; its own error is 2^29 times smaller and left out.

use proptest::prelude::*;
use twinstep_kernels::{CpuForm, DType, Op, Scalar};

use crate::case::{Case, FORMS, Operand};
use crate::generate::{Random, case};

/// 2^-24.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Relative errors of `exp` and `tanh` in units of [`U`], and the absolute one of `sin`: what
/// NUMERICS.md gives, measured over all arguments, rounded up.
const EXP_ERROR: f64 = 2.1 * U;
const TANH_ERROR: f64 = 2.7 * U;
const SIN_ERROR: f64 = 2.2 * U;

fn gamma(roundings: usize) -> f64 {
    let n = roundings as f64 * U;
    n / (1.0 - n)
}

/// Roundings that an element of a dot product over `k` passes: the fma chain of its accumulator,
/// six levels of the tree, seven segments.
fn dot_roundings(k: usize) -> usize {
    k.div_ceil(512) + 6 + 7
}

/// Sum of products, and of their magnitudes.
fn dot64(a: &[f64], b: &[f64]) -> (f64, f64) {
    let products = a.iter().zip(b).map(|(a, b)| a * b);
    (products.clone().sum(), products.map(f64::abs).sum())
}

/// Asserts `|got - want| <= bound`, element by element; `want` gives (value, bound).
fn within(case: &Case, name: &str, want: impl Fn(usize) -> (f64, f64)) {
    for form in FORMS {
        let got = case.result(form, name).to_f64();
        for (i, &got) in got.iter().enumerate() {
            let (value, bound) = want(i);
            let error = (got - value).abs();
            assert!(
                error <= bound,
                "{:?} {form:?}: `{name}`[{i}] is {got}, reference {value}, error {error:e}, bound {bound:e}",
                case.op
            );
        }
    }
}

fn linear(seed: u64) {
    let mut random = Random::new(seed);
    let op = random.pick(&[Op::Linear, Op::LmHead, Op::AudioHead]);
    let case = case(op, &mut random);
    let (x, weight) = (case.operands[0].to_f64(), case.operands[1].to_f64());
    let (k, m) = (case.operands[0].shape[1], case.operands[1].shape[0]);
    let name = if op == Op::Linear { "out" } else { "logits" };
    // The last act of the LM head: 11 or 8 significant bits, or half a subnormal step of f16.
    let rounding = match (op, case.operands[2].dtype) {
        (Op::LmHead, DType::F16) => 2f64.powi(-11),
        (Op::LmHead, _) => 2f64.powi(-8),
        _ => 0.0,
    };
    within(&case, name, |i| {
        let (value, magnitude) = dot64(&x[i / m * k..][..k], &weight[i % m * k..][..k]);
        let bound = gamma(dot_roundings(k)) * magnitude;
        (value, bound + rounding * (value.abs() + bound) + if rounding > 0.0 { 2f64.powi(-25) } else { 0.0 })
    });
}

/// RMSNorm of one row: values, and the relative bound. The sum of squares has no cancellation, so
/// its error is relative; the root halves it.
fn rms_norm64(x: &[f64], weight: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let d = x.len();
    let mean = dot64(x, x).0 / d as f64;
    let r = 1.0 / (mean + eps).sqrt();
    // Division by d and adding eps are two roundings more; root, reciprocal and two products four.
    let bound = 0.5 * gamma(dot_roundings(d) + 2) + gamma(4);
    (x.iter().zip(weight).map(|(x, w)| x * r * w).collect(), bound * 1.001)
}

fn rms_norm(seed: u64) {
    let case = case(Op::RmsNorm, &mut Random::new(seed));
    let (x, weight) = (case.operands[0].to_f64(), case.operands[1].to_f64());
    let d = weight.len();
    let rows: Vec<_> = x.chunks_exact(d).map(|x| rms_norm64(x, &weight, f64::from(1e-6f32))).collect();
    within(&case, "out", |i| {
        let (values, bound) = &rows[i / d];
        (values[i % d], bound * values[i % d].abs() + f64::from(f32::MIN_POSITIVE))
    });
}

fn qk_norm_rope(seed: u64) {
    let mut case = case(Op::QkNormRope, &mut Random::new(seed));
    let (heads, d, table) = (case.operands[0].shape[1], case.operands[0].shape[2], case.operands[3].shape[0]);
    let positions: Vec<i64> =
        case.operands[2].elements::<i64>().iter().map(|p| p.rem_euclid(table as i64)).collect();
    case.operands[2] = Operand::new(DType::I64, &[positions.len()], &positions);
    let positions = match case.scalars[1] {
        Scalar::U32(fixed) if fixed != u32::MAX => {
            case.scalars[1] = Scalar::U32(fixed % table as u32);
            vec![i64::from(fixed % table as u32); positions.len()]
        }
        _ => positions,
    };
    let [x, weight, cos, sin] = [0, 1, 3, 4].map(|i| case.operands[i].to_f64());
    let half = d / 2;
    within(&case, "out", |i| {
        let (head, j) = (i / d, i % d);
        let (y, relative) = rms_norm64(&x[head * d..][..d], &weight, f64::from(1e-6f32));
        let angle = positions[head / heads] as usize * half + j % half;
        let (a, b) = if j < half {
            (y[j] * cos[angle], -y[j + half] * sin[angle])
        } else {
            (y[j] * cos[angle], y[j - half] * sin[angle])
        };
        // A product and a sum on top.
        (a + b, (relative + gamma(2)) * 1.001 * (a.abs() + b.abs()) + f64::from(f32::MIN_POSITIVE))
    });
}

fn embeddings(seed: u64) {
    let mut random = Random::new(seed);
    let text = case(Op::EmbedText, &mut random);
    let (ids, table) = (text.operands[0].elements::<i32>(), text.operands[1].to_f64());
    let [vocab, d] = [0, 1].map(|axis| text.operands[1].shape[axis]);
    let in_range = |id: i64, len: usize| usize::try_from(id).ok().filter(|&id| id < len);
    within(&text, "out", |i| {
        (in_range(ids[i / d].into(), vocab).map_or(0.0, |id| table[id * d + i % d]), 0.0)
    });

    let codes = case(Op::EmbedCodes, &mut random);
    let [has, text] = [codes.operands[1].bytes.clone(), codes.operands[3].bytes.clone()];
    let text: Vec<f32> = bytemuck::pod_collect_to_vec(&text);
    let (rows, table) = (codes.operands[0].elements::<i64>(), codes.operands[2].to_f64());
    let (n, d) = (codes.operands[0].shape[1], codes.operands[2].shape[1]);
    let vocab = codes.operands[2].shape[0] / n;
    within(&codes, "out", |i| {
        let (r, column) = (i / d, i % d);
        if has[r] == 0 {
            return (text[i].into(), 0.0);
        }
        let values = (0..n).map(|k| {
            in_range(rows[r * n + k], vocab).map_or(0.0, |code| table[(k * vocab + code) * d + column])
        });
        (values.clone().sum(), gamma(n - 1) * values.map(f64::abs).sum::<f64>())
    });

    let rvq = case(Op::RvqDecode, &mut random);
    let (codes, tables) = (rvq.operands[0].elements::<i64>(), rvq.operands[1].to_f64());
    let [t, n] = [0, 1].map(|axis| rvq.operands[0].shape[axis]);
    let [size, e] = [1, 2].map(|axis| rvq.operands[1].shape[axis]);
    within(&rvq, "out", |i| {
        let (row, time) = (i / t, i % t);
        let values = (0..n).map(|k| {
            in_range(codes[time * n + k], size).map_or(0.0, |code| tables[(k * size + code) * e + row])
        });
        (values.clone().sum(), gamma(n - 1) * values.map(f64::abs).sum::<f64>())
    });
}

fn elementwise(seed: u64) {
    let mut random = Random::new(seed);
    let mut silu = case(Op::SiluMul, &mut random);
    let shape = silu.operands[0].shape.clone();
    // Below -88 the quotient is -0, as exp(88.8) is +inf; there the error is absolute.
    let gate: Vec<f32> = random.units(shape.iter().product()).iter().map(|x| 80.0 * x * x * x).collect();
    silu.operands[0] = Operand::floats(DType::F32, &shape, &gate);
    let up = silu.operands[1].to_f64();
    within(&silu, "out", |i| {
        let gate = f64::from(gate[i]);
        let value = gate / (1.0 + (-gate).exp()) * up[i];
        // exp, then sum, quotient, product.
        (value, (EXP_ERROR + gamma(3)) * 1.001 * value.abs() + f64::from(f32::MIN_POSITIVE))
    });

    // A sum of two binary32 is exact enough in binary64 that rounding it gives the binary32 sum.
    let sum = case(Op::ResidualAdd, &mut random);
    let (x, y) = (sum.operands[0].to_f64(), sum.operands[1].to_f64());
    within(&sum, "x", |i| (f64::from((x[i] + y[i]) as f32), 0.0));

    let mut wide = case(Op::Tanh, &mut random);
    let shape = wide.operands[0].shape.clone();
    let x: Vec<f32> = random.units(shape.iter().product()).iter().map(|x| 12.0 * x * x * x).collect();
    wide.operands[0] = Operand::floats(DType::F32, &shape, &x);
    within(&wide, "out", |i| {
        let value = f64::from(x[i]).tanh();
        (value, TANH_ERROR * value.abs() + f64::from(f32::MIN_POSITIVE))
    });
}

fn snake(seed: u64) {
    let mut random = Random::new(seed);
    let mut case = case(Op::Snake, &mut random);
    let (channels, t) = (case.operands[0].shape[0], case.operands[0].shape[1]);
    let x: Vec<f32> = random.units(channels * t).iter().map(|x| 50.0 * x * x * x).collect();
    let alpha: Vec<f32> = random.units(channels).iter().map(|a| a.abs() * 4.0 + 0.05).collect();
    case.operands[0] = Operand::floats(DType::F32, &[channels, t], &x);
    case.operands[1] = Operand::floats(case.operands[1].dtype, &[channels], &alpha);
    let alpha = case.operands[1].to_f64();
    within(&case, "out", |i| {
        let (x, a) = (f64::from(x[i]), alpha[i / t]);
        let guarded = a + f64::from(1e-9f32);
        let s = (a * x).sin();
        let value = x + s * s / guarded;
        // The argument is rounded once and sine has slope at most 1; then square, guard, quotient,
        // and the sum last.
        let sine = SIN_ERROR + U * (a * x).abs();
        let quotient = (2.0 * s.abs() * sine + sine * sine + gamma(3) * (s.abs() + sine).powi(2)) / guarded;
        (value, quotient * (1.0 + U) + U * (value.abs() + quotient))
    });
}

fn convolutions(seed: u64) {
    let mut random = Random::new(seed);
    let conv = case(Op::Conv1d, &mut random);
    let [x, weight, bias] = [0, 1, 2].map(|i| conv.operands[i].to_f64());
    let [co, ci, taps] = [0, 1, 2].map(|axis| conv.operands[1].shape[axis]);
    let t = conv.operands[0].shape[1];
    let Scalar::U32(dilation) = conv.scalars[0] else { unreachable!("generated as u32") };
    assert_eq!(co, bias.len());
    within(&conv, "out", |index| {
        let (c, time) = (index / t, index % t);
        let (mut sum, mut magnitude) = (bias[c], bias[c].abs());
        for j in 0..taps {
            // Padded on the left with (taps - 1) * dilation zeros.
            let back = (taps - 1 - j) as u64 * u64::from(dilation);
            for i in (0..ci).filter(|_| back <= time as u64) {
                let product = x[i * t + time - back as usize] * weight[(c * ci + i) * taps + j];
                (sum, magnitude) = (sum + product, magnitude + product.abs());
            }
        }
        (sum, gamma(taps * ci + 1) * magnitude)
    });

    let up = case(Op::ConvTranspose1d, &mut random);
    let [x, weight, bias] = [0, 1, 2].map(|i| up.operands[i].to_f64());
    let [ci, co, taps] = [0, 1, 2].map(|axis| up.operands[1].shape[axis]);
    let (t, stride) = (up.operands[0].shape[1], taps / 2);
    // Scattered, as the operation is defined: input time s adds tap j to output s * stride + j.
    let mut sums: Vec<(f64, f64)> =
        (0..co * t * stride).map(|i| bias[i / (t * stride)]).map(|b| (b, b.abs())).collect();
    for time in 0..t {
        for (j, u) in (0..taps).map(|j| (j, time * stride + j)).filter(|&(_, u)| u < t * stride) {
            for (i, c) in (0..ci).flat_map(|i| (0..co).map(move |c| (i, c))) {
                let product = x[i * t + time] * weight[(i * co + c) * taps + j];
                let sum = &mut sums[c * t * stride + u];
                *sum = (sum.0 + product, sum.1 + product.abs());
            }
        }
    }
    within(&up, "out", |i| (sums[i].0, gamma(2 * ci + 1) * sums[i].1));
}

/// Softmax attention in binary64. Returns value and bound for each of `d` elements.
fn attention64(q: &[f64], keys: &[&[f64]], values: &[&[f64]], scale: f64) -> Vec<(f64, f64)> {
    let d = q.len();
    let scores: Vec<(f64, f64)> = keys.iter().map(|k| dot64(q, k)).collect();
    // Error of a score; of its difference from the greatest, which is rounded too; of the weight.
    let score_error = scores.iter().map(|s| gamma(dot_roundings(d) + 1) * s.1 * scale).fold(0.0, f64::max);
    let span = scores.iter().map(|s| s.0.abs() * scale).fold(0.0, f64::max) * 2.0;
    let tiles = keys.len().div_ceil(64);
    // Each merge rescales by another exponential: an argument, exp, product and sum more.
    let exponent = 2.0 * score_error + U * span;
    let weight = (1 + tiles) as f64 * (exponent + EXP_ERROR) * 1.01;
    let sums = gamma(6 + 1 + 3 * tiles);
    let greatest = scores.iter().map(|s| s.0).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| ((s.0 - greatest) * scale).exp()).collect();
    let total: f64 = weights.iter().sum();
    let element = |i: usize| {
        let column: Vec<f64> = values.iter().map(|v| v[i]).collect();
        let (sum, magnitude) = dot64(&weights, &column);
        // Numerator and denominator each, then the quotient.
        (sum / total, (2.0 * (weight + sums) * 1.01 + U) * magnitude / total + f64::from(f32::MIN_POSITIVE))
    };
    (0..d).map(element).collect()
}

fn attention(seed: u64) {
    let mut random = Random::new(seed);
    let (kv_heads, group, d) = (random.between(1, 2), random.between(1, 3), random.pick(&[6, 64, 70]));
    let (block_size, length) = (random.pick(&[5, 16]), random.between(1, 200));
    let (heads, blocks) = (kv_heads * group, length.div_ceil(block_size));
    let cache = random.cache();
    let q: Vec<f32> = random.units(heads * d).iter().map(|x| 4.0 * x).collect();
    let shape = [blocks, block_size, kv_heads, d];
    let (k, v) = (random.floats(cache, &shape), random.floats(cache, &shape));
    // Blocks of the sequence from last to first.
    let block_table: Vec<i32> = (0..blocks as i32).rev().collect();
    let scale = 1.0 / (d as f32).sqrt();
    let operands = vec![
        Operand::floats(DType::F32, &[1, heads, d], &q),
        k.clone(),
        v.clone(),
        Operand::new(DType::I32, &[1, blocks], &block_table),
        Operand::new(DType::I64, &[1], &[length as i64 - 1]),
        Operand::filled(DType::F32, &[1, heads * d], 0xA5),
        Operand::no_faults(),
    ];
    let case = Case::new(Op::AttentionPrefill, operands, vec![Scalar::F32(scale), Scalar::U32(2)]);
    let (k, v, q) = (k.to_f64(), v.to_f64(), case.operands[0].to_f64());
    let want: Vec<(f64, f64)> = (0..heads)
        .flat_map(|head| {
            let row = |cache: &[f64], p: usize| {
                let block = blocks - 1 - p / block_size;
                let start = ((block * block_size + p % block_size) * kv_heads + head / group) * d;
                cache[start..start + d].to_vec()
            };
            let rows = |cache: &[f64]| (0..length).map(|p| row(cache, p)).collect::<Vec<_>>();
            let (keys, values) = (rows(&k), rows(&v));
            let keys: Vec<&[f64]> = keys.iter().map(Vec::as_slice).collect();
            let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
            attention64(&q[head * d..][..d], &keys, &values, scale.into())
        })
        .collect();
    within(&case, "out", |i| want[i]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn matrix_products(seed: u64) { linear(seed); }

    #[test]
    fn norms(seed: u64) { rms_norm(seed); qk_norm_rope(seed); }

    #[test]
    fn gathers(seed: u64) { embeddings(seed); }

    #[test]
    fn elementwise_ops(seed: u64) { elementwise(seed); snake(seed); }

    #[test]
    fn convolution_ops(seed: u64) { convolutions(seed); }

    #[test]
    fn attention_ops(seed: u64) { attention(seed); }
}

/// Keys and values arrive in the cache rounded once, in their slot.
#[test]
fn kv_write_rounds_into_the_slot() {
    let k = Operand::floats(DType::F32, &[2, 1, 2], &[1.0, 1.0 + 2f32.powi(-11), -2.0, 3.0]);
    let v = Operand::floats(DType::F32, &[2, 1, 2], &[5.0, 65520.0, f32::NAN, -0.0]);
    let slots = Operand::new(DType::I64, &[2], &[3i64, 0]);
    let cache = Operand::filled(DType::F16, &[2, 2, 1, 2], 0);
    for form in [CpuForm::Naive, CpuForm::Vector] {
        let operands =
            vec![k.clone(), v.clone(), slots.clone(), cache.clone(), cache.clone(), Operand::no_faults()];
        let after = Case::new(Op::KvWrite, operands, vec![]).run(form);
        // 1 + 2^-11 is half way between 1 and the next f16: to even.
        assert_eq!(after[3].elements::<u16>(), [0xc000, 0x4200, 0, 0, 0, 0, 0x3c00, 0x3c00]);
        // 65520 is half way between the greatest f16 and 2^16: to infinity.
        assert_eq!(after[4].elements::<u16>(), [0x7e00, 0x8000, 0, 0, 0, 0, 0x4500, 0x7c00]);
    }
}
