//! Reports of the cause search, the checks and the history as lines to look at, each with the place it
//! speaks of.

use twinstep_replayer::{At, ExplainReport, Finding, HistoryReport, HistoryWriter, Kind, Twins};
use twinstep_traces::{StepKind, Trace};

use super::work::Side;
use crate::failure::escape;
use crate::history::{self, Of};

/// A line and the place it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) jump: Option<Jump>,
}

/// A place to jump to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Jump {
    pub(crate) at: Option<At>,
    pub(crate) buffer: Option<String>,
    /// Element of the buffer, in row-major order.
    pub(crate) element: u64,
    /// Launch of the step, by its number on a side.
    pub(crate) launch: Option<(Side, usize)>,
}

/// What a cause search, a check or a history found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) headline: String,
    pub(crate) good: bool,
    pub(crate) lines: Vec<Line>,
}

impl Findings {
    /// The first line that speaks of a place, where the cursor begins.
    pub(crate) fn first_place(&self) -> usize {
        self.lines.iter().position(|line| line.jump.is_some()).unwrap_or(0)
    }

    /// Takes jumps to where places of run B are shown.
    pub(crate) fn show(&mut self, twins: &Twins) {
        for jump in self.lines.iter_mut().filter_map(|line| line.jump.as_mut()) {
            jump.at = jump.at.map(|at| twins.shown(at));
        }
    }
}

fn plain(text: String) -> Line {
    Line { text: escape(&text), jump: None }
}

fn section(lines: &mut Vec<Line>, title: &str, rows: Vec<Line>) {
    if !rows.is_empty() {
        lines.push(plain(format!("{title}:")));
        lines.extend(rows.into_iter().map(|row| Line { text: format!("  {}", row.text), ..row }));
    }
}

fn side(name: &str) -> Side {
    if name == "b" { Side::B } else { Side::A }
}

/// The verdict, what was seen, who is innocent, and what checks and rules say.
pub(crate) fn of_explain(report: &ExplainReport, traces: [&Trace; 2]) -> Findings {
    let verdict = &report.verdict;
    let good = matches!(verdict.kind, Kind::Identical | Kind::Noise | Kind::Rounding);
    let proven = match (verdict.proven, report.ambiguous.is_empty()) {
        _ if good => "",
        (true, _) => " (proven)",
        (false, true) => " (not proven)",
        (false, false) => " (ambiguous)",
    };
    let run = verdict.side.map_or(String::new(), |s| match s {
        "both" => ", both runs".to_owned(),
        s => format!(", run {}", s.to_uppercase()),
    });
    let launch = |node: Option<usize>, name: Option<&str>| node.map(|n| (name.map_or(Side::A, side), n));
    let at = verdict.request.zip(verdict.step).map(|(request, step)| At { request, step: Some(step) });
    let jump = at.map(|at| Jump {
        at: Some(at),
        buffer: verdict.buffers.first().filter(|_| verdict.node.is_none()).cloned(),
        element: 0,
        launch: launch(verdict.node, verdict.side),
    });
    let mut lines = vec![Line { text: escape(&verdict.text), jump }];
    let evidence = report.evidence.iter().map(|e| {
        let at = e.at.as_ref().and_then(|at| at.parse::<At>().ok());
        let text = format!("{:<9} {:<16} {}", e.at.as_deref().unwrap_or(""), e.what, e.text);
        let jump = Jump { at, launch: launch(e.node, None), ..Jump::default() };
        Line { text: escape(&text), jump: at.map(|_| jump) }
    });
    section(&mut lines, "evidence", evidence.collect());
    let patched = report.exonerated.iter().filter(|e| e.bytes_changed > 0);
    let row = |e: &twinstep_replayer::Exonerated| {
        plain(format!("{:<32} {:>8} bytes  {}", e.patch, e.bytes_changed, e.result))
    };
    section(&mut lines, "patched, and innocent", patched.map(row).collect());
    let sets = report.ambiguous.iter().map(|set| plain(set.join(" ")));
    section(&mut lines, "each of these would do", sets.collect());
    let twins = Twins::of(traces[0], traces[1]);
    let found = report.findings.iter().map(|f| {
        let s = side(f.side);
        finding(&f.finding, s, traces[s as usize], &twins)
    });
    section(&mut lines, "findings", found.collect());
    let proofs = report.causes.iter().flat_map(|c| &c.proof).map(|p| {
        let patches: Vec<String> = p.patches.iter().map(|patch| format!("--patch {patch}")).collect();
        let result = if p.equals_other { "equals the other run" } else { "differs from it" };
        let text = format!(
            "step {} of {} {}: {result}; {}",
            p.at,
            p.executed.to_uppercase(),
            patches.join(" "),
            p.shows
        );
        let jump = p.at.parse().ok().map(|at| Jump { at: Some(at), ..Jump::default() });
        Line { text: escape(&text), jump }
    });
    section(&mut lines, "proof", proofs.collect());
    if report.exhausted {
        lines.push(plain(format!("the search ended after {} re-executions", report.executions)));
    }
    Findings { headline: format!("verdict: {}{run}{proven}", verdict.kind), good, lines }
}

fn finding(finding: &Finding, side: Side, trace: &Trace, twins: &Twins) -> Line {
    let index = trace.find_step(finding.request, finding.step).ok().flatten();
    let kind = index.and_then(|index| trace.step(index).ok()).map(|step| step.kind);
    let step = (kind != Some(StepKind::Codec)).then_some(finding.step);
    let at = (finding.step > 0).then_some(At { request: finding.request, step });
    let at = at.map(|at| if side == Side::B { twins.shown(at) } else { at });
    let place = at.map_or("set-up".to_owned(), |at| format!("step {at}"));
    let jump = at.map(|at| Jump {
        at: Some(at),
        buffer: finding.buffer.clone().filter(|_| finding.node.is_none()),
        element: 0,
        launch: finding.node.map(|n| (side, n as usize)),
    });
    Line { text: escape(&format!("{} {place} [{}] {}", side.name(), finding.check, finding.message)), jump }
}

/// What checks and rules find on each run.
pub(crate) fn of_check(
    found: &[(Side, Vec<Finding>)],
    traces: [Option<&Trace>; 2],
    twins: &Twins,
) -> Findings {
    let mut lines = Vec::new();
    for (side, findings) in found {
        let Some(trace) = traces[*side as usize] else { continue };
        lines.extend(findings.iter().map(|f| finding(f, *side, trace, twins)));
    }
    let headline = match lines.len() {
        0 => "checks and rules find nothing".to_owned(),
        1 => "checks and rules find one thing".to_owned(),
        n => format!("checks and rules find {n} things"),
    };
    Findings { headline, good: lines.is_empty(), lines }
}

/// The writers of an element, newest first, and what they read: the lines of `twinstep history`.
pub(crate) fn of_history(report: &HistoryReport, run: Side, trace: &Trace) -> Findings {
    let line = |told: history::Told<'_>| {
        let jump = match told.of {
            Of::Nothing => None,
            Of::Writer(writer) => place(writer, run, trace),
            Of::Input(writer, input) => {
                let element = element(trace, &input.buffer, input.bytes[0]);
                let buffer = Some(input.buffer.clone());
                place(writer, run, trace).map(|jump| Jump { buffer, element, launch: None, ..jump })
            }
            Of::Change(change) => change.step.map(|at| Jump { at: Some(at), ..Jump::default() }),
        };
        Line { text: escape(&told.text), jump }
    };
    let headline = format!("writers of {}, run {}", history::headline(report), run.name());
    Findings { headline, good: true, lines: history::lines(report).into_iter().map(line).collect() }
}

fn element(trace: &Trace, name: &str, byte: u64) -> u64 {
    let found = trace.buffers().iter().find(|b| format!("{}@{}", b.name, b.generation) == name);
    found.map_or(0, |b| byte / b.dtype.size())
}

fn place(writer: &HistoryWriter, run: Side, trace: &Trace) -> Option<Jump> {
    let at: At = writer.at.parse().ok()?;
    Some(Jump {
        at: Some(at),
        buffer: Some(writer.buffer.clone()).filter(|_| writer.launch.is_none()),
        element: element(trace, &writer.buffer, writer.bytes[0]),
        launch: writer.launch.map(|n| (run, n as usize)),
    })
}
