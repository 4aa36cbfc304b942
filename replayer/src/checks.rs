//! The checks, one a file, and what they share: each sees every event of a trace and reports findings.

mod aliased_memory;
pub(crate) mod bindings;
mod host_copies;
mod late_host_write;
mod missing_host_write;
mod nonfinite;
mod not_engaged;
mod op_faults;
mod stale_binding;
mod stray_write;
mod undersized_workspace;
mod uninitialised_read;
pub(crate) mod unlaunched_capture;
mod unordered_writers;
mod use_after_free;

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, Item, Trace};

use crate::finding::Finding;
use crate::timeline::{Event, Timeline, What, name_of};
use crate::{Kind, ReplayError};

/// Findings of one check that are kept apart.
const FINDINGS_MAX: usize = 64;

/// A check: what it is called, what it speaks for and what it means.
pub(crate) struct Registered {
    /// Its name in messages and for `--explain`.
    pub(crate) name: &'static str,
    /// The mechanism.
    pub(crate) kind: Kind,
    /// What it means, why it matters, where it was seen, how to confirm it.
    pub(crate) explanation: &'static str,
    /// Why it judges nothing in runs of another engine, where that is so.
    pub(crate) not_foreign: Option<&'static str>,
    /// One for a trace.
    pub(crate) new: fn(&Trace) -> Box<dyn Check>,
}

/// The bytes that kernels use decide, and those of another engine's are not known.
const ACCESS_UNKNOWN: &str = "what its kernels read and write is not recorded";
/// Only launches of our own ops have what they look at.
const OWN_OPS: &str = "of ops that only twinstep's own engine has";

/// The checks that judge nothing in runs of another engine, with why: `NAME, NAME (REASON); NAME (REASON)`.
pub(crate) fn not_on_foreign_runs() -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in ALL {
        let Some(reason) = check.not_foreign else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(check.name),
            None => reasons.push((reason, vec![check.name])),
        }
    }
    let said: Vec<String> =
        reasons.iter().map(|(reason, names)| format!("{} ({reason})", names.join(", "))).collect();
    said.join("; ")
}

/// All checks. Of two that could report the same read, the more specific one comes first and explains it.
pub(crate) const ALL: &[&Registered] = &[
    &aliased_memory::CHECK,
    &use_after_free::CHECK,
    &stale_binding::CHECK,
    &unlaunched_capture::CHECK,
    &uninitialised_read::CHECK,
    &stray_write::CHECK,
    &unordered_writers::CHECK,
    &missing_host_write::CHECK,
    &late_host_write::CHECK,
    &not_engaged::CHECK,
    &op_faults::CHECK,
    &nonfinite::CHECK,
    &undersized_workspace::CHECK,
];

/// Looks at every event of one trace.
pub(crate) trait Check {
    /// An event, before it takes effect.
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError>;

    /// All has been seen.
    fn finish(&mut self, _timeline: &Timeline<'_>, _found: &mut Found) -> Result<(), ReplayError> {
        Ok(())
    }
}

/// Where a finding is.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    time: u32,
    request: u32,
    step: u32,
    graph: Option<u32>,
    node: Option<u32>,
    at: String,
}

impl Spot {
    /// The step: `2`, `3:2`.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// The place of an event.
    pub(crate) fn of(event: &Event<'_>) -> Spot {
        let (graph, node) = match event.what {
            What::Launch(launch) => (launch.graph.map(|(graph, _)| graph.0), Some(launch.number)),
            What::GraphLaunch(graph) | What::Capture(graph) => (Some(graph.0), None),
            What::Foreign(_, node) => (node.map(|(graph, _)| graph.0), node.map(|(_, node)| node)),
            _ => (None, None),
        };
        let (request, step) = (event.step.request, event.step.step);
        Spot { time: event.time, request, step, graph, node, at: name_of(event.step) }
    }
}

struct Entry {
    time: u32,
    finding: Finding,
    again: u32,
    last_time: u32,
    last: String,
}

/// Findings so far.
#[derive(Default)]
pub(crate) struct Found {
    entries: Vec<Entry>,
    keys: BTreeMap<(&'static str, String), usize>,
    /// Bytes read by the present event about which a more specific check has spoken.
    explained: Vec<(BufferId, u64, u64)>,
    notes: BTreeSet<String>,
}

impl Found {
    /// Reports something. The same `key` again is the same finding, counted.
    pub(crate) fn report(
        &mut self,
        check: &Registered,
        timeline: &Timeline<'_>,
        spot: &Spot,
        buffer: Option<BufferId>,
        key: String,
        message: String,
    ) {
        let key = (check.name, key);
        if let Some(entry) = self.keys.get(&key).and_then(|i| self.entries.get_mut(*i)) {
            // Two operands of one launch are one occurrence.
            if spot.time > entry.last_time {
                entry.again += 1;
                entry.last_time = spot.time;
                entry.last.clone_from(&spot.at);
            }
            return;
        }
        if self.entries.iter().filter(|e| e.finding.check == check.name).count() >= FINDINGS_MAX {
            self.note(format!("{}: more than {FINDINGS_MAX} findings", check.name));
            return;
        }
        self.keys.insert(key, self.entries.len());
        self.entries.push(Entry {
            time: spot.time,
            finding: Finding {
                check: check.name.to_owned(),
                kind: check.kind,
                request: spot.request,
                step: spot.step,
                graph: spot.graph,
                node: spot.node,
                buffer: buffer.map(|b| timeline.label(b)),
                message,
            },
            again: 0,
            last_time: spot.time,
            last: spot.at.clone(),
        });
    }

    /// Says that bytes read by the present event need no other check's attention.
    pub(crate) fn explain(&mut self, buffer: BufferId, start: u64, end: u64) {
        self.explained.push((buffer, start, end));
    }

    /// Whether a more specific check has spoken about any of these bytes.
    pub(crate) fn explained(&self, buffer: BufferId, start: u64, end: u64) -> bool {
        self.explained.iter().any(|&(b, s, e)| b == buffer && s < end && start < e)
    }

    /// Another event begins.
    pub(crate) fn next(&mut self) {
        self.explained.clear();
    }

    /// Something that a check did not look at.
    pub(crate) fn note(&mut self, what: String) {
        self.notes.insert(what);
    }

    /// The findings in order of time, and what was not looked at.
    pub(crate) fn finish(mut self) -> (Vec<Finding>, BTreeSet<String>) {
        // Stable: of findings at the same event, the order of the checks.
        self.entries.sort_by_key(|entry| entry.time);
        let finding = |entry: Entry| {
            let Entry { mut finding, again, last, .. } = entry;
            if again > 0 {
                let times = if again == 1 { "once more".to_owned() } else { format!("{again} times more") };
                finding.message += &format!(" ({times}, last in step {last})");
            }
            finding
        };
        (self.entries.into_iter().map(finding).collect(), self.notes)
    }
}

/// `a launch` as the subject of a message: `layer.0.mlp.add`, `node 14 of graph 0 (embed.codes)`, `the host`.
pub(crate) fn subject(event: &Event<'_>) -> String {
    match event.what {
        What::Launch(launch) => match launch.graph {
            Some((graph, node)) => format!("graph {} node {node} ({})", graph.0, launch.name()),
            None => launch.name().to_owned(),
        },
        What::HostRead(_) | What::HostWrite(..) => "the host".to_owned(),
        What::Foreign(item, Some((graph, node))) => {
            format!("graph {} node {node} ({})", graph.0, foreign_name(item))
        }
        What::Foreign(item, None) => foreign_name(item).to_owned(),
        _ => "a kernel of another engine".to_owned(),
    }
}

/// What an item of another engine is called: its kernel, or what it is.
pub(crate) fn foreign_name(item: &Item) -> String {
    match item {
        Item::Opaque(launch) => crate::kernel_name::short(&launch.kernel),
        Item::Copy { .. } => "a copy".to_owned(),
        Item::Fill { .. } => "a fill".to_owned(),
        _ => "an item of another engine".to_owned(),
    }
}

/// A key under which the same launch in another step is the same.
pub(crate) fn launch_key(event: &Event<'_>) -> String {
    match event.what {
        What::Launch(launch) => format!("{:?} {}", launch.graph, launch.name()),
        What::Foreign(item, node) => format!("{node:?} {}", foreign_name(item)),
        _ => String::new(),
    }
}

/// `step 2`, `set-up`.
pub(crate) fn step_name(timeline: &Timeline<'_>, index: u32) -> String {
    let step = timeline.trace().step(index as usize);
    step.map_or("an unknown step".to_owned(), |step| match name_of(&step) {
        at if step.step > 0 => format!("step {at}"),
        at => at,
    })
}
