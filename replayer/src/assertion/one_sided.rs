//! Names that only one of two runs of another engine covers: nothing judges them.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, Trace};

use crate::ReplayError;
use crate::assertion::policy::{Demand, Policy};
use crate::at::place;
use crate::foreign::is_foreign;

/// Names that a line lists, of each run.
const SHOWN: usize = 3;

/// Names that the snapshots of one run's steps cover, and none of the other's.
#[derive(Debug, Default)]
pub(crate) struct OneSidedNames<'a> {
    pub(crate) only_a: BTreeSet<&'a str>,
    pub(crate) only_b: BTreeSet<&'a str>,
}

impl<'a> OneSidedNames<'a> {
    /// Those of a pair; none where a run is of twinstep's own engine, whose modes have buffers of their own. Names that
    /// `attach` makes up of the nodes of a graph do not count.
    pub(crate) fn of(a: &'a Trace, b: &'a Trace) -> Result<Self, ReplayError> {
        if !is_foreign(a.run()) || !is_foreign(b.run()) {
            return Ok(OneSidedNames::default());
        }
        let (in_a, in_b) = (covered(a)?, covered(b)?);
        let only = |mine: &BTreeSet<&'a str>, theirs: &BTreeSet<&'a str>| {
            mine.difference(theirs).copied().filter(|name| !of_a_node(name)).collect()
        };
        Ok(OneSidedNames { only_a: only(&in_a, &in_b), only_b: only(&in_b, &in_a) })
    }

    /// Without those that a rule ignores, in words; `None` where nothing is left.
    pub(crate) fn unexplained(&self, policy: &Policy) -> Option<String> {
        let ignored = |name: &str| {
            let ignores = policy.rules.iter().filter(|rule| matches!(rule.demand, Demand::Ignore(_)));
            ignores.into_iter().any(|rule| rule.scope.buffer.matches(name))
        };
        let told = |names: &BTreeSet<&str>, side: &str| {
            let names: Vec<&str> = names.iter().copied().filter(|name| !ignored(name)).collect();
            let more = names.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let listed = names[..names.len().min(SHOWN)].join(", ");
            (!names.is_empty()).then(|| format!("only in {side}: {listed}{more}"))
        };
        let parts: Vec<String> =
            [told(&self.only_a, "A"), told(&self.only_b, "B")].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// All of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.only_a.iter().chain(&self.only_b).copied()
    }
}

/// Names that the snapshots of steps cover.
fn covered(trace: &Trace) -> Result<BTreeSet<&str>, ReplayError> {
    let mut ids: BTreeSet<BufferId> = BTreeSet::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        if place(&step).is_none() {
            continue;
        }
        for point in &step.points {
            ids.extend(trace.covered(point.snapshot)?);
        }
    }
    Ok(ids.into_iter().filter_map(|id| Some(trace.buffer(id)?.name.as_str())).collect())
}

/// Whether a name is made of the numbers of a graph, a node and a parameter, and perhaps a byte of it: `g0.n14.p2.8`.
fn of_a_node(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut parts = name.split('.');
    let named = ["g", "n", "p"]
        .iter()
        .all(|letter| parts.next().and_then(|part| part.strip_prefix(letter)).is_some_and(number));
    named && parts.next().is_none_or(number) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::of_a_node;

    #[test]
    fn names_of_nodes_are_told_from_others() {
        assert!(["g0.n14.p2", "g12.n0.p1.8"].into_iter().all(of_a_node));
        let others =
            ["", "g0", "g0.n1", "g0.n1.p", "g.n1.p2", "g0.n1.p2.8.9", "g0.n1.p2.x", "h0.n1.p2", "xg0.n1.p2"];
        assert!(!others.into_iter().any(of_a_node));
    }
}
