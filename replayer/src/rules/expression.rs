//! Expressions of rules: what they are, and how they are written.

use std::collections::BTreeSet;
use std::fmt;

/// Levels that an expression may have: evaluation and printing recurse.
pub(super) const DEPTH_MAX: usize = 128;

/// An expression with its place in its text. Two are equal if they say the same, wherever they stand.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    pub(super) node: Node,
    /// Byte in the expression's text.
    pub(super) at: usize,
    /// Levels below it, itself included.
    pub(super) depth: usize,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Integer(i128),
    Float(f64),
    Truth(bool),
    Known(Known),
    Constant(String),
    /// A buffer, whole or with indices along its leading axes.
    Buffer(BufferName, Vec<Expression>),
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
}

/// Numbers that every step has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Step,
    Request,
    PromptTokens,
    Rows,
    /// Index along the last axis.
    K,
}

impl Known {
    pub(super) const ALL: [Known; 5] =
        [Known::Step, Known::Request, Known::PromptTokens, Known::Rows, Known::K];

    pub(super) fn name(self) -> &'static str {
        match self {
            Known::Step => "step",
            Known::Request => "request",
            Known::PromptTokens => "prompt_tokens",
            Known::Rows => "rows",
            Known::K => "k",
        }
    }
}

/// A snapshot that an expression looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    /// The step before this one in the same request.
    pub(super) previous: bool,
    /// `step.after`, else `step.before`.
    pub(super) after: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.previous { "previous." } else { "" })?;
        f.write_str(if self.after { "after" } else { "before" })
    }
}

/// A buffer at a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BufferName {
    pub(super) point: Point,
    /// With its generation, where one is given: `last_codes`, `last_codes@1`.
    pub(super) name: String,
}

/// Whether a name is written without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    let (bare, generation) = match name.split_once('@') {
        Some((bare, generation)) => (bare, Some(generation)),
        None => (name, None),
    };
    let mut chars = bare.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && generation.is_none_or(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
}

impl fmt::Display for BufferName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (is_plain(&self.name), self.name.contains('\'')) {
            (true, _) => write!(f, "{}.{}", self.point, self.name),
            (false, false) => write!(f, "{}.'{}'", self.point, self.name),
            (false, true) => write!(f, "{}.\"{}\"", self.point, self.name),
        }
    }
}

/// Operators on one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Negate,
    Not,
}

/// Operators on two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Binary {
    pub(super) const ALL: [Binary; 13] = [
        Binary::Or,
        Binary::And,
        Binary::Equal,
        Binary::NotEqual,
        Binary::Less,
        Binary::LessEqual,
        Binary::Greater,
        Binary::GreaterEqual,
        Binary::Add,
        Binary::Subtract,
        Binary::Multiply,
        Binary::Divide,
        Binary::Modulo,
    ];

    pub(super) fn symbol(self) -> &'static str {
        match self {
            Binary::Or => "or",
            Binary::And => "and",
            Binary::Equal => "==",
            Binary::NotEqual => "!=",
            Binary::Less => "<",
            Binary::LessEqual => "<=",
            Binary::Greater => ">",
            Binary::GreaterEqual => ">=",
            Binary::Add => "+",
            Binary::Subtract => "-",
            Binary::Multiply => "*",
            Binary::Divide => "/",
            Binary::Modulo => "%",
        }
    }

    /// How strongly it binds; `not` lies between `and` and comparisons, `-x` above all.
    pub(super) fn strength(self) -> u8 {
        match self {
            Binary::Or => 1,
            Binary::And => 2,
            Binary::Add | Binary::Subtract => 5,
            Binary::Multiply | Binary::Divide | Binary::Modulo => 6,
            _ => COMPARISON,
        }
    }

    pub(super) fn compares(self) -> bool {
        self.strength() == COMPARISON
    }
}

/// How strongly `not` binds.
pub(super) const NOT: u8 = 3;
/// How strongly comparisons bind.
pub(super) const COMPARISON: u8 = 4;
/// How strongly a minus before an operand binds.
pub(super) const NEGATE: u8 = 7;
/// What needs no parentheses anywhere.
const OPERAND: u8 = 8;

/// Functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    If,
    Min,
    Max,
    Abs,
    Any,
    All,
    Length,
}

impl Function {
    pub(super) const ALL: [Function; 7] = [
        Function::If,
        Function::Min,
        Function::Max,
        Function::Abs,
        Function::Any,
        Function::All,
        Function::Length,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Function::If => "if",
            Function::Min => "min",
            Function::Max => "max",
            Function::Abs => "abs",
            Function::Any => "any",
            Function::All => "all",
            Function::Length => "length",
        }
    }

    /// Least and greatest number of arguments.
    pub(super) fn arguments(self) -> (usize, usize) {
        match self {
            Function::If => (3, 3),
            Function::Min | Function::Max => (1, 16),
            Function::Abs | Function::Any | Function::All | Function::Length => (1, 1),
        }
    }

    /// Whether it makes one value of all elements of its argument.
    pub(super) fn gathers(self, arguments: usize) -> bool {
        match self {
            Function::Any | Function::All | Function::Length => true,
            Function::Min | Function::Max => arguments == 1,
            Function::If | Function::Abs => false,
        }
    }
}

impl Expression {
    /// An expression over others.
    pub(super) fn new(node: Node, at: usize) -> Expression {
        let mut expression = Expression { node, at, depth: 0 };
        expression.depth = 1 + expression.parts().iter().map(|part| part.depth).max().unwrap_or(0);
        expression
    }

    /// The expressions that it is made of.
    pub(super) fn parts(&self) -> Vec<&Expression> {
        match &self.node {
            Node::Unary(_, a) => vec![a],
            Node::Binary(_, a, b) => vec![a, b],
            Node::Buffer(_, parts) | Node::Call(_, parts) => parts.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Calls `visit` with it and all that it is made of.
    pub(super) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expression)) {
        visit(self);
        for part in self.parts() {
            part.walk(visit);
        }
    }

    /// Every buffer that it names.
    pub(super) fn buffers(&self) -> BTreeSet<&BufferName> {
        let mut names = BTreeSet::new();
        self.walk(&mut |part| {
            if let Node::Buffer(name, _) = &part.node {
                names.insert(name);
            }
        });
        names
    }

    fn strength(&self) -> u8 {
        match &self.node {
            Node::Unary(Unary::Negate, _) => NEGATE,
            Node::Unary(Unary::Not, _) => NOT,
            Node::Binary(operator, ..) => operator.strength(),
            _ => OPERAND,
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.strength() < least { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

fn list(f: &mut fmt::Formatter<'_>, parts: &[Expression]) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        write!(f, "{}{part}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Integer(value) => write!(f, "{value}"),
            Node::Float(value) => write!(f, "{value:?}"),
            Node::Truth(value) => write!(f, "{value}"),
            Node::Known(known) => f.write_str(known.name()),
            Node::Constant(name) => f.write_str(name),
            Node::Buffer(name, indices) => {
                write!(f, "{name}")?;
                if indices.is_empty() {
                    return Ok(());
                }
                f.write_str("[")?;
                list(f, indices)?;
                f.write_str("]")
            }
            Node::Unary(Unary::Negate, a) => {
                f.write_str("-")?;
                a.show(f, NEGATE)
            }
            Node::Unary(Unary::Not, a) => {
                f.write_str("not ")?;
                a.show(f, NOT)
            }
            Node::Binary(operator, a, b) => {
                let strength = operator.strength();
                // Comparisons do not chain; all others group to the left.
                a.show(f, strength + u8::from(operator.compares()))?;
                write!(f, " {} ", operator.symbol())?;
                b.show(f, strength + 1)
            }
            Node::Call(function, arguments) => {
                write!(f, "{}(", function.name())?;
                list(f, arguments)?;
                f.write_str(")")
            }
        }
    }
}
