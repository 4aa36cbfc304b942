//! `twinstep dev`: what those who test twinstep need.

use serde::Serialize;
use twinstep_recorder::{About, Fault};

use crate::failure::Failure;
use crate::output::{Output, Status};

/// What those who test twinstep need.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false, after_help = "Example:\n  twinstep dev faults")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The mistakes that `record --fault` can plant, and what each needs to show.
    Faults,
}

/// `twinstep.dev-faults/1`.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    faults: Vec<FaultReport>,
}

#[derive(Serialize)]
struct FaultReport {
    name: &'static str,
    kind: &'static str,
    side: &'static str,
    buffers: &'static [&'static str],
    arguments: &'static [&'static str],
    needs: Needs,
    report: &'static str,
    sentence: &'static str,
}

#[derive(Serialize)]
struct Needs {
    /// `null`: any.
    mode: Option<&'static str>,
    sampled: bool,
    requests: u32,
    batch: u32,
    positions: u32,
}

fn report(about: About) -> FaultReport {
    let About { name, sentence, kind, side, buffers, arguments, needs, report } = about;
    let mode = needs.mode.map(twinstep_recorder::Mode::name);
    let needs = Needs {
        mode,
        sampled: needs.sampled,
        requests: needs.requests,
        batch: needs.batch,
        positions: needs.positions,
    };
    FaultReport { name, kind, side, buffers, arguments, needs, report, sentence }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let What::Faults = args.what;
    let faults = Fault::ALL.iter().map(|fault| report(fault.about())).collect();
    let report = Report { schema: "twinstep.dev-faults/1", faults };
    for fault in &report.faults {
        out.line(format!("{:<19} {:<21} {}", fault.name, fault.kind, fault.sentence))?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}
