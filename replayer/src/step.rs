//! Executes one step again, with patches, and compares what comes of it.

use serde::Serialize;
use twinstep_traces::Trace;

use crate::ReplayError;
use crate::align::align;
use crate::at::At;
use crate::comparable::comparable;
use crate::hybrid::{Hybrid, Trail, Watch};
use crate::pairing::Pairing;
use crate::patch::Patch;
use crate::plan::{Origin, Twin};
use crate::recorded::{RecordedStep, Run, State};
use crate::weights::WeightSource;

/// `twinstep.step/1`.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Document type.
    pub schema: &'static str,
    /// Which step.
    pub at: String,
    /// Whether executing the step unpatched gave what was recorded: `equal` or `differs`.
    pub self_check: &'static str,
    /// What was patched.
    pub patches: Vec<PatchReport>,
    /// What the step wrote, compared.
    pub outputs: Vec<OutputReport>,
    /// Whether all outputs that both runs recorded equal the other run's; `None` without one, where nothing
    /// could be compared, or where the self-check differs.
    pub equals_other: Option<bool>,
    /// Buffers that only one side recorded after the step: not compared.
    pub not_compared: Vec<String>,
    /// Launch by launch, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launches: Option<Vec<LaunchReport>>,
}

/// One launch of the step as it was executed, with its patches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaunchReport {
    /// Its number, as in `node:N`; `None` for one that a patch added.
    pub node: Option<usize>,
    /// Its label, or its op.
    pub name: String,
    /// Whether it writes what it wrote without patches; `None` for one that a patch added.
    pub changed: Option<bool>,
    /// Whether it writes what the other run's launch writes; `None` where there is no such launch.
    pub equals_other: Option<bool>,
}

/// One patch and what it did.
#[derive(Debug, Clone, Serialize)]
pub struct PatchReport {
    /// As given.
    pub patch: String,
    /// Bytes that are different from before.
    pub bytes_changed: u64,
    /// Launches that read patched bytes before anything wrote them.
    pub read_by: Vec<String>,
    /// Why it proves nothing, where that is so.
    pub no_effect: Option<String>,
}

/// One buffer after the step.
#[derive(Debug, Clone, Serialize)]
pub struct OutputReport {
    /// Name with generation.
    pub buffer: String,
    /// Whether it differs from the recording of the same run.
    pub changed: bool,
    /// Whether it equals the other run's; `None` without one.
    pub equals_other: Option<bool>,
}

/// Executes step `at` of `trace` again from its recorded state: once unpatched as a check of this very
/// machine, then with the patches.
///
/// # Errors
/// [`ReplayError`] where the step does not exist, cannot be executed, or a patch cannot be made.
pub fn step(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    weights: &dyn WeightSource,
) -> Result<StepReport, ReplayError> {
    run(trace, other, at, patches, weights, Watch::Nothing)
}

/// As [`step`], and compares launch by launch: [`StepReport::launches`].
///
/// # Errors
/// As for [`step`].
pub fn step_into(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    weights: &dyn WeightSource,
) -> Result<StepReport, ReplayError> {
    run(trace, other, at, patches, weights, Watch::Trail)
}

fn run(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    weights: &dyn WeightSource,
    watch: Watch,
) -> Result<StepReport, ReplayError> {
    on_step(trace, other, at, patches, |step, twin, patches| execute(step, twin, at, patches, weights, watch))
}

/// Does something with a step, the other run's same step, and patches of it.
///
/// # Errors
/// [`ReplayError::NotComparable`] for runs that have nothing to say about each other, [`ReplayError::Place`] where
/// one of them has no such step, [`ReplayError::Patch`] for a patch of another form; and what `what` gives.
pub(crate) fn on_step<T>(
    trace: &Trace,
    other: Option<&Trace>,
    at: At,
    patches: &[String],
    what: impl FnOnce(&RecordedStep<'_>, Option<&Twin<'_>>, &[Patch]) -> Result<T, ReplayError>,
) -> Result<T, ReplayError> {
    let run = Run::new(trace)?;
    let index = run.find(at)?;
    if let Some(other) = other {
        comparable(trace, other)?;
    }
    let step = run.step(index)?;
    let patches = patches.iter().map(|text| Patch::parse(&step, text)).collect::<Result<Vec<_>, _>>()?;
    let other = other.map(Run::new).transpose()?;
    let theirs = other.as_ref().map(|run| run.find(at).and_then(|index| run.step(index))).transpose()?;
    let both = theirs.as_ref().map(|theirs| {
        let mine = (trace, &run.lifetimes, index);
        let pairing = Pairing::at(mine, (theirs.trace(), &theirs.run.lifetimes, theirs.index));
        let alignment = align((trace, &step.launches), (theirs.trace(), &theirs.launches));
        (theirs, pairing, alignment)
    });
    let twin = both.as_ref().map(|(step, pairing, alignment)| Twin { step, pairing, alignment });
    what(&step, twin.as_ref(), &patches)
}

fn execute(
    step: &RecordedStep<'_>,
    twin: Option<&Twin<'_>>,
    at: At,
    patches: &[Patch],
    weights: &dyn WeightSource,
    watch: Watch,
) -> Result<StepReport, ReplayError> {
    let mut hybrid = Hybrid::new(step.run, weights)?;
    let plain = hybrid.execute(step, twin, &[], None, watch)?;
    let equal = plain.state.iter().all(|(id, bytes)| step.after.get(id).is_none_or(|after| after == bytes));
    let self_check = if equal { "equal" } else { "differs" };
    let recorded = plain.trail.clone();
    let outcome = match patches.is_empty() {
        true => plain,
        false => hybrid.execute(step, twin, patches, None, watch)?,
    };
    let (outputs, not_compared) = compare(step, twin, &outcome.state);
    let launches = match watch {
        Watch::Trail => Some(launches(step, twin, (&recorded, &outcome.trail), weights)?),
        _ => None,
    };
    // Nothing compared, or a machine that does not reproduce the recording, proves nothing.
    let compared = outputs.iter().any(|o| o.equals_other.is_some()) && self_check == "equal";
    let equals_other =
        twin.filter(|_| compared).map(|_| outputs.iter().all(|o| o.equals_other != Some(false)));
    Ok(StepReport {
        schema: "twinstep.step/1",
        at: at.to_string(),
        self_check,
        patches: outcome.reports,
        outputs,
        equals_other,
        not_compared,
        launches,
    })
}

/// Every launch against the unpatched step and against the other run's, which is executed for it.
fn launches(
    step: &RecordedStep<'_>,
    twin: Option<&Twin<'_>>,
    (recorded, patched): (&Trail, &Trail),
    weights: &dyn WeightSource,
) -> Result<Vec<LaunchReport>, ReplayError> {
    let theirs = match twin {
        Some(twin) => {
            Hybrid::new(twin.step.run, weights)?.execute(twin.step, None, &[], None, Watch::Trail)?.trail
        }
        None => Trail::new(),
    };
    let written = |trail: &Trail, number: usize| {
        trail.iter().find(|(origin, _)| *origin == Origin::Own(number)).map(|(_, hashes)| hashes.clone())
    };
    let mut reports = Vec::new();
    for (origin, hashes) in patched {
        let twin_of = |n: usize| {
            let pair = twin?.alignment.pairs.iter().find(|pair| pair.0 == n)?;
            written(&theirs, pair.1).map(|theirs| theirs == *hashes)
        };
        reports.push(match *origin {
            Origin::Own(n) => LaunchReport {
                node: Some(n),
                name: step.launches[n].name().to_owned(),
                changed: written(recorded, n).map(|before| before != *hashes),
                equals_other: twin_of(n),
            },
            Origin::Other(n) => LaunchReport {
                node: None,
                name: twin.map_or(String::new(), |twin| twin.step.launches[n].name().to_owned()),
                changed: None,
                equals_other: written(&theirs, n).map(|theirs| theirs == *hashes),
            },
            Origin::Graph(graph, k) => LaunchReport {
                node: None,
                name: format!("graph {graph}, node {k}"),
                changed: None,
                equals_other: None,
            },
        });
    }
    Ok(reports)
}

/// Every output against the recording and against the other run.
fn compare(
    step: &RecordedStep<'_>,
    twin: Option<&Twin<'_>>,
    outcome: &State,
) -> (Vec<OutputReport>, Vec<String>) {
    let mut outputs = Vec::new();
    let mut not_compared = Vec::new();
    for (&id, bytes) in outcome {
        let buffer = step.buffer_name(id);
        let changed = step.after.get(&id).is_some_and(|recorded| recorded != bytes);
        let theirs = twin.and_then(|twin| twin.step.after.get(&twin.pairing.of(id)?));
        if twin.is_some() && theirs.is_none() {
            not_compared.push(buffer.clone());
        }
        outputs.push(OutputReport { buffer, changed, equals_other: theirs.map(|theirs| theirs == bytes) });
    }
    (outputs, not_compared)
}
