//! A step's program laid flat: every launch in order of execution, direct or a graph's node.

use twinstep_traces::{BufferId, GraphId, Item, LaunchRecord, Phase, StepRecord, Trace, ViewRecord};

use crate::ReplayError;
use crate::foreign::is_foreign;

/// A launch of a step. Its number in the step, counted from 0 over direct launches and graph nodes alike, is
/// its index in [`launches`]: the N of `node:N`, and what `log` shows.
#[derive(Debug, Clone)]
pub(crate) struct StepLaunch {
    /// Index of the program item that runs it.
    pub(crate) item: u32,
    /// The graph whose node it is.
    pub(crate) graph: Option<GraphId>,
    /// What is launched.
    pub(crate) record: LaunchRecord,
}

impl StepLaunch {
    /// Its label, or the op's name where it has none.
    pub(crate) fn name(&self) -> &str {
        if self.record.label.is_empty() { &self.record.op } else { &self.record.label }
    }

    /// Operands that it may write.
    pub(crate) fn written(&self) -> impl Iterator<Item = &ViewRecord> {
        self.record.views.iter().filter(|v| writes(v))
    }
}

/// Whether an operand's contents may change.
pub(crate) fn writes(view: &ViewRecord) -> bool {
    matches!(view.access, twinstep_traces::Access::Write | twinstep_traces::Access::ReadWrite)
}

/// The launches of a step in order of execution.
///
/// # Errors
/// [`ReplayError::Opaque`] where something ran that cannot be executed here, and what it was.
pub(crate) fn launches(trace: &Trace, step: &StepRecord) -> Result<Vec<StepLaunch>, ReplayError> {
    let program = trace.program(step.program)?;
    let mut launches = Vec::new();
    for (i, item) in program.items.iter().enumerate() {
        match item {
            Item::Launch(record) => {
                launches.push(StepLaunch { item: i as u32, graph: None, record: record.clone() })
            }
            Item::GraphLaunch { graph, .. } => {
                for record in nodes(trace, *graph)? {
                    launches.push(StepLaunch { item: i as u32, graph: Some(*graph), record });
                }
            }
            Item::Capture { .. } | Item::DestroyGraph { .. } | Item::Allocate { .. } | Item::Free { .. } => {}
            Item::EventRecord { .. } | Item::EventWait { .. } | Item::Mark { .. } => {}
            foreign => return Err(opaque(foreign)),
        }
    }
    if launches.is_empty() && is_foreign(trace.run()) {
        return Err(ReplayError::Opaque(
            "what ran in this step of another engine is not recorded".to_owned(),
        ));
    }
    Ok(launches)
}

/// The nodes of a captured graph, with the arguments frozen as they were.
///
/// # Errors
/// [`ReplayError::Opaque`] where it is not in the trace or holds something else than launches of our ops.
pub(crate) fn nodes(trace: &Trace, graph: GraphId) -> Result<Vec<LaunchRecord>, ReplayError> {
    let missing = || ReplayError::Opaque(format!("graph {} is not in the trace", graph.0));
    let record = trace.graph(graph).ok_or_else(missing)?;
    let program = trace.program(record.program)?;
    let node = |item: &Item| match item {
        Item::Launch(record) => Ok(record.clone()),
        other => Err(opaque(other)),
    };
    program.items.iter().map(node).collect()
}

fn opaque(item: &Item) -> ReplayError {
    ReplayError::Opaque(match item {
        Item::Opaque(launch) => format!(
            "kernel `{}` belongs to another engine; only the process that owns it can launch it",
            crate::kernel_name::short(&launch.kernel)
        ),
        Item::Copy { .. } | Item::Fill { .. } => "a copy or fill of another engine".to_owned(),
        Item::Gap { reason } => format!("not recorded: {reason}"),
        _ => "a graph holds something other than launches".to_owned(),
    })
}

/// The phase of the launch that writes a buffer first in a step, and its place among all writers. Before
/// the program has run only host writes count; afterwards a launch decides what a buffer holds, and host
/// writes count where no launch writes it. `None` where nothing does.
pub(crate) fn first_writer(
    step: &StepRecord,
    launches: &[StepLaunch],
    buffer: BufferId,
    after_launches: bool,
) -> Option<(usize, Option<Phase>)> {
    let host = step.host_writes.iter().any(|w| w.buffer == buffer).then_some((0, None));
    if !after_launches {
        return host;
    }
    let first = launches.iter().position(|launch| launch.written().any(|v| v.buffer == buffer));
    first.map(|i| (i + 1, Some(launches[i].record.phase))).or(host)
}
