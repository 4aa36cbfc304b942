//! What launches, copies and fills of another engine's first step of a request have addresses of.
//!
//! The rest of memory is left over from warm-up runs and earlier requests, which leave other things in two runs; what
//! of it matters shows after the step.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Item, PointRecord, ProgramId, SnapshotId, StepKind, StepRecord, Trace};

use crate::ReplayError;
use crate::foreign::is_foreign;

/// Items and nodes that are looked at in one trace: one from a stranger can name a long program from any number of steps.
const WORK_MAX: usize = 20_000_000;

/// The work that is left.
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    /// For one trace.
    pub(crate) fn new() -> Budget {
        Budget { left: WORK_MAX }
    }

    /// Whether it did not suffice.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    fn spend(&mut self, work: usize) -> bool {
        self.left = self.left.saturating_sub(work);
        self.left > 0
    }
}

/// One step.
pub(crate) struct Touched {
    /// By buffer: from which position on it is touched.
    first: BTreeMap<BufferId, u32>,
    /// From which position on something was launched that may write what it does not say.
    untold: u32,
    /// As that, but of what comes before the first launch it is not asked.
    untold_outside: u32,
    /// The position after the first launch; `None`: what ran is not recorded at all.
    launch: Option<u32>,
    /// Snapshots of the points that end it, two of them at most.
    after: Vec<SnapshotId>,
}

/// Whether an item may write what it does not say.
fn untold(item: &Item) -> bool {
    match item {
        Item::Gap { .. } | Item::Launch(_) => true,
        Item::Opaque(launch) => launch.parameters.is_empty(),
        _ => false,
    }
}

impl Touched {
    /// Of a first step of a request of another engine; of others `None`, as there all is compared, and also where the
    /// budget does not suffice.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(crate) fn of(
        trace: &Trace,
        step: &StepRecord,
        budget: &mut Budget,
    ) -> Result<Option<Touched>, ReplayError> {
        let first = step.kind == StepKind::Prefill || step.step == 1;
        // Nothing is asked of the last point.
        let several = step.points.iter().any(|p| p.point != "step.after");
        if !(first && several && is_foreign(trace.run())) {
            return Ok(None);
        }
        let mut after = Vec::new();
        for point in step.points.iter().filter(|p| p.point == "step.after") {
            if after.len() < 2 && !after.contains(&point.snapshot) {
                after.push(point.snapshot);
            }
        }
        let (first, untold_outside) = (BTreeMap::new(), u32::MAX);
        let mut it = Touched { first, untold: u32::MAX, untold_outside, launch: None, after };
        let program = trace.program(step.program)?;
        let mut graphs: BTreeSet<ProgramId> = BTreeSet::new();
        for (at, item) in (1..).zip(&program.items) {
            if matches!(item, Item::Opaque(_) | Item::GraphLaunch { .. }) {
                it.launch.get_or_insert(at);
            }
            if untold(item) {
                it.untold_outside = it.untold_outside.min(at);
            }
            let buffers = item.buffers();
            if !budget.spend(1 + buffers.len()) {
                return Ok(None);
            }
            for buffer in buffers {
                it.first.entry(buffer).or_insert(at);
            }
            let Item::GraphLaunch { graph, .. } = item else { continue };
            let Some(record) = trace.graph(*graph) else {
                it.untold = it.untold.min(at);
                continue;
            };
            if !graphs.insert(record.program) {
                continue;
            }
            for node in &trace.program(record.program)?.items {
                let buffers = node.buffers();
                if !budget.spend(1 + buffers.len()) {
                    return Ok(None);
                }
                if untold(node) {
                    it.untold = it.untold.min(at);
                }
                for buffer in buffers {
                    it.first.entry(buffer).or_insert(at);
                }
            }
        }
        for write in &step.host_writes {
            let at = it.first.entry(write.buffer).or_insert(write.position);
            *at = write.position.min(*at);
        }
        Ok(Some(it))
    }

    /// Whether a buffer was not touched before a point, which is not the step's last one, and all that ran until then is
    /// known.
    pub(crate) fn lacks(&self, point: &PointRecord, buffer: BufferId) -> bool {
        let later = self.after.iter().any(|after| *after != point.snapshot);
        if !later || point.point == "step.after" {
            return false;
        }
        let begun = match self.launch {
            Some(first) => first <= point.position,
            // Dumps: what ran is not recorded at all.
            None => point.point != "step.before",
        };
        let known = self.untold > point.position && !(begun && self.untold_outside <= point.position);
        known && self.first.get(&buffer).is_none_or(|&at| at > point.position)
    }
}
