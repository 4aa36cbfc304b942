//! Values of a buffer at a step.

use serde::{Serialize, Serializer};
use twinstep_traces::{BufferId, BufferRecord, DType, MAX_READ_BYTES, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find, place};
use crate::foreign::is_foreign;
use crate::points::{called, labels};
use crate::rerun::memory_inside;
use crate::selection::{Selection, index_of};
use crate::slice::read_bytes;
use crate::value::Value;
use crate::weights::WeightSource;

/// Points of a step, or buffers' points, that an error names.
const NAMED: usize = 64;

/// `twinstep.print/1`.
#[derive(Debug, Clone, Serialize)]
pub struct PrintReport {
    /// Document type.
    pub schema: &'static str,
    /// Which step.
    pub at: String,
    /// Snapshot point; `node` for a place inside the step.
    pub point: String,
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
    pub elements: PrintedElements,
    /// Elements that were selected beyond those asked for.
    #[serde(skip)]
    pub left_out: u64,
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

/// Elements in row-major order, each decoded when it is looked at: a buffer of 150 MB has 40 million. As JSON a list
/// of [`PrintedElement`].
#[derive(Debug, Clone)]
pub struct PrintedElements {
    dtype: DType,
    shape: Vec<u64>,
    selection: Selection,
    count: u64,
    /// Bytes from that of the first element to that of the last.
    bytes: Vec<u8>,
}

impl PrintedElements {
    /// How many.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The `n`-th of them, counted from 0.
    pub fn get(&self, n: u64) -> Option<PrintedElement> {
        if n >= self.count {
            return None;
        }
        let flat = self.selection.element(n, &self.shape);
        let start =
            usize::try_from((flat - self.selection.element(0, &self.shape)) * self.dtype.size()).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(self.dtype.size() as usize)?)?;
        Some(PrintedElement {
            index: index_of(flat, &self.shape),
            value: Value::from_bytes(self.dtype, bytes)?,
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = PrintedElement> + '_ {
        (0..self.count).map_while(|n| self.get(n))
    }
}

impl Serialize for PrintedElements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The elements of a selection before or after a step.
///
/// # Errors
/// As [`print_at`].
pub fn print(trace: &Trace, selection: &str, at: At, after: bool) -> Result<PrintReport, ReplayError> {
    print_at(trace, selection, at, if after { "step.after" } else { "step.before" }, u64::MAX)
}

/// The first `most` elements of a selection at a snapshot point of a step: `step.before`, `layer.0.after`. Only the
/// chunks that hold them are read.
///
/// # Errors
/// [`ReplayError::Place`] where there is no such step or point, with those that there are; [`ReplayError::Selection`];
/// [`ReplayError::Read`].
pub fn print_at(
    trace: &Trace,
    selection: &str,
    at: At,
    point: &str,
    most: u64,
) -> Result<PrintReport, ReplayError> {
    let step = find(trace, at)?;
    let end = matches!(point, "step.before" | "step.after");
    let snapshot = called(&step.points, point).map(|p| p.snapshot);
    if snapshot.is_none() && !end {
        let there = named(labels(&step.points).map(|(name, _)| name));
        return Err(ReplayError::Place(format!("step {at} has no point `{point}`; it has {there}")));
    }
    let selection = Selection::parse_at(trace, &step, snapshot, selection)?;
    let missing = |what: &str| ReplayError::Selection(format!("`{}` {what}", selection.name));
    let Some(record) = trace.buffer(selection.buffer) else { return Err(missing("is not in the trace")) };
    let has = |point: &str| match called(&step.points, point).map(|p| p.snapshot) {
        Some(snapshot) => trace.covers(snapshot, selection.buffer),
        None => Ok(false),
    };
    if !has(point)? {
        // Dumps of another engine often tell of one side only.
        let other = match point {
            "step.before" if has("step.after")? => Some("add --after for what it held then"),
            "step.after" if has("step.before")? => Some("without --after: what it held before"),
            _ => None,
        };
        if let Some(other) = other.filter(|_| is_foreign(trace.run())) {
            return Err(missing(&format!("is not known at {point} of step {at}; {other}")));
        }
        // What our own engine did not record can be made again.
        if !end || is_foreign(trace.run()) {
            let there = covering(trace, &step, &selection)?;
            return Err(missing(&format!("is not recorded at {point} of step {at}; {there}")));
        }
    }
    let snapshot = snapshot.ok_or_else(|| missing("was not recorded there"))?;
    let (first, end, count) = extent(&selection, record, most)?;
    let bytes = read_bytes(trace, snapshot, selection.buffer, first, end)?.ok_or_else(|| {
        missing(&format!("is {} and not recorded at {point} of step {at}; what a step writes before it reads it is made again by `twinstep step`", record.role.name()))
    })?;
    Ok(report(selection, record, at, (point, None), (bytes, count)))
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
    let (first, end, count) = extent(&selection, record, u64::MAX)?;
    let bytes = bytes.get(first as usize..end as usize).unwrap_or_default().to_vec();
    Ok(report(selection, record, at, ("node", Some(node)), (bytes, count)))
}

/// The bytes from the first of a selection's elements to the end of the `most`-th, and how many elements that are.
fn extent(selection: &Selection, record: &BufferRecord, most: u64) -> Result<(u64, u64, u64), ReplayError> {
    let count = selection.count(record).min(most);
    let Some(last) = count.checked_sub(1) else { return Ok((0, 0, 0)) };
    let size = record.dtype.size();
    let first = selection.element(0, &record.shape) * size;
    let end = (selection.element(last, &record.shape) + 1) * size;
    if end - first > MAX_READ_BYTES {
        let what = format!(
            "`{}` selects {} bytes, more than the {MAX_READ_BYTES} that are read at once; give indices",
            selection.name,
            end - first
        );
        return Err(ReplayError::Selection(what));
    }
    Ok((first, end, count))
}

/// At which points of a step a buffer is recorded, in words; if at none, where it is first.
fn covering(trace: &Trace, step: &StepRecord, selection: &Selection) -> Result<String, ReplayError> {
    let points = covering_points(trace, step, selection.buffer)?;
    if !points.is_empty() {
        return Ok(format!("it is at {} (--point)", named(points.into_iter())));
    }
    for index in 0..trace.step_count() {
        let other = trace.step(index)?;
        let Some(at) = place(&other) else { continue };
        if let Some(first) = covering_points(trace, &other, selection.buffer)?.first() {
            return Ok(format!("nor at any other point of that step; it is first at {first} of step {at}"));
        }
    }
    Ok("nor anywhere else".to_owned())
}

fn covering_points(trace: &Trace, step: &StepRecord, buffer: BufferId) -> Result<Vec<String>, ReplayError> {
    let mut points = Vec::new();
    for (name, point) in labels(&step.points) {
        if trace.covers(point.snapshot, buffer)? {
            points.push(name);
        }
    }
    Ok(points)
}

fn named(points: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = points.collect();
    match all.len().saturating_sub(NAMED) {
        _ if all.is_empty() => "none".to_owned(),
        0 => all.join(", "),
        more => format!("{} and {more} more", all[..NAMED].join(", ")),
    }
}

fn report(
    selection: Selection,
    record: &BufferRecord,
    at: At,
    (point, node): (&str, Option<usize>),
    (bytes, count): (Vec<u8>, u64),
) -> PrintReport {
    PrintReport {
        schema: "twinstep.print/1",
        at: at.to_string(),
        point: point.to_owned(),
        node,
        buffer: format!("{}@{}", record.name, record.generation),
        dtype: record.dtype.name(),
        shape: record.shape.clone(),
        left_out: selection.count(record) - count,
        elements: PrintedElements {
            dtype: record.dtype,
            shape: record.shape.clone(),
            selection,
            count,
            bytes,
        },
    }
}
