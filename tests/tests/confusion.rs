//! What `explain` says of every planted fault and of clean pairs: right, wrong, proven or unknown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use twinstep_recorder::{About, Fault, Mode, RecordOptions, WeightsType};
use twinstep_replayer::{ExplainReport, Kind, StepState, Verdict, diff};
use twinstep_tests::in_memory::{
    GREEDY, SAMPLED, explain_pair, findings, known_place, options_of, speak, stands_for, two_at_a_time,
};
use twinstep_traces::Trace;

const SHORT: [&str; 5] = [
    "good night.",
    "it is late.",
    "thank you very much.",
    "where is the train station?",
    "we will meet you tomorrow morning.",
];
/// Prompts of 50 to 63 tokens: a few steps go beyond 64 positions.
const MIDDLE: [&str; 5] = [
    "the weather is nice today and the sun is shining.",
    "please close the door when you leave the house.",
    "my brother works in a small office near the river.",
    "we had fresh bread and some cheese for breakfast today.",
    "the children are playing in the garden behind the school.",
];
/// Near the longest piece: a hundred steps go beyond 192 positions.
const LONG: [&str; 5] = [
    "they have been working on this problem for many years and the company will announce it now.",
    "the old man walked slowly along the river while his dog was looking for something in the grass.",
    "if you want to catch the early train tomorrow you should go to bed now and set your alarm clock.",
    "my sister and her two children will come to visit us next week and stay until the end of may.",
    "last summer we rented a little house by the sea and went swimming every morning before breakfast.",
];
/// Two requests, the second shorter than the first.
const TWO: [&str; 5] = [
    "thank you very much. good night.",
    "where is the train station? it is late.",
    "we will meet you tomorrow morning. good morning.",
    "please close the door when you leave. thank you.",
    "the weather is nice today. see you soon.",
];

/// One planted fault on one text.
struct Case {
    fault: Fault,
    text: &'static str,
    sampled: bool,
    /// Whether the run with the fault is A.
    first: bool,
}

fn texts(fault: Fault) -> [&'static str; 5] {
    match fault {
        Fault::WorkspaceCapped => MIDDLE,
        Fault::ReductionOrder => LONG,
        _ if fault.about().needs.requests == 2 => TWO,
        _ => SHORT,
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &fault in Fault::ALL {
        for (i, text) in texts(fault).into_iter().enumerate() {
            for sampled in [false, true] {
                for first in [true, false] {
                    let shows = sampled || !fault.about().needs.sampled;
                    if shows && (first || i == 0) {
                        cases.push(Case { fault, text, sampled, first });
                    }
                }
            }
        }
    }
    cases
}

fn options(case: &Case) -> RecordOptions {
    let mut options = options_of(case.text);
    let needs = case.fault.about().needs;
    options.rows = needs.batch as usize;
    options.sampling = if case.sampled { SAMPLED } else { GREEDY };
    options.max_steps = Some(known_place(case.fault, case.text).map_or(8, |(_, step)| step) + 2);
    options
}

/// Both runs, A first.
fn runs(case: &Case) -> [Trace; 2] {
    let mut options = options(case);
    let needs = case.fault.about().needs;
    // A mistake in both modes is in both runs.
    options.faults = if needs.mode.is_none() { vec![case.fault] } else { Vec::new() };
    let eager = speak(&options);
    options.faults = vec![case.fault];
    options.mode = needs.mode.unwrap_or(Mode::Graph);
    let other = speak(&options);
    if case.first { [other, eager] } else { [eager, other] }
}

/// What is wrong with a verdict; nothing where it is right.
fn mistakes(case: &Case, [a, b]: &[Trace; 2], report: &ExplainReport) -> Vec<String> {
    let About { kind, side, buffers, arguments, .. } = case.fault.about();
    let verdict = &report.verdict;
    let mut wrong = Vec::new();
    if verdict.kind.name() != kind {
        wrong.push(format!("kind {}", verdict.kind));
    }
    let side = match (kind, side) {
        // Neither order of additions is the wrong one.
        ("rounding", _) => None,
        (_, "both") => Some("both"),
        _ => Some(if case.first { "a" } else { "b" }),
    };
    if verdict.side != side {
        wrong.push(format!("side {:?}", verdict.side));
    }
    let place = (verdict.request.unwrap_or(0), verdict.step.unwrap_or(0));
    let compared = diff(a, b, &[]).expect("comparable");
    let diverged = compared.steps.iter().find(|s| s.state == StepState::Diverged);
    let diverged = diverged.map(|s| (s.request, s.step));
    for expected in [known_place(case.fault, case.text), diverged].into_iter().flatten() {
        if place != expected {
            wrong.push(format!("at {}:{} for {}:{}", place.0, place.1, expected.0, expected.1));
        }
    }
    let named = |buffer: &&String| buffers.iter().any(|pattern| stands_for(pattern, buffer));
    let right = verdict.buffers.iter().filter(named).count();
    // One buffer more than those listed may be concerned: `text` beside `x` where a row is not embedded.
    if !buffers.is_empty() && (right == 0 || verdict.buffers.len() > right + 1) {
        wrong.push(format!("buffers {:?} for {buffers:?}", verdict.buffers));
    }
    if !arguments.iter().all(|name| verdict.arguments.iter().any(|argument| argument == name)) {
        wrong.push(format!("arguments {:?} for {arguments:?}", verdict.arguments));
    }
    let others: Vec<_> = report.causes.iter().filter(|c| c.kind.name() != kind).collect();
    for cause in others {
        wrong.push(format!("a cause more: {} at {}:{}", cause.kind, cause.request, cause.step));
    }
    wrong
}

struct Outcome {
    verdict: Verdict,
    mistakes: Vec<String>,
}

/// Rows are faults, columns the kinds that were named: how often, and how many of these proven.
fn matrix(cases: &[Case], outcomes: &[Outcome]) -> String {
    let mut cells: BTreeMap<(usize, Kind), (usize, usize)> = BTreeMap::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        let row = Fault::ALL.iter().position(|f| *f == case.fault).expect("one of all");
        let cell = cells.entry((row, outcome.verdict.kind)).or_default();
        *cell = (cell.0 + 1, cell.1 + usize::from(outcome.verdict.proven));
    }
    let mut text = String::from("fault                kind expected          named (proven)\n");
    for (row, fault) in Fault::ALL.iter().enumerate() {
        let named: Vec<String> = cells
            .iter()
            .filter(|((at, _), _)| *at == row)
            .map(|((_, kind), (count, proven))| format!("{kind} {count} ({proven})"))
            .collect();
        writeln!(text, "{:<20} {:<22} {}", fault.name(), fault.about().kind, named.join(", ")).unwrap();
    }
    text
}

#[test]
fn every_fault_is_named_and_none_wrongly_proven() {
    let cases = cases();
    let outcomes = two_at_a_time(&cases, |case| {
        let runs = runs(case);
        let report = explain_pair(&runs[0], &runs[1]);
        let mistakes = mistakes(case, &runs, &report);
        Outcome { verdict: report.verdict, mistakes }
    });
    println!("{}", matrix(&cases, &outcomes));
    let mut lines = Vec::new();
    let (mut right, mut unknown, mut wrongly_proven) = (0, 0, 0);
    for (case, outcome) in cases.iter().zip(&outcomes) {
        let verdict = &outcome.verdict;
        right += usize::from(outcome.mistakes.is_empty());
        unknown += usize::from(verdict.kind == Kind::Unknown);
        wrongly_proven += usize::from(!outcome.mistakes.is_empty() && verdict.proven);
        if !outcome.mistakes.is_empty() {
            lines.push(format!(
                "{} on `{}`, sampled {}, A has it {}, proven {}: {}\n    {}",
                case.fault.name(),
                case.text,
                case.sampled,
                case.first,
                verdict.proven,
                outcome.mistakes.join("; "),
                verdict.text
            ));
        }
    }
    println!("{right} of {} right, {unknown} unknown, {wrongly_proven} wrong with proof", cases.len());
    assert!(cases.len() >= 24 * 10, "{} cases", cases.len());
    assert!(right * 100 >= cases.len() * 95, "{right} of {} right:\n{}", cases.len(), lines.join("\n"));
    assert_eq!(wrongly_proven, 0, "{}", lines.join("\n"));
}

/// Modes, batches, texts of one request and of two, greedy and sampled, f16 and bf16.
#[test]
fn clean_pairs_are_never_accused() {
    let mut jobs = Vec::new();
    for text in SHORT.into_iter().chain([TWO[0]]) {
        for rows in [1, 2, 4] {
            for sampling in [GREEDY, SAMPLED] {
                for weights in [WeightsType::F16, WeightsType::Bf16] {
                    let mut options = options_of(text);
                    (options.rows, options.sampling, options.weights) = (rows, sampling, weights);
                    options.max_steps = Some(6);
                    jobs.push(options);
                }
            }
        }
    }
    let pairs: usize = two_at_a_time(&jobs, |options| {
        let runs = [Mode::Eager, Mode::Graph, Mode::Piecewise].map(|mode| {
            let run = speak(&RecordOptions { mode, ..options.clone() });
            assert_eq!(findings(&run).unwrap(), [], "{mode:?} {options:?}");
            run
        });
        let pairs = [(0, 1), (2, 0), (1, 2)];
        for (a, b) in pairs {
            let report = explain_pair(&runs[a], &runs[b]);
            let verdict = &report.verdict;
            assert_eq!(
                (verdict.kind, verdict.side),
                (Kind::Identical, None),
                "{a} {b} {options:?}: {report:?}"
            );
            assert!(report.causes.is_empty() && report.findings.is_empty(), "{options:?}: {report:?}");
        }
        pairs.len()
    })
    .into_iter()
    .sum();
    assert!(pairs >= 100, "{pairs}");
}
