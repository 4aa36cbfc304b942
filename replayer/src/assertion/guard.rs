//! Conditions without which passing would mean nothing.

use std::collections::BTreeSet;

use twinstep_traces::{Item, ProgramId, StepKind, Trace};

use crate::ReplayError;
use crate::assertion::one_sided::OneSidedNames;
use crate::assertion::policy::{AfterFork, Demand, Policy};
use crate::assertion::report::{GuardReport, RuleReport};
use crate::assertion::walk::Walked;
use crate::at::At;
use crate::foreign::{is_foreign, sees_graphs};
use crate::original_types::told;

/// All guards, in a fixed order.
pub(crate) fn guards(
    (a, b): (&Trace, &Trace),
    policy: &Policy,
    walked: &Walked,
    rules: &[RuleReport],
) -> Result<Vec<GuardReport>, ReplayError> {
    let one_sided = OneSidedNames::of(a, b)?;
    let guards = [
        Some(complete((a, b), policy)),
        Some(two_traces((a, b), policy)),
        Some(steps((a, b), policy, walked)?),
        Some(same_steps(walked)),
        Some(compared(walked)),
        (is_foreign(a.run()) && is_foreign(b.run())).then(|| buffers(policy, &one_sided)),
        walked.any_as_bytes.then(|| types(walked)),
        Some(graph((a, b), policy)?),
        Some(rules_match(policy, rules, &one_sided)),
        Some(fork(policy, walked)),
    ];
    Ok(guards.into_iter().flatten().collect())
}

fn guard(guard: &'static str, passes: bool, text: impl Into<String>) -> GuardReport {
    GuardReport { guard, passes, text: text.into() }
}

/// `A`, `B`, or `A and B`: the sides for which something holds.
fn sides((a, b): (bool, bool)) -> &'static str {
    match (a, b) {
        (true, true) => "A and B",
        (true, false) => "A",
        _ => "B",
    }
}

fn complete((a, b): (&Trace, &Trace), policy: &Policy) -> GuardReport {
    let cut = (!a.complete(), !b.complete());
    let text = match cut {
        (false, false) => "both recordings were closed".to_owned(),
        cut => {
            format!("the recording of {} was not closed: what follows its last step is unknown", sides(cut))
        }
    };
    guard("complete", cut == (false, false) || !policy.require_complete, text)
}

fn two_traces((a, b): (&Trace, &Trace), policy: &Policy) -> GuardReport {
    let same = std::ptr::eq(a, b);
    let text = match (same, policy.same_file) {
        (false, _) => "two traces",
        (true, true) => "a trace with itself, as asked",
        (true, false) => {
            "a trace is compared with itself, which always passes (`same_file = true` allows it)"
        }
    };
    guard("two-traces", !same || policy.same_file, text)
}

fn steps((a, b): (&Trace, &Trace), policy: &Policy, walked: &Walked) -> Result<GuardReport, ReplayError> {
    let count = |trace: &Trace| -> Result<usize, ReplayError> {
        let mut count = 0;
        for index in 0..trace.step_count() {
            count += usize::from(matches!(trace.step(index)?.kind, StepKind::Prefill | StepKind::Decode));
        }
        Ok(count)
    };
    let (in_a, in_b, judged) = (count(a)?, count(b)?, walked.steps_judged);
    let fewest = in_a.min(in_b).min(judged);
    let text =
        format!("{in_a} steps in A, {in_b} in B, {judged} judged; at least {} wanted", policy.min_steps);
    Ok(guard("steps", fewest >= policy.min_steps as usize, text))
}

fn listed(places: &[At]) -> String {
    let shown: Vec<String> = places.iter().take(4).map(At::to_string).collect();
    let more = if places.len() > shown.len() { ", ..." } else { "" };
    shown.join(", ") + more
}

fn same_steps(walked: &Walked) -> GuardReport {
    let one = |places: &[At], side| match places {
        [] => None,
        places => Some(format!("{} only in {side}: {}", places.len(), listed(places))),
    };
    let parts: Vec<String> =
        [one(&walked.only_a, "A"), one(&walked.only_b, "B")].into_iter().flatten().collect();
    match parts.is_empty() {
        true => guard("same-steps", true, "both runs have the same steps"),
        false => guard("same-steps", false, parts.join("; ")),
    }
}

fn compared(walked: &Walked) -> GuardReport {
    match walked.bare.as_slice() {
        [] => guard("compared", true, "something was compared at every step"),
        bare => {
            let text = format!("nothing was compared at {} steps: {}", bare.len(), listed(bare));
            guard("compared", false, text)
        }
    }
}

/// Whether what one run's snapshots cover is covered by the other's at all.
fn buffers(policy: &Policy, one_sided: &OneSidedNames<'_>) -> GuardReport {
    match one_sided.unexplained(policy) {
        None => guard("buffers", true, "every buffer is in both runs, or ignored"),
        Some(names) => {
            let text = format!(
                "not judged: {names} (an `ignore` rule for them or `require_buffers = false` says that this is meant)"
            );
            guard("buffers", !policy.require_buffers, text)
        }
    }
}

/// Whether what is stored as bytes is of the same type in both runs.
fn types(walked: &Walked) -> GuardReport {
    match walked.other_types.is_empty() {
        true => guard("types", true, "what is stored as bytes is of the same types in both runs"),
        false => guard("types", false, told(&walked.other_types)),
    }
}

/// Whether a run whose mode promises graphs has launched one in a decode step.
fn graph((a, b): (&Trace, &Trace), policy: &Policy) -> Result<GuardReport, ReplayError> {
    let expected = |trace: &Trace| matches!(trace.run().mode.as_str(), "graph" | "piecewise");
    // Who sees no graphs tells neither that there were some nor that there were none.
    let judged = (sees_graphs(a)?, sees_graphs(b)?);
    let expect = (expected(a) && judged.0, expected(b) && judged.1);
    let without = (expect.0 && !launches_graph(a)?, expect.1 && !launches_graph(b)?);
    let text = match (expect.0 || expect.1, without) {
        (false, _) if expected(a) || expected(b) => {
            "not judged: what the other engine launched is not recorded".to_owned()
        }
        (false, _) => format!("no graph is expected in modes {} and {}", a.run().mode, b.run().mode),
        (true, (false, false)) => "graphs were launched where the mode says so".to_owned(),
        (true, without) => format!(
            "{} launched no graph in a decode step although the mode says so: the run was not what it claims to be",
            sides(without)
        ),
    };
    Ok(guard("graph", without == (false, false) || !policy.require_graph, text))
}

fn launches_graph(trace: &Trace) -> Result<bool, ReplayError> {
    let mut looked_at: BTreeSet<ProgramId> = BTreeSet::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        if step.kind != StepKind::Decode || !looked_at.insert(step.program) {
            continue;
        }
        let program = trace.program(step.program)?;
        let launches = program.items.iter().any(|item| matches!(item, Item::GraphLaunch { .. }));
        if launches {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rules_match(policy: &Policy, rules: &[RuleReport], one_sided: &OneSidedNames<'_>) -> GuardReport {
    // To ignore what only one run has is to say something of it.
    let explains = |index: usize| {
        let rule = &policy.rules[index];
        matches!(rule.demand, Demand::Ignore(_))
            && one_sided.names().any(|name| rule.scope.buffer.matches(name))
    };
    let idle: Vec<String> = rules
        .iter()
        .take(policy.rules.len())
        .enumerate()
        .filter(|(index, rule)| rule.matched == 0 && !explains(*index))
        .map(|(_, rule)| format!("`{}` (line {})", rule.rule, rule.line))
        .collect();
    match idle.is_empty() {
        true => guard("rules-match", true, "every rule judges something"),
        false => guard("rules-match", false, format!("rules that judge nothing: {}", idle.join(", "))),
    }
}

fn fork(policy: &Policy, walked: &Walked) -> GuardReport {
    let Some(first) = walked.forks.first() else {
        return guard("fork", true, "the codes of every judged step are equal");
    };
    let not_judged: usize = walked.forks.iter().map(|f| f.not_judged).sum();
    let at = At { request: first.request, step: Some(first.step) };
    let text = format!("the codes differ from step {at} on: {not_judged} later steps were not judged");
    guard("fork", policy.after_fork == AfterFork::Stop, text)
}
