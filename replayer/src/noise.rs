//! What a run differs in from a second run of its own mode: engines that are not equal to themselves.
//!
//! The control is a second run of A's mode. A difference between A and B is *noise* where each element that differs is
//! excused by what the control showed in the same buffer at that step or before; nothing later excuses anything earlier:
//! - a float, where the two values are apart by at most [`FACTOR`] times the greatest finite distance between A and the
//!   control so far;
//! - an integer, or a float that is not finite on one side, where the same element differed from the control so;
//! - another shape or type, where the control had that very shape and type.
//!
//! From the first step of a request in which a buffer of integers differs from the control, the two say
//! different things (other tokens): distances from there on are no measure of noise and are left out of the
//! greatest one, and at and after that step size is not held against B, but NaN is.
//!
//! Why 4: two independent runs differ from a third by amounts of the same distribution, but the greatest of a few
//! elements varies. Of runs of 100 steps whose elements are off by Gaussian noise that grows (`false_alarms`, the worse of
//! noise drawn anew at each step and noise that adds up), sound ones are called different in one buffer so often:
//!
//! | elements | 2 times | 4 times | 8 times |
//! |---|---|---|---|
//! | 8 | 17 % | 0.05 % | 0 |
//! | 64 | 0.5 % | 0 | 0 |
//! | 512, 4096 | 0 | 0 | 0 |
//!
//! A buffer of a single element is no measure: it is called different in 21 % of such runs at 4 times, in 8 % at 8 times.

#[cfg(test)]
mod false_alarms;

use std::collections::BTreeMap;

use serde::Serialize;
use twinstep_traces::{BufferId, DType, PointRecord, SnapshotId, Trace};

use crate::ReplayError;
use crate::at::{find_index, place};
use crate::comparable::comparable;
use crate::cursor::HashCursor;
use crate::diff::{Budget, CommonNames, Touched, cut_off, differ, is_left_over};
use crate::lifetime::Lifetimes;
use crate::number::Number;
use crate::pairing::Pairing;
use crate::points::{PointKey, by_name};
use crate::requests::{Requests, same_rank};
use crate::value::{Value, is_float};

/// How much greater than from the control a difference may be.
pub const FACTOR: f64 = 4.0;

/// Elements of one buffer that are kept apart.
const ELEMENTS_MAX: usize = 1 << 16;

/// Names that a line lists.
const SHOWN: usize = 4;

/// What a control run tells.
#[derive(Debug, Clone, Serialize)]
pub struct ControlReport {
    /// Steps that A and its control have in common.
    pub steps: usize,
    /// Buffers in which they differ, the first to differ in front.
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
    /// Greatest finite difference while both say the same; `None` for integers.
    pub greatest: Option<Number>,
    /// From which step on it was how great: up to the next of them, so much times the factor is noise.
    pub rises: Vec<Rise>,
    /// Elements that are excused whatever their value: integers that differ, floats that are not finite on one side.
    pub elements: usize,
}

/// A step at which the control differs by more than before.
#[derive(Debug, Clone, Serialize)]
pub struct Rise {
    /// `2`, `3:2`.
    pub from: String,
    /// Greatest finite difference so far.
    pub greatest: Number,
}

impl ControlReport {
    /// One line for people: how far the control is from A, and since when.
    pub fn line(&self) -> String {
        if self.noisy.is_empty() {
            return format!("equals A in all {} steps that both have: no difference is noise", self.steps);
        }
        let one = |noisy: &NoisyBuffer| {
            let (name, since) = (&noisy.buffer, &noisy.since);
            match (noisy.rises.first(), noisy.rises.last()) {
                (Some(first), Some(last)) => {
                    let far = |rise: &Rise| format!("{:.1e} from step {} on", rise.greatest.0, rise.from);
                    let more = if noisy.rises.len() > 1 { format!(", {}", far(last)) } else { String::new() };
                    format!("{name} differs by up to {}{more}", far(first))
                }
                _ if noisy.elements == 0 => format!("{name} differs from step {since} on"),
                _ => format!("{name} differs in {} elements from step {since} on", noisy.elements),
            }
        };
        let listed: Vec<String> = self.noisy.iter().take(SHOWN).map(one).collect();
        let more = self.noisy.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more (--json lists them)") } else { String::new() };
        let floats = self.noisy.iter().any(|noisy| noisy.greatest.is_some());
        let factor = if floats {
            format!("; up to {} times what it showed so far is noise", self.factor)
        } else {
            String::new()
        };
        format!("{}{more}{factor}", listed.join(", "))
    }
}

#[derive(Debug, Default)]
struct Noisy {
    /// Order of the first step with a difference.
    since: usize,
    at: String,
    /// The greatest finite distance so far, and since when: ascending in both.
    rises: Vec<(usize, String, f64)>,
    /// Integers that differ and floats that are not finite on one side, and since when.
    elements: BTreeMap<u64, usize>,
    /// Shapes and types other than A's, and since when.
    forms: Vec<(DType, Vec<u64>, usize)>,
}

impl Noisy {
    fn add(&mut self, found: Measured, (index, at): (usize, &str), forked: bool) {
        let before = self.rises.last().map_or(-1.0, |(_, _, greatest)| *greatest);
        if let Some(greatest) = found.greatest.filter(|greatest| !forked && *greatest > before) {
            match self.rises.last_mut() {
                Some(last) if last.0 == index => last.2 = greatest,
                _ => self.rises.push((index, at.to_owned(), greatest)),
            }
        }
        for element in found.elements {
            if self.elements.len() < ELEMENTS_MAX {
                self.elements.entry(element).or_insert(index);
            }
        }
        if let Some((dtype, shape)) = found.form
            && !self.forms.iter().any(|(d, s, _)| (*d, s) == (dtype, &shape))
        {
            self.forms.push((dtype, shape, index));
        }
    }

    /// The greatest finite distance up to a step.
    fn greatest(&self, index: usize) -> Option<f64> {
        self.rises.iter().rev().find(|(since, ..)| *since <= index).map(|(_, _, greatest)| *greatest)
    }
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
    /// Compares a run with its control; B only for what to do where that does not fit.
    ///
    /// # Errors
    /// [`ReplayError::NotComparable`] where the control is of another text, model, rank or mode, or has no step in
    /// common. Steps that it lacks are said.
    pub(crate) fn of(a: &Trace, b: &Trace, control: &Trace) -> Result<Noise, ReplayError> {
        let unfit =
            |why: String| ReplayError::NotComparable(format!("the control run does not fit A: {why}"));
        comparable(a, control).and_then(|()| same_rank(a, control)).map_err(|e| match e {
            ReplayError::NotComparable(why) => unfit(why.replace(" in B", " in the control")),
            other => other,
        })?;
        let (mode, other) = (&a.run().mode, &control.run().mode);
        if mode != other && !mode.is_empty() && !other.is_empty() {
            let swap = if *other == b.run().mode { ", or swap A and B" } else { "" };
            return Err(unfit(format!(
                "A ran in mode {mode:?}, the control in {other:?}: give a second run of A's mode{swap}"
            )));
        }
        let mut noise = Noise::default();
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
            let mut found: Vec<(BufferId, Measured)> = Vec::new();
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
                        found.push((id, measure((a, point.snapshot, id), (control, other, twin_id))?));
                    }
                }
            }
            let integers = |id: &BufferId| a.buffer(*id).is_some_and(|b| !is_float(b.dtype));
            if found.iter().any(|(id, _)| integers(id)) {
                noise.forked.entry(at.request).or_insert((index, at.to_string()));
            }
            let (forked, at) = (noise.forked.contains_key(&at.request), at.to_string());
            for (id, measured) in found {
                let Some(record) = a.buffer(id) else { continue };
                let noisy = noise.buffers.entry(record.name.clone()).or_insert_with(|| Noisy {
                    since: index,
                    at: at.clone(),
                    ..Noisy::default()
                });
                noisy.add(measured, (index, &at), forked);
            }
        }
        if noise.steps == 0 {
            return Err(unfit("they have no step in common".to_owned()));
        }
        if let Some(at) = missing {
            noise.notes.push(format!("the control run lacks step {at} and others: it tells nothing of them"));
        }
        noise.notes.extend(cut_off(control, "the control run")?);
        for (_, at) in noise.forked.values() {
            noise.notes.push(format!("the control run says something else from step {at} on"));
        }
        for (name, _) in noise.buffers.iter().filter(|(_, noisy)| noisy.elements.len() >= ELEMENTS_MAX) {
            noise
                .notes
                .push(format!("{name} differs in more than {ELEMENTS_MAX} elements: others are no noise"));
        }
        Ok(noise)
    }

    /// The first element in which A and another run differ by more than the control shows; `None`: no more than noise.
    /// Where the buffer as a whole is beyond it, that is element 0, whether it differs or not.
    pub(crate) fn beyond(
        &self,
        request: u32,
        index: usize,
        (a, sa, ia): (&Trace, SnapshotId, BufferId),
        (b, sb, ib): (&Trace, SnapshotId, BufferId),
    ) -> Result<Option<u64>, ReplayError> {
        let whole = Ok(Some(0));
        let (Some(record), Some(other)) = (a.buffer(ia), b.buffer(ib)) else { return whole };
        let Some(noisy) = self.buffers.get(&record.name).filter(|noisy| noisy.since <= index) else {
            return whole;
        };
        let forked = self.forked.get(&request).is_some_and(|(since, _)| *since <= index);
        let float = is_float(record.dtype);
        let form = (other.dtype, &other.shape);
        if form != (record.dtype, &record.shape) {
            let known = noisy.forms.iter().any(|(d, s, since)| (*d, s) == form && *since <= index);
            return if known || forked && float { Ok(None) } else { whole };
        }
        let (Some(bytes), Some(theirs)) = (a.read_buffer(sa, ia)?, b.read_buffer(sb, ib)?) else {
            return whole;
        };
        let bound = noisy.greatest(index).map(|greatest| FACTOR * greatest);
        let excused = |flat: u64, x: Value, y: Value| {
            if noisy.elements.get(&flat).is_some_and(|since| *since <= index) {
                return true;
            }
            float
                && match distance(x, y) {
                    Some(distance) => forked || bound.is_some_and(|bound| distance <= bound),
                    // Other tokens may mask other elements with infinities.
                    None => forked && !x.to_f64().is_nan() && !y.to_f64().is_nan(),
                }
        };
        let mut beyond =
            differing(record.dtype, &bytes, &theirs).filter(|&(flat, x, y)| !excused(flat, x, y));
        Ok(beyond.next().map(|(flat, ..)| flat))
    }

    /// For documents.
    pub(crate) fn report(&self) -> ControlReport {
        let mut all: Vec<(&String, &Noisy)> = self.buffers.iter().collect();
        all.sort_by_key(|(_, noisy)| noisy.since);
        let noisy = all.into_iter().map(|(buffer, noisy)| NoisyBuffer {
            buffer: buffer.clone(),
            since: noisy.at.clone(),
            greatest: noisy.rises.last().map(|(_, _, greatest)| Number(*greatest)),
            rises: (noisy.rises.iter())
                .map(|(_, at, greatest)| Rise { from: at.clone(), greatest: Number(*greatest) })
                .collect(),
            elements: noisy.elements.len(),
        });
        ControlReport { steps: self.steps, noisy: noisy.collect(), factor: FACTOR, notes: self.notes.clone() }
    }
}

/// How far a buffer is from the control's.
#[derive(Debug, Default)]
struct Measured {
    /// Floats: the greatest finite distance.
    greatest: Option<f64>,
    /// Integers that differ, floats that are not finite on one side.
    elements: Vec<u64>,
    /// The control's type and shape, where they are not A's: nothing else is measured then.
    form: Option<(DType, Vec<u64>)>,
}

fn measure(
    (a, sa, ia): (&Trace, SnapshotId, BufferId),
    (b, sb, ib): (&Trace, SnapshotId, BufferId),
) -> Result<Measured, ReplayError> {
    let mut found = Measured::default();
    let (Some(record), Some(other)) = (a.buffer(ia), b.buffer(ib)) else { return Ok(found) };
    if (record.dtype, &record.shape) != (other.dtype, &other.shape) {
        found.form = Some((other.dtype, other.shape.clone()));
        return Ok(found);
    }
    let (Some(bytes), Some(theirs)) = (a.read_buffer(sa, ia)?, b.read_buffer(sb, ib)?) else {
        return Ok(found);
    };
    for (flat, x, y) in differing(record.dtype, &bytes, &theirs) {
        match distance(x, y).filter(|_| is_float(record.dtype)) {
            Some(distance) => found.greatest = Some(found.greatest.map_or(distance, |g| g.max(distance))),
            None if found.elements.len() < ELEMENTS_MAX => found.elements.push(flat),
            None => {}
        }
    }
    Ok(found)
}

/// Elements whose bits differ.
fn differing(dtype: DType, a: &[u8], b: &[u8]) -> impl Iterator<Item = (u64, Value, Value)> {
    let pairs = (0..).zip(Value::all(dtype, a).zip(Value::all(dtype, b)));
    pairs.filter(|(_, (x, y))| x.bits() != y.bits()).map(|(flat, (x, y))| (flat, x, y))
}

/// How far two values are apart; `None` where that is no finite number.
fn distance(x: Value, y: Value) -> Option<f64> {
    Some((x.to_f64() - y.to_f64()).abs()).filter(|distance| distance.is_finite())
}
