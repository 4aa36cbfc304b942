//! The steps of a trace in order, as places.

use twinstep_traces::{StepKind, Trace};

use crate::ReplayError;
use crate::at::{At, place};

/// One step or codec section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedStep {
    /// Where.
    pub at: At,
    /// Whether it is a request's codec section.
    pub codec: bool,
    /// What the host decided after it: `continue`, `stop`; empty where nothing was read.
    pub decision: String,
    /// Names of the snapshot points, in order.
    pub points: Vec<String>,
}

/// All steps and codec sections, in order of recording. Set-up is not among them.
///
/// # Errors
/// [`ReplayError::Read`].
pub fn step_list(trace: &Trace) -> Result<Vec<ListedStep>, ReplayError> {
    let mut steps = Vec::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        let Some(at) = place(&step) else { continue };
        let decision = step.host_reads.iter().rev().find(|r| !r.decision.is_empty());
        steps.push(ListedStep {
            at,
            codec: step.kind == StepKind::Codec,
            decision: decision.map_or(String::new(), |r| r.decision.clone()),
            points: step.points.iter().map(|p| p.point.clone()).collect(),
        });
    }
    Ok(steps)
}
