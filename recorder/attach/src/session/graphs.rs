//! Instantiated graphs, and what they hold as their nodes are changed in place.
//!
//! A trace says what a graph held when it was launched. So a change is only noted here, and told with the next launch:
//! as a graph of another number, or of the number that had the same contents before. A thousand nodes set one by one
//! are one change.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use twinstep_traces::GraphId;

use super::Session;
use crate::contents::{Contents, Node, Places};
use crate::driver::{CUgraphExec, CUgraphNode, CUstream};
use crate::events::{Event, Kind};
use crate::watch::{StepRule, glob};

/// Contents that an engine may go back to and find their number again.
const VERSIONS: usize = 8;

/// Stands for contents.
type Fingerprint = (u64, u64);

fn fingerprint(contents: &Contents) -> Fingerprint {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        contents.hash(&mut hasher);
        hasher.finish()
    };
    (half(0), half(1))
}

#[derive(Debug)]
pub(super) struct Graph {
    /// The number of `told`.
    id: GraphId,
    /// The number that it was instantiated with.
    first: GraphId,
    /// What the trace says that it holds.
    told: Arc<Contents>,
    /// What it holds, nodes that are switched off too.
    nodes: Arc<Contents>,
    /// Places of nodes that are switched off.
    off: BTreeSet<usize>,
    /// Something was changed in place since it was launched.
    changed: bool,
    /// Which of the program's nodes is where; empty where that is no longer known.
    places: Places,
    /// Numbers of what it held, the newest last.
    versions: VecDeque<(Fingerprint, GraphId)>,
    /// What had been given back when `told` was.
    given_back: u64,
    launched_in: u64,
    ends_step: bool,
    /// A change that can't be followed was said.
    said: bool,
}

impl Graph {
    /// What it holds now: nodes that are switched off do nothing.
    fn shown(&self) -> Arc<Contents> {
        if self.off.is_empty() {
            return self.nodes.clone();
        }
        let mut shown = Contents::clone(&self.nodes);
        for &place in &self.off {
            if let Some(node) = shown.nodes.get_mut(place) {
                *node = Node::Other(format!("switched off: {}", describe(node)));
            }
        }
        Arc::new(shown)
    }
}

fn describe(node: &Node) -> String {
    match node {
        Node::Kernel(kernel) => kernel.name.clone(),
        Node::Copy { .. } => "a copy".to_owned(),
        Node::Fill { .. } => "a fill".to_owned(),
        Node::Rows(rows) => rows.name(),
        Node::Other(kind) => kind.clone(),
    }
}

/// Whether one may take the other's place in a graph.
fn same_kind(a: &Node, b: &Node) -> bool {
    let kind = |node: &Node| match node {
        Node::Kernel(_) => 0,
        Node::Copy { .. } => 1,
        Node::Fill { .. } => 2,
        Node::Rows(rows) => 1 + u8::from(rows.pattern.is_some()),
        Node::Other(_) => 3,
    };
    kind(a) == kind(b)
}

/// Whether nodes stand in the same order in both.
fn same_order(a: &Contents, b: &Contents) -> bool {
    let same = |(a, b): (&Node, &Node)| match (a, b) {
        (Node::Kernel(a), Node::Kernel(b)) => a.name == b.name,
        (a, b) => same_kind(a, b),
    };
    a.nodes.len() == b.nodes.len() && a.edges == b.edges && a.nodes.iter().zip(&b.nodes).all(same)
}

/// A graph that is about to be launched, or a bracket: what snapshots to take.
pub struct Planned {
    pub graph: GraphId,
    /// The number that it was instantiated with.
    pub first: GraphId,
    pub stream: u32,
    /// It was changed in place since it was launched last, and holds this now.
    pub changed: Option<Arc<Contents>>,
}

impl Session {
    /// A graph was instantiated.
    pub fn instantiated(&mut self, exec: CUgraphExec, contents: Contents, places: Places) {
        let (contents, id) = (Arc::new(contents), GraphId(self.next_graph));
        let graph = Graph {
            id,
            first: id,
            told: contents.clone(),
            nodes: contents.clone(),
            off: BTreeSet::new(),
            changed: false,
            places,
            versions: VecDeque::from([(fingerprint(&contents), id)]),
            given_back: self.memory.given_back(),
            launched_in: 0,
            ends_step: self.ends_step(&contents),
            said: false,
        };
        self.tell(&contents, None);
        // An address that is used again belongs to a graph whose end we did not see.
        if let Some(old) = self.graphs.insert(exec, graph) {
            self.tell_end(&old);
        }
    }

    /// Puts contents into the trace under the next number. Of a graph that held `before`, only what differs is looked
    /// at for memory to watch.
    fn tell(&mut self, contents: &Arc<Contents>, before: Option<&Contents>) -> GraphId {
        let id = GraphId(self.next_graph);
        self.next_graph += 1;
        for node in &contents.nodes {
            if let Node::Kernel(kernel) = node {
                self.watch_parameters(&kernel.name, &kernel.parameters);
            }
        }
        self.watch_by_itself(id, contents, before);
        self.rule_met |= self.ends_step(contents);
        self.push_always(Event::Capture(id, contents.clone()));
        id
    }

    fn tell_end(&mut self, graph: &Graph) {
        for &(_, id) in &graph.versions {
            self.push_always(Event::DestroyGraph(id));
        }
    }

    fn ends_step(&self, contents: &Contents) -> bool {
        match &self.settings.watch.step {
            StepRule::Repeat => false,
            StepRule::Launch(pattern) => contents
                .nodes
                .iter()
                .any(|node| matches!(node, Node::Kernel(kernel) if glob(pattern, &kernel.name))),
        }
    }

    /// All nodes of a graph were given the parameters of another graph's.
    pub fn updated(&mut self, exec: CUgraphExec, contents: Contents) {
        let Some(graph) = self.graphs.get_mut(&exec) else { return };
        graph.changed = true;
        if *graph.nodes == contents {
            return;
        }
        if !same_order(&graph.nodes, &contents) {
            graph.places.clear();
            if !graph.off.is_empty() {
                graph.off.clear();
                let reason = format!("which nodes of graph {} are switched off", graph.id.0);
                graph.nodes = Arc::new(contents);
                self.push(Event::Gap(reason));
                return;
            }
        }
        graph.nodes = Arc::new(contents);
    }

    /// A node was given other parameters; a child graph, as many nodes as it has. A kernel keeps its attributes.
    pub fn node_set(&mut self, exec: CUgraphExec, node: CUgraphNode, with: Vec<Node>, troubles: Vec<String>) {
        let Some(graph) = self.graphs.get_mut(&exec) else { return };
        let places = graph.places.get(&node).filter(|places| places.len() == with.len());
        let fits = |places: &&Vec<usize>| {
            let old = places.iter().map(|&place| graph.nodes.nodes.get(place));
            old.zip(&with).all(|(old, new)| old.is_some_and(|old| same_kind(old, new)))
        };
        let Some(places) = places.filter(fits).cloned() else { return self.not_followed(exec) };
        graph.changed = true;
        let contents = Arc::make_mut(&mut graph.nodes);
        for (place, mut node) in places.into_iter().zip(with) {
            let old = &mut contents.nodes[place];
            if let (Node::Kernel(old), Node::Kernel(new)) = (&*old, &mut node)
                && new.cluster == [0; 3]
            {
                new.cluster = old.cluster;
            }
            *old = node;
        }
        for trouble in troubles {
            if !contents.troubles.contains(&trouble) {
                contents.troubles.push(trouble);
            }
        }
    }

    /// A node was switched on or off.
    pub fn node_enabled(&mut self, exec: CUgraphExec, node: CUgraphNode, on: bool) {
        let Some(graph) = self.graphs.get_mut(&exec) else { return };
        let Some(places) = graph.places.get(&node) else { return self.not_followed(exec) };
        graph.changed = true;
        for place in places {
            if on {
                graph.off.remove(place);
            } else {
                graph.off.insert(*place);
            }
        }
    }

    /// A node was changed that is not known.
    fn not_followed(&mut self, exec: CUgraphExec) {
        let Some(graph) = self.graphs.get_mut(&exec) else { return };
        if !std::mem::replace(&mut graph.said, true) {
            let id = graph.id.0;
            let reason = format!(
                "what was set in place in a node of graph {id} that is none of those it was \
                                  instantiated with: its contents are not those from here on"
            );
            self.push(Event::Gap(reason));
        }
    }

    /// Tells what a graph holds, if it was changed in place since it was last. What it holds then.
    fn tell_change(&mut self, exec: CUgraphExec) -> Option<Arc<Contents>> {
        let given_back = self.memory.given_back();
        let graph = self.graphs.get_mut(&exec).filter(|graph| graph.changed)?;
        graph.changed = false;
        let (old, shown) = (graph.id, graph.shown());
        let before = graph.told.clone();
        if *before == *shown {
            // The same addresses, but they may be of other memory by now, and were given on purpose.
            if std::mem::replace(&mut graph.given_back, given_back) != given_back {
                self.push_always(Event::CaptureAgain(old));
            }
            return None;
        }
        graph.given_back = given_back;
        graph.told = shown.clone();
        let print = fingerprint(&shown);
        let known = graph.versions.iter().position(|&(known, _)| known == print);
        if let Some(version) = known.and_then(|at| graph.versions.remove(at)) {
            graph.id = version.1;
            graph.versions.push_back(version);
            let new = version.1.0;
            self.push(Event::Mark(format!("graph {} was changed in place: it is graph {new} again", old.0)));
            self.push_always(Event::CaptureAgain(version.1));
            return Some(shown);
        }
        let new = self.next_graph;
        self.push(Event::Mark(format!(
            "graph {} was changed in place: it is graph {new} from here on",
            old.0
        )));
        let id = self.tell(&shown, Some(&before));
        let ends_step = self.ends_step(&shown);
        let graph = self.graphs.get_mut(&exec)?;
        (graph.id, graph.ends_step) = (id, ends_step);
        graph.versions.push_back((print, id));
        let oldest = if graph.versions.len() > VERSIONS { graph.versions.pop_front() } else { None };
        if let Some((_, oldest)) = oldest {
            self.push_always(Event::Superseded(oldest));
        }
        Some(shown)
    }

    /// The instantiated graph of that number, if it is not destroyed or changed since, and its nodes.
    pub fn exec(&self, id: GraphId) -> Option<(CUgraphExec, Arc<Contents>)> {
        let found = self.graphs.iter().find(|(_, graph)| graph.id == id && !graph.changed);
        found.map(|(&exec, graph)| (exec, graph.told.clone()))
    }

    /// Whether its instantiation was seen.
    pub fn knows(&self, exec: CUgraphExec) -> bool {
        self.graphs.contains_key(&exec)
    }

    /// A graph was destroyed.
    pub fn destroyed(&mut self, exec: CUgraphExec) {
        if let Some(graph) = self.graphs.remove(&exec) {
            // What ran in this step won't run in it again: where steps are guessed, the next launch begins one.
            self.step_over |= graph.launched_in == self.step;
            self.tell_end(&graph);
        }
    }

    /// A graph is about to be launched: which it is. Ends the step before, where that is guessed.
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
        if ends_step {
            self.step = next;
            self.push_always(Event::StepEnd(Kind::ByItself));
        }
        // After the step's end: what it is changed to belongs to the step that launches it.
        let changed = self.tell_change(exec);
        let graph = self.graphs.get(&exec)?;
        self.step_over = graph.ends_step;
        Some(Planned { graph: graph.id, first: graph.first, stream, changed })
    }
}
