//! A launch uses memory that was given back.

use super::bindings::Bindings;
use super::stale_binding::operands;
use super::{Check, Found, Registered, Spot, launch_key, step_name, subject};
use crate::timeline::{Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "use-after-free",
    kind: Kind::UseAfterFree,
    explanation: "\
A launch, usually a graph's node, uses a buffer whose memory was given back.

A captured graph does not keep its buffers alive. Once one is given back, the graph still reads and writes
the same addresses: it works for as long as nobody else gets them, and fails when the allocator hands them out
or unmaps them. Where that has happened and destroyed what the launch reads, aliased-memory is reported.

Seen in: a cached arange replaced when its length changes while the graph reads the freed address
(vllm-omni #7556); an NCCL window freed after capture and written by every launch (TensorRT-LLM #18023);
a memory pool flushed under a live graph (llama.cpp #26771).

Confirm: `twinstep log RUN.twin` shows the step that frees it; `twinstep history RUN.twin NAME@0 --at N`
shows who wrote that memory since. Fix: let the graph own what it binds, or capture again.",
    not_foreign: None,
    new: |_| Box::new(UseAfterFree::default()),
};

#[derive(Default)]
struct UseAfterFree {
    bindings: Bindings,
}

impl Check for UseAfterFree {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        self.bindings.event(timeline, event)?;
        if let What::GraphLaunch(graph) = event.what {
            for (bound, free, now) in self.bindings.given_back(graph) {
                if now.is_some() {
                    continue;
                }
                let under = match free.buffer == bound.buffer {
                    true => "whose memory".to_owned(),
                    false => format!("which lies in {}, whose memory", timeline.label(free.buffer)),
                };
                let message = format!(
                    "{} binds {}, {under} was given back in {}",
                    bound.name(graph),
                    timeline.label(bound.buffer),
                    step_name(timeline, free.index)
                );
                let mut spot = Spot::of(event);
                spot.node = Some(bound.node);
                let key = format!("{} {}", graph.0, bound.buffer.0);
                found.report(&CHECK, timeline, &spot, Some(bound.buffer), key, message);
            }
        }
        if matches!(event.what, What::Foreign(_, Some(_))) {
            return Ok(());
        }
        for buffer in operands(event) {
            let Some(index) = timeline.freed(buffer) else { continue };
            if found.explained(buffer, 0, u64::MAX) {
                continue;
            }
            let bytes = timeline.trace().buffer(buffer).map_or(0, |b| b.bytes);
            let reads = event.accesses.iter().any(|a| a.buffer == buffer && a.access.reads());
            let mut message = format!(
                "{} {} {}, whose memory was given back in {}",
                subject(event),
                if reads { "reads" } else { "writes" },
                timeline.label(buffer),
                step_name(timeline, index)
            );
            let other = timeline.live().iter().find(|o| timeline.shared(buffer, 0, bytes, **o).is_some());
            if let Some(other) = other {
                message += &format!(" and is {}'s now", timeline.label(*other));
            }
            let record = timeline.trace().buffer(buffer);
            if let Some((record, now)) = record.and_then(|b| Some((b, timeline.resolve(&b.name)?))) {
                message += &format!("; {} is {} now", record.name, timeline.label(now));
            }
            let key = match Spot::of(event).graph {
                Some(graph) => format!("{graph} {}", buffer.0),
                None => format!("{} {}", launch_key(event), buffer.0),
            };
            found.report(&CHECK, timeline, &Spot::of(event), Some(buffer), key, message);
            found.explain(buffer, 0, u64::MAX);
        }
        Ok(())
    }
}
