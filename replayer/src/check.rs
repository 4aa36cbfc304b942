//! One-trace checks: what is wrong in a trace, from its log and the bytes that its launches use.

use serde::Serialize;
use twinstep_traces::Trace;

use crate::ReplayError;
use crate::checks::{ALL, Check, Found, not_on_foreign_runs};
use crate::finding::Finding;
use crate::foreign::is_foreign;
use crate::timeline::{Flow, Timeline};

/// `twinstep.check/1`.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Document type.
    pub schema: &'static str,
    /// In order of time; each once, however often it occurs.
    pub findings: Vec<Finding>,
    /// What no check looked at, and why.
    pub not_looked_at: Vec<String>,
}

impl CheckReport {
    /// Adds findings of rules, in order of time, and what they did not look at.
    pub fn add(&mut self, findings: Vec<Finding>, not_looked_at: Vec<String>) {
        self.findings.extend(findings);
        // Set-up is step 0 of request 0, so it comes first. Stable: checks before rules.
        self.findings.sort_by_key(|f| (f.request, f.step));
        self.not_looked_at.extend(not_looked_at);
    }
}

/// Looks for mistakes in one trace. Nothing is executed and no weights are needed.
///
/// # Errors
/// [`ReplayError::Read`] where the trace is damaged.
pub fn check(trace: &Trace) -> Result<CheckReport, ReplayError> {
    let mut checks: Vec<Box<dyn Check>> = ALL.iter().map(|check| (check.new)(trace)).collect();
    let mut found = Found::default();
    let timeline = Timeline::walk(trace, &mut |timeline, event| {
        found.next();
        for check in &mut checks {
            check.event(timeline, event, &mut found)?;
        }
        Ok(Flow::On)
    })?;
    for check in &mut checks {
        check.finish(&timeline, &mut found)?;
    }
    let (findings, notes) = found.finish();
    let foreign = is_foreign(trace.run())
        .then(|| format!("these checks judge nothing in a run of another engine: {}", not_on_foreign_runs()));
    let not_looked_at = foreign.into_iter().chain(timeline.notes().iter().cloned()).chain(notes).collect();
    Ok(CheckReport { schema: "twinstep.check/1", findings, not_looked_at })
}

/// Names of all checks, in the order of their reports.
pub fn check_names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|check| check.name)
}

/// What a check means, why it matters, where it was seen and how to confirm it; `None`: no such check.
pub fn check_explanation(name: &str) -> Option<&'static str> {
    ALL.iter().find(|check| check.name == name).map(|check| check.explanation)
}
