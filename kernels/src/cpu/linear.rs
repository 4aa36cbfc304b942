//! Vectorised form of the matrix products.

use super::dot::{Block, LEFT_FILL, RIGHT_FILL, blocks, dots, widen};
use super::extension::Kernel;
use super::lanes::{Lanes, MAX_LANES};
use super::processor::Processor;
use crate::contract::{WIDTH, canonical, f32_to_bf16, f32_to_f16};
use crate::ops::{FloatSlice, FloatSliceMut, Operands};

/// Multiply-adds a nanosecond of one thread, roughly.
const SPEED: usize = 16;

/// `out[t, j] = dot(x[t, :], weight[j, :])`: `linear`, `lm_head`, `audio_head`.
pub(crate) fn product(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (k, m) = (l.shape(0)[1], l.shape(1)[0]);
    let (x, weight, out) = (o.read::<f32>(0), o.read_float(1), o.write_float(2));
    let x = blocks(x, k, LEFT_FILL);
    let factors = Factors { x: &x, weight, k };
    match out {
        FloatSliceMut::F32(out) => factors.multiply(processor, m, out, canonical),
        FloatSliceMut::F16(out) => factors.multiply(processor, m, out, f32_to_f16),
        FloatSliceMut::Bf16(out) => factors.multiply(processor, m, out, f32_to_bf16),
    }
}

/// Rows of `x` in blocks, and rows of `k` weights.
#[derive(Clone, Copy)]
struct Factors<'a> {
    x: &'a [Block],
    weight: FloatSlice<'a>,
    k: usize,
}

impl Factors<'_> {
    fn multiply<E: Send>(
        self,
        processor: Processor,
        m: usize,
        out: &mut [E],
        round: impl Fn(f32) -> E + Sync,
    ) {
        let parts = processor.parts(out.len() * self.k / SPEED);
        // Whole panels, so that no thread does less than a vector of products.
        let width = m.div_ceil(parts).next_multiple_of(PANEL);
        let mut tasks: Vec<(usize, Vec<&mut [E]>)> = (0..m).step_by(width).map(|j| (j, Vec::new())).collect();
        for row in out.chunks_exact_mut(m) {
            for (task, columns) in tasks.iter_mut().zip(row.chunks_mut(width)) {
                task.1.push(columns);
            }
        }
        processor.for_each(tasks, |(first, out)| {
            processor.run(Columns { factors: self, first, out, round: &round });
        });
    }
}

/// Weight rows that are widened together and then meet every row of `x`: a product a lane.
const PANEL: usize = MAX_LANES;

/// Columns of the result from column `first` on: for each row of `x` its part.
struct Columns<'a, E, R> {
    factors: Factors<'a>,
    first: usize,
    out: Vec<&'a mut [E]>,
    round: &'a R,
}

impl<E, R: Fn(f32) -> E> Kernel for Columns<'_, E, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Columns { factors: Factors { x, weight, k }, first, mut out, round } = self;
        let per_row = k.div_ceil(WIDTH);
        let mut panel = vec![[RIGHT_FILL; WIDTH]; PANEL * per_row];
        let columns = out.first().map_or(0, |row| row.len());
        for start in (0..columns).step_by(PANEL) {
            let count = PANEL.min(columns - start);
            for (i, row) in panel.chunks_exact_mut(per_row).take(count).enumerate() {
                widen(lanes, weight, (first + start + i) * k, &mut row.as_flattened_mut()[..k]);
            }
            for (x, out) in x.chunks_exact(per_row).zip(&mut out) {
                for lane in (0..count).step_by(L::COUNT) {
                    // Rows of the panel beyond `count` hold old weights, or none: their sums are dropped.
                    let mut rows = [x; MAX_LANES];
                    for (i, row) in rows.iter_mut().take(L::COUNT).enumerate() {
                        *row = &panel[(lane + i) * per_row..][..per_row];
                    }
                    let mut sums = [0.0; MAX_LANES];
                    lanes.store(dots(lanes, &[x; MAX_LANES], &rows), &mut sums);
                    let part = &mut out[start + lane..start + count.min(lane + L::COUNT)];
                    part.iter_mut().zip(sums).for_each(|(out, sum)| *out = round(sum));
                }
            }
        }
    }
}
