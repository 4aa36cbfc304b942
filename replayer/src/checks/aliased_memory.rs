//! Two buffers share memory, and one destroys what the other still needs.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Trace};

use super::bindings::Bindings;
use super::{Check, Found, Registered, Spot, step_name, subject};
use crate::timeline::intervals::Intervals;
use crate::timeline::{Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "aliased-memory",
    kind: Kind::AliasedMemory,
    explanation: "\
Two buffers lie at the same addresses, and a write through one destroyed bytes that were written through
the other and then read through it.

A pool hands out memory that a captured graph still uses, or two graphs were given the same scratch: what
one leaves there for later, the other overwrites. Sharing memory is no mistake as long as each user writes
before it reads; only a read that meets the other's bytes is reported. Of another engine's graph it is not known
what it reads: there a graph is reported that binds memory which was given back and has another owner now.

Seen in: a buffer allocated from the capture pool after capture aliases graph intermediates, NaN on
later cycles (tracel-ai/cubecl #1612) and a clobbered workspace (ROCm/aiter #5393); a metadata buffer used
again (TensorRT-LLM #10393).

Confirm: `twinstep history RUN.twin NAME --at N` lists the foreign writer as the newest one;
`twinstep step RUN.twin OTHER.twin --at N --patch NAME=other` shows whether it matters.",
    not_foreign: None,
    new: |trace| Box::new(AliasedMemory { shared: shared(trace), own: BTreeMap::new(), bindings: Bindings::default() }),
};

struct AliasedMemory {
    /// Buffers that overlap another one at some time.
    shared: BTreeSet<BufferId>,
    /// When bytes were last written through the buffer itself.
    own: BTreeMap<BufferId, Intervals<u32>>,
    bindings: Bindings,
}

/// Buffers whose addresses overlap another one's.
fn shared(trace: &Trace) -> BTreeSet<BufferId> {
    let mut placed: Vec<(u64, u64, BufferId)> = (0..)
        .zip(trace.buffers())
        .filter_map(|(i, b)| {
            let address = b.address.filter(|a| *a != 0 && b.bytes > 0)?;
            Some((address, address.checked_add(b.bytes)?, BufferId(i)))
        })
        .collect();
    placed.sort_unstable();
    let mut shared = BTreeSet::new();
    let mut reached = 0;
    for (i, &(start, end, id)) in placed.iter().enumerate() {
        if start < reached || placed.get(i + 1).is_some_and(|next| next.0 < end) {
            shared.insert(id);
        }
        reached = reached.max(end);
    }
    shared
}

impl Check for AliasedMemory {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        self.bindings.event(timeline, event)?;
        if let What::GraphLaunch(graph) = event.what {
            for (bound, free, now) in self.bindings.given_back(graph) {
                let Some(now) = now else { continue };
                let message = format!(
                    "{} binds {}, whose memory was given back in {} and is {}'s since {}",
                    bound.name(graph),
                    timeline.label(bound.buffer),
                    step_name(timeline, free.index),
                    timeline.label(now.buffer),
                    step_name(timeline, now.index)
                );
                let mut spot = Spot::of(event);
                spot.node = Some(bound.node);
                let key = format!("{} {}", graph.0, bound.buffer.0);
                found.report(&CHECK, timeline, &spot, Some(bound.buffer), key, message);
            }
        }
        if self.shared.is_empty() || matches!(event.what, What::Allocate(_)) {
            return Ok(());
        }
        for access in event.accesses.iter().filter(|a| self.shared.contains(&a.buffer)) {
            if access.access.reads() && !access.may {
                self.read(timeline, event, access.buffer, access.start, access.end, found);
            }
        }
        for access in event.accesses.iter().filter(|a| self.shared.contains(&a.buffer)) {
            if access.access.writes() {
                let own = self.own.entry(access.buffer).or_default();
                own.set(access.start, access.end, event.time);
            }
        }
        Ok(())
    }
}

impl AliasedMemory {
    fn read(
        &self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        buffer: BufferId,
        start: u64,
        end: u64,
        found: &mut Found,
    ) {
        let Some(own) = self.own.get(&buffer) else { return };
        for piece in timeline.writers(buffer, start, end) {
            let Some(writer) = piece.writer.filter(|w| w.via != buffer && !w.may) else { continue };
            // What was never written through this buffer was meant to be read through it.
            let destroyed = own.pieces(piece.start, piece.end).find_map(|(a, b, at)| at.map(|_| (a, b)));
            let Some((a, b)) = destroyed else { continue };
            let message = format!(
                "{} reads bytes {a}..{b} of {}, which {} overwrote as {}",
                subject(event),
                timeline.label(buffer),
                timeline.describe(&writer),
                timeline.label(writer.via)
            );
            let key = format!("{} {}", buffer.0, writer.via.0);
            found.report(&CHECK, timeline, &Spot::of(event), Some(buffer), key, message);
            found.explain(buffer, 0, u64::MAX);
        }
    }
}
