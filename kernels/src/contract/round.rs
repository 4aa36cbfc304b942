//! Conversions between float types, and the canonical NaN.

use half::{bf16, f16};

/// Bits of every f32 NaN that an op stores.
pub const CANONICAL_F32_NAN: u32 = 0x7fc0_0000;
/// Bits of every f16 NaN that an op stores.
pub const CANONICAL_F16_NAN: u16 = 0x7e00;
/// Bits of every bf16 NaN that an op stores.
pub const CANONICAL_BF16_NAN: u16 = 0x7fc0;

/// `x`, or the canonical NaN: which NaN an operation returns differs between devices.
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(CANONICAL_F32_NAN) } else { x }
}

/// Exact.
pub fn f16_to_f32(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// Exact.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Round to nearest even; too great gives ±inf, NaN the canonical one.
pub fn f32_to_f16(x: f32) -> u16 {
    if x.is_nan() { CANONICAL_F16_NAN } else { f16::from_f32(x).to_bits() }
}

/// Round to nearest even; too great gives ±inf, NaN the canonical one.
pub fn f32_to_bf16(x: f32) -> u16 {
    if x.is_nan() { CANONICAL_BF16_NAN } else { bf16::from_f32(x).to_bits() }
}
