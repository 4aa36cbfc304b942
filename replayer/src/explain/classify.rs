//! From a difference that was shown to decide to the mechanism behind it.
//!
//! Nothing here knows a fault by name. Each mechanism is recognised by what the records show of it: who
//! binds what, what a name means, when something was captured, written, freed or launched.

use std::collections::BTreeSet;

use twinstep_traces::BufferId;

use crate::explain::family::{Difference, Family, Pair, Side};
use crate::explain::witness::{Witnesses, unanimous};
use crate::finding::Finding;
use crate::kind::Kind;

mod arguments;
mod memory;
mod padding;
mod presence;
mod writes;

/// A mechanism with its place.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) kind: Kind,
    /// The run whose mistake it is; `None` where the records do not tell.
    pub(crate) side: Option<Side>,
    /// Number of the first launch concerned, in the run that has it.
    pub(crate) node: Option<(Side, usize)>,
    pub(crate) graph: Option<u32>,
    pub(crate) buffers: Vec<String>,
    pub(crate) arguments: Vec<String>,
    /// What happened, one sentence without its full stop.
    pub(crate) sentence: String,
    /// The families that it stands for.
    pub(crate) families: BTreeSet<usize>,
}

/// What is known besides the pair.
pub(crate) struct Context<'a> {
    pub(crate) pair: &'a Pair<'a>,
    pub(crate) families: &'a [Family],
    /// Checks and rules that are broken at this step or before it.
    pub(crate) broken: Vec<(Side, &'a Finding)>,
    /// What else in the two runs speaks for one side.
    pub(crate) witnesses: Witnesses,
    /// For host-written or given state: what of A and B launches read in an earlier request's place.
    pub(crate) stale: Option<(Side, String)>,
}

impl Context<'_> {
    fn graph_of(&self, side: Side, number: usize) -> Option<u32> {
        self.pair.side(side).launches.get(number)?.graph.map(|g| g.0)
    }

    /// The one side on which a check or rule that speaks of one of these buffers is broken.
    pub(crate) fn broken_side(&self, buffers: &[String]) -> Option<Side> {
        let names: BTreeSet<&str> = buffers.iter().map(|b| b.split('@').next().unwrap_or(b)).collect();
        let speaks = |finding: &Finding| {
            let mut words = finding.message.split(|c: char| !(c.is_alphanumeric() || "_.".contains(c)));
            let subject = finding.buffer.as_deref().and_then(|b| b.split('@').next());
            subject.is_some_and(|b| names.contains(b))
                || words.any(|w| names.contains(w.rsplit("before.").next().unwrap_or(w)))
        };
        unanimous(self.broken.iter().filter(|(_, f)| speaks(f)).map(|(side, _)| Some(*side)))
    }

    /// The side that binds another buffer to these operands than the same launches do elsewhere.
    fn odd_operand(&self, family: &Family) -> Option<Side> {
        let pair = self.pair;
        let name = |side: Side, n: usize, operand: &str| {
            let step = pair.side(side);
            let view = step.launches[n].record.views.iter().find(|v| v.name == operand)?;
            step.trace().buffer(view.buffer).map(|b| b.name.clone())
        };
        unanimous(family.members.iter().flat_map(|&(i, j)| {
            let label = &pair.a.launches[i].record.label;
            family.operands.iter().map(move |operand| {
                let (x, y) = (name(Side::A, i, operand)?, name(Side::B, j, operand)?);
                self.witnesses.operand(label, operand, (&x, &y)).filter(|_| x != y)
            })
        }))
    }

    fn letter(&self, side: Side) -> &'static str {
        if side == Side::A { "A" } else { "B" }
    }

    fn launch_name(&self, side: Side, number: usize) -> String {
        self.pair.side(side).launches.get(number).map_or(String::new(), |l| l.name().to_owned())
    }

    /// `layer.0.attn (node 8) and 5 more`.
    fn launches(&self, side: Side, numbers: &[usize]) -> String {
        let Some(&first) = numbers.first() else { return "no launch".to_owned() };
        let more = match numbers.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!("{} (node {first}){more}", self.launch_name(side, first))
    }

    fn numbers(&self, family: &Family, side: Side) -> Vec<usize> {
        let mut numbers: Vec<usize> =
            family.members.iter().map(|m| if side == Side::A { m.0 } else { m.1 }).collect();
        numbers.dedup();
        numbers
    }

    fn ids(&self, side: Side, (a, b): (BufferId, BufferId)) -> BufferId {
        if side == Side::A { a } else { b }
    }
}

/// All causes that a minimal set stands for.
pub(crate) fn classify(context: &Context<'_>, set: &BTreeSet<usize>) -> Vec<Cause> {
    let mut left = set.clone();
    let mut causes = Vec::new();
    for &i in set {
        let Difference::Missing { lacking, .. } = &context.families[i].difference else { continue };
        if let Some(cause) = presence::branch(context, i, *lacking, &left) {
            left.retain(|k| !cause.families.contains(k));
            causes.push(cause);
        }
    }
    for i in left {
        if let Some(cause) = one(context, i) {
            merge(&mut causes, cause);
        }
    }
    causes
}

/// Families of one mechanism on one side are one cause: a replaced table of cosines and one of sines.
fn merge(causes: &mut Vec<Cause>, cause: Cause) {
    let alike = |c: &&mut Cause| (c.kind, c.side, c.graph) == (cause.kind, cause.side, cause.graph);
    match causes.iter_mut().find(alike) {
        Some(known) => {
            known.families.extend(&cause.families);
            for buffer in cause.buffers.into_iter().filter(|b| !known.buffers.contains(b)).collect::<Vec<_>>()
            {
                known.buffers.push(buffer);
            }
            for name in
                cause.arguments.into_iter().filter(|a| !known.arguments.contains(a)).collect::<Vec<_>>()
            {
                known.arguments.push(name);
            }
            known.sentence = format!("{}; {}", known.sentence, cause.sentence);
            known.node = [known.node, cause.node].into_iter().flatten().min_by_key(|(_, n)| *n);
        }
        None => causes.push(cause),
    }
}

fn one(context: &Context<'_>, i: usize) -> Option<Cause> {
    let family = &context.families[i];
    let mut cause = match &family.difference {
        Difference::State { a, b } => state(context, (*a, *b)),
        Difference::Writes { a, b } => writes::host_writes(context, (*a, *b)),
        Difference::Scalar { op, name } => arguments::scalar(context, family, op, name),
        Difference::Binding { a, b } => arguments::binding(context, family, (*a, *b)),
        Difference::View { op, operand } => arguments::view(context, family, op, operand),
        Difference::Unlaunched { side } => presence::unlaunched(context, family, *side),
        Difference::Missing { lacking, op } => presence::missing(context, family, *lacking, op),
        Difference::Dispatch { side, swaps } => presence::dispatch(context, family, *side, swaps),
        Difference::Memory { side, buffer, with } => memory::memory(context, *side, *buffer, *with),
    };
    cause.families = BTreeSet::from([i]);
    Some(cause)
}

fn cause(kind: Kind, side: Option<Side>, sentence: String) -> Cause {
    Cause {
        kind,
        side,
        node: None,
        graph: None,
        buffers: Vec::new(),
        arguments: Vec::new(),
        sentence,
        families: BTreeSet::new(),
    }
}

/// State that the step was given: who wrote it last is looked up by the caller.
fn state(context: &Context<'_>, ids: (BufferId, BufferId)) -> Cause {
    let name = context.pair.a.short_name(ids.0);
    let mut found = cause(
        Kind::Unknown,
        context.broken_side(std::slice::from_ref(&name)),
        format!("the step is given other values in {name}"),
    );
    found.buffers = vec![name];
    found
}
