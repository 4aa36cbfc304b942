//! Vectorised forms of RMSNorm and of per-head RMSNorm with rotary position embedding.

use super::dot::{Block, LEFT_FILL, RIGHT_FILL, blocks, dots, widen};
use super::extension::Kernel;
use super::lanes::{Lanes, MAX_LANES};
use super::processor::Processor;
use crate::contract::WIDTH;
use crate::ops::{FloatSlice, Operands, by_value, checked_index, fault};

/// Elements a nanosecond of one thread, roughly.
const SPEED: usize = 2;

/// `rms_norm`.
pub(crate) fn rms_norm(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (d, eps) = (l.shape(0)[1], l.f32(0));
    let (x, weight, out) = (o.read::<f32>(0), o.read_float(1), o.write::<f32>(2));
    // A vector of rows at a time: their sums of squares fill the lanes.
    let parts = processor.parts(x.len() / SPEED);
    let piece = d * (x.len() / d).div_ceil(parts).next_multiple_of(MAX_LANES);
    let tasks = x.chunks(piece).zip(out.chunks_mut(piece));
    processor.for_each(tasks.collect(), |(x, out)| processor.run(RmsNorm { x, weight, eps, out }));
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: FloatSlice<'a>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let d = self.weight.len();
        let mut weight = vec![0.0; d];
        widen(lanes, self.weight, 0, &mut weight);
        let scales = reciprocal_rms(lanes, self.x, d, self.eps);
        for ((x, out), r) in self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)).zip(scales) {
            normalise(lanes, x, r, &weight, out);
        }
    }
}

/// `1 / sqrt(dot(x, x) / d + eps)` of each row of `x`.
#[inline(always)]
fn reciprocal_rms<L: Lanes>(lanes: L, x: &[f32], d: usize, eps: f32) -> Vec<f32> {
    let (left, right) = (blocks(x, d, LEFT_FILL), blocks(x, d, RIGHT_FILL));
    let per_row = d.div_ceil(WIDTH);
    let mut scales = vec![0.0; x.len() / d];
    for (i, scales) in scales.chunks_mut(L::COUNT).enumerate() {
        let first = i * L::COUNT;
        let row = |of: &'_ [Block], lane: usize| (first + lane.min(scales.len() - 1)) * per_row..of.len();
        let mut a = [&left[..per_row]; MAX_LANES];
        let mut b = [&right[..per_row]; MAX_LANES];
        for lane in 0..L::COUNT {
            a[lane] = &left[row(&left, lane)][..per_row];
            b[lane] = &right[row(&right, lane)][..per_row];
        }
        let mut sums = [0.0; MAX_LANES];
        lanes.store(dots(lanes, &a, &b), &mut sums);
        for (scale, sum) in scales.iter_mut().zip(sums) {
            *scale = 1.0 / (sum / d as f32 + eps).sqrt();
        }
    }
    scales
}

/// `out = (x * r) * weight`, NaN canonicalised.
#[inline(always)]
fn normalise<L: Lanes>(lanes: L, x: &[f32], r: f32, weight: &[f32], out: &mut [f32]) {
    let r = lanes.splat(r);
    let inputs = x.chunks(L::COUNT).zip(weight.chunks(L::COUNT));
    for ((x, weight), out) in inputs.zip(out.chunks_mut(L::COUNT)) {
        let y = lanes.mul(lanes.mul(lanes.load_part(x, 0.0), r), lanes.load_part(weight, 0.0));
        lanes.store_part(lanes.canonical(y), out);
    }
}

/// `qk_norm_rope`.
pub(crate) fn qk_norm_rope(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (heads, d, table, eps) = (l.shape(0)[1], l.shape(0)[2], l.shape(3)[0], l.f32(0));
    let (x, weight, positions) = (o.read::<f32>(0), o.read_float(1), o.read::<i64>(2));
    let (cos, sin) = (o.read::<f32>(3), o.read::<f32>(4));
    let (out, faults) = (o.write::<f32>(5), o.write::<u32>(6));
    let fixed = by_value(l.u32(1)).map(|position| vec![position; positions.len()]);
    let positions = fixed.as_deref().unwrap_or(positions);
    if positions.iter().any(|&p| checked_index(p, table).is_none()) {
        faults[0] |= fault::POSITION;
    }
    let parts = processor.parts(x.len() / SPEED);
    let rows = positions.len().div_ceil(parts);
    let piece = rows * heads * d;
    let tasks = x.chunks(piece).zip(positions.chunks(rows)).zip(out.chunks_mut(piece));
    processor.for_each(tasks.collect(), |((x, positions), out)| {
        processor.run(QkNormRope { x, weight, positions, cos, sin, heads, eps, out });
    });
}

struct QkNormRope<'a> {
    x: &'a [f32],
    weight: FloatSlice<'a>,
    positions: &'a [i64],
    cos: &'a [f32],
    sin: &'a [f32],
    heads: usize,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for QkNormRope<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let d = self.weight.len();
        let half = d / 2;
        let table = self.cos.len() / half;
        let mut weight = vec![0.0; d];
        widen(lanes, self.weight, 0, &mut weight);
        let scales = reciprocal_rms(lanes, self.x, d, self.eps);
        let mut y = vec![0.0; d];
        let heads = self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)).zip(scales);
        for (i, ((x, out), r)) in heads.enumerate() {
            let Some(position) = checked_index(self.positions[i / self.heads], table) else {
                out.fill(0.0);
                continue;
            };
            normalise(lanes, x, r, &weight, &mut y);
            let cos = &self.cos[position * half..][..half];
            let sin = &self.sin[position * half..][..half];
            rotate(lanes, &y, cos, sin, out);
        }
    }
}

/// The rotate-half rotation of one head.
#[inline(always)]
fn rotate<L: Lanes>(lanes: L, y: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32]) {
    let (first, second) = y.split_at(cos.len());
    let (out_first, out_second) = out.split_at_mut(cos.len());
    let angles = cos.chunks(L::COUNT).zip(sin.chunks(L::COUNT));
    let inputs = first.chunks(L::COUNT).zip(second.chunks(L::COUNT)).zip(angles);
    let outputs = out_first.chunks_mut(L::COUNT).zip(out_second.chunks_mut(L::COUNT));
    for (((a, b), (cos, sin)), (out_a, out_b)) in inputs.zip(outputs) {
        let (a, b) = (lanes.load_part(a, 0.0), lanes.load_part(b, 0.0));
        let (cos, sin) = (lanes.load_part(cos, 0.0), lanes.load_part(sin, 0.0));
        let rotated_a = lanes.sub(lanes.mul(a, cos), lanes.mul(b, sin));
        let rotated_b = lanes.add(lanes.mul(b, cos), lanes.mul(a, sin));
        lanes.store_part(lanes.canonical(rotated_a), out_a);
        lanes.store_part(lanes.canonical(rotated_b), out_b);
    }
}
