//! Random launches of every op: shapes that no block divides, values and indices that no correct
//! program would give.

use super::kernels::{DType, FRESH_BYTE, Launch, Op, Scalar, View};
use super::random::{Floats, Random};

/// Sets of contents of each operand; a captured launch has to be right for all.
pub(crate) const CONTENTS: usize = 2;

/// Bytes before and after each operand, which no kernel may write.
const MARGIN: usize = 48;

/// An operand in the middle of a buffer of bytes.
pub(crate) struct Operand {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Bytes from the start of the buffer.
    pub(crate) offset: usize,
    /// What the whole buffer holds, for each set.
    pub(crate) contents: [Vec<u8>; CONTENTS],
}

/// A launch with its operands' contents.
pub(crate) struct Case {
    pub(crate) op: Op,
    pub(crate) operands: Vec<Operand>,
    pub(crate) scalars: Vec<Scalar>,
}

impl Case {
    /// The launch, with operands in buffers 0, 1, ... as `view_of` makes them.
    pub(crate) fn launch(&self, mut view_of: impl FnMut(usize, &Operand) -> View) -> Launch {
        let views = self.operands.iter().enumerate().map(|(i, operand)| view_of(i, operand)).collect();
        match Launch::new(self.op, views, self.scalars.clone()) {
            Ok(launch) => launch,
            Err(error) => panic!("a case that does not fit its op: {error}"),
        }
    }
}

/// What an operand holds.
#[derive(Clone, Copy)]
enum Fill {
    Floats(Floats),
    /// Integers from the range, now and then one of no sense.
    Index(i64, i64),
    /// Any bytes.
    Bytes,
    /// Bytes of 0 and 1, now and then another.
    Bool,
    /// What fresh memory holds.
    Fresh,
}

struct Builder<'r> {
    random: &'r mut Random,
    floats: Floats,
    operands: Vec<Operand>,
}

impl Builder<'_> {
    fn fill(&mut self, fill: Fill, dtype: DType, count: usize) -> Vec<u8> {
        const SENSELESS: [i64; 6] = [-1, -2, i64::MIN, i64::MAX, 1 << 40, i32::MAX as i64];
        let random = &mut *self.random;
        let mut bytes = Vec::new();
        match fill {
            Fill::Floats(floats) => return floats.bytes(dtype, count, random),
            Fill::Index(low, high) => {
                let wild = random.one_in(2);
                for _ in 0..count {
                    let senseless = wild && random.one_in(12);
                    let index = if senseless { random.pick(&SENSELESS) } else { random.between(low, high) };
                    match dtype.size() {
                        8 => bytes.extend(index.to_le_bytes()),
                        _ => bytes.extend((index as i32).to_le_bytes()),
                    }
                }
            }
            Fill::Bytes => bytes.extend((0..count * dtype.size()).map(|_| random.next() as u8)),
            Fill::Bool => bytes.extend((0..count).map(|_| random.pick(&[0, 1, 1, 1, 0xa5]))),
            Fill::Fresh => bytes.resize(count * dtype.size(), FRESH_BYTE),
        }
        bytes
    }

    fn operand(&mut self, dtype: DType, shape: &[usize], fill: Fill) -> &mut Self {
        // At a multiple of 16 bytes as kernels like it, or at any element.
        let odd = if self.random.one_in(3) { self.random.below(8) * dtype.size() } else { 0 };
        let (offset, count) = (MARGIN + odd, shape.iter().product());
        let contents = [(); CONTENTS].map(|()| {
            let mut buffer = vec![FRESH_BYTE; offset];
            buffer.extend(self.fill(fill, dtype, count));
            buffer.resize(buffer.len() + MARGIN, FRESH_BYTE);
            buffer
        });
        self.operands.push(Operand { dtype, shape: shape.to_vec(), offset, contents });
        self
    }

    fn floats(&mut self, dtype: DType, shape: &[usize]) -> &mut Self {
        self.operand(dtype, shape, Fill::Floats(self.floats))
    }

    fn f32(&mut self, shape: &[usize]) -> &mut Self {
        self.floats(DType::F32, shape)
    }

    fn out(&mut self, shape: &[usize]) -> &mut Self {
        self.operand(DType::F32, shape, Fill::Fresh)
    }

    fn i64(&mut self, shape: &[usize], low: i64, high: i64) -> &mut Self {
        self.operand(DType::I64, shape, Fill::Index(low, high))
    }

    fn faults(&mut self) -> &mut Self {
        self.operand(DType::U32, &[1], Fill::Index(0, 1))
    }

    /// A scalar in place of an index operand, now and then just beyond `most`; half the time none.
    fn in_place_of_operand(&mut self, most: usize) -> Scalar {
        Scalar::U32(if self.random.one_in(2) { u32::MAX } else { self.random.below(most + 2) as u32 })
    }

    /// From 1 to `most`.
    fn size(&mut self, most: usize) -> usize {
        1 + self.random.below(most)
    }
}

/// A random launch of `op`.
pub(crate) fn random_case(op: Op, random: &mut Random) -> Case {
    let floats = random.pick(&Floats::ALL);
    let half = random.pick(&[DType::F16, DType::Bf16]);
    let other_half = random.pick(&[DType::F16, DType::Bf16]);
    let cache = random.pick(&[DType::F16, DType::Bf16, DType::F32]);
    let mut b = Builder { random, floats, operands: Vec::new() };
    let mut scalars = Vec::new();
    match op {
        Op::EmbedText => {
            let (t, vocab, d) = (b.size(9), b.size(50), b.size(300));
            b.operand(DType::I32, &[t], Fill::Index(0, vocab as i64));
            b.floats(half, &[vocab, d]).out(&[t, d]).faults();
        }
        Op::EmbedCodes => {
            let (r, n, vocab, d) = (b.size(5), b.size(8), b.size(40), b.size(300));
            b.i64(&[r, n], 0, vocab as i64).operand(DType::Bool, &[r], Fill::Bool);
            b.floats(half, &[n * vocab, d]).f32(&[r, d]).out(&[r, d]).faults();
        }
        Op::RmsNorm => {
            let (t, d) = (b.size(5), b.size(3000));
            b.f32(&[t, d]).floats(half, &[d]).out(&[t, d]);
            scalars.push(Scalar::F32(1e-6));
        }
        Op::QkNormRope => {
            let (t, heads, half_d, table) = (b.size(5), b.size(6), b.size(300), b.size(40));
            let d = 2 * half_d;
            b.f32(&[t, heads, d]).floats(half, &[d]).i64(&[t], 0, table as i64);
            b.f32(&[table, half_d]).f32(&[table, half_d]).out(&[t, heads, d]).faults();
            scalars.extend([Scalar::F32(1e-6), b.in_place_of_operand(table)]);
        }
        Op::Linear | Op::LmHead | Op::AudioHead => {
            let k = match b.random.below(4) {
                0 => b.random.pick(&[1, 8, 64, 72, 128, 512, 520, 1024, 2560]),
                1 => b.size(1200),
                _ => 8 * b.size(160),
            };
            let (t, n, v) = (b.size(9), b.size(3), b.size(30));
            b.f32(&[t, k]).floats(half, &[n * v, k]);
            match op {
                Op::Linear => b.out(&[t, n * v]),
                Op::LmHead => b.operand(half, &[t, n * v], Fill::Fresh),
                _ => b.out(&[t, n, v]),
            };
        }
        Op::KvWrite => {
            let (t, heads, d) = (b.size(40), b.size(3), b.size(50));
            let (blocks, size) = (b.size(5), b.size(5));
            b.f32(&[t, heads, d]).f32(&[t, heads, d]);
            b.i64(&[t], -1, (blocks * size) as i64);
            b.operand(cache, &[blocks, size, heads, d], Fill::Bytes);
            b.operand(cache, &[blocks, size, heads, d], Fill::Bytes).faults();
        }
        Op::AttentionDecode | Op::AttentionPrefill => attention(op, cache, &mut b, &mut scalars),
        Op::AttentionMerge => {
            let (r, heads, splits, d) = (b.size(5), b.size(4), b.size(6), b.size(140));
            let tiles = b.random.pick(&[1, 2, 5, u32::MAX]);
            b.f32(&[r, heads, splits, d + 2]);
            b.operand(DType::I32, &[r], Fill::Index(0, 400)).out(&[r, heads * d]);
            scalars.push(Scalar::U32(tiles));
        }
        Op::SiluMul => {
            let shape = [b.size(5), b.size(3000)];
            b.f32(&shape).f32(&shape).out(&shape);
        }
        Op::ResidualAdd => {
            let shape = [b.size(5), b.size(3000)];
            b.f32(&shape).f32(&shape);
        }
        Op::SeedState => {
            let (r, n) = (b.size(90), b.size(9));
            b.operand(DType::I64, &[r, n], Fill::Bytes);
            for dtype in [DType::Bool, DType::I64, DType::I64, DType::Bool, DType::U32] {
                b.operand(dtype, &[r], Fill::Fresh);
            }
            scalars.push(Scalar::U32(1024));
        }
        Op::DelayMask => {
            let (r, n, v) = (b.size(6), b.size(9), b.size(70));
            b.f32(&[r, n, v]).i64(&[r], -1, n as i64 + 2).i64(&[r], -1, n as i64 + 1).out(&[r, n, v]);
            scalars.extend(delay_profile(&mut b, v));
        }
        Op::UpdateState => {
            let (r, n, v) = (b.size(90), b.size(9), 8);
            b.i64(&[r, n], 0, v).operand(DType::Bool, &[r], Fill::Bool);
            b.i64(&[r], -1, n as i64 + 2).i64(&[r], -1, n as i64 + 1);
            b.operand(DType::Bool, &[r], Fill::Bytes).operand(DType::U32, &[r], Fill::Bytes);
            if let Some(done) = b.operands.get_mut(4) {
                // Mostly rows that go on, as an odd row in four would leave little to update.
                let (start, count) = (done.offset, done.shape[0]);
                done.contents
                    .iter_mut()
                    .flat_map(|c| &mut c[start..start + count])
                    .for_each(|x| *x &= *x >> 4 & 1);
            }
            b.operand(DType::I64, &[r, n], Fill::Bytes).operand(DType::I64, &[r, n], Fill::Fresh);
            scalars.extend(delay_profile(&mut b, v as usize));
            scalars.extend([Scalar::U32(n as u32), Scalar::U32(b.random.below(4) as u32)]);
        }
        Op::Sample => {
            let (r, n) = (b.size(4), b.size(3));
            let v = match b.random.below(3) {
                0 => b.random.pick(&[1, 2, 513, 1026, 4095, 4096]),
                _ => 1 + b.random.below(600),
            };
            b.f32(&[r, n, v]).operand(DType::U32, &[r, 4], Fill::Bytes).operand(
                DType::U32,
                &[r],
                Fill::Bytes,
            );
            b.operand(DType::I64, &[r, n], Fill::Fresh);
            let temperatures = [0.0, -1.0, f32::NAN, 0.7, 1.0, 1.0, 3.0, 1e-30, 1e-42, f32::INFINITY];
            let top_p = [1.0, 0.9, 0.5, 0.01, 0.0, -1.0, f32::NAN, 2.0];
            scalars.push(Scalar::F32(b.random.pick(&temperatures)));
            scalars.push(Scalar::U32(b.random.pick(&[0, 0, 1, 5, 50, v as u32 + 3])));
            scalars.push(Scalar::F32(b.random.pick(&top_p)));
        }
        Op::RvqDecode => {
            let (t, n, size, e) = (b.size(9), b.size(8), b.size(40), b.size(300));
            b.i64(&[t, n], 0, size as i64).floats(half, &[n, size, e]).out(&[e, t]).faults();
        }
        Op::Conv1d => {
            let (ci, t, co, taps) = (b.size(20), b.size(150), b.size(11), b.size(8));
            b.f32(&[ci, t]).floats(half, &[co, ci, taps]).floats(other_half, &[co]).out(&[co, t]);
            scalars.push(Scalar::U32(b.random.pick(&[0, 1, 1, 3, 9, u32::MAX])));
        }
        Op::ConvTranspose1d => {
            let (ci, t, co, stride) = (b.size(20), b.size(50), b.size(11), b.size(9));
            b.f32(&[ci, t]).floats(half, &[ci, co, 2 * stride]).floats(other_half, &[co]);
            b.out(&[co, t * stride]);
            scalars.push(Scalar::U32(stride as u32));
        }
        Op::Snake => {
            let (c, t) = (b.size(20), b.size(300));
            b.f32(&[c, t]).floats(half, &[c]).out(&[c, t]);
        }
        Op::Tanh => {
            let shape = [b.size(20), b.size(300)];
            b.f32(&shape).out(&shape);
        }
        Op::ChunkHash => {
            let (bytes, chunk) = (b.size(20_000), 4usize << b.random.below(13));
            b.operand(DType::U8, &[bytes], Fill::Bytes);
            b.operand(DType::U64, &[bytes.div_ceil(chunk), 2], Fill::Fresh);
            scalars.push(Scalar::U32(chunk as u32));
        }
    }
    Case { op, operands: b.operands, scalars }
}

/// BOC, EOC, the first step for EOC, flags.
fn delay_profile(b: &mut Builder<'_>, vocab: usize) -> [Scalar; 4] {
    let code = |b: &mut Builder<'_>| Scalar::U32(b.random.below(vocab + 1) as u32);
    let (boc, eoc) = (code(b), code(b));
    [boc, eoc, Scalar::U32(b.random.below(4) as u32), Scalar::U32(b.random.below(16) as u32)]
}

fn attention(op: Op, cache: DType, b: &mut Builder<'_>, scalars: &mut Vec<Scalar>) {
    let (rows, kv_heads, group) = (b.size(4), b.size(3), b.size(3));
    let d = match b.random.below(4) {
        0 => b.size(140),
        1 => b.random.pick(&[1, 256, 520]),
        _ => 8 * b.size(16),
    };
    let (blocks, size, entries) = (b.size(12), b.random.pick(&[1, 3, 16, 16, 64]), b.size(20));
    let (heads, capacity) = (kv_heads * group, (size * entries) as i64);
    b.f32(&[rows, heads, d]);
    b.floats(cache, &[blocks, size, kv_heads, d]).floats(cache, &[blocks, size, kv_heads, d]);
    let tables = if op == Op::AttentionDecode { rows } else { 1 };
    // Mostly blocks that exist.
    let beyond = i64::from(b.random.one_in(4));
    let last = (blocks as i64 - 1 + beyond).max(0);
    b.operand(DType::I32, &[tables, entries], Fill::Index(0, last));
    scalars.push(Scalar::F32(b.random.pick(&[1.0, 0.125, -3.0])));
    scalars.push(Scalar::U32(b.random.pick(&[1, 1, 2, 4, u32::MAX])));
    if op == Op::AttentionDecode {
        let splits = b.size(5);
        b.operand(DType::I32, &[rows], Fill::Index(0, capacity + 1));
        b.out(&[rows, heads, splits, d + 2]).faults();
        scalars.push(b.in_place_of_operand(capacity as usize));
    } else {
        b.i64(&[rows], -1, capacity).out(&[rows, heads * d]).faults();
    }
}
