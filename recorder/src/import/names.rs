//! What a file's path, or an array's key, says: which request, step, rank, point and buffer.
//!
//! | written | means |
//! | --- | --- |
//! | `step7`, `step_0007`, `decode-12`, `iter3`, `token5`, `pass=4`, or a number by itself | the step |
//! | `prefill`, `prefill_0` | the step before the first numbered one |
//! | `r2`, `req2`, `request_2` | the request |
//! | `rank1`, `rank_1` | the rank |
//! | `before`, `after` | the point |
//!
//! Words end at `/`, `.`, `_`, `-`, `=`, `,` and spaces. The number of a layer (`layers.3`) is no step. What is left
//! over names a buffer.

use std::cmp::Ordering;

use regex::Regex;

/// Words before the number of a step.
const STEP_WORDS: &[&str] = &["step", "decode", "iter", "iteration", "token", "pass"];

/// Words whose number says which part of a model or machine, so that it is not the step.
const PART_WORDS: &[&str] = &[
    "layer", "layers", "block", "blocks", "head", "heads", "expert", "experts", "stage", "tp", "pp", "dp",
    "ep", "gpu", "cuda", "device", "pid",
];

/// What ends a word.
const SEPARATORS: [char; 7] = ['/', '.', '_', '-', '=', ',', ' '];

/// Words before the number of a request; the first only directly before it.
const REQUEST_WORDS: &[&str] = &["r", "req", "request"];

/// A step as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// The one before the first that has a number.
    Prefill,
    Number(u32),
}

/// A request as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Request {
    Number(u32),
    /// Only a pattern of the user's finds these.
    Id(String),
}

/// What was recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Recognised {
    pub(super) request: Option<Request>,
    pub(super) step: Option<Step>,
    pub(super) rank: Option<u32>,
    /// `before`, `after`, or what a pattern of the user's found.
    pub(super) point: Option<String>,
    /// What is left over.
    pub(super) rest: String,
    /// Whether the number of the step has a minus before it, as no step of a trace has.
    pub(super) negative: bool,
}

/// A word, and what separates it from the one before.
struct Word<'a> {
    separator: &'a str,
    text: &'a str,
    used: bool,
    /// Whether a `-` stands before it that does not separate it from a word.
    minus: bool,
}

/// What a path without its extension, or a key, says by itself.
pub(super) fn recognise(text: &str) -> Recognised {
    let mut words = split(text);
    let mut found = Recognised { rank: take_number(&mut words, &["rank"], &[]), ..Recognised::default() };
    found.request = take_number(&mut words, REQUEST_WORDS, &["r"]).map(Request::Number);
    let minuses = words.iter().filter(|w| w.used && w.minus).count();
    found.step = take_number(&mut words, STEP_WORDS, &[]).map(Step::Number);
    // Nothing but the step has taken a number since.
    let before = words.iter().filter(|w| w.used && w.minus).count();
    found.negative = found.step.is_some() && before > minuses;
    if found.step.is_none() {
        // Where decode steps count from 0, `prefill_0` is not the first of them.
        let number = take_number(&mut words, &["prefill"], &[]);
        found.step = number.map(|n| if n == 0 { Step::Prefill } else { Step::Number(n) });
    }
    if found.step.is_none() {
        found.step = take_bare_number(&mut words).map(Step::Number);
        found.negative = words.iter().filter(|w| w.used && w.minus).count() > minuses;
    }
    if found.step.is_none() && words.iter().any(|w| !w.used && w.text.eq_ignore_ascii_case("prefill")) {
        found.step = Some(Step::Prefill);
    }
    if found.step.is_some() {
        // `step1_prefill`, `step2_decode`: what kind of step it is, not which buffer.
        let kind = |text: &str| ["prefill", "decode"].iter().any(|k| text.eq_ignore_ascii_case(k));
        words.iter_mut().filter(|w| kind(w.text)).for_each(|w| w.used = true);
    }
    for word in words.iter_mut().filter(|w| !w.used) {
        let lower = word.text.to_ascii_lowercase();
        if found.point.is_none() && ["before", "after"].contains(&lower.as_str()) {
            found.point = Some(lower);
            word.used = true;
        }
    }
    for word in words.iter().filter(|w| !w.used) {
        if !found.rest.is_empty() {
            found.rest.push_str(if word.separator == "/" { "." } else { word.separator });
        }
        found.rest.push_str(word.text);
    }
    found
}

fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (mut separator, mut start) = ("", 0);
    for (at, _) in text.match_indices(SEPARATORS).chain([(text.len(), "")]) {
        if at > start {
            let minus = separator == "-" && (start == 1 || text[..start - 1].ends_with(SEPARATORS));
            let minus = minus && number(&text[start..at]).is_some();
            words.push(Word { separator, text: &text[start..at], used: false, minus });
        }
        separator = text.get(at..at + 1).unwrap_or("");
        start = at + 1;
    }
    words
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// The number after the first of some words, glued to it or as the next word.
fn take_number(words: &mut [Word<'_>], names: &[&str], only_glued: &[&str]) -> Option<u32> {
    for i in 0..words.len() {
        if words[i].used {
            continue;
        }
        let text = words[i].text;
        let letters = text.len() - text.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (word, digits) = text.split_at(letters);
        if !names.iter().any(|name| name.eq_ignore_ascii_case(word)) {
            continue;
        }
        if let Some(n) = number(digits) {
            words[i].used = true;
            return Some(n);
        }
        let glued = only_glued.iter().any(|name| name.eq_ignore_ascii_case(word));
        let next = words.get(i + 1).filter(|next| digits.is_empty() && !glued && !next.used);
        if let Some(n) = next.and_then(|next| number(next.text)) {
            (words[i].used, words[i + 1].used) = (true, true);
            return Some(n);
        }
    }
    None
}

/// Words that are a number by themselves, other than that of a part.
fn bare_numbers(words: &[Word<'_>]) -> Vec<usize> {
    let part = |i: usize| PART_WORDS.iter().any(|part| part.eq_ignore_ascii_case(words[i].text));
    let bare = |&i: &usize| !words[i].used && number(words[i].text).is_some() && !(i > 0 && part(i - 1));
    (0..words.len()).filter(bare).collect()
}

/// A number by itself, where there is one only: of the words between slashes, else of all.
fn take_bare_number(words: &mut [Word<'_>]) -> Option<u32> {
    let whole = |i: usize| {
        let begins = i == 0 || words[i].separator == "/";
        begins && words.get(i + 1).is_none_or(|next| next.separator == "/")
    };
    let numbers = bare_numbers(words);
    let between: Vec<usize> = numbers.iter().copied().filter(|&i| whole(i)).collect();
    let i = match (&between[..], &numbers[..]) {
        ([i], _) | ([], [i]) => *i,
        _ => return None,
    };
    words[i].used = true;
    number(words[i].text)
}

/// Why a name says no step.
pub(super) fn no_step(text: &str) -> &'static str {
    if bare_numbers(&split(text)).len() > 1 {
        "its name has several numbers, and no word such as `step` before one of them"
    } else {
        "its name says no step"
    }
}

/// What a pattern of the user's finds in a path; `None` where it does not match.
///
/// # Errors
/// A group that has no number where one belongs.
pub(super) fn by_pattern(pattern: &Regex, path: &str) -> Result<Option<Recognised>, String> {
    let Some(captures) = pattern.captures(path) else { return Ok(None) };
    let group = |name: &str| captures.name(name).map(|m| m.as_str());
    let step = match group("step") {
        Some(text) if text.eq_ignore_ascii_case("prefill") => Some(Step::Prefill),
        Some(text) => Some(Step::Number(
            text.parse()
                .map_err(|_| format!("`{text}`, which group `step` found, is no number up to 2^32"))?,
        )),
        None => None,
    };
    let rank = group("rank").map(|text| {
        text.parse().map_err(|_| format!("`{text}`, which group `rank` found, is no number up to 2^32"))
    });
    let request =
        group("request").map(|text| number(text).map_or(Request::Id(text.to_owned()), Request::Number));
    Ok(Some(Recognised {
        request,
        step,
        rank: rank.transpose()?,
        point: group("point").map(str::to_owned),
        rest: group("buffer").unwrap_or("").to_owned(),
        negative: false,
    }))
}

/// A key without a point at its end or beginning, and the point: `last_codes.before`, `before/last_codes`.
pub(super) fn without_point(key: &str) -> (&str, Option<&str>) {
    const BETWEEN: [char; 3] = ['.', '/', ':'];
    for point in ["before", "after"] {
        let end = key.strip_suffix(point).and_then(|name| name.strip_suffix(BETWEEN));
        let name = end.or_else(|| key.strip_prefix(point).and_then(|name| name.strip_prefix(BETWEEN)));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return (name, Some(point));
        }
    }
    (key, None)
}

/// The order in which people count: runs of digits by their number, `layer.2` before `layer.10`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let (Some(c), Some(d)) = (x.chars().next(), y.chars().next()) else {
            return x.len().cmp(&y.len()).then_with(|| a.cmp(b));
        };
        if !(c.is_ascii_digit() && d.is_ascii_digit()) {
            if c != d {
                return c.cmp(&d);
            }
            (x, y) = (&x[c.len_utf8()..], &y[d.len_utf8()..]);
            continue;
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let ((m, x_rest), (n, y_rest)) = (x.split_at(digits(x)), y.split_at(digits(y)));
        let (m, n) = (m.trim_start_matches('0'), n.trim_start_matches('0'));
        let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
        if order != Ordering::Equal {
            return order;
        }
        (x, y) = (x_rest, y_rest);
    }
}

/// A name that can be written in commands: `[`, `@`, spaces and the like become `_`.
pub(super) fn plain(name: &str) -> String {
    let plain = |c: char| match c {
        '/' => '.',
        c if c.is_alphanumeric() || ".-_".contains(c) => c,
        _ => '_',
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let found = recognise(text);
        let part = |name: &str, value: Option<String>| value.map_or(String::new(), |v| format!("{name}{v} "));
        let step = found.step.map(|step| match step {
            Step::Prefill => "prefill".to_owned(),
            Step::Number(n) => n.to_string(),
        });
        let request = found.request.map(|request| match request {
            Request::Number(n) => n.to_string(),
            Request::Id(id) => id,
        });
        let parts = [
            part("r", request),
            part("s", step),
            part("rank", found.rank.map(|n| n.to_string())),
            part("at ", found.point),
        ];
        format!("{}| {}", parts.concat(), found.rest)
    }

    #[test]
    fn usual_names_are_understood() {
        for (text, expected) in [
            ("step_0007", "s7 | "),
            ("step7", "s7 | "),
            ("decode-12", "s12 | "),
            ("r2_step3", "r2 s3 | "),
            ("req2/step_3", "r2 s3 | "),
            ("request_2/step3.before", "r2 s3 at before | "),
            ("rank1/Step3", "s3 rank1 | "),
            ("step3.rank_1.after", "s3 rank1 at after | "),
            ("0007", "s7 | "),
            ("eager_0007", "s7 | eager"),
            ("step_3/last_codes", "s3 | last_codes"),
            ("last_codes_step3", "s3 | last_codes"),
            ("3/kv_cache.1", "s3 | kv_cache.1"),
            ("step3/layers.0.kv.before", "s3 at before | layers.0.kv"),
            ("step3/attn/kv", "s3 | attn.kv"),
            ("prefill", "sprefill | "),
            ("prefill/hidden", "sprefill | hidden"),
            ("step1_prefill", "s1 | "),
            ("step2_decode.hidden", "s2 | hidden"),
            ("decode_step_4", "s4 | "),
            ("prefill_0", "sprefill | "),
            ("prefill0/hidden", "sprefill | hidden"),
            ("prefill_1", "s1 | "),
            ("my dump step 1 hidden states", "s1 | my dump hidden states"),
            ("step=3/name=kv", "s3 | name=kv"),
            ("TP0_PP0_Rank1_pid99/Pass00003", "s3 rank1 | TP0_PP0_pid99"),
            ("decode.17.layer3.k", "s17 | layer3.k"),
            ("model.layers.0.attn.out.3", "s3 | model.layers.0.attn.out"),
            ("model.layers.0.k", "| model.layers.0.k"),
            ("layer_2/0007", "s7 | layer_2"),
            ("0/1", "| 0.1"),
            ("weights", "| weights"),
            ("kv.0.1", "| kv.0.1"),
            ("stepped7", "| stepped7"),
            ("step99999999999", "| step99999999999"),
            ("", "| "),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn layers_are_counted() {
        let mut names =
            vec!["layer.10.k", "layer.2.k", "layer.02.k", "layer", "layer.2.a", "attn", "layer.1", "ü"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["attn", "layer", "layer.1", "layer.2.a", "layer.02.k", "layer.2.k", "layer.10.k", "ü"]
        );
        assert_eq!(natural("7", "7"), Ordering::Equal);
        assert_eq!(natural("99999999999999999999999", "100000000000000000000000"), Ordering::Less);
    }

    #[test]
    fn a_minus_before_a_step_is_seen() {
        for text in ["step_-2", "decode=-12", "-3", "a/-3", "step_-2/h"] {
            assert!(recognise(text).negative, "{text}");
        }
        for text in ["step-2", "decode-12", "a-3", "h_-1_step_2", "rank_-1/step_2", "x-1/step3"] {
            assert!(!recognise(text).negative, "{text}");
        }
    }

    #[test]
    fn a_pattern_of_the_users_is_followed() {
        let pattern = Regex::new(r"(?<request>\w+)/(?<step>\d+)-(?<buffer>\w+)\.(?<point>\w+)\.npy").unwrap();
        let found = by_pattern(&pattern, "cmpl/12-kv.before.npy").unwrap().unwrap();
        assert_eq!(found.request, Some(Request::Id("cmpl".into())));
        assert_eq!((found.step, found.point.as_deref()), (Some(Step::Number(12)), Some("before")));
        assert_eq!(found.rest, "kv");
        assert_eq!(by_pattern(&pattern, "weights.npy"), Ok(None));
        assert!(by_pattern(&pattern, "a/99999999999-kv.x.npy").unwrap_err().contains("99999999999"));
    }

    #[test]
    fn keys_end_in_points_and_names_can_be_written() {
        assert_eq!(without_point("last_codes.before"), ("last_codes", Some("before")));
        assert_eq!(without_point("x:after"), ("x", Some("after")));
        assert_eq!(without_point("the_day_after"), ("the_day_after", None));
        assert_eq!(without_point("before/h"), ("h", Some("before")));
        assert_eq!(without_point("after.x"), ("x", Some("after")));
        assert_eq!(without_point("afterwards.x"), ("afterwards.x", None));
        assert_eq!(without_point(".before"), (".before", None));
        assert!(no_step("0/1").contains("several numbers") && !no_step("layers.1").contains("several"));
        assert_eq!(plain("params['k v']/x@1"), "params__k_v__.x_1");
        assert_eq!(plain("größe.0"), "größe.0");
    }
}
