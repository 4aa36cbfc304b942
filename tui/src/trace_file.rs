//! Opening traces and weights for a command.

use std::path::Path;

use twinstep_traces::{OpenError, Trace};

use crate::failure::Failure;

/// Opens a trace.
///
/// # Errors
/// One line that names the file.
pub(crate) fn open(path: &Path) -> Result<Trace, Failure> {
    Trace::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &OpenError) -> Failure {
    let message = error.to_string();
    // Some of the library's messages name the file already.
    let name = path.display().to_string();
    let message = if message.contains(&name) { message } else { format!("{name}: {message}") };
    Failure::new("input", message).hint("`twinstep record --text \"hello.\" -o a.twin` makes a trace")
}
