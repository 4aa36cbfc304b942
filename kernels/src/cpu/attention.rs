//! Vectorised forms of attention over the paged cache.
//!
//! A tile of keys and values is gathered and widened once, then met by every query head of its KV head
//! and, in prefill, by every row. Scores are dot products, a position a lane; the weighted sum of values
//! has a dimension a lane, so that its tree over positions is made of vertical additions.

use std::sync::atomic::{AtomicU32, Ordering};

use super::dot::{Block, LEFT_FILL, RIGHT_FILL, blocks, dots, widen};
use super::extension::Kernel;
use super::lanes::{Lanes, MAX_LANES};
use super::processor::Processor;
use super::transcendental::exp;
use crate::contract::{CANONICAL_F32_NAN, WIDTH, order_key, tree_sum};
use crate::ops::attention::{Pages, Partial, TILE, clamp_seq_len, pages, store};
use crate::ops::{Operands, by_value, fault};

/// Multiply-adds a nanosecond of one thread, roughly.
const SPEED: usize = 16;

/// Rows of a prefill that share a gathered tile.
const PREFILL_ROWS: usize = 64;

/// `attention_decode`.
pub(crate) fn attention_decode(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (heads, d, kv_heads) = (l.shape(0)[1], l.shape(0)[2], l.shape(1)[2]);
    let (splits, split_len) = (l.shape(5)[2], l.u32(1) as usize * TILE);
    let (q, k, v) = (o.read::<f32>(0), o.read_float(1), o.read_float(2));
    let (block_table, seq_lens) = (o.read::<i32>(3), o.read::<i32>(4));
    let (partial, faults) = (o.write::<f32>(5), o.write::<u32>(6));
    let q = blocks(q, d, LEFT_FILL);
    let group = heads / kv_heads;
    let (mut positions, fixed) = (0, by_value(l.u32(2)));
    let mut tasks = Vec::with_capacity(seq_lens.len() * kv_heads);
    let queries = q.chunks_exact(group * d.div_ceil(WIDTH));
    for (i, (q, out)) in queries.zip(partial.chunks_exact_mut(group * splits * (d + 2))).enumerate() {
        let (row, kv_head) = (i / kv_heads, i % kv_heads);
        let pages = pages(l, k, v, block_table, row);
        let seq_len = fixed.unwrap_or(seq_lens[row].into());
        let seq_len = clamp_seq_len(seq_len, pages.capacity(), &mut faults[0]);
        positions += seq_len;
        let scale = l.f32(0);
        tasks.push(Decode { q, pages, kv_head, seq_len, scale, splits, split_len, out });
    }
    let work = |task: Decode<'_>| processor.run(task);
    faults[0] |= run_all(processor, positions * 2 * group * d / SPEED, tasks, work);
}

/// Runs tasks, on all cores where that pays, and unites the fault bits that they return.
fn run_all<T: Send>(
    processor: Processor,
    nanoseconds: usize,
    tasks: Vec<T>,
    work: impl Fn(T) -> u32 + Sync,
) -> u32 {
    if processor.parts(nanoseconds) == 1 {
        return tasks.into_iter().map(work).fold(0, |all, faults| all | faults);
    }
    let faults = AtomicU32::new(0);
    processor.for_each(tasks, |task| {
        faults.fetch_or(work(task), Ordering::Relaxed);
    });
    faults.into_inner()
}

/// The query heads of one row and KV head.
struct Decode<'a> {
    q: &'a [Block],
    pages: Pages<'a>,
    kv_head: usize,
    seq_len: usize,
    scale: f32,
    splits: usize,
    split_len: usize,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> u32 {
        let d = self.pages.d;
        let mut tile = Tile::new(d);
        let mut next = Partial::empty(d);
        let mut sums: Vec<Sum> = self.out.chunks_exact(self.splits * (d + 2)).map(|_| Sum::new(d)).collect();
        let mut faults = 0;
        for s in 0..self.splits {
            let start = s.saturating_mul(self.split_len).min(self.seq_len);
            let end = start.saturating_add(self.split_len).min(self.seq_len);
            for start in (start..end).step_by(TILE) {
                let count = TILE.min(end - start);
                faults |= tile.gather(lanes, &self.pages, self.kv_head, start, count);
                for (q, sum) in self.q.chunks_exact(d.div_ceil(WIDTH)).zip(&mut sums) {
                    attend(lanes, q, &tile, count, self.scale, &mut next);
                    sum.merge(&next);
                }
            }
            for (sum, out) in sums.iter_mut().zip(self.out.chunks_exact_mut(self.splits * (d + 2))) {
                write_partial(lanes, sum, &mut out[s * (d + 2)..][..d + 2]);
                sum.clear();
            }
        }
        faults
    }
}

/// Values, greatest score and sum of exponentials of a split.
#[inline(always)]
fn write_partial<L: Lanes>(lanes: L, sum: &Sum, out: &mut [f32]) {
    let d = out.len() - 2;
    match sum.get() {
        Some(sum) => {
            for (out, o) in out[..d].chunks_mut(L::COUNT).zip(sum.o.chunks(L::COUNT)) {
                lanes.store_part(lanes.canonical(lanes.load_part(o, 0.0)), out);
            }
            (out[d], out[d + 1]) = (crate::contract::canonical(sum.m), crate::contract::canonical(sum.l));
        }
        None => {
            out[..d].fill(0.0);
            (out[d], out[d + 1]) = (f32::NEG_INFINITY, 0.0);
        }
    }
}

/// Partials merged left to right; the first one is taken as it is.
struct Sum {
    partial: Partial,
    empty: bool,
}

impl Sum {
    fn new(d: usize) -> Sum {
        Sum { partial: Partial::empty(d), empty: true }
    }

    fn get(&self) -> Option<&Partial> {
        (!self.empty).then_some(&self.partial)
    }

    fn clear(&mut self) {
        self.empty = true;
    }

    fn merge(&mut self, right: &Partial) {
        if self.empty {
            self.partial.clone_from(right);
            self.empty = false;
        } else {
            self.partial.merge(right);
        }
    }
}

/// Up to [`TILE`] positions of one KV head, widened.
struct Tile {
    /// A key a position, each of `ceil(d / 64)` blocks.
    keys: Vec<Block>,
    /// A value a position, each `width` elements.
    values: Vec<f32>,
    /// `d` rounded up to whole vectors.
    width: usize,
    d: usize,
}

impl Tile {
    fn new(d: usize) -> Tile {
        let width = d.next_multiple_of(MAX_LANES);
        let keys = vec![[RIGHT_FILL; WIDTH]; TILE * d.div_ceil(WIDTH)];
        Tile { keys, values: vec![0.0; TILE * width], width, d }
    }

    /// Takes positions `start .. start + count`, zeros where the block does not exist; the rest of the
    /// tile stays as it was. Returns the fault bits.
    #[inline(always)]
    fn gather<L: Lanes>(
        &mut self,
        lanes: L,
        pages: &Pages<'_>,
        kv_head: usize,
        start: usize,
        count: usize,
    ) -> u32 {
        let mut faults = 0;
        let keys = self.keys.chunks_exact_mut(self.d.div_ceil(WIDTH));
        for (j, (key, value)) in keys.zip(self.values.chunks_exact_mut(self.width)).take(count).enumerate() {
            let (key, value) = (&mut key.as_flattened_mut()[..self.d], &mut value[..self.d]);
            match pages.start(start + j, kv_head) {
                Some(at) => {
                    widen(lanes, pages.k, at, key);
                    widen(lanes, pages.v, at, value);
                }
                None => {
                    faults |= fault::BLOCK;
                    key.fill(0.0);
                    value.fill(0.0);
                }
            }
        }
        faults
    }
}

/// Attention of one query over the first `count` positions of a tile, at least one.
#[inline(always)]
fn attend<L: Lanes>(lanes: L, q: &[Block], tile: &Tile, count: usize, scale: f32, out: &mut Partial) {
    let per_key = q.len();
    let mut scores = [0.0f32; TILE];
    for j in (0..count).step_by(L::COUNT) {
        let mut keys = [q; MAX_LANES];
        for (i, key) in keys.iter_mut().take(L::COUNT).enumerate() {
            *key = &tile.keys[(j + i) * per_key..][..per_key];
        }
        let sums = dots(lanes, &[q; MAX_LANES], &keys);
        lanes.store(lanes.mul(sums, lanes.splat(scale)), &mut scores[j..]);
    }
    let m = greatest(lanes, &scores[..count]);
    let mut weights = [0.0f32; TILE];
    for j in (0..count).step_by(L::COUNT) {
        let difference = lanes.sub(lanes.load(&scores[j..]), lanes.splat(m));
        lanes.store(exp(lanes, difference), &mut weights[j..]);
    }
    // The last vector went beyond `count`.
    weights[count..].fill(0.0);
    for i in (0..tile.width).step_by(L::COUNT) {
        let o = weighted_sum(lanes, &weights[..count], &tile.values[i..], tile.width);
        let end = tile.d.min(i + L::COUNT);
        if i < end {
            lanes.store_part(o, &mut out.o[i..end]);
        }
    }
    out.m = m;
    out.l = tree_sum(&weights);
}

/// The greatest by [`order_key`], -0 as +0.
#[inline(always)]
fn greatest<L: Lanes>(lanes: L, scores: &[f32]) -> f32 {
    let nan = f32::from_bits(CANONICAL_F32_NAN);
    let mut m = lanes.splat(nan);
    for scores in scores.chunks(L::COUNT) {
        let scores = lanes.load_part(scores, nan);
        let greater = lanes.select(lanes.gt(scores, m), scores, m);
        m = lanes.select(lanes.is_nan(m), scores, greater);
    }
    let mut candidates = [nan; MAX_LANES];
    lanes.store(m, &mut candidates);
    let greatest = candidates.into_iter().fold(nan, |a, b| if order_key(b) > order_key(a) { b } else { a });
    // Adding +0 makes -0 and +0, which compare equal, the same bits.
    greatest + 0.0
}

/// The sum over positions of weight times value, for a vector of dimensions, in the order of [`tree_sum`].
/// Values of neighbouring positions are `width` elements apart.
#[inline(always)]
fn weighted_sum<L: Lanes>(lanes: L, weights: &[f32], values: &[f32], width: usize) -> L::F32 {
    let zero = lanes.splat(0.0);
    let mut sums = [zero; 8];
    for ((group, weights), sum) in weights.chunks(8).enumerate().zip(&mut sums) {
        let mut products = [zero; 8];
        for (j, (product, &weight)) in products.iter_mut().zip(weights).enumerate() {
            let value = lanes.load(&values[(group * 8 + j) * width..]);
            *product = lanes.fma(lanes.splat(weight), value, zero);
        }
        *sum = tree_of_eight(lanes, products);
    }
    tree_of_eight(lanes, sums)
}

/// `((0+1)+(2+3))+((4+5)+(6+7))`, lane by lane.
#[inline(always)]
fn tree_of_eight<L: Lanes>(lanes: L, v: [L::F32; 8]) -> L::F32 {
    let low = lanes.add(lanes.add(v[0], v[1]), lanes.add(v[2], v[3]));
    let high = lanes.add(lanes.add(v[4], v[5]), lanes.add(v[6], v[7]));
    lanes.add(low, high)
}

/// `attention_prefill`.
pub(crate) fn attention_prefill(o: &mut Operands<'_>, processor: Processor) {
    let l = o.launch();
    let (heads, d, kv_heads) = (l.shape(0)[1], l.shape(0)[2], l.shape(1)[2]);
    let (q, k, v) = (o.read::<f32>(0), o.read_float(1), o.read_float(2));
    let (block_table, positions) = (o.read::<i32>(3), o.read::<i64>(4));
    let (out, faults) = (o.write::<f32>(5), o.write::<u32>(6));
    let q = blocks(q, d, LEFT_FILL);
    let pages = pages(l, k, v, block_table, 0);
    let group = heads / kv_heads;
    let (scale, split_len) = (l.f32(0), l.u32(1) as usize * TILE);
    let task = |kv_head| Prefill { pages, kv_head, scale, split_len, rows: Vec::new() };
    let mut tasks: Vec<Prefill<'_>> = Vec::new();
    let mut total = 0;
    let rows = q.chunks_exact(heads * d.div_ceil(WIDTH)).zip(out.chunks_exact_mut(heads * d));
    for (t, ((q, out), &position)) in rows.zip(positions).enumerate() {
        if t % PREFILL_ROWS == 0 {
            tasks.extend((0..kv_heads).map(task));
        }
        let seq_len = clamp_seq_len(position.saturating_add(1), pages.capacity(), &mut faults[0]);
        total += seq_len;
        let last = tasks.len() - kv_heads;
        let parts = q.chunks_exact(group * d.div_ceil(WIDTH)).zip(out.chunks_exact_mut(group * d));
        for ((q, out), task) in parts.zip(&mut tasks[last..]) {
            task.rows.push(PrefillRow { q, seq_len, out });
        }
    }
    faults[0] |= run_all(processor, total * 2 * heads * d / SPEED, tasks, |task| processor.run(task));
}

/// Some rows, the query heads of one KV head.
struct Prefill<'a> {
    pages: Pages<'a>,
    kv_head: usize,
    scale: f32,
    split_len: usize,
    rows: Vec<PrefillRow<'a>>,
}

struct PrefillRow<'a> {
    q: &'a [Block],
    seq_len: usize,
    out: &'a mut [f32],
}

impl Kernel for Prefill<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) -> u32 {
        let d = self.pages.d;
        let per_head = d.div_ceil(WIDTH);
        let group = self.rows.first().map_or(0, |row| row.q.len() / per_head);
        let longest = self.rows.iter().map(|row| row.seq_len).max().unwrap_or(0);
        let (mut tile, mut next) = (Tile::new(d), Partial::empty(d));
        let new_sums = || (0..self.rows.len() * group).map(|_| Sum::new(d)).collect::<Vec<_>>();
        let (mut splits, mut totals) = (new_sums(), new_sums());
        let mut faults = 0;
        for split_start in (0..longest).step_by(self.split_len) {
            let split_end = split_start.saturating_add(self.split_len).min(longest);
            for start in (split_start..split_end).step_by(TILE) {
                let end = split_end.min(start + TILE);
                faults |= tile.gather(lanes, &self.pages, self.kv_head, start, end - start);
                for (row, splits) in self.rows.iter().zip(splits.chunks_exact_mut(group)) {
                    if row.seq_len <= start {
                        continue;
                    }
                    let count = row.seq_len.min(end) - start;
                    for (q, split) in row.q.chunks_exact(per_head).zip(splits) {
                        attend(lanes, q, &tile, count, self.scale, &mut next);
                        split.merge(&next);
                    }
                }
            }
            for (split, total) in splits.iter_mut().zip(&mut totals) {
                if let Some(split) = split.get() {
                    total.merge(split);
                }
                split.clear();
            }
        }
        for (row, totals) in self.rows.iter_mut().zip(totals.chunks_exact(group)) {
            for (out, total) in row.out.chunks_exact_mut(d).zip(totals) {
                store(total.get(), out);
            }
        }
        faults
    }
}
