//! Host memory that the device writes into.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver;

/// `CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP`.
const FLAGS: u32 = 1 | 2;

/// Pinned, mapped memory. Its pages are our own and stay mapped for good, so that a program that destroys its
/// context leaves us stale words and not a bad address.
#[derive(Debug)]
pub struct Pinned {
    host: *mut u8,
    device: u64,
    bytes: usize,
}

// SAFETY: plain memory; whoever reads or writes it says how (atomics, or bytes that a stamp has made whole).
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Zeroed memory. A context is current.
    ///
    /// # Errors
    /// There is no such memory, or the driver can't map it.
    pub fn new(bytes: usize) -> Result<Self, String> {
        // SAFETY: a fresh anonymous mapping. Shared, so that a fork leaves these very pages to this process.
        let host = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if host == libc::MAP_FAILED {
            return Err(format!("no {bytes} bytes of host memory"));
        }
        let mut device = 0;
        // SAFETY: the mapping above, whole.
        let mut status = unsafe { driver::cuMemHostRegister_v2(host, bytes, FLAGS) };
        if status == driver::SUCCESS {
            // SAFETY: `host` was registered just now; `device` is a place for the answer.
            status = unsafe { driver::cuMemHostGetDevicePointer_v2(&mut device, host, 0) };
        }
        if status != driver::SUCCESS {
            // SAFETY: nobody else has the mapping.
            unsafe { libc::munmap(host, bytes) };
            return Err(format!("the driver can't map {bytes} bytes of host memory (error {status})"));
        }
        Ok(Self { host: host.cast(), device, bytes })
    }

    /// Memory that no device knows, for tests of what reads it.
    #[cfg(test)]
    pub fn unmapped(bytes: usize) -> Self {
        let words = vec![0u64; bytes.div_ceil(8)].leak();
        Self { host: words.as_mut_ptr().cast(), device: 0, bytes }
    }

    /// The device's address of byte `at`.
    pub fn device(&self, at: usize) -> u64 {
        self.device + at as u64
    }

    /// A word that both sides change. `at` is a multiple of 8 within the memory, or the last such.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        let at = at.min(self.bytes - 8) & !7;
        // SAFETY: aligned (the mapping is, and `at` is a multiple of 8), within the mapping, mapped for good.
        unsafe { AtomicU64::from_ptr(self.host.add(at).cast()) }
    }

    /// Bytes that the device has made whole, as a stamp that was read before said.
    pub fn copy(&self, at: usize, bytes: usize) -> Vec<u8> {
        let (at, bytes) = if at.saturating_add(bytes) <= self.bytes { (at, bytes) } else { (0, 0) };
        let mut copy = vec![0; bytes];
        // SAFETY: within the mapping; the device does not write a slot again before the host has said it is empty.
        unsafe { std::ptr::copy_nonoverlapping(self.host.add(at), copy.as_mut_ptr(), bytes) };
        copy
    }

    /// As the device would.
    #[cfg(test)]
    pub fn fill(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes);
        // SAFETY: within the memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.host.add(at), bytes.len()) };
    }

    /// Host address, for the driver.
    pub fn host(&self) -> *mut c_void {
        self.host.cast()
    }
}

/// Reads a stamp: what was written before it is seen after this.
pub fn stamp(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}
