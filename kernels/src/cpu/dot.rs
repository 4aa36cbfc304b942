//! Dot products in the order of [`crate::contract::dot`], as many at a time as there are lanes.
//!
//! The 64 accumulators of a segment get one fma each for every 512 elements, so most of the work is
//! adding them up. That is done for `COUNT` products at once: their accumulators are 64 vectors, eight
//! [`Lanes::sum_eights`] leave 8 vectors, and one more leaves one vector with one sum a lane.

use std::borrow::Cow;

use super::lanes::{Lanes, MAX_LANES};
use crate::contract::{SEGMENTS, WIDTH};
use crate::ops::FloatSlice;

/// One element for each accumulator of a segment.
pub(super) type Block = [f32; WIDTH];

/// Elements that fill the last block of the left factor. Times [`RIGHT_FILL`] they are -0, and adding -0
/// changes nothing, neither +0 nor -0: the same as leaving the element out.
pub(super) const LEFT_FILL: f32 = 0.0;
/// Elements that fill the last block of the right factor, see [`LEFT_FILL`].
pub(super) const RIGHT_FILL: f32 = -0.0;

/// Rows of `k` elements as rows of `ceil(k / 64)` blocks, the last filled up with `fill`.
pub(super) fn blocks(rows: &[f32], k: usize, fill: f32) -> Cow<'_, [Block]> {
    if let (whole, []) = rows.as_chunks::<WIDTH>()
        && k.is_multiple_of(WIDTH)
    {
        return Cow::Borrowed(whole);
    }
    let per_row = k.div_ceil(WIDTH);
    let mut blocks = vec![[fill; WIDTH]; rows.len() / k * per_row];
    for (row, blocks) in rows.chunks_exact(k).zip(blocks.chunks_exact_mut(per_row)) {
        blocks.as_flattened_mut()[..k].copy_from_slice(row);
    }
    Cow::Owned(blocks)
}

/// Widens elements `start .. start + out.len()` of `x`.
#[inline(always)]
pub(super) fn widen<L: Lanes>(lanes: L, x: FloatSlice<'_>, start: usize, out: &mut [f32]) {
    let whole = out.len() / L::COUNT * L::COUNT;
    match x {
        FloatSlice::F16(x) => {
            for (x, out) in x[start..].chunks_exact(L::COUNT).zip(out.chunks_exact_mut(L::COUNT)) {
                lanes.store(lanes.widen_f16(x), out);
            }
        }
        FloatSlice::Bf16(x) => {
            for (x, out) in x[start..].chunks_exact(L::COUNT).zip(out.chunks_exact_mut(L::COUNT)) {
                lanes.store(lanes.widen_bf16(x), out);
            }
        }
        FloatSlice::F32(x) => out[..whole].copy_from_slice(&x[start..][..whole]),
    }
    for i in whole..out.len() {
        out[i] = x.get(start + i);
    }
}

/// Lane `i` is the dot product of `a[i]` and `b[i]`; only the first `COUNT` are looked at, and all have
/// as many blocks as `a[0]`.
#[inline(always)]
pub(super) fn dots<L: Lanes>(lanes: L, a: &[&[Block]; MAX_LANES], b: &[&[Block]; MAX_LANES]) -> L::F32 {
    let blocks = a[0].len();
    // segment_len(k) / 64.
    let step = blocks.div_ceil(SEGMENTS);
    let mut total = segment(lanes, a, b, 0, step.min(blocks));
    let mut start = step;
    while start < blocks {
        total = lanes.add(total, segment(lanes, a, b, start, (start + step).min(blocks)));
        start += step;
    }
    total
}

/// The part of [`dots`] that comes from blocks `start..end`.
#[inline(always)]
fn segment<L: Lanes>(
    lanes: L,
    a: &[&[Block]; MAX_LANES],
    b: &[&[Block]; MAX_LANES],
    start: usize,
    end: usize,
) -> L::F32 {
    let mut sums = [lanes.splat(0.0); 8];
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum = group(lanes, a, b, start, end, i);
    }
    lanes.sum_eights(sums)
}

/// Sums of eights of accumulators: vectors `8 group ..` of the 64 that hold those of all products.
#[inline(always)]
fn group<L: Lanes>(
    lanes: L,
    a: &[&[Block]; MAX_LANES],
    b: &[&[Block]; MAX_LANES],
    start: usize,
    end: usize,
    group: usize,
) -> L::F32 {
    // Vectors that hold the accumulators of one product.
    let per_product = WIDTH / L::COUNT;
    let mut accumulators = [lanes.splat(0.0); 8];
    for block in start..end {
        for i in 0..8 {
            let (product, part) = ((group * 8 + i) / per_product, (group * 8 + i) % per_product);
            let x = lanes.load(&a[product][block][part * L::COUNT..]);
            let y = lanes.load(&b[product][block][part * L::COUNT..]);
            accumulators[i] = lanes.fma(x, y, accumulators[i]);
        }
    }
    lanes.sum_eights(accumulators)
}
