//! Memory that the device reaches: what the driver gave, and pinned memory of the host.

use std::collections::BTreeMap;

use twinstep_traces::BufferId;

/// Allocations by address; they don't overlap.
#[derive(Debug, Default)]
pub struct Memory {
    ranges: BTreeMap<u64, Range>,
    /// Start and size of what is never looked at: to read an I/O device's memory may have it do something.
    left_out: Vec<(u64, u64)>,
    /// Counts what was given back: whoever kept an address may ask whether it can mean other memory by now.
    given_back: u64,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    bytes: u64,
    buffer: BufferId,
    place: Place,
}

/// Where memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the device of that number.
    Device(i32),
    /// There as well, but others may write it without a call that is seen: another process, or the host.
    Shared(i32),
    /// Pinned memory of the host, which all devices reach under the same address.
    Host,
}

impl Memory {
    /// Adds an allocation.
    pub fn insert(&mut self, address: u64, bytes: u64, buffer: BufferId, place: Place) {
        self.ranges.insert(address, Range { bytes, buffer, place });
    }

    /// Where an address is.
    pub fn place(&self, address: u64) -> Option<Place> {
        self.range(address).map(|(_, range)| range.place)
    }

    /// A range must never be looked at.
    pub fn leave_out(&mut self, address: u64, bytes: u64) {
        self.left_out.push((address, bytes));
    }

    /// What was left out and begins in a range is there no longer.
    pub fn gone(&mut self, address: u64, bytes: u64) {
        let end = address.saturating_add(bytes);
        self.left_out.retain(|&(start, _)| !(address..end).contains(&start));
    }

    /// From here on others write the allocation that an address lies in.
    pub fn share(&mut self, address: u64) {
        let Some((start, _)) = self.range(address) else { return };
        if let Some(range) = self.ranges.get_mut(&start)
            && let Place::Device(device) = range.place
        {
            range.place = Place::Shared(device);
        }
    }

    /// Whether a range must not be looked at.
    pub fn left_out(&self, address: u64, bytes: u64) -> bool {
        let end = address.saturating_add(bytes);
        self.left_out.iter().any(|&(start, bytes)| start < end && address < start.saturating_add(bytes))
    }

    /// Counts what was given back so far.
    pub fn given_back(&self) -> u64 {
        self.given_back
    }

    fn range(&self, address: u64) -> Option<(u64, Range)> {
        let (&start, &range) = self.ranges.range(..=address).next_back()?;
        (address - start < range.bytes).then_some((start, range))
    }

    /// The allocation that an address lies in: start, size, buffer.
    pub fn at(&self, address: u64) -> Option<(u64, u64, BufferId)> {
        self.range(address).map(|(start, range)| (start, range.bytes, range.buffer))
    }

    /// Whether an address lies in memory of a device, and not in the host's.
    pub fn on_device(&self, address: u64) -> bool {
        matches!(self.place(address), Some(Place::Device(_) | Place::Shared(_)))
    }

    /// Whether an address lies in pinned memory of the host.
    pub fn on_host(&self, address: u64) -> bool {
        self.place(address) == Some(Place::Host)
    }

    /// Whether some allocation lies in a range, or a part of one.
    pub fn overlaps(&self, address: u64, bytes: u64) -> bool {
        let last = self.ranges.range(..address.saturating_add(bytes)).next_back();
        last.is_some_and(|(&start, range)| start.saturating_add(range.bytes) > address)
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
        self.given_back += starts.len() as u64;
        starts.iter().filter_map(|start| self.ranges.remove(start)).map(|range| range.buffer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_allocation_and_ranges_may_span_several() {
        let mut memory = Memory::default();
        let place = Place::Device(0);
        memory.insert(100, 10, BufferId(0), place);
        memory.insert(110, 5, BufferId(1), place);
        memory.insert(200, 1, BufferId(2), place);
        assert_eq!(memory.at(99), None);
        assert_eq!(memory.at(109), Some((100, 10, BufferId(0))));
        assert_eq!(memory.at(110), Some((110, 5, BufferId(1))));
        assert_eq!(memory.at(115), None);
        assert!(memory.holds(105, 10) && !memory.holds(105, 11) && memory.holds(105, 0));
        assert_eq!(memory.remove(109, 2), [BufferId(0), BufferId(1)]);
        assert_eq!(memory.at(105), None);
        assert_eq!((memory.given_back(), memory.remove(0, u64::MAX)), (2, vec![BufferId(2)]));
    }

    #[test]
    fn a_range_overlaps_what_shares_a_byte_with_it() {
        let mut memory = Memory::default();
        memory.insert(100, 10, BufferId(0), Place::Device(0));
        let overlaps = [(90, 10), (90, 11), (109, 1), (110, 5), (0, 500), (105, 1)];
        let found = overlaps.map(|(address, bytes)| memory.overlaps(address, bytes));
        assert_eq!(found, [false, true, true, false, true, true]);
    }

    #[test]
    fn what_is_left_out_stays_so_until_it_is_gone() {
        let mut memory = Memory::default();
        memory.leave_out(100, 10);
        memory.leave_out(200, 10);
        assert_eq!(
            [(90, 11), (109, 1), (110, 90)].map(|(at, n)| memory.left_out(at, n)),
            [true, true, false]
        );
        memory.gone(100, 1);
        assert!(!memory.left_out(100, 10) && memory.left_out(205, 1));
    }

    #[test]
    fn what_is_shared_stays_where_it_is() {
        let mut memory = Memory::default();
        memory.insert(100, 10, BufferId(0), Place::Device(1));
        memory.insert(200, 10, BufferId(1), Place::Host);
        [105, 205, 300].into_iter().for_each(|address| memory.share(address));
        assert_eq!((memory.place(109), memory.place(200)), (Some(Place::Shared(1)), Some(Place::Host)));
    }

    #[test]
    fn pinned_memory_is_memory_and_the_hosts() {
        let mut memory = Memory::default();
        memory.insert(100, 10, BufferId(0), Place::Device(1));
        memory.insert(200, 10, BufferId(1), Place::Host);
        memory.insert(400, 10, BufferId(2), Place::Shared(0));
        assert_eq!(memory.at(205), Some((200, 10, BufferId(1))));
        assert_eq!([100, 205, 300, 400].map(|address| memory.on_device(address)), [true, false, false, true]);
        assert_eq!([100, 205, 300, 400].map(|address| memory.on_host(address)), [false, true, false, false]);
    }
}
