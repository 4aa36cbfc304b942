//! Rounding told from causes: the same sums in another order, within the bound of that order.
//!
//! Two orders of merging the same partials of an attention differ by no more than
//! `2 * (6 t + 2) * 2^-24 * max|v|`: each of at most `t` merges rounds a product, a product, a sum and the
//! exponentials that scale them (within 2 units each), each by a relative `2^-24` of values that no weighted
//! mean of `v` exceeds, in either order; the division at the end adds two.

use std::collections::BTreeSet;

use crate::ReplayError;
use crate::explain::family::{Difference, Family, Side};
use crate::explain::search::Judge;
use crate::hybrid::Watch;
use crate::value::Value;

/// Scalars that decide only in which order the same terms are added.
const ORDER_ONLY: &[(&str, &str)] = &[
    ("attention_decode", "tiles_per_split"),
    ("attention_merge", "tiles_per_split"),
    ("attention_prefill", "tiles_per_split"),
];

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) struct Rounding {
    pub(crate) greatest: f64,
    pub(crate) bound: f64,
    pub(crate) launch: String,
}

/// Whether a set of differences is one of order alone, and the outputs of the first launch that differs are
/// within its bound.
///
/// # Errors
/// [`ReplayError`] where the step cannot be executed.
pub(crate) fn judge(
    judge: &mut Judge<'_, '_, '_>,
    families: &[Family],
    set: &BTreeSet<usize>,
) -> Result<Option<Rounding>, ReplayError> {
    let order_only = |i: &usize| match &families[*i].difference {
        Difference::Scalar { op, name } => ORDER_ONLY.contains(&(op.as_str(), name.as_str())),
        _ => false,
    };
    if !set.iter().all(order_only) {
        return Ok(None);
    }
    // The merges are where the order shows: partials differ in how they are cut.
    let merge = |n: &usize| judge.pair.a.launches[*n].record.op == "attention_merge";
    let pair = judge.pair;
    let Some((i, j)) = pair.alignment.pairs.iter().copied().find(|(i, _)| merge(i)) else { return Ok(None) };
    let mut output = |side: Side, number: usize| {
        let outcome = judge.execute(side, &[], None, Watch::Output(number))?;
        Ok::<_, ReplayError>(floats(&outcome.output))
    };
    let (x, y) = (output(Side::A, i)?, output(Side::B, j)?);
    let greatest = x.iter().zip(&y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).abs()).fold(0.0, f64::max);
    let attention = (0..i).rev().find(|&n| pair.a.launches[n].record.op == "attention_decode");
    let Some(attention) = attention.map(|n| &pair.a.launches[n].record) else { return Ok(None) };
    let Some(cache) = attention.views.iter().find(|v| v.name == "v_cache") else { return Ok(None) };
    // After the step: the position that it writes is part of the sum.
    let (Some(record), Some(bytes)) = (pair.a.trace().buffer(cache.buffer), pair.a.after.get(&cache.buffer))
    else {
        return Ok(None);
    };
    let elements = cache.shape.iter().product::<u64>() * record.dtype.size();
    let end = (cache.offset + elements).min(bytes.len() as u64) as usize;
    let values = Value::all(record.dtype, bytes.get(cache.offset as usize..end).unwrap_or(&[]));
    let v = values.map(|v| v.to_f64().abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let lengths =
        attention.views.iter().find(|v| v.name == "seq_lens").and_then(|v| pair.a.before.get(&v.buffer));
    let longest = lengths.map_or(0, |bytes| {
        let lengths = bytes.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        lengths.max().unwrap_or(0).max(0)
    });
    let tiles = f64::from((longest as u32).div_ceil(64));
    let bound = 2.0 * (6.0 * tiles + 2.0) * f64::powi(2.0, -24) * v;
    let launch = pair.a.launches[i].name().to_owned();
    Ok(Some(Rounding { greatest, bound, launch }))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}
