//! Launches that one run has and the other lacks.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, Item, StepRecord};

use super::{Cause, Context, cause};
use crate::explain::family::{Difference, Family, Pair, Side};
use crate::explain::witness::unanimous;
use crate::kind::Kind;
use crate::program::writes;
use crate::recorded::RecordedStep;

/// The records of the step in which a graph was captured, and where in it.
pub(super) fn capture(step: &RecordedStep<'_>, graph: u32) -> Option<(StepRecord, u32)> {
    let trace = step.trace();
    for index in 0..=step.index {
        let record = trace.step(index).ok()?;
        let program = trace.program(record.program).ok()?;
        let here = |item: &Item| matches!(item, Item::Capture { graph: id } if id.0 == graph);
        if let Some(position) = program.items.iter().position(here) {
            return Some((record, position as u32));
        }
    }
    None
}

/// What the host decided from what it read while or before a graph was captured.
pub(super) fn decided(step: &RecordedStep<'_>, graph: u32) -> Option<String> {
    let (record, position) = capture(step, graph)?;
    let read = record.host_reads.iter().rev().find(|r| !r.decision.is_empty() && r.position <= position)?;
    let name = step.trace().buffer(read.buffer).map_or(String::new(), |b| b.name.clone());
    Some(format!("the host read {name} and decided `{}` when graph {graph} was captured", read.decision))
}

/// Whether a launch ran beside the capture, on another stream.
pub(super) fn beside(step: &RecordedStep<'_>, graph: u32, op: &str, label: &str) -> Option<u32> {
    let (record, position) = capture(step, graph)?;
    let program = step.trace().program(record.program).ok()?;
    let beside = |item: &Item| match item {
        Item::Launch(l) if l.stream != 0 && l.op == op && l.label == label => Some(l.stream),
        _ => None,
    };
    program.items.iter().take(position as usize).find_map(beside)
}

/// A launch that is missing because a branch was taken: another one stands in its place, or the host is seen
/// to decide.
pub(super) fn branch(context: &Context<'_>, i: usize, lacking: Side, set: &BTreeSet<usize>) -> Option<Cause> {
    let family = &context.families[i];
    let has = context.pair.side(lacking.other());
    let step = context.pair.side(lacking);
    let graph = step.launches.iter().find_map(|l| l.graph)?.0;
    let outputs: BTreeSet<BufferId> = family
        .members
        .iter()
        .flat_map(|m| has.launches[m.0].written())
        .filter(|v| v.name != "op_faults")
        .filter_map(|v| match lacking {
            Side::A => context.pair.pairing.reversed_of(v.buffer),
            Side::B => context.pair.pairing.of(v.buffer),
        })
        .collect();
    let replaces = |k: &usize| match &context.families[*k].difference {
        Difference::Binding { a, b } => {
            let bound = context.ids(lacking, (*a, *b));
            let numbers = context.numbers(&context.families[*k], lacking);
            outputs.contains(&bound)
                && numbers.iter().any(|&n| step.launches[n].written().any(|v| v.buffer == bound))
        }
        _ => false,
    };
    let replaced: BTreeSet<usize> = set.iter().copied().filter(replaces).collect();
    // A launch that ran beside the capture was not decided against.
    let ran_beside = family.members.iter().any(|m| {
        let launch = &has.launches[m.0].record;
        beside(step, graph, &launch.op, &launch.label).is_some()
    });
    // Another launch in its place may as well mean that the other run has one too many: only a decision on
    // record tells.
    let decision = decided(step, graph).filter(|_| !ran_beside);
    decision.as_ref()?;
    let numbers = context.numbers(family, lacking.other());
    let mut sentence = format!(
        "graph {graph} of {} has no {}, which {} launches",
        context.letter(lacking),
        context.launches(lacking.other(), &numbers),
        context.letter(lacking.other())
    );
    if let Some(&k) = replaced.first() {
        let instead = context.numbers(&context.families[k], lacking);
        let written = format!("; {} writes in its place", context.launches(lacking, &instead));
        sentence.push_str(&written);
    }
    if let Some(decision) = decision {
        sentence = format!("{sentence}: {decision}");
    }
    let mut families = replaced;
    families.insert(i);
    Some(Cause {
        kind: Kind::FrozenBranch,
        side: Some(lacking),
        node: numbers.first().map(|&n| (lacking.other(), n)),
        graph: Some(graph),
        buffers: outputs.iter().map(|&id| step.short_name(id)).collect(),
        arguments: Vec::new(),
        sentence,
        families,
    })
}

pub(super) fn unlaunched(context: &Context<'_>, family: &Family, side: Side) -> Cause {
    let step = context.pair.side(side);
    let graphs = crate::explain::family::unlaunched(step).unwrap_or_default();
    let numbers = context.numbers(family, side.other());
    let first = graphs.first().map_or(0, |g| g.0);
    let label =
        graphs.first().and_then(|g| step.trace().graph(*g)).map_or(String::new(), |g| g.label.clone());
    let more = if graphs.len() > 1 { format!(" and {} more", graphs.len() - 1) } else { String::new() };
    let outputs: Vec<String> = graphs
        .iter()
        .filter_map(|&g| crate::program::nodes(step.trace(), g).ok())
        .filter_map(|nodes| nodes.last().and_then(|n| n.views.iter().find(|v| writes(v)).map(|v| v.buffer)))
        .map(|id| step.short_name(id))
        .collect();
    let sentence = format!(
        "{} captures graph {first} ({label}){more} in this step and uses what it should have written without launching it: capturing does not execute",
        context.letter(side)
    );
    let mut cause = cause(Kind::UnlaunchedCapture, Some(side), sentence);
    cause.graph = Some(first);
    cause.node = numbers.first().map(|&n| (side.other(), n));
    cause.buffers = outputs;
    cause
}

pub(super) fn missing(context: &Context<'_>, family: &Family, lacking: Side, op: &str) -> Cause {
    let (step, has) = (context.pair.side(lacking), context.pair.side(lacking.other()));
    let numbers = context.numbers(family, lacking.other());
    let what = context.launches(lacking.other(), &numbers);
    let graph = step.launches.iter().find_map(|l| l.graph).map(|g| g.0);
    let outputs: BTreeSet<BufferId> = numbers
        .iter()
        .flat_map(|&n| has.launches[n].written())
        .filter(|v| v.name != "op_faults")
        .map(|v| v.buffer)
        .collect();
    let outputs: Vec<String> = outputs.into_iter().map(|id| has.short_name(id)).collect();
    let letter = context.letter(lacking);
    let first = numbers.first().map(|&n| &has.launches[n].record);
    let aside = graph.zip(first).and_then(|(g, l)| beside(step, g, op, &l.label));
    // One run may have one launch too few, or the other one too many: what else there is tells.
    let counted =
        numbers.iter().map(|&n| context.witnesses.count(context.pair, &has.launches[n].record.label));
    let witness = unanimous(counted.chain([context.witnesses.loose_side()]));
    let side = aside.map(|_| lacking).or(witness).or_else(|| context.broken_side(&outputs));
    let kind = if side == Some(lacking) { Kind::MissingLaunch } else { Kind::Unknown };
    let owner = graph.map_or(letter.to_owned(), |g| format!("graph {g} of {letter}"));
    let mut sentence = if side == Some(lacking.other()) {
        format!("{} launches {what}, which {letter} does not", context.letter(lacking.other()))
    } else {
        format!("{owner} lacks {what}, which {} launches", context.letter(lacking.other()))
    };
    if let Some(stream) = aside {
        sentence.push_str(&format!("; it ran once on stream {stream} while the graph was captured"));
    }
    let mut cause = cause(kind, side, sentence);
    cause.graph = graph;
    cause.node = numbers.first().map(|&n| (lacking.other(), n));
    cause.buffers = outputs;
    cause
}

/// Other graphs than those that the step should launch: pairs of the launched one and the right one.
pub(super) fn dispatch(context: &Context<'_>, family: &Family, side: Side, swaps: &[(u32, u32)]) -> Cause {
    let step = context.pair.side(side);
    let named = |id: u32| {
        let graph = step.trace().graph(twinstep_traces::GraphId(id));
        format!("graph {id} ({})", graph.map_or(String::new(), |g| g.label.clone()))
    };
    let launched: Vec<String> = swaps.iter().map(|swap| named(swap.0)).collect();
    let right: Vec<String> = swaps.iter().map(|swap| named(swap.1)).collect();
    let sentence = format!(
        "{} launches {} where {} {} what {} runs",
        context.letter(side),
        launched.join(" and "),
        right.join(" and "),
        if right.len() > 1 { "are" } else { "is" },
        context.letter(side.other())
    );
    let mut cause = cause(Kind::WrongDispatch, Some(side), sentence);
    cause.graph = swaps.first().map(|swap| swap.0);
    cause.node = context.numbers(family, side).into_iter().min().map(|n| (side, n));
    cause.buffers = first_outputs(context.pair);
    cause
}

/// Outputs that differ, in order of allocation.
pub(super) fn first_outputs(pair: &Pair<'_>) -> Vec<String> {
    let differs = |(id, x): &(&BufferId, &Vec<u8>)| {
        pair.pairing.of(**id).and_then(|twin| pair.b.after.get(&twin)).is_some_and(|y| y != *x)
    };
    pair.a.after.iter().filter(differs).map(|(&id, _)| pair.a.short_name(id)).collect()
}
