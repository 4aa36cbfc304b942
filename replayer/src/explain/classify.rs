//! From a difference that was shown to decide to the mechanism behind it.
//!
//! Nothing here knows a fault by name. Each mechanism is recognised by what the records show of it: who
//! binds what, what a name means, when something was captured, written, freed or launched.

use std::collections::BTreeSet;

use twinstep_traces::{Access, BufferId, Item, Role, ScalarValue, StepRecord};

use crate::explain::family::{Difference, Family, Pair, Side};
use crate::explain::witness::{Witnesses, unanimous};
use crate::finding::Finding;
use crate::kind::Kind;
use crate::program::writes;
use crate::recorded::RecordedStep;
use crate::value::Value;

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

/// The row of the batch that the step's request occupies.
pub(crate) fn occupied(step: &RecordedStep<'_>) -> u64 {
    let found = step.trace().requests().iter().find(|r| r.request == step.record.request);
    u64::from(found.map_or(0, |r| r.row))
}

/// Whether all differing elements of two states of a buffer lie in rows that no request occupies.
fn padding_only(step: &RecordedStep<'_>, id: BufferId, x: &[u8], y: &[u8]) -> bool {
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
fn outcome_in_padding(pair: &Pair<'_>) -> bool {
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
        if let Some(cause) = branch(context, i, *lacking, &left) {
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

/// The records of the step in which a graph was captured, and where in it.
fn capture(step: &RecordedStep<'_>, graph: u32) -> Option<(StepRecord, u32)> {
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
fn decided(step: &RecordedStep<'_>, graph: u32) -> Option<String> {
    let (record, position) = capture(step, graph)?;
    let read = record.host_reads.iter().rev().find(|r| !r.decision.is_empty() && r.position <= position)?;
    let name = step.trace().buffer(read.buffer).map_or(String::new(), |b| b.name.clone());
    Some(format!("the host read {name} and decided `{}` when graph {graph} was captured", read.decision))
}

/// Whether a launch ran beside the capture, on another stream.
fn beside(step: &RecordedStep<'_>, graph: u32, op: &str, label: &str) -> Option<u32> {
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
fn branch(context: &Context<'_>, i: usize, lacking: Side, set: &BTreeSet<usize>) -> Option<Cause> {
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

fn one(context: &Context<'_>, i: usize) -> Option<Cause> {
    let family = &context.families[i];
    let mut cause = match &family.difference {
        Difference::State { a, b } => state(context, (*a, *b)),
        Difference::Writes { a, b } => host_writes(context, (*a, *b)),
        Difference::Scalar { op, name } => scalar(context, family, op, name),
        Difference::Binding { a, b } => binding(context, family, (*a, *b)),
        Difference::View { op, operand } => view(context, family, op, operand),
        Difference::Unlaunched { side } => unlaunched(context, family, *side),
        Difference::Missing { lacking, op } => missing(context, family, *lacking, op),
        Difference::Dispatch { side, launched, right } => dispatch(context, family, *side, *launched, *right),
        Difference::Memory { side, buffer, with } => memory(context, *side, *buffer, *with),
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

fn show(value: ScalarValue) -> String {
    match value {
        ScalarValue::U32(u32::MAX) => "none (taken from memory)".to_owned(),
        ScalarValue::U32(v) => v.to_string(),
        ScalarValue::I32(v) => v.to_string(),
        ScalarValue::U64(v) => v.to_string(),
        ScalarValue::F32Bits(bits) => f32::from_bits(bits).to_string(),
    }
}

/// An argument by value: frozen where the launch is a graph's node and the same argument is not so elsewhere.
fn scalar(context: &Context<'_>, family: &Family, op: &str, name: &str) -> Cause {
    let pair = context.pair;
    let &(i, j) = family.members.first().unwrap_or(&(0, 0));
    let value = |side: Side, n: usize| {
        let launch = &pair.side(side).launches[n].record;
        launch.scalars.iter().find(|s| s.name == name).map(|s| s.value)
    };
    let witness = unanimous(family.members.iter().map(|&(i, j)| {
        let values = value(Side::A, i).zip(value(Side::B, j))?;
        context.witnesses.scalar(&pair.a.launches[i].record.label, name, values)
    }));
    let (x, y) = (value(Side::A, i), value(Side::B, j));
    let memory = Some(ScalarValue::U32(u32::MAX));
    // By value where the other run takes it from memory, which changes from step to step.
    let by_value = match (x == memory, y == memory) {
        (false, true) => Some(Side::A),
        (true, false) => Some(Side::B),
        _ => None,
    };
    // By value in both, another one in each step of the other run and always the same in this one's graph.
    let varies = || {
        let captured =
            unanimous([(Side::A, i), (Side::B, j)].map(|(side, n)| context.graph_of(side, n).map(|_| side)))?;
        let other = pair.side(captured.other());
        let n = if captured == Side::A { j } else { i };
        changes(other, &other.launches[n].record.label, name).then_some(captured)
    };
    let side = by_value.or(witness).or_else(varies);
    let at = side.unwrap_or(Side::A);
    let graph = side.and_then(|s| context.graph_of(s, if s == Side::A { i } else { j }));
    let numbers = context.numbers(family, at);
    let what = context.launches(at, &numbers);
    let (x, y) = (x.map_or(String::new(), show), y.map_or(String::new(), show));
    let (mine, theirs) = if at == Side::A { (&x, &y) } else { (&y, &x) };
    let other = context.letter(at.other());
    let mut cause = match (side, graph) {
        (Some(side), Some(graph)) => cause(
            Kind::FrozenArgument,
            Some(side),
            format!(
                "graph {graph} of {} was captured with {name} passed by value to {op}: {what} has {name} = {mine}, {other} has {theirs}",
                context.letter(side),
            ),
        ),
        _ => cause(Kind::Unknown, side, format!("{what} gets {name} = {x} in A, {y} in B")),
    };
    cause.graph = graph;
    cause.arguments = vec![name.to_owned()];
    cause.node = numbers.first().map(|&n| (at, n));
    cause
}

/// Whether a scalar of the launches with a label has another value in another step of the same kind.
fn changes(step: &RecordedStep<'_>, label: &str, name: &str) -> bool {
    let of = |launches: &[crate::program::StepLaunch]| {
        let launch = launches.iter().find(|l| l.record.label == label)?;
        launch.record.scalars.iter().find(|s| s.name == name).map(|s| s.value)
    };
    let here = of(&step.launches);
    let mut programs = BTreeSet::from([step.record.program]);
    (0..step.trace().step_count()).any(|index| {
        let Ok(record) = step.trace().step(index) else { return false };
        if record.kind != step.record.kind || !programs.insert(record.program) {
            return false;
        }
        let Ok(launches) = crate::program::launches(step.trace(), &record) else { return false };
        of(&launches).is_some_and(|value| Some(value) != here)
    })
}

/// Whether an integer buffer stays as it was on one side while the other counts it up.
fn stuck_counter(context: &Context<'_>, side: Side, id: BufferId) -> bool {
    let step = context.pair.side(side);
    let other = context.pair.side(side.other());
    let twin = match side {
        Side::A => context.pair.pairing.of(id),
        Side::B => context.pair.pairing.reversed_of(id),
    };
    let Some(twin) = twin else { return false };
    let Some(record) = step.trace().buffer(id) else { return false };
    if crate::value::is_float(record.dtype) || record.role != Role::State {
        return false;
    }
    let states = (step.before.get(&id), step.after.get(&id), other.before.get(&twin), other.after.get(&twin));
    let (Some(b0), Some(b1), Some(o0), Some(o1)) = states else { return false };
    let steps = Value::all(record.dtype, o0).zip(Value::all(record.dtype, o1));
    let advance: BTreeSet<i64> = steps.map(|(x, y)| (y.to_f64() - x.to_f64()) as i64).collect();
    // Padding rows stand still on both sides.
    b0 == b1 && advance.contains(&1) && advance.iter().all(|d| matches!(d, 0 | 1))
}

/// An operand bound to something else than in the other run.
fn binding(context: &Context<'_>, family: &Family, ids: (BufferId, BufferId)) -> Cause {
    let pair = context.pair;
    // The side that binds what its own name does not mean is the one to look at.
    let stale = |side: Side| {
        let (step, id) = (pair.side(side), context.ids(side, ids));
        let record = step.trace().buffer(id)?;
        let meant = step.run.lifetimes.resolve(step.trace(), step.index, &record.name);
        (meant != Some(id)).then_some((id, meant))
    };
    let of_stale = unanimous([Side::A, Side::B].map(|s| stale(s).map(|_| s)));
    let names = [pair.a.short_name(ids.0), pair.b.short_name(ids.1)];
    let witness = unanimous([context.odd_operand(family), context.witnesses.loose_side()]);
    let side = of_stale.or(witness);
    let counter = |s: Side| {
        let expected = match s {
            Side::A => pair.pairing.reversed_of(ids.1),
            Side::B => pair.pairing.of(ids.0),
        };
        expected.is_some_and(|e| stuck_counter(context, s, e)).then_some(s)
    };
    let side =
        side.or_else(|| unanimous([Side::A, Side::B].map(counter))).or_else(|| context.broken_side(&names));
    let at = side.unwrap_or(Side::A);
    let (step, id) = (pair.side(at), context.ids(at, ids));
    let numbers = context.numbers(family, at);
    let what = context.launches(at, &numbers);
    let graph = numbers.first().and_then(|&n| context.graph_of(at, n));
    let expected = match at {
        Side::A => pair.pairing.reversed_of(ids.1),
        Side::B => pair.pairing.of(ids.0),
    };
    let owner = graph.map_or("a launch".to_owned(), |g| format!("graph {g}"));
    let letter = context.letter(at);
    let name = step.buffer_name(id);
    let should = expected.map_or_else(
        || pair.side(at.other()).buffer_name(context.ids(at.other(), ids)),
        |id| step.buffer_name(id),
    );
    let operands = family.operands.iter().cloned().collect::<Vec<_>>();
    let freed = step.run.lifetimes.freed_before(id, step.index);
    let shares = sharing(step, id);
    let (kind, sentence, buffer) = if let Some(with) = shares {
        let with = step.buffer_name(with);
        let text = format!(
            "{owner} of {letter} is bound to {name}, whose memory was handed out again to {with}: {what} works on it, where {should} is meant"
        );
        (Kind::AliasedMemory, text, id)
    } else if freed {
        let text = format!(
            "{owner} of {letter} is still bound to {name}, which was given back: {what} works on it, where {should} is meant"
        );
        (Kind::UseAfterFree, text, id)
    } else if let Some(counter) = expected.filter(|&e| stuck_counter(context, at, e)) {
        let text = format!(
            "{} keeps its value in {letter}: {what} advances {name} in its place",
            step.short_name(counter)
        );
        (Kind::CounterNotAdvanced, text, counter)
    } else if side.is_some() && outcome_in_padding(pair) {
        let text = format!(
            "{what} of {letter} works on {name} where {should} is meant, and only rows that no request occupies differ"
        );
        (Kind::PaddingLeak, text, id)
    } else if graph.is_some() && side.is_some() && of_stale == side {
        let text =
            format!("{owner} of {letter} is bound to {name}: {what} works on it, where {should} is meant");
        (Kind::StaleBinding, text, id)
    } else {
        (Kind::Unknown, format!("{what} works on {name} in {letter}, where the other run has {should}"), id)
    };
    let mut cause = cause(kind, side, sentence);
    cause.graph = graph;
    cause.node = numbers.first().map(|&n| (at, n));
    cause.buffers = vec![step.short_name(buffer)];
    cause.arguments = operands;
    cause
}

/// A live or later buffer in the same memory.
fn sharing(step: &RecordedStep<'_>, id: BufferId) -> Option<BufferId> {
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

/// An operand on another part of the same buffer, or on a buffer of another size.
fn view(context: &Context<'_>, family: &Family, op: &str, operand: &str) -> Cause {
    let &(i, j) = family.members.first().unwrap_or(&(0, 0));
    let of = |side: Side, n: usize| {
        let launch = &context.pair.side(side).launches[n].record;
        launch.views.iter().find(|v| v.name == operand).cloned()
    };
    let (Some(x), Some(y)) = (of(Side::A, i), of(Side::B, j)) else {
        return cause(Kind::Unknown, None, format!("{op} has another {operand}"));
    };
    let room = |side: Side, v: &twinstep_traces::ViewRecord| {
        let record = context.pair.side(side).trace().buffer(v.buffer);
        record.filter(|b| b.role == Role::Scratch).map(|b| b.bytes)
    };
    // Of two workspaces the smaller one lacks room.
    let smaller = room(Side::A, &x).zip(room(Side::B, &y)).and_then(|(a, b)| match a.cmp(&b) {
        std::cmp::Ordering::Less => Some(Side::A),
        std::cmp::Ordering::Greater => Some(Side::B),
        std::cmp::Ordering::Equal => None,
    });
    let names = [context.pair.a.short_name(x.buffer), context.pair.b.short_name(y.buffer)];
    let side = smaller.or_else(|| context.broken_side(&names)).or_else(|| context.witnesses.loose_side());
    let at = side.unwrap_or(Side::A);
    let (mine, theirs) = if at == Side::A { (&x, &y) } else { (&y, &x) };
    let step = context.pair.side(at);
    let elements = |v: &twinstep_traces::ViewRecord| v.shape.iter().product::<u64>();
    let scratch = step.trace().buffer(mine.buffer).is_some_and(|b| b.role == Role::Scratch);
    let buffer_bytes = |step: &RecordedStep<'_>, v: &twinstep_traces::ViewRecord| {
        step.trace().buffer(v.buffer).map_or(0, |b| b.bytes)
    };
    let smaller = buffer_bytes(step, mine) < buffer_bytes(context.pair.side(at.other()), theirs);
    let numbers = context.numbers(family, at);
    let what = context.launches(at, &numbers);
    let name = step.short_name(mine.buffer);
    let letter = context.letter(at);
    let shapes =
        format!("{:?} in {letter}, {:?} in {}", mine.shape, theirs.shape, context.letter(at.other()));
    let padding = outcome_in_padding(context.pair) || in_padding(step, mine, theirs);
    let kind = if side.is_some() && padding {
        Kind::PaddingLeak
    } else if scratch && smaller && elements(mine) < elements(theirs) {
        Kind::UndersizedWorkspace
    } else {
        Kind::Unknown
    };
    let sentence = match kind {
        Kind::UndersizedWorkspace => {
            format!("the workspace {name} is too small in {letter}: {operand} of {what} is {shapes}")
        }
        Kind::PaddingLeak => {
            format!("{operand} of {what} is {shapes}: rows that no request occupies make the difference")
        }
        _ => format!("{operand} of {what} is {shapes}"),
    };
    let mut cause = cause(kind, side, sentence);
    cause.node = numbers.first().map(|&n| (at, n));
    cause.graph = numbers.first().and_then(|&n| context.graph_of(at, n));
    // Of rows that are left out, those that are not written leak; what is read of them is in order.
    if kind != Kind::PaddingLeak || writes(mine) {
        cause.buffers = vec![name];
    }
    cause.arguments = vec![operand.to_owned()];
    cause
}

/// Whether two views of a buffer with rows differ in how many rows they have, and both have the occupied one.
fn in_padding(
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

fn unlaunched(context: &Context<'_>, family: &Family, side: Side) -> Cause {
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

fn missing(context: &Context<'_>, family: &Family, lacking: Side, op: &str) -> Cause {
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

fn dispatch(context: &Context<'_>, family: &Family, side: Side, launched: u32, right: u32) -> Cause {
    let step = context.pair.side(side);
    let label =
        |id: u32| step.trace().graph(twinstep_traces::GraphId(id)).map_or(String::new(), |g| g.label.clone());
    let sentence = format!(
        "{} launches graph {launched} ({}) where graph {right} ({}) is what {} runs",
        context.letter(side),
        label(launched),
        label(right),
        context.letter(side.other())
    );
    let mut cause = cause(Kind::WrongDispatch, Some(side), sentence);
    cause.graph = Some(launched);
    cause.node = context.numbers(family, side).into_iter().min().map(|n| (side, n));
    cause.buffers = first_outputs(context.pair);
    cause
}

/// Outputs that differ, in order of allocation.
fn first_outputs(pair: &Pair<'_>) -> Vec<String> {
    let differs = |(id, x): &(&BufferId, &Vec<u8>)| {
        pair.pairing.of(**id).and_then(|twin| pair.b.after.get(&twin)).is_some_and(|y| y != *x)
    };
    pair.a.after.iter().filter(differs).map(|(&id, _)| pair.a.short_name(id)).collect()
}

fn memory(context: &Context<'_>, side: Side, buffer: BufferId, with: BufferId) -> Cause {
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

/// What the host writes.
fn host_writes(context: &Context<'_>, ids: (BufferId, BufferId)) -> Cause {
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
fn wrote_before(step: &RecordedStep<'_>, id: BufferId) -> bool {
    let trace = step.trace();
    trace.buffer(id).is_some_and(|b| b.role == Role::Input)
        && (0..step.index).any(|index| {
            trace
                .step(index)
                .is_ok_and(|s| s.kind == step.record.kind && s.host_writes.iter().any(|w| w.buffer == id))
        })
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
