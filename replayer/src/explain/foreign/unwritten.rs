//! Buffers that one run copies its results to, and that nothing in the other run can write.
//!
//! What a kernel writes is not known, but where it can write is: at the addresses that it is given. A run in which
//! nothing is given an address within a buffer, and which copies nothing to it, leaves it as it is. Where the other run
//! does copy to it, and the first never changes it in any step, the copy is what the first one lacks: its results
//! went to memory of their own.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, Item, Trace, ViewRecord};

use super::NAMES_MAX;
use super::candidate::Candidate;
use crate::ReplayError;
use crate::between::{Intervals, Ran};
use crate::checks::bindings::range;
use crate::explain::family::Side;
use crate::explain::foreign::located::Located;
use crate::kind::Kind;

/// How what ran touches a buffer.
#[derive(Debug, Default)]
struct Touched {
    /// Copies and fills to it.
    copied_to: usize,
    /// Copies from it.
    copied_from: usize,
    /// Kernels that have an address within it.
    bound: bool,
    /// Kernels and graphs, whatever they touch.
    kernels: usize,
    /// Something ran that is not recorded.
    gap: bool,
}

impl Touched {
    fn add(&mut self, trace: &Trace, item: &Item, buffer: BufferId) {
        let Some((start, end)) = range(trace, buffer) else { return };
        let address = |view: &ViewRecord| trace.buffer(view.buffer)?.address?.checked_add(view.offset);
        let overlaps = |view: &ViewRecord, bytes: u64| {
            address(view).is_some_and(|at| at < end && at.saturating_add(bytes) > start)
        };
        match item {
            Item::Opaque(launch) => {
                // Without parameters it is a bracket, or a kernel that the driver tells nothing of.
                self.gap |= launch.parameters.is_empty();
                self.kernels += 1;
                self.bound |= launch.operands.iter().any(|(_, _, view)| overlaps(view, 1));
            }
            Item::Copy { source, target, bytes, .. } => {
                self.copied_to += usize::from(target.as_ref().is_some_and(|v| overlaps(v, *bytes)));
                self.copied_from += usize::from(source.as_ref().is_some_and(|v| overlaps(v, *bytes)));
            }
            Item::Fill { target, bytes, .. } => {
                self.copied_to += usize::from(target.as_ref().is_some_and(|v| overlaps(v, *bytes)));
            }
            Item::Launch(_) | Item::Gap { .. } => self.gap = true,
            _ => {}
        }
    }

    fn of(trace: &Trace, ran: &[Ran], buffer: BufferId) -> Result<Touched, ReplayError> {
        let mut touched = Touched::default();
        // A graph that is launched again touches what it did.
        let mut graphs = BTreeSet::new();
        for ran in ran {
            let program = trace.program(ran.program)?;
            match program.items.get(ran.item as usize) {
                Some(Item::GraphLaunch { graph, .. }) => match trace.graph(*graph) {
                    Some(record) if !graphs.insert(record.program) => {}
                    Some(record) => {
                        for node in &trace.program(record.program)?.items {
                            touched.add(trace, node, buffer);
                        }
                    }
                    None => touched.gap = true,
                },
                Some(item) => touched.add(trace, item, buffer),
                None => {}
            }
        }
        Ok(touched)
    }

    /// Whether nothing that ran can have written the buffer.
    fn unwritten(&self) -> bool {
        !self.gap && !self.bound && self.copied_to == 0 && self.kernels > 0
    }
}

/// The run that lacks the copies, if all buffers that differ are such.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn unwritten(a: &Trace, b: &Trace, located: &Located) -> Result<Option<Candidate>, ReplayError> {
    if located.differing.is_empty() || located.differing.len() > NAMES_MAX {
        return Ok(None);
    }
    'sides: for (side, own, other) in [(Side::A, a, b), (Side::B, b, a)] {
        let index = usize::from(side == Side::B);
        let changes: BTreeSet<BufferId> =
            Intervals::of(own)?.list.iter().flat_map(|between| between.changed.keys().copied()).collect();
        let mut from = 0;
        for name in &located.differing {
            // One allocation of the name in either run: else which of them is meant would have to be asked.
            let (Some(mine), Some(theirs)) = (only(own, name), only(other, name)) else { continue 'sides };
            let touched = Touched::of(own, &located.ran[index], mine)?;
            if !touched.unwritten() || changes.contains(&mine) {
                continue 'sides;
            }
            if Touched::of(other, &located.ran[1 - index], theirs)?.copied_to == 0 {
                continue 'sides;
            }
            from += touched.copied_from;
        }
        let names = located.buffers();
        let read = match from {
            0 => "",
            _ => ", though it copies from there",
        };
        return Ok(Some(Candidate {
            kind: Kind::MissingLaunch,
            side,
            graph: located.graphs(side).first().copied(),
            node: None,
            buffers: located.differing.clone(),
            arguments: Vec::new(),
            fits: true,
            text: format!(
                "nothing that this run launches has an address within {names} or copies there{read}, and no step of \
                 it changes what is there; the other run copies there"
            ),
        }));
    }
    Ok(None)
}

/// The buffer of a name that has one allocation.
pub(super) fn only(trace: &Trace, name: &str) -> Option<BufferId> {
    let mut of_name = (0..).zip(trace.buffers()).filter(|(_, b)| b.name == name).map(|(id, _)| BufferId(id));
    of_name.next().filter(|_| of_name.next().is_none())
}
