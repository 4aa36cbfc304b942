//! A trace in order of time: every event with the bytes that it uses, and who wrote each byte last.
//!
//! Nothing is executed and no weight is read: the bytes that a launch uses follow from its arguments and
//! from recorded values of its index operands. Where such a value was computed in the same step and no
//! snapshot shows it, the launch *may* use all that is bound, and that is kept apart from what it does use.

mod event;
pub(crate) mod intervals;
mod memory;
mod operands;
mod place;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use twinstep_kernels as kernels;
use twinstep_traces::{BufferId, GraphId, Item, Program, ProgramId, StepRecord, Trace, ViewRecord};

pub(crate) use event::{Access, Event, LaunchEvent, What};
pub(crate) use memory::{By, Piece, Writer};
pub(crate) use operands::outputs;
pub(crate) use place::{Moment, launch_of, of as name_of};

use crate::ReplayError;
use crate::foreign::is_foreign;
use memory::Memory;
use operands::{Prepared, foreign};
use values::Values;

/// Events and byte ranges that are looked at before a walk gives up: a trace from a stranger can name one
/// program from any number of steps. Some 100 times a run of 300 steps of the embedded voice.
const WORK_MAX: u64 = 100_000_000;
/// Notes kept of what was not looked at.
const NOTES_MAX: usize = 64;

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next event.
    On,
    /// Not even the present event takes effect.
    Stop,
}

/// Sees every event before it takes effect.
pub(crate) type Observer<'o> = &'o mut dyn FnMut(&Timeline<'_>, &Event<'_>) -> Result<Flow, ReplayError>;

/// A program with its launches prepared, item by item.
struct Plan {
    program: Arc<Program>,
    prepared: Vec<Option<Prepared>>,
}

/// The state of a trace's memory at a point of time.
pub(crate) struct Timeline<'a> {
    trace: &'a Trace,
    memory: Memory<'a>,
    values: Values,
    plans: BTreeMap<ProgramId, Rc<Plan>>,
    /// Live buffers of each name in order of allocation.
    names: BTreeMap<String, Vec<BufferId>>,
    live: BTreeSet<BufferId>,
    /// Buffers given back, and in which step record.
    freed: BTreeMap<BufferId, u32>,
    /// When something ran whose effect is not known.
    forgotten: Option<u32>,
    /// The run of another engine: its log does not tell all that ran, so nothing stays known.
    foreign: bool,
    time: u32,
    work: u64,
    notes: BTreeSet<String>,
}

impl<'a> Timeline<'a> {
    fn new(trace: &'a Trace) -> Self {
        Timeline {
            trace,
            memory: Memory::new(trace),
            values: Values::default(),
            plans: BTreeMap::new(),
            names: BTreeMap::new(),
            live: BTreeSet::new(),
            freed: BTreeMap::new(),
            forgotten: None,
            foreign: is_foreign(trace.run()),
            time: 0,
            work: 0,
            notes: BTreeSet::new(),
        }
    }

    /// Goes through a trace until its end or until the observer stops.
    ///
    /// # Errors
    /// [`ReplayError::Read`], or the observer's own.
    pub(crate) fn walk(trace: &'a Trace, observer: Observer<'_>) -> Result<Self, ReplayError> {
        let mut timeline = Timeline::new(trace);
        for index in 0..trace.step_count() {
            let step = trace.step(index)?;
            if timeline.step(index as u32, &step, observer)? == Flow::Stop {
                break;
            }
            if timeline.work > WORK_MAX {
                timeline.note(format!("what ran after step {}: the trace is too long", place::of(&step)));
                break;
            }
        }
        Ok(timeline)
    }

    /// The trace.
    pub(crate) fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// Who wrote bytes of a buffer last, in rising order and without gaps. Bytes that something unknown may
    /// have written since have no writer.
    pub(crate) fn writers(&self, buffer: BufferId, start: u64, end: u64) -> impl Iterator<Item = Piece> + '_ {
        let known = |w: &Writer| self.forgotten.is_none_or(|time| w.time > time);
        let pieces = self.memory.writers(buffer, start, end);
        pieces.map(move |piece| Piece { writer: piece.writer.filter(known), ..piece })
    }

    /// As [`Timeline::writers`], but the last writers that are known, whatever may have come since.
    pub(crate) fn known_writers(
        &self,
        buffer: BufferId,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = Piece> {
        self.memory.writers(buffer, start, end)
    }

    /// The bytes that `start..end` of `from` has in common with buffer `of`, as offsets in that.
    pub(crate) fn shared(&self, from: BufferId, start: u64, end: u64, of: BufferId) -> Option<(u64, u64)> {
        if from == of { Some((start, end)) } else { self.memory.shared(from, start, end, of) }
    }

    /// The newest live buffer of a name.
    pub(crate) fn resolve(&self, name: &str) -> Option<BufferId> {
        self.names.get(name).and_then(|ids| ids.last()).copied()
    }

    /// The step record in which a buffer's memory was given back.
    pub(crate) fn freed(&self, buffer: BufferId) -> Option<u32> {
        self.freed.get(&buffer).copied()
    }

    /// Buffers that are allocated now.
    pub(crate) fn live(&self) -> &BTreeSet<BufferId> {
        &self.live
    }

    /// What an allocation leaves in a buffer.
    pub(crate) fn allocated(&self, buffer: BufferId) -> By {
        self.memory.allocated(buffer)
    }

    /// What was met that could not be looked at.
    pub(crate) fn notes(&self) -> &BTreeSet<String> {
        &self.notes
    }

    fn note(&mut self, what: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.insert(what);
        }
    }

    fn plan(&mut self, id: ProgramId) -> Result<Rc<Plan>, ReplayError> {
        if let Some(plan) = self.plans.get(&id) {
            return Ok(plan.clone());
        }
        let program = self.trace.program(id)?;
        let mut prepared = Vec::new();
        for item in &program.items {
            let Item::Launch(record) = item else {
                prepared.push(None);
                continue;
            };
            let launch = Prepared::new(self.trace, record);
            if let Some(reason) = &launch.strange {
                self.note(format!("launches of `{}`: {reason}", record.op));
            }
            prepared.push(Some(launch));
        }
        let plan = Rc::new(Plan { program, prepared });
        self.plans.insert(id, plan.clone());
        Ok(plan)
    }

    fn step(&mut self, index: u32, step: &StepRecord, observer: Observer<'_>) -> Result<Flow, ReplayError> {
        let plan = self.plan(step.program)?;
        let items = plan.program.items.len();
        self.values.begin();
        let mut walk = Walk { timeline: self, index, step, observer, number: 0 };
        if walk.emit(0, 0, What::Begin, &[])? == Flow::Stop {
            return Ok(Flow::Stop);
        }
        let mut between: Vec<(usize, What<'_>)> = Vec::new();
        between
            .extend((0..).zip(&step.host_writes).map(|(i, w)| (w.position as usize, What::HostWrite(i, w))));
        between.extend(step.points.iter().map(|p| (p.position as usize, What::Point(p))));
        between.extend(step.host_reads.iter().map(|r| (r.position as usize, What::HostRead(r))));
        // Stable: writes, points, reads, as `log` shows them.
        between.sort_by_key(|(position, _)| *position);
        let mut between = between.into_iter().peekable();
        for item in 0..=items {
            while let Some((_, what)) = between.next_if(|(position, _)| *position <= item || item == items) {
                if walk.host(item as u32, what)? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
            }
            if item < items && walk.item(&plan, item)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
            if walk.timeline.work > WORK_MAX {
                return Ok(Flow::On);
            }
        }
        walk.emit(items as u32, 0, What::End, &[])
    }
}

/// One step being walked through.
struct Walk<'w, 'a, 'o> {
    timeline: &'w mut Timeline<'a>,
    index: u32,
    step: &'w StepRecord,
    observer: Observer<'o>,
    /// Of the next launch.
    number: u32,
}

impl Walk<'_, '_, '_> {
    /// Shows an event to the observer and then lets it take effect.
    fn emit(
        &mut self,
        item: u32,
        stream: u32,
        what: What<'_>,
        accesses: &[Access],
    ) -> Result<Flow, ReplayError> {
        let timeline = &mut *self.timeline;
        timeline.time += 1;
        timeline.work += 1 + accesses.len() as u64;
        let (time, index, step) = (timeline.time, self.index, self.step);
        let event = Event { time, index, step, item, stream, what, accesses };
        if (self.observer)(timeline, &event)? == Flow::Stop {
            return Ok(Flow::Stop);
        }
        let by = match what {
            What::HostWrite(i, _) => By::Host(i),
            What::Launch(launch) => By::Launch(launch.number),
            What::Allocate(buffer) => timeline.allocate(buffer),
            What::Free(buffer) => {
                timeline.free(buffer, index);
                By::Foreign
            }
            What::Point(point) => {
                timeline.values.point(time, point.snapshot);
                By::Foreign
            }
            _ => By::Foreign,
        };
        for access in accesses.iter().filter(|a| a.access.writes()) {
            let writer = Writer { by, step: index, item, may: access.may, via: access.buffer, stream, time };
            timeline.memory.write(access.start, access.end, writer);
        }
        if timeline.foreign || matches!(what, What::Gap | What::Foreign(Item::Opaque(_), _)) {
            timeline.forgotten = Some(time);
        }
        Ok(Flow::On)
    }

    /// A host write, a host read or a snapshot.
    fn host(&mut self, item: u32, what: What<'_>) -> Result<Flow, ReplayError> {
        let (buffer, offset, len, access) = match what {
            What::HostWrite(_, w) => (w.buffer, w.offset, w.bytes.len(), kernels::Access::Write),
            What::HostRead(r) => (r.buffer, r.offset, r.bytes.len(), kernels::Access::Read),
            _ => return self.emit(item, 0, what, &[]),
        };
        let end = offset.saturating_add(len as u64);
        let access = Access { buffer, start: offset, end, access, may: false };
        if self.timeline.trace.buffer(buffer).is_none_or(|b| end > b.bytes) {
            self.timeline.note(format!("a host access beyond the end of buffer {}", buffer.0));
            return Ok(Flow::On);
        }
        self.emit(item, 0, what, &[access])
    }

    fn item(&mut self, plan: &Plan, item: usize) -> Result<Flow, ReplayError> {
        let at = item as u32;
        match &plan.program.items[item] {
            Item::Launch(record) => self.launch(plan, item, at, record.stream, None),
            Item::GraphLaunch { graph, stream } => self.graph(at, *graph, *stream),
            Item::Capture { graph } => self.emit(at, 0, What::Capture(*graph), &[]),
            Item::DestroyGraph { .. } | Item::Mark { .. } => Ok(Flow::On),
            Item::Allocate { buffer } | Item::Free { buffer } => {
                let Some(bytes) = self.timeline.trace.buffer(*buffer).map(|b| b.bytes) else {
                    self.timeline.note(format!("buffer {}: it is not in the trace", buffer.0));
                    return Ok(Flow::On);
                };
                if matches!(plan.program.items[item], Item::Free { .. }) {
                    return self.emit(at, 0, What::Free(*buffer), &[]);
                }
                let access = kernels::Access::Write;
                let filled = Access { buffer: *buffer, start: 0, end: bytes, access, may: false };
                self.emit(at, 0, What::Allocate(*buffer), &[filled])
            }
            Item::EventRecord { event, stream } => self.emit(at, *stream, What::EventRecord(*event), &[]),
            Item::EventWait { event, stream } => self.emit(at, *stream, What::EventWait(*event), &[]),
            Item::Gap { reason } => {
                self.timeline.note(format!("not recorded: {reason}"));
                self.emit(at, 0, What::Gap, &[])
            }
            foreign => self.foreign(at, foreign, None, None),
        }
    }

    fn graph(&mut self, item: u32, graph: GraphId, stream: u32) -> Result<Flow, ReplayError> {
        let Some(record) = self.timeline.trace.graph(graph) else {
            self.timeline.note(format!("launches of graph {}: it is not in the trace", graph.0));
            return self.emit(item, stream, What::Gap, &[]);
        };
        if !record.edges.is_empty() {
            self.timeline.note(format!("the order of nodes of graph {}: they are not a chain", graph.0));
        }
        let plan = self.timeline.plan(record.program)?;
        let mut flow = self.emit(item, stream, What::GraphLaunch(graph), &[])?;
        for (node, within) in plan.program.items.iter().enumerate() {
            if flow == Flow::Stop || self.timeline.work > WORK_MAX {
                return Ok(flow);
            }
            flow = match within {
                Item::Launch(_) => self.launch(&plan, node, item, stream, Some((graph, node as u32)))?,
                Item::Opaque(_) | Item::Copy { .. } | Item::Fill { .. } => {
                    self.foreign(item, within, Some((graph, node as u32)), Some(stream))?
                }
                Item::Mark { text } => {
                    self.timeline.note(format!("graph {}: {text}", graph.0));
                    Flow::On
                }
                Item::Gap { reason } => {
                    self.timeline.note(format!("graph {}: {reason}", graph.0));
                    Flow::On
                }
                _ => {
                    self.timeline.note(format!("graph {}: a node that is no launch", graph.0));
                    Flow::On
                }
            };
        }
        Ok(flow)
    }

    /// The launch at `index` of a program, run by item `item` of the step.
    fn launch(
        &mut self,
        plan: &Plan,
        index: usize,
        item: u32,
        stream: u32,
        graph: Option<(GraphId, u32)>,
    ) -> Result<Flow, ReplayError> {
        let (Item::Launch(record), Some(prepared)) = (&plan.program.items[index], &plan.prepared[index])
        else {
            return Ok(Flow::On);
        };
        let timeline = &*self.timeline;
        let mut value = |buffer, start, end| timeline.value(self.step, self.index, buffer, start, end);
        let accesses = prepared.accesses(&mut value);
        let number = self.number;
        self.number += 1;
        self.emit(item, stream, What::Launch(LaunchEvent { number, graph, record }), &accesses)
    }

    fn foreign(
        &mut self,
        at: u32,
        item: &Item,
        graph: Option<(GraphId, u32)>,
        stream: Option<u32>,
    ) -> Result<Flow, ReplayError> {
        let trace = self.timeline.trace;
        let moved = |view: &ViewRecord, bytes: u64, access| {
            let end = view.offset.saturating_add(bytes).min(trace.buffer(view.buffer)?.bytes);
            Some(Access { buffer: view.buffer, start: view.offset.min(end), end, access, may: false })
        };
        let (read, write) = (kernels::Access::Read, kernels::Access::Write);
        let (own, accesses): (u32, Vec<Access>) = match item {
            Item::Opaque(launch) => {
                self.timeline.note(match self.timeline.foreign {
                    true => "which of the buffers that they bind the kernels of another engine read and \
                             write, and what ran that was not recorded"
                        .to_owned(),
                    false => format!(
                        "what kernel `{}` of another engine reads and writes, and what was in memory after it",
                        crate::kernel_name::short(&launch.kernel)
                    ),
                });
                let all = launch.operands.iter().filter_map(|(_, _, view)| foreign(trace, view));
                (launch.stream, all.collect())
            }
            Item::Copy { stream, source, target, bytes, .. } => {
                let source = source.as_ref().and_then(|v| moved(v, *bytes, read));
                let target = target.as_ref().and_then(|v| moved(v, *bytes, write));
                (*stream, source.into_iter().chain(target).collect())
            }
            Item::Fill { stream, target, bytes, .. } => {
                let target = target.as_ref().and_then(|v| moved(v, *bytes, write));
                (*stream, target.into_iter().collect())
            }
            _ => return Ok(Flow::On),
        };
        self.emit(at, stream.unwrap_or(own), What::Foreign(item, graph), &accesses)
    }
}

impl Timeline<'_> {
    fn allocate(&mut self, buffer: BufferId) -> By {
        if let Some(record) = self.trace.buffer(buffer) {
            let of_name = self.names.entry(record.name.clone()).or_default();
            of_name.retain(|id| *id != buffer);
            of_name.push(buffer);
        }
        self.live.insert(buffer);
        self.freed.remove(&buffer);
        self.memory.allocated(buffer)
    }

    fn free(&mut self, buffer: BufferId, index: u32) {
        if let Some(of_name) = self.trace.buffer(buffer).and_then(|b| self.names.get_mut(&b.name)) {
            of_name.retain(|id| *id != buffer);
        }
        self.live.remove(&buffer);
        self.freed.insert(buffer, index);
    }
}
