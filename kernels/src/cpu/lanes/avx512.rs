//! AVX-512 (F, BW, VL, DQ): 16 lanes.

use std::arch::x86_64::*;

use super::Lanes;
use crate::cpu::extension::Kernel;

/// Calls intrinsics, and functions compiled for the extension, inside a method of [`Avx512`].
macro_rules! avx512 {
    ($body:expr) => {
        // SAFETY: the method's `self` is the proof that the processor has AVX-512 F, BW, VL and DQ, and
        // nothing called here needs more; pointers come from slices whose length is checked first.
        unsafe { $body }
    };
}

/// Proof that the processor has AVX-512 F, BW, VL and DQ. Private field: only [`Avx512::detect`]
/// makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) struct Avx512(());

impl Avx512 {
    pub(in crate::cpu) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        (found && !cfg!(miri)).then_some(Avx512(()))
    }

    /// Runs a kernel compiled for the extension.
    pub(in crate::cpu) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn compiled<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        avx512!(compiled(self, kernel))
    }
}

/// Sums of neighbours: within each 128-bit quarter, two of `a`, then two of `b`.
#[inline(always)]
fn add_neighbours(a: __m512, b: __m512, _: Avx512) -> __m512 {
    avx512!(_mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b)))
}

impl Lanes for Avx512 {
    const COUNT: usize = 16;
    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;
    type U64 = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x = &x[..16];
        avx512!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32]) {
        let out = &mut out[..16];
        avx512!(_mm512_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn widen_f16(self, x: &[u16]) -> __m512 {
        let x = &x[..16];
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn widen_bf16(self, x: &[u16]) -> __m512 {
        let x = &x[..16];
        avx512!({
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn sum_eights(self, v: [__m512; 8]) -> __m512 {
        let (first, second) = (add_neighbours(v[0], v[1], self), add_neighbours(v[2], v[3], self));
        let (third, fourth) = (add_neighbours(v[4], v[5], self), add_neighbours(v[6], v[7], self));
        // Quarter q: the sums of values 4 q .. 4 q + 4 of vectors 0 to 3 (or 4 to 7).
        let low = add_neighbours(first, second, self);
        let high = add_neighbours(third, fourth, self);
        avx512!({
            // Quarters: first eight values of vectors 0 to 3, last eight, the same of vectors 4 to 7.
            let sums = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0x88>(low, high),
                _mm512_shuffle_f32x4::<0xdd>(low, high),
            );
            let order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
            _mm512_permutexvar_ps(order, sums)
        })
    }

    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        avx512!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: __m512) -> __mmask16 {
        avx512!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a))
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        avx512!(_mm512_mask_blend_ps(mask, no, yes))
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        avx512!(_mm512_andnot_ps(_mm512_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn xor_sign(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_xor_ps(a, _mm512_and_ps(_mm512_set1_ps(-0.0), b)))
    }
    #[inline(always)]
    fn splat_i32(self, n: i32) -> __m512i {
        avx512!(_mm512_set1_epi32(n))
    }
    #[inline(always)]
    fn to_i32(self, a: __m512) -> __m512i {
        avx512!(_mm512_cvttps_epi32(a))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn halve_i32(self, a: __m512i) -> __m512i {
        avx512!(_mm512_srai_epi32::<1>(a))
    }
    #[inline(always)]
    fn shift_to_f32<const BITS: u32>(self, a: __m512i) -> __m512 {
        avx512!(_mm512_castsi512_ps(_mm512_slli_epi32::<BITS>(a)))
    }

    #[inline(always)]
    fn splat_u64(self, n: u64) -> __m512i {
        avx512!(_mm512_set1_epi64(n as i64))
    }
    #[inline(always)]
    fn count_u64(self, start: u64) -> __m512i {
        avx512!({
            let lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
            _mm512_add_epi64(_mm512_set1_epi64(start as i64), lanes)
        })
    }
    #[inline(always)]
    fn widen_u32(self, x: &[u8]) -> __m512i {
        let x = &x[..32];
        avx512!(_mm512_cvtepu32_epi64(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn add_u64(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_add_epi64(a, b))
    }
    #[inline(always)]
    fn mul_u64(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_mullo_epi64(a, b))
    }
    #[inline(always)]
    fn xor_u64(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn shl32_u64(self, a: __m512i) -> __m512i {
        avx512!(_mm512_slli_epi64::<32>(a))
    }
    #[inline(always)]
    fn shr33_u64(self, a: __m512i) -> __m512i {
        avx512!(_mm512_srli_epi64::<33>(a))
    }
    #[inline(always)]
    fn total_u64(self, a: __m512i) -> u64 {
        avx512!(_mm512_reduce_add_epi64(a)) as u64
    }
}
