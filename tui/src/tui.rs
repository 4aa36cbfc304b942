//! `twinstep tui`, also `twinstep A.twin [B.twin]`: the terminal UI.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::app::{self, Bench};
use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::open;
use crate::weights::Weights;

/// Step two runs side by side, look into anything, patch and re-execute.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep a.twin b.twin\n\nKeys: ? shows those of the place where you are, : finds any action by name, q leaves.\nNO_COLOR=1 and 16-colour terminals are honoured."
)]
pub(crate) struct Args {
    /// One trace.
    a: PathBuf,
    /// The other.
    b: Option<PathBuf>,
    /// Folder with the model's weights; by default the embedded voice.
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    // A trace that cannot be opened is said whether or not there is a terminal.
    let a = open(&args.a)?;
    let b = args.b.as_ref().map(|path| open(path).map(|trace| (path.clone(), trace))).transpose()?;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() || out.json() {
        return Err(Failure::new(
            "terminal",
            "the terminal UI needs a terminal on standard input and output",
        )
        .hint("`twinstep diff a.twin b.twin` and `twinstep info a.twin` work without one"));
    }
    let bench = Bench::new((args.a.clone(), a), b, Weights::new(args.weights.as_ref()));
    let ended =
        app::run(bench).map_err(|e| Failure::new("terminal", format!("the terminal UI ended: {e}")))?;
    for line in &ended.exports {
        out.line(line)?;
    }
    match ended.signal {
        // As a shell reports a process that a signal ended.
        Some(signal) => std::process::exit(128 + signal),
        None => Ok(Status::Same),
    }
}
