//! Memory filled.

use super::{hooks, legacy, per_thread, real};
use crate::attached::driver_did;
use crate::driver::{self, CUdeviceptr, CUresult, CUstream, STREAM_LEGACY, STREAM_PER_THREAD, SUCCESS};
use crate::events::Event;

pub(super) fn filled(
    target: u64,
    pattern: u64,
    element: u8,
    count: usize,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result == SUCCESS && count > 0 {
        driver_did(|attached| {
            if !attached.ran(stream) {
                return;
            }
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

hooks! {
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
        filled(target, value.into(), 4, count, STREAM_LEGACY, result)
    }

    fn cuMemsetD32_v2_ptds(target: CUdeviceptr, value: u32, count: usize) {
        let result = real!(driver::cuMemsetD32_v2_ptds(target, value, count));
        filled(target, value.into(), 4, count, STREAM_PER_THREAD, result)
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
        filled(target, value.into(), 4, count, legacy(stream), result)
    }

    fn cuMemsetD32Async_ptsz(target: CUdeviceptr, value: u32, count: usize, stream: CUstream) {
        let result = real!(driver::cuMemsetD32Async_ptsz(target, value, count, stream));
        filled(target, value.into(), 4, count, per_thread(stream), result)
    }
}
