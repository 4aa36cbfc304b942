//! Causes in runs of another engine, whose kernels cannot be executed here: from logs and contents alone.
//!
//! The first difference lies between two points that both runs have. What ran there on each side, what it
//! binds and with which arguments, and what checks find on either side, is compared with the mechanisms that are
//! known. Nothing is ever `proven`; where more than one mechanism fits, or none, the answer is `unknown`.

mod arguments;
mod located;
mod unwritten;

use std::collections::BTreeSet;

use twinstep_traces::Trace;

use crate::ReplayError;
use crate::at::{At, find};
use crate::checks::unlaunched_capture::{Unlaunched, unlaunched};
use crate::diff::DiffReport;
use crate::explain::family::Side;
use crate::explain::{CauseReport, Evidence, ExplainReport, SidedFinding};
use crate::kind::Kind;
use crate::requests::Requests;

use located::Located;

/// A mechanism that fits.
#[derive(Debug, Clone)]
struct Candidate {
    kind: Kind,
    side: Side,
    graph: Option<u32>,
    node: Option<u32>,
    buffers: Vec<String>,
    arguments: Vec<String>,
    /// One sentence without its end.
    text: String,
}

/// Mechanisms that checks find in one run.
const BY_CHECK: [Kind; 4] =
    [Kind::StaleBinding, Kind::UnlaunchedCapture, Kind::UseAfterFree, Kind::AliasedMemory];

/// The verdict on runs without a difference. What a check finds on either had no effect that was recorded.
pub(super) fn equal(report: &mut ExplainReport, alone: Option<(At, &'static str)>) {
    let verdict = &mut report.verdict;
    verdict.kind = Kind::Identical;
    let mut text = match alone {
        Some((at, side)) => {
            (verdict.request, verdict.step) = (Some(at.request), at.step);
            format!(
                "The runs are identical as far as both go: only {} has request {}, step {}.",
                side.to_uppercase(),
                at.request,
                at.step.unwrap_or(0)
            )
        }
        None => {
            "The runs are identical: the same bits of every recorded buffer at every common point.".to_owned()
        }
    };
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
    for text in located.describe(a, b)? {
        note(report, "located", text);
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
    candidates.extend(found.candidate);
    candidates.extend(unwritten::unwritten(a, b, &located)?);
    for candidate in &candidates {
        let side = candidate.side.name().to_uppercase();
        note(report, "candidate", format!("{} in {side}: {}", candidate.kind, candidate.text));
    }
    decide(report, at, &located, candidates, (a, b))
}

fn not_launched(trace: &Trace, side: Side, one: &Unlaunched) -> Candidate {
    let label =
        |b: &twinstep_traces::BufferId| trace.buffer(*b).map(|b| format!("{}@{}", b.name, b.generation));
    Candidate {
        kind: Kind::UnlaunchedCapture,
        side,
        graph: Some(one.graph.0),
        node: None,
        buffers: one.outputs.iter().filter_map(label).collect(),
        arguments: Vec::new(),
        text: format!(
            "graph {} was captured in step {} and not launched in it, though {} later steps launch it",
            one.graph.0, one.at, one.later
        ),
    }
}

/// What checks find on one side, up to this step, about what ran where the difference arose.
fn by_checks(report: &ExplainReport, located: &Located, requests: &Requests, at: At) -> Vec<Candidate> {
    let place = |f: &SidedFinding| {
        let own = At { request: f.finding.request, step: Some(f.finding.step) };
        let of_a = if f.side == "a" || own.request == 0 { own } else { requests.of_b(own) };
        (of_a.request, f.finding.step)
    };
    let now = (at.request, at.step.unwrap_or(u32::MAX));
    let bare = |f: &SidedFinding| {
        f.finding.buffer.as_deref().and_then(|b| b.rsplit_once('@')).map(|(name, _)| name.to_owned())
    };
    let earlier: Vec<&SidedFinding> =
        report.findings.iter().filter(|f| BY_CHECK.contains(&f.finding.kind) && place(f) <= now).collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    for found in &earlier {
        // What both runs have does not tell them apart.
        let twin = |g: &&&SidedFinding| {
            g.side != found.side && g.finding.check == found.finding.check && bare(g) == bare(found)
        };
        if earlier.iter().any(|g| twin(&g)) {
            continue;
        }
        let side = if found.side == "a" { Side::A } else { Side::B };
        let ran = found.finding.graph.is_some_and(|graph| located.graphs(side).contains(&graph));
        let concerned = match found.finding.kind {
            Kind::UnlaunchedCapture => place(found) == now,
            // Memory that somebody else owns may be written by them at any time.
            Kind::AliasedMemory => ran,
            // What was so for longer without a difference is not what makes one now.
            _ => {
                let since = place(found);
                ran && (since.0 == now.0 && now.1 <= since.1 + 1 || since.0 == 0 && now.1 <= 2)
            }
        };
        if !concerned {
            continue;
        }
        let same = |c: &&mut Candidate| (c.kind, c.side) == (found.finding.kind, side);
        let buffers: Vec<String> = found.finding.buffer.iter().cloned().collect();
        if let Some(known) = candidates.iter_mut().find(same) {
            known.buffers.extend(buffers);
            continue;
        }
        candidates.push(Candidate {
            kind: found.finding.kind,
            side,
            graph: found.finding.graph,
            node: found.finding.node,
            buffers,
            arguments: Vec::new(),
            text: found.finding.message.clone(),
        });
    }
    // Memory that somebody else owns now says more than memory that was given back.
    let aliased: BTreeSet<Side> =
        candidates.iter().filter(|c| c.kind == Kind::AliasedMemory).map(|c| c.side).collect();
    candidates.retain(|c| c.kind != Kind::UseAfterFree || !aliased.contains(&c.side));
    candidates
}

/// One mechanism that fits is the answer; none or several are not.
fn decide(
    report: &mut ExplainReport,
    at: At,
    located: &Located,
    candidates: Vec<Candidate>,
    (a, b): (&Trace, &Trace),
) -> Result<(), ReplayError> {
    let kinds: BTreeSet<(Kind, Side)> = candidates.iter().map(|c| (c.kind, c.side)).collect();
    let control = match report.evidence.iter().any(|e| e.what == "control") {
        true => "",
        false => ", and a control run (`--control A2`) would tell noise apart",
    };
    let (step, buffers) = (at.to_string(), located.buffers());
    (report.verdict.request, report.verdict.step) = (Some(at.request), at.step);
    let chosen = match (kinds.len(), candidates.first()) {
        (1, Some(first)) => first.clone(),
        (count, _) => {
            let why = if count > 1 { "More than one mechanism fits" } else { "No known mechanism fits" };
            report.verdict.buffers = located.differing.clone();
            report.verdict.text = format!(
                "The runs first differ at step {step} in {buffers}, {}. {why}, and what another engine launched \
                 cannot be executed here to decide{control}.",
                located.summary(a, b)?
            );
            for text in next(located, at, count) {
                report.evidence.push(Evidence { what: "next", at: Some(step.clone()), node: None, text });
            }
            return Ok(());
        }
    };
    let of_kind = || candidates.iter().map(|c| &c.buffers);
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

/// What to try where the logs do not decide.
fn next(located: &Located, at: At, count: usize) -> Vec<String> {
    let step = at.step.unwrap_or(0);
    let name = located.differing.first().map_or("NAME", String::as_str);
    let mut next = vec![format!(
        "in the process that was recorded: r.reexecute({step}, patch={{\"{name}\": the other run's value}}) shows whether \
         what the step was given decides"
    )];
    if count == 0 {
        next.push(format!(
            "watch more buffers that feed {name}, or put r.launch(\"NAME\") around parts of the step, to narrow down where \
             it first differs"
        ));
        if !located.launches {
            next.push(
                "record the eager run with `attach --launches`, so that its arguments can be compared"
                    .to_owned(),
            );
        }
    }
    next
}

/// The record of the step, for those who need its program.
fn step_of(trace: &Trace, at: At) -> Result<twinstep_traces::StepRecord, ReplayError> {
    find(trace, at)
}
