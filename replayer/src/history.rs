//! Who wrote an element: its last writers, newest first, across steps, host writes, launches and graph nodes.

mod changes;

use std::collections::VecDeque;

use serde::Serialize;
use twinstep_traces::{BufferId, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find, place};
use crate::foreign::is_foreign;
use crate::selection::Selection;
use crate::timeline::{By, Event, Flow, LaunchEvent, Moment, Timeline, What, Writer, launch_of, name_of};
use crate::value::Value;

/// Separate stretches of bytes that a selection may have.
const RUNS_MAX: u64 = 4096;
/// Groups of bytes with different last writers that are followed.
const GROUPS_MAX: usize = 16;
/// Values of a host write, and writers of an input, that are kept.
const SHOWN_MAX: usize = 8;

/// How much history is wanted, and from when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryOptions {
    /// From after the step instead of from before it.
    pub after: bool,
    /// Most writers of one group of bytes.
    pub limit: usize,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        HistoryOptions { after: false, limit: 16 }
    }
}

/// `twinstep.history/1`.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryReport {
    /// Document type.
    pub schema: &'static str,
    /// Which step.
    pub at: String,
    /// Snapshot point from which it goes backwards.
    pub point: &'static str,
    /// Name with generation.
    pub buffer: String,
    /// The selected bytes, grouped by who wrote them last.
    pub groups: Vec<HistoryGroup>,
    /// Groups that were left out.
    pub groups_left_out: usize,
    /// In a run of another engine: when the bytes changed, by its snapshots, newest first. Its kernels' writes are
    /// not known, so this tells more than the groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<HistoryChange>>,
    /// What the trace does not tell, so that writers may be missing.
    pub not_looked_at: Vec<String>,
}

/// Bytes with the same last writer.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryGroup {
    /// Half-open ranges of bytes in the buffer.
    pub bytes: Vec<[u64; 2]>,
    /// Newest first.
    pub writers: Vec<HistoryWriter>,
    /// Whether there are earlier writers.
    pub more: bool,
}

/// An event that wrote some of the bytes.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryWriter {
    /// Request, counted from 1; 0 is set-up.
    pub request: u32,
    /// Step within it, as in the step's record; 0 is set-up.
    pub step: u32,
    /// The step as people write it: `2`, `3:2`, `1:codec`, `set-up`.
    pub at: String,
    /// `allocation`, `weights`, `host-write`, `launch`, `node` (of a graph), `foreign` or `not-known`.
    pub what: &'static str,
    /// Label of a launch, or its op where it has none.
    pub name: String,
    /// Op of a launch.
    pub op: Option<String>,
    /// Number of a launch in its step, as in `node:N` and `log`.
    pub launch: Option<u32>,
    /// The graph that it is a node of.
    pub graph: Option<u32>,
    /// The node's number in its graph.
    pub graph_node: Option<u32>,
    /// The buffer through which it wrote.
    pub buffer: String,
    /// The bytes of that buffer.
    pub bytes: [u64; 2],
    /// Values that are not known decide whether it wrote them at all.
    pub may: bool,
    /// The first values of a host write that were selected.
    pub values: Vec<Value>,
    /// What a launch read, and who wrote that last.
    pub inputs: Vec<HistoryInput>,
}

/// An operand that a launch read.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryInput {
    /// The op's name for it.
    pub operand: String,
    /// Name with generation.
    pub buffer: String,
    /// The bytes read, from the first to the last.
    pub bytes: [u64; 2],
    /// Who wrote them last, in words, newest first.
    pub writers: Vec<String>,
}

/// Selected bytes changed between two snapshots.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryChange {
    /// The last point that covered them before: `step.before of step 3`.
    pub after: String,
    /// The first point that shows the change.
    pub before: String,
    /// The step of that point; `None` for set-up.
    #[serde(skip)]
    pub step: Option<At>,
    /// How many of the selected bytes changed.
    pub bytes_changed: u64,
    /// What ran in between, at most eight things by name.
    pub ran: Vec<String>,
    /// Launches, copies and fills in between that bind the buffer, in words.
    pub candidates: Vec<String>,
}

/// A writer while the trace is walked through.
struct Found {
    writer: Writer,
    bytes: (u64, u64),
    values: Vec<Value>,
    inputs: Vec<Input>,
    /// Of another engine.
    name: String,
}

struct Input {
    operand: String,
    buffer: BufferId,
    bytes: (u64, u64),
    writers: Vec<Option<Writer>>,
}

struct Group {
    last: Option<Writer>,
    ranges: Vec<(u64, u64)>,
    found: VecDeque<Found>,
    more: bool,
}

/// The last writers of a selection, backwards from a step.
///
/// # Errors
/// [`ReplayError::Place`], [`ReplayError::Selection`], [`ReplayError::Read`].
pub fn history(
    trace: &Trace,
    selection: &str,
    at: At,
    options: HistoryOptions,
) -> Result<HistoryReport, ReplayError> {
    let step = find(trace, at)?;
    let index = index_of(trace, &step)?;
    let selection = Selection::parse(trace, &step, selection)?;
    let moment = if options.after { Moment::End } else { Moment::Before };
    let timeline = Timeline::at(trace, index, moment)?;
    let mut groups: Vec<Group> = Vec::new();
    let mut groups_left_out = 0;
    for (start, end) in runs(trace, &selection)? {
        for piece in timeline.known_writers(selection.buffer, start, end) {
            let range = (piece.start, piece.end);
            match groups.iter().position(|g| g.last == piece.writer) {
                Some(group) => groups[group].ranges.push(range),
                None if groups.len() < GROUPS_MAX => groups.push(Group {
                    last: piece.writer,
                    ranges: vec![range],
                    found: VecDeque::new(),
                    more: false,
                }),
                None => groups_left_out += 1,
            }
        }
    }
    let until = groups.iter().filter_map(|g| g.last).map(|w| w.time).max().unwrap_or(0);
    let limit = options.limit.max(1);
    Timeline::walk(trace, &mut |timeline, event| {
        if event.time > until {
            return Ok(Flow::Stop);
        }
        collect(timeline, event, selection.buffer, limit, &mut groups);
        Ok(Flow::On)
    })?;
    let label = |buffer| timeline.label(buffer);
    Ok(HistoryReport {
        schema: "twinstep.history/1",
        at: at.to_string(),
        point: if options.after { "step.after" } else { "step.before" },
        buffer: label(selection.buffer),
        groups: groups.iter().map(|group| report(&timeline, group)).collect::<Result<_, _>>()?,
        groups_left_out,
        changes: is_foreign(trace.run())
            .then(|| changes::of(trace, index, &selection, options))
            .transpose()?,
        not_looked_at: timeline.notes().iter().cloned().collect(),
    })
}

/// The index of a step's record.
fn index_of(trace: &Trace, step: &StepRecord) -> Result<usize, ReplayError> {
    if let Some(index) = trace.find_step(step.request, step.step)?
        && place(&trace.step(index)?) == place(step)
    {
        return Ok(index);
    }
    for index in 0..trace.step_count() {
        if place(&trace.step(index)?) == place(step) {
            return Ok(index);
        }
    }
    Err(ReplayError::Place("there is no such step".to_owned()))
}

/// The selected bytes as separate stretches, in rising order.
fn runs(trace: &Trace, selection: &Selection) -> Result<Vec<(u64, u64)>, ReplayError> {
    let Some(record) = trace.buffer(selection.buffer) else { return Ok(Vec::new()) };
    if record.shape.contains(&0) {
        return Ok(Vec::new());
    }
    // Trailing axes that are selected whole belong to one stretch, and so does a range of the axis before.
    let axes = selection.ranges.iter().zip(&record.shape);
    let whole = axes.rev().take_while(|((a, b), n)| *a == 0 && b + 1 == **n).count();
    let split = record.shape.len().saturating_sub(whole + 1);
    let (outer, inner) = (&selection.ranges[..split], &selection.ranges[split..]);
    let count = outer.iter().try_fold(1u64, |n, (a, b)| n.checked_mul(b - a + 1));
    if count.is_none_or(|n| n > RUNS_MAX) {
        return Err(ReplayError::Selection(format!(
            "`{}` selects more than {RUNS_MAX} separate stretches: give more indices",
            selection.name
        )));
    }
    let mut starts = vec![0u64];
    for (&(a, b), &n) in outer.iter().zip(&record.shape) {
        starts = starts.iter().flat_map(|base| (a..=b).map(move |i| base * n + i)).collect();
    }
    let rest: &[u64] = record.shape.get(split + 1..).unwrap_or_default();
    let size = record.dtype.size() * rest.iter().product::<u64>();
    let axis = record.shape.get(split).copied().unwrap_or(1);
    let (a, b) = inner.first().copied().unwrap_or((0, 0));
    Ok(starts.iter().map(|base| ((base * axis + a) * size, (base * axis + b + 1) * size)).collect())
}

/// Adds an event to the groups of which it writes bytes.
fn collect(timeline: &Timeline<'_>, event: &Event<'_>, target: BufferId, limit: usize, groups: &mut [Group]) {
    for access in event.accesses.iter().filter(|a| a.access.writes()) {
        let Some((start, end)) = timeline.shared(access.buffer, access.start, access.end, target) else {
            continue;
        };
        for group in groups.iter_mut() {
            // What came after the last writer has been overwritten or is another group's.
            if group.last.is_none_or(|last| event.time > last.time) {
                continue;
            }
            let Some(&(a, b)) = group.ranges.iter().find(|(a, b)| *a < end && start < *b) else { continue };
            if group.found.back().is_some_and(|f| f.writer.time == event.time) {
                continue;
            }
            let by = match event.what {
                What::HostWrite(i, _) => By::Host(i),
                What::Launch(launch) => By::Launch(launch.number),
                What::Allocate(buffer) => timeline.allocated(buffer),
                _ => By::Foreign,
            };
            if matches!(event.what, What::Allocate(_)) {
                // Nothing before it reaches a reader.
                group.found.clear();
                group.more = false;
            }
            let writer = Writer {
                by,
                step: event.index,
                item: event.item,
                may: access.may,
                via: access.buffer,
                stream: event.stream,
                time: event.time,
            };
            let inputs = event.launch().map_or(Vec::new(), |launch| inputs(timeline, event, launch));
            let bytes = (access.start, access.end);
            let values = values(timeline, event, target, start.max(a), end.min(b));
            let name = match event.what {
                What::Foreign(..) => crate::checks::subject(event),
                _ => String::new(),
            };
            group.found.push_back(Found { writer, bytes, values, inputs, name });
            if group.found.len() > limit {
                group.found.pop_front();
                group.more = true;
            }
        }
    }
}

/// The values that a host write put into bytes of a buffer.
fn values(timeline: &Timeline<'_>, event: &Event<'_>, target: BufferId, start: u64, end: u64) -> Vec<Value> {
    let (What::HostWrite(_, write), Some(record)) = (event.what, timeline.trace().buffer(target)) else {
        return Vec::new();
    };
    let own = timeline.shared(target, start, end, write.buffer);
    let range = own.and_then(|(a, b)| Some(a.checked_sub(write.offset)?..b.checked_sub(write.offset)?));
    let bytes = range.and_then(|r| write.bytes.get(r.start as usize..r.end as usize)).unwrap_or_default();
    Value::all(record.dtype, bytes).take(SHOWN_MAX).collect()
}

/// What a launch reads and who wrote it.
fn inputs(timeline: &Timeline<'_>, event: &Event<'_>, launch: &LaunchEvent<'_>) -> Vec<Input> {
    let mut inputs = Vec::new();
    for view in launch.record.views.iter() {
        let reads = event.accesses.iter().filter(|a| a.access.reads());
        let read: Vec<(u64, u64)> = reads.filter_map(|a| LaunchEvent::within(view, a)).collect();
        let (Some(&(start, _)), Some(end)) = (read.iter().min(), read.iter().map(|r| r.1).max()) else {
            continue;
        };
        let mut writers: Vec<Option<Writer>> = Vec::new();
        for (start, end) in read {
            for piece in timeline.known_writers(view.buffer, start, end) {
                if !writers.contains(&piece.writer) {
                    writers.push(piece.writer);
                    writers.sort_by_key(|w| std::cmp::Reverse(w.map_or(0, |w| w.time)));
                    writers.truncate(SHOWN_MAX);
                }
            }
        }
        inputs.push(Input { operand: view.name.clone(), buffer: view.buffer, bytes: (start, end), writers });
    }
    inputs
}

fn report(timeline: &Timeline<'_>, group: &Group) -> Result<HistoryGroup, ReplayError> {
    let mut writers = Vec::new();
    for found in group.found.iter().rev() {
        writers.push(describe(timeline, found)?);
    }
    let bytes = group.ranges.iter().map(|&(a, b)| [a, b]).collect();
    Ok(HistoryGroup { bytes, writers, more: group.more })
}

fn describe(timeline: &Timeline<'_>, found: &Found) -> Result<HistoryWriter, ReplayError> {
    let (trace, writer) = (timeline.trace(), &found.writer);
    let step = trace.step(writer.step as usize)?;
    let launch = launch_of(trace, &step, writer);
    let what = match (writer.by, &launch) {
        (By::Fresh, _) => "allocation",
        (By::Loaded, _) => "weights",
        (By::Host(_), _) => "host-write",
        (By::Launch(_), Some((_, Some(_)))) => "node",
        (By::Launch(_), _) => "launch",
        (By::Foreign, _) => "foreign",
    };
    let input = |input: &Input| HistoryInput {
        operand: input.operand.clone(),
        buffer: timeline.label(input.buffer),
        bytes: [input.bytes.0, input.bytes.1],
        writers: input
            .writers
            .iter()
            .map(|w| w.map_or("not in the log".to_owned(), |w| timeline.describe(&w)))
            .collect(),
    };
    let graph = launch.as_ref().and_then(|(_, graph)| *graph);
    Ok(HistoryWriter {
        request: step.request,
        step: step.step,
        at: name_of(&step),
        what,
        name: launch.as_ref().map_or(found.name.clone(), |(l, _)| {
            if l.label.is_empty() { l.op.clone() } else { l.label.clone() }
        }),
        op: launch.as_ref().map(|(l, _)| l.op.clone()),
        launch: if let By::Launch(number) = writer.by { Some(number) } else { None },
        graph: graph.map(|(graph, _)| graph.0),
        graph_node: graph.map(|(_, node)| node),
        buffer: timeline.label(writer.via),
        bytes: [found.bytes.0, found.bytes.1],
        may: writer.may,
        values: found.values.clone(),
        inputs: found.inputs.iter().map(input).collect(),
    })
}

/// The last writers of bytes `start..end` of a buffer as a moment of step record `index` sees them.
///
/// # Errors
/// [`ReplayError::Place`] where there is no such moment; [`ReplayError::Read`].
pub(crate) fn last_writers(
    trace: &Trace,
    index: usize,
    moment: Moment,
    buffer: BufferId,
    start: u64,
    end: u64,
) -> Result<Vec<crate::timeline::Piece>, ReplayError> {
    Ok(Timeline::at(trace, index, moment)?.writers(buffer, start, end).collect())
}
