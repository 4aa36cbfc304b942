//! The host writes an input only after the launches of the step that read it.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Role};

use super::host_copies::{Fate, HostCopies};
use super::{Check, Found, Registered, Spot, subject};
use crate::timeline::intervals::Intervals;
use crate::timeline::{By, Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "late-host-write",
    kind: Kind::LateHostWrite,
    explanation: "\
A launch reads an input, and the host writes that input later in the same step, for the first time in it.

The value is right and comes too late: the launch has computed with what an earlier step left. A write that
comes after all launches of one step is taken for the next step's, if that is how the value before it was
written too; such a loop writes ahead.

In a run of another engine a host write is a copy from host memory. It is late if the same graph was launched
after such a copy in each of three decode steps or more, another value each time, and is launched before it
now: snapshots show that the launch was given what the one before it had, and that the values are two steps on
at the next one. Where they are one step on, the launch was a dummy run.

Seen in: a missing edge between the copy of inputs and the launch of the graph (ashalliants/ninfer-3090
#44, stale for 18 % of inputs); the order of BOC seed and launch in decode loops (reference, fault seed 10).

Confirm: `twinstep log RUN.twin --at N` shows `write` after the launch;
`twinstep step RUN.twin OTHER.twin --at N --patch NAME=other` shows whether it is the cause.",
    not_foreign: None,
    new: |trace| Box::new(LateHostWrite { copies: HostCopies::new(trace), ..LateHostWrite::default() }),
};

#[derive(Default)]
struct LateHostWrite {
    /// Of a run of another engine.
    copies: HostCopies,
    /// When the last launch of the step before ran, and of this one.
    before: u32,
    now: u32,
    /// Bytes read in this step that it had not written, and by which of the readers.
    reads: BTreeMap<BufferId, Intervals<u32>>,
    readers: Vec<(Spot, String)>,
}

impl Check for LateHostWrite {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        self.copies.event(timeline, event)?;
        let input = |buffer| timeline.trace().buffer(buffer).is_some_and(|b| b.role == Role::Input);
        match event.what {
            What::Begin => {
                self.before = self.now;
                self.reads.clear();
                self.readers.clear();
            }
            What::Launch(_) => {
                for access in event.accesses.iter().filter(|a| a.access.reads() && !a.may) {
                    if input(access.buffer) {
                        self.read(timeline, event, access.buffer, access.start, access.end);
                    }
                }
                self.now = event.time;
            }
            What::HostWrite(_, write) => {
                let end = write.offset.saturating_add(write.bytes.len() as u64);
                let Some(reads) = self.reads.get(&write.buffer) else { return Ok(()) };
                let reader = reads.pieces(write.offset, end).find_map(|(_, _, reader)| reader);
                let Some((spot, name)) = reader.and_then(|r| self.readers.get(r as usize)) else {
                    return Ok(());
                };
                let message = format!(
                    "{name} reads {}, which the host writes only afterwards in this step",
                    timeline.label(write.buffer)
                );
                let key = write.buffer.0.to_string();
                found.report(&CHECK, timeline, spot, Some(write.buffer), key, message);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
        let (judged, _) = self.copies.finish(timeline.trace())?;
        for judged in judged.iter().filter(|judged| judged.fate == Fate::Late) {
            let message = format!(
                "{} binds {}, to which the host copies only afterwards; in each of {} decode steps before, it copied another value there first",
                judged.node,
                timeline.label(judged.buffer),
                judged.steps
            );
            let key = judged.buffer.0.to_string();
            found.report(&CHECK, timeline, &judged.spot, Some(judged.buffer), key, message);
        }
        Ok(())
    }
}

impl LateHostWrite {
    fn read(&mut self, timeline: &Timeline<'_>, event: &Event<'_>, buffer: BufferId, start: u64, end: u64) {
        let mut stale = Vec::new();
        for piece in timeline.writers(buffer, start, end) {
            let Some(writer) = piece.writer else { continue };
            let here = writer.step == event.index;
            let ahead = matches!(writer.by, By::Host(_))
                && writer.step + 1 == event.index
                && writer.time > self.before
                && self.before > 0;
            if !here && !ahead {
                stale.push((piece.start, piece.end));
            }
        }
        let reads = self.reads.entry(buffer).or_default();
        for (start, end) in stale {
            let new: Vec<(u64, u64)> =
                reads.pieces(start, end).filter(|(_, _, r)| r.is_none()).map(|(a, b, _)| (a, b)).collect();
            for (start, end) in new {
                reads.set(start, end, self.readers.len() as u32);
            }
        }
        self.readers.push((Spot::of(event), subject(event)));
    }
}
