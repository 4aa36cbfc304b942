//! Pseudo-random numbers and the values that break careless arithmetic.

use super::kernels::DType;
use super::kernels::contract::{f32_to_bf16, f32_to_f16};

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators; 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Uniform in [-1, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// Which floats an operand holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Floats {
    /// In [-2, 2).
    Plain,
    /// In [-40, 40): scores and logits.
    Wide,
    /// Multiples of 1/4 in [-2, 2): many ties.
    Coarse,
    /// So small that products underflow: ±0 and subnormals.
    Tiny,
    /// Plain, but now and then NaN, infinite, zero, subnormal or huge.
    Special,
    /// Any bits at all.
    Bits,
}

impl Floats {
    pub(crate) const ALL: [Floats; 6] =
        [Floats::Plain, Floats::Wide, Floats::Coarse, Floats::Tiny, Floats::Special, Floats::Bits];

    fn value(self, random: &mut Random) -> f32 {
        const SPECIAL: [f32; 9] = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            0.0,
            -0.0,
            f32::MAX,
            f32::MIN,
            f32::from_bits(1),
            f32::from_bits(0x8000_1234),
        ];
        match self {
            Floats::Plain => random.unit() * 2.0,
            Floats::Wide => random.unit() * 40.0,
            Floats::Coarse => (random.unit() * 8.0).floor() / 4.0,
            Floats::Tiny => random.unit() * f32::from_bits(0x1080_0000 >> random.below(2)),
            Floats::Special if random.one_in(24) => random.pick(&SPECIAL),
            Floats::Special => random.unit() * 2.0,
            Floats::Bits => f32::from_bits(random.next() as u32),
        }
    }

    /// `count` values as bytes of a float type.
    pub(crate) fn bytes(self, dtype: DType, count: usize, random: &mut Random) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count * dtype.size());
        for _ in 0..count {
            let bits16 = |random: &mut Random, narrow: fn(f32) -> u16| match self {
                Floats::Bits => random.next() as u16,
                _ => narrow(self.value(random)),
            };
            match dtype {
                DType::F16 => bytes.extend(bits16(random, f32_to_f16).to_le_bytes()),
                DType::Bf16 => bytes.extend(bits16(random, f32_to_bf16).to_le_bytes()),
                _ => bytes.extend(self.value(random).to_le_bytes()),
            }
        }
        bytes
    }
}
