//! A graph was captured, and its outputs are read before any launch of it.

mod foreign;

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, GraphId};

use super::{Check, Found, Registered, Spot, step_name, subject};
use crate::timeline::{By, Event, Timeline, What, outputs};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "unlaunched-capture",
    kind: Kind::UnlaunchedCapture,
    explanation: "\
A graph was captured, and its outputs were read before it was launched for the first time.

Stream capture records work, it does not execute any. Code that captures a graph lazily, inside the first
step that needs it, and then hands out the graph's static outputs passes on memory that was never computed:
whatever was there before. Only the capturing step is wrong; every later step launches the graph and is
right, so the sound stays intelligible and the run forks.

Seen in: the leading reading of vllm-omni #4564 (the eager profile's per-layer norm+MLP graphs on the
first decode step; not confirmed upstream); the first step silently skipped in isaac-sim/IsaacLab #4829;
previous logits used again in kekzl/imp #1417.

Confirm: `twinstep log RUN.twin --at N` shows `capture` without `graph` after it;
`twinstep history RUN.twin OUTPUT --at N --after` shows that nothing wrote the output.
Fix: launch the graph once right after capturing it.

Of another engine's graph it is not known what it writes. It is reported if it was captured in a step of a
request, not launched until that step's end, and later steps launch it; and if buffers that all those later
launches change did not change in that step, or if something that ran later in that step binds them. An
engine that ran the same kernels itself in that step (a warm-up whose results it used) is not reported.",
    not_foreign: None,
    new: |_| Box::new(UnlaunchedCapture::default()),
};

/// A graph that has not been launched yet.
struct Pending {
    time: u32,
    index: u32,
    outputs: Vec<(BufferId, u64, u64)>,
}

#[derive(Default)]
struct UnlaunchedCapture {
    pending: BTreeMap<GraphId, Pending>,
}

pub(crate) use foreign::{Unlaunched, unlaunched};

impl Check for UnlaunchedCapture {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        match event.what {
            What::Capture(graph) => {
                let outputs = outputs(timeline.trace(), graph)?;
                self.pending.insert(graph, Pending { time: event.time, index: event.index, outputs });
            }
            What::GraphLaunch(graph) => {
                self.pending.remove(&graph);
            }
            What::Launch(_) | What::HostRead(_) | What::Foreign(..) => {
                for (graph, pending) in &self.pending {
                    pending.reads(*graph, timeline, event, found);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
        foreign::report(timeline, found)
    }
}

impl Pending {
    fn reads(&self, graph: GraphId, timeline: &Timeline<'_>, event: &Event<'_>, found: &mut Found) {
        let reads = event.accesses.iter().filter(|a| a.access.reads() && !a.may);
        for (access, &(buffer, start, end)) in reads.flat_map(|a| self.outputs.iter().map(move |o| (a, o))) {
            if access.buffer != buffer || access.start >= end || start >= access.end {
                continue;
            }
            for piece in timeline.writers(buffer, access.start.max(start), access.end.min(end)) {
                let Some(writer) = piece.writer else { continue };
                // Something older is only read by mistake within the capturing step: what that step itself
                // computed before it captured is a warm-up whose results are meant.
                let old = writer.time < self.time && self.index == event.index && writer.step < event.index;
                if writer.by != By::Fresh && !old {
                    continue;
                }
                let label = timeline.trace().graph(graph).map_or("", |g| &g.label);
                let holds = match writer.by {
                    By::Fresh => "nothing has written it since it was allocated (0xA5)".to_owned(),
                    _ => format!("it still holds what {} left", timeline.describe(&writer)),
                };
                let message = format!(
                    "{} reads {}, an output of graph {} ({label}), which was captured in {} and not launched since: {holds}",
                    subject(event),
                    timeline.label(buffer),
                    graph.0,
                    step_name(timeline, self.index)
                );
                let mut spot = Spot::of(event);
                spot.graph = Some(graph.0);
                let key = format!("{} {}", graph.0, buffer.0);
                found.report(&CHECK, timeline, &spot, Some(buffer), key, message);
                found.explain(buffer, access.start, access.end);
                break;
            }
        }
    }
}
