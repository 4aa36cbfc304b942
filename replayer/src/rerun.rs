//! What memory holds in the middle of a step, or after it with patches: the step executed again up to there.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Role, Trace};

use crate::ReplayError;
use crate::at::At;
use crate::hybrid::{Hybrid, Watch};
use crate::machine::Machine;
use crate::recorded::Run;
use crate::slice::SLICE_BYTES_MAX;
use crate::step::on_step;
use crate::weights::WeightSource;

/// The memory of a step that was executed again.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// How many launches ran.
    pub launches: usize,
    /// Contents of buffers.
    pub buffers: BTreeMap<BufferId, Vec<u8>>,
    /// Buffers that are not among them: together with the smaller ones they are too large to keep.
    pub left_out: Vec<BufferId>,
}

/// Executes the first `upto` launches of a step again on its recorded state, and gives what all buffers then
/// hold, but for weights and tables.
///
/// # Errors
/// [`ReplayError`] where the step does not exist or cannot be executed.
pub fn memory_inside(
    trace: &Trace,
    at: At,
    upto: usize,
    weights: &dyn WeightSource,
) -> Result<Rerun, ReplayError> {
    let run = Run::new(trace)?;
    let step = run.step(run.find(at)?)?;
    let mut machine = Machine::new(trace, weights)?;
    let mut present = step.live.clone();
    present.extend(step.before.keys());
    present.extend(step.launches.iter().flat_map(|l| l.record.views.iter().map(|v| v.buffer)));
    for &id in &present {
        machine.allocate(id)?;
    }
    for (&id, bytes) in &step.before {
        machine.write(id, 0, bytes)?;
    }
    // Host writes before the program are in the recorded state already.
    let mut writes = step.record.host_writes.iter().filter(|w| w.position > 0).peekable();
    for launch in step.launches.iter().take(upto) {
        while let Some(write) = writes.next_if(|w| w.position <= launch.item) {
            machine.write(write.buffer, write.offset, &write.bytes)?;
        }
        let prepared = machine.launch(&launch.record)?;
        machine.run(&prepared)?;
    }
    if upto >= step.launches.len() {
        for write in writes {
            machine.write(write.buffer, write.offset, &write.bytes)?;
        }
    }
    let mut wanted: Vec<(u64, BufferId)> = Vec::new();
    for id in present {
        let Some(record) = trace.buffer(id) else { continue };
        if !matches!(record.role, Role::Weight | Role::Table) {
            wanted.push((record.bytes, id));
        }
    }
    wanted.sort_unstable();
    let launches = upto.min(step.launches.len());
    let mut outcome = Rerun { launches, buffers: BTreeMap::new(), left_out: Vec::new() };
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

/// Executes a step again with patches, and gives what it left in the buffers that are recorded after it.
///
/// # Errors
/// As for [`step`](crate::step()).
pub fn patched_memory(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    weights: &dyn WeightSource,
) -> Result<Rerun, ReplayError> {
    on_step(trace, other, at, patches, |step, twin, patches| {
        let mut hybrid = Hybrid::new(step.run, weights)?;
        let outcome = hybrid.execute(step, twin, patches, None, Watch::Nothing)?;
        Ok(Rerun { launches: step.launches.len(), buffers: outcome.state, left_out: Vec::new() })
    })
}
