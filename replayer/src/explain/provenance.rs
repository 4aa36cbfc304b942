//! Where the bytes come from that a step was given: to an event in the log, or to none.

use std::collections::BTreeSet;

use twinstep_traces::BufferId;

use crate::ReplayError;
use crate::explain::classify::{Cause, Context};
use crate::explain::family::{Difference, Family, Side};
use crate::explain::search::Judge;
use crate::history::last_writers;
use crate::hybrid::{Reads, Watch};
use crate::kind::Kind;
use crate::plan::Origin;
use crate::timeline::{By, Moment, Piece};

/// For differing host writes: bytes that one side's launches read and the other's do not, and that an earlier
/// request left behind.
///
/// # Errors
/// [`ReplayError`] where the step cannot be executed or the log not be read.
pub(crate) fn stale_reads(
    judge: &mut Judge<'_, '_, '_>,
    families: &[Family],
    set: &BTreeSet<usize>,
) -> Result<Option<(Side, String)>, ReplayError> {
    let written = |i: &usize| matches!(families[*i].difference, Difference::Writes { .. });
    if !set.iter().any(written) {
        return Ok(None);
    }
    let pair = judge.pair;
    let a = judge.execute(Side::A, &[], None, Watch::Reads)?.reads;
    let b = judge.execute(Side::B, &[], None, Watch::Reads)?.reads;
    for (side, mine, theirs) in [(Side::A, &a, &b), (Side::B, &b, &a)] {
        let step = pair.side(side);
        for &(i, j) in &pair.alignment.pairs {
            let (own, twin) = if side == Side::A { (i, j) } else { (j, i) };
            for (buffer, start, end) in only_here(judge, side, (mine, own), (theirs, twin)) {
                let moment = Moment::Launch(own as u32);
                let pieces = last_writers(step.trace(), step.index, moment, buffer, start, end)?;
                for piece in pieces {
                    let Some(writer) = piece.writer else { continue };
                    let Ok(from) = step.trace().step(writer.step as usize) else { continue };
                    let name = step.short_name(buffer);
                    let launch = step.launches[own].name();
                    if writer.by == By::Fresh {
                        let text = format!("{launch} reads {name} where nothing was ever written");
                        return Ok(Some((side, text)));
                    }
                    if from.request > 0 && from.request < step.record.request {
                        let text = format!(
                            "{launch} (node {own}) reads what request {} left in {name}",
                            from.request
                        );
                        return Ok(Some((side, text)));
                    }
                }
            }
        }
    }
    Ok(None)
}

/// Ranges that launch `own` reads here and its twin does not read there.
fn only_here(
    judge: &Judge<'_, '_, '_>,
    side: Side,
    (mine, own): (&Reads, usize),
    (theirs, twin): (&Reads, usize),
) -> Vec<(BufferId, u64, u64)> {
    let of = |reads: &Reads, number: usize| {
        let found = reads.iter().find(|(origin, _)| *origin == Origin::Own(number));
        found.map_or(Vec::new(), |(_, ranges)| ranges.clone())
    };
    let counterpart = |id: BufferId| match side {
        Side::A => judge.pair.pairing.of(id),
        Side::B => judge.pair.pairing.reversed_of(id),
    };
    let theirs = of(theirs, twin);
    let mut left = Vec::new();
    for (buffer, start, end) in of(mine, own) {
        let mut rest = vec![(start, end)];
        for &(_, a, b) in theirs.iter().filter(|t| counterpart(buffer) == Some(t.0)) {
            rest = rest
                .into_iter()
                .flat_map(|(s, e)| [(s, e.min(a)), (s.max(b), e)])
                .filter(|(s, e)| s < e)
                .collect();
        }
        left.extend(rest.into_iter().map(|(s, e)| (buffer, s, e)));
    }
    left
}

/// For state that a step was given: who wrote it last on either side.
///
/// # Errors
/// [`ReplayError`] where the log cannot be read.
pub(crate) fn walk_back(context: &Context<'_>, cause: &mut Cause) -> Result<(), ReplayError> {
    let pair = context.pair;
    for &i in &cause.families.clone() {
        let Difference::State { a, b } = context.families[i].difference else { continue };
        let (Some(x), Some(y)) = (pair.a.before.get(&a), pair.b.before.get(&b)) else { continue };
        let Some(first) = (0..x.len().min(y.len())).find(|&k| x[k] != y[k]) else { continue };
        let writer = |side: Side, id| {
            let step = pair.side(side);
            let at = first as u64;
            let pieces = last_writers(step.trace(), step.index, Moment::Before, id, at, at + 1)?;
            Ok::<_, ReplayError>(pieces.first().copied())
        };
        let (Some(wa), Some(wb)) = (writer(Side::A, a)?, writer(Side::B, b)?) else { continue };
        for (side, id, mine, theirs) in [(Side::A, a, wa, wb), (Side::B, b, wb, wa)] {
            if conclude(context, cause, (side, id), mine, theirs) {
                break;
            }
        }
    }
    Ok(())
}

/// Whether what one side's bytes come from, beside the other's, tells the mechanism; the cause is written then.
fn conclude(
    context: &Context<'_>,
    cause: &mut Cause,
    (side, id): (Side, BufferId),
    mine: Piece,
    theirs: Piece,
) -> bool {
    let step = context.pair.side(side);
    let (letter, name) = (side.name().to_uppercase(), step.short_name(id));
    let (Some(w), Some(v)) = (mine.writer, theirs.writer) else { return false };
    let reader = step.launches.iter().position(|l| {
        l.record.views.iter().any(|view| view.buffer == id && view.access != twinstep_traces::Access::Write)
    });
    let other = context.pair.side(side.other());
    let what = |by: By, step_index: u32, trace: &twinstep_traces::Trace| {
        let place = trace.step(step_index as usize).ok().and_then(|s| crate::at::place(&s));
        let place = place.map_or("set-up".to_owned(), |at| format!("step {at}"));
        match by {
            By::Host(_) => format!("the host in {place}"),
            By::Launch(n) => format!("node {n} of {place}"),
            _ => place,
        }
    };
    let (kind, text) = if w.via != id {
        let text = format!(
            "{name} of {letter} was overwritten through {}, in the same memory",
            step.buffer_name(w.via)
        );
        (Kind::AliasedMemory, text)
    } else if w.by == By::Fresh && v.by != By::Fresh {
        let by = what(v.by, v.step, other.trace());
        let text = format!(
            "nothing has written {name} in {letter} since it was allocated; in {} {by} does",
            side.other().name().to_uppercase()
        );
        (Kind::UninitialisedRead, text)
    } else if w.step < v.step {
        let from = step.trace().step(w.step as usize).map_or(0, |s| s.request);
        let by = what(v.by, v.step, other.trace());
        let text = format!(
            "{name} of {letter} was last written by {}, in {} by {by}",
            what(w.by, w.step, step.trace()),
            side.other().name().to_uppercase()
        );
        let kind = match v.by {
            By::Host(_) => Kind::MissingHostWrite,
            _ if from > 0 && from < step.record.request => Kind::StaleMemory,
            _ => Kind::MissingLaunch,
        };
        // That the other run wrote later may as well be its mistake.
        if kind != Kind::StaleMemory && context.broken_side(std::slice::from_ref(&name)) != Some(side) {
            return false;
        }
        (kind, text)
    } else {
        return false;
    };
    cause.kind = kind;
    cause.side = Some(side);
    cause.sentence = text;
    cause.node = reader.map(|n| (side, n));
    cause.graph = reader.and_then(|n| step.launches[n].graph).map(|g| g.0);
    cause.buffers = vec![name];
    true
}
