//! Whether every rule can fail: a value is changed just beyond what the rule allows, in a copy of B.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use twinstep_traces::{BufferId, DType, SnapshotId, Trace};

use crate::ReplayError;
use crate::assertion::compare::{Judgement, beyond, greatest, judge, rows_of, vector_of};
use crate::assertion::elements::{Differing, Elements, Overlay};
use crate::assertion::policy::{Demand, Policy, Rule};
use crate::assertion::report::{AssertError, SelfTest, SelfTestReport, SelfTestState};
use crate::assertion::walk::{Rules, walk};
use crate::at::At;
use crate::comparable::comparable;
use crate::selection::index_of;
use crate::value::{Value, is_float};

/// The most elements that are changed for one rule: a count of values that are not finite may need several.
const CHANGED_MAX: u64 = 4096;
/// The most places of one rule that are tried.
const TRIED_MAX: usize = 8;

/// A place that a rule judges and where it passes.
#[derive(Debug, Clone)]
struct GreenPlace {
    at: At,
    point: String,
    a: (SnapshotId, BufferId),
    b: (SnapshotId, BufferId),
    row: Option<u64>,
}

/// Changes, for every rule, one value just beyond what it allows and looks whether the rule fails.
///
/// # Errors
/// As [`assert_traces`](crate::assert_traces).
pub fn self_test(a: &Trace, b: &Trace, policy: &Policy) -> Result<SelfTestReport, AssertError> {
    comparable(a, b)?;
    let rules = Rules::of(policy);
    let count = rules.rules.len();
    let mut places: Vec<Vec<GreenPlace>> = vec![Vec::new(); count];
    let mut seen: Vec<BTreeSet<BufferId>> = vec![BTreeSet::new(); count];
    let mut red = vec![false; count];
    walk((a, b), &rules, None, &mut |judged| {
        match judged.judgement {
            Judgement::Passes => {
                let rule = judged.rule;
                // One place a buffer: what cannot fail in one may in another.
                if places[rule].len() < TRIED_MAX && seen[rule].insert(judged.a.id) {
                    places[rule].push(GreenPlace {
                        at: judged.at,
                        point: judged.point.to_owned(),
                        a: (judged.a.snapshot, judged.a.id),
                        b: (judged.b.snapshot, judged.b.id),
                        row: judged.row,
                    });
                }
            }
            Judgement::Fails(_) => red[judged.rule] = true,
            Judgement::Empty | Judgement::Inapplicable(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    let mut tests = Vec::new();
    for (i, rule) in rules.rules.iter().enumerate() {
        let (state, text) = test((a, b), &rules, i, &places[i], red[i])?;
        // What judges the rest need not judge anything.
        if state != SelfTestState::NoMatch || i < policy.rules.len() {
            tests.push(SelfTest { rule: rule.name.clone(), line: rule.line, state, text });
        }
    }
    let fails = |test: &SelfTest| matches!(test.state, SelfTestState::Green | SelfTestState::NoMatch);
    Ok(SelfTestReport { passes: !tests.iter().any(fails), rules: tests })
}

fn test(
    (a, b): (&Trace, &Trace),
    rules: &Rules<'_>,
    index: usize,
    places: &[GreenPlace],
    red: bool,
) -> Result<(SelfTestState, String), AssertError> {
    let rule = &rules.rules[index];
    if let Demand::Ignore(reason) = &rule.demand {
        return Ok((SelfTestState::NotChecked, format!("not checked: {reason}")));
    }
    if places.is_empty() {
        return Ok(match red {
            true => (SelfTestState::AlreadyRed, "fails without a change".to_owned()),
            false => (SelfTestState::NoMatch, "judges no place".to_owned()),
        });
    }
    for place in places {
        let Some((overlay, text)) = change((a, b), rule, place)? else { continue };
        let mut fails = false;
        walk((a, b), rules, Some(&overlay), &mut |judged| {
            let here = judged.at == place.at
                && judged.point == place.point
                && (judged.b.snapshot, judged.b.id) == place.b;
            if here {
                fails = judged.rule == index && matches!(judged.judgement, Judgement::Fails(_));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let text = format!("step {} {}: {text}", place.at, place.point);
        return Ok(match fails {
            true => (SelfTestState::Red, text),
            false => (SelfTestState::Green, format!("{text}, and it passes all the same")),
        });
    }
    let text = format!("allows every value at step {} {}: it checks nothing", places[0].at, places[0].point);
    Ok((SelfTestState::Green, text))
}

/// A change of B that the rule must not let pass, and what it is; none where the rule allows everything.
fn change(
    (a, b): (&Trace, &Trace),
    rule: &Rule,
    place: &GreenPlace,
) -> Result<Option<(Overlay, String)>, ReplayError> {
    let (Some(x), Some(y)) =
        (Elements::new(a, place.a.0, place.a.1, None), Elements::new(b, place.b.0, place.b.1, None))
    else {
        return Ok(None);
    };
    let rows = rows_of(rule, &x, place.row);
    let try_out = Try { b, rule, place, x, y };
    match &rule.demand {
        Demand::Statistic { .. } => statistic(&try_out, rows),
        Demand::TopK(k) => top_k(&try_out, *k as usize, rows),
        demand => {
            let flat = rows.start;
            let (Some(va), Some(vb)) = (x.value(flat)?, y.value(flat)?) else { return Ok(None) };
            let value = just_beyond(vb, |value| beyond(demand, va, value).is_some());
            value.map_or(Ok(None), |value| try_out.with(&[(flat, value)]))
        }
    }
}

/// The value nearest to `from` for which `fails` holds, among the greater ones, then the lesser ones, then
/// those that are not finite. `fails` is taken to hold from some distance on.
fn just_beyond(from: Value, fails: impl Fn(Value) -> bool) -> Option<Value> {
    let (low, high) = bounds(from);
    let here = ordinal(from).clamp(low, high);
    for end in [high, low] {
        let at = |distance: i128| from_ordinal(from, here + distance * (end - here).signum());
        let (mut passes, mut farthest) = (0, (end - here).abs());
        if farthest == 0 || !at(farthest).is_some_and(&fails) {
            continue;
        }
        while farthest - passes > 1 {
            let middle = passes + (farthest - passes) / 2;
            match at(middle).is_some_and(&fails) {
                true => farthest = middle,
                false => passes = middle,
            }
        }
        return at(farthest);
    }
    nan(from).filter(|&nan| fails(nan))
}

/// A NaN of a float type.
fn nan(of: Value) -> Option<Value> {
    is_float(of.dtype()).then(|| Value::parse(of.dtype(), "NaN").ok()).flatten()
}

/// Position among the values of a type: finite floats in rising order, integers as they are.
fn ordinal(value: Value) -> i128 {
    let bits = 8 * value.dtype().size() as u32;
    let sign = 1u64 << (bits - 1);
    let magnitude = i128::from(value.bits() & (sign - 1));
    match value.dtype() {
        dtype if is_float(dtype) => {
            if value.bits() & sign == 0 {
                magnitude
            } else {
                -magnitude
            }
        }
        DType::I64 => i128::from(value.bits() as i64),
        DType::I32 => i128::from(value.bits() as u32 as i32),
        _ => i128::from(value.bits()),
    }
}

/// The least and the greatest position of a finite value of the type.
fn bounds(of: Value) -> (i128, i128) {
    match of.dtype() {
        DType::F32 => (-0x7f7f_ffff, 0x7f7f_ffff),
        DType::F16 => (-0x7bff, 0x7bff),
        DType::Bf16 => (-0x7f7f, 0x7f7f),
        DType::I64 => (i64::MIN.into(), i64::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::U32 => (0, u32::MAX.into()),
        DType::U64 => (0, u64::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::Bool => (0, 1),
    }
}

/// The value at a position of `of`'s type.
fn from_ordinal(of: Value, position: i128) -> Option<Value> {
    let (dtype, size) = (of.dtype(), of.dtype().size() as usize);
    let bits = if is_float(dtype) {
        let sign = u128::from(position < 0) << (8 * size - 1);
        position.unsigned_abs() | sign
    } else {
        position as u128
    };
    Value::from_bytes(dtype, bits.to_le_bytes().get(..size)?)
}

/// A place with a change being tried.
struct Try<'a> {
    b: &'a Trace,
    rule: &'a Rule,
    place: &'a GreenPlace,
    x: Elements<'a>,
    y: Elements<'a>,
}

impl Try<'_> {
    fn overlay(&self, changes: &[(u64, Value)]) -> Overlay {
        let (snapshot, buffer) = self.place.b;
        Overlay { snapshot, buffer, values: changes.iter().copied().collect() }
    }

    /// Whether the rule fails with these values.
    fn fails(&self, changes: &[(u64, Value)]) -> Result<bool, ReplayError> {
        let overlay = self.overlay(changes);
        let (snapshot, buffer) = self.place.b;
        let Some(y) = Elements::new(self.b, snapshot, buffer, Some(&overlay)) else { return Ok(false) };
        let judgement = judge(self.rule, &self.x, &y, self.place.row, &Differing::All)?;
        Ok(matches!(judgement, Judgement::Fails(_)))
    }

    /// The change, in words too.
    fn with(&self, changes: &[(u64, Value)]) -> Result<Option<(Overlay, String)>, ReplayError> {
        let Some(&(flat, value)) = changes.first() else { return Ok(None) };
        let was = self.y.value(flat)?.map_or(String::new(), |value| value.to_string());
        let index: Vec<String> = index_of(flat, &self.y.record.shape).iter().map(u64::to_string).collect();
        let more = match changes.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let text = format!("{}[{}] from {was} to {value}{more}", self.y.record.name, index.join(","));
        Ok(Some((self.overlay(changes), text)))
    }
}

/// Some elements made so great, so small or no numbers that the statistic leaves its band.
fn statistic(place: &Try<'_>, rows: Range<u64>) -> Result<Option<(Overlay, String)>, ReplayError> {
    let flat = rows.start;
    let Some(from) = place.y.value(flat)? else { return Ok(None) };
    let (low, high) = bounds(from);
    let here = ordinal(from).clamp(low, high);
    // The last distance beyond the end of the type is its end.
    let value = |position: i128| from_ordinal(from, position.clamp(low, high));
    // First by powers of two, then between the last two: each trial reads the whole buffer.
    for distance in (0..64).map(|i| 1i128 << i) {
        for direction in [1, -1] {
            let at = |distance: i128| value(here + direction * distance);
            let Some(mut found) = at(distance) else { continue };
            if !place.fails(&[(flat, found)])? {
                continue;
            }
            let (mut passes, mut farthest) = (distance / 2, distance);
            while farthest - passes > 1 {
                let middle = passes + (farthest - passes) / 2;
                match at(middle) {
                    Some(value) if place.fails(&[(flat, value)])? => (farthest, found) = (middle, value),
                    _ => passes = middle,
                }
            }
            return place.with(&[(flat, found)]);
        }
    }
    let Some(nan) = nan(from) else { return Ok(None) };
    let mut count = 1;
    while count <= CHANGED_MAX.min(rows.end - rows.start) {
        let changes: Vec<(u64, Value)> = (flat..flat + count).map(|flat| (flat, nan)).collect();
        if place.fails(&changes)? {
            return place.with(&changes);
        }
        count *= 2;
    }
    Ok(None)
}

/// The last of the K greatest exchanged with the next one.
fn top_k(place: &Try<'_>, k: usize, rows: Range<u64>) -> Result<Option<(Overlay, String)>, ReplayError> {
    let vector = vector_of(&place.y, rows.start, &rows);
    let order = greatest(k.saturating_add(1), &place.y, vector.clone())?;
    let [.., last, next] = order[..] else { return Ok(None) };
    let (last, next) = (vector.start + last, vector.start + next);
    let (Some(greater), Some(lesser)) = (place.y.value(last)?, place.y.value(next)?) else { return Ok(None) };
    let neighbour = |of: Value, by: i128| {
        let (low, high) = bounds(of);
        let position = ordinal(of) + by;
        from_ordinal(of, position).filter(|_| (low..=high).contains(&position))
    };
    let candidates = [
        (last, neighbour(lesser, -1)),
        (next, neighbour(greater, 1)),
        (last, nan(greater)),
        (next, from_ordinal(lesser, bounds(lesser).1)),
    ];
    for (flat, value) in candidates {
        if let Some(value) = value
            && place.fails(&[(flat, value)])?
        {
            return place.with(&[(flat, value)]);
        }
    }
    Ok(None)
}
