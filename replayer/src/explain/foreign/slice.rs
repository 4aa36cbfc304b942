//! A slice that moves: `cache[position]` with a position that is a number of the host's.
//!
//! What a kernel is given of it is an address that moves by one row at each step. In a graph it stays where it was at
//! the capture, while nothing else that is passed tells of it.

use std::collections::BTreeMap;

use twinstep_traces::Trace;

use super::arguments::Followed;
use super::candidate::Candidate;
use super::located::Located;
use crate::checks::bindings::is_unnamed;
use crate::explain::family::Side;
use crate::kind::Kind;

/// Steps that must show it: by chance two allocations lie as far apart as two others.
const STEPS_MIN: usize = 4;
/// Slices that are told.
const FOUND_MAX: usize = 3;

/// Where the address of the run that has it in a graph is, and the other one's in the first such step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    frozen: u64,
    moving: [u64; 2],
    by: u64,
}

/// Slices that one side keeps in a graph, each with its kernel and the named buffer that it lies in. Those first that a
/// named buffer is cut to. Of others one for each amount that they move by, rare amounts first: what an allocator gives
/// anew in each step moves together.
pub(super) fn all<'a>(
    followed: &'a [Followed],
    side: Side,
    now: u32,
    traces: [&Trace; 2],
) -> Vec<(&'a Followed, Slice, Option<String>)> {
    let mut amounts: BTreeMap<u64, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for one in followed {
        let Some(slice) = frozen(one, side, now) else { continue };
        let within = slice.within(traces, side);
        let count = amounts.entry(slice.by).or_default();
        *count += 1;
        if within.is_some() || *count == 1 {
            found.push((one, slice, within));
        }
    }
    found.sort_by_key(|(_, slice, within)| (within.is_none(), amounts.get(&slice.by).copied()));
    let fit = found.iter().filter(|(.., within)| within.is_some()).count();
    found.truncate(if fit > 0 { fit.min(FOUND_MAX) } else { FOUND_MAX });
    found
}

/// Whether one side keeps an address in a graph that on the other side moves on by one amount at each step, and step
/// `now` is the first for which that matters.
fn frozen(one: &Followed, side: Side, now: u32) -> Option<Slice> {
    let own = |&(step, [a, b]): &(u32, [(u64, bool); 2])| {
        let ((own, in_graph), (other, other_in_graph)) = if side == Side::A { (a, b) } else { (b, a) };
        (in_graph && !other_in_graph).then_some((step, own, other))
    };
    let series: Vec<(u32, u64, u64)> = one.series.iter().filter_map(own).collect();
    let (&(first, frozen, start), &(_, _, end)) = (series.first()?, series.last()?);
    let by = series.get(1)?.2.checked_sub(start).filter(|&by| by > 0)?;
    let moves = series.windows(2).all(|w| w[1].0 == w[0].0 + 1 && w[1].2.checked_sub(w[0].2) == Some(by));
    let stays = series.iter().all(|s| s.1 == frozen);
    // The first step from a graph is right, as that is what the address was captured for; the second one is not.
    let matters = now == first + 1;
    (series.len() >= STEPS_MIN && moves && stays && matters).then_some(Slice {
        frozen,
        moving: [start, end],
        by,
    })
}

/// The buffer that addresses lie in, the smallest one that has a name.
fn named<'a>(trace: &'a Trace, addresses: &[u64]) -> Option<&'a str> {
    let holds = |start: u64, bytes: u64| addresses.iter().all(|&x| x >= start && x - start < bytes);
    let buffers = trace.buffers().iter().filter(|b| b.address.is_some_and(|start| holds(start, b.bytes)));
    buffers.filter(|b| !is_unnamed(&b.name)).min_by_key(|b| b.bytes).map(|b| b.name.as_str())
}

impl Slice {
    /// The buffer of one name, in both runs, that all of it lies in.
    fn within(&self, traces: [&Trace; 2], side: Side) -> Option<String> {
        let [mine, theirs] = if side == Side::A { traces } else { [traces[1], traces[0]] };
        let name = named(mine, &[self.frozen])?;
        (named(theirs, &self.moving) == Some(name)).then(|| name.to_owned())
    }

    /// It fits where a named buffer is cut. Elsewhere it may be memory that one run takes anew in each step.
    pub(super) fn candidate(
        &self,
        located: &Located,
        side: Side,
        (name, one): (&str, &Followed),
        within: Option<String>,
    ) -> Candidate {
        let graph = one.graphs[usize::from(side == Side::B)];
        let place = graph.map_or(String::new(), |(graph, node)| format!(" (graph {} node {node})", graph.0));
        let what = match &within {
            Some(buffer) => format!("points to one place in {buffer}"),
            None => "is one address".to_owned(),
        };
        let doubt = if within.is_some() { "" } else { "; memory taken anew at each step may look like that" };
        let by = self.by;
        Candidate {
            kind: Kind::FrozenArgument,
            side,
            graph: graph.map(|(graph, _)| graph.0),
            node: graph.map(|(_, node)| node),
            buffers: located.differing.clone(),
            arguments: vec![name.to_owned()],
            fits: within.is_some(),
            text: format!(
                "{name}{place} {what} in every step of this run, where in the other run it is {by} bytes further at \
                 each step{doubt}"
            ),
        }
    }
}
