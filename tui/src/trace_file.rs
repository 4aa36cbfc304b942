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

/// A control run that is the file of A or B would call everything noise, or nothing.
///
/// # Errors
/// One line, where it is the same file.
pub(crate) fn control_of_its_own(a: &Path, b: &Path, control: Option<&Path>) -> Result<(), Failure> {
    let same = |path: &Path| {
        let whole = |path: &Path| path.canonicalize().ok();
        control.and_then(whole).is_some_and(|control| whole(path) == Some(control))
    };
    let name = match (same(a), same(b)) {
        (false, false) => return Ok(()),
        (true, _) => "A",
        (false, true) => "B",
    };
    let what = format!("the control run is the file of {name}: it cannot tell noise from divergence");
    Err(Failure::new("not-comparable", what)
        .hint("record A's mode a second time, and give that run with --control"))
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
