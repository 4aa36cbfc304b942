//! One code a row and codebook.

use super::{Definition, F32, I64, Operands, U32, axes, read, want, write};
use crate::contract::{argmax, exp, order_key, philox4x32_10};
use crate::{ScalarKind, ScalarParam, Schema};

/// Weight of the most likely code, and of top-p = 1: 2^24, so that weights are exact in f32.
pub(crate) const ONE: f32 = 16_777_216.0;

/// Greedy where the temperature is not above 0: [`argmax`]. Otherwise integer arithmetic after exp:
/// 1. codes sorted by ([`order_key`] of the logit falling, index rising); top-k keeps the first k (0 = all);
/// 2. weight of a code: `trunc(exp(logit / temperature - greatest) * 2^24)` as u32, the greatest being
///    the first code's `logit / temperature`; a weight that is NaN is 0;
/// 3. top-p keeps the shortest prefix whose weights reach `ceil(total * trunc(top_p * 2^24) / 2^24)`;
/// 4. the draw: `floor(total * u / 2^64)` of the kept total, u the first two words of
///    Philox(counter = (sampler_counter, codebook, request, 0), key = seed); the first code whose running
///    sum exceeds it.
///
/// With a total of zero (no finite logit) it is the argmax. `sampler_key` is [seed low, seed high,
/// request, unused] a row.
pub(crate) const SAMPLE: Definition = Definition {
    schema: Schema {
        name: "sample",
        version: 1,
        since: 1,
        params: &[
            read("logits", F32),
            read("sampler_key", U32),
            read("sampler_counter", U32),
            write("sampled", I64),
        ],
        scalars: &[
            ScalarParam::new("temperature", ScalarKind::F32),
            ScalarParam::new("top_k", ScalarKind::U32),
            ScalarParam::new("top_p", ScalarKind::F32),
        ],
    },
    check: |l| {
        let [r, n, v] = axes(l, 0)?;
        if v > MAX_CODES {
            return Err(format!("{v} codes a codebook, wants at most {MAX_CODES}"));
        }
        want(l, 1, &[Some(r), Some(4)])?;
        want(l, 2, &[Some(r)])?;
        want(l, 3, &[Some(r), Some(n)])
    },
    touched: None,
    naive: sample,
    vector: Some(crate::cpu::sample::sample),
};

/// Codes of a codebook that the CUDA form can sort in shared memory.
pub(crate) const MAX_CODES: usize = 4096;

/// `trunc(p * 2^24)`, 1 or more (or NaN) meaning off.
pub(crate) fn fixed_top_p(p: f32) -> u64 {
    if p < 1.0 { (p.max(0.0) * ONE) as u64 } else { ONE as u64 }
}

fn sample(o: &mut Operands<'_>) {
    sample_rows(o, draw);
}

/// Samples every row and codebook with `draw(logits, temperature, top_k, top_p, u)` where not greedy.
pub(crate) fn sample_rows(o: &mut Operands<'_>, draw: impl Fn(&[f32], f32, usize, u64, u64) -> usize) {
    let l = o.launch();
    let (n, v) = (l.shape(0)[1], l.shape(0)[2]);
    let (temperature, top_k, top_p) = (l.f32(0), l.u32(1) as usize, fixed_top_p(l.f32(2)));
    let (logits, key, counter) = (o.read::<f32>(0), o.read::<u32>(1), o.read::<u32>(2));
    let sampled = o.write::<i64>(3);
    for r in 0..counter.len() {
        for k in 0..n {
            let row = &logits[(r * n + k) * v..][..v];
            let code = if temperature > 0.0 {
                let key = &key[r * 4..][..4];
                let random = philox4x32_10([counter[r], k as u32, key[2], 0], [key[0], key[1]]);
                let u = u64::from(random[1]) << 32 | u64::from(random[0]);
                draw(row, temperature, top_k, top_p, u)
            } else {
                argmax(row)
            };
            sampled[r * n + k] = code as i64;
        }
    }
}

fn draw(logits: &[f32], temperature: f32, top_k: usize, top_p: u64, u: u64) -> usize {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_unstable_by_key(|&i| (std::cmp::Reverse(order_key(logits[i])), i));
    if top_k > 0 {
        order.truncate(top_k);
    }
    let greatest = logits[order[0]] / temperature;
    // `as u32` of a NaN is 0.
    let weight = |&i: &usize| (exp(logits[i] / temperature - greatest) * ONE) as u32;
    let weights: Vec<u32> = order.iter().map(weight).collect();
    pick(logits, &order, &weights, top_p, u)
}

/// The code that `u` draws: steps 3 and 4 of [`SAMPLE`], given the codes in order and their weights.
pub(crate) fn pick(logits: &[f32], order: &[usize], weights: &[u32], top_p: u64, u: u64) -> usize {
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    let enough = (total * top_p).div_ceil(ONE as u64);
    let (mut kept, mut kept_total) = (0, 0);
    while kept < weights.len() && (kept == 0 || kept_total < enough) {
        kept_total += u64::from(weights[kept]);
        kept += 1;
    }
    if kept_total == 0 {
        return argmax(logits);
    }
    let mut left = ((u128::from(kept_total) * u128::from(u)) >> 64) as u64;
    for i in 0..kept {
        let weight = u64::from(weights[i]);
        if left < weight {
            return order[i];
        }
        left -= weight;
    }
    order[0]
}
