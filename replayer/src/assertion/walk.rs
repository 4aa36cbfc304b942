//! Goes through both runs side by side and judges every buffer at every point that both have.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use twinstep_traces::{BufferId, PointRecord, SnapshotId, StepKind, StepRecord, Trace};

use crate::ReplayError;
use crate::assertion::compare::{Judgement, judge};
use crate::assertion::elements::{Differing, Elements, Overlay};
use crate::assertion::hashes::PairHashes;
use crate::assertion::pairing::{newest, pairs};
use crate::assertion::policy::{Demand, Policy, PolicyError, Rows, Rule};
use crate::assertion::report::{AssertError, ForkReport};
use crate::at::{At, place};
use crate::original_types::{OriginalTypes, pair_differs};
use crate::points::{PointKey, by_name};
use crate::requests::Requests;
use crate::statistic::has_rows;

/// How many buffers and points of one side only are named.
const NAMED: usize = 16;

/// The buffers that the codes of a step are put out in.
const CODES: [&str; 2] = ["codes_out", "prefill_codes"];

/// The rules of a policy and what judges the rest, as they are tried.
pub(crate) struct Rules<'p> {
    /// In order; the last matches everything.
    pub(crate) rules: Vec<Cow<'p, Rule>>,
}

impl<'p> Rules<'p> {
    pub(crate) fn of(policy: &'p Policy) -> Self {
        let given = policy.rules.iter().map(Cow::Borrowed);
        let rest = Cow::Owned(Rule::rest(policy.rows));
        Rules { rules: given.chain([rest]).collect() }
    }
}

/// A buffer at a point of a step that was judged.
pub(crate) struct Judged<'a> {
    pub(crate) rule: usize,
    pub(crate) at: At,
    /// As in the step's record.
    pub(crate) step: u32,
    pub(crate) point: &'a str,
    pub(crate) a: Elements<'a>,
    pub(crate) b: Elements<'a>,
    /// The occupied row, for buffers that have rows.
    pub(crate) row: Option<u64>,
    pub(crate) judgement: Judgement,
}

/// What a walk saw of the runs as a whole.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) steps_judged: usize,
    pub(crate) forks: Vec<ForkReport>,
    pub(crate) only_a: Vec<At>,
    pub(crate) only_b: Vec<At>,
    /// Common steps of which nothing could be compared.
    pub(crate) bare: Vec<At>,
    pub(crate) not_compared: BTreeSet<String>,
    pub(crate) not_compared_count: usize,
    /// Whether a buffer of either run is stored as the bytes of a type that the format does not name.
    pub(crate) any_as_bytes: bool,
    /// By name: buffers stored so that are of other types in the two runs, and which.
    pub(crate) other_types: BTreeMap<String, String>,
}

impl Walked {
    fn leave_out(&mut self, what: impl FnOnce() -> String) {
        self.not_compared_count += 1;
        if self.not_compared.len() < NAMED {
            self.not_compared.insert(what());
        }
    }
}

/// The steps of a run by their place; of several at one place the first.
fn steps_of(trace: &Trace) -> Result<BTreeMap<(u32, Option<u32>), usize>, ReplayError> {
    let mut steps = BTreeMap::new();
    for index in 0..trace.step_count() {
        if let Some(at) = place(&trace.step(index)?) {
            steps.entry((at.request, at.step)).or_insert(index);
        }
    }
    Ok(steps)
}

/// Judges every place in order, until `sink` has seen enough.
pub(crate) fn walk(
    (a, b): (&Trace, &Trace),
    rules: &Rules<'_>,
    overlay: Option<&Overlay>,
    sink: &mut dyn FnMut(Judged<'_>) -> ControlFlow<()>,
) -> Result<Walked, AssertError> {
    let mut walk = Walk {
        a,
        b,
        rules,
        overlay,
        hashes: PairHashes::new(a, b),
        matching: BTreeMap::new(),
        types: (OriginalTypes::of(a)?, OriginalTypes::of(b)?),
        walked: Walked::default(),
    };
    walk.walked.any_as_bytes = !(walk.types.0.is_empty() && walk.types.1.is_empty());
    let requests = Requests::of(a, b);
    let in_a = steps_of(a)?;
    // By A's numbers; what A has no request for keeps a place that A does not have.
    let in_b: BTreeMap<(u32, Option<u32>), usize> = steps_of(b)?
        .into_iter()
        .map(|((request, step), index)| {
            let at = requests.of_b(At { request, step });
            let request = if at.request == 0 { u32::MAX - request } else { at.request };
            ((request, step), index)
        })
        .collect();
    let mut forked: BTreeMap<u32, usize> = BTreeMap::new();
    for index in 0..a.step_count() {
        let step = a.step(index).map_err(ReplayError::from)?;
        let Some(at) = place(&step) else { continue };
        if in_a.get(&(at.request, at.step)) != Some(&index) {
            continue;
        }
        let twin = in_b.get(&(at.request, at.step));
        if let Some(&fork) = forked.get(&at.request) {
            walk.walked.forks[fork].not_judged += 1;
            continue;
        }
        let Some(&twin) = twin else {
            walk.walked.only_a.push(at);
            continue;
        };
        let twin = b.step(twin).map_err(ReplayError::from)?;
        match walk.step(at, &step, &twin, sink)? {
            ControlFlow::Break(()) => return Ok(walk.walked),
            ControlFlow::Continue(false) => {}
            ControlFlow::Continue(true) => {
                forked.insert(at.request, walk.walked.forks.len());
                walk.walked.forks.push(ForkReport { request: at.request, step: step.step, not_judged: 0 });
            }
        }
    }
    for &(request, step) in in_b.keys() {
        if in_a.contains_key(&(request, step)) {
            continue;
        }
        match forked.get(&request) {
            Some(&fork) => walk.walked.forks[fork].not_judged += 1,
            None => {
                let request = unmapped(request, b);
                walk.walked.only_b.push(At { request, step });
            }
        }
    }
    Ok(walk.walked)
}

/// B's own number of a request that A does not have.
fn unmapped(request: u32, b: &Trace) -> u32 {
    let own = u32::MAX - request;
    if b.requests().iter().any(|r| r.request == own) { own } else { request }
}

struct Walk<'a, 'p> {
    a: &'a Trace,
    b: &'a Trace,
    rules: &'p Rules<'p>,
    overlay: Option<&'a Overlay>,
    hashes: PairHashes<'a>,
    /// By buffer of A: the rules whose pattern its name matches.
    matching: BTreeMap<BufferId, Vec<usize>>,
    types: (OriginalTypes, OriginalTypes),
    walked: Walked,
}

impl<'a> Walk<'a, '_> {
    /// Judges a step; whether the runs fork at it.
    fn step(
        &mut self,
        at: At,
        step: &StepRecord,
        twin: &StepRecord,
        sink: &mut dyn FnMut(Judged<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), bool>, AssertError> {
        let mut found = PointOutcome::default();
        let mut points: BTreeMap<PointKey<'_>, &PointRecord> = by_name(&twin.points).collect();
        for (key, point) in by_name(&step.points) {
            let Some(other) = points.remove(&key).map(|twin| twin.snapshot) else {
                self.walked.leave_out(|| format!("{} only in A", point.point));
                continue;
            };
            match self.point(at, step, (&point.point, point.snapshot, other), sink)? {
                ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                ControlFlow::Continue(here) => {
                    found.compared |= here.compared;
                    found.judged |= here.judged;
                    found.forks |= here.forks;
                }
            }
        }
        let mut left: Vec<&PointRecord> = points.into_values().collect();
        left.sort_by_key(|point| point.position);
        for point in left {
            self.walked.leave_out(|| format!("{} only in B", point.point));
        }
        if !found.compared {
            self.walked.bare.push(at);
        }
        if found.judged && step.kind != StepKind::Codec {
            self.walked.steps_judged += 1;
        }
        Ok(ControlFlow::Continue(found.forks))
    }

    fn point(
        &mut self,
        at: At,
        step: &StepRecord,
        (point, sa, sb): (&str, SnapshotId, SnapshotId),
        sink: &mut dyn FnMut(Judged<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), PointOutcome>, AssertError> {
        let (a, b) = (self.a, self.b);
        self.hashes.advance(sa, sb)?;
        let covered = |trace: &Trace, snapshot| trace.covered(snapshot).map_err(ReplayError::from);
        let (in_a, in_b) = (covered(a, sa)?, covered(b, sb)?);
        let pairs = pairs((a, &in_a), (b, &in_b));
        self.only_on_one_side((&in_a, &in_b), pairs.len());
        let mut found = PointOutcome::default();
        for (ia, ib) in pairs {
            let (Some(x), Some(y)) = (Elements::new(a, sa, ia, None), Elements::new(b, sb, ib, self.overlay))
            else {
                continue;
            };
            let row = has_rows(a, x.record).then(|| row_of(a, step.request)).flatten();
            let rule = self.rule_for(ia, &x.record.name, at, point);
            self.only_as_bytes((&x, &y), rule)?;
            let differing = self.differing(&x, &y)?;
            let judgement = judge(&self.rules.rules[rule], &x, &y, row, &differing)?;
            if let Judgement::Inapplicable(message) = judgement {
                let line = self.rules.rules[rule].line;
                return Err(PolicyError { line, column: 1, message }.into());
            }
            found.compared = true;
            found.judged |= !matches!(judgement, Judgement::Empty)
                && !matches!(self.rules.rules[rule].demand, Demand::Ignore(_));
            if point == "step.after"
                && CODES.contains(&x.record.name.as_str())
                && step.kind != StepKind::Codec
            {
                let exact = Rule::rest(Rows::Occupied);
                found.forks |= matches!(judge(&exact, &x, &y, row, &differing)?, Judgement::Fails(_));
            }
            let judged = Judged { rule, at, step: step.step, point, a: x, b: y, row, judgement };
            if sink(judged).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(found))
    }

    /// Notes where two buffers that look alike are of other types, as bytes that stand for numbers may be.
    ///
    /// # Errors
    /// The rule is for numbers and these are bytes of numbers.
    fn only_as_bytes(
        &mut self,
        (x, y): (&Elements<'_>, &Elements<'_>),
        rule: usize,
    ) -> Result<(), PolicyError> {
        let Rule { demand, line, .. } = &*self.rules.rules[rule];
        if !self.walked.any_as_bytes || matches!(demand, Demand::Ignore(_)) {
            return Ok(());
        }
        let (a, b) = (&self.types.0, &self.types.1);
        if let (Some(dtype), false) = (a.get(x.record).or(b.get(y.record)), *demand == Demand::Exact) {
            let message = format!(
                "`{}` is {dtype}, a type that traces do not have: it is stored as bytes, which only `exact` and `ignore` \
                 rules can judge, not `{demand}`",
                x.record.name
            );
            return Err(PolicyError { line: *line, column: 1, message });
        }
        if let Some(types) = pair_differs((a, x.record), (b, y.record)) {
            self.walked.other_types.insert(x.record.name.clone(), types);
        }
        Ok(())
    }

    fn only_on_one_side(&mut self, (in_a, in_b): (&[BufferId], &[BufferId]), paired: usize) {
        let (a, b) = (newest(self.a, in_a), newest(self.b, in_b));
        if a.len() == paired && b.len() == paired {
            return;
        }
        for name in a.keys().filter(|name| !b.contains_key(*name)) {
            self.walked.leave_out(|| format!("{name} only in A"));
        }
        for name in b.keys().filter(|name| !a.contains_key(*name)) {
            self.walked.leave_out(|| format!("{name} only in B"));
        }
    }

    /// The first rule that holds for a buffer at a place.
    fn rule_for(&mut self, id: BufferId, name: &str, at: At, point: &str) -> usize {
        let rules = &self.rules.rules;
        let matching = self
            .matching
            .entry(id)
            .or_insert_with(|| (0..rules.len()).filter(|&i| rules[i].scope.buffer.matches(name)).collect());
        let holds = |&&i: &&usize| rules[i].scope.holds_at(at.request, at.step, point);
        matching.iter().find(holds).copied().unwrap_or(rules.len() - 1)
    }

    /// Where the two can differ, by chunk hashes where the chunks are alike.
    fn differing(&mut self, x: &Elements<'a>, y: &Elements<'a>) -> Result<Differing, ReplayError> {
        let (r, s) = (x.record, y.record);
        if (&r.shape, r.dtype, r.chunk_bytes) != (&s.shape, s.dtype, s.chunk_bytes) {
            return Ok(Differing::All);
        }
        let mut chunks = self.hashes.differing(x.id, y.id).clone();
        for (chunk, hash) in y.overlaid()? {
            if self.hashes.of_a(x.id, chunk) == Some(hash) {
                chunks.remove(&chunk);
            } else {
                chunks.insert(chunk);
            }
        }
        Ok(Differing::Chunks(chunks))
    }
}

/// What became of one point.
#[derive(Debug, Default)]
struct PointOutcome {
    /// Both sides have a buffer there.
    compared: bool,
    /// And a rule that checks it.
    judged: bool,
    /// The codes differ.
    forks: bool,
}

/// The row of the batch that a request occupies.
fn row_of(trace: &Trace, request: u32) -> Option<u64> {
    trace.requests().iter().find(|r| r.request == request).map(|r| r.row.into())
}
