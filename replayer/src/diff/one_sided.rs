//! What was not compared because one run does not have it: never taken for equal in silence.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use twinstep_traces::{BufferId, Trace};

use crate::at::At;

/// Names that a line lists.
const SHOWN: usize = 6;

/// A buffer that at some points of steps of both runs is in the snapshot of one run only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OneSided {
    /// Name without generation.
    pub buffer: String,
    /// The run that has it: `a` or `b`.
    pub side: &'static str,
    /// How many steps have such a point.
    pub steps: usize,
    /// The first of them, by the request's number in A.
    pub first: String,
    /// Whether it was compared at another point or step.
    pub compared_elsewhere: bool,
}

/// How often, and where first and last.
struct Seen {
    steps: usize,
    first: At,
    last: At,
}

/// Gathers them, step by step.
#[derive(Default)]
pub(super) struct OneSidedBuffers {
    seen: BTreeMap<(String, &'static str), Seen>,
    /// Names that were compared anywhere.
    compared: BTreeSet<String>,
    /// Names that both have without an element.
    empty: BTreeSet<String>,
    /// Points at which a buffer was compared, or is known to hold nothing of its step.
    places: usize,
}

impl OneSidedBuffers {
    /// A buffer that both snapshots have.
    pub(super) fn both(&mut self, (a, id): (&Trace, BufferId), (b, twin): (&Trace, BufferId)) {
        let empty = |trace: &Trace, id| trace.buffer(id).is_some_and(|record| record.shape.contains(&0));
        let trace = a;
        if empty(a, id) && empty(b, twin) {
            self.empty.extend(trace.buffer(id).map(|record| record.name.clone()));
            return;
        }
        self.places += 1;
        if let Some(record) = trace.buffer(id)
            && !self.compared.contains(&record.name)
        {
            self.compared.insert(record.name.clone());
        }
    }

    /// A buffer that only one has.
    pub(super) fn one(&mut self, trace: &Trace, id: BufferId, side: &'static str, at: At) {
        let Some(record) = trace.buffer(id) else { return };
        let seen =
            self.seen.entry((record.name.clone(), side)).or_insert(Seen { steps: 0, first: at, last: at });
        if seen.steps == 0 || seen.last != at {
            seen.steps += 1;
        }
        seen.last = at;
    }

    /// Places compared so far.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Names that both have and that were never compared, as they held no element.
    pub(super) fn empty(&self) -> Vec<String> {
        self.empty.difference(&self.compared).cloned().collect()
    }

    /// In order of name.
    pub(super) fn report(self) -> Vec<OneSided> {
        let all = self.seen.into_iter().map(|((buffer, side), seen)| OneSided {
            side,
            steps: seen.steps,
            first: seen.first.to_string(),
            compared_elsewhere: self.compared.contains(&buffer),
            buffer,
        });
        all.collect()
    }
}

/// Some of many names.
pub(super) fn names(all: &[String]) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}

/// One line for people: which buffers are on one side only.
pub(super) fn line(all: &[OneSided]) -> Option<String> {
    if all.is_empty() {
        return None;
    }
    let name = |one: &OneSided| {
        let steps = if one.steps == 1 { "step" } else { "steps" };
        let place = if one.compared_elsewhere { format!(", the first {}", one.first) } else { String::new() };
        format!("{} ({}, {} {steps}{place})", one.buffer, one.side.to_uppercase(), one.steps)
    };
    let listed: Vec<String> = all.iter().take(SHOWN).map(name).collect();
    let more = all.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more (--json lists them)") } else { String::new() };
    Some(format!("on one side only, not compared: {}{more}", listed.join(", ")))
}
