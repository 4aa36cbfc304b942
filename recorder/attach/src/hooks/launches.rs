//! Kernels launched by themselves. They are recorded where the user asked for it (`--launches`), and looked at where
//! the watch file waits for a parameter of one.

use std::ffi::{c_uint, c_void};

use super::{hooks, legacy, per_thread};
use crate::attached::driver_did;
use crate::contents::{self, Kernel};
use crate::driver::{
    self, ATTRIBUTE_CLUSTER_DIMENSION, CUfunction, CUresult, CUstream, LaunchConfig, SUCCESS,
};
use crate::events::Event;

/// What a launch says beside the function.
struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
    cluster: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
}

/// Called before the real launch: a parameter that the watch file waits for is watched from this launch on.
unsafe fn launch(
    function: CUfunction,
    shape: Shape,
    params: *mut *mut c_void,
    real: impl FnOnce() -> CUresult,
) -> CUresult {
    let (stream, mut runs) = (shape.stream, false);
    let event = driver_did(|attached| {
        let waited_for = attached.waits_for_kernel(function);
        runs = !attached.capturing(stream);
        if !(runs && (attached.settings.launches || waited_for)) {
            return None;
        }
        // SAFETY: the program passes as many parameters as the function has, or none.
        let (name, parameters) = unsafe { contents::read_launch(function, params) };
        if waited_for {
            attached.change(|session| session.watch_parameters(&name, &parameters));
        }
        let Shape { grid, block, cluster, shared_bytes, .. } = shape;
        let kernel = Kernel { name, grid, block, cluster, shared_bytes, parameters };
        attached.settings.launches.then(|| Box::new(kernel))
    });
    let result = real();
    // Counted once it is enqueued: a snapshot that another thread takes before does not see what it writes.
    if result == SUCCESS && runs {
        driver_did(|attached| {
            attached.activity.call(stream);
            if !attached.settings.launches {
                attached.activity.unrecorded();
            }
            if let Some(kernel) = event.flatten() {
                attached.push(|session| Event::Launch(session.stream(stream), kernel));
            }
        });
    }
    result
}

/// What a `CUlaunchConfig` says.
unsafe fn config_shape(config: *const LaunchConfig, stream: fn(CUstream) -> CUstream) -> Option<Shape> {
    // SAFETY: null, or the program's configuration, which lives at least as long as the call.
    let config = unsafe { config.as_ref() }?;
    let mut cluster = [0; 3];
    for i in 0..config.num_attrs as usize {
        if config.attrs.is_null() {
            break;
        }
        // SAFETY: the program says that there are so many.
        let attribute = unsafe { &*config.attrs.add(i) };
        if attribute.id == ATTRIBUTE_CLUSTER_DIMENSION {
            cluster.copy_from_slice(&attribute.value[..3]);
        }
    }
    let LaunchConfig { grid, block, shared_bytes, .. } = *config;
    Some(Shape { grid, block, cluster, shared_bytes, stream: stream(config.stream) })
}

hooks! {
    fn cuLaunchKernel(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void,
        extra: *mut *mut c_void) {
        let (grid, block, cluster) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z], [0; 3]);
        let shape = Shape { grid, block, cluster, shared_bytes: shared, stream: legacy(stream) };
        // SAFETY: the program's own arguments.
        unsafe {
            launch(function, shape, params, || driver::cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x,
                block_y, block_z, shared, stream, params, extra))
        }
    }

    fn cuLaunchKernel_ptsz(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void,
        extra: *mut *mut c_void) {
        let (grid, block, cluster) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z], [0; 3]);
        let shape = Shape { grid, block, cluster, shared_bytes: shared, stream: per_thread(stream) };
        // SAFETY: the program's own arguments.
        unsafe {
            launch(function, shape, params, || driver::cuLaunchKernel_ptsz(function, grid_x, grid_y, grid_z,
                block_x, block_y, block_z, shared, stream, params, extra))
        }
    }

    fn cuLaunchCooperativeKernel(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream,
        params: *mut *mut c_void) {
        let (grid, block, cluster) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z], [0; 3]);
        let shape = Shape { grid, block, cluster, shared_bytes: shared, stream: legacy(stream) };
        // SAFETY: the program's own arguments.
        unsafe {
            launch(function, shape, params, || driver::cuLaunchCooperativeKernel(function, grid_x, grid_y, grid_z,
                block_x, block_y, block_z, shared, stream, params))
        }
    }

    fn cuLaunchCooperativeKernel_ptsz(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream,
        params: *mut *mut c_void) {
        let (grid, block, cluster) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z], [0; 3]);
        let shape = Shape { grid, block, cluster, shared_bytes: shared, stream: per_thread(stream) };
        // SAFETY: the program's own arguments.
        unsafe {
            launch(function, shape, params, || driver::cuLaunchCooperativeKernel_ptsz(function, grid_x, grid_y,
                grid_z, block_x, block_y, block_z, shared, stream, params))
        }
    }

    fn cuLaunchKernelEx(config: *const LaunchConfig, function: CUfunction, params: *mut *mut c_void,
        extra: *mut *mut c_void) {
        // SAFETY: the program's own arguments.
        unsafe {
            match config_shape(config, legacy) {
                Some(shape) => launch(function, shape, params, || {
                    driver::cuLaunchKernelEx(config, function, params, extra)
                }),
                None => driver::cuLaunchKernelEx(config, function, params, extra),
            }
        }
    }

    fn cuLaunchKernelEx_ptsz(config: *const LaunchConfig, function: CUfunction, params: *mut *mut c_void,
        extra: *mut *mut c_void) {
        // SAFETY: the program's own arguments.
        unsafe {
            match config_shape(config, per_thread) {
                Some(shape) => launch(function, shape, params, || {
                    driver::cuLaunchKernelEx_ptsz(config, function, params, extra)
                }),
                None => driver::cuLaunchKernelEx_ptsz(config, function, params, extra),
            }
        }
    }
}
