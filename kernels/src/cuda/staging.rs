//! Host bytes on their way to and from the device.

use std::rc::Rc;

use cudarc::driver::result::DriverError;

use super::device::{Device, Memory, Pinned};

/// Enough for a step's host writes and most reads in one piece.
const BYTES: usize = 4 << 20;

/// Pinned memory that copies go through. An upload returns once its bytes lie here, in stream order
/// but without waiting; memory is used again after a wait only.
pub(super) struct Staging {
    device: Rc<Device>,
    pinned: Pinned,
    /// Bytes from the start that a copy under way may still read.
    used: usize,
}

impl Staging {
    pub(super) fn new(device: &Rc<Device>) -> Result<Staging, DriverError> {
        Ok(Staging { device: device.clone(), pinned: Pinned::allocate(device, BYTES)?, used: 0 })
    }

    /// Waits for all work.
    pub(super) fn synchronize(&mut self) -> Result<(), DriverError> {
        self.device.synchronize()?;
        self.used = 0;
        Ok(())
    }

    /// Copies `bytes` to `offset` of `memory`, in stream order; they need not outlive the call.
    pub(super) fn upload(&mut self, memory: &Memory, offset: usize, bytes: &[u8]) -> Result<(), DriverError> {
        let mut to = offset;
        for piece in bytes.chunks(BYTES) {
            if self.used + piece.len() > BYTES {
                self.synchronize()?;
            }
            let part = self.used..self.used + piece.len();
            self.pinned.as_mut_slice()[part.clone()].copy_from_slice(piece);
            self.used = part.end;
            // SAFETY: only bytes from `used` on are written before the next wait.
            unsafe { self.device.upload(memory, to, &self.pinned, part) }?;
            to += piece.len();
        }
        Ok(())
    }

    /// Copies from `offset` of `memory` to `bytes`, after all earlier work.
    pub(super) fn download(
        &mut self,
        memory: &Memory,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<(), DriverError> {
        self.synchronize()?;
        let mut from = offset;
        for piece in bytes.chunks_mut(BYTES) {
            self.device.download(memory, from, &mut self.pinned, piece.len())?;
            piece.copy_from_slice(&self.pinned.as_slice()[..piece.len()]);
            from += piece.len();
        }
        Ok(())
    }
}
