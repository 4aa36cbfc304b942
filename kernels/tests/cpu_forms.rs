//! The vectorised CPU forms against the naive ones, bit for bit: for every op that has one, with every
//! vector extension that this machine has, over shapes that no block divides and values that break
//! careless arithmetic. Operands lie at odd places of larger buffers, all of whose bytes are compared.

use proptest::prelude::*;
use proptest::test_runner::Config;
use twinstep_kernels::contract::{f32_to_bf16, f32_to_f16};
use twinstep_kernels::{
    BufferSpec, CpuBackend, CpuForm, DType, Extension, Launch, Op, Role, Scalar, Stream, View,
};

/// An operand: element type, shape, contents.
struct Operand {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn operand<T: bytemuck::NoUninit>(dtype: DType, shape: &[usize], values: &[T]) -> Operand {
    Operand { dtype, shape: shape.to_vec(), bytes: bytemuck::cast_slice(values).to_vec() }
}

/// A written operand, filled with what fresh memory holds.
fn output(dtype: DType, shape: &[usize]) -> Operand {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    Operand { dtype, shape: shape.to_vec(), bytes: vec![0xa5; bytes] }
}

/// Bytes of all buffers after the launch.
fn run(backend: CpuBackend, op: Op, operands: &[Operand], scalars: &[Scalar]) -> Vec<Vec<u8>> {
    let mut stream = Stream::new(Box::new(backend));
    let mut views = Vec::new();
    for (i, operand) in operands.iter().enumerate() {
        // Aligned for the element type and for nothing more.
        let offset = operand.dtype.size() * (2 * i + 1);
        let size = offset + operand.bytes.len() + 24;
        let spec = BufferSpec::new(&format!("operand{i}"), DType::U8, &[size], Role::Scratch);
        let buffer = stream.allocate(spec).unwrap();
        let view = View::dense(buffer.id, operand.dtype, offset, &operand.shape);
        stream.write(&view, &operand.bytes).unwrap();
        views.push(view);
    }
    stream.launch(&Launch::new(op, views, scalars.to_vec()).unwrap()).unwrap();
    let buffers: Vec<View> = stream.buffers().map(View::whole).collect();
    buffers.iter().map(|view| stream.read(view).unwrap()).collect()
}

/// Runs the naive form and every vectorised one and compares all memory.
fn check(op: Op, operands: &[Operand], scalars: &[Scalar]) {
    let naive = run(CpuBackend::with_form(CpuForm::Naive).unwrap(), op, operands, scalars);
    for extension in Extension::available() {
        let vector = run(CpuBackend::with_extension(extension).unwrap(), op, operands, scalars);
        for (i, (naive, vector)) in naive.iter().zip(&vector).enumerate() {
            let differ = naive.iter().zip(vector).position(|(a, b)| a != b);
            let offset = operands[i].dtype.size() * (2 * i + 1);
            assert!(
                differ.is_none(),
                "{} of {op:?}, operand {i}, shape {:?}: byte {} of the view",
                extension.name(),
                operands[i].shape,
                differ.unwrap_or(0) as i64 - offset as i64
            );
        }
    }
}

/// Which values operands hold.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Uniform in [-2, 2).
    Plain,
    /// Magnitudes whose products underflow: sums of ±0 and subnormals.
    Tiny,
    /// Any finite bits.
    Finite,
    /// Plain, one in 64 being NaN, infinite, zero, subnormal or huge.
    Special,
    /// Any bits at all.
    Bits,
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![
        3 => Just(Values::Plain),
        2 => Just(Values::Tiny),
        1 => Just(Values::Finite),
        3 => Just(Values::Special),
        1 => Just(Values::Bits),
    ]
}

/// A generator of operands from a seed.
struct Source {
    state: u64,
    values: Values,
}

impl Source {
    fn new(seed: u64, values: Values) -> Self {
        Source { state: seed, values }
    }

    /// SplitMix64.
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    fn float(&mut self) -> f32 {
        let plain = ((self.bits() >> 40) as f32) / (1 << 22) as f32 - 2.0;
        let special = self.below(64) == 0;
        match self.values {
            Values::Plain => plain,
            Values::Tiny => plain * [1e-38, 1e-30, 1e-23, 1e-19][self.below(4)],
            Values::Finite => {
                let x = f32::from_bits(self.bits() as u32);
                if x.is_finite() { x } else { plain }
            }
            Values::Special if special => {
                let special = [
                    f32::NAN,
                    f32::from_bits(0xffab_cdef),
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    0.0,
                    -0.0,
                    f32::from_bits(1),
                    -f32::MIN_POSITIVE / 3.0,
                    f32::MAX,
                    -1e30,
                    70000.0,
                    104.5,
                ];
                special[self.below(special.len())]
            }
            Values::Special => plain,
            Values::Bits => f32::from_bits(self.bits() as u32),
        }
    }

    fn floats(&mut self, dtype: DType, shape: &[usize]) -> Operand {
        let floats: Vec<f32> = (0..shape.iter().product()).map(|_| self.float()).collect();
        // Random halves too: rounded floats are never a signalling NaN, and seldom subnormal.
        let halves = |source: &mut Source, round: fn(f32) -> u16| -> Vec<u16> {
            let any = matches!(source.values, Values::Bits);
            floats.iter().map(|&x| if any { source.bits() as u16 } else { round(x) }).collect()
        };
        match dtype {
            DType::F16 => operand(dtype, shape, &halves(self, f32_to_f16)),
            DType::Bf16 => operand(dtype, shape, &halves(self, f32_to_bf16)),
            _ => operand(dtype, shape, &floats),
        }
    }
}

/// Lengths from 1 on; short ones where every element takes long.
fn length(limit: usize) -> std::ops::Range<usize> {
    1..if cfg!(miri) { limit.min(4) } else { limit }
}

/// A scalar in place of an index operand, in range or not; half the time none.
fn fixed(limit: u32) -> impl Strategy<Value = u32> {
    prop_oneof![Just(u32::MAX), 0..limit]
}

fn half() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F16), Just(DType::Bf16)]
}

fn cache() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F16), Just(DType::Bf16), Just(DType::F32)]
}

fn config() -> Config {
    Config { cases: if cfg!(miri) { 2 } else { 64 }, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products(
        seed: u64, values in values(), dtype in half(),
        (rows, k, m) in (length(9), length(700), length(70)), head in 0..3,
    ) {
        let mut s = Source::new(seed, values);
        let (op, out) = match head {
            0 => (Op::Linear, output(DType::F32, &[rows, m])),
            1 => (Op::LmHead, output(dtype, &[rows, m])),
            _ => (Op::AudioHead, output(DType::F32, &[rows, 1, m])),
        };
        let operands = [s.floats(DType::F32, &[rows, k]), s.floats(dtype, &[m, k]), out];
        check(op, &operands, &[]);
    }

    #[test]
    fn rms_norm(seed: u64, values in values(), dtype in half(), rows in length(40), d in length(700)) {
        let mut s = Source::new(seed, values);
        let x = s.floats(DType::F32, &[rows, d]);
        let operands = [x, s.floats(dtype, &[d]), output(DType::F32, &[rows, d])];
        check(Op::RmsNorm, &operands, &[Scalar::F32(1e-6)]);
    }

    #[test]
    fn qk_norm_rope(
        seed: u64, values in values(), dtype in half(),
        (rows, heads, half) in (length(9), length(7), length(90)), table in length(40), fixed in fixed(42),
    ) {
        let mut s = Source::new(seed, values);
        let positions: Vec<i64> = (0..rows).map(|_| s.below(table + 2) as i64 - 1).collect();
        let shape = [rows, heads, 2 * half];
        let operands = [
            s.floats(DType::F32, &shape),
            s.floats(dtype, &[2 * half]),
            operand(DType::I64, &[rows], &positions),
            s.floats(DType::F32, &[table, half]),
            s.floats(DType::F32, &[table, half]),
            output(DType::F32, &shape),
            operand(DType::U32, &[1], &[0u32]),
        ];
        check(Op::QkNormRope, &operands, &[Scalar::F32(1e-6), Scalar::U32(fixed)]);
    }

    #[test]
    fn attention_decode(
        seed: u64, values in values(), dtype in cache(),
        (rows, kv_heads, group, d) in (length(5), length(4), length(4), length(150)),
        (width, block_size) in (length(12), length(40)), (splits, tiles_per_split) in (length(5), 1u32..4),
        fixed in fixed(500),
    ) {
        let mut s = Source::new(seed, values);
        let blocks = width + 2;
        let table: Vec<i32> = (0..rows * width).map(|_| block_number(&mut s, blocks)).collect();
        let seq_lens: Vec<i32> = (0..rows).map(|_| s.below(width * block_size + 3) as i32 - 1).collect();
        let heads = kv_heads * group;
        let operands = [
            s.floats(DType::F32, &[rows, heads, d]),
            s.floats(dtype, &[blocks, block_size, kv_heads, d]),
            s.floats(dtype, &[blocks, block_size, kv_heads, d]),
            operand(DType::I32, &[rows, width], &table),
            operand(DType::I32, &[rows], &seq_lens),
            output(DType::F32, &[rows, heads, splits, d + 2]),
            operand(DType::U32, &[1], &[0u32]),
        ];
        let scalars = [Scalar::F32(0.125), Scalar::U32(tiles_per_split), Scalar::U32(fixed)];
        check(Op::AttentionDecode, &operands, &scalars);
    }

    #[test]
    fn attention_prefill(
        seed: u64, values in values(), dtype in cache(),
        (rows, kv_heads, group, d) in (length(80), length(3), length(3), length(70)),
        (width, block_size) in (length(12), length(20)), tiles_per_split in 1u32..4,
    ) {
        let mut s = Source::new(seed, values);
        let blocks = width + 2;
        let table: Vec<i32> = (0..width).map(|_| block_number(&mut s, blocks)).collect();
        let positions: Vec<i64> = (0..rows).map(|_| s.below(width * block_size + 3) as i64 - 2).collect();
        let heads = kv_heads * group;
        let operands = [
            s.floats(DType::F32, &[rows, heads, d]),
            s.floats(dtype, &[blocks, block_size, kv_heads, d]),
            s.floats(dtype, &[blocks, block_size, kv_heads, d]),
            operand(DType::I32, &[1, width], &table),
            operand(DType::I64, &[rows], &positions),
            output(DType::F32, &[rows, heads * d]),
            operand(DType::U32, &[1], &[0u32]),
        ];
        check(Op::AttentionPrefill, &operands, &[Scalar::F32(0.125), Scalar::U32(tiles_per_split)]);
    }

    #[test]
    fn elementwise(
        seed: u64, values in values(), dtype in half(), (rows, width) in (length(9), length(300)),
    ) {
        let mut s = Source::new(seed, values);
        let shape = [rows, width];
        let [a, b] = [s.floats(DType::F32, &shape), s.floats(DType::F32, &shape)];
        check(Op::ResidualAdd, &[a, b], &[]);
        let [a, b] = [s.floats(DType::F32, &shape), s.floats(DType::F32, &shape)];
        check(Op::SiluMul, &[a, b, output(DType::F32, &shape)], &[]);
        check(Op::Tanh, &[s.floats(DType::F32, &shape), output(DType::F32, &shape)], &[]);
        let [x, alpha] = [s.floats(DType::F32, &shape), s.floats(dtype, &[rows])];
        check(Op::Snake, &[x, alpha, output(DType::F32, &shape)], &[]);
    }

    #[test]
    fn conv1d(
        seed: u64, values in values(), dtype in half(),
        (inputs, outputs, taps) in (length(20), length(20), length(9)),
        time in length(150), dilation in 0u32..14,
    ) {
        let mut s = Source::new(seed, values);
        let operands = [
            s.floats(DType::F32, &[inputs, time]),
            s.floats(dtype, &[outputs, inputs, taps]),
            s.floats(dtype, &[outputs]),
            output(DType::F32, &[outputs, time]),
        ];
        check(Op::Conv1d, &operands, &[Scalar::U32(dilation)]);
    }

    #[test]
    fn conv_transpose1d(
        seed: u64, values in values(), dtype in half(),
        (inputs, outputs) in (length(20), length(20)), time in length(90), stride in 1usize..9,
    ) {
        let mut s = Source::new(seed, values);
        let operands = [
            s.floats(DType::F32, &[inputs, time]),
            s.floats(dtype, &[inputs, outputs, 2 * stride]),
            s.floats(dtype, &[outputs]),
            output(DType::F32, &[outputs, time * stride]),
        ];
        check(Op::ConvTranspose1d, &operands, &[Scalar::U32(stride as u32)]);
    }

    #[test]
    fn sample(
        seed: u64, values in values(), (rows, codebooks, codes) in (length(5), length(5), length(600)),
        temperature in 0.0f32..2.0, top_k in 0u32..80, top_p in 0.0f32..1.5, ties: bool,
    ) {
        let mut s = Source::new(seed, values);
        let mut logits = s.floats(DType::F32, &[rows, codebooks, codes]);
        if ties {
            // Whole numbers from -2 to 1.
            let few: Vec<f32> = (0..rows * codebooks * codes).map(|_| s.below(4) as f32 - 2.0).collect();
            logits = operand(DType::F32, &[rows, codebooks, codes], &few);
        }
        let words: Vec<u32> = (0..rows * 5).map(|_| s.bits() as u32).collect();
        let operands = [
            logits,
            operand(DType::U32, &[rows, 4], &words[rows..]),
            operand(DType::U32, &[rows], &words[..rows]),
            output(DType::I64, &[rows, codebooks]),
        ];
        check(Op::Sample, &operands, &[Scalar::F32(temperature), Scalar::U32(top_k), Scalar::F32(top_p)]);
    }

    #[test]
    fn chunk_hash(seed: u64, bytes in length(5000), log2 in 2u32..12) {
        let mut s = Source::new(seed, Values::Bits);
        let data: Vec<u8> = (0..bytes).map(|_| s.bits() as u8).collect();
        let chunks = bytes.div_ceil(1 << log2);
        let operands = [operand(DType::U8, &[bytes], &data), output(DType::U64, &[chunks, 2])];
        check(Op::ChunkHash, &operands, &[Scalar::U32(1 << log2)]);
    }
}

/// Seldom one that does not exist.
fn block_number(s: &mut Source, blocks: usize) -> i32 {
    match s.below(20) {
        0 => -1,
        1 => blocks as i32,
        _ => s.below(blocks) as i32,
    }
}

/// Products that underflow to -0: a sum of them is -0, but +0 once a single +0 is among them, such as an
/// element that fills up a block and should not be there.
#[test]
fn sums_of_negative_zeros() {
    let constant = |dtype: DType, shape: &[usize], x: f32| {
        let count = shape.iter().product();
        match dtype {
            DType::F16 => operand(dtype, shape, &vec![f32_to_f16(x); count]),
            _ => operand(dtype, shape, &vec![x; count]),
        }
    };
    let (f32, f16, small, least) = (DType::F32, DType::F16, 1e-39, -5.96e-8);
    let lengths = if cfg!(miri) { vec![1, 65, 580] } else { (1..700).collect() };
    for k in lengths {
        let operands = [constant(f32, &[1, k], small), constant(f16, &[1, k], least), output(f32, &[1, 1])];
        check(Op::Linear, &operands, &[]);
        let operands = [
            constant(f32, &[1, 1, k], small),
            constant(f16, &[1, 1, 1, k], least),
            constant(f16, &[1, 1, 1, k], least),
            operand(DType::I32, &[1, 1], &[0i32]),
            operand(DType::I32, &[1], &[1i32]),
            output(f32, &[1, 1, 1, k + 2]),
            operand(DType::U32, &[1], &[0u32]),
        ];
        check(Op::AttentionDecode, &operands, &[Scalar::F32(1.0), Scalar::U32(1)]);
    }
    for time in [1, 9, 40] {
        let operands = [
            constant(f32, &[2, time], small),
            constant(f16, &[3, 2, 5], least),
            constant(f16, &[3], -0.0),
            output(f32, &[3, time]),
        ];
        check(Op::Conv1d, &operands, &[Scalar::U32(3)]);
    }
}

/// Sizes at which launches are shared among cores.
#[test]
#[cfg_attr(miri, ignore = "takes hours there, and Miri runs on one core")]
fn large_launches() {
    let mut s = Source::new(7, Values::Plain);
    let f32 = DType::F32;
    for dtype in [DType::F16, DType::Bf16] {
        let (rows, k, m) = (13, 257, 1030);
        let [x, weight] = [s.floats(f32, &[rows, k]), s.floats(dtype, &[m, k])];
        check(Op::Linear, &[x, weight, output(f32, &[rows, m])], &[]);
        let [x, weight] = [s.floats(f32, &[1200, 200]), s.floats(dtype, &[200])];
        check(Op::RmsNorm, &[x, weight, output(f32, &[1200, 200])], &[Scalar::F32(1e-6)]);
        let (inputs, outputs, time) = (37, 21, 1999);
        let [x, weight] = [s.floats(f32, &[inputs, time]), s.floats(dtype, &[outputs, inputs, 7])];
        let operands = [x, weight, s.floats(dtype, &[outputs]), output(f32, &[outputs, time])];
        check(Op::Conv1d, &operands, &[Scalar::U32(9)]);
        let [x, weight] = [s.floats(f32, &[inputs, time]), s.floats(dtype, &[inputs, outputs, 10])];
        let operands = [x, weight, s.floats(dtype, &[outputs]), output(f32, &[outputs, 5 * time])];
        check(Op::ConvTranspose1d, &operands, &[Scalar::U32(5)]);
        let [x, alpha] = [s.floats(f32, &[3, 70_001]), s.floats(dtype, &[3])];
        check(Op::Snake, &[x, alpha, output(f32, &[3, 70_001])], &[]);
    }
    check(Op::Tanh, &[s.floats(f32, &[300_007]), output(f32, &[300_007])], &[]);
    let [gate, up] = [s.floats(f32, &[300_007]), s.floats(f32, &[300_007])];
    check(Op::SiluMul, &[gate, up, output(f32, &[300_007])], &[]);
    check(Op::ResidualAdd, &[s.floats(f32, &[300_007]), s.floats(f32, &[300_007])], &[]);
    let (rows, heads, half, table) = (300, 5, 32, 400);
    let positions: Vec<i64> = (0..rows as i64).collect();
    let operands = [
        s.floats(f32, &[rows, heads, 2 * half]),
        s.floats(DType::F16, &[2 * half]),
        operand(DType::I64, &[rows], &positions),
        s.floats(f32, &[table, half]),
        s.floats(f32, &[table, half]),
        output(f32, &[rows, heads, 2 * half]),
        operand(DType::U32, &[1], &[0u32]),
    ];
    check(Op::QkNormRope, &operands, &[Scalar::F32(1e-6)]);
    let data: Vec<u8> = (0..3_000_001).map(|_| s.bits() as u8).collect();
    let operands =
        [operand(DType::U8, &[data.len()], &data), output(DType::U64, &[data.len().div_ceil(512), 2])];
    check(Op::ChunkHash, &operands, &[Scalar::U32(512)]);
    for seq_len in [900, 1000] {
        let (kv_heads, heads, d, blocks) = (2, 4, 64, 64i32);
        let table: Vec<i32> = (0..4 * blocks).map(|i| i * 7 % blocks).collect();
        let caches = [0, 1].map(|_| s.floats(DType::F16, &[blocks as usize, 16, kv_heads, d]));
        let [k, v] = caches;
        let operands = [
            s.floats(f32, &[4, heads, d]),
            k,
            v,
            operand(DType::I32, &[4, blocks as usize], &table),
            operand(DType::I32, &[4], &[seq_len, 1, 64, seq_len - 1]),
            output(f32, &[4, heads, 5, d + 2]),
            operand(DType::U32, &[1], &[0u32]),
        ];
        check(Op::AttentionDecode, &operands, &[Scalar::F32(0.125), Scalar::U32(4)]);
    }
}

/// The portable form is always there, and so is more on the machines that the project is built on.
#[test]
fn extensions_are_found() {
    let names: Vec<_> = Extension::available().into_iter().map(Extension::name).collect();
    assert_eq!(names.last(), Some(&"portable"));
    let backend = CpuBackend::new().unwrap();
    assert_eq!(twinstep_kernels::Backend::info(&backend).capability, names[0]);
}
