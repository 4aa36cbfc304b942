//! A position's output is the same bits whether it was prefilled or decoded, and wherever in the
//! cache its blocks lie: through the projections, the norm, the rotation, the cache and attention.

use proptest::prelude::*;
use twinstep_kernels::{CpuForm, DType, Op, Scalar};

use crate::case::{Case, FORMS, Operand};
use crate::generate::Random;

/// One attention layer without its residual.
struct Layer {
    cache: DType,
    heads: usize,
    kv_heads: usize,
    d: usize,
    block_size: usize,
    blocks: usize,
    tiles_per_split: u32,
    q_weight: Operand,
    k_weight: Operand,
    v_weight: Operand,
    norm: Operand,
    cos: Operand,
    sin: Operand,
}

impl Layer {
    fn random(random: &mut Random, hidden: usize, positions: usize) -> Layer {
        let (kv_heads, d) = (random.between(1, 2), random.pick(&[6, 64, 70]));
        let (heads, block_size) = (kv_heads * random.between(1, 2), random.pick(&[1, 7, 16]));
        let weight = random.half();
        Layer {
            cache: random.cache(),
            heads,
            kv_heads,
            d,
            block_size,
            blocks: positions.div_ceil(block_size) + 3,
            tiles_per_split: random.between(1, 3) as u32,
            q_weight: random.floats(weight, &[heads * d, hidden]),
            k_weight: random.floats(weight, &[kv_heads * d, hidden]),
            v_weight: random.floats(weight, &[kv_heads * d, hidden]),
            norm: random.floats(weight, &[d]),
            cos: random.floats(DType::F32, &[positions, d / 2]),
            sin: random.floats(DType::F32, &[positions, d / 2]),
        }
    }

    fn empty_cache(&self) -> [Operand; 2] {
        let shape = [self.blocks, self.block_size, self.kv_heads, self.d];
        [Operand::filled(self.cache, &shape, 0xA5), Operand::filled(self.cache, &shape, 0xA5)]
    }

    /// Blocks of a sequence in a random order.
    fn block_table(&self, random: &mut Random, positions: usize) -> Vec<i32> {
        let mut blocks: Vec<i32> = (0..self.blocks as i32).collect();
        for i in (1..blocks.len()).rev() {
            blocks.swap(i, random.between(0, i));
        }
        blocks.truncate(positions.div_ceil(self.block_size));
        blocks
    }

    fn linear(&self, form: CpuForm, x: &Operand, weight: &Operand, heads: usize) -> Operand {
        let out = Operand::filled(DType::F32, &[x.shape[0], weight.shape[0]], 0);
        let mut out = Case::new(Op::Linear, vec![x.clone(), weight.clone(), out], vec![]).result(form, "out");
        out.shape = vec![x.shape[0], heads, self.d];
        out
    }

    fn norm_rope(&self, form: CpuForm, x: Operand, positions: &Operand) -> Operand {
        let out = Operand::filled(DType::F32, &x.shape, 0);
        let (norm, cos, sin) = (self.norm.clone(), self.cos.clone(), self.sin.clone());
        let operands = vec![x, norm, positions.clone(), cos, sin, out, Operand::no_faults()];
        Case::new(Op::QkNormRope, operands, vec![Scalar::F32(1e-6)]).result(form, "out")
    }

    /// Keys and values of `x` into the cache; returns the queries.
    fn project(
        &self,
        form: CpuForm,
        x: &Operand,
        first: usize,
        block_table: &[i32],
        cache: &mut [Operand; 2],
    ) -> (Operand, Operand) {
        let positions: Vec<i64> = (first..first + x.shape[0]).map(|p| p as i64).collect();
        let slot =
            |p: usize| block_table[p / self.block_size] as usize * self.block_size + p % self.block_size;
        let slots: Vec<i64> = positions.iter().map(|&p| slot(p as usize) as i64).collect();
        let positions = Operand::new(DType::I64, &[x.shape[0]], &positions);
        let q = self.norm_rope(form, self.linear(form, x, &self.q_weight, self.heads), &positions);
        let k = self.norm_rope(form, self.linear(form, x, &self.k_weight, self.kv_heads), &positions);
        let v = self.linear(form, x, &self.v_weight, self.kv_heads);
        let slots = Operand::new(DType::I64, &[x.shape[0]], &slots);
        let operands = vec![k, v, slots, cache[0].clone(), cache[1].clone(), Operand::no_faults()];
        let mut after = Case::new(Op::KvWrite, operands, vec![]).run(form);
        assert_eq!(after[5], Operand::no_faults());
        cache[1] = after.swap_remove(4);
        cache[0] = after.swap_remove(3);
        (q, positions)
    }

    fn scale(&self) -> Scalar {
        Scalar::F32(1.0 / (self.d as f32).sqrt())
    }

    /// Rows of `x` as positions `first..` of a sequence, in one launch each.
    fn prefill(
        &self,
        form: CpuForm,
        x: &Operand,
        first: usize,
        block_table: &[i32],
        cache: &mut [Operand; 2],
    ) -> Operand {
        let (q, positions) = self.project(form, x, first, block_table, cache);
        let out = Operand::filled(DType::F32, &[x.shape[0], self.heads * self.d], 0);
        let table = Operand::new(DType::I32, &[1, block_table.len()], block_table);
        let operands =
            vec![q, cache[0].clone(), cache[1].clone(), table, positions, out, Operand::no_faults()];
        let scalars = vec![self.scale(), Scalar::U32(self.tiles_per_split)];
        Case::new(Op::AttentionPrefill, operands, scalars).result(form, "out")
    }

    /// One row of `x` as position `position`, in a batch with a padding row before it.
    fn decode(
        &self,
        form: CpuForm,
        x: &Operand,
        position: usize,
        block_table: &[i32],
        cache: &mut [Operand; 2],
    ) -> Operand {
        let (mut q, _) = self.project(form, x, position, block_table, cache);
        q.bytes = [vec![0x3f; q.bytes.len()], q.bytes].concat();
        q.shape[0] = 2;
        let table = [block_table, block_table].concat();
        let table = Operand::new(DType::I32, &[2, block_table.len()], &table);
        let seq_lens = Operand::new(DType::I32, &[2], &[0, position as i32 + 1]);
        let capacity = block_table.len() * self.block_size;
        let splits = capacity.div_ceil(64 * self.tiles_per_split as usize);
        let partial = Operand::filled(DType::F32, &[2, self.heads, splits, self.d + 2], 0xA5);
        let operands = vec![
            q,
            cache[0].clone(),
            cache[1].clone(),
            table,
            seq_lens.clone(),
            partial,
            Operand::no_faults(),
        ];
        let scalars = vec![self.scale(), Scalar::U32(self.tiles_per_split)];
        let partial = Case::new(Op::AttentionDecode, operands, scalars).result(form, "partial");
        let out = Operand::filled(DType::F32, &[2, self.heads * self.d], 0xA5);
        let merge = Case::new(
            Op::AttentionMerge,
            vec![partial, seq_lens, out],
            vec![Scalar::U32(self.tiles_per_split)],
        );
        let out = merge.result(form, "out");
        assert!(out.row(0).to_f32().iter().all(|&x| x == 0.0), "the padding row is zeros");
        out.row(1)
    }
}

fn rows(x: &Operand, start: usize, end: usize) -> Operand {
    let rows: Vec<Operand> = (start..end).map(|i| x.row(i)).collect();
    let bytes = rows.iter().flat_map(|row| row.bytes.clone()).collect();
    Operand { dtype: x.dtype, shape: vec![end - start, x.shape[1]], bytes }
}

fn check(seed: u64, positions: usize, cut: usize) {
    let mut random = Random::new(seed);
    let hidden = random.pick(&[5, 64, 130]);
    let layer = Layer::random(&mut random, hidden, positions);
    let x = random.floats(DType::F32, &[positions, hidden]);
    let tables = [layer.block_table(&mut random, positions), layer.block_table(&mut random, positions)];
    let [prefilled, decoded] = FORMS.map(|form| {
        let prefilled = layer.prefill(form, &x, 0, &tables[0], &mut layer.empty_cache());

        let mut cache = layer.empty_cache();
        let first = layer.prefill(form, &rows(&x, 0, cut), 0, &tables[1], &mut cache);
        assert_eq!(first, rows(&prefilled, 0, cut), "{form:?}: prefilled in two parts, blocks elsewhere");
        for position in cut..positions {
            let decoded = layer.decode(form, &x.row(position), position, &tables[1], &mut cache);
            assert_eq!(decoded, prefilled.row(position), "{form:?}: position {position} of {positions}");
        }
        prefilled
    });
    assert_eq!(prefilled, decoded, "naive and vectorised form");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn prefilled_equals_decoded(seed: u64, positions in 2usize..40, cut in 1usize..40) {
        check(seed, positions, cut.min(positions - 1));
    }
}

/// Several tiles and several splits, where a merge in another order shows.
#[test]
fn prefilled_equals_decoded_over_many_tiles() {
    for (seed, positions) in [(1, 64), (2, 65), (3, 193), (4, 450), (5, 450), (6, 450)] {
        check(seed, positions, positions - 3);
    }
}
