//! Sine.

/// Constants of [`sin`](super::sin()).
pub mod coefficients {
    /// Greatest magnitude of an argument that is reduced.
    pub const LIMIT: f32 = 32_768.0;
    /// 1 / pi.
    pub const FRAC_1_PI: f32 = f32::from_bits(0x3ea2_f983);
    /// Upper 9 bits of pi: its product with a multiple below 2^14 is exact.
    pub const PI_A: f32 = f32::from_bits(0x4049_0000);
    /// The next 11 bits of pi.
    pub const PI_B: f32 = f32::from_bits(0x3a7d_a000);
    /// pi less [`PI_A`] and [`PI_B`].
    pub const PI_C: f32 = f32::from_bits(0x3422_2169);
    /// 1.5 * 2^23: adding it rounds to an integer, ties to even.
    pub const ROUND: f32 = 12_582_912.0;
    /// (sin(r) / r - 1) / r^2 in powers of r^2 on |r| <= pi/2, lowest first: a minimax fit with
    /// relative error 1.9e-11, made with the Remez exchange in 60 digits, then rounded.
    pub const P: [f32; 5] = [
        f32::from_bits(0xbe2a_aaab),
        f32::from_bits(0x3c08_8886),
        f32::from_bits(0xb950_0bfe),
        f32::from_bits(0x3638_ba4d),
        f32::from_bits(0xb2cd_5f4b),
    ];
}

/// Sine of `x` in radians, by a three-term Cody-Waite reduction to multiples of pi. ±0 gives ±0;
/// NaN, ±inf and magnitudes above 2^15, where the reduction loses its bits, give the canonical NaN.
pub fn sin(x: f32) -> f32 {
    use coefficients::*;
    if x.is_nan() || x.abs() > LIMIT {
        return f32::from_bits(super::CANONICAL_F32_NAN);
    }
    // On the magnitude: with the sign inside, the last fma would turn -0 into +0.
    let a = x.abs();
    let n = a.mul_add(FRAC_1_PI, ROUND) - ROUND;
    let r = n.mul_add(-PI_C, n.mul_add(-PI_B, n.mul_add(-PI_A, a)));
    let z = r * r;
    let mut p = P[4];
    for &c in P[..4].iter().rev() {
        p = p.mul_add(z, c);
    }
    let s = (z * p).mul_add(r, r);
    // sin(r + n pi) = sin(r) for even n, -sin(r) for odd n; sin(-a) = -sin(a).
    let sign = (x.to_bits() >> 31) ^ (n as u32);
    f32::from_bits(s.to_bits() ^ (sign << 31))
}
