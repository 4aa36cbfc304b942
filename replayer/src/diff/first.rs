//! The first element that differs, and what stands in for it where there is none.

use std::fmt;

use serde::Serialize;
use twinstep_traces::{BufferId, BufferRecord, SnapshotId, StepRecord, Trace};

use crate::ReplayError;
use crate::selection::index_of;
use crate::statistic::has_rows;
use crate::value::Value;

/// A buffer that is not of one shape and type, in a run of which it holds no element.
#[derive(Debug, Clone, Serialize)]
pub struct OtherForm {
    /// Request, counted from 1.
    pub request: u32,
    /// Step within it.
    pub step: u32,
    /// Snapshot point.
    pub point: String,
    /// Name without generation.
    pub buffer: String,
    /// Type and shape in A.
    pub a: String,
    /// Type and shape in B.
    pub b: String,
}

/// The first element that differs.
#[derive(Debug, Clone, Serialize)]
pub struct FirstDifference {
    /// Request, counted from 1.
    pub request: u32,
    /// Its number in B, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_b: Option<u32>,
    /// Step within it.
    pub step: u32,
    /// Phase of the launch that writes the buffer first; `None` for state given to the step.
    pub phase: Option<&'static str>,
    /// Snapshot point.
    pub point: String,
    /// Name without generation.
    pub buffer: String,
    /// Generation that the name means in A.
    pub generation: u32,
    /// Generation that it means in B.
    pub generation_b: u32,
    /// Row of the batch, for buffers that have rows.
    pub row: Option<u64>,
    /// Which element.
    pub element: Element,
    /// Its value in A.
    pub a: Value,
    /// Its value in B.
    pub b: Value,
    /// Type and shape of the buffer in A and in B, where they are not the same: nothing else is compared then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forms: Option<[String; 2]>,
}

/// Place of an element.
#[derive(Debug, Clone, Serialize)]
pub struct Element {
    /// Along each axis.
    pub index: Vec<u64>,
    /// In row-major order.
    pub flat: u64,
}

impl fmt::Display for FirstDifference {
    /// `hidden[0,17] is 1 in A, 2 in B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index: Vec<String> = self.element.index.iter().map(u64::to_string).collect();
        if let Some([a, b]) = &self.forms {
            return write!(f, "{} is {a} in A, {b} in B", self.buffer);
        }
        let (mut a, mut b) = (self.a.to_string(), self.b.to_string());
        if a == b {
            (a, b) = (self.a.told(), self.b.told());
        }
        write!(f, "{}[{}] is {a} in A, {b} in B", self.buffer, index.join(","))
    }
}

/// Type and shape in A and in B, where they are not the same.
pub(super) fn forms(a: Option<&BufferRecord>, b: Option<&BufferRecord>) -> Option<[String; 2]> {
    let (a, b) = (a?, b?);
    let form = |record: &BufferRecord| format!("{} {:?}", record.dtype.name(), record.shape);
    ((a.dtype, &a.shape) != (b.dtype, &b.shape)).then(|| [form(a), form(b)])
}

/// The first element that differs, from one on.
pub(super) fn first_element(
    (a, step, sa, ia): (&Trace, &StepRecord, SnapshotId, BufferId),
    (b, sb, ib): (&Trace, SnapshotId, BufferId),
    from: u64,
) -> Result<Option<FirstDifference>, ReplayError> {
    let Some(record) = a.buffer(ia) else { return Ok(None) };
    let (x, y) = (a.read_buffer(sa, ia)?.unwrap_or_default(), b.read_buffer(sb, ib)?.unwrap_or_default());
    let Some(other) = b.buffer(ib) else { return Ok(None) };
    let forms = forms(Some(record), Some(other));
    let mut values = Value::all(record.dtype, &x).zip(Value::all(other.dtype, &y)).enumerate();
    let wanted = |flat: usize| flat as u64 >= from;
    let found = values.find(|(flat, (x, y))| wanted(*flat) && (forms.is_some() || x.bits() != y.bits()));
    Ok(found.map(|(flat, (a_value, b_value))| {
        let index = index_of(flat as u64, &record.shape);
        FirstDifference {
            request: step.request,
            request_b: None,
            step: step.step,
            phase: None,
            point: String::new(),
            buffer: record.name.clone(),
            generation: record.generation,
            generation_b: other.generation,
            row: index.first().copied().filter(|_| has_rows(a, record)),
            element: Element { index, flat: flat as u64 },
            a: a_value,
            b: b_value,
            forms,
        }
    }))
}
