//! Random valid launches of every op: small dimensions that no block size divides, index operands
//! that are sometimes out of range.

use twinstep_kernels::contract::philox4x32_10;
use twinstep_kernels::{DType, Op, Scalar};

use crate::case::{Case, Operand};

/// Random numbers that are the same on every machine.
pub(crate) struct Random {
    key: [u32; 2],
    counter: u32,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { key: [seed as u32, (seed >> 32) as u32], counter: 0 }
    }

    pub(crate) fn bits(&mut self) -> u32 {
        self.counter += 1;
        philox4x32_10([self.counter, 0, 0, 0x7e57], self.key)[0]
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.bits() as usize % (high - low + 1)
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.bits().is_multiple_of(n)
    }

    /// One of `all`.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0, all.len() - 1)]
    }

    /// Uniform in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    pub(crate) fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }

    /// Floats in -1..1 of the given type.
    pub(crate) fn floats(&mut self, dtype: DType, shape: &[usize]) -> Operand {
        let values = self.units(shape.iter().product());
        Operand::floats(dtype, shape, &values)
    }

    /// Memory that the op has to write, holding what was there before.
    pub(crate) fn stale(&mut self, dtype: DType, shape: &[usize]) -> Operand {
        let bytes = self.bytes(shape.iter().product::<usize>() * dtype.size());
        Operand { dtype, shape: shape.to_vec(), bytes }
    }

    /// An index below `len`, or one time in eight something that is not.
    pub(crate) fn index(&mut self, len: usize) -> i64 {
        if self.one_in(8) {
            self.pick(&[-1, -2, len as i64, len as i64 + 5, i32::MAX.into(), i32::MIN.into()])
        } else {
            self.between(0, len - 1) as i64
        }
    }

    fn indices_i64(&mut self, shape: &[usize], len: usize) -> Operand {
        let values: Vec<i64> = (0..shape.iter().product()).map(|_| self.index(len)).collect();
        Operand::new(DType::I64, shape, &values)
    }

    fn indices_i32(&mut self, shape: &[usize], len: usize) -> Operand {
        let values: Vec<i32> = (0..shape.iter().product()).map(|_| self.index(len) as i32).collect();
        Operand::new(DType::I32, shape, &values)
    }

    /// Bytes that are false, true, or another value that reads as true.
    fn bools(&mut self, count: usize) -> Operand {
        let values: Vec<u8> = (0..count).map(|_| self.pick(&[0, 0, 1, 1, 2, 255])).collect();
        Operand::new(DType::Bool, &[count], &values)
    }

    /// A scalar in place of an index operand: half the time none.
    fn in_place_of_operand(&mut self, len: usize) -> Scalar {
        Scalar::U32(if self.one_in(2) { u32::MAX } else { self.index(len).max(0) as u32 })
    }

    fn faults(&mut self) -> Operand {
        Operand::new(DType::U32, &[1], &[self.bits() & 0x8000_0000])
    }

    pub(crate) fn half(&mut self) -> DType {
        self.pick(&[DType::F16, DType::Bf16])
    }

    pub(crate) fn cache(&mut self) -> DType {
        self.pick(&[DType::F16, DType::Bf16, DType::F32])
    }
}

/// Dimensions of a paged cache.
struct CacheShape {
    dtype: DType,
    blocks: usize,
    block_size: usize,
    kv_heads: usize,
    d: usize,
    /// Blocks a row of the block table.
    width: usize,
}

impl CacheShape {
    fn random(random: &mut Random) -> CacheShape {
        CacheShape {
            dtype: random.cache(),
            blocks: random.between(2, 7),
            block_size: random.pick(&[1, 5, 16, 33]),
            kv_heads: random.between(1, 3),
            d: random.pick(&[1, 6, 16, 64, 70]),
            width: random.between(1, 6),
        }
    }

    fn shape(&self) -> [usize; 4] {
        [self.blocks, self.block_size, self.kv_heads, self.d]
    }

    fn capacity(&self) -> usize {
        self.width * self.block_size
    }

    /// A sequence length that fits, or one time in eight one that does not.
    fn seq_len(&self, random: &mut Random) -> i64 {
        if random.one_in(8) {
            random.pick(&[-1, self.capacity() as i64 + 1, i32::MAX.into(), i32::MIN.into()])
        } else {
            random.between(0, self.capacity()) as i64
        }
    }
}

/// A random valid launch of `op`.
pub(crate) fn case(op: Op, random: &mut Random) -> Case {
    let r = random;
    let rows = r.between(1, 5);
    let (operands, scalars) = match op {
        Op::EmbedText => {
            let (vocab, d) = (r.between(1, 20), r.between(1, 37));
            let table = r.half();
            let operands = vec![
                r.indices_i32(&[rows], vocab),
                r.floats(table, &[vocab, d]),
                r.stale(DType::F32, &[rows, d]),
                r.faults(),
            ];
            (operands, vec![])
        }
        Op::EmbedCodes => {
            let (n, vocab, d) = (r.between(1, 5), r.between(1, 9), r.between(1, 37));
            let table = r.half();
            let operands = vec![
                r.indices_i64(&[rows, n], vocab),
                r.bools(rows),
                r.floats(table, &[n * vocab, d]),
                r.floats(DType::F32, &[rows, d]),
                r.stale(DType::F32, &[rows, d]),
                r.faults(),
            ];
            (operands, vec![])
        }
        Op::RmsNorm => {
            let (d, weight) = (r.pick(&[1, 63, 64, 65, 256, 700]), r.half());
            let operands = vec![
                r.floats(DType::F32, &[rows, d]),
                r.floats(weight, &[d]),
                r.stale(DType::F32, &[rows, d]),
            ];
            (operands, vec![Scalar::F32(1e-6)])
        }
        Op::QkNormRope => {
            let (heads, half, table, weight) =
                (r.between(1, 4), r.pick(&[1, 5, 32, 35]), r.between(1, 9), r.half());
            let operands = vec![
                r.floats(DType::F32, &[rows, heads, 2 * half]),
                r.floats(weight, &[2 * half]),
                r.indices_i64(&[rows], table),
                r.floats(DType::F32, &[table, half]),
                r.floats(DType::F32, &[table, half]),
                r.stale(DType::F32, &[rows, heads, 2 * half]),
                r.faults(),
            ];
            (operands, vec![Scalar::F32(1e-6), r.in_place_of_operand(table)])
        }
        Op::Linear | Op::LmHead | Op::AudioHead => {
            let (k, weight) = (r.pick(&[1, 7, 64, 65, 511, 513, 640]), r.half());
            let (n, v) = (r.between(1, 3), r.between(1, 13));
            let out = match op {
                Op::Linear => r.stale(DType::F32, &[rows, n * v]),
                Op::LmHead => r.stale(weight, &[rows, n * v]),
                _ => r.stale(DType::F32, &[rows, n, v]),
            };
            let operands = vec![r.floats(DType::F32, &[rows, k]), r.floats(weight, &[n * v, k]), out];
            (operands, vec![])
        }
        Op::KvWrite => {
            let cache = CacheShape::random(r);
            let slots = cache.blocks * cache.block_size;
            let row = [rows, cache.kv_heads, cache.d];
            let operands = vec![
                r.floats(DType::F32, &row),
                r.floats(DType::F32, &row),
                r.indices_i64(&[rows], slots),
                r.stale(cache.dtype, &cache.shape()),
                r.stale(cache.dtype, &cache.shape()),
                r.faults(),
            ];
            (operands, vec![])
        }
        Op::AttentionDecode => {
            let (cache, group) = (CacheShape::random(r), r.between(1, 3));
            let heads = group * cache.kv_heads;
            let seq_lens: Vec<i32> = (0..rows).map(|_| cache.seq_len(r) as i32).collect();
            let splits = r.between(1, 4);
            let operands = vec![
                r.floats(DType::F32, &[rows, heads, cache.d]),
                r.floats(cache.dtype, &cache.shape()),
                r.floats(cache.dtype, &cache.shape()),
                r.indices_i32(&[rows, cache.width], cache.blocks),
                Operand::new(DType::I32, &[rows], &seq_lens),
                r.stale(DType::F32, &[rows, heads, splits, cache.d + 2]),
                r.faults(),
            ];
            let tiles_per_split = Scalar::U32(r.between(1, 2) as u32);
            (operands, vec![Scalar::F32(0.25), tiles_per_split, r.in_place_of_operand(cache.capacity())])
        }
        Op::AttentionMerge => {
            let (heads, splits, d) = (r.between(1, 3), r.between(1, 4), r.pick(&[1, 6, 64, 70]));
            let seq_lens: Vec<i32> = (0..rows).map(|_| r.between(0, 66 * splits) as i32 - 1).collect();
            let operands = vec![
                r.floats(DType::F32, &[rows, heads, splits, d + 2]),
                Operand::new(DType::I32, &[rows], &seq_lens),
                r.stale(DType::F32, &[rows, heads * d]),
            ];
            (operands, vec![Scalar::U32(r.between(1, 2) as u32)])
        }
        Op::AttentionPrefill => {
            let (cache, group) = (CacheShape::random(r), r.between(1, 3));
            let heads = group * cache.kv_heads;
            let positions: Vec<i64> = (0..rows).map(|_| cache.seq_len(r) - 1).collect();
            let operands = vec![
                r.floats(DType::F32, &[rows, heads, cache.d]),
                r.floats(cache.dtype, &cache.shape()),
                r.floats(cache.dtype, &cache.shape()),
                r.indices_i32(&[1, cache.width], cache.blocks),
                Operand::new(DType::I64, &[rows], &positions),
                r.stale(DType::F32, &[rows, heads * cache.d]),
                r.faults(),
            ];
            (operands, vec![Scalar::F32(0.25), Scalar::U32(r.between(1, 2) as u32)])
        }
        Op::SiluMul => {
            let shape = [rows, r.between(1, 70)];
            let operands =
                vec![r.floats(DType::F32, &shape), r.floats(DType::F32, &shape), r.stale(DType::F32, &shape)];
            (operands, vec![])
        }
        Op::ResidualAdd => {
            let shape = [rows, r.between(1, 70)];
            (vec![r.floats(DType::F32, &shape), r.floats(DType::F32, &shape)], vec![])
        }
        Op::SeedState => {
            let operands = vec![
                r.stale(DType::I64, &[rows, 4]),
                r.bools(rows),
                r.stale(DType::I64, &[rows]),
                r.stale(DType::I64, &[rows]),
                r.bools(rows),
                r.stale(DType::U32, &[rows]),
            ];
            (operands, vec![Scalar::U32(r.bits())])
        }
        Op::DelayMask => {
            let (n, v) = (r.between(1, 5), r.between(3, 12));
            let operands = vec![
                r.floats(DType::F32, &[rows, n, v]),
                delay_count(r, rows, n),
                eoc_countdown(r, rows, n),
                r.stale(DType::F32, &[rows, n, v]),
            ];
            (operands, delay_scalars(r, v))
        }
        Op::Sample => {
            let (n, v) = (r.between(1, 4), r.pick(&[1, 2, 33, 514]));
            let logits: Vec<f32> = (0..rows * n * v)
                .map(|_| {
                    if r.one_in(16) {
                        r.pick(&[f32::NEG_INFINITY, f32::NAN, 0.0, -0.0])
                    } else {
                        4.0 * r.unit()
                    }
                })
                .collect();
            let operands = vec![
                Operand::floats(DType::F32, &[rows, n, v], &logits),
                r.stale(DType::U32, &[rows, 4]),
                r.stale(DType::U32, &[rows]),
                r.stale(DType::I64, &[rows, n]),
            ];
            let temperature = r.pick(&[0.0, 0.5, 1.0, 1.7]);
            let top_k = r.pick(&[0, 1, 5, 600]);
            let top_p = r.pick(&[0.0, 0.3, 0.9, 1.0]);
            (operands, vec![Scalar::F32(temperature), Scalar::U32(top_k), Scalar::F32(top_p)])
        }
        Op::UpdateState => {
            let (n, v) = (r.between(1, 5), r.between(3, 12));
            let sampled: Vec<i64> = (0..rows * n)
                .map(|_| if r.one_in(3) { v as i64 - 1 } else { r.between(0, v - 1) as i64 })
                .collect();
            let operands = vec![
                Operand::new(DType::I64, &[rows, n], &sampled),
                r.bools(rows),
                delay_count(r, rows, n),
                eoc_countdown(r, rows, n),
                r.bools(rows),
                r.stale(DType::U32, &[rows]),
                r.stale(DType::I64, &[rows, n]),
                r.stale(DType::I64, &[rows, n]),
            ];
            let mut scalars = delay_scalars(r, v);
            scalars.push(Scalar::U32(r.between(0, n) as u32));
            scalars.push(Scalar::U32(r.between(0, n) as u32));
            (operands, scalars)
        }
        Op::RvqDecode => {
            let (n, size, e) = (r.between(1, 4), r.between(1, 9), r.between(1, 13));
            let tables = r.half();
            let operands = vec![
                r.indices_i64(&[rows, n], size),
                r.floats(tables, &[n, size, e]),
                r.stale(DType::F32, &[e, rows]),
                r.faults(),
            ];
            (operands, vec![])
        }
        Op::Conv1d => {
            let (ci, co, taps, t) = (r.between(1, 9), r.between(1, 9), r.between(1, 7), r.between(1, 40));
            let (weight, bias) = (r.half(), r.half());
            let operands = vec![
                r.floats(DType::F32, &[ci, t]),
                r.floats(weight, &[co, ci, taps]),
                r.floats(bias, &[co]),
                r.stale(DType::F32, &[co, t]),
            ];
            (operands, vec![Scalar::U32(r.pick(&[0, 1, 3, 9, u32::MAX]))])
        }
        Op::ConvTranspose1d => {
            let (ci, co, stride, t) = (r.between(1, 9), r.between(1, 9), r.between(1, 8), r.between(1, 20));
            let (weight, bias) = (r.half(), r.half());
            let operands = vec![
                r.floats(DType::F32, &[ci, t]),
                r.floats(weight, &[ci, co, 2 * stride]),
                r.floats(bias, &[co]),
                r.stale(DType::F32, &[co, t * stride]),
            ];
            (operands, vec![Scalar::U32(stride as u32)])
        }
        Op::Snake => {
            let (t, alpha) = (r.between(1, 70), r.half());
            let operands = vec![
                r.floats(DType::F32, &[rows, t]),
                r.floats(alpha, &[rows]),
                r.stale(DType::F32, &[rows, t]),
            ];
            (operands, vec![])
        }
        Op::Tanh => {
            let shape = [rows, r.between(1, 70)];
            (vec![r.floats(DType::F32, &shape), r.stale(DType::F32, &shape)], vec![])
        }
        Op::ChunkHash => {
            let (bytes, chunk) = (r.between(1, 200), r.pick(&[4, 16, 64, 256]));
            let operands =
                vec![r.stale(DType::U8, &[bytes]), r.stale(DType::U64, &[bytes.div_ceil(chunk), 2])];
            (operands, vec![Scalar::U32(chunk as u32)])
        }
    };
    Case::new(op, operands, scalars)
}

fn delay_count(r: &mut Random, rows: usize, n: usize) -> Operand {
    let value =
        |r: &mut Random| if r.one_in(8) { r.pick(&[i64::MIN, i64::MAX]) } else { r.between(0, n) as i64 };
    let values: Vec<i64> = (0..rows).map(|_| value(r)).collect();
    Operand::new(DType::I64, &[rows], &values)
}

fn eoc_countdown(r: &mut Random, rows: usize, n: usize) -> Operand {
    let value = |r: &mut Random| {
        if r.one_in(8) { r.pick(&[i64::MIN, i64::MAX]) } else { r.between(0, n + 1) as i64 - 1 }
    };
    let values: Vec<i64> = (0..rows).map(|_| value(r)).collect();
    Operand::new(DType::I64, &[rows], &values)
}

/// `boc`, `eoc`, `eoc_from`, `flags`.
fn delay_scalars(r: &mut Random, v: usize) -> Vec<Scalar> {
    let flags = r.between(0, 15) as u32;
    vec![
        Scalar::U32(v as u32 - 2),
        Scalar::U32(v as u32 - 1),
        Scalar::U32(r.between(0, 5) as u32),
        Scalar::U32(flags),
    ]
}
