//! What memory holds in the middle of a step, or after it with patches: the step executed again up to there.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Role, Trace};

use crate::ReplayError;
use crate::at::{At, find};
use crate::machine::{Machine, live_at};
use crate::patch::Patch;
use crate::program::launches;
use crate::slice::SLICE_BYTES_MAX;
use crate::step::snapshot;
use crate::weights::WeightSource;

/// The memory of a step that was executed again.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// How many launches ran: all of the step's, or as many as asked for.
    pub launches: usize,
    /// Contents of all buffers that exist, but for weights and tables.
    pub buffers: BTreeMap<BufferId, Vec<u8>>,
    /// Buffers that are not among them: together with the smaller ones they are too large to keep.
    pub left_out: Vec<BufferId>,
}

/// Executes the first `upto` launches of a step again (all without it) on its recorded state with the
/// patches made, and gives what memory then holds.
///
/// # Errors
/// As for [`step`](crate::step()).
pub fn rerun(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    upto: Option<usize>,
    weights: &dyn WeightSource,
) -> Result<Rerun, ReplayError> {
    let step = find(trace, at)?;
    let before = snapshot(&step, "step.before")
        .ok_or_else(|| ReplayError::Opaque(format!("step {at} has no snapshot before it")))?;
    let nodes = launches(trace, &step)?;
    let live = live_at(trace, &step)?;
    let mut machine = Machine::new(trace, weights)?;
    for &id in &live {
        machine.allocate(id)?;
    }
    machine.restore(before)?;
    for text in patches {
        let patch = Patch::parse(trace, &step, text)?;
        let id = patch.selection.buffer;
        let present = machine.whole(id)?;
        let patched = patch.apply(trace, other, at, present)?;
        machine.write(id, 0, &patched)?;
    }
    let items = trace.program(step.program)?.items.len() as u32;
    let limit = upto.unwrap_or(usize::MAX);
    let mut next = nodes.iter().peekable();
    let mut ran = 0;
    'program: for position in 0..=items {
        // Host writes before the program are in the `before` snapshot already.
        for write in step.host_writes.iter().filter(|w| w.position == position && position > 0) {
            machine.write(write.buffer, write.offset, &write.bytes)?;
        }
        while let Some(node) = next.next_if(|node| node.item == position) {
            if ran == limit {
                break 'program;
            }
            let launch = machine.launch(&node.record)?;
            machine.run(&launch)?;
            ran += 1;
        }
    }
    let mut wanted: Vec<(u64, BufferId)> = Vec::new();
    for id in live {
        let Some(record) = trace.buffer(id) else { continue };
        if !matches!(record.role, Role::Weight | Role::Table) {
            wanted.push((record.bytes, id));
        }
    }
    wanted.sort_unstable();
    let mut outcome = Rerun { launches: ran, buffers: BTreeMap::new(), left_out: Vec::new() };
    let mut kept = 0;
    for (bytes, id) in wanted {
        kept += bytes;
        if kept > SLICE_BYTES_MAX {
            outcome.left_out.push(id);
        } else {
            outcome.buffers.insert(id, machine.whole(id)?);
        }
    }
    Ok(outcome)
}
