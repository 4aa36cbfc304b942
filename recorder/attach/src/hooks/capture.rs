//! Stream capture: while one is under way nothing of ours is enqueued on its streams.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use super::hooks;
use crate::attached::driver_did;
use crate::driver::{self, CUgraph, CUgraphNode, CUresult, CUstream, SUCCESS};

/// Counted before the real call, so that no thread enqueues anything between it and the count.
fn begins(real: impl FnOnce() -> CUresult) -> CUresult {
    let counted = driver_did(|attached| attached.captures.fetch_add(1, Ordering::SeqCst));
    let result = real();
    if counted.is_some() && result != SUCCESS {
        ends();
    }
    result
}

fn ends() {
    driver_did(|attached| {
        // An end without a beginning that we saw must not wrap the count.
        let _ = attached.captures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    });
}

hooks! {
    fn cuStreamBeginCapture(stream: CUstream) {
        // SAFETY: the program's own arguments.
        begins(|| unsafe { driver::cuStreamBeginCapture(stream) })
    }

    fn cuStreamBeginCapture_ptsz(stream: CUstream) {
        // SAFETY: the program's own arguments.
        begins(|| unsafe { driver::cuStreamBeginCapture_ptsz(stream) })
    }

    fn cuStreamBeginCapture_v2(stream: CUstream, mode: c_int) {
        // SAFETY: the program's own arguments.
        begins(|| unsafe { driver::cuStreamBeginCapture_v2(stream, mode) })
    }

    fn cuStreamBeginCapture_v2_ptsz(stream: CUstream, mode: c_int) {
        // SAFETY: the program's own arguments.
        begins(|| unsafe { driver::cuStreamBeginCapture_v2_ptsz(stream, mode) })
    }

    fn cuStreamBeginCaptureToGraph(stream: CUstream, graph: CUgraph, dependencies: *const CUgraphNode,
        data: *const c_void, count: usize, mode: c_int) {
        // SAFETY: the program's own arguments.
        begins(|| unsafe {
            driver::cuStreamBeginCaptureToGraph(stream, graph, dependencies, data, count, mode)
        })
    }

    fn cuStreamBeginCaptureToGraph_ptsz(stream: CUstream, graph: CUgraph, dependencies: *const CUgraphNode,
        data: *const c_void, count: usize, mode: c_int) {
        // SAFETY: the program's own arguments.
        begins(|| unsafe {
            driver::cuStreamBeginCaptureToGraph_ptsz(stream, graph, dependencies, data, count, mode)
        })
    }

    fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph) {
        // SAFETY: the program's own arguments.
        let result = unsafe { driver::cuStreamEndCapture(stream, graph) };
        ends();
        result
    }

    fn cuStreamEndCapture_ptsz(stream: CUstream, graph: *mut CUgraph) {
        // SAFETY: the program's own arguments.
        let result = unsafe { driver::cuStreamEndCapture_ptsz(stream, graph) };
        ends();
        result
    }
}
