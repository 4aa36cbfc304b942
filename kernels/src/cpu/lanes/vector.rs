//! The trait that the algorithms are written over.

use crate::contract::CANONICAL_F32_NAN;

/// The most f32 lanes of any extension.
pub(in crate::cpu) const MAX_LANES: usize = 16;

/// A vector extension. A value is the proof that the processor at hand has it, which is what makes
/// the methods safe to call.
///
/// Arithmetic is IEEE 754 lane by lane, one rounding an operation. Which NaN an operation returns is
/// open, as everywhere in the contract: NaNs are canonicalised where values are stored.
///
/// Implementations and all functions over `Lanes` are `#[inline(always)]`: only so do they end up
/// inside the function that [`crate::cpu::Extension`] compiles for the extension. Closures cannot be
/// marked so, and one that stays a function of its own calls every intrinsic as a function; hence loops,
/// not iterator adapters, around vector arithmetic.
pub(in crate::cpu) trait Lanes: Copy + Send + Sync {
    /// Number of f32 lanes: 4, 8 or 16.
    const COUNT: usize;
    /// A vector of f32.
    type F32: Copy;
    /// A vector of i32, as many lanes.
    type I32: Copy;
    /// One truth value a lane.
    type Mask: Copy;
    /// A vector of u64, half as many lanes.
    type U64: Copy;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// The first `COUNT` elements of `x`, which has them.
    fn load(self, x: &[f32]) -> Self::F32;
    /// To the first `COUNT` elements of `out`, which has them.
    fn store(self, v: Self::F32, out: &mut [f32]);
    /// The first `COUNT` elements of `x`, which has them, widened exactly.
    fn widen_f16(self, x: &[u16]) -> Self::F32;
    /// The first `COUNT` elements of `x`, which has them, widened exactly.
    fn widen_bf16(self, x: &[u16]) -> Self::F32;

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The eight vectors, one after the other, are `8 * COUNT` values: lane `i` of the result is
    /// `((0+1)+(2+3))+((4+5)+(6+7))` of values `8 i .. 8 i + 8`.
    fn sum_eights(self, v: [Self::F32; 8]) -> Self::F32;

    /// `a > b`; false where one of them is NaN.
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// Whether `a` is NaN.
    fn is_nan(self, a: Self::F32) -> Self::Mask;
    /// `yes` where the mask is true, else `no`.
    fn select(self, mask: Self::Mask, yes: Self::F32, no: Self::F32) -> Self::F32;

    /// The bits of `a` but the sign, which is +.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The bits of `a` with the sign flipped where that of `b` is -.
    fn xor_sign(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `n` in every lane.
    fn splat_i32(self, n: i32) -> Self::I32;
    /// `a` as an integer, truncated; anything where it does not fit.
    fn to_i32(self, a: Self::F32) -> Self::I32;
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`, wrapping.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a >> 1` with the sign kept.
    fn halve_i32(self, a: Self::I32) -> Self::I32;
    /// `a << BITS` as the bits of floats.
    fn shift_to_f32<const BITS: u32>(self, a: Self::I32) -> Self::F32;

    /// `n` in every lane.
    fn splat_u64(self, n: u64) -> Self::U64;
    /// `start, start + 1, ...`
    fn count_u64(self, start: u64) -> Self::U64;
    /// The first `COUNT / 2` little-endian words of `x`, which has `COUNT * 2` bytes.
    fn widen_u32(self, x: &[u8]) -> Self::U64;
    /// `a + b`, wrapping.
    fn add_u64(self, a: Self::U64, b: Self::U64) -> Self::U64;
    /// `a * b`, wrapping.
    fn mul_u64(self, a: Self::U64, b: Self::U64) -> Self::U64;
    /// `a ^ b`.
    fn xor_u64(self, a: Self::U64, b: Self::U64) -> Self::U64;
    /// `a << 32`.
    fn shl32_u64(self, a: Self::U64) -> Self::U64;
    /// `a >> 33`.
    fn shr33_u64(self, a: Self::U64) -> Self::U64;
    /// The sum of all lanes, wrapping.
    fn total_u64(self, a: Self::U64) -> u64;

    /// `a`, or the canonical NaN where it is NaN.
    #[inline(always)]
    fn canonical(self, a: Self::F32) -> Self::F32 {
        self.select(self.is_nan(a), self.splat(f32::from_bits(CANONICAL_F32_NAN)), a)
    }

    /// All elements of `x`, at most `COUNT` of them; `fill` in the lanes beyond.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::F32 {
        if x.len() >= Self::COUNT {
            return self.load(x);
        }
        let mut padded = [fill; MAX_LANES];
        padded[..x.len()].copy_from_slice(x);
        self.load(&padded)
    }

    /// To all elements of `out`, at most `COUNT` of them.
    #[inline(always)]
    fn store_part(self, v: Self::F32, out: &mut [f32]) {
        if out.len() >= Self::COUNT {
            return self.store(v, out);
        }
        let mut padded = [0.0; MAX_LANES];
        self.store(v, &mut padded);
        out.copy_from_slice(&padded[..out.len()]);
    }
}
