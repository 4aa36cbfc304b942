//! `twinstep verify`: checksums, and with `--replay` all of it again.

use std::path::PathBuf;

use twinstep_replayer::{verify, verify_replay};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};
use crate::weights::Weights;

/// Check a trace's bytes; with --replay, execute all of it again and compare every snapshot.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep verify a.twin --replay")]
pub(crate) struct Args {
    /// The trace.
    trace: PathBuf,
    /// Execute everything again from the initial state and compare bits.
    #[arg(long)]
    replay: bool,
    /// Folder with the model's weights; by default the embedded voice.
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let trace = open(&args.trace)?;
    let report = if args.replay {
        let bar = crate::progress::bar("steps");
        let weights = Weights::new(args.weights.as_ref());
        let report =
            verify_replay(&trace, &weights, &mut |step, _| bar.tick(step as u64)).map_err(|e| failed(&e))?;
        bar.finish();
        report
    } else {
        verify(&trace)
    };
    let ok = if report.ok { "ok" } else { "DAMAGED" };
    let complete = match report.complete {
        true => "complete".to_owned(),
        false => format!(
            "not complete: opened at its last commit, {} bytes after it ignored",
            report.uncommitted_bytes
        ),
    };
    out.line(format!("{}  {ok}, {complete}", args.trace.display()))?;
    if args.replay {
        out.line(format!(
            "{} steps executed again, {} snapshots compared bit for bit",
            report.steps_replayed, report.snapshots_compared
        ))?;
    }
    for damage in &report.damage {
        let at = damage.offset.map_or(String::new(), |o| format!("byte {o}: "));
        out.line(format!("  {at}{}", damage.what))?;
    }
    if report.damage_omitted > 0 {
        out.line(format!("  and {} more", report.damage_omitted))?;
    }
    out.document(&report)?;
    Ok(if report.ok { Status::Same } else { Status::Differs })
}
