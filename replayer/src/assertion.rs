//! An assertion over two runs: how nearly equal they must be, where, and that passing means something.
//!
//! | module | concept |
//! | --- | --- |
//! | `policy` | what is demanded |
//! | `policy_file` | a policy as TOML |
//! | `glob`, `steps` | where a rule holds |
//! | `expected` | divergences that are known |
//! | `walk` | both runs side by side |
//! | `pairing` | which buffer is compared with which |
//! | `hashes`, `elements` | reading no more than what differs |
//! | `compare` | one buffer against one rule |
//! | `one_sided` | names that only one run has |
//! | `guard` | conditions without which passing means nothing |
//! | `self_test` | whether every rule can fail |
//! | `report`, `junit`, `github` | what was found |

pub(crate) mod compare;
pub(crate) mod elements;
pub(crate) mod expected;
pub(crate) mod github;
pub(crate) mod glob;
pub(crate) mod guard;
pub(crate) mod hashes;
pub(crate) mod junit;
pub(crate) mod one_sided;
pub(crate) mod pairing;
pub(crate) mod policy;
pub(crate) mod policy_file;
pub(crate) mod report;
pub(crate) mod self_test;
pub(crate) mod steps;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use twinstep_traces::Trace;

use crate::assertion::compare::{Beyond, Judgement};
use crate::assertion::guard::guards;
use crate::assertion::policy::{Demand, Policy, Rule};
use crate::assertion::report::{
    AssertError, AssertReport, Divergence, Divergent, ExpectedReport, Reach, RuleReport,
};
use crate::assertion::walk::{Judged, Rules, walk};
use crate::comparable::comparable;
use crate::diff::{Element, diff};
use crate::number::Number;
use crate::requests::same_rank;
use crate::selection::index_of;
use crate::statistic::has_rows;

/// Judges two runs by a policy. Buffers are read only where their chunk hashes differ.
///
/// # Errors
/// [`AssertError::Replay`] where the traces cannot be read or are not comparable,
/// [`AssertError::Policy`] where a rule makes no sense for a buffer that it matches.
///
/// # Example
///
/// ```
/// use twinstep_replayer::{Policy, assert_traces};
/// use twinstep_traces::*;
///
/// // Two steps over one buffer, after which it holds `values`.
/// fn run(values: [f32; 2]) -> Result<Trace, Box<dyn std::error::Error>> {
///     let run = RunRecord { mode: "eager".into(), rows: 1, ..RunRecord::default() };
///     let mut writer = TraceWriter::new(MemoryStorage::default(), &run)?;
///     let hidden = writer.add_buffer(&BufferRecord {
///         name: "hidden".into(),
///         generation: 0,
///         dtype: DType::F32,
///         shape: vec![1, 1],
///         role: Role::State,
///         bytes: 4,
///         chunk_bytes: 4,
///         address: None,
///         contents: None,
///     })?;
///     let program = writer.add_program(&Program::default())?;
///     for (step, value) in (1..).zip(values) {
///         let bytes = value.to_le_bytes();
///         let piece = ChangedChunks { buffer: hidden, first_chunk: 0, bytes: &bytes };
///         let snapshot = writer.snapshot(&[hidden], &[piece], &[])?;
///         let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
///         let points = vec![PointRecord { point: "step.after".into(), position: 0, snapshot }];
///         let (host_writes, host_reads) = (vec![], vec![]);
///         writer.commit_step(&StepRecord {
///             kind, request: 1, step, rank: 0, program, host_writes, host_reads, points,
///         })?;
///     }
///     Ok(Trace::from_bytes(writer.finish()?.into_bytes())?)
/// }
///
/// let (a, b) = (run([1.0, 0.5])?, run([1.0, 0.5000001])?);
/// // Without rules all bits must be equal.
/// let report = assert_traces(&a, &b, &Policy::default())?;
/// assert!(!report.passes);
/// let worst = report.rules[0].worst.as_ref().ok_or("a rule fails")?;
/// assert_eq!(worst.to_string(), "step 2 step.after: hidden[0,0] is 0.5 in A, 0.5000001 in B; 2 ulps apart, 0 allowed");
///
/// let policy = Policy::parse("[[rule]]\nbuffer = 'hidden'\nsteps = '2-'\nulp = 2")?;
/// assert!(assert_traces(&a, &b, &policy)?.passes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn assert_traces(a: &Trace, b: &Trace, policy: &Policy) -> Result<AssertReport, AssertError> {
    comparable(a, b)?;
    same_rank(a, b)?;
    let rules = Rules::of(policy);
    let mut tally = Tally::new(policy, &rules);
    let walked = walk((a, b), &rules, None, &mut |judged| {
        tally.add(a, &judged);
        ControlFlow::Continue(())
    })?;
    let (rules, expected) = (tally.rules, tally.expected);
    let guards = guards((a, b), policy, &walked, &rules)?;
    let passes = guards.iter().all(|g| g.passes)
        && rules.iter().all(|r| r.failed == 0)
        && expected.iter().all(|e| e.occurs > 0);
    let first = if passes { None } else { diff(a, b, &[])?.first };
    let mut report = AssertReport {
        schema: "twinstep.assert/1",
        passes,
        guards,
        rules,
        expected,
        steps_judged: walked.steps_judged,
        forks: walked.forks,
        not_compared: walked.not_compared.into_iter().collect(),
        not_compared_count: walked.not_compared_count,
        first,
        divergences: tally.divergences.into_values().flatten().collect(),
        next: Vec::new(),
        self_test: None,
        reach: Reach::of(a, b)?,
    };
    report.divergences.sort();
    report.next = report.next_commands("A", "B");
    Ok(report)
}

/// What rules and expected divergences came to.
struct Tally<'p> {
    policy: &'p Policy,
    rules: Vec<RuleReport>,
    expected: Vec<ExpectedReport>,
    /// By request, buffer and point, as ranges of steps: no more of them than buffers and gaps.
    divergences: BTreeMap<(u32, String, String), Vec<Divergent>>,
}

impl<'p> Tally<'p> {
    fn new(policy: &'p Policy, rules: &Rules<'_>) -> Self {
        let report = |rule: &Rule| RuleReport {
            rule: rule.name.clone(),
            line: rule.line,
            ignored: match &rule.demand {
                Demand::Ignore(reason) => Some(reason.clone()),
                _ => None,
            },
            matched: 0,
            failed: 0,
            expected: 0,
            first: None,
            worst: None,
        };
        let expected = policy.expected.iter().map(|e| ExpectedReport {
            expected: e.scope.to_string(),
            line: e.line,
            reason: e.reason.clone(),
            occurs: 0,
        });
        Tally {
            policy,
            rules: rules.rules.iter().map(|rule| report(rule)).collect(),
            expected: expected.collect(),
            divergences: BTreeMap::new(),
        }
    }

    fn add(&mut self, a: &Trace, judged: &Judged<'_>) {
        let rule = &mut self.rules[judged.rule];
        rule.matched += u64::from(!matches!(judged.judgement, Judgement::Empty));
        let Judgement::Fails(beyond) = &judged.judgement else { return };
        let name = &judged.a.record.name;
        let mut known = false;
        for (expected, report) in self.policy.expected.iter().zip(&mut self.expected) {
            let scope = &expected.scope;
            if scope.holds_at(judged.at.request, judged.at.step, judged.point) && scope.buffer.matches(name) {
                report.occurs += 1;
                known = true;
            }
        }
        if known {
            rule.expected += 1;
            return;
        }
        rule.failed += 1;
        let worse = rule.worst.as_ref().is_none_or(|worst| severity(worst) < beyond.severity());
        if worse {
            let divergence = divergence(a, judged, beyond);
            rule.first.get_or_insert_with(|| divergence.clone());
            rule.worst = Some(divergence);
        }
        self.note(judged);
    }

    fn note(&mut self, judged: &Judged<'_>) {
        let (request, step) = (judged.at.request, judged.step);
        let (buffer, point) = (judged.a.record.name.clone(), judged.point.to_owned());
        let ranges = self.divergences.entry((request, buffer.clone(), point.clone())).or_default();
        let last = judged.at.step;
        match ranges.last_mut() {
            Some(range) if last.is_some() && range.last.is_some_and(|n| n.checked_add(1) == last) => {
                range.last = last;
            }
            _ => ranges.push(Divergent { request, buffer, point, first: step, last }),
        }
    }
}

fn severity(divergence: &Divergence) -> f64 {
    divergence.distance.map_or(f64::INFINITY, |distance| distance.0)
}

fn divergence(a: &Trace, judged: &Judged<'_>, beyond: &Beyond) -> Divergence {
    let record = judged.a.record;
    let element = beyond.element.map(|flat| Element { index: index_of(flat, &record.shape), flat });
    let row = element.as_ref().and_then(|e| e.index.first().copied()).filter(|_| has_rows(a, record));
    Divergence {
        request: judged.at.request,
        step: judged.step,
        kind: if judged.at.step.is_some() { "step" } else { "codec" },
        point: judged.point.to_owned(),
        buffer: record.name.clone(),
        row,
        element,
        a: beyond.a,
        b: beyond.b,
        distance: beyond.distance.map(Number),
        allowed: Number(beyond.allowed),
        elements: beyond.elements,
        text: beyond.text.clone(),
    }
}
