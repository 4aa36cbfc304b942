//! What to say of a rule that does not hold: which element, and what it was compared with.

use super::evaluate::{Evaluator, Scalar, indices};
use super::expression::{Binary, BufferName, Expression, Function, Node, Unary};
use crate::value::Value;

/// Buffers whose values are given beside that of an expression over them.
const VALUES_MAX: usize = 4;

/// Why an expression is false.
pub(super) struct Reason {
    /// `last_codes[0,0] is 512, codes_out[0,0] of step 1 is 90`.
    pub(super) text: String,
    /// The buffer that it speaks of first, with its generation.
    pub(super) buffer: Option<String>,
}

/// Says why `expression` is false at an index.
pub(super) struct Describer<'a> {
    pub(super) evaluator: &'a Evaluator<'a>,
    pub(super) rule: &'a Expression,
}

impl Describer<'_> {
    pub(super) fn reason(&self, expression: &Expression, index: &[u64]) -> Reason {
        match &expression.node {
            Node::Binary(Binary::And, a, b) => self.reason(if self.holds(a, index) { b } else { a }, index),
            // All sides are false; the last one is what the rule wants of the elements left to it.
            Node::Binary(Binary::Or, _, b) => self.reason(b, index),
            Node::Binary(operator, a, b) if operator.compares() => self.comparison(*operator, a, b, index),
            Node::Call(Function::If, parts) => {
                self.reason(&parts[if self.holds(&parts[0], index) { 1 } else { 2 }], index)
            }
            Node::Call(Function::All, parts) => {
                let shape = self.evaluator.frame(&parts[0]).unwrap_or_default();
                let broken = indices(&shape).find(|at| !self.holds(&parts[0], at));
                broken.map_or_else(|| self.single(expression, index), |at| self.reason(&parts[0], &at))
            }
            Node::Unary(Unary::Not, a) => self.single(a, index),
            _ => self.single(expression, index),
        }
    }

    fn holds(&self, expression: &Expression, index: &[u64]) -> bool {
        self.evaluator.value(expression, index).is_ok_and(Scalar::truth)
    }

    fn single(&self, expression: &Expression, index: &[u64]) -> Reason {
        Reason { text: self.side(expression, index), buffer: self.buffer(&[expression]) }
    }

    fn comparison(&self, operator: Binary, a: &Expression, b: &Expression, index: &[u64]) -> Reason {
        let buffer = self.buffer(&[a, b]);
        let literal = |side: &Expression| {
            matches!(side.node, Node::Integer(_) | Node::Float(_) | Node::Truth(_))
                || matches!(&side.node, Node::Unary(Unary::Negate, a) if matches!(a.node, Node::Integer(_) | Node::Float(_)))
        };
        let text = match (literal(a), literal(b)) {
            (false, true) => format!("{}, wants {} {b}", self.side(a, index), operator.symbol()),
            (true, false) => format!("{}, wants {} {a}", self.side(b, index), mirrored(operator).symbol()),
            _ => format!("{}, {}", self.side(a, index), self.side(b, index)),
        };
        Reason { text, buffer }
    }

    /// One side with its value, and those of the buffers in it.
    fn side(&self, expression: &Expression, index: &[u64]) -> String {
        let Ok(value) = self.evaluator.value(expression, index) else { return format!("`{expression}`") };
        match &expression.node {
            Node::Buffer(name, parts) => match self.element(name, parts, index) {
                Some((place, value)) => format!("{place} is {value}"),
                None => format!("{name} is {value}"),
            },
            Node::Constant(_) | Node::Known(_) => format!("{expression} is {value}"),
            _ => {
                let values = self.values(expression, index);
                let values =
                    if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
                format!("`{expression}` is {value}{values}")
            }
        }
    }

    /// The element of a buffer that is looked at: its place in words, and its value.
    fn element(&self, name: &BufferName, parts: &[Expression], index: &[u64]) -> Option<(String, Value)> {
        let (seen, at) = self.evaluator.place(name, parts, index).ok()?;
        let value = seen.element(&at)?;
        let whole: Vec<String> = seen.row.iter().chain(&at).map(u64::to_string).collect();
        let mut place = name.name.clone();
        if !whole.is_empty() {
            place += &format!("[{}]", whole.join(","));
        }
        // Said only where the rule looks at both.
        let twin = |other: &BufferName| {
            let (a, b) = (other.point, name.point);
            other.name == name.name && a.previous == b.previous && a.after != b.after
        };
        if self.rule.buffers().into_iter().any(twin) {
            place += if name.point.after { " after" } else { " before" };
        }
        if name.point.previous {
            place += &format!(" of step {}", self.evaluator.scene.step.saturating_sub(1));
        }
        Some((place, value))
    }

    /// Values of the elements that an expression is made of.
    fn values(&self, expression: &Expression, index: &[u64]) -> Vec<String> {
        let mut values = Vec::new();
        self.collect(expression, index, &mut values);
        values
    }

    fn collect(&self, expression: &Expression, index: &[u64], values: &mut Vec<String>) {
        if let Node::Buffer(name, parts) = &expression.node
            && let Some((place, value)) = self.element(name, parts, index)
        {
            let text = format!("{place} is {value}");
            if values.len() < VALUES_MAX && !values.contains(&text) {
                values.push(text);
            }
        }
        match &expression.node {
            // What gathers has indices of its own.
            Node::Call(function, arguments) if function.gathers(arguments.len()) => {}
            _ => expression.parts().into_iter().for_each(|part| self.collect(part, index, values)),
        }
    }

    fn buffer(&self, expressions: &[&Expression]) -> Option<String> {
        let mut first = None;
        for expression in expressions {
            expression.walk(&mut |part| {
                if let Node::Buffer(name, _) = &part.node
                    && first.is_none()
                {
                    first = self.evaluator.scene.buffers.get(name).map(|seen| seen.recorded.name.clone());
                }
            });
        }
        first
    }
}

/// The comparison with its sides exchanged.
fn mirrored(operator: Binary) -> Binary {
    match operator {
        Binary::Less => Binary::Greater,
        Binary::LessEqual => Binary::GreaterEqual,
        Binary::Greater => Binary::Less,
        Binary::GreaterEqual => Binary::LessEqual,
        other => other,
    }
}
