//! Between which two points the first difference arose, and what ran there.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, Item, StepRecord, Trace};

use super::step_of;
use crate::ReplayError;
use crate::at::{At, place};
use crate::between::{Intervals, Ran, describe_all};
use crate::diff::DiffReport;
use crate::explain::family::Side;
use crate::points::called;

/// Where the first difference arose.
#[derive(Debug)]
pub(super) struct Located {
    /// The last point at which both are equal, in words; `None` where there is none.
    from: Option<String>,
    /// The first point with a difference.
    to: String,
    /// What ran in between, on each side.
    pub(super) ran: [Vec<Ran>; 2],
    graphs: [BTreeSet<u32>; 2],
    /// Buffers that snapshots show to have changed in between, on each side.
    pub(super) changed: [BTreeSet<BufferId>; 2],
    /// The first point with a difference is one after something ran.
    pub(super) after_launch: bool,
    /// The step record and program item at which it ends, on each side.
    pub(super) end: [Option<(usize, u32)>; 2],
    /// Names of the buffers that differ there.
    pub(super) differing: Vec<String>,
    /// Whether kernels outside graphs are recorded in these steps, on either side.
    pub(super) launches: bool,
}

impl Located {
    /// Finds the points and what ran.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn of(
        (a, at): (&Trace, At),
        (b, at_b): (&Trace, At),
        differences: &DiffReport,
    ) -> Result<Located, ReplayError> {
        let (step, twin) = (step_of(a, at)?, step_of(b, at_b)?);
        let point = differences.first.as_ref().map_or("step.after", |f| f.point.as_str());
        let of_step = |s: &&crate::diff::StepDiff| s.request == at.request && Some(s.step) == at.step;
        let differing = differences.steps.iter().find(of_step).map_or(Vec::new(), |s| s.differing.clone());
        let (ia, ib) = (Intervals::of(a)?, Intervals::of(b)?);
        let end = |intervals: &Intervals, step: &StepRecord| {
            called(&step.points, point).and_then(|p| intervals.ending_at(p.snapshot)).unwrap_or(0)
        };
        let (end_a, end_b) = (end(&ia, &step), end(&ib, &twin));
        // The newest point before it that both have: of the same step, or the last one of steps before.
        let name = |intervals: &Intervals, trace: &Trace, i: usize, at: At| {
            let to = &intervals.list.get(i)?.to;
            let step = trace.step(to.index).ok()?;
            let at_point = place(&step)?;
            let steps_back = at.step?.checked_sub(at_point.step?)?;
            (at_point.request == at.request).then(|| (steps_back, to.point.clone()))
        };
        let names_b: Vec<_> = (0..end_b).rev().take(4096).map(|i| (i, name(&ib, b, i, at_b))).collect();
        let common = (0..end_a).rev().take(4096).find_map(|i| {
            let mine = name(&ia, a, i, at)?;
            let (j, _) = names_b.iter().find(|(_, theirs)| theirs.as_ref() == Some(&mine))?;
            Some((i, *j))
        });
        let ran = |intervals: &Intervals, from: Option<usize>, to: usize| match from {
            Some(from) => intervals.ran(from, to).collect::<Vec<Ran>>(),
            None => intervals.list.get(to).map_or(Vec::new(), |b| b.ran.clone()),
        };
        let changed = |intervals: &Intervals, from: Option<usize>, to: usize| {
            let from = from.map_or(to, |from| from + 1);
            let within = intervals.list.iter().take(to + 1).skip(from);
            within.flat_map(|between| between.changed.keys().copied()).collect::<BTreeSet<BufferId>>()
        };
        let changed = [changed(&ia, common.map(|c| c.0), end_a), changed(&ib, common.map(|c| c.1), end_b)];
        let ends = [(&step, &ia, end_a), (&twin, &ib, end_b)].map(|(step, intervals, end)| {
            let to = &intervals.list.get(end)?.to;
            let point = step.points.iter().find(|p| p.snapshot == to.snapshot)?;
            Some((to.index, point.position))
        });
        let ran = [ran(&ia, common.map(|c| c.0), end_a), ran(&ib, common.map(|c| c.1), end_b)];
        let (mut graphs, mut launches) = ([BTreeSet::new(), BTreeSet::new()], false);
        for (side, trace) in [a, b].into_iter().enumerate() {
            for ran in &ran[side] {
                match trace.program(ran.program)?.items.get(ran.item as usize) {
                    Some(Item::GraphLaunch { graph, .. }) => drop(graphs[side].insert(graph.0)),
                    Some(Item::Opaque(launch)) => launches |= !launch.parameters.is_empty(),
                    _ => {}
                }
            }
        }
        let from = common.and_then(|(i, _)| ia.list.get(i)).map(|b| b.to.name());
        let to = ia.list.get(end_a).map_or(String::new(), |b| b.to.name());
        let after_launch = !point.ends_with(".before");
        Ok(Located { from, to, ran, graphs, changed, after_launch, end: ends, differing, launches })
    }

    /// Numbers of the graphs that one side launched there.
    pub(super) fn graphs(&self, side: Side) -> &BTreeSet<u32> {
        &self.graphs[usize::from(side == Side::B)]
    }

    /// The buffers that differ, in words.
    pub(super) fn buffers(&self) -> String {
        const NAMED: usize = 4;
        let names = self.differing.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        match self.differing.len().saturating_sub(NAMED) {
            _ if names.is_empty() => "what was recorded".to_owned(),
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }

    fn names(&self, side: usize, trace: &Trace) -> Result<String, ReplayError> {
        let names = describe_all(trace, self.ran[side].iter().copied())?;
        Ok(if names.is_empty() { "nothing that is recorded".to_owned() } else { names.join(", ") })
    }

    /// What ran in between, in one clause.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn summary(&self, a: &Trace, b: &Trace) -> Result<String, ReplayError> {
        let (x, y) = (self.names(0, a)?, self.names(1, b)?);
        let from = self.from.as_ref().map_or(format!("before {}", self.to), |from| format!("after {from}"));
        Ok(if x == y { format!("{from}: both ran {x}") } else { format!("{from}: A ran {x}, B ran {y}") })
    }

    /// The facts, a line each.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn describe(&self, a: &Trace, b: &Trace) -> Result<Vec<String>, ReplayError> {
        let mut lines = vec![match &self.from {
            Some(from) => format!("equal at {from}, not at {}", self.to),
            None => format!("no common point before {}", self.to),
        }];
        for (side, trace, name) in [(0, a, "A"), (1, b, "B")] {
            lines.push(format!("in between {name} ran {}", self.names(side, trace)?));
            let mut bound: Vec<String> = Vec::new();
            for &graph in &self.graphs[side] {
                let Some(record) = trace.graph(twinstep_traces::GraphId(graph)) else { continue };
                for id in trace.program(record.program)?.items.iter().flat_map(Item::buffers) {
                    let label = trace.buffer(id).map(|b| format!("{}@{}", b.name, b.generation));
                    if let Some(label) = label.filter(|label| bound.len() < 16 && !bound.contains(label)) {
                        bound.push(label);
                    }
                }
            }
            if !bound.is_empty() {
                lines.push(format!("graphs of {name} bind {}", bound.join(", ")));
            }
        }
        Ok(lines)
    }
}
