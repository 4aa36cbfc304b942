//! A figure of many elements, and how two of them are shown beside each other.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::number::Number;

/// A statistic's value: an integer where it is one, exactly, else a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Least or greatest of integers, or a count.
    Integer(i128),
    /// All else.
    Float(f64),
}

/// Decimals, of a fixed point number or of a mantissa, unless more are needed to tell two figures apart.
const DECIMALS: usize = 4;
/// So many tell all floats from 0.01 on apart, and all mantissas.
const DECIMALS_MAX: usize = 20;

impl Figure {
    /// Nearest float.
    pub fn to_f64(self) -> f64 {
        match self {
            Figure::Integer(n) => n as f64,
            Figure::Float(x) => x,
        }
    }

    /// In so many decimals: with an exponent where fixed point would show fewer than three digits or need more
    /// than fourteen columns.
    fn in_decimals(self, decimals: usize) -> String {
        match self {
            Figure::Integer(n) => n.to_string(),
            Figure::Float(x) if !x.is_finite() => Number(x).to_string(),
            Figure::Float(x) if x == 0.0 || (1e-2..1e7).contains(&x.abs()) => format!("{x:.decimals$}"),
            Figure::Float(x) => format!("{x:.decimals$e}"),
        }
    }

    /// Two figures as texts, which are alike only if the figures are.
    ///
    /// ```
    /// use twinstep_replayer::Figure;
    /// let float = Figure::Float;
    /// assert_eq!(Figure::pair(Some(float(13.43)), None), ["13.4300", "-"]);
    /// assert_eq!(Figure::pair(Some(float(3e-6)), Some(float(4.5e-6))), ["3.0000e-6", "4.5000e-6"]);
    /// assert_eq!(Figure::pair(Some(float(0.5)), Some(float(0.500001))), ["0.500000", "0.500001"]);
    /// ```
    pub fn pair(a: Option<Figure>, b: Option<Figure>) -> [String; 2] {
        let both = |decimals| {
            [a, b].map(|figure| figure.map_or("-".to_owned(), |figure| figure.in_decimals(decimals)))
        };
        let differ = a.map(Figure::key) != b.map(Figure::key);
        let mut shown = both(DECIMALS);
        for decimals in DECIMALS + 1..=DECIMALS_MAX {
            if !differ || shown[0] != shown[1] {
                break;
            }
            shown = both(decimals);
        }
        shown
    }

    /// What is equal for figures that are shown alike: bits, but that all NaN are one.
    fn key(self) -> (bool, i128) {
        match self {
            Figure::Integer(n) => (true, n),
            Figure::Float(x) if x.is_nan() => (false, -1),
            Figure::Float(x) => (false, i128::from(x.to_bits())),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.in_decimals(DECIMALS))
    }
}

/// A JSON number, all digits of an integer; a float that is not finite is a string as in [`Number`].
impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Figure::Integer(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => serializer.serialize_i64(n),
                (_, Ok(n)) => serializer.serialize_u64(n),
                _ => serializer.serialize_i128(*n),
            },
            Figure::Float(x) => Number(*x).serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            -20f64..20.0,
            (-1e-5f64..1e-5),
            (1e7f64..1e9),
            Just(0.0),
            Just(-0.0)
        ]
    }

    proptest! {
        #[test]
        fn figures_that_differ_are_never_shown_alike(x in float(), ulps in 1u64..5) {
            let y = f64::from_bits(x.to_bits().wrapping_add(ulps));
            prop_assume!(!(x.is_nan() && y.is_nan()));
            let [a, b] = Figure::pair(Some(Figure::Float(x)), Some(Figure::Float(y)));
            prop_assert_ne!(a, b);
        }

        #[test]
        fn a_figure_alone_is_near_and_keeps_its_column(x in float()) {
            let [shown, none] = Figure::pair(Some(Figure::Float(x)), None);
            prop_assert_eq!(none, "-");
            prop_assert!(shown.len() <= 14, "{}", shown);
            // The greatest floats round to more than there is.
            if x.abs() < 1e308 {
                let back: f64 = shown.parse().unwrap();
                prop_assert!((back - x).abs() <= x.abs() * 6e-3, "{} {}", shown, x);
            }
        }

        #[test]
        fn integers_keep_all_digits(n: i64) {
            prop_assert_eq!(Figure::Integer(n.into()).to_string(), n.to_string());
            prop_assert_eq!(serde_json::to_string(&Figure::Integer(n.into())).unwrap(), n.to_string());
        }
    }
}
