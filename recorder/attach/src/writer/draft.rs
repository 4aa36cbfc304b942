//! A step while it grows: its items and the points where snapshots were taken.

use std::collections::HashMap;

use twinstep_traces::{GraphId, Item, OpaqueLaunch, Phase};

use crate::snapshot::Ticket;

/// A point of a step: name, position, snapshot.
pub(super) type Point = (String, u32, Ticket);

struct Open {
    label: String,
    name: String,
    stream: u32,
    /// Launches before it.
    launches: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Draft {
    items: Vec<Item>,
    /// Names of brackets' points; graphs' points get theirs at the end.
    points: Vec<(Option<String>, u32, Ticket)>,
    graphs: Vec<(GraphId, u32, Option<Ticket>, Option<Ticket>)>,
    open: Vec<Open>,
    launches: usize,
    in_step: bool,
    in_request: bool,
    /// The first copy from the host to the device since the last launch.
    prepares: Option<usize>,
}

impl Draft {
    /// Nothing was launched yet that makes it a step.
    pub(super) fn is_setup(&self) -> bool {
        !self.in_step
    }

    /// It begins with a request: nothing in it is set-up.
    pub(super) fn in_request(&self) -> bool {
        self.in_request
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.points.is_empty()
    }

    pub(super) fn has_launches(&self) -> bool {
        self.launches > 0
    }

    pub(super) fn graph_launches(&self) -> usize {
        self.graphs.len()
    }

    pub(super) fn begin_step(&mut self) {
        self.in_step = true;
    }

    pub(super) fn begin_request(&mut self) {
        self.in_request = true;
    }

    pub(super) fn setup_again(&mut self) {
        self.in_step = false;
    }

    pub(super) fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// A copy, or a part of one; whether the host writes the device's memory.
    pub(super) fn copy(&mut self, item: Item, from_host: bool) {
        if from_host && self.prepares.is_none() {
            self.prepares = Some(self.items.len());
        }
        self.items.push(item);
    }

    /// A kernel launched by itself.
    pub(super) fn launch(&mut self, item: Item) {
        self.items.push(item);
        self.launched();
    }

    fn launched(&mut self) {
        self.launches += 1;
        self.prepares = None;
    }

    fn position(&self) -> u32 {
        self.items.len() as u32
    }

    /// A launch of a graph that was instantiated as `first`: its points have that number, whatever it was changed to
    /// since, so that those of two steps and of two runs belong together.
    pub(super) fn graph_launch(
        &mut self,
        graph: GraphId,
        first: GraphId,
        stream: u32,
        (before, after): (Option<Ticket>, Option<Ticket>),
    ) {
        self.graphs.push((first, self.position(), before, after));
        self.items.push(Item::GraphLaunch { graph, stream });
        self.launched();
    }

    pub(super) fn bracket_begin(&mut self, label: &str, name: &str, stream: u32, ticket: Option<Ticket>) {
        let position = self.position();
        if let Some(ticket) = ticket {
            self.points.push((Some(format!("{label}.before")), position, ticket));
        }
        let (label, name) = (label.to_owned(), name.to_owned());
        self.open.push(Open { label, name, stream, launches: self.launches });
    }

    /// A bracket in which nothing was recorded stands for its kernels.
    pub(super) fn bracket_end(&mut self, label: &str, ticket: Option<Ticket>) {
        let Some(at) = self.open.iter().rposition(|open| open.label == label) else {
            let text = format!("bracket {label} ended and had not begun in this step");
            self.items.push(Item::Mark { text });
            return;
        };
        let open = self.open.remove(at);
        if self.launches == open.launches {
            self.items.push(Item::Opaque(OpaqueLaunch {
                kernel: open.name,
                phase: Phase::Forward,
                stream: open.stream,
                grid: [0; 3],
                block: [0; 3],
                cluster: [0; 3],
                shared_bytes: 0,
                parameters: Vec::new(),
                operands: Vec::new(),
            }));
        }
        self.launched();
        if let Some(ticket) = ticket {
            self.points.push((Some(format!("{label}.after")), self.position(), ticket));
        }
    }

    /// What came after the last launch and prepares the next step: everything from the first copy to the device
    /// on. Only where steps are guessed: their end is seen no sooner than the next one's launch.
    pub(super) fn split_tail(&mut self) -> Draft {
        let items = self.prepares.take().map_or(Vec::new(), |at| self.items.split_off(at));
        Draft { items, in_step: true, ..Draft::default() }
    }

    /// Keeps only what happened to memory and graphs, and what was said.
    pub(super) fn keep_standing(&mut self) {
        self.items.retain(|item| {
            matches!(
                item,
                Item::Allocate { .. }
                    | Item::Free { .. }
                    | Item::Capture { .. }
                    | Item::DestroyGraph { .. }
                    | Item::Mark { .. }
                    | Item::Gap { .. }
            )
        });
        self.points.clear();
        self.graphs.clear();
        self.open.clear();
        (self.launches, self.prepares) = (0, None);
    }

    pub(super) fn append(&mut self, other: Draft) {
        self.items.extend(other.items);
    }

    /// Items and points in order of position. The step's own points are its first and its last snapshot; graphs
    /// have points of their own where there are several launches, or brackets around them.
    pub(super) fn finish(mut self, phase: Phase) -> (Vec<Item>, Vec<Point>) {
        for item in &mut self.items {
            if let Item::Opaque(launch) = item {
                launch.phase = phase;
            }
        }
        let several = self.graphs.len() > 1 || !self.points.is_empty();
        let mut counts: HashMap<GraphId, u32> = HashMap::new();
        let mut points = self.points;
        for (graph, position, before, after) in self.graphs {
            let count = counts.entry(graph).or_insert(0);
            *count += 1;
            let label = match *count {
                1 => format!("graph.{}", graph.0),
                n => format!("graph.{}#{n}", graph.0),
            };
            let name = |moment: &str| several.then(|| format!("{label}.{moment}"));
            points.extend(before.map(|ticket| (name("before"), position, ticket)));
            points.extend(after.map(|ticket| (name("after"), position + 1, ticket)));
        }
        points.sort_by_key(|(_, position, ticket)| (*position, *ticket));
        let mut named = Vec::with_capacity(points.len() + 2);
        if let [(_, position, ticket), .., _] = points[..] {
            named.push(("step.before".to_owned(), position, ticket));
        }
        let last = points.last().map(|&(_, position, ticket)| (position, ticket));
        named.extend(
            points.into_iter().filter_map(|(name, position, ticket)| Some((name?, position, ticket))),
        );
        named.extend(last.map(|(position, ticket)| ("step.after".to_owned(), position, ticket)));
        (self.items, named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(draft: Draft) -> Vec<(String, u32, u64)> {
        draft.finish(Phase::Forward).1.into_iter().map(|(name, at, ticket)| (name, at, ticket.0)).collect()
    }

    fn launch(draft: &mut Draft, graph: u32, first: u64) {
        let tickets = (Some(Ticket(first)), Some(Ticket(first + 1)));
        draft.graph_launch(GraphId(graph + 10), GraphId(graph), 0, tickets);
    }

    #[test]
    fn one_launch_has_the_points_of_the_step_several_have_their_own_too() {
        let mut one = Draft::default();
        launch(&mut one, 3, 0);
        let point = |name: &str, at, ticket| (name.to_owned(), at, ticket);
        assert_eq!(names(one), [point("step.before", 0, 0), point("step.after", 1, 1)]);

        let mut several = Draft::default();
        launch(&mut several, 3, 0);
        launch(&mut several, 4, 2);
        launch(&mut several, 3, 4);
        assert_eq!(
            names(several),
            [
                point("step.before", 0, 0),
                point("graph.3.before", 0, 0),
                point("graph.3.after", 1, 1),
                point("graph.4.before", 1, 2),
                point("graph.4.after", 2, 3),
                point("graph.3#2.before", 2, 4),
                point("graph.3#2.after", 3, 5),
                point("step.after", 3, 5),
            ]
        );
    }

    #[test]
    fn a_bracket_without_recorded_kernels_stands_for_them() {
        let mut draft = Draft::default();
        draft.bracket_begin("forward", "forward", 2, Some(Ticket(0)));
        draft.bracket_end("forward", Some(Ticket(1)));
        let (items, points) = draft.finish(Phase::Prefill);
        let [Item::Opaque(launch)] = &items[..] else { panic!("{items:?}") };
        assert_eq!((launch.kernel.as_str(), launch.stream, launch.phase), ("forward", 2, Phase::Prefill));
        let points: Vec<(&str, u32)> = points.iter().map(|(name, at, _)| (name.as_str(), *at)).collect();
        assert_eq!(
            points,
            [("step.before", 0), ("forward.before", 0), ("forward.after", 1), ("step.after", 1)]
        );
    }

    #[test]
    fn copies_to_the_device_after_the_last_launch_belong_to_the_next_step() {
        let copy = |source, target| Item::Copy {
            stream: 0,
            source: None,
            target: None,
            source_address: source,
            target_address: target,
            bytes: 1,
        };
        let mut draft = Draft::default();
        draft.copy(copy(0, 8), true);
        launch(&mut draft, 0, 0);
        draft.copy(copy(8, 0), false);
        draft.copy(copy(0, 8), true);
        draft.copy(copy(8, 8), false);
        let next = draft.split_tail();
        assert_eq!((draft.items.len(), next.items.len()), (3, 2));
    }
}
