//! Sets of byte ranges of one buffer.

/// Disjoint, sorted, non-touching half-open ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(usize, usize)>);

impl Ranges {
    /// Adds a range.
    pub(crate) fn insert(&mut self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|r| r.1 < start);
        let last = self.0.partition_point(|r| r.0 <= end);
        let merged = self.0[first..last].iter().fold((start, end), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.0.splice(first..last, [merged]);
    }

    /// Whether all of a range is in the set.
    pub(crate) fn contains(&self, start: usize, end: usize) -> bool {
        start >= end || self.0.iter().any(|r| r.0 <= start && end <= r.1)
    }

    /// The set widened to multiples of `chunk`, below `len`.
    pub(crate) fn chunks(&self, chunk: usize, len: usize) -> Ranges {
        let mut widened = Ranges::default();
        for &(start, end) in &self.0 {
            widened.insert(start / chunk * chunk, end.next_multiple_of(chunk).min(len));
        }
        widened
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
