//! A model's own invariants, written down as data and checked on one trace from its snapshots.
//!
//! A rules file is TOML; `RULES.md` beside this crate's `Cargo.toml` describes it. Nothing is executed
//! and no weights are needed: a rule looks at what was recorded before and after each step.
//!
//! ```
//! use twinstep_replayer::Rules;
//!
//! let text = r#"
//! [[rule]]
//! name = "seq-len-grows"
//! text = "Each step adds one token to the request's row"
//! each = "row"
//! when = "step > 1"
//! holds = "before.seq_lens == previous.before.seq_lens + 1"
//! "#;
//! assert!(Rules::parse("mine.toml", text).is_ok());
//!
//! let error = Rules::parse("mine.toml", &text.replace("previous.", "last.")).unwrap_err();
//! assert!(error.to_string().starts_with("mine.toml:7:29: unknown name `last`"), "{error}");
//! ```

mod check;
mod describe;
mod error;
mod evaluate;
mod expression;
mod file;
mod moment;
mod parse;
mod token;

use std::collections::BTreeMap;

use serde::Serialize;
use twinstep_traces::Trace;

pub use error::RulesError;
use evaluate::Scalar;
use expression::Expression;

use crate::{Finding, Kind, ReplayError};

/// The rules of a file.
#[derive(Debug, Clone)]
pub struct Rules {
    model: Option<String>,
    constants: BTreeMap<String, Scalar>,
    profiles: BTreeMap<String, BTreeMap<String, Scalar>>,
    rules: Vec<Rule>,
}

/// What a rule is evaluated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    /// Once a step, on whole buffers.
    Step,
    /// For the row that the request occupies.
    Row,
    /// For every row that no request of the trace occupies.
    Padding,
}

/// One invariant.
#[derive(Debug, Clone)]
struct Rule {
    name: String,
    text: String,
    kind: Kind,
    each: Each,
    when: Option<Expression>,
    holds: Expression,
}

impl Rule {
    fn looks_back(&self) -> bool {
        let names = self.when.iter().chain([&self.holds]).flat_map(Expression::buffers);
        names.into_iter().any(|name| name.point.previous)
    }
}

/// What came of checking a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RulesReport {
    /// One for each rule that is broken: the first step that breaks it. In order of recording.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub not_looked_at: Vec<String>,
    /// Rules that were evaluated at one step at least.
    pub rules_checked: usize,
    /// Steps at which one rule at least was evaluated.
    pub steps_checked: usize,
}

impl Rules {
    /// Reads a rules file; `name` is what errors call it.
    ///
    /// # Errors
    /// [`RulesError`] with the place of the first mistake, in TOML and in expressions alike.
    pub fn parse(name: &str, text: &str) -> Result<Rules, RulesError> {
        file::rules(name, text)
    }

    /// The model that the file is written for, as run records name it.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Each rule's name, mechanism and sentence, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Kind, &str)> {
        self.rules.iter().map(|rule| (rule.name.as_str(), rule.kind, rule.text.as_str()))
    }

    /// Checks every rule at every prefill and decode step of a trace.
    ///
    /// # Errors
    /// [`ReplayError::Read`] where the trace is damaged. What a trace merely lacks is in
    /// [`RulesReport::not_looked_at`].
    pub fn check(&self, trace: &Trace) -> Result<RulesReport, ReplayError> {
        check::check(self, trace)
    }
}
