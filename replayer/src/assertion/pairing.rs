//! Which buffer of A is compared with which of B.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Trace};

/// Buffers of one name, the newest generation that each side's snapshot covers: allocating once more often
/// changes no meaning. In the order of A's buffers.
pub(crate) fn pairs(
    (a, in_a): (&Trace, &[BufferId]),
    (b, in_b): (&Trace, &[BufferId]),
) -> Vec<(BufferId, BufferId)> {
    let (newest_a, newest_b) = (newest(a, in_a), newest(b, in_b));
    let mut pairs: Vec<(BufferId, BufferId)> =
        newest_a.iter().filter_map(|(name, &(_, ia))| Some((ia, newest_b.get(name)?.1))).collect();
    pairs.sort_unstable();
    pairs
}

/// The newest generation of every name.
pub(crate) fn newest<'a>(trace: &'a Trace, covered: &[BufferId]) -> BTreeMap<&'a str, (u32, BufferId)> {
    let mut newest = BTreeMap::new();
    for &id in covered {
        let Some(record) = trace.buffer(id) else { continue };
        let entry = newest.entry(record.name.as_str()).or_insert((record.generation, id));
        *entry = (*entry).max((record.generation, id));
    }
    newest
}
