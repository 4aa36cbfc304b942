//! `twinstep diff`: where two runs first differ.

use std::path::PathBuf;

use serde::Serialize;
use twinstep_replayer::{
    At, DiffReport, Figure, FirstDifference, StatisticOf, StepDiff, StepState, diff_with, is_foreign,
    print_command, quoted, rank,
};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::ranks;
use crate::trace_file::{control_of_its_own, failed, open};
use crate::wrap;

/// The document, with the other ranks of both runs.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a DiffReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranks: Vec<RankDiff>,
}

/// The traces of one rank.
#[derive(Serialize)]
struct RankDiff {
    rank: u32,
    a: String,
    b: String,
    identical: bool,
    /// The control run's trace of this rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<String>,
    /// No more than noise of that differs.
    #[serde(skip)]
    same: bool,
    #[serde(skip)]
    what: String,
    first: Option<FirstDifference>,
}

/// Show where two runs first differ, and how it goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep diff a.twin b.twin --stat lm_logits:mean --stat hidden:rms")]
pub(crate) struct Args {
    /// One trace.
    a: PathBuf,
    /// The other.
    b: PathBuf,
    /// A second run of A's mode: what differs no more than between those two is noise.
    #[arg(long, value_name = "A2")]
    control: Option<PathBuf>,
    /// Statistic of the per-step table: BUFFER:mean, min, max, rms or nonfinite.
    #[arg(long = "stat", value_name = "BUFFER:STATISTIC")]
    stats: Vec<String>,
    /// All steps in the table, not only those around what matters.
    #[arg(long)]
    all: bool,
}

/// What is shown by default: the figure of the original report.
const DEFAULT_BUFFER: &str = "lm_logits";

pub(crate) fn compare(
    a: &std::path::Path,
    b: &std::path::Path,
    stats: &[String],
) -> Result<DiffReport, Failure> {
    compare_with(a, b, stats, None)
}

/// Compares two traces, with a control run where there is one.
///
/// # Errors
/// One line; of traces of different ranks with the file that would fit, if it lies beside.
fn compare_with(
    a: &std::path::Path,
    b: &std::path::Path,
    stats: &[String],
    control: Option<&std::path::Path>,
) -> Result<DiffReport, Failure> {
    control_of_its_own(a, b, control)?;
    let other = b;
    let (a, b) = (open(a)?, open(b)?);
    let control = control.map(open).transpose()?;
    let (mine, theirs) = (rank(&a).map_err(|e| failed(&e))?, rank(&b).map_err(|e| failed(&e))?);
    if mine != theirs
        && let Some(same) = ranks::beside(other, mine)
    {
        let what = format!("not comparable: the rank differs: {mine} in A, {theirs} in B");
        let hint = format!("{} is of rank {mine}", same.display());
        return Err(Failure::new("not-comparable", what).hint(hint));
    }
    // Another engine need not have it.
    let known = [&a, &b].iter().all(|trace| trace.find_buffer(DEFAULT_BUFFER, None).is_some());
    let default = known.then(|| format!("{DEFAULT_BUFFER}:mean"));
    let names = if stats.is_empty() { default.as_slice() } else { stats };
    let stats = names
        .iter()
        .map(|s| s.parse::<StatisticOf>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed(&e))?;
    diff_with(&a, &b, &stats, control.as_ref()).map_err(|e| failed(&e))
}

fn word(state: StepState) -> &'static str {
    match state {
        StepState::Identical => "identical",
        StepState::Noise => "noise",
        StepState::Diverged => "diverged",
        StepState::Forked => "forked",
        StepState::NotCompared => "not compared",
        StepState::OnlyA => "only in A",
        StepState::OnlyB => "only in B",
    }
}

fn place(step: &StepDiff) -> String {
    match step.kind {
        "codec" => format!("{}:codec", step.request),
        _ => format!("{}:{}", step.request, step.step),
    }
}

/// The first difference in one line.
pub(crate) fn first_line(f: &FirstDifference) -> String {
    let phase = f.phase.map_or(String::new(), |p| format!(", phase {p}"));
    let other = f.request_b.map_or(String::new(), |b| format!(" ({b} in B)"));
    format!("first difference: request {}{other}, step {}{phase}, at {}: {f}", f.request, f.step, f.point)
}

/// The report as lines of at most `width` columns: steps at the start, the end and after the first
/// difference, or all.
pub(crate) fn show(report: &DiffReport, all: bool, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let steps = report.steps.len();
    lines.push(match &report.first {
        None => report.headline(),
        Some(first) => first_line(first),
    });
    let names: Vec<&str> =
        report.steps.first().map_or(Vec::new(), |s| s.stats.iter().map(|s| s.name.as_str()).collect());
    let wide = report.steps.iter().map(|s| word(s.state).len()).fold(10, usize::max);
    let mut head = format!("{:>9}  {:<wide$}", "step", "state");
    for name in &names {
        head += &format!("  {:>14}  {:>14}", format!("A {name}"), format!("B {name}"));
    }
    lines.push(head);
    let first = report.steps.iter().position(|s| s.state != StepState::Identical);
    let mut skipped = 0;
    for (i, step) in report.steps.iter().enumerate() {
        let near = i < 4 || i + 2 >= steps || first.is_some_and(|f| i + 1 >= f && i < f + 4);
        if !all && !near {
            skipped += 1;
            continue;
        }
        if skipped > 0 {
            lines.push(format!("{:>9}  {skipped} steps not shown (--all)", "..."));
            skipped = 0;
        }
        let mut line = format!("{:>9}  {:<wide$}", place(step), word(step.state));
        for stat in &step.stats {
            let [a, b] = Figure::pair(stat.a, stat.b);
            line += &format!("  {a:>14}  {b:>14}");
        }
        lines.push(with_names(&line, &step.differing, width));
    }
    for w in &report.waveforms {
        let same = if w.identical { "same samples" } else { "other samples" };
        lines.push(format!(
            "sound of request {}: {same} ({}, {}), correlation {:.4}, loudness {:.2}, {:.2} dB",
            w.request, w.samples_a, w.samples_b, w.correlation, w.loudness_a_db, w.loudness_b_db
        ));
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(report.control.iter().map(|control| format!("control: {}", control.line())));
    for note in report.control.iter().flat_map(|c| &c.notes) {
        lines.push(format!("control: {note}"));
    }
    lines.extend(report.one_sided_line());
    if let Some(point) = report.unmatched_points.first() {
        lines.push(format!(
            "{} points only on one side, not compared: {point}, ...",
            report.unmatched_points.len()
        ));
    }
    lines.iter().flat_map(|line| wrap::fill(line, width, 2)).collect()
}

/// A row with as many names as fit, or their number.
fn with_names(row: &str, buffers: &[String], width: usize) -> String {
    let names = wrap::names(buffers);
    let fits = |line: &String| line.chars().count() <= width;
    let shown = |n: usize| match names.len() - n {
        0 => format!("{row}  {}", names.join(" ")),
        more => format!("{row}  {} and {more} more", names[..n].join(" ")),
    };
    match (1..=names.len()).rev().map(shown).find(fits) {
        Some(line) => line,
        None if names.is_empty() => row.to_owned(),
        None => format!("{row}  {} buffers", buffers.len()),
    }
}

/// The next command to try: a step executed again, or a look where that cannot be done.
fn next(args: &Args, first: &FirstDifference) -> Result<String, Failure> {
    let (a, b) = (quoted(&args.a.display().to_string()), quoted(&args.b.display().to_string()));
    let (request, step, buffer) = (first.request, first.step, &first.buffer);
    if !is_foreign(open(&args.a)?.run()) {
        return Ok(format!("next: twinstep step {a} {b} --at {request}:{step} --patch {buffer}=other"));
    }
    let at = At { request, step: Some(step) };
    let print = print_command(&args.a.display().to_string(), buffer, &first.element.index, at, &first.point);
    Ok(format!("next: {print}   twinstep {a} {b}"))
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let report = compare_with(&args.a, &args.b, &args.stats, args.control.as_deref())?;
    for line in show(&report, args.all, wrap::width()) {
        out.line(line)?;
    }
    if let Some(first) = &report.first {
        out.line(next(args, first)?)?;
    }
    let ranks = other_ranks(args)?;
    for (rank, side) in lone_ranks(args)? {
        out.line(format!("rank {rank}: its trace lies beside {side} only, not compared"))?;
    }
    let controlled = args.control.is_some();
    for line in ranks.iter().map(|rank| rank_line(rank, controlled)).chain(earliest(&report, &ranks)) {
        out.line(line)?;
    }
    let same = report.same() && ranks.iter().all(|r| r.same);
    out.document(&Document { report: &report, ranks })?;
    Ok(if same { Status::Same } else { Status::Differs })
}

/// The other ranks of two runs of another engine, where their traces lie beside the pair.
fn other_ranks(args: &Args) -> Result<Vec<RankDiff>, Failure> {
    let a = open(&args.a)?;
    if !is_foreign(a.run()) {
        return Ok(Vec::new());
    }
    let own = rank(&a).map_err(|e| failed(&e))?;
    let mut found = Vec::new();
    for (rank, a, b) in ranks::others(&args.a, &args.b, own) {
        let control = args.control.as_deref().and_then(|control| ranks::beside(control, rank));
        let report = compare_with(&a, &b, &args.stats, control.as_deref())?;
        let (a, b) = (a.display().to_string(), b.display().to_string());
        let control = control.map(|control| control.display().to_string());
        let (same, what) = (report.same(), report.headline());
        found.push(RankDiff {
            rank,
            a,
            b,
            identical: report.identical,
            control,
            same,
            what,
            first: report.first,
        });
    }
    Ok(found)
}

fn lone_ranks(args: &Args) -> Result<Vec<(u32, &'static str)>, Failure> {
    let a = open(&args.a)?;
    if !is_foreign(a.run()) {
        return Ok(Vec::new());
    }
    let own = rank(&a).map_err(|e| failed(&e))?;
    Ok(ranks::one_sided(&args.a, &args.b, own))
}

fn rank_line(rank: &RankDiff, controlled: bool) -> String {
    let what = match (&rank.first, rank.identical) {
        (Some(first), _) => first_line(first),
        (None, true) => "identical".to_owned(),
        (None, false) => rank.what.clone(),
    };
    let (without, control) = match &rank.control {
        Some(control) => ("", format!(" --control {}", quoted(control))),
        None if controlled && !rank.identical => {
            (" without a control run, which has no trace of it", String::new())
        }
        None => ("", String::new()),
    };
    let (a, b) = (quoted(&rank.a), quoted(&rank.b));
    format!("rank {}{without}: {what} (twinstep diff {a} {b}{control})", rank.rank)
}

/// Which rank differs first, where another one does.
fn earliest(report: &DiffReport, ranks: &[RankDiff]) -> Option<String> {
    let place = |f: &FirstDifference| (f.request, f.step);
    let own = report.first.as_ref().map(place);
    let other = ranks.iter().filter_map(|r| Some((place(r.first.as_ref()?), r))).min_by_key(|(at, _)| *at)?;
    let ((request, step), rank) = other;
    own.is_none_or(|own| (request, step) < own)
        .then(|| format!("the first of all ranks to differ is rank {}, at step {request}:{step}", rank.rank))
}
