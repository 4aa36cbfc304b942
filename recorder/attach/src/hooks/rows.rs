//! Copies and fills of memory in rows: 2D, 3D, batches of 3D.

use super::copies::failed_batch;
use super::{hooks, legacy, per_thread, real};
use crate::attached::driver_did;
use crate::driver::{
    self, CUdeviceptr, CUresult, CUstream, Memcpy2D, Memcpy3D, Memcpy3DBatchOp, Memcpy3DOperand,
    Memcpy3DPeer, MemsetNodeParams, STREAM_LEGACY, STREAM_PER_THREAD, SUCCESS,
};
use crate::events::Event;
use crate::rows::{Rows, Side, UNIFIED};
use crate::session::Session;

/// What a call moved, and how many of its copies are not described.
type Told = (Vec<Rows>, usize);

/// Memory was copied or filled in rows, if `result` says so. `told` reads what the program passed.
fn moved(stream: CUstream, result: CUresult, told: impl FnOnce() -> Told) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| {
            if !attached.ran(stream) {
                return;
            }
            let (rows, untold) = told();
            let mut session = attached.session();
            if !session.recording() {
                return;
            }
            let number = session.stream(stream);
            rows.into_iter().for_each(|rows| push(&mut session, number, rows));
            if untold > 0 {
                session.push(Event::Gap(format!("{untold} copies between memory and arrays in a batch")));
            }
        });
    }
    result
}

/// One event; none where no linear device memory is touched.
fn push(session: &mut Session, stream: u32, rows: Rows) {
    let rows = rows.known(|address| session.memory.on_device(address));
    if rows.is_nothing() {
        return;
    }
    let event = match (rows.linear(), &rows.pattern) {
        (Some((target, source, bytes)), None) => Event::Copy { stream, target, source, bytes },
        (Some((target, _, bytes)), Some(pattern)) => {
            let mut value = [0; 8];
            value.iter_mut().zip(pattern).for_each(|(to, from)| *to = *from);
            let element = pattern.len() as u8;
            Event::Fill { stream, target, pattern: u64::from_le_bytes(value), element, bytes }
        }
        (None, _) => Event::Rows(stream, Box::new(rows)),
    };
    session.push(event);
}

/// A copy that the program describes.
///
/// # Safety
/// `copy` is null, or the driver has just read it.
unsafe fn copied<T>(copy: *const T, read: fn(&T) -> Rows, stream: CUstream, result: CUresult) -> CUresult {
    // SAFETY: as the caller says.
    moved(stream, result, || (unsafe { copy.as_ref() }.map(read).into_iter().collect(), 0))
}

/// A list of copies, which may have failed half-way.
///
/// # Safety
/// `copies` is null, or the driver has just read `count` of them.
unsafe fn batch(
    copies: *const Memcpy3DBatchOp,
    count: usize,
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    if result != SUCCESS {
        return failed_batch(stream, result);
    }
    moved(stream, result, || {
        if copies.is_null() {
            return (Vec::new(), 0);
        }
        // SAFETY: as the caller says.
        let copies = unsafe { std::slice::from_raw_parts(copies, count) };
        let rows: Vec<Rows> = copies.iter().filter_map(between_pointers).collect();
        let untold = count - rows.len();
        (rows, untold)
    })
}

/// One of a list. The extent counts elements; of an array's only the driver knows the size.
fn between_pointers(copy: &Memcpy3DBatchOp) -> Option<Rows> {
    const POINTER: u32 = 1;
    let side = |side: &Memcpy3DOperand| {
        let packed = |given: usize, extent: usize| if given == 0 { extent } else { given };
        let (row, rows) = (packed(side.row_length, copy.width), packed(side.layer_height, copy.height));
        Side::new(UNIFIED, side.pointer, [0; 3], row, rows)
    };
    let both = copy.src.kind == POINTER && copy.dst.kind == POINTER;
    both.then(|| Rows::copy([copy.width, copy.height, copy.depth], side(&copy.dst), side(&copy.src)))
}

/// A 2D fill; `width` counts elements.
fn filled(
    target: u64,
    pitch: usize,
    (value, element_size): (u32, u32),
    (width, height): (usize, usize),
    stream: CUstream,
    result: CUresult,
) -> CUresult {
    let fill = MemsetNodeParams { dst: target, pitch, value, element_size, width, height };
    moved(stream, result, || (vec![Rows::fill(&fill)], 0))
}

hooks! {
    fn cuMemcpy2D_v2(copy: *const Memcpy2D) {
        let result = real!(driver::cuMemcpy2D_v2(copy));
        real!(copied(copy, Rows::copy_2d, STREAM_LEGACY, result))
    }

    fn cuMemcpy2DUnaligned_v2(copy: *const Memcpy2D) {
        let result = real!(driver::cuMemcpy2DUnaligned_v2(copy));
        real!(copied(copy, Rows::copy_2d, STREAM_LEGACY, result))
    }

    fn cuMemcpy3D_v2(copy: *const Memcpy3D) {
        let result = real!(driver::cuMemcpy3D_v2(copy));
        real!(copied(copy, Rows::copy_3d, STREAM_LEGACY, result))
    }

    fn cuMemcpy3DPeer(copy: *const Memcpy3DPeer) {
        let result = real!(driver::cuMemcpy3DPeer(copy));
        real!(copied(copy, Rows::copy_3d, STREAM_LEGACY, result))
    }

    fn cuMemsetD2D8_v2(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize) {
        let result = real!(driver::cuMemsetD2D8_v2(target, pitch, value, width, height));
        filled(target, pitch, (value.into(), 1), (width, height), STREAM_LEGACY, result)
    }

    fn cuMemsetD2D16_v2(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize) {
        let result = real!(driver::cuMemsetD2D16_v2(target, pitch, value, width, height));
        filled(target, pitch, (value.into(), 2), (width, height), STREAM_LEGACY, result)
    }

    fn cuMemsetD2D32_v2(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize) {
        let result = real!(driver::cuMemsetD2D32_v2(target, pitch, value, width, height));
        filled(target, pitch, (value, 4), (width, height), STREAM_LEGACY, result)
    }

    fn cuMemcpy2D_v2_ptds(copy: *const Memcpy2D) {
        let result = real!(driver::cuMemcpy2D_v2_ptds(copy));
        real!(copied(copy, Rows::copy_2d, STREAM_PER_THREAD, result))
    }

    fn cuMemcpy2DUnaligned_v2_ptds(copy: *const Memcpy2D) {
        let result = real!(driver::cuMemcpy2DUnaligned_v2_ptds(copy));
        real!(copied(copy, Rows::copy_2d, STREAM_PER_THREAD, result))
    }

    fn cuMemcpy3D_v2_ptds(copy: *const Memcpy3D) {
        let result = real!(driver::cuMemcpy3D_v2_ptds(copy));
        real!(copied(copy, Rows::copy_3d, STREAM_PER_THREAD, result))
    }

    fn cuMemcpy3DPeer_ptds(copy: *const Memcpy3DPeer) {
        let result = real!(driver::cuMemcpy3DPeer_ptds(copy));
        real!(copied(copy, Rows::copy_3d, STREAM_PER_THREAD, result))
    }

    fn cuMemsetD2D8_v2_ptds(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize) {
        let result = real!(driver::cuMemsetD2D8_v2_ptds(target, pitch, value, width, height));
        filled(target, pitch, (value.into(), 1), (width, height), STREAM_PER_THREAD, result)
    }

    fn cuMemsetD2D16_v2_ptds(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize) {
        let result = real!(driver::cuMemsetD2D16_v2_ptds(target, pitch, value, width, height));
        filled(target, pitch, (value.into(), 2), (width, height), STREAM_PER_THREAD, result)
    }

    fn cuMemsetD2D32_v2_ptds(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize) {
        let result = real!(driver::cuMemsetD2D32_v2_ptds(target, pitch, value, width, height));
        filled(target, pitch, (value, 4), (width, height), STREAM_PER_THREAD, result)
    }

    fn cuMemcpy2DAsync_v2(copy: *const Memcpy2D, stream: CUstream) {
        let result = real!(driver::cuMemcpy2DAsync_v2(copy, stream));
        real!(copied(copy, Rows::copy_2d, legacy(stream), result))
    }

    fn cuMemcpy3DAsync_v2(copy: *const Memcpy3D, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DAsync_v2(copy, stream));
        real!(copied(copy, Rows::copy_3d, legacy(stream), result))
    }

    fn cuMemcpy3DPeerAsync(copy: *const Memcpy3DPeer, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DPeerAsync(copy, stream));
        real!(copied(copy, Rows::copy_3d, legacy(stream), result))
    }

    fn cuMemcpy3DBatchAsync(count: usize, copies: *mut Memcpy3DBatchOp, failed: *mut usize, flags: u64,
        stream: CUstream) {
        let result = real!(driver::cuMemcpy3DBatchAsync(count, copies, failed, flags, stream));
        real!(batch(copies, count, legacy(stream), result))
    }

    fn cuMemcpy3DBatchAsync_v2(count: usize, copies: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DBatchAsync_v2(count, copies, flags, stream));
        real!(batch(copies, count, legacy(stream), result))
    }

    fn cuMemcpy3DWithAttributesAsync(copy: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DWithAttributesAsync(copy, flags, stream));
        real!(batch(copy, 1, legacy(stream), result))
    }

    fn cuMemsetD2D8Async(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize,
        stream: CUstream) {
        let result = real!(driver::cuMemsetD2D8Async(target, pitch, value, width, height, stream));
        filled(target, pitch, (value.into(), 1), (width, height), legacy(stream), result)
    }

    fn cuMemsetD2D16Async(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize,
        stream: CUstream) {
        let result = real!(driver::cuMemsetD2D16Async(target, pitch, value, width, height, stream));
        filled(target, pitch, (value.into(), 2), (width, height), legacy(stream), result)
    }

    fn cuMemsetD2D32Async(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize,
        stream: CUstream) {
        let result = real!(driver::cuMemsetD2D32Async(target, pitch, value, width, height, stream));
        filled(target, pitch, (value, 4), (width, height), legacy(stream), result)
    }

    fn cuMemcpy2DAsync_v2_ptsz(copy: *const Memcpy2D, stream: CUstream) {
        let result = real!(driver::cuMemcpy2DAsync_v2_ptsz(copy, stream));
        real!(copied(copy, Rows::copy_2d, per_thread(stream), result))
    }

    fn cuMemcpy3DAsync_v2_ptsz(copy: *const Memcpy3D, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DAsync_v2_ptsz(copy, stream));
        real!(copied(copy, Rows::copy_3d, per_thread(stream), result))
    }

    fn cuMemcpy3DPeerAsync_ptsz(copy: *const Memcpy3DPeer, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DPeerAsync_ptsz(copy, stream));
        real!(copied(copy, Rows::copy_3d, per_thread(stream), result))
    }

    fn cuMemcpy3DBatchAsync_ptsz(count: usize, copies: *mut Memcpy3DBatchOp, failed: *mut usize, flags: u64,
        stream: CUstream) {
        let result = real!(driver::cuMemcpy3DBatchAsync_ptsz(count, copies, failed, flags, stream));
        real!(batch(copies, count, per_thread(stream), result))
    }

    fn cuMemcpy3DBatchAsync_v2_ptsz(count: usize, copies: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DBatchAsync_v2_ptsz(count, copies, flags, stream));
        real!(batch(copies, count, per_thread(stream), result))
    }

    fn cuMemcpy3DWithAttributesAsync_ptsz(copy: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream) {
        let result = real!(driver::cuMemcpy3DWithAttributesAsync_ptsz(copy, flags, stream));
        real!(batch(copy, 1, per_thread(stream), result))
    }

    fn cuMemsetD2D8Async_ptsz(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize,
        stream: CUstream) {
        let result = real!(driver::cuMemsetD2D8Async_ptsz(target, pitch, value, width, height, stream));
        filled(target, pitch, (value.into(), 1), (width, height), per_thread(stream), result)
    }

    fn cuMemsetD2D16Async_ptsz(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize,
        stream: CUstream) {
        let result = real!(driver::cuMemsetD2D16Async_ptsz(target, pitch, value, width, height, stream));
        filled(target, pitch, (value.into(), 2), (width, height), per_thread(stream), result)
    }

    fn cuMemsetD2D32Async_ptsz(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize,
        stream: CUstream) {
        let result = real!(driver::cuMemsetD2D32Async_ptsz(target, pitch, value, width, height, stream));
        filled(target, pitch, (value, 4), (width, height), per_thread(stream), result)
    }
}
