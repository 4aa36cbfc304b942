//! `twinstep print`: values of a buffer at a step.

use std::path::PathBuf;

use twinstep_replayer::{At, print_at, print_inside};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};
use crate::weights::Weights;

/// Values shown as text; `--json` gives all.
const SHOWN: u64 = 256;

/// Print values of a buffer before (or after) a step.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep print a.twin 'last_codes[0,:]' --at 2\n  twinstep print a.twin 'x[0,0-7]' --at 2 --node 14\n  twinstep print a.twin hidden --at 2 --point layer.0.after"
)]
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
    /// At a snapshot point inside the step, as `log` and `diff` name it: layer.0.after, layer#2.before.
    #[arg(long, value_name = "NAME", conflicts_with = "after")]
    point: Option<String>,
    /// Inside the step, before the launch of this number: the step is executed again up to there.
    #[arg(long, value_name = "N", conflicts_with_all = ["after", "point"])]
    node: Option<usize>,
    /// Folder with the model's weights; by default the embedded voice.
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let at: At = args.at.parse().map_err(|e| failed(&e))?;
    let trace = open(&args.trace)?;
    let report = match args.node {
        Some(node) => {
            let weights = Weights::new(args.weights.as_ref());
            print_inside(&trace, &args.buffer, at, node, &weights)
        }
        None => {
            let end = if args.after { "step.after" } else { "step.before" };
            let most = if out.json() { u64::MAX } else { SHOWN };
            print_at(&trace, &args.buffer, at, args.point.as_deref().unwrap_or(end), most)
        }
    };
    let report = report.map_err(|e| failed(&e))?;
    let place = report.node.map_or(format!("at {}", report.point), |node| format!("before node {node}"));
    out.line(format!("{} {} {:?} {place} of step {}", report.buffer, report.dtype, report.shape, report.at))?;
    for element in report.elements.iter().take(SHOWN as usize) {
        out.line(format!("{:>16}  {}", format!("{:?}", element.index), element.value.told()))?;
    }
    let more = report.left_out + report.elements.len().saturating_sub(SHOWN);
    if more > 0 {
        out.line(format!("and {more} more: give indices, or --json"))?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}
