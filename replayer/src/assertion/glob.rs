//! Names with `*` and `?`: `kv_cache.*`.

use std::fmt;

/// A pattern over names: `*` stands for any run of characters, `?` for one, all else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// The pattern as written.
    pub fn new(pattern: impl Into<String>) -> Glob {
        Glob(pattern.into())
    }

    /// Whether all of `name` is meant. Steps are bounded by the product of the lengths.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and the first character that it does not stand for.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(b'?') => {
                    p += 1;
                    n += character(name, n);
                }
                Some(&c) if c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, from)) = star else { return false };
                    let from = from + character(name, from);
                    star = Some((at, from));
                    (p, n) = (at + 1, from);
                }
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

/// Bytes of the character that begins at `at`.
fn character(name: &[u8], at: usize) -> usize {
    1 + name[at + 1..].iter().take_while(|&&byte| byte & 0xc0 == 0x80).count()
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Glob;

    /// The definition: what a pattern means, one character at a time.
    fn definition(pattern: &[char], name: &[char]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                definition(&pattern[1..], name) || !name.is_empty() && definition(pattern, &name[1..])
            }
            (Some('?'), Some(_)) => definition(&pattern[1..], &name[1..]),
            (Some(p), Some(n)) => p == n && definition(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    #[test]
    fn names() {
        for (pattern, name, matches) in [
            ("kv_cache.*", "kv_cache.0", true),
            ("kv_cache.*", "kv_cache", false),
            ("*", "", true),
            ("*logits", "lm_logits", true),
            ("*logits", "lm_logits_x", false),
            ("layer.?.mlp", "layer.3.mlp", true),
            ("layer.?.mlp", "layer.33.mlp", false),
            ("?", "ü", true),
            ("codes", "codes", true),
            ("codes", "codes_out", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn stars_do_not_multiply_the_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!Glob::new(pattern).matches(&"a".repeat(20_000)));
    }

    proptest! {
        #[test]
        fn matching_is_the_definition(pattern in "[ab.*?ü]{0,8}", name in "[ab.ü]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = definition(&chars(&pattern), &chars(&name));
            prop_assert_eq!(Glob::new(pattern).matches(&name), expected);
        }
    }
}
