//! Names near a name that does not exist.

/// How many single-character insertions, deletions and substitutions turn `a` into `b`
/// (Levenshtein distance, by the rows of Wagner and Fischer).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Names longer than this are not compared: the cost is the product of the lengths, and a trace may
/// come from anyone.
const LONGEST: usize = 64;

/// The up to three of `names` nearest to `name`, nearest first: those within a third of its length,
/// and those that begin with it.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    if name.len() > LONGEST {
        return Vec::new();
    }
    let short = names.filter(|candidate| candidate.len() <= LONGEST);
    let ranked = short.map(|candidate| (edit_distance(name, candidate), candidate));
    let allowed = (name.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = ranked
        .filter(|(distance, candidate)| {
            *distance <= allowed || !name.is_empty() && candidate.starts_with(name)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// `; did you mean a, b or c?`, or nothing.
pub(crate) fn did_you_mean(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("; did you mean `{one}`?"),
        [first @ .., last] => format!("; did you mean `{}` or `{last}`?", first.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in
            [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("last_code", "last_codes", 1)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn near_names_come_first_and_far_ones_not_at_all() {
        let names = ["hidden", "last_codes", "has_codes", "kv_cache.0", "kv_cache.1"];
        assert_eq!(nearest("hiden", names.into_iter()), ["hidden"]);
        assert_eq!(nearest("last_code", names.into_iter())[0], "last_codes");
        assert_eq!(nearest("kv", names.into_iter()), ["kv_cache.0", "kv_cache.1"]);
        assert!(nearest("banana", names.into_iter()).is_empty());
        assert_eq!(
            did_you_mean(&nearest("kv", names.into_iter())),
            "; did you mean `kv_cache.0` or `kv_cache.1`?"
        );
    }
}
