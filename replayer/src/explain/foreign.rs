//! Causes in runs of another engine, whose kernels cannot be executed here: from logs and contents alone.
//!
//! The first difference lies between two points that both runs have. What ran there on each side, what it
//! binds and with which arguments, and what checks find on either side, is compared with the mechanisms that are
//! known. Nothing is ever `proven`; where more than one mechanism fits, or none, the answer is `unknown`, with what fits
//! and what is only possible as evidence, the most specific first, and what would tell them apart.

mod arguments;
mod candidate;
mod copies;
mod dispatch;
mod located;
mod next;
mod slice;
mod unwritten;

use std::collections::BTreeSet;

use twinstep_traces::Trace;

use crate::ReplayError;
use crate::at::{At, find};
use crate::checks::unlaunched_capture::{Unlaunched, unlaunched};
use crate::diff::DiffReport;
use crate::explain::family::Side;
use crate::explain::verdict::Equal;
use crate::explain::{CauseReport, Evidence, ExplainReport};
use crate::kind::Kind;
use crate::requests::Requests;

use candidate::{Candidate, by_checks, not_launched};
use located::Located;
use next::Recorded;

/// Buffers that differ at a point which are looked at one by one.
const NAMES_MAX: usize = 256;

/// The verdict on runs without a difference. What a check finds on either had no effect that was recorded.
pub(super) fn equal(report: &mut ExplainReport, equal: &Equal<'_>, differences: &DiffReport) {
    let sentence = |text: String| {
        let mut letters = text.chars();
        letters.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
    };
    let one_sided =
        differences.one_sided_line().map_or(String::new(), |line| " ".to_owned() + &sentence(line));
    let verdict = &mut report.verdict;
    if differences.compared() == 0 {
        verdict.text = sentence(differences.headline()) + &one_sided;
        return;
    }
    equal.say(verdict, "the same bits of every recorded buffer");
    let mut text = std::mem::take(&mut verdict.text);
    text += &one_sided;
    if !report.findings.is_empty() {
        let count = report.findings.len();
        text += &format!(" Checks find {count} things in them, which had no effect on what was recorded.");
    }
    verdict.text = text;
}

/// Writes the verdict on the first difference.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn investigate(
    a: &Trace,
    b: &Trace,
    at: At,
    differences: &DiffReport,
    report: &mut ExplainReport,
) -> Result<(), ReplayError> {
    let requests = Requests::of(a, b);
    let at_b = requests.of_a(at);
    let located = Located::of((a, at), (b, at_b), differences)?;
    let place = Some(at.to_string());
    let note = |report: &mut ExplainReport, what, text: String| {
        report.evidence.push(Evidence { what, at: place.clone(), node: None, text });
    };
    if let Some(first) = report.first.clone() {
        let text = format!("{first} at {}", first.point);
        note(report, "first-difference", text);
    }
    for text in &differences.notes {
        note(report, "comparison", text.clone());
    }
    for text in located.describe(a, b)? {
        note(report, "located", text);
    }
    if located.differing.len() > NAMES_MAX {
        let count = located.differing.len();
        let text = format!(
            "{count} buffers differ there: copies of the host that lack were looked for in the first {NAMES_MAX}, and \
             results that nothing writes not at all"
        );
        note(report, "not-looked-at", text);
    }
    let mut candidates = by_checks(report, &located, &requests, at);
    for (side, trace, at) in [(Side::A, a, at), (Side::B, b, at_b)] {
        let here = |u: &Unlaunched| (u.request, Some(u.step)) == (at.request, at.step) && !u.computed();
        for one in unlaunched(trace)?.into_iter().filter(here) {
            let known = |c: &Candidate| {
                c.kind == Kind::UnlaunchedCapture && c.side == side && c.graph == Some(one.graph.0)
            };
            if !candidates.iter().any(known) {
                candidates.push(not_launched(trace, side, &one));
            }
        }
    }
    let found = arguments::frozen((a, at), (b, at_b), &located, &requests)?;
    for text in found.evidence {
        note(report, "argument", text);
    }
    candidates.extend(found.candidates);
    candidates.extend(unwritten::unwritten(a, b, &located)?);
    candidates.extend(copies::lacking(a, b, &located)?);
    candidates.extend(dispatch::other_launches((a, at), (b, at_b), &located)?);
    candidate::sort(&mut candidates);
    for candidate in &candidates {
        let side = candidate.side.name().to_uppercase();
        let what = if candidate.fits { "candidate" } else { "possible" };
        note(report, what, format!("{} in {side}: {}", candidate.kind, candidate.text));
    }
    decide(report, at, &located, candidates, (a, b))
}

/// One mechanism that fits is the answer; none or several are not.
fn decide(
    report: &mut ExplainReport,
    at: At,
    located: &Located,
    candidates: Vec<Candidate>,
    (a, b): (&Trace, &Trace),
) -> Result<(), ReplayError> {
    let (fitting, possible): (Vec<Candidate>, Vec<Candidate>) = candidates.into_iter().partition(|c| c.fits);
    let kinds: BTreeSet<(Kind, Side)> = fitting.iter().map(|c| (c.kind, c.side)).collect();
    let control = match report.evidence.iter().any(|e| e.what == "control") {
        true => "",
        false => ", and a control run (`--control A2`) would tell noise apart",
    };
    let (step, buffers) = (at.to_string(), located.buffers());
    (report.verdict.request, report.verdict.step) = (Some(at.request), at.step);
    let chosen = match (kinds.len(), fitting.first()) {
        (1, Some(first)) => first.clone(),
        (count, _) => {
            let why = match (count, possible.as_slice()) {
                (0, []) => "No known mechanism fits".to_owned(),
                (0, possible) => {
                    format!(
                        "No known mechanism fits; possible, and not more, is {}",
                        candidate::names(possible)
                    )
                }
                _ => format!("More than one mechanism fits: {}", candidate::names(&fitting)),
            };
            report.verdict.buffers = located.differing.clone();
            report.verdict.text = format!(
                "The runs first differ at step {step} in {buffers}, {}. {why}; what another engine launched cannot \
                 be executed here to decide{control}.",
                located.summary(a, b)?
            );
            let all: Vec<Candidate> = fitting.into_iter().chain(possible).collect();
            for text in next::next(located, at, &all, Recorded::of(a.run())) {
                report.evidence.push(Evidence { what: "next", at: Some(step.clone()), node: None, text });
            }
            return Ok(());
        }
    };
    let of_kind = || fitting.iter().map(|c| &c.buffers);
    let mut named: Vec<String> = Vec::new();
    for name in of_kind().flatten() {
        if !named.contains(name) {
            named.push(name.clone());
        }
    }
    let verdict = &mut report.verdict;
    verdict.kind = chosen.kind;
    verdict.side = Some(chosen.side.name());
    (verdict.graph, verdict.node) = (chosen.graph, chosen.node.map(|n| n as usize));
    (verdict.buffers, verdict.arguments) = (named, chosen.arguments);
    verdict.text = format!(
        "Run {}: {}. The runs first differ at step {step} in {buffers}, where this takes effect; it is not proven, \
         as what another engine launched cannot be executed here{control}.",
        chosen.side.name().to_uppercase(),
        chosen.text
    );
    report.causes.push(CauseReport {
        kind: verdict.kind,
        side: verdict.side,
        request: at.request,
        step: at.step.unwrap_or(0),
        phase: None,
        node: verdict.node,
        graph: verdict.graph,
        buffers: verdict.buffers.clone(),
        arguments: verdict.arguments.clone(),
        proven: false,
        text: verdict.text.clone(),
        patches: Vec::new(),
        patched: if verdict.side == Some("b") { "b" } else { "a" },
        proof: Vec::new(),
    });
    Ok(())
}

/// The record of the step, for those who need its program.
fn step_of(trace: &Trace, at: At) -> Result<twinstep_traces::StepRecord, ReplayError> {
    find(trace, at)
}
