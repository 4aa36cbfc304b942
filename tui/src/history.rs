//! `twinstep history`: who wrote an element.

use std::path::PathBuf;

use twinstep_replayer::{At, HistoryGroup, HistoryOptions, HistoryReport, HistoryWriter, history};

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

/// The report as lines.
fn show(report: &HistoryReport) -> Vec<String> {
    let mut lines =
        vec![format!("{} at {} of step {}, newest first", report.buffer, report.point, report.at)];
    for group in &report.groups {
        lines.extend(show_group(group, report.changes.is_some()));
    }
    if report.groups_left_out > 0 {
        lines.push(format!("and {} more ranges: give indices", report.groups_left_out));
    }
    for change in report.changes.iter().flatten() {
        lines.push(format!(
            "{} bytes changed between {} and {}",
            change.bytes_changed, change.after, change.before
        ));
        let ran =
            if change.ran.is_empty() { "nothing that is recorded".to_owned() } else { change.ran.join(", ") };
        lines.push(format!("  in between ran {ran}"));
        lines.extend(change.candidates.iter().map(|candidate| format!("    {candidate}")));
    }
    if report.changes.as_ref().is_some_and(Vec::is_empty) {
        lines.push("no snapshot shows a change of these bytes".to_owned());
    }
    for note in &report.not_looked_at {
        lines.push(format!("not looked at: {note}"));
    }
    lines
}

fn show_group(group: &HistoryGroup, foreign: bool) -> Vec<String> {
    let ranges: Vec<String> = group.bytes.iter().take(4).map(|[a, b]| format!("{a}..{b}")).collect();
    let more = if group.bytes.len() > 4 { ", ..." } else { "" };
    let mut lines = vec![format!("bytes {}{more}", ranges.join(", "))];
    if group.writers.is_empty() {
        lines.push("  nothing in the log wrote it: the trace does not show its allocation".to_owned());
    }
    for (i, writer) in group.writers.iter().enumerate() {
        lines.push(format!("  {:<9} {}", writer.at, what(writer, i == 0, foreign)));
        for input in &writer.inputs {
            let writers = input.writers.join(", ");
            lines.push(format!("  {:<9}   {:<16} {:<22} {writers}", "", input.operand, input.buffer));
        }
    }
    if group.more {
        lines.push("  and earlier ones: --limit N shows more".to_owned());
    }
    lines
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
    for line in show(&report) {
        out.line(line)?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}
