//! What a lane's kernels have put on the host: the ring of slots and the ends of launches (`cuda/snapshot.cu`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pinned::{Pinned, stamp};
use twinstep_traces::AuditRange;

use super::tables::Table;
use super::{CHUNK_LIMIT, Ticket, Watched};

/// Launches of a lane that may be under way.
pub const PUBLICATIONS: u64 = 4096;
/// Bytes of `Slot` and of `Publication`.
const RECORD: usize = 32;

/// Where things are in a lane's pinned memory: how many slots are empty again, ends of launches, heads of slots,
/// bytes of slots.
#[derive(Debug)]
pub struct Layout {
    slots: u64,
}

impl Layout {
    /// Of `slots` slots, a power of two.
    pub fn new(slots: u64) -> Self {
        Self { slots }
    }
    #[cfg(test)]
    /// How many slots there are.
    pub fn slots(&self) -> u64 {
        self.slots
    }
    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.payload(0) + self.slots as usize * CHUNK_LIMIT as usize
    }
    /// How many slots the host has emptied, a word.
    pub fn tail(&self) -> usize {
        0
    }
    /// The end of launch `launch`.
    pub fn publication(&self, launch: u64) -> usize {
        4096 + (launch % PUBLICATIONS) as usize * RECORD
    }
    /// The head of slot `ticket`.
    pub fn slot(&self, ticket: u64) -> usize {
        4096 + PUBLICATIONS as usize * RECORD + (ticket % self.slots) as usize * RECORD
    }
    /// The bytes of slot `ticket`.
    pub fn payload(&self, ticket: u64) -> usize {
        let heads = 4096 + PUBLICATIONS as usize * RECORD + self.slots as usize * RECORD;
        heads.next_multiple_of(4096) + (ticket % self.slots) as usize * CHUNK_LIMIT as usize
    }
}

/// A chunk that a kernel handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index in the table of its launch.
    pub entry: u32,
    /// Which chunk of that buffer.
    pub number: u32,
    /// All its bytes.
    pub bytes: Vec<u8>,
}

/// A snapshot that was enqueued on a lane.
#[derive(Debug)]
pub struct Flight {
    /// Its number among all snapshots.
    pub ticket: Ticket,
    /// What it looks at.
    pub table: Arc<Table>,
    /// The chunks that it looks at.
    pub audited: Vec<AuditRange>,
    /// Of large buffers it looks at a part only.
    pub partly: bool,
    /// Which launch of the lane it is; `None` where the launch was refused.
    pub launch: Result<u64, String>,
}

/// A snapshot that is through.
#[derive(Debug)]
pub struct Landed {
    /// As it was enqueued.
    pub flight: Flight,
    /// What it handed over.
    pub chunks: Vec<Chunk>,
    /// Why it is not whole.
    pub lost: Option<String>,
}

/// The host's end of a lane's ring.
#[derive(Debug, Default)]
pub struct Arrivals {
    waiting: VecDeque<Flight>,
    /// Of the first one waiting.
    chunks: Vec<Chunk>,
    /// Slots emptied.
    tail: u64,
}

impl Arrivals {
    /// Expects a snapshot; they are expected in the order of their launches.
    pub fn expect(&mut self, flight: Flight) {
        self.waiting.push_back(flight);
    }

    /// The last launch under way that looks at a buffer with a property.
    pub fn last_looking_at(&self, property: impl Fn(&Watched) -> bool) -> Option<u64> {
        // One that the driver refused looks at nothing.
        let launched =
            self.waiting.iter().rev().filter_map(|flight| Some((flight, *flight.launch.as_ref().ok()?)));
        launched.into_iter().find(|(flight, _)| flight.table.watched.iter().any(&property)).map(|(_, n)| n)
    }

    /// Takes what has arrived and gives the snapshots that are through.
    pub fn take(&mut self, pinned: &Pinned, layout: &Layout, landed: &mut Vec<Landed>) {
        while let Some(front) = self.waiting.front() {
            let launch = match &front.launch {
                Ok(launch) => *launch,
                Err(reason) => {
                    let reason = reason.clone();
                    self.land(Some(reason), landed);
                    continue;
                }
            };
            // The slot before the end: a slot of a later launch is stamped only after this one's end was.
            let full = stamp(pinned.word(layout.slot(self.tail))) == self.tail + 1;
            let publication = layout.publication(launch);
            let ended = stamp(pinned.word(publication)) == launch + 1;
            let end = if ended { stamp(pinned.word(publication + 8)) } else { u64::MAX };
            // It may have been filled since: below the end it is this launch's, and its stamp is there by now.
            let full = full
                || ended && self.tail < end && stamp(pinned.word(layout.slot(self.tail))) == self.tail + 1;
            if self.tail >= end {
                let failed = stamp(pinned.word(publication + 16)) & u64::from(u32::MAX);
                let lost = (failed > 0).then(|| {
                    format!(
                        "{failed} chunks of watched buffers found no room: the ring in pinned memory is full"
                    )
                });
                self.land(lost, landed);
            } else if full {
                self.empty_slot(pinned, layout);
            } else if ended {
                // Its chunk found no room.
                self.tail += 1;
                pinned.word(layout.tail()).store(self.tail, Ordering::Release);
            } else {
                return;
            }
        }
    }

    fn empty_slot(&mut self, pinned: &Pinned, layout: &Layout) {
        let slot = layout.slot(self.tail);
        let what = stamp(pinned.word(slot + 8));
        let (entry, number) = (what as u32, (what >> 32) as u32);
        let table = self.waiting.front().map(|flight| &flight.table);
        let watched = table.and_then(|table| table.watched.get(entry as usize));
        if let Some(watched) = watched {
            let chunk_bytes = u64::from(watched.chunk_bytes);
            let left = watched.bytes.saturating_sub(u64::from(number) * chunk_bytes);
            let bytes = pinned.copy(layout.payload(self.tail), left.min(chunk_bytes) as usize);
            self.chunks.push(Chunk { entry, number, bytes });
        }
        self.tail += 1;
        pinned.word(layout.tail()).store(self.tail, Ordering::Release);
    }

    fn land(&mut self, lost: Option<String>, landed: &mut Vec<Landed>) {
        if let Some(flight) = self.waiting.pop_front() {
            landed.push(Landed { flight, chunks: std::mem::take(&mut self.chunks), lost });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinstep_traces::BufferId;

    /// The device's side, as `cuda/snapshot.cu` has it.
    struct Device {
        pinned: Pinned,
        layout: Layout,
        head: u64,
        launches: u64,
    }

    impl Device {
        fn new(slots: u64) -> Self {
            let layout = Layout::new(slots);
            Device { pinned: Pinned::unmapped(layout.bytes()), layout, head: 0, launches: 0 }
        }
        fn tail(&self) -> u64 {
            stamp(self.pinned.word(self.layout.tail()))
        }
        /// One chunk; whether there was room.
        fn chunk(&mut self, entry: u32, number: u32, bytes: &[u8]) -> bool {
            let ticket = self.head;
            self.head += 1;
            if ticket >= self.tail() + self.layout.slots() {
                return false;
            }
            self.pinned.fill(self.layout.payload(ticket), bytes);
            let slot = self.layout.slot(ticket);
            self.pinned.word(slot + 8).store(u64::from(entry) | u64::from(number) << 32, Ordering::Relaxed);
            self.pinned.word(slot).store(ticket + 1, Ordering::Release);
            true
        }
        fn end(&mut self, failed: u64) {
            let at = self.layout.publication(self.launches);
            self.pinned.word(at + 8).store(self.head, Ordering::Relaxed);
            self.pinned.word(at + 16).store(failed, Ordering::Relaxed);
            self.launches += 1;
            self.pinned.word(at).store(self.launches, Ordering::Release);
        }
    }

    fn flight(launch: u64) -> Flight {
        let watched =
            Watched { buffer: BufferId(3), address: 4096, bytes: 1928, chunk_bytes: 1024, of_others: false };
        let table = Arc::new(Table { watched: [watched].into(), shared: vec![false] });
        Flight { ticket: Ticket(launch), table, audited: Vec::new(), partly: false, launch: Ok(launch) }
    }

    #[test]
    fn chunks_arrive_in_parts_and_the_last_is_short() {
        let mut device = Device::new(4);
        let mut arrivals = Arrivals::default();
        let mut landed = Vec::new();
        for round in 0..10u64 {
            arrivals.expect(flight(round));
            assert!(device.chunk(0, 1, &[round as u8; 904]));
            arrivals.take(&device.pinned, &device.layout, &mut landed);
            assert!(landed.is_empty(), "its end is not known yet");
            assert!(device.chunk(0, 0, &[7; 1024]));
            device.end(0);
            arrivals.take(&device.pinned, &device.layout, &mut landed);
            let [one] = &landed[..] else { panic!("{landed:?}") };
            assert_eq!((one.lost.clone(), one.flight.ticket), (None, Ticket(round)));
            let sizes: Vec<_> = one.chunks.iter().map(|c| (c.number, c.bytes.len(), c.bytes[0])).collect();
            assert_eq!(sizes, [(1, 904, round as u8), (0, 1024, 7)]);
            landed.clear();
        }
    }

    #[test]
    fn what_found_no_room_is_lost_and_the_next_snapshot_is_whole() {
        let mut device = Device::new(2);
        let mut arrivals = Arrivals::default();
        let mut landed = Vec::new();
        (0..3).for_each(|n| arrivals.expect(flight(n)));
        device.end(0);
        let room: Vec<bool> = (0..4).map(|n| device.chunk(0, n % 2, &[1; 904])).collect();
        assert_eq!(room, [true, true, false, false]);
        device.end(2);
        arrivals.take(&device.pinned, &device.layout, &mut landed);
        let lost: Vec<_> = landed.iter().map(|l| (l.chunks.len(), l.lost.is_some())).collect();
        assert_eq!(lost, [(0, false), (2, true)]);
        assert_eq!(device.tail(), 4, "slots that were never filled are passed over");
        assert!(device.chunk(0, 1, &[2; 904]));
        device.end(0);
        landed.clear();
        arrivals.take(&device.pinned, &device.layout, &mut landed);
        assert_eq!(
            landed.iter().map(|l| (l.chunks.len(), l.lost.is_some())).collect::<Vec<_>>(),
            [(1, false)]
        );
    }

    /// The head of a slot of the next launch may be there before the end of this one was looked at.
    #[test]
    fn a_slot_of_the_next_launch_is_not_given_to_this_one() {
        let mut device = Device::new(8);
        let mut arrivals = Arrivals::default();
        let mut landed = Vec::new();
        (0..2).for_each(|n| arrivals.expect(flight(n)));
        device.chunk(0, 0, &[1; 1024]);
        device.end(0);
        device.chunk(0, 1, &[2; 904]);
        arrivals.take(&device.pinned, &device.layout, &mut landed);
        assert_eq!(landed.iter().map(|l| l.chunks.len()).collect::<Vec<_>>(), [1]);
        device.end(0);
        arrivals.take(&device.pinned, &device.layout, &mut landed);
        assert_eq!(landed.iter().map(|l| l.chunks.len()).collect::<Vec<_>>(), [1, 1]);
    }
}
