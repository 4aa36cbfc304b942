//! The buffers that the host copies to, by address.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, ChunkHash, GraphId, Item, ProgramId, SnapshotId, Trace};

use crate::checks::bindings::{is_unnamed, range};

/// Buffers that are followed.
const INPUTS_MAX: usize = 4096;
/// Names of other writers that are told apart.
const OTHERS_MAX: usize = 64;

/// A named buffer that the host copies to.
pub(super) struct Input {
    pub(super) start: u64,
    pub(super) end: u64,
    /// By chunk, at the last snapshot.
    pub(super) chunks: BTreeMap<u64, ChunkHash>,
    /// Changes that snapshots show.
    pub(super) version: u64,
    /// The step record and item just before which a snapshot showed it last, and that snapshot.
    pub(super) shown: Option<((u32, u32), SnapshotId)>,
    pub(super) window: Window,
    /// The last launch that read it, until a snapshot shows what that left.
    pub(super) launched: Option<(GraphId, u64)>,
}

/// What happened to an input since the last launch that read it.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// Copies from the host; of the first, the offset, where to and how many bytes.
    pub(super) copies: u32,
    pub(super) first: u64,
    pub(super) copy: (u64, u64),
    /// The step record and the stream of the last of them.
    pub(super) index: u32,
    pub(super) stream: u32,
    /// Anything else that may write it.
    pub(super) others: BTreeSet<String>,
    /// Something was not recorded.
    pub(super) gap: bool,
}

impl Window {
    /// Something else may have written it.
    pub(super) fn other(&mut self, name: String) {
        match self.others.len() < OTHERS_MAX {
            true => drop(self.others.insert(name)),
            false => self.gap = true,
        }
    }
}

/// All inputs of a run.
#[derive(Default)]
pub(super) struct Inputs {
    pub(super) all: BTreeMap<BufferId, Input>,
    /// By rising start, each with the greatest end up to it.
    placed: Vec<(u64, u64, BufferId)>,
    /// There were more than are followed.
    pub(super) cut: bool,
}

/// A copy from host memory to the device: where to, and how many bytes.
pub(super) fn from_host(item: &Item) -> Option<(u64, u64)> {
    match item {
        Item::Copy { source: None, source_address: 0, target_address, bytes, .. } if *target_address != 0 => {
            Some((*target_address, *bytes))
        }
        _ => None,
    }
}

/// The places in a run's memory that the host copies to at any time: disjoint, in rising order.
fn copied_to(trace: &Trace) -> Vec<(u64, u64)> {
    let mut copied: BTreeMap<u64, u64> = BTreeMap::new();
    for id in 0..trace.program_count() {
        let Ok(program) = trace.program(ProgramId(id as u32)) else { continue };
        for (target, bytes) in program.items.iter().filter_map(from_host) {
            let end = copied.entry(target).or_default();
            *end = (*end).max(target.saturating_add(bytes));
        }
    }
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in copied {
        match merged.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

impl Inputs {
    /// Of one trace.
    pub(super) fn of(trace: &Trace) -> Inputs {
        let mut inputs = Inputs::default();
        let copied = copied_to(trace);
        for (id, record) in (0..).zip(trace.buffers()) {
            let Some((start, end)) = range(trace, BufferId(id)) else { continue };
            let next = copied.partition_point(|r| r.1 <= start);
            if is_unnamed(&record.name) || copied.get(next).is_none_or(|r| r.0 >= end) {
                continue;
            }
            if inputs.all.len() == INPUTS_MAX {
                inputs.cut = true;
                break;
            }
            let input = Input {
                start,
                end,
                chunks: BTreeMap::new(),
                version: 0,
                shown: None,
                window: Window::default(),
                launched: None,
            };
            inputs.all.insert(BufferId(id), input);
        }
        inputs.placed = inputs.all.iter().map(|(&id, input)| (input.start, input.end, id)).collect();
        inputs.placed.sort_unstable();
        let mut reach = 0;
        for (_, end, _) in &mut inputs.placed {
            reach = reach.max(*end);
            *end = reach;
        }
        inputs
    }

    /// The inputs that have an address in a range, in no order, and how many had to be looked at.
    pub(super) fn within(&self, start: u64, end: u64) -> (Vec<BufferId>, u64) {
        let until = self.placed.partition_point(|p| p.0 < end);
        let near = self.placed[..until].iter().rev().take_while(|p| p.1 > start);
        let mut looked = 0;
        let overlaps = |id: &BufferId| self.all.get(id).is_some_and(|input| input.end > start);
        let found = near.inspect(|_| looked += 1).map(|p| p.2).filter(overlaps).collect();
        (found, looked)
    }
}
