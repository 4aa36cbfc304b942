//! Boundaries inside this crate that the compiler does not draw.

use std::fs;
use std::path::Path;

/// Files under `src` whose text, comments aside, holds `word`.
fn files_that_use(folder: &Path, word: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_that_use(&path, word, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if text.lines().any(|line| line.split("//").next().unwrap_or("").contains(word)) {
            found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
}

fn users(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    files_that_use(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), word, &mut found);
    found.sort();
    found
}

/// Only small metadata records go through bincode, and leaving it changes one file.
#[test]
fn one_module_knows_bincode() {
    assert_eq!(users("bincode"), ["codec.rs"]);
}

#[test]
fn one_module_is_unsafe() {
    assert_eq!(users("unsafe {"), ["image.rs"]);
    assert_eq!(users("allow(unsafe_code)"), ["image.rs"]);
}

/// A `usize` has no place on disk: its width is the machine's.
#[test]
fn no_usize_is_written() {
    assert_eq!(users("usize::to_le_bytes"), Vec::<String>::new());
    assert_eq!(users("ne_bytes"), Vec::<String>::new());
    assert_eq!(users("be_bytes"), Vec::<String>::new());
}
