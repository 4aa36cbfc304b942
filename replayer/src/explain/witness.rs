//! Who is wrong: evidence beyond the two launches that differ, since neither run is taken for the truth.
//!
//! That a launch is a graph's node is no evidence. What the same launch is in the other kind of step, in both
//! runs, is: a prefill that normalises layer 1 with the very weight that only one of two decode steps has.
//! And so is a program that does not hold together: a launch whose output no launch reads, or scratch that is
//! read and that nothing in the step has written, in one run only.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{Access, LaunchRecord, ProgramId, Role, ScalarValue, StepKind, Trace};

use crate::explain::family::{Pair, Side};
use crate::program::{StepLaunch, launches, writes};
use crate::recorded::RecordedStep;

/// Programs of a run that are looked at.
const PROGRAMS_MAX: usize = 4;

/// Launches of one program by label.
type ByLabel = BTreeMap<String, Vec<LaunchRecord>>;

/// What else in the two runs speaks for one side.
pub(crate) struct Witnesses {
    /// Programs of steps of the other kind, with the buffer names of their operands resolved: of A, of B.
    programs: [Vec<(ByLabel, BTreeMap<u32, String>)>; 2],
    /// Sides with a launch whose output nobody reads, where the other side's is read.
    idle: BTreeSet<Side>,
    /// Sides that read scratch which the step has not written, where the other side has written it.
    unwritten: BTreeSet<Side>,
}

impl Witnesses {
    /// Collects what there is for a pair of steps.
    pub(crate) fn of(pair: &Pair<'_>) -> Witnesses {
        let other_kind = |step: &RecordedStep<'_>| match step.record.kind {
            StepKind::Prefill => programs(step.trace(), StepKind::Decode),
            StepKind::Decode => programs(step.trace(), StepKind::Prefill),
            _ => Vec::new(),
        };
        let (idle_a, idle_b) = (idle(pair.a), idle(pair.b));
        let mut sides = BTreeSet::new();
        for &(i, j) in &pair.alignment.pairs {
            if idle_a.contains(&i) != idle_b.contains(&j) {
                sides.insert(if idle_a.contains(&i) { Side::A } else { Side::B });
            }
        }
        let unwritten = [Side::A, Side::B].into_iter().filter(|&side| reads_unwritten(pair, side)).collect();
        Witnesses { programs: [other_kind(pair.a), other_kind(pair.b)], idle: sides, unwritten }
    }

    /// What all programs of both runs agree on; `None` where one of them has nothing to say.
    fn agreed<T: PartialEq>(
        &self,
        label: &str,
        of: impl Fn(&[LaunchRecord], &BTreeMap<u32, String>) -> Option<T>,
    ) -> Option<T> {
        if label.is_empty() || self.programs.iter().any(Vec::is_empty) {
            return None;
        }
        let mut agreed = None;
        for (launches, names) in self.programs.iter().flatten() {
            let value = of(launches.get(label)?, names)?;
            if agreed.as_ref().is_some_and(|known| *known != value) {
                return None;
            }
            agreed = Some(value);
        }
        agreed
    }

    /// The side whose scalar is not that of the same launch elsewhere.
    pub(crate) fn scalar(&self, label: &str, name: &str, (a, b): (ScalarValue, ScalarValue)) -> Option<Side> {
        let value = |launch: &LaunchRecord| launch.scalars.iter().find(|s| s.name == name).map(|s| s.value);
        odd(self.agreed(label, |launches, _| value(launches.first()?))?, a, b)
    }

    /// The side whose operand is bound to another name than in the same launch elsewhere.
    pub(crate) fn operand(&self, label: &str, operand: &str, (a, b): (&str, &str)) -> Option<Side> {
        let name = self.agreed(label, |launches, names| {
            let view = launches.first()?.views.iter().find(|v| v.name == operand)?;
            names.get(&view.buffer.0).cloned()
        })?;
        odd(name.as_str(), a, b)
    }

    /// The side that has a launch less or more often than a step has it elsewhere.
    pub(crate) fn count(&self, pair: &Pair<'_>, label: &str) -> Option<Side> {
        let count = |side: Side| pair.side(side).launches.iter().filter(|l| l.record.label == label).count();
        odd(self.agreed(label, |launches, _| Some(launches.len()))?, count(Side::A), count(Side::B))
    }

    /// The one side whose program does not hold together: it computes something for nothing, or reads what it
    /// has not computed.
    pub(crate) fn loose_side(&self) -> Option<Side> {
        unanimous(self.idle.union(&self.unwritten).map(|&side| Some(side)))
    }
}

/// The one of two that is not as elsewhere, where the other is.
fn odd<T: PartialEq>(elsewhere: T, a: T, b: T) -> Option<Side> {
    match (a == elsewhere, b == elsewhere) {
        (true, false) => Some(Side::B),
        (false, true) => Some(Side::A),
        _ => None,
    }
}

/// The side that all who have something to say name.
pub(crate) fn unanimous(voices: impl IntoIterator<Item = Option<Side>>) -> Option<Side> {
    let named: BTreeSet<Side> = voices.into_iter().flatten().collect();
    if named.len() == 1 { named.into_iter().next() } else { None }
}

fn programs(trace: &Trace, kind: StepKind) -> Vec<(ByLabel, BTreeMap<u32, String>)> {
    let mut seen: BTreeSet<ProgramId> = BTreeSet::new();
    let mut found = Vec::new();
    for index in 0..trace.step_count() {
        let Ok(record) = trace.step(index) else { continue };
        if record.kind != kind || found.len() == PROGRAMS_MAX || !seen.insert(record.program) {
            continue;
        }
        let Ok(all) = launches(trace, &record) else { continue };
        let (mut by_label, mut names) = (ByLabel::new(), BTreeMap::new());
        for StepLaunch { record, .. } in all {
            for view in &record.views {
                if let Some(buffer) = trace.buffer(view.buffer) {
                    names.insert(view.buffer.0, buffer.name.clone());
                }
            }
            by_label.entry(record.label.clone()).or_default().push(record);
        }
        found.push((by_label, names));
    }
    found
}

/// Whether scratch is live-in on one side alone.
fn reads_unwritten(pair: &Pair<'_>, side: Side) -> bool {
    let (step, other) = (pair.side(side), pair.side(side.other()));
    step.before.keys().any(|&id| {
        let twin = match side {
            Side::A => pair.pairing.of(id),
            Side::B => pair.pairing.reversed_of(id),
        };
        step.trace().buffer(id).is_some_and(|b| b.role == Role::Scratch)
            && twin.is_some_and(|twin| !other.before.contains_key(&twin))
    })
}

/// Launches that write scratch alone, none of which is read before it is written again or the step ends.
/// What the next step reads is live-in there and counts as read.
fn idle(step: &RecordedStep<'_>) -> BTreeSet<usize> {
    let scratch = |view: &twinstep_traces::ViewRecord| {
        step.trace().buffer(view.buffer).is_some_and(|b| b.role == Role::Scratch)
            && !step.before.contains_key(&view.buffer)
    };
    let unread = |n: usize, written: &twinstep_traces::ViewRecord| {
        for later in &step.launches[n + 1..] {
            let mut uses = later.record.views.iter().filter(|v| v.buffer == written.buffer).peekable();
            if uses.peek().is_none() {
                continue;
            }
            return uses.all(|v| {
                v.access == Access::Write && (v.offset, &v.shape) == (written.offset, &written.shape)
            });
        }
        true
    };
    let is_idle = |(n, launch): &(usize, &StepLaunch)| {
        let mut written =
            launch.record.views.iter().filter(|v| writes(v) && v.name != "op_faults").peekable();
        written.peek().is_some() && written.all(|view| scratch(view) && unread(*n, view))
    };
    step.launches.iter().enumerate().filter(is_idle).map(|(n, _)| n).collect()
}
