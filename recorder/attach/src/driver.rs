//! The real driver: its types and a table of its functions, each looked up at first use.
//!
//! Handles are plain numbers here (`usize` has a pointer's size and passing), so that they can be kept, hashed and
//! sent between threads. No function here is wrapped: our own calls never come back to our hooks.

#![allow(non_snake_case, non_camel_case_types, non_upper_case_globals, clippy::missing_safety_doc, dead_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

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

/// Where one function of the driver is, once asked for.
struct Slot(AtomicPtr<c_void>);

/// The driver was asked and does not have it.
const ABSENT: *mut c_void = std::ptr::dangling_mut::<c_void>();

/// The address of `name` in the real driver.
fn resolve(slot: &Slot, name: &CStr) -> Option<*mut c_void> {
    let mut found = slot.0.load(Ordering::Acquire);
    if found.is_null() {
        found = find(name)?;
        slot.0.store(found, Ordering::Release);
    }
    (found != ABSENT).then_some(found)
}

/// Looks `name` up in libcuda; `None` as long as there is no libcuda, [`ABSENT`] where it lacks the function.
fn find(name: &CStr) -> Option<*mut c_void> {
    let library = library()?;
    // SAFETY: `library` is a handle that dlopen gave and that is never closed; the name ends in NUL.
    let found = unsafe { real_dlsym()(library, name.as_ptr()) };
    Some(if found.is_null() { ABSENT } else { found })
}

/// The real libcuda: the one that the process has loaded, else the one that the loader finds.
fn library() -> Option<*mut c_void> {
    static LIBRARY: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let known = LIBRARY.load(Ordering::Acquire);
    if !known.is_null() {
        return Some(known);
    }
    // SAFETY: constant names; the handle is kept for good.
    let opened = unsafe {
        let loaded = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if loaded.is_null() { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY) } else { loaded }
    };
    LIBRARY.store(opened, Ordering::Release);
    (!opened.is_null()).then_some(opened)
}

/// Whether the process has a libcuda; loads none.
pub fn is_loaded() -> bool {
    // SAFETY: a constant name; nothing is loaded.
    unsafe {
        let loaded = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if !loaded.is_null() {
            libc::dlclose(loaded);
        }
        !loaded.is_null()
    }
}

/// The type of `dlsym`.
pub type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// glibc's own `dlsym`: the plain name is ours.
pub fn real_dlsym() -> Dlsym {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let mut found = REAL.load(Ordering::Acquire);
    if found.is_null() {
        // glibc moved it from libdl to libc in 2.34; the old version is kept as an alias.
        for version in [c"GLIBC_2.34", c"GLIBC_2.2.5"] {
            // SAFETY: constant strings; dlvsym is not overridden.
            found = unsafe { libc::dlvsym(libc::RTLD_NEXT, c"dlsym".as_ptr(), version.as_ptr()) };
            if !found.is_null() {
                break;
            }
        }
        REAL.store(found, Ordering::Release);
    }
    if found.is_null() {
        return no_dlsym;
    }
    // SAFETY: this is the address of a function of that type.
    unsafe { std::mem::transmute::<*mut c_void, Dlsym>(found) }
}

/// Stands in where the C library is none that we know.
unsafe extern "C" fn no_dlsym(_: *mut c_void, _: *const c_char) -> *mut c_void {
    std::ptr::null_mut()
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        $(
            /// The driver's function of that name; [`NOT_FOUND`] where it has none.
            pub unsafe fn $name($($argument: $type),*) -> CUresult {
                match resolve(&slots::$name, name_of!($name)) {
                    // SAFETY: the driver exports the function with this signature; the caller answers for the
                    // arguments, as in C.
                    Some(found) => unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> CUresult>(found)(
                            $($argument),*
                        )
                    },
                    None => NOT_FOUND,
                }
            }
        )*
        mod slots {
            use super::{AtomicPtr, Slot};
            $(pub(super) static $name: Slot = Slot(AtomicPtr::new(std::ptr::null_mut()));)*
        }
        /// The address of a function in the real driver, by name; `None` where it is none of this table's or
        /// the driver lacks it.
        pub fn address(name: &CStr) -> Option<*mut c_void> {
            $(if name == name_of!($name) { return resolve(&slots::$name, name); })*
            None
        }
        /// Whether a function is one of this table's.
        pub fn knows(name: &CStr) -> bool {
            $(name == name_of!($name) ||)* false
        }
        /// Puts a function where the driver exports no symbol for it but handed out a pointer.
        pub fn supply(name: &CStr, found: *mut c_void) {
            $(if name == name_of!($name) {
                if resolve(&slots::$name, name).is_none() {
                    slots::$name.0.store(found, Ordering::Release);
                }
            })*
        }
    };
}

macro_rules! name_of {
    ($name:ident) => {
        const {
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            }
        }
    };
}

functions! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuCtxGetCurrent(context: *mut CUcontext);
    cuCtxGetDevice(device: *mut c_int);
    cuCtxSynchronize();
    cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int);
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int);
    cuGetProcAddress(symbol: *const c_char, function: *mut *mut c_void, version: c_int, flags: u64);
    cuGetProcAddress_v2(symbol: *const c_char, function: *mut *mut c_void, version: c_int, flags: u64,
        status: *mut c_int);

    cuGraphLaunch(exec: CUgraphExec, stream: CUstream);
    cuGraphLaunch_ptsz(exec: CUgraphExec, stream: CUstream);
    cuGraphInstantiate(exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char, bytes: usize);
    cuGraphInstantiate_v2(exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char, bytes: usize);
    cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: u64);
    cuGraphInstantiateWithParams(exec: *mut CUgraphExec, graph: CUgraph, params: *mut c_void);
    cuGraphInstantiateWithParams_ptsz(exec: *mut CUgraphExec, graph: CUgraph, params: *mut c_void);
    cuGraphExecDestroy(exec: CUgraphExec);
    cuGraphDestroy(graph: CUgraph);
    cuGraphExecUpdate(exec: CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, result: *mut c_int);
    cuGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, result: *mut c_void);
    cuGraphExecKernelNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const c_void);
    cuGraphExecKernelNodeSetParams_v2(exec: CUgraphExec, node: CUgraphNode, params: *const c_void);
    cuGraphClone(clone: *mut CUgraph, graph: CUgraph);
    cuGraphNodeFindInClone(found: *mut CUgraphNode, original: CUgraphNode, clone: CUgraph);
    cuGraphDestroyNode(node: CUgraphNode);
    cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize);
    cuGraphGetEdges(graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, count: *mut usize);
    cuGraphGetEdges_v2(graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, data: *mut c_void, count: *mut usize);
    cuGraphNodeGetType(node: CUgraphNode, kind: *mut c_int);
    cuGraphKernelNodeGetParams_v2(node: CUgraphNode, params: *mut KernelNodeParams);
    cuGraphKernelNodeGetAttribute(node: CUgraphNode, attribute: c_int, value: *mut [u32; 16]);
    cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: *mut Memcpy3D);
    cuGraphMemsetNodeGetParams(node: CUgraphNode, params: *mut MemsetNodeParams);
    cuGraphChildGraphNodeGetGraph(node: CUgraphNode, graph: *mut CUgraph);
    cuFuncGetName(name: *mut *const c_char, function: CUfunction);
    cuKernelGetName(name: *mut *const c_char, kernel: usize);
    cuFuncGetParamInfo(function: CUfunction, index: usize, offset: *mut usize, size: *mut usize);
    cuKernelGetParamInfo(kernel: usize, index: usize, offset: *mut usize, size: *mut usize);

    cuStreamBeginCapture(stream: CUstream);
    cuStreamBeginCapture_ptsz(stream: CUstream);
    cuStreamBeginCapture_v2(stream: CUstream, mode: c_int);
    cuStreamBeginCapture_v2_ptsz(stream: CUstream, mode: c_int);
    cuStreamBeginCaptureToGraph(stream: CUstream, graph: CUgraph, dependencies: *const CUgraphNode,
        data: *const c_void, count: usize, mode: c_int);
    cuStreamBeginCaptureToGraph_ptsz(stream: CUstream, graph: CUgraph, dependencies: *const CUgraphNode,
        data: *const c_void, count: usize, mode: c_int);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuStreamEndCapture_ptsz(stream: CUstream, graph: *mut CUgraph);
    cuStreamIsCapturing(stream: CUstream, status: *mut c_int);
    cuStreamSynchronize(stream: CUstream);
    cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamGetId(stream: CUstream, id: *mut u64);
    cuStreamWriteValue32(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint);
    cuStreamWriteValue32_v2(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint);
    cuThreadExchangeStreamCaptureMode(mode: *mut c_int);

    cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    cuMemAllocPitch_v2(address: *mut CUdeviceptr, pitch: *mut usize, width: usize, height: usize, element: c_uint);
    cuMemAllocManaged(address: *mut CUdeviceptr, bytes: usize, flags: c_uint);
    cuMemFree_v2(address: CUdeviceptr);
    cuMemAllocAsync(address: *mut CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemAllocAsync_ptsz(address: *mut CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemAllocFromPoolAsync(address: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool, stream: CUstream);
    cuMemAllocFromPoolAsync_ptsz(address: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool, stream: CUstream);
    cuMemFreeAsync(address: CUdeviceptr, stream: CUstream);
    cuMemFreeAsync_ptsz(address: CUdeviceptr, stream: CUstream);
    cuMemMap(address: CUdeviceptr, bytes: usize, offset: usize, handle: CUmemGenericAllocationHandle, flags: u64);
    cuMemUnmap(address: CUdeviceptr, bytes: usize);
    cuMemSetAccess(address: CUdeviceptr, bytes: usize, access: *const c_void, count: usize);
    cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(address: *mut c_void);
    cuMemGetAddressRange_v2(base: *mut CUdeviceptr, bytes: *mut usize, address: CUdeviceptr);
    cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostGetDevicePointer_v2(address: *mut CUdeviceptr, host: *mut c_void, flags: c_uint);

    cuMemcpy(target: CUdeviceptr, source: CUdeviceptr, bytes: usize);
    cuMemcpy_ptds(target: CUdeviceptr, source: CUdeviceptr, bytes: usize);
    cuMemcpyAsync(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyAsync_ptsz(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyHtoD_v2(target: CUdeviceptr, source: *const c_void, bytes: usize);
    cuMemcpyHtoD_v2_ptds(target: CUdeviceptr, source: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(target: *mut c_void, source: CUdeviceptr, bytes: usize);
    cuMemcpyDtoH_v2_ptds(target: *mut c_void, source: CUdeviceptr, bytes: usize);
    cuMemcpyDtoD_v2(target: CUdeviceptr, source: CUdeviceptr, bytes: usize);
    cuMemcpyDtoD_v2_ptds(target: CUdeviceptr, source: CUdeviceptr, bytes: usize);
    cuMemcpyHtoDAsync_v2(target: CUdeviceptr, source: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyHtoDAsync_v2_ptsz(target: CUdeviceptr, source: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(target: *mut c_void, source: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2_ptsz(target: *mut c_void, source: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2_ptsz(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8_v2(target: CUdeviceptr, value: u8, count: usize);
    cuMemsetD8_v2_ptds(target: CUdeviceptr, value: u8, count: usize);
    cuMemsetD16_v2(target: CUdeviceptr, value: u16, count: usize);
    cuMemsetD16_v2_ptds(target: CUdeviceptr, value: u16, count: usize);
    cuMemsetD32_v2(target: CUdeviceptr, value: u32, count: usize);
    cuMemsetD32_v2_ptds(target: CUdeviceptr, value: u32, count: usize);
    cuMemsetD8Async(target: CUdeviceptr, value: u8, count: usize, stream: CUstream);
    cuMemsetD8Async_ptsz(target: CUdeviceptr, value: u8, count: usize, stream: CUstream);
    cuMemsetD16Async(target: CUdeviceptr, value: u16, count: usize, stream: CUstream);
    cuMemsetD16Async_ptsz(target: CUdeviceptr, value: u16, count: usize, stream: CUstream);
    cuMemsetD32Async(target: CUdeviceptr, value: u32, count: usize, stream: CUstream);
    cuMemsetD32Async_ptsz(target: CUdeviceptr, value: u32, count: usize, stream: CUstream);

    cuLaunchKernel(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void,
        extra: *mut *mut c_void);
    cuLaunchKernel_ptsz(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void,
        extra: *mut *mut c_void);
    cuLaunchKernelEx(config: *const LaunchConfig, function: CUfunction, params: *mut *mut c_void,
        extra: *mut *mut c_void);
    cuLaunchKernelEx_ptsz(config: *const LaunchConfig, function: CUfunction, params: *mut *mut c_void,
        extra: *mut *mut c_void);
    cuLaunchCooperativeKernel(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void);
    cuLaunchCooperativeKernel_ptsz(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream,
        params: *mut *mut c_void);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);

    cuEventRecord(event: CUevent, stream: CUstream);
    cuEventRecord_ptsz(event: CUevent, stream: CUstream);
    cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: c_uint);
    cuEventRecordWithFlags_ptsz(event: CUevent, stream: CUstream, flags: c_uint);
    cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint);
    cuStreamWaitEvent_ptsz(stream: CUstream, event: CUevent, flags: c_uint);
}
