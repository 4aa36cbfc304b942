//! Numbers in documents: JSON has no NaN and no infinity.

use std::fmt;

use serde::{Serialize, Serializer};

/// A float that is a JSON number where it is finite, else one of the strings `NaN`, `Infinity`,
/// `-Infinity`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Number(pub f64);

impl Number {
    /// The name of a value that is not finite.
    fn name(self) -> Option<&'static str> {
        match self.0 {
            x if x.is_nan() => Some("NaN"),
            f64::INFINITY => Some("Infinity"),
            f64::NEG_INFINITY => Some("-Infinity"),
            _ => None,
        }
    }

    /// Shows `shown`, the number in its own type, unless it is not finite. Without a precision very
    /// great and very small numbers are shown with an exponent.
    pub(crate) fn show<T: fmt::Display + fmt::LowerExp>(
        self,
        f: &mut fmt::Formatter<'_>,
        shown: T,
    ) -> fmt::Result {
        let ordinary = self.0 == 0.0 || (1e-5..1e9).contains(&self.0.abs());
        match self.name() {
            Some(name) => f.pad(name),
            None if ordinary || f.precision().is_some() => fmt::Display::fmt(&shown, f),
            None => fmt::LowerExp::fmt(&shown, f),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, self.0)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_f64(self.0),
        }
    }
}
