//! Opening traces for a command, and what to say where the library refuses.

use std::path::Path;

use twinstep_replayer::ReplayError;
use twinstep_traces::Trace;

use crate::failure::Failure;

/// Opens a trace.
///
/// # Errors
/// One line that names the file.
pub(crate) fn open(path: &Path) -> Result<Trace, Failure> {
    Trace::open(path).map_err(|error| {
        Failure::new("input", error).hint("`twinstep record --text \"hello.\" -o a.twin` makes a trace")
    })
}

/// A library error as the user sees it.
pub(crate) fn failed(error: &ReplayError) -> Failure {
    let (code, hint) = match error {
        ReplayError::Place(_) => ("place", "`twinstep log RUN.twin` lists the steps"),
        ReplayError::Selection(_) => ("selection", "`twinstep info RUN.twin` lists the buffers"),
        ReplayError::Patch { .. } | ReplayError::Value(_) | ReplayError::File { .. } => {
            ("patch", "`twinstep step --help` lists the forms of patches")
        }
        ReplayError::Weights(_) => {
            ("weights", "give the folder of the model that made the trace with --weights")
        }
        ReplayError::NotComparable(_) => {
            ("not-comparable", "compare runs of the same text, model, batch, sampling and rank")
        }
        ReplayError::Numerics(_) => (
            "numerics",
            "explain it with the twinstep that recorded it, or record both runs again with this one",
        ),
        ReplayError::Opaque(_) => ("opaque", "it can still be looked at and compared"),
        _ => ("input", "`twinstep verify RUN.twin` says what is damaged"),
    };
    Failure::new(code, error).hint(hint)
}
