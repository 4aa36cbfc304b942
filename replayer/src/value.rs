//! One element of a buffer: read, shown, parsed and compared.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use thiserror::Error;
use twinstep_kernels::contract::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use twinstep_traces::DType;

use crate::number::Number;

/// An element: its type and its bits, zero-extended. Two values are equal if their bits are.
///
/// As JSON it is `{"value": 1.5, "bits": "0x3fc00000"}`; a float that is not finite is one of the
/// strings `NaN`, `Infinity`, `-Infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value {
    dtype: DType,
    bits: u64,
}

/// Why a text is not a value of a type.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a number, or not of that kind.
    #[error("`{text}` is not a value of type {dtype}; write {wants}")]
    Syntax {
        /// What was given.
        text: String,
        /// Name of the type.
        dtype: &'static str,
        /// What would be accepted.
        wants: &'static str,
    },
    /// A number that the type cannot hold.
    #[error("{text} is out of the range of {dtype}, {low} to {high}")]
    Range {
        /// What was given.
        text: String,
        /// Name of the type.
        dtype: &'static str,
        /// Least finite value.
        low: String,
        /// Greatest finite value.
        high: String,
    },
}

/// Whether a type holds floats.
pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::Bf16)
}

impl Value {
    /// The value whose little-endian bytes are `bytes`; `None` unless they are exactly one element.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Option<Value> {
        if bytes.len() as u64 != dtype.size() {
            return None;
        }
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Some(Value { dtype, bits: u64::from_le_bytes(word) })
    }

    /// All values of a run of elements, in order; trailing bytes that make no element are left out.
    pub(crate) fn all(dtype: DType, bytes: &[u8]) -> impl Iterator<Item = Value> {
        bytes.chunks_exact(dtype.size() as usize).filter_map(move |bytes| Value::from_bytes(dtype, bytes))
    }

    /// Its type.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// Its bits, zero-extended.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// Its little-endian bytes, as many as the type has.
    pub fn to_bytes(self) -> Vec<u8> {
        self.bits.to_le_bytes()[..self.dtype.size() as usize].to_vec()
    }

    /// The number, exact but for integers beyond 2^53. `Bool` is 0 or 1.
    pub fn to_f64(self) -> f64 {
        match self.dtype {
            DType::F32 | DType::F16 | DType::Bf16 => f64::from(self.as_f32()),
            DType::I64 => self.bits as i64 as f64,
            DType::I32 => f64::from(self.bits as u32 as i32),
            DType::U64 | DType::U32 | DType::U8 => self.bits as f64,
            DType::Bool => f64::from(u8::from(self.bits != 0)),
        }
    }

    /// An integer, exactly, `Bool` as 0 or 1; `None` for floats.
    pub fn to_integer(self) -> Option<i128> {
        match self.dtype {
            DType::Bool => Some(i128::from(self.bits != 0)),
            dtype => (!is_float(dtype)).then(|| self.ordinal()),
        }
    }

    /// As [`Value`] is shown, but that a NaN tells its bits: `NaN (0x7fc00001)`. Two values of a type that differ are
    /// never told alike.
    pub fn told(self) -> String {
        if is_float(self.dtype) && self.as_f32().is_nan() {
            let digits = 2 * self.dtype.size() as usize;
            return format!("{self} (0x{:0digits$x})", self.bits);
        }
        self.to_string()
    }

    /// A float value, widened exactly; an integer is not one and gives NaN.
    fn as_f32(self) -> f32 {
        match self.dtype {
            DType::F32 => f32::from_bits(self.bits as u32),
            DType::F16 => f16_to_f32(self.bits as u16),
            DType::Bf16 => bf16_to_f32(self.bits as u16),
            _ => f32::NAN,
        }
    }

    /// How many representable values lie between two values of one type: 0 for equal numbers (so for
    /// -0 and +0), 1 for neighbours. For integers it is the distance. `None` where one is NaN, for
    /// booleans, or where the types differ.
    pub fn ulps(self, other: Value) -> Option<u64> {
        if self.dtype != other.dtype || self.dtype == DType::Bool {
            return None;
        }
        if is_float(self.dtype) && (self.as_f32().is_nan() || other.as_f32().is_nan()) {
            return None;
        }
        u64::try_from(self.ordinal().abs_diff(other.ordinal())).ok()
    }

    /// Position among all values of the type in rising order, 0 for zero.
    fn ordinal(self) -> i128 {
        match self.dtype {
            DType::I64 => i128::from(self.bits as i64),
            DType::I32 => i128::from(self.bits as u32 as i32),
            DType::U64 | DType::U32 | DType::U8 | DType::Bool => i128::from(self.bits),
            // Sign and magnitude: for a positive float the bits rise with the number.
            DType::F32 | DType::F16 | DType::Bf16 => {
                let sign = 1u64 << (8 * self.dtype.size() - 1);
                let magnitude = i128::from(self.bits & (sign - 1));
                if self.bits & sign == 0 { magnitude } else { -magnitude }
            }
        }
    }

    /// Reads a value as a person writes it: an integer (decimal, or hexadecimal after `0x`), `true`
    /// or `false`, a float (`1.5`, `-3e-4`, `NaN`, `inf`), or a float's bits after `0x`, all digits
    /// given. A float is rounded to nearest even.
    ///
    /// # Errors
    /// [`ValueError`] where the text is no value of the type or does not fit it.
    pub fn parse(dtype: DType, text: &str) -> Result<Value, ValueError> {
        let text = text.trim();
        match dtype {
            DType::F32 | DType::F16 | DType::Bf16 => Value::parse_float(dtype, text),
            DType::Bool => match text {
                "false" | "0" => Ok(Value { dtype, bits: 0 }),
                "true" | "1" => Ok(Value { dtype, bits: 1 }),
                _ => Err(syntax(dtype, text, "true or false")),
            },
            DType::I64 => Value::parse_integer(dtype, text, i64::MIN.into(), i64::MAX.into()),
            DType::I32 => Value::parse_integer(dtype, text, i32::MIN.into(), i32::MAX.into()),
            DType::U64 => Value::parse_integer(dtype, text, 0, u64::MAX.into()),
            DType::U32 => Value::parse_integer(dtype, text, 0, u32::MAX.into()),
            DType::U8 => Value::parse_integer(dtype, text, 0, u8::MAX.into()),
        }
    }

    fn parse_integer(dtype: DType, text: &str, low: i128, high: i128) -> Result<Value, ValueError> {
        let wrong = || syntax(dtype, text, "an integer such as 3, -1 or 0x1f");
        let range = || ValueError::Range {
            text: text.to_owned(),
            dtype: dtype.name(),
            low: low.to_string(),
            high: high.to_string(),
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (digits, radix) = match digits.strip_prefix("0x") {
            Some(rest) => (rest, 16),
            None => (digits, 10),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(wrong());
        }
        // Digits too many for 128 bits are an integer all the same, one out of range.
        let magnitude = i128::from_str_radix(digits, radix).map_err(|_| range())?;
        let value = if negative { -magnitude } else { magnitude };
        if !(low..=high).contains(&value) {
            return Err(range());
        }
        let mask = u64::MAX >> (64 - 8 * dtype.size());
        Ok(Value { dtype, bits: value as u64 & mask })
    }

    fn parse_float(dtype: DType, text: &str) -> Result<Value, ValueError> {
        let wrong = || syntax(dtype, text, "a float such as 1.5, -3e-4, NaN or inf, or its bits after 0x");
        if let Some(digits) = text.strip_prefix("0x") {
            let whole =
                digits.len() as u64 == 2 * dtype.size() && digits.chars().all(|c| c.is_ascii_hexdigit());
            let bits = u64::from_str_radix(digits, 16).ok().filter(|_| whole).ok_or_else(wrong)?;
            return Ok(Value { dtype, bits });
        }
        let number: f32 = text.parse().map_err(|_| wrong())?;
        let bits = match dtype {
            DType::F16 => f32_to_f16(number).into(),
            DType::Bf16 => f32_to_bf16(number).into(),
            _ => number.to_bits().into(),
        };
        let value = Value { dtype, bits };
        // Infinity is only meant where it is written; `1e99` is a number out of range.
        let named = text.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("inf");
        if value.as_f32().is_infinite() && !named {
            let greatest = match dtype {
                DType::F16 => f16_to_f32(0x7bff),
                DType::Bf16 => bf16_to_f32(0x7f7f),
                _ => f32::MAX,
            };
            return Err(ValueError::Range {
                text: text.to_owned(),
                dtype: dtype.name(),
                low: format!("{:e}", -greatest),
                high: format!("{greatest:e}"),
            });
        }
        Ok(value)
    }
}

fn syntax(dtype: DType, text: &str, wants: &'static str) -> ValueError {
    ValueError::Syntax { text: text.to_owned(), dtype: dtype.name(), wants }
}

/// The shortest text that parses back to the same number (`{:.3}` and the like are passed on to
/// floats). A boolean byte that is neither 0 nor 1 shows its byte.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            DType::F32 | DType::F16 | DType::Bf16 => Number(f64::from(self.as_f32())).show(f, self.as_f32()),
            DType::I64 => fmt::Display::fmt(&(self.bits as i64), f),
            DType::I32 => fmt::Display::fmt(&(self.bits as u32 as i32), f),
            DType::U64 | DType::U32 | DType::U8 => fmt::Display::fmt(&self.bits, f),
            DType::Bool => match self.bits {
                0 => f.pad("false"),
                1 => f.pad("true"),
                byte => f.pad(&format!("true (byte {byte:#04x})")),
            },
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Value", 2)?;
        match self.dtype {
            // As f32, so that the shortest text of the narrow type is written.
            DType::F32 | DType::F16 | DType::Bf16 if self.as_f32().is_finite() => {
                document.serialize_field("value", &self.as_f32())?;
            }
            DType::F32 | DType::F16 | DType::Bf16 => {
                document.serialize_field("value", &Number(self.to_f64()))?;
            }
            DType::I64 => document.serialize_field("value", &(self.bits as i64))?,
            DType::I32 => document.serialize_field("value", &(self.bits as u32 as i32))?,
            DType::U64 | DType::U32 | DType::U8 => document.serialize_field("value", &self.bits)?,
            DType::Bool => document.serialize_field("value", &(self.bits != 0))?,
        }
        let digits = 2 * self.dtype.size() as usize;
        document.serialize_field("bits", &format!("0x{:0digits$x}", self.bits))?;
        document.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(dtype: DType, text: &str) -> Value {
        Value::parse(dtype, text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn values_are_parsed_with_their_range() {
        assert_eq!(value(DType::F32, "1.5").bits(), 0x3fc0_0000);
        assert_eq!(value(DType::F16, "1.5").bits(), 0x3e00);
        assert_eq!(value(DType::Bf16, "0x3fc0").to_f64(), 1.5);
        assert_eq!(value(DType::F16, "65504").bits(), 0x7bff);
        assert_eq!(value(DType::F32, "-inf").bits(), 0xff80_0000);
        assert_eq!(value(DType::I64, "-1").bits(), u64::MAX);
        assert_eq!(value(DType::I32, "-1").bits(), 0xffff_ffff);
        assert_eq!(value(DType::U8, "0xff").bits(), 255);
        assert_eq!(value(DType::I64, "-9223372036854775808").bits(), 1 << 63);
        for (dtype, text) in [
            (DType::F16, "65520"),
            (DType::F32, "1e39"),
            (DType::I32, "2147483648"),
            (DType::U8, "-1"),
            (DType::U64, "18446744073709551616"),
            (DType::U32, "999999999999999999999999999999999999999999"),
        ] {
            assert!(matches!(Value::parse(dtype, text), Err(ValueError::Range { .. })), "{text}");
        }
        for (dtype, text) in [
            (DType::F32, "banana"),
            (DType::F32, "0x3fc"),
            (DType::F32, "0x+fc00000"),
            (DType::F32, ""),
            (DType::I64, "1.5"),
            (DType::I64, "--1"),
            (DType::I64, "0x"),
            (DType::Bool, "2"),
        ] {
            assert!(matches!(Value::parse(dtype, text), Err(ValueError::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn json_names_what_json_has_no_number_for() {
        let json = |dtype, text| serde_json::to_string(&value(dtype, text)).unwrap();
        assert_eq!(json(DType::F32, "0.1"), r#"{"value":0.1,"bits":"0x3dcccccd"}"#);
        assert_eq!(json(DType::F16, "NaN"), r#"{"value":"NaN","bits":"0x7e00"}"#);
        assert_eq!(json(DType::Bf16, "-inf"), r#"{"value":"-Infinity","bits":"0xff80"}"#);
        assert_eq!(json(DType::I64, "-1"), r#"{"value":-1,"bits":"0xffffffffffffffff"}"#);
        assert_eq!(json(DType::Bool, "1"), r#"{"value":true,"bits":"0x01"}"#);
    }

    #[test]
    fn ulps_count_representable_values() {
        let ulps = |dtype, a, b| value(dtype, a).ulps(value(dtype, b));
        assert_eq!(ulps(DType::F32, "-0", "0"), Some(0));
        assert_eq!(ulps(DType::F32, "0x80000001", "0x00000001"), Some(2));
        assert_eq!(ulps(DType::F16, "1", "1.0009765625"), Some(1));
        assert_eq!(ulps(DType::F32, "NaN", "1"), None);
        assert_eq!(ulps(DType::I64, "-3", "4"), Some(7));
        assert_eq!(ulps(DType::I64, "-9223372036854775808", "9223372036854775807"), Some(u64::MAX));
        assert_eq!(ulps(DType::Bool, "0", "1"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in ".{0,40}", dtype in 0..DType::ALL.len()) {
            let _ = Value::parse(DType::ALL[dtype], &text);
        }

        #[test]
        fn values_that_differ_are_not_told_alike(x: u64, flip in 0u32..64, dtype in 0..DType::ALL.len()) {
            let dtype = DType::ALL[dtype];
            let of = |bits: u64| {
                Value::from_bytes(dtype, &bits.to_le_bytes()[..dtype.size() as usize]).unwrap()
            };
            let (a, b) = (of(x), of(x ^ 1 << (u64::from(flip) % (8 * dtype.size()))));
            prop_assert_ne!(a.told(), b.told());
        }

        #[test]
        fn nan_tells_its_bits(payload in 1u32..0x80_0000, negative: bool) {
            let bits = 0x7f80_0000 | payload | u32::from(negative) << 31;
            let value = Value::from_bytes(DType::F32, &bits.to_le_bytes()).unwrap();
            prop_assert_eq!(value.told(), format!("NaN (0x{bits:08x})"));
        }

        #[test]
        fn what_is_shown_parses_back(bits: u64, dtype in 0..DType::ALL.len()) {
            let dtype = DType::ALL[dtype];
            let bits = if dtype == DType::Bool { bits & 1 } else { bits };
            let value = Value::from_bytes(dtype, &bits.to_le_bytes()[..dtype.size() as usize]).unwrap();
            prop_assert_eq!(Value::from_bytes(dtype, &value.to_bytes()), Some(value));
            let back = Value::parse(dtype, &value.to_string()).unwrap();
            let nan = is_float(dtype) && value.to_f64().is_nan();
            prop_assert!(back == value || nan && back.to_f64().is_nan(), "{} {}", value, back);
        }
    }
}
