//! Copies from the host to buffers that graphs of another engine read: what each launch was given, and where a copy
//! that came before every launch is missing or late.
//!
//! An attached engine's host writes are copies without a source on the device, between its launches. A buffer is an
//! *input* of a graph if the host copies to it and a node has an address within it. A launch that reads an input is
//! judged by what was copied there since the last launch that read it, whatever step that was in: so a loop that
//! writes ahead is as good as one that writes just before. A copy is expected before a launch if, in each of
//! [`STEPS_MIN`](series::STEPS_MIN) or more decode steps in a row up to it, the same graph was launched after a copy to the
//! same place, and snapshots show another value each time which the graph itself left as it was. It may be missed only if
//! a snapshot shows that the launch was given exactly what the one before it had: whoever else wrote the buffer, by
//! whatever is not recorded, would have changed it. That is so in sound runs as well, where nothing had changed or the
//! launch was a dummy run; `suspects.rs` tells them apart once the whole run has been seen.

mod due;
mod inputs;
mod series;
mod suspects;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use twinstep_traces::{BufferId, GraphId, Item, PointRecord, StepKind, Trace, ViewRecord};

use super::bindings::{Bound, bound};
use super::{Spot, foreign_name};
use crate::ReplayError;
use crate::foreign::is_foreign;
use crate::timeline::{Event, Timeline, What, name_of};
use inputs::{Input, Inputs, from_host};
use series::{Read, Series, Targets};
use suspects::Suspects;

/// Copies of a step that are kept.
const TARGETS_MAX: usize = 4096;
/// Pairs of an input and a graph that reads it.
const PAIRS_MAX: usize = 1 << 18;
/// Inputs, nodes, copies and chunks that are looked at before it is given up: in a trace from a stranger each copy may be
/// to all inputs, and each graph may read all of them. Some 200 times a run of 300 steps of a serving engine.
const WORK_MAX: u64 = 20_000_000;

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
    /// There is none, at as many launches of the run, and whether it was due is not known.
    Unknown(u64),
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

/// The inputs that a graph reads, with the first node that has the address.
type ReadBy = Rc<Vec<(BufferId, Bound)>>;

/// Follows the copies of one run.
#[derive(Default)]
pub(super) struct HostCopies {
    inputs: Inputs,
    graphs: BTreeMap<GraphId, ReadBy>,
    pairs: usize,
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
    suspects: Suspects,
    work: u64,
    /// The step after which it was given up.
    stopped: Option<String>,
}

impl HostCopies {
    /// For one trace; follows nothing in a run of our own, or in one without such copies.
    pub(super) fn new(trace: &Trace) -> HostCopies {
        match is_foreign(trace.run()) {
            true => HostCopies { inputs: Inputs::of(trace), ..HostCopies::default() },
            false => HostCopies::default(),
        }
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
        if self.inputs.all.is_empty() || self.stopped.is_some() {
            return Ok(Vec::new());
        }
        if self.work > WORK_MAX || self.pairs > PAIRS_MAX {
            self.stopped = Some(name_of(event.step));
            self.reads.clear();
            self.series.clear();
            self.graphs.clear();
            return Ok(Vec::new());
        }
        let trace = timeline.trace();
        match event.what {
            What::Begin => self.begin(),
            What::Foreign(item, None) => match from_host(item) {
                Some((target, bytes)) => self.copied(event, target, bytes),
                None => self.ran(trace, item),
            },
            What::Gap => {
                self.work += self.inputs.all.len() as u64;
                self.inputs.all.values_mut().for_each(|input| input.window.gap = true);
            }
            What::Point(point) => self.point(trace, event, point)?,
            What::GraphLaunch(graph) => self.launch(trace, event, graph)?,
            What::End if event.step.kind == StepKind::Decode => return self.end(trace, event),
            _ => {}
        }
        Ok(Vec::new())
    }

    /// All has been seen: what was still to be decided, and what was not followed.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn finish(&mut self, trace: &Trace) -> Result<(Vec<Judged>, Vec<String>), ReplayError> {
        let mut notes = Vec::new();
        let judged = self.suspects.finish(trace)?;
        if self.inputs.cut {
            notes.push("more buffers that the host copies to than are followed".to_owned());
        }
        if self.suspects.cut {
            notes.push("more launches without a copy from the host than are looked at".to_owned());
        }
        if let Some(at) = &self.stopped {
            notes.push(format!("copies from the host from step {at} on: there are too many to follow"));
        }
        Ok((judged, notes))
    }

    fn begin(&mut self) {
        self.reads.clear();
        self.launched = false;
    }

    fn copied(&mut self, event: &Event<'_>, target: u64, bytes: u64) {
        if self.waiting.len() < TARGETS_MAX {
            self.waiting.push((target, bytes));
        }
        let (within, looked) = self.inputs.within(target, target.saturating_add(bytes));
        self.work += 1 + looked;
        for buffer in within {
            let Some(input) = self.inputs.all.get_mut(&buffer) else { continue };
            let offset = target.saturating_sub(input.start);
            let window = &mut input.window;
            if window.copies == 0 {
                window.first = offset;
                window.copy = (target, bytes);
            }
            window.copies += 1;
            (window.index, window.stream) = (event.index, event.stream);
            // What the last launch left can no longer be told.
            input.launched = None;
            let of_buffer = (buffer, GraphId(0))..=(buffer, GraphId(u32::MAX));
            for (_, read) in self.reads.range_mut(of_buffer) {
                read.late += 1;
                self.work += 1;
            }
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
            let (within, looked) = self.inputs.within(start, start.saturating_add(bytes));
            self.work += 1 + looked;
            for buffer in within {
                let Some(input) = self.inputs.all.get_mut(&buffer) else { continue };
                input.window.other(foreign_name(item));
                input.launched = None;
            }
        }
    }

    fn point(&mut self, trace: &Trace, event: &Event<'_>, point: &PointRecord) -> Result<(), ReplayError> {
        let (changes, covered) = (trace.changes(point.snapshot)?, trace.covered(point.snapshot)?);
        self.work += (changes.len() + covered.len()) as u64;
        for change in changes {
            let Some(input) = self.inputs.all.get_mut(&change.buffer) else { continue };
            if input.chunks.insert(change.chunk, change.hash) != Some(change.hash) {
                input.version += 1;
            }
        }
        for buffer in covered {
            let Some(input) = self.inputs.all.get_mut(&buffer) else { continue };
            input.shown = Some(((event.index, event.item), point.snapshot));
            let Some((graph, version)) = input.launched.take() else { continue };
            if let Some(read) = self.reads.get_mut(&(buffer, graph)) {
                read.kept = Some(input.version == version);
            }
        }
        Ok(())
    }

    /// The inputs that a graph reads.
    fn read_by(&mut self, trace: &Trace, graph: GraphId) -> Result<ReadBy, ReplayError> {
        if let Some(known) = self.graphs.get(&graph) {
            return Ok(known.clone());
        }
        // The first node of each address, in the order of nodes.
        let mut seen = BTreeSet::new();
        let nodes = bound(trace, graph)?;
        self.work += nodes.len() as u64;
        let mut read: BTreeMap<BufferId, Bound> = BTreeMap::new();
        for node in nodes {
            if !seen.insert(node.address) || self.work > WORK_MAX {
                continue;
            }
            let (within, looked) = self.inputs.within(node.address, node.address.saturating_add(1));
            self.work += looked;
            for buffer in within {
                read.entry(buffer).or_insert_with(|| node.clone());
            }
        }
        self.pairs += 1 + read.len();
        let read: ReadBy = Rc::new(read.into_iter().collect());
        self.graphs.insert(graph, read.clone());
        Ok(read)
    }

    fn launch(&mut self, trace: &Trace, event: &Event<'_>, graph: GraphId) -> Result<(), ReplayError> {
        let mut given = std::mem::take(&mut self.waiting);
        if self.launched {
            given.splice(0..0, self.given.iter().copied());
            given.truncate(TARGETS_MAX);
        }
        self.work += given.len() as u64;
        self.given = Rc::new(given);
        self.launched = true;
        let read_by = self.read_by(trace, graph)?;
        self.work += read_by.len() as u64;
        for (buffer, node) in read_by.iter() {
            let Some(input) = self.inputs.all.get_mut(buffer) else { continue };
            let window = std::mem::take(&mut input.window);
            input.launched = Some((graph, input.version));
            let here = |&(at, _): &((u32, u32), _)| at == (event.index, event.item);
            let given = input.shown.filter(here).map(|(_, snapshot)| snapshot);
            let (version, targets) = (input.version, &self.given);
            self.reads.entry((*buffer, graph)).or_insert_with(|| {
                let mut spot = Spot::of(event);
                spot.node = Some(node.node);
                let (node, targets) = (node.name(graph), targets.clone());
                let ahead = window.copies > 0 && window.index < event.index;
                let stream = event.stream;
                Read { spot, node, window, version, given, kept: None, stream, ahead, late: 0, targets }
            });
        }
        Ok(())
    }

    /// A decode step has ended.
    fn end(&mut self, trace: &Trace, event: &Event<'_>) -> Result<Vec<Judged>, ReplayError> {
        let (at, mut judged) = ((event.step.request, event.step.step), Vec::new());
        self.suspects.next(trace, &self.reads, at.1)?;
        // What ended before this step goes on no more.
        self.work += self.series.len() as u64;
        self.series.retain(|_, s| s.last.0 != at.0 || s.last.1.checked_add(1) >= Some(at.1));
        for ((buffer, graph), read) in std::mem::take(&mut self.reads) {
            let Some(input) = self.inputs.all.get(&buffer) else { continue };
            self.suspects.count((buffer, graph), &read, event.index);
            let in_a_row = |s: &Series| s.last.0 == at.0 && s.last.1.checked_add(1) == Some(at.1);
            let before = self.series.remove(&(buffer, graph)).filter(in_a_row);
            let Some(given) = read.given.filter(|_| !read.window.gap) else { continue };
            if read.window.copies > 0 {
                let streams = (read.window.stream, read.stream);
                let raced = |s: &Series| streams.0 != streams.1 && s.is_expected(&read);
                if read.kept == Some(true) {
                    self.suspects.repeats += u64::from(before.as_ref().is_some_and(|s| s.repeats(&read)));
                    self.series.insert((buffer, graph), Series::after(before, read, given, at));
                } else if let Some(series) = before.filter(|s| read.kept == Some(false) && raced(s)) {
                    let fate = Fate::Raced(streams.0, streams.1);
                    let (spot, node, steps) = (read.spot, read.node, series.steps);
                    judged.push(Judged { fate, spot, buffer, node, steps });
                }
                continue;
            }
            if before.is_some() {
                self.series.insert((buffer, graph), Series::none(given, at, read.version));
            }
            let Some(series) = before.filter(|s| s.is_expected(&read)) else { continue };
            let fate = self.fate(input, &series, &read);
            let one = Judged { fate, spot: read.spot, buffer, node: read.node, steps: series.steps };
            match fate {
                Fate::Moved(_) => judged.push(one),
                _ => self.suspects.add(one, graph, series, given, (event.index, at.1)),
            }
        }
        self.ever.extend(self.given.iter().map(|(target, _)| *target));
        Ok(judged)
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
