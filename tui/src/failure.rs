//! What the user is told when a command cannot do its work.

use std::fmt::Display;

use serde::Serialize;

/// One clear line: what went wrong and where; and what to do about it. Exit status 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// A stable word for programs: `usage`, `input`, `output`, `device`, `not-comparable`, ...
    pub(crate) code: &'static str,
    /// What and where.
    pub(crate) message: String,
    /// What to do, with the next command to copy where there is one.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(code: &'static str, message: impl Display) -> Self {
        Failure { code, message: escape(&message.to_string()), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(escape(&hint.to_string()));
        self
    }
}

/// Text that may come from a stranger's file, with control characters made visible: a terminal must not
/// obey them. Line breaks of our own stay.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push(c),
            // Bidirectional controls reorder what follows on some terminals.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.extend(c.escape_unicode()),
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(escape("a\u{1b}[2Jb\r\u{202e}c\u{7}"), "a\\u{1b}[2Jb\\r\\u{202e}c\\u{7}");
        assert_eq!(escape("zwei\nZeilen: ü"), "zwei\nZeilen: ü");
    }
}
