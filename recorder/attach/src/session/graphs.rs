//! Instantiated graphs.

use std::sync::Arc;

use twinstep_traces::GraphId;

use super::Session;
use crate::contents::{Contents, Node};
use crate::driver::{CUgraphExec, CUstream};
use crate::events::Event;
use crate::watch::{StepRule, glob};

#[derive(Debug, Clone)]
pub(super) struct Graph {
    id: GraphId,
    launched_in: u64,
    ends_step: bool,
    set_in_place: bool,
    contents: Arc<Contents>,
}

/// A graph that is about to be launched, or a bracket: what snapshots to take.
pub struct Planned {
    /// Ends the step before.
    pub ends_step: bool,
    pub graph: Option<GraphId>,
    pub stream: u32,
}

impl Session {
    /// A graph was instantiated.
    pub fn instantiated(&mut self, exec: CUgraphExec, contents: Contents) {
        let id = GraphId(self.next_graph);
        self.next_graph += 1;
        for node in &contents.nodes {
            if let Node::Kernel(kernel) = node {
                self.watch_parameters(&kernel.name, &kernel.parameters);
            }
        }
        self.watch_by_itself(id, &contents);
        let ends_step = match &self.settings.watch.step {
            StepRule::Repeat => false,
            StepRule::Launch(pattern) => contents
                .nodes
                .iter()
                .any(|node| matches!(node, Node::Kernel(kernel) if glob(pattern, &kernel.name))),
        };
        let contents = Arc::new(contents);
        self.push_always(Event::Capture(id, contents.clone()));
        // An address that is used again belongs to a graph whose end we did not see.
        let graph = Graph { id, launched_in: 0, ends_step, set_in_place: false, contents };
        if let Some(old) = self.graphs.insert(exec, graph) {
            self.push_always(Event::DestroyGraph(old.id));
        }
    }

    /// A graph's nodes were changed in place: from here on it is another graph, unless nothing changed.
    pub fn updated(&mut self, exec: CUgraphExec, contents: Contents) {
        let Some(graph) = self.graphs.get(&exec) else { return };
        if *graph.contents == contents {
            return;
        }
        let (old, next) = (graph.id.0, self.next_graph);
        self.push(Event::Mark(format!("graph {old} was updated in place: it is graph {next} from here on")));
        self.instantiated(exec, contents);
    }

    /// One node's parameters were set in place: the driver does not tell which parameters a graph has then.
    pub fn set_in_place(&mut self, exec: CUgraphExec) {
        let Some(graph) = self.graphs.get_mut(&exec) else { return };
        if !std::mem::replace(&mut graph.set_in_place, true) {
            let id = graph.id.0;
            let reason =
                format!("what was set in place in nodes of graph {id}: its contents are as instantiated");
            self.push(Event::Gap(reason));
        }
    }

    /// The instantiated graph of that number, if it is not destroyed or updated since, and its nodes.
    pub fn exec(&self, id: GraphId) -> Option<(CUgraphExec, Arc<Contents>)> {
        let found = self.graphs.iter().find(|(_, graph)| graph.id == id);
        found.map(|(&exec, graph)| (exec, graph.contents.clone()))
    }

    /// A graph was destroyed.
    pub fn destroyed(&mut self, exec: CUgraphExec) {
        if let Some(graph) = self.graphs.remove(&exec) {
            // What ran in this step won't run in it again: where steps are guessed, the next launch begins one.
            self.step_over |= graph.launched_in == self.step;
            self.push_always(Event::DestroyGraph(graph.id));
        }
    }

    /// A graph is about to be launched: which it is, and whether that ends a step first.
    pub fn plan_launch(&mut self, exec: CUgraphExec, stream: CUstream) -> Option<Planned> {
        let stream = self.stream(stream);
        let (told, step, over) = (self.told || self.warm_up, self.step, self.step_over);
        let Some(graph) = self.graphs.get_mut(&exec) else {
            self.push(Event::Gap("a graph was launched whose instantiation was not seen".to_owned()));
            return None;
        };
        let ends_step = !told && (over || graph.launched_in == step);
        let next = if ends_step { step + 1 } else { step };
        graph.launched_in = next;
        let (id, last) = (graph.id, graph.ends_step);
        if ends_step {
            self.step = next;
        }
        self.step_over = last;
        Some(Planned { ends_step, graph: Some(id), stream })
    }
}
