//! Where to stop next: the first step on the way that meets a condition.

use twinstep_traces::{StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find, place};
use crate::condition::Condition;
use crate::recorded::snapshot;
use crate::requests::Twins;
use crate::selection::Selection;
use crate::slice::read_elements;
use crate::value::Value;

/// A step that meets a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Where.
    pub at: At,
    /// The condition, and the value that meets it.
    pub text: String,
}

/// The next step after `from` (before it, going backwards) that meets one of the conditions, in A; where
/// there is one, `stop` is asked at every step whether to give up. `None` at the end of the run.
///
/// Values are those after a step, or before it where they are recorded there alone.
///
/// # Errors
/// [`ReplayError::Selection`] for a buffer or element that does not exist, [`ReplayError::Value`] for a value
/// that its type cannot hold.
pub fn next_stop(
    a: &Trace,
    b: Option<&Trace>,
    conditions: &[Condition],
    from: At,
    forward: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Stop>, ReplayError> {
    let mut steps = Vec::new();
    for index in 0..a.step_count() {
        if let Some(at) = place(&a.step(index)?) {
            steps.push((index, at));
        }
    }
    let here = steps.iter().position(|(_, at)| *at == from);
    let order: Vec<usize> = match (forward, here) {
        (true, here) => (here.map_or(0, |i| i + 1)..steps.len()).collect(),
        (false, here) => (0..here.unwrap_or(steps.len())).rev().collect(),
    };
    let mut reader = Reader::default();
    for i in order {
        if stop() {
            return Ok(None);
        }
        let (index, at) = steps[i];
        let step = a.step(index)?;
        for condition in conditions {
            let earlier = i.checked_sub(1).map(|i| a.step(steps[i].0)).transpose()?;
            if let Some(text) = reader.meets(condition, (a, &step), earlier.as_ref(), b, at)? {
                return Ok(Some(Stop { at, text }));
            }
        }
    }
    Ok(None)
}

/// Reads selections, and remembers those whose meaning cannot change from step to step.
#[derive(Default)]
struct Reader {
    known: Vec<(bool, String, Selection)>,
}

impl Reader {
    fn selection(
        &mut self,
        first: bool,
        trace: &Trace,
        step: &StepRecord,
        text: &str,
    ) -> Result<Selection, ReplayError> {
        if let Some((_, _, found)) = self.known.iter().find(|(f, t, _)| *f == first && t == text) {
            return Ok(found.clone());
        }
        let selection = Selection::parse(trace, step, text)?;
        let name = trace.buffer(selection.buffer).map(|r| r.name.clone());
        if trace.buffers().iter().filter(|r| Some(&r.name) == name.as_ref()).count() == 1 {
            self.known.push((first, text.to_owned(), selection.clone()));
        }
        Ok(selection)
    }

    /// The elements of a selection after a step, else before it; `None` where they are not recorded.
    fn values(
        &mut self,
        first: bool,
        trace: &Trace,
        step: &StepRecord,
        text: &str,
    ) -> Result<Option<Vec<Value>>, ReplayError> {
        let selection = self.selection(first, trace, step, text)?;
        let Some(record) = trace.buffer(selection.buffer) else { return Ok(None) };
        let size = record.dtype.size();
        let flat = if selection.whole { Vec::new() } else { selection.elements(record) };
        let (start, end) = match (flat.first(), flat.last()) {
            (Some(first), Some(last)) => (*first, last + 1),
            _ => (0, record.bytes / size),
        };
        for point in ["step.after", "step.before"] {
            let Some(snapshot) = snapshot(step, point) else { continue };
            let bytes = read_elements(trace, snapshot, selection.buffer, start, end - start)?;
            let Some(bytes) = bytes else { continue };
            let all = Value::all(record.dtype, &bytes);
            return Ok(Some(if selection.whole {
                all.collect()
            } else {
                let all: Vec<Value> = all.collect();
                flat.iter().filter_map(|f| all.get((f - start) as usize).copied()).collect()
            }));
        }
        Ok(None)
    }

    fn meets(
        &mut self,
        condition: &Condition,
        (a, step): (&Trace, &StepRecord),
        earlier: Option<&StepRecord>,
        b: Option<&Trace>,
        at: At,
    ) -> Result<Option<String>, ReplayError> {
        let any = |values: Option<Vec<Value>>, meets: &dyn Fn(f64) -> bool| {
            values.into_iter().flatten().find(|v| meets(v.to_f64()))
        };
        let said = |holds: bool| holds.then(|| condition.to_string());
        Ok(match condition {
            Condition::Step(relation, n) => {
                said(at.step.is_some_and(|step| relation.holds(f64::from(step), f64::from(*n))))
            }
            Condition::Request(relation, n) => said(relation.holds(f64::from(at.request), f64::from(*n))),
            Condition::Nan(of) => said(any(self.values(true, a, step, of)?, &|v| v.is_nan()).is_some()),
            Condition::Infinite(of) => {
                said(any(self.values(true, a, step, of)?, &|v| v.is_infinite()).is_some())
            }
            Condition::Value(of, relation, text) => {
                let values = self.values(true, a, step, of)?;
                let Some(first) = values.as_ref().and_then(|v| v.first()) else { return Ok(None) };
                let wanted = Value::parse(first.dtype(), text)?.to_f64();
                let found = any(values, &|v| relation.holds(v, wanted));
                found.map(|v| format!("{condition}: it is {v}"))
            }
            Condition::Changes(of) => {
                let Some(earlier) = earlier else { return Ok(None) };
                let (now, then) = (self.values(true, a, step, of)?, self.values(true, a, earlier, of)?);
                changed(then, now).map(|(x, y)| format!("{condition}: {x} became {y}"))
            }
            Condition::Differs(of) => {
                let Some(b) = b else { return Ok(None) };
                let Ok(twin) = find(b, Twins::of(a, b).in_b(at)) else { return Ok(None) };
                let (x, y) = (self.values(true, a, step, of)?, self.values(false, b, &twin, of)?);
                changed(x, y).map(|(x, y)| format!("{condition}: {x} in A, {y} in B"))
            }
        })
    }
}

/// The first values that differ in bits.
fn changed(x: Option<Vec<Value>>, y: Option<Vec<Value>>) -> Option<(Value, Value)> {
    let (x, y) = (x?, y?);
    x.into_iter().zip(y).find(|(x, y)| x.bits() != y.bits())
}
