//! Which of the buffers of another engine that differ at a point was computed first.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, PointRecord, StepRecord, Trace};

use crate::ReplayError;
use crate::dataflow::{Order, order};

/// Sorts buffers of another engine that differ at a point: the one whose difference arose first in front, as far as
/// what ran since the point before tells.
pub(super) fn by_dataflow(
    (a, step, point): (&Trace, &StepRecord, &PointRecord),
    (b, twin, theirs): (&Trace, &StepRecord, &PointRecord),
    found: &mut [(usize, BufferId, BufferId)],
) -> Result<(), ReplayError> {
    let ids = |pick: fn(&(usize, BufferId, BufferId)) -> BufferId| found.iter().map(pick).collect();
    // The run that tells more of what ran.
    let mine = since((a, step, point), &ids(|f| f.1))?;
    let other = since((b, twin, theirs), &ids(|f| f.2))?;
    let key = |&(_, id, twin_id): &(usize, BufferId, BufferId)| {
        let order = if other.len() > mine.len() { other.get(&twin_id) } else { mine.get(&id) };
        (order.copied().unwrap_or((usize::MAX, 0)), id)
    };
    found.sort_by_key(key);
    Ok(())
}

/// The order of buffers in what ran in a step since the point before one.
fn since(
    (trace, step, point): (&Trace, &StepRecord, &PointRecord),
    differing: &BTreeSet<BufferId>,
) -> Result<BTreeMap<BufferId, Order>, ReplayError> {
    let program = trace.program(step.program)?;
    let before = step.points.iter().map(|p| p.position).filter(|&p| p < point.position).max().unwrap_or(0);
    let end = (point.position as usize).min(program.items.len());
    let items = program.items.get(before as usize..end).unwrap_or_default();
    order(trace, items, &trace.covered(point.snapshot)?, differing)
}
