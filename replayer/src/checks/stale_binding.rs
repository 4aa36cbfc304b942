//! A graph binds a generation that its name no longer means.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, GraphId, Trace};

use super::bindings::{Bindings, Bound, is_unnamed, range};
use super::{Check, Found, Registered, Spot, step_name, subject};
use crate::timeline::{Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "stale-binding",
    kind: Kind::StaleBinding,
    explanation: "\
A graph was launched that binds an allocation which its name no longer means.

A captured graph keeps the addresses that its buffers had when it was captured. When a buffer is
allocated again (it had to grow, a cache was rebuilt, weights were loaded again), everything that looks the
name up uses the new allocation, and the graph goes on with the old one: it reads values that nobody
refreshes, or writes results that nobody reads. Only names that meant the bound allocation at capture count.
Where the old allocation was given back as well, use-after-free or aliased-memory is reported instead.

Seen in: RoPE cache storage replaced after capture (sglang-omni #503); weights reallocated by a refit
while the graph kept the old pointers (vllm #40390); kv_indptr refreshed in the eager buffer while the
graph bound another (sglang #37975).

Confirm: `twinstep history RUN.twin NAME@0 --at N` shows that nobody writes the old allocation any more;
`twinstep step RUN.twin OTHER.twin --at N --patch NAME@0=other` shows whether it is the cause.
Fix: copy in place instead of allocating again, or capture again after it.",
    not_foreign: None,
    new: |_| Box::new(StaleBinding::default()),
};

#[derive(Default)]
struct StaleBinding {
    /// Bound buffers that their names meant at capture.
    meant: BTreeMap<GraphId, BTreeSet<BufferId>>,
    allocated: BTreeMap<BufferId, u32>,
    bindings: Bindings,
    /// What the names of bound addresses meant, at capture or later: by graph of another engine.
    named: BTreeMap<GraphId, Vec<(Bound, BufferId)>>,
}

/// The buffers that a graph's nodes bind.
pub(super) fn bound(trace: &Trace, graph: GraphId) -> Result<BTreeSet<BufferId>, ReplayError> {
    let Some(record) = trace.graph(graph) else { return Ok(BTreeSet::new()) };
    Ok(trace.program(record.program)?.items.iter().flat_map(twinstep_traces::Item::buffers).collect())
}

/// The buffers that a launch or foreign item binds.
pub(super) fn operands(event: &Event<'_>) -> Vec<BufferId> {
    match event.what {
        What::Launch(launch) => launch.record.views.iter().map(|v| v.buffer).collect(),
        What::Foreign(item, _) => item.buffers(),
        _ => Vec::new(),
    }
}

impl Check for StaleBinding {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        let trace = timeline.trace();
        self.bindings.event(timeline, event)?;
        let graph = match event.what {
            What::Allocate(buffer) => {
                self.names(trace, buffer, None);
                self.allocated.insert(buffer, event.index);
                return Ok(());
            }
            What::Capture(graph) => {
                let means =
                    |id: &BufferId| trace.buffer(*id).is_some_and(|b| timeline.resolve(&b.name) == Some(*id));
                let meant = bound(trace, graph)?.into_iter().filter(means).collect();
                self.meant.insert(graph, meant);
                for &buffer in timeline.live() {
                    let name = trace.buffer(buffer).map_or("", |b| &b.name);
                    if timeline.resolve(name) == Some(buffer) {
                        self.names(trace, buffer, Some(graph));
                    }
                }
                return Ok(());
            }
            What::GraphLaunch(graph) => {
                self.launched(timeline, event, graph, found);
                return Ok(());
            }
            What::Launch(launch) => launch.graph.map(|(graph, _)| graph),
            // By address, when its graph is launched.
            What::Foreign(_, node) => node.map(|(graph, _)| graph),
            _ => None,
        };
        let Some((graph, meant)) = graph.and_then(|g| Some((g, self.meant.get(&g)?))) else { return Ok(()) };
        for buffer in operands(event).into_iter().filter(|b| meant.contains(b)) {
            let Some(record) = trace.buffer(buffer) else { continue };
            if matches!(event.what, What::Foreign(..)) && record.address.is_some() {
                continue;
            }
            let Some(now) = timeline.resolve(&record.name).filter(|now| *now != buffer) else { continue };
            let reads = event.accesses.iter().any(|a| a.buffer == buffer && a.access.reads());
            let verb = if reads { "reads" } else { "writes" };
            let since = self
                .allocated
                .get(&now)
                .map_or(String::new(), |i| format!(" since {}", step_name(timeline, *i)));
            if found.explained(buffer, 0, u64::MAX) {
                continue;
            }
            let message = format!(
                "{} {verb} {}, but {} is {}{since}",
                subject(event),
                timeline.label(buffer),
                record.name,
                timeline.label(now)
            );
            let key = format!("{} {}", graph.0, buffer.0);
            found.report(&CHECK, timeline, &Spot::of(event), Some(buffer), key, message);
        }
        Ok(())
    }
}

impl StaleBinding {
    /// Notes that a name means addresses which foreign graphs bind: all of them, or one that is captured now.
    fn names(&mut self, trace: &Trace, buffer: BufferId, only: Option<GraphId>) {
        let Some((start, end)) = range(trace, buffer) else { return };
        if trace.buffer(buffer).is_none_or(|b| is_unnamed(&b.name)) {
            return;
        }
        for (graph, bound) in self.bindings.binding((start, end)) {
            if !bound.is_empty() && only.is_none_or(|only| only == graph) {
                let named = self.named.entry(graph).or_default();
                named.extend(bound.iter().map(|bound| (bound.clone(), buffer)));
            }
        }
    }

    /// A graph of another engine is launched: do its addresses still belong to the names that they had?
    fn launched(&self, timeline: &Timeline<'_>, event: &Event<'_>, graph: GraphId, found: &mut Found) {
        let trace = timeline.trace();
        for (bound, buffer) in self.named.get(&graph).into_iter().flatten() {
            let Some(record) = trace.buffer(*buffer) else { continue };
            let Some(now) = timeline.resolve(&record.name).filter(|now| now != buffer) else { continue };
            let still = range(trace, now).is_none_or(|(a, b)| a <= bound.address && bound.address < b);
            if still || self.bindings.is_given_back(graph, bound.address) {
                continue;
            }
            let since = self.allocated.get(&now);
            let since = since.map_or(String::new(), |i| format!(" since {}", step_name(timeline, *i)));
            let message = format!(
                "{} binds {}, but {} is {}{since}",
                bound.name(graph),
                timeline.label(*buffer),
                record.name,
                timeline.label(now)
            );
            let mut spot = Spot::of(event);
            spot.node = Some(bound.node);
            let key = format!("{} {}", graph.0, buffer.0);
            found.report(&CHECK, timeline, &spot, Some(*buffer), key, message);
        }
    }
}
