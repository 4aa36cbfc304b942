//! Statistics of a buffer at a step: `lm_logits:mean`.

use std::str::FromStr;

use serde::Serialize;
use twinstep_traces::{BufferRecord, DType, SnapshotId, StepRecord, Trace};

use crate::ReplayError;
use crate::figure::Figure;
use crate::selection::resolve_at;
use crate::value::Value;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Root mean square.
    Rms,
    /// Number of NaN and infinities.
    Nonfinite,
}

/// A buffer and what is computed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticOf {
    /// Buffer name.
    pub buffer: String,
    /// What is computed.
    pub statistic: Statistic,
}

impl FromStr for StatisticOf {
    type Err = ReplayError;

    fn from_str(text: &str) -> Result<Self, ReplayError> {
        let (buffer, name) = text.rsplit_once(':').unwrap_or((text, "mean"));
        let statistic = match name {
            "mean" => Statistic::Mean,
            "min" => Statistic::Min,
            "max" => Statistic::Max,
            "rms" => Statistic::Rms,
            "nonfinite" => Statistic::Nonfinite,
            _ => {
                let what = format!(
                    "`{name}` is no statistic: mean, min, max, rms or nonfinite, as in lm_logits:mean"
                );
                return Err(ReplayError::Selection(what));
            }
        };
        Ok(StatisticOf { buffer: buffer.to_owned(), statistic })
    }
}

impl std::fmt::Display for StatisticOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.buffer, format!("{:?}", self.statistic).to_lowercase())
    }
}

/// Whether the leading axis of a buffer is the rows of the batch.
pub(crate) fn has_rows(trace: &Trace, buffer: &BufferRecord) -> bool {
    let rows = u64::from(trace.run().rows);
    // Of another engine's run the number of rows may not be known: 0.
    rows > 0 && buffer.shape.len() <= 3 && buffer.shape.first() == Some(&rows)
}

impl StatisticOf {
    /// Of one snapshot; only the request's row of buffers that have rows. `None` where the buffer is not
    /// covered.
    pub(crate) fn of(
        &self,
        trace: &Trace,
        step: &StepRecord,
        snapshot: SnapshotId,
        row: u32,
    ) -> Result<Option<Figure>, ReplayError> {
        let id = resolve_at(trace, step, Some(snapshot), &self.buffer)?;
        let Some(buffer) = trace.buffer(id) else { return Ok(None) };
        let Some(bytes) = trace.read_buffer(snapshot, id)? else { return Ok(None) };
        let part = if has_rows(trace, buffer) {
            let len = bytes.len() / buffer.shape[0] as usize;
            &bytes[(row as usize * len).min(bytes.len())..((row as usize + 1) * len).min(bytes.len())]
        } else {
            &bytes[..]
        };
        Ok(Some(self.statistic.of(buffer.dtype, part)))
    }
}

impl Statistic {
    /// Of elements. Least and greatest of integers are exact; where one is NaN, all but the count is NaN. Of nothing the
    /// least is infinity and the greatest its negative, mean and root mean square are NaN.
    fn of(self, dtype: DType, bytes: &[u8]) -> Figure {
        let elements = || Value::all(dtype, bytes);
        let values = || elements().map(Value::to_f64);
        let integers = || elements().filter_map(Value::to_integer);
        let count = elements().count() as f64;
        let exact = |integer: Option<i128>, float: f64| integer.map_or(Figure::Float(float), Figure::Integer);
        match self {
            Statistic::Mean => Figure::Float(values().sum::<f64>() / count),
            Statistic::Min => exact(integers().min(), values().fold(f64::INFINITY, lesser)),
            Statistic::Max => exact(integers().max(), values().fold(f64::NEG_INFINITY, greater)),
            Statistic::Rms => Figure::Float((values().map(|v| v * v).sum::<f64>() / count).sqrt()),
            Statistic::Nonfinite => Figure::Integer(values().filter(|v| !v.is_finite()).count() as i128),
        }
    }
}

/// The lesser of two; NaN where one is.
pub(crate) fn lesser(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() { f64::NAN } else { x.min(y) }
}

/// The greater of two; NaN where one is.
pub(crate) fn greater(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_greatest_of_large_integers_is_one_of_them() {
        let list = [9_097_545_891_787_275_441i64, 9_097_545_891_787_275_264, -1];
        let bytes: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(Statistic::Max.of(DType::I64, &bytes), Figure::Integer(list[0].into()));
        assert_eq!(Statistic::Min.of(DType::I64, &bytes), Figure::Integer(-1));
        let greatest = Statistic::Max.of(DType::U64, &bytes);
        assert_eq!(greatest, Figure::Integer(u64::MAX.into()));
    }

    #[test]
    fn a_nan_is_in_every_statistic() {
        let bytes: Vec<u8> = [1.0f32, f32::NAN, 3.0].iter().flat_map(|n| n.to_le_bytes()).collect();
        for statistic in [Statistic::Min, Statistic::Max, Statistic::Mean, Statistic::Rms] {
            assert!(statistic.of(DType::F32, &bytes).to_f64().is_nan(), "{statistic:?}");
        }
    }

    proptest! {
        #[test]
        fn least_and_greatest_are_exact(list in proptest::collection::vec(any::<i64>(), 1..20)) {
            let bytes: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
            let (min, max) = (*list.iter().min().unwrap(), *list.iter().max().unwrap());
            prop_assert_eq!(Statistic::Min.of(DType::I64, &bytes), Figure::Integer(min.into()));
            prop_assert_eq!(Statistic::Max.of(DType::I64, &bytes), Figure::Integer(max.into()));
        }
    }
}
