//! When bytes changed in a run of another engine, by its snapshots, and what may have done it.

use std::collections::VecDeque;

use twinstep_traces::{BufferId, Item, Trace, ViewRecord};

use super::{HistoryChange, HistoryOptions, runs};
use crate::ReplayError;
use crate::at::place;
use crate::between::{Intervals, Ran, describe_all};
use crate::kernel_name::short;
use crate::selection::Selection;

/// Candidates of one change that are named.
const CANDIDATES_MAX: usize = 16;

/// The newest changes of a selection up to a step, newest first.
///
/// # Errors
/// [`ReplayError::Selection`] for too many stretches; [`ReplayError::Read`].
pub(super) fn of(
    trace: &Trace,
    index: usize,
    selection: &Selection,
    options: HistoryOptions,
) -> Result<Vec<HistoryChange>, ReplayError> {
    let intervals = Intervals::of(trace)?;
    let stretches = runs(trace, selection)?;
    let last = intervals.list.iter().rposition(|b| {
        b.to.index < index || b.to.index == index && (options.after || b.to.point == "step.before")
    });
    let mut found = VecDeque::new();
    for (at, between) in intervals.list.iter().enumerate().take(last.map_or(0, |last| last + 1)).rev() {
        if found.len() == options.limit.max(1) {
            break;
        }
        let Some(&since) = between.changed.get(&selection.buffer) else { continue };
        let from = &intervals.list[since].to;
        let before = trace.read_buffer(from.snapshot, selection.buffer)?.unwrap_or_default();
        let now = trace.read_buffer(between.to.snapshot, selection.buffer)?.unwrap_or_default();
        let changed = |&(start, end): &(u64, u64)| {
            let range = start as usize..end as usize;
            let (x, y) = (before.get(range.clone()), now.get(range));
            x.zip(y).map_or(0, |(x, y)| x.iter().zip(y).filter(|(x, y)| x != y).count() as u64)
        };
        let bytes_changed: u64 = stretches.iter().map(changed).sum();
        if bytes_changed == 0 {
            continue;
        }
        let ran: Vec<Ran> = intervals.ran(since, at).collect();
        found.push_back(HistoryChange {
            after: from.name(),
            before: between.to.name(),
            step: place(&trace.step(between.to.index)?),
            bytes_changed,
            ran: describe_all(trace, ran.iter().copied())?,
            candidates: candidates(trace, selection.buffer, &ran)?,
        });
    }
    Ok(found.into())
}

/// What bound the buffer, under any name of its memory.
fn candidates(trace: &Trace, buffer: BufferId, ran: &[Ran]) -> Result<Vec<String>, ReplayError> {
    let range = |id: BufferId| {
        let record = trace.buffer(id)?;
        Some((record.address?, record.address?.checked_add(record.bytes)?))
    };
    let target = range(buffer);
    let is_it = |view: &ViewRecord| {
        let start = range(view.buffer).and_then(|(start, _)| start.checked_add(view.offset));
        let within = target.zip(start).is_some_and(|((a, b), at)| a <= at && at < b);
        view.buffer == buffer || within
    };
    let mut found: Vec<String> = Vec::new();
    let mut more = 0;
    let mut look = |item: &Item, place: &str| {
        let text = match item {
            Item::Opaque(launch) => {
                let parameter = launch.operands.iter().find(|(_, _, view)| is_it(view)).map(|(p, ..)| p);
                parameter.map(|p| {
                    format!("{place}{} binds it as parameter {p} (access unknown)", short(&launch.kernel))
                })
            }
            Item::Copy { target: Some(view), .. } if is_it(view) => Some(format!("{place}a copy writes it")),
            Item::Fill { target: Some(view), .. } if is_it(view) => Some(format!("{place}a fill writes it")),
            _ => None,
        };
        match text {
            Some(text) if found.len() < CANDIDATES_MAX => found.push(text),
            Some(_) => more += 1,
            None => {}
        }
    };
    for ran in ran {
        let program = trace.program(ran.program)?;
        match program.items.get(ran.item as usize) {
            Some(Item::GraphLaunch { graph, .. }) => {
                let Some(record) = trace.graph(*graph) else { continue };
                for (node, item) in trace.program(record.program)?.items.iter().enumerate() {
                    look(item, &format!("graph {} node {node} ", graph.0));
                }
            }
            Some(item) => look(item, ""),
            None => {}
        }
    }
    if more > 0 {
        found.push(format!("{more} more"));
    }
    Ok(found)
}
