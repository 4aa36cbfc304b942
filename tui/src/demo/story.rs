//! The report re-created: a clean pair, the guesses, the cause, the proof, a second request.

use std::path::{Path, PathBuf};

use serde::Serialize;
use twinstep_replayer::{BUDGET, CheckReport, DiffReport, ExplainReport, Kind, StepReport};

use crate::demo::folder::{Speech, printed, said, trace, typed, width};
use crate::demo::upstream::{DECISIONS, Decision, HYPOTHESIS, REPORT, REPORTED, WHAT_IT_IS};
use crate::device::Device;
use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::record::{self, ModeName};
use crate::rules::RuleSet;
use crate::trace_file::open;
use crate::weights::Weights;
use crate::{check, diff, explain, step, wrap};

/// Two requests of the same words, so that the second one meets what the first one captured.
const TEXT: &str = "where is the nearest station? where is the nearest station?";
const FAULT: &str = "unlaunched-capture";
/// The reporter's guesses, and what each would have to be made right by.
const GUESSES: [(&str, &[&str]); 2] = [
    ("the feedback embedding reads stale codes under capture", &["last_codes=other", "has_codes=other"]),
    (
        "the attention metadata is wrong at the step from prefill to decode",
        &["seq_lens=other", "positions=other", "block_table=other", "slot_mapping=other"],
    ),
];
/// The first guess as a fault, and the patch that makes it right.
const GUESS_FAULT: &str = "stale-codes";
const GUESS_CURE: &str = "last_codes=other";
/// What the guess about metadata names first.
const INNOCENT: &str = "seq_lens=other";

/// `twinstep.demo/1`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    device: &'a str,
    text: &'static str,
    /// What this is, and what it is not.
    what_it_is: &'static str,
    report: &'static str,
    planted: &'static str,
    recordings: &'a [record::Report],
    clean: &'a DiffReport,
    faulty: &'a DiffReport,
    /// Step 2's place among all steps of its own run, by the statistic of the table; 1 is the lowest.
    place_of_step_2: Places,
    steps: Steps,
    guesses: Vec<Guess>,
    /// What the first guess looks like where it holds.
    first_guess_planted: Planted<'a>,
    explain: &'a ExplainReport,
    commands: &'a [explain::Command],
    check: &'a CheckReport,
    second_request: SecondRequest,
    upstream: [Decision; 3],
    wavs: Vec<PathBuf>,
    next: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Places {
    a: usize,
    b: usize,
    of: usize,
}

/// The same step executed again: as it was, with the culprit patched, with an innocent patched.
#[derive(Serialize)]
struct Steps {
    unpatched: StepReport,
    patched: StepReport,
    innocent: StepReport,
}

#[derive(Serialize)]
struct Guess {
    guess: &'static str,
    step: StepReport,
}

/// A fault planted in another run, beside the clean eager one: its first divergence, and step 2 executed again.
#[derive(Serialize)]
struct Planted<'a> {
    planted: &'static str,
    recording: &'a record::Report,
    diff: DiffReport,
    steps: Steps,
    commands: Vec<explain::Command>,
}

/// The request after the one with the cause.
#[derive(Serialize)]
struct SecondRequest {
    same_samples: bool,
    steps: usize,
    /// Steps whose statistic has the same bits in both runs.
    same_statistic: usize,
    unpatched: StepReport,
    /// With what differs taken from the other run.
    patched: StepReport,
}

/// Two traces and the commands on them.
struct Pair<'a> {
    a: &'a Path,
    b: &'a Path,
    weights: Weights,
}

impl Pair<'_> {
    /// `step` on A against B, as one types it.
    fn step_command(&self, at: &str, patches: &[String]) -> String {
        let words: String = patches.iter().map(|p| format!(" --patch {p}")).collect();
        format!("twinstep step {} {} --at {at}{words}", self.a.display(), self.b.display())
    }

    /// `step` on A against B, shown.
    fn step(&self, out: &mut Output, at: &str, patches: &[String]) -> Result<StepReport, Failure> {
        let report = step::execute(self.a, Some(self.b), at, patches, &self.weights)?;
        typed(out, &self.step_command(at, patches))?;
        printed(out, &step::show(&report, width()))?;
        Ok(report)
    }

    /// `diff` of both, shown.
    fn diff(&self, out: &mut Output) -> Result<DiffReport, Failure> {
        let report = diff::compare(self.a, self.b, &[])?;
        typed(out, &format!("twinstep diff {} {}", self.a.display(), self.b.display()))?;
        printed(out, &diff::show(&report, false, width()))?;
        Ok(report)
    }
}

pub(crate) fn run(device: Device, out: &mut Output) -> Result<Status, Failure> {
    let (eager, graph, piecewise) = (trace("eager"), trace("graph"), trace("piecewise"));
    let speech = Speech { text: TEXT, temperature: 0.0, top_k: 0, device };

    out.line(format!("twinstep demo: \"{TEXT}\"\n"))?;
    out.line("1. A clean pair: eager, and the decode step from one captured graph")?;
    let mut recordings = vec![speech.record(ModeName::Eager, "eager", None)?];
    let device = recordings[0].device.clone();
    said(out, &format!("runs on {device}"))?;
    said(out, &format!("eager: {}, every step recorded", record::summary(&recordings[0])))?;
    recordings.push(speech.record(ModeName::Graph, "graph", None)?);
    said(out, &format!("graph: {}, every step recorded", record::summary(&recordings[1])))?;
    let clean = Pair { a: &graph, b: &eager, weights: Weights::new(None) }.diff(out)?;

    out.line("\n2. A public report, re-created")?;
    said(out, REPORTED)?;
    said(out, HYPOTHESIS)?;
    said(
        out,
        &format!(
            "Here that mistake is planted ({FAULT}): the piecewise run stands for the report's eager profile."
        ),
    )?;
    recordings.push(speech.record(ModeName::Piecewise, "piecewise", Some(FAULT))?);
    said(out, &format!("piecewise: {}, every step recorded", record::summary(&recordings[2])))?;
    let pair = Pair { a: &piecewise, b: &graph, weights: Weights::new(None) };
    let faulty = pair.diff(out)?;
    let places = places(&faulty);
    said(out, &outlier(places))?;

    out.line("\n3. The reporter's two guesses, tried first: step 2 of that run executed again")?;
    let unpatched = pair.step(out, "2", &[])?;
    let mut guesses = Vec::new();
    for (i, (guess, patches)) in GUESSES.into_iter().enumerate() {
        said(out, &format!("Guess {}: {guess}.", i + 1))?;
        let patches: Vec<String> = patches.iter().map(|&p| p.to_owned()).collect();
        guesses.push(Guess { guess, step: pair.step(out, "2", &patches)? });
    }
    let innocent = step::execute(&piecewise, Some(&graph), "2", &[INNOCENT.to_owned()], &pair.weights)?;
    let idle = guesses.iter().all(|g| g.step.patches.iter().all(|p| p.no_effect.is_some()));
    said(
        out,
        match idle {
            true => "Both are innocent: step 2 is given the same in both runs, and still differs.",
            false => "A guess had an effect: the report has not come out as it should.",
        },
    )?;

    out.line("\n4. What the first guess would have looked like")?;
    said(
        out,
        &format!(
            "That mistake planted alone ({GUESS_FAULT}), in the graph run: the captured path lacks the host's copy of \
             prefill's codes, and step 2 reads the seed."
        ),
    )?;
    recordings.push(speech.record(ModeName::Graph, GUESS_FAULT, Some(GUESS_FAULT))?);
    let guess = first_guess(&recordings[3], &eager, out)?;

    out.line("\n5. The cause of the report's run, searched for")?;
    let found = explain::compare(&piecewise, &graph, None, BUDGET, &RuleSet::new(None)?, &pair.weights)?;
    let commands = explain::commands((&piecewise, &graph), None, &found);
    typed(out, &format!("twinstep explain {} {}", piecewise.display(), graph.display()))?;
    printed(out, &explain::show(&found, &commands, width()))?;

    out.line("\n6. The proof, by hand: the captured graphs launched as well")?;
    let cure = found.causes.first().map_or(Vec::new(), |cause| cure(&cause.patches));
    let patched = pair.step(out, "2", &cure)?;

    out.line("\n7. The same from that run alone, without the other")?;
    let alone = open(&piecewise)?;
    let check = check::look(&alone, &RuleSet::new(None)?)?;
    typed(out, &format!("twinstep check {}", piecewise.display()))?;
    if let Some(finding) = check.findings.first() {
        let lines = check::show(finding, &alone, &piecewise);
        let lines: Vec<String> = lines.iter().flat_map(|line| wrap::fill(line, width(), 4)).collect();
        printed(out, &lines)?;
        printed(out, &[format!("... {} findings in all", check.findings.len())])?;
    }

    out.line("\n8. The second request of the same run")?;
    let second = second_request(&pair, &faulty, out)?;

    let wavs: Vec<PathBuf> = recordings.iter().filter_map(|r| r.wav.clone()).collect();
    out.line("\n9. Listen")?;
    for wav in &wavs {
        said(out, &wav.display().to_string())?;
    }

    out.line("\n10. What this is")?;
    said(out, WHAT_IT_IS)?;
    said(out, "On the real machine the reporter could decide in three ways, none of them tried here:")?;
    for decision in &DECISIONS {
        said(out, &format!("- {}", decision.does))?;
        said(out, &format!("    {}", decision.setting))?;
        said(out, &format!("  if that was the cause, {}", decision.then))?;
    }
    let next = next(&piecewise, &graph);
    out.line("\nNext:")?;
    for command in &next {
        said(out, command)?;
    }
    let verdict = &found.verdict;
    let held = clean.identical
        && !faulty.identical
        && idle
        && unpatched.equals_other == Some(false)
        && innocent.equals_other == Some(false)
        && patched.equals_other == Some(true)
        && (verdict.kind, verdict.proven) == (Kind::UnlaunchedCapture, true)
        && guess.holds()
        && check.findings.iter().any(|f| f.kind == Kind::UnlaunchedCapture)
        && second.same_samples
        && second.patched.equals_other == Some(true);
    out.document(&Document {
        schema: "twinstep.demo/1",
        device: &device,
        text: TEXT,
        what_it_is: WHAT_IT_IS,
        report: REPORT,
        planted: FAULT,
        recordings: &recordings,
        clean: &clean,
        faulty: &faulty,
        place_of_step_2: places,
        steps: Steps { unpatched, patched, innocent },
        guesses,
        first_guess_planted: guess,
        explain: &found,
        commands: &commands,
        check: &check,
        second_request: second,
        upstream: DECISIONS,
        wavs,
        next,
    })?;
    Ok(if held { Status::Same } else { Status::Differs })
}

impl Planted<'_> {
    /// It diverges first in the codes of step 2, and only they make step 2 equal to the other run's.
    fn holds(&self) -> bool {
        let first = self.diff.first.as_ref();
        first.is_some_and(|f| (f.request, f.step, f.buffer.as_str()) == (1, 2, "last_codes"))
            && self.steps.unpatched.equals_other == Some(false)
            && self.steps.patched.equals_other == Some(true)
            && self.steps.innocent.equals_other == Some(false)
    }
}

/// The first guess planted: where that run first differs from the eager one, and what makes it right.
fn first_guess<'a>(
    recording: &'a record::Report,
    eager: &Path,
    out: &mut Output,
) -> Result<Planted<'a>, Failure> {
    let planted = trace(GUESS_FAULT);
    let pair = Pair { a: &planted, b: eager, weights: Weights::new(None) };
    let diff = pair.diff(out)?;
    let mut commands = Vec::new();
    let mut step = |out: &mut Output, patch: Option<&str>, shows: &str| {
        let patches: Vec<String> = patch.map(str::to_owned).into_iter().collect();
        let report = pair.step(out, "2", &patches)?;
        let exit_status =
            if report.equals_other == Some(true) { Status::Same } else { Status::Differs } as u8;
        let (command, shows) = (pair.step_command("2", &patches), shows.to_owned());
        commands.push(explain::Command { command, exit_status, shows });
        Ok::<_, Failure>(report)
    };
    let unpatched = step(out, None, "as recorded it differs")?;
    let patched = step(out, Some(GUESS_CURE), "with the other run's codes it equals the other run")?;
    let innocent = step(out, Some(INNOCENT), "with an innocent buffer patched it still differs")?;
    let steps = Steps { unpatched, patched, innocent };
    let planted = Planted { planted: GUESS_FAULT, recording, diff, steps, commands };
    said(
        out,
        match planted.holds() {
            true => {
                "So it would have shown: in last_codes, before any launch of step 2. The report's run does not look \
                 like that."
            }
            false => "It has not come out as it should.",
        },
    )?;
    Ok(planted)
}

/// `graph:0=launch graph:1=launch` in one patch, as one would type it.
fn cure(patches: &[String]) -> Vec<String> {
    let numbers: Option<Vec<u64>> =
        patches.iter().map(|p| p.strip_prefix("graph:")?.strip_suffix("=launch")?.parse().ok()).collect();
    match numbers.as_deref() {
        Some([first, .., last]) if last - first + 1 == patches.len() as u64 => {
            vec![format!("graph:{first}-{last}=launch")]
        }
        _ => patches.to_vec(),
    }
}

/// The statistic of every step of a request, A's and B's.
fn series(report: &DiffReport, request: u32) -> Vec<(Option<f64>, Option<f64>)> {
    let steps = report.steps.iter().filter(|s| s.request == request && s.kind == "step");
    let numbers = steps.filter_map(|s| s.stats.first());
    numbers.map(|stat| (stat.a.map(|n| n.to_f64()), stat.b.map(|n| n.to_f64()))).collect()
}

fn places(report: &DiffReport) -> Places {
    let (a, b): (Vec<_>, Vec<_>) = series(report, 1).into_iter().unzip();
    let place = |series: &[Option<f64>]| {
        let own = series.get(1).copied().flatten().unwrap_or(f64::NAN);
        1 + series.iter().flatten().filter(|&&other| other < own).count()
    };
    Places { a: place(&a), b: place(&b), of: a.len() }
}

/// What the table says about step 2.
fn outlier(places: Places) -> String {
    let (a, b, of) = (places.a - 1, places.b - 1, places.of);
    let lower = match a {
        0 => "none is".to_owned(),
        a => format!("{a} are"),
    };
    let figures = format!("of the {of} means of its run {lower} lower than that of step 2; in B {b} are");
    match (a, b) {
        (0, 1..) => format!(
            "As in the report it is the eager profile (A) whose step 2 is the odd one of its own run, if by less: \
             {figures}. With other sentences it can lie among them: a mean can point at a step, only bits decide."
        ),
        _ => format!(
            "Unlike in the report step 2 is not the odd one of A: {figures}. A mean can point at a step, only bits decide."
        ),
    }
}

fn second_request(pair: &Pair<'_>, report: &DiffReport, out: &mut Output) -> Result<SecondRequest, Failure> {
    let same_samples = report.waveforms.iter().any(|w| w.request == 2 && w.identical);
    let series = series(report, 2);
    let same =
        series.iter().filter(|(a, b)| a.is_some() && a.map(f64::to_bits) == b.map(f64::to_bits)).count();
    let samples = if same_samples { "the same samples" } else { "other samples" };
    said(
        out,
        &format!(
            "It meets graphs that are there already. Its sound is {samples}; the mean of the LM logits has the same \
             bits in {same} of its {} steps. What still differs at its step 2:",
            series.len()
        ),
    )?;
    let unpatched = pair.step(out, "2:2", &[])?;
    let differing = unpatched.outputs.iter().filter(|o| o.equals_other == Some(false));
    let patches: Vec<String> = differing.map(|o| format!("{}=other", o.buffer)).collect();
    if patches.is_empty() {
        return Ok(SecondRequest {
            same_samples,
            steps: series.len(),
            same_statistic: same,
            patched: step::execute(pair.a, Some(pair.b), "2:2", &[], &pair.weights)?,
            unpatched,
        });
    }
    let patched = pair.step(out, "2:2", &patches)?;
    let unread = patched.patches.iter().all(|p| p.no_effect.is_some());
    said(
        out,
        match unread && patched.equals_other == Some(true) {
            true => {
                "That is what request 1 left behind, and nothing reads it: request 2 has no divergence of its own."
            }
            false => "The second request differs by more than what request 1 left behind.",
        },
    )?;
    Ok(SecondRequest { same_samples, steps: series.len(), same_statistic: same, unpatched, patched })
}

fn next(a: &Path, b: &Path) -> Vec<String> {
    let (a, b) = (a.display(), b.display());
    vec![
        format!("twinstep tui {a} {b}"),
        format!("twinstep log {a} --at 2"),
        format!("twinstep print {a} 'layer.0.mlp_out[0,0-3]' --at 2"),
        format!("twinstep history {a} layer.0.mlp_out --at 2 --after"),
        format!("twinstep check --explain {FAULT}"),
        format!("twinstep explain {a} {b} --json"),
        format!("twinstep verify {a} --replay"),
        "twinstep demo --blind".to_owned(),
    ]
}
