//! What happened, in order of the program's calls: the queue between the program's threads and the writer.

use std::sync::Arc;

use twinstep_traces::{BufferId, BufferRecord, GraphId};

use crate::contents::{Contents, Kernel};
use crate::rows::Rows;
use crate::snapshot::Ticket;

/// One thing that happened. What is frequent is small and holds no allocation of its own.
#[derive(Debug)]
#[allow(clippy::enum_variant_names, reason = "the driver's events are called so")]
pub enum Event {
    /// A buffer is known from here on. Its number is the next one.
    Declare(Box<BufferRecord>),
    /// Its memory came into being.
    Allocate(BufferId),
    /// Its memory was given back.
    Free(BufferId),
    /// A graph was instantiated, or nodes of one were changed in place. Its number is the next one.
    Capture(GraphId, Arc<Contents>),
    /// A graph holds again what one of that number held, or was given the same again.
    CaptureAgain(GraphId),
    /// A graph was launched.
    GraphLaunch {
        /// Which.
        graph: GraphId,
        /// The number that it was instantiated with.
        first: GraphId,
        /// On which stream, by our number.
        stream: u32,
        /// The snapshot before it.
        before: Option<Ticket>,
        /// The snapshot after it.
        after: Option<Ticket>,
    },
    /// A graph was destroyed.
    DestroyGraph(GraphId),
    /// What a graph held before it was changed in place; it is not compared with what it will hold any more.
    Superseded(GraphId),
    /// A kernel was launched by itself.
    Launch(u32, Box<Kernel>),
    /// A copy; an address of 0 is host memory, pinned or not, or an array.
    Copy {
        /// Stream number.
        stream: u32,
        /// Device address.
        target: u64,
        /// Device address.
        source: u64,
        /// Bytes copied.
        bytes: u64,
    },
    /// A memset.
    Fill {
        /// Stream number.
        stream: u32,
        /// Device address.
        target: u64,
        /// One element, little-endian.
        pattern: u64,
        /// Its size: 1, 2, 4 or 8.
        element: u8,
        /// Bytes in all.
        bytes: u64,
    },
    /// A copy or fill in rows that are no one piece, on a stream.
    Rows(u32, Box<Rows>),
    /// An event was recorded: event, stream.
    EventRecord(u32, u32),
    /// A stream waits: event, stream.
    EventWait(u32, u32),
    /// A bracket began or ended.
    Bracket {
        /// Its name.
        name: Arc<str>,
        /// Whether this is its end.
        end: bool,
        /// Stream number.
        stream: u32,
        /// The snapshot there.
        ticket: Option<Ticket>,
    },
    /// What the program runs is recorded from here on.
    Start(Option<String>),
    /// Something to say.
    Mark(String),
    /// Something was not recorded.
    Gap(String),
    /// Of the whole run.
    Note(String, String),
    /// A request begins.
    Request {
        /// The engine's word for it; may be empty.
        id: String,
        /// Token ids.
        prompt: Vec<u32>,
    },
    /// The step that ran since the last one ends here.
    StepEnd(Kind),
    /// What follows is set-up, labelled; or no longer is.
    WarmUp(Option<String>),
}

impl Event {
    /// Whether the program had the device do something, memory included.
    pub fn is_of_device(&self) -> bool {
        use Event::{Gap, Mark, Note, Request, Start, StepEnd, WarmUp};
        !matches!(self, Gap(_) | Mark(_) | Note(..) | Request { .. } | Start(_) | StepEnd(_) | WarmUp(_))
    }
}

/// What a step is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody told: a decode step.
    ByItself,
    /// The first of a request is prefill, others are decode.
    Told,
    /// Prefill.
    Prefill,
    /// Decode.
    Decode,
}
