//! What must be equal, and how nearly: the rules of an assertion, read from TOML.

use std::fmt;

use crate::assertion::expected::Expected;
use crate::assertion::glob::Glob;
use crate::assertion::steps::Steps;
use crate::statistic::Statistic;

/// What an assertion demands. The default demands the same bits everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What becomes of the steps after the first codes that differ.
    pub after_fork: AfterFork,
    /// Rows that are looked at where a rule does not say.
    pub rows: Rows,
    /// Whether both recordings must have been closed.
    pub require_complete: bool,
    /// Whether a run in mode `graph` or `piecewise` must have launched a graph in a decode step.
    pub require_graph: bool,
    /// Whether the other ranks of both runs, where their traces lie beside the two, must pass too.
    pub require_ranks: bool,
    /// Whether in runs of other engines what the snapshots of one run cover must be covered by the other's too.
    pub require_buffers: bool,
    /// Whether a trace may be compared with itself.
    pub same_file: bool,
    /// Fewest steps on both sides, and fewest that are judged.
    pub min_steps: u32,
    /// The first that matches a place judges it; where none does, bits must be equal.
    pub rules: Vec<Rule>,
    /// Divergences that are known.
    pub expected: Vec<Expected>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            after_fork: AfterFork::Stop,
            rows: Rows::All,
            require_complete: true,
            require_graph: true,
            require_ranks: true,
            require_buffers: true,
            same_file: false,
            min_steps: 2,
            rules: Vec::new(),
            expected: Vec::new(),
        }
    }
}

/// What becomes of a request's steps after the first codes that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFork {
    /// They are not judged.
    Stop,
    /// A fork fails.
    Fail,
}

/// Rows of the batch that are looked at, of buffers that have rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    All,
    /// The one that the step's request occupies.
    Occupied,
}

/// Where a rule or an expected divergence holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Names of buffers.
    pub buffer: Glob,
    /// Steps.
    pub steps: Steps,
    /// Snapshot points: `step.after`.
    pub point: Glob,
}

impl Scope {
    /// Whether it holds at a step (`None` is the codec section) and point, whatever the buffer.
    pub(crate) fn holds_at(&self, request: u32, step: Option<u32>, point: &str) -> bool {
        self.steps.contains(request, step) && self.point.matches(point)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.buffer)?;
        if self.steps != Steps::default() {
            write!(f, " {}", self.steps)?;
        }
        match self.point.to_string().as_str() {
            "*" => Ok(()),
            "step.before" => write!(f, " before"),
            "step.after" => write!(f, " after"),
            point => write!(f, " {point}"),
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As given, or made of its parts.
    pub name: String,
    /// Line of the policy file; 0 for a rule that no file holds.
    pub line: usize,
    /// Where it holds.
    pub scope: Scope,
    /// Rows that it looks at.
    pub rows: Rows,
    /// What it demands.
    pub demand: Demand,
}

/// What a rule demands of the values of both runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Demand {
    /// The same bits.
    Exact,
    /// At most so many representable values apart.
    Ulp(u64),
    /// Apart by no more than `abs`, or than `rel` of the greater magnitude, whichever allows more.
    Tolerance {
        /// Absolute.
        abs: f64,
        /// Relative.
        rel: f64,
    },
    /// A statistic of both apart by no more than that.
    Statistic {
        /// Which.
        of: Statistic,
        /// Absolute.
        abs: f64,
        /// Relative.
        rel: f64,
    },
    /// Along the last axis the same indices of the K greatest values, in the same order.
    TopK(u32),
    /// The same integers, whatever the integer type.
    Codes,
    /// Nothing, for a reason.
    Ignore(String),
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let band = |f: &mut fmt::Formatter<'_>, abs: f64, rel: f64| match (abs, rel) {
            (abs, 0.0) => write!(f, "abs {abs}"),
            (0.0, rel) => write!(f, "rel {rel}"),
            (abs, rel) => write!(f, "abs {abs} or rel {rel}"),
        };
        match self {
            Demand::Exact => write!(f, "exact"),
            Demand::Ulp(n) => write!(f, "ulp {n}"),
            Demand::Tolerance { abs, rel } => band(f, *abs, *rel),
            Demand::Statistic { of, abs, rel } => {
                write!(f, "{} within ", format!("{of:?}").to_lowercase())?;
                band(f, *abs, *rel)
            }
            Demand::TopK(k) => write!(f, "top_k {k}"),
            Demand::Codes => write!(f, "codes"),
            Demand::Ignore(_) => write!(f, "ignore"),
        }
    }
}

impl Rule {
    /// A rule that no file holds.
    pub fn new(scope: Scope, rows: Rows, demand: Demand) -> Rule {
        Rule { name: format!("{scope}: {demand}"), line: 0, scope, rows, demand }
    }

    /// What judges a place that no rule matches.
    pub(crate) fn rest(rows: Rows) -> Rule {
        let scope = Scope { buffer: Glob::new("*"), steps: Steps::default(), point: Glob::new("*") };
        Rule { name: "everything else: exact".to_owned(), line: 0, scope, rows, demand: Demand::Exact }
    }
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct PolicyError {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl PolicyError {
    /// At a byte of a text.
    pub(crate) fn at(text: &str, byte: usize, message: impl Into<String>) -> PolicyError {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        PolicyError { line, column, message: message.into() }
    }
}
