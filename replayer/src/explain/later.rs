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

/// Steps in which the same differences are open, and how they were tried: where they make no difference they
/// are tried again after 1, 2, 4, ... steps, and in the last one.
struct Stretch {
    open: BTreeSet<Difference>,
    /// The newest step that was tried, and equals the other run's.
    quiet: usize,
    /// Steps until it is tried again.
    wait: usize,
    /// The newest step that was not tried.
    skipped: Option<usize>,
}

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
    let count = judge.pair.a.trace().step_count();
    let mut known = decisive.clone();
    let mut looked_at = 0usize;
    let mut stretch: Option<Stretch> = None;
    let mut index = judge.pair.a.index + 1;
    while index <= count && judge.budget > 0 {
        let open = if index < count { open_at(judge, index, &known, side)? } else { Open::End };
        let same = |s: &Stretch| matches!(&open, Open::Differences(d) if *d == s.open);
        // The end of a stretch is tried, whatever was to be waited for.
        if let Some(Stretch { quiet, skipped: Some(last), .. }) = stretch.take_if(|s| !same(s)) {
            looked_at += 1;
            if let Some((at, more)) = search_back(judge, report, &known, side, (quiet, last))? {
                known.extend(more);
                index = at + 1;
                continue;
            }
        }
        let differences = match open {
            Open::End => break,
            Open::Nothing => {
                index += 1;
                continue;
            }
            Open::Differences(differences) => differences,
        };
        if let Some(s) = stretch.as_mut().filter(|s| index < s.quiet + s.wait) {
            s.skipped = Some(index);
            index += 1;
            continue;
        }
        looked_at += 1;
        let before = stretch.as_ref().map_or(index - 1, |s| s.quiet);
        match search_back(judge, report, &known, side, (before, index))? {
            Some((at, more)) if !more.is_empty() => {
                known.extend(more);
                stretch = None;
                index = at + 1;
            }
            Some(_) => break,
            None => {
                let wait = stretch.as_ref().map_or(1, |s| s.wait * 2);
                stretch = Some(Stretch { open: differences, quiet: index, wait, skipped: None });
                index += 1;
            }
        }
    }
    if looked_at == 0 {
        let text = "no later step of the request differs in what it is given, but for state".to_owned();
        report.evidence.push(Evidence { what: "later", at: None, node: None, text });
    }
    Ok(())
}

/// What else than state is different in a later step's inputs.
enum Open {
    /// Nothing that is not known or a consequence.
    Nothing,
    /// These.
    Differences(BTreeSet<Difference>),
    /// The runs have no further step in common that can be compared.
    End,
}

fn open_at(
    judge: &Judge<'_, '_, '_>,
    index: usize,
    known: &BTreeSet<Difference>,
    side: Side,
) -> Result<Open, ReplayError> {
    let (run_a, run_b) = (judge.pair.a.run, judge.pair.b.run);
    let record = run_a.trace.step(index)?;
    let Some(at) = place(&record).filter(|at| at.step.is_some()) else { return Ok(Open::Nothing) };
    if !comparable_from(judge, at.request)? {
        return Ok(Open::End);
    }
    let Ok(twin) = run_b.find(at) else { return Ok(Open::End) };
    let (light_a, light_b) = (run_a.light(index)?, run_b.light(twin)?);
    let pair = Pair::new(&light_a, &light_b);
    let others: BTreeSet<Difference> = families(&pair)?
        .into_iter()
        .map(|family| family.difference)
        .filter(|d| !known.contains(d) && !unchanged(&pair, side, d) && !handed_on(&pair, d))
        .collect();
    Ok(if others.is_empty() { Open::Nothing } else { Open::Differences(others) })
}

/// Tries step `last`; where it differs, finds the first one after `quiet` that does and looks for causes
/// there. Gives that step with the differences that decide there: none where nothing small does.
fn search_back(
    judge: &mut Judge<'_, '_, '_>,
    report: &mut ExplainReport,
    known: &BTreeSet<Difference>,
    side: Side,
    (quiet, last): (usize, usize),
) -> Result<Option<(usize, BTreeSet<Difference>)>, ReplayError> {
    if at_step(judge, last, |here| is_quiet(here, known, side))? != Some(false) {
        return Ok(None);
    }
    let (mut low, mut high) = (quiet, last);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match at_step(judge, middle, |here| is_quiet(here, known, side))? {
            Some(false) => high = middle,
            _ => low = middle,
        }
    }
    match at_step(judge, high, |here| look(here, report, known, side))? {
        Some(Look::Causes(more)) => Ok(Some((high, more))),
        _ => Ok(Some((high, BTreeSet::new()))),
    }
}

/// Does something with a later step of both runs; `None` where it is no step of both.
fn at_step<T>(
    judge: &mut Judge<'_, '_, '_>,
    index: usize,
    what: impl FnOnce(&mut Judge<'_, '_, '_>) -> Result<T, ReplayError>,
) -> Result<Option<T>, ReplayError> {
    let (run_a, run_b) = (judge.pair.a.run, judge.pair.b.run);
    let Some(at) = place(&run_a.trace.step(index)?).filter(|at| at.step.is_some()) else { return Ok(None) };
    let Ok(twin) = run_b.find(at) else { return Ok(None) };
    let (step_a, step_b) = (run_a.step(index)?, run_b.step(twin)?);
    let pair = Pair::new(&step_a, &step_b);
    let mut here = Judge {
        pair: &pair,
        hybrid_a: &mut *judge.hybrid_a,
        hybrid_b: &mut *judge.hybrid_b,
        budget: judge.budget,
        progress: &mut *judge.progress,
        executions: judge.executions,
    };
    let done = what(&mut here);
    (judge.budget, judge.executions) = (here.budget, here.executions);
    done.map(Some)
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

/// What a look at a later step gives.
enum Look {
    /// These differences make it differ as well.
    Causes(BTreeSet<Difference>),
    /// Nothing small decides why it still differs.
    Unresolved,
}

/// Whether a difference is state, known, or a consequence of these.
fn given(pair: &Pair<'_>, family: &Family, known: &BTreeSet<Difference>) -> bool {
    matches!(family.difference, Difference::State { .. })
        || known.contains(&family.difference)
        || handed_on(pair, &family.difference)
}

/// The patches of a family on one side.
fn patches_of(family: &Family, side: Side) -> Vec<String> {
    match side {
        Side::A => family.into_a.clone(),
        Side::B => family.into_b.clone().unwrap_or_default(),
    }
}

/// Whether the step, given the other run's state and with the known causes patched, equals the other run's
/// as far as it can be executed.
fn is_quiet(
    judge: &mut Judge<'_, '_, '_>,
    known: &BTreeSet<Difference>,
    side: Side,
) -> Result<bool, ReplayError> {
    let pair = judge.pair;
    let all = families(pair)?;
    let base: Vec<String> =
        all.iter().filter(|f| given(pair, f, known)).flat_map(|f| patches_of(f, side)).collect();
    Ok(judge.equals(side, &base) != Answer::Differs)
}

/// Looks for what makes a later step differ, and reports it.
fn look(
    judge: &mut Judge<'_, '_, '_>,
    report: &mut ExplainReport,
    known: &BTreeSet<Difference>,
    side: Side,
) -> Result<Look, ReplayError> {
    let pair = judge.pair;
    let all = families(pair)?;
    let given = |f: &Family| given(pair, f, known);
    let patches_of = |f: &Family| patches_of(f, side);
    let base: Vec<String> = all.iter().filter(|f| given(f)).flat_map(patches_of).collect();
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
        ended: judge.budget > 0,
    };
    verdict::second(report, &case, found, &base);
    Ok(Look::Causes(set.iter().map(|&i| all[i].difference.clone()).collect()))
}
