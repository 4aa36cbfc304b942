//! The real driver: its types and a table of its functions, each looked up at first use.
//!
//! No function here is wrapped: our own calls never come back to our hooks.

#![allow(non_snake_case, non_camel_case_types, non_upper_case_globals, clippy::missing_safety_doc, dead_code)]

mod types;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

pub use types::*;

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

/// Whether a function is a newer version of that name, which no wrapper here knows: the driver exports it so.
pub fn is_newer(name: &CStr, function: *mut c_void) -> bool {
    let Some(library) = library() else { return false };
    (2..=5).any(|version| {
        let symbol = format!("{}_v{version}\0", name.to_string_lossy());
        // SAFETY: as in `find`; the name ends in NUL.
        let found = unsafe { real_dlsym()(library, symbol.as_ptr().cast()) };
        found == function
    })
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

/// The calling thread's context; 0 where it has none.
pub fn current_context() -> CUcontext {
    let mut context = 0;
    // SAFETY: a place for the answer.
    let status = unsafe { cuCtxGetCurrent(&mut context) };
    if status == SUCCESS { context } else { 0 }
}

/// The same, and its device; -1 where the driver does not tell.
pub fn current() -> (CUcontext, c_int) {
    (current_context(), current_device().unwrap_or(-1))
}

/// The device of the calling thread's context.
pub fn current_device() -> Option<c_int> {
    let mut device = 0;
    // SAFETY: a place for the answer.
    (unsafe { cuCtxGetDevice(&mut device) } == SUCCESS).then_some(device)
}

/// The device that has memory; where the driver does not tell, the calling thread's.
pub fn device_of(address: CUdeviceptr) -> c_int {
    /// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`.
    const DEVICE_ORDINAL: c_int = 9;
    let mut device: c_int = 0;
    // SAFETY: a place for the answer, which is an int; a bad address is the driver's to refuse.
    let status = unsafe { cuPointerGetAttribute((&raw mut device).cast(), DEVICE_ORDINAL, address) };
    if status == SUCCESS && device >= 0 { device } else { current_device().unwrap_or(0) }
}

/// Whether memory is the host's, as far as the driver tells.
pub fn on_host(address: CUdeviceptr) -> bool {
    /// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, and `CU_MEMORYTYPE_HOST`.
    const MEMORY_TYPE: c_int = 2;
    const HOST: c_uint = 1;
    let mut kind: c_uint = 0;
    // SAFETY: a place for the answer, which is an unsigned int; a bad address is the driver's to refuse.
    let status = unsafe { cuPointerGetAttribute((&raw mut kind).cast(), MEMORY_TYPE, address) };
    status == SUCCESS && kind == HOST
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
    cuPointerGetAttribute(data: *mut c_void, attribute: c_int, pointer: CUdeviceptr);
    cuCtxSynchronize();
    cuCtxDestroy(context: CUcontext);
    cuCtxDestroy_v2(context: CUcontext);
    cuDevicePrimaryCtxReset(device: c_int);
    cuDevicePrimaryCtxReset_v2(device: c_int);
    cuDevicePrimaryCtxRelease(device: c_int);
    cuDevicePrimaryCtxRelease_v2(device: c_int);
    cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int);
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
    cuGraphExecMemcpyNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const Memcpy3D, context: CUcontext);
    cuGraphExecMemsetNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const MemsetNodeParams,
        context: CUcontext);
    cuGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, child: CUgraph);
    cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *mut c_void);
    cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: c_uint);
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
    cuStreamWriteValue64(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint);
    cuStreamBatchMemOp(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint);
    cuStreamWriteValue32_ptsz(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint);
    cuStreamWriteValue64_ptsz(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint);
    cuStreamBatchMemOp_ptsz(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint);
    cuStreamWriteValue32_v2(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint);
    cuStreamWriteValue64_v2(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint);
    cuStreamBatchMemOp_v2(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint);
    cuStreamWriteValue32_v2_ptsz(stream: CUstream, address: CUdeviceptr, value: u32, flags: c_uint);
    cuStreamWriteValue64_v2_ptsz(stream: CUstream, address: CUdeviceptr, value: u64, flags: c_uint);
    cuStreamBatchMemOp_v2_ptsz(stream: CUstream, count: c_uint, operations: *mut MemoryOperation, flags: c_uint);
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
    cuMemRelease(handle: CUmemGenericAllocationHandle);
    cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, address: *mut c_void);
    cuMemImportFromShareableHandle(handle: *mut CUmemGenericAllocationHandle, from: *mut c_void, kind: c_int);
    cuMemExportToShareableHandle(to: *mut c_void, handle: CUmemGenericAllocationHandle, kind: c_int, flags: u64);
    cuMulticastCreate(handle: *mut CUmemGenericAllocationHandle, properties: *const c_void);
    cuMulticastAddDevice(handle: CUmemGenericAllocationHandle, device: c_int);
    cuMulticastBindMem_v2(multicast: CUmemGenericAllocationHandle, device: c_int, offset: usize,
        memory: CUmemGenericAllocationHandle, memory_offset: usize, bytes: usize, flags: u64);
    cuMulticastBindAddr_v2(multicast: CUmemGenericAllocationHandle, device: c_int, offset: usize, address: CUdeviceptr,
        bytes: usize, flags: u64);
    cuMulticastBindMem(multicast: CUmemGenericAllocationHandle, offset: usize, memory: CUmemGenericAllocationHandle,
        memory_offset: usize, bytes: usize, flags: u64);
    cuMulticastBindAddr(multicast: CUmemGenericAllocationHandle, offset: usize, address: CUdeviceptr, bytes: usize,
        flags: u64);
    cuMemSetAccess(address: CUdeviceptr, bytes: usize, access: *const c_void, count: usize);
    cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(address: *mut c_void);
    cuMemGetAddressRange_v2(base: *mut CUdeviceptr, bytes: *mut usize, address: CUdeviceptr);
    cuMemAllocHost_v2(address: *mut *mut c_void, bytes: usize);
    cuMemHostRegister(address: *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostUnregister(address: *mut c_void);
    cuIpcGetMemHandle(handle: *mut IpcMemHandle, address: CUdeviceptr);
    cuMemPoolExportPointer(data: *mut c_void, address: CUdeviceptr);
    cuMemPoolImportPointer(address: *mut CUdeviceptr, pool: CUmemoryPool, data: *mut c_void);
    cuIpcOpenMemHandle(address: *mut CUdeviceptr, handle: IpcMemHandle, flags: c_uint);
    cuIpcOpenMemHandle_v2(address: *mut CUdeviceptr, handle: IpcMemHandle, flags: c_uint);
    cuIpcCloseMemHandle(address: CUdeviceptr);
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

    cuMemcpy2D_v2(copy: *const Memcpy2D);
    cuMemcpy2DUnaligned_v2(copy: *const Memcpy2D);
    cuMemcpy3D_v2(copy: *const Memcpy3D);
    cuMemcpy3DPeer(copy: *const Memcpy3DPeer);
    cuMemcpyPeer(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize);
    cuMemcpyDtoA_v2(target: usize, offset: usize, source: CUdeviceptr, bytes: usize);
    cuMemcpyAtoD_v2(target: CUdeviceptr, source: usize, offset: usize, bytes: usize);
    cuMemcpyHtoA_v2(target: usize, offset: usize, source: *const c_void, bytes: usize);
    cuMemcpyAtoH_v2(target: *mut c_void, source: usize, offset: usize, bytes: usize);
    cuMemcpyAtoA_v2(target: usize, offset: usize, source: usize, source_offset: usize, bytes: usize);
    cuMemsetD2D8_v2(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize);
    cuMemsetD2D16_v2(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize);
    cuMemsetD2D32_v2(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize);
    cuMemcpy2D_v2_ptds(copy: *const Memcpy2D);
    cuMemcpy2DUnaligned_v2_ptds(copy: *const Memcpy2D);
    cuMemcpy3D_v2_ptds(copy: *const Memcpy3D);
    cuMemcpy3DPeer_ptds(copy: *const Memcpy3DPeer);
    cuMemcpyPeer_ptds(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize);
    cuMemcpyDtoA_v2_ptds(target: usize, offset: usize, source: CUdeviceptr, bytes: usize);
    cuMemcpyAtoD_v2_ptds(target: CUdeviceptr, source: usize, offset: usize, bytes: usize);
    cuMemcpyHtoA_v2_ptds(target: usize, offset: usize, source: *const c_void, bytes: usize);
    cuMemcpyAtoH_v2_ptds(target: *mut c_void, source: usize, offset: usize, bytes: usize);
    cuMemcpyAtoA_v2_ptds(target: usize, offset: usize, source: usize, source_offset: usize, bytes: usize);
    cuMemsetD2D8_v2_ptds(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize);
    cuMemsetD2D16_v2_ptds(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize);
    cuMemsetD2D32_v2_ptds(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize);
    cuMemcpy2DAsync_v2(copy: *const Memcpy2D, stream: CUstream);
    cuMemcpy3DAsync_v2(copy: *const Memcpy3D, stream: CUstream);
    cuMemcpy3DPeerAsync(copy: *const Memcpy3DPeer, stream: CUstream);
    cuMemcpyPeerAsync(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize, stream: CUstream);
    cuMemcpyHtoAAsync_v2(target: usize, offset: usize, source: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyAtoHAsync_v2(target: *mut c_void, source: usize, offset: usize, bytes: usize, stream: CUstream);
    cuMemcpyBatchAsync(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, failed: *mut usize, stream: CUstream);
    cuMemcpyBatchAsync_v2(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, stream: CUstream);
    cuMemcpy3DBatchAsync(count: usize, copies: *mut Memcpy3DBatchOp, failed: *mut usize, flags: u64,
        stream: CUstream);
    cuMemcpy3DBatchAsync_v2(count: usize, copies: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream);
    cuMemcpyWithAttributesAsync(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, attributes: *mut c_void,
        stream: CUstream);
    cuMemcpy3DWithAttributesAsync(copy: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream);
    cuMemsetD2D8Async(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize,
        stream: CUstream);
    cuMemsetD2D16Async(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize,
        stream: CUstream);
    cuMemsetD2D32Async(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize,
        stream: CUstream);
    cuMemcpy2DAsync_v2_ptsz(copy: *const Memcpy2D, stream: CUstream);
    cuMemcpy3DAsync_v2_ptsz(copy: *const Memcpy3D, stream: CUstream);
    cuMemcpy3DPeerAsync_ptsz(copy: *const Memcpy3DPeer, stream: CUstream);
    cuMemcpyPeerAsync_ptsz(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr,
        source_context: CUcontext, bytes: usize, stream: CUstream);
    cuMemcpyHtoAAsync_v2_ptsz(target: usize, offset: usize, source: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyAtoHAsync_v2_ptsz(target: *mut c_void, source: usize, offset: usize, bytes: usize, stream: CUstream);
    cuMemcpyBatchAsync_ptsz(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, failed: *mut usize, stream: CUstream);
    cuMemcpyBatchAsync_v2_ptsz(targets: *mut CUdeviceptr, sources: *mut CUdeviceptr, bytes: *mut usize, count: usize,
        attributes: *mut c_void, indices: *mut usize, attribute_count: usize, stream: CUstream);
    cuMemcpy3DBatchAsync_ptsz(count: usize, copies: *mut Memcpy3DBatchOp, failed: *mut usize, flags: u64,
        stream: CUstream);
    cuMemcpy3DBatchAsync_v2_ptsz(count: usize, copies: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream);
    cuMemcpyWithAttributesAsync_ptsz(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, attributes: *mut c_void,
        stream: CUstream);
    cuMemcpy3DWithAttributesAsync_ptsz(copy: *mut Memcpy3DBatchOp, flags: u64, stream: CUstream);
    cuMemsetD2D8Async_ptsz(target: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize,
        stream: CUstream);
    cuMemsetD2D16Async_ptsz(target: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize,
        stream: CUstream);
    cuMemsetD2D32Async_ptsz(target: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize,
        stream: CUstream);

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
