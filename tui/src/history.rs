//! `twinstep history`: who wrote an element.

use std::path::PathBuf;

use twinstep_replayer::{
    At, HistoryChange, HistoryGroup, HistoryInput, HistoryOptions, HistoryReport, HistoryWriter, history,
};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};

/// Show who wrote an element last, newest first, and what each launch read to compute it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep history a.twin 'hidden[0,17]' --at 2\n  twinstep history a.twin last_codes@0 --at 3:2 --after"
)]
pub(crate) struct Args {
    /// The trace.
    trace: PathBuf,
    #[arg(help = "Buffer and elements: last_codes, hidden[0,17], codes_out[0,:], name@generation")]
    buffer: String,
    /// Step: 2, 3:2 or 1:codec.
    #[arg(long, value_name = "[REQ:]N")]
    at: String,
    /// From after the step instead of from before it.
    #[arg(long)]
    after: bool,
    /// Most writers that are shown of the same bytes.
    #[arg(long, value_name = "N", default_value_t = HistoryOptions::default().limit)]
    limit: usize,
}

/// A line of a report and what it speaks of: the command line prints it, the terminal UI goes there.
pub(crate) struct Told<'a> {
    pub(crate) text: String,
    pub(crate) of: Of<'a>,
}

/// What a line speaks of.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    Nothing,
    Writer(&'a HistoryWriter),
    Input(&'a HistoryWriter, &'a HistoryInput),
    Change(&'a HistoryChange),
}

fn told(text: impl Into<String>, of: Of<'_>) -> Told<'_> {
    Told { text: text.into(), of }
}

/// Of what and from where the report goes backwards.
pub(crate) fn headline(report: &HistoryReport) -> String {
    format!("{} at {} of step {}, newest first", report.buffer, report.point, report.at)
}

/// The report as lines, below its headline.
pub(crate) fn lines(report: &HistoryReport) -> Vec<Told<'_>> {
    let mut lines = Vec::new();
    for group in &report.groups {
        group_lines(group, report.changes.is_some(), &mut lines);
    }
    if report.groups_left_out > 0 {
        lines.push(told(format!("and {} more ranges: give indices", report.groups_left_out), Of::Nothing));
    }
    for change in report.changes.iter().flatten() {
        let of = Of::Change(change);
        let (bytes, after, before) = (change.bytes_changed, &change.after, &change.before);
        lines.push(told(format!("{bytes} bytes changed between {after} and {before}"), of));
        let ran =
            if change.ran.is_empty() { "nothing that is recorded".to_owned() } else { change.ran.join(", ") };
        lines.push(told(format!("  in between ran {ran}"), of));
        lines.extend(change.candidates.iter().map(|candidate| told(format!("    {candidate}"), of)));
    }
    if report.changes.as_ref().is_some_and(Vec::is_empty) {
        lines.push(told("no snapshot shows a change of these bytes", Of::Nothing));
    }
    let notes = report.not_looked_at.iter().map(|note| format!("not looked at: {note}"));
    lines.extend(notes.map(|text| told(text, Of::Nothing)));
    lines
}

fn group_lines<'a>(group: &'a HistoryGroup, foreign: bool, lines: &mut Vec<Told<'a>>) {
    let ranges: Vec<String> = group.bytes.iter().take(4).map(|[a, b]| format!("{a}..{b}")).collect();
    let more = if group.bytes.len() > 4 { ", ..." } else { "" };
    lines.push(told(format!("bytes {}{more}", ranges.join(", ")), Of::Nothing));
    if group.writers.is_empty() {
        let text = "  nothing in the log wrote it: the trace does not show its allocation";
        lines.push(told(text, Of::Nothing));
    }
    for (i, writer) in group.writers.iter().enumerate() {
        let text = format!("  {:<9} {}", writer.at, what(writer, i == 0, foreign));
        lines.push(told(text, Of::Writer(writer)));
        for input in &writer.inputs {
            let writers = input.writers.join(", ");
            let text = format!("  {:<9}   {:<16} {:<22} {writers}", "", input.operand, input.buffer);
            lines.push(told(text, Of::Input(writer, input)));
        }
    }
    if group.more {
        lines.push(told("  and earlier ones: --limit N shows more", Of::Nothing));
    }
}

fn what(writer: &HistoryWriter, newest: bool, foreign: bool) -> String {
    let may = if writer.may { "may write" } else { "writes" };
    let [start, end] = writer.bytes;
    let bytes = format!("{may} {} bytes {start}..{end}", writer.buffer);
    let number = writer.launch.map_or(String::new(), |n| format!("{n:>4} "));
    match writer.what {
        // What fresh memory of another engine holds is not known, nor all that ran since.
        "allocation" if foreign => format!("{} allocated", writer.buffer),
        "allocation" if newest => "nothing in the log wrote it since it was allocated (0xA5)".to_owned(),
        "allocation" => format!("{} allocated (0xA5)", writer.buffer),
        "weights" => format!("{} allocated with its weights", writer.buffer),
        "host-write" => {
            let values: Vec<String> = writer.values.iter().map(ToString::to_string).collect();
            format!("host write of {} bytes {start}..{end}: {}", writer.buffer, values.join(" "))
        }
        "node" => {
            let (graph, node) = (writer.graph.unwrap_or(0), writer.graph_node.unwrap_or(0));
            format!("{number}{} (node {node} of graph {graph}) {bytes}", writer.name)
        }
        "launch" => format!("{number}{} {bytes}", writer.name),
        _ if writer.may => format!("{} binds {} (access unknown)", writer.name, writer.buffer),
        _ => format!("{} {bytes}", writer.name),
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let at: At = args.at.parse().map_err(|e| failed(&e))?;
    let options = HistoryOptions { after: args.after, limit: args.limit };
    let report = history(&open(&args.trace)?, &args.buffer, at, options).map_err(|e| failed(&e))?;
    out.line(headline(&report))?;
    for line in lines(&report) {
        out.line(line.text)?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}
