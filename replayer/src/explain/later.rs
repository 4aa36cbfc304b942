//! Causes in later steps: what a first fault would hide.
//!
//! One run's later step is given the other's state, the causes found so far are patched, and it is executed.
//! If it still differs from the other run's step, something else is wrong there. So a second mistake is
//! found although everything differs by then.

use std::collections::BTreeSet;

use twinstep_traces::BufferId;

use crate::ReplayError;
use crate::at::place;
use crate::explain::classify::{Context, classify};
use crate::explain::family::{Difference, Family, Pair, Side, families};
use crate::explain::search::{Answer, Decision, Judge};
use crate::explain::verdict::{self, Found};
use crate::explain::witness::Witnesses;
use crate::explain::{Evidence, ExplainReport, broken, provenance};
use crate::recorded::RecordedStep;

/// Looks at the steps after the judge's own.
///
/// # Errors
/// [`ReplayError`] where a trace is damaged.
pub(crate) fn causes(
    judge: &mut Judge<'_, '_, '_>,
    report: &mut ExplainReport,
    decisive: &BTreeSet<Difference>,
    side: Side,
) -> Result<(), ReplayError> {
    let (run_a, run_b) = (judge.pair.a.run, judge.pair.b.run);
    let mut known = decisive.clone();
    let mut looked_at = 0usize;
    // Differences that made no difference are tried again after 1, 2, 4, ... steps.
    let mut quiet: Option<(BTreeSet<Difference>, usize, usize)> = None;
    for index in judge.pair.a.index + 1..run_a.trace.step_count() {
        let record = run_a.trace.step(index)?;
        let Some(at) = place(&record).filter(|at| at.step.is_some()) else { continue };
        if !comparable_from(judge, at.request)? {
            break;
        }
        let Ok(twin) = run_b.find(at) else { break };
        let (light_a, light_b) = (run_a.light(index)?, run_b.light(twin)?);
        let pair = Pair::new(&light_a, &light_b);
        let others: BTreeSet<Difference> = families(&pair)?
            .into_iter()
            .map(|family| family.difference)
            .filter(|d| !known.contains(d) && !unchanged(&pair, side, d) && !handed_on(&pair, d))
            .collect();
        if others.is_empty() {
            continue;
        }
        if let Some((same, waited, wait)) = &mut quiet
            && *same == others
        {
            *waited += 1;
            if *waited < *wait {
                continue;
            }
        }
        looked_at += 1;
        let (step_a, step_b) = (run_a.step(index)?, run_b.step(twin)?);
        let full = Pair::new(&step_a, &step_b);
        let mut here = Judge {
            pair: &full,
            hybrid_a: &mut *judge.hybrid_a,
            hybrid_b: &mut *judge.hybrid_b,
            budget: judge.budget,
            progress: &mut *judge.progress,
            executions: judge.executions,
        };
        let found = look(&mut here, report, &known, side)?;
        (judge.budget, judge.executions) = (here.budget, here.executions);
        match found {
            Look::Quiet => {
                let wait = quiet.as_ref().filter(|q| q.0 == others).map_or(1, |q| q.2 * 2);
                quiet = Some((others, 0, wait));
            }
            Look::Causes(more) => known.extend(more),
            Look::Unresolved => break,
        }
        if judge.budget == 0 {
            break;
        }
    }
    if looked_at == 0 {
        let text = "no later step of the request differs in what it is given, but for state".to_owned();
        report.evidence.push(Evidence { what: "later", at: None, node: None, text });
    }
    Ok(())
}

/// Whether requests before this one took as many steps in both runs: else blocks and lengths differ in
/// consequence.
fn comparable_from(judge: &Judge<'_, '_, '_>, request: u32) -> Result<bool, ReplayError> {
    let count = |trace: &twinstep_traces::Trace| {
        let mut steps = 0;
        for index in 0..trace.step_count() {
            steps += usize::from(trace.step(index)?.request < request);
        }
        Ok::<_, ReplayError>(steps)
    };
    Ok(count(judge.pair.a.trace())? == count(judge.pair.b.trace())?)
}

/// Host writes of the other run that would change nothing here: the values are there already.
fn unchanged(pair: &Pair<'_>, side: Side, difference: &Difference) -> bool {
    let Difference::Writes { a, b } = difference else { return false };
    let (id, twin) = if side == Side::A { (*a, *b) } else { (*b, *a) };
    let (step, other) = (pair.side(side), pair.side(side.other()));
    if step.record.host_writes.iter().any(|w| w.buffer == id) {
        return false;
    }
    let Some(before) = crate::recorded::snapshot(&step.record, "step.before") else { return false };
    let Ok(Some(bytes)) = step.trace().read_buffer(before, id) else { return false };
    let there = |w: &twinstep_traces::HostWrite| {
        let range = w.offset as usize..w.offset as usize + w.bytes.len();
        w.position == 0 && bytes.get(range) == Some(&w.bytes[..])
    };
    other.record.host_writes.iter().filter(|w| w.buffer == twin).all(there)
}

/// Host writes that hand on what the host read of the step before, on both sides: what differs in them is
/// a consequence.
fn handed_on(pair: &Pair<'_>, difference: &Difference) -> bool {
    let Difference::Writes { a, b } = difference else { return false };
    let of_reads = |step: &RecordedStep<'_>, id: BufferId| {
        let Some(before) = step.index.checked_sub(1).and_then(|i| step.trace().step(i).ok()) else {
            return false;
        };
        let mut writes = step.record.host_writes.iter().filter(|w| w.buffer == id).peekable();
        before.request == step.record.request
            && writes.peek().is_some()
            && writes.all(|w| before.host_reads.iter().any(|r| r.bytes == w.bytes))
    };
    of_reads(pair.a, *a) && of_reads(pair.b, *b)
}

enum Look {
    /// With the known causes patched the step equals the other run's.
    Quiet,
    /// These differences make it differ as well.
    Causes(BTreeSet<Difference>),
    /// It still differs, and nothing small decides why.
    Unresolved,
}

fn look(
    judge: &mut Judge<'_, '_, '_>,
    report: &mut ExplainReport,
    known: &BTreeSet<Difference>,
    side: Side,
) -> Result<Look, ReplayError> {
    let pair = judge.pair;
    let all = families(pair)?;
    let given = |f: &Family| {
        matches!(f.difference, Difference::State { .. })
            || known.contains(&f.difference)
            || handed_on(pair, &f.difference)
    };
    let patches_of = |f: &Family| match side {
        Side::A => f.into_a.clone(),
        Side::B => f.into_b.clone().unwrap_or_default(),
    };
    let base: Vec<String> = all.iter().filter(|f| given(f)).flat_map(patches_of).collect();
    match judge.equals(side, &base) {
        Answer::Equal => return Ok(Look::Quiet),
        Answer::Unresolved => return Ok(Look::Unresolved),
        Answer::Differs => {}
    }
    let open: Vec<usize> = (0..all.len()).filter(|&i| !given(&all[i])).collect();
    let with = |which: &[usize]| {
        let more = which.iter().flat_map(|&i| patches_of(&all[i]));
        base.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    let needed: Vec<usize> = open
        .iter()
        .copied()
        .filter(|&i| {
            let rest: Vec<usize> = open.iter().copied().filter(|&k| k != i).collect();
            judge.equals(side, &with(&rest)) != Answer::Equal
        })
        .collect();
    if needed.is_empty() || judge.equals(side, &with(&needed)) != Answer::Equal {
        let text =
            "given the other run's state, and with the causes patched, the step still differs".to_owned();
        let at = place(&pair.a.record).map(|at| at.to_string());
        report.evidence.push(Evidence { what: "later", at, node: None, text });
        return Ok(Look::Unresolved);
    }
    let set: BTreeSet<usize> = needed.iter().copied().collect();
    let context = Context {
        pair,
        families: &all,
        broken: broken(report, pair.a),
        witnesses: Witnesses::of(pair),
        stale: provenance::stale_reads(judge, &all, &set)?,
    };
    let mut found = classify(&context, &set);
    for cause in &mut found {
        provenance::walk_back(&context, cause)?;
    }
    let decision = Decision {
        side,
        complete: true,
        sets: vec![set.clone()],
        alone: vec![Answer::Unresolved; all.len()],
        reverse: Answer::Unresolved,
        reverse_patches: Vec::new(),
    };
    let patches = with(&needed);
    let at = crate::explain::place_of(pair.a);
    let case = Found {
        pair,
        at,
        families: &all,
        decision: &decision,
        needed: &patches,
        reproduced: true,
        rounding: None,
    };
    verdict::second(report, &case, found, &base);
    Ok(Look::Causes(set.iter().map(|&i| all[i].difference.clone()).collect()))
}
