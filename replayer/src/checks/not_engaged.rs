//! A graph was captured and never launched, while its launches ran one by one.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{GraphId, Item, StepKind, Trace};

use super::{Check, Found, Registered, Spot, step_name};
use crate::foreign::is_foreign;
use crate::timeline::{Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "not-engaged",
    kind: Kind::NotEngaged,
    explanation: "\
A graph was captured and never launched; the decode steps after it ran its launches one by one.

The run is not what it claims to be: a comparison of `graph` with `eager` compares eager with eager and
proves nothing, and a benchmark measures the wrong path. A graph that was captured for another batch size
and not needed is no finding: another graph of the same launches, or none of its launches, ran instead.

Seen in: padded batches that fell back to eager in silence (reference, section 7, class B and J); graph
dispatch that looked at values of the capture (the V100 fork of vllm, reference 7a #5).

Confirm: `twinstep log RUN.twin --at N` of any decode step shows `launch` where `graph` is expected.",
    not_foreign: None,
    new: |_| Box::new(NotEngaged::default()),
};

struct Captured {
    spot: Spot,
    index: u32,
    launches: BTreeSet<String>,
    /// Decode steps that began after the capturing step.
    steps: u32,
    /// Those of its launches that ran directly in them.
    direct: BTreeSet<String>,
}

#[derive(Default)]
struct NotEngaged {
    captured: BTreeMap<GraphId, Captured>,
    launched: BTreeSet<GraphId>,
    /// Decode steps, and whether any step of a request launched a graph.
    steps: u32,
    any: bool,
}

/// Decode steps of another engine without any graph launch after which its graphs are not in use.
const STEPS_MIN: u32 = 3;

fn names(trace: &Trace, graph: GraphId) -> Result<BTreeSet<String>, ReplayError> {
    let Some(record) = trace.graph(graph) else { return Ok(BTreeSet::new()) };
    let program = trace.program(record.program)?;
    Ok(program.items.iter().filter_map(name).collect())
}

fn name(item: &Item) -> Option<String> {
    match item {
        Item::Launch(launch) => Some(format!("{} {}", launch.op, launch.label)),
        Item::Opaque(launch) => Some(launch.kernel.clone()),
        _ => None,
    }
}

impl Check for NotEngaged {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        _found: &mut Found,
    ) -> Result<(), ReplayError> {
        let decode = event.step.kind == StepKind::Decode;
        match event.what {
            What::Begin if decode => self.steps += 1,
            What::GraphLaunch(_) if event.step.kind != StepKind::Setup => self.any = true,
            _ => {}
        }
        let launched = &self.launched;
        let waiting =
            self.captured.iter_mut().filter(|(g, c)| !launched.contains(g) && c.index < event.index);
        let direct = match event.what {
            What::Capture(graph) => {
                let (spot, launches) = (Spot::of(event), names(timeline.trace(), graph)?);
                let index = event.index;
                self.captured
                    .insert(graph, Captured { spot, index, launches, steps: 0, direct: BTreeSet::new() });
                return Ok(());
            }
            What::GraphLaunch(graph) => {
                self.launched.insert(graph);
                return Ok(());
            }
            What::Begin if decode => {
                waiting.for_each(|(_, captured)| captured.steps += 1);
                return Ok(());
            }
            What::Launch(launch) if decode && launch.graph.is_none() => {
                format!("{} {}", launch.record.op, launch.record.label)
            }
            What::Foreign(item, None) if decode => match name(item) {
                Some(name) => name,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        for (_, captured) in waiting {
            if captured.launches.contains(&direct) && !captured.direct.contains(&direct) {
                captured.direct.insert(direct.clone());
            }
        }
        Ok(())
    }

    fn finish(&mut self, timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
        let trace = timeline.trace();
        let mut in_use = Vec::new();
        for graph in &self.launched {
            in_use.push(names(trace, *graph)?);
        }
        for (graph, captured) in self.captured.iter().filter(|(g, _)| !self.launched.contains(g)) {
            let half = captured.launches.len().div_ceil(2).max(1);
            let instead = in_use.iter().any(|other| other.intersection(&captured.launches).count() >= half);
            if captured.steps == 0 || captured.direct.len() < half || instead {
                continue;
            }
            let label = trace.graph(*graph).map_or("", |g| &g.label);
            let message = format!(
                "graph {} ({label}) was captured in {} and never launched: {} decode steps after it ran its launches one by one",
                graph.0,
                step_name(timeline, captured.index),
                captured.steps
            );
            found.report(&CHECK, timeline, &captured.spot, None, graph.0.to_string(), message);
            self.any = true;
        }
        let idle = is_foreign(trace.run()) && trace.run().mode != "eager" && !self.any;
        if let Some((graph, captured)) =
            self.captured.iter().next().filter(|_| idle && self.steps >= STEPS_MIN)
        {
            let message = format!(
                "{} graphs were captured, graph {} in {} the first, and none was launched in any of {} decode steps",
                self.captured.len(),
                graph.0,
                step_name(timeline, captured.index),
                self.steps
            );
            found.report(&CHECK, timeline, &captured.spot, None, "all".to_owned(), message);
        }
        Ok(())
    }
}
