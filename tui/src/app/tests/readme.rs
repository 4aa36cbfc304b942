//! The table of keys in the README says where each key holds.

use crate::app::keys::{BINDINGS, View};

#[test]
fn keys_hold_where_the_readme_says() {
    let readme = include_str!("../../../../README.md");
    let (_, table) = readme.split_once("| keys | in | |\n| --- | --- | --- |\n").unwrap();
    let mut keys_seen = 0;
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let places: Vec<&str> = cells[1].split(", ").collect();
        for key in cells[0].split('`').skip(1).step_by(2) {
            let found: Vec<_> = BINDINGS.iter().filter(|b| b.keys.iter().any(|k| k.name() == key)).collect();
            assert!(!found.is_empty(), "{key}");
            keys_seen += 1;
            for binding in found {
                let mut views: Vec<&str> = binding.views.iter().map(|v: &View| v.title()).collect();
                if views.is_empty() {
                    views.push("all");
                }
                assert_eq!(views, places, "`{key}`, {}", binding.word);
            }
        }
    }
    assert!(keys_seen > 25, "{keys_seen}");
}
