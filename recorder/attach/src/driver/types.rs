//! The driver's types. Handles are plain numbers here (`usize` has a pointer's size and passing), so that they can be
//! kept, hashed and sent between threads.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// What every driver function returns; 0 is success.
pub type CUresult = c_int;
/// Success.
pub const SUCCESS: CUresult = 0;
/// `CUDA_ERROR_NOT_FOUND`: also what a function returns here that the driver does not have.
pub const NOT_FOUND: CUresult = 500;

/// A device address.
pub type CUdeviceptr = u64;
/// A context.
pub type CUcontext = usize;
/// A stream.
pub type CUstream = usize;
/// An event.
pub type CUevent = usize;
/// A graph.
pub type CUgraph = usize;
/// An instantiated graph.
pub type CUgraphExec = usize;
/// A node of a graph.
pub type CUgraphNode = usize;
/// A kernel.
pub type CUfunction = usize;
/// A module.
pub type CUmodule = usize;
/// A memory pool.
pub type CUmemoryPool = usize;
/// Physical memory of the virtual memory calls.
pub type CUmemGenericAllocationHandle = u64;

/// The legacy default stream, said outright: what 0 means to functions without a suffix.
pub const STREAM_LEGACY: CUstream = 1;
/// The calling thread's default stream, said outright: what 0 means to `_ptsz` functions.
pub const STREAM_PER_THREAD: CUstream = 2;

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KernelNodeParams {
    pub func: CUfunction,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub kernel_params: *mut *mut c_void,
    pub extra: *mut *mut c_void,
    pub kern: usize,
    pub ctx: CUcontext,
}

/// `CUDA_MEMSET_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MemsetNodeParams {
    pub dst: CUdeviceptr,
    pub pitch: usize,
    pub value: c_uint,
    pub element_size: c_uint,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D_v2`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Memcpy3D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_memory_type: c_uint,
    pub src_host: *const c_void,
    pub src_device: CUdeviceptr,
    pub src_array: usize,
    pub reserved0: *mut c_void,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_memory_type: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: CUdeviceptr,
    pub dst_array: usize,
    pub reserved1: *mut c_void,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUDA_MEMCPY2D_v2`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Memcpy2D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_memory_type: c_uint,
    pub src_host: *const c_void,
    pub src_device: CUdeviceptr,
    pub src_array: usize,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_memory_type: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: CUdeviceptr,
    pub dst_array: usize,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D_PEER_v1`: as [`Memcpy3D`] with contexts in the place of what is reserved.
pub type Memcpy3DPeer = Memcpy3D;

/// One side of a copy of [`Memcpy3DBatchOp`] (`CUmemcpy3DOperand_v1`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Memcpy3DOperand {
    /// 1 is a pointer, 2 an array.
    pub kind: c_uint,
    /// Address, bytes of a row, rows of a plane, a hint; of an array something else.
    pub pointer: CUdeviceptr,
    pub row_length: usize,
    pub layer_height: usize,
    pub hint: [c_int; 2],
}

/// `CUDA_MEMCPY3D_BATCH_OP_v1`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Memcpy3DBatchOp {
    pub src: Memcpy3DOperand,
    pub dst: Memcpy3DOperand,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub order: c_uint,
    pub flags: c_uint,
}

/// `CUstreamBatchMemOpParams_v1`, as a write of a word has it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemoryOperation {
    pub kind: c_uint,
    pub address: CUdeviceptr,
    pub value: u64,
    pub rest: [u64; 3],
}

/// `CUipcMemHandle`; passed by value.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct IpcMemHandle(pub [u8; 64]);

/// `CUlaunchConfig`; `attrs` points to `num_attrs` records of 72 bytes ([`LaunchAttribute`]).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub stream: CUstream,
    pub attrs: *const LaunchAttribute,
    pub num_attrs: c_uint,
}

/// `CUlaunchAttribute`: id, padding to 8, a value of 64 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub pad: [c_char; 4],
    pub value: [u32; 16],
}

/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION`.
pub const ATTRIBUTE_CLUSTER_DIMENSION: c_uint = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of cuda.h of CUDA 13.5, on 64-bit machines.
    #[test]
    fn structures_have_the_drivers_sizes() {
        assert_eq!((size_of::<Memcpy2D>(), size_of::<Memcpy3D>()), (128, 200));
        assert_eq!((size_of::<Memcpy3DOperand>(), size_of::<Memcpy3DBatchOp>()), (40, 112));
        assert_eq!((size_of::<KernelNodeParams>(), std::mem::offset_of!(KernelNodeParams, kern)), (72, 56));
        assert_eq!((size_of::<MemsetNodeParams>(), size_of::<IpcMemHandle>()), (40, 64));
        assert_eq!((size_of::<MemoryOperation>(), size_of::<LaunchConfig>()), (48, 56));
    }
}
