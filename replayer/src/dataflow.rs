//! In which order kernels of another engine come to write the buffers that they have addresses of, as far as their
//! arguments tell.
//!
//! Which of its operands a kernel writes is not recorded. But something has written a buffer that changed, and it
//! had its address: where a kernel is the first one that has an address, and has others that were in use
//! before, it computes the new one from those. A buffer that comes without such company is what the launches begin
//! with: if a later kernel has it and nothing that is new there, that one leaves the next step's value in it
//! (a feedback buffer); else the first one writes it. A copy or fill to a buffer that nothing had before writes it.
//! Where this is wrong, only an order in a list is.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Item, Trace, ViewRecord};

use crate::ReplayError;
use crate::checks::bindings::range;

/// Launches of one interval that are looked at.
const NODES_MAX: usize = 1 << 20;
/// Buffers before an address that may be long enough to hold it.
const NESTED_MAX: usize = 16;

/// What one launch, copy or fill has the addresses of.
#[derive(Debug, Default)]
struct Node {
    operands: BTreeSet<BufferId>,
    /// What a copy or fill writes for certain.
    written: BTreeSet<BufferId>,
}

/// Where in what ran a buffer comes to be written, and which part of what else that launch has differs, in
/// thousandths: the fewer of its other operands do, the more likely it is that the difference arose there.
pub(crate) type Order = (usize, u32);

/// The order of buffers in program items of another engine that ran one after the other; those that nothing there
/// has the address of are left out.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn order(
    trace: &Trace,
    items: &[Item],
    buffers: &[BufferId],
    differing: &BTreeSet<BufferId>,
) -> Result<BTreeMap<BufferId, Order>, ReplayError> {
    let mut placed: Vec<(u64, u64, BufferId)> =
        buffers.iter().filter_map(|&id| range(trace, id).map(|(start, end)| (start, end, id))).collect();
    placed.sort_unstable();
    let mut nodes = Vec::new();
    for item in items {
        match item {
            Item::GraphLaunch { graph, .. } => {
                let Some(record) = trace.graph(*graph) else { continue };
                let program = trace.program(record.program)?;
                nodes.extend(program.items.iter().filter_map(|item| node(trace, item, &placed)));
            }
            item => nodes.extend(node(trace, item, &placed)),
        }
        if nodes.len() > NODES_MAX {
            break;
        }
    }
    let mut first: BTreeMap<BufferId, usize> = BTreeMap::new();
    let mut fed_back: BTreeMap<BufferId, usize> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let (old, new): (Vec<BufferId>, Vec<BufferId>) =
            node.operands.iter().partition(|operand| first.contains_key(operand));
        for &buffer in &new {
            first.insert(buffer, at);
            if !old.is_empty() || node.written.contains(&buffer) {
                found.insert(buffer, at);
            }
        }
        if new.is_empty() {
            fed_back.extend(old.into_iter().map(|buffer| (buffer, at)));
        }
    }
    for (&buffer, &at) in &first {
        found.entry(buffer).or_insert_with(|| fed_back.get(&buffer).copied().unwrap_or(at));
    }
    // Of the nodes that are asked for, each once: how many operands, and how many of them differ.
    let mut counts: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for &at in found.values() {
        let count = |node: &Node| (node.operands.len(), node.operands.intersection(differing).count());
        counts.entry(at).or_insert_with(|| nodes.get(at).map_or((0, 0), count));
    }
    let share = |buffer: BufferId, at: usize| {
        let (others, differ) = counts.get(&at).copied().unwrap_or_default();
        let others = others.saturating_sub(1).max(1);
        (differ.saturating_sub(usize::from(differing.contains(&buffer))) * 1000 / others) as u32
    };
    Ok(found.into_iter().map(|(buffer, at)| (buffer, (at, share(buffer, at)))).collect())
}

/// What an item has the addresses of, if anything of interest.
fn node(trace: &Trace, item: &Item, placed: &[(u64, u64, BufferId)]) -> Option<Node> {
    let mut found = Node::default();
    let within = |address: u64, bytes: u64| {
        let end = address.saturating_add(bytes.max(1));
        let until = placed.partition_point(|p| p.0 < end);
        placed[..until].iter().rev().take(NESTED_MAX).filter(move |p| address < p.1).map(|p| p.2)
    };
    let address = |view: &ViewRecord| trace.buffer(view.buffer)?.address?.checked_add(view.offset);
    match item {
        Item::Opaque(launch) => {
            let addresses = launch.operands.iter().filter_map(|(.., view)| address(view));
            found.operands.extend(addresses.flat_map(|address| within(address, 1)));
        }
        Item::Copy { source_address, target_address, bytes, .. } => {
            found.operands.extend(within(*source_address, *bytes));
            found.written.extend(within(*target_address, *bytes));
        }
        Item::Fill { target_address, bytes, .. } => found.written.extend(within(*target_address, *bytes)),
        _ => return None,
    }
    found.operands.extend(found.written.iter().copied());
    (!found.operands.is_empty()).then_some(found)
}
