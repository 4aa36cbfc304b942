//! How a recording ended, where it did not simply close: nobody should take the rest of a run for what is there.

use twinstep_traces::{Item, Trace};

use crate::ReplayError;
use crate::at::place;

/// What recorders mark an exception with that ended the run.
const EXCEPTION: &str = "exception: ";

/// In words, with the step: an exception that the recorder noted, and a recording that was cut off.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn endings(trace: &Trace, name: &str) -> Result<Vec<String>, ReplayError> {
    let mut said = Vec::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        let here = place(&step).map_or("set-up".to_owned(), |at| format!("step {at}"));
        for item in &trace.program(step.program)?.items {
            if let Item::Mark { text } = item
                && let Some(exception) = text.strip_prefix(EXCEPTION)
            {
                said.push(format!("{name} ended in {here} by an exception: {exception}"));
            }
        }
    }
    // A graph's program can be shared by steps; the last one is where it ended.
    said.drain(..said.len().saturating_sub(1));
    said.extend(cut_off(trace, name)?);
    Ok(said)
}

/// The same of a recording that was cut off.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn cut_off(trace: &Trace, name: &str) -> Result<Option<String>, ReplayError> {
    if trace.complete() {
        return Ok(None);
    }
    let mut last = None;
    for index in (0..trace.step_count()).rev() {
        last = place(&trace.step(index)?);
        if last.is_some() {
            break;
        }
    }
    let last = last.map_or("before its first step".to_owned(), |at| format!("after step {at}"));
    Ok(Some(match trace.recording() {
        true => format!("{name} is still being recorded: what is there ends {last}"),
        false => format!("{name} is not complete: its recording was cut off {last}"),
    }))
}
