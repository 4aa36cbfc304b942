//! Memory that the device reaches and did not give: of other processes, and the host's own, pinned.
//!
//! Both may be what a graph points to. Who else writes them is not seen.

use std::ffi::{c_uint, c_void};

use super::memory::given_back;
use super::{hooks, real};
use crate::attached::{Attached, driver_did};
use crate::driver::{self, CUdeviceptr, CUmemoryPool, CUresult, IpcMemHandle, SUCCESS};
use crate::events::Event;
use crate::session::memory::Place;

const OF_ANOTHER: &str = "memory of another process: what that one writes is not seen";
const PINNED: &str = "pinned memory of the host: what the host writes is not seen";

/// How many bytes are there from an address to the end of its memory. A context is current.
fn bytes_from(address: u64) -> Option<u64> {
    let (mut base, mut bytes) = (0, 0);
    // SAFETY: places for the answers; a bad address is the driver's to refuse.
    let status = unsafe { driver::cuMemGetAddressRange_v2(&mut base, &mut bytes, address) };
    let end = base.checked_add(bytes as u64)?;
    (status == SUCCESS && (base..end).contains(&address)).then(|| end - address)
}

/// Memory of another process is reached from here on. `counts` where it may be opened several times under one address.
unsafe fn opened(address: *mut CUdeviceptr, counts: bool, result: CUresult) -> CUresult {
    if result == SUCCESS && !address.is_null() {
        driver_did(|attached| {
            // SAFETY: the driver has just written there.
            let address = unsafe { *address };
            attached.note_device();
            let (bytes, place) = (bytes_from(address), Place::Shared(driver::device_of(address)));
            let context = driver::current();
            attached.change(|session| {
                session.given_in(context, address);
                if counts {
                    let count = session.opened.entry(address).or_insert(0);
                    *count += 1;
                    if *count > 1 {
                        return;
                    }
                }
                match bytes {
                    Some(bytes) => session.reached(address, bytes, place, OF_ANOTHER),
                    None => session.push(Event::Gap(format!(
                        "memory of another process at {address:#x}: the driver does not tell its size"
                    ))),
                }
            });
        });
    }
    result
}

/// Another process may have the memory at an address from here on.
pub(super) fn handed_on(address: CUdeviceptr, result: CUresult) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| attached.change(|session| session.shared(address)));
    }
    result
}

/// Whether this is the last time that it is closed.
fn last(attached: &Attached, address: u64) -> bool {
    let mut session = attached.session();
    let Some(count) = session.opened.get_mut(&address) else { return false };
    *count = count.saturating_sub(1);
    let last = *count == 0;
    if last {
        session.opened.remove(&address);
    }
    last
}

/// `CU_MEMHOSTREGISTER_IOMEMORY`.
const IO_MEMORY: c_uint = 4;

/// Memory was pinned, which is the host's or an I/O device's.
fn registered(address: *mut c_void, bytes: usize, flags: c_uint, result: CUresult) -> CUresult {
    let address = address as u64;
    match result {
        SUCCESS if flags & IO_MEMORY != 0 => {
            driver_did(|attached| {
                let mut session = attached.session();
                session.memory.leave_out(address, bytes as u64);
                session.push(Event::Gap(format!(
                    "{bytes} bytes of an I/O device at {address:#x}: to read them may have it do something"
                )));
            });
        }
        SUCCESS => pinned(address, bytes),
        _ => {}
    }
    result
}

/// Pinned memory is reached from here on, where the device knows it under the host's address.
fn pinned(address: u64, bytes: usize) {
    driver_did(|attached| {
        let mut device = 0;
        // SAFETY: a place for the answer, and memory that the driver has just pinned.
        let status = unsafe { driver::cuMemHostGetDevicePointer_v2(&mut device, address as *mut c_void, 0) };
        if status == SUCCESS && device == address {
            let context = driver::current();
            attached.change(|session| {
                session.given_in(context, address);
                session.reached(address, bytes as u64, Place::Host, PINNED);
            });
        }
    });
}

/// As [`pinned`], of memory that the driver gave.
unsafe fn given(address: *mut *mut c_void, bytes: usize, result: CUresult) -> CUresult {
    if result == SUCCESS && !address.is_null() {
        // SAFETY: the driver has just written there.
        pinned(unsafe { *address } as u64, bytes);
    }
    result
}

/// Pinned memory is given back, or is the host's alone again.
fn unpinned(address: *mut c_void, real: impl FnOnce() -> CUresult) -> CUresult {
    let begins = |attached: &Attached| attached.session().memory.on_host(address as u64);
    given_back(address as u64, begins, real, |session, start, bytes, place| {
        session.reached(start, bytes, place, PINNED);
    })
}

hooks! {
    fn cuIpcOpenMemHandle(address: *mut CUdeviceptr, handle: IpcMemHandle, flags: c_uint) {
        real!(opened(address, true, driver::cuIpcOpenMemHandle(address, handle, flags)))
    }

    fn cuIpcOpenMemHandle_v2(address: *mut CUdeviceptr, handle: IpcMemHandle, flags: c_uint) {
        real!(opened(address, true, driver::cuIpcOpenMemHandle_v2(address, handle, flags)))
    }

    fn cuIpcCloseMemHandle(address: CUdeviceptr) {
        let close = || real!(driver::cuIpcCloseMemHandle(address));
        given_back(address, |attached| last(attached, address), close, |session, start, bytes, place| {
            session.opened.insert(start, 1);
            session.reached(start, bytes, place, OF_ANOTHER);
        })
    }

    fn cuIpcGetMemHandle(handle: *mut IpcMemHandle, address: CUdeviceptr) {
        handed_on(address, real!(driver::cuIpcGetMemHandle(handle, address)))
    }

    fn cuMemPoolExportPointer(data: *mut c_void, address: CUdeviceptr) {
        handed_on(address, real!(driver::cuMemPoolExportPointer(data, address)))
    }

    fn cuMemPoolImportPointer(address: *mut CUdeviceptr, pool: CUmemoryPool, data: *mut c_void) {
        real!(opened(address, false, driver::cuMemPoolImportPointer(address, pool, data)))
    }

    fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint) {
        real!(given(address, bytes, driver::cuMemHostAlloc(address, bytes, flags)))
    }

    fn cuMemAllocHost_v2(address: *mut *mut c_void, bytes: usize) {
        real!(given(address, bytes, driver::cuMemAllocHost_v2(address, bytes)))
    }

    fn cuMemFreeHost(address: *mut c_void) {
        unpinned(address, || real!(driver::cuMemFreeHost(address)))
    }

    fn cuMemHostRegister(address: *mut c_void, bytes: usize, flags: c_uint) {
        registered(address, bytes, flags, real!(driver::cuMemHostRegister(address, bytes, flags)))
    }

    fn cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint) {
        registered(address, bytes, flags, real!(driver::cuMemHostRegister_v2(address, bytes, flags)))
    }

    fn cuMemHostUnregister(address: *mut c_void) {
        let result = unpinned(address, || real!(driver::cuMemHostUnregister(address)));
        if result == SUCCESS {
            driver_did(|attached| attached.session().memory.gone(address as u64, 1));
        }
        result
    }
}
