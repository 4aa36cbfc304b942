//! Values of a buffer at a step.

use serde::Serialize;
use twinstep_traces::{BufferRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find};
use crate::diff::snapshot_of;
use crate::foreign::is_foreign;
use crate::rerun::memory_inside;
use crate::selection::{Selection, index_of};
use crate::value::Value;
use crate::weights::WeightSource;

/// `twinstep.print/1`.
#[derive(Debug, Clone, Serialize)]
pub struct PrintReport {
    /// Document type.
    pub schema: &'static str,
    /// Which step.
    pub at: String,
    /// Snapshot point; `node` for a place inside the step.
    pub point: &'static str,
    /// Inside the step: before the launch of this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// Name with generation.
    pub buffer: String,
    /// Element type.
    pub dtype: &'static str,
    /// Shape of the whole buffer.
    pub shape: Vec<u64>,
    /// The elements asked for.
    pub elements: Vec<PrintedElement>,
}

/// One element.
#[derive(Debug, Clone, Serialize)]
pub struct PrintedElement {
    /// Along each axis.
    pub index: Vec<u64>,
    /// Its value.
    #[serde(flatten)]
    pub value: Value,
}

/// The elements of a selection before or after a step.
///
/// # Errors
/// [`ReplayError::Place`], [`ReplayError::Selection`].
pub fn print(trace: &Trace, selection: &str, at: At, after: bool) -> Result<PrintReport, ReplayError> {
    let step = find(trace, at)?;
    let point = if after { "step.after" } else { "step.before" };
    let selection = Selection::parse_at(trace, &step, snapshot_of(&step, point), selection)?;
    let missing = |what: &str| ReplayError::Selection(format!("`{}` {what}", selection.name));
    let Some(record) = trace.buffer(selection.buffer) else { return Err(missing("is not in the trace")) };
    let has = |point: &str| match snapshot_of(&step, point) {
        Some(snapshot) => trace.covers(snapshot, selection.buffer),
        None => Ok(false),
    };
    if !has(point)? {
        // Dumps of another engine often tell of one side only.
        let other = match after {
            false if has("step.after")? => Some("add --after for what it held then"),
            true if has("step.before")? => Some("without --after: what it held before"),
            _ => None,
        };
        if let Some(other) = other.filter(|_| is_foreign(trace.run())) {
            return Err(missing(&format!("is not known at {point} of step {at}; {other}")));
        }
    }
    let snapshot = snapshot_of(&step, point).ok_or_else(|| missing("was not recorded there"))?;
    let bytes = trace.read_buffer(snapshot, selection.buffer)?;
    let bytes = bytes.ok_or_else(|| {
        missing(&format!("is {} and not recorded at {point} of step {at}; what a step writes before it reads it is made again by `twinstep step`", record.role.name()))
    })?;
    Ok(report(&selection, record, at, (point, None), &bytes))
}

/// The elements of a selection just before a launch of a step, which is executed again up to there.
///
/// # Errors
/// [`ReplayError::Place`], [`ReplayError::Selection`]; those of executing a step.
pub fn print_inside(
    trace: &Trace,
    selection: &str,
    at: At,
    node: usize,
    weights: &dyn WeightSource,
) -> Result<PrintReport, ReplayError> {
    let step = find(trace, at)?;
    let selection = Selection::parse(trace, &step, selection)?;
    let inside = memory_inside(trace, at, node, weights)?;
    if inside.launches < node {
        let last = inside.launches.saturating_sub(1);
        return Err(ReplayError::Place(format!("step {at} has launches 0 to {last}, no launch {node}")));
    }
    let missing = |what: &str| ReplayError::Selection(format!("`{}` {what}", selection.name));
    let record = trace.buffer(selection.buffer).ok_or_else(|| missing("is not in the trace"))?;
    let bytes = inside
        .buffers
        .get(&selection.buffer)
        .ok_or_else(|| missing("is a weight, a table, or too large to be kept while a step is executed"))?;
    Ok(report(&selection, record, at, ("node", Some(node)), bytes))
}

fn report(
    selection: &Selection,
    record: &BufferRecord,
    at: At,
    (point, node): (&'static str, Option<usize>),
    bytes: &[u8],
) -> PrintReport {
    let size = record.dtype.size() as usize;
    let element = |flat: u64| {
        let value = bytes.get(flat as usize * size..(flat as usize + 1) * size);
        Some(PrintedElement {
            index: index_of(flat, &record.shape),
            value: Value::from_bytes(record.dtype, value?)?,
        })
    };
    PrintReport {
        schema: "twinstep.print/1",
        at: at.to_string(),
        point,
        node,
        buffer: format!("{}@{}", record.name, record.generation),
        dtype: record.dtype.name(),
        shape: record.shape.clone(),
        elements: selection.elements(record).into_iter().filter_map(element).collect(),
    }
}
