//! Runs of other engines, as `FORMAT.md` has them under "Foreign engines".

use std::collections::BTreeSet;

use twinstep_traces::{Item, ProgramId, RunRecord, Trace};

use crate::ReplayError;

/// Whether a run is of another engine.
pub fn is_foreign(run: &RunRecord) -> bool {
    run.notes.iter().any(|(key, value)| key == "engine" && value == "foreign")
}

/// Whether a note describes the recording and not what was run: runs that differ in it are comparable.
pub(crate) fn describes_recording(key: &str) -> bool {
    ["process.", "source.", "recorder."].iter().any(|prefix| key.starts_with(prefix))
}

/// Whether a graph launch would be in the trace: our own engine, a process that was attached to, or whoever has
/// recorded one. The Python package by itself and dumps see none, whatever their mode is called.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn sees_graphs(trace: &Trace) -> Result<bool, ReplayError> {
    let run = trace.run();
    if !is_foreign(run) || run.tool.starts_with("twinstep attach") {
        return Ok(true);
    }
    let mut looked_at = BTreeSet::new();
    for index in 0..trace.step_count() {
        let id = trace.step(index)?.program;
        if looked_at.insert(id) && trace.program(id)?.items.iter().any(|item| item.graph().is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anything that touches memory is recorded at all, our own launch or another engine's.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn tells_what_ran(trace: &Trace) -> Result<bool, ReplayError> {
    let touches = |item: &Item| {
        matches!(item, Item::Launch(_) | Item::Opaque(_) | Item::Copy { .. } | Item::Fill { .. })
    };
    for id in 0..trace.program_count() {
        if trace.program(ProgramId(id as u32))?.items.iter().any(touches) {
            return Ok(true);
        }
    }
    Ok(false)
}
