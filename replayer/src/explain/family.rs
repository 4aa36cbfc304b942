//! Candidates: in what the inputs of a step differ between two runs, grouped by mechanism.
//!
//! Inputs are what a step is given: live-in state, host writes, the launches that it is made of, their
//! scalars and bindings, the layout of memory. What is computed inside the step is never a candidate.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, GraphId, HostWrite, Item, Role, ViewRecord};

use crate::ReplayError;
use crate::align::{Alignment, align};
use crate::pairing::Pairing;
use crate::program::{StepLaunch, nodes, writes};
use crate::recorded::{RecordedStep, State};

/// One of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        if self == Side::A { Side::B } else { Side::A }
    }

    pub(crate) fn name(self) -> &'static str {
        if self == Side::A { "a" } else { "b" }
    }
}

/// Where an operand or scalar of aligned launches differs: numbers in A and B.
pub(crate) type Member = (usize, usize);

/// In what the two steps differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// State that the step is given, and that no host write of the step explains.
    State { a: BufferId, b: BufferId },
    /// What the host writes in the step, or when.
    Writes { a: BufferId, b: BufferId },
    /// A scalar argument.
    Scalar { op: String, name: String },
    /// An operand that is bound to another buffer.
    Binding { a: BufferId, b: BufferId },
    /// An operand on the same buffer, but on another part of it, or on one of another size.
    View { op: String, operand: String },
    /// A graph captured in this step and not launched, whose launches the other run has.
    Unlaunched { side: Side },
    /// Launches of one op that one side lacks.
    Missing { lacking: Side, op: String },
    /// Other captured graphs that would give the other run's launches: launched, right.
    Dispatch { side: Side, swaps: Vec<(u32, u32)> },
    /// Two buffers in the same memory.
    Memory { side: Side, buffer: BufferId, with: BufferId },
}

/// A difference with the patches that take it away.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) difference: Difference,
    /// Aligned launches that show it; for missing launches the number in the run that has them, twice.
    pub(crate) members: Vec<Member>,
    /// Operands that show it, for bindings.
    pub(crate) operands: BTreeSet<String>,
    /// Patches of A that make it like B.
    pub(crate) into_a: Vec<String>,
    /// Patches of B that make it like A; `None` where there are none.
    pub(crate) into_b: Option<Vec<String>>,
}

impl Family {
    fn new(difference: Difference, into_a: Vec<String>, into_b: Option<Vec<String>>) -> Family {
        Family { difference, members: Vec::new(), operands: BTreeSet::new(), into_a, into_b }
    }
}

/// Two runs at the same step.
pub(crate) struct Pair<'a> {
    pub(crate) a: &'a RecordedStep<'a>,
    pub(crate) b: &'a RecordedStep<'a>,
    pub(crate) pairing: Pairing,
    pub(crate) alignment: Alignment,
}

impl<'a> Pair<'a> {
    pub(crate) fn new(a: &'a RecordedStep<'a>, b: &'a RecordedStep<'a>) -> Pair<'a> {
        let pairing =
            Pairing::at((a.trace(), &a.run.lifetimes, a.index), (b.trace(), &b.run.lifetimes, b.index));
        let alignment = align((a.trace(), &a.launches), (b.trace(), &b.launches));
        Pair { a, b, pairing, alignment }
    }

    pub(crate) fn side(&self, side: Side) -> &'a RecordedStep<'a> {
        if side == Side::A { self.a } else { self.b }
    }
}

/// All differences between the inputs of the two steps, in a fixed order.
///
/// # Errors
/// [`ReplayError::Read`] where the trace is damaged.
pub(crate) fn families(pair: &Pair<'_>) -> Result<Vec<Family>, ReplayError> {
    let mut found = host_writes(pair);
    state(pair, &mut found)?;
    let mut program = arguments(pair);
    program.extend(presence(pair)?);
    for side in [Side::A, Side::B] {
        if let Some(dispatch) = dispatch(pair, side, &program)? {
            // The launched graph's arguments and launches are no inputs of their own then.
            program = dispatch;
        }
    }
    found.extend(program);
    for side in [Side::A, Side::B] {
        found.extend(memory(pair, side));
    }
    Ok(found)
}

/// What host writes before the program leave of a buffer, byte by byte, and those that come later.
type Net = (BTreeMap<u64, u8>, Vec<(u64, Vec<u8>)>);

/// The host writes to a buffer.
fn net(step: &RecordedStep<'_>, id: BufferId) -> Net {
    let mut first = BTreeMap::new();
    let mut late = Vec::new();
    for HostWrite { position, buffer, offset, bytes } in &step.record.host_writes {
        if *buffer != id {
            continue;
        }
        match position {
            0 => first.extend((*offset..).zip(bytes.iter().copied())),
            _ => late.push((*offset, bytes.clone())),
        }
    }
    (first, late)
}

fn host_writes(pair: &Pair<'_>) -> Vec<Family> {
    let (a, b) = (pair.a, pair.b);
    let mut buffers: BTreeSet<BufferId> = a.record.host_writes.iter().map(|w| w.buffer).collect();
    buffers.extend(b.record.host_writes.iter().filter_map(|w| pair.pairing.reversed_of(w.buffer)));
    let mut found = Vec::new();
    for id in buffers {
        let Some(twin) = pair.pairing.of(id) else { continue };
        let ((first_a, late_a), (first_b, late_b)) = (net(a, id), net(b, twin));
        let same_start = match (a.before.get(&id), b.before.get(&twin)) {
            (Some(x), Some(y)) => {
                let written = first_a.keys().chain(first_b.keys());
                written.into_iter().all(|&i| x.get(i as usize) == y.get(i as usize))
            }
            _ => first_a == first_b,
        };
        if same_start && late_a == late_b {
            continue;
        }
        let difference = Difference::Writes { a: id, b: twin };
        let into_a = vec![format!("write:{}=other", a.short_name(id))];
        let into_b = Some(vec![format!("write:{}=other", b.short_name(twin))]);
        found.push(Family::new(difference, into_a, into_b));
    }
    found
}

/// What one side's buffer holds when the step begins if its host makes the other run's writes in place of its
/// own: what was there before them is there again where the other run writes nothing.
///
/// # Errors
/// [`ReplayError::Read`] where the trace is damaged.
fn with_writes_of_other(
    pair: &Pair<'_>,
    side: Side,
    (id, twin): (BufferId, BufferId),
    given: &[u8],
) -> Result<Vec<u8>, ReplayError> {
    let (step, other) = (pair.side(side), pair.side(side.other()));
    let (own, theirs) = (net(step, id).0, net(other, twin).0);
    let mut bytes = given.to_vec();
    if own.keys().any(|offset| !theirs.contains_key(offset))
        && let Some(earlier) = step.run.earlier(step.index, id)?
    {
        for offset in own.into_keys().map(|offset| offset as usize) {
            if let (Some(byte), Some(was)) = (bytes.get_mut(offset), earlier.get(offset)) {
                *byte = *was;
            }
        }
    }
    for (offset, value) in theirs {
        if let Some(byte) = bytes.get_mut(offset as usize) {
            *byte = value;
        }
    }
    Ok(bytes)
}

/// State that differs where no difference in the step's host writes explains it.
///
/// # Errors
/// [`ReplayError::Read`] where a trace is damaged.
fn state(pair: &Pair<'_>, found: &mut Vec<Family>) -> Result<(), ReplayError> {
    let (a, b) = (pair.a, pair.b);
    let mut more = Vec::new();
    for (&id, x) in &a.before {
        let Some(twin) = pair.pairing.of(id) else { continue };
        let Some(y) = b.before.get(&twin) else { continue };
        // Buffers of other sizes are told apart by the operands that are bound to them.
        if x == y || x.len() != y.len() {
            continue;
        }
        let written = found.iter().any(|f| f.difference == (Difference::Writes { a: id, b: twin }));
        let explained = written
            && with_writes_of_other(pair, Side::A, (id, twin), x)? == *y
            && with_writes_of_other(pair, Side::B, (twin, id), y)? == *x;
        if !explained {
            let into_a = vec![format!("{}=other", a.short_name(id))];
            let into_b = Some(vec![format!("{}=other", b.short_name(twin))]);
            more.push(Family::new(Difference::State { a: id, b: twin }, into_a, into_b));
        }
    }
    found.extend(more);
    Ok(())
}

/// Whether two views are the same part of a buffer.
fn same_part(va: &ViewRecord, vb: &ViewRecord) -> bool {
    (va.offset, &va.shape, &va.strides, va.dtype) == (vb.offset, &vb.shape, &vb.strides, vb.dtype)
}

/// How an operand of aligned launches differs: in its buffer, in the part of it, or in both.
fn operand(pair: &Pair<'_>, op: &str, va: &ViewRecord, vb: &ViewRecord) -> Vec<Difference> {
    let mut found = Vec::new();
    if pair.pairing.of(va.buffer) != Some(vb.buffer) {
        found.push(Difference::Binding { a: va.buffer, b: vb.buffer });
    }
    if !same_part(va, vb) {
        found.push(Difference::View { op: op.to_owned(), operand: va.name.clone() });
    }
    found
}

/// Aligned launches that show a difference, and those of their operands that do.
type Shown = (Vec<Member>, BTreeSet<(usize, usize, String)>);

fn arguments(pair: &Pair<'_>) -> Vec<Family> {
    let (a, b) = (pair.a, pair.b);
    let mut found: BTreeMap<Difference, Shown> = BTreeMap::new();
    for &(i, j) in &pair.alignment.pairs {
        let (x, y) = (&a.launches[i].record, &b.launches[j].record);
        for scalar in &x.scalars {
            if y.scalars.iter().any(|s| s.name == scalar.name && s.value != scalar.value) {
                let difference = Difference::Scalar { op: x.op.clone(), name: scalar.name.clone() };
                found.entry(difference).or_default().0.push((i, j));
            }
        }
        for (va, vb) in x.views.iter().zip(&y.views) {
            for difference in operand(pair, &x.op, va, vb) {
                let entry = found.entry(difference).or_default();
                entry.0.push((i, j));
                entry.1.insert((i, j, va.name.clone()));
            }
        }
    }
    let mut families = Vec::new();
    for (difference, (mut members, operands)) in found {
        members.dedup();
        let patches = |side: Side| match &difference {
            Difference::Scalar { op, name } => vec![format!("node:{op}.{name}=other")],
            Difference::Binding { a: x, b: y } => binding_patches(pair, side, (*x, *y), &operands),
            _ => {
                let step = pair.side(side);
                let each = operands.iter().map(|(i, j, name)| {
                    let number = if side == Side::A { *i } else { *j };
                    // One that is bound elsewhere as well is two differences.
                    let part = if rebound(pair, (*i, *j), name) { ".shape" } else { "" };
                    (step.launches[number].record.op.clone(), name.clone(), part)
                });
                let each: BTreeSet<_> = each.collect();
                each.into_iter().map(|(op, name, part)| format!("node:{op}.{name}{part}=other")).collect()
            }
        };
        let (into_a, into_b) = (patches(Side::A), Some(patches(Side::B)));
        let operands = operands.into_iter().map(|(_, _, name)| name).collect();
        families.push(Family { difference, members, operands, into_a, into_b });
    }
    families
}

/// The views of an operand of aligned launches, in A and in B.
fn views<'p>(pair: &'p Pair<'_>, (i, j): Member, name: &str) -> Option<(&'p ViewRecord, &'p ViewRecord)> {
    let of = |launch: &'p StepLaunch| launch.record.views.iter().find(|v| v.name == name);
    of(&pair.a.launches[i]).zip(of(&pair.b.launches[j]))
}

/// Whether an operand of aligned launches is bound to another buffer.
fn rebound(pair: &Pair<'_>, member: Member, name: &str) -> bool {
    views(pair, member, name).is_some_and(|(va, vb)| pair.pairing.of(va.buffer) != Some(vb.buffer))
}

/// One patch for all operands bound to a buffer where all of them are meant, else one each.
fn binding_patches(
    pair: &Pair<'_>,
    side: Side,
    (x, y): (BufferId, BufferId),
    operands: &BTreeSet<(usize, usize, String)>,
) -> Vec<String> {
    let step = pair.side(side);
    let (from, to) = match side {
        Side::A => (x, pair.pairing.reversed_of(y)),
        Side::B => (y, pair.pairing.of(x)),
    };
    let bound = step.launches.iter().flat_map(|l| &l.record.views).filter(|v| v.buffer == from).count();
    if let Some(to) = to.filter(|_| bound == operands.len()) {
        return vec![format!("bind:{}={}", step.buffer_name(from), step.buffer_name(to))];
    }
    let each = operands.iter().map(|(i, j, name)| {
        let number = if side == Side::A { i } else { j };
        let part = views(pair, (*i, *j), name).is_some_and(|(va, vb)| same_part(va, vb));
        match to {
            // `other` would take the part as well, which is a difference of its own.
            Some(to) if !part => format!("node:{number}.{name}={}", step.buffer_name(to)),
            _ => format!("node:{number}.{name}=other"),
        }
    });
    each.collect()
}

/// Graphs that a step captures and does not launch.
pub(crate) fn unlaunched(step: &RecordedStep<'_>) -> Result<Vec<GraphId>, ReplayError> {
    let program = step.trace().program(step.record.program)?;
    let launched = |id: GraphId| {
        program.items.iter().any(|item| matches!(item, Item::GraphLaunch { graph, .. } if *graph == id))
    };
    let captured = program.items.iter().filter_map(|item| match item {
        Item::Capture { graph } if !launched(*graph) => Some(*graph),
        _ => None,
    });
    Ok(captured.collect())
}

fn presence(pair: &Pair<'_>) -> Result<Vec<Family>, ReplayError> {
    let mut families = Vec::new();
    for lacking in [Side::A, Side::B] {
        let (step, has) = (pair.side(lacking), pair.side(lacking.other()));
        let only = if lacking == Side::A { &pair.alignment.only_b } else { &pair.alignment.only_a };
        let mut left: Vec<usize> = only.clone();
        let mut taken = Vec::new();
        let mut graphs = Vec::new();
        for graph in unlaunched(step)? {
            let nodes = nodes(step.trace(), graph)?;
            let matched: Vec<usize> = nodes
                .iter()
                .filter_map(|node| left.iter().copied().find(|&n| alike(node, &has.launches[n])))
                .collect();
            if !matched.is_empty() && matched.len() == nodes.len() {
                left.retain(|n| !matched.contains(n));
                taken.extend(matched);
                graphs.push(graph);
            }
        }
        if !graphs.is_empty() {
            let launch = graphs.iter().map(|g| format!("graph:{}=launch", g.0)).collect();
            let skip = Some(taken.iter().map(|n| format!("launch:{n}=skip")).collect());
            families.push(oriented(Difference::Unlaunched { side: lacking }, lacking, launch, skip, taken));
        }
        let mut by_op: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &n in &left {
            by_op.entry(&has.launches[n].record.op).or_default().push(n);
        }
        for (op, numbers) in by_op {
            let all_of_op = only.iter().filter(|&&n| has.launches[n].record.op == op).count();
            let insert = if all_of_op == numbers.len() {
                vec![format!("launch:other:{op}=insert")]
            } else {
                numbers.iter().map(|n| format!("launch:other:{n}=insert")).collect()
            };
            let skip = Some(numbers.iter().map(|n| format!("launch:{n}=skip")).collect());
            let difference = Difference::Missing { lacking, op: op.to_owned() };
            families.push(oriented(difference, lacking, insert, skip, numbers));
        }
    }
    Ok(families)
}

fn oriented(
    difference: Difference,
    lacking: Side,
    add: Vec<String>,
    take: Option<Vec<String>>,
    numbers: Vec<usize>,
) -> Family {
    let (into_a, into_b) = match (lacking, take) {
        (Side::A, take) => (add, take),
        (Side::B, take) => (take.unwrap_or_default(), Some(add)),
    };
    let mut family = Family::new(difference, into_a, into_b);
    family.members = numbers.into_iter().map(|n| (n, n)).collect();
    family
}

/// Whether a node is the same launch as one of the other run.
fn alike(node: &twinstep_traces::LaunchRecord, launch: &StepLaunch) -> bool {
    let record = &launch.record;
    node.op == record.op
        && node.label == record.label
        && node.views.len() == record.views.len()
        && node.views.iter().zip(&record.views).all(|(x, y)| x.shape == y.shape && x.name == y.name)
}

/// Other captured graphs with which the programs are alike, or at least much more so; with what then still
/// differs.
///
/// # Errors
/// [`ReplayError::Read`] where the trace is damaged.
fn dispatch(pair: &Pair<'_>, side: Side, program: &[Family]) -> Result<Option<Vec<Family>>, ReplayError> {
    let mut launches = pair.side(side).launches.clone();
    let mut rest = program.to_vec();
    let mut swaps = Vec::new();
    // A step may launch several graphs, each the wrong one.
    while let Some(better) = better_graph(pair, side, &launches, &rest)? {
        swaps.push(better.swap);
        (launches, rest) = (better.launches, better.rest);
    }
    if swaps.is_empty() {
        return Ok(None);
    }
    swaps.sort_unstable();
    let swap = swaps.iter().map(|(launched, right)| format!("graph:{launched}=graph:{right}")).collect();
    let difference = Difference::Dispatch { side, swaps };
    // The other run cannot launch this one's graphs: its launches take that one's arguments instead.
    let of =
        |f: &Family| if side == Side::A { f.into_b.clone().unwrap_or_default() } else { f.into_a.clone() };
    let back: Vec<String> = program.iter().flat_map(of).collect();
    let mut family = match side {
        Side::A => Family::new(difference, swap, Some(back)),
        Side::B => Family::new(difference, back, Some(swap)),
    };
    family.members = program.iter().flat_map(|f| f.members.clone()).collect();
    Ok(Some([vec![family], rest].concat()))
}

/// A step with another graph in place of one that it launches.
struct Better {
    /// Launched, and in its place.
    swap: (u32, u32),
    launches: Vec<StepLaunch>,
    /// What then still differs.
    rest: Vec<Family>,
}

/// The graph in place of a launched one that leaves the fewest differences, where it takes away at least half
/// of all, or half of the launched one's. `now` is what differs with these launches.
fn better_graph(
    pair: &Pair<'_>,
    side: Side,
    launches: &[StepLaunch],
    now: &[Family],
) -> Result<Option<Better>, ReplayError> {
    let differing = |families: &[Family]| families.iter().map(|f| f.members.len().max(1)).sum::<usize>();
    let before = differing(now);
    let step = pair.side(side);
    let own = |member: &Member| if side == Side::A { member.0 } else { member.1 };
    let launched: BTreeSet<u32> = launches.iter().filter_map(|l| l.graph).map(|g| g.0).collect();
    let mut best: Option<(usize, Better)> = None;
    for &graph in &launched {
        let of_graph = |n: usize| launches.get(n).is_some_and(|l| l.graph.is_some_and(|g| g.0 == graph));
        let aligned = now.iter().filter(|f| !matches!(f.difference, Difference::Missing { .. }));
        let here = aligned.flat_map(|f| &f.members).filter(|m| of_graph(own(m))).count();
        for other in step.trace().graphs().iter().filter(|g| !launched.contains(&g.id.0)) {
            let Ok(records) = nodes(step.trace(), other.id) else { continue };
            let length = (0..launches.len()).filter(|&n| of_graph(n)).count();
            // The same list of launches, on other operands: then numbers mean the same in both.
            if records.len() != length || before == 0 {
                continue;
            }
            let mut records = records.into_iter();
            let swapped = |launch: &StepLaunch| match launch.graph {
                Some(g) if g.0 == graph => StepLaunch {
                    item: launch.item,
                    graph: Some(other.id),
                    record: records.next().unwrap_or_else(|| launch.record.clone()),
                },
                _ => launch.clone(),
            };
            let launches: Vec<StepLaunch> = launches.iter().map(swapped).collect();
            let swapped = RecordedStep {
                run: step.run,
                index: step.index,
                record: step.record.clone(),
                launches: launches.clone(),
                before: State::new(),
                after: State::new(),
                live: step.live.clone(),
            };
            let twin = pair.side(side.other());
            let there = match side {
                Side::A => Pair::new(&swapped, twin),
                Side::B => Pair::new(twin, &swapped),
            };
            let mut rest = arguments(&there);
            rest.extend(presence(&there)?);
            let left = differing(&rest);
            let gain = before.saturating_sub(left);
            let enough = gain * 2 >= before || (here > 0 && gain * 2 >= here);
            if gain > 0 && enough && best.as_ref().is_none_or(|(known, _)| left < *known) {
                best = Some((left, Better { swap: (graph, other.id.0), launches, rest }));
            }
        }
    }
    Ok(best.map(|(_, better)| better))
}

/// Buffers that share memory with another one here and not in the other run.
fn memory(pair: &Pair<'_>, side: Side) -> Vec<Family> {
    let step = pair.side(side);
    let used: BTreeSet<BufferId> = step
        .launches
        .iter()
        .flat_map(|l| &l.record.views)
        .map(|v| v.buffer)
        .chain(step.before.keys().copied())
        .chain(step.after.keys().copied())
        .collect();
    let overlap = |trace: &twinstep_traces::Trace, x: BufferId, y: BufferId| {
        let range = |id| {
            let record = trace.buffer(id).filter(|r| r.role != Role::Weight)?;
            let start = record.address?;
            Some((start, start.checked_add(record.bytes)?))
        };
        range(x).zip(range(y)).is_some_and(|((a, b), (c, d))| a < d && c < b)
    };
    let written: BTreeSet<BufferId> =
        step.launches.iter().flat_map(|l| &l.record.views).filter(|v| writes(v)).map(|v| v.buffer).collect();
    let used: Vec<BufferId> = used.into_iter().collect();
    let mut found = Vec::new();
    for (k, &later) in used.iter().enumerate() {
        let with = |&earlier: &BufferId| {
            // Sharing what nobody writes here changes nothing in this step.
            if !(written.contains(&later) || written.contains(&earlier))
                || !overlap(step.trace(), earlier, later)
            {
                return false;
            }
            let twins = match side {
                Side::A => pair.pairing.of(earlier).zip(pair.pairing.of(later)),
                Side::B => pair.pairing.reversed_of(earlier).zip(pair.pairing.reversed_of(later)),
            };
            !twins.is_some_and(|(x, y)| overlap(pair.side(side.other()).trace(), x, y))
        };
        // Memory of its own is apart from all of them: they are one difference, named after the one that is
        // written.
        let others: Vec<BufferId> = used[..k].iter().copied().filter(with).collect();
        let writer = others.iter().find(|earlier| written.contains(earlier));
        let Some(&earlier) = writer.or(others.first()) else { continue };
        let difference = Difference::Memory { side, buffer: later, with: earlier };
        let own = vec![format!("memory:{}=own", step.short_name(later))];
        found.push(match side {
            Side::A => Family::new(difference, own, None),
            Side::B => Family::new(difference, Vec::new(), Some(own)),
        });
    }
    found
}
