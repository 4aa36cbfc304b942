//! Which rules a trace is held against.

use std::path::Path;

use twinstep_recorder::RULES;
use twinstep_replayer::{Finding, ReplayError, Rules, check};
use twinstep_traces::Trace;

use crate::failure::Failure;

/// The rules of a file, or those that come with the embedded voice's model.
pub(crate) struct RuleSet {
    rules: Rules,
    given: bool,
}

impl RuleSet {
    /// Reads a rules file.
    ///
    /// # Errors
    /// One line with the place of the mistake.
    pub(crate) fn new(file: Option<&Path>) -> Result<RuleSet, Failure> {
        let (name, text) = match file {
            Some(path) => {
                let cannot = |e| Failure::new("rules", format!("cannot read {}: {e}", path.display()));
                (path.display().to_string(), std::fs::read_to_string(path).map_err(cannot)?)
            }
            None => ("the embedded rules".to_owned(), RULES.to_owned()),
        };
        let rules = Rules::parse(&name, &text)
            .map_err(|e| Failure::new("rules", e).hint("the language is described in replayer/RULES.md"))?;
        Ok(RuleSet { rules, given: file.is_some() })
    }

    /// The rules that speak of a trace: a file's always, the embedded ones where its model is theirs.
    pub(crate) fn of(&self, trace: &Trace) -> Option<&Rules> {
        let same = self.rules.model() == Some(trace.run().model.as_str());
        (self.given || same).then_some(&self.rules)
    }

    /// What a rule says, for `check --explain`.
    pub(crate) fn explanation(&self, name: &str) -> Option<String> {
        let (_, kind, text) = self.rules.iter().find(|(known, ..)| *known == name)?;
        Some(format!("{text}\n\nA rule of the model. Broken, it speaks for {kind}: {}", kind.meaning()))
    }

    /// The names of all rules.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|(name, ..)| name)
    }

    /// What checks and rules find on one trace.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(crate) fn findings(&self, trace: &Trace) -> Result<Vec<Finding>, ReplayError> {
        let mut report = check(trace)?;
        if let Some(rules) = self.of(trace) {
            let found = rules.check(trace)?;
            report.add(found.findings, found.not_looked_at);
        }
        Ok(report.findings)
    }
}
