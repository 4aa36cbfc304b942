//! Mechanisms that may be what makes two runs of another engine differ.

use std::collections::BTreeSet;

use twinstep_traces::Trace;

use crate::at::At;
use crate::checks::unlaunched_capture::Unlaunched;
use crate::explain::family::Side;
use crate::explain::foreign::located::Located;
use crate::explain::{ExplainReport, SidedFinding};
use crate::kind::Kind;
use crate::requests::Requests;

/// A mechanism with what speaks for it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) kind: Kind,
    pub(super) side: Side,
    pub(super) graph: Option<u32>,
    pub(super) node: Option<u32>,
    pub(super) buffers: Vec<String>,
    pub(super) arguments: Vec<String>,
    /// What is recorded suffices to name it, if nothing else fits; otherwise it is only possible.
    pub(super) fits: bool,
    /// One sentence without its end.
    pub(super) text: String,
}

/// Mechanisms that checks find in one run.
const BY_CHECK: [Kind; 7] = [
    Kind::StaleBinding,
    Kind::UnlaunchedCapture,
    Kind::UseAfterFree,
    Kind::AliasedMemory,
    Kind::MissingHostWrite,
    Kind::LateHostWrite,
    Kind::UnorderedWriters,
];

/// The more a mechanism says of where and how, the earlier it comes.
const BY_SPECIFICITY: [Kind; 10] = [
    Kind::AliasedMemory,
    Kind::UseAfterFree,
    Kind::StaleBinding,
    Kind::UnlaunchedCapture,
    Kind::UnorderedWriters,
    Kind::LateHostWrite,
    Kind::MissingHostWrite,
    Kind::FrozenArgument,
    Kind::WrongDispatch,
    Kind::MissingLaunch,
];

/// What fits first, and of that the most specific.
pub(super) fn sort(candidates: &mut [Candidate]) {
    let specific = |kind: Kind| BY_SPECIFICITY.iter().position(|k| *k == kind).unwrap_or(usize::MAX);
    candidates.sort_by_key(|c| (!c.fits, specific(c.kind), c.side));
}

/// `stale-binding in B, frozen-argument in A`, each once.
pub(super) fn names(candidates: &[Candidate]) -> String {
    let mut names: Vec<String> = Vec::new();
    for candidate in candidates {
        let name = format!("{} in {}", candidate.kind, candidate.side.name().to_uppercase());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// A graph that was captured in the step and not launched in it.
pub(super) fn not_launched(trace: &Trace, side: Side, one: &Unlaunched) -> Candidate {
    let label =
        |b: &twinstep_traces::BufferId| trace.buffer(*b).map(|b| format!("{}@{}", b.name, b.generation));
    Candidate {
        kind: Kind::UnlaunchedCapture,
        side,
        graph: Some(one.graph.0),
        node: None,
        buffers: one.outputs.iter().filter_map(label).collect(),
        arguments: Vec::new(),
        fits: true,
        text: format!(
            "graph {} was captured in step {} and not launched in it, though {} later steps launch it",
            one.graph.0, one.at, one.later
        ),
    }
}

/// What checks find on one side, up to this step, about what ran where the difference arose.
pub(super) fn by_checks(
    report: &ExplainReport,
    located: &Located,
    requests: &Requests,
    at: At,
) -> Vec<Candidate> {
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
        let differs = bare(found).is_some_and(|name| located.differing.contains(&name));
        let ran = found.finding.graph.is_some_and(|graph| located.graphs(side).contains(&graph));
        let concerned = match found.finding.kind {
            Kind::UnlaunchedCapture => place(found) == now,
            // What the host lacks to write differs before the launch that reads it.
            Kind::MissingHostWrite | Kind::LateHostWrite | Kind::UnorderedWriters => {
                place(found) == now && (ran || differs)
            }
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
            fits: true,
            text: found.finding.message.clone(),
        });
    }
    // Memory that somebody else owns now says more than memory that was given back.
    let aliased: BTreeSet<Side> =
        candidates.iter().filter(|c| c.kind == Kind::AliasedMemory).map(|c| c.side).collect();
    candidates.retain(|c| c.kind != Kind::UseAfterFree || !aliased.contains(&c.side));
    candidates
}
