//! Host memory of the CPU backend, and operands lent out of it without `unsafe`.

use std::collections::HashMap;

use crate::ops::Slot;
use crate::{BufferId, Error, Launch};

/// Bytes that start at a multiple of eight, the widest element.
#[derive(Debug, Default)]
struct Aligned {
    words: Vec<u64>,
    bytes: usize,
}

impl Aligned {
    fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }
}

/// Memory that was taken at once: one buffer's, and that of buffers made inside it.
#[derive(Debug)]
struct Root {
    memory: Aligned,
    address: u64,
    /// Buffers that lie in it.
    users: usize,
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    root: BufferId,
    offset: usize,
    bytes: usize,
}

/// First address handed out. Addresses are made up, never used again and the same in every run, so that
/// a trace shows which buffers share bytes.
const FIRST_ADDRESS: u64 = 0x5000_0000_0000;
/// What addresses are multiples of.
const ADDRESS_STEP: u64 = 256;

/// All buffers that were not released.
#[derive(Debug)]
pub(super) struct Memory {
    places: HashMap<BufferId, Place>,
    /// By the buffer that the memory was taken for, which may have been released.
    roots: HashMap<BufferId, Root>,
    next_address: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { places: HashMap::new(), roots: HashMap::new(), next_address: FIRST_ADDRESS }
    }
}

impl Memory {
    pub(super) fn allocate(&mut self, id: BufferId, name: &str, bytes: usize, fill: u8) -> Result<(), Error> {
        let mut words = Vec::new();
        let count = bytes.div_ceil(8);
        words.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { name: name.to_owned(), bytes })?;
        words.resize(count, u64::from_ne_bytes([fill; 8]));
        let address = self.next_address;
        let step = (bytes as u64).max(1).div_ceil(ADDRESS_STEP).saturating_mul(ADDRESS_STEP);
        self.next_address = address.saturating_add(step);
        self.roots.insert(id, Root { memory: Aligned { words, bytes }, address, users: 1 });
        self.places.insert(id, Place { root: id, offset: 0, bytes });
        Ok(())
    }

    /// A buffer in the memory of another, whose bytes `offset .. offset + bytes` exist.
    pub(super) fn allocate_in(
        &mut self,
        id: BufferId,
        bytes: usize,
        (donor, offset): (BufferId, usize),
        fill: u8,
    ) -> Result<(), Error> {
        let host = self.place(donor)?;
        let place = Place { root: host.root, offset: host.offset + offset, bytes };
        let root = self.roots.get_mut(&host.root).ok_or(Error::NoBuffer(donor))?;
        root.memory.as_bytes_mut()[place.offset..][..bytes].fill(fill);
        root.users += 1;
        self.places.insert(id, place);
        Ok(())
    }

    pub(super) fn release(&mut self, id: BufferId) -> Result<(), Error> {
        let place = self.places.remove(&id).ok_or(Error::NoBuffer(id))?;
        let root = self.roots.get_mut(&place.root).ok_or(Error::NoBuffer(id))?;
        root.users -= 1;
        if root.users == 0 {
            self.roots.remove(&place.root);
        }
        Ok(())
    }

    pub(super) fn address(&self, id: BufferId) -> Option<u64> {
        let place = self.place(id).ok()?;
        Some(self.roots.get(&place.root)?.address + place.offset as u64)
    }

    fn place(&self, id: BufferId) -> Result<Place, Error> {
        self.places.get(&id).copied().ok_or(Error::NoBuffer(id))
    }

    pub(super) fn bytes(&self, id: BufferId, offset: usize, len: usize) -> Result<&[u8], Error> {
        let place = self.place(id)?;
        let root = self.roots.get(&place.root).ok_or(Error::NoBuffer(id))?;
        Ok(&root.memory.as_bytes()[place.offset..][..place.bytes][offset..offset + len])
    }

    pub(super) fn bytes_mut(&mut self, id: BufferId, offset: usize, len: usize) -> Result<&mut [u8], Error> {
        let place = self.place(id)?;
        let root = self.roots.get_mut(&place.root).ok_or(Error::NoBuffer(id))?;
        Ok(&mut root.memory.as_bytes_mut()[place.offset..][..place.bytes][offset..offset + len])
    }

    /// Lends the operands of a launch to `body`.
    ///
    /// Memory that the launch writes is taken out of the table for the time, so that written parts
    /// are exclusive borrows; the stream has checked that no written operand shares bytes with another.
    pub(super) fn with_operands(
        &mut self,
        launch: &Launch,
        body: impl FnOnce(Vec<Slot<'_>>),
    ) -> Result<(), Error> {
        let places: Vec<Place> =
            launch.views().iter().map(|view| self.place(view.buffer)).collect::<Result<_, _>>()?;
        let mut taken: Vec<(BufferId, Root)> = Vec::new();
        for (i, place) in places.iter().enumerate() {
            // Absent where another written operand lies in it, too.
            if launch.access(i).writes() {
                taken.extend(self.roots.remove(&place.root).map(|root| (place.root, root)));
            }
        }
        let result = self.lend(launch, &places, &mut taken, body);
        self.roots.extend(taken);
        result
    }

    fn lend(
        &self,
        launch: &Launch,
        places: &[Place],
        taken: &mut [(BufferId, Root)],
        body: impl FnOnce(Vec<Slot<'_>>),
    ) -> Result<(), Error> {
        let mut slots: Vec<Option<Slot<'_>>> = launch.views().iter().map(|_| None).collect();
        for (id, root) in taken {
            // Views of this memory in rising order, cut off one after the other.
            let start = |i: usize| places[i].offset + launch.view(i).offset;
            let mut views: Vec<usize> = (0..slots.len()).filter(|&i| places[i].root == *id).collect();
            views.sort_unstable_by_key(|&i| (start(i), launch.view(i).len()));
            let (mut rest, mut at) = (root.memory.as_bytes_mut(), 0);
            for i in views {
                let view = launch.view(i);
                let len = view.len() * view.dtype.size();
                let overlap =
                    Error::Overlap { op: launch.op().name(), operand: launch.op().schema().params[i].name };
                let skip = start(i).checked_sub(at).ok_or(overlap)?;
                let (_, tail) = rest.split_at_mut(skip);
                let (operand, tail) = tail.split_at_mut(len);
                (rest, at) = (tail, start(i) + len);
                slots[i] =
                    Some(if launch.access(i).writes() { Slot::Write(operand) } else { Slot::Read(operand) });
            }
        }
        for (i, view) in launch.views().iter().enumerate() {
            if slots[i].is_none() {
                slots[i] =
                    Some(Slot::Read(self.bytes(view.buffer, view.offset, view.len() * view.dtype.size())?));
            }
        }
        body(slots.into_iter().flatten().collect());
        Ok(())
    }
}
