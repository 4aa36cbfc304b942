//! `twinstep check`: mistakes in one trace.

use std::path::{Path, PathBuf};

use twinstep_replayer::{At, CheckReport, Finding, check, check_explanation, check_names};
use twinstep_traces::{StepKind, Trace};

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::rules::RuleSet;
use crate::trace_file::{failed, open};

/// Look for mistakes in one trace: reads of memory that nobody wrote, stale bindings, memory given back, ...
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep check a.twin\n  twinstep check --explain stale-binding")]
pub(crate) struct Args {
    /// The trace.
    #[arg(required_unless_present = "explain")]
    trace: Option<PathBuf>,
    /// The model's rules; by default those of the embedded voice's model.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Say what a check means, why it matters and how to confirm it.
    #[arg(long, value_name = "NAME")]
    explain: Option<String>,
}

#[derive(serde::Serialize)]
struct Explanation<'a> {
    schema: &'static str,
    check: &'a str,
    explanation: &'a str,
}

fn explain(name: &str, rules: Option<&Path>, out: &mut Output) -> Result<Status, Failure> {
    let rules = RuleSet::new(rules)?;
    let rule = rules.explanation(name);
    let Some(explanation) = check_explanation(name).map(str::to_owned).or(rule) else {
        let mut names: Vec<&str> = check_names().collect();
        names.extend(rules.names());
        let hint = format!("the checks and rules are {}", names.join(", "));
        return Err(Failure::new("usage", format!("there is no check `{name}`")).hint(hint));
    };
    out.line(format!("{name}\n\n{explanation}"))?;
    out.document(&Explanation {
        schema: "twinstep.check-explanation/1",
        check: name,
        explanation: &explanation,
    })?;
    Ok(Status::Same)
}

/// A finding as cargo would say it.
pub(crate) fn show(finding: &Finding, trace: &Trace, path: &Path) -> Vec<String> {
    let mut lines = vec![format!("error[{}]: {}", finding.check, finding.message)];
    let at = place(finding, trace);
    let mut place = match (finding.step, at) {
        (0, _) => "set-up".to_owned(),
        (_, Some(At { step: None, .. })) => format!("request {}, codec", finding.request),
        (step, _) => format!("request {}, step {step}", finding.request),
    };
    if let Some(node) = finding.node {
        place += &format!(", node {node}");
    }
    lines.push(format!("  --> {place}"));
    if let (Some(buffer), Some(at)) = (&finding.buffer, at) {
        lines.push(format!("  help: twinstep history {} {buffer} --at {at} --after", path.display()));
    }
    lines
}

/// The place of a finding as the commands take it; `None` for set-up.
fn place(finding: &Finding, trace: &Trace) -> Option<At> {
    let index = trace.find_step(finding.request, finding.step).ok().flatten();
    let kind = index.and_then(|index| trace.step(index).ok()).map(|step| step.kind);
    let step = (kind != Some(StepKind::Codec)).then_some(finding.step);
    (finding.step > 0).then_some(At { request: finding.request, step })
}

/// What checks and rules find on a trace.
pub(crate) fn look(trace: &Trace, rules: &RuleSet) -> Result<CheckReport, Failure> {
    let mut report = check(trace).map_err(|e| failed(&e))?;
    match rules.of(trace) {
        Some(rules) => {
            let found = rules.check(trace).map_err(|e| failed(&e))?;
            report.add(found.findings, found.not_looked_at);
        }
        None => report.add(Vec::new(), vec![without_rules(&trace.run().model)]),
    }
    Ok(report)
}

/// The report as lines.
fn report_lines(report: &CheckReport, trace: &Trace, path: &Path) -> Vec<String> {
    let mut lines: Vec<String> = report.findings.iter().flat_map(|f| show(f, trace, path)).collect();
    // A short run has no end of speech: rules that speak of it are told in one line.
    const IDLE: &str = " matched no step";
    let idle: Vec<&str> = report.not_looked_at.iter().filter_map(|note| note.strip_suffix(IDLE)).collect();
    for note in report.not_looked_at.iter().filter(|note| !note.ends_with(IDLE)) {
        lines.push(format!("note: not looked at: {note}"));
    }
    if !idle.is_empty() {
        let names = idle.iter().map(|name| name.trim_start_matches("rule ")).collect::<Vec<_>>().join(", ");
        lines.push(format!("note: not looked at: rules that no step gives a case for: {names}"));
    }
    lines.push(match report.findings.as_slice() {
        [] => "no findings".to_owned(),
        [one] => format!("1 finding: twinstep check --explain {}", one.check),
        [first, ..] => {
            format!("{} findings: twinstep check --explain {}", report.findings.len(), first.check)
        }
    });
    lines
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    if let Some(name) = &args.explain {
        return explain(name, args.rules.as_deref(), out);
    }
    let Some(path) = &args.trace else { return Err(Failure::new("usage", "which trace?")) };
    let trace = open(path)?;
    let report = look(&trace, &RuleSet::new(args.rules.as_deref())?)?;
    for line in report_lines(&report, &trace, path) {
        out.line(line)?;
    }
    out.document(&report)?;
    Ok(if report.findings.is_empty() { Status::Same } else { Status::Differs })
}

fn without_rules(model: &str) -> String {
    match model {
        "" => "rules: none are known for this model; --rules FILE gives some".to_owned(),
        model => format!("rules: none are known for model {model}"),
    }
}
