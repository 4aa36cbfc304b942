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
            const { assert!(NOT < COMPARISON) };
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
            let noun = if most == 1 { "argument" } else { "arguments" };
            let what = format!("`{}` takes {wants} {noun}, found {}", function.name(), arguments.len());
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONSTANTS: &[&str] = &["boc", "block_tokens"];

    fn name() -> impl Strategy<Value = BufferName> {
        let names = ["last_codes", "last_codes@1", "kv_cache.0", "it's", "a b", "not", "x@y"];
        (any::<bool>(), any::<bool>(), 0..names.len()).prop_map(move |(previous, after, i)| BufferName {
            point: Point { previous, after },
            name: names[i].to_owned(),
        })
    }

    /// Expressions of all kinds; their places are 0.
    fn expressions() -> impl Strategy<Value = Expression> {
        let make = |node| Expression::new(node, 0);
        let leaf = prop_oneof![
            any::<u64>().prop_map(|value| Node::Integer(value.into())),
            (0i128..=i128::MAX).prop_map(Node::Integer),
            (0.0f64..f64::MAX).prop_map(Node::Float),
            Just(Node::Float(5e-324)),
            any::<bool>().prop_map(Node::Truth),
            (0..Known::ALL.len()).prop_map(|i| Node::Known(Known::ALL[i])),
            (0..CONSTANTS.len()).prop_map(|i| Node::Constant(CONSTANTS[i].to_owned())),
            name().prop_map(|name| Node::Buffer(name, Vec::new())),
        ];
        leaf.prop_map(make).prop_recursive(6, 48, 4, move |inner| {
            let some = |least, most| prop::collection::vec(inner.clone(), least..=most);
            prop_oneof![
                (name(), some(1, 3)).prop_map(|(name, indices)| Node::Buffer(name, indices)),
                (any::<bool>(), inner.clone()).prop_map(|(not, a)| {
                    Node::Unary(if not { Unary::Not } else { Unary::Negate }, Box::new(a))
                }),
                (0..Binary::ALL.len(), inner.clone(), inner.clone()).prop_map(|(i, a, b)| Node::Binary(
                    Binary::ALL[i],
                    Box::new(a),
                    Box::new(b)
                )),
                (0..Function::ALL.len(), some(3, 3)).prop_map(|(i, mut parts)| {
                    let function = Function::ALL[i];
                    parts.truncate(function.arguments().1);
                    Node::Call(function, parts)
                }),
            ]
            .prop_map(make)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(expression in expressions()) {
            let text = expression.to_string();
            let back = parse(&text, CONSTANTS);
            prop_assert!(back.as_ref() == Ok(&expression), "{text}\n{back:?}\n{expression:?}");
        }

        #[test]
        fn any_text_is_an_expression_or_an_error_within_it(text in "\\PC{0,60}") {
            if let Err(error) = parse(&text, CONSTANTS) {
                prop_assert!(error.offset <= text.len());
            }
        }

        #[test]
        fn any_words_are_an_expression_or_an_error_within_them(
            words in prop::collection::vec(
                prop_oneof![
                    (0..Binary::ALL.len()).prop_map(|i| Binary::ALL[i].symbol()),
                    prop::sample::select(vec![
                        "(", ")", "[", "]", ",", ".", "@", "not", "-", "before", "after.x", "previous", "k", "if",
                        "min(", "1", "1.5", "1e9", "'q'", "\"", "boc", "true", "length(",
                    ]),
                ],
                0..40,
            )
        ) {
            let text = words.join(" ");
            match parse(&text, CONSTANTS) {
                Ok(expression) => {
                    prop_assert!(parse(&expression.to_string(), CONSTANTS).as_ref() == Ok(&expression), "{text}");
                }
                Err(error) => prop_assert!(error.offset <= text.len()),
            }
        }
    }

    #[test]
    fn operators_bind_as_in_the_languages_that_people_know() {
        for (text, grouped) in [
            ("1 + 2 * 3", "1 + (2 * 3)"),
            ("1 - 2 - 3", "(1 - 2) - 3"),
            ("8 / 4 / 2", "(8 / 4) / 2"),
            ("-1 * 2", "(-1) * 2"),
            ("not step == 1 and true or false", "((not (step == 1)) and true) or false"),
            ("true or false and not true", "true or (false and (not true))"),
            ("step + 1 < rows * 2", "(step + 1) < (rows * 2)"),
            ("before.a[k / 16] * 16 + k % 16", "((before.a[(k / 16)]) * 16) + (k % 16)"),
        ] {
            assert_eq!(parse(text, &[]).unwrap(), parse(grouped, &[]).unwrap(), "{text}");
        }
        assert_ne!(parse("1 - (2 - 3)", &[]).unwrap(), parse("1 - 2 - 3", &[]).unwrap());
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        for (text, offset, what) in [
            ("", 0, "expected a number, a name or `(`, found the end"),
            ("1 +", 3, "expected a number, a name or `(`, found the end"),
            ("(1", 2, "expected `)`, found the end"),
            ("1 2", 2, "expected an operator or the end, found `2`"),
            ("before", 6, "expected `.`, found the end"),
            ("before.7", 7, "expected a buffer's name; one with dots is written in quotes, found `7`"),
            ("before.a@b", 9, "expected a generation such as 0, found `b`"),
            ("previous.a", 9, "expected `before` or `after`, found `a`"),
            ("before.a[1", 10, "expected `,` or `]`, found the end"),
            ("abs(1, 2)", 0, "`abs` takes 1 argument, found 2"),
            ("1 + if(true)", 4, "`if` takes 3 arguments, found 1"),
            ("0 <= step < 3", 10, "comparisons do not chain: write a < b and b < c"),
            ("step = 3", 5, "`=` has no meaning here; write == to compare"),
            ("step && 1", 5, "`&` has no meaning here; write `and`, `or`, `not`"),
            ("1 == not true", 5, "expected an operand; put `not` in parentheses, found `not`"),
            ("1 + 12ab", 4, "not a number: write 16, 1.5 or 1e-3"),
            ("1e999", 0, "a float too great: they have 64 bits here"),
            ("before.'a", 7, "`'` without its end"),
            ("é", 0, "`é` has no meaning here"),
        ] {
            let error = parse(text, &[]).unwrap_err();
            assert_eq!((error.offset, error.what.as_str()), (offset, what), "{text}");
        }
        let error = parse("stepp == 1", &[]).unwrap_err();
        assert!(error.what.starts_with("unknown name `stepp`; did you mean `step`?"), "{error:?}");
        let error = parse(&"9".repeat(60), &[]).unwrap_err();
        assert!(error.what.contains("too great"), "{error:?}");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let hostile = [
            "(".repeat(5000),
            "-".repeat(5000),
            "not ".repeat(4000),
            "abs(".repeat(4000),
            "before.a[".repeat(1500),
            format!("1{}", " + 1".repeat(4000)),
            format!("1{}", " or 1".repeat(3000)),
            "1".repeat(TEXT_MAX + 1),
        ];
        for text in hostile {
            let error = parse(&text, &[]).unwrap_err();
            assert!(error.what.contains("nested deeper") || error.what.contains("bytes"), "{error:?}");
        }
        let deepest = format!("{}1{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX));
        assert!(parse(&deepest, &[]).is_ok());
        assert!(parse(&format!("1{}", " + 1".repeat(DEPTH_MAX - 1)), &[]).is_ok());
        assert!(parse(&format!("1{}", " + 1".repeat(DEPTH_MAX)), &[]).is_err());
    }
}
