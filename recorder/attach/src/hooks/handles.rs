//! Memory that the program maps by handles, which other processes may have as well.

use std::ffi::{c_int, c_void};

use super::memory::{allocated_in, give_back};
use super::{hooks, real, shared};
use crate::attached::driver_did;
use crate::driver::{self, CUdeviceptr, CUmemGenericAllocationHandle, CUresult, SUCCESS};
use crate::events::Event;
use crate::session::handles::Owner;
use crate::session::memory::Place;

/// A handle came into being.
unsafe fn came(handle: *mut CUmemGenericAllocationHandle, owner: Owner, result: CUresult) -> CUresult {
    if result == SUCCESS && !handle.is_null() {
        // SAFETY: the driver has just written there.
        driver_did(|attached| attached.session().handles.came(unsafe { *handle }, owner));
    }
    result
}

/// Another process may have a handle's memory from here on.
fn handed_on(handle: CUmemGenericAllocationHandle, result: CUresult) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| {
            attached.change(|session| {
                let addresses = session.handles.handed_on(handle);
                addresses.into_iter().for_each(|address| session.shared(address));
            });
        });
    }
    result
}

hooks! {
    fn cuMemImportFromShareableHandle(handle: *mut CUmemGenericAllocationHandle, from: *mut c_void, kind: c_int) {
        real!(came(handle, Owner::Others, driver::cuMemImportFromShareableHandle(handle, from, kind)))
    }

    fn cuMulticastCreate(handle: *mut CUmemGenericAllocationHandle, properties: *const c_void) {
        real!(came(handle, Owner::Multicast, driver::cuMulticastCreate(handle, properties)))
    }

    // Ranks that took the handle from another process say so with this, before they map it.
    fn cuMulticastAddDevice(handle: CUmemGenericAllocationHandle, device: c_int) {
        let result = real!(driver::cuMulticastAddDevice(handle, device));
        if result == SUCCESS {
            driver_did(|attached| attached.session().handles.is_multicast(handle));
        }
        result
    }

    fn cuMulticastBindMem(multicast: CUmemGenericAllocationHandle, offset: usize,
        memory: CUmemGenericAllocationHandle, memory_offset: usize, bytes: usize, flags: u64) {
        let result = real!(driver::cuMulticastBindMem(multicast, offset, memory, memory_offset, bytes, flags));
        handed_on(memory, result)
    }

    fn cuMulticastBindMem_v2(multicast: CUmemGenericAllocationHandle, device: c_int, offset: usize,
        memory: CUmemGenericAllocationHandle, memory_offset: usize, bytes: usize, flags: u64) {
        let result =
            real!(driver::cuMulticastBindMem_v2(multicast, device, offset, memory, memory_offset, bytes, flags));
        handed_on(memory, result)
    }

    fn cuMulticastBindAddr_v2(multicast: CUmemGenericAllocationHandle, device: c_int, offset: usize,
        address: CUdeviceptr, bytes: usize, flags: u64) {
        let result = real!(driver::cuMulticastBindAddr_v2(multicast, device, offset, address, bytes, flags));
        shared::handed_on(address, result)
    }

    fn cuMulticastBindAddr(multicast: CUmemGenericAllocationHandle, offset: usize, address: CUdeviceptr,
        bytes: usize, flags: u64) {
        let result = real!(driver::cuMulticastBindAddr(multicast, offset, address, bytes, flags));
        shared::handed_on(address, result)
    }

    fn cuMemExportToShareableHandle(to: *mut c_void, handle: CUmemGenericAllocationHandle, kind: c_int,
        flags: u64) {
        handed_on(handle, real!(driver::cuMemExportToShareableHandle(to, handle, kind, flags)))
    }

    fn cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, address: *mut c_void) {
        let result = real!(driver::cuMemRetainAllocationHandle(handle, address));
        if result == SUCCESS && !handle.is_null() {
            driver_did(|attached| {
                let mut session = attached.session();
                let start = session.memory.at(address as u64).map_or(address as u64, |(start, ..)| start);
                // SAFETY: the driver has just written there.
                session.handles.retained(unsafe { *handle }, start);
            });
        }
        result
    }

    fn cuMemRelease(handle: CUmemGenericAllocationHandle) {
        let result = real!(driver::cuMemRelease(handle));
        if result == SUCCESS {
            driver_did(|attached| attached.session().handles.released(handle));
        }
        result
    }

    fn cuMemMap(address: CUdeviceptr, bytes: usize, offset: usize, handle: CUmemGenericAllocationHandle,
        flags: u64) {
        let result = real!(driver::cuMemMap(address, bytes, offset, handle, flags));
        if result != SUCCESS {
            return result;
        }
        let owner = driver_did(|attached| attached.session().handles.mapped(handle, address));
        let mut address = address;
        match owner.unwrap_or_default() {
            Owner::Program => real!(allocated_in(&mut address, bytes, None, Place::Device, result)),
            Owner::Others => real!(allocated_in(&mut address, bytes, None, Place::Shared, result)),
            Owner::Multicast => {
                driver_did(|attached| {
                    let mut session = attached.session();
                    session.memory.leave_out(address, bytes as u64);
                    session.push(Event::Gap(format!(
                        "{bytes} bytes at {address:#x} are of several devices at once (multicast): plain loads from \
                         there are undefined"
                    )));
                });
                result
            }
        }
    }

    fn cuMemUnmap(address: CUdeviceptr, bytes: usize) {
        driver_did(|attached| {
            give_back(attached, address, bytes as u64);
            let mut session = attached.session();
            session.memory.gone(address, bytes as u64);
            session.handles.unmapped(address, bytes as u64);
        });
        real!(driver::cuMemUnmap(address, bytes))
    }
}
