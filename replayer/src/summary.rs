//! Figures of many elements, and of two buffers against each other.

use twinstep_traces::DType;

use crate::value::Value;

/// Bins of a histogram.
pub const BINS: usize = 40;

/// Figures of the elements of one side.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Elements.
    pub count: u64,
    /// Least finite value; NaN where there is none.
    pub min: f64,
    /// Greatest finite value; NaN where there is none.
    pub max: f64,
    /// Mean of the finite values.
    pub mean: f64,
    /// Root mean square of the finite values.
    pub rms: f64,
    /// Zeros, of either sign.
    pub zeros: u64,
    /// NaN.
    pub nan: u64,
    /// Infinities.
    pub infinite: u64,
    /// Finite values by size, from `min` to `max` in [`BINS`] equal steps.
    pub histogram: Vec<u64>,
}

/// Summarises elements.
pub fn summarise(dtype: DType, bytes: &[u8]) -> Summary {
    let values = || Value::all(dtype, bytes).map(Value::to_f64);
    let finite = || values().filter(|v| v.is_finite());
    let n = finite().count() as f64;
    let (min, max) = (finite().fold(f64::NAN, f64::min), finite().fold(f64::NAN, f64::max));
    let mut histogram = vec![0; BINS];
    let width = max - min;
    for value in finite() {
        // A range wider than the greatest float has no width; all values share the first bin.
        let place = if width > 0.0 && width.is_finite() { (value - min) / width * BINS as f64 } else { 0.0 };
        histogram[(place as usize).min(BINS - 1)] += 1;
    }
    Summary {
        count: values().count() as u64,
        min,
        max,
        mean: finite().sum::<f64>() / n,
        rms: (finite().map(|v| v * v).sum::<f64>() / n).sqrt(),
        zeros: values().filter(|v| *v == 0.0).count() as u64,
        nan: values().filter(|v| v.is_nan()).count() as u64,
        infinite: values().filter(|v| v.is_infinite()).count() as u64,
        histogram,
    }
}

/// How far two buffers are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Distance {
    /// Elements compared.
    pub compared: u64,
    /// Elements whose bits differ.
    pub differing: u64,
    /// Elements that differ of which one value at least is not finite; the figures below leave them out.
    pub not_finite: u64,
    /// Greatest absolute difference; 0 where none differs.
    pub max_abs: f64,
    /// Greatest difference relative to the greater magnitude.
    pub max_rel: f64,
    /// Greatest difference in representable values; `None` where none has one.
    pub max_ulps: Option<u64>,
    /// Flat index of the first element that differs.
    pub first: Option<u64>,
}

/// The difference of two values relative to the greater magnitude; 0 for equal numbers.
pub fn relative(a: Value, b: Value) -> f64 {
    let (x, y) = (a.to_f64(), b.to_f64());
    if x == y { 0.0 } else { (x - y).abs() / x.abs().max(y.abs()) }
}

/// Compares the elements that both have.
pub fn distance(dtype: DType, a: &[u8], b: &[u8]) -> Distance {
    let mut distance = Distance {
        compared: 0,
        differing: 0,
        not_finite: 0,
        max_abs: 0.0,
        max_rel: 0.0,
        max_ulps: None,
        first: None,
    };
    for (flat, (x, y)) in Value::all(dtype, a).zip(Value::all(dtype, b)).enumerate() {
        distance.compared += 1;
        if x.bits() == y.bits() {
            continue;
        }
        distance.differing += 1;
        distance.first.get_or_insert(flat as u64);
        if !(x.to_f64().is_finite() && y.to_f64().is_finite()) {
            distance.not_finite += 1;
            continue;
        }
        distance.max_abs = distance.max_abs.max((x.to_f64() - y.to_f64()).abs());
        distance.max_rel = distance.max_rel.max(relative(x, y));
        distance.max_ulps = distance.max_ulps.max(x.ulps(y));
    }
    distance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn non_finite_values_are_counted_and_left_out_of_the_figures() {
        let s = summarise(DType::F32, &bytes(&[1.0, -3.0, f32::NAN, f32::INFINITY, 0.0, -0.0, 2.0]));
        assert_eq!((s.count, s.nan, s.infinite, s.zeros), (7, 1, 1, 2));
        assert_eq!((s.min, s.max, s.mean), (-3.0, 2.0, 0.0));
        assert!((s.rms - (14.0f64 / 5.0).sqrt()).abs() < 1e-12);
        assert_eq!(s.histogram.iter().sum::<u64>(), 5);
        assert_eq!((s.histogram[0], s.histogram[BINS - 1]), (1, 1));
    }

    #[test]
    fn nothing_and_one_value_have_figures() {
        assert!(summarise(DType::F32, &[]).min.is_nan());
        let one = summarise(DType::I64, &5i64.to_le_bytes());
        assert_eq!((one.min, one.max, one.histogram[0]), (5.0, 5.0, 1));
    }

    #[test]
    fn distance_sees_bits_and_counts_nan() {
        let a = bytes(&[1.0, 2.0, 0.0, f32::NAN]);
        let b = bytes(&[1.0, 2.5, -0.0, 1.0]);
        let d = distance(DType::F32, &a, &b);
        assert_eq!((d.compared, d.differing, d.first), (4, 3, Some(1)));
        assert_eq!((d.not_finite, d.max_abs), (1, 0.5));
        assert_eq!(d.max_rel, 0.2);
        assert_eq!(d.max_ulps, Some(1 << 21));
        let infinite = distance(DType::F32, &bytes(&[f32::INFINITY, 1.0]), &bytes(&[1.0, 1.0]));
        assert_eq!((infinite.differing, infinite.not_finite, infinite.max_abs), (1, 1, 0.0));
        let same = distance(DType::F32, &a, &a);
        assert_eq!((same.differing, same.first, same.max_ulps), (0, None, None));
    }
}
