//! The verdict where a control run shows that the difference is noise.

use twinstep_traces::Trace;

use crate::ReplayError;
use crate::at::{At, find};
use crate::diff::{DiffReport, StepState};
use crate::explain::{Evidence, ExplainReport, ends_early};
use crate::kind::Kind;
use crate::requests::Requests;

/// What a comparison of A and B against A's control says: whether no difference is beyond noise. The verdict
/// is written then; otherwise what the control tells becomes evidence.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn is_noise(
    a: &Trace,
    control: &Trace,
    differences: &DiffReport,
    at: At,
    report: &mut ExplainReport,
) -> Result<bool, ReplayError> {
    let Some(told) = &differences.control else { return Ok(false) };
    let mut note = |text: String| {
        report.evidence.push(Evidence { what: "control", at: Some(at.to_string()), node: None, text });
    };
    if !told.noisy.is_empty() {
        note(told.line());
    }
    told.notes.iter().for_each(|text| note(text.clone()));
    if find(control, Requests::of(a, control).of_a(at)).is_err() {
        note("the control run has no such step: it does not tell noise from divergence here".to_owned());
    }
    let within = !differences.steps.iter().any(|s| s.state == StepState::Diverged);
    if told.noisy.is_empty() {
        note("the control run equals A: the difference is no noise".to_owned());
        return Ok(false);
    }
    let names: Vec<&str> = told.noisy.iter().map(|n| n.buffer.as_str()).take(8).collect();
    let names = names.join(", ");
    if !within {
        note(format!("A differs from its control run as well ({names}), but in less than from B"));
        return Ok(false);
    }
    let text = format!("A differs from B in no more than from its control run ({names})");
    note(text.clone());
    // Noise does not tell why one run has more steps.
    if ends_early(differences, None).is_some() {
        return Ok(false);
    }
    report.verdict.kind = Kind::Noise;
    (report.verdict.request, report.verdict.step) = (Some(at.request), at.step);
    report.verdict.text =
        format!("No cause is named: {text}. Two runs of this mode are not equal to each other.");
    Ok(true)
}
