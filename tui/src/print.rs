//! `twinstep print`: values of a buffer at a step.

use std::path::PathBuf;

use twinstep_replayer::{At, print};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};

/// Values shown as text; `--json` gives all.
const SHOWN: usize = 256;

/// Print values of a buffer before (or after) a step.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep print a.twin 'last_codes[0,:]' --at 2")]
pub(crate) struct Args {
    /// The trace.
    trace: PathBuf,
    #[arg(help = "Buffer and elements: last_codes, hidden[0,17], codes_out[0,:], name@generation")]
    buffer: String,
    /// Step: 2, 3:2 or 1:codec.
    #[arg(long, value_name = "[REQ:]N")]
    at: String,
    /// After the step instead of before it.
    #[arg(long)]
    after: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let at: At = args.at.parse().map_err(|e| failed(&e))?;
    let report = print(&open(&args.trace)?, &args.buffer, at, args.after).map_err(|e| failed(&e))?;
    out.line(format!(
        "{} {} {:?} at {} of step {}",
        report.buffer, report.dtype, report.shape, report.point, report.at
    ))?;
    for element in report.elements.iter().take(SHOWN) {
        out.line(format!("{:>16}  {}", format!("{:?}", element.index), element.value))?;
    }
    if report.elements.len() > SHOWN {
        out.line(format!("and {} more: give indices, or --json", report.elements.len() - SHOWN))?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}
