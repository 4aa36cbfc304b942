//! Copies from the host that one run makes before the first difference and the other one lacks there.
//!
//! The buffer is unchanged on the side that lacks the copy, so nothing else wrote it either, recorded or not; and no
//! graph of that side changes it in any step, or it would be a value that the device advances. A copy is lacking only if a
//! launch that has an address within the buffer comes before it: one that comes between two graphs of a step, of which
//! the second one reads the buffer, is in time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use twinstep_traces::{BufferId, GraphId, Item, ProgramId, Trace, ViewRecord};

use super::NAMES_MAX;
use super::candidate::Candidate;
use super::located::Located;
use super::unwritten::only;
use crate::ReplayError;
use crate::between::{Intervals, Ran};
use crate::checks::bindings::{bound, range};
use crate::explain::family::Side;
use crate::kind::Kind;

/// Addresses of graphs' nodes that are kept; those of more graphs are looked up each time.
const ADDRESSES_MAX: usize = 1 << 22;

/// First and one past the last address.
type Range = (u64, u64);

/// What an item does to a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// A copy from the host to it.
    HostCopy,
    /// A copy on the device to it, a fill, or something that is not recorded.
    Otherwise,
    /// A launch has an address within it.
    Launch,
    Nothing,
}

/// One run, with the addresses that its graphs have.
struct Run<'a> {
    trace: &'a Trace,
    /// Of a graph's program, in rising order.
    addresses: BTreeMap<ProgramId, Rc<Vec<u64>>>,
    kept: usize,
    /// Buffers that some launch of a graph changed.
    advanced: BTreeSet<BufferId>,
}

impl<'a> Run<'a> {
    fn new(trace: &'a Trace) -> Result<Run<'a>, ReplayError> {
        let advanced = Intervals::of(trace)?.changed_by_graphs(trace)?;
        Ok(Run { trace, addresses: BTreeMap::new(), kept: 0, advanced })
    }

    fn of_graph(&mut self, graph: GraphId) -> Result<Rc<Vec<u64>>, ReplayError> {
        let Some(record) = self.trace.graph(graph) else { return Ok(Rc::default()) };
        if let Some(known) = self.addresses.get(&record.program) {
            return Ok(known.clone());
        }
        let mut addresses: Vec<u64> = bound(self.trace, graph)?.iter().map(|b| b.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let addresses = Rc::new(addresses);
        if self.kept + addresses.len() <= ADDRESSES_MAX {
            self.kept += addresses.len();
            self.addresses.insert(record.program, addresses.clone());
        }
        Ok(addresses)
    }

    /// Whether a graph has an address in a range.
    fn binds(&mut self, graph: GraphId, (start, end): Range) -> Result<bool, ReplayError> {
        let addresses = self.of_graph(graph)?;
        let first = addresses.partition_point(|&address| address < start);
        Ok(addresses.get(first).is_some_and(|&address| address < end))
    }

    fn does(&mut self, item: &Item, (start, end): Range) -> Result<Does, ReplayError> {
        let address = |view: &ViewRecord| self.trace.buffer(view.buffer)?.address?.checked_add(view.offset);
        let within = |at: u64, bytes: u64| at < end && at.saturating_add(bytes) > start;
        Ok(match item {
            Item::Copy { source: None, source_address: 0, target_address, bytes, .. }
                if within(*target_address, *bytes) =>
            {
                Does::HostCopy
            }
            Item::Copy { target_address, bytes, .. } | Item::Fill { target_address, bytes, .. }
                if within(*target_address, *bytes) =>
            {
                Does::Otherwise
            }
            Item::Gap { .. } => Does::Otherwise,
            Item::Opaque(launch) => {
                let mut addresses = launch.operands.iter().filter_map(|(.., view)| address(view));
                if addresses.any(|at| within(at, 1)) { Does::Launch } else { Does::Nothing }
            }
            Item::GraphLaunch { graph, .. } if self.binds(*graph, (start, end))? => Does::Launch,
            _ => Does::Nothing,
        })
    }

    /// What items that ran do to a buffer, in order.
    fn ran(&mut self, ran: &[Ran], range: Range) -> Result<Vec<Does>, ReplayError> {
        let mut all = Vec::new();
        for ran in ran {
            let program = self.trace.program(ran.program)?;
            let Some(item) = program.items.get(ran.item as usize) else { continue };
            all.push(self.does(item, range)?);
        }
        all.retain(|does| *does != Does::Nothing);
        Ok(all)
    }

    /// What the rest of a step does to a buffer, in order, and whether any graph of the step has its address.
    fn rest(&mut self, record: usize, position: u32, range: Range) -> Result<(Vec<Does>, bool), ReplayError> {
        let program = self.trace.program(self.trace.step(record)?.program)?;
        let (mut all, mut needed) = (Vec::new(), false);
        for (at, item) in (0..).zip(&program.items) {
            if at >= position {
                all.push(self.does(item, range)?);
            }
            if let Item::GraphLaunch { graph, .. } = item
                && !needed
            {
                needed = self.binds(*graph, range)?;
            }
        }
        all.retain(|does| *does != Does::Nothing);
        Ok((all, needed))
    }
}

/// What becomes of a copy that the other run has made by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// Before the launch that is to read it.
    InTime,
    Late,
    Never,
}

/// `early`: launches that came by then read what was there before, in the other run as well.
fn comes(ran: &[Does], rest: &[Does], early: bool) -> Comes {
    let launched = !early && ran.contains(&Does::Launch);
    let first = rest.iter().find(|does| matches!(does, Does::HostCopy | Does::Launch));
    match (launched, first) {
        (false, Some(Does::HostCopy)) => Comes::InTime,
        _ if rest.contains(&Does::HostCopy) => Comes::Late,
        _ => Comes::Never,
    }
}

/// The run that lacks copies which the other one makes. It fits if all buffers that differ lack one, and graphs of
/// the step have the addresses of all of them.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn lacking(a: &Trace, b: &Trace, located: &Located) -> Result<Vec<Candidate>, ReplayError> {
    let mut found = Vec::new();
    let mut runs = [Run::new(a)?, Run::new(b)?];
    for (side, own, other) in [(Side::A, a, b), (Side::B, b, a)] {
        let index = usize::from(side == Side::B);
        let (mut missing, mut late, mut needs) = (Vec::new(), BTreeSet::new(), true);
        for name in located.differing.iter().take(NAMES_MAX) {
            let (Some(mine), Some(theirs)) = (only(own, name), only(other, name)) else { continue };
            let (Some(own_range), Some(other_range)) = (range(own, mine), range(other, theirs)) else {
                continue;
            };
            if located.changed[index].contains(&mine) || runs[index].advanced.contains(&mine) {
                continue;
            }
            let here = runs[index].ran(&located.ran[index], own_range)?;
            let there = runs[1 - index].ran(&located.ran[1 - index], other_range)?;
            let Some(copy) = there.iter().position(|does| *does == Does::HostCopy) else { continue };
            if here.iter().any(|does| matches!(does, Does::HostCopy | Does::Otherwise)) {
                continue;
            }
            let Some((record, position)) = located.end[index] else {
                missing.push(name.clone());
                continue;
            };
            let (rest, needed) = runs[index].rest(record, position, own_range)?;
            match comes(&here, &rest, there[..copy].contains(&Does::Launch)) {
                Comes::InTime => continue,
                Comes::Late => drop(late.insert(name.clone())),
                Comes::Never => {}
            }
            missing.push(name.clone());
            needs &= needed;
        }
        if missing.is_empty() {
            continue;
        }
        let names = missing.join(", ");
        let (kind, text) = match late.len() == missing.len() {
            true => (
                Kind::LateHostWrite,
                format!(
                    "the host copies to {names} only later in the step, where the other run's host copies there first"
                ),
            ),
            false => (
                Kind::MissingHostWrite,
                format!(
                    "the host copies nothing to {names}, which keeps what it held, where the other run's host copies there"
                ),
            ),
        };
        let graph = located.graphs(side).first().copied();
        let fits = needs && missing.len() == located.differing.len();
        let text = if needs { text } else { format!("{text}; no graph of the step has its address") };
        let (buffers, arguments) = (missing, Vec::new());
        found.push(Candidate { kind, side, graph, node: None, buffers, arguments, fits, text });
    }
    Ok(found)
}
