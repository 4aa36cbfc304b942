//! A map from byte ranges to values.

use std::collections::BTreeMap;

/// Disjoint half-open ranges, each with a value; neighbours of equal value are one range.
#[derive(Debug, Clone)]
pub(crate) struct Intervals<T> {
    /// Start to end and value.
    ranges: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Intervals { ranges: BTreeMap::new() }
    }
}

impl<T: Copy + PartialEq> Intervals<T> {
    /// Gives every byte of `start..end` the value.
    pub(crate) fn set(&mut self, start: u64, end: u64, value: T) {
        if start >= end {
            return;
        }
        self.clear(start, end);
        let (mut start, mut end) = (start, end);
        if let Some((&before, &(until, same))) = self.ranges.range(..start).next_back()
            && until == start
            && same == value
        {
            self.ranges.remove(&before);
            start = before;
        }
        if let Some(&(until, same)) = self.ranges.get(&end)
            && same == value
        {
            self.ranges.remove(&end);
            end = until;
        }
        self.ranges.insert(start, (end, value));
    }

    /// Leaves no byte of `start..end` with a value.
    fn clear(&mut self, start: u64, end: u64) {
        if let Some((&before, &(until, value))) = self.ranges.range(..start).next_back()
            && until > start
        {
            self.ranges.insert(before, (start, value));
            if until > end {
                self.ranges.insert(end, (until, value));
            }
        }
        while let Some((&at, &(until, value))) = self.ranges.range(start..end).next() {
            self.ranges.remove(&at);
            if until > end {
                self.ranges.insert(end, (until, value));
            }
        }
    }

    /// The pieces of `start..end` in rising order, without gaps: those without a value give `None`.
    pub(crate) fn pieces(&self, start: u64, end: u64) -> Pieces<'_, T> {
        let before = self.ranges.range(..start).next_back().filter(|(_, (until, _))| *until > start);
        let first = before.map_or(start, |(&at, _)| at);
        let rest = if start < end { self.ranges.range(first..end) } else { self.ranges.range(0..0) };
        Pieces { rest, next: None, at: start, end }
    }
}

/// See [`Intervals::pieces`].
pub(crate) struct Pieces<'a, T> {
    rest: std::collections::btree_map::Range<'a, u64, (u64, T)>,
    /// A range that begins beyond `at`.
    next: Option<(u64, u64, T)>,
    at: u64,
    end: u64,
}

impl<T: Copy> Iterator for Pieces<'_, T> {
    type Item = (u64, u64, Option<T>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let next = self.next.take().or_else(|| self.rest.next().map(|(&a, &(b, value))| (a, b, value)));
        let start = self.at;
        match next {
            Some((a, b, value)) if a <= start => {
                self.at = b.min(self.end);
                Some((start, self.at, Some(value)))
            }
            other => {
                self.at = other.as_ref().map_or(self.end, |(a, ..)| *a);
                self.next = other;
                Some((start, self.at, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against an array with one value a byte.
        #[test]
        fn agrees_with_an_array_of_bytes(
            writes in prop::collection::vec((0u64..40, 0u64..12, 0u8..3), 0..40),
            from in 0u64..60,
            length in 0u64..60,
        ) {
            let mut naive = [None; 64];
            let mut map = Intervals::default();
            for (start, length, value) in writes {
                map.set(start, start + length, value);
                naive[start as usize..(start + length) as usize].fill(Some(value));
            }
            let until = (from + length).min(64);
            let mut at = from;
            let mut last = None;
            for (start, end, value) in map.pieces(from, until) {
                prop_assert_eq!(start, at);
                prop_assert!(start < end && end <= until);
                prop_assert_ne!(last, Some(value), "neighbours of equal value are one piece");
                prop_assert!(naive[start as usize..end as usize].iter().all(|v| *v == value));
                last = Some(value);
                at = end;
            }
            prop_assert_eq!(at, until.max(from));
        }
    }
}
