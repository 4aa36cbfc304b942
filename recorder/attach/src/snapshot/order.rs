//! Snapshots of all lanes in one order: what the trace is told of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use twinstep_traces::BufferId;

use super::arrivals::Landed;
use super::{Changed, Completed, Watched};

type Content = Arc<[u8]>;

/// A kernel tells how its lane's buffers differ from the *lane's* last snapshot; a trace wants to know how they
/// differ from the last snapshot of *any* lane. For buffers that one lane looks at the two are the same. For others
/// both contents are kept here.
#[derive(Debug, Default)]
pub struct Order {
    next: u64,
    landed: BTreeMap<u64, (usize, Landed)>,
    /// Chunks of snapshots that were lost, by lane: the kernel will not hand them over again.
    kept: HashMap<usize, BTreeMap<(BufferId, u32), Vec<u8>>>,
    /// Buffers whose last whole look by a lane was lost: a look at a part does not make up for it.
    unknown: HashSet<(usize, BufferId)>,
    /// Of shared buffers: what each lane saw last, and what the trace was told last.
    seen: HashMap<(usize, BufferId), Vec<Option<Content>>>,
    told: HashMap<BufferId, Vec<Option<Content>>>,
}

impl Order {
    /// A snapshot of a lane is through.
    pub fn put(&mut self, lane: usize, landed: Landed) {
        self.landed.insert(landed.flight.ticket.0, (lane, landed));
    }

    /// Gives the snapshots whose turn it is.
    pub fn give(&mut self, completed: &mut Vec<Completed>) {
        while let Some((lane, landed)) = self.landed.remove(&self.next) {
            self.next += 1;
            completed.push(self.tell(lane, landed));
        }
    }

    fn tell(&mut self, lane: usize, landed: Landed) -> Completed {
        let Landed { flight, chunks, mut lost } = landed;
        let (ticket, table) = (flight.ticket, flight.table);
        let keys = || table.watched.iter().map(|w| (lane, w.buffer));
        if lost.is_some() {
            self.unknown.extend(keys());
        } else if !flight.partly {
            keys().for_each(|key| {
                self.unknown.remove(&key);
            });
        } else if keys().any(|key| self.unknown.contains(&key)) {
            lost = Some("the one before it is not whole".to_owned());
        }
        let mut fresh = self.kept.remove(&lane).unwrap_or_default();
        for chunk in chunks {
            if let Some(watched) = table.watched.get(chunk.entry as usize) {
                fresh.insert((watched.buffer, chunk.number), chunk.bytes);
            }
        }
        if lost.is_some() {
            self.kept.insert(lane, fresh);
            return Completed { ticket, covered: Vec::new(), changed: Vec::new(), audited: Vec::new(), lost };
        }
        // Of a buffer that this snapshot does not look at the next one that does will be told.
        let (mut fresh, later): (BTreeMap<_, _>, BTreeMap<_, _>) =
            fresh.into_iter().partition(|((buffer, _), _)| table.watched.iter().any(|w| w.buffer == *buffer));
        if !later.is_empty() {
            self.kept.insert(lane, later);
        }
        for (watched, _) in table.watched.iter().zip(&table.shared).filter(|(_, shared)| **shared) {
            self.compare(lane, watched, &mut fresh);
        }
        let mut covered: Vec<BufferId> = table.watched.iter().map(|w| w.buffer).collect();
        covered.sort_unstable();
        covered.dedup();
        Completed {
            ticket,
            covered,
            changed: pieces(fresh, &table.watched),
            audited: flight.audited,
            lost: None,
        }
    }

    /// Replaces what changed in a shared buffer since the lane's last look by what changed since anyone's.
    fn compare(&mut self, lane: usize, watched: &Watched, fresh: &mut BTreeMap<(BufferId, u32), Vec<u8>>) {
        let buffer = watched.buffer;
        let chunks = watched.bytes.div_ceil(u64::from(watched.chunk_bytes.max(1))) as usize;
        let seen = self.seen.entry((lane, buffer)).or_default();
        let told = self.told.entry(buffer).or_default();
        seen.resize(chunks, None);
        told.resize(chunks, None);
        for (n, (seen, told)) in seen.iter_mut().zip(told).enumerate() {
            let key = (buffer, n as u32);
            if let Some(bytes) = fresh.remove(&key) {
                *seen = Some(bytes.into());
            }
            if let Some(seen) = seen.as_ref().filter(|seen| told.as_ref() != Some(*seen)) {
                fresh.insert(key, seen.to_vec());
                *told = Some(seen.clone());
            }
        }
    }
}

/// Chunks that adjoin in one piece.
fn pieces(chunks: BTreeMap<(BufferId, u32), Vec<u8>>, watched: &[Watched]) -> Vec<Changed> {
    let mut pieces: Vec<Changed> = Vec::new();
    for ((buffer, number), bytes) in chunks {
        let chunk_bytes = watched.iter().find(|w| w.buffer == buffer).map_or(1, |w| u64::from(w.chunk_bytes));
        if let Some(last) = pieces.last_mut() {
            let next = last.first_chunk + (last.bytes.len() as u64).div_ceil(chunk_bytes);
            if last.buffer == buffer && next == u64::from(number) {
                last.bytes.extend_from_slice(&bytes);
                continue;
            }
        }
        pieces.push(Changed { buffer, first_chunk: u64::from(number), bytes });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::Ticket;
    use super::super::arrivals::{Chunk, Flight};
    use super::super::tables::Table;
    use super::*;

    fn landed(ticket: u64, shared: bool, chunks: &[(u32, u8)], lost: bool) -> Landed {
        let watched =
            Watched { buffer: BufferId(5), address: 0, bytes: 12, chunk_bytes: 4, of_others: false };
        let table = Arc::new(Table { watched: [watched].into(), shared: vec![shared] });
        let chunks = chunks.iter().map(|&(number, byte)| Chunk { entry: 0, number, bytes: vec![byte; 4] });
        Landed {
            flight: Flight {
                ticket: Ticket(ticket),
                table,
                audited: Vec::new(),
                partly: false,
                launch: Ok(ticket),
            },
            chunks: chunks.collect(),
            lost: lost.then(|| "full".to_owned()),
        }
    }

    /// (ticket, [(first chunk, first byte of each chunk)]) of what is told.
    #[allow(clippy::type_complexity, reason = "pairs of pairs, for one comparison")]
    fn told(order: &mut Order) -> Vec<(u64, Vec<(u64, Vec<u8>)>)> {
        let mut completed = Vec::new();
        order.give(&mut completed);
        let changed = |c: &Completed| {
            c.changed.iter().map(|c| (c.first_chunk, c.bytes.iter().step_by(4).copied().collect())).collect()
        };
        completed.iter().map(|c| (c.ticket.0, changed(c))).collect()
    }

    #[test]
    fn snapshots_wait_for_those_before_them_and_chunks_that_adjoin_are_one_piece() {
        let mut order = Order::default();
        order.put(0, landed(1, false, &[(1, 9)], false));
        assert_eq!(told(&mut order), []);
        order.put(0, landed(0, false, &[(2, 3), (0, 1), (1, 2)], false));
        assert_eq!(told(&mut order), [(0, vec![(0, vec![1, 2, 3])]), (1, vec![(1, vec![9])])]);
    }

    #[test]
    fn what_a_lost_snapshot_handed_over_is_told_by_the_next() {
        let mut order = Order::default();
        order.put(0, landed(0, false, &[(0, 1), (1, 1)], true));
        order.put(0, landed(1, false, &[(1, 2), (2, 2)], false));
        assert_eq!(told(&mut order), [(0, vec![]), (1, vec![(0, vec![1, 2, 2])])]);
    }

    #[test]
    fn a_look_at_a_part_does_not_make_up_for_one_that_was_lost() {
        let mut order = Order::default();
        let part = |ticket| {
            let mut landed = landed(ticket, false, &[], false);
            landed.flight.partly = true;
            landed
        };
        order.put(0, landed(0, false, &[(0, 1), (1, 1), (2, 1)], false));
        order.put(0, part(1));
        order.put(0, landed(2, false, &[(0, 2)], true));
        order.put(0, part(3));
        order.put(0, landed(4, false, &[(1, 2)], false));
        order.put(0, part(5));
        let mut completed = Vec::new();
        order.give(&mut completed);
        let lost: Vec<bool> = completed.iter().map(|c| c.lost.is_some()).collect();
        assert_eq!(lost, [false, false, true, true, false, false]);
        assert_eq!(completed[4].changed[0].bytes, [2; 8], "both chunks are told");
    }

    /// Lane 0 sees a change, then lane 1 sees the same bytes anew and changes them, then lane 0 sees nothing new
    /// since its own last look (the value was written back): the trace is told of it.
    #[test]
    fn a_buffer_of_two_lanes_is_told_of_by_what_the_trace_knows() {
        let mut order = Order::default();
        order.put(0, landed(0, true, &[(0, 1), (1, 1), (2, 1)], false));
        order.put(1, landed(1, true, &[(0, 1), (1, 7), (2, 1)], false));
        order.put(0, landed(2, true, &[], false));
        order.put(1, landed(3, true, &[], false));
        order.put(1, landed(4, true, &[], false));
        let expected = [
            (0, vec![(0, vec![1, 1, 1])]),
            (1, vec![(1, vec![7])]),
            (2, vec![(1, vec![1])]),
            (3, vec![(1, vec![7])]),
            (4, vec![]),
        ];
        assert_eq!(told(&mut order), expected);
    }
}
