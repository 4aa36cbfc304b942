//! Divergences that are known: each has a reason, and one that no longer occurs fails.

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::assertion::policy::{Policy, PolicyError, Scope};
use crate::assertion::report::Divergent;
use crate::assertion::steps::Steps;

/// A known divergence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Line of the policy file.
    pub line: usize,
    /// Where.
    pub scope: Scope,
    /// Why it is accepted.
    pub reason: String,
}

/// The text of a policy with the given divergences added as expected; all else stays as it is.
///
/// # Errors
/// [`PolicyError`] where `policy` is no policy, or the reason is empty.
pub fn accept(policy: &str, divergences: &[Divergent], reason: &str) -> Result<String, PolicyError> {
    Policy::parse(policy)?;
    if reason.trim().is_empty() {
        return Err(PolicyError::at(policy, 0, "a divergence is accepted for a reason; this one is empty"));
    }
    let failed = |error: toml_edit::TomlError| PolicyError::at(policy, 0, error.message());
    let mut document: DocumentMut = policy.parse().map_err(failed)?;
    let entries = document.entry("expected").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    if let Some(entries) = entries.as_array_of_tables_mut() {
        for divergence in divergences {
            entries.push(entry(divergence, reason));
        }
    }
    Ok(document.to_string())
}

fn entry(divergence: &Divergent, reason: &str) -> Table {
    let mut table = Table::new();
    // In a pattern these mean something else, or nothing; any character stands for itself and more.
    table["buffer"] = value(divergence.buffer.replace(['@', '[', '*'], "?"));
    let steps = match divergence.last {
        None => Steps::codec_of(divergence.request),
        Some(last) => Steps::of(divergence.request, divergence.first, last),
    };
    table["steps"] = value(steps.to_string());
    table["point"] = value(match divergence.point.as_str() {
        "step.before" => "before".to_owned(),
        "step.after" => "after".to_owned(),
        point if point.contains('.') => point.to_owned(),
        point => format!("{point}*"),
    });
    table["reason"] = value(reason);
    table
}
