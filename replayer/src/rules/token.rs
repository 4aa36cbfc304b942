//! Words, numbers and signs of an expression.

use super::error::SyntaxError;

/// A piece of an expression's text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Integer(i128),
    Float(f64),
    Word(String),
    Quoted(String),
    Sign(&'static str),
    End,
}

impl Token {
    /// As it is named in messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Integer(value) => format!("`{value}`"),
            Token::Float(value) => format!("`{value:?}`"),
            Token::Word(word) => format!("`{word}`"),
            Token::Quoted(name) => format!("'{}'", name.escape_debug()),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        }
    }
}

/// Longer ones come first.
const SIGNS: [&str; 18] =
    ["==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", ".", "@"];

/// The tokens of a text, each with the byte where it begins; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let wrong = |what: String| SyntaxError { offset: at, what };
        let (token, length) = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if first.is_ascii_digit() {
            number(rest).map_err(wrong)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Word(rest[..length].to_owned()), length)
        } else if first == '\'' || first == '"' {
            let end = rest[1..].find(first).ok_or_else(|| wrong(format!("`{first}` without its end")))?;
            let name = &rest[1..=end];
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(wrong("a buffer's name in quotes must be on one line and not empty".to_owned()));
            }
            (Token::Quoted(name.to_owned()), end + 2)
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (Token::Sign(sign), sign.len())
        } else {
            let hint = match first {
                '=' => "; write == to compare",
                '&' | '|' | '!' => "; write `and`, `or`, `not`",
                _ => "",
            };
            return Err(wrong(format!("`{}` has no meaning here{hint}", first.escape_debug())));
        };
        found.push((at, token));
        at += length;
    }
    found.push((at, Token::End));
    Ok(found)
}

/// The number that a text begins with, and its length.
fn number(text: &str) -> Result<(Token, usize), String> {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(0);
    let mut float = false;
    if text[length..].starts_with('.') && digits(length + 1) > 0 {
        float = true;
        length += 1 + digits(length + 1);
    }
    if text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            float = true;
            length += 1 + sign + exponent;
        }
    }
    if text[length..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err("not a number: write 16, 1.5 or 1e-3".to_owned());
    }
    let number = &text[..length];
    if !float {
        let too_great = |_| "an integer too great: they have 128 bits here".to_owned();
        return Ok((Token::Integer(number.parse().map_err(too_great)?), length));
    }
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite());
    Ok((Token::Float(value.ok_or("a float too great: they have 64 bits here")?), length))
}
