//! Places in a trace: `2`, `3:2`, `1:codec`.

use std::collections::BTreeSet;
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
    let mut requests = BTreeSet::new();
    let mut steps = BTreeSet::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        let Some(here) = place(&step) else { continue };
        if here == at {
            return Ok(index);
        }
        requests.insert(here.request);
        if here.request == at.request {
            steps.extend(here.step);
        }
    }
    let request = at.request;
    Err(ReplayError::Place(if requests.is_empty() {
        format!("there is no step {at}: the trace has no steps")
    } else if !requests.contains(&request) {
        let n = requests.len();
        let plural = if n == 1 { "request, number" } else { "requests, numbers" };
        format!("there is no step {at}: the trace has {n} {plural} {}", numbers(&requests))
    } else if at.step.is_none() {
        format!("request {request} has no codec section in this trace")
    } else if steps.is_empty() {
        format!("there is no step {at}: of request {request} the trace has its codec section alone")
    } else {
        let plural = if steps.len() == 1 { "step" } else { "steps" };
        format!("there is no step {at}: request {request} has {plural} {}", numbers(&steps))
    }))
}

/// Numbers as ranges of those that follow each other: `1 to 3, 7`; of many ranges the first.
fn numbers(all: &BTreeSet<u32>) -> String {
    const RANGES: usize = 8;
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &n in all {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let one = |&(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a} to {b}") };
    let shown: Vec<String> = ranges.iter().take(RANGES).map(one).collect();
    let more = if ranges.len() > RANGES { ", ..." } else { "" };
    shown.join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_they_are() {
        let told = |list: &[u32]| numbers(&list.iter().copied().collect());
        assert_eq!(told(&[1, 2, 7]), "1 to 2, 7");
        assert_eq!(told(&[3]), "3");
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[0, 2, 4, 6, 8, 10, 12, 14, 16]), "0, 2, 4, 6, 8, 10, 12, 14, ...");
        assert_eq!(told(&[u32::MAX - 1, u32::MAX]), "4294967294 to 4294967295");
    }
}
