//! Captured graphs.

use crate::{GraphHandle, Launch};

/// Number of a graph within a stream, counted from 0 in order of capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraphId(pub u32);

/// Launches captured between `begin_capture` and `end_capture`, with their arguments frozen as
/// they were. Launching the graph runs them in order; capturing it ran nothing.
#[derive(Debug)]
pub struct Graph {
    pub(crate) id: GraphId,
    pub(crate) nodes: Vec<Launch>,
    pub(crate) handle: GraphHandle,
}

impl Graph {
    /// Its number.
    pub fn id(&self) -> GraphId {
        self.id
    }

    /// The captured launches, in order.
    pub fn nodes(&self) -> &[Launch] {
        &self.nodes
    }
}
