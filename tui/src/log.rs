//! `twinstep log`: launches and host writes.

use std::path::PathBuf;

use twinstep_replayer::{At, log};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};

/// List the launches and host writes of a step, or all steps in a line each.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep log a.twin --at 2")]
pub(crate) struct Args {
    /// The trace.
    trace: PathBuf,
    /// Step: 2, 3:2 (request 3, step 2) or 1:codec.
    #[arg(long, value_name = "[REQ:]N")]
    at: Option<String>,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let at = args.at.as_deref().map(str::parse::<At>).transpose().map_err(|e| failed(&e))?;
    let report = log(&open(&args.trace)?, at).map_err(|e| failed(&e))?;
    for entry in &report.entries {
        out.line(format!("{:<8} {:<8} {}", entry.at, entry.kind, entry.text))?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}
