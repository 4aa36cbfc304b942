//! Vectorised form of sampling: sorts whole keys, and exponentials in vectors.

use super::extension::Kernel;
use super::lanes::Lanes;
use super::processor::Processor;
use super::transcendental::exp;
use crate::contract::order_key;
use crate::ops::Operands;
use crate::ops::sample::{ONE, pick, sample_rows};

/// `sample`.
pub(crate) fn sample(o: &mut Operands<'_>, processor: Processor) {
    sample_rows(o, |logits, temperature, top_k, top_p, u| {
        let order = descending(logits, top_k);
        let mut terms: Vec<f32> = order.iter().map(|&i| logits[i]).collect();
        processor.run(Terms { terms: &mut terms, temperature });
        // `as u32` of a NaN is 0.
        let weights: Vec<u32> = terms.into_iter().map(|term| term as u32).collect();
        pick(logits, &order, &weights, top_p, u)
    });
}

/// The first `top_k` codes (0: all) by falling logit and rising index.
fn descending(logits: &[f32], top_k: usize) -> Vec<usize> {
    // One integer holds both: the complement of the key above the index.
    let whole = |(i, &x): (usize, &f32)| u64::from(!order_key(x)) << 32 | i as u64;
    let mut keys: Vec<u64> = logits.iter().enumerate().map(whole).collect();
    if top_k > 0 && top_k < keys.len() {
        keys.select_nth_unstable(top_k);
        keys.truncate(top_k);
    }
    keys.sort_unstable();
    keys.into_iter().map(|key| (key & u64::from(u32::MAX)) as usize).collect()
}

/// Logits, the greatest first, to `exp(logit / temperature - greatest) * 2^24`, not yet truncated.
struct Terms<'a> {
    terms: &'a mut [f32],
    temperature: f32,
}

impl Kernel for Terms<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Some(&first) = self.terms.first() else { return };
        let greatest = lanes.splat(first / self.temperature);
        for terms in self.terms.chunks_mut(L::COUNT) {
            let scaled = lanes.div(lanes.load_part(terms, 0.0), lanes.splat(self.temperature));
            let term = lanes.mul(exp(lanes, lanes.sub(scaled, greatest)), lanes.splat(ONE));
            lanes.store_part(term, terms);
        }
    }
}
