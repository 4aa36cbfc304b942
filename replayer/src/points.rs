//! Points of a step by name. A name may come more than once: the first of one run is compared with the first of the
//! other, the second with the second.

use std::collections::BTreeMap;

use twinstep_traces::PointRecord;

/// A name, and which of that name in the step it is, counted from 1.
pub(crate) type PointKey<'a> = (&'a str, usize);

/// The points of a step in their order.
pub(crate) fn by_name(points: &[PointRecord]) -> impl Iterator<Item = (PointKey<'_>, &PointRecord)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    points.iter().map(move |point| {
        let count = seen.entry(&point.point).or_default();
        *count += 1;
        ((point.point.as_str(), *count), point)
    })
}
