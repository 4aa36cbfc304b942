//! Two users of the same bytes on different streams, one of them a writer, with no order between them.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Item, ProgramId, StepKind, Trace};

use super::host_copies::{Fate, HostCopies};
use super::{Check, Found, Registered, Spot, subject};
use crate::foreign::is_foreign;
use crate::timeline::intervals::Intervals;
use crate::timeline::{By, Event, Timeline, What, Writer};
use crate::{Kind, ReplayError};

/// Streams that are told apart.
const STREAMS_MAX: usize = 64;

pub(super) const CHECK: Registered = Registered {
    name: "unordered-writers",
    kind: Kind::UnorderedWriters,
    explanation: "\
Two launches on different streams use the same bytes, at least one of them writes, and neither waits for
the other.

Within a stream launches run in order. Between streams only an event that one records and the other waits
for makes an order, or a host read, which waits for what was launched before it; and set-up ends before the
first request begins. Bits of `op_faults` may be set in any order. Without one the result
depends on timing: right on one machine, wrong on another, and different under a profiler.

Seen in: a clone of a static output that raced the next launch of its graph on another stream
(sglang-omni #1369); a default-stream memset not ordered with a non-blocking stream (kekzl/imp #1709).

How the host of another engine waits for a stream is not recorded, so of its runs one thing is judged: a copy
from the host on another stream than the launch that it is for, where snapshots show that the launch was given
what the one before it had, and that the copy took effect while it ran.

Confirm: `twinstep log RUN.twin --at N` shows the launches with no event between them. A recorded run shows
one of the possible orders, so executing the step again cannot show the other one.
Fix: record an event after the first and wait for it before the second.",
    not_foreign: Some(
        "but for copies that come too late by what snapshots show: how its host waits for streams is not recorded",
    ),
    new: |trace| Box::new(UnorderedWriters::new(trace)),
};

/// For each stream, the time up to which something is ordered after it.
type Clock = BTreeMap<u32, u32>;

fn join(into: &mut Clock, from: &Clock) {
    for (&stream, &time) in from {
        let known = into.entry(stream).or_default();
        *known = (*known).max(time);
    }
}

struct UnorderedWriters {
    /// Of a run of another engine.
    copies: HostCopies,
    /// Whether there is anything to look at.
    several: bool,
    streams: BTreeMap<u32, Clock>,
    events: BTreeMap<u32, Clock>,
    /// What the host knows to have ended; launches that it submits later come after that.
    host: Clock,
    /// Last readers by stream and buffer space: the reads of each buffer.
    readers: BTreeMap<(u32, u32), Intervals<u32>>,
}

impl UnorderedWriters {
    fn new(trace: &Trace) -> Self {
        let mut streams = BTreeSet::new();
        for id in 0..trace.program_count() {
            let Ok(program) = trace.program(ProgramId(id as u32)) else { continue };
            for item in &program.items {
                streams.extend(stream(item));
            }
            if streams.len() > 1 {
                break;
            }
        }
        UnorderedWriters {
            copies: if streams.len() > 1 { HostCopies::new(trace) } else { HostCopies::default() },
            // How another engine's host waits for streams is not recorded.
            several: streams.len() > 1 && !is_foreign(trace.run()),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            host: Clock::new(),
            readers: BTreeMap::new(),
        }
    }
}

fn stream(item: &Item) -> Option<u32> {
    match item {
        Item::Launch(launch) => Some(launch.stream),
        Item::Opaque(launch) => Some(launch.stream),
        Item::GraphLaunch { stream, .. }
        | Item::Copy { stream, .. }
        | Item::Fill { stream, .. }
        | Item::EventRecord { stream, .. }
        | Item::EventWait { stream, .. } => Some(*stream),
        _ => None,
    }
}

impl Check for UnorderedWriters {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        for judged in self.copies.event(timeline, event)? {
            let Fate::Raced(copy, launch) = judged.fate else { continue };
            let message = format!(
                "{} binds {}, to which the host copies on stream {copy}; the launch on stream {launch} was given what the one before it had, and the copy took effect while it ran",
                judged.node,
                timeline.label(judged.buffer)
            );
            let key = format!("{} {:?}", judged.buffer.0, (copy, launch));
            found.report(&CHECK, timeline, &judged.spot, Some(judged.buffer), key, message);
        }
        if !self.several {
            return Ok(());
        }
        if self.streams.len() > STREAMS_MAX || self.events.len() > 1 << 16 {
            found.note(format!("unordered-writers: more than {STREAMS_MAX} streams or 65536 events"));
            self.several = false;
            return Ok(());
        }
        match event.what {
            What::EventRecord(number) => {
                let mut clock = self.clock(event.stream).clone();
                clock.insert(event.stream, event.time);
                self.events.insert(number, clock);
            }
            What::EventWait(number) => {
                let recorded = self.events.get(&number).cloned().unwrap_or_default();
                join(self.clock(event.stream), &recorded);
            }
            What::HostRead(_) => {
                // The recorder's reads wait for its own stream, and so for all that this one waited for.
                let clock = self.clock(0).clone();
                join(&mut self.host, &clock);
                self.host.insert(0, event.time);
            }
            What::End if event.step.kind == StepKind::Setup => {
                // No request begins before set-up has ended on every stream.
                let ended: Vec<u32> = self.streams.keys().copied().collect();
                self.host.extend(ended.into_iter().map(|stream| (stream, event.time)));
            }
            What::Launch(_) | What::Foreign(..) => {
                let host = self.host.clone();
                let clock = self.clock(event.stream);
                join(clock, &host);
                clock.insert(event.stream, event.time);
                self.uses(timeline, event, found);
            }
            _ => {}
        }
        Ok(())
    }
}

impl UnorderedWriters {
    fn clock(&mut self, stream: u32) -> &mut Clock {
        self.streams.entry(stream).or_default()
    }

    fn uses(&mut self, timeline: &Timeline<'_>, event: &Event<'_>, found: &mut Found) {
        let clock = self.streams.get(&event.stream).cloned().unwrap_or_default();
        let ordered = |stream: u32, time: u32| {
            stream == event.stream || clock.get(&stream).is_some_and(|known| *known >= time)
        };
        // Setting bits commutes.
        let bits: Vec<BufferId> = event.launch().map_or(Vec::new(), |launch| {
            launch.record.views.iter().filter(|v| v.name == "op_faults").map(|v| v.buffer).collect()
        });
        for access in event.accesses.iter().filter(|a| !a.may && !bits.contains(&a.buffer)) {
            let by_launch = |w: &Writer| matches!(w.by, By::Launch(_) | By::Foreign) && !w.may;
            let earlier = timeline
                .writers(access.buffer, access.start, access.end)
                .filter_map(|p| p.writer.filter(by_launch))
                .find(|w| !ordered(w.stream, w.time));
            let verb = if access.access.reads() { "reads" } else { "writes" };
            let label = timeline.label(access.buffer);
            let conflict = if let Some(writer) = earlier {
                let message = format!(
                    "{} on stream {} {verb} {label}, which {} writes on stream {}, with no event between them",
                    subject(event),
                    event.stream,
                    timeline.describe(&writer),
                    writer.stream
                );
                Some((writer.stream, message))
            } else if access.access.writes() {
                self.readers
                    .iter()
                    .filter(|((stream, buffer), _)| *buffer == access.buffer.0 && *stream != event.stream)
                    .find(|((stream, _), reads)| {
                        reads
                            .pieces(access.start, access.end)
                            .any(|(_, _, time)| time.is_some_and(|time| !ordered(*stream, time)))
                    })
                    .map(|((stream, _), _)| {
                        let message = format!(
                            "{} on stream {} writes {label}, which a launch on stream {stream} reads, with no event between them",
                            subject(event),
                            event.stream
                        );
                        (*stream, message)
                    })
            } else {
                None
            };
            if let Some((stream, message)) = conflict {
                let pair = (stream.min(event.stream), stream.max(event.stream));
                let key = format!("{} {pair:?}", access.buffer.0);
                found.report(&CHECK, timeline, &Spot::of(event), Some(access.buffer), key, message);
            }
        }
        for access in event.accesses.iter().filter(|a| !a.may && a.access.reads()) {
            let reads = self.readers.entry((event.stream, access.buffer.0)).or_default();
            reads.set(access.start, access.end, event.time);
        }
    }
}
