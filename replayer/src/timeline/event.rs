//! What happens in a trace, one thing at a time.

use twinstep_kernels as kernels;
use twinstep_traces as traces;
use twinstep_traces::{
    BufferId, GraphId, HostRead, HostWrite, Item, LaunchRecord, PointRecord, StepRecord, ViewRecord,
};

use super::operands::extent;

/// Bytes that an event uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// The buffer.
    pub(crate) buffer: BufferId,
    /// First byte.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    /// How they are used.
    pub(crate) access: kernels::Access,
    /// Values that are not known decide whether they are used at all.
    pub(crate) may: bool,
}

/// A launch of our own ops, direct or as a graph's node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaunchEvent<'e> {
    /// Number in the step, as in `log`.
    pub(crate) number: u32,
    /// The graph whose node it is, and the node's number in it.
    pub(crate) graph: Option<(GraphId, u32)>,
    /// What is launched.
    pub(crate) record: &'e LaunchRecord,
}

impl LaunchEvent<'_> {
    /// Its label, or the op's name where it has none.
    pub(crate) fn name(&self) -> &str {
        if self.record.label.is_empty() { &self.record.op } else { &self.record.label }
    }

    /// The part of an access that lies in an operand which is used that way.
    pub(crate) fn within(view: &ViewRecord, access: &Access) -> Option<(u64, u64)> {
        let used = match access.access {
            kernels::Access::Read => view.access != traces::Access::Write,
            kernels::Access::Write => view.access != traces::Access::Read,
            kernels::Access::ReadWrite => true,
        };
        if view.buffer != access.buffer || !used {
            return None;
        }
        let (start, end) = extent(view).unwrap_or((access.start, access.end));
        let (start, end) = (start.max(access.start), end.min(access.end));
        (start < end).then_some((start, end))
    }
}

/// What an event is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What<'e> {
    /// A step begins.
    Begin,
    /// Everything of the step has been seen.
    End,
    /// A buffer came into being.
    Allocate(BufferId),
    /// A buffer's memory was given back.
    Free(BufferId),
    /// A host write and its index in the step.
    HostWrite(u32, &'e HostWrite),
    /// A host read.
    HostRead(&'e HostRead),
    /// A snapshot.
    Point(&'e PointRecord),
    /// A graph was captured; nothing ran.
    Capture(GraphId),
    /// A graph is launched; its nodes follow, each an event.
    GraphLaunch(GraphId),
    /// A launch.
    Launch(LaunchEvent<'e>),
    /// A kernel, copy or fill of another engine, direct or as this graph's node with this number.
    Foreign(&'e Item, Option<(GraphId, u32)>),
    /// An event was recorded on the stream.
    EventRecord(u32),
    /// The stream waits for an event.
    EventWait(u32),
    /// Something was not recorded.
    Gap,
}

/// Something that happens, with where and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'e> {
    /// Rises from event to event.
    pub(crate) time: u32,
    /// The step's index among the trace's records.
    pub(crate) index: u32,
    /// The step.
    pub(crate) step: &'e StepRecord,
    /// The program item; of what happens between items, the next one.
    pub(crate) item: u32,
    /// Stream number; 0 for the host.
    pub(crate) stream: u32,
    /// What.
    pub(crate) what: What<'e>,
    /// Bytes read and written.
    pub(crate) accesses: &'e [Access],
}

impl Event<'_> {
    /// The launch that it is.
    pub(crate) fn launch(&self) -> Option<&LaunchEvent<'_>> {
        match &self.what {
            What::Launch(launch) => Some(launch),
            _ => None,
        }
    }
}
