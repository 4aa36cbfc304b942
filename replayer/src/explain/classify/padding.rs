//! Rows of the batch that no request occupies.

use twinstep_traces::BufferId;

use crate::explain::family::Pair;
use crate::recorded::RecordedStep;

/// The row of the batch that the step's request occupies.
pub(crate) fn occupied(step: &RecordedStep<'_>) -> u64 {
    let found = step.trace().requests().iter().find(|r| r.request == step.record.request);
    u64::from(found.map_or(0, |r| r.row))
}

/// Whether all differing elements of two states of a buffer lie in rows that no request occupies.
pub(super) fn padding_only(step: &RecordedStep<'_>, id: BufferId, x: &[u8], y: &[u8]) -> bool {
    let Some(record) = step.trace().buffer(id) else { return false };
    let rows = step.trace().run().rows;
    if !crate::statistic::has_rows(step.trace(), record) || rows < 2 || x.len() != y.len() {
        return false;
    }
    let width = x.len() / rows as usize;
    let row = occupied(step) as usize;
    (0..x.len()).filter(|&i| x[i] != y[i]).all(|i| i / width.max(1) != row)
}

/// Whether the two runs' outcomes differ in rows that no request occupies and nowhere else.
pub(super) fn outcome_in_padding(pair: &Pair<'_>) -> bool {
    let mut any = false;
    for (&id, x) in &pair.a.after {
        let Some(y) = pair.pairing.of(id).and_then(|twin| pair.b.after.get(&twin)) else { continue };
        if x != y {
            any = true;
            if !padding_only(pair.a, id, x, y) {
                return false;
            }
        }
    }
    any
}

/// Whether two views of a buffer with rows differ in how many rows they have, and both have the occupied one.
pub(super) fn in_padding(
    step: &RecordedStep<'_>,
    mine: &twinstep_traces::ViewRecord,
    theirs: &twinstep_traces::ViewRecord,
) -> bool {
    let row = occupied(step);
    let rows = |v: &twinstep_traces::ViewRecord| v.shape.first().copied().unwrap_or(0);
    let has_rows =
        step.trace().buffer(mine.buffer).is_some_and(|b| crate::statistic::has_rows(step.trace(), b));
    has_rows
        && mine.offset == theirs.offset
        && mine.shape.get(1..) == theirs.shape.get(1..)
        && rows(mine) != rows(theirs)
        && rows(mine).min(rows(theirs)) > row
}
