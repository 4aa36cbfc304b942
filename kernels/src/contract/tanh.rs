//! Hyperbolic tangent.

/// Constants of [`tanh`](super::tanh()).
pub mod coefficients {
    /// Below this magnitude a polynomial, above it the exponential.
    pub const SMALL: f32 = 0.625;
    /// From this magnitude on the result rounds to ±1.
    pub const ONE: f32 = 9.02;
    /// (tanh(x) / x - 1) / x^2 in powers of x^2 on |x| <= 0.625, lowest first: a minimax fit with
    /// relative error 1.5e-10, made with the Remez exchange in 60 digits, then rounded.
    pub const P: [f32; 6] = [
        f32::from_bits(0xbeaa_aaaa),
        f32::from_bits(0x3e08_8835),
        f32::from_bits(0xbd5c_f7ab),
        f32::from_bits(0x3cb1_c992),
        f32::from_bits(0xbc06_0c3e),
        f32::from_bits(0x3b0c_ad0b),
    ];
}

/// Hyperbolic tangent of `x`. ±0 gives ±0, NaN the canonical NaN, magnitudes from 9.02 on ±1.
pub fn tanh(x: f32) -> f32 {
    use coefficients::*;
    if x.is_nan() {
        return super::canonical(x);
    }
    let a = x.abs();
    let magnitude = if a < SMALL {
        let z = a * a;
        let mut p = P[5];
        for &c in P[..5].iter().rev() {
            p = p.mul_add(z, c);
        }
        (z * p).mul_add(a, a)
    } else if a < ONE {
        1.0 - 2.0 / (super::exp(a + a) + 1.0)
    } else {
        1.0
    };
    magnitude.copysign(x)
}
