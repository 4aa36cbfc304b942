//! The expression that a text says.

use super::error::SyntaxError;
use super::expression::{
    Binary, BufferName, COMPARISON, DEPTH_MAX, Expression, Function, Known, NEGATE, NOT, Node, Point, Unary,
};
use super::token::{Token, tokens};
use crate::suggest::{did_you_mean, nearest};

/// Bytes of one expression.
const TEXT_MAX: usize = 16 << 10;

/// Reads an expression; `constants` are the names that the file defines.
pub(super) fn parse(text: &str, constants: &[&str]) -> Result<Expression, SyntaxError> {
    if text.len() > TEXT_MAX {
        let what = format!("an expression of {} bytes; at most {TEXT_MAX} are read", text.len());
        return Err(SyntaxError { offset: 0, what });
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, constants };
    let expression = parser.expression(0, 0)?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => Err(parser.wanted("an operator or the end")),
    }
}

/// Words that no constant may have as its name.
pub(super) fn reserved() -> impl Iterator<Item = &'static str> {
    let words = ["before", "after", "previous", "and", "or", "not", "true", "false"];
    let known = Known::ALL.into_iter().map(Known::name);
    words.into_iter().chain(known).chain(Function::ALL.into_iter().map(Function::name))
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    constants: &'a [&'a str],
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |&(offset, _)| offset)
    }

    fn take(&mut self) -> (usize, Token) {
        let taken = (self.offset(), self.peek().clone());
        self.next += 1;
        taken
    }

    fn wanted(&self, what: &str) -> SyntaxError {
        SyntaxError {
            offset: self.offset(),
            what: format!("expected {what}, found {}", self.peek().describe()),
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn sign(&mut self, sign: &str) -> Result<(), SyntaxError> {
        if !self.is_sign(sign) {
            return Err(self.wanted(&format!("`{sign}`")));
        }
        self.next += 1;
        Ok(())
    }

    fn operator(&self) -> Option<Binary> {
        let symbol = match self.peek() {
            Token::Sign(sign) => sign,
            Token::Word(word) => word.as_str(),
            _ => return None,
        };
        Binary::ALL.into_iter().find(|operator| operator.symbol() == symbol)
    }

    fn make(node: Node, at: usize) -> Result<Expression, SyntaxError> {
        let expression = Expression::new(node, at);
        if expression.depth > DEPTH_MAX {
            return Err(too_deep(at));
        }
        Ok(expression)
    }

    /// An expression of operators that bind at least as strongly as `least`, `depth` levels down.
    fn expression(&mut self, least: u8, depth: usize) -> Result<Expression, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(too_deep(self.offset()));
        }
        let mut left = self.unary(least, depth)?;
        while let Some(operator) = self.operator().filter(|operator| operator.strength() >= least) {
            let (at, _) = self.take();
            let right = self.expression(operator.strength() + 1, depth + 1)?;
            left = Self::make(Node::Binary(operator, Box::new(left), Box::new(right)), at)?;
            if operator.compares() && self.operator().is_some_and(Binary::compares) {
                let what = "comparisons do not chain: write a < b and b < c".to_owned();
                return Err(SyntaxError { offset: self.offset(), what });
            }
        }
        Ok(left)
    }

    fn unary(&mut self, least: u8, depth: usize) -> Result<Expression, SyntaxError> {
        let at = self.offset();
        if self.is_sign("-") {
            self.next += 1;
            let operand = self.expression(NEGATE, depth + 1)?;
            return Self::make(Node::Unary(Unary::Negate, Box::new(operand)), at);
        }
        if matches!(self.peek(), Token::Word(word) if word == "not") {
            if least > NOT {
                return Err(self.wanted("an operand; put `not` in parentheses"));
            }
            self.next += 1;
            // Not below a comparison, so `not a == b` denies the comparison.
            let operand = self.expression(NOT, depth + 1)?;
            debug_assert!(NOT < COMPARISON);
            return Self::make(Node::Unary(Unary::Not, Box::new(operand)), at);
        }
        self.operand(depth)
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        let wanted = self.wanted("a number, a name or `(`");
        let (at, token) = self.take();
        match token {
            Token::Integer(value) => Self::make(Node::Integer(value), at),
            Token::Float(value) => Self::make(Node::Float(value), at),
            Token::Sign("(") => {
                let inner = self.expression(0, depth + 1)?;
                self.sign(")")?;
                Ok(inner)
            }
            Token::Word(word) => self.word(at, &word, depth).and_then(|node| Self::make(node, at)),
            _ => Err(wanted),
        }
    }

    fn word(&mut self, at: usize, word: &str, depth: usize) -> Result<Node, SyntaxError> {
        match word {
            "true" | "false" => return Ok(Node::Truth(word == "true")),
            "before" | "after" => {
                return self.buffer(Point { previous: false, after: word == "after" }, depth);
            }
            "previous" => {
                self.sign(".")?;
                let after = match self.peek() {
                    Token::Word(word) if word == "before" => false,
                    Token::Word(word) if word == "after" => true,
                    _ => return Err(self.wanted("`before` or `after`")),
                };
                self.next += 1;
                return self.buffer(Point { previous: true, after }, depth);
            }
            _ => {}
        }
        if let Some(function) = Function::ALL.into_iter().find(|function| function.name() == word) {
            return self.call(at, function, depth);
        }
        if let Some(known) = Known::ALL.into_iter().find(|known| known.name() == word) {
            return Ok(Node::Known(known));
        }
        if self.constants.contains(&word) {
            return Ok(Node::Constant(word.to_owned()));
        }
        let names: Vec<&str> =
            reserved().map(|word| word as &str).chain(self.constants.iter().copied()).collect();
        let what = format!(
            "unknown name `{word}`{}; buffers are written before.NAME or after.NAME",
            did_you_mean(&nearest(word, names.into_iter()))
        );
        Err(SyntaxError { offset: at, what })
    }

    fn buffer(&mut self, point: Point, depth: usize) -> Result<Node, SyntaxError> {
        self.sign(".")?;
        let wanted = self.wanted("a buffer's name; one with dots is written in quotes");
        let mut name = match self.take().1 {
            Token::Word(name) | Token::Quoted(name) => name,
            _ => return Err(wanted),
        };
        if self.is_sign("@") {
            self.next += 1;
            let wanted = self.wanted("a generation such as 0");
            match self.take().1 {
                Token::Integer(generation) => name = format!("{name}@{generation}"),
                _ => return Err(wanted),
            }
        }
        let indices = if self.is_sign("[") { self.list("[", "]", depth)? } else { Vec::new() };
        Ok(Node::Buffer(BufferName { point, name }, indices))
    }

    fn call(&mut self, at: usize, function: Function, depth: usize) -> Result<Node, SyntaxError> {
        let arguments = self.list("(", ")", depth)?;
        let (least, most) = function.arguments();
        if !(least..=most).contains(&arguments.len()) {
            let wants = if least == most { least.to_string() } else { format!("{least} to {most}") };
            let what = format!("`{}` takes {wants} arguments, found {}", function.name(), arguments.len());
            return Err(SyntaxError { offset: at, what });
        }
        Ok(Node::Call(function, arguments))
    }

    fn list(&mut self, open: &str, close: &str, depth: usize) -> Result<Vec<Expression>, SyntaxError> {
        self.sign(open)?;
        let mut parts = vec![self.expression(0, depth + 1)?];
        while self.is_sign(",") {
            self.next += 1;
            parts.push(self.expression(0, depth + 1)?);
        }
        if !self.is_sign(close) {
            return Err(self.wanted(&format!("`,` or `{close}`")));
        }
        self.next += 1;
        Ok(parts)
    }
}

fn too_deep(offset: usize) -> SyntaxError {
    SyntaxError { offset, what: format!("nested deeper than {DEPTH_MAX} levels") }
}
