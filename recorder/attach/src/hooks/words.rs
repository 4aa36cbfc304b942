//! Words that a stream itself writes.

use std::ffi::c_uint;

use super::fills::filled;
use super::{hooks, legacy, per_thread, real};
use crate::attached::driver_did;
use crate::driver::{self, CUdeviceptr, CUresult, CUstream, MemoryOperation, SUCCESS};
use crate::events::Event;

/// `CU_STREAM_MEM_OP_WRITE_VALUE_32`, `_64` and `CU_STREAM_MEM_OP_ATOMIC_REDUCTION`.
const WRITE_32: c_uint = 2;
const WRITE_64: c_uint = 5;
const REDUCE: c_uint = 8;

/// A list of operations.
///
/// # Safety
/// `operations` is null, or the driver has just read `count` of them.
unsafe fn batch(
    operations: *const MemoryOperation,
    count: c_uint,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result != SUCCESS || operations.is_null() {
        return result;
    }
    // SAFETY: as the caller says.
    for operation in unsafe { std::slice::from_raw_parts(operations, count as usize) } {
        match operation.kind {
            WRITE_32 => drop(filled(operation.address, operation.value, 4, 1, stream, result)),
            WRITE_64 => drop(filled(operation.address, operation.value, 8, 1, stream, result)),
            REDUCE => reduced(stream),
            _ => {}
        }
    }
    result
}

/// Memory was changed by what it held.
fn reduced(stream: CUstream) {
    driver_did(|attached| {
        if attached.ran(stream) {
            attached.push(|_| Event::Gap("an atomic reduction of a stream's own".to_owned()));
        }
    });
}

hooks! {
    fn cuStreamWriteValue32(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue32(stream, address, value, flags));
        filled(address, value.into(), 4, 1, legacy(stream), result)
    }

    fn cuStreamWriteValue64(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue64(stream, address, value, flags));
        filled(address, value, 8, 1, legacy(stream), result)
    }

    fn cuStreamBatchMemOp(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint) {
        let result = real!(driver::cuStreamBatchMemOp(stream, count, operations, flags));
        real!(batch(operations, count, legacy(stream), result))
    }

    fn cuStreamWriteValue32_ptsz(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue32_ptsz(stream, address, value, flags));
        filled(address, value.into(), 4, 1, per_thread(stream), result)
    }

    fn cuStreamWriteValue64_ptsz(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue64_ptsz(stream, address, value, flags));
        filled(address, value, 8, 1, per_thread(stream), result)
    }

    fn cuStreamBatchMemOp_ptsz(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint) {
        let result = real!(driver::cuStreamBatchMemOp_ptsz(stream, count, operations, flags));
        real!(batch(operations, count, per_thread(stream), result))
    }

    fn cuStreamWriteValue32_v2(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue32_v2(stream, address, value, flags));
        filled(address, value.into(), 4, 1, legacy(stream), result)
    }

    fn cuStreamWriteValue64_v2(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue64_v2(stream, address, value, flags));
        filled(address, value, 8, 1, legacy(stream), result)
    }

    fn cuStreamBatchMemOp_v2(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint) {
        let result = real!(driver::cuStreamBatchMemOp_v2(stream, count, operations, flags));
        real!(batch(operations, count, legacy(stream), result))
    }

    fn cuStreamWriteValue32_v2_ptsz(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue32_v2_ptsz(stream, address, value, flags));
        filled(address, value.into(), 4, 1, per_thread(stream), result)
    }

    fn cuStreamWriteValue64_v2_ptsz(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint) {
        let result = real!(driver::cuStreamWriteValue64_v2_ptsz(stream, address, value, flags));
        filled(address, value, 8, 1, per_thread(stream), result)
    }

    fn cuStreamBatchMemOp_v2_ptsz(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint) {
        let result = real!(driver::cuStreamBatchMemOp_v2_ptsz(stream, count, operations, flags));
        real!(batch(operations, count, per_thread(stream), result))
    }
}
