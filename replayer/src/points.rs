//! Points of a step by name. A name may come more than once: the first of one run is compared with the first of the
//! other, the second with the second.

use std::collections::BTreeMap;

use twinstep_traces::PointRecord;

/// A name, and which of that name in the step it is, counted from 1.
pub(crate) type PointKey<'a> = (&'a str, usize);

/// What points are called where one is to be chosen: the second of a name `NAME#2`, as recorders do it that keep names
/// apart by themselves.
pub(crate) fn labels(points: &[PointRecord]) -> impl Iterator<Item = (String, &PointRecord)> {
    by_name(points).map(|((name, count), point)| {
        (if count == 1 { name.to_owned() } else { format!("{name}#{count}") }, point)
    })
}

/// The point of a step that is called so; a name that is recorded as it stands comes first.
pub(crate) fn called<'a>(points: &'a [PointRecord], label: &str) -> Option<&'a PointRecord> {
    let exact = points.iter().find(|point| point.point == label);
    exact.or_else(|| labels(points).find(|(name, _)| name == label).map(|(_, point)| point))
}

/// The points of a step in their order.
pub(crate) fn by_name(points: &[PointRecord]) -> impl Iterator<Item = (PointKey<'_>, &PointRecord)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    points.iter().map(move |point| {
        let count = seen.entry(&point.point).or_default();
        *count += 1;
        ((point.point.as_str(), *count), point)
    })
}
