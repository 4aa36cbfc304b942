//! Device memory that the driver gave.

use std::collections::BTreeMap;

use twinstep_traces::BufferId;

/// Allocations by address; they don't overlap.
#[derive(Debug, Default)]
pub struct Memory {
    /// Start to size and buffer.
    ranges: BTreeMap<u64, (u64, BufferId)>,
}

impl Memory {
    /// Adds an allocation.
    pub fn insert(&mut self, address: u64, bytes: u64, buffer: BufferId) {
        self.ranges.insert(address, (bytes, buffer));
    }

    /// The allocation that an address lies in: start, size, buffer.
    pub fn at(&self, address: u64) -> Option<(u64, u64, BufferId)> {
        let (&start, &(bytes, buffer)) = self.ranges.range(..=address).next_back()?;
        (address - start < bytes).then_some((start, bytes, buffer))
    }

    /// Whether a range is allocated, in one piece or in several that adjoin.
    pub fn holds(&self, mut address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else { return false };
        while address < end {
            let Some((start, bytes, _)) = self.at(address) else { return false };
            address = start.saturating_add(bytes);
        }
        true
    }

    /// Takes out every allocation that overlaps a range.
    pub fn remove(&mut self, address: u64, bytes: u64) -> Vec<BufferId> {
        let end = address.saturating_add(bytes);
        let first = self.at(address).map_or(address, |(start, ..)| start);
        let starts: Vec<u64> = self.ranges.range(first..end).map(|(&start, _)| start).collect();
        starts.iter().filter_map(|start| self.ranges.remove(start)).map(|(_, buffer)| buffer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_allocation_and_ranges_may_span_several() {
        let mut memory = Memory::default();
        memory.insert(100, 10, BufferId(0));
        memory.insert(110, 5, BufferId(1));
        memory.insert(200, 1, BufferId(2));
        assert_eq!(memory.at(99), None);
        assert_eq!(memory.at(109), Some((100, 10, BufferId(0))));
        assert_eq!(memory.at(110), Some((110, 5, BufferId(1))));
        assert_eq!(memory.at(115), None);
        assert!(memory.holds(105, 10) && !memory.holds(105, 11) && memory.holds(105, 0));
        assert_eq!(memory.remove(109, 2), [BufferId(0), BufferId(1)]);
        assert_eq!(memory.at(105), None);
        assert_eq!(memory.remove(0, u64::MAX), [BufferId(2)]);
    }
}
