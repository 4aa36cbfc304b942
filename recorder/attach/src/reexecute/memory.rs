//! Device memory, read and written while the device is idle.

use crate::contents::{Contents, Node};
use crate::driver::{self, SUCCESS};
use crate::session::memory::Memory;

/// Host memory that saved contents may take.
pub const MAX_BYTES: u64 = 1 << 30;

/// Start and size.
type Range = (u64, u64);

/// What the device held before a re-execution.
pub struct Saved {
    ranges: Vec<(u64, Vec<u8>)>,
    /// Ranges that are too large to be saved, and their bytes.
    pub left_ranges: usize,
    pub left_bytes: u64,
}

impl Saved {
    /// Saves `watched`, then of `others` as many as there is room for, the smallest first.
    ///
    /// # Errors
    /// A range can't be read.
    pub fn take(watched: impl Iterator<Item = Range>, mut others: Vec<Range>) -> Result<Self, String> {
        let mut saved = Saved { ranges: Vec::new(), left_ranges: 0, left_bytes: 0 };
        let mut total = 0;
        for (address, bytes) in watched {
            total += bytes;
            saved.ranges.push((address, read(address, bytes)?));
        }
        others.sort_by_key(|&(address, bytes)| (bytes, address));
        for (address, bytes) in others {
            if total + bytes > MAX_BYTES {
                saved.left_ranges += 1;
                saved.left_bytes += bytes;
                continue;
            }
            total += bytes;
            saved.ranges.push((address, read(address, bytes)?));
        }
        Ok(saved)
    }

    /// Writes all of it back.
    ///
    /// # Errors
    /// A range can't be written.
    pub fn put_back(&self) -> Result<(), String> {
        self.ranges.iter().try_for_each(|(address, bytes)| write(*address, bytes))
    }
}

/// Memory that a graph may write: from each address among its parameters to the next one, or to the end of the
/// allocation.
pub fn ranges(contents: &Contents, memory: &Memory) -> Vec<Range> {
    let addresses = super::kept::pointers(contents, memory);
    let range = |(i, &address): (usize, &u64)| {
        let (start, bytes, _) = memory.at(address)?;
        let next = addresses.get(i + 1).copied().unwrap_or(u64::MAX);
        Some((address, (start + bytes).min(next) - address))
    };
    addresses.iter().enumerate().filter_map(range).collect()
}

/// Values in a graph's nodes that may be addresses.
pub fn addresses(contents: &Contents) -> Vec<u64> {
    let mut addresses = Vec::new();
    for node in &contents.nodes {
        match node {
            Node::Kernel(kernel) => {
                let words = kernel.parameters.iter().flat_map(|bytes| bytes.as_chunks::<8>().0);
                addresses.extend(words.map(|word| u64::from_le_bytes(*word)));
            }
            Node::Copy { target, source, .. } => addresses.extend([*target, *source]),
            Node::Fill { target, .. } => addresses.push(*target),
            Node::Rows(rows) => addresses.extend(rows.sides().map(|side| side.address)),
            Node::Other(_) => {}
        }
    }
    addresses
}

/// Waits for all that was enqueued in the current context.
///
/// # Errors
/// No context is current, or the device has failed.
pub fn wait() -> Result<(), String> {
    // SAFETY: no arguments.
    let status = unsafe { driver::cuCtxSynchronize() };
    if status == SUCCESS {
        Ok(())
    } else {
        Err(format!("the device can't be waited for: CUDA error {status}"))
    }
}

/// Bytes of the device.
///
/// # Errors
/// The driver refuses.
pub fn read(address: u64, bytes: u64) -> Result<Vec<u8>, String> {
    let mut copy = vec![0; bytes as usize];
    // SAFETY: `copy` has that many bytes; a bad device address is the driver's to refuse.
    let mut status = unsafe { driver::cuMemcpyDtoH_v2(copy.as_mut_ptr().cast(), address, copy.len()) };
    if status != SUCCESS {
        // Pinned memory of the host is no device memory, but has an address of the same kind.
        // SAFETY: as above.
        status = unsafe { driver::cuMemcpy(copy.as_mut_ptr() as u64, address, copy.len()) };
    }
    if status == SUCCESS {
        Ok(copy)
    } else {
        Err(format!("memory at {address:#x} can't be read: CUDA error {status}"))
    }
}

/// Writes bytes to the device.
///
/// # Errors
/// The driver refuses.
pub fn write(address: u64, bytes: &[u8]) -> Result<(), String> {
    // SAFETY: `bytes` is memory of ours; a bad device address is the driver's to refuse.
    let mut status = unsafe { driver::cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len()) };
    if status != SUCCESS {
        // SAFETY: as above.
        status = unsafe { driver::cuMemcpy(address, bytes.as_ptr() as u64, bytes.len()) };
    }
    if status == SUCCESS {
        Ok(())
    } else {
        Err(format!("memory at {address:#x} can't be written: CUDA error {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Kernel;
    use crate::session::memory::Place;
    use twinstep_traces::BufferId;

    #[test]
    fn ranges_end_at_the_next_pointer_or_with_the_allocation() {
        let mut memory = Memory::default();
        memory.insert(0x1000, 0x100, BufferId(0), Place::Device(0));
        memory.insert(0x2000, 0x10, BufferId(1), Place::Device(0));
        let mut structure = vec![0; 8];
        structure.extend(0x1080u64.to_le_bytes());
        structure.extend([1, 2, 3]);
        let kernel = Kernel {
            parameters: vec![0x1000u64.to_le_bytes().to_vec(), structure, vec![0, 16, 0, 0]],
            ..Kernel::default()
        };
        let fill = Node::Fill { target: 0x2008, pattern: vec![0], bytes: 4 };
        let nodes = vec![Node::Kernel(kernel), fill, Node::Other("host function".to_owned())];
        let contents = Contents { nodes, ..Contents::default() };
        assert_eq!(ranges(&contents, &memory), [(0x1000, 0x80), (0x1080, 0x80), (0x2008, 8)]);
    }
}
