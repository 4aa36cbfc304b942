//! Which buffer an address lies in, at a time.

use twinstep_traces::{Access, BufferId, BufferRecord, ViewRecord};

use super::BYTES;

struct Named {
    buffer: BufferId,
    name: String,
    address: u64,
    bytes: u64,
    born: u64,
    died: u64,
    /// An allocation that has no name but the one we made up.
    allocation: bool,
}

/// All buffers so far; times count events.
#[derive(Default)]
pub(super) struct Names {
    all: Vec<Named>,
}

impl Names {
    /// A buffer is known from now on. Its number is the next one.
    pub(super) fn born(&mut self, record: &BufferRecord, now: u64) {
        self.all.push(Named {
            buffer: BufferId(self.all.len() as u32),
            name: record.name.clone(),
            address: record.address.unwrap_or(0),
            bytes: record.bytes,
            born: now,
            died: u64::MAX,
            allocation: record.name.starts_with("cuda."),
        });
    }

    /// Its memory was given back.
    pub(super) fn died(&mut self, buffer: BufferId, now: u64) {
        if let Some(named) = self.all.get_mut(buffer.0 as usize) {
            named.died = named.died.min(now);
        }
    }

    /// What an address meant at a time: the newest name that its memory had then; else the first name that it was
    /// given later, as long as the memory is the same; else the allocation.
    fn find(&self, address: u64, at: u64) -> Option<&Named> {
        if address == 0 {
            return None;
        }
        let inside = |n: &&Named| address >= n.address && address - n.address < n.bytes;
        let mut allocation = None;
        let mut named: Option<&Named> = None;
        let mut later: Option<&Named> = None;
        for n in self.all.iter().filter(inside) {
            let alive = n.born <= at && at < n.died;
            match (n.allocation, alive) {
                (true, true) => allocation = Some(n),
                (false, true) => named = Some(n),
                (false, false) if n.born > at => later = later.or(Some(n)),
                _ => {}
            }
        }
        let later = later.filter(|n| allocation.is_none_or(|a: &Named| n.born < a.died));
        named.or(later).or(allocation)
    }

    /// A view of `bytes` bytes at an address.
    pub(super) fn view(&self, address: u64, bytes: u64, at: u64) -> Option<ViewRecord> {
        self.find(address, at).map(|n| view(n, address, bytes))
    }

    /// A view from an address to the end of its buffer.
    pub(super) fn operand(&self, address: u64, at: u64) -> Option<ViewRecord> {
        self.find(address, at).map(|n| view(n, address, n.bytes - (address - n.address)))
    }
}

fn view(n: &Named, address: u64, bytes: u64) -> ViewRecord {
    ViewRecord {
        name: n.name.clone(),
        buffer: n.buffer,
        offset: address - n.address,
        shape: vec![bytes],
        strides: vec![1],
        dtype: BYTES,
        access: Access::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinstep_traces::{DType, Role};

    fn record(name: &str, address: u64, bytes: u64) -> BufferRecord {
        BufferRecord {
            name: name.into(),
            generation: 0,
            dtype: DType::U8,
            shape: vec![bytes],
            role: Role::State,
            bytes,
            chunk_bytes: 4096,
            address: Some(address),
            contents: None,
        }
    }

    #[test]
    fn an_address_means_what_it_meant_then() {
        let mut names = Names::default();
        names.born(&record("cuda.0", 1000, 100), 1);
        names.born(&record("a", 1010, 10), 5);
        names.died(BufferId(1), 8);
        names.born(&record("b", 1010, 10), 9);
        let at = |address, at| names.operand(address, at).map(|v| (v.buffer.0, v.offset, v.shape[0]));
        assert_eq!(at(1012, 6), Some((1, 2, 8)), "the name at that time");
        assert_eq!(at(1012, 2), Some((1, 2, 8)), "captured before it was named: the first later name");
        assert_eq!(at(1012, 8), Some((2, 2, 8)));
        assert_eq!(at(1012, 9), Some((2, 2, 8)));
        assert_eq!(at(1050, 9), Some((0, 50, 50)), "no name: the allocation");
        assert_eq!(at(1050, 0), None);
        assert_eq!(at(999, 9), None);
        names.died(BufferId(0), 10);
        names.born(&record("cuda.1", 1000, 100), 11);
        names.born(&record("c", 1050, 10), 12);
        let at = |address, at| names.operand(address, at).map(|v| v.buffer.0);
        assert_eq!(at(1050, 9), Some(0), "the later name is of other memory");
    }
}
