//! The scalar arithmetic that all ops are made of: known vectors, special values, errors.

use proptest::prelude::*;
use twinstep_kernels::contract::{
    argmax, bf16_to_f32, canonical, dot, exp, f16_to_f32, f32_to_bf16, f32_to_f16, order_key, philox4x32_10,
    sin, tanh, tree_sum,
};

const CANONICAL: u32 = 0x7fc0_0000;
const NANS: [u32; 4] = [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff];

/// Every `step`-th bit pattern of the finite floats of both signs.
fn sample(step: usize) -> impl Iterator<Item = f32> {
    let positive = (0..0x7f80_0000u32).step_by(step);
    positive.flat_map(|bits| [f32::from_bits(bits), f32::from_bits(bits | 0x8000_0000)])
}

/// Error in units of the last place of the exact value's binade.
fn ulps(got: f32, want: f64) -> f64 {
    let exponent = want.abs().log2().floor().max(-126.0);
    (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
}

#[test]
fn philox_known_answers() {
    let ones = u32::MAX;
    assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(philox4x32_10([ones; 4], [ones; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    assert_eq!(
        philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
        [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
    );
}

/// Exact results that lie just beside half way between two f32. Binary64 rounds them to half way, and
/// a second rounding then goes to even: the wrong way.
#[test]
fn fma_rounds_once() {
    let tiny = 2f32.powi(-60);
    let x = 1.0 + 2f32.powi(-12);
    // x * x = 1 + 2^-11 + 2^-24 is half way between two f32, to even is down; 2^-60 more is up.
    let even = 1.0 + 2f32.powi(-11);
    assert_eq!(x.mul_add(x, 0.0), even);
    assert_eq!(x.mul_add(x, tiny).to_bits(), even.to_bits() + 1);
    assert_eq!((f64::from(x) * f64::from(x) + f64::from(tiny)) as f32, even, "emulated through binary64");
    // In a dot product: elements 0 and 64 of a segment of 128 share an accumulator.
    let element = |i: usize| match i {
        0 => tiny.sqrt(),
        64 => x,
        _ => 0.0,
    };
    assert_eq!(dot(1024, element, element).to_bits(), even.to_bits() + 1);
}

#[test]
fn f16_rounding_vectors() {
    let cases = [
        (1.0 + 2f32.powi(-11), 0x3c00, "tie to even, down"),
        (1.0 + 3.0 * 2f32.powi(-11), 0x3c02, "tie to even, up"),
        (1.0 + 2f32.powi(-11) + 2f32.powi(-23), 0x3c01, "just above the tie"),
        (65504.0, 0x7bff, "the greatest"),
        (65519.996, 0x7bff, "just below half way to 2^16"),
        (65520.0, 0x7c00, "half way to 2^16"),
        (-1e30, 0xfc00, "overflow"),
        (2f32.powi(-24), 0x0001, "the least subnormal"),
        (2f32.powi(-25), 0x0000, "half of it, tie to even"),
        (1.5 * 2f32.powi(-24), 0x0002, "tie between subnormals"),
        (2f32.powi(-25) * 1.0001, 0x0001, "just above half of it"),
        (-2f32.powi(-26), 0x8000, "underflow keeps the sign"),
        (2f32.powi(-14) - 2f32.powi(-25), 0x0400, "rounds up to the least normal"),
        (f32::INFINITY, 0x7c00, "infinity"),
        (-0.0, 0x8000, "minus zero"),
    ];
    for (x, bits, what) in cases {
        assert_eq!(f32_to_f16(x), bits, "{what}: {x}");
    }
    for bits in NANS {
        assert_eq!(f32_to_f16(f32::from_bits(bits)), 0x7e00);
    }
}

#[test]
fn bf16_rounding_vectors() {
    let cases = [
        (0x3f80_8000, 0x3f80, "tie to even, down"),
        (0x3f81_8000, 0x3f82, "tie to even, up"),
        (0x3f80_8001, 0x3f81, "just above the tie"),
        (0x7f7f_7fff, 0x7f7f, "just below half way to 2^128"),
        (0x7f7f_8000, 0x7f80, "half way to 2^128"),
        (0xff7f_ffff, 0xff80, "overflow"),
        (0x0000_8000, 0x0000, "half of the least subnormal"),
        (0x0000_8001, 0x0001, "just above it"),
        (0x8000_0001, 0x8000, "underflow keeps the sign"),
        (0x7f80_0000, 0x7f80, "infinity"),
    ];
    for (x, bits, what) in cases {
        assert_eq!(f32_to_bf16(f32::from_bits(x)), bits, "{what}: {x:08x}");
    }
    for bits in NANS {
        assert_eq!(f32_to_bf16(f32::from_bits(bits)), 0x7fc0);
    }
}

#[test]
fn widening_and_rounding_back_is_the_identity() {
    for bits in 0..=u16::MAX {
        if !f16_to_f32(bits).is_nan() {
            assert_eq!(f32_to_f16(f16_to_f32(bits)), bits);
        }
        if !bf16_to_f32(bits).is_nan() {
            assert_eq!(f32_to_bf16(bf16_to_f32(bits)), bits);
        }
    }
    assert_eq!(f16_to_f32(0x0001), 2f32.powi(-24));
    assert_eq!(f16_to_f32(0x7bff), 65504.0);
    assert_eq!(f16_to_f32(0xfc00), f32::NEG_INFINITY);
}

proptest! {
    /// The rounded value is one of the two neighbours, the nearer one, and the even one of a tie.
    #[test]
    fn rounding_is_to_nearest_even(bits: u32) {
        let x = f32::from_bits(bits);
        prop_assume!(x.is_finite());
        for (round, widen, infinity) in [
            (f32_to_f16 as fn(f32) -> u16, f16_to_f32 as fn(u16) -> f32, 0x7c00u16),
            (f32_to_bf16, bf16_to_f32, 0x7f80),
        ] {
            // As an unbounded exponent range would have it: infinity stands for the next power of two.
            let value = |h: u16| match h & 0x7fff {
                i if i == infinity => 2.0 * f64::from(widen(infinity & (infinity << 1))),
                i => f64::from(widen(i)),
            };
            let (got, exact) = (round(x) & 0x7fff, f64::from(x.abs()));
            prop_assert_eq!(round(x) >> 15, (bits >> 31) as u16);
            if exact > value(infinity) {
                prop_assert_eq!(got, infinity);
                continue;
            }
            let error = (value(got) - exact).abs();
            for neighbour in [got.checked_sub(1), (got < infinity).then_some(got + 1)].into_iter().flatten() {
                let other = (value(neighbour) - exact).abs();
                prop_assert!(error < other || (error == other && got % 2 == 0), "{} to {:04x}", x, got);
            }
        }
    }

    #[test]
    fn the_key_orders_as_the_values_do(a: u32, b: u32) {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        prop_assume!(!x.is_nan() && !y.is_nan());
        prop_assert_eq!(order_key(x).cmp(&order_key(y)), x.partial_cmp(&y).expect("no NaN"));
    }
}

#[test]
fn nan_is_below_everything_and_zeros_are_equal() {
    for bits in NANS {
        assert_eq!(order_key(f32::from_bits(bits)), 0);
        assert_eq!(canonical(f32::from_bits(bits)).to_bits(), CANONICAL);
    }
    assert!(order_key(f32::NEG_INFINITY) > 0);
    assert_eq!(order_key(-0.0), order_key(0.0));
    assert_eq!(argmax(&[f32::NAN, -0.0, 0.0]), 1);
    assert_eq!(argmax(&[]), 0);
}

#[test]
fn the_dot_product_has_the_stated_order() {
    // In 24 bits 1 is lost beside 2^24; which ones are lost tells the order.
    let big = 16_777_216.0f32;
    // Elements 0 and 64 share an accumulator: big + 1 = big, and the ones of other accumulators meet first.
    let mut x = vec![0.0f32; 1024];
    (x[0], x[64]) = (big, 1.0);
    assert_eq!(dot(1024, |i| x[i], |_| 1.0), big, "one accumulator");
    x[64] = 0.0;
    (x[2], x[3]) = (1.0, 1.0);
    assert_eq!(dot(1024, |i| x[i], |_| 1.0), big + 2.0, "2 + 3 before they meet 0 + 1");
    (x[2], x[3]) = (1.0, 0.0);
    assert_eq!(dot(1024, |i| x[i], |_| 1.0), big);
    (x[2], x[1]) = (0.0, 1.0);
    x[3] = 0.0;
    assert_eq!(dot(1024, |i| x[i], |_| 1.0), big, "0 + 1 first");
    // 1024 elements are eight segments of 128, added left to right: each 1 is lost by itself.
    x.fill(0.0);
    x[0] = big;
    (1..8).for_each(|segment| x[segment * 128] = 1.0);
    assert_eq!(dot(1024, |i| x[i], |_| 1.0), big, "segments left to right");
    // 640 elements are five segments of 128, not eight of 80.
    x.fill(0.0);
    (x[0], x[64]) = (big, 1.0);
    assert_eq!(dot(640, |i| x[i], |_| 1.0), big, "elements 0 and 64 of one segment");

    let mut accumulators = [0.0f32; 64];
    (accumulators[0], accumulators[8], accumulators[16], accumulators[24]) = (big, 1.0, 1.0, 1.0);
    assert_eq!(tree_sum(&accumulators), big + 2.0, "sums of eight neighbours pairwise");
    assert_eq!(dot(3, |_| -0.0, |_| 1.0).to_bits(), 0, "accumulators start from +0");
}

#[test]
fn exp_of_special_values() {
    let bits = |x: f32| exp(x).to_bits();
    assert_eq!((bits(0.0), bits(-0.0)), (0x3f80_0000, 0x3f80_0000));
    assert_eq!((exp(f32::INFINITY), bits(f32::NEG_INFINITY)), (f32::INFINITY, 0));
    for nan in NANS {
        assert_eq!(bits(f32::from_bits(nan)), CANONICAL);
    }
    assert!(exp(f32::from_bits(0x42b1_7217)).is_finite());
    assert_eq!(exp(f32::from_bits(0x42b1_7218)), f32::INFINITY);
    assert_eq!(bits(-103.97), 1, "the least subnormal");
    assert_eq!((bits(-103.98), bits(-104.0), bits(-104.1), bits(f32::MIN)), (0, 0, 0, 0));
    assert_eq!((bits(f32::from_bits(1)), bits(-f32::MIN_POSITIVE)), (0x3f80_0000, 0x3f80_0000));
}

#[test]
fn sin_of_special_values() {
    let bits = |x: f32| sin(x).to_bits();
    assert_eq!((bits(0.0), bits(-0.0)), (0, 0x8000_0000));
    for nan in NANS {
        assert_eq!(bits(f32::from_bits(nan)), CANONICAL);
    }
    for outside in [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 32768.004, -32768.004] {
        assert_eq!(bits(outside), CANONICAL, "{outside}");
    }
    assert!(sin(32768.0).abs() <= 1.0 && sin(-32768.0) == -sin(32768.0));
    for tiny in [1, 0x0000_ffff, 0x0080_0000, 0x3900_0000] {
        assert_eq!(bits(f32::from_bits(tiny)), tiny, "a small argument is its own sine");
    }
}

#[test]
fn tanh_of_special_values() {
    let bits = |x: f32| tanh(x).to_bits();
    assert_eq!((bits(0.0), bits(-0.0)), (0, 0x8000_0000));
    assert_eq!(
        (tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(9.02), tanh(-f32::MAX)),
        (1.0, -1.0, 1.0, -1.0)
    );
    for nan in NANS {
        assert_eq!(bits(f32::from_bits(nan)), CANONICAL);
    }
    for tiny in [1, 0x0000_ffff, 0x0080_0000, 0x3900_0000] {
        assert_eq!(bits(f32::from_bits(tiny)), tiny, "a small argument is its own tangent");
    }
}

/// The greatest errors over all arguments, as NUMERICS.md gives them, held on every 401st one.
#[test]
fn errors_stay_within_the_documented_ones() {
    for x in sample(401) {
        let wide = f64::from(x);
        if (-104.0..=88.722_83).contains(&x) {
            let limit = if wide.exp() < f64::from(f32::MIN_POSITIVE) { 0.751 } else { 1.042 };
            assert!(ulps(exp(x), wide.exp()) <= limit, "exp({x:e}) = {:e}", exp(x));
        }
        if x.abs() <= 32_768.0 {
            assert!((f64::from(sin(x)) - wide.sin()).abs() <= 1.256e-7, "sin({x:e}) = {:e}", sin(x));
            assert_eq!(sin(-x), -sin(x));
        }
        if x.abs() <= std::f32::consts::FRAC_PI_2 && x != 0.0 {
            assert!(ulps(sin(x), wide.sin()) <= 2.091, "sin({x:e}) = {:e}", sin(x));
        }
        if x != 0.0 {
            assert!(ulps(tanh(x), wide.tanh()) <= 1.332, "tanh({x:e}) = {:e}", tanh(x));
        }
    }
}
