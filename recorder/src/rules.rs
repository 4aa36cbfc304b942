//! The invariants of the embedded voice's decode loop, as data for whoever checks traces.

/// A rules file for traces whose run record names this model; `voice/rules.toml`.
pub const RULES: &str = include_str!("../voice/rules.toml");
