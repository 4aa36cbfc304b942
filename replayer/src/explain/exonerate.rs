//! Suspects that are innocent: patched too, and what came of it.

use std::collections::BTreeSet;

use twinstep_traces::Role;

use crate::explain::family::{Difference, Family, Side};
use crate::explain::search::{Decision, Judge};
use crate::explain::{Exonerated, ExplainReport};
use crate::hybrid::Watch;

/// Patches every difference that is not among the decisive, and every piece of state and input that the
/// step's launches read, by itself.
pub(crate) fn suspects(
    judge: &mut Judge<'_, '_, '_>,
    report: &mut ExplainReport,
    families: &[Family],
    decision: &Decision,
    set: &BTreeSet<usize>,
) {
    let side = decision.side;
    let mut suspects: Vec<Vec<String>> = Vec::new();
    for (i, family) in families.iter().enumerate().filter(|(i, _)| !set.contains(i)) {
        let patches =
            if side == Side::A { family.into_a.clone() } else { family.into_b.clone().unwrap_or_default() };
        if !patches.is_empty() && decision.alone[i] != crate::explain::search::Answer::Equal {
            suspects.push(patches);
        }
    }
    let step = judge.pair.side(side);
    let guilty: BTreeSet<_> = set
        .iter()
        .filter_map(|&i| match families[i].difference {
            Difference::State { a, b } | Difference::Writes { a, b } => {
                Some(if side == Side::A { a } else { b })
            }
            _ => None,
        })
        .collect();
    for &id in step.before.keys().filter(|id| !guilty.contains(id)) {
        let read = step
            .launches
            .iter()
            .flat_map(|l| &l.record.views)
            .any(|v| v.buffer == id && v.access != twinstep_traces::Access::Write);
        let given = step.trace().buffer(id).is_some_and(|b| matches!(b.role, Role::State | Role::Input));
        let twin = match side {
            Side::A => judge.pair.pairing.of(id).filter(|twin| judge.pair.b.before.contains_key(twin)),
            Side::B => {
                judge.pair.pairing.reversed_of(id).filter(|twin| judge.pair.a.before.contains_key(twin))
            }
        };
        if read && given && twin.is_some() {
            suspects.push(vec![format!("{}=other", step.short_name(id))]);
        }
    }
    for patches in suspects {
        let Ok(outcome) = judge.execute(side, &patches, None, Watch::Nothing) else { continue };
        let bytes_changed = outcome.reports.iter().map(|r| r.bytes_changed).sum();
        let nothing = outcome.reports.iter().all(|r| r.no_effect.is_some());
        let result = match outcome.reports.iter().find_map(|r| r.no_effect.clone()).filter(|_| nothing) {
            Some(reason) => format!("no effect: {reason}"),
            None if judge.differing(side, &outcome.state).is_empty() => continue,
            None => "the step still differs".to_owned(),
        };
        report.exonerated.push(Exonerated {
            patch: crate::patch::compressed(&patches).join(" "),
            bytes_changed,
            result,
        });
    }
}
