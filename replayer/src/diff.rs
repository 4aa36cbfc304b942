//! Where two runs first differ, and how it goes on.

mod computed;
mod ended;
mod first;
mod headline;
mod one_sided;
mod rows;
mod touched;
mod twins;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use twinstep_traces::{BufferId, PointRecord, RunRecord, SnapshotId, StepKind, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find, find_index, place};
use crate::comparable::comparable;
use crate::cursor::HashCursor;
use crate::figure::Figure;
use crate::foreign::is_foreign;
use crate::lifetime::Lifetimes;
use crate::noise::{ControlReport, Noise};
use crate::pairing::Pairing;
use crate::points::{PointKey, by_name};
use crate::program::{first_writer, launches};
use crate::requests::{Requests, same_rank};
use crate::selection::resolve;
use crate::statistic::StatisticOf;
use crate::waveform::{self, WaveformReport};
use computed::by_dataflow;
pub(crate) use ended::{cut_off, endings};
pub use first::{Element, FirstDifference, OtherForm};
use first::{first_element, forms};
pub use one_sided::OneSided;
use one_sided::OneSidedBuffers;
pub(crate) use touched::{Budget, Touched};
pub(crate) use twins::CommonNames;

/// Steps of another engine whose differing buffers are put in order: what follows is a consequence.
const ORDERED_MAX: usize = 64;

/// `twinstep.diff/1`.
#[derive(Debug, Clone, Serialize)]
pub struct DiffReport {
    /// Document type.
    pub schema: &'static str,
    /// Whether both traces hold the same steps with the same bits at every common point, and have such a point.
    pub identical: bool,
    /// The first difference.
    pub first: Option<FirstDifference>,
    /// All steps of both.
    pub steps: Vec<StepDiff>,
    /// The sound of each request that both have.
    pub waveforms: Vec<WaveformReport>,
    /// Points that only one side has.
    pub unmatched_points: Vec<String>,
    /// Buffers of another engine's runs that only one side has at a common point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_sided: Vec<OneSided>,
    /// The first buffer of another shape or type where no element could be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_form: Option<OtherForm>,
    /// Buffers of both that never hold an element: there was nothing to compare.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<String>,
    /// What is to be known of the comparison: other versions of what was run, and what was not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What a control run tells, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlReport>,
}

impl DiffReport {
    /// Whether nothing differs, or nothing beyond what the control run differs in as well.
    pub fn same(&self) -> bool {
        let within = |s: &StepDiff| {
            matches!(s.state, StepState::Identical | StepState::Noise | StepState::NotCompared)
        };
        self.identical || self.control.is_some() && self.compared() > 0 && self.steps.iter().all(within)
    }

    /// Steps of which anything was compared.
    pub fn compared(&self) -> usize {
        let compared =
            |s: &&StepDiff| matches!(s.state, StepState::Identical | StepState::Noise | StepState::Diverged);
        self.steps.iter().filter(|s| s.kind == "step").filter(compared).count()
    }
}

/// How one step compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Same bits at every common point.
    Identical,
    /// Different bits, all within what the control run shows.
    Noise,
    /// Different bits.
    Diverged,
    /// After the first codes that differ the runs say different things; not judged.
    Forked,
    /// In both, without a buffer that both have at a common point.
    NotCompared,
    /// Only in A.
    OnlyA,
    /// Only in B.
    OnlyB,
}

/// One step of both runs.
#[derive(Debug, Clone, Serialize)]
pub struct StepDiff {
    /// Request, counted from 1.
    pub request: u32,
    /// Step within it; the codec section counts on after the last step.
    pub step: u32,
    /// `step`, or `codec` for the section after a request's last step.
    pub kind: &'static str,
    /// How it compares.
    pub state: StepState,
    /// Buffers that differ at the step's first point with a difference, the one written first in front.
    pub differing: Vec<String>,
    /// The chosen statistics after the step.
    pub stats: Vec<StepStatistic>,
}

/// One statistic on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct StepStatistic {
    /// `lm_logits:mean`.
    pub name: String,
    /// In A.
    pub a: Option<Figure>,
    /// In B.
    pub b: Option<Figure>,
}

/// The snapshot of a step's point.
pub(crate) fn snapshot_of(step: &StepRecord, point: &str) -> Option<SnapshotId> {
    step.points.iter().find(|p| p.point == point).map(|p| p.snapshot)
}

/// Compares two runs at every point that both have. In runs of another engine, what memory holds before the
/// first step of a request is left over from something else, and is not compared.
///
/// # Errors
/// [`ReplayError::NotComparable`]; [`ReplayError::Selection`] for an unknown buffer of a statistic.
pub fn diff(a: &Trace, b: &Trace, statistics: &[StatisticOf]) -> Result<DiffReport, ReplayError> {
    diff_with(a, b, statistics, None)
}

/// As [`diff`], with a control run: another run of A's mode, whose differences from A are noise.
///
/// # Errors
/// As [`diff`]; [`ReplayError::NotComparable`] also for a control that does not fit A.
pub fn diff_with(
    a: &Trace,
    b: &Trace,
    statistics: &[StatisticOf],
    control: Option<&Trace>,
) -> Result<DiffReport, ReplayError> {
    comparable(a, b)?;
    same_rank(a, b)?;
    let noise = control.map(|control| Noise::of(a, b, control)).transpose()?;
    let requests = Requests::of(a, b);
    let mut report = DiffReport {
        schema: "twinstep.diff/1",
        identical: true,
        first: None,
        steps: Vec::new(),
        waveforms: waveform::compare(a, b)?,
        unmatched_points: Vec::new(),
        one_sided: Vec::new(),
        other_form: None,
        empty: Vec::new(),
        notes: other_versions(a.run(), b.run()),
        control: noise.as_ref().map(Noise::report),
    };
    let mut forked = None;
    let (mut cursor_a, mut cursor_b) = (HashCursor::new(a), HashCursor::new(b));
    let (lives_a, lives_b) = (Lifetimes::of(a)?, Lifetimes::of(b)?);
    let mut budgets = [Budget::new(), Budget::new()];
    let mut one_sided = OneSidedBuffers::default();
    let names = CommonNames::of(a, b);
    let mut twins = Vec::new();
    for index in 0..a.step_count() {
        let step = a.step(index)?;
        let Some(at) = place(&step) else { continue };
        if forked.is_some_and(|request| request != step.request) {
            forked = None;
        }
        let twin_index = find_index(b, requests.of_a(at)).ok();
        twins.push(twin_index);
        let Some(twin_index) = twin_index else {
            push(
                &mut report,
                &step,
                StepState::OnlyA,
                Vec::new(),
                stats(Some((a, &step)), None, statistics)?,
            );
            continue;
        };
        let twin = b.step(twin_index)?;
        let both = stats(Some((a, &step)), Some((b, &twin)), statistics)?;
        if forked.is_some() {
            push(&mut report, &step, StepState::Forked, Vec::new(), both);
            continue;
        }
        let pairing = Pairing::at((a, &lives_a, index), (b, &lives_b, twin_index));
        let noise = noise.as_ref().map(|noise| (noise, index));
        let [mine, theirs] = &mut budgets;
        let touched = Touched::of(a, &step, mine)?.zip(Touched::of(b, &twin, theirs)?);
        let (state, differing) = compare_step(
            (a, &step, &mut cursor_a),
            (b, &twin, &mut cursor_b),
            (&pairing, &names),
            touched.as_ref(),
            noise,
            (&mut report, &mut one_sided),
        )?;
        if state == StepState::Diverged && codes_differ((a, &step), (b, &twin))? {
            forked = Some(step.request);
        }
        push(&mut report, &step, state, differing, both);
    }
    let mut alone = Vec::new();
    for index in 0..b.step_count() {
        let step = b.step(index)?;
        let Some(at) = place(&step) else { continue };
        if find(a, requests.of_b(at)).is_err() {
            let stats = stats(None, Some((b, &step)), statistics)?;
            alone.push((index, row(&step, StepState::OnlyB, Vec::new(), stats)));
        }
    }
    report.steps = rows::merged(twins.into_iter().zip(report.steps).collect(), alone);
    if budgets.iter().any(Budget::is_spent) {
        report.notes.push(
            "what first steps of requests were given is compared whole: there is too much in them to tell what is left over"
                .to_owned(),
        );
    }
    report.notes.extend(renumbered(a.run(), b.run()));
    for (trace, name) in [(a, "A"), (b, "B")] {
        report.notes.extend(endings(trace, name)?);
    }
    report.notes.extend(crate::original_types::other_types(a, b)?);
    report.empty = one_sided.empty();
    if is_foreign(a.run()) {
        report.one_sided = one_sided.report();
    }
    report.identical =
        report.steps.iter().all(|s| matches!(s.state, StepState::Identical | StepState::NotCompared))
            && report.compared() > 0
            && report.waveforms.iter().all(|w| w.identical);
    report.steps.retain(|s| s.step > 0);
    Ok(report)
}

/// Dumps whose steps count from 0 are numbered anew when they are imported; by itself, one run may be and the other not.
fn renumbered(a: &RunRecord, b: &RunRecord) -> Option<String> {
    let shift = |run: &RunRecord| {
        let imported = run.notes.iter().any(|(key, _)| key == "source.folder");
        let note = run.notes.iter().find(|(key, _)| key == "source.shift");
        imported.then(|| note.map_or("0".to_owned(), |(_, shift)| shift.clone()))
    };
    let (mine, theirs) = (shift(a)?, shift(b)?);
    (mine != theirs).then(|| {
        format!(
            "{mine} was added to the numbers of A's steps when it was imported, {theirs} to B's: step N may be another \
             step of the two dumps; one `twinstep import --eager DIR --graph DIR` numbers both alike"
        )
    })
}

/// What two runs of another engine were made with and differs: the same code may round differently then.
pub(crate) fn other_versions(a: &RunRecord, b: &RunRecord) -> Vec<String> {
    if !is_foreign(a) {
        return Vec::new();
    }
    let versions = |run: &RunRecord| {
        let note = run.notes.iter().find(|(key, _)| key == "process.versions");
        note.map_or(String::new(), |(_, versions)| versions.clone())
    };
    let all = [
        ("libraries", versions(a), versions(b)),
        ("device", a.device.name.clone(), b.device.name.clone()),
        ("driver", a.device.driver.clone(), b.device.driver.clone()),
    ];
    let differ = all.into_iter().filter(|(_, a, b)| a != b && !a.is_empty() && !b.is_empty());
    let said: Vec<String> = differ.map(|(what, a, b)| format!("{what} {a:?} in A, {b:?} in B")).collect();
    match said.is_empty() {
        true => Vec::new(),
        false => {
            vec![format!("recorded with other versions, which may round differently: {}", said.join("; "))]
        }
    }
}

fn push(
    report: &mut DiffReport,
    step: &StepRecord,
    state: StepState,
    differing: Vec<String>,
    stats: Vec<StepStatistic>,
) {
    report.steps.push(row(step, state, differing, stats));
}

fn row(step: &StepRecord, state: StepState, differing: Vec<String>, stats: Vec<StepStatistic>) -> StepDiff {
    let kind = if step.kind == StepKind::Codec { "codec" } else { "step" };
    StepDiff { request: step.request, step: step.step, kind, state, differing, stats }
}

fn stats(
    a: Option<(&Trace, &StepRecord)>,
    b: Option<(&Trace, &StepRecord)>,
    statistics: &[StatisticOf],
) -> Result<Vec<StepStatistic>, ReplayError> {
    let of = |side: Option<(&Trace, &StepRecord)>, statistic: &StatisticOf| {
        let Some((trace, step)) = side else { return Ok(None) };
        let row = trace.requests().iter().find(|r| r.request == step.request).map_or(0, |r| r.row);
        match snapshot_of(step, "step.after").filter(|_| step.kind != StepKind::Codec) {
            Some(after) => statistic.of(trace, step, after, row),
            None => Ok(None),
        }
    };
    statistics.iter().map(|s| Ok(StepStatistic { name: s.to_string(), a: of(a, s)?, b: of(b, s)? })).collect()
}

/// How a step compares, and the buffers that differ at the first common point with a difference: beyond noise,
/// if any does.
fn compare_step(
    (a, step, cursor_a): (&Trace, &StepRecord, &mut HashCursor<'_>),
    (b, twin, cursor_b): (&Trace, &StepRecord, &mut HashCursor<'_>),
    (pairing, names): (&Pairing, &CommonNames),
    touched: Option<&(Touched, Touched)>,
    noise: Option<(&Noise, usize)>,
    (report, one_sided): (&mut DiffReport, &mut OneSidedBuffers),
) -> Result<(StepState, Vec<String>), ReplayError> {
    let name = |id: BufferId| a.buffer(id).map_or(String::new(), |r| r.name.clone());
    let mut noisy: Vec<String> = Vec::new();
    let mut points: BTreeMap<PointKey<'_>, &PointRecord> = by_name(&twin.points).collect();
    let writers = launches(a, step).unwrap_or_default();
    let (at, places) = (At { request: step.request, step: Some(step.step) }, one_sided.places());
    for (key, point) in by_name(&step.points) {
        let Some(twin_point) = points.remove(&key) else {
            report.unmatched_points.push(format!("{}:{} {} only in A", step.request, step.step, point.point));
            continue;
        };
        let other = twin_point.snapshot;
        cursor_a.advance(point.snapshot)?;
        cursor_b.advance(other)?;
        let mut found: Vec<(usize, BufferId, BufferId)> = Vec::new();
        let mut beyond: BTreeMap<BufferId, u64> = BTreeMap::new();
        let mut common = BTreeSet::new();
        let launched = point.position > 0;
        for id in a.covered(point.snapshot)? {
            let Some(twin_id) = names.twin((a, point.snapshot, id), (b, other), pairing)? else {
                one_sided.one(a, id, "a", at);
                continue;
            };
            common.insert(twin_id);
            one_sided.both((a, id), (b, twin_id));
            if is_left_over((a, step, point, id), (b, twin, twin_point, twin_id), touched)? {
                continue;
            }
            if differ((a, point.snapshot, id, cursor_a), (b, other, twin_id, cursor_b))? {
                let (mine, theirs) = ((a, point.snapshot, id), (b, other, twin_id));
                if let Some((noise, index)) = noise {
                    let Some(element) = noise.beyond(step.request, index, mine, theirs)? else {
                        if !noisy.contains(&name(id)) {
                            noisy.push(name(id));
                        }
                        continue;
                    };
                    beyond.insert(id, element);
                }
                let order = first_writer(step, &writers, id, launched).map_or(usize::MAX, |(order, _)| order);
                found.push((order, id, twin_id));
            }
        }
        for id in b.covered(other)?.into_iter().filter(|id| !common.contains(id)) {
            one_sided.one(b, id, "b", at);
        }
        found.sort_unstable();
        let before = report.steps.iter().filter(|s| s.state == StepState::Diverged).count();
        if is_foreign(a.run()) && found.len() > 1 && before < ORDERED_MAX {
            by_dataflow((a, step, point), (b, twin, twin_point), &mut found)?;
        }
        let Some(&(_, id, twin_id)) = found.first() else { continue };
        let label = || match key {
            (name, 1) => name.to_owned(),
            (name, count) => format!("{name}#{count}"),
        };
        if report.first.is_none() {
            let from = beyond.get(&id).copied().unwrap_or(0);
            let phase = first_writer(step, &writers, id, launched).and_then(|(_, phase)| phase);
            report.first =
                first_element((a, step, point.snapshot, id), (b, other, twin_id), from)?.map(|mut first| {
                    first.point = label();
                    first.phase = phase.map(|p| p.name());
                    first.request_b = (twin.request != step.request).then_some(twin.request);
                    first
                });
        }
        if report.first.is_none()
            && report.other_form.is_none()
            && let Some([a, b]) = forms(a.buffer(id), b.buffer(twin_id))
        {
            let (request, step) = (step.request, step.step);
            report.other_form = Some(OtherForm { request, step, point: label(), buffer: name(id), a, b });
        }
        return Ok((StepState::Diverged, found.iter().map(|&(_, id, _)| name(id)).collect()));
    }
    let mut left: Vec<&PointRecord> = points.into_values().collect();
    left.sort_by_key(|point| point.position);
    for point in left {
        report.unmatched_points.push(format!("{}:{} {} only in B", twin.request, twin.step, point.point));
    }
    let state = match noisy.is_empty() {
        true if one_sided.places() == places => StepState::NotCompared,
        true => StepState::Identical,
        false => StepState::Noise,
    };
    Ok((state, noisy))
}

/// Whether a buffer holds in both runs what something else left there before the first step of a request, and is looked at
/// again after it.
pub(crate) fn is_left_over(
    (a, step, point, id): (&Trace, &StepRecord, &PointRecord, BufferId),
    (b, twin, twin_point, twin_id): (&Trace, &StepRecord, &PointRecord, BufferId),
    touched: Option<&(Touched, Touched)>,
) -> Result<bool, ReplayError> {
    let Some((mine, theirs)) = touched else { return Ok(false) };
    Ok(mine.lacks(point, id)
        && theirs.lacks(twin_point, twin_id)
        && shown_after(a, step, id)?
        && shown_after(b, twin, twin_id)?)
}

/// Whether a buffer is looked at again after the step.
fn shown_after(trace: &Trace, step: &StepRecord, buffer: BufferId) -> Result<bool, ReplayError> {
    Ok(match snapshot_of(step, "step.after") {
        Some(after) => trace.covers(after, buffer)?,
        None => false,
    })
}

type PlaceWithHashes<'a> = (&'a Trace, SnapshotId, BufferId, &'a HashCursor<'a>);

/// Whether a buffer's contents differ: by chunk hashes where the chunks are alike, else by bytes.
pub(crate) fn differ(
    (a, sa, ia, ha): PlaceWithHashes<'_>,
    (b, sb, ib, hb): PlaceWithHashes<'_>,
) -> Result<bool, ReplayError> {
    let (Some(x), Some(y)) = (a.buffer(ia), b.buffer(ib)) else { return Ok(false) };
    if (&x.shape, x.dtype) != (&y.shape, y.dtype) {
        return Ok(true);
    }
    if x.chunk_bytes != y.chunk_bytes {
        return Ok(a.read_buffer(sa, ia)? != b.read_buffer(sb, ib)?);
    }
    Ok(ha.of(ia) != hb.of(ib))
}

/// Whether the codes that a step put out differ: from then on the runs say different things.
fn codes_differ(
    (a, step): (&Trace, &StepRecord),
    (b, twin): (&Trace, &StepRecord),
) -> Result<bool, ReplayError> {
    let (Some(sa), Some(sb)) = (snapshot_of(step, "step.after"), snapshot_of(twin, "step.after")) else {
        return Ok(false);
    };
    let (Ok(ia), Ok(ib)) = (resolve(a, step, "codes_out"), resolve(b, twin, "codes_out")) else {
        return Ok(false);
    };
    Ok(a.read_buffer(sa, ia)? != b.read_buffer(sb, ib)?)
}
