//! Copies of linear memory.

use std::ffi::c_void;

use super::{hooks, legacy, per_thread, real};
use crate::attached::driver_did;
use crate::driver::{
    self, CUcontext, CUdeviceptr, CUresult, CUstream, STREAM_LEGACY, STREAM_PER_THREAD, SUCCESS,
};
use crate::events::Event;

/// A copy was made or enqueued. Addresses of host memory are left out: they change from run to run.
pub(super) fn copied(
    target: Option<u64>,
    source: Option<u64>,
    bytes: usize,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result == SUCCESS && bytes > 0 {
        driver_did(|attached| {
            // What only reads the device's memory leaves it quiet.
            let runs = if target.is_some() { attached.ran(stream) } else { !attached.capturing(stream) };
            if !runs {
                return;
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
    copied_all(&[(target, source, bytes)], stream, result)
}

/// Copies between addresses that may be of either kind. Pinned memory is the host's, whatever its address.
fn copied_all(copies: &[(u64, u64, usize)], stream: CUstream, result: CUresult) -> CUresult {
    if result == SUCCESS && copies.iter().any(|&(.., bytes)| bytes > 0) {
        driver_did(|attached| {
            if !attached.ran(stream) {
                return;
            }
            let mut session = attached.session();
            if !session.recording() {
                return;
            }
            let number = session.stream(stream);
            for &(target, source, bytes) in copies.iter().filter(|&&(.., bytes)| bytes > 0) {
                let device = |address| if session.memory.on_device(address) { address } else { 0 };
                let (target, source) = (device(target), device(source));
                session.push(Event::Copy { stream: number, target, source, bytes: bytes as u64 });
            }
        });
    }
    result
}

/// A list of copies.
///
/// # Safety
/// The driver has just read `count` entries of each list.
unsafe fn batch(
    targets: *const CUdeviceptr,
    sources: *const CUdeviceptr,
    bytes: *const usize,
    count: usize,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result != SUCCESS {
        return failed_batch(stream, result);
    }
    if targets.is_null() || sources.is_null() || bytes.is_null() {
        return result;
    }
    // SAFETY: as the caller says.
    let copies = (0..count).map(|i| unsafe { (*targets.add(i), *sources.add(i), *bytes.add(i)) });
    copied_all(&copies.collect::<Vec<_>>(), stream, result)
}

/// Some copies of a list may have been made before one failed.
pub(super) fn failed_batch(stream: CUstream, error: CUresult) -> CUresult {
    driver_did(|attached| {
        if attached.ran(stream) {
            let reason = format!("what a batch of copies did that failed with CUDA error {error}");
            attached.push(|_| Event::Gap(reason));
        }
    });
    error
}

hooks! {
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

    fn cuMemcpyPeer(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize) {
        let result = real!(driver::cuMemcpyPeer(target, target_context, source, source_context, bytes));
        copied(Some(target), Some(source), bytes, STREAM_LEGACY, result)
    }

    fn cuMemcpyPeer_ptds(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize) {
        let result = real!(driver::cuMemcpyPeer_ptds(target, target_context, source, source_context, bytes));
        copied(Some(target), Some(source), bytes, STREAM_PER_THREAD, result)
    }

    fn cuMemcpyPeerAsync(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize, stream: CUstream) {
        let result =
            real!(driver::cuMemcpyPeerAsync(target, target_context, source, source_context, bytes, stream));
        copied(Some(target), Some(source), bytes, legacy(stream), result)
    }

    fn cuMemcpyWithAttributesAsync(target: CUdeviceptr, source: CUdeviceptr, bytes: usize,
        attributes: *mut c_void, stream: CUstream) {
        let result = real!(driver::cuMemcpyWithAttributesAsync(target, source, bytes, attributes, stream));
        copied_unified(target, source, bytes, legacy(stream), result)
    }

    fn cuMemcpyBatchAsync(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, failed: *mut usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyBatchAsync(targets, sources, bytes, count, attributes, indices,
            attribute_count, failed, stream));
        real!(batch(targets, sources, bytes, count, legacy(stream), result))
    }

    fn cuMemcpyBatchAsync_v2(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyBatchAsync_v2(targets, sources, bytes, count, attributes, indices,
            attribute_count, stream));
        real!(batch(targets, sources, bytes, count, legacy(stream), result))
    }

    fn cuMemcpyPeerAsync_ptsz(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize, stream: CUstream) {
        let result =
            real!(driver::cuMemcpyPeerAsync_ptsz(target, target_context, source, source_context, bytes, stream));
        copied(Some(target), Some(source), bytes, per_thread(stream), result)
    }

    fn cuMemcpyWithAttributesAsync_ptsz(target: CUdeviceptr, source: CUdeviceptr, bytes: usize,
        attributes: *mut c_void, stream: CUstream) {
        let result = real!(driver::cuMemcpyWithAttributesAsync_ptsz(target, source, bytes, attributes, stream));
        copied_unified(target, source, bytes, per_thread(stream), result)
    }

    fn cuMemcpyBatchAsync_ptsz(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, failed: *mut usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyBatchAsync_ptsz(targets, sources, bytes, count, attributes, indices,
            attribute_count, failed, stream));
        real!(batch(targets, sources, bytes, count, per_thread(stream), result))
    }

    fn cuMemcpyBatchAsync_v2_ptsz(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, stream: CUstream) {
        let result = real!(driver::cuMemcpyBatchAsync_v2_ptsz(targets, sources, bytes, count, attributes, indices,
            attribute_count, stream));
        real!(batch(targets, sources, bytes, count, per_thread(stream), result))
    }
}
