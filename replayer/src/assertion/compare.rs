//! Whether the values of one buffer at one point keep to a rule.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use twinstep_kernels::contract::order_key;
use twinstep_traces::{DType, MAX_READ_BYTES};

use crate::ReplayError;
use crate::assertion::elements::{Differing, Elements};
use crate::assertion::policy::{Demand, Rows, Rule};
use crate::assertion::report::Shown;
use crate::number::Number;
use crate::statistic::{Statistic, greater, lesser};
use crate::value::{Value, is_float};

/// What became of a comparison.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// There is no element to compare.
    Empty,
    /// Within what the rule allows.
    Passes,
    /// Beyond it.
    Fails(Box<Beyond>),
    /// The rule cannot be applied to this buffer, and why.
    Inapplicable(String),
}

/// The element that is furthest beyond what a rule allows.
#[derive(Debug)]
pub(crate) struct Beyond {
    /// Flat index, for rules over elements.
    pub(crate) element: Option<u64>,
    pub(crate) a: Option<Shown>,
    pub(crate) b: Option<Shown>,
    /// In what the rule counts; `None` where one side is no number.
    pub(crate) distance: Option<f64>,
    pub(crate) allowed: f64,
    /// How far beyond, in words.
    pub(crate) text: String,
    /// Elements beyond.
    pub(crate) elements: u64,
}

impl Beyond {
    pub(crate) fn severity(&self) -> f64 {
        self.distance.unwrap_or(f64::INFINITY)
    }
}

/// The flat elements that a rule looks at. `row` is the occupied one, for buffers that have rows.
pub(crate) fn rows_of(rule: &Rule, elements: &Elements<'_>, row: Option<u64>) -> Range<u64> {
    let count = elements.count();
    match (rule.rows, row, elements.record.shape.first()) {
        (Rows::Occupied, Some(row), Some(&rows)) if rows > 0 => {
            let len = count / rows;
            row.saturating_mul(len).min(count)..(row.saturating_add(1)).saturating_mul(len).min(count)
        }
        _ => 0..count,
    }
}

/// Judges one buffer. `differing` tells where the two can differ; elsewhere nothing is read.
pub(crate) fn judge(
    rule: &Rule,
    a: &Elements<'_>,
    b: &Elements<'_>,
    row: Option<u64>,
    differing: &Differing,
) -> Result<Judgement, ReplayError> {
    let (x, y) = (a.record, b.record);
    let codes = rule.demand == Demand::Codes;
    if codes && let Some(float) = [x, y].into_iter().find(|r| is_float(r.dtype)) {
        let what = format!("`codes` wants integers, `{}` is {}", float.name, float.dtype.name());
        return Ok(Judgement::Inapplicable(what));
    }
    let rows = rows_of(rule, a, row);
    if rows.is_empty() && x.shape == y.shape {
        return Ok(Judgement::Empty);
    }
    if matches!(rule.demand, Demand::Ignore(_)) {
        return Ok(Judgement::Passes);
    }
    if x.shape != y.shape || x.dtype != y.dtype && !codes {
        let show = |r: &twinstep_traces::BufferRecord| format!("{} {:?}", r.dtype.name(), r.shape);
        let text = format!("{} in A, {} in B", show(x), show(y));
        let beyond =
            Beyond { element: None, a: None, b: None, distance: None, allowed: 0.0, text, elements: 0 };
        return Ok(Judgement::Fails(Box::new(beyond)));
    }
    if differing.is_empty() {
        return Ok(Judgement::Passes);
    }
    if x.bytes > MAX_READ_BYTES {
        let what = format!("`{}` claims {} bytes; no more than {MAX_READ_BYTES} are read", x.name, x.bytes);
        return Err(ReplayError::NotComparable(what));
    }
    let found = match &rule.demand {
        Demand::Statistic { of, abs, rel } => statistic(*of, (*abs, *rel), (a, b), rows)?,
        Demand::TopK(k) => top_k(*k as usize, (a, b), rows, differing)?,
        demand => each(demand, (a, b), rows, differing)?,
    };
    Ok(found.map_or(Judgement::Passes, |beyond| Judgement::Fails(Box::new(beyond))))
}

type Both<'a> = (&'a Elements<'a>, &'a Elements<'a>);

/// Compares element by element.
fn each(
    demand: &Demand,
    (a, b): Both<'_>,
    rows: Range<u64>,
    differing: &Differing,
) -> Result<Option<Beyond>, ReplayError> {
    let mut worst: Option<Beyond> = None;
    for range in differing.ranges(a, rows) {
        let (x, y) = (a.values(range.clone())?, b.values(range.clone())?);
        for (flat, (&x, &y)) in (range.start..).zip(x.iter().zip(&y)) {
            let Some((distance, allowed)) = beyond(demand, x, y) else { continue };
            let elements = worst.as_ref().map_or(0, |w| w.elements) + 1;
            if let Some(worst) = worst.as_mut().filter(|w| w.severity() >= distance.unwrap_or(f64::INFINITY))
            {
                worst.elements = elements;
                continue;
            }
            let (a, b) = (Some(Shown::Value(x)), Some(Shown::Value(y)));
            let text = words(demand, distance, allowed);
            worst = Some(Beyond { element: Some(flat), a, b, distance, allowed, text, elements });
        }
    }
    Ok(worst)
}

fn words(demand: &Demand, distance: Option<f64>, allowed: f64) -> String {
    let ulps = matches!(demand, Demand::Exact | Demand::Ulp(_));
    match distance {
        Some(0.0) => "equal numbers, other bits".to_owned(),
        Some(distance) if ulps => format!("{distance:.0} ulps apart, {allowed:.0} allowed"),
        Some(distance) => format!("{} apart, {} allowed", Number(distance), Number(allowed)),
        None => "no distance: not a finite number on both sides".to_owned(),
    }
}

/// The distance of two values and what is allowed, where it is more than that. A value that is not finite
/// is near nothing but itself; all NaN are one.
pub(crate) fn beyond(demand: &Demand, x: Value, y: Value) -> Option<(Option<f64>, f64)> {
    if x == y {
        return None;
    }
    let ulps = x.ulps(y);
    let float = is_float(x.dtype());
    let number = (x.to_f64(), y.to_f64());
    let finite = !float || number.0.is_finite() && number.1.is_finite();
    let both_nan = float && number.0.is_nan() && number.1.is_nan();
    match demand {
        Demand::Exact => Some((ulps.map(|n| n as f64), 0.0)),
        Demand::Ulp(n) => match ulps {
            _ if both_nan => None,
            Some(ulps) if finite && ulps <= *n => None,
            ulps => Some((ulps.filter(|_| finite).map(|n| n as f64), *n as f64)),
        },
        Demand::Tolerance { abs, rel } => {
            if both_nan {
                return None;
            }
            let allowed = band(*abs, *rel, number.0, number.1);
            if !finite {
                return Some((None, *abs));
            }
            // Of integers the difference is exact even where their conversion is not.
            let integers = ulps.filter(|_| !float).map(|n| n as f64);
            let distance = integers.unwrap_or_else(|| (number.0 - number.1).abs());
            (distance > allowed).then_some((Some(distance), allowed))
        }
        Demand::Codes => {
            let (x, y) = (integer(x), integer(y));
            (x != y).then(|| (Some(x.abs_diff(y) as f64), 0.0))
        }
        Demand::Statistic { .. } | Demand::TopK(_) | Demand::Ignore(_) => None,
    }
}

/// What absolute and relative tolerance allow.
fn band(abs: f64, rel: f64, x: f64, y: f64) -> f64 {
    abs.max(rel * x.abs().max(y.abs()))
}

/// The value of an integer; booleans are 0 or 1.
fn integer(value: Value) -> i128 {
    match value.dtype() {
        DType::I64 => i128::from(value.bits() as i64),
        DType::I32 => i128::from(value.bits() as u32 as i32),
        DType::Bool => i128::from(value.bits() != 0),
        _ => i128::from(value.bits()),
    }
}

/// What statistics are made of.
#[derive(Debug, Clone, Copy)]
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
    nonfinite: u64,
}

impl Sums {
    fn of(elements: &Elements<'_>, rows: Range<u64>) -> Result<Sums, ReplayError> {
        let mut sums = Sums {
            count: 0,
            sum: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            nonfinite: 0,
        };
        for range in Differing::All.ranges(elements, rows) {
            for value in elements.values(range)? {
                let x = value.to_f64();
                sums.count += 1;
                sums.sum += x;
                sums.squares += x * x;
                sums.min = lesser(sums.min, x);
                sums.max = greater(sums.max, x);
                sums.nonfinite += u64::from(!x.is_finite());
            }
        }
        Ok(sums)
    }

    fn statistic(&self, of: Statistic) -> f64 {
        match of {
            Statistic::Mean => self.sum / self.count as f64,
            Statistic::Rms => (self.squares / self.count as f64).sqrt(),
            Statistic::Min => self.min,
            Statistic::Max => self.max,
            Statistic::Nonfinite => self.nonfinite as f64,
        }
    }
}

fn statistic(
    of: Statistic,
    (abs, rel): (f64, f64),
    (a, b): Both<'_>,
    rows: Range<u64>,
) -> Result<Option<Beyond>, ReplayError> {
    let (x, y) = (Sums::of(a, rows.clone())?.statistic(of), Sums::of(b, rows)?.statistic(of));
    let (distance, allowed) = ((x - y).abs(), band(abs, rel, x, y));
    let same = x == y || x.is_nan() && y.is_nan();
    let finite = x.is_finite() && y.is_finite();
    if same || finite && distance <= allowed {
        return Ok(None);
    }
    let name = format!("{of:?}").to_lowercase();
    let distance = finite.then_some(distance);
    let text = format!("{name}: {}", words(&Demand::Statistic { of, abs, rel }, distance, allowed));
    let (a, b) = (Some(Shown::Number(Number(x))), Some(Shown::Number(Number(y))));
    Ok(Some(Beyond { element: None, a, b, distance, allowed, text, elements: 1 }))
}

/// Where a value stands among all: as the numerics contract compares floats.
fn rank(value: Value) -> i128 {
    if is_float(value.dtype()) { order_key(value.to_f64() as f32).into() } else { integer(value) }
}

/// The indices of the K greatest values, greatest first, ties to the lowest index.
pub(crate) fn greatest(
    k: usize,
    elements: &Elements<'_>,
    vector: Range<u64>,
) -> Result<Vec<u64>, ReplayError> {
    let mut best: BTreeSet<(Reverse<i128>, u64)> = BTreeSet::new();
    for range in Differing::All.ranges(elements, vector.clone()) {
        for (flat, value) in (range.start..).zip(elements.values(range)?) {
            best.insert((Reverse(rank(value)), flat - vector.start));
            if best.len() > k {
                best.pop_last();
            }
        }
    }
    Ok(best.into_iter().map(|(_, index)| index).collect())
}

/// The vector along the last axis in which an element lies, within `rows`.
pub(crate) fn vector_of(elements: &Elements<'_>, flat: u64, rows: &Range<u64>) -> Range<u64> {
    let len = elements.record.shape.last().copied().unwrap_or(1).max(1);
    let start = flat / len * len;
    start.max(rows.start)..start.saturating_add(len).min(rows.end)
}

fn top_k(
    k: usize,
    (a, b): Both<'_>,
    rows: Range<u64>,
    differing: &Differing,
) -> Result<Option<Beyond>, ReplayError> {
    let mut found: Option<Beyond> = None;
    let mut done = rows.start;
    for range in differing.ranges(a, rows.clone()) {
        let mut flat = range.start.max(done);
        while flat < range.end {
            let vector = vector_of(a, flat, &rows);
            flat = vector.end;
            done = vector.end;
            let (x, y) = (greatest(k, a, vector.clone())?, greatest(k, b, vector.clone())?);
            let Some(rank) = x.iter().zip(&y).position(|(x, y)| x != y) else { continue };
            if let Some(found) = found.as_mut() {
                found.elements += 1;
                continue;
            }
            let flat = vector.start + x[rank];
            let text =
                format!("number {} of the top {k} is index {} in A, {} in B", rank + 1, x[rank], y[rank]);
            found = Some(Beyond {
                element: Some(flat),
                a: a.value(flat)?.map(Shown::Value),
                b: b.value(flat)?.map(Shown::Value),
                // The earlier the rank, the worse.
                distance: Some((k - rank) as f64),
                allowed: 0.0,
                text,
                elements: 1,
            });
        }
    }
    Ok(found)
}
