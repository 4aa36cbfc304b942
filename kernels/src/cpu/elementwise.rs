//! Vectorised forms of elementwise ops.

use super::dot::widen;
use super::extension::Kernel;
use super::lanes::Lanes;
use super::processor::Processor;
use super::transcendental::{exp, sin, tanh};
use crate::ops::Operands;

/// Elements a nanosecond of one thread, roughly.
const SPEED: usize = 2;

/// Length of the pieces that `len` elements are cut into.
fn piece_len(processor: Processor, len: usize) -> usize {
    len.div_ceil(processor.parts(len / SPEED)).next_multiple_of(64)
}

/// `silu_mul`.
pub(crate) fn silu_mul(o: &mut Operands<'_>, processor: Processor) {
    let (gate, up, out) = (o.read::<f32>(0), o.read::<f32>(1), o.write::<f32>(2));
    let piece = piece_len(processor, out.len());
    let tasks = gate.chunks(piece).zip(up.chunks(piece)).zip(out.chunks_mut(piece));
    processor.for_each(tasks.collect(), |((gate, up), out)| processor.run(SiluMul { gate, up, out }));
}

struct SiluMul<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let inputs = self.gate.chunks(L::COUNT).zip(self.up.chunks(L::COUNT));
        for ((gate, up), out) in inputs.zip(self.out.chunks_mut(L::COUNT)) {
            let (gate, up) = (lanes.load_part(gate, 0.0), lanes.load_part(up, 0.0));
            let negated = lanes.xor_sign(gate, lanes.splat(-0.0));
            let denominator = lanes.add(lanes.splat(1.0), exp(lanes, negated));
            let y = lanes.mul(lanes.div(gate, denominator), up);
            lanes.store_part(lanes.canonical(y), out);
        }
    }
}

/// `residual_add`.
pub(crate) fn residual_add(o: &mut Operands<'_>, processor: Processor) {
    let (x, y) = (o.write::<f32>(0), o.read::<f32>(1));
    let piece = piece_len(processor, x.len());
    let tasks = x.chunks_mut(piece).zip(y.chunks(piece));
    processor.for_each(tasks.collect(), |(x, y)| processor.run(ResidualAdd { x, y }));
}

struct ResidualAdd<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for ResidualAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (x, y) in self.x.chunks_mut(L::COUNT).zip(self.y.chunks(L::COUNT)) {
            let sum = lanes.add(lanes.load_part(x, 0.0), lanes.load_part(y, 0.0));
            lanes.store_part(lanes.canonical(sum), x);
        }
    }
}

/// `tanh`.
pub(crate) fn tanh_op(o: &mut Operands<'_>, processor: Processor) {
    let (x, out) = (o.read::<f32>(0), o.write::<f32>(1));
    let piece = piece_len(processor, out.len());
    let tasks = x.chunks(piece).zip(out.chunks_mut(piece));
    processor.for_each(tasks.collect(), |(x, out)| processor.run(Tanh { x, out }));
}

struct Tanh<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Tanh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (x, out) in self.x.chunks(L::COUNT).zip(self.out.chunks_mut(L::COUNT)) {
            lanes.store_part(tanh(lanes, lanes.load_part(x, 0.0)), out);
        }
    }
}

/// `snake`.
pub(crate) fn snake(o: &mut Operands<'_>, processor: Processor) {
    let [channels, time] = [o.launch().shape(0)[0], o.launch().shape(0)[1]];
    let (x, alpha, out) = (o.read::<f32>(0), o.read_float(1), o.write::<f32>(2));
    let mut alphas = vec![0.0; channels];
    processor.run(Alphas { alpha, out: &mut alphas });
    let piece = piece_len(processor, out.len()).min(time);
    let mut tasks = Vec::with_capacity(out.len().div_ceil(piece));
    for ((x, out), alpha) in x.chunks_exact(time).zip(out.chunks_exact_mut(time)).zip(alphas) {
        let pieces = x.chunks(piece).zip(out.chunks_mut(piece));
        tasks.extend(pieces.map(|(x, out)| Snake { x, alpha, out }));
    }
    processor.for_each(tasks, |task| processor.run(task));
}

struct Alphas<'a> {
    alpha: crate::ops::FloatSlice<'a>,
    out: &'a mut [f32],
}

impl Kernel for Alphas<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        widen(lanes, self.alpha, 0, self.out);
    }
}

/// A piece of one channel.
struct Snake<'a> {
    x: &'a [f32],
    alpha: f32,
    out: &'a mut [f32],
}

impl Kernel for Snake<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (alpha, guarded) = (lanes.splat(self.alpha), lanes.splat(self.alpha + 1e-9));
        for (x, out) in self.x.chunks(L::COUNT).zip(self.out.chunks_mut(L::COUNT)) {
            let x = lanes.load_part(x, 0.0);
            let s = sin(lanes, lanes.mul(alpha, x));
            let y = lanes.add(x, lanes.div(lanes.mul(s, s), guarded));
            lanes.store_part(lanes.canonical(y), out);
        }
    }
}
