//! Decoding codes in chunks, each with left context, gives the samples of decoding them whole, bit
//! for bit: on a small random codec of the voice's form.

use proptest::prelude::*;
use twinstep_kernels::{CpuForm, DType, Op, Scalar};

use crate::case::{Case, FORMS, Operand};
use crate::generate::Random;

struct Conv {
    weight: Operand,
    bias: Operand,
    alpha: Operand,
}

/// Snake and a dilated convolution, snake and a convolution of one tap, added to the input.
struct ResidualUnit {
    dilation: usize,
    wide: Conv,
    narrow: Conv,
}

/// Snake and a transposed convolution, then residual units.
struct Block {
    stride: usize,
    transposed: Conv,
    units: Vec<ResidualUnit>,
}

/// Quantiser, convolution, blocks of a transposed convolution and residual units, convolution, tanh.
struct Codec {
    tables: Operand,
    first: Conv,
    blocks: Vec<Block>,
    last: Conv,
    /// Frames to the left that a sample can depend on, its own not counted.
    context: usize,
}

const SIZE: usize = 11;
const TAPS: usize = 3;

impl Codec {
    fn random(random: &mut Random) -> Codec {
        let dtype = random.half();
        let conv = |r: &mut Random, shape: &[usize], bias: usize, alpha: usize| {
            // Scaled as for training, so that values neither vanish nor leave the domain of sin.
            let fan_in = (shape.iter().product::<usize>() / bias) as f32;
            let weight: Vec<f32> =
                r.units(shape.iter().product()).iter().map(|w| w / fan_in.sqrt()).collect();
            let alphas: Vec<f32> = r.units(alpha).iter().map(|a| a.abs() + 0.25).collect();
            Conv {
                weight: Operand::floats(dtype, shape, &weight),
                bias: r.floats(dtype, &[bias]),
                alpha: Operand::floats(dtype, &[alpha], &alphas),
            }
        };
        let (n, e) = (random.between(1, 4), random.between(3, 9));
        let mut channels = random.between(5, 12);
        let tables = random.floats(dtype, &[n, SIZE, e]);
        let first = conv(random, &[channels, e, TAPS], channels, e);
        // Context in samples of the current rate; each stride multiplies the rate.
        let (mut context, mut rate) = ((TAPS - 1) as f64, 1.0);
        let mut blocks = Vec::new();
        for stride in [3, 2] {
            let half = channels / 2 + 1;
            let transposed = conv(random, &[channels, half, 2 * stride], half, channels);
            context += 1.0 / rate;
            rate *= stride as f64;
            let mut units = Vec::new();
            for dilation in [1, 3] {
                let wide = conv(random, &[half, half, TAPS], half, half);
                let narrow = conv(random, &[half, half, 1], half, half);
                units.push(ResidualUnit { dilation, wide, narrow });
                context += ((TAPS - 1) * dilation) as f64 / rate;
            }
            blocks.push(Block { stride, transposed, units });
            channels = half;
        }
        let last = conv(random, &[1, channels, TAPS], 1, channels);
        context += (TAPS - 1) as f64 / rate;
        Codec { tables, first, blocks, last, context: context.ceil() as usize }
    }

    fn hop(&self) -> usize {
        self.blocks.iter().map(|block| block.stride).product()
    }

    fn codebooks(&self) -> usize {
        self.tables.shape[0]
    }

    /// Samples of `frames` of codes, `[frames, codebooks]` row-major.
    fn decode(&self, form: CpuForm, codes: &[i64]) -> Vec<u32> {
        let frames = codes.len() / self.codebooks();
        let codes = Operand::new(DType::I64, &[frames, self.codebooks()], codes);
        let out = Operand::filled(DType::F32, &[self.tables.shape[2], frames], 0xA5);
        let operands = vec![codes, self.tables.clone(), out, Operand::no_faults()];
        let x = Case::new(Op::RvqDecode, operands, vec![]).result(form, "out");
        let mut x = conv1d(form, &x, &self.first, 1);
        for Block { stride, transposed, units } in &self.blocks {
            x = snake(form, &x, &transposed.alpha);
            let channels = transposed.bias.shape[0];
            let out = Operand::filled(DType::F32, &[channels, x.shape[1] * stride], 0xA5);
            let operands = vec![x, transposed.weight.clone(), transposed.bias.clone(), out];
            x = Case::new(Op::ConvTranspose1d, operands, vec![Scalar::U32(*stride as u32)])
                .result(form, "out");
            for ResidualUnit { dilation, wide, narrow } in units {
                let y = conv1d(form, &snake(form, &x, &wide.alpha), wide, *dilation);
                let y = conv1d(form, &snake(form, &y, &narrow.alpha), narrow, 1);
                x = Case::new(Op::ResidualAdd, vec![x, y], vec![]).result(form, "x");
            }
        }
        x = conv1d(form, &snake(form, &x, &self.last.alpha), &self.last, 1);
        let out = Operand::filled(DType::F32, &x.shape, 0xA5);
        let samples = Case::new(Op::Tanh, vec![x, out], vec![]).result(form, "out");
        samples.elements()
    }
}

fn conv1d(form: CpuForm, x: &Operand, conv: &Conv, dilation: usize) -> Operand {
    let out = Operand::filled(DType::F32, &[conv.bias.shape[0], x.shape[1]], 0xA5);
    let operands = vec![x.clone(), conv.weight.clone(), conv.bias.clone(), out];
    Case::new(Op::Conv1d, operands, vec![Scalar::U32(dilation as u32)]).result(form, "out")
}

fn snake(form: CpuForm, x: &Operand, alpha: &Operand) -> Operand {
    let out = Operand::filled(DType::F32, &x.shape, 0xA5);
    Case::new(Op::Snake, vec![x.clone(), alpha.clone(), out], vec![]).result(form, "out")
}

/// Samples decoded `chunk` frames at a time, each chunk with up to `context` frames before it.
fn in_chunks(codec: &Codec, form: CpuForm, codes: &[i64], chunk: usize, context: usize) -> Vec<u32> {
    let (n, hop) = (codec.codebooks(), codec.hop());
    let frames = codes.len() / n;
    let mut samples = Vec::new();
    for start in (0..frames).step_by(chunk) {
        let end = (start + chunk).min(frames);
        let from = start.saturating_sub(context);
        let part = codec.decode(form, &codes[from * n..end * n]);
        samples.extend_from_slice(&part[(start - from) * hop..]);
    }
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn in_chunks_equals_whole(seed: u64, frames in 2usize..24, chunk in 1usize..9) {
        let mut random = Random::new(seed);
        let codec = Codec::random(&mut random);
        let codes: Vec<i64> =
            (0..frames * codec.codebooks()).map(|_| random.between(0, SIZE - 1) as i64).collect();
        for form in FORMS {
            let whole = codec.decode(form, &codes);
            prop_assert_eq!(whole.len(), frames * codec.hop());
            prop_assert!(whole.iter().any(|&s| f32::from_bits(s).abs() > 1e-3), "not silence");
            prop_assert_eq!(&in_chunks(&codec, form, &codes, chunk, codec.context), &whole);
        }
    }
}

/// The test above can fail: with too little context the samples differ.
#[test]
fn without_context_the_chunks_differ() {
    let mut random = Random::new(3);
    let codec = Codec::random(&mut random);
    let codes: Vec<i64> = (0..20 * codec.codebooks()).map(|_| random.between(0, SIZE - 1) as i64).collect();
    let whole = codec.decode(CpuForm::Naive, &codes);
    assert_ne!(in_chunks(&codec, CpuForm::Naive, &codes, 5, 0), whole);
}
