//! Long lines for people: broken at spaces, and numbered names drawn together.

use std::collections::BTreeSet;

/// Columns of text where nothing else is known, and at most: longer lines are hard to read.
const COLUMNS: usize = 100;

/// Columns that text may take: the terminal's, but not more than reads well.
pub(crate) fn width() -> usize {
    let columns = console::Term::stdout().size_checked().map_or(COLUMNS, |(_, columns)| usize::from(columns));
    columns.clamp(40, COLUMNS)
}

/// Breaks a line at spaces so that it takes at most `width` columns; what follows the first line is
/// indented by `hang`. A word that is longer stays whole, as it may be a path.
pub(crate) fn fill(line: &str, width: usize, hang: usize) -> Vec<String> {
    broken(line, width, hang, "")
}

/// As [`fill`], for a command: a shell takes the lines for one.
pub(crate) fn command(line: &str, width: usize, hang: usize) -> Vec<String> {
    broken(line, width, hang, " \\")
}

fn broken(line: &str, width: usize, hang: usize, mark: &str) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    let room = width.saturating_sub(mark.len());
    let indent = line.len() - line.trim_start_matches(' ').len();
    let mut lines: Vec<String> = Vec::new();
    let mut current = line[..indent].to_owned();
    let mut empty = true;
    // Spaces inside stay, as they make columns; a break takes the place of those where it falls.
    let mut spaces = 0;
    for word in words(&line[indent..], !mark.is_empty()) {
        if word.is_empty() {
            spaces += 1;
            continue;
        }
        let gap = if empty { 0 } else { spaces };
        if !empty && current.chars().count() + gap + word.chars().count() > room {
            lines.push(std::mem::replace(&mut current, " ".repeat(hang)) + mark);
        } else {
            current += &" ".repeat(gap);
        }
        current += &word;
        empty = false;
        spaces = 1;
    }
    lines.push(current);
    lines
}

/// What lies between spaces; where a shell reads it, what is quoted is one word, and so are an option and
/// its value.
fn words(text: &str, shell: bool) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut quoted = false;
    for piece in text.split(' ') {
        let option = |last: &String| shell && last.starts_with("--") && !last.contains(' ');
        let joins = |last: &&mut String| quoted || (option(last) && !piece.starts_with('-'));
        match words.last_mut().filter(joins) {
            Some(last) => *last += &format!(" {piece}"),
            None => words.push(piece.to_owned()),
        }
        quoted ^= shell && piece.matches('\'').count() % 2 == 1;
    }
    words
}

/// Names that differ in one number only, drawn together: `kv_cache.1@0 kv_cache.2@0` is `kv_cache.1-2@0`.
/// The order is that of each first one.
pub(crate) fn names<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let mut groups: Vec<(&str, &str, Vec<u64>)> = Vec::new();
    let mut plain: Vec<Result<usize, &str>> = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        let Some((head, number, tail)) = numbered(name) else {
            plain.push(Err(name));
            continue;
        };
        if let Some(i) = groups.iter().position(|(h, t, _)| (*h, *t) == (head, tail)) {
            groups[i].2.push(number);
        } else {
            plain.push(Ok(groups.len()));
            groups.push((head, tail, vec![number]));
        }
    }
    let drawn = plain.into_iter().map(|entry| match entry {
        Err(name) => name.to_owned(),
        Ok(i) => format!("{}.{}{}", groups[i].0, ranges(&groups[i].2), groups[i].1),
    });
    drawn.collect()
}

/// `layer.3.mlp_out@0` is `layer`, 3, `.mlp_out@0`.
fn numbered(name: &str) -> Option<(&str, u64, &str)> {
    let (head, rest) = name.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, tail) = rest.split_at(end);
    // A number that is not written as numbers are would come out as another name.
    let value: u64 = number.parse().ok().filter(|n: &u64| n.to_string() == number)?;
    Some((head, value, tail))
}

/// `0-2,5`.
fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for n in numbers.iter().copied().collect::<BTreeSet<_>>() {
        match ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(n) => *end = n,
            _ => ranges.push((n, n)),
        }
    }
    let words: Vec<String> =
        ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_and_no_word_is_lost() {
        let text = "  2        first-launch     the first launch whose output differs is layer.0.mlp.add";
        for width in 30..100 {
            let lines = fill(text, width, 8);
            assert!(lines.iter().all(|l| l.chars().count() <= width), "{width}: {lines:#?}");
            let words = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&lines.join(" ")), words(text));
            assert!(lines[0].starts_with("  2        first-launch"), "columns stay: {lines:#?}");
        }
        assert_eq!(fill("averylongword b", 5, 2), ["averylongword", "  b"]);
        assert_eq!(fill("", 5, 2), [""]);
    }

    #[test]
    fn a_broken_command_is_one_command_to_a_shell() {
        let lines = command("twinstep step a.twin b.twin --at 2 --patch seq_lens=other", 30, 4);
        assert!(lines.len() > 1 && lines.iter().all(|l| l.len() <= 30), "{lines:#?}");
        let (last, before) = lines.split_last().unwrap();
        assert!(before.iter().all(|l| l.ends_with(" \\")) && !last.ends_with('\\'), "{lines:#?}");
        assert!(lines.iter().any(|l| l.contains("--patch seq_lens=other")), "{lines:#?}");
        let quoted = command("twinstep info 'a folder with a long name/a.twin' --json", 20, 4);
        assert!(quoted.iter().any(|l| l.contains("'a folder with a long name/a.twin'")), "{quoted:#?}");
    }

    #[test]
    fn numbered_names_are_drawn_together() {
        let list =
            ["kv_cache.1@0", "hidden@0", "kv_cache.2@0", "kv_cache.4@0", "kv_cache.1@1", "x.07", "x.8"];
        assert_eq!(names(&list), ["kv_cache.1-2,4@0", "hidden@0", "kv_cache.1@1", "x.07", "x.8"]);
        assert_eq!(names(&["layer.0.mlp_out", "layer.1.mlp_out"]), ["layer.0-1.mlp_out"]);
        assert_eq!(names::<&str>(&[]), Vec::<String>::new());
        assert_eq!(names(&["a.18446744073709551615", "a.0"]), ["a.0,18446744073709551615"]);
    }
}
