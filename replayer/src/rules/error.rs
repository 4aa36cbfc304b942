//! What is wrong with a rules file, and where.

use std::ops::Range;

/// A mistake in a rules file: `talker.toml:12:20: unknown name `bofore`; did you mean `before`?`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct RulesError {
    /// Name of the file as it was given.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is there and what was expected.
    pub what: String,
}

impl RulesError {
    /// An error at a byte of the file.
    pub(super) fn at(file: &str, text: &str, offset: usize, what: String) -> RulesError {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RulesError {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..offset].chars().count() + 1,
            what,
        }
    }
}

/// A mistake at a byte of an expression, before it is known where in the file that expression stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) offset: usize,
    pub(super) what: String,
}

/// For each byte of a TOML string's value, and for its end, the byte of the file where it stands.
/// `span` is that of the string with its quotes.
pub(super) fn offsets_in_file(text: &str, span: Range<usize>, value: &str) -> Vec<usize> {
    let raw = text.get(span.clone()).unwrap_or("");
    let quotes =
        ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| raw.starts_with(quotes)).unwrap_or("");
    let basic = quotes.starts_with('"');
    let end = raw.len().saturating_sub(quotes.len());
    let mut at = quotes.len();
    if quotes.len() == 3 {
        let first = raw.get(at..).unwrap_or("");
        at += if first.starts_with("\r\n") { 2 } else { usize::from(first.starts_with('\n')) };
    }
    let mut offsets = Vec::with_capacity(value.len() + 1);
    let mut put = |bytes: usize, at: usize| offsets.extend(std::iter::repeat_n(span.start + at, bytes));
    while at < end {
        let rest = &raw[at..end];
        let Some(first) = rest.chars().next() else { break };
        let (bytes, length) = match (first, rest.chars().nth(1)) {
            ('\\', Some(escape)) if basic => match escape {
                // A line that ends in a backslash goes on at the next thing that is not white space.
                ' ' | '\t' | '\r' | '\n' => (0, rest.len() - rest[1..].trim_start().len()),
                'x' => (escaped(rest, 2), 4),
                'u' => (escaped(rest, 4), 6),
                'U' => (escaped(rest, 8), 10),
                _ => (1, 2),
            },
            ('\r', Some('\n')) => (usize::from(value.contains('\r')), 1),
            _ => (first.len_utf8(), first.len_utf8()),
        };
        put(bytes, at);
        at += length;
    }
    put(1, end.min(at));
    offsets
}

/// Bytes in UTF-8 of the character whose `digits` hexadecimal digits follow a backslash and a letter.
fn escaped(rest: &str, digits: usize) -> usize {
    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    code.and_then(char::from_u32).map_or(1, char::len_utf8)
}
