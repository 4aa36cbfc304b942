//! Graphs of another engine that were captured in a step, not launched in it, and launched in later ones.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, GraphId, Item, StepKind, Trace};

use super::CHECK;
use crate::ReplayError;
use crate::between::{Intervals, describe};
use crate::checks::bindings::{bound, is_unnamed, range};
use crate::checks::{Found, Spot};
use crate::foreign::is_foreign;
use crate::timeline::{Timeline, name_of};

/// A graph that later steps launch and the capturing step did not.
#[derive(Debug)]
pub(crate) struct Unlaunched {
    pub(crate) graph: GraphId,
    /// The capturing step's record.
    pub(crate) index: usize,
    pub(crate) request: u32,
    pub(crate) step: u32,
    /// `2`, `3:2`.
    pub(crate) at: String,
    /// Later steps that launch it.
    pub(crate) later: usize,
    /// Buffers that it binds and that changed over each later launch of it.
    pub(crate) outputs: BTreeSet<BufferId>,
    /// Those of them that kept their bytes in the capturing step.
    pub(crate) unchanged: BTreeSet<BufferId>,
    /// Those of them that are known to have changed in the capturing step.
    pub(crate) changed: BTreeSet<BufferId>,
    /// What ran later in that step and binds an output, and which.
    pub(crate) used: Option<(String, BufferId)>,
    /// Most of its kernels ran one by one in that step.
    pub(crate) ran_directly: bool,
}

impl Unlaunched {
    /// Whether all its outputs are known to have been computed in the step, by something else.
    pub(crate) fn computed(&self) -> bool {
        self.ran_directly || !self.outputs.is_empty() && self.outputs.is_subset(&self.changed)
    }

    /// Whether what is known suffices to call it a mistake.
    fn is_mistake(&self) -> bool {
        let used = self.used.as_ref().map(|(_, buffer)| buffer);
        used.is_some_and(|buffer| self.unchanged.contains(buffer))
            || !self.ran_directly && (used.is_some() || self.later >= 2 && !self.unchanged.is_empty())
    }
}

/// Where a graph was captured, and what came after it.
struct Captured {
    index: usize,
    place: (u32, u32, String),
    launched: bool,
    later: BTreeSet<usize>,
    after: Vec<(String, Vec<BufferId>)>,
    /// Its kernels, and how often each is among its nodes.
    kernels: Counts,
    /// Kernels that the capturing step ran outside graphs.
    direct: Counts,
    /// Those that the first later step which launches the graph ran outside graphs.
    beside: Option<Counts>,
}

impl Captured {
    /// Whether the capturing step ran the graph's kernels one by one: more of them outside graphs than the first
    /// step that launches it, by half of the graph or more. The same kernels serve other parts of a step too.
    fn ran_directly(&self) -> bool {
        let more = |name: &String, nodes: usize| {
            let beside = self.beside.as_ref().and_then(|b| b.get(name)).copied().unwrap_or(0);
            nodes.min(self.direct.get(name).copied().unwrap_or(0).saturating_sub(beside))
        };
        let ran: usize = self.kernels.iter().map(|(name, &nodes)| more(name, nodes)).sum();
        ran > 0 && ran * 2 >= self.kernels.values().sum()
    }
}

/// How often each kernel occurs.
type Counts = BTreeMap<String, usize>;

/// Things that ran after a capture in its step that are kept.
const AFTER_MAX: usize = 4096;

/// All such graphs of a run of another engine.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn unlaunched(trace: &Trace) -> Result<Vec<Unlaunched>, ReplayError> {
    let mut captured: BTreeMap<GraphId, Captured> = BTreeMap::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        let program = trace.program(step.program)?;
        let mut direct = Counts::new();
        let mut first = Vec::new();
        let mut here = BTreeSet::new();
        for item in &program.items {
            match item {
                Item::Capture { graph } if step.kind != StepKind::Setup => {
                    let place = (step.request, step.step, name_of(&step));
                    let kernels = kernels(trace, *graph)?;
                    let entry = Captured {
                        index,
                        place,
                        launched: false,
                        later: BTreeSet::new(),
                        after: Vec::new(),
                        kernels,
                        direct: Counts::new(),
                        beside: None,
                    };
                    here.insert(*graph);
                    captured.insert(*graph, entry);
                }
                Item::GraphLaunch { graph, .. } => {
                    if let Some(entry) = captured.get_mut(graph) {
                        entry.launched |= entry.index == index;
                        if entry.index < index && step.kind != StepKind::Setup {
                            if entry.later.is_empty() {
                                first.push(*graph);
                            }
                            entry.later.insert(index);
                        }
                    }
                }
                Item::Opaque(launch) => *direct.entry(launch.kernel.clone()).or_default() += 1,
                _ => {}
            }
            if here.is_empty() {
                continue;
            }
            let buffers = match item {
                Item::GraphLaunch { graph, .. } => bound(trace, *graph)?.iter().map(|b| b.buffer).collect(),
                Item::Opaque(_) | Item::Copy { .. } | Item::Fill { .. } => item.buffers(),
                _ => continue,
            };
            let Some(name) = describe(trace, item) else { continue };
            for graph in &here {
                if let Some(entry) = captured.get_mut(graph).filter(|e| e.after.len() < AFTER_MAX) {
                    entry.after.push((name.clone(), buffers.clone()));
                }
            }
        }
        for graph in here {
            if let Some(entry) = captured.get_mut(&graph) {
                entry.direct = direct.clone();
            }
        }
        for graph in first {
            if let Some(entry) = captured.get_mut(&graph) {
                entry.beside = Some(direct.clone());
            }
        }
    }
    captured.retain(|_, entry| !entry.launched && !entry.later.is_empty());
    if captured.is_empty() {
        return Ok(Vec::new());
    }
    let intervals = Intervals::of(trace)?;
    let mut found = Vec::new();
    for (graph, entry) in captured {
        found.push(judge(trace, &intervals, graph, entry)?);
    }
    Ok(found)
}

fn kernels(trace: &Trace, graph: GraphId) -> Result<Counts, ReplayError> {
    let mut counts = Counts::new();
    let Some(record) = trace.graph(graph) else { return Ok(counts) };
    for item in &trace.program(record.program)?.items {
        if let Item::Opaque(launch) = item {
            *counts.entry(launch.kernel.clone()).or_default() += 1;
        }
    }
    Ok(counts)
}

fn judge(
    trace: &Trace,
    intervals: &Intervals,
    graph: GraphId,
    entry: Captured,
) -> Result<Unlaunched, ReplayError> {
    let addresses: BTreeSet<u64> = bound(trace, graph)?.iter().map(|b| b.address).collect();
    let binds = |buffer: &BufferId| {
        let named = trace.buffer(*buffer).is_some_and(|b| !is_unnamed(&b.name));
        named && range(trace, *buffer).is_some_and(|(a, b)| addresses.range(a..b).next().is_some())
    };
    let mut outputs: Option<BTreeSet<BufferId>> = None;
    for (at, changed) in intervals.launches_of(trace, graph)? {
        if intervals.list[at].to.index <= entry.index {
            continue;
        }
        let changed: BTreeSet<BufferId> = changed.into_iter().filter(binds).collect();
        outputs = Some(match outputs {
            Some(outputs) => outputs.intersection(&changed).copied().collect(),
            None => changed,
        });
    }
    let outputs = outputs.unwrap_or_default();
    // Covered before the step and at its end, and no point of the step shows a change.
    let of_step = || intervals.list.iter().filter(|b| b.to.index == entry.index);
    let (mut unchanged, mut changed_here) = (BTreeSet::new(), BTreeSet::new());
    if let (Some(first), Some(last)) = (of_step().next(), of_step().next_back()) {
        for &buffer in &outputs {
            let one = first.to.snapshot == last.to.snapshot;
            let known = trace.covers(first.to.snapshot, buffer)? && trace.covers(last.to.snapshot, buffer)?;
            let changed = of_step().skip(1).any(|b| b.changed.contains_key(&buffer));
            if changed {
                changed_here.insert(buffer);
            } else if known && !one {
                unchanged.insert(buffer);
            }
        }
    }
    let mut used = None;
    for (name, buffers) in &entry.after {
        let overlaps = |output: &BufferId| {
            let mine = range(trace, *output);
            buffers.iter().any(|b| {
                b == output || mine.zip(range(trace, *b)).is_some_and(|((a, b), (c, d))| a.max(c) < b.min(d))
            })
        };
        if let Some(output) = outputs.iter().find(|o| overlaps(o)) {
            used = Some((name.clone(), *output));
            break;
        }
    }
    let ran_directly = entry.ran_directly();
    let (request, step, at) = entry.place;
    let (index, later) = (entry.index, entry.later.len());
    let changed = changed_here;
    Ok(Unlaunched { graph, index, request, step, at, later, outputs, unchanged, changed, used, ran_directly })
}

/// Reports what is a mistake, and says what cannot be judged.
pub(super) fn report(timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
    let trace = timeline.trace();
    if !is_foreign(trace.run()) {
        return Ok(());
    }
    for one in unlaunched(trace)? {
        let graph = one.graph.0;
        let label = trace.graph(one.graph).map_or("", |g| &g.label);
        let named = if label.is_empty() { String::new() } else { format!(" ({label})") };
        let what = format!(
            "graph {graph}{named} was captured in step {} and not launched in it, though {} later steps launch it",
            one.at, one.later
        );
        if !one.is_mistake() {
            if !one.ran_directly {
                found.note(format!(
                    "unlaunched-capture: {what}: whether its outputs were used there is not known"
                ));
            }
            continue;
        }
        let labels: Vec<String> = one.unchanged.iter().take(4).map(|&b| timeline.label(b)).collect();
        let mut message = what;
        if !labels.is_empty() {
            message += &format!(
                ": {} did not change in step {}, and changed with every later launch",
                labels.join(", "),
                one.at
            );
        }
        if let Some((name, buffer)) = &one.used {
            message += &format!("; {name} binds {} in that step", timeline.label(*buffer));
        }
        let (request, step, at) = (one.request, one.step, one.at.clone());
        let time = u32::try_from(one.index).unwrap_or(u32::MAX);
        let spot = Spot { time, request, step, graph: Some(graph), node: None, at };
        let used = one.used.as_ref().map(|(_, buffer)| *buffer);
        let buffer = one.unchanged.first().copied().or(used);
        found.report(&CHECK, timeline, &spot, buffer, format!("{graph}"), message);
    }
    Ok(())
}
