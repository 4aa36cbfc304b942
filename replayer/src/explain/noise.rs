//! Divergence or noise: engines that are not equal to themselves.

use twinstep_traces::Trace;

use crate::ReplayError;
use crate::at::{At, find};
use crate::diff::{StepState, diff};
use crate::explain::{Evidence, ExplainReport};
use crate::kind::Kind;
use crate::recorded::snapshot;
use crate::value::{Value, is_float};

/// Whether A differs from a second run of its own mode at this step or before, in every buffer in which it
/// differs from B and by no less. The verdict is written then.
pub(crate) fn is_noise(
    a: &Trace,
    b: &Trace,
    control: &Trace,
    at: At,
    report: &mut ExplainReport,
) -> Result<bool, ReplayError> {
    let mut note = |text: String| {
        report.evidence.push(Evidence { what: "control", at: Some(at.to_string()), node: None, text });
    };
    if find(control, at).is_err() {
        note("the control run has no such step: it does not tell noise from divergence here".to_owned());
        return Ok(false);
    }
    let own = diff(a, control, &[])?;
    let before = |s: &crate::diff::StepDiff| {
        let step = at.step.unwrap_or(u32::MAX);
        (s.request, s.step) <= (at.request, step)
    };
    if !own.steps.iter().filter(|s| before(s)).any(|s| s.state == StepState::Diverged) {
        note("the control run equals A up to here: the difference is no noise".to_owned());
        return Ok(false);
    }
    let (mut worst, mut within) = (0.0f64, true);
    for buffer in a.buffers() {
        let against = |other: &Trace| greatest(a, other, at, &buffer.name);
        let (theirs, mine) = (against(b)?, against(control)?);
        worst = worst.max(theirs);
        within &= theirs <= mine;
    }
    let text = if within {
        format!("A differs from B by no more than from its control run (at most {worst:e})")
    } else {
        "A differs from its control run as well, but less than from B".to_owned()
    };
    note(text.clone());
    if within {
        report.verdict.kind = Kind::Noise;
        (report.verdict.request, report.verdict.step) = (Some(at.request), at.step);
        report.verdict.text =
            format!("No cause is named: {text}. Two runs of this mode are not equal to each other.");
    }
    Ok(within)
}

/// The greatest absolute difference of a buffer after a step; infinite where it cannot be measured.
fn greatest(a: &Trace, b: &Trace, at: At, name: &str) -> Result<f64, ReplayError> {
    let read = |trace: &Trace| {
        let step = find(trace, at)?;
        let id = crate::selection::resolve(trace, &step, name)?;
        let Some(after) = snapshot(&step, "step.after") else { return Ok(None) };
        Ok::<_, ReplayError>(trace.read_buffer(after, id)?.zip(trace.buffer(id).map(|b| b.dtype)))
    };
    let (Ok(x), Ok(y)) = (read(a), read(b)) else { return Ok(0.0) };
    let (Some((x, dtype)), Some((y, _))) = (x, y) else { return Ok(0.0) };
    if x == y {
        return Ok(0.0);
    }
    if !is_float(dtype) || x.len() != y.len() {
        return Ok(f64::INFINITY);
    }
    let pairs = Value::all(dtype, &x).zip(Value::all(dtype, &y));
    let distance = pairs.map(|(x, y)| (x.to_f64() - y.to_f64()).abs());
    Ok(distance.fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) }))
}
