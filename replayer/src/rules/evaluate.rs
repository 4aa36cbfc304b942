//! The value of an expression at a step, element by element.
//!
//! An element is evaluated by itself, so that `if`, `and` and `or` look only at what they need and
//! nothing but one element at a time is held. What gathers all elements (`all`, `max` of one array)
//! does not depend on where it is asked and is computed once.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use twinstep_traces::DType;

use super::expression::{Binary, BufferName, Expression, Function, Known, Node, Unary};
use super::moment::{ELEMENTS_MAX, Recorded};
use crate::number::Number;
use crate::value::{Value, is_float};

/// One element's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    Integer(i128),
    Float(f64),
    Truth(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Integer(value) => write!(f, "{value}"),
            Scalar::Float(value) => write!(f, "{}", Number(*value)),
            Scalar::Truth(value) => write!(f, "{value}"),
        }
    }
}

impl Scalar {
    pub(super) fn of(value: Value) -> Scalar {
        match value.dtype() {
            dtype if is_float(dtype) => Scalar::Float(value.to_f64()),
            DType::Bool => Scalar::Truth(value.bits() != 0),
            DType::I64 => Scalar::Integer((value.bits() as i64).into()),
            DType::I32 => Scalar::Integer((value.bits() as u32 as i32).into()),
            _ => Scalar::Integer(value.bits().into()),
        }
    }

    /// A number is true unless it is 0.
    pub(super) fn truth(self) -> bool {
        match self {
            Scalar::Integer(value) => value != 0,
            Scalar::Float(value) => value != 0.0,
            Scalar::Truth(value) => value,
        }
    }

    /// As an integer, with `true` as 1; `None` for a float.
    fn integer(self) -> Option<i128> {
        match self {
            Scalar::Integer(value) => Some(value),
            Scalar::Truth(value) => Some(value.into()),
            Scalar::Float(_) => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Scalar::Integer(value) => value as f64,
            Scalar::Float(value) => value,
            Scalar::Truth(value) => f64::from(u8::from(value)),
        }
    }

    /// Integers exactly; where one is a float, both as floats. NaN has no order.
    fn compare(self, other: Scalar) -> Option<Ordering> {
        match (self.integer(), other.integer()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The values of the trace leave none: the rule is broken.
    Broken(String),
    /// The trace has no place for it, or does not hold it.
    NotLookedAt(String),
}

/// A buffer as a rule sees it: cut to a row, where the rule looks at rows.
pub(super) struct Seen {
    pub(super) recorded: Rc<Recorded>,
    /// The row that it is cut to.
    pub(super) row: Option<u64>,
    /// Shape after the cut.
    pub(super) shape: Vec<u64>,
}

impl Seen {
    /// The element at an index into the cut shape.
    pub(super) fn element(&self, index: &[u64]) -> Option<Value> {
        let mut flat = self.row.unwrap_or(0);
        for (&i, &n) in index.iter().zip(&self.shape) {
            flat = flat.checked_mul(n)?.checked_add(i)?;
        }
        self.recorded.element(flat)
    }
}

/// What an expression can refer to.
pub(super) struct Scene<'a> {
    pub(super) buffers: BTreeMap<&'a BufferName, Seen>,
    pub(super) constants: &'a BTreeMap<String, Scalar>,
    pub(super) step: u32,
    pub(super) request: u32,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) rows: u32,
    /// Evaluations that may still be made.
    pub(super) budget: &'a Cell<u64>,
}

/// Evaluates the expressions of one rule at one step.
pub(super) struct Evaluator<'a> {
    pub(super) scene: &'a Scene<'a>,
    /// What gathers all elements, by its place.
    gathered: RefCell<BTreeMap<usize, Result<Scalar, Trouble>>>,
}

fn unfit<T>(what: String) -> Result<T, Trouble> {
    Err(Trouble::NotLookedAt(what))
}

/// The shape of two arrays side by side: aligned at their last axes, an axis of 1 repeats.
fn broadcast(a: &[u64], b: &[u64]) -> Result<Vec<u64>, Trouble> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut shape = long.to_vec();
    let lead = long.len() - short.len();
    for (n, &m) in shape[lead..].iter_mut().zip(short) {
        if *n == 1 {
            *n = m;
        } else if m != 1 && m != *n {
            return unfit(format!("shapes {a:?} and {b:?} do not fit together"));
        }
    }
    if shape.iter().try_fold(1u64, |all, &n| all.checked_mul(n)).is_none_or(|all| all > ELEMENTS_MAX) {
        return unfit(format!("shape {shape:?} has more than {ELEMENTS_MAX} elements"));
    }
    Ok(shape)
}

/// Whether an index along the last axis is asked for outside of what gathers elements.
fn uses_axis(expression: &Expression) -> bool {
    match &expression.node {
        Node::Known(known) => *known == Known::K,
        Node::Call(function, arguments) if function.gathers(arguments.len()) => false,
        _ => expression.parts().into_iter().any(uses_axis),
    }
}

/// All indices into a shape, in row-major order.
pub(super) fn indices(shape: &[u64]) -> impl Iterator<Item = Vec<u64>> + '_ {
    let elements = shape.iter().product::<u64>();
    (0..elements).map(|flat| crate::selection::index_of(flat, shape))
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(scene: &'a Scene<'a>) -> Self {
        Evaluator { scene, gathered: RefCell::default() }
    }

    /// The shape of a whole expression: of a rule, or of what is gathered.
    pub(super) fn frame(&self, expression: &Expression) -> Result<Vec<u64>, Trouble> {
        let shape = self.shape(expression)?;
        if shape.is_empty() && uses_axis(expression) {
            return unfit(
                "`k` counts along the last axis of an array, and there is none beside it".to_owned(),
            );
        }
        Ok(shape)
    }

    fn shape(&self, expression: &Expression) -> Result<Vec<u64>, Trouble> {
        match &expression.node {
            Node::Buffer(name, indices) => {
                let Some(seen) = self.scene.buffers.get(name) else { return Ok(Vec::new()) };
                if indices.is_empty() {
                    return broadcast(&seen.shape, &[]);
                }
                let mut shape = Vec::new();
                for index in indices {
                    shape = broadcast(&shape, &self.shape(index)?)?;
                }
                match indices.len().cmp(&seen.shape.len()) {
                    Ordering::Equal => Ok(shape),
                    Ordering::Less if shape.is_empty() && !indices.iter().any(uses_axis) => {
                        broadcast(&seen.shape[indices.len()..], &[])
                    }
                    _ => unfit(format!(
                        "`{expression}` has {} indices, wants {}",
                        indices.len(),
                        seen.shape.len()
                    )),
                }
            }
            Node::Unary(_, a) => self.shape(a),
            Node::Binary(_, a, b) => broadcast(&self.shape(a)?, &self.shape(b)?),
            Node::Call(function, arguments) if function.gathers(arguments.len()) => Ok(Vec::new()),
            Node::Call(_, arguments) => {
                arguments.iter().try_fold(Vec::new(), |shape, part| broadcast(&shape, &self.shape(part)?))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The value at an index into the frame's shape.
    pub(super) fn value(&self, expression: &Expression, index: &[u64]) -> Result<Scalar, Trouble> {
        let Some(left) = self.scene.budget.get().checked_sub(1) else {
            return unfit("too much work for one rule".to_owned());
        };
        self.scene.budget.set(left);
        match &expression.node {
            Node::Integer(value) => Ok(Scalar::Integer(*value)),
            Node::Float(value) => Ok(Scalar::Float(*value)),
            Node::Truth(value) => Ok(Scalar::Truth(*value)),
            Node::Known(known) => self.known(*known, index),
            Node::Constant(name) => self.scene.constants.get(name).copied().ok_or_else(|| {
                Trouble::NotLookedAt(format!("the profile of this trace has no constant `{name}`"))
            }),
            Node::Buffer(name, indices) => {
                let (seen, at) = self.place(name, indices, index)?;
                let damaged = || Trouble::NotLookedAt(format!("`{name}` has fewer bytes than its shape"));
                seen.element(&at).map(Scalar::of).ok_or_else(damaged)
            }
            Node::Unary(Unary::Not, a) => Ok(Scalar::Truth(!self.value(a, index)?.truth())),
            Node::Unary(Unary::Negate, a) => {
                let a = self.value(a, index)?;
                match a.integer() {
                    Some(a) => a.checked_neg().map(Scalar::Integer).ok_or_else(|| overflow(expression)),
                    None => Ok(Scalar::Float(-a.float())),
                }
            }
            Node::Binary(Binary::And, a, b) => {
                Ok(Scalar::Truth(self.value(a, index)?.truth() && self.value(b, index)?.truth()))
            }
            Node::Binary(Binary::Or, a, b) => {
                Ok(Scalar::Truth(self.value(a, index)?.truth() || self.value(b, index)?.truth()))
            }
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.value(a, index)?, self.value(b, index)?);
                if operator.compares() {
                    return Ok(Scalar::Truth(compare(*operator, a, b)));
                }
                arithmetic(*operator, a, b, expression)
            }
            Node::Call(function, arguments) => self.call(expression, *function, arguments, index),
        }
    }

    fn known(&self, known: Known, index: &[u64]) -> Result<Scalar, Trouble> {
        let value = match known {
            Known::Step => self.scene.step.into(),
            Known::Request => self.scene.request.into(),
            Known::Rows => self.scene.rows.into(),
            Known::PromptTokens => match self.scene.prompt_tokens {
                Some(tokens) => tokens.into(),
                None => return unfit(format!("no record of request {}", self.scene.request)),
            },
            Known::K => index.last().copied().unwrap_or(0).into(),
        };
        Ok(Scalar::Integer(value))
    }

    /// A buffer and the index into its cut shape that an index into the frame means.
    pub(super) fn place(
        &self,
        name: &BufferName,
        indices: &[Expression],
        index: &[u64],
    ) -> Result<(&Seen, Vec<u64>), Trouble> {
        let Some(seen) = self.scene.buffers.get(name) else {
            return unfit(format!("`{name}` is not in this trace"));
        };
        let mut at = Vec::with_capacity(seen.shape.len());
        for (axis, expression) in indices.iter().enumerate() {
            let value = self.value(expression, index)?;
            let length = seen.shape.get(axis).copied().unwrap_or(0);
            let inside = value.integer().and_then(|i| u64::try_from(i).ok()).filter(|&i| i < length);
            at.push(inside.ok_or_else(|| {
                Trouble::Broken(format!(
                    "index {value} of `{name}` is out of range: the axis has {length} elements"
                ))
            })?);
        }
        let rest = &seen.shape[at.len().min(seen.shape.len())..];
        let lead = index.len().saturating_sub(rest.len());
        at.extend(rest.iter().zip(&index[lead..]).map(|(&n, &i)| if n == 1 { 0 } else { i }));
        Ok((seen, at))
    }

    fn call(
        &self,
        expression: &Expression,
        function: Function,
        arguments: &[Expression],
        index: &[u64],
    ) -> Result<Scalar, Trouble> {
        if function.gathers(arguments.len()) {
            let known = self.gathered.borrow().get(&expression.at).cloned();
            return known.unwrap_or_else(|| {
                let value = self.gather(function, &arguments[0]);
                self.gathered.borrow_mut().insert(expression.at, value.clone());
                value
            });
        }
        let first = self.value(&arguments[0], index)?;
        match function {
            Function::If => self.value(&arguments[if first.truth() { 1 } else { 2 }], index),
            Function::Abs => match first.integer() {
                Some(a) => a.checked_abs().map(Scalar::Integer).ok_or_else(|| overflow(expression)),
                None => Ok(Scalar::Float(first.float().abs())),
            },
            _ => arguments[1..]
                .iter()
                .try_fold(first, |chosen, part| Ok(choose(function, chosen, self.value(part, index)?))),
        }
    }

    fn gather(&self, function: Function, argument: &Expression) -> Result<Scalar, Trouble> {
        let shape = self.frame(argument)?;
        if function == Function::Length {
            let none = || Trouble::NotLookedAt(format!("`{argument}` has no axis and so no length"));
            return shape.last().map(|&n| Scalar::Integer(n.into())).ok_or_else(none);
        }
        let mut chosen = None;
        for at in indices(&shape) {
            let value = self.value(argument, &at)?;
            match function {
                Function::Any if value.truth() => return Ok(Scalar::Truth(true)),
                Function::All if !value.truth() => return Ok(Scalar::Truth(false)),
                Function::Any | Function::All => {}
                _ => chosen = Some(chosen.map_or(value, |chosen| choose(function, chosen, value))),
            }
        }
        match function {
            Function::Any | Function::All => Ok(Scalar::Truth(function == Function::All)),
            _ => chosen.ok_or_else(|| Trouble::Broken(format!("`{}` of no elements", function.name()))),
        }
    }
}

pub(super) fn compare(operator: Binary, a: Scalar, b: Scalar) -> bool {
    let order = a.compare(b);
    match operator {
        Binary::Equal => order == Some(Ordering::Equal),
        Binary::NotEqual => order != Some(Ordering::Equal),
        Binary::Less => order == Some(Ordering::Less),
        Binary::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Binary::Greater => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// The lesser or the greater; NaN, where one is, so that it does not go unseen.
fn choose(function: Function, a: Scalar, b: Scalar) -> Scalar {
    match a.compare(b) {
        None if a.float().is_nan() => a,
        None => b,
        Some(order) => {
            let keep = if function == Function::Min { order.is_le() } else { order.is_ge() };
            if keep { a } else { b }
        }
    }
}

fn overflow(expression: &Expression) -> Trouble {
    Trouble::Broken(format!("`{expression}` does not fit an integer of 128 bits"))
}

fn arithmetic(operator: Binary, a: Scalar, b: Scalar, expression: &Expression) -> Result<Scalar, Trouble> {
    let divides = matches!(operator, Binary::Divide | Binary::Modulo);
    if divides && b.float() == 0.0 {
        return Err(Trouble::Broken(format!("`{expression}` divides by zero")));
    }
    let (Some(x), Some(y)) = (a.integer(), b.integer()) else {
        let (a, b) = (a.float(), b.float());
        return Ok(Scalar::Float(match operator {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide => a / b,
            _ => a - b * (a / b).floor(),
        }));
    };
    let value = match operator {
        Binary::Add => x.checked_add(y),
        Binary::Subtract => x.checked_sub(y),
        Binary::Multiply => x.checked_mul(y),
        // Rounded down, so that the remainder has the divisor's sign.
        Binary::Divide => x.checked_div(y).map(|q| if q * y != x && (x < 0) != (y < 0) { q - 1 } else { q }),
        _ => x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
    };
    value.map(Scalar::Integer).ok_or_else(|| overflow(expression))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::expression::Point;
    use super::*;

    const HERE: Point = Point { previous: false, after: false };
    /// Buffers whose shapes always fit together, and the cells of a grid of 2 by 3 that they fill.
    const BUFFERS: [(&str, &[u64]); 3] = [("grid", &[2, 3]), ("line", &[3]), ("one", &[])];
    const STEP: u32 = 4;

    fn name(i: usize) -> BufferName {
        BufferName { point: HERE, name: BUFFERS[i].0.to_owned() }
    }

    fn element(i: usize, flat: usize) -> i64 {
        [[-3, 0, 5, 2, -1, 7], [1, 0, -2, 0, 0, 0], [3, 0, 0, 0, 0, 0]][i][flat]
    }

    fn scene<'a>(
        names: &'a [BufferName],
        constants: &'a BTreeMap<String, Scalar>,
        budget: &'a Cell<u64>,
    ) -> Scene<'a> {
        let seen = |i: usize| {
            let shape = BUFFERS[i].1.to_vec();
            let elements = shape.iter().product::<u64>() as usize;
            let bytes = (0..elements).flat_map(|flat| element(i, flat).to_le_bytes()).collect();
            let recorded =
                Recorded { name: BUFFERS[i].0.to_owned(), shape: shape.clone(), dtype: DType::I64, bytes };
            Seen { recorded: Rc::new(recorded), row: None, shape }
        };
        let buffers = names.iter().enumerate().map(|(i, name)| (name, seen(i))).collect();
        Scene { buffers, constants, step: STEP, request: 1, prompt_tokens: None, rows: 2, budget }
    }

    fn expressions() -> impl Strategy<Value = Expression> {
        let make = |node| Expression::new(node, 0);
        let leaf = prop_oneof![
            (0i128..5).prop_map(Node::Integer),
            Just(Node::Integer(i128::MAX)),
            any::<bool>().prop_map(Node::Truth),
            Just(Node::Known(Known::K)),
            Just(Node::Known(Known::Step)),
            (0..BUFFERS.len()).prop_map(|i| Node::Buffer(name(i), Vec::new())),
            (0..BUFFERS.len()).prop_map(|i| Node::Buffer(name(i), Vec::new())),
        ];
        leaf.prop_map(make).prop_recursive(5, 32, 3, move |inner| {
            let functions =
                [Function::If, Function::Min, Function::Max, Function::Abs, Function::Any, Function::All];
            prop_oneof![
                inner.clone().prop_map(|index| Node::Buffer(name(1), vec![index])),
                (any::<bool>(), inner.clone()).prop_map(|(not, a)| {
                    Node::Unary(if not { Unary::Not } else { Unary::Negate }, Box::new(a))
                }),
                (0..Binary::ALL.len(), inner.clone(), inner.clone()).prop_map(|(i, a, b)| Node::Binary(
                    Binary::ALL[i],
                    Box::new(a),
                    Box::new(b)
                )),
                (0..functions.len(), any::<bool>(), [inner.clone(), inner.clone(), inner]).prop_map(
                    move |(i, single, parts)| {
                        let mut parts = parts.to_vec();
                        let (least, most) = functions[i].arguments();
                        parts.truncate(if single { least } else { most });
                        Node::Call(functions[i], parts)
                    }
                ),
            ]
            .prop_map(make)
        })
    }

    /// All six cells of the grid at once, integers alone, with truth as 0 and 1; `None` where there is
    /// no value.
    type Cells = [Option<i128>; 6];

    fn naive(expression: &Expression) -> Cells {
        let map2 = |a: &Expression, b: &Expression, of: &dyn Fn(i128, i128) -> Option<i128>| {
            let (a, b) = (naive(a), naive(b));
            std::array::from_fn(|i| of(a[i]?, b[i]?))
        };
        match &expression.node {
            Node::Integer(value) => [Some(*value); 6],
            Node::Truth(value) => [Some((*value).into()); 6],
            Node::Known(Known::K) => std::array::from_fn(|i| Some(i as i128 % 3)),
            Node::Known(_) => [Some(STEP.into()); 6],
            Node::Buffer(buffer, indices) if indices.is_empty() => {
                let i = BUFFERS.iter().position(|(name, _)| *name == buffer.name).unwrap();
                std::array::from_fn(|cell| Some(element(i, [cell, cell % 3, 0][i]).into()))
            }
            Node::Buffer(_, indices) => naive(&indices[0])
                .map(|i| i.filter(|i| (0..3).contains(i)).map(|i| element(1, i as usize).into())),
            Node::Unary(Unary::Not, a) => naive(a).map(|a| a.map(|a| i128::from(a == 0))),
            Node::Unary(Unary::Negate, a) => naive(a).map(|a| a?.checked_neg()),
            Node::Binary(operator, a, b) => match operator {
                Binary::And | Binary::Or => {
                    let (a, b) = (naive(a), naive(b));
                    let decides = i128::from(*operator == Binary::Or);
                    std::array::from_fn(|i| match a[i]? {
                        a if i128::from(a != 0) == decides => Some(decides),
                        _ => b[i].map(|b| i128::from(b != 0)),
                    })
                }
                Binary::Equal => map2(a, b, &|a, b| Some((a == b).into())),
                Binary::NotEqual => map2(a, b, &|a, b| Some((a != b).into())),
                Binary::Less => map2(a, b, &|a, b| Some((a < b).into())),
                Binary::LessEqual => map2(a, b, &|a, b| Some((a <= b).into())),
                Binary::Greater => map2(a, b, &|a, b| Some((a > b).into())),
                Binary::GreaterEqual => map2(a, b, &|a, b| Some((a >= b).into())),
                Binary::Add => map2(a, b, &i128::checked_add),
                Binary::Subtract => map2(a, b, &i128::checked_sub),
                Binary::Multiply => map2(a, b, &i128::checked_mul),
                // Euclid's remainder is never negative; a negative divisor shifts it.
                Binary::Modulo => map2(a, b, &|a, b| {
                    let r = a.checked_rem_euclid(b)?;
                    Some(if b < 0 && r > 0 { r + b } else { r })
                }),
                Binary::Divide => map2(a, b, &|a, b| {
                    let up = b < 0 && a.checked_rem_euclid(b)? > 0;
                    a.checked_div_euclid(b)?.checked_sub(up.into())
                }),
            },
            Node::Call(function, parts) => {
                let cells: Vec<Cells> = parts.iter().map(naive).collect();
                let least = |a: i128, b: i128| if *function == Function::Min { a.min(b) } else { a.max(b) };
                match function {
                    Function::If => std::array::from_fn(|i| cells[if cells[0][i]? != 0 { 1 } else { 2 }][i]),
                    Function::Abs => cells[0].map(|a| a?.checked_abs()),
                    Function::Any | Function::All => {
                        let decides = *function == Function::Any;
                        // The first cell that decides, unless one without a value comes before it.
                        let first = cells[0].iter().find(|cell| cell.is_none_or(|a| (a != 0) == decides));
                        [first.map_or(Some((!decides).into()), |cell| cell.map(|_| decides.into())); 6]
                    }
                    _ if cells.len() == 1 => {
                        let all: Option<Vec<i128>> = cells[0].iter().copied().collect();
                        [all.and_then(|all| all.into_iter().reduce(least)); 6]
                    }
                    _ => std::array::from_fn(|i| {
                        let all: Option<Vec<i128>> = cells.iter().map(|cells| cells[i]).collect();
                        all?.into_iter().reduce(least)
                    }),
                }
            }
            Node::Float(_) | Node::Constant(_) => [None; 6],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn each_element_is_what_all_at_once_give(expression in expressions()) {
            // Places tell gathered parts apart, so they have to be real ones.
            let expression = super::super::parse::parse(&expression.to_string(), &[]).unwrap();
            let names = [name(0), name(1), name(2)];
            let (constants, budget) = (BTreeMap::new(), Cell::new(u64::MAX));
            let scene = scene(&names, &constants, &budget);
            let evaluator = Evaluator::new(&scene);
            let expected = naive(&expression);
            let Ok(shape) = evaluator.frame(&expression) else {
                prop_assert!(uses_axis(&expression), "{expression}");
                return Ok(());
            };
            for (cell, at) in indices(&shape).enumerate() {
                match evaluator.value(&expression, &at) {
                    Ok(value) => prop_assert_eq!(value.integer(), expected[cell], "{} at {:?}", expression, at),
                    Err(Trouble::Broken(_)) => prop_assert_eq!(expected[cell], None, "{} at {:?}", expression, at),
                    // Only `k` with nothing beside it has no place here.
                    Err(Trouble::NotLookedAt(what)) => prop_assert!(what.contains("`k`"), "{what}"),
                }
            }
        }
    }

    #[test]
    fn work_is_bounded() {
        let names = [name(0), name(1), name(2)];
        let (constants, budget) = (BTreeMap::new(), Cell::new(20));
        let scene = scene(&names, &constants, &budget);
        let expression = super::super::parse::parse("all(before.grid < 9 and before.grid < 9)", &[]).unwrap();
        let found = Evaluator::new(&scene).value(&expression, &[]);
        assert_eq!(found, Err(Trouble::NotLookedAt("too much work for one rule".to_owned())));
        budget.set(100);
        assert_eq!(Evaluator::new(&scene).value(&expression, &[]), Ok(Scalar::Truth(true)));
    }

    #[test]
    fn arrays_are_bounded() {
        assert_eq!(broadcast(&[2, 1], &[3]), Ok(vec![2, 3]));
        assert_eq!(broadcast(&[], &[0]), Ok(vec![0]));
        assert!(broadcast(&[2], &[3]).is_err());
        assert!(broadcast(&[1 << 11, 1], &[1 << 11]).is_err());
        assert!(broadcast(&[u64::MAX, u64::MAX, 0], &[]).is_err());
    }
}
