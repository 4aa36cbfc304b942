//! Attention over the paged KV cache.
//!
//! Positions are taken in tiles of 64 from position 0. Within a tile: scores by [`dot`] times the
//! scale, the greatest score by [`order_key`], exponentials of the differences, their sum and the
//! weighted sum of values in the order of [`tree_sum`]. The tiles of a split are merged left to
//! right, then the splits; those beyond the sequence do not take part. Prefill groups tiles in the
//! same splits as a decode step does, as merging is not associative: so a position's output is the
//! same whether it was computed by the one or the other.
//!
//! Query head `j` reads KV head `j / (heads / kv_heads)`.

use super::{
    CACHE, Definition, F32, FAULTS, FloatSlice, I32, I64, Operands, ReadView, axes, bound_except, by_value,
    checked_index, fault, gather, in_place_of_operand, merge, read, read_ints, want, write,
};
use crate::contract::{WIDTH, canonical, dot, exp, order_key, tree_sum};
use crate::{Access, Error, Launch, Param, Range, ScalarKind, ScalarParam, Schema};

/// Positions of a tile.
pub(crate) const TILE: usize = WIDTH;

const SCALE: ScalarParam = ScalarParam::new("scale", ScalarKind::F32);
const TILES_PER_SPLIT: ScalarParam = ScalarParam::new("tiles_per_split", ScalarKind::U32);
const Q: Param = read("q", F32);
const K_CACHE: Param = gather("k_cache", CACHE);
const V_CACHE: Param = gather("v_cache", CACHE);
const BLOCK_TABLE: Param = gather("block_table", I32);

/// Softmax-weighted sum so far: values `o`, greatest score `m`, sum of exponentials `l`.
#[derive(Clone)]
pub(crate) struct Partial {
    pub(crate) o: Vec<f32>,
    pub(crate) m: f32,
    pub(crate) l: f32,
}

impl Partial {
    /// Of no position at all.
    pub(crate) fn empty(d: usize) -> Self {
        Partial { o: vec![0.0; d], m: f32::NEG_INFINITY, l: 0.0 }
    }

    /// Adds the positions of a partial to the right.
    pub(crate) fn merge(&mut self, right: &Partial) {
        let m = if order_key(right.m) > order_key(self.m) { right.m } else { self.m };
        let (a, b) = (exp(self.m - m), exp(right.m - m));
        for (o, r) in self.o.iter_mut().zip(&right.o) {
            *o = *o * a + *r * b;
        }
        self.l = self.l * a + right.l * b;
        self.m = m;
    }
}

/// The paged cache of one layer, as one sequence sees it.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'a> {
    pub(crate) k: FloatSlice<'a>,
    pub(crate) v: FloatSlice<'a>,
    pub(crate) block_table: &'a [i32],
    pub(crate) blocks: usize,
    pub(crate) block_size: usize,
    pub(crate) kv_heads: usize,
    pub(crate) d: usize,
}

impl Pages<'_> {
    /// Positions that the block table can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.block_table.len().saturating_mul(self.block_size)
    }

    /// Element index of the first value of a position and head; `None` where the block does not exist.
    pub(crate) fn start(&self, position: usize, kv_head: usize) -> Option<usize> {
        let block = checked_index(self.block_table[position / self.block_size].into(), self.blocks)?;
        let slot = block * self.block_size + position % self.block_size;
        Some((slot * self.kv_heads + kv_head) * self.d)
    }
}

/// Attention of `q` over positions `start..end`, at most one tile.
fn tile(
    q: &[f32],
    pages: &Pages<'_>,
    kv_head: usize,
    start: usize,
    end: usize,
    scale: f32,
    faults: &mut u32,
) -> Partial {
    let d = pages.d;
    let mut starts = [None; TILE];
    let mut scores = [0.0f32; TILE];
    let mut m = f32::from_bits(crate::contract::CANONICAL_F32_NAN);
    for (j, position) in (start..end).enumerate() {
        starts[j] = pages.start(position, kv_head);
        if starts[j].is_none() {
            *faults |= fault::BLOCK;
        }
        let key = |i: usize| starts[j].map_or(0.0, |s| pages.k.get(s + i));
        scores[j] = dot(d, |i| q[i], key) * scale;
        if order_key(scores[j]) > order_key(m) {
            // Adding +0 makes -0 and +0, which compare equal, the same bits.
            m = scores[j] + 0.0;
        }
    }
    let count = end - start;
    let mut weights = [0.0f32; WIDTH];
    for j in 0..count {
        weights[j] = exp(scores[j] - m);
    }
    let mut o = vec![0.0; d];
    for i in 0..d {
        let mut products = [0.0f32; WIDTH];
        for j in 0..count {
            let value = starts[j].map_or(0.0, |s| pages.v.get(s + i));
            products[j] = weights[j].mul_add(value, 0.0);
        }
        o[i] = tree_sum(&products);
    }
    Partial { o, m, l: tree_sum(&weights) }
}

/// Attention of `q` over positions `start..end`, tiles merged left to right.
fn tiles(
    q: &[f32],
    pages: &Pages<'_>,
    kv_head: usize,
    start: usize,
    end: usize,
    scale: f32,
    faults: &mut u32,
) -> Partial {
    let mut sum: Option<Partial> = None;
    for s in (start..end).step_by(TILE) {
        let next = tile(q, pages, kv_head, s, end.min(s + TILE), scale, faults);
        match &mut sum {
            Some(sum) => sum.merge(&next),
            None => sum = Some(next),
        }
    }
    sum.unwrap_or_else(|| Partial::empty(pages.d))
}

/// A sequence length as a number of positions that the block table can hold.
pub(crate) fn clamp_seq_len(seq_len: i64, capacity: usize, faults: &mut u32) -> usize {
    let clamped = seq_len.clamp(0, i64::try_from(capacity).unwrap_or(i64::MAX));
    if clamped != seq_len {
        *faults |= fault::SEQ_LEN;
    }
    clamped as usize
}

/// One position a row, over its first `seq_lens[r]` positions. Split `s` holds tiles
/// `s * tiles_per_split ..` merged; `partial[r, h, s]` is `head_dim` values, then the greatest score,
/// then the sum of exponentials; a split without positions is zeros, -inf, 0. Positions beyond the
/// last split are dropped (a workspace that is too small gives a wrong result, as in a real engine).
/// A scalar `seq_len` other than [`super::FROM_OPERAND`] takes the place of `seq_lens` in every row.
pub(crate) const ATTENTION_DECODE: Definition = Definition {
    schema: Schema {
        name: "attention_decode",
        version: 2,
        since: 1,
        params: &[Q, K_CACHE, V_CACHE, BLOCK_TABLE, read("seq_lens", I32), write("partial", F32), FAULTS],
        scalars: &[SCALE, TILES_PER_SPLIT, in_place_of_operand("seq_len")],
    },
    check: |l| {
        let [r, heads, d] = axes(l, 0)?;
        check_cache(l, heads, d)?;
        let [_, _, splits, _] = axes(l, 5)?;
        want(l, 3, &[Some(r), None])?;
        want(l, 4, &[Some(r)])?;
        want(l, 5, &[Some(r), Some(heads), Some(splits), Some(d + 2)])?;
        if l.u32(1) == 0 {
            return Err("`tiles_per_split` is 0".to_owned());
        }
        want(l, 6, &[Some(1)])
    },
    touched: Some(attention_decode_touched),
    naive: attention_decode,
    vector: Some(crate::cpu::attention::attention_decode),
};

fn check_cache(l: &Launch, heads: usize, d: usize) -> Result<(), String> {
    let [blocks, size, kv_heads, _] = axes(l, 1)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(format!("{heads} heads over {kv_heads} KV heads"));
    }
    if l.view(1).dtype != l.view(2).dtype {
        return Err(format!("`k_cache` is {}, `v_cache` {}", l.view(1).dtype, l.view(2).dtype));
    }
    want(l, 1, &[Some(blocks), Some(size), Some(kv_heads), Some(d)])?;
    want(l, 2, &[Some(blocks), Some(size), Some(kv_heads), Some(d)])
}

/// The pages of one row; operands 1 to 3 of both attention ops.
pub(crate) fn pages<'a>(
    l: &Launch,
    k: FloatSlice<'a>,
    v: FloatSlice<'a>,
    block_table: &'a [i32],
    row: usize,
) -> Pages<'a> {
    let (cache, width) = (l.shape(1), l.shape(3)[1]);
    Pages {
        k,
        v,
        block_table: &block_table[row * width..][..width],
        blocks: cache[0],
        block_size: cache[1],
        kv_heads: cache[2],
        d: cache[3],
    }
}

fn attention_decode(o: &mut Operands<'_>) {
    let l = o.launch();
    let (rows, heads, d, splits) = (l.shape(0)[0], l.shape(0)[1], l.shape(0)[2], l.shape(5)[2]);
    let (scale, split_len) = (l.f32(0), l.u32(1) as usize * TILE);
    let group = heads / l.shape(1)[2];
    let (q, k, v) = (o.read::<f32>(0), o.read_float(1), o.read_float(2));
    let (block_table, seq_lens) = (o.read::<i32>(3), o.read::<i32>(4));
    let (partial, faults) = (o.write::<f32>(5), o.write::<u32>(6));
    let fixed = by_value(l.u32(2));
    for r in 0..rows {
        let pages = pages(l, k, v, block_table, r);
        let seq_len = fixed.unwrap_or(seq_lens[r].into());
        let seq_len = clamp_seq_len(seq_len, pages.capacity(), &mut faults[0]);
        for head in 0..heads {
            let row = (r * heads + head) * d;
            for s in 0..splits {
                let start = s.saturating_mul(split_len).min(seq_len);
                let end = start.saturating_add(split_len).min(seq_len);
                let sum = tiles(&q[row..][..d], &pages, head / group, start, end, scale, &mut faults[0]);
                let out = &mut partial[((r * heads + head) * splits + s) * (d + 2)..][..d + 2];
                for i in 0..d {
                    out[i] = canonical(sum.o[i]);
                }
                (out[d], out[d + 1]) = (canonical(sum.m), canonical(sum.l));
            }
        }
    }
}

/// Slots of the first `seq_len` positions of a sequence, as ranges of both caches, and the part of the
/// block table that says so.
fn cache_ranges(l: &Launch, block_table: &[i64], row: usize, seq_len: usize) -> Vec<Range> {
    let (cache, width) = (l.shape(1), l.shape(3)[1]);
    let (blocks, size, per_slot) = (cache[0], cache[1], cache[2] * cache[3]);
    let entries = seq_len.div_ceil(size);
    let mut ranges = vec![l.view(3).element_range(row * width, entries, Access::Read)];
    for entry in 0..entries {
        let Some(block) = checked_index(block_table[row * width + entry], blocks) else { continue };
        let count = size.min(seq_len - entry * size);
        for operand in [1, 2] {
            let view = l.view(operand);
            ranges.push(view.element_range(block * size * per_slot, count * per_slot, Access::Read));
        }
    }
    ranges
}

fn attention_decode_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let block_table = read_ints(l, 3, read)?;
    let (mut ranges, seq_lens) = match by_value(l.u32(2)) {
        Some(seq_len) => (bound_except(l, &[1, 2, 3, 4]), vec![seq_len; l.shape(0)[0]]),
        None => (bound_except(l, &[1, 2, 3]), read_ints(l, 4, read)?),
    };
    let capacity = l.shape(3)[1].saturating_mul(l.shape(1)[1]);
    let covered = l.shape(5)[2].saturating_mul(l.u32(1) as usize * TILE);
    for (row, &seq_len) in seq_lens.iter().enumerate() {
        let seq_len = clamp_seq_len(seq_len, capacity, &mut 0).min(covered);
        ranges.extend(cache_ranges(l, &block_table, row, seq_len));
    }
    Ok(merge(ranges))
}

/// The splits of each row and head that hold positions, merged left to right, divided by the sum of
/// exponentials. A row without positions gives zeros.
pub(crate) const ATTENTION_MERGE: Definition = Definition {
    schema: Schema {
        name: "attention_merge",
        version: 1,
        since: 1,
        params: &[gather("partial", F32), read("seq_lens", I32), write("out", F32)],
        scalars: &[TILES_PER_SPLIT],
    },
    check: |l| {
        let ([r, heads, _, width], [_, out]) = (axes(l, 0)?, axes(l, 2)?);
        if width < 3 || out != heads * (width - 2) {
            return Err(format!("`out` is {out} wide for {heads} heads of partials {width} wide"));
        }
        if l.u32(0) == 0 {
            return Err("`tiles_per_split` is 0".to_owned());
        }
        want(l, 1, &[Some(r)])?;
        want(l, 2, &[Some(r), None])
    },
    touched: Some(attention_merge_touched),
    naive: attention_merge,
    vector: None,
};

/// Number of splits that hold positions.
fn used_splits(seq_len: i64, splits: usize, split_len: usize) -> usize {
    usize::try_from(seq_len).unwrap_or(0).div_ceil(split_len).min(splits)
}

fn attention_merge(o: &mut Operands<'_>) {
    let l = o.launch();
    let (heads, splits, d) = (l.shape(0)[1], l.shape(0)[2], l.shape(0)[3] - 2);
    let split_len = l.u32(0) as usize * TILE;
    let (partial, seq_lens, out) = (o.read::<f32>(0), o.read::<i32>(1), o.write::<f32>(2));
    for (r, &seq_len) in seq_lens.iter().enumerate() {
        let used = used_splits(seq_len.into(), splits, split_len);
        for head in r * heads..(r + 1) * heads {
            let split = |s: usize| {
                let p = &partial[(head * splits + s) * (d + 2)..][..d + 2];
                Partial { o: p[..d].to_vec(), m: p[d], l: p[d + 1] }
            };
            let sum = (1..used).fold((used > 0).then(|| split(0)), |sum, s| {
                sum.map(|mut sum| {
                    sum.merge(&split(s));
                    sum
                })
            });
            store(sum.as_ref(), &mut out[head * d..][..d]);
        }
    }
}

/// `o / l`, or zeros where there was no position.
pub(crate) fn store(sum: Option<&Partial>, out: &mut [f32]) {
    match sum {
        Some(sum) => out.iter_mut().zip(&sum.o).for_each(|(out, o)| *out = canonical(o / sum.l)),
        None => out.fill(0.0),
    }
}

fn attention_merge_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let (heads, splits, width) = (l.shape(0)[1], l.shape(0)[2], l.shape(0)[3]);
    let split_len = l.u32(0) as usize * TILE;
    let mut ranges = bound_except(l, &[0]);
    for (r, seq_len) in read_ints(l, 1, read)?.into_iter().enumerate() {
        let used = used_splits(seq_len, splits, split_len);
        for head in r * heads..(r + 1) * heads {
            ranges.push(l.view(0).element_range(head * splits * width, used * width, Access::Read));
        }
    }
    Ok(merge(ranges))
}

/// Causal attention of rows that belong to one sequence: row `t` over positions `0 ..= positions[t]`
/// (none for -1), in splits as `attention_decode` and `attention_merge` take them, as many as it needs.
pub(crate) const ATTENTION_PREFILL: Definition = Definition {
    schema: Schema {
        name: "attention_prefill",
        version: 1,
        since: 1,
        params: &[Q, K_CACHE, V_CACHE, BLOCK_TABLE, read("positions", I64), write("out", F32), FAULTS],
        scalars: &[SCALE, TILES_PER_SPLIT],
    },
    check: |l| {
        let [t, heads, d] = axes(l, 0)?;
        check_cache(l, heads, d)?;
        want(l, 3, &[Some(1), None])?;
        want(l, 4, &[Some(t)])?;
        want(l, 5, &[Some(t), Some(heads * d)])?;
        if l.u32(1) == 0 {
            return Err("`tiles_per_split` is 0".to_owned());
        }
        want(l, 6, &[Some(1)])
    },
    touched: Some(attention_prefill_touched),
    naive: attention_prefill,
    vector: Some(crate::cpu::attention::attention_prefill),
};

fn attention_prefill(o: &mut Operands<'_>) {
    let l = o.launch();
    let (heads, d) = (l.shape(0)[1], l.shape(0)[2]);
    let (scale, split_len) = (l.f32(0), l.u32(1) as usize * TILE);
    let group = heads / l.shape(1)[2];
    let (q, k, v) = (o.read::<f32>(0), o.read_float(1), o.read_float(2));
    let (block_table, positions) = (o.read::<i32>(3), o.read::<i64>(4));
    let (out, faults) = (o.write::<f32>(5), o.write::<u32>(6));
    let pages = pages(l, k, v, block_table, 0);
    for (t, &position) in positions.iter().enumerate() {
        let seq_len = clamp_seq_len(position.saturating_add(1), pages.capacity(), &mut faults[0]);
        for head in 0..heads {
            let row = (t * heads + head) * d;
            let mut sum: Option<Partial> = None;
            for start in (0..seq_len).step_by(split_len) {
                let end = start.saturating_add(split_len).min(seq_len);
                let split = tiles(&q[row..][..d], &pages, head / group, start, end, scale, &mut faults[0]);
                match &mut sum {
                    Some(sum) => sum.merge(&split),
                    None => sum = Some(split),
                }
            }
            store(sum.as_ref(), &mut out[row..][..d]);
        }
    }
}

fn attention_prefill_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let (block_table, positions) = (read_ints(l, 3, read)?, read_ints(l, 4, read)?);
    let capacity = l.shape(3)[1].saturating_mul(l.shape(1)[1]);
    let longest = positions.iter().map(|&p| clamp_seq_len(p.saturating_add(1), capacity, &mut 0)).max();
    let mut ranges = bound_except(l, &[1, 2, 3]);
    ranges.extend(cache_ranges(l, &block_table, 0, longest.unwrap_or(0)));
    Ok(merge(ranges))
}
