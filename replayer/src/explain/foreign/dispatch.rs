//! Graphs that a run launches in every decode step but the one that differs: left out there, or another one in their
//! place.
//!
//! That other steps launch the same graphs makes it odd, not wrong: a request that came or went, or a bucket that
//! was left, changes what is launched. It fits where steps before and after it agree and the other run does in this
//! step what it does in the others; or where nothing that is recorded ran or changed at all. Otherwise it is possible.

use std::collections::BTreeSet;

use twinstep_traces::{GraphId, Item, StepKind, Trace};

use super::candidate::Candidate;
use super::located::Located;
use crate::ReplayError;
use crate::at::{At, find_index};
use crate::explain::family::Side;
use crate::kind::Kind;

/// Steps of the request that are looked at before and after the divergent one.
const AROUND: u32 = 8;

/// What a step launches.
#[derive(Debug, Default)]
struct Launched {
    graphs: Vec<GraphId>,
    /// Graphs that it captures, or that are others from here on as they were changed in place.
    captured: BTreeSet<GraphId>,
    /// Kernels outside graphs, with their dimensions.
    kernels: Vec<(String, [u32; 3], [u32; 3])>,
    gap: bool,
}

fn launched(trace: &Trace, at: At) -> Result<Option<Launched>, ReplayError> {
    let Ok(index) = find_index(trace, at) else { return Ok(None) };
    let step = trace.step(index)?;
    if step.kind != StepKind::Decode {
        return Ok(None);
    }
    let mut launched = Launched::default();
    for item in &trace.program(step.program)?.items {
        match item {
            Item::GraphLaunch { graph, .. } => launched.graphs.push(*graph),
            Item::Capture { graph } => drop(launched.captured.insert(*graph)),
            Item::Opaque(kernel) => {
                launched.kernels.push((kernel.kernel.clone(), kernel.grid, kernel.block));
            }
            Item::Gap { .. } => launched.gap = true,
            _ => {}
        }
    }
    Ok(Some(launched))
}

/// The divergent step of a run, and the decode steps around it.
struct Around {
    now: Launched,
    before: Vec<Launched>,
    after: Vec<Launched>,
}

impl Around {
    fn of(trace: &Trace, at: At) -> Result<Option<Around>, ReplayError> {
        let Some(step) = at.step else { return Ok(None) };
        let Some(now) = launched(trace, at)? else { return Ok(None) };
        let of_steps = |steps: std::ops::Range<u32>| {
            steps.filter_map(|step| launched(trace, At { step: Some(step), ..at }).transpose()).collect()
        };
        let before: Result<Vec<_>, _> = of_steps(step.saturating_sub(AROUND)..step);
        let after: Result<Vec<_>, _> = of_steps(step + 1..step.saturating_add(AROUND + 1));
        Ok(Some(Around { now, before: before?, after: after? }))
    }

    /// The graphs that all steps before it launch, two at least, and whether a step after it launches them again.
    fn usual(&self) -> Option<(&[GraphId], bool)> {
        let usual = &self.before.last()?.graphs;
        let alike = self.before.len() >= 2 && self.before.iter().all(|l| l.graphs == *usual);
        let again = !self.after.is_empty() && self.after.iter().all(|l| l.graphs == *usual);
        (alike && !usual.is_empty()).then_some((usual.as_slice(), again))
    }

    /// Whether it launches in this step what it launches in those around it.
    fn is_steady(&self) -> bool {
        let something = !self.now.graphs.is_empty() || !self.now.kernels.is_empty();
        let around = || self.before.iter().chain(&self.after);
        let same = |l: &Launched| l.graphs == self.now.graphs && l.kernels == self.now.kernels;
        something && around().count() >= 2 && around().all(same)
    }
}

/// The graphs that one run launches elsewhere and not here.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn other_launches(
    (a, at): (&Trace, At),
    (b, at_b): (&Trace, At),
    located: &Located,
) -> Result<Vec<Candidate>, ReplayError> {
    let mut found = Vec::new();
    let around = [Around::of(a, at)?, Around::of(b, at_b)?];
    for (side, trace) in [(Side::A, a), (Side::B, b)] {
        let index = usize::from(side == Side::B);
        let Some(own) = &around[index] else { continue };
        let Some((usual, again)) = own.usual().filter(|_| !own.now.gap) else { continue };
        if own.now.graphs == usual {
            continue;
        }
        // What differs before the launch is not what the launch makes different.
        let arises = located.after_launch;
        let steady = again && around[1 - index].as_ref().is_some_and(Around::is_steady);
        let name = |graph: GraphId| match trace.graph(graph).map_or("", |g| g.label.as_str()) {
            "" => format!("graph {}", graph.0),
            label => format!("graph {} ({label})", graph.0),
        };
        let lacking: Vec<GraphId> = usual.iter().filter(|g| !own.now.graphs.contains(g)).copied().collect();
        let new: Vec<GraphId> = own.now.graphs.iter().filter(|g| !usual.contains(g)).copied().collect();
        let names = |graphs: &[GraphId]| graphs.iter().map(|&g| name(g)).collect::<Vec<_>>().join(", ");
        let elsewhere = match again {
            true => "the decode steps before and after",
            false => "the decode steps before",
        };
        let (kind, graph, fits, text) = match (lacking.first(), new.first()) {
            (Some(_), Some(&instead)) => {
                let text =
                    format!("{} is launched, where {elsewhere} launch {}", names(&new), names(&lacking));
                // What was captured for this step was not chosen from what there was.
                let chosen = !own.now.captured.contains(&instead);
                (Kind::WrongDispatch, instead, steady && arises && chosen, text)
            }
            (Some(&left_out), None) => {
                // Kernels that ran one by one in its place may not be recorded, but change something.
                let nothing = own.now.graphs.is_empty()
                    && own.now.kernels.is_empty()
                    && located.changed[index].is_empty()
                    && !located.changed[1 - index].is_empty();
                let text = match nothing {
                    true => format!(
                        "no graph is launched and nothing that was recorded changes, where {elsewhere} launch {}",
                        names(&lacking)
                    ),
                    false => format!("{} is not launched, where {elsewhere} launch it", names(&lacking)),
                };
                (Kind::MissingLaunch, left_out, nothing && again && arises, text)
            }
            _ => continue,
        };
        let (graph, buffers) = (Some(graph.0), located.differing.clone());
        found.push(Candidate { kind, side, graph, node: None, buffers, arguments: Vec::new(), fits, text });
    }
    Ok(found)
}
