//! Which allocations exist at which step, and what their names mean there.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Item, Trace};

use crate::ReplayError;

/// Where each buffer of a trace is allocated and given back, by index of the step record.
pub(crate) struct Lifetimes {
    allocated: BTreeMap<BufferId, usize>,
    freed: BTreeMap<BufferId, usize>,
}

impl Lifetimes {
    /// Reads the programs of all steps once.
    pub(crate) fn of(trace: &Trace) -> Result<Lifetimes, ReplayError> {
        let mut lifetimes = Lifetimes { allocated: BTreeMap::new(), freed: BTreeMap::new() };
        let mut without = BTreeSet::new();
        for index in 0..trace.step_count() {
            let program = trace.step(index)?.program;
            if without.contains(&program) {
                continue;
            }
            let mut any = false;
            for item in &trace.program(program)?.items {
                match item {
                    Item::Allocate { buffer } => {
                        lifetimes.allocated.entry(*buffer).or_insert(index);
                        any = true;
                    }
                    Item::Free { buffer } => {
                        lifetimes.freed.entry(*buffer).or_insert(index);
                        any = true;
                    }
                    _ => {}
                }
            }
            if !any {
                without.insert(program);
            }
        }
        lifetimes.add_snapshotted(trace)?;
        Ok(lifetimes)
    }

    /// What a recorder took snapshots of without having told of its allocation was there then.
    fn add_snapshotted(&mut self, trace: &Trace) -> Result<(), ReplayError> {
        let all = (0..trace.buffers().len()).map(|id| BufferId(id as u32));
        let mut untold: BTreeSet<BufferId> = all.filter(|id| !self.allocated.contains_key(id)).collect();
        for index in 0..trace.step_count() {
            if untold.is_empty() {
                break;
            }
            for point in &trace.step(index)?.points {
                for id in trace.covered(point.snapshot)? {
                    if untold.remove(&id) {
                        self.allocated.insert(id, index);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a buffer exists when the step begins or is allocated by it.
    pub(crate) fn live(&self, buffer: BufferId, index: usize) -> bool {
        self.allocated.get(&buffer).is_some_and(|&at| at <= index) && !self.freed_before(buffer, index)
    }

    /// Whether a buffer's memory was given back before the step began.
    pub(crate) fn freed_before(&self, buffer: BufferId, index: usize) -> bool {
        self.freed.get(&buffer).is_some_and(|&at| at < index)
    }

    /// Buffers that were ever allocated up to and in the step, live or not, in order of allocation.
    pub(crate) fn known(&self, index: usize) -> impl Iterator<Item = BufferId> + '_ {
        self.allocated.iter().filter(move |&(_, &at)| at <= index).map(|(&id, _)| id)
    }

    /// Buffers that exist when the step begins, and those that it allocates itself.
    pub(crate) fn live_at(&self, index: usize) -> BTreeSet<BufferId> {
        self.known(index).filter(|&id| self.live(id, index)).collect()
    }

    /// What a bare name means at a step: its newest live generation.
    pub(crate) fn resolve(&self, trace: &Trace, index: usize, name: &str) -> Option<BufferId> {
        let of_name = |id: &BufferId| trace.buffer(*id).is_some_and(|b| b.name == name);
        self.known(index).filter(|&id| self.live(id, index)).filter(of_name).last()
    }
}
