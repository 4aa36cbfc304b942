//! Buffers in the same memory.

use twinstep_traces::BufferId;

use super::{Cause, Context, cause};
use crate::explain::family::Side;
use crate::kind::Kind;
use crate::recorded::RecordedStep;

/// A live or later buffer in the same memory.
pub(super) fn sharing(step: &RecordedStep<'_>, id: BufferId) -> Option<BufferId> {
    let trace = step.trace();
    let range = |id: BufferId| {
        let record = trace.buffer(id)?;
        let start = record.address?;
        Some((start, start.checked_add(record.bytes)?))
    };
    let (start, end) = range(id)?;
    step.run
        .lifetimes
        .known(step.index)
        .find(|&other| other > id && range(other).is_some_and(|(a, b)| a < end && start < b))
}

pub(super) fn memory(context: &Context<'_>, side: Side, buffer: BufferId, with: BufferId) -> Cause {
    let step = context.pair.side(side);
    let (x, y) = (step.buffer_name(buffer), step.buffer_name(with));
    let writer = step.launches.iter().position(|l| l.written().any(|v| v.buffer == with));
    let sentence = format!(
        "{x} and {y} of {} share memory: what is written to {y}{} destroys {x}",
        context.letter(side),
        writer.map_or(String::new(), |n| format!(" by {} (node {n})", context.launch_name(side, n)))
    );
    let mut cause = cause(Kind::AliasedMemory, Some(side), sentence);
    cause.node = writer.map(|n| (side, n));
    cause.graph = writer.and_then(|n| context.graph_of(side, n));
    cause.buffers = vec![step.short_name(buffer)];
    cause
}
