//! Which differences make the runs differ: by executing hybrids.
//!
//! One run's step is executed with some differences patched to be as in the other run. A set of differences
//! *decides* if with it patched the step equals the other run's. A difference is *needed* if with all
//! others patched the step still differs. Where the needed ones decide, they are the one minimal set,
//! unless another set of one or two decides as well.

use std::collections::BTreeSet;

use crate::ReplayError;
use crate::explain::family::{Family, Pair, Side};
use crate::hybrid::{Hybrid, Outcome, Watch};
use crate::patch::Patch;
use crate::plan::Twin;
use crate::recorded::State;

/// Executes hybrids of a pair of steps, and counts them.
pub(crate) struct Judge<'p, 'r, 'h> {
    pub(crate) pair: &'p Pair<'p>,
    pub(crate) hybrid_a: &'h mut Hybrid<'r>,
    pub(crate) hybrid_b: &'h mut Hybrid<'r>,
    /// Executions that may still be made.
    pub(crate) budget: usize,
    /// Called after each.
    pub(crate) progress: &'h mut dyn FnMut(usize),
    pub(crate) executions: usize,
}

/// What came of patching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The step equals the other run's.
    Equal,
    /// It still differs.
    Differs,
    /// The hybrid cannot run, or the budget is used up.
    Unresolved,
}

impl Judge<'_, '_, '_> {
    /// Executes one side's step with patches.
    ///
    /// # Errors
    /// [`ReplayError`] where the hybrid cannot run or the budget is used up.
    pub(crate) fn execute(
        &mut self,
        side: Side,
        patches: &[String],
        start: Option<&State>,
        watch: Watch,
    ) -> Result<Outcome, ReplayError> {
        if self.budget == 0 {
            return Err(ReplayError::Opaque("the budget of re-executions is used up".to_owned()));
        }
        self.budget -= 1;
        self.executions += 1;
        (self.progress)(self.executions);
        let step = self.pair.side(side);
        let patches = patches.iter().map(|text| Patch::parse(step, text)).collect::<Result<Vec<_>, _>>()?;
        let reversed =
            (side == Side::B).then(|| (self.pair.pairing.reversed(), self.pair.alignment.reversed()));
        let (pairing, alignment) =
            reversed.as_ref().map_or((&self.pair.pairing, &self.pair.alignment), |(p, a)| (p, a));
        let twin = Twin { step: self.pair.side(side.other()), pairing, alignment };
        let hybrid = if side == Side::A { &mut *self.hybrid_a } else { &mut *self.hybrid_b };
        hybrid.execute(step, Some(&twin), &patches, start, watch)
    }

    /// Buffers of one side's outcome that differ from the other run's, by their identity on that side.
    pub(crate) fn differing(&self, side: Side, outcome: &State) -> Vec<twinstep_traces::BufferId> {
        let other = self.pair.side(side.other());
        let twin = |id| match side {
            Side::A => self.pair.pairing.of(id),
            Side::B => self.pair.pairing.reversed_of(id),
        };
        outcome
            .iter()
            .filter(|(id, bytes)| {
                let theirs = twin(**id).and_then(|twin| other.after.get(&twin));
                theirs.is_some_and(|theirs| theirs != *bytes)
            })
            .map(|(&id, _)| id)
            .collect()
    }

    /// Whether one side's step with these patches equals the other run's.
    pub(crate) fn equals(&mut self, side: Side, patches: &[String]) -> Answer {
        match self.execute(side, patches, None, Watch::Nothing) {
            Ok(outcome) if self.differing(side, &outcome.state).is_empty() => Answer::Equal,
            Ok(_) => Answer::Differs,
            Err(_) => Answer::Unresolved,
        }
    }
}

/// The patches of one side for some families; `None` where one of them has none.
pub(crate) fn patches(families: &[Family], which: &BTreeSet<usize>, side: Side) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for &i in which {
        match side {
            Side::A if families[i].into_a.is_empty() => return None,
            Side::A => all.extend(families[i].into_a.iter().cloned()),
            Side::B => all.extend(families[i].into_b.clone().filter(|p| !p.is_empty())?),
        }
    }
    Some(all)
}

/// What decides.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// The side that was patched.
    pub(crate) side: Side,
    /// With every difference patched the step equals the other run's.
    pub(crate) complete: bool,
    /// Minimal sets that decide, the needed one first.
    pub(crate) sets: Vec<BTreeSet<usize>>,
    /// What patching each difference alone gives.
    pub(crate) alone: Vec<Answer>,
    /// Whether patching the set's opposite into the other run gives this run's outcome.
    pub(crate) reverse: Answer,
    /// The patches of the other run that were tried for that.
    pub(crate) reverse_patches: Vec<String>,
}

/// Most differences whose pairs are tried.
const PAIRS_OF: usize = 12;

/// Searches on one side.
pub(crate) fn search(judge: &mut Judge<'_, '_, '_>, families: &[Family], side: Side) -> Decision {
    let everything: BTreeSet<usize> = (0..families.len()).collect();
    let mut decision = Decision {
        side,
        complete: false,
        sets: Vec::new(),
        alone: vec![Answer::Unresolved; families.len()],
        reverse: Answer::Unresolved,
        reverse_patches: Vec::new(),
    };
    let ask = |judge: &mut Judge<'_, '_, '_>, which: &BTreeSet<usize>| match patches(families, which, side) {
        Some(patches) => judge.equals(side, &patches),
        None => Answer::Unresolved,
    };
    for i in 0..families.len() {
        decision.alone[i] = ask(judge, &BTreeSet::from([i]));
    }
    decision.complete = ask(judge, &everything) == Answer::Equal;
    let mut sets: Vec<BTreeSet<usize>> = Vec::new();
    if decision.complete {
        let needed: BTreeSet<usize> = everything
            .iter()
            .copied()
            .filter(|i| {
                let mut rest = everything.clone();
                rest.remove(i);
                ask(judge, &rest) != Answer::Equal
            })
            .collect();
        if !needed.is_empty() && ask(judge, &needed) == Answer::Equal {
            sets.push(needed);
        }
    }
    // Other explanations as small as that: a set that holds a set already found is none.
    let mut try_set = |judge: &mut Judge<'_, '_, '_>, set: BTreeSet<usize>| {
        if !sets.iter().any(|known| known.is_subset(&set)) && ask(judge, &set) == Answer::Equal {
            sets.push(set);
        }
    };
    for i in 0..families.len() {
        if decision.alone[i] == Answer::Equal {
            try_set(judge, BTreeSet::from([i]));
        }
    }
    if families.len() <= PAIRS_OF {
        for i in 0..families.len() {
            for j in i + 1..families.len() {
                try_set(judge, BTreeSet::from([i, j]));
            }
        }
    }
    // The needed set was put first; drop it where a smaller one was found inside it.
    let minimal = |set: &BTreeSet<usize>| !sets.iter().any(|other| other != set && other.is_subset(set));
    decision.sets = sets.iter().filter(|set| minimal(set)).cloned().collect();
    if let [only] = &decision.sets[..] {
        (decision.reverse, decision.reverse_patches) = reverse(judge, families, only, side);
    }
    decision
}

/// Patches the other run with the opposite of a set: it must give this run's outcome.
fn reverse(
    judge: &mut Judge<'_, '_, '_>,
    families: &[Family],
    set: &BTreeSet<usize>,
    side: Side,
) -> (Answer, Vec<String>) {
    let back = side.other();
    let Some(mut all) = patches(families, set, back) else { return (Answer::Unresolved, Vec::new()) };
    // Memory that only this run reads before writing it has to be as it was here.
    let (step, other) = (judge.pair.side(side), judge.pair.side(back));
    for &id in step.before.keys() {
        let twin = match side {
            Side::A => judge.pair.pairing.of(id),
            Side::B => judge.pair.pairing.reversed_of(id),
        };
        let alike = |x: twinstep_traces::BufferId, y: twinstep_traces::BufferId| {
            let (x, y) = (step.trace().buffer(x), other.trace().buffer(y));
            x.zip(y).is_some_and(|(x, y)| (&x.shape, x.dtype) == (&y.shape, y.dtype))
        };
        if let Some(twin) = twin.filter(|&twin| alike(id, twin))
            && !other.before.contains_key(&twin)
            && other.live.contains(&twin)
        {
            all.push(format!("{}=other", other.short_name(twin)));
        }
    }
    (judge.equals(back, &all), all)
}

/// The members of a set's patches that are needed: each is left out once, all others kept.
pub(crate) fn needed_patches(judge: &mut Judge<'_, '_, '_>, side: Side, all: &[String]) -> Vec<String> {
    let mut kept = all.to_vec();
    for patch in all {
        if kept.len() == 1 {
            break;
        }
        let without: Vec<String> = kept.iter().filter(|p| *p != patch).cloned().collect();
        if judge.equals(side, &without) == Answer::Equal {
            kept = without;
        }
    }
    kept
}
