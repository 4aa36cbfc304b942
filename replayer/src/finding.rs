//! What a one-trace check or a rule has found.

use serde::Serialize;

use crate::Kind;

/// One thing that is wrong in one trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, or the rule's: `stale-binding`, `seq-len-grows`.
    pub check: String,
    /// The mechanism that it speaks for.
    pub kind: Kind,
    /// Request, counted from 1; 0 is set-up.
    pub request: u32,
    /// Step within it, as in the step's record; 0 is set-up.
    pub step: u32,
    /// The graph, where one is involved.
    pub graph: Option<u32>,
    /// Number of the launch within the step, as in `node:N` and `log`; in a run of another engine, the node's
    /// number in its graph.
    pub node: Option<u32>,
    /// The buffer with its generation: `last_codes@0`.
    pub buffer: Option<String>,
    /// One line: what, where, and what it should be.
    pub message: String,
}
