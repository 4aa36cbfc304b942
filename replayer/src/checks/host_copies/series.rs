//! Launches of a graph that read an input, and how long they had a copy each.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use twinstep_traces::SnapshotId;

use super::due::JUMPS_MIN;
use super::inputs::Window;
use crate::checks::Spot;

/// Decode steps in a row with another value each time after which a copy is expected.
pub(super) const STEPS_MIN: u32 = 3;

/// Where the host copied to, and how many bytes, in order.
pub(super) type Targets = Rc<Vec<(u64, u64)>>;

/// The first launch of a step that read an input.
pub(super) struct Read {
    pub(super) spot: Spot,
    pub(super) node: String,
    pub(super) window: Window,
    pub(super) version: u64,
    /// The snapshot that shows what the launch was given.
    pub(super) given: Option<SnapshotId>,
    /// Whether it was as it had been when a snapshot showed it next.
    pub(super) kept: Option<bool>,
    /// Of the launch.
    pub(super) stream: u32,
    /// The last copy to it before was in the step before.
    pub(super) ahead: bool,
    /// Copies from the host to it that came later in the step.
    pub(super) late: u32,
    /// All copies from the host before it, since the last graph launch of an earlier step.
    pub(super) targets: Targets,
}

/// Decode steps in a row in which a graph was launched after a copy to an input.
pub(super) struct Series {
    pub(super) steps: u32,
    /// Request and step of the last of them.
    pub(super) last: (u32, u32),
    version: u64,
    pub(super) first: u64,
    pub(super) copies: u32,
    pub(super) ahead: bool,
    others: BTreeSet<String>,
    /// Of the last of them.
    pub(super) targets: Targets,
    /// What the launches were given, the newest [`JUMPS_MIN`] and one.
    pub(super) given: VecDeque<SnapshotId>,
}

impl Series {
    /// One more step with a copy, whose launch was given what a snapshot shows: the series goes on, or begins anew.
    pub(super) fn after(before: Option<Series>, read: Read, given: SnapshotId, last: (u32, u32)) -> Series {
        let Read { window, version, ahead, targets, .. } = read;
        // The first launch of a request finds what was copied for a prefill as well.
        let goes_on = |s: &Series| {
            let alike = s.first == window.first && s.copies == window.copies;
            s.version != version && (alike || s.steps == 1)
        };
        let (first, copies) = (window.first, window.copies);
        let (steps, others, mut all) = match before {
            Some(s) if s.steps == 0 => (1, window.others, s.given),
            Some(s) if goes_on(&s) => {
                (s.steps + 1, s.others.intersection(&window.others).cloned().collect(), s.given)
            }
            _ => (1, window.others, VecDeque::new()),
        };
        if all.len() > JUMPS_MIN {
            all.pop_front();
        }
        all.push_back(given);
        Series { steps, last, version, first, copies, ahead, others, targets, given: all }
    }

    /// None any more: a launch had no copy. What it was given is where the next series begins.
    pub(super) fn none(given: SnapshotId, last: (u32, u32), version: u64) -> Series {
        let (others, targets) = (BTreeSet::new(), Targets::default());
        let given = VecDeque::from([given]);
        Series { steps: 0, last, version, first: 0, copies: 0, ahead: false, others, targets, given }
    }

    /// Whether a launch with a copy was given the same as the last one.
    pub(super) fn repeats(&self, read: &Read) -> bool {
        self.steps > 0 && self.version == read.version
    }

    /// Whether a launch without a copy was given the same as the last one, where another value was to be expected.
    pub(super) fn is_expected(&self, read: &Read) -> bool {
        let known = read.window.others.is_subset(&self.others);
        self.steps >= STEPS_MIN && self.version == read.version && known
    }
}
