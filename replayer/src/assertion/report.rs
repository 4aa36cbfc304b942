//! What an assertion found: plain data for people and programs.

use std::fmt;

use serde::Serialize;
use twinstep_traces::Trace;

use crate::assertion::policy::PolicyError;
use crate::diff::{Element, FirstDifference};
use crate::foreign::{is_foreign, tells_what_ran};
use crate::next::{print_command, quoted};
use crate::number::Number;
use crate::value::Value;
use crate::{At, ReplayError};

/// Why an assertion could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssertError {
    /// A trace cannot be read, or the two have nothing to say about each other.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A rule that makes no sense for what it matches.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
}

/// `twinstep.assert/1`.
#[derive(Debug, Clone, Serialize)]
pub struct AssertReport {
    /// Document type.
    pub schema: &'static str,
    /// Whether every guard and every rule passes and every expected divergence occurs.
    pub passes: bool,
    /// Conditions without which passing means nothing.
    pub guards: Vec<GuardReport>,
    /// The rules in the order of the policy, then what judges everything else.
    pub rules: Vec<RuleReport>,
    /// The expected divergences in the order of the policy.
    pub expected: Vec<ExpectedReport>,
    /// Steps that were judged, prefill and decode.
    pub steps_judged: usize,
    /// Where the runs first say different things, and how many steps were not judged for that.
    pub forks: Vec<ForkReport>,
    /// Buffers and points that only one side has, a few of them.
    pub not_compared: Vec<String>,
    /// How many there are.
    pub not_compared_count: usize,
    /// The first difference, as `diff` gives it; looked for where the assertion fails.
    pub first: Option<FirstDifference>,
    /// Divergences that no expected entry names.
    pub divergences: Vec<Divergent>,
    /// What to run next, where the assertion fails.
    pub next: Vec<String>,
    /// Whether every rule can fail; where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTestReport>,
    #[serde(skip)]
    pub(crate) reach: Reach,
}

/// A condition without which passing means nothing.
#[derive(Debug, Clone, Serialize)]
pub struct GuardReport {
    /// Its name: `complete`.
    pub guard: &'static str,
    /// Whether it holds.
    pub passes: bool,
    /// What was found.
    pub text: String,
}

/// How one rule fared.
#[derive(Debug, Clone, Serialize)]
pub struct RuleReport {
    /// Its name.
    pub rule: String,
    /// Its line in the policy file; 0 where no file holds it.
    pub line: usize,
    /// Why it checks nothing, for rules that ignore.
    pub ignored: Option<String>,
    /// Places (buffer, step, point) that it judged.
    pub matched: u64,
    /// Places that failed, those that were expected left out.
    pub failed: u64,
    /// Places that failed as expected.
    pub expected: u64,
    /// The first place that failed.
    pub first: Option<Divergence>,
    /// The place furthest beyond what the rule allows.
    pub worst: Option<Divergence>,
}

/// A place where a rule fails.
#[derive(Debug, Clone, Serialize)]
pub struct Divergence {
    /// Request, counted from 1.
    pub request: u32,
    /// Step within it; the codec section counts on after the last step.
    pub step: u32,
    /// `step` or `codec`.
    pub kind: &'static str,
    /// Snapshot point.
    pub point: String,
    /// Name without generation.
    pub buffer: String,
    /// Row of the batch, for buffers that have rows.
    pub row: Option<u64>,
    /// The element furthest beyond; none for statistics and shapes.
    pub element: Option<Element>,
    /// Its value, or the statistic, in A.
    pub a: Option<Shown>,
    /// And in B.
    pub b: Option<Shown>,
    /// How far apart, in what the rule counts; none where one side is not finite.
    pub distance: Option<Number>,
    /// What the rule allows.
    pub allowed: Number,
    /// How many elements (or vectors) of the buffer are beyond.
    pub elements: u64,
    /// How far beyond, in words.
    pub text: String,
}

impl Divergence {
    /// The step, as `--at` takes it.
    pub fn at(&self) -> At {
        At { request: self.request, step: (self.kind == "step").then_some(self.step) }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} {}: {}", self.at(), self.point, self.buffer)?;
        if let Some(element) = &self.element {
            let index: Vec<String> = element.index.iter().map(u64::to_string).collect();
            write!(f, "[{}]", index.join(","))?;
        }
        if let (Some(a), Some(b)) = (&self.a, &self.b) {
            write!(f, " is {a} in A, {b} in B")?;
        }
        write!(f, "; {}", self.text)
    }
}

/// A value, or a statistic of many.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// An element.
    Value(Value),
    /// A statistic.
    Number(Number),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Value(value) => value.fmt(f),
            Shown::Number(number) => number.fmt(f),
        }
    }
}

/// A fork of the runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForkReport {
    /// Request, counted from 1.
    pub request: u32,
    /// The first step whose codes differ.
    pub step: u32,
    /// Later steps of it that were not judged, the codec section included.
    pub not_judged: usize,
}

/// How one expected divergence fared.
#[derive(Debug, Clone, Serialize)]
pub struct ExpectedReport {
    /// Where it is expected.
    pub expected: String,
    /// Its line in the policy file.
    pub line: usize,
    /// Why it is accepted.
    pub reason: String,
    /// Places where it occurs; one that occurs nowhere fails.
    pub occurs: u64,
}

/// Steps of a request in which a buffer diverges at a point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Divergent {
    /// Request, counted from 1.
    pub request: u32,
    /// Name without generation.
    pub buffer: String,
    /// Snapshot point.
    pub point: String,
    /// First step.
    pub first: u32,
    /// Last step; none for the codec section.
    pub last: Option<u32>,
}

/// Whether every rule can fail.
#[derive(Debug, Clone, Serialize)]
pub struct SelfTestReport {
    /// Whether no rule stays green.
    pub passes: bool,
    /// Of every rule.
    pub rules: Vec<SelfTest>,
}

/// Whether a rule can fail.
#[derive(Debug, Clone, Serialize)]
pub struct SelfTest {
    /// The rule's name.
    pub rule: String,
    /// Its line in the policy file.
    pub line: usize,
    /// What became of it.
    pub state: SelfTestState,
    /// What was changed and what came of it, or why nothing was.
    pub text: String,
}

/// What became of a rule when a value was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfTestState {
    /// It failed, as it should.
    Red,
    /// It passed all the same: it checks nothing there.
    Green,
    /// It fails without any change.
    AlreadyRed,
    /// It ignores what it matches.
    NotChecked,
    /// It judges no place.
    NoMatch,
}

/// What can be done with a pair beyond comparing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Its steps can be executed again.
    #[default]
    Executed,
    /// What another engine ran is recorded on a side at least: causes can be named.
    Explained,
    /// Nothing of what ran is recorded.
    Compared,
}

impl Reach {
    /// Of a pair.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(crate) fn of(a: &Trace, b: &Trace) -> Result<Self, ReplayError> {
        if !is_foreign(a.run()) && !is_foreign(b.run()) {
            return Ok(Reach::Executed);
        }
        Ok(if tells_what_ran(a)? || tells_what_ran(b)? { Reach::Explained } else { Reach::Compared })
    }
}

impl AssertReport {
    /// The commands that say more about a failure, for traces at these paths.
    pub fn next_commands(&self, a: &str, b: &str) -> Vec<String> {
        if self.passes {
            return Vec::new();
        }
        let mut next = vec![format!("twinstep diff {} {}", quoted(a), quoted(b))];
        // In order of time, whichever rule it was.
        let key = |d: &Divergence| (d.request, d.step);
        let failed = self.rules.iter().filter_map(|rule| rule.first.as_ref()).min_by_key(|d| key(d));
        let step = |first: &FirstDifference| (first.phase != Some("codec")).then_some(first.step);
        let (at, print) = match (failed, &self.first) {
            (Some(d), _) => {
                let index = d.element.as_ref().map_or(&[][..], |element| &element.index);
                (d.at(), print_command(a, &d.buffer, index, d.at(), &d.point))
            }
            (None, Some(first)) => {
                let at = At { request: first.request, step: step(first) };
                (at, print_command(a, &first.buffer, &first.element.index, at, &first.point))
            }
            // No place differs: the runs are unlike as a whole, which is what the guards say.
            (None, None) => return next,
        };
        let (a, b) = (quoted(a), quoted(b));
        next.extend(match self.reach {
            Reach::Executed => {
                [format!("twinstep step {a} {b} --at {at}"), format!("twinstep explain {a} {b}")]
            }
            Reach::Explained => [print, format!("twinstep explain {a} {b}")],
            Reach::Compared => [print, format!("twinstep {a} {b}")],
        });
        next
    }
}
