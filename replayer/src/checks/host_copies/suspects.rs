//! Copies that did not come although those before had: which of them are missing.
//!
//! One is accused only if the values show that it was due (see `due.rs`), the next launch had its copy again, and
//! launches without one are rare in the whole run. If several copies that come before every launch lack at one, it was a
//! launch of another kind, as a dummy run is: then only a copy that alone stands out by its values is accused, and none
//! where another input shows that the host counted on nothing. Of values without a rule, it must also be the only launch
//! without a copy, by a host that copies what has not changed as well. Two copies that are forgotten at one launch
//! are taken for a dummy run.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, GraphId, SnapshotId, Trace};

use super::due::{BYTES_MAX, Due, due};
use super::series::{Read, STEPS_MIN, Series};
use super::{Fate, Judged};
use crate::ReplayError;

/// Launches without a copy that are kept.
const SUSPECTS_MAX: usize = 1 << 16;
/// Bytes that are read of snapshots to judge them.
const READ_MAX: u64 = 1 << 30;
/// Of so many launches, one run of launches without a copy is rare.
const RARE: u64 = 8;
/// Steps in a row with a copy that suffice in a run of any length, and the part of all launches that does in a short one.
const LONG: u64 = 8;
const LONG_PART: u64 = 4;

/// Where to, and how many bytes.
type Copied = (u64, u64);

/// Launches of a graph in decode steps, as to one input.
#[derive(Debug, Default)]
struct Tally {
    launches: u64,
    /// Runs of launches without a copy.
    gaps: u64,
    /// Launches with a copy in a row up to the last one, and the first copy of that; whether there was any.
    row: u32,
    any: bool,
    copied: Copied,
}

/// A launch without a copy that one before had.
struct Suspect {
    judged: Judged,
    graph: GraphId,
    /// Copies a step.
    copies: u32,
    first: u64,
    before: Vec<SnapshotId>,
    given: SnapshotId,
    /// The step record, and the number of the step.
    step: u32,
    number: u32,
    copied: Copied,
}

/// One whose next launch has been seen.
struct Closed {
    judged: Judged,
    graph: GraphId,
    due: Due,
    step: u32,
    copied: Copied,
}

/// All launches without a copy of a run.
#[derive(Default)]
pub(super) struct Suspects {
    tallies: BTreeMap<(BufferId, GraphId), Tally>,
    open: BTreeMap<(BufferId, GraphId), Suspect>,
    closed: Vec<Closed>,
    /// By step record: copies that lacked at launches that follow on [`STEPS_MIN`] or more with one.
    lacking: BTreeMap<u32, BTreeSet<Copied>>,
    /// Copies, to any input, of what it held already: the host copies without looking whether it must.
    pub(super) repeats: u64,
    /// Bytes that were read of snapshots.
    bytes: u64,
    /// There were more than are kept or looked at.
    pub(super) cut: bool,
}

impl Suspects {
    /// Counts a launch of a decode step, the step record `step`.
    pub(super) fn count(&mut self, key: (BufferId, GraphId), read: &Read, step: u32) {
        if self.tallies.len() >= SUSPECTS_MAX && !self.tallies.contains_key(&key) {
            self.cut = true;
            return;
        }
        let tally = self.tallies.entry(key).or_default();
        tally.launches += 1;
        if read.window.copies > 0 {
            tally.row = tally.row.saturating_add(1);
            tally.any = true;
            tally.copied = read.window.copy;
            return;
        }
        if tally.row > 0 {
            tally.gaps += 1;
        }
        if tally.row >= STEPS_MIN {
            self.lacking.entry(step).or_default().insert(tally.copied);
        }
        tally.row = 0;
    }

    /// A launch without a copy after a series with one each; `step` is its record and its number.
    pub(super) fn add(
        &mut self,
        judged: Judged,
        graph: GraphId,
        series: Series,
        given: SnapshotId,
        (step, number): (u32, u32),
    ) {
        let key = (judged.buffer, graph);
        let copied = self.tallies.get(&key).map_or((0, 0), |tally| tally.copied);
        let (copies, first, before) = (series.copies, series.first, series.given.into());
        self.open.insert(key, Suspect { judged, graph, copies, first, before, given, step, number, copied });
    }

    /// Another decode step has ended, with these launches: what it shows of those without a copy of the step before.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn next(
        &mut self,
        trace: &Trace,
        reads: &BTreeMap<(BufferId, GraphId), Read>,
        number: u32,
    ) -> Result<(), ReplayError> {
        for (key, suspect) in std::mem::take(&mut self.open) {
            let read = reads.get(&key).filter(|read| read.window.copies > 0 && !read.window.gap);
            // Where steps are guessed, a late copy is counted to the next step: that has one too many.
            let follows = suspect.number.checked_add(1) == Some(number);
            let twice = |copies| follows && suspect.copies.checked_mul(2) == Some(copies);
            let after = read.and_then(|read| Some((read.given?, twice(read.window.copies))));
            self.close(trace, suspect, after)?;
        }
        Ok(())
    }

    fn close(
        &mut self,
        trace: &Trace,
        suspect: Suspect,
        after: Option<(SnapshotId, bool)>,
    ) -> Result<(), ReplayError> {
        let Suspect { mut judged, graph, first, before, given, step, copied, .. } = suspect;
        let chunk = trace.buffer(judged.buffer).map_or(0, |b| u64::from(b.chunk_bytes)).max(BYTES_MAX);
        self.bytes = self.bytes.saturating_add((before.len() as u64 + 2) * chunk);
        self.cut |= self.bytes > READ_MAX;
        let due = match after.filter(|_| self.bytes <= READ_MAX) {
            Some((after, _)) => due(trace, judged.buffer, first, before.into_iter(), given, after)?,
            None => Due::Unknown,
        };
        if after.is_some_and(|(_, late)| late) {
            judged.fate = Fate::Late;
        }
        match self.closed.len() < SUSPECTS_MAX {
            true => self.closed.push(Closed { judged, graph, due, step, copied }),
            false => self.cut = true,
        }
        Ok(())
    }

    /// All has been seen: what is missing or late, and once for each input and graph what may be.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(super) fn finish(&mut self, trace: &Trace) -> Result<Vec<Judged>, ReplayError> {
        for (_, suspect) in std::mem::take(&mut self.open) {
            self.close(trace, suspect, None)?;
        }
        // By step: copies whose values show that the host counted on meanwhile, and that it did not, as in a dummy run.
        // One copy may be for several inputs: then more of its words decide.
        let mut words: BTreeMap<(u32, Copied), (usize, usize)> = BTreeMap::new();
        for one in &self.closed {
            let (skipped, stayed) = words.entry((one.step, one.copied)).or_default();
            match one.due {
                Due::Skipped(words) => *skipped += words,
                Due::Stayed(words) => *stayed += words,
                Due::Jumped | Due::Unknown => {}
            }
        }
        let mut skipped: BTreeMap<u32, BTreeSet<Copied>> = BTreeMap::new();
        let mut stayed = skipped.clone();
        for ((step, copied), said) in words {
            let side = match said {
                (0, 0) => continue,
                (on, not) if on > not => &mut skipped,
                _ => &mut stayed,
            };
            side.entry(step).or_default().insert(copied);
        }
        // All graphs that read an input: a batch of another size is another graph.
        let mut of_input: BTreeMap<BufferId, (u64, u64)> = BTreeMap::new();
        for (&(buffer, _), tally) in self.tallies.iter().filter(|(_, tally)| tally.any) {
            let (launches, gaps) = of_input.entry(buffer).or_default();
            (*launches, *gaps) = (*launches + tally.launches, *gaps + tally.gaps);
        }
        let count = |of: &BTreeMap<u32, BTreeSet<Copied>>, step| of.get(&step).map_or(0, BTreeSet::len);
        let is_dummy = |step| count(&stayed, step) > 0 && count(&stayed, step) >= count(&skipped, step);
        let mut accused: BTreeSet<(u32, Copied)> = BTreeSet::new();
        let mut unknown: BTreeMap<(BufferId, GraphId), Judged> = BTreeMap::new();
        let mut judged = Vec::new();
        for Closed { judged: one, graph, due, step, copied } in std::mem::take(&mut self.closed) {
            let Some(&(launches, gaps)) = of_input.get(&one.buffer) else { continue };
            let alone = count(&self.lacking, step) <= 1;
            let is = match (one.fate, due) {
                // Nothing is accused; it is told as it is.
                (Fate::Nothing, _) => true,
                _ if is_dummy(step) => false,
                (fate, Due::Skipped(words)) => {
                    let rare = gaps <= 1 || gaps * RARE <= launches;
                    // A single count may rise by one for a while: in a longer run more is asked for.
                    let long = words > 1 || u64::from(one.steps) >= (launches / LONG_PART).min(LONG);
                    rare && long && (alone || fate == Fate::Late || count(&skipped, step) == 1)
                }
                (Fate::Missing, Due::Jumped) => alone && gaps == 1 && self.repeats > 0,
                _ => false,
            };
            if is {
                // Several inputs that one copy is for are one mistake.
                if one.fate == Fate::Nothing || accused.insert((step, copied)) {
                    judged.push(one);
                }
                continue;
            }
            let first =
                unknown.entry((one.buffer, graph)).or_insert(Judged { fate: Fate::Unknown(0), ..one });
            if let Fate::Unknown(times) = &mut first.fate {
                *times += 1;
            }
        }
        judged.extend(unknown.into_values());
        Ok(judged)
    }
}
