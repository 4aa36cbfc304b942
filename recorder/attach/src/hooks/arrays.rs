//! Copies to and from arrays. An array is no memory that a trace knows: a copy from one writes memory with what is
//! not known, a copy to one reads memory.

use std::ffi::c_void;

use super::copies::copied;
use super::{hooks, legacy, per_thread, real};
use crate::attached::driver_did;
use crate::driver::{self, CUdeviceptr, CUresult, CUstream, STREAM_LEGACY, STREAM_PER_THREAD, SUCCESS};

/// Only arrays and host memory were touched: that something ran counts, and no more is told.
fn elsewhere(stream: CUstream, result: CUresult) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| attached.ran(stream));
    }
    result
}

hooks! {
    fn cuMemcpyDtoA_v2(target: usize, offset: usize, source: CUdeviceptr, bytes: usize) {
        let result = real!(driver::cuMemcpyDtoA_v2(target, offset, source, bytes));
        elsewhere(STREAM_LEGACY, copied(None, Some(source), bytes, STREAM_LEGACY, result))
    }

    fn cuMemcpyAtoD_v2(target: CUdeviceptr, source: usize, offset: usize, bytes: usize) {
        let result = real!(driver::cuMemcpyAtoD_v2(target, source, offset, bytes));
        copied(Some(target), None, bytes, STREAM_LEGACY, result)
    }

    fn cuMemcpyHtoA_v2(target: usize, offset: usize, source: *const c_void, bytes: usize) {
        elsewhere(STREAM_LEGACY, real!(driver::cuMemcpyHtoA_v2(target, offset, source, bytes)))
    }

    fn cuMemcpyAtoH_v2(target: *mut c_void, source: usize, offset: usize, bytes: usize) {
        elsewhere(STREAM_LEGACY, real!(driver::cuMemcpyAtoH_v2(target, source, offset, bytes)))
    }

    fn cuMemcpyAtoA_v2(target: usize, offset: usize, source: usize, source_offset: usize, bytes: usize) {
        elsewhere(STREAM_LEGACY, real!(driver::cuMemcpyAtoA_v2(target, offset, source, source_offset, bytes)))
    }

    fn cuMemcpyDtoA_v2_ptds(target: usize, offset: usize, source: CUdeviceptr, bytes: usize) {
        let result = real!(driver::cuMemcpyDtoA_v2_ptds(target, offset, source, bytes));
        elsewhere(STREAM_PER_THREAD, copied(None, Some(source), bytes, STREAM_PER_THREAD, result))
    }

    fn cuMemcpyAtoD_v2_ptds(target: CUdeviceptr, source: usize, offset: usize, bytes: usize) {
        let result = real!(driver::cuMemcpyAtoD_v2_ptds(target, source, offset, bytes));
        copied(Some(target), None, bytes, STREAM_PER_THREAD, result)
    }

    fn cuMemcpyHtoA_v2_ptds(target: usize, offset: usize, source: *const c_void, bytes: usize) {
        elsewhere(STREAM_PER_THREAD, real!(driver::cuMemcpyHtoA_v2_ptds(target, offset, source, bytes)))
    }

    fn cuMemcpyAtoH_v2_ptds(target: *mut c_void, source: usize, offset: usize, bytes: usize) {
        elsewhere(STREAM_PER_THREAD, real!(driver::cuMemcpyAtoH_v2_ptds(target, source, offset, bytes)))
    }

    fn cuMemcpyAtoA_v2_ptds(target: usize, offset: usize, source: usize, source_offset: usize, bytes: usize) {
        elsewhere(STREAM_PER_THREAD, real!(driver::cuMemcpyAtoA_v2_ptds(target, offset, source, source_offset, bytes)))
    }

    fn cuMemcpyHtoAAsync_v2(target: usize, offset: usize, source: *const c_void, bytes: usize, stream: CUstream) {
        elsewhere(legacy(stream), real!(driver::cuMemcpyHtoAAsync_v2(target, offset, source, bytes, stream)))
    }

    fn cuMemcpyAtoHAsync_v2(target: *mut c_void, source: usize, offset: usize, bytes: usize, stream: CUstream) {
        elsewhere(legacy(stream), real!(driver::cuMemcpyAtoHAsync_v2(target, source, offset, bytes, stream)))
    }

    fn cuMemcpyHtoAAsync_v2_ptsz(target: usize, offset: usize, source: *const c_void, bytes: usize, stream: CUstream) {
        elsewhere(per_thread(stream), real!(driver::cuMemcpyHtoAAsync_v2_ptsz(target, offset, source, bytes, stream)))
    }

    fn cuMemcpyAtoHAsync_v2_ptsz(target: *mut c_void, source: usize, offset: usize, bytes: usize, stream: CUstream) {
        elsewhere(per_thread(stream), real!(driver::cuMemcpyAtoHAsync_v2_ptsz(target, source, offset, bytes, stream)))
    }
}
