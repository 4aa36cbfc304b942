//! The host wrote another value in every step, and then in one step nothing.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Role, StepKind};

use super::host_copies::{Fate, HostCopies, Judged};
use super::{Check, Found, Registered, Spot, stale_binding, subject};
use crate::timeline::{By, Event, Timeline, What};
use crate::{Kind, ReplayError};

/// Steps in a row with another value each time after which a write is expected.
const STEPS_MIN: u32 = 3;
/// Buffers of another engine of which it is told that a copy may be missing.
const NOTES_MAX: usize = 16;

pub(super) const CHECK: Registered = Registered {
    name: "missing-host-write",
    kind: Kind::MissingHostWrite,
    explanation: "\
The host wrote an input in at least three decode steps in a row, another value each time, and then a step
ran that reads it without writing it.

Positions, lengths and slots change with every step. A path that forgets one of them (a fast path, a
padded batch, an early return) computes with the last step's value. Only inputs that changed in every single
step are expected to change again: a constant, or a block table that changes now and then, is not.
An input that a captured path never writes at all looks like a constant here; the model's rules tell that.

In a run of another engine a host write is a copy from host memory, and a launch of a graph reads what its
nodes have the address of. Snapshots must show that the launch was given what the one before it had, though
a copy was due: values that went on by the same amount at each launch (positions, lengths) are two steps on
at the next one, so the host had counted on. Where they are one step on, the launch was a dummy run; a table
that is copied only where it has changed goes on from where it was. Values without a rule (token ids) are
judged after 32 launches with a copy, if that is the only one without and the host copies what has not
changed as well. Launches without a copy must be rare. Where several copies lack at one launch, only one
that alone stands out is accused: two that are forgotten at once are missed. So is one at the last launch of
the run or of its graph, and one of a few launches in a long run of a batch of one. What may be missing is
told under what was not looked at. A step in which the host copies nothing at all, though it copied to
several places before, is taken for a dummy run.

Seen in: persistent metadata buffers dropped from a decode path (vllm #33638); a plan not made again before
the graph was launched (alibaba/rtp-llm #378); a host early return under the graph (vllm-omni #4204).

Confirm: `twinstep history RUN.twin NAME --at N` shows the older write;
`twinstep step RUN.twin OTHER.twin --at N --patch NAME=other` shows whether it is the cause.",
    not_foreign: None,
    new: |trace| Box::new(MissingHostWrite { copies: HostCopies::new(trace), ..MissingHostWrite::default() }),
};

/// Writes of the same place in decode steps in a row.
struct Series {
    steps: u32,
    bytes: Vec<u8>,
    written_now: bool,
}

#[derive(Default)]
struct MissingHostWrite {
    /// Of a run of another engine.
    copies: HostCopies,
    request: u32,
    series: BTreeMap<(BufferId, u64), Series>,
    /// The first launch of this step that read an old host write, and how it is called.
    readers: BTreeMap<(BufferId, u64), (Spot, String)>,
}

impl Check for MissingHostWrite {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        for judged in self.copies.event(timeline, event)? {
            foreign(timeline, &judged, found);
        }
        if event.step.kind != StepKind::Decode {
            return Ok(());
        }
        match event.what {
            What::Begin => {
                if event.step.request != self.request {
                    self.request = event.step.request;
                    self.series.clear();
                }
                self.readers.clear();
                self.series.values_mut().for_each(|s| s.written_now = false);
            }
            What::HostWrite(_, write) => {
                let input = |b: &twinstep_traces::BufferRecord| b.role == Role::Input;
                if timeline.trace().buffer(write.buffer).is_some_and(input) {
                    let series = self.series.entry((write.buffer, write.offset)).or_insert(Series {
                        steps: 0,
                        bytes: Vec::new(),
                        written_now: false,
                    });
                    series.steps = if series.bytes == write.bytes { 0 } else { series.steps + 1 };
                    series.bytes.clone_from(&write.bytes);
                    series.written_now = true;
                }
            }
            What::Launch(_) => self.reads(timeline, event),
            What::End => {
                for (key, series) in &self.series {
                    let expected = !series.written_now && series.steps >= STEPS_MIN;
                    let Some((spot, reader)) = self.readers.get(key).filter(|_| expected) else { continue };
                    let message = format!(
                        "{reader} reads {}, which the host wrote in each of {} decode steps before, another value each time, and did not write in this one",
                        timeline.label(key.0),
                        series.steps
                    );
                    let same = format!("{} {}", key.0.0, key.1);
                    found.report(&CHECK, timeline, spot, Some(key.0), same, message);
                }
                self.series.retain(|_, series| series.written_now);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
        let (judged, notes) = self.copies.finish(timeline.trace())?;
        let unknown = |judged: &&Judged| matches!(judged.fate, Fate::Unknown(_));
        judged.iter().filter(|j| !unknown(j)).for_each(|judged| foreign(timeline, judged, found));
        judged.iter().filter(unknown).take(NOTES_MAX).for_each(|judged| foreign(timeline, judged, found));
        let more = judged.iter().filter(unknown).count().saturating_sub(NOTES_MAX);
        if more > 0 {
            found.note(format!("missing-host-write: {more} more buffers that at times had no copy"));
        }
        notes.into_iter().for_each(|note| found.note(format!("missing-host-write: {note}")));
        Ok(())
    }
}

/// Reports what became of a copy of another engine's host.
fn foreign(timeline: &Timeline<'_>, judged: &Judged, found: &mut Found) {
    let (label, steps) = (timeline.label(judged.buffer), judged.steps);
    let (check, message) = match judged.fate {
        Fate::Late | Fate::Raced(..) => return,
        Fate::Missing => (
            &CHECK,
            format!(
                "{} binds {label}, to which the host copied another value in each of {steps} decode steps before, and nothing in this one",
                judged.node
            ),
        ),
        Fate::Moved(address) => (
            &stale_binding::CHECK,
            format!(
                "{} binds {label}, to which the host copied another value in each of {steps} decode steps before; in this one it copies as much to {address:#x} instead, where it never did",
                judged.node
            ),
        ),
        Fate::Unknown(times) => {
            let (at, more) = (judged.spot.at(), times - 1);
            let more = if more == 0 { String::new() } else { format!(" and {more} times more") };
            found.note(format!(
                "missing-host-write: {} binds {label}, to which the host copied another value in each of {steps} decode \
                 steps before step {at}, and nothing in that one{more}: whether it was due is not known",
                judged.node
            ));
            return;
        }
        Fate::Nothing => {
            let at = judged.spot.at();
            found.note(format!(
                "missing-host-write: {} in step {at}: the host copies nothing there, as in a dummy run",
                judged.node
            ));
            return;
        }
    };
    found.report(check, timeline, &judged.spot, Some(judged.buffer), judged.buffer.0.to_string(), message);
}

impl MissingHostWrite {
    fn reads(&mut self, timeline: &Timeline<'_>, event: &Event<'_>) {
        for access in event.accesses.iter().filter(|a| a.access.reads() && !a.may) {
            for (key, series) in self.series.range((access.buffer, 0)..=(access.buffer, u64::MAX)) {
                let (start, end) = (key.1, key.1.saturating_add(series.bytes.len() as u64));
                let expected = !series.written_now && series.steps >= STEPS_MIN;
                if !expected || start >= access.end || end <= access.start || self.readers.contains_key(key) {
                    continue;
                }
                let from = (start.max(access.start), end.min(access.end));
                let stale = |p: crate::timeline::Piece| {
                    p.writer.is_some_and(|w| matches!(w.by, By::Host(_)) && w.step < event.index)
                };
                if timeline.writers(access.buffer, from.0, from.1).any(stale) {
                    self.readers.insert(*key, (Spot::of(event), subject(event)));
                }
            }
        }
    }
}
