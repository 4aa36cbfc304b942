//! `twinstep explain`: why two runs differ, shown by re-execution.

use std::path::{Path, PathBuf};

use serde::Serialize;
use twinstep_replayer::{
    BUDGET, Evidence, Exonerated, ExplainOptions, ExplainReport, Kind, Proof, SidedFinding, explain, quoted,
};
use twinstep_traces::Trace;

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::rules::RuleSet;
use crate::trace_file::{control_of_its_own, failed, open};
use crate::weights::Weights;
use crate::wrap;

/// Find the cause of the first divergence of two runs and prove it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep explain a.twin b.twin")]
pub(crate) struct Args {
    /// One trace.
    a: PathBuf,
    /// The other.
    b: PathBuf,
    /// A second run of A's mode: what differs no more than between those two is noise.
    #[arg(long, value_name = "A2")]
    control: Option<PathBuf>,
    /// Steps executed again at most.
    #[arg(long, default_value_t = BUDGET, value_name = "N")]
    budget: usize,
    /// The model's rules; by default those of the embedded voice's model.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Folder with the model's weights; by default the embedded voice.
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

/// The report with the commands written out.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a ExplainReport,
    commands: Vec<Command>,
}

/// A command that shows a part of the proof.
#[derive(Serialize)]
pub(crate) struct Command {
    pub(crate) command: String,
    pub(crate) exit_status: u8,
    pub(crate) shows: String,
}

fn command((a, b): (&Path, &Path), weights: Option<&PathBuf>, proof: &Proof) -> Command {
    let (first, second) = if proof.executed == "a" { (a, b) } else { (b, a) };
    let mut words = vec!["twinstep".to_owned(), "step".to_owned()];
    words.extend([first, second].map(|p| quoted(&p.display().to_string())));
    words.extend(["--at".to_owned(), proof.at.clone()]);
    for patch in &proof.patches {
        words.extend(["--patch".to_owned(), quoted(patch)]);
    }
    if let Some(folder) = weights {
        words.extend(["--weights".to_owned(), quoted(&folder.display().to_string())]);
    }
    let exit_status = if proof.equals_other { Status::Same } else { Status::Differs } as u8;
    Command { command: words.join(" "), exit_status, shows: proof.shows.clone() }
}

/// The commands of all proofs, each once.
pub(crate) fn commands(
    (a, b): (&Path, &Path),
    weights: Option<&PathBuf>,
    report: &ExplainReport,
) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for proof in report.causes.iter().flat_map(|c| &c.proof) {
        let command = command((a, b), weights, proof);
        if commands.iter().all(|known| known.command != command.command) {
            commands.push(command);
        }
    }
    commands
}

pub(crate) fn compare(
    a: &Path,
    b: &Path,
    control: Option<&Path>,
    budget: usize,
    rules: &RuleSet,
    weights: &Weights,
) -> Result<ExplainReport, Failure> {
    control_of_its_own(a, b, control)?;
    let (a, b) = (open(a)?, open(b)?);
    let control = control.map(open).transpose()?;
    let findings = |trace: &Trace| rules.findings(trace);
    let options = ExplainOptions { control: control.as_ref(), budget, findings: &findings };
    let bar = crate::progress::bar("re-executions");
    let report = explain(&a, &b, weights, &options, &mut |n| bar.tick(n as u64)).map_err(|e| failed(&e));
    bar.finish();
    report
}

/// The report as lines of at most `width` columns.
pub(crate) fn show(report: &ExplainReport, commands: &[Command], width: usize) -> Vec<String> {
    let verdict = &report.verdict;
    let proven = match (verdict.kind, verdict.proven) {
        (Kind::Identical | Kind::Noise, _) => String::new(),
        (_, true) => " (proven)".to_owned(),
        (_, false) if report.ambiguous.is_empty() => " (not proven)".to_owned(),
        (_, false) => " (ambiguous)".to_owned(),
    };
    let side = verdict.side.map_or(String::new(), |side| match side {
        "both" => ", both runs".to_owned(),
        side => format!(", run {}", side.to_uppercase()),
    });
    let mut lines = vec![format!("verdict: {}{side}{proven}", verdict.kind)];
    lines.extend(wrap::fill(&verdict.text, width, 0));
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            lines.push(String::new());
            lines.push(format!("{title}:"));
            lines.extend(rows.into_iter().flatten());
        }
    };
    let row = |e: &Evidence| {
        let row = format!("  {:<6} {:<17} {}", e.at.as_deref().unwrap_or(""), e.what, e.text);
        wrap::fill(&row, width, 27)
    };
    section("evidence", report.evidence.iter().map(row).collect());
    // What is the same in both runs fits in a line.
    let (same, patched): (Vec<_>, Vec<_>) = report.exonerated.iter().partition(|e| e.bytes_changed == 0);
    let row = |e: &Exonerated| {
        wrap::fill(&format!("  {:<32} {:>8} bytes  {}", e.patch, e.bytes_changed, e.result), width, 51)
    };
    section("patched, and innocent", patched.into_iter().map(row).collect());
    let names: Vec<&str> = same.iter().map(|e| e.patch.trim_end_matches("=other")).collect();
    let names = wrap::names(&names).join(" ");
    let names = if names.is_empty() { Vec::new() } else { vec![wrap::fill(&format!("  {names}"), width, 2)] };
    section("innocent: the same in both runs, so that patching has no effect", names);
    let row = |set: &Vec<String>| wrap::fill(&format!("  {}", set.join(" ")), width, 4);
    section("each of these would do", report.ambiguous.iter().map(row).collect());
    section("findings", findings(&report.findings, width));
    let row = |c: &Command| {
        let mut lines = wrap::command(&format!("  {}", c.command), width, 6);
        lines.extend(wrap::fill(&format!("    exit {}: {}", c.exit_status, c.shows), width, 6));
        lines
    };
    section("see for yourself", commands.iter().map(row).collect());
    if report.exhausted {
        lines.push(format!(
            "the search ended after {} re-executions; give more with --budget",
            report.executions
        ));
    }
    lines
}

/// What checks and rules found: the first of a kind in a step in full, as a mistake often repeats itself
/// layer by layer.
fn findings(found: &[SidedFinding], width: usize) -> Vec<Vec<String>> {
    let alike = |x: &SidedFinding, y: &SidedFinding| {
        let key = |f: &SidedFinding| (f.side, f.finding.request, f.finding.step);
        key(x) == key(y) && x.finding.check == y.finding.check
    };
    let rows = found.chunk_by(alike).map(|group| {
        let SidedFinding { side, finding } = &group[0];
        let place = match finding.step {
            0 => "set-up".to_owned(),
            step => format!("{}:{step}", finding.request),
        };
        let side = side.to_uppercase();
        let row = format!("  {side} {place} {}[{}]: {}", finding.kind, finding.check, finding.message);
        let mut lines = wrap::fill(&row, width, 4);
        if group.len() > 1 {
            lines.push(format!("    and {} more of the same step", group.len() - 1));
        }
        lines
    });
    rows.collect()
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let weights = Weights::new(args.weights.as_ref());
    let report = compare(
        &args.a,
        &args.b,
        args.control.as_deref(),
        args.budget,
        &RuleSet::new(args.rules.as_deref())?,
        &weights,
    )?;
    let commands = commands((&args.a, &args.b), args.weights.as_ref(), &report);
    for line in show(&report, &commands, wrap::width()) {
        out.line(line)?;
    }
    out.document(&Document { report: &report, commands })?;
    Ok(match report.verdict.kind {
        Kind::Identical | Kind::Rounding | Kind::Noise => Status::Same,
        _ => Status::Differs,
    })
}
