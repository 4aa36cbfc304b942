//! A launch reads bytes that nothing has written since they were allocated.

use super::{Check, Found, Registered, Spot, subject};
use crate::timeline::{By, Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "uninitialised-read",
    kind: Kind::UninitialisedRead,
    explanation: "\
A launch reads bytes that nothing in the log has written since they were allocated.

Fresh memory holds whatever was there before; here it is filled with 0xA5, a small finite number in all
float types, so that such a read is reproducible. Only bytes that the launch surely reads count: those that
its index operands select, as far as their values are known. Where a graph that was captured and not
launched should have written them, unlaunched-capture is reported instead.

Seen in: a KV cache zeroed late, on a stream that nothing orders with the reader (kekzl/imp #1709); frozen
zeros of the capture read by every launch (vllm #52308).

Confirm: `twinstep history RUN.twin NAME --at N --after` ends with the allocation;
`twinstep step RUN.twin OTHER.twin --at N --patch NAME=other` shows whether it is the cause.",
    not_foreign: Some(super::ACCESS_UNKNOWN),
    new: |_| Box::new(UninitialisedRead),
};

struct UninitialisedRead;

impl Check for UninitialisedRead {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        if !matches!(event.what, What::Launch(_) | What::HostRead(_)) {
            return Ok(());
        }
        for access in event.accesses.iter().filter(|a| a.access.reads() && !a.may) {
            let fresh = timeline
                .writers(access.buffer, access.start, access.end)
                .find(|p| p.writer.is_some_and(|w| w.by == By::Fresh && w.via == access.buffer));
            let Some(piece) = fresh.filter(|p| !found.explained(access.buffer, p.start, p.end)) else {
                continue;
            };
            let message = format!(
                "{} reads bytes {}..{} of {}, which nothing has written since it was allocated (0xA5)",
                subject(event),
                piece.start,
                piece.end,
                timeline.label(access.buffer)
            );
            let key = format!("{} {}", access.buffer.0, piece.start);
            found.report(&CHECK, timeline, &Spot::of(event), Some(access.buffer), key, message);
        }
        Ok(())
    }
}
