//! Memory: given, given back, copied, filled.

use std::ffi::{c_uint, c_void};
use std::sync::PoisonError;

use super::{hooks, legacy, per_thread};
use crate::attached::{Attached, driver_did};
use crate::driver::{
    self, CUdeviceptr, CUmemGenericAllocationHandle, CUmemoryPool, CUresult, CUstream, STREAM_LEGACY,
    STREAM_PER_THREAD, SUCCESS,
};
use crate::events::Event;

/// Memory was given, unless it becomes a node of a graph under capture.
unsafe fn allocated(
    address: *mut CUdeviceptr,
    bytes: usize,
    stream: Option<CUstream>,
    result: CUresult,
) -> CUresult {
    if result == SUCCESS && !address.is_null() {
        driver_did(|attached| {
            if !stream.is_some_and(|stream| attached.capturing(stream)) {
                // The file may begin before anything is launched, and says which device it is of.
                attached.note_device();
                // SAFETY: the driver has just written there.
                let address = unsafe { *address };
                attached.change(|session| session.allocated(address, bytes as u64));
            }
        });
    }
    result
}

/// Takes a range out before its memory goes: no snapshot reads it from here on.
fn give_back(attached: &Attached, address: u64, bytes: u64) {
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
    let taken = driver_did(|attached| {
        if stream.is_some_and(|stream| attached.capturing(stream)) {
            return None;
        }
        let (start, bytes, _) = attached.session().memory.at(address)?;
        if start != address {
            return None;
        }
        give_back(attached, start, bytes);
        Some((start, bytes))
    });
    let result = real();
    if result != SUCCESS
        && let Some((start, bytes)) = taken.flatten()
    {
        driver_did(|attached| {
            attached.change(|session| {
                session.push(Event::Mark(format!("giving back {start:#x} failed: CUDA error {result}")));
                session.allocated(start, bytes);
            });
        });
    }
    result
}

/// A copy was made or enqueued. Addresses of host memory are left out: they change from run to run.
fn copied(
    target: Option<u64>,
    source: Option<u64>,
    bytes: usize,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result == SUCCESS && bytes > 0 {
        driver_did(|attached| {
            if attached.capturing(stream) {
                return;
            }
            if target.is_some() {
                attached.activity.call(stream);
            }
            attached.push(|session| Event::Copy {
                stream: session.stream(stream),
                target: target.unwrap_or(0),
                source: source.unwrap_or(0),
                bytes: bytes as u64,
            });
        });
    }
    result
}

/// A copy between addresses that may be of either kind.
fn copied_unified(target: u64, source: u64, bytes: usize, stream: CUstream, result: CUresult) -> CUresult {
    if result == SUCCESS && bytes > 0 {
        driver_did(|attached| {
            if attached.capturing(stream) {
                return;
            }
            attached.activity.call(stream);
            attached.push(|session| {
                let device = |address| if session.memory.at(address).is_some() { address } else { 0 };
                let (target, source) = (device(target), device(source));
                Event::Copy { stream: session.stream(stream), target, source, bytes: bytes as u64 }
            });
        });
    }
    result
}

fn filled(
    target: u64,
    pattern: u32,
    element: u8,
    count: usize,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result == SUCCESS && count > 0 {
        driver_did(|attached| {
            if attached.capturing(stream) {
                return;
            }
            attached.activity.call(stream);
            let bytes = count as u64 * u64::from(element);
            attached.push(|session| Event::Fill {
                stream: session.stream(stream),
                target,
                pattern,
                element,
                bytes,
            });
        });
    }
    result
}

// SAFETY of all of these: the program's own arguments go to the real function unchanged.
macro_rules! real {
    ($call:expr) => {
        // SAFETY: the program's own arguments.
        unsafe { $call }
    };
}

hooks! {
    fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) {
        real!(allocated(address, bytes, None, driver::cuMemAlloc_v2(address, bytes)))
    }

    fn cuMemAllocManaged(address: *mut CUdeviceptr, bytes: usize, flags: c_uint) {
        real!(allocated(address, bytes, None, driver::cuMemAllocManaged(address, bytes, flags)))
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

    fn cuMemMap(address: CUdeviceptr, bytes: usize, offset: usize, handle: CUmemGenericAllocationHandle,
        flags: u64) {
        let result = real!(driver::cuMemMap(address, bytes, offset, handle, flags));
        let mut address = address;
        real!(allocated(&mut address, bytes, None, result))
    }

    fn cuMemUnmap(address: CUdeviceptr, bytes: usize) {
        driver_did(|attached| give_back(attached, address, bytes as u64));
        real!(driver::cuMemUnmap(address, bytes))
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

    fn cuMemcpy(target: CUdeviceptr, source: CUdeviceptr, bytes: usize) {
        copied_unified(target, source, bytes, STREAM_LEGACY, real!(driver::cuMemcpy(target, source, bytes)))
    }

    fn cuMemcpy_ptds(target: CUdeviceptr, source: CUdeviceptr, bytes: usize) {
        let result = real!(driver::cuMemcpy_ptds(target, source, bytes));
        copied_unified(target, source, bytes, STREAM_PER_THREAD, result)
    }

    fn cuMemcpyAsync(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyAsync(target, source, bytes, stream));
        copied_unified(target, source, bytes, legacy(stream), result)
    }

    fn cuMemcpyAsync_ptsz(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyAsync_ptsz(target, source, bytes, stream));
        copied_unified(target, source, bytes, per_thread(stream), result)
    }

    fn cuMemcpyHtoD_v2(target: CUdeviceptr, source: *const c_void, bytes: usize) {
        copied(Some(target), None, bytes, STREAM_LEGACY, real!(driver::cuMemcpyHtoD_v2(target, source, bytes)))
    }

    fn cuMemcpyHtoD_v2_ptds(target: CUdeviceptr, source: *const c_void, bytes: usize) {
        let result = real!(driver::cuMemcpyHtoD_v2_ptds(target, source, bytes));
        copied(Some(target), None, bytes, STREAM_PER_THREAD, result)
    }

    fn cuMemcpyDtoH_v2(target: *mut c_void, source: CUdeviceptr, bytes: usize) {
        copied(None, Some(source), bytes, STREAM_LEGACY, real!(driver::cuMemcpyDtoH_v2(target, source, bytes)))
    }

    fn cuMemcpyDtoH_v2_ptds(target: *mut c_void, source: CUdeviceptr, bytes: usize) {
        let result = real!(driver::cuMemcpyDtoH_v2_ptds(target, source, bytes));
        copied(None, Some(source), bytes, STREAM_PER_THREAD, result)
    }

    fn cuMemcpyDtoD_v2(target: CUdeviceptr, source: CUdeviceptr, bytes: usize) {
        let result = real!(driver::cuMemcpyDtoD_v2(target, source, bytes));
        copied(Some(target), Some(source), bytes, STREAM_LEGACY, result)
    }

    fn cuMemcpyDtoD_v2_ptds(target: CUdeviceptr, source: CUdeviceptr, bytes: usize) {
        let result = real!(driver::cuMemcpyDtoD_v2_ptds(target, source, bytes));
        copied(Some(target), Some(source), bytes, STREAM_PER_THREAD, result)
    }

    fn cuMemcpyHtoDAsync_v2(target: CUdeviceptr, source: *const c_void, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyHtoDAsync_v2(target, source, bytes, stream));
        copied(Some(target), None, bytes, legacy(stream), result)
    }

    fn cuMemcpyHtoDAsync_v2_ptsz(target: CUdeviceptr, source: *const c_void, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyHtoDAsync_v2_ptsz(target, source, bytes, stream));
        copied(Some(target), None, bytes, per_thread(stream), result)
    }

    fn cuMemcpyDtoHAsync_v2(target: *mut c_void, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyDtoHAsync_v2(target, source, bytes, stream));
        copied(None, Some(source), bytes, legacy(stream), result)
    }

    fn cuMemcpyDtoHAsync_v2_ptsz(target: *mut c_void, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyDtoHAsync_v2_ptsz(target, source, bytes, stream));
        copied(None, Some(source), bytes, per_thread(stream), result)
    }

    fn cuMemcpyDtoDAsync_v2(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyDtoDAsync_v2(target, source, bytes, stream));
        copied(Some(target), Some(source), bytes, legacy(stream), result)
    }

    fn cuMemcpyDtoDAsync_v2_ptsz(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyDtoDAsync_v2_ptsz(target, source, bytes, stream));
        copied(Some(target), Some(source), bytes, per_thread(stream), result)
    }

    fn cuMemsetD8_v2(target: CUdeviceptr, value: u8, count: usize) {
        let result = real!(driver::cuMemsetD8_v2(target, value, count));
        filled(target, value.into(), 1, count, STREAM_LEGACY, result)
    }

    fn cuMemsetD8_v2_ptds(target: CUdeviceptr, value: u8, count: usize) {
        let result = real!(driver::cuMemsetD8_v2_ptds(target, value, count));
        filled(target, value.into(), 1, count, STREAM_PER_THREAD, result)
    }

    fn cuMemsetD16_v2(target: CUdeviceptr, value: u16, count: usize) {
        let result = real!(driver::cuMemsetD16_v2(target, value, count));
        filled(target, value.into(), 2, count, STREAM_LEGACY, result)
    }

    fn cuMemsetD16_v2_ptds(target: CUdeviceptr, value: u16, count: usize) {
        let result = real!(driver::cuMemsetD16_v2_ptds(target, value, count));
        filled(target, value.into(), 2, count, STREAM_PER_THREAD, result)
    }

    fn cuMemsetD32_v2(target: CUdeviceptr, value: u32, count: usize) {
        let result = real!(driver::cuMemsetD32_v2(target, value, count));
        filled(target, value, 4, count, STREAM_LEGACY, result)
    }

    fn cuMemsetD32_v2_ptds(target: CUdeviceptr, value: u32, count: usize) {
        let result = real!(driver::cuMemsetD32_v2_ptds(target, value, count));
        filled(target, value, 4, count, STREAM_PER_THREAD, result)
    }

    fn cuMemsetD8Async(target: CUdeviceptr, value: u8, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD8Async(target, value, count, stream));
        filled(target, value.into(), 1, count, legacy(stream), result)
    }

    fn cuMemsetD8Async_ptsz(target: CUdeviceptr, value: u8, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD8Async_ptsz(target, value, count, stream));
        filled(target, value.into(), 1, count, per_thread(stream), result)
    }

    fn cuMemsetD16Async(target: CUdeviceptr, value: u16, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD16Async(target, value, count, stream));
        filled(target, value.into(), 2, count, legacy(stream), result)
    }

    fn cuMemsetD16Async_ptsz(target: CUdeviceptr, value: u16, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD16Async_ptsz(target, value, count, stream));
        filled(target, value.into(), 2, count, per_thread(stream), result)
    }

    fn cuMemsetD32Async(target: CUdeviceptr, value: u32, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD32Async(target, value, count, stream));
        filled(target, value, 4, count, legacy(stream), result)
    }

    fn cuMemsetD32Async_ptsz(target: CUdeviceptr, value: u32, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD32Async_ptsz(target, value, count, stream));
        filled(target, value, 4, count, per_thread(stream), result)
    }
}
