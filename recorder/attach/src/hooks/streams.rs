//! The order of streams: events recorded and waited for.

use std::ffi::c_uint;

use super::{hooks, legacy, per_thread};
use crate::attached::driver_did;
use crate::driver::{self, CUevent, CUresult, CUstream, SUCCESS};
use crate::events::Event;

fn recorded(event: CUevent, stream: CUstream, result: CUresult) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| {
            if !attached.capturing(stream) {
                attached.push(|s| Event::EventRecord(s.cuda_event(event), s.stream(stream)));
            }
        });
    }
    result
}

fn waited(stream: CUstream, event: CUevent, result: CUresult) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| {
            if !attached.capturing(stream) {
                attached.push(|s| Event::EventWait(s.cuda_event(event), s.stream(stream)));
            }
        });
    }
    result
}

hooks! {
    fn cuEventRecord(event: CUevent, stream: CUstream) {
        // SAFETY: the program's own arguments.
        recorded(event, legacy(stream), unsafe { driver::cuEventRecord(event, stream) })
    }

    fn cuEventRecord_ptsz(event: CUevent, stream: CUstream) {
        // SAFETY: the program's own arguments.
        recorded(event, per_thread(stream), unsafe { driver::cuEventRecord_ptsz(event, stream) })
    }

    fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: c_uint) {
        // SAFETY: the program's own arguments.
        recorded(event, legacy(stream), unsafe { driver::cuEventRecordWithFlags(event, stream, flags) })
    }

    fn cuEventRecordWithFlags_ptsz(event: CUevent, stream: CUstream, flags: c_uint) {
        // SAFETY: the program's own arguments.
        recorded(event, per_thread(stream), unsafe { driver::cuEventRecordWithFlags_ptsz(event, stream, flags) })
    }

    fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) {
        // SAFETY: the program's own arguments.
        waited(legacy(stream), event, unsafe { driver::cuStreamWaitEvent(stream, event, flags) })
    }

    fn cuStreamWaitEvent_ptsz(stream: CUstream, event: CUevent, flags: c_uint) {
        // SAFETY: the program's own arguments.
        waited(per_thread(stream), event, unsafe { driver::cuStreamWaitEvent_ptsz(stream, event, flags) })
    }
}
