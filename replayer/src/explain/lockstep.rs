//! Both runs' steps launch by launch: the first launch whose output differs.

use crate::explain::family::Pair;
use crate::hybrid::Trail;
use crate::plan::Origin;

/// Numbers in A and B of the first aligned launch whose written bytes differ, and its name.
pub(crate) fn first_difference(pair: &Pair<'_>, a: &Trail, b: &Trail) -> Option<(usize, usize, String)> {
    let of = |trail: &Trail, number: usize| {
        trail.iter().find(|(origin, _)| *origin == Origin::Own(number)).map(|(_, hashes)| hashes.clone())
    };
    pair.alignment.pairs.iter().copied().find_map(|(i, j)| {
        let (x, y) = (of(a, i)?, of(b, j)?);
        (x != y).then(|| (i, j, pair.a.launches[i].name().to_owned()))
    })
}
