//! Arguments of launches: scalars by value, and what operands are bound to.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, Role, ScalarValue};

use super::memory::sharing;
use super::padding::{in_padding, outcome_in_padding};
use super::{Cause, Context, cause};
use crate::explain::family::{Family, Side};
use crate::explain::witness::unanimous;
use crate::kind::Kind;
use crate::program::writes;
use crate::recorded::RecordedStep;
use crate::value::Value;

pub(super) fn show(value: ScalarValue) -> String {
    match value {
        ScalarValue::U32(u32::MAX) => "none (taken from memory)".to_owned(),
        ScalarValue::U32(v) => v.to_string(),
        ScalarValue::I32(v) => v.to_string(),
        ScalarValue::U64(v) => v.to_string(),
        ScalarValue::F32Bits(bits) => f32::from_bits(bits).to_string(),
    }
}

/// An argument by value: frozen where the launch is a graph's node and the same argument is not so elsewhere.
pub(super) fn scalar(context: &Context<'_>, family: &Family, op: &str, name: &str) -> Cause {
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
pub(super) fn changes(step: &RecordedStep<'_>, label: &str, name: &str) -> bool {
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
pub(super) fn stuck_counter(context: &Context<'_>, side: Side, id: BufferId) -> bool {
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
pub(super) fn binding(context: &Context<'_>, family: &Family, ids: (BufferId, BufferId)) -> Cause {
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

/// An operand on another part of the same buffer, or on a buffer of another size.
pub(super) fn view(context: &Context<'_>, family: &Family, op: &str, operand: &str) -> Cause {
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
