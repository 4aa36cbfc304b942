//! What ran: launches and host writes of a step, or all steps in a line each.

use serde::Serialize;
use twinstep_traces::{Item, LaunchRecord, ScalarValue, StepRecord, Trace, ViewRecord};

use crate::ReplayError;
use crate::at::{At, find, place};

/// `twinstep.log/1`.
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// Document type.
    pub schema: &'static str,
    /// In order.
    pub entries: Vec<LogEntry>,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// `setup`, `2`, `3:2`, `1:codec`.
    pub at: String,
    /// `step`, `write`, `read`, `launch`, `node`, `graph`, `capture`, `destroy`, `point`, `allocate`, `free`,
    /// `kernel`, `copy`, `fill`, `event`, `gap` or `mark`; `other` for what a graph cannot hold.
    pub kind: &'static str,
    /// What, for people.
    pub text: String,
    /// The whole name of another engine's kernel; `text` has its short form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// The log of one step, or of all in a line each.
///
/// # Errors
/// [`ReplayError::Place`] where there is no such step.
pub fn log(trace: &Trace, at: Option<At>) -> Result<LogReport, ReplayError> {
    let mut entries = Vec::new();
    match at {
        Some(at) => one(trace, &find(trace, at)?, &mut entries)?,
        None => {
            for index in 0..trace.step_count() {
                let step = trace.step(index)?;
                let items = trace.program(step.program)?.items.len();
                let decision = step.host_reads.iter().rev().find(|r| !r.decision.is_empty());
                let text = format!(
                    "program {:<3} {items:>4} items  {:>2} host writes  {}",
                    step.program.0,
                    step.host_writes.len(),
                    decision.map_or("", |r| &r.decision)
                );
                entries.push(LogEntry { at: name(&step), kind: "step", text, kernel: None });
            }
        }
    }
    Ok(LogReport { schema: "twinstep.log/1", entries })
}

fn name(step: &StepRecord) -> String {
    place(step).map_or("setup".to_owned(), |at| at.to_string())
}

fn buffer(trace: &Trace, id: twinstep_traces::BufferId) -> String {
    trace.buffer(id).map_or(format!("buffer {}", id.0), |b| format!("{}@{}", b.name, b.generation))
}

fn launch(trace: &Trace, record: &LaunchRecord) -> String {
    let views: Vec<String> =
        record.views.iter().map(|v| format!("{}={}{:?}", v.name, buffer(trace, v.buffer), v.shape)).collect();
    let scalars: Vec<String> = record
        .scalars
        .iter()
        .map(|s| match s.value {
            ScalarValue::F32Bits(bits) => format!("{}={}", s.name, f32::from_bits(bits)),
            ScalarValue::U32(v) => format!("{}={v}", s.name),
            ScalarValue::I32(v) => format!("{}={v}", s.name),
            ScalarValue::U64(v) => format!("{}={v}", s.name),
        })
        .collect();
    let arguments = [views, scalars].concat().join(", ");
    format!("{:<8} {:<22} {}({arguments})", record.phase.name(), record.label, record.op)
}

/// Kind and text of what is no launch of our own.
fn foreign(trace: &Trace, item: &Item) -> (&'static str, String) {
    let place = |view: &Option<ViewRecord>, address: u64| match view {
        Some(view) => format!("{} from byte {}", buffer(trace, view.buffer), view.offset),
        None => format!("0x{address:x}"),
    };
    match item {
        Item::Opaque(launch) => {
            let operands = launch.operands.iter().map(|(parameter, byte, view)| {
                let within = if *byte > 0 { format!("+{byte}") } else { String::new() };
                format!("p{parameter}{within}={} from byte {}", buffer(trace, view.buffer), view.offset)
            });
            let operands = operands.collect::<Vec<_>>().join(", ");
            let (phase, kernel, stream) =
                (launch.phase.name(), crate::kernel_name::short(&launch.kernel), launch.stream);
            let size = match launch.grid {
                [0, 0, 0] => String::new(),
                grid => format!(" grid {grid:?} block {:?}", launch.block),
            };
            ("kernel", format!("{phase:<8} {kernel}{size} stream {stream} ({operands})"))
        }
        Item::Copy { stream, source, target, source_address, target_address, bytes } => {
            let (from, to) = (place(source, *source_address), place(target, *target_address));
            ("copy", format!("{bytes} bytes from {from} to {to}, stream {stream}"))
        }
        Item::Fill { stream, target, target_address, pattern, bytes } => {
            let to = place(target, *target_address);
            let pattern: String = pattern.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            ("fill", format!("{bytes} bytes of {to} with {pattern}, stream {stream}"))
        }
        Item::EventRecord { event, stream } => ("event", format!("{event} recorded on stream {stream}")),
        Item::EventWait { event, stream } => ("event", format!("{event} waited for by stream {stream}")),
        Item::DestroyGraph { graph } => ("destroy", format!("graph {}", graph.0)),
        Item::Gap { reason } => ("gap", format!("not recorded: {reason}")),
        Item::Mark { text } => ("mark", text.clone()),
        other => ("other", format!("{other:?}")),
    }
}

fn one(trace: &Trace, step: &StepRecord, entries: &mut Vec<LogEntry>) -> Result<(), ReplayError> {
    let at = name(step);
    let program = trace.program(step.program)?;
    let mut entry =
        |kind, text, kernel: Option<String>| entries.push(LogEntry { at: at.clone(), kind, text, kernel });
    let kernel = |item: &Item| match item {
        Item::Opaque(launch) => Some(launch.kernel.clone()),
        _ => None,
    };
    // Counts direct launches and graph nodes alike: the N of `node:N`.
    let mut number = 0..;
    let mut numbered =
        |record: &LaunchRecord| format!("{:>3} {}", number.next().unwrap_or_default(), launch(trace, record));
    for position in 0..=program.items.len() {
        for write in step.host_writes.iter().filter(|w| w.position as usize == position) {
            entry(
                "write",
                format!(
                    "{} bytes {}..{}",
                    buffer(trace, write.buffer),
                    write.offset,
                    write.offset + write.bytes.len() as u64
                ),
                None,
            );
        }
        for point in step.points.iter().filter(|p| p.position as usize == position) {
            entry("point", point.point.clone(), None);
        }
        for read in step.host_reads.iter().filter(|r| r.position as usize == position) {
            entry(
                "read",
                format!("{} {} bytes  {}", buffer(trace, read.buffer), read.bytes.len(), read.decision),
                None,
            );
        }
        match program.items.get(position) {
            Some(Item::Launch(record)) => entry("launch", numbered(record), None),
            Some(Item::GraphLaunch { graph, .. }) => {
                let found = trace.graph(*graph);
                let label = found.map_or("", |g| &g.label);
                let label = if label.is_empty() { String::new() } else { format!(" ({label})") };
                entry("graph", format!("launch of graph {}{label}", graph.0), None);
                let nodes = found.map(|g| trace.program(g.program)).transpose()?;
                for (i, node) in nodes.iter().flat_map(|p| p.items.iter()).enumerate() {
                    match node {
                        Item::Launch(record) => entry("node", numbered(record), None),
                        other => {
                            let text = format!("{i:>3} {}", foreign(trace, other).1);
                            entry("node", text, kernel(other));
                        }
                    }
                }
            }
            Some(Item::Capture { graph }) => {
                entry("capture", format!("graph {} captured; nothing ran", graph.0), None)
            }
            Some(Item::Allocate { buffer: id }) => entry("allocate", buffer(trace, *id), None),
            Some(Item::Free { buffer: id }) => entry("free", buffer(trace, *id), None),
            Some(other) => {
                let (kind, text) = foreign(trace, other);
                entry(kind, text, kernel(other));
            }
            None => {}
        }
    }
    Ok(())
}
