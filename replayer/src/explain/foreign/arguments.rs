//! Arguments by value that one run froze in a graph and the other one advances.
//!
//! The kernels that ran between the last equal and the first unequal point are aligned, by name and sizes of
//! parameters. A value that is no address and differs is followed through the steps of the request. It is a
//! frozen argument if, on the side of a graph, it is the same in all steps, on the other side it changes from step
//! to step and never falls, it is behind that at the divergent step and not zero, and it was equal, or not in use, in every
//! step before. A value that differed earlier without any effect is no cause, and one that is ahead of what the
//! other run passes may be a bound that was meant so; zero is mostly what is passed where a value is not in use; and
//! what changes to and fro says less than what grows. A whole parameter of these three forms is possible, no more.
//!
//! Addresses are other ones in each run, but how far one moves from step to step is not: `slice.rs` follows them.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{GraphId, Item, OpaqueLaunch, Trace};

use super::candidate::Candidate;
use super::{slice, step_of};
use crate::ReplayError;
use crate::at::{At, find_index};
use crate::between::Ran;
use crate::explain::family::Side;
use crate::explain::foreign::located::Located;
use crate::kernel_name::short;
use crate::kind::Kind;
use crate::requests::Requests;

/// Steps of the request that are looked at before and after the divergent one.
const BEFORE: u32 = 64;
const AFTER: u32 = 8;
/// Pairs of kernels up to which two lists are aligned by longest common subsequence.
const CELLS_MAX: usize = 4_000_000;
/// Values that are followed.
const FOLLOWED_MAX: usize = 4096;
/// Of a part of a structure: how often it must rise, and by how much it may. What nobody set jumps once, and far.
const RISES_MIN: usize = 2;
const RISE_MAX: u64 = 1 << 24;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    pub(super) candidates: Vec<Candidate>,
    pub(super) evidence: Vec<String>,
}

/// A kernel that ran, directly or as a graph's node.
struct Kernel {
    launch: OpaqueLaunch,
    graph: Option<(GraphId, u32)>,
    /// Kernels of the same name and parameters that ran before it.
    ordinal: usize,
}

impl Kernel {
    fn key(&self) -> (&str, Vec<usize>) {
        (&self.launch.kernel, self.launch.parameters.iter().map(Vec::len).collect())
    }
}

/// One value of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// A parameter, and the byte within it.
    Parameter(usize, usize),
    Grid(usize),
    Block(usize),
    /// An address: parameter, and the byte within it.
    Address(usize, usize),
}

impl Slot {
    fn name(self, kernel: &str, whole: bool) -> String {
        let kernel = short(kernel);
        let axis = |i: usize| ["x", "y", "z"].get(i).copied().unwrap_or("?");
        match self {
            Slot::Parameter(i, _) | Slot::Address(i, _) if whole => format!("{kernel} parameter {i}"),
            Slot::Parameter(i, byte) | Slot::Address(i, byte) => {
                format!("{kernel} parameter {i} byte {byte}")
            }
            Slot::Grid(i) => format!("{kernel} grid {}", axis(i)),
            Slot::Block(i) => format!("{kernel} block {}", axis(i)),
        }
    }
}

/// Where Linux puts libraries, stacks and the driver's memory, and the heap of a program.
const HOST: std::ops::Range<u64> = 0x7e00_0000_0000..0x8000_0000_0000;
const HEAP: std::ops::Range<u64> = 0x5500_0000_0000..0x5700_0000_0000;

/// Where a run's memory lies.
struct Addresses {
    hull: (u64, u64),
}

impl Addresses {
    fn of(trace: &Trace) -> Addresses {
        let ranges =
            trace.buffers().iter().filter_map(|b| Some((b.address?, b.address?.saturating_add(b.bytes))));
        let hull = ranges.fold((u64::MAX, 0), |(low, high), (a, b)| (low.min(a), high.max(b)));
        Addresses { hull }
    }

    /// Whether a word may be an address: in the run's memory, or where a driver's addresses lie.
    fn contain(&self, word: u64) -> bool {
        (self.hull.0..self.hull.1).contains(&word) || HOST.contains(&word) || HEAP.contains(&word)
    }
}

fn flatten(trace: &Trace, ran: impl Iterator<Item = Ran>) -> Result<Vec<Kernel>, ReplayError> {
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut seen: BTreeMap<(String, Vec<usize>), usize> = BTreeMap::new();
    let mut add = |launch: &OpaqueLaunch, graph| {
        let mut kernel = Kernel { launch: launch.clone(), graph, ordinal: 0 };
        let (name, sizes) = kernel.key();
        let count = seen.entry((name.to_owned(), sizes)).or_default();
        kernel.ordinal = *count;
        *count += 1;
        kernels.push(kernel);
    };
    for ran in ran {
        match trace.program(ran.program)?.items.get(ran.item as usize) {
            Some(Item::Opaque(launch)) => add(launch, None),
            Some(Item::GraphLaunch { graph, .. }) => {
                let Some(record) = trace.graph(*graph) else { continue };
                for (node, item) in (0..).zip(&trace.program(record.program)?.items) {
                    if let Item::Opaque(launch) = item {
                        add(launch, Some((*graph, node)));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(kernels)
}

/// Pairs of indices of kernels that belong together.
fn align(a: &[Kernel], b: &[Kernel]) -> Vec<(usize, usize)> {
    let mut ids = BTreeMap::new();
    for kernel in a.iter().chain(b) {
        let next = ids.len();
        ids.entry(kernel.key()).or_insert(next);
    }
    let id = |kernel: &Kernel| ids.get(&kernel.key()).copied();
    let x: Vec<Option<usize>> = a.iter().map(id).collect();
    let y: Vec<Option<usize>> = b.iter().map(id).collect();
    let prefix = x.iter().zip(&y).take_while(|(p, q)| p == q).count();
    let suffix = x[prefix..].iter().rev().zip(y[prefix..].iter().rev()).take_while(|(p, q)| p == q).count();
    let mut pairs: Vec<(usize, usize)> = (0..prefix).map(|i| (i, i)).collect();
    let (n, m) = (x.len() - prefix - suffix, y.len() - prefix - suffix);
    if n.saturating_mul(m) <= CELLS_MAX {
        let (x, y) = (&x[prefix..prefix + n], &y[prefix..prefix + m]);
        let mut table = vec![0u32; (n + 1) * (m + 1)];
        for i in (0..n).rev() {
            for j in (0..m).rev() {
                table[i * (m + 1) + j] = if x[i] == y[j] {
                    table[(i + 1) * (m + 1) + j + 1] + 1
                } else {
                    table[(i + 1) * (m + 1) + j].max(table[i * (m + 1) + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < n && j < m {
            if x[i] == y[j] {
                pairs.push((prefix + i, prefix + j));
                (i, j) = (i + 1, j + 1);
            } else if table[(i + 1) * (m + 1) + j] >= table[i * (m + 1) + j + 1] {
                i += 1;
            } else {
                j += 1;
            }
        }
    }
    pairs.extend((0..suffix).map(|k| (x.len() - suffix + k, y.len() - suffix + k)));
    pairs
}

/// The values of a launch, addresses apart from others, with whether one is a whole parameter.
fn values(kernel: &OpaqueLaunch, addresses: &Addresses) -> BTreeMap<Slot, (u64, bool)> {
    let mut values = BTreeMap::new();
    for axis in 0..3 {
        values.insert(Slot::Grid(axis), (u64::from(kernel.grid[axis]), true));
        values.insert(Slot::Block(axis), (u64::from(kernel.block[axis]), true));
    }
    let little = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    for (i, bytes) in kernel.parameters.iter().enumerate() {
        let mut pointers: BTreeSet<usize> = BTreeSet::new();
        for (_, byte, _) in kernel.operands.iter().filter(|(p, ..)| *p as usize == i) {
            pointers.extend([*byte as usize / 4, *byte as usize / 4 + 1]);
            if let Some(eight) = bytes.get(*byte as usize..*byte as usize + 8) {
                values.insert(Slot::Address(i, *byte as usize), (little(eight), bytes.len() == 8));
            }
        }
        // Structures are packed, so an address may begin at any word of four bytes.
        for (word, eight) in bytes.windows(8).step_by(4).enumerate() {
            if addresses.contain(little(eight)) {
                pointers.extend([word, word + 1]);
            }
        }
        if bytes.len() <= 8 && bytes.len() != 8 || bytes.len() == 8 && pointers.is_empty() {
            values.insert(Slot::Parameter(i, 0), (little(bytes), true));
            continue;
        }
        for (granule, chunk) in bytes.chunks(4).enumerate() {
            if !pointers.contains(&granule) {
                values.insert(Slot::Parameter(i, granule * 4), (little(chunk), false));
            }
        }
    }
    values
}

/// A value followed through the steps: which kernel on each side, and what it is there.
pub(super) struct Followed {
    kernel: String,
    sizes: Vec<usize>,
    ordinals: [usize; 2],
    pub(super) graphs: [Option<(GraphId, u32)>; 2],
    slot: Slot,
    whole: bool,
    /// Step and the values of A and B, each with whether a graph ran the kernel.
    pub(super) series: Vec<(u32, [Seen; 2])>,
}

/// A value, and whether it was a graph's.
pub(super) type Seen = (u64, bool);

/// What each slot of a launch holds, and whether it is a whole parameter.
type SlotValues = BTreeMap<Slot, (u64, bool)>;

/// The values of a step's kernels, each kernel taken apart once.
struct StepValues<'a> {
    kernels: BTreeMap<(&'a str, Vec<usize>, usize), &'a Kernel>,
    memory: &'a Addresses,
    known: BTreeMap<(String, Vec<usize>, usize), SlotValues>,
}

impl<'a> StepValues<'a> {
    fn of(kernels: &'a [Kernel], memory: &'a Addresses) -> StepValues<'a> {
        let keyed = kernels.iter().map(|kernel| {
            let (name, sizes) = kernel.key();
            ((name, sizes, kernel.ordinal), kernel)
        });
        StepValues { kernels: keyed.collect(), memory, known: BTreeMap::new() }
    }

    /// A followed value in this step, where the kernel of that ordinal ran.
    fn of_kernel(&mut self, one: &Followed, ordinal: usize) -> Option<Seen> {
        let kernel = self.kernels.get(&(one.kernel.as_str(), one.sizes.clone(), ordinal))?;
        let key = (one.kernel.clone(), one.sizes.clone(), ordinal);
        let known = self.known.entry(key).or_insert_with(|| values(&kernel.launch, self.memory));
        known.get(&one.slot).map(|(value, _)| (*value, kernel.graph.is_some()))
    }
}

/// Looks for an argument that one run froze.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn frozen(
    (a, at): (&Trace, At),
    (b, at_b): (&Trace, At),
    located: &Located,
    requests: &Requests,
) -> Result<Frozen, ReplayError> {
    let mut found = Frozen::default();
    let Some(now) = at.step else { return Ok(found) };
    let (memory_a, memory_b) = (Addresses::of(a), Addresses::of(b));
    let x = flatten(a, located.ran[0].iter().copied())?;
    let y = flatten(b, located.ran[1].iter().copied())?;
    // Ordinals within the step, as other steps are looked at whole.
    let (all_x, all_y) = (whole_step(a, at)?, whole_step(b, at_b)?);
    let mut followed: Vec<Followed> = Vec::new();
    let mut addresses: Vec<Followed> = Vec::new();
    for (i, j) in align(&x, &y) {
        let (mine, theirs) = (values(&x[i].launch, &memory_a), values(&y[j].launch, &memory_b));
        // A kernel that is given its place by one parameter or by another one moves the one that is not in use.
        let pointers = |values: &SlotValues| -> Vec<Slot> {
            values.keys().filter(|slot| matches!(slot, Slot::Address(..))).copied().collect()
        };
        let alike = pointers(&mine) == pointers(&theirs);
        for (slot, (value, whole)) in mine {
            let Some((other, _)) = theirs.get(&slot) else { continue };
            // Structures hold padding and tables that nobody set: follow only what may turn out to be frozen.
            let parameter = whole && matches!(slot, Slot::Parameter(..));
            let behind = |in_graph: bool, own: u64, ahead: u64| {
                in_graph && own != ahead && (parameter || own != 0 && own < ahead)
            };
            let (may_be, followed) = match slot {
                Slot::Address(..) => (alike && x[i].graph.is_some() != y[j].graph.is_some(), &mut addresses),
                _ => {
                    let mine = behind(x[i].graph.is_some(), value, *other);
                    (mine || behind(y[j].graph.is_some(), *other, value), &mut followed)
                }
            };
            if !may_be || followed.len() == FOLLOWED_MAX {
                continue;
            }
            let ordinal = |all: &[Kernel], kernel: &Kernel| {
                let same = |k: &&Kernel| k.launch == kernel.launch && k.graph == kernel.graph;
                all.iter().find(same).map_or(kernel.ordinal, |k| k.ordinal)
            };
            followed.push(Followed {
                kernel: x[i].launch.kernel.clone(),
                sizes: x[i].key().1,
                ordinals: [ordinal(&all_x, &x[i]), ordinal(&all_y, &y[j])],
                graphs: [x[i].graph, y[j].graph],
                slot,
                whole,
                series: Vec::new(),
            });
        }
    }
    let values_end = followed.len();
    followed.append(&mut addresses);
    if followed.is_empty() {
        return Ok(found);
    }
    for step in now.saturating_sub(BEFORE).max(1)..=now.saturating_add(AFTER) {
        let here = At { step: Some(step), ..at };
        let there = requests.of_a(here);
        if find_index(a, here).is_err() || find_index(b, there).is_err() {
            continue;
        }
        let (x, y) = (whole_step(a, here)?, whole_step(b, there)?);
        let (mut x, mut y) = (StepValues::of(&x, &memory_a), StepValues::of(&y, &memory_b));
        for one in &mut followed {
            let pair = x.of_kernel(one, one.ordinals[0]).zip(y.of_kernel(one, one.ordinals[1]));
            if let Some((value, other)) = pair {
                one.series.push((step, [value, other]));
            }
        }
    }
    let mut arguments: BTreeMap<(bool, Side), Vec<(String, &Followed)>> = BTreeMap::new();
    let mut said = BTreeSet::new();
    for one in &followed[..values_end] {
        let name = one.slot.name(&one.kernel, one.whole);
        let Some(&(_, [(value, _), (other, _)])) = one.series.iter().find(|(step, _)| *step == now) else {
            continue;
        };
        if said.insert(name.clone()) && found.evidence.len() < 16 {
            found.evidence.push(format!("{name} is {value} in A, {other} in B"));
        }
        for side in [Side::A, Side::B] {
            let Some(fits) = is_frozen(one, side, now) else { continue };
            let of_side = arguments.entry((fits, side)).or_default();
            if of_side.iter().all(|(known, _)| *known != name) {
                of_side.push((name.clone(), one));
            }
        }
    }
    // Of one loop, one run passes by value what the other one does not freeze: both cannot be it.
    let both = [Side::A, Side::B].iter().all(|&side| arguments.contains_key(&(true, side)));
    for ((fits, side), named) in arguments {
        found.candidates.extend(candidate(located, at, now, (fits && !both, side), &named));
    }
    for side in [Side::A, Side::B] {
        for (one, slice, within) in slice::all(&followed[values_end..], side, now, [a, b]) {
            let name = one.slot.name(&one.kernel, one.whole);
            found.candidates.push(slice.candidate(located, side, (&name, one), within));
        }
    }
    Ok(found)
}

/// The candidate for arguments of one side.
fn candidate(
    located: &Located,
    at: At,
    now: u32,
    (fits, side): (bool, Side),
    named: &[(String, &Followed)],
) -> Option<Candidate> {
    // A parameter says more than the dimensions that follow from it.
    let (name, one) = named.first()?;
    let &(_, [(value, _), (other, _)]) = one.series.iter().find(|(step, _)| *step == now)?;
    let (mine, theirs) = if side == Side::A { (value, other) } else { (other, value) };
    let graph = one.graphs[usize::from(side == Side::B)];
    let place = graph.map_or(String::new(), |(graph, node)| format!(" (graph {} node {node})", graph.0));
    let doubt = match fits {
        true => "",
        false if mine == 0 => "; zero may mean that it is not in use",
        false if mine > theirs => "; it may be a bound that was meant so",
        false => "",
    };
    Some(Candidate {
        kind: Kind::FrozenArgument,
        side,
        graph: graph.map(|(graph, _)| graph.0),
        node: graph.map(|(_, node)| node),
        buffers: located.differing.clone(),
        arguments: named.iter().map(|(name, _)| name.clone()).collect(),
        fits,
        text: format!(
            "{name}{place} is {mine} in every step of this run, where the other run passes {theirs} at step {at} and \
             another value at each step{doubt}"
        ),
    })
}

fn whole_step(trace: &Trace, at: At) -> Result<Vec<Kernel>, ReplayError> {
    let step = step_of(trace, at)?;
    let items = trace.program(step.program)?.items.len() as u32;
    flatten(trace, (0..items).map(|item| Ran { program: step.program, item }))
}

/// Whether one side keeps a value in a graph that the other one advances, and it first matters at step `now`: so that
/// it fits, or is only possible. `None`: it does not.
fn is_frozen(one: &Followed, side: Side, now: u32) -> Option<bool> {
    // Steps that ran the kernel outside a graph (a prefill, the steps before the capture) froze nothing.
    let own = |&(step, [a, b]): &(u32, [Seen; 2])| {
        let ((own, in_graph), (other, _)) = if side == Side::A { (a, b) } else { (b, a) };
        in_graph.then_some((step, own, other))
    };
    let series: Vec<(u32, u64, u64)> = one.series.iter().filter_map(own).collect();
    let in_graph = one.graphs[usize::from(side == Side::B)].is_some();
    let constant = series.windows(2).all(|w| w[0].1 == w[1].1);
    // A length, or what is computed from one, grows by one and the same amount, at once or now and then.
    // Bytes that nobody set may rise by chance, by any amount.
    let grows: Vec<u64> =
        series.windows(2).map(|w| w[1].2.wrapping_sub(w[0].2)).filter(|&by| by != 0).collect();
    let plausible = one.whole || grows.len() >= RISES_MIN && grows.iter().all(|&by| by <= RISE_MAX);
    let rises = plausible && !grows.is_empty() && grows.iter().all(|&by| by == grows[0] && by < 1 << 63);
    let several = series.iter().map(|s| s.2).collect::<BTreeSet<_>>().len() > 1;
    let before = series.iter().filter(|s| s.0 < now).all(|s| s.1 == s.2);
    // A parameter that is zero is mostly one that is not in use.
    let behind = series.iter().any(|s| s.0 == now && s.1 < s.2 && s.1 != 0);
    if !in_graph || !constant || !several || !before {
        return None;
    }
    let parameter = one.whole && matches!(one.slot, Slot::Parameter(..));
    let other = series.iter().any(|s| s.0 == now && s.1 != s.2);
    if rises && behind { Some(true) } else { (parameter && other).then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a value that A's graph keeps at `own`, of part of a structure or whole.
    fn said(whole: bool, own: u64, theirs: &[u64]) -> Option<bool> {
        let seen = |&other: &u64| [(own, true), (other, false)];
        let one = Followed {
            kernel: "k".into(),
            sizes: vec![16],
            ordinals: [0; 2],
            graphs: [Some((GraphId(0), 0)), None],
            slot: Slot::Parameter(0, 8),
            whole,
            series: (1..).zip(theirs.iter().map(seen)).collect(),
        };
        is_frozen(&one, Side::A, 2)
    }

    #[test]
    fn what_nobody_set_jumps_once_or_far() {
        assert_eq!(said(false, 4, &[4, 5, 6, 7]), Some(true));
        assert_eq!(said(false, 4, &[4, 5, 5, 5]), None);
        assert_eq!(said(false, 4, &[4, 4 + (1 << 25), 4 + (2 << 25), 4 + (3 << 25)]), None);
        assert_eq!(said(true, 4, &[4, 5, 5, 5]), Some(true), "a whole parameter was set");
    }
}
