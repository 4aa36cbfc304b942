//! The bytes that recorded launches use, from their arguments and from values that are known.

use std::collections::BTreeMap;

use twinstep_kernels as kernels;
use twinstep_kernels::{Launch, Op, Scalar, View};
use twinstep_traces as traces;
use twinstep_traces::{BufferId, LaunchRecord, ScalarValue, Trace, ViewRecord};

use super::event::Access;
use super::intervals::Intervals;
use crate::machine::dtype;

/// Most ranges that one launch may touch without being treated as one whose values are not known.
const RANGES_MAX: usize = 1 << 18;

/// A launch, prepared once a program.
pub(crate) struct Prepared {
    /// What it always uses; empty where that depends on values.
    fixed: Vec<Access>,
    /// The launch, where values decide.
    dynamic: Option<Launch>,
    /// What it may use, for when those values are not known.
    bound: Vec<Access>,
    /// Why its record alone says what it uses, where it is not a launch of this build.
    pub(crate) strange: Option<String>,
}

fn range(range: &kernels::Range, may: bool) -> Access {
    let (start, end) = (range.start as u64, range.end as u64);
    Access { buffer: BufferId(range.buffer.0), start, end, access: range.access, may }
}

impl Prepared {
    /// Takes a record apart.
    pub(crate) fn new(trace: &Trace, record: &LaunchRecord) -> Prepared {
        let launch = match convert(trace, record) {
            Ok(launch) => launch,
            Err(reason) => {
                let fixed = record.views.iter().flat_map(|view| foreign(trace, view)).collect();
                return Prepared { fixed, dynamic: None, bound: Vec::new(), strange: Some(reason) };
            }
        };
        let partial: Vec<bool> = launch.op().schema().params.iter().map(|p| p.partial).collect();
        let bound: Vec<Access> =
            launch.bound().iter().zip(&partial).map(|(r, partial)| range(r, *partial)).collect();
        if !partial.contains(&true) || too_many_ranges(&launch) {
            return Prepared { fixed: bound, dynamic: None, bound: Vec::new(), strange: None };
        }
        Prepared { fixed: Vec::new(), dynamic: Some(launch), bound, strange: None }
    }

    /// What it uses, given the values of its index operands where they are known.
    pub(crate) fn accesses(
        &self,
        value: &mut dyn FnMut(BufferId, u64, u64) -> Option<Vec<u8>>,
    ) -> Vec<Access> {
        let Some(launch) = &self.dynamic else { return self.fixed.clone() };
        let mut read = |view: &View| {
            let range = view.range(kernels::Access::Read);
            let bytes = value(BufferId(view.buffer.0), range.start as u64, range.end as u64);
            bytes.ok_or(kernels::Error::NoBuffer(view.buffer))
        };
        match launch.touched(&mut read) {
            Ok(touched) => touched.iter().map(|r| range(r, false)).collect(),
            Err(_) => self.bound.clone(),
        }
    }
}

/// The one op whose number of ranges is not bounded by the length of its index operands.
fn too_many_ranges(launch: &Launch) -> bool {
    let heads = |v: &View| v.shape.iter().take(2).try_fold(1usize, |n, &axis| n.checked_mul(axis));
    launch.op() == Op::AttentionMerge && launch.views().first().and_then(heads).is_none_or(|n| n > RANGES_MAX)
}

/// The record as a launch of this build, if all its operands lie within their buffers.
fn convert(trace: &Trace, record: &LaunchRecord) -> Result<Launch, String> {
    let op = Op::find(&record.op, record.version).map_err(|e| e.to_string())?;
    let axes = |axes: &[u64]| axes.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>();
    let mut views = Vec::new();
    for view in &record.views {
        let wrong = || format!("operand `{}` of `{}` leaves its buffer", view.name, record.op);
        let (start, end) = extent(view).ok_or_else(wrong)?;
        if trace.buffer(view.buffer).is_none_or(|b| end > b.bytes) {
            return Err(wrong());
        }
        views.push(View {
            buffer: kernels::BufferId(view.buffer.0),
            dtype: dtype(view.dtype),
            offset: usize::try_from(start).map_err(|_| wrong())?,
            shape: axes(&view.shape).ok_or_else(wrong)?,
            strides: axes(&view.strides).ok_or_else(wrong)?,
        });
    }
    let scalar = |value: ScalarValue| match value {
        ScalarValue::U32(value) => Ok(Scalar::U32(value)),
        ScalarValue::F32Bits(bits) => Ok(Scalar::F32(f32::from_bits(bits))),
        other => Err(format!("scalar {other:?} of `{}`", record.op)),
    };
    let scalars = record.scalars.iter().map(|s| scalar(s.value)).collect::<Result<_, _>>()?;
    Launch::new(op, views, scalars).map_err(|e| e.to_string())
}

/// First byte of a view and one past its last, whatever its strides.
pub(crate) fn extent(view: &ViewRecord) -> Option<(u64, u64)> {
    let size = view.dtype.size();
    if view.shape.contains(&0) {
        return Some((view.offset, view.offset));
    }
    if view.shape.len() != view.strides.len() {
        return None;
    }
    let mut last = 0u64;
    for (&n, &stride) in view.shape.iter().zip(&view.strides) {
        last = last.checked_add((n - 1).checked_mul(stride)?)?;
    }
    let end = last.checked_add(1)?.checked_mul(size)?.checked_add(view.offset)?;
    Some((view.offset, end))
}

/// What an operand may be used for of which only the record is known.
pub(crate) fn foreign(trace: &Trace, view: &ViewRecord) -> Option<Access> {
    let bytes = trace.buffer(view.buffer)?.bytes;
    let (start, end) = extent(view).map_or((0, bytes), |(a, b)| (a.min(bytes), b.min(bytes)));
    let access = match view.access {
        traces::Access::Read => kernels::Access::Read,
        traces::Access::Write => kernels::Access::Write,
        traces::Access::ReadWrite | traces::Access::Unknown => kernels::Access::ReadWrite,
    };
    Some(Access { buffer: view.buffer, start, end, access, may: true })
}

/// Bytes that a graph computes anew: written by one of its nodes whatever values are, and read by none before
/// that.
///
/// # Errors
/// [`ReplayError::Read`](crate::ReplayError::Read).
pub(crate) fn outputs(
    trace: &Trace,
    graph: traces::GraphId,
) -> Result<Vec<(BufferId, u64, u64)>, crate::ReplayError> {
    let Some(record) = trace.graph(graph) else { return Ok(Vec::new()) };
    let program = trace.program(record.program)?;
    // True where a node reads before any writes, false where one writes first.
    let mut first: BTreeMap<BufferId, Intervals<bool>> = BTreeMap::new();
    for item in &program.items {
        let traces::Item::Launch(record) = item else { continue };
        let Ok(launch) = convert(trace, record) else { continue };
        let reads = launch.bound().into_iter().filter(|r| r.access.reads()).map(|r| (r, true));
        let writes = launch.definite_writes().into_iter().filter(|r| !r.access.reads()).map(|r| (r, false));
        for (range, read) in reads.chain(writes) {
            let known = first.entry(BufferId(range.buffer.0)).or_default();
            let pieces = known.pieces(range.start as u64, range.end as u64);
            let new: Vec<(u64, u64)> =
                pieces.filter(|(_, _, value)| value.is_none()).map(|(a, b, _)| (a, b)).collect();
            for (start, end) in new {
                known.set(start, end, read);
            }
        }
    }
    let mut outputs = Vec::new();
    for (buffer, known) in first {
        let written = known.pieces(0, u64::MAX).filter(|(_, _, value)| *value == Some(false));
        outputs.extend(written.map(|(start, end, _)| (buffer, start, end)));
    }
    Ok(outputs)
}
