//! AVX2 with FMA and F16C: 8 lanes.

use std::arch::x86_64::*;

use super::Lanes;
use crate::cpu::extension::Kernel;

/// Calls intrinsics, and functions compiled for the extension, inside a method of [`Avx2`].
macro_rules! avx2 {
    ($body:expr) => {
        // SAFETY: the method's `self` is the proof that the processor has AVX2, FMA and F16C, and nothing
        // called here needs more; pointers come from slices whose length is checked first.
        unsafe { $body }
    };
}

/// Proof that the processor has AVX2, FMA and F16C. Private field: only [`Avx2::detect`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) struct Avx2(());

impl Avx2 {
    pub(in crate::cpu) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        (found && !cfg!(miri)).then_some(Avx2(()))
    }

    /// Runs a kernel compiled for the extension.
    pub(in crate::cpu) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        avx2!(compiled(self, kernel))
    }
}

/// Sums of neighbours: within each 128-bit half, two of `a`, then two of `b`.
#[inline(always)]
fn add_neighbours(a: __m256, b: __m256, _: Avx2) -> __m256 {
    avx2!(_mm256_add_ps(_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xdd>(a, b)))
}

impl Lanes for Avx2 {
    const COUNT: usize = 8;
    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256;
    type U64 = __m256i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        avx2!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        let x = &x[..8];
        avx2!(_mm256_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32]) {
        let out = &mut out[..8];
        avx2!(_mm256_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn widen_f16(self, x: &[u16]) -> __m256 {
        let x = &x[..8];
        avx2!(_mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn widen_bf16(self, x: &[u16]) -> __m256 {
        let x = &x[..8];
        avx2!({
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx2!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn sum_eights(self, v: [__m256; 8]) -> __m256 {
        let (first, second) = (add_neighbours(v[0], v[1], self), add_neighbours(v[2], v[3], self));
        let (third, fourth) = (add_neighbours(v[4], v[5], self), add_neighbours(v[6], v[7], self));
        // Lower half: the sums of the first four values of vectors 0 to 3 (or 4 to 7); upper half:
        // those of the last four.
        let low = add_neighbours(first, second, self);
        let high = add_neighbours(third, fourth, self);
        avx2!(_mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(low, high),
            _mm256_permute2f128_ps::<0x31>(low, high)
        ))
    }

    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: __m256) -> __m256 {
        avx2!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }
    #[inline(always)]
    fn select(self, mask: __m256, yes: __m256, no: __m256) -> __m256 {
        avx2!(_mm256_blendv_ps(no, yes, mask))
    }

    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        avx2!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn xor_sign(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_xor_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0), b)))
    }
    #[inline(always)]
    fn splat_i32(self, n: i32) -> __m256i {
        avx2!(_mm256_set1_epi32(n))
    }
    #[inline(always)]
    fn to_i32(self, a: __m256) -> __m256i {
        avx2!(_mm256_cvttps_epi32(a))
    }
    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn halve_i32(self, a: __m256i) -> __m256i {
        avx2!(_mm256_srai_epi32::<1>(a))
    }
    #[inline(always)]
    fn shift_to_f32<const BITS: u32>(self, a: __m256i) -> __m256 {
        avx2!(_mm256_castsi256_ps(_mm256_sll_epi32(a, _mm_cvtsi32_si128(BITS as i32))))
    }

    #[inline(always)]
    fn splat_u64(self, n: u64) -> __m256i {
        avx2!(_mm256_set1_epi64x(n as i64))
    }
    #[inline(always)]
    fn count_u64(self, start: u64) -> __m256i {
        avx2!(_mm256_add_epi64(_mm256_set1_epi64x(start as i64), _mm256_setr_epi64x(0, 1, 2, 3)))
    }
    #[inline(always)]
    fn widen_u32(self, x: &[u8]) -> __m256i {
        let x = &x[..16];
        avx2!(_mm256_cvtepu32_epi64(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn add_u64(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi64(a, b))
    }
    #[inline(always)]
    fn mul_u64(self, a: __m256i, b: __m256i) -> __m256i {
        // From 32-bit halves: low * low + ((low * high + high * low) << 32).
        avx2!({
            let crossed = _mm256_mullo_epi32(a, _mm256_shuffle_epi32::<0xb1>(b));
            let sum = _mm256_add_epi32(crossed, _mm256_srli_epi64::<32>(crossed));
            _mm256_add_epi64(_mm256_mul_epu32(a, b), _mm256_slli_epi64::<32>(sum))
        })
    }
    #[inline(always)]
    fn xor_u64(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_xor_si256(a, b))
    }
    #[inline(always)]
    fn shl32_u64(self, a: __m256i) -> __m256i {
        avx2!(_mm256_slli_epi64::<32>(a))
    }
    #[inline(always)]
    fn shr33_u64(self, a: __m256i) -> __m256i {
        avx2!(_mm256_srli_epi64::<33>(a))
    }
    #[inline(always)]
    fn total_u64(self, a: __m256i) -> u64 {
        let mut lanes = [0u64; 4];
        avx2!(_mm256_storeu_si256(lanes.as_mut_ptr().cast(), a));
        lanes.into_iter().fold(0, u64::wrapping_add)
    }
}
