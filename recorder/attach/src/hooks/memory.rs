//! Memory: given and given back.

use std::ffi::c_uint;
use std::sync::PoisonError;

use super::{hooks, legacy, per_thread, real};
use crate::attached::{Attached, driver_did};
use crate::driver::{self, CUdeviceptr, CUmemoryPool, CUresult, CUstream, SUCCESS};
use crate::events::Event;
use crate::session::Session;
use crate::session::memory::Place;

/// Memory was given, unless it becomes a node of a graph under capture.
unsafe fn allocated(
    address: *mut CUdeviceptr,
    bytes: usize,
    stream: Option<CUstream>,
    result: CUresult,
) -> CUresult {
    // SAFETY: as the caller says.
    unsafe { allocated_in(address, bytes, stream, Place::Device, result) }
}

/// As [`allocated`]; `place` says what a device's number stands for.
pub(super) unsafe fn allocated_in(
    address: *mut CUdeviceptr,
    bytes: usize,
    stream: Option<CUstream>,
    place: fn(i32) -> Place,
    result: CUresult,
) -> CUresult {
    if result == SUCCESS && !address.is_null() {
        driver_did(|attached| {
            if !stream.is_some_and(|stream| attached.capturing(stream)) {
                // The file may begin before anything is launched, and says which device it is of.
                attached.note_device();
                // SAFETY: the driver has just written there.
                let address = unsafe { *address };
                let (place, context) = (place(driver::device_of(address)), driver::current());
                attached.change(|session| {
                    session.given_in(context, address);
                    session.allocated(address, bytes as u64, place);
                });
            }
        });
    }
    result
}

/// Takes a range out before its memory goes: no snapshot reads it from here on.
pub(super) fn give_back(attached: &Attached, address: u64, bytes: u64) {
    let watched = attached.session().watches.overlap(address, bytes);
    // A thread that has already chosen what to copy enqueues it first.
    {
        let _closed = watched.then(|| attached.gate.write().unwrap_or_else(PoisonError::into_inner));
        attached.change(|session| session.freed_range(address, bytes));
    }
    if watched && !attached.snapshotter.settle(address, bytes) {
        let reason =
            format!("snapshots of memory at {address:#x} that was given back while they were under way");
        attached.session().push(Event::Gap(reason));
    }
}

/// An allocation is given back.
fn free(address: CUdeviceptr, stream: Option<CUstream>, real: impl FnOnce() -> CUresult) -> CUresult {
    let begins = |attached: &Attached| {
        let captured = stream.is_some_and(|stream| attached.capturing(stream));
        !captured && attached.session().memory.on_device(address)
    };
    given_back(address, begins, real, Session::allocated)
}

/// Memory that begins at an address is given back by a call, unless `begins` says no. Where the call fails it is `again`
/// there.
pub(super) fn given_back(
    address: u64,
    begins: impl FnOnce(&Attached) -> bool,
    real: impl FnOnce() -> CUresult,
    again: impl FnOnce(&mut Session, u64, u64, Place),
) -> CUresult {
    let taken = driver_did(|attached| {
        if !begins(attached) {
            return None;
        }
        let (start, bytes, place) = {
            let session = attached.session();
            let (start, bytes, _) = session.memory.at(address)?;
            (start, bytes, session.memory.place(address)?)
        };
        if start != address {
            return None;
        }
        give_back(attached, start, bytes);
        Some((start, bytes, place))
    });
    let result = real();
    if result != SUCCESS
        && let Some((start, bytes, place)) = taken.flatten()
    {
        driver_did(|attached| {
            attached.change(|session| {
                session.push(Event::Mark(format!("giving back {start:#x} failed: CUDA error {result}")));
                again(session, start, bytes, place);
            });
        });
    }
    result
}

hooks! {
    fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) {
        real!(allocated(address, bytes, None, driver::cuMemAlloc_v2(address, bytes)))
    }

    fn cuMemAllocManaged(address: *mut CUdeviceptr, bytes: usize, flags: c_uint) {
        let result = real!(driver::cuMemAllocManaged(address, bytes, flags));
        // The host writes it without a call.
        real!(allocated_in(address, bytes, None, Place::Shared, result))
    }

    fn cuMemAllocPitch_v2(address: *mut CUdeviceptr, pitch: *mut usize, width: usize, height: usize,
        element: c_uint) {
        let result = real!(driver::cuMemAllocPitch_v2(address, pitch, width, height, element));
        // SAFETY: on success the driver has written the pitch.
        let pitch = if result == SUCCESS && !pitch.is_null() { unsafe { *pitch } } else { 0 };
        real!(allocated(address, pitch.saturating_mul(height), None, result))
    }

    fn cuMemAllocAsync(address: *mut CUdeviceptr, bytes: usize, stream: CUstream) {
        real!(allocated(address, bytes, Some(legacy(stream)), driver::cuMemAllocAsync(address, bytes, stream)))
    }

    fn cuMemAllocAsync_ptsz(address: *mut CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemAllocAsync_ptsz(address, bytes, stream));
        real!(allocated(address, bytes, Some(per_thread(stream)), result))
    }

    fn cuMemAllocFromPoolAsync(address: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool, stream: CUstream) {
        let result = real!(driver::cuMemAllocFromPoolAsync(address, bytes, pool, stream));
        real!(allocated(address, bytes, Some(legacy(stream)), result))
    }

    fn cuMemAllocFromPoolAsync_ptsz(address: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool,
        stream: CUstream) {
        let result = real!(driver::cuMemAllocFromPoolAsync_ptsz(address, bytes, pool, stream));
        real!(allocated(address, bytes, Some(per_thread(stream)), result))
    }

    fn cuMemFree_v2(address: CUdeviceptr) {
        free(address, None, || real!(driver::cuMemFree_v2(address)))
    }

    fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) {
        free(address, Some(legacy(stream)), || real!(driver::cuMemFreeAsync(address, stream)))
    }

    fn cuMemFreeAsync_ptsz(address: CUdeviceptr, stream: CUstream) {
        free(address, Some(per_thread(stream)), || real!(driver::cuMemFreeAsync_ptsz(address, stream)))
    }
}
