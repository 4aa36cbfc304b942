//! What the host writes, and when.

use std::collections::BTreeSet;

use twinstep_traces::{Access, BufferId, Role};

use super::padding::padding_only;
use super::{Cause, Context, cause};
use crate::explain::family::Side;
use crate::kind::Kind;
use crate::recorded::RecordedStep;

/// What the host writes.
pub(super) fn host_writes(context: &Context<'_>, ids: (BufferId, BufferId)) -> Cause {
    let pair = context.pair;
    let of = |side: Side| {
        let (step, id) = (pair.side(side), context.ids(side, ids));
        step.record.host_writes.iter().filter(|w| w.buffer == id).cloned().collect::<Vec<_>>()
    };
    let (x, y) = (of(Side::A), of(Side::B));
    let name = pair.a.short_name(ids.0);
    let named = [name.clone()];
    let first_reader = |side: Side| {
        let (step, id) = (pair.side(side), context.ids(side, ids));
        let reads = |l: &crate::program::StepLaunch| {
            l.record.views.iter().any(|v| v.buffer == id && v.access != Access::Write)
        };
        step.launches.iter().position(reads).map(|n| (side, n))
    };
    let padding = match (pair.a.before.get(&ids.0), pair.b.before.get(&ids.1)) {
        (Some(x), Some(y)) => x != y && padding_only(pair.a, ids.0, x, y),
        _ => false,
    };
    // Bytes that one side writes and the other leaves alone.
    let covered = |writes: &[twinstep_traces::HostWrite]| -> BTreeSet<u64> {
        writes.iter().flat_map(|w| w.offset..w.offset + w.bytes.len() as u64).collect()
    };
    let early = |writes: &[twinstep_traces::HostWrite]| {
        writes.iter().filter(|w| w.position == 0).cloned().collect::<Vec<_>>()
    };
    let (ex, ey) = (early(&x), early(&y));
    let lacking = match (covered(&ex), covered(&ey)) {
        (a, b) if a == b => None,
        (a, b) if a.is_subset(&b) => Some(Side::A),
        (a, b) if b.is_subset(&a) => Some(Side::B),
        _ => None,
    };
    let values =
        |w: &[twinstep_traces::HostWrite]| w.iter().map(|w| (w.offset, w.bytes.clone())).collect::<Vec<_>>();
    let late = |side: Side| {
        let (mine, theirs) = if side == Side::A { (&x, &ey) } else { (&y, &ex) };
        let late: Vec<_> = mine.iter().filter(|w| w.position > 0).cloned().collect();
        !late.is_empty() && !theirs.is_empty() && values(&late) == values(theirs)
    };
    let mut cause = if let Some(side) = [Side::A, Side::B].into_iter().find(|&s| late(s)) {
        let text = format!(
            "the host of {} writes {name} only after the launches that read it; {} writes the same value before them",
            context.letter(side),
            context.letter(side.other())
        );
        cause(Kind::LateHostWrite, Some(side), text)
    } else if padding {
        let side = context.broken_side(&named);
        let text = format!("the host writes {name} otherwise in rows that no request occupies");
        cause(if side.is_some() { Kind::PaddingLeak } else { Kind::Unknown }, side, text)
    } else if let Some(side) = lacking {
        // One that writes too much is not told from one that writes too little by this alone.
        let used_to = wrote_before(pair.side(side), context.ids(side, ids)).then_some(side);
        let accused = context.broken_side(&named).or(used_to);
        let text = format!(
            "the host of {} does not write {name} in this step, as that of {} does",
            context.letter(side),
            context.letter(side.other())
        );
        let kind = if accused == Some(side) { Kind::MissingHostWrite } else { Kind::Unknown };
        cause(kind, accused, text)
    } else if let Some((side, text)) = &context.stale {
        cause(Kind::StaleMemory, Some(*side), format!("the host writes {name} otherwise, and {text}"))
    } else {
        let side = context.broken_side(&named);
        let kind = if side.is_some() { Kind::RuleBroken } else { Kind::Unknown };
        cause(kind, side, format!("the host writes other values to {name}"))
    };
    cause.node = first_reader(cause.side.unwrap_or(Side::A));
    cause.graph = cause.node.and_then(|(side, n)| context.graph_of(side, n));
    cause.buffers = vec![name];
    cause
}

/// Whether the host wrote an input in an earlier step of the same kind.
pub(super) fn wrote_before(step: &RecordedStep<'_>, id: BufferId) -> bool {
    let trace = step.trace();
    trace.buffer(id).is_some_and(|b| b.role == Role::Input)
        && (0..step.index).any(|index| {
            trace
                .step(index)
                .is_ok_and(|s| s.kind == step.record.kind && s.host_writes.iter().any(|w| w.buffer == id))
        })
}
