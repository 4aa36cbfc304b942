//! Places in a timeline, and what a writer was, in words.

use twinstep_traces::{GraphId, Item, LaunchRecord, StepRecord, Trace};

use super::{By, Event, Flow, Timeline, What, Writer};
use crate::ReplayError;
use crate::at::place;

/// A point of time within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the cause search asks for all of them")]
pub(crate) enum Moment {
    /// Before the step's first host write.
    Start,
    /// At its snapshot `step.before`; where it has none, before its first launch.
    Before,
    /// Just before a launch, by its number in the step.
    Launch(u32),
    /// After everything of the step.
    End,
}

/// A step's place: `2`, `3:2`, `1:codec`, `set-up`.
pub(crate) fn of(step: &StepRecord) -> String {
    place(step).map_or("set-up".to_owned(), |at| at.to_string())
}

impl Moment {
    /// Whether an event of the step is the first one after the moment.
    fn reached(self, event: &Event<'_>) -> bool {
        let before = || event.step.points.iter().any(|p| p.point == "step.before");
        match (self, &event.what) {
            (Moment::Start, What::Begin) | (_, What::End) => true,
            (Moment::Before, What::Point(p)) => p.point == "step.before",
            (Moment::Before, What::Launch(_) | What::GraphLaunch(_) | What::Foreign(..)) => !before(),
            (Moment::Launch(n), What::Launch(launch)) => launch.number == n,
            _ => false,
        }
    }
}

impl<'a> Timeline<'a> {
    /// The state of memory at a moment of step record `index`.
    ///
    /// # Errors
    /// [`ReplayError::Place`] where the step has no such launch; [`ReplayError::Read`].
    pub(crate) fn at(trace: &'a Trace, index: usize, moment: Moment) -> Result<Self, ReplayError> {
        let mut found = false;
        let timeline = Timeline::walk(trace, &mut |_, event| {
            if event.index as usize != index || !moment.reached(event) {
                return Ok(Flow::On);
            }
            found = !matches!((moment, &event.what), (Moment::Launch(_), What::End));
            Ok(Flow::Stop)
        })?;
        match (found, moment) {
            (true, _) => Ok(timeline),
            (false, Moment::Launch(n)) => {
                Err(ReplayError::Place(format!("step record {index} has no launch {n}")))
            }
            (false, _) => Err(ReplayError::Place(format!("step record {index} cannot be reached"))),
        }
    }
}

/// The launch that a writer was: its record, and its graph and number in that.
pub(crate) fn launch_of(
    trace: &Trace,
    step: &StepRecord,
    writer: &Writer,
) -> Option<(LaunchRecord, Option<(GraphId, u32)>)> {
    let By::Launch(number) = writer.by else { return None };
    let program = trace.program(step.program).ok()?;
    let mut first = 0usize;
    for (index, item) in program.items.iter().enumerate() {
        let nodes = match item {
            Item::Launch(record) if index == writer.item as usize => return Some((record.clone(), None)),
            Item::Launch(_) => 1,
            Item::GraphLaunch { graph, .. } => {
                let nodes = trace.graph(*graph).and_then(|g| trace.program(g.program).ok());
                let launches = nodes.iter().flat_map(|n| n.items.iter().enumerate());
                let mut launches = launches.filter_map(|(i, item)| match item {
                    Item::Launch(record) => Some((i as u32, record)),
                    _ => None,
                });
                if index == writer.item as usize {
                    let (node, record) = launches.nth((number as usize).checked_sub(first)?)?;
                    return Some((record.clone(), Some((*graph, node))));
                }
                launches.count()
            }
            _ => 0,
        };
        first += nodes;
    }
    None
}

impl Timeline<'_> {
    /// What a writer was, in words: `layer.0.mlp.down of step 2 (node 25)`.
    pub(crate) fn describe(&self, writer: &Writer) -> String {
        let Ok(step) = self.trace.step(writer.step as usize) else { return "an unknown step".to_owned() };
        let at = match of(&step) {
            at if place(&step).is_some() => format!("step {at}"),
            at => at,
        };
        match writer.by {
            By::Fresh if self.foreign => format!("its allocation in {at}"),
            By::Fresh => format!("its allocation in {at} (0xA5)"),
            By::Loaded => "its allocation, with weights".to_owned(),
            By::Host(_) => format!("a host write of {at}"),
            By::Foreign => format!("another engine's kernel or copy of {at}"),
            By::Launch(number) => {
                let name = launch_of(self.trace, &step, writer)
                    .map_or("a launch".to_owned(), |(l, _)| if l.label.is_empty() { l.op } else { l.label });
                format!("{name} of {at} (node {number})")
            }
        }
    }

    /// A buffer's name with its generation.
    pub(crate) fn label(&self, buffer: twinstep_traces::BufferId) -> String {
        let named = self.trace.buffer(buffer).map(|b| format!("{}@{}", b.name, b.generation));
        named.unwrap_or_else(|| format!("buffer {}", buffer.0))
    }
}
