//! Exponential.

/// Constants of [`exp`](super::exp()).
pub mod coefficients {
    /// 1 / ln 2.
    pub const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
    /// Upper 14 bits of ln 2: its product with an exponent is exact.
    pub const LN2_HI: f32 = f32::from_bits(0x3f31_7000);
    /// ln 2 less [`LN2_HI`].
    pub const LN2_LO: f32 = f32::from_bits(0x3805_fdf4);
    /// 1.5 * 2^23: adding it rounds to an integer, ties to even.
    pub const ROUND: f32 = 12_582_912.0;
    /// The greatest argument with a finite result.
    pub const OVERFLOW: f32 = f32::from_bits(0x42b1_7217);
    /// Below it the result is less than half of the least subnormal.
    pub const UNDERFLOW: f32 = -104.0;
    /// (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, lowest power first: a minimax fit with error
    /// 3.2e-9 relative to exp, made with the Remez exchange in 60 digits, then rounded.
    pub const Q: [f32; 5] = [
        f32::from_bits(0x3f00_0000),
        f32::from_bits(0x3e2a_aa47),
        f32::from_bits(0x3d2a_aa2f),
        f32::from_bits(0x3c09_1def),
        f32::from_bits(0x3ab6_da67),
    ];
}

/// e to the `x`. NaN gives the canonical NaN, above 88.72283 +inf, below -104 +0, ±0 gives 1;
/// subnormal results are rounded once.
pub fn exp(x: f32) -> f32 {
    use coefficients::*;
    if x.is_nan() {
        return super::canonical(x);
    }
    if x > OVERFLOW {
        return f32::INFINITY;
    }
    if x < UNDERFLOW {
        return 0.0;
    }
    let n = x.mul_add(LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let mut q = Q[4];
    for &c in Q[..4].iter().rev() {
        q = q.mul_add(r, c);
    }
    let p = (r * r).mul_add(q, r) + 1.0;
    // Two factors, because 2^n itself may be subnormal or overflow while the result is fine.
    let n = n as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    p * power(half) * power(n - half)
}
