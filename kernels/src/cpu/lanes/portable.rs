//! Plain Rust: what runs where no extension is known, and under Miri.

use super::Lanes;
use crate::contract::{bf16_to_f32, f16_to_f32};

/// Lanes of the portable form.
const COUNT: usize = 8;

/// No extension: arrays, for the compiler to vectorise as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) struct Portable;

#[inline(always)]
fn map<A: Copy, R>(a: [A; COUNT], f: impl Fn(A) -> R) -> [R; COUNT] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip<A: Copy, B: Copy, R, const N: usize>(a: [A; N], b: [B; N], f: impl Fn(A, B) -> R) -> [R; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Lanes for Portable {
    const COUNT: usize = COUNT;
    type F32 = [f32; COUNT];
    type I32 = [i32; COUNT];
    type Mask = [bool; COUNT];
    type U64 = [u64; COUNT / 2];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [x; COUNT]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F32 {
        let x = &x[..COUNT];
        std::array::from_fn(|i| x[i])
    }
    #[inline(always)]
    fn store(self, v: Self::F32, out: &mut [f32]) {
        out[..COUNT].copy_from_slice(&v);
    }
    #[inline(always)]
    fn widen_f16(self, x: &[u16]) -> Self::F32 {
        let x = &x[..COUNT];
        std::array::from_fn(|i| f16_to_f32(x[i]))
    }
    #[inline(always)]
    fn widen_bf16(self, x: &[u16]) -> Self::F32 {
        let x = &x[..COUNT];
        std::array::from_fn(|i| bf16_to_f32(x[i]))
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn sum_eights(self, v: [Self::F32; 8]) -> Self::F32 {
        map(v, |x| ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])))
    }

    #[inline(always)]
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask {
        zip(a, b, |a, b| a > b)
    }
    #[inline(always)]
    fn is_nan(self, a: Self::F32) -> Self::Mask {
        map(a, f32::is_nan)
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Self::F32, no: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if mask[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn xor_sign(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| f32::from_bits(a.to_bits() ^ (b.to_bits() & 0x8000_0000)))
    }
    #[inline(always)]
    fn splat_i32(self, n: i32) -> Self::I32 {
        [n; COUNT]
    }
    #[inline(always)]
    fn to_i32(self, a: Self::F32) -> Self::I32 {
        map(a, |a| a as i32)
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn halve_i32(self, a: Self::I32) -> Self::I32 {
        map(a, |a| a >> 1)
    }
    #[inline(always)]
    fn shift_to_f32<const BITS: u32>(self, a: Self::I32) -> Self::F32 {
        map(a, |a| f32::from_bits((a as u32) << BITS))
    }

    #[inline(always)]
    fn splat_u64(self, n: u64) -> Self::U64 {
        [n; COUNT / 2]
    }
    #[inline(always)]
    fn count_u64(self, start: u64) -> Self::U64 {
        std::array::from_fn(|i| start.wrapping_add(i as u64))
    }
    #[inline(always)]
    fn widen_u32(self, x: &[u8]) -> Self::U64 {
        let (words, _) = x[..COUNT * 2].as_chunks::<4>();
        std::array::from_fn(|i| u64::from(u32::from_le_bytes(words[i])))
    }
    #[inline(always)]
    fn add_u64(self, a: Self::U64, b: Self::U64) -> Self::U64 {
        zip(a, b, u64::wrapping_add)
    }
    #[inline(always)]
    fn mul_u64(self, a: Self::U64, b: Self::U64) -> Self::U64 {
        zip(a, b, u64::wrapping_mul)
    }
    #[inline(always)]
    fn xor_u64(self, a: Self::U64, b: Self::U64) -> Self::U64 {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn shl32_u64(self, a: Self::U64) -> Self::U64 {
        a.map(|a| a << 32)
    }
    #[inline(always)]
    fn shr33_u64(self, a: Self::U64) -> Self::U64 {
        a.map(|a| a >> 33)
    }
    #[inline(always)]
    fn total_u64(self, a: Self::U64) -> u64 {
        a.into_iter().fold(0, u64::wrapping_add)
    }
}
