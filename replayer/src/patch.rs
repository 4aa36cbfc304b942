//! Patches: changes to a step's inputs, as text.
//!
//! | patch | what it changes |
//! | --- | --- |
//! | `last_codes=other`, `hidden[0,17]=1.5`, ... | state before the step, see [`state`] |
//! | `node:14.seq_len=other`, `=5` | a scalar argument of a launch |
//! | `node:14.codes=last_codes@1`, `=other` | what an operand of a launch is bound to |
//! | `node:1.codes.shape=other` | which part of its buffer an operand covers; the buffer stays |
//! | `bind:last_codes@0=last_codes@1` | every operand of the step that is bound to the one |
//! | `launch:14=skip` | a launch that does not run |
//! | `launch:other:14=insert` | a launch of the other run that runs too, in its place there |
//! | `graph:3=launch`, `graph:0-5=launch` | graphs captured in the step that are launched as well |
//! | `graph:0=graph:1` | another captured graph launched in place of one |
//! | `write:seq_lens=drop`, `=other` | the host's writes to a buffer in this step |
//! | `memory:delay_count=own` | a buffer that shares memory with another gets its own |
//!
//! A launch is named by its number in the step (as `log` shows it), several by numbers and inclusive ranges
//! (`13-17,30`), by their label, their op, or `*`. With `=other` those that have no such difference are left
//! alone.

use crate::ReplayError;
use crate::recorded::RecordedStep;

mod state;

pub(crate) use state::StatePatch;

/// Which launches of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Select {
    /// All.
    All,
    /// By number, in inclusive ranges.
    Numbers(Vec<(usize, usize)>),
    /// By label or op.
    Name(String),
}

impl Select {
    fn parse(text: &str) -> Select {
        match text {
            "*" => Select::All,
            _ => ranges(text).map_or_else(|| Select::Name(text.to_owned()), Select::Numbers),
        }
    }

    /// The numbers of the launches that are meant.
    pub(crate) fn of(&self, step: &RecordedStep<'_>) -> Vec<usize> {
        let meant = |(n, launch): (usize, &crate::program::StepLaunch)| {
            let hit = match self {
                Select::All => true,
                Select::Numbers(ranges) => ranges.iter().any(|r| (r.0..=r.1).contains(&n)),
                Select::Name(name) => launch.record.label == *name || launch.record.op == *name,
            };
            hit.then_some(n)
        };
        step.launches.iter().enumerate().filter_map(meant).collect()
    }
}

/// Numbers and inclusive ranges: `13-17,30`.
fn ranges(text: &str) -> Option<Vec<(usize, usize)>> {
    let range = |part: &str| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (a, b) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        (a <= b).then_some((a, b))
    };
    text.split(',').map(range).collect()
}

/// The same patches with numbered ones of a kind written as one.
pub(crate) fn compressed(patches: &[String]) -> Vec<String> {
    let mut numbered: Vec<((String, String), Vec<usize>)> = Vec::new();
    let mut rest = Vec::new();
    for patch in patches {
        let parts = patch.split_once('=').and_then(|(left, right)| {
            let (kind, number) = left.rsplit_once(':')?;
            let joins = matches!(
                (kind, right),
                ("launch", "skip") | ("launch:other", "insert") | ("graph", "launch")
            );
            Some(((kind.to_owned(), right.to_owned()), number.parse().ok().filter(|_| joins)?))
        });
        match parts {
            Some((key, number)) => match numbered.iter_mut().find(|(known, _)| *known == key) {
                Some((_, numbers)) => numbers.push(number),
                None => numbered.push((key, vec![number])),
            },
            None => rest.push(patch.clone()),
        }
    }
    let joined = numbered.into_iter().map(|((kind, what), mut numbers)| {
        numbers.sort_unstable();
        numbers.dedup();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for n in numbers {
            match runs.last_mut() {
                Some(run) if run.1 + 1 == n => run.1 = n,
                _ => runs.push((n, n)),
            }
        }
        let run = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
        format!("{kind}:{}={what}", runs.iter().map(run).collect::<Vec<_>>().join(","))
    });
    joined.chain(rest).collect()
}

/// What a patch changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    /// State before the step.
    State(StatePatch),
    /// An argument of launches: a scalar, or what an operand is bound to.
    Argument { launches: Select, argument: String, value: String },
    /// The part of its buffer that an operand of launches covers is the other run's.
    Shape { launches: Select, operand: String },
    /// Operands bound to one buffer are bound to another.
    Bind { from: String, to: String },
    /// Launches that do not run.
    Skip(Select),
    /// Launches of the other run.
    Insert(Select),
    /// Captured graphs that are launched, in inclusive ranges of their numbers.
    Launch(Vec<(usize, usize)>),
    /// Another graph in place of one.
    Swap(u32, u32),
    /// The host's writes to a buffer: dropped, or those of the other run.
    Writes { buffer: String, drop: bool },
    /// Memory of its own for a buffer.
    Own(String),
}

/// One patch.
#[derive(Debug, Clone)]
pub struct Patch {
    /// As given.
    pub text: String,
    pub(crate) target: Target,
}

/// Characters of a patch that an error repeats.
const SHOWN_MAX: usize = 200;

/// An error that names the patch.
pub(crate) fn wrong(patch: &str, what: impl Into<String>) -> ReplayError {
    let mut shown: String = patch.chars().take(SHOWN_MAX).collect();
    if shown.len() < patch.len() {
        shown.push_str("...");
    }
    ReplayError::Patch { patch: shown, what: what.into() }
}

const FORM: &str = "write BUFFER=other, BUFFER[0,17]=1.5, node:14.ARGUMENT=other, bind:BUFFER=BUFFER, launch:14=skip, \
                    launch:other:14=insert, graph:3=launch, write:BUFFER=drop or memory:BUFFER=own";

impl Patch {
    /// Reads a patch as names resolve at `step`.
    ///
    /// # Errors
    /// [`ReplayError::Patch`] or [`ReplayError::Selection`] with what would be accepted.
    pub(crate) fn parse(step: &RecordedStep<'_>, text: &str) -> Result<Patch, ReplayError> {
        let (left, right) = text.split_once('=').ok_or_else(|| wrong(text, FORM))?;
        let (left, right) = (left.trim(), right.trim());
        if left.is_empty() || right.is_empty() {
            return Err(wrong(text, FORM));
        }
        let graph = |text: &str, from: &str| {
            from.parse::<u32>().map_err(|_| wrong(text, format!("`{from}` is no number of a graph")))
        };
        let target = match left.split_once(':') {
            Some(("node", rest)) => {
                let (select, argument) = rest.rsplit_once('.').ok_or_else(|| {
                    wrong(text, "write node:14.seq_len=other or node:14.codes=last_codes@1")
                })?;
                match (argument, select.rsplit_once('.')) {
                    ("shape", Some((select, operand))) if right == "other" => {
                        Target::Shape { launches: Select::parse(select), operand: operand.to_owned() }
                    }
                    ("shape", _) => return Err(wrong(text, "write node:1.codes.shape=other")),
                    _ => Target::Argument {
                        launches: Select::parse(select),
                        argument: argument.to_owned(),
                        value: right.to_owned(),
                    },
                }
            }
            Some(("bind", from)) => Target::Bind { from: from.to_owned(), to: right.to_owned() },
            Some(("launch", rest)) => match (rest.strip_prefix("other:"), right) {
                (None, "skip") => Target::Skip(Select::parse(rest)),
                (Some(rest), "insert") => Target::Insert(Select::parse(rest)),
                _ => return Err(wrong(text, "write launch:14=skip or launch:other:14=insert")),
            },
            Some(("graph", id)) => match right.strip_prefix("graph:") {
                Some(other) => Target::Swap(graph(text, id)?, graph(text, other)?),
                None if right == "launch" => {
                    let graphs = ranges(id)
                        .ok_or_else(|| wrong(text, format!("`{id}` names no graphs: write 3, or 0-5")))?;
                    Target::Launch(graphs)
                }
                None => return Err(wrong(text, "write graph:3=launch or graph:0=graph:1")),
            },
            Some(("write", buffer)) => match right {
                "drop" | "other" => Target::Writes { buffer: buffer.to_owned(), drop: right == "drop" },
                _ => return Err(wrong(text, "write write:seq_lens=drop or write:seq_lens=other")),
            },
            Some(("memory", buffer)) if right == "own" => Target::Own(buffer.to_owned()),
            Some(("memory", _)) => return Err(wrong(text, "write memory:BUFFER=own")),
            _ => Target::State(StatePatch::parse(step.trace(), &step.record, left, right, text)?),
        };
        Ok(Patch { text: text.to_owned(), target })
    }
}
