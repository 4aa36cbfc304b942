//! Executes one step again, with buffers patched.

use std::collections::BTreeMap;

use serde::Serialize;
use twinstep_traces::{Access, BufferId, SnapshotId, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find};
use crate::diff::comparable;
use crate::machine::{Machine, live_at};
use crate::patch::Patch;
use crate::program::{StepLaunch, launches};
use crate::weights::WeightSource;

/// `twinstep.step/1`.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Document type.
    pub schema: &'static str,
    /// Which step.
    pub at: String,
    /// Whether executing the step unpatched gave what was recorded: `equal` or `differs`.
    pub self_check: &'static str,
    /// What was patched.
    pub patches: Vec<PatchReport>,
    /// What the step wrote, compared.
    pub outputs: Vec<OutputReport>,
    /// Whether all outputs that both runs recorded equal the other run's; `None` without one, where nothing
    /// could be compared, or where the self-check differs.
    pub equals_other: Option<bool>,
    /// Buffers that only one side recorded after the step: not compared.
    pub not_compared: Vec<String>,
}

/// One patch and what it did.
#[derive(Debug, Clone, Serialize)]
pub struct PatchReport {
    /// As given.
    pub patch: String,
    /// Bytes that are different from before.
    pub bytes_changed: u64,
    /// Launches that read patched bytes before anything wrote them.
    pub read_by: Vec<String>,
    /// Why it proves nothing, where that is so.
    pub no_effect: Option<String>,
}

/// One buffer after the step.
#[derive(Debug, Clone, Serialize)]
pub struct OutputReport {
    /// Name with generation.
    pub buffer: String,
    /// Whether it differs from the recording of the same run.
    pub changed: bool,
    /// Whether it equals the other run's; `None` without one.
    pub equals_other: Option<bool>,
}

/// The snapshot of a step's point.
pub(crate) fn snapshot(step: &StepRecord, point: &str) -> Option<SnapshotId> {
    step.points.iter().find(|p| p.point == point).map(|p| p.snapshot)
}

/// Executes step `at` of `trace` again from its recorded state: once unpatched as a check of this very
/// machine, then with the patches.
///
/// # Errors
/// [`ReplayError`] where the step does not exist, cannot be executed, or a patch cannot be made.
pub fn step(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    weights: &dyn WeightSource,
) -> Result<StepReport, ReplayError> {
    let record = find(trace, at)?;
    if let Some(other) = other {
        comparable(trace, other)?;
    }
    let patches =
        patches.iter().map(|text| Patch::parse(trace, &record, text)).collect::<Result<Vec<_>, _>>()?;
    let (Some(_), Some(after)) = (snapshot(&record, "step.before"), snapshot(&record, "step.after")) else {
        return Err(ReplayError::Opaque(format!("step {at} has no snapshot before and after it")));
    };
    let (plain, _) = execute(trace, other, at, &record, &[], weights)?;
    let mut self_check = "equal";
    for (&id, bytes) in &plain {
        if trace.read_buffer(after, id)?.is_some_and(|recorded| recorded != *bytes) {
            self_check = "differs";
        }
    }
    let (outcome, reports) = execute(trace, other, at, &record, &patches, weights)?;
    let (outputs, not_compared) = compare(trace, other, at, after, &outcome)?;
    // Nothing compared, or a machine that does not reproduce the recording, proves nothing.
    let compared = outputs.iter().any(|o| o.equals_other.is_some()) && self_check == "equal";
    let equals_other =
        other.filter(|_| compared).map(|_| outputs.iter().all(|o| o.equals_other != Some(false)));
    Ok(StepReport {
        schema: "twinstep.step/1",
        at: at.to_string(),
        self_check,
        patches: reports,
        outputs,
        equals_other,
        not_compared,
    })
}

type State = BTreeMap<BufferId, Vec<u8>>;

/// Runs the step once; gives what it left in the buffers that its `after` covers.
fn execute(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    step: &StepRecord,
    patches: &[Patch],
    weights: &dyn WeightSource,
) -> Result<(State, Vec<PatchReport>), ReplayError> {
    let mut machine = Machine::new(trace, weights)?;
    let live = live_at(trace, step)?;
    for &id in &live {
        machine.allocate(id)?;
    }
    let nodes = launches(trace, step)?;
    if let Some(before) = snapshot(step, "step.before") {
        machine.restore(before)?;
    }
    let mut reports = Vec::new();
    let mut changed: Vec<(BufferId, Vec<(u64, u64)>)> = Vec::new();
    for patch in patches {
        let id = patch.selection.buffer;
        if !live.contains(&id) {
            return Err(ReplayError::Patch {
                patch: patch.text.clone(),
                what: format!("`{}` does not exist at step {at}", patch.selection.name),
            });
        }
        let present = machine.whole(id)?;
        let patched = patch.apply(trace, other, at, present.clone())?;
        let ranges = differing(&present, &patched);
        machine.write(id, 0, &patched)?;
        let bytes_changed = ranges.iter().map(|(a, b)| b - a).sum();
        reports.push(PatchReport {
            patch: patch.text.clone(),
            bytes_changed,
            read_by: Vec::new(),
            no_effect: None,
        });
        changed.push((id, ranges));
    }
    let program = trace.program(step.program)?;
    let mut next = nodes.iter().peekable();
    for position in 0..=program.items.len() as u32 {
        // Host writes before the program are in the `before` snapshot already.
        for write in step.host_writes.iter().filter(|w| w.position == position && position > 0) {
            machine.write(write.buffer, write.offset, &write.bytes)?;
            overwrite(&mut changed, write.buffer, write.offset, write.offset + write.bytes.len() as u64);
        }
        while let Some(node) = next.next_if(|node| node.item == position) {
            let launch = machine.launch(&node.record)?;
            if !changed.is_empty() {
                follow(&mut machine, &launch, &node.record, &mut changed, &mut reports)?;
            }
            machine.run(&launch)?;
        }
    }
    let mut state = State::new();
    if let Some(after) = snapshot(step, "step.after") {
        for id in trace.covered(after)? {
            state.insert(id, machine.whole(id)?);
        }
    }
    for (report, (id, _)) in reports.iter_mut().zip(&changed) {
        report.no_effect = no_effect(trace, report, *id, &nodes);
    }
    Ok((state, reports))
}

/// Notes which patched bytes a launch reads, then forgets those that it writes.
fn follow(
    machine: &mut Machine<'_>,
    launch: &twinstep_kernels::Launch,
    record: &twinstep_traces::LaunchRecord,
    changed: &mut [(BufferId, Vec<(u64, u64)>)],
    reports: &mut [PatchReport],
) -> Result<(), ReplayError> {
    let touched = machine.touched(launch)?;
    for ((id, ranges), report) in changed.iter().zip(reports.iter_mut()) {
        let meets = |(buffer, start, end, access): &(BufferId, u64, u64, twinstep_kernels::Access)| {
            buffer == id && access.reads() && ranges.iter().any(|(a, b)| a < end && start < b)
        };
        if touched.iter().any(meets) {
            report.read_by.push(if record.label.is_empty() {
                record.op.clone()
            } else {
                record.label.clone()
            });
        }
    }
    for (buffer, start, end, access) in touched {
        // What is read and written depends on the patch from here on; only clean overwriting ends it.
        if access == twinstep_kernels::Access::Write {
            overwrite(changed, buffer, start, end);
        }
    }
    Ok(())
}

fn overwrite(changed: &mut [(BufferId, Vec<(u64, u64)>)], buffer: BufferId, start: u64, end: u64) {
    for (_, ranges) in changed.iter_mut().filter(|(id, _)| *id == buffer) {
        *ranges = ranges
            .iter()
            .flat_map(|&(a, b)| [(a, b.min(start)), (a.max(end), b)])
            .filter(|(a, b)| a < b)
            .collect();
    }
}

/// Maximal ranges of bytes that differ.
fn differing(a: &[u8], b: &[u8]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for i in (0..a.len().min(b.len())).filter(|&i| a[i] != b[i]) {
        match ranges.last_mut() {
            Some(last) if last.1 == i as u64 => last.1 += 1,
            _ => ranges.push((i as u64, i as u64 + 1)),
        }
    }
    ranges
}

fn no_effect(trace: &Trace, report: &PatchReport, id: BufferId, nodes: &[StepLaunch]) -> Option<String> {
    if report.bytes_changed == 0 {
        return Some("it changes no byte: that is the value already".to_owned());
    }
    if !report.read_by.is_empty() {
        return None;
    }
    let patched = trace.buffer(id)?;
    // The usual reason: a graph bound another generation of the name.
    let bound = nodes.iter().find_map(|node| {
        let same_name = |v: &&twinstep_traces::ViewRecord| {
            let reads = matches!(v.access, Access::Read | Access::ReadWrite);
            reads && v.buffer != id && trace.buffer(v.buffer).is_some_and(|b| b.name == patched.name)
        };
        node.record.views.iter().find(same_name).and_then(|v| trace.buffer(v.buffer)).map(|b| (b, node))
    });
    Some(match bound {
        Some((bound, node)) => {
            format!("no launch reads it: {} reads {}@{}", node.name(), bound.name, bound.generation)
        }
        None => "no launch of the step reads the patched bytes before they are written".to_owned(),
    })
}

fn compare(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    after: SnapshotId,
    outcome: &State,
) -> Result<(Vec<OutputReport>, Vec<String>), ReplayError> {
    let theirs =
        other.map(|other| find(other, at).map(|step| (other, snapshot(&step, "step.after")))).transpose()?;
    let mut outputs = Vec::new();
    let mut not_compared = Vec::new();
    for (&id, bytes) in outcome {
        let Some(record) = trace.buffer(id) else { continue };
        let name = format!("{}@{}", record.name, record.generation);
        let changed = trace.read_buffer(after, id)?.is_some_and(|recorded| recorded != *bytes);
        let mut equals_other = None;
        if let Some((other, Some(snapshot))) = theirs {
            let found = other.find_buffer(&record.name, Some(record.generation));
            match found.map(|id| other.read_buffer(snapshot, id)).transpose()?.flatten() {
                Some(value) => equals_other = Some(value == *bytes),
                None => not_compared.push(name.clone()),
            }
        }
        outputs.push(OutputReport { buffer: name, changed, equals_other });
    }
    Ok((outputs, not_compared))
}
