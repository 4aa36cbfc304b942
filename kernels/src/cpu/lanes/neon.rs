//! NEON (Advanced SIMD of AArch64, part of every such processor): 4 lanes.

use std::arch::aarch64::*;

use super::Lanes;
use crate::contract::f16_to_f32;
use crate::cpu::extension::Kernel;

/// Calls intrinsics, and functions compiled for the extension, inside a method of [`Neon`].
macro_rules! neon {
    ($body:expr) => {
        // SAFETY: the method's `self` is the proof that the processor has NEON, and nothing called
        // here needs more; pointers come from slices whose length is checked first.
        unsafe { $body }
    };
}

/// Proof that the processor has NEON. Private field: only [`Neon::detect`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) struct Neon(());

impl Neon {
    pub(in crate::cpu) fn detect() -> Option<Self> {
        (std::arch::is_aarch64_feature_detected!("neon") && !cfg!(miri)).then_some(Neon(()))
    }

    /// Runs a kernel compiled for the extension.
    pub(in crate::cpu) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn compiled<K: Kernel>(lanes: Neon, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        neon!(compiled(self, kernel))
    }
}

impl Lanes for Neon {
    const COUNT: usize = 4;
    type F32 = float32x4_t;
    type I32 = int32x4_t;
    type Mask = uint32x4_t;
    type U64 = uint64x2_t;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        neon!(vdupq_n_f32(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> float32x4_t {
        let x = &x[..4];
        neon!(vld1q_f32(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: float32x4_t, out: &mut [f32]) {
        let out = &mut out[..4];
        neon!(vst1q_f32(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn widen_f16(self, x: &[u16]) -> float32x4_t {
        // The vector conversion needs types that are not stable; the scalar one is exact too.
        let x = &x[..4];
        self.load(&[f16_to_f32(x[0]), f16_to_f32(x[1]), f16_to_f32(x[2]), f16_to_f32(x[3])])
    }
    #[inline(always)]
    fn widen_bf16(self, x: &[u16]) -> float32x4_t {
        let x = &x[..4];
        neon!(vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(x.as_ptr()))))
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        neon!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn sum_eights(self, v: [float32x4_t; 8]) -> float32x4_t {
        // A pairwise add keeps the order of values, so three of them are the whole tree.
        neon!({
            let low = vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
            let high = vpaddq_f32(vpaddq_f32(v[4], v[5]), vpaddq_f32(v[6], v[7]));
            vpaddq_f32(low, high)
        })
    }

    #[inline(always)]
    fn gt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        neon!(vcgtq_f32(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: float32x4_t) -> uint32x4_t {
        neon!(vmvnq_u32(vceqq_f32(a, a)))
    }
    #[inline(always)]
    fn select(self, mask: uint32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        neon!(vbslq_f32(mask, yes, no))
    }

    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        neon!(vabsq_f32(a))
    }
    #[inline(always)]
    fn xor_sign(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!({
            let sign = vandq_u32(vreinterpretq_u32_f32(b), vdupq_n_u32(0x8000_0000));
            vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), sign))
        })
    }
    #[inline(always)]
    fn splat_i32(self, n: i32) -> int32x4_t {
        neon!(vdupq_n_s32(n))
    }
    #[inline(always)]
    fn to_i32(self, a: float32x4_t) -> int32x4_t {
        neon!(vcvtq_s32_f32(a))
    }
    #[inline(always)]
    fn add_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        neon!(vaddq_s32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        neon!(vsubq_s32(a, b))
    }
    #[inline(always)]
    fn halve_i32(self, a: int32x4_t) -> int32x4_t {
        neon!(vshrq_n_s32::<1>(a))
    }
    #[inline(always)]
    fn shift_to_f32<const BITS: u32>(self, a: int32x4_t) -> float32x4_t {
        neon!(vreinterpretq_f32_s32(vshlq_s32(a, vdupq_n_s32(BITS as i32))))
    }

    #[inline(always)]
    fn splat_u64(self, n: u64) -> uint64x2_t {
        neon!(vdupq_n_u64(n))
    }
    #[inline(always)]
    fn count_u64(self, start: u64) -> uint64x2_t {
        let lanes = [start, start.wrapping_add(1)];
        neon!(vld1q_u64(lanes.as_ptr()))
    }
    #[inline(always)]
    fn widen_u32(self, x: &[u8]) -> uint64x2_t {
        let x = &x[..8];
        // Words of a byte array are little-endian in memory, and so is AArch64 as Rust targets it here.
        neon!(vmovl_u32(vreinterpret_u32_u8(vld1_u8(x.as_ptr()))))
    }
    #[inline(always)]
    fn add_u64(self, a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        neon!(vaddq_u64(a, b))
    }
    #[inline(always)]
    fn mul_u64(self, a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        // There is no vector product of 64-bit lanes.
        let (mut x, mut y) = ([0u64; 2], [0u64; 2]);
        neon!({
            vst1q_u64(x.as_mut_ptr(), a);
            vst1q_u64(y.as_mut_ptr(), b);
        });
        let products = [x[0].wrapping_mul(y[0]), x[1].wrapping_mul(y[1])];
        neon!(vld1q_u64(products.as_ptr()))
    }
    #[inline(always)]
    fn xor_u64(self, a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        neon!(veorq_u64(a, b))
    }
    #[inline(always)]
    fn shl32_u64(self, a: uint64x2_t) -> uint64x2_t {
        neon!(vshlq_n_u64::<32>(a))
    }
    #[inline(always)]
    fn shr33_u64(self, a: uint64x2_t) -> uint64x2_t {
        neon!(vshrq_n_u64::<33>(a))
    }
    #[inline(always)]
    fn total_u64(self, a: uint64x2_t) -> u64 {
        neon!(vaddvq_u64(a))
    }
}
