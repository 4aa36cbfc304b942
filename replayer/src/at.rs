//! Places in a trace: `2`, `3:2`, `1:codec`.

use std::fmt;
use std::str::FromStr;

use twinstep_traces::{StepKind, StepRecord, Trace};

use crate::ReplayError;

/// A step of a request, or its codec section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Request, counted from 1.
    pub request: u32,
    /// Step, 1 = prefill; `None` is the codec.
    pub step: Option<u32>,
}

impl FromStr for At {
    type Err = ReplayError;

    fn from_str(text: &str) -> Result<At, ReplayError> {
        let wrong = || {
            ReplayError::Place(format!("`{text}` is not a step: write 2, 3:2 (request 3, step 2) or 1:codec"))
        };
        let (request, step) = text.split_once(':').unwrap_or(("1", text));
        let request = request.parse().map_err(|_| wrong())?;
        let step = if step == "codec" { None } else { Some(step.parse().map_err(|_| wrong())?) };
        Ok(At { request, step })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) if self.request == 1 => write!(f, "{step}"),
            Some(step) => write!(f, "{}:{step}", self.request),
            None => write!(f, "{}:codec", self.request),
        }
    }
}

/// What a step record is, as a place; `None` for set-up.
pub(crate) fn place(step: &StepRecord) -> Option<At> {
    match step.kind {
        StepKind::Setup => None,
        StepKind::Codec => Some(At { request: step.request, step: None }),
        StepKind::Prefill | StepKind::Decode => Some(At { request: step.request, step: Some(step.step) }),
    }
}

/// The record of a step.
///
/// # Errors
/// [`ReplayError::Place`] with what there is.
pub(crate) fn find(trace: &Trace, at: At) -> Result<StepRecord, ReplayError> {
    Ok(trace.step(find_index(trace, at)?)?)
}

/// The index of a step's record.
///
/// # Errors
/// [`ReplayError::Place`] with what there is.
pub(crate) fn find_index(trace: &Trace, at: At) -> Result<usize, ReplayError> {
    if let Some(step) = at.step
        && let Some(index) = trace.find_step(at.request, step)?
        && place(&trace.step(index)?) == Some(at)
    {
        return Ok(index);
    }
    let mut last = 0;
    let mut steps = 0;
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        if place(&step) == Some(at) {
            return Ok(index);
        }
        last = last.max(step.request);
        if step.request == at.request && matches!(step.kind, StepKind::Prefill | StepKind::Decode) {
            steps = steps.max(step.step);
        }
    }
    Err(ReplayError::Place(match (at.step, steps) {
        (_, 0) => format!("there is no step {at}: the trace has {last} requests, counted from 1"),
        (None, _) => format!("request {} has no codec section in this trace", at.request),
        (Some(_), _) => format!("there is no step {at}: request {} has steps 1 to {steps}", at.request),
    }))
}
