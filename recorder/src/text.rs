//! Text as the voice knows it: normalised, cut into pieces of at most 100 characters.

/// Longest piece in characters: what the talker was trained on.
pub const PIECE_CHARS: usize = 100;

/// The reference's bound on the rows of a piece; a speaker that has not stopped by then never will.
pub(crate) fn patience(piece: &str) -> usize {
    80 + 8 * piece.len() + 30 * piece.bytes().filter(u8::is_ascii_digit).count()
}

/// Lower case, only `[a-z0-9',.?!-]` and single spaces; `;`, `:` and the em dash become commas,
/// anything else a space; no space before, and no run of, punctuation.
pub fn normalize(text: &str) -> String {
    let mut mapped = String::with_capacity(text.len());
    for c in text.to_lowercase().chars() {
        match c {
            '\u{2019}' => mapped.push('\''),
            '\u{2014}' => mapped.push_str(", "),
            ';' | ':' => mapped.push(','),
            'a'..='z' | '0'..='9' | '\'' | ',' | '.' | '?' | '!' | '-' => mapped.push(c),
            _ => mapped.push(' '),
        }
    }
    let mut out = String::with_capacity(mapped.len());
    for c in mapped.chars() {
        let mark = matches!(c, ',' | '.' | '?' | '!');
        if c == ' ' && out.ends_with(' ') {
            continue;
        }
        if mark && out.ends_with(' ') {
            out.pop();
        }
        out.push(c);
    }
    let mut single = String::with_capacity(out.len());
    for c in out.chars() {
        let mark = |c: char| matches!(c, ',' | '.' | '?' | '!');
        if !(mark(c) && single.ends_with(mark)) {
            single.push(c);
        }
    }
    single.trim_matches([' ', ',', '-']).to_owned()
}

/// Sentences of at most [`PIECE_CHARS`] characters, cut after `.`, `?`, `!`, then after a comma, then
/// at a space; pieces without a letter or digit are dropped.
pub fn pieces(text: &str) -> Vec<String> {
    let normal = normalize(text);
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, _) in normal.match_indices(' ') {
        if normal[..at].ends_with(['.', '?', '!']) {
            sentences.push(&normal[start..at]);
            start = at + 1;
        }
    }
    sentences.push(&normal[start..]);
    let mut pieces = Vec::new();
    for mut sentence in sentences {
        // The text is ASCII by now, so bytes are characters.
        while sentence.len() > PIECE_CHARS {
            let head = &sentence[..PIECE_CHARS];
            let comma = head.rfind(", ").map_or(0, |at| at + 1);
            let space = head.rfind(' ').unwrap_or(0);
            let cut = if comma > 0 {
                comma
            } else if space > 0 {
                space
            } else {
                PIECE_CHARS
            };
            pieces.push(sentence[..cut].trim());
            sentence = sentence[cut..].trim();
        }
        pieces.push(sentence);
    }
    let speakable = |piece: &&str| piece.bytes().any(|b| b.is_ascii_alphanumeric());
    pieces.into_iter().filter(speakable).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs with what `normalize` and `pieces` of `voice/synthesize.py` give for them.
    #[test]
    fn as_the_reference_does_it() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("Hello, World!", "hello, world!", &["hello, world!"]),
            ("  a  ;b: c — d’s  ", "a,b, c, d's", &["a,b, c, d's"]),
            ("What?! No... (really) - ok -", "what? no. really - ok", &["what?", "no.", "really - ok"]),
            ("ünïcode  «text» 12,5%", "n code text 12,5", &["n code text 12,5"]),
            ("one. two? three! four", "one. two? three! four", &["one.", "two?", "three!", "four"]),
            (
                "no stop word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word ",
                "no stop word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word",
                &[
                    "no stop word word word word word word word word word word word word word word word word word word",
                    "word word word word word word word word word word word word word word word word word word word word",
                    "word word",
                ],
            ),
            (
                "a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, ",
                "a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a",
                &[
                    "a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a,",
                    "a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a",
                ],
            ),
            (
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                &[
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                ],
            ),
            ("...", ".", &[]),
            ("dots . , ! spaced", "dots. spaced", &["dots.", "spaced"]),
            ("tab\tand\nnewline. next", "tab and newline. next", &["tab and newline.", "next"]),
            ("trailing, , ,", "trailing", &["trailing"]),
            ("İstanbul and ẞ ok", "i stanbul and ok", &["i stanbul and ok"]),
            ("a .b", "a.b", &["a.b"]),
            ("-- dash -- , end", "dash --, end", &["dash --, end"]),
        ];
        for (text, normal, cut) in cases {
            assert_eq!(normalize(text), *normal, "{text:?}");
            assert_eq!(pieces(text), *cut, "{text:?}");
        }
    }

    #[test]
    fn pieces_are_short_and_speakable() {
        let text = "one, two three. four? ".repeat(40) + &"long".repeat(80);
        let pieces = pieces(&text);
        assert!(pieces.len() > 80);
        assert!(
            pieces.iter().all(|p| (1..=PIECE_CHARS).contains(&p.len()) && normalize(p) == *p),
            "{pieces:?}"
        );
    }
}
