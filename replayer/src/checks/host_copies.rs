//! Copies from the host to buffers that graphs of another engine read: what each launch was given, and where a copy
//! that came before every launch is missing or late.
//!
//! An attached engine's host writes are copies without a source on the device, between its launches. A buffer is an
//! *input* of a graph if the host copies to it and a node has an address within it. A launch that reads an input is
//! judged by what was copied there since the last launch that read it, whatever step that was in: so a loop that
//! writes ahead is as good as one that writes just before. A copy is expected before a launch if, in each of
//! [`STEPS_MIN`] or more decode steps in a row up to it, the same graph was launched after a copy to the same place,
//! and snapshots show another value each time which the graph itself left as it was. It is missed only if a snapshot
//! shows that the launch was given exactly what the one before it had: whoever else wrote the buffer, by whatever
//! is not recorded, would have changed it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use twinstep_traces::{
    BufferId, ChunkHash, GraphId, Item, PointRecord, ProgramId, StepKind, Trace, ViewRecord,
};

use super::bindings::{Bound, bound, is_unnamed, range};
use super::{Spot, foreign_name};
use crate::ReplayError;
use crate::foreign::is_foreign;
use crate::timeline::{Event, Timeline, What};

/// Decode steps in a row with another value each time after which a copy is expected.
const STEPS_MIN: u32 = 3;
/// Buffers that are followed.
const INPUTS_MAX: usize = 4096;
/// Copies of a step that are kept.
const TARGETS_MAX: usize = 4096;

/// What became of a copy that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// There is none.
    Missing,
    /// It comes after the launch.
    Late,
    /// It went to this address instead.
    Moved(u64),
    /// The host copied nothing at all before the launch, as in a dummy run.
    Nothing,
    /// It was made on this stream, the launch on that one, and it took effect while the launch ran.
    Raced(u32, u32),
}

/// A launch that was given what the one before it had.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) fate: Fate,
    pub(super) spot: Spot,
    pub(super) buffer: BufferId,
    /// The node that has its address.
    pub(super) node: String,
    /// Decode steps in a row before it that had a copy.
    pub(super) steps: u32,
}

/// A named buffer that the host copies to.
struct Input {
    start: u64,
    end: u64,
    /// By chunk, at the last snapshot.
    chunks: BTreeMap<u64, ChunkHash>,
    /// Changes that snapshots show.
    version: u64,
    /// The step record and item just before which a snapshot showed it last.
    shown: Option<(u32, u32)>,
    window: Window,
    /// The last launch that read it, until a snapshot shows what that left.
    launched: Option<(GraphId, u64)>,
}

/// What happened to an input since the last launch that read it.
#[derive(Debug, Clone, Default)]
struct Window {
    /// Copies from the host, and the offset of the first.
    copies: u32,
    first: u64,
    /// The step record and the stream of the last of them.
    index: u32,
    stream: u32,
    /// Anything else that may write it.
    others: BTreeSet<String>,
    /// Something was not recorded.
    gap: bool,
}

/// Where the host copied to, and how many bytes, in order.
type Targets = Rc<Vec<(u64, u64)>>;

/// The first launch of a step that read an input.
struct Read {
    spot: Spot,
    node: String,
    window: Window,
    version: u64,
    /// A snapshot shows what the launch was given.
    known: bool,
    /// Whether it was as it had been when a snapshot showed it next.
    kept: Option<bool>,
    /// Of the launch.
    stream: u32,
    /// The last copy to it before was in the step before.
    ahead: bool,
    /// Copies from the host to it that came later in the step.
    late: u32,
    /// All copies from the host before it, since the last graph launch of an earlier step.
    targets: Targets,
}

/// Decode steps in a row in which a graph was launched after a copy to an input.
struct Series {
    steps: u32,
    /// Request and step of the last of them.
    last: (u32, u32),
    version: u64,
    first: u64,
    copies: u32,
    ahead: bool,
    others: BTreeSet<String>,
    /// Of the last of them.
    targets: Targets,
}

/// A missing copy that the next launch may show to have been a late one.
struct Suspect {
    judged: Judged,
    graph: GraphId,
    copies: u32,
}

/// Follows the copies of one run.
#[derive(Default)]
pub(super) struct HostCopies {
    inputs: BTreeMap<BufferId, Input>,
    /// The inputs that each graph reads, with the first node that has the address.
    graphs: BTreeMap<GraphId, Rc<Vec<(BufferId, Bound)>>>,
    series: BTreeMap<(BufferId, GraphId), Series>,
    reads: BTreeMap<(BufferId, GraphId), Read>,
    /// Copies from the host since the last graph launch.
    waiting: Vec<(u64, u64)>,
    /// Those before the last graph launch of this step, since the last one of an earlier step.
    given: Targets,
    /// Addresses among those of earlier steps.
    ever: BTreeSet<u64>,
    /// A graph was launched in this step.
    launched: bool,
    suspects: Vec<Suspect>,
    cut: bool,
}

/// A copy from host memory to the device: where to, and how many bytes.
fn from_host(item: &Item) -> Option<(u64, u64)> {
    match item {
        Item::Copy { source: None, source_address: 0, target_address, bytes, .. } if *target_address != 0 => {
            Some((*target_address, *bytes))
        }
        _ => None,
    }
}

/// The places in a run's memory that the host copies to at any time: disjoint, in rising order.
fn copied_to(trace: &Trace) -> Vec<(u64, u64)> {
    let mut copied: BTreeMap<u64, u64> = BTreeMap::new();
    for id in 0..trace.program_count() {
        let Ok(program) = trace.program(ProgramId(id as u32)) else { continue };
        for (target, bytes) in program.items.iter().filter_map(from_host) {
            let end = copied.entry(target).or_default();
            *end = (*end).max(target.saturating_add(bytes));
        }
    }
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in copied {
        match merged.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

impl HostCopies {
    /// For one trace; follows nothing in a run of our own, or in one without such copies.
    pub(super) fn new(trace: &Trace) -> HostCopies {
        let mut copies = HostCopies::default();
        if !is_foreign(trace.run()) {
            return copies;
        }
        let copied = copied_to(trace);
        for (id, record) in (0..).zip(trace.buffers()) {
            let Some((start, end)) = range(trace, BufferId(id)) else { continue };
            let next = copied.partition_point(|r| r.1 <= start);
            if is_unnamed(&record.name) || copied.get(next).is_none_or(|r| r.0 >= end) {
                continue;
            }
            if copies.inputs.len() == INPUTS_MAX {
                copies.cut = true;
                break;
            }
            let input = Input {
                start,
                end,
                chunks: BTreeMap::new(),
                version: 0,
                shown: None,
                window: Window::default(),
                launched: None,
            };
            copies.inputs.insert(BufferId(id), input);
        }
        copies
    }

    /// Follows an event; gives what is decided by then.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
    ) -> Result<Vec<Judged>, ReplayError> {
        if self.inputs.is_empty() {
            return Ok(Vec::new());
        }
        let trace = timeline.trace();
        match event.what {
            What::Begin => self.begin(),
            What::Foreign(item, None) => match from_host(item) {
                Some((target, bytes)) => self.copied(event, target, bytes),
                None => self.ran(trace, item),
            },
            What::Gap => self.inputs.values_mut().for_each(|input| input.window.gap = true),
            What::Point(point) => self.point(trace, event, point)?,
            What::GraphLaunch(graph) => self.launch(trace, event, graph)?,
            What::End if event.step.kind == StepKind::Decode => return Ok(self.end(event)),
            _ => {}
        }
        Ok(Vec::new())
    }

    /// All has been seen: what was still to be decided, and whether there were more buffers than are followed.
    pub(super) fn finish(&mut self) -> (Vec<Judged>, bool) {
        (std::mem::take(&mut self.suspects).into_iter().map(|suspect| suspect.judged).collect(), self.cut)
    }

    fn begin(&mut self) {
        self.reads.clear();
        self.launched = false;
    }

    fn copied(&mut self, event: &Event<'_>, target: u64, bytes: u64) {
        if self.waiting.len() < TARGETS_MAX {
            self.waiting.push((target, bytes));
        }
        let end = target.saturating_add(bytes);
        for (&buffer, input) in self.inputs.iter_mut().filter(|(_, i)| target < i.end && end > i.start) {
            let offset = target.saturating_sub(input.start);
            let window = &mut input.window;
            if window.copies == 0 {
                window.first = offset;
            }
            window.copies += 1;
            (window.index, window.stream) = (event.index, event.stream);
            // What the last launch left can no longer be told.
            input.launched = None;
            let of_buffer = (buffer, GraphId(0))..=(buffer, GraphId(u32::MAX));
            self.reads.range_mut(of_buffer).for_each(|(_, read)| read.late += 1);
        }
    }

    /// Something else that ran outside a graph, and may write where it has an address.
    fn ran(&mut self, trace: &Trace, item: &Item) {
        let address = |view: &ViewRecord| trace.buffer(view.buffer)?.address?.checked_add(view.offset);
        let (starts, bytes): (Vec<u64>, u64) = match item {
            Item::Opaque(launch) => (launch.operands.iter().filter_map(|(.., v)| address(v)).collect(), 1),
            Item::Copy { target_address, bytes, .. } | Item::Fill { target_address, bytes, .. } => {
                (vec![*target_address], *bytes)
            }
            _ => return,
        };
        for start in starts {
            let end = start.saturating_add(bytes);
            for input in self.inputs.values_mut().filter(|i| start < i.end && end > i.start) {
                input.window.others.insert(foreign_name(item));
                input.launched = None;
            }
        }
    }

    fn point(&mut self, trace: &Trace, event: &Event<'_>, point: &PointRecord) -> Result<(), ReplayError> {
        for change in trace.changes(point.snapshot)? {
            let Some(input) = self.inputs.get_mut(&change.buffer) else { continue };
            if input.chunks.insert(change.chunk, change.hash) != Some(change.hash) {
                input.version += 1;
            }
        }
        for buffer in trace.covered(point.snapshot)? {
            let Some(input) = self.inputs.get_mut(&buffer) else { continue };
            input.shown = Some((event.index, event.item));
            let Some((graph, version)) = input.launched.take() else { continue };
            if let Some(read) = self.reads.get_mut(&(buffer, graph)) {
                read.kept = Some(input.version == version);
            }
        }
        Ok(())
    }

    /// The inputs that a graph reads.
    fn read_by(&mut self, trace: &Trace, graph: GraphId) -> Result<Rc<Vec<(BufferId, Bound)>>, ReplayError> {
        if let Some(known) = self.graphs.get(&graph) {
            return Ok(known.clone());
        }
        let mut nodes = bound(trace, graph)?;
        nodes.sort_by_key(|b| b.address);
        let mut read = Vec::new();
        for (&buffer, input) in &self.inputs {
            let first = nodes.partition_point(|b| b.address < input.start);
            let within = nodes.iter().skip(first).take_while(|b| b.address < input.end);
            read.extend(within.min_by_key(|b| b.node).map(|node| (buffer, node.clone())));
        }
        let read = Rc::new(read);
        self.graphs.insert(graph, read.clone());
        Ok(read)
    }

    fn launch(&mut self, trace: &Trace, event: &Event<'_>, graph: GraphId) -> Result<(), ReplayError> {
        let mut given = std::mem::take(&mut self.waiting);
        if self.launched {
            given.splice(0..0, self.given.iter().copied());
            given.truncate(TARGETS_MAX);
        }
        self.given = Rc::new(given);
        self.launched = true;
        for (buffer, node) in self.read_by(trace, graph)?.iter() {
            let Some(input) = self.inputs.get_mut(buffer) else { continue };
            let window = std::mem::take(&mut input.window);
            input.launched = Some((graph, input.version));
            let known = input.shown == Some((event.index, event.item));
            let (version, targets) = (input.version, &self.given);
            self.reads.entry((*buffer, graph)).or_insert_with(|| {
                let mut spot = Spot::of(event);
                spot.node = Some(node.node);
                let (node, targets) = (node.name(graph), targets.clone());
                let ahead = window.copies > 0 && window.index < event.index;
                let stream = event.stream;
                Read { spot, node, window, version, known, kept: None, stream, ahead, late: 0, targets }
            });
        }
        Ok(())
    }

    /// A decode step has ended.
    fn end(&mut self, event: &Event<'_>) -> Vec<Judged> {
        let (at, mut judged) = ((event.step.request, event.step.step), Vec::new());
        // Where steps are guessed, a late copy is counted to the next step: that has one too many.
        for Suspect { judged: one, graph, copies } in std::mem::take(&mut self.suspects) {
            let read = self.reads.get(&(one.buffer, graph));
            let late = read.is_some_and(|read| read.window.copies == 2 * copies);
            judged.push(Judged { fate: if late { Fate::Late } else { one.fate }, ..one });
        }
        let mut said: Vec<(u64, u64)> = Vec::new();
        for ((buffer, graph), read) in std::mem::take(&mut self.reads) {
            let Some(input) = self.inputs.get(&buffer) else { continue };
            let in_a_row = |s: &Series| s.last.0 == at.0 && s.last.1.checked_add(1) == Some(at.1);
            let before = self.series.remove(&(buffer, graph)).filter(in_a_row);
            let sound = read.known && !read.window.gap;
            if read.window.copies > 0 {
                let streams = (read.window.stream, read.stream);
                let raced = |s: &Series| streams.0 != streams.1 && s.is_expected(&read);
                if sound && read.kept == Some(true) {
                    self.series.insert((buffer, graph), Series::after(before, &read, at));
                } else if let Some(series) = before.filter(|s| sound && read.kept == Some(false) && raced(s))
                {
                    let fate = Fate::Raced(streams.0, streams.1);
                    let (spot, node, steps) = (read.spot, read.node, series.steps);
                    judged.push(Judged { fate, spot, buffer, node, steps });
                }
                continue;
            }
            let Some(series) = before.filter(|s| sound && s.is_expected(&read)) else { continue };
            // Two names of the same memory are one input.
            if said.iter().any(|&(start, end)| start < input.end && input.start < end) {
                continue;
            }
            said.push((input.start, input.end));
            let fate = self.fate(input, &series, &read);
            let one = Judged { fate, spot: read.spot, buffer, node: read.node, steps: series.steps };
            match fate {
                Fate::Missing | Fate::Nothing => {
                    self.suspects.push(Suspect { judged: one, graph, copies: series.copies });
                }
                Fate::Late | Fate::Moved(_) | Fate::Raced(..) => judged.push(one),
            }
        }
        self.ever.extend(self.given.iter().map(|(target, _)| *target));
        judged
    }

    fn fate(&self, input: &Input, series: &Series, read: &Read) -> Fate {
        // Where copies are made ahead, those after the launch are the next one's.
        if read.late >= series.copies && !series.ahead {
            return Fate::Late;
        }
        let mine =
            |&(target, bytes): &(u64, u64)| target < input.end && target.saturating_add(bytes) > input.start;
        let (now, before) = (&read.targets, &series.targets);
        if now.is_empty() && !before.iter().all(mine) {
            return Fate::Nothing;
        }
        let pairs = || now.iter().zip(before.iter());
        let instead = |(now, before): (&(u64, u64), &(u64, u64))| {
            mine(before) && now.1 == before.1 && !self.ever.contains(&now.0)
        };
        match pairs().find(|(now, before)| now != before) {
            Some((other, _)) if now.len() == before.len() => {
                let as_ever = pairs().all(|(now, before)| now == before || instead((now, before)));
                if as_ever { Fate::Moved(other.0) } else { Fate::Missing }
            }
            _ => Fate::Missing,
        }
    }
}

impl Series {
    /// One more step with a copy: the series goes on, or begins anew.
    fn after(before: Option<Series>, read: &Read, last: (u32, u32)) -> Series {
        let window = &read.window;
        // The first launch of a request finds what was copied for a prefill as well.
        let goes_on = |s: &Series| {
            let alike = s.first == window.first && s.copies == window.copies;
            s.version != read.version && (alike || s.steps == 1)
        };
        let (steps, others) = match before.filter(goes_on) {
            Some(s) => (s.steps + 1, s.others.intersection(&window.others).cloned().collect()),
            None => (1, window.others.clone()),
        };
        let (version, first, copies, ahead) = (read.version, window.first, window.copies, read.ahead);
        Series { steps, last, version, first, copies, ahead, others, targets: read.targets.clone() }
    }

    /// Whether a launch without a copy was given the same as the last one, where another value was to be expected.
    fn is_expected(&self, read: &Read) -> bool {
        let known = read.window.others.is_subset(&self.others);
        self.steps >= STEPS_MIN && self.version == read.version && known
    }
}
