//! Copies from the host that one run makes before the first difference and the other one lacks there.
//!
//! The buffer is unchanged on the side that lacks the copy, so nothing else wrote it either, recorded or not; and no
//! graph of that side changes it in any step, or it would be a value that the device advances.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, GraphId, Item, Trace};

use super::candidate::Candidate;
use super::located::Located;
use super::unwritten::only;
use crate::ReplayError;
use crate::between::{Intervals, Ran};
use crate::checks::bindings::{bound, range};
use crate::explain::family::Side;
use crate::kind::Kind;

fn copies_to(item: &Item, (start, end): (u64, u64)) -> bool {
    matches!(item, Item::Copy { source: None, source_address: 0, target_address, bytes, .. }
        if *target_address < end && target_address.saturating_add(*bytes) > start)
}

/// What ran, as far as a buffer is concerned.
#[derive(Debug, Default)]
struct Copied {
    by_host: bool,
    /// By a copy on the device, a fill, or something that is not recorded.
    otherwise: bool,
}

fn copied(trace: &Trace, ran: &[Ran], buffer: BufferId) -> Result<Copied, ReplayError> {
    let mut copied = Copied::default();
    let Some((start, end)) = range(trace, buffer) else {
        return Ok(Copied { by_host: false, otherwise: true });
    };
    for ran in ran {
        match trace.program(ran.program)?.items.get(ran.item as usize) {
            Some(item) if copies_to(item, (start, end)) => copied.by_host = true,
            Some(Item::Copy { target_address, bytes, .. } | Item::Fill { target_address, bytes, .. }) => {
                copied.otherwise |= *target_address < end && target_address.saturating_add(*bytes) > start;
            }
            Some(Item::Gap { .. }) => copied.otherwise = true,
            _ => {}
        }
    }
    Ok(copied)
}

/// Whether a graph of the run changes a buffer over its launch.
fn advanced(trace: &Trace, buffer: BufferId) -> Result<bool, ReplayError> {
    let intervals = Intervals::of(trace)?;
    for graph in trace.graphs() {
        let launches = intervals.launches_of(trace, GraphId(graph.id.0))?;
        if launches.iter().any(|(_, changed)| changed.contains(&buffer)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a graph that a step launches has an address within a buffer.
fn needed(trace: &Trace, record: usize, buffer: BufferId) -> Result<bool, ReplayError> {
    let Some((start, end)) = range(trace, buffer) else { return Ok(false) };
    for item in &trace.program(trace.step(record)?.program)?.items {
        if let Item::GraphLaunch { graph, .. } = item
            && bound(trace, *graph)?.iter().any(|b| start <= b.address && b.address < end)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The run that lacks copies which the other one makes. It fits if all buffers that differ lack one, and graphs of
/// the step have the addresses of all of them.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn lacking(a: &Trace, b: &Trace, located: &Located) -> Result<Vec<Candidate>, ReplayError> {
    let mut found = Vec::new();
    for (side, own, other) in [(Side::A, a, b), (Side::B, b, a)] {
        let index = usize::from(side == Side::B);
        let (mut missing, mut late, mut needs) = (Vec::new(), BTreeSet::new(), true);
        for name in &located.differing {
            let (Some(mine), Some(theirs)) = (only(own, name), only(other, name)) else { continue };
            let here = copied(own, &located.ran[index], mine)?;
            let there = copied(other, &located.ran[1 - index], theirs)?;
            if here.by_host
                || here.otherwise
                || !there.by_host
                || located.changed[index].contains(&mine)
                || advanced(own, mine)?
            {
                continue;
            }
            missing.push(name.clone());
            let Some((record, position)) = located.end[index] else { continue };
            needs &= needed(own, record, mine)?;
            let (Some(range), step) = (range(own, mine), own.step(record)?) else { continue };
            let after = own.program(step.program)?;
            if after.items.iter().skip(position as usize).any(|item| copies_to(item, range)) {
                late.insert(name.clone());
            }
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
