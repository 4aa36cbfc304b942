//! What ran between two neighbouring snapshot points, and which buffers changed meanwhile: all that is known
//! of the effects of launches whose meaning is not.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, ChunkHash, GraphId, Item, ProgramId, SnapshotId, Trace};

use crate::ReplayError;
use crate::timeline::name_of;

/// Items and changes that are kept before the rest of a trace is left out: one from a stranger can name a
/// long program from any number of steps.
const ENTRIES_MAX: usize = 8_000_000;

/// A snapshot point of a step.
#[derive(Debug, Clone)]
pub(crate) struct PointAt {
    /// The step's index among the trace's records.
    pub(crate) index: usize,
    /// The step: `2`, `3:2`, `set-up`.
    pub(crate) at: String,
    pub(crate) point: String,
    pub(crate) snapshot: SnapshotId,
}

impl PointAt {
    /// `step.before of step 2`.
    pub(crate) fn name(&self) -> String {
        match self.at.as_str() {
            "set-up" => format!("{} of set-up", self.point),
            at => format!("{} of step {at}", self.point),
        }
    }
}

/// A program item of a step that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) program: ProgramId,
    pub(crate) item: u32,
}

/// From one point to the next.
#[derive(Debug, Clone)]
pub(crate) struct Between {
    /// Where it ends.
    pub(crate) to: PointAt,
    /// Program items in order.
    pub(crate) ran: Vec<Ran>,
    /// Buffers with other bytes than at the last point that covered them, and the index of the interval that
    /// ends there. A buffer that is covered for the first time is not among them.
    pub(crate) changed: BTreeMap<BufferId, usize>,
}

/// All intervals of a trace in order of time; the first one begins with the trace.
#[derive(Debug, Default)]
pub(crate) struct Intervals {
    pub(crate) list: Vec<Between>,
    /// Whether the trace was too long to be looked at to its end.
    pub(crate) cut: bool,
}

impl Intervals {
    /// Goes through a trace once.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(crate) fn of(trace: &Trace) -> Result<Intervals, ReplayError> {
        let mut found = Intervals::default();
        let mut last: BTreeMap<BufferId, usize> = BTreeMap::new();
        let mut contents: BTreeMap<(BufferId, u64), ChunkHash> = BTreeMap::new();
        let mut ran: Vec<Ran> = Vec::new();
        let mut entries = 0;
        for index in 0..trace.step_count() {
            let step = trace.step(index)?;
            let items = trace.program(step.program)?.items.len() as u32;
            let mut next = 0;
            let mut run = |until: u32, ran: &mut Vec<Ran>| {
                ran.extend((next..until).map(|item| Ran { program: step.program, item }));
                next = next.max(until);
            };
            for point in &step.points {
                run(point.position.min(items), &mut ran);
                let at = found.list.len();
                let mut changed = BTreeMap::new();
                for change in trace.changes(point.snapshot)? {
                    // A snapshot may list again what is as it was: another stream's first look does.
                    let before = contents.insert((change.buffer, change.chunk), change.hash);
                    if let Some(&since) = last.get(&change.buffer).filter(|_| before != Some(change.hash)) {
                        changed.insert(change.buffer, since);
                    }
                }
                let covered = trace.covered(point.snapshot)?;
                entries += covered.len() + ran.len();
                last.extend(covered.into_iter().map(|buffer| (buffer, at)));
                let (point, snapshot) = (point.point.clone(), point.snapshot);
                let to = PointAt { index, at: name_of(&step), point, snapshot };
                found.list.push(Between { to, ran: std::mem::take(&mut ran), changed });
            }
            run(items, &mut ran);
            if entries + ran.len() > ENTRIES_MAX {
                found.cut = true;
                break;
            }
        }
        Ok(found)
    }

    /// The items that ran after interval `from` up to the end of interval `to`.
    pub(crate) fn ran(&self, from: usize, to: usize) -> impl Iterator<Item = Ran> + '_ {
        self.list.iter().take(to + 1).skip(from + 1).flat_map(|b| b.ran.iter().copied())
    }

    /// The interval that ends at a snapshot.
    pub(crate) fn ending_at(&self, snapshot: SnapshotId) -> Option<usize> {
        self.list.iter().position(|b| b.to.snapshot == snapshot)
    }

    /// The buffers that changed over a launch of any graph.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(crate) fn changed_by_graphs(&self, trace: &Trace) -> Result<BTreeSet<BufferId>, ReplayError> {
        let mut found = BTreeSet::new();
        for (at, between) in self.list.iter().enumerate() {
            for ran in &between.ran {
                if let Some(Item::GraphLaunch { graph, .. }) =
                    trace.program(ran.program)?.items.get(ran.item as usize)
                    && trace.graph(*graph).is_some()
                {
                    let changed = between.changed.iter().filter(|&(_, since)| since + 1 == at);
                    found.extend(changed.map(|(&buffer, _)| buffer));
                    break;
                }
            }
        }
        Ok(found)
    }

    /// For each launch of a graph that has a point on either side and no other launch of a graph, kernel,
    /// copy or fill between these: the buffers that changed over it.
    pub(crate) fn launches_of(
        &self,
        trace: &Trace,
        graph: GraphId,
    ) -> Result<Vec<(usize, Vec<BufferId>)>, ReplayError> {
        let mut found = Vec::new();
        for (at, between) in self.list.iter().enumerate() {
            let mut own = 0;
            for ran in &between.ran {
                if let Some(Item::GraphLaunch { graph: launched, .. }) =
                    trace.program(ran.program)?.items.get(ran.item as usize)
                {
                    own += usize::from(*launched == graph);
                }
            }
            if own > 0 {
                let changed = between.changed.iter().filter(|&(_, since)| since + 1 == at);
                found.push((at, changed.map(|(&buffer, _)| buffer).collect()));
            }
        }
        Ok(found)
    }
}

/// What a program item is, in words, for people: `graph 3 (decode)`, `kernel embed`.
pub(crate) fn describe(trace: &Trace, item: &Item) -> Option<String> {
    Some(match item {
        Item::Launch(launch) if launch.label.is_empty() => launch.op.clone(),
        Item::Launch(launch) => launch.label.clone(),
        Item::GraphLaunch { graph, .. } => match trace.graph(*graph).map(|g| g.label.as_str()) {
            Some(label) if !label.is_empty() => format!("graph {} ({label})", graph.0),
            _ => format!("graph {}", graph.0),
        },
        Item::Opaque(launch) => crate::kernel_name::short(&launch.kernel),
        Item::Copy { .. } => "a copy".to_owned(),
        Item::Fill { .. } => "a fill".to_owned(),
        Item::Gap { reason } => format!("something not recorded ({reason})"),
        _ => return None,
    })
}

/// What ran, in words: at most eight things by name.
pub(crate) fn describe_all(
    trace: &Trace,
    ran: impl Iterator<Item = Ran>,
) -> Result<Vec<String>, ReplayError> {
    const NAMED: usize = 8;
    let (mut names, mut more) = (Vec::new(), 0);
    for ran in ran {
        let program = trace.program(ran.program)?;
        let Some(name) = program.items.get(ran.item as usize).and_then(|item| describe(trace, item)) else {
            continue;
        };
        if names.len() < NAMED { names.push(name) } else { more += 1 }
    }
    if more > 0 {
        names.push(format!("{more} more"));
    }
    Ok(names)
}
