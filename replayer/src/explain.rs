//! Why two runs differ: the cause of their first divergence, shown by re-execution.
//!
//! The first step with a difference is aligned launch by launch. Candidates are what the step is *given*
//! ([`family`]); hybrids of the two runs decide which of them make the difference ([`search`]); the records
//! say by what mechanism ([`classify`]). Later steps are looked at for causes of their own ([`later`]).
//! Neither run is taken for the truth.

use std::collections::BTreeSet;

use serde::Serialize;
use twinstep_traces::{StepKind, Trace};

use crate::ReplayError;
use crate::at::{At, place};
use crate::comparable::comparable;
use crate::diff::{DiffReport, FirstDifference, StepState, diff_with, endings};
use crate::explain::classify::{Context, classify};
use crate::explain::family::{Pair, Side, families};
use crate::explain::search::{Answer, Judge, needed_patches, patches, search};
use crate::explain::witness::Witnesses;
use crate::finding::Finding;
use crate::foreign::is_foreign;
use crate::hybrid::{Hybrid, Watch};
use crate::kind::Kind;
use crate::numerics::same_numerics;
use crate::recorded::{RecordedStep, Run};
use crate::requests::Requests;
use crate::weights::WeightSource;

mod classify;
mod exonerate;
mod family;
mod foreign;
mod later;
mod lockstep;
mod noise;
mod provenance;
mod rounding;
mod search;
mod verdict;
mod witness;

/// How to search.
pub struct ExplainOptions<'a> {
    /// A second run of A's mode: differences no greater than those against it are noise.
    pub control: Option<&'a Trace>,
    /// Re-executions of a step at most.
    pub budget: usize,
    /// Gives what checks and rules find on one trace.
    pub findings: &'a dyn Fn(&Trace) -> Result<Vec<Finding>, ReplayError>,
}

/// Re-executions of a step at most, where nothing else is asked for.
pub const BUDGET: usize = 2000;

/// `twinstep.explain/1`.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainReport {
    /// Document type.
    pub schema: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// All causes, the first one the verdict's.
    pub causes: Vec<CauseReport>,
    /// Sets of patches of which each alone would do, where there is more than one.
    pub ambiguous: Vec<Vec<String>>,
    /// What was seen, in order.
    pub evidence: Vec<Evidence>,
    /// Suspects that were patched and are innocent.
    pub exonerated: Vec<Exonerated>,
    /// What checks and rules find on either side.
    pub findings: Vec<SidedFinding>,
    /// Where the runs first differ.
    pub first: Option<FirstDifference>,
    /// Steps executed again.
    pub executions: usize,
    /// Whether the budget was used up before the search ended.
    pub exhausted: bool,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The mechanism.
    pub kind: Kind,
    /// `a`, `b` or `both`; `None` where neither is wrong or the records do not tell.
    pub side: Option<&'static str>,
    /// Request, counted from 1.
    pub request: Option<u32>,
    /// Step within it.
    pub step: Option<u32>,
    /// Phase of the launch concerned.
    pub phase: Option<&'static str>,
    /// Number of the launch concerned.
    pub node: Option<usize>,
    /// Graph concerned.
    pub graph: Option<u32>,
    /// Buffers concerned.
    pub buffers: Vec<String>,
    /// Arguments concerned.
    pub arguments: Vec<String>,
    /// Whether re-execution shows it: with the cause patched, and nothing less, the step equals the other
    /// run's; nothing else as small does.
    pub proven: bool,
    /// To paste into a bug report.
    pub text: String,
}

/// One cause.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as in Verdict")]
pub struct CauseReport {
    pub kind: Kind,
    pub side: Option<&'static str>,
    pub request: u32,
    pub step: u32,
    pub phase: Option<&'static str>,
    pub node: Option<usize>,
    pub graph: Option<u32>,
    pub buffers: Vec<String>,
    pub arguments: Vec<String>,
    pub proven: bool,
    pub text: String,
    /// Patches that take it away.
    pub patches: Vec<String>,
    /// Which trace is patched: `a` or `b`.
    pub patched: &'static str,
    /// Commands whose results are the proof, with the exit status that each has.
    pub proof: Vec<Proof>,
}

/// A command and what it gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Which trace is executed: `a` or `b`; the other one is compared with.
    pub executed: &'static str,
    /// Which step: `2`, `3:2`.
    pub at: String,
    /// The patches, in order.
    pub patches: Vec<String>,
    /// Whether the step then equals the other run's: exit status 0, else 1.
    pub equals_other: bool,
    /// What it shows.
    pub shows: String,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// `comparison`, `control`, `located`, `argument`, `first-difference`, `first-launch`, `self-check`, `candidate`, `possible`, `decided`, `reverse`, `alternative`, `later`, `margin`.
    pub what: &'static str,
    /// Which step: `2`, `3:2`.
    pub at: Option<String>,
    /// Number of the launch.
    pub node: Option<usize>,
    /// In words.
    pub text: String,
}

/// A suspect that is innocent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exonerated {
    /// What was patched.
    pub patch: String,
    /// Bytes that it changed.
    pub bytes_changed: u64,
    /// What came of it.
    pub result: String,
}

/// A finding with its side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SidedFinding {
    /// `a` or `b`.
    pub side: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Finds the cause of the first divergence of two runs and shows it.
///
/// # Errors
/// [`ReplayError::NotComparable`] for runs that have nothing to say about each other or hold one step only;
/// [`ReplayError::Numerics`] where an op of theirs is of a version that this build does not have;
/// [`ReplayError::Weights`] where weights cannot be found.
pub fn explain(
    a: &Trace,
    b: &Trace,
    weights: &dyn WeightSource,
    options: &ExplainOptions<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<ExplainReport, ReplayError> {
    comparable(a, b)?;
    for (trace, name) in [(a, "A"), (b, "B")] {
        if steps(trace)? < 2 {
            let what = format!("{name} has fewer than two steps: there is no decode step to explain");
            return Err(ReplayError::NotComparable(what));
        }
    }
    same_numerics(a, b)?;
    let differences = diff_with(a, b, &[], options.control)?;
    let mut findings = Vec::new();
    for (side, trace) in [(Side::A, a), (Side::B, b)] {
        let found = (options.findings)(trace)?;
        findings.extend(found.into_iter().map(|finding| SidedFinding { side: side.name(), finding }));
    }
    let mut report = ExplainReport {
        schema: "twinstep.explain/1",
        verdict: Verdict::unknown(),
        causes: Vec::new(),
        ambiguous: Vec::new(),
        evidence: Vec::new(),
        exonerated: Vec::new(),
        findings,
        first: differences.first.clone(),
        executions: 0,
        exhausted: false,
    };
    let foreign = is_foreign(a.run());
    let ended = [endings(a, "A")?, endings(b, "B")?].concat();
    if let Some(control) = options.control
        && let Some(at) = first_unequal(&differences)
        && noise::is_noise(a, control, &differences, at, &mut report)?
    {
        return Ok(report);
    }
    let together = foreign.then(|| Together::of(a, b, &differences));
    let Some(at) = first_divergent(&differences, together.as_ref()) else {
        let equal = verdict::Equal {
            alone: ends_early(&differences, together.as_ref()),
            ended: &ended,
            noise: differences.steps.iter().any(|s| s.state == StepState::Noise),
        };
        if foreign {
            foreign::equal(&mut report, &equal, &differences);
            return Ok(report);
        }
        verdict::of_equal_runs(&mut report, &equal);
        return Ok(report);
    };
    if foreign {
        foreign::investigate(a, b, at, &differences, &mut report)?;
        return Ok(report);
    }
    for text in ended {
        report.evidence.push(Evidence { what: "comparison", at: Some(at.to_string()), node: None, text });
    }
    let (run_a, run_b) = (Run::new(a)?, Run::new(b)?);
    let steps = run_a.find(at).and_then(|i| run_a.step(i)).and_then(|step_a| {
        let step_b = run_b.find(at).and_then(|i| run_b.step(i))?;
        Ok((step_a, step_b))
    });
    let (step_a, step_b) = match steps {
        Ok(steps) => steps,
        // What cannot be executed here can still be looked at.
        Err(ReplayError::Opaque(why)) => {
            verdict::unexecutable(&mut report, at, &why);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let pair = Pair::new(&step_a, &step_b);
    let mut hybrid_a = Hybrid::new(&run_a, weights)?;
    let mut hybrid_b = Hybrid::new(&run_b, weights)?;
    let mut judge = Judge {
        pair: &pair,
        hybrid_a: &mut hybrid_a,
        hybrid_b: &mut hybrid_b,
        budget: options.budget,
        progress,
        executions: 0,
    };
    match investigate(&mut judge, at, &mut report) {
        Err(_) if judge.budget == 0 => {
            // What was written before stands.
            if report.verdict.text.is_empty() {
                let families = families(&pair)?;
                verdict::undecided(&mut judge, &mut report, at, &families, None);
            }
        }
        other => other?,
    }
    report.executions = judge.executions;
    report.exhausted = judge.budget == 0;
    Ok(report)
}

fn steps(trace: &Trace) -> Result<usize, ReplayError> {
    let mut count = 0;
    for index in 0..trace.step_count() {
        let kind = trace.step(index)?.kind;
        count += usize::from(matches!(kind, StepKind::Prefill | StepKind::Decode));
    }
    Ok(count)
}

/// Requests of runs of another engine that both have steps of, by A's numbers. A run that serves other requests as
/// well ends no earlier for that.
struct Together {
    requests: Requests,
    of_a: BTreeSet<u32>,
}

impl Together {
    fn of(a: &Trace, b: &Trace, differences: &DiffReport) -> Together {
        let both = |s: &&crate::diff::StepDiff| !matches!(s.state, StepState::OnlyA | StepState::OnlyB);
        let of_a = differences.steps.iter().filter(both).map(|s| s.request).collect();
        Together { requests: Requests::of(a, b), of_a }
    }

    /// A's number of the request that a step which one run has alone belongs to, if both have the request.
    fn request(&self, step: &crate::diff::StepDiff) -> Option<u32> {
        let own = At { request: step.request, step: None };
        let of_a =
            if step.state == StepState::OnlyB { self.requests.of_b(own).request } else { step.request };
        self.of_a.contains(&of_a).then_some(of_a)
    }
}

/// The first step that only one run has, and which: what comes after it differs in consequence. Steps of requests that
/// both have come first, where that is known.
fn ends_early(differences: &DiffReport, together: Option<&Together>) -> Option<(At, &'static str)> {
    let alone = differences.steps.iter().filter(|s| s.kind == "step").filter_map(|s| match s.state {
        StepState::OnlyA => Some((s, "a")),
        StepState::OnlyB => Some((s, "b")),
        _ => None,
    });
    let other = |s: &crate::diff::StepDiff| together.is_some_and(|t| t.request(s).is_none());
    let (step, side) = alone.min_by_key(|(s, _)| (other(s), s.request, s.step))?;
    Some((At { request: step.request, step: Some(step.step) }, side))
}

/// The first step of both runs with a difference, noise or not.
fn first_unequal(differences: &DiffReport) -> Option<At> {
    let unequal = |s: &&crate::diff::StepDiff| matches!(s.state, StepState::Diverged | StepState::Noise);
    let step = differences.steps.iter().find(unequal)?;
    Some(At { request: step.request, step: (step.kind == "step").then_some(step.step) })
}

/// The first step of both runs that differs, before one of them ends or goes on alone.
fn first_divergent(differences: &DiffReport, together: Option<&Together>) -> Option<At> {
    let alone = |s: &&crate::diff::StepDiff| {
        s.kind == "step" && matches!(s.state, StepState::OnlyA | StepState::OnlyB)
    };
    let end = match together {
        None => ends_early(differences, None).map(|(at, _)| (at.request, at.step.unwrap_or(0))),
        Some(together) => {
            let alone = differences.steps.iter().filter(alone);
            alone.filter_map(|s| Some((together.request(s)?, s.step))).min()
        }
    };
    let before = |s: &&crate::diff::StepDiff| {
        end.is_none_or(|end| {
            // A request's codec section comes after all of its steps.
            if s.kind == "step" { (s.request, s.step) < end } else { s.request < end.0 }
        })
    };
    let step = differences.steps.iter().filter(before).find(|s| s.state == StepState::Diverged)?;
    Some(At { request: step.request, step: (step.kind == "step").then_some(step.step) })
}

/// Searches the divergent step and writes what comes of it.
fn investigate(judge: &mut Judge<'_, '_, '_>, at: At, report: &mut ExplainReport) -> Result<(), ReplayError> {
    let pair = judge.pair;
    let place = Some(at.to_string());
    let mut note = |what, node, text: String| {
        report.evidence.push(Evidence { what, at: place.clone(), node, text });
    };
    if let Some(first) = &report.first {
        let text = format!("{first} at {}", first.point);
        note("first-difference", None, text);
    }
    // Both sides as they were: without this nothing below is proof.
    let mut reproduced = true;
    let mut trails = Vec::new();
    for side in [Side::A, Side::B] {
        let outcome = judge.execute(side, &[], None, Watch::Trail)?;
        let step = pair.side(side);
        let equal = outcome.state.iter().all(|(id, bytes)| step.after.get(id).is_none_or(|r| r == bytes));
        if !equal {
            reproduced = false;
            let text =
                format!("{} executed again does not give what was recorded", side.name().to_uppercase());
            note("self-check", None, text);
        }
        trails.push(outcome.trail);
    }
    let first_launch = lockstep::first_difference(pair, &trails[0], &trails[1]);
    if let Some((i, j, name)) = &first_launch {
        note(
            "first-launch",
            Some(*i),
            format!("the first launch whose output differs is {name} (node {i} in A, {j} in B)"),
        );
    }
    let families = families(pair)?;
    for family in &families {
        note("candidate", None, verdict::describe(pair, family));
    }
    let mut decision = search(judge, &families, Side::A);
    // What decides one way may not be all that makes the difference the other way.
    if decision.sets.is_empty() || decision.reverse == Answer::Differs {
        let other = search(judge, &families, Side::B);
        let better = other.reverse == Answer::Equal || decision.sets.is_empty();
        if !other.sets.is_empty() && better {
            decision = other;
        }
    }
    let Some(set) = decision.sets.first().cloned() else {
        verdict::undecided(judge, report, at, &families, Some(&decision));
        return Ok(());
    };
    let context = Context {
        pair,
        families: &families,
        broken: broken(report, pair.a),
        witnesses: Witnesses::of(pair),
        stale: provenance::stale_reads(judge, &families, &set)?,
    };
    let mut causes = classify(&context, &set);
    for cause in &mut causes {
        provenance::walk_back(&context, cause)?;
    }
    // A mistake is taken away where it was made, if that can be done.
    let accused = causes.first().and_then(|c| c.side).filter(|&side| side != decision.side);
    if let Some(side) = accused.filter(|&side| causes.iter().all(|c| c.side == Some(side))) {
        let there = search(judge, &families, side);
        if there.sets == decision.sets {
            decision = there;
        }
    }
    let all = patches(&families, &set, decision.side).unwrap_or_default();
    let needed = needed_patches(judge, decision.side, &all);
    let rounding = rounding::judge(judge, &families, &set)?;
    let found = verdict::Found {
        pair,
        at,
        families: &families,
        decision: &decision,
        needed: &needed,
        reproduced,
        rounding,
        ended: judge.budget > 0,
    };
    let proof = verdict::proof(judge, &found);
    verdict::decided(report, &found, causes, proof);
    exonerate::suspects(judge, report, &families, &decision, &set);
    let decisive: BTreeSet<_> = set.iter().map(|&i| families[i].difference.clone()).collect();
    later::causes(judge, report, &decisive, decision.side)?;
    Ok(())
}

/// Checks and rules that are broken up to this step, with their sides.
fn broken<'r>(report: &'r ExplainReport, step: &RecordedStep<'_>) -> Vec<(Side, &'r Finding)> {
    let now = (step.record.request, step.record.step);
    let concerned = report.findings.iter().filter(|f| (f.finding.request, f.finding.step) <= now);
    concerned.map(|f| (if f.side == "a" { Side::A } else { Side::B }, &f.finding)).collect()
}

/// The place of a step, for commands.
fn place_of(step: &RecordedStep<'_>) -> At {
    place(&step.record).unwrap_or(At { request: 1, step: Some(1) })
}
