//! `twinstep step`: execute one step again, with patches.

use std::path::{Path, PathBuf};

use twinstep_replayer::{At, StepReport, WeightSource, step, step_into};
use twinstep_traces::Trace;

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};
use crate::weights::Weights;
use crate::wrap;

/// Execute one step again, with buffers, arguments, launches or host writes patched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep step a.twin b.twin --at 2 --patch last_codes=other\n\nPatches:\n  last_codes=other          as in the other run at this step\n  last_codes=other@3:2      as in the other run at request 3, step 2\n  last_codes=self@1         as in this run at step 1\n  last_codes=@codes.npy     from a NumPy file\n  hidden[0,17]=1.5          one element, or several: last_codes[0,:]=1,2,3,4\n  last_codes@0=other        one generation of a name; @g3: what graph 3 bound\n  node:14.seq_len=other     a scalar of a launch, or =5; node:attention_decode.seq_len=other: of all\n  node:14.codes=last_codes@1    what an operand is bound to; bind:last_codes@0=last_codes@1: all of them\n  launch:14=skip            a launch that does not run; also 13-17,30, a label, an op\n  launch:other:14=insert    a launch of the other run that runs too\n  graph:0-5=launch          graphs captured in the step are launched; graph:0=graph:1: another one\n  write:seq_lens=other      the host's writes to a buffer, as in the other run; =drop: none\n  memory:delay_count=own    memory of its own for a buffer that shares it"
)]
pub(crate) struct Args {
    /// The trace whose step is executed.
    a: PathBuf,
    /// The run to compare with and to take patches from.
    b: Option<PathBuf>,
    /// Step: 2, 3:2 or 1:codec.
    #[arg(long, value_name = "[REQ:]N")]
    at: String,
    /// A change to what the step is given; may be given several times.
    #[arg(long = "patch", value_name = "P")]
    patches: Vec<String>,
    /// Also say launch by launch what it writes.
    #[arg(long)]
    into: bool,
    /// Folder with the model's weights; by default the embedded voice.
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

pub(crate) fn execute(
    a: &Path,
    b: Option<&Path>,
    at: &str,
    patches: &[String],
    weights: &Weights,
) -> Result<StepReport, Failure> {
    execute_with(step, (a, b), at, patches, weights)
}

/// What executes a step: [`step`] or [`step_into`].
type Execute = fn(
    &Trace,
    Option<&Trace>,
    At,
    &[String],
    &dyn WeightSource,
) -> Result<StepReport, twinstep_replayer::ReplayError>;

fn execute_with(
    run: Execute,
    (a, b): (&Path, Option<&Path>),
    at: &str,
    patches: &[String],
    weights: &Weights,
) -> Result<StepReport, Failure> {
    let at: At = at.parse().map_err(|e| failed(&e))?;
    let trace = open(a)?;
    let other = b.map(open).transpose()?;
    run(&trace, other.as_ref(), at, patches, weights).map_err(|e| failed(&e))
}

/// The report as lines of at most `width` columns.
pub(crate) fn show(report: &StepReport, width: usize) -> Vec<String> {
    let mut lines = vec![match report.self_check {
        "equal" => format!("step {} executed again gives what was recorded (self-check equal)", report.at),
        _ => format!(
            "step {} executed again does NOT give what was recorded (self-check differs): nothing below is proof",
            report.at
        ),
    }];
    for group in report.patches.chunk_by(|x, y| x.no_effect.is_some() && x.no_effect == y.no_effect) {
        let texts: Vec<&str> = group.iter().map(|patch| patch.patch.as_str()).collect();
        let texts = wrap::names(&texts).join(" ");
        lines.push(match &group[0].no_effect {
            Some(reason) => format!("patch {texts}: no effect: {reason}"),
            None => format!(
                "patch {texts}: {} bytes changed, read by {}",
                group[0].bytes_changed,
                wrap::names(&group[0].read_by).join(", ")
            ),
        });
    }
    let names = |wanted: &dyn Fn(&twinstep_replayer::OutputReport) -> bool| -> Vec<String> {
        let buffers: Vec<&str> =
            report.outputs.iter().filter(|o| wanted(o)).map(|o| o.buffer.as_str()).collect();
        wrap::names(&buffers)
    };
    if !report.patches.is_empty() {
        let changed = names(&|o| o.changed);
        lines.push(if changed.is_empty() {
            "the step gives what it gave without patches".to_owned()
        } else {
            format!("changed against the recording: {}", changed.join(" "))
        });
    }
    match report.equals_other {
        Some(true) => {
            lines.push(format!("equals the other run: all {} buffers, bit for bit", report.outputs.len()))
        }
        Some(false) => lines.push(format!(
            "differs from the other run: {}",
            names(&|o| o.equals_other == Some(false)).join(" ")
        )),
        None => {}
    }
    if !report.not_compared.is_empty() {
        lines.push(format!("recorded on one side only, not compared: {}", report.not_compared.join(" ")));
    }
    let mut lines: Vec<String> = lines.iter().flat_map(|line| wrap::fill(line, width, 2)).collect();
    for launch in report.launches.iter().flatten() {
        let number = launch.node.map_or("added".to_owned(), |n| n.to_string());
        let changed = match launch.changed {
            Some(true) => "changed by the patches",
            _ => "",
        };
        let other = match launch.equals_other {
            Some(true) => "= other",
            Some(false) => "! differs",
            None if report.equals_other.is_some() => "only here",
            None => "",
        };
        lines.push(format!("  {number:>5} {:<28} {other:<10} {changed}", launch.name).trim_end().to_owned());
    }
    lines
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let run = if args.into { step_into } else { step };
    let weights = Weights::new(args.weights.as_ref());
    let report = execute_with(run, (&args.a, args.b.as_deref()), &args.at, &args.patches, &weights)?;
    for line in show(&report, wrap::width()) {
        out.line(line)?;
    }
    out.document(&report)?;
    Ok(match (report.self_check, report.equals_other) {
        ("equal", Some(false)) => Status::Differs,
        ("equal", _) => Status::Same,
        _ => Status::Trouble,
    })
}
