//! Strings of a file as a program sees them: one line each, whatever a stranger wrote.
//!
//! Names and words of a trace end up within lines for people, in commands to copy, in the log of a CI. A line break in
//! a buffer's name would make a second line there that says what its author likes. So control characters are
//! read as they are written in a Rust string: `\n`, `\u{1b}`. The bytes in the file are as they were.

use serde::{Deserialize, Deserializer};

fn shown(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// For `deserialize_with`: a string whose control characters are escaped.
pub(super) fn line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(shown)
}

/// The same for pairs of a key and a value.
pub(super) fn lines<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    let pairs = Vec::<(String, String)>::deserialize(from)?;
    Ok(pairs.into_iter().map(|(key, value)| (shown(key), shown(value))).collect())
}
