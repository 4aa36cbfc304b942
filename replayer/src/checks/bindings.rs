//! What graphs of another engine bind, by address: the memory of an operand can have several names, and be
//! given back under any of them.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, GraphId, Item, OpaqueLaunch, Trace, ViewRecord};

use crate::ReplayError;
use crate::timeline::{Event, Timeline, What};

/// A parameter of a graph's node that is an address in known memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(super) node: u32,
    pub(super) kernel: String,
    /// `None` for copies and fills.
    pub(super) parameter: Option<u32>,
    pub(super) buffer: BufferId,
    pub(crate) address: u64,
}

impl Bound {
    /// `graph 0 node 2 (embed) parameter 1`.
    pub(super) fn name(&self, graph: GraphId) -> String {
        let parameter = self.parameter.map_or(String::new(), |p| format!(" parameter {p}"));
        format!(
            "graph {} node {} ({}){parameter}",
            graph.0,
            self.node,
            crate::kernel_name::short(&self.kernel)
        )
    }
}

fn address(trace: &Trace, view: &ViewRecord) -> Option<u64> {
    trace.buffer(view.buffer)?.address?.checked_add(view.offset)
}

/// The addresses that a graph's foreign nodes bind.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn bound(trace: &Trace, graph: GraphId) -> Result<Vec<Bound>, ReplayError> {
    let Some(record) = trace.graph(graph) else { return Ok(Vec::new()) };
    let mut bound = Vec::new();
    for (node, item) in (0..).zip(&trace.program(record.program)?.items) {
        let mut add = |parameter, view: &ViewRecord| {
            if let Some(address) = address(trace, view) {
                let kernel = super::foreign_name(item).to_owned();
                bound.push(Bound { node, kernel, parameter, buffer: view.buffer, address });
            }
        };
        match item {
            Item::Opaque(OpaqueLaunch { operands, .. }) => {
                operands.iter().for_each(|(parameter, _, view)| add(Some(*parameter), view));
            }
            Item::Copy { source, target, .. } => {
                source.iter().chain(target).for_each(|view| add(None, view));
            }
            Item::Fill { target, .. } => target.iter().for_each(|view| add(None, view)),
            _ => {}
        }
    }
    Ok(bound)
}

/// The addresses of a buffer.
pub(crate) fn range(trace: &Trace, buffer: BufferId) -> Option<(u64, u64)> {
    let record = trace.buffer(buffer)?;
    let start = record.address.filter(|a| *a != 0)?;
    Some((start, start.checked_add(record.bytes)?))
}

/// A change of who owns addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// The step record.
    pub(super) index: u32,
    pub(super) buffer: BufferId,
}

/// A captured graph of another engine.
#[derive(Debug, Default)]
struct Captured {
    /// In rising order of addresses.
    bound: Vec<Bound>,
    /// By index of the bound address: the free since the capture, and who has the address now.
    given_back: BTreeMap<usize, (Change, Option<Change>)>,
}

impl Captured {
    /// Indices of the bound addresses in a range.
    fn within(&self, (start, end): (u64, u64)) -> std::ops::Range<usize> {
        let below = |address: u64| self.bound.partition_point(|b| b.address < address);
        below(start)..below(end)
    }
}

/// Captured graphs of another engine, and what was given back and allocated since.
#[derive(Default)]
pub(super) struct Bindings {
    graphs: BTreeMap<GraphId, Captured>,
}

impl Bindings {
    /// Follows an event.
    pub(super) fn event(&mut self, timeline: &Timeline<'_>, event: &Event<'_>) -> Result<(), ReplayError> {
        let trace = timeline.trace();
        match event.what {
            What::Capture(graph) => {
                let mut bound = bound(trace, graph)?;
                // Stable: of one address, the first node.
                bound.sort_by_key(|b| b.address);
                if !bound.is_empty() {
                    self.graphs.insert(graph, Captured { bound, given_back: BTreeMap::new() });
                }
            }
            What::Free(buffer) | What::Allocate(buffer) => {
                let Some(range) = range(trace, buffer) else { return Ok(()) };
                let change = Change { index: event.index, buffer };
                for captured in self.graphs.values_mut() {
                    for at in captured.within(range) {
                        if matches!(event.what, What::Free(_)) {
                            captured.given_back.insert(at, (change, None));
                        } else if let Some((_, now)) = captured.given_back.get_mut(&at) {
                            *now = Some(change);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The graphs whose nodes bind addresses in a range, with these.
    pub(super) fn binding(&self, range: (u64, u64)) -> impl Iterator<Item = (GraphId, &[Bound])> {
        self.graphs.iter().map(move |(&graph, captured)| (graph, &captured.bound[captured.within(range)]))
    }

    /// The bound addresses of a graph that were given back since it was captured, with the free and with the
    /// allocation that has the address now. Each buffer once.
    pub(super) fn given_back(&self, graph: GraphId) -> Vec<(&Bound, Change, Option<Change>)> {
        let Some(captured) = self.graphs.get(&graph) else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let all = captured.given_back.iter();
        let all = all.filter_map(|(&at, &(free, now))| Some((captured.bound.get(at)?, free, now)));
        all.filter(|(bound, ..)| seen.insert(bound.buffer)).collect()
    }

    /// Whether a bound address of a graph was given back.
    pub(super) fn is_given_back(&self, graph: GraphId, address: u64) -> bool {
        self.graphs.get(&graph).is_some_and(|captured| {
            captured.given_back.keys().any(|&at| captured.bound.get(at).is_some_and(|b| b.address == address))
        })
    }
}

/// Whether a buffer is memory that the driver gave out and nobody named.
pub(crate) fn is_unnamed(name: &str) -> bool {
    name.strip_prefix("cuda.").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::is_unnamed;

    #[test]
    fn only_numbers_of_the_drivers_memory_are_no_names() {
        assert!(is_unnamed("cuda.0") && is_unnamed("cuda.17"));
        assert!(!is_unnamed("cuda.weights") && !is_unnamed("my.cuda.0") && !is_unnamed("codes"));
    }
}
