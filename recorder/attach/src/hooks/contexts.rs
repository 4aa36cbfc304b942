//! Contexts that are destroyed. Memory goes with them, and what snapshots need: nothing of it may be touched any more.

use std::ffi::{c_int, c_uint};

use super::{hooks, real};
use crate::attached::driver_did;
use crate::driver::{self, CUcontext, CUresult, SUCCESS};

/// A context is about to go. One that snapshots have nothing to do with, as of a library's probe, takes its memory along
/// and nothing else.
fn goes(context: CUcontext) {
    driver_did(|attached| {
        let needed = attached.session().needs(context);
        match needed {
            true => attached.finish("the program destroyed a context"),
            false => attached.change(|session| session.forget_context(context)),
        }
    });
}

/// A device's primary context is about to go, or has gone. Which of its contexts that is the driver does not tell.
fn primary_goes(device: c_int) {
    driver_did(|attached| {
        let (contexts, needed) = {
            let session = attached.session();
            let contexts = session.contexts_of(device);
            let needed = contexts.iter().any(|&context| session.needs(context));
            (contexts, needed)
        };
        match contexts[..] {
            _ if needed => attached.finish("the program reset a device"),
            [only] => attached.change(|session| session.forget_context(only)),
            _ => {}
        }
    });
}

/// A primary context was given back, which goes with the last one who has it.
fn released(device: c_int, result: CUresult) -> CUresult {
    let (mut flags, mut active): (c_uint, c_int) = (0, 1);
    // SAFETY: places for the answers.
    let status = unsafe { driver::cuDevicePrimaryCtxGetState(device, &mut flags, &mut active) };
    if result == SUCCESS && status == SUCCESS && active == 0 {
        primary_goes(device);
    }
    result
}

hooks! {
    fn cuCtxDestroy(context: CUcontext) {
        goes(context);
        real!(driver::cuCtxDestroy(context))
    }

    fn cuCtxDestroy_v2(context: CUcontext) {
        goes(context);
        real!(driver::cuCtxDestroy_v2(context))
    }

    fn cuDevicePrimaryCtxReset(device: c_int) {
        primary_goes(device);
        real!(driver::cuDevicePrimaryCtxReset(device))
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) {
        primary_goes(device);
        real!(driver::cuDevicePrimaryCtxReset_v2(device))
    }

    fn cuDevicePrimaryCtxRelease(device: c_int) {
        released(device, real!(driver::cuDevicePrimaryCtxRelease(device)))
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        released(device, real!(driver::cuDevicePrimaryCtxRelease_v2(device)))
    }
}
