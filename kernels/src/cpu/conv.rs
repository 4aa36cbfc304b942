//! Vectorised forms of the causal convolutions.
//!
//! Both are one computation. With `phases` = stride, output `time * phases + phase` of channel `c` of a
//! transposed convolution takes two taps, at input times `time - 1` and `time`: a convolution with two
//! taps over `channels * phases` channels. An ordinary one has one phase.
//!
//! Lanes are neighbouring input times. A tile is some channels times one or two vectors, each with an
//! accumulator of its own, so each output's fmas come in the contract's order: tap, then input channel.
//! In front of the input lie enough zeros for the loads of a tile that begins before the first time; what
//! they yield is masked out, for the contract skips taps there (0 times infinity would not be nothing).

use super::dot::widen;
use super::extension::Kernel;
use super::lanes::{Lanes, MAX_LANES};
use super::processor::Processor;
use crate::ops::{FloatSlice, Operands};

/// Multiply-adds a nanosecond of one thread, roughly.
const SPEED: usize = 32;

/// Channels of a tile.
const CHANNELS: usize = 8;

/// The most times of a tile.
const TIMES: usize = 2 * MAX_LANES;

/// Input elements of a task: with the weights of its channels they fit a second-level cache.
const TASK_INPUT: usize = 64 * 1024;

/// `conv1d`.
pub(crate) fn conv1d(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (time, [outputs, inputs, taps]) = (l.shape(0)[1], [0, 1, 2].map(|axis| l.shape(1)[axis]));
    let shape = Shape { inputs, outputs, time, taps, dilation: l.u32(0) as usize, phases: 1 };
    let at = |channel: usize, _: usize, tap: usize| (channel * inputs * taps + tap, taps);
    convolve(o, processor, shape, at);
}

/// `conv_transpose1d`.
pub(crate) fn conv_transpose1d(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (time, [inputs, outputs, taps]) = (l.shape(0)[1], [0, 1, 2].map(|axis| l.shape(1)[axis]));
    let stride = l.u32(0) as usize;
    let shape = Shape { inputs, outputs, time, taps: 2, dilation: 1, phases: stride };
    // The earlier input time meets the later half of the taps.
    let at = |channel: usize, phase: usize, tap: usize| {
        (channel * taps + phase + (1 - tap) * stride, outputs * taps)
    };
    convolve(o, processor, shape, at);
}

/// A convolution over `outputs * phases` channels.
#[derive(Clone, Copy)]
struct Shape {
    inputs: usize,
    outputs: usize,
    time: usize,
    taps: usize,
    dilation: usize,
    phases: usize,
}

impl Shape {
    /// By how many times tap `tap` looks back.
    fn shift(&self, tap: usize) -> usize {
        (self.taps - 1 - tap).saturating_mul(self.dilation)
    }

    /// Weights of the channels of one task, all phases.
    fn group(&self) -> usize {
        self.phases * CHANNELS * self.taps * self.inputs
    }
}

/// Operands 0 to 3 of both ops. `at(channel, phase, tap)` is where in the operand the weight of the first
/// input channel lies, and how far apart those of neighbouring input channels are.
fn convolve(
    o: &mut Operands<'_>,
    processor: Processor,
    shape: Shape,
    at: impl Fn(usize, usize, usize) -> (usize, usize) + Sync,
) {
    let Shape { inputs, outputs, time, taps, phases, .. } = shape;
    let (x, weight, bias, out) = (o.read::<f32>(0), o.read_float(1), o.read_float(2), o.write::<f32>(3));
    let input = Padded::new(x, shape);
    let bias = processor.run(Widen(bias));
    let weights = arrange(processor, &processor.run(Widen(weight)), shape, at);
    let parts = processor.parts(outputs * phases * time / SPEED * taps * inputs);
    let length = match parts {
        1 => time,
        _ => (TASK_INPUT / inputs).min(time / 2).next_multiple_of(TIMES).max(TIMES),
    };
    let mut tasks = Vec::new();
    for (group, rows) in out.chunks_mut(CHANNELS * time * phases).enumerate() {
        let mut pieces: Vec<Vec<&mut [f32]>> = (0..time).step_by(length).map(|_| Vec::new()).collect();
        for row in rows.chunks_exact_mut(time * phases) {
            pieces.iter_mut().zip(row.chunks_mut(length * phases)).for_each(|(all, piece)| all.push(piece));
        }
        for (i, out) in pieces.into_iter().enumerate() {
            let weights = &weights[group * shape.group()..][..shape.group()];
            let bias = &bias[group * CHANNELS..];
            tasks.push(Convolve { shape, input: &input, weights, bias, start: i * length, out });
        }
    }
    processor.for_each(tasks, |task| processor.run(task));
}

/// The weights in the order of use: task, tile (`CHANNELS` of channel and phase), tap, input channel.
fn arrange(
    processor: Processor,
    weights: &[f32],
    shape: Shape,
    at: impl Fn(usize, usize, usize) -> (usize, usize) + Sync,
) -> Vec<f32> {
    let Shape { inputs, outputs, taps, phases, .. } = shape;
    let tile_len = CHANNELS * taps * inputs;
    let mut arranged = vec![0.0; outputs.div_ceil(CHANNELS) * shape.group()];
    let parts = processor.parts(arranged.len());
    let piece = (arranged.len() / tile_len).div_ceil(parts) * tile_len;
    let tasks: Vec<_> = arranged.chunks_mut(piece).enumerate().collect();
    processor.for_each(tasks, |(i, tiles)| {
        for (tile, tiles) in tiles.chunks_exact_mut(tile_len).enumerate() {
            let first = (i * piece / tile_len + tile) * CHANNELS;
            for (tap, to) in tiles.chunks_exact_mut(CHANNELS * inputs).enumerate() {
                let (to, _) = to.as_chunks_mut::<CHANNELS>();
                for lane in 0..CHANNELS.min((outputs * phases).saturating_sub(first)) {
                    let (start, step) = at((first + lane) / phases, (first + lane) % phases, tap);
                    for (to, &weight) in to.iter_mut().zip(weights[start..].iter().step_by(step)) {
                        to[lane] = weight;
                    }
                }
            }
        }
    });
    arranged
}

/// Widens all elements.
struct Widen<'a>(FloatSlice<'a>);

impl Kernel for Widen<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Vec<f32> {
        let mut wide = vec![0.0; self.0.len()];
        widen(lanes, self.0, 0, &mut wide);
        wide
    }
}

/// The input with zeros before and after each channel.
struct Padded {
    x: Vec<f32>,
    /// Zeros before.
    front: usize,
    /// Elements of a channel, padding included.
    width: usize,
}

impl Padded {
    fn new(x: &[f32], shape: Shape) -> Padded {
        // A vector that lies before the first time altogether is skipped, not loaded.
        let front = shape.shift(0).min(TIMES);
        // An odd number of cache lines: a power of two would put all channels in the same few cache sets.
        let width = (front + shape.time.next_multiple_of(TIMES)).next_multiple_of(TIMES) + TIMES / 2;
        let mut padded = vec![0.0; shape.inputs * width];
        for (channel, row) in x.chunks_exact(shape.time).zip(padded.chunks_exact_mut(width)) {
            row[front..][..shape.time].copy_from_slice(channel);
        }
        Padded { x: padded, front, width }
    }
}

/// Up to `CHANNELS` output channels from input time `start` on, `phases` outputs an input time.
struct Convolve<'a> {
    shape: Shape,
    input: &'a Padded,
    weights: &'a [f32],
    bias: &'a [f32],
    start: usize,
    out: Vec<&'a mut [f32]>,
}

impl Kernel for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        // Two vectors a tile where 32 registers hold its 16 accumulators, and where there is a second.
        if L::COUNT != 8 && self.shape.time > L::COUNT {
            self.tiles::<L, 2>(lanes);
        } else {
            self.tiles::<L, 1>(lanes);
        }
    }
}

impl Convolve<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const VECTORS: usize>(mut self, lanes: L) {
        let phases = self.shape.phases;
        let length = self.out.first().map_or(0, |row| row.len() / phases);
        let used = self.out.len() * phases;
        for (tile, weights) in
            self.weights.chunks_exact(CHANNELS * self.shape.taps * self.shape.inputs).enumerate()
        {
            let outputs = tile * CHANNELS..used.min((tile + 1) * CHANNELS);
            for offset in (0..length).step_by(VECTORS * L::COUNT) {
                let sums = self.tile::<L, VECTORS>(lanes, weights, self.start + offset);
                for (output, sums) in outputs.clone().zip(sums) {
                    let bias = lanes.splat(self.bias[output / phases]);
                    let row = &mut self.out[output / phases][offset * phases..];
                    for (v, sum) in sums.into_iter().enumerate() {
                        let skipped = (v * L::COUNT * phases).min(row.len());
                        let y = lanes.canonical(lanes.add(sum, bias));
                        interleave(lanes, y, &mut row[skipped..], phases, output % phases);
                    }
                }
            }
        }
    }

    /// Sums of `CHANNELS` outputs at input times `time ..`, without bias.
    #[inline(always)]
    fn tile<L: Lanes, const VECTORS: usize>(
        &self,
        lanes: L,
        weights: &[f32],
        time: usize,
    ) -> [[L::F32; VECTORS]; CHANNELS] {
        let Padded { x, front, width } = self.input;
        let mut sums = [[lanes.splat(0.0); VECTORS]; CHANNELS];
        for (tap, weights) in weights.chunks_exact(CHANNELS * self.shape.inputs).enumerate() {
            let shift = self.shape.shift(tap);
            if shift >= time + VECTORS * L::COUNT {
                continue;
            }
            let (weights, _) = weights.as_chunks::<CHANNELS>();
            let rows = x[front + time - shift..].chunks(*width);
            if shift <= time {
                for (row, weights) in rows.zip(weights) {
                    let mut x = [lanes.splat(0.0); VECTORS];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = lanes.load(&row[v * L::COUNT..]);
                    }
                    for (sums, &weight) in sums.iter_mut().zip(weights) {
                        let weight = lanes.splat(weight);
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = lanes.fma(x, weight, *sum);
                        }
                    }
                }
            } else {
                for v in 0..VECTORS {
                    // Times at half past, so that "greater" means "not before": exact in f32, being small.
                    let lane: [f32; MAX_LANES] = std::array::from_fn(|i| (v * L::COUNT + i) as f32 + 0.5);
                    let inside = lanes.gt(lanes.load(&lane), lanes.splat((shift - time) as f32));
                    for (row, weights) in rows.clone().zip(weights) {
                        let x = lanes.load(&row[v * L::COUNT..]);
                        for (sums, &weight) in sums.iter_mut().zip(weights) {
                            let sum = lanes.fma(x, lanes.splat(weight), sums[v]);
                            sums[v] = lanes.select(inside, sum, sums[v]);
                        }
                    }
                }
            }
        }
        sums
    }
}

/// Lane `i` to `out[i * phases + phase]`, as far as `out` reaches.
#[inline(always)]
fn interleave<L: Lanes>(lanes: L, y: L::F32, out: &mut [f32], phases: usize, phase: usize) {
    let count = L::COUNT.min(out.len() / phases);
    if phases == 1 {
        return lanes.store_part(y, &mut out[..count]);
    }
    let mut values = [0.0; MAX_LANES];
    lanes.store(y, &mut values);
    for (out, value) in out.chunks_exact_mut(phases).zip(values).take(count) {
        out[phase] = value;
    }
}
