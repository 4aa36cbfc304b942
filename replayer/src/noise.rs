//! What a run differs in from a second run of its own mode: engines that are not equal to themselves.
//!
//! The control is a second run of A's mode. A difference between A and B at a point is *noise* where
//! - the control differs from A in the same buffer at that step or before, and
//! - for floats, the greatest absolute difference from B is at most [`FACTOR`] times the greatest one from the
//!   control in that buffer over all steps; two independent runs differ from a third by amounts of the same
//!   distribution, so that a factor covers the extremes of a few hundred elements and not a wrong value;
//! - for integers, each element that differs from B differs from the control too, at that step or before.
//!
//! From the first step of a request in which a buffer of integers differs from the control, the two say
//! different things (other tokens): distances from there on are no measure of noise and are left out of the
//! greatest one, and at and after that step size is not held against B.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use twinstep_traces::{BufferId, PointRecord, SnapshotId, Trace};

use crate::ReplayError;
use crate::at::{find_index, place};
use crate::comparable::comparable;
use crate::cursor::HashCursor;
use crate::diff::{Budget, CommonNames, Touched, differ, is_left_over};
use crate::lifetime::Lifetimes;
use crate::number::Number;
use crate::pairing::Pairing;
use crate::points::{PointKey, by_name};
use crate::requests::{Requests, same_rank};
use crate::value::{Value, is_float};

/// How much greater than from the control a difference may be.
pub const FACTOR: f64 = 2.0;

/// Elements of one buffer of integers that are kept apart.
const ELEMENTS_MAX: usize = 1 << 16;

/// What a control run tells.
#[derive(Debug, Clone, Serialize)]
pub struct ControlReport {
    /// Steps that A and its control have in common.
    pub steps: usize,
    /// Buffers in which they differ.
    pub noisy: Vec<NoisyBuffer>,
    /// See [`FACTOR`].
    pub factor: f64,
    /// What it cannot tell, in words.
    pub notes: Vec<String>,
}

/// A buffer in which a run differs from its control.
#[derive(Debug, Clone, Serialize)]
pub struct NoisyBuffer {
    /// Name without generation.
    pub buffer: String,
    /// The first step with a difference: `2`, `3:2`.
    pub since: String,
    /// Greatest absolute difference while both say the same; `None` for integers.
    pub greatest: Option<Number>,
}

#[derive(Debug, Default)]
struct Noisy {
    /// Order of the first step with a difference.
    since: usize,
    at: String,
    greatest: Option<f64>,
    /// Integers: elements that differ, and since when.
    elements: BTreeMap<u64, usize>,
}

/// The noise of a run.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    buffers: BTreeMap<String, Noisy>,
    /// By request of A: the order of the first step at which the control says something else.
    forked: BTreeMap<u32, (usize, String)>,
    steps: usize,
    notes: Vec<String>,
}

impl Noise {
    /// Compares a run with its control.
    ///
    /// # Errors
    /// [`ReplayError::NotComparable`] where the control is of another text, model or rank, or has no step in
    /// common. Another mode, and steps that it lacks, are said.
    pub(crate) fn of(a: &Trace, control: &Trace) -> Result<Noise, ReplayError> {
        let unfit =
            |why: String| ReplayError::NotComparable(format!("the control run does not fit A: {why}"));
        comparable(a, control).and_then(|()| same_rank(a, control)).map_err(|e| match e {
            ReplayError::NotComparable(why) => unfit(why.replace(" in B", " in the control")),
            other => other,
        })?;
        let mut noise = Noise::default();
        if a.run().mode != control.run().mode {
            let (x, y) = (&a.run().mode, &control.run().mode);
            noise
                .notes
                .push(format!("A ran in mode {x:?}, the control in {y:?}: it is no second run of A's mode"));
        }
        let requests = Requests::of(a, control);
        let (mut x, mut y) = (HashCursor::new(a), HashCursor::new(control));
        let (lives, lives_c) = (Lifetimes::of(a)?, Lifetimes::of(control)?);
        let names = CommonNames::of(a, control);
        let mut budgets = [Budget::new(), Budget::new()];
        let mut missing = None;
        for index in 0..a.step_count() {
            let step = a.step(index)?;
            let Some(at) = place(&step) else { continue };
            let Ok(twin_index) = find_index(control, requests.of_a(at)) else {
                missing.get_or_insert(at);
                continue;
            };
            noise.steps += 1;
            let twin = control.step(twin_index)?;
            let pairing = Pairing::at((a, &lives, index), (control, &lives_c, twin_index));
            let [mine, theirs] = &mut budgets;
            let touched = Touched::of(a, &step, mine)?.zip(Touched::of(control, &twin, theirs)?);
            let mut distances: Vec<(BufferId, Option<f64>, Vec<u64>)> = Vec::new();
            let points: BTreeMap<PointKey<'_>, &PointRecord> = by_name(&twin.points).collect();
            for (key, point) in by_name(&step.points) {
                let Some(&twin_point) = points.get(&key) else { continue };
                let other = twin_point.snapshot;
                x.advance(point.snapshot)?;
                y.advance(other)?;
                for id in a.covered(point.snapshot)? {
                    let twin_id = names.twin((a, point.snapshot, id), (control, other), &pairing)?;
                    let Some(twin_id) = twin_id else { continue };
                    let (x_at, y_at) = ((a, &step, point, id), (control, &twin, twin_point, twin_id));
                    if !is_left_over(x_at, y_at, touched.as_ref())?
                        && differ((a, point.snapshot, id, &x), (control, other, twin_id, &y))?
                    {
                        let measured = measure((a, point.snapshot, id), (control, other, twin_id))?;
                        distances.push((id, measured.0, measured.1));
                    }
                }
            }
            if distances.iter().any(|(_, greatest, _)| greatest.is_none()) {
                noise.forked.entry(at.request).or_insert((index, at.to_string()));
            }
            let forked = noise.forked.contains_key(&at.request);
            for (id, greatest, elements) in distances {
                let Some(record) = a.buffer(id) else { continue };
                let noisy = noise.buffers.entry(record.name.clone()).or_insert_with(|| Noisy {
                    since: index,
                    at: at.to_string(),
                    ..Noisy::default()
                });
                if let Some(greatest) = greatest.filter(|_| !forked) {
                    noisy.greatest = Some(noisy.greatest.map_or(greatest, |g| g.max(greatest)));
                }
                for element in elements {
                    if noisy.elements.len() < ELEMENTS_MAX {
                        noisy.elements.entry(element).or_insert(index);
                    }
                }
            }
        }
        if noise.steps == 0 {
            return Err(unfit("they have no step in common".to_owned()));
        }
        if let Some(at) = missing {
            noise.notes.push(format!("the control run lacks step {at} and others: it tells nothing of them"));
        }
        for (_, at) in noise.forked.values() {
            noise.notes.push(format!("the control run says something else from step {at} on"));
        }
        Ok(noise)
    }

    /// Whether a difference between A and another run is no more than the control shows.
    pub(crate) fn covers(
        &self,
        request: u32,
        index: usize,
        (a, sa, ia): (&Trace, SnapshotId, BufferId),
        b: (&Trace, SnapshotId, BufferId),
    ) -> Result<bool, ReplayError> {
        let Some(record) = a.buffer(ia) else { return Ok(false) };
        let Some(noisy) = self.buffers.get(&record.name).filter(|noisy| noisy.since <= index) else {
            return Ok(false);
        };
        let (greatest, elements) = measure((a, sa, ia), b)?;
        let forked = self.forked.get(&request).is_some_and(|(since, _)| *since <= index);
        Ok(match greatest {
            Some(_) if forked => true,
            Some(greatest) => noisy.greatest.is_some_and(|noise| greatest <= FACTOR * noise),
            None => {
                let known = |e: &u64| noisy.elements.get(e).is_some_and(|since| *since <= index);
                !elements.is_empty() && elements.iter().all(known)
            }
        })
    }

    /// For documents.
    pub(crate) fn report(&self) -> ControlReport {
        let noisy = self.buffers.iter().map(|(buffer, noisy)| NoisyBuffer {
            buffer: buffer.clone(),
            since: noisy.at.clone(),
            greatest: noisy.greatest.map(Number),
        });
        ControlReport { steps: self.steps, noisy: noisy.collect(), factor: FACTOR, notes: self.notes.clone() }
    }
}

/// How far a buffer is from the other run's: the greatest absolute difference of floats (infinite where only
/// one is a number or their sizes differ), or the elements that differ.
fn measure(
    (a, sa, ia): (&Trace, SnapshotId, BufferId),
    (b, sb, ib): (&Trace, SnapshotId, BufferId),
) -> Result<(Option<f64>, Vec<u64>), ReplayError> {
    let (Some(x), Some(y)) = (a.buffer(ia), b.buffer(ib)) else { return Ok((None, Vec::new())) };
    let dtype = x.dtype;
    let (Some(bytes), Some(other)) = (a.read_buffer(sa, ia)?, b.read_buffer(sb, ib)?) else {
        return Ok((None, Vec::new()));
    };
    if dtype != y.dtype || bytes.len() != other.len() {
        return Ok((is_float(dtype).then_some(f64::INFINITY), Vec::new()));
    }
    let pairs = Value::all(dtype, &bytes).zip(Value::all(dtype, &other));
    if is_float(dtype) {
        let distance = pairs.filter(|(x, y)| x.bits() != y.bits()).map(|(x, y)| {
            let distance = (x.to_f64() - y.to_f64()).abs();
            if distance.is_nan() { f64::INFINITY } else { distance }
        });
        return Ok((Some(distance.fold(0.0, f64::max)), Vec::new()));
    }
    let differing: BTreeSet<u64> =
        (0..).zip(pairs).filter(|(_, (x, y))| x.bits() != y.bits()).map(|(i, _)| i).collect();
    Ok((None, differing.into_iter().take(ELEMENTS_MAX).collect()))
}
