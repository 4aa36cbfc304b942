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

/// All live buffers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    buffers: HashMap<BufferId, Aligned>,
}

impl Memory {
    pub(super) fn allocate(&mut self, id: BufferId, name: &str, bytes: usize, fill: u8) -> Result<(), Error> {
        let mut words = Vec::new();
        let count = bytes.div_ceil(8);
        words.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { name: name.to_owned(), bytes })?;
        words.resize(count, u64::from_ne_bytes([fill; 8]));
        self.buffers.insert(id, Aligned { words, bytes });
        Ok(())
    }

    pub(super) fn release(&mut self, id: BufferId) -> Result<(), Error> {
        self.buffers.remove(&id).map(drop).ok_or(Error::NoBuffer(id))
    }

    pub(super) fn bytes(&self, id: BufferId, offset: usize, len: usize) -> Result<&[u8], Error> {
        let buffer = self.buffers.get(&id).ok_or(Error::NoBuffer(id))?;
        Ok(&buffer.as_bytes()[offset..offset + len])
    }

    pub(super) fn bytes_mut(&mut self, id: BufferId, offset: usize, len: usize) -> Result<&mut [u8], Error> {
        let buffer = self.buffers.get_mut(&id).ok_or(Error::NoBuffer(id))?;
        Ok(&mut buffer.as_bytes_mut()[offset..offset + len])
    }

    /// Lends the operands of a launch to `body`.
    ///
    /// Buffers that the launch writes are taken out of the table for the time, so that written parts
    /// are exclusive borrows; the stream has checked that no written operand shares bytes with another.
    pub(super) fn with_operands(
        &mut self,
        launch: &Launch,
        body: impl FnOnce(Vec<Slot<'_>>),
    ) -> Result<(), Error> {
        let written = |id: BufferId| {
            launch.views().iter().enumerate().any(|(i, v)| v.buffer == id && launch.access(i).writes())
        };
        let mut taken: Vec<(BufferId, Aligned)> = Vec::new();
        for view in launch.views() {
            if written(view.buffer) && taken.iter().all(|(id, _)| *id != view.buffer) {
                let buffer = self.buffers.remove(&view.buffer).ok_or(Error::NoBuffer(view.buffer))?;
                taken.push((view.buffer, buffer));
            }
        }
        let result = self.lend(launch, &mut taken, body);
        self.buffers.extend(taken);
        result
    }

    fn lend(
        &self,
        launch: &Launch,
        taken: &mut [(BufferId, Aligned)],
        body: impl FnOnce(Vec<Slot<'_>>),
    ) -> Result<(), Error> {
        let mut slots: Vec<Option<Slot<'_>>> = launch.views().iter().map(|_| None).collect();
        for (id, buffer) in taken {
            // Views of this buffer in rising order, cut off one after the other.
            let mut views: Vec<usize> = (0..slots.len()).filter(|&i| launch.view(i).buffer == *id).collect();
            views.sort_unstable_by_key(|&i| (launch.view(i).offset, launch.view(i).len()));
            let (mut rest, mut at) = (buffer.as_bytes_mut(), 0);
            for i in views {
                let view = launch.view(i);
                let len = view.len() * view.dtype.size();
                let overlap =
                    Error::Overlap { op: launch.op().name(), operand: launch.op().schema().params[i].name };
                let skip = view.offset.checked_sub(at).ok_or(overlap)?;
                let (_, tail) = rest.split_at_mut(skip);
                let (operand, tail) = tail.split_at_mut(len);
                (rest, at) = (tail, view.offset + len);
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
