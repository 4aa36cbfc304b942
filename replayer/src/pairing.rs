//! Which buffer of one run stands for which of the other.
//!
//! A name means its newest live generation, in each run by itself: what a reallocated `last_codes@1` holds is
//! compared with the other run's `last_codes@0`. Older generations pair with the same number, where the
//! other run has no other use for it.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Trace};

use crate::lifetime::Lifetimes;

/// The pairs at one step of two runs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pairing {
    forth: BTreeMap<BufferId, BufferId>,
    back: BTreeMap<BufferId, BufferId>,
}

/// One run at one step.
pub(crate) type Place<'a> = (&'a Trace, &'a Lifetimes, usize);

impl Pairing {
    /// Pairs all buffers known at a step.
    pub(crate) fn at(a: Place<'_>, b: Place<'_>) -> Pairing {
        let newest = |(trace, lifetimes, index): Place<'_>| {
            let mut by_name: BTreeMap<String, BufferId> = BTreeMap::new();
            for id in lifetimes.known(index).filter(|&id| lifetimes.live(id, index)) {
                if let Some(record) = trace.buffer(id) {
                    by_name.insert(record.name.clone(), id);
                }
            }
            by_name
        };
        let (mine, theirs) = (newest(a), newest(b));
        let mut pairing = Pairing::default();
        for (name, &id) in &mine {
            if let Some(&twin) = theirs.get(name) {
                pairing.add(id, twin);
            }
        }
        let known: BTreeSet<BufferId> = b.1.known(b.2).collect();
        for id in a.1.known(a.2) {
            let Some(record) = a.0.buffer(id) else { continue };
            let twin = b.0.find_buffer(&record.name, Some(record.generation));
            if let Some(twin) = twin.filter(|twin| known.contains(twin)) {
                pairing.add(id, twin);
            }
        }
        pairing
    }

    fn add(&mut self, a: BufferId, b: BufferId) {
        if !self.forth.contains_key(&a) && !self.back.contains_key(&b) {
            self.forth.insert(a, b);
            self.back.insert(b, a);
        }
    }

    /// The other run's buffer for one of the first run.
    pub(crate) fn of(&self, a: BufferId) -> Option<BufferId> {
        self.forth.get(&a).copied()
    }

    /// The first run's buffer for one of the other.
    pub(crate) fn reversed_of(&self, b: BufferId) -> Option<BufferId> {
        self.back.get(&b).copied()
    }

    /// The pairing seen from the other run.
    pub(crate) fn reversed(&self) -> Pairing {
        Pairing { forth: self.back.clone(), back: self.forth.clone() }
    }
}
