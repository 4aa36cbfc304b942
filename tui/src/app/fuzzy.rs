//! Fuzzy matching: the letters of what is typed, in order.

/// How well `text` matches, less is better; `None` where it does not.
pub(crate) fn score(pattern: &str, text: &str) -> Option<usize> {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    if let Some(at) = text.find(&pattern) {
        return Some(at + text.len() - pattern.len());
    }
    let mut letters = text.char_indices();
    let mut last = 0;
    let mut gaps = 0;
    for wanted in pattern.chars().filter(|c| !c.is_whitespace()) {
        let (at, _) = letters.find(|(_, c)| *c == wanted)?;
        gaps += at.saturating_sub(last);
        last = at + wanted.len_utf8();
    }
    Some(1000 + gaps + text.len())
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn letters_in_order_match_and_substrings_match_better() {
        assert!(score("lc", "last_codes").is_some());
        assert!(score("cl", "last_codes").is_none());
        assert!(score("codes", "codes_out") < score("codes", "last_codes"));
        assert!(score("last_codes", "last_codes") < score("lstcds", "last_codes"));
        assert_eq!(score("", "x"), Some(1));
    }
}
