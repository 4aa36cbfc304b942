//! The answer in words and as data.

use std::collections::BTreeSet;

use crate::at::At;
use crate::explain::classify::Cause;
use crate::explain::family::{Difference, Family, Pair, Side};
use crate::explain::rounding::Rounding;
use crate::explain::search::{Answer, Decision, Judge};
use crate::explain::{CauseReport, Evidence, ExplainReport, Proof, SidedFinding, Verdict, place_of};
use crate::kind::Kind;
use crate::patch::compressed;

/// Proofs of necessity listed; a model of many layers has as many alike.
const NECESSITY_LISTED: usize = 3;

impl Verdict {
    pub(crate) fn unknown() -> Verdict {
        Verdict {
            kind: Kind::Unknown,
            side: None,
            request: None,
            step: None,
            phase: None,
            node: None,
            graph: None,
            buffers: Vec::new(),
            arguments: Vec::new(),
            proven: false,
            text: String::new(),
        }
    }
}

/// Runs without a difference at any common point.
pub(crate) struct Equal<'a> {
    /// The first step that only one run has, and which.
    pub(crate) alone: Option<(At, &'static str)>,
    /// How the runs ended, where they did not simply close.
    pub(crate) ended: &'a [String],
    /// Something differs, in no more than the control run does.
    pub(crate) noise: bool,
}

impl Equal<'_> {
    /// Writes what is to be said of steps that one run has alone, and of how the runs ended; whether there are such
    /// steps. What the other run would have done there nobody knows, so these runs are not called identical.
    pub(crate) fn say(&self, verdict: &mut Verdict, same: &str) -> bool {
        let ended =
            if self.ended.is_empty() { String::new() } else { format!(" {}.", self.ended.join("; ")) };
        let Some((at, side)) = self.alone else {
            verdict.kind = Kind::Identical;
            verdict.text = format!("The runs are identical: {same} at every common point.{ended}");
            return false;
        };
        verdict.kind = Kind::Unknown;
        (verdict.request, verdict.step) = (Some(at.request), at.step);
        let same = if self.noise { "no difference beyond noise of the control" } else { same };
        verdict.text = format!(
            "The runs have {same} at every common point, but only {} has request {}, step {}.{ended} What the other run \
             would have done there is not known, so they are not called identical.",
            side.to_uppercase(),
            at.request,
            at.step.unwrap_or(0)
        );
        true
    }
}

/// Of runs with equal bits: what checks and rules find, on one side or on both.
pub(crate) fn of_equal_runs(report: &mut ExplainReport, equal: &Equal<'_>) {
    let on = |side: &'static str| report.findings.iter().filter(move |f| f.side == side);
    let verdict = &mut report.verdict;
    let Some(first) = report.findings.first() else {
        verdict.proven = !equal.say(verdict, "the same bits");
        verdict.text += " Neither breaks a check or a rule.";
        return;
    };
    // A rule broken alike in both runs is what comparing them cannot show.
    let twin = |f: &SidedFinding| {
        on("b").any(|g| {
            (&g.finding.check, g.finding.request, g.finding.step)
                == (&f.finding.check, f.finding.request, f.finding.step)
        })
    };
    let both = on("a").find(|f| twin(f));
    let (chosen, side) = match both {
        Some(found) => (found, "both"),
        None => (first, first.side),
    };
    let finding = &chosen.finding;
    verdict.kind = finding.kind;
    verdict.side = Some(side);
    (verdict.request, verdict.step) = (Some(finding.request), Some(finding.step));
    verdict.node = finding.node.map(|n| n as usize);
    verdict.graph = finding.graph;
    verdict.buffers = finding.buffer.iter().cloned().collect();
    // Both are statements about what was recorded, with nothing to infer.
    verdict.proven = matches!(finding.kind, Kind::RuleBroken | Kind::NotEngaged);
    let who = if side == "both" { "both runs".to_owned() } else { format!("run {}", side.to_uppercase()) };
    verdict.text = format!(
        "The runs have the same bits at every common point, but {who} fails `{}` at request {}, step {}: {}. \
         Comparing the two cannot show this.",
        finding.check, finding.request, finding.step, finding.message
    );
    if let Some((at, side)) = equal.alone {
        verdict.text += &format!(" Only {} has step {at}.", side.to_uppercase());
    }
    for text in equal.ended {
        verdict.text += &format!(" {text}.");
    }
}

/// Where a step cannot be executed here.
pub(crate) fn unexecutable(report: &mut ExplainReport, at: At, why: &str) {
    let verdict = &mut report.verdict;
    (verdict.request, verdict.step) = (Some(at.request), at.step);
    let found = report.findings.iter().find(|f| f.finding.request <= at.request);
    verdict.text = match found {
        Some(found) => {
            verdict.kind = found.finding.kind;
            verdict.side = Some(found.side);
            verdict.buffers = found.finding.buffer.iter().cloned().collect();
            format!(
                "Run {} fails `{}`: {}. Step {at} cannot be executed here ({why}), so this is not proven.",
                found.side.to_uppercase(),
                found.finding.check,
                found.finding.message
            )
        }
        None => format!(
            "The runs first differ at step {at}, which cannot be executed here: {why}. No cause can be shown."
        ),
    };
}

/// A candidate in words.
pub(crate) fn describe(pair: &Pair<'_>, family: &Family) -> String {
    let count = match family.members.len() {
        0 | 1 => String::new(),
        n => format!(" ({n} launches)"),
    };
    match &family.difference {
        Difference::State { a, .. } => format!("the step is given other values in {}", pair.a.short_name(*a)),
        Difference::Writes { a, .. } => {
            format!("the host writes {} otherwise, or at another time", pair.a.short_name(*a))
        }
        Difference::Scalar { op, name } => format!("{op} gets another {name}{count}"),
        Difference::Binding { a, b } => format!(
            "{} is bound in A where {} is in B{count}",
            pair.a.buffer_name(*a),
            pair.b.buffer_name(*b)
        ),
        Difference::View { op, operand } => format!("{operand} of {op} has another shape or place{count}"),
        Difference::Unlaunched { side } => format!(
            "{} captures graphs in this step and does not launch them{count}",
            side.name().to_uppercase()
        ),
        Difference::Missing { lacking, op } => {
            format!("{} has no {op}{count}, which the other run launches", lacking.name().to_uppercase())
        }
        Difference::Dispatch { side, swaps } => {
            let each = |(launched, right): &(u32, u32)| {
                format!("launches graph {launched}; graph {right} is what the other run does")
            };
            let all: Vec<String> = swaps.iter().map(each).collect();
            format!("{} {}", side.name().to_uppercase(), all.join(", and "))
        }
        Difference::Memory { side, buffer, with } => {
            let step = pair.side(*side);
            format!(
                "{} and {} share memory in {}",
                step.buffer_name(*buffer),
                step.buffer_name(*with),
                side.name().to_uppercase()
            )
        }
    }
}

/// What a search found.
pub(crate) struct Found<'a> {
    pub(crate) pair: &'a Pair<'a>,
    pub(crate) at: At,
    pub(crate) families: &'a [Family],
    pub(crate) decision: &'a Decision,
    pub(crate) needed: &'a [String],
    /// Both steps executed again gave what was recorded.
    pub(crate) reproduced: bool,
    pub(crate) rounding: Option<Rounding>,
    /// The budget sufficed: no alternative was left untried.
    pub(crate) ended: bool,
}

/// The commands that show it, each tried.
pub(crate) fn proof(judge: &mut Judge<'_, '_, '_>, found: &Found<'_>) -> Vec<Proof> {
    let (side, at) = (found.decision.side, found.at.to_string());
    let line = |executed: Side, patches: Vec<String>, equals_other: bool, shows: &str| Proof {
        executed: executed.name(),
        at: at.clone(),
        patches: compressed(&patches),
        equals_other,
        shows: shows.to_owned(),
    };
    let mut proof = vec![
        line(side, Vec::new(), false, "as recorded it differs"),
        line(side, found.needed.to_vec(), true, "with this patched it equals the other run"),
    ];
    if found.needed.len() > 1 {
        for left_out in found.needed.iter().take(NECESSITY_LISTED) {
            let rest: Vec<String> = found.needed.iter().filter(|p| *p != left_out).cloned().collect();
            if judge.equals(side, &rest) == Answer::Differs {
                proof.push(line(side, rest, false, &format!("without {left_out} it still differs")));
            }
        }
    }
    if found.decision.reverse == Answer::Equal {
        let back = found.decision.reverse_patches.clone();
        proof.push(line(
            side.other(),
            back,
            true,
            "the other run, patched the other way, gives this run's outcome",
        ));
    }
    proof
}

/// A cause found: the verdict, and all causes with their proof.
pub(crate) fn decided(report: &mut ExplainReport, found: &Found<'_>, causes: Vec<Cause>, proof: Vec<Proof>) {
    let unique = found.decision.sets.len() == 1;
    for set in found.decision.sets.iter().filter(|_| !unique) {
        let patches = crate::explain::search::patches(found.families, set, found.decision.side);
        report.ambiguous.push(patches.unwrap_or_default());
    }
    let reverse = match found.decision.reverse {
        Answer::Equal => "patched the other way, the other run gives this run's outcome",
        Answer::Differs => "patched the other way, the other run does not give this run's outcome",
        Answer::Unresolved => "the opposite patch could not be tried",
    };
    report.evidence.push(Evidence {
        what: "decided",
        at: Some(found.at.to_string()),
        node: None,
        text: format!(
            "with {} patched in {} the step equals the other run; {reverse}",
            found.needed.join(" "),
            found.decision.side.name().to_uppercase()
        ),
    });
    let proven = unique && found.ended && found.reproduced && found.decision.reverse != Answer::Differs;
    if let Some(rounding) = &found.rounding {
        of_rounding(report, found, rounding, proven, proof);
        return;
    }
    for cause in causes {
        report.causes.push(report_of(found, &cause, proven, proof.clone()));
    }
    let Some(first) = report.causes.first() else { return };
    report.verdict = Verdict {
        kind: first.kind,
        side: first.side,
        request: Some(first.request),
        step: Some(first.step),
        phase: first.phase,
        node: first.node,
        graph: first.graph,
        buffers: first.buffers.clone(),
        arguments: first.arguments.clone(),
        proven: report.causes.iter().all(|c| c.proven),
        text: text(report, found),
    };
}

/// A cause found in a later step, given the other run's state: `base` are the patches that give it.
pub(crate) fn second(report: &mut ExplainReport, found: &Found<'_>, causes: Vec<Cause>, base: &[String]) {
    let (side, at) = (found.decision.side, found.at.to_string());
    let line = |patches: &[String], equals_other: bool, shows: &str| Proof {
        executed: side.name(),
        at: at.clone(),
        patches: compressed(patches),
        equals_other,
        shows: shows.to_owned(),
    };
    let proof = vec![
        line(base, false, "given the other run's state and with the first cause patched it still differs"),
        line(found.needed, true, "with this patched as well it equals the other run"),
    ];
    for cause in causes {
        let more = report_of(found, &cause, found.ended, proof.clone());
        let text =
            format!(" A second cause, at request {}, step {}: {}.", more.request, more.step, more.text);
        report.verdict.text.push_str(&text);
        report.causes.push(more);
    }
}

fn report_of(found: &Found<'_>, cause: &Cause, proven: bool, proof: Vec<Proof>) -> CauseReport {
    let step = &found.pair.a.record;
    let patches: BTreeSet<String> = cause
        .families
        .iter()
        .flat_map(|&i| {
            let family = &found.families[i];
            match found.decision.side {
                Side::A => family.into_a.clone(),
                Side::B => family.into_b.clone().unwrap_or_default(),
            }
        })
        .collect();
    let phase =
        cause.node.and_then(|(side, n)| found.pair.side(side).launches.get(n)).map(|l| l.record.phase.name());
    CauseReport {
        kind: cause.kind,
        side: cause.side.map(Side::name),
        request: step.request,
        step: step.step,
        phase,
        node: cause.node.map(|(_, n)| n),
        graph: cause.graph,
        buffers: cause.buffers.clone(),
        arguments: cause.arguments.clone(),
        // A mechanism that is not known is not proven, though the difference is.
        proven: proven && cause.kind != Kind::Unknown,
        text: cause.sentence.clone(),
        patches: compressed(
            &found.needed.iter().filter(|p| patches.contains(*p)).cloned().collect::<Vec<_>>(),
        ),
        patched: found.decision.side.name(),
        proof,
    }
}

fn text(report: &ExplainReport, found: &Found<'_>) -> String {
    let causes: Vec<&str> = report.causes.iter().map(|c| c.text.as_str()).collect();
    let first = format!(
        "At request {}, step {}: {}.",
        found.pair.a.record.request,
        found.pair.a.record.step,
        causes.join(". And: ")
    );
    let needed = compressed(found.needed);
    let needed = match needed.len() {
        0..=3 => needed.join(" "),
        n => format!("{} and {} patches like it", needed[0], n - 1),
    };
    let second = if report.ambiguous.is_empty() {
        let rest = found.families.len() - found.decision.sets.first().map_or(0, BTreeSet::len);
        let others = match rest {
            0 => "there is no other difference between what the two steps are given".to_owned(),
            n => format!("{n} other differences between what the two steps are given have no part in it"),
        };
        format!("Executed again with {needed} the step equals the other run's, bit for bit; {others}.")
    } else {
        format!(
            "Executed again with {needed} the step equals the other run's, but {} sets of patches each do as much: this is ambiguous.",
            report.ambiguous.len()
        )
    };
    format!("{first} {second}")
}

fn of_rounding(
    report: &mut ExplainReport,
    found: &Found<'_>,
    rounding: &Rounding,
    proven: bool,
    proof: Vec<Proof>,
) {
    let within = rounding.greatest <= rounding.bound;
    let step = &found.pair.a.record;
    let names: BTreeSet<String> = found
        .decision
        .sets
        .iter()
        .flatten()
        .filter_map(|&i| match &found.families[i].difference {
            Difference::Scalar { name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    let arguments: Vec<String> = names.into_iter().collect();
    let text = format!(
        "From request {}, step {} on the two runs add the same terms in another order: {} differs. \
         {} differs by at most {:e}, {} the bound of {:e} that another order allows.",
        step.request,
        step.step,
        arguments.join(" "),
        rounding.launch,
        rounding.greatest,
        if within { "within" } else { "beyond" },
        rounding.bound
    );
    let kind = if within { Kind::Rounding } else { Kind::Unknown };
    let cause = CauseReport {
        kind,
        side: None,
        request: step.request,
        step: step.step,
        phase: None,
        node: None,
        graph: None,
        buffers: Vec::new(),
        arguments: arguments.clone(),
        proven: proven && within,
        text: text.clone(),
        patches: compressed(found.needed),
        patched: found.decision.side.name(),
        proof,
    };
    report.verdict = Verdict {
        kind,
        side: None,
        request: Some(step.request),
        step: Some(step.step),
        phase: None,
        node: None,
        graph: None,
        buffers: Vec::new(),
        arguments,
        proven: cause.proven,
        text,
    };
    report.causes.push(cause);
}

/// No set of differences decides.
pub(crate) fn undecided(
    judge: &mut Judge<'_, '_, '_>,
    report: &mut ExplainReport,
    at: At,
    families: &[Family],
    decision: Option<&Decision>,
) {
    let verdict = &mut report.verdict;
    (verdict.request, verdict.step) = (Some(at.request), Some(judge.pair.a.record.step));
    let why = if judge.budget == 0 {
        "the budget of re-executions was used up before the search ended; give more with --budget".to_owned()
    } else if families.is_empty() {
        "the two steps are given the same state, host writes, launches, arguments and memory".to_owned()
    } else if decision.is_some_and(|d| d.complete) {
        "no single one or two of the differences decide".to_owned()
    } else {
        format!(
            "even with all {} differences patched the step does not equal the other run's",
            families.len()
        )
    };
    verdict.text = format!(
        "The runs first differ at request {}, step {}, and the evidence does not decide why: {why}.",
        at.request,
        place_of(judge.pair.a)
    );
    // A broken check is evidence, without proof that it makes this difference.
    let now = (judge.pair.a.record.request, judge.pair.a.record.step);
    if let Some(found) = report.findings.iter().find(|f| (f.finding.request, f.finding.step) <= now) {
        verdict.text.push_str(&format!(
            " Run {} fails `{}`: {}.",
            found.side.to_uppercase(),
            found.finding.check,
            found.finding.message
        ));
    }
}
