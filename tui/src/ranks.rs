//! Traces of the other ranks of a run, which lie beside it: `RUN.twin`, `RUN.rank1.twin`, ...

use std::path::{Path, PathBuf};

use twinstep_replayer::rank;

use crate::trace_file::open;

/// Ranks that are looked for.
const RANKS_MAX: u32 = 1024;

/// The name of a run without `.rankR.twin`.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".twin").unwrap_or(name);
    let bare = name.rsplit_once(".rank").filter(|(_, rank)| rank.parse::<u32>().is_ok());
    Some(bare.map_or(name, |(bare, _)| bare).to_owned())
}

/// The trace of a rank beside a trace of the same run, if it is there.
pub(crate) fn beside(path: &Path, wanted: u32) -> Option<PathBuf> {
    let stem = stem(path)?;
    let named = path.with_file_name(format!("{stem}.rank{wanted}.twin"));
    if named.is_file() {
        return Some(named);
    }
    let first = path.with_file_name(format!("{stem}.twin"));
    let is_it = first.is_file() && open(&first).ok().and_then(|t| rank(&t).ok()) == Some(wanted);
    is_it.then_some(first)
}

/// Ranks other than the pair's own whose trace lies beside one of a pair only, and beside which.
pub(crate) fn one_sided(a: &Path, b: &Path, own: u32) -> Vec<(u32, &'static str)> {
    let mut found = Vec::new();
    for rank in (0..RANKS_MAX).filter(|rank| *rank != own) {
        match (beside(a, rank).is_some(), beside(b, rank).is_some()) {
            (true, false) => found.push((rank, "A")),
            (false, true) => found.push((rank, "B")),
            (false, false) if rank > own => break,
            _ => {}
        }
    }
    found
}

/// Pairs of the same rank that lie beside a pair, in order of rank, without the pair itself.
pub(crate) fn others(a: &Path, b: &Path, own: u32) -> Vec<(u32, PathBuf, PathBuf)> {
    // Ranks are counted without gaps; the pair's own is not looked for.
    let mut found = Vec::new();
    for rank in (0..RANKS_MAX).filter(|rank| *rank != own) {
        match (beside(a, rank), beside(b, rank)) {
            (Some(a), Some(b)) => found.push((rank, a, b)),
            (None, None) if rank > own => break,
            _ => {}
        }
    }
    found
}
