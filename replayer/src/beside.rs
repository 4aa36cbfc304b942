//! One step of one or two runs, laid side by side: its buffers in order of dataflow, and its launches.

use std::collections::BTreeMap;

use twinstep_traces::{
    Access, BufferId, BufferRecord, LaunchRecord, PointRecord, ScalarValue, SnapshotId, StepRecord, Trace,
    ViewRecord,
};

use crate::ReplayError;
use crate::align::align as aligned;
use crate::at::{At, find, find_index};
use crate::lifetime::Lifetimes;
use crate::log::{LogEntry, log};
use crate::pairing::Pairing;
use crate::points::labels;
use crate::program::{StepLaunch, launches, writes};
use crate::recorded::snapshot;
use crate::requests::Twins;
use crate::slice::read_elements;
use crate::value::Value;

/// Elements compared at once where the first that differs is looked for.
const SEARCHED: u64 = 1 << 16;

/// How a buffer of A compares with that of B at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// Same bits.
    Equal,
    /// Different bits, or another shape or type.
    Differs,
    /// Recorded in A alone.
    OnlyA,
    /// Recorded in B alone.
    OnlyB,
    /// Not recorded on either side.
    Unknown,
}

/// A buffer on one side.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferSide {
    /// Which.
    pub id: BufferId,
    /// Its record.
    pub record: BufferRecord,
    /// Whether its name alone means this generation at the step.
    pub resolved: bool,
    /// Whether a launch of the step has it as an operand.
    pub bound: bool,
    /// Whether it is recorded before the step.
    pub before: bool,
    /// Whether it is recorded after the step.
    pub after: bool,
}

/// A buffer of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct BesideBuffer {
    /// In A.
    pub a: Option<BufferSide>,
    /// In B.
    pub b: Option<BufferSide>,
    /// Number of the launch that writes it first; `None` where none does.
    pub writer: Option<usize>,
    /// Number of the launch that reads it first.
    pub reader: Option<usize>,
    /// Phase of that writer.
    pub phase: Option<&'static str>,
    /// Whether the host writes it in this step.
    pub host: bool,
    /// How the two compare before the step.
    pub before: Sameness,
    /// How the two compare after it.
    pub after: Sameness,
    /// The points inside the step at which either side records it, as places in [`Beside::points`].
    pub points: Vec<usize>,
    /// The first element that differs after the step (before it where it differs there alone), else the
    /// first element; `None` where nothing is recorded.
    pub sample: Option<Sample>,
}

/// One element of a buffer on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Flat index.
    pub flat: u64,
    /// Whether it is after the step.
    pub after: bool,
    /// In A.
    pub a: Option<Value>,
    /// In B.
    pub b: Option<Value>,
}

impl BesideBuffer {
    /// Its record, from A where A has it.
    pub fn record(&self) -> Option<&BufferRecord> {
        self.a.as_ref().or(self.b.as_ref()).map(|side| &side.record)
    }

    /// Its name without generation.
    pub fn name(&self) -> &str {
        self.record().map_or("", |r| r.name.as_str())
    }
}

/// A launch on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSide {
    /// Number in the step, counted from 0.
    pub number: usize,
    /// The graph whose node it is.
    pub graph: Option<u32>,
    /// Phase.
    pub phase: &'static str,
    /// Label, or the op's name.
    pub label: String,
    /// Op.
    pub op: String,
    /// Operands and scalars by name, as text.
    pub arguments: Vec<(String, String)>,
    /// Buffers that it writes.
    pub writes: Vec<BufferId>,
}

/// Launches that stand for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BesideLaunch {
    /// In A.
    pub a: Option<LaunchSide>,
    /// In B.
    pub b: Option<LaunchSide>,
    /// Names of arguments that differ.
    pub differing: Vec<String>,
}

/// A step of one or two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// Which step.
    pub at: At,
    /// Whether A has it.
    pub in_a: bool,
    /// Whether B has it.
    pub in_b: bool,
    /// Buffers, in order of dataflow: what the step reads first, then what it writes, in order.
    pub buffers: Vec<BesideBuffer>,
    /// Launches, aligned.
    pub launches: Vec<BesideLaunch>,
    /// Why the launches of a side are not shown.
    pub opaque: Vec<String>,
    /// In A and B: the log of the step, where its launches are not shown.
    pub logged: [Option<Vec<LogEntry>>; 2],
    /// Names of the snapshot points inside the step that either side has, in order: all but `step.before` and
    /// `step.after`.
    pub points: Vec<String>,
}

/// One side at the step.
struct Side<'a> {
    trace: &'a Trace,
    step: StepRecord,
    launches: Vec<StepLaunch>,
    index: usize,
    lifetimes: Lifetimes,
    resolved: BTreeMap<String, BufferId>,
    before: Option<SnapshotId>,
    after: Option<SnapshotId>,
    /// What each point of the step covers, ascending.
    covered: Vec<(String, Vec<BufferId>)>,
    /// The log of the step, where it could not be laid out in launches.
    logged: Option<Vec<LogEntry>>,
}

impl<'a> Side<'a> {
    fn new(trace: &'a Trace, at: At, opaque: &mut Vec<String>) -> Result<Option<Self>, ReplayError> {
        let Ok(step) = find(trace, at) else { return Ok(None) };
        let (found, logged) = match launches(trace, &step) {
            Ok(found) => (found, None),
            Err(error) => {
                opaque.push(error.to_string());
                (Vec::new(), Some(log(trace, Some(at))?.entries))
            }
        };
        let index = find_index(trace, at)?;
        let lifetimes = Lifetimes::of(trace)?;
        let live = lifetimes.live_at(index).into_iter();
        let resolved = live.filter_map(|id| Some((trace.buffer(id)?.name.clone(), id))).collect();
        let (before, after) = (snapshot(&step, "step.before"), snapshot(&step, "step.after"));
        let covered = |(name, p): (String, &PointRecord)| Ok((name, trace.covered(p.snapshot)?));
        let covered = labels(&step.points).map(covered).collect::<Result<_, ReplayError>>()?;
        Ok(Some(Side {
            trace,
            step,
            launches: found,
            index,
            lifetimes,
            resolved,
            before,
            after,
            covered,
            logged,
        }))
    }

    fn ids(&self) -> Vec<BufferId> {
        let mut ids: Vec<BufferId> = Vec::new();
        ids.extend(self.covered.iter().flat_map(|(_, ids)| ids));
        ids.extend(self.launches.iter().flat_map(|l| l.record.views.iter().map(|v| v.buffer)));
        ids.extend(self.step.host_writes.iter().map(|w| w.buffer));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn buffer(&self, id: BufferId) -> Result<Option<BufferSide>, ReplayError> {
        let Some(record) = self.trace.buffer(id) else { return Ok(None) };
        let covers = |at: Option<SnapshotId>| at.map_or(Ok(false), |at| self.trace.covers(at, id));
        let bound = self.launches.iter().any(|l| l.record.views.iter().any(|v| v.buffer == id));
        Ok(Some(BufferSide {
            id,
            record: record.clone(),
            resolved: self.resolved.get(&record.name).is_none_or(|&meant| meant == id),
            bound,
            before: covers(self.before)?,
            after: covers(self.after)?,
        }))
    }

    fn first(&self, id: BufferId, meets: impl Fn(&ViewRecord) -> bool) -> Option<usize> {
        self.launches.iter().position(|l| l.record.views.iter().any(|v| v.buffer == id && meets(v)))
    }

    fn operand(&self, view: &ViewRecord) -> String {
        let Some(record) = self.trace.buffer(view.buffer) else { return format!("buffer {}", view.buffer.0) };
        let mut text = format!("{}@{}", record.name, record.generation);
        if let Some(meant) = self.resolved.get(&record.name).filter(|&&meant| meant != view.buffer)
            && let Some(meant) = self.trace.buffer(*meant)
        {
            text += &format!(" (the name means @{})", meant.generation);
        }
        text += &format!(" {}{:?}", view.dtype.name(), view.shape);
        if view.offset > 0 {
            text += &format!(" from byte {}", view.offset);
        }
        text
    }

    fn launch(&self, number: usize) -> LaunchSide {
        let launch = &self.launches[number];
        let record: &LaunchRecord = &launch.record;
        let operands = record.views.iter().map(|v| (v.name.clone(), self.operand(v)));
        let scalars = record.scalars.iter().map(|s| (s.name.clone(), scalar(s.value)));
        LaunchSide {
            number,
            graph: launch.graph.map(|g| g.0),
            phase: record.phase.name(),
            label: launch.name().to_owned(),
            op: record.op.clone(),
            arguments: operands.chain(scalars).collect(),
            writes: launch.written().map(|v| v.buffer).collect(),
        }
    }
}

fn scalar(value: ScalarValue) -> String {
    match value {
        ScalarValue::F32Bits(bits) => f32::from_bits(bits).to_string(),
        ScalarValue::U32(v) => v.to_string(),
        ScalarValue::I32(v) => v.to_string(),
        ScalarValue::U64(v) => v.to_string(),
    }
}

/// Lays a step of A beside the same step of B; without B shows A alone. Requests are numbered as [`Twins`] does.
///
/// # Errors
/// [`ReplayError::Place`] where neither has the step; [`ReplayError::Read`].
pub fn beside(a: &Trace, b: Option<&Trace>, at: At) -> Result<Beside, ReplayError> {
    let mut opaque = Vec::new();
    let left = Side::new(a, at, &mut opaque)?;
    let right = b.map(|b| Side::new(b, Twins::of(a, b).in_b(at), &mut opaque)).transpose()?.flatten();
    if left.is_none() && right.is_none() {
        find(a, at)?;
    }
    let mut points: Vec<String> = Vec::new();
    for (point, _) in [&left, &right].into_iter().flatten().flat_map(|side| &side.covered) {
        let end = matches!(point.as_str(), "step.before" | "step.after");
        if !end && !points.contains(point) {
            points.push(point.clone());
        }
    }
    let mut buffers = Vec::new();
    for (ia, ib) in pairs(left.as_ref(), right.as_ref()) {
        buffers.push(buffer((left.as_ref(), ia), (right.as_ref(), ib), &points)?);
    }
    buffers.sort_by_key(|b| {
        // What the step is given comes before what it makes.
        let given = b.reader.filter(|&r| b.writer.is_none_or(|w| r <= w));
        let rank = match (given, b.writer) {
            (Some(reader), _) => (0, reader),
            (None, Some(writer)) => (1, writer),
            (None, None) => (2, 0),
        };
        (rank, b.name().to_owned(), b.record().map(|r| r.generation))
    });
    let (in_a, in_b) = (left.is_some(), right.is_some());
    let launches = align(left.as_ref(), right.as_ref());
    let logged = [left, right].map(|side| side.and_then(|side| side.logged));
    Ok(Beside { at, in_a, in_b, buffers, launches, opaque, logged, points })
}

type Pair = (Option<BufferId>, Option<BufferId>);

/// Buffers that stand for each other; those of one side alone too.
fn pairs(left: Option<&Side<'_>>, right: Option<&Side<'_>>) -> Vec<Pair> {
    let pairing = match (left, right) {
        (Some(a), Some(b)) => Pairing::at((a.trace, &a.lifetimes, a.index), (b.trace, &b.lifetimes, b.index)),
        _ => Pairing::default(),
    };
    let ids = |side: Option<&Side<'_>>| side.map_or(Vec::new(), Side::ids);
    let (ours, theirs) = (ids(left), ids(right));
    // A buffer that one side alone uses in this step is shown with its twin all the same.
    let mut pairs: Vec<Pair> = ours.iter().map(|&id| (Some(id), pairing.of(id))).collect();
    for &id in &theirs {
        match pairing.reversed_of(id) {
            Some(twin) if ours.contains(&twin) => {}
            twin => pairs.push((twin, Some(id))),
        }
    }
    pairs
}

fn buffer(
    (left, ia): (Option<&Side<'_>>, Option<BufferId>),
    (right, ib): (Option<&Side<'_>>, Option<BufferId>),
    points: &[String],
) -> Result<BesideBuffer, ReplayError> {
    let (x, y) = (left.zip(ia), right.zip(ib));
    let recorded = |point: &String| {
        let at = |(side, id): (&Side<'_>, BufferId)| {
            side.covered.iter().any(|(name, ids)| name == point && ids.binary_search(&id).is_ok())
        };
        [x, y].into_iter().flatten().any(at)
    };
    let reads = |v: &ViewRecord| !matches!(v.access, Access::Write);
    let first = |meets: &dyn Fn(&ViewRecord) -> bool| {
        [x, y].into_iter().flatten().find_map(|(side, id)| side.first(id, meets).map(|n| (side, n)))
    };
    let writer = first(&writes);
    let side = |s: Option<(&Side<'_>, BufferId)>| s.map_or(Ok(None), |(side, id)| side.buffer(id));
    let same = |at: &dyn Fn(&Side<'_>) -> Option<SnapshotId>| sameness(x, y, at);
    let (before, after) = (same(&|side| side.before)?, same(&|side| side.after)?);
    Ok(BesideBuffer {
        a: side(x)?,
        b: side(y)?,
        writer: writer.map(|(_, n)| n),
        reader: first(&reads).map(|(_, n)| n),
        phase: writer.map(|(side, n)| side.launches[n].record.phase.name()),
        host: [x, y]
            .into_iter()
            .flatten()
            .any(|(side, id)| side.step.host_writes.iter().any(|w| w.buffer == id)),
        before,
        after,
        points: (0..points.len()).filter(|&i| recorded(&points[i])).collect(),
        sample: sample(x, y, (before, after))?,
    })
}

/// The element to show of a buffer whose two sides compare like this before and after the step.
fn sample(
    x: Option<(&Side<'_>, BufferId)>,
    y: Option<(&Side<'_>, BufferId)>,
    (before, after): (Sameness, Sameness),
) -> Result<Option<Sample>, ReplayError> {
    let is_after = match (before, after) {
        (Sameness::Differs, Sameness::Equal) => false,
        (_, Sameness::Unknown) if before == Sameness::Unknown => return Ok(None),
        (_, after) => after != Sameness::Unknown,
    };
    let here = |side: Option<(&Side<'_>, BufferId)>, start: u64, count: u64| {
        let Some((side, id)) = side else { return Ok(None) };
        let Some(at) = (if is_after { side.after } else { side.before }) else { return Ok(None) };
        read_elements(side.trace, at, id, start, count)
    };
    let dtype = |side: Option<(&Side<'_>, BufferId)>| {
        side.and_then(|(side, id)| side.trace.buffer(id)).map(|record| record.dtype)
    };
    let mut flat = 0;
    if (if is_after { after } else { before }) == Sameness::Differs && dtype(x) == dtype(y) {
        let count = x.and_then(|(side, id)| side.trace.buffer(id)).map_or(0, |r| r.bytes / r.dtype.size());
        while flat < count {
            let (p, q) = (here(x, flat, SEARCHED)?, here(y, flat, SEARCHED)?);
            let (Some(p), Some(q), Some(dtype)) = (p, q, dtype(x)) else { break };
            if let Some(first) = p.iter().zip(&q).position(|(p, q)| p != q) {
                flat += first as u64 / dtype.size();
                break;
            }
            flat += SEARCHED;
        }
        if flat >= count {
            flat = 0;
        }
    }
    let value = |side: Option<(&Side<'_>, BufferId)>| -> Result<Option<Value>, ReplayError> {
        let bytes = here(side, flat, 1)?;
        Ok(bytes.zip(dtype(side)).and_then(|(bytes, dtype)| Value::from_bytes(dtype, &bytes)))
    };
    Ok(Some(Sample { flat, after: is_after, a: value(x)?, b: value(y)? }))
}

fn sameness(
    x: Option<(&Side<'_>, BufferId)>,
    y: Option<(&Side<'_>, BufferId)>,
    at: &dyn Fn(&Side<'_>) -> Option<SnapshotId>,
) -> Result<Sameness, ReplayError> {
    let there = |side: Option<(&Side<'_>, BufferId)>| -> Result<Option<SnapshotId>, ReplayError> {
        let Some((side, id)) = side else { return Ok(None) };
        let Some(snapshot) = at(side) else { return Ok(None) };
        Ok(side.trace.covers(snapshot, id)?.then_some(snapshot))
    };
    let (sx, sy) = (there(x)?, there(y)?);
    let (Some((a, ia)), Some((b, ib)), Some(sa), Some(sb)) = (x, y, sx, sy) else {
        return Ok(match (sx, sy) {
            (Some(_), None) => Sameness::OnlyA,
            (None, Some(_)) => Sameness::OnlyB,
            _ => Sameness::Unknown,
        });
    };
    let same = same_bytes((a.trace, sa, ia), (b.trace, sb, ib))?;
    Ok(if same { Sameness::Equal } else { Sameness::Differs })
}

type Recorded<'a> = (&'a Trace, SnapshotId, BufferId);

/// Whether two recorded buffers hold the same bytes, by the hashes of their chunks where those are alike.
pub(crate) fn same_bytes((a, sa, ia): Recorded<'_>, (b, sb, ib): Recorded<'_>) -> Result<bool, ReplayError> {
    let (Some(x), Some(y)) = (a.buffer(ia), b.buffer(ib)) else { return Ok(false) };
    if (&x.shape, x.dtype) != (&y.shape, y.dtype) {
        return Ok(false);
    }
    if x.chunk_bytes != y.chunk_bytes {
        return Ok(a.read_buffer(sa, ia)? == b.read_buffer(sb, ib)?);
    }
    for chunk in 0..x.chunks() {
        if a.chunk_hash(sa, ia, chunk)? != b.chunk_hash(sb, ib, chunk)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The launches of both sides in one list, those that stand for each other in one row.
fn align(left: Option<&Side<'_>>, right: Option<&Side<'_>>) -> Vec<BesideLaunch> {
    let mut order: Vec<(Option<usize>, Option<usize>)> = Vec::new();
    let (mut i, mut j) = (0, 0);
    if let (Some(a), Some(b)) = (left, right) {
        for (x, y) in aligned((a.trace, &a.launches), (b.trace, &b.launches)).pairs {
            order.extend((i..x).map(|i| (Some(i), None)));
            order.extend((j..y).map(|j| (None, Some(j))));
            order.push((Some(x), Some(y)));
            (i, j) = (x + 1, y + 1);
        }
    }
    let count = |side: Option<&Side<'_>>| side.map_or(0, |s| s.launches.len());
    order.extend((i..count(left)).map(|i| (Some(i), None)));
    order.extend((j..count(right)).map(|j| (None, Some(j))));
    let view = |side: Option<&Side<'_>>, i: Option<usize>| side.zip(i).map(|(s, i)| s.launch(i));
    let row = |(i, j): (Option<usize>, Option<usize>)| {
        let (a, b) = (view(left, i), view(right, j));
        let differing = match (&a, &b) {
            (Some(a), Some(b)) => differing(&a.arguments, &b.arguments),
            _ => Vec::new(),
        };
        BesideLaunch { a, b, differing }
    };
    order.into_iter().map(row).collect()
}

fn differing(a: &[(String, String)], b: &[(String, String)]) -> Vec<String> {
    let of = |list: &[(String, String)], name: &str| {
        list.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<String> = a.iter().chain(b).map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| of(a, name) != of(b, name));
    names
}
