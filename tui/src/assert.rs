//! `twinstep assert`: whether two runs are as nearly equal as a policy demands.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use twinstep_replayer::{
    AssertError, AssertReport, GuardReport, Policy, PolicyError, SelfTestState, accept, assert_traces,
    github_annotations, is_foreign, junit, quoted, rank, self_test,
};
use twinstep_traces::Trace;

use crate::failure::{Failure, escape};
use crate::output::{Output, Status};
use crate::ranks;
use crate::trace_file::{failed, open};

/// Judge two runs by a policy: which buffers must be equal, how nearly, and that passing means something.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep assert a.twin b.twin --policy parity.toml --junit parity.xml\n\nWithout --policy all bits must be equal. The format is in replayer/ASSERT.md."
)]
pub(crate) struct Args {
    /// One trace.
    a: PathBuf,
    /// The other.
    b: PathBuf,
    /// The rules, as TOML.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write a JUnit report, one test case a guard and a rule.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print failures as annotations of a GitHub workflow; with --json on standard error.
    #[arg(long)]
    github: bool,
    /// Add the present divergences to the policy as expected.
    #[arg(long, requires = "reason", requires = "policy")]
    accept: bool,
    /// Why they are accepted.
    #[arg(long, value_name = "TEXT", requires = "accept")]
    reason: Option<String>,
    /// Change a value for every rule, in memory, and fail if the rule still passes.
    #[arg(long)]
    self_test: bool,
    /// Allow a trace to be compared with itself.
    #[arg(long)]
    same_file: bool,
}

/// Longest policy file that is read; the parser refuses less.
const POLICY_MAX: u64 = 16 << 20;

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let text = args.policy.as_deref().map_or(Ok(None), |path| read(path, args.accept))?;
    let policy = |text: &str| -> Result<Policy, Failure> {
        let mut policy = Policy::parse(text).map_err(|e| mistake(args, &e))?;
        policy.same_file |= args.same_file;
        Ok(policy)
    };
    let mut rules = policy(text.as_deref().unwrap_or_default())?;
    let a = open(&args.a)?;
    let other = if same_file(&args.a, &args.b) { None } else { Some(open(&args.b)?) };
    let b = other.as_ref().unwrap_or(&a);
    let judge = |policy: &Policy| assert_traces(&a, b, policy).map_err(|e| trouble(args, &e));
    let mut report = judge(&rules)?;
    if let (true, Some(path)) = (args.accept, &args.policy) {
        rules = accept_into(args, path, text.as_deref(), &report, out)?.map_or(Ok(rules), |t| policy(&t))?;
        report = judge(&rules)?;
    }
    finish(args, &a, b, &rules, report, out)
}

/// Prints and writes what was found.
fn finish(
    args: &Args,
    a: &Trace,
    b: &Trace,
    policy: &Policy,
    mut report: AssertReport,
    out: &mut Output,
) -> Result<Status, Failure> {
    other_ranks(args, a, policy, &mut report)?;
    report.next = report.next_commands(&args.a.to_string_lossy(), &args.b.to_string_lossy());
    if args.self_test {
        report.self_test = Some(self_test(a, b, policy).map_err(|e| trouble(args, &e))?);
    }
    for line in show(&report) {
        out.line(line)?;
    }
    if args.github {
        let file = args.policy.as_deref().map(Path::to_string_lossy);
        for line in github_annotations(&report, file.as_deref()) {
            annotate(&line, out)?;
        }
    }
    if let Some(path) = &args.junit {
        let xml = junit(&report).map_err(|e| Failure::new("output", format!("the JUnit report: {e}")))?;
        write_junit(path, &xml)?;
    }
    out.document(&report)?;
    let passes = report.passes && report.self_test.as_ref().is_none_or(|test| test.passes);
    Ok(if passes { Status::Same } else { Status::Differs })
}

/// Ranks that a guard names.
const RANKS_SHOWN: usize = 4;

/// Judges the other ranks of runs of another engine, whose traces lie beside the two, by the same policy. A run fails
/// where one of its ranks does.
fn other_ranks(args: &Args, a: &Trace, policy: &Policy, report: &mut AssertReport) -> Result<(), Failure> {
    if !is_foreign(a.run()) || !policy.require_ranks {
        return Ok(());
    }
    let own = rank(a).map_err(|e| failed(&e))?;
    let pairs = ranks::others(&args.a, &args.b, own);
    let lone = ranks::one_sided(&args.a, &args.b, own);
    if pairs.is_empty() && lone.is_empty() {
        return Ok(());
    }
    let mut failing: Vec<String> =
        lone.iter().map(|(rank, side)| format!("rank {rank}: its trace lies beside {side} only")).collect();
    let with = args.policy.as_ref().map(|path| format!(" --policy {}", quoted(&path.to_string_lossy())));
    for (rank, a, b) in &pairs {
        let judged = assert_traces(&open(a)?, &open(b)?, policy).map_err(|e| trouble(args, &e))?;
        // A rank is a part of the model: rules and expectations may be for what other ranks have.
        let sound = |g: &&GuardReport| g.passes || g.guard == "rules-match";
        if !(judged.divergences.is_empty() && judged.guards.iter().all(|g| sound(&g))) {
            let why = match (&judged.first, judged.guards.iter().find(|g| !sound(g))) {
                (Some(first), _) => crate::diff::first_line(first),
                (None, Some(guard)) => format!("guard {}: {}", guard.guard, guard.text),
                (None, None) => "a rule fails".to_owned(),
            };
            let [a, b] = [a, b].map(|path| quoted(&path.to_string_lossy()));
            let with = with.as_deref().unwrap_or_default();
            failing.push(format!("rank {rank}: {why} (twinstep assert {a} {b}{with})"));
        }
    }
    let more = failing.len().saturating_sub(RANKS_SHOWN);
    let text = match failing.len() {
        0 => format!("{} other ranks pass too", pairs.len()),
        _ => failing[..failing.len() - more].join("; "),
    };
    let text = if more > 0 { format!("{text}; and {more} more ranks fail") } else { text };
    report.passes &= failing.is_empty();
    report.guards.push(GuardReport { guard: "ranks", passes: failing.is_empty(), text });
    Ok(())
}

/// A workflow reads both streams; where standard output is a document, only the other is free.
fn annotate(line: &str, out: &mut Output) -> Result<(), Failure> {
    if !out.json() {
        return out.line(line);
    }
    let written = writeln!(io::stderr().lock(), "{}", escape(line));
    written.map_err(|e| Failure::new("output", format!("cannot write to standard error: {e}")))
}

fn mistake(args: &Args, error: &PolicyError) -> Failure {
    let file = args.policy.as_deref().unwrap_or(Path::new("policy"));
    let message = format!("{}:{}:{}: {}", file.display(), error.line, error.column, error.message);
    Failure::new("policy", message.replace('\n', " ")).hint("replayer/ASSERT.md has the format of policies")
}

fn trouble(args: &Args, error: &AssertError) -> Failure {
    match error {
        AssertError::Policy(error) => mistake(args, error),
        AssertError::Replay(error) => failed(error),
        error => Failure::new("input", error),
    }
}

/// The text of a policy file; `None` where there is none and one is to be made.
fn read(path: &Path, make: bool) -> Result<Option<String>, Failure> {
    let wrong = |what: String| {
        Failure::new("policy", format!("{}: {what}", path.display()))
            .hint("replayer/ASSERT.md has the format of policies")
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(POLICY_MAX + 1).read_to_end(&mut bytes).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > POLICY_MAX {
        return Err(wrong(format!("is longer than {} MiB: no policy", POLICY_MAX >> 20)));
    }
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        wrong(format!("line {line} is not UTF-8 text"))
    })
}

/// Whether two paths lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Adds the divergences to the policy file; its new text, or `None` where there is nothing to add.
fn accept_into(
    args: &Args,
    path: &Path,
    old: Option<&str>,
    report: &AssertReport,
    out: &mut Output,
) -> Result<Option<String>, Failure> {
    if report.guards.iter().any(|g| !g.passes) {
        out.line("nothing is accepted: a guard fails, and what is compared means nothing")?;
        return Ok(None);
    }
    if report.divergences.is_empty() {
        out.line("nothing to accept: no rule fails")?;
        return Ok(None);
    }
    let reason = args.reason.as_deref().unwrap_or_default();
    let text = accept(old.unwrap_or_default(), &report.divergences, reason).map_err(|e| mistake(args, &e))?;
    replace(path, old, &text)?;
    out.line(format!("{} divergences accepted in {}", report.divergences.len(), path.display()))?;
    Ok(Some(text))
}

/// Puts a new text in a file's place in one rename, if the file still is what was read.
fn replace(path: &Path, old: Option<&str>, new: &str) -> Result<(), Failure> {
    let wrong = |what: String| Failure::new("output", format!("{}: {what}", path.display()));
    let target = match old {
        // A symbolic link stays; the file that it leads to is replaced.
        Some(_) => fs::canonicalize(path).map_err(|e| wrong(format!("cannot be written: {e}")))?,
        None => path.to_owned(),
    };
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let passing = target.with_file_name(name);
    let put = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&passing)?;
        file.write_all(new.as_bytes())?;
        if let Ok(metadata) = fs::metadata(&target) {
            file.set_permissions(metadata.permissions())?;
        }
        file.sync_all()?;
        match old {
            // Fails where somebody has made the file meanwhile.
            None => fs::hard_link(&passing, &target),
            Some(old) if fs::read(&target)? == old.as_bytes() => fs::rename(&passing, &target),
            Some(_) => Err(io::Error::other("it has changed meanwhile; nothing was written")),
        }
    };
    let done = put().map_err(|e| wrong(format!("cannot be written: {e}")));
    // Gone after the rename; otherwise ours, made a moment ago.
    let _ = fs::remove_file(&passing);
    done
}

/// Writes a report, over an older one but over nothing else.
fn write_junit(path: &Path, xml: &str) -> Result<(), Failure> {
    let wrong = |what: String| Failure::new("output", format!("{}: {what}", path.display()));
    match fs::File::open(path) {
        Ok(file) => {
            let mut head = Vec::new();
            let read = file.take(4096).read_to_end(&mut head);
            read.map_err(|e| wrong(format!("cannot be read: {e}")))?;
            let head = String::from_utf8_lossy(&head);
            let ours = head.is_empty() || head.starts_with("<?xml") && head.contains("<testsuites");
            if !ours {
                let hint = "name another file, or take this one away";
                return Err(wrong("exists and is no JUnit report; it stays as it is".to_owned()).hint(hint));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(wrong(format!("cannot be written: {error}"))),
    }
    fs::write(path, xml).map_err(|e| wrong(format!("cannot be written: {e}")))
}

/// The report as lines.
fn show(report: &AssertReport) -> Vec<String> {
    let mut lines = Vec::new();
    let word = if report.passes { "passes" } else { "FAILS" };
    let ignored = report.rules.iter().filter(|r| r.ignored.is_some()).count();
    let places: u64 = report.rules.iter().map(|r| r.matched).sum();
    let ignoring = if ignored > 0 { format!(", {ignored} rules ignore") } else { String::new() };
    lines.push(format!(
        "{word}: {} steps judged, {places} places (buffer, step, point){ignoring}",
        report.steps_judged
    ));
    for guard in report.guards.iter().filter(|g| !g.passes) {
        lines.push(format!("guard {}: {}", guard.guard, guard.text));
    }
    for rule in &report.rules {
        let line = if rule.line > 0 { format!(" (line {})", rule.line) } else { String::new() };
        if rule.failed > 0 {
            lines
                .push(format!("rule `{}`{line}: {} of {} places fail", rule.rule, rule.failed, rule.matched));
            if let (Some(first), Some(worst)) = (&rule.first, &rule.worst) {
                lines.push(format!("  first: {first}"));
                if first.to_string() != worst.to_string() {
                    lines.push(format!("  worst: {worst}"));
                }
            }
        }
    }
    for expected in &report.expected {
        lines.push(match expected.occurs {
            0 => format!(
                "expected `{}` (line {}) no longer occurs; take it out: {}",
                expected.expected, expected.line, expected.reason
            ),
            n => format!("expected `{}`: {n} places ({})", expected.expected, expected.reason),
        });
    }
    for fork in &report.forks {
        lines.push(format!(
            "the codes of request {} differ from step {} on; {} later steps were not judged",
            fork.request, fork.step, fork.not_judged
        ));
    }
    if let Some(what) = report.not_compared.first() {
        lines.push(format!(
            "{} times a buffer or point is on one side only and was not compared: {what}{}",
            report.not_compared_count,
            if report.not_compared.len() > 1 { ", ..." } else { "" }
        ));
    }
    if let Some(first) = &report.first {
        lines.push(crate::diff::first_line(first));
    }
    lines.extend(report.next.iter().map(|command| format!("next: {command}")));
    if let Some(test) = &report.self_test {
        let word = if test.passes { "passes" } else { "FAILS" };
        lines.push(format!(
            "self-test {word}: each rule with a value of B changed just beyond what it allows"
        ));
        for rule in &test.rules {
            let state = match rule.state {
                SelfTestState::Red | SelfTestState::AlreadyRed => "turns red",
                SelfTestState::Green => "STAYS GREEN",
                SelfTestState::NotChecked => "not checked",
                SelfTestState::NoMatch => "NO MATCH",
            };
            lines.push(format!("  {state}: `{}`: {}", rule.rule, rule.text));
        }
    }
    lines
}
