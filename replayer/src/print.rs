//! Values of a buffer at a step.

use serde::Serialize;
use twinstep_traces::Trace;

use crate::ReplayError;
use crate::at::{At, find};
use crate::diff::snapshot_of;
use crate::selection::{Selection, index_of};
use crate::value::Value;

/// `twinstep.print/1`.
#[derive(Debug, Clone, Serialize)]
pub struct PrintReport {
    /// Document type.
    pub schema: &'static str,
    /// Which step.
    pub at: String,
    /// Snapshot point.
    pub point: &'static str,
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
    let selection = Selection::parse(trace, &step, selection)?;
    let point = if after { "step.after" } else { "step.before" };
    let missing = |what: &str| ReplayError::Selection(format!("`{}` {what}", selection.name));
    let Some(record) = trace.buffer(selection.buffer) else { return Err(missing("is not in the trace")) };
    let snapshot = snapshot_of(&step, point).ok_or_else(|| missing("was not recorded there"))?;
    let bytes = trace.read_buffer(snapshot, selection.buffer)?;
    let bytes = bytes.ok_or_else(|| {
        missing(&format!("is {} and not recorded at {point} of step {at}; what a step writes before it reads it is made again by `twinstep step`", record.role.name()))
    })?;
    let size = record.dtype.size() as usize;
    let element = |flat: u64| {
        let value = bytes.get(flat as usize * size..(flat as usize + 1) * size);
        Some(PrintedElement {
            index: index_of(flat, &record.shape),
            value: Value::from_bytes(record.dtype, value?)?,
        })
    };
    Ok(PrintReport {
        schema: "twinstep.print/1",
        at: at.to_string(),
        point,
        buffer: format!("{}@{}", record.name, record.generation),
        dtype: record.dtype.name(),
        shape: record.shape.clone(),
        elements: selection.elements(record).into_iter().filter_map(element).collect(),
    })
}
