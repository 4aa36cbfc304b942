//! How programs get the driver's functions: `dlsym`, `cuGetProcAddress`, `cuInit`.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Hook, hooks};
use crate::attached::driver_did;
use crate::driver::{self, CUresult, SUCCESS};
use crate::process;

/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`.
const PER_THREAD: u64 = 2;

pub(super) fn tables() -> [&'static [Hook]; 15] {
    use super::{
        arrays, capture, contexts, copies, fills, graphs, handles, launches, memory, rows, shared, streams,
        updates, words,
    };
    [
        TABLE,
        graphs::TABLE,
        capture::TABLE,
        handles::TABLE,
        memory::TABLE,
        copies::TABLE,
        fills::TABLE,
        launches::TABLE,
        streams::TABLE,
        rows::TABLE,
        arrays::TABLE,
        shared::TABLE,
        updates::TABLE,
        words::TABLE,
        contexts::TABLE,
    ]
}

/// Our wrapper of a driver function. Allocates nothing, locks nothing.
fn wrapper(name: &CStr) -> Option<*mut c_void> {
    let mut hooks = tables().into_iter().flatten();
    hooks.find(|hook| hook.name == name).map(|hook| hook.wrapper.cast_mut().cast())
}

/// glibc's `dlsym`, where [`dlsym`] jumps to. Set by [`lookup`] before it returns.
static REAL_DLSYM: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Stands before glibc's `dlsym`. For names that we wrap, in a handle that leads to the real driver, it returns our
/// wrapper. Everything else is a jump to the real one: glibc finds out from the return address who asks
/// (`RTLD_NEXT`), so that address must stay the program's.
#[cfg(not(test))]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    core::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {lookup}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "jmp qword ptr [rip + {real}]",
        lookup = sym lookup,
        real = sym REAL_DLSYM,
    )
}

/// Our wrapper for a name in a handle, or null: the real `dlsym` shall answer.
#[cfg_attr(test, allow(dead_code))]
unsafe extern "C" fn lookup(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    if REAL_DLSYM.load(Ordering::Relaxed).is_null() {
        REAL_DLSYM.store(driver::real_dlsym() as *mut c_void, Ordering::Relaxed);
    }
    // RTLD_DEFAULT finds our exported names by itself, RTLD_NEXT asks for what comes behind.
    let pseudo = handle.is_null() || handle == libc::RTLD_NEXT;
    if pseudo || name.is_null() || process::inert() {
        return std::ptr::null_mut();
    }
    // SAFETY: who calls dlsym gives a string that ends in NUL.
    let name = unsafe { CStr::from_ptr(name) };
    if !name.to_bytes().starts_with(b"cu") {
        return std::ptr::null_mut();
    }
    let Some(ours) = wrapper(name) else { return std::ptr::null_mut() };
    // SAFETY: the program's own arguments.
    let found = unsafe { driver::real_dlsym()(handle, name.as_ptr()) };
    // Another library may have a function of that name: only the driver's own is wrapped.
    if !found.is_null() && driver::is_loaded() && driver::address(name) == Some(found) {
        return ours;
    }
    std::ptr::null_mut()
}

/// Versions of a function that `cuGetProcAddress` knows by one name: since which CUDA version, the symbol, and
/// the symbol for per-thread default streams.
type Versions = &'static [(c_int, &'static CStr, &'static CStr)];

/// Of functions whose name is not their symbol's (cudaTypedefs.h of CUDA 12.9 and 13.5).
const VERSIONED: &[(&CStr, Versions)] = &[
    (c"cuGetProcAddress", &[(11030, c"cuGetProcAddress", c""), (12000, c"cuGetProcAddress_v2", c"")]),
    (
        c"cuGraphInstantiate",
        // The header of CUDA 12 calls another function so, by that function's own name.
        &[(10000, c"cuGraphInstantiate", c""), (11000, c"cuGraphInstantiate_v2", c"")],
    ),
    (c"cuGraphExecUpdate", &[(10020, c"cuGraphExecUpdate", c""), (12000, c"cuGraphExecUpdate_v2", c"")]),
    (
        c"cuGraphExecKernelNodeSetParams",
        &[
            (10010, c"cuGraphExecKernelNodeSetParams", c""),
            (12000, c"cuGraphExecKernelNodeSetParams_v2", c""),
        ],
    ),
    (
        c"cuStreamBeginCapture",
        &[
            (10000, c"cuStreamBeginCapture", c"cuStreamBeginCapture_ptsz"),
            (10010, c"cuStreamBeginCapture_v2", c"cuStreamBeginCapture_v2_ptsz"),
        ],
    ),
    (c"cuCtxDestroy", &[(2000, c"cuCtxDestroy", c""), (4000, c"cuCtxDestroy_v2", c"")]),
    (
        c"cuDevicePrimaryCtxReset",
        &[(7000, c"cuDevicePrimaryCtxReset", c""), (11000, c"cuDevicePrimaryCtxReset_v2", c"")],
    ),
    (
        c"cuDevicePrimaryCtxRelease",
        &[(7000, c"cuDevicePrimaryCtxRelease", c""), (11000, c"cuDevicePrimaryCtxRelease_v2", c"")],
    ),
    (c"cuMemAlloc", &[(3020, c"cuMemAlloc_v2", c"")]),
    (c"cuMemAllocPitch", &[(3020, c"cuMemAllocPitch_v2", c"")]),
    (c"cuMemFree", &[(3020, c"cuMemFree_v2", c"")]),
    (c"cuMemcpyHtoD", &[(3020, c"cuMemcpyHtoD_v2", c"cuMemcpyHtoD_v2_ptds")]),
    (c"cuMemcpyDtoH", &[(3020, c"cuMemcpyDtoH_v2", c"cuMemcpyDtoH_v2_ptds")]),
    (c"cuMemcpyDtoD", &[(3020, c"cuMemcpyDtoD_v2", c"cuMemcpyDtoD_v2_ptds")]),
    (c"cuMemcpyHtoDAsync", &[(3020, c"cuMemcpyHtoDAsync_v2", c"cuMemcpyHtoDAsync_v2_ptsz")]),
    (c"cuMemcpyDtoHAsync", &[(3020, c"cuMemcpyDtoHAsync_v2", c"cuMemcpyDtoHAsync_v2_ptsz")]),
    (c"cuMemcpyDtoDAsync", &[(3020, c"cuMemcpyDtoDAsync_v2", c"cuMemcpyDtoDAsync_v2_ptsz")]),
    (c"cuMemcpy", &[(4000, c"cuMemcpy", c"cuMemcpy_ptds")]),
    (c"cuMemsetD8", &[(3020, c"cuMemsetD8_v2", c"cuMemsetD8_v2_ptds")]),
    (c"cuMemsetD16", &[(3020, c"cuMemsetD16_v2", c"cuMemsetD16_v2_ptds")]),
    (c"cuMemsetD32", &[(3020, c"cuMemsetD32_v2", c"cuMemsetD32_v2_ptds")]),
    (c"cuMemcpy2D", &[(3020, c"cuMemcpy2D_v2", c"cuMemcpy2D_v2_ptds")]),
    (c"cuMemcpy2DUnaligned", &[(3020, c"cuMemcpy2DUnaligned_v2", c"cuMemcpy2DUnaligned_v2_ptds")]),
    (c"cuMemcpy2DAsync", &[(3020, c"cuMemcpy2DAsync_v2", c"cuMemcpy2DAsync_v2_ptsz")]),
    (c"cuMemcpy3D", &[(3020, c"cuMemcpy3D_v2", c"cuMemcpy3D_v2_ptds")]),
    (c"cuMemcpy3DAsync", &[(3020, c"cuMemcpy3DAsync_v2", c"cuMemcpy3DAsync_v2_ptsz")]),
    (c"cuMemcpy3DPeer", &[(4000, c"cuMemcpy3DPeer", c"cuMemcpy3DPeer_ptds")]),
    (c"cuMemcpyPeer", &[(4000, c"cuMemcpyPeer", c"cuMemcpyPeer_ptds")]),
    (
        c"cuMemcpyBatchAsync",
        &[
            (12080, c"cuMemcpyBatchAsync", c"cuMemcpyBatchAsync_ptsz"),
            (13000, c"cuMemcpyBatchAsync_v2", c"cuMemcpyBatchAsync_v2_ptsz"),
        ],
    ),
    (
        c"cuMemcpy3DBatchAsync",
        &[
            (12080, c"cuMemcpy3DBatchAsync", c"cuMemcpy3DBatchAsync_ptsz"),
            (13000, c"cuMemcpy3DBatchAsync_v2", c"cuMemcpy3DBatchAsync_v2_ptsz"),
        ],
    ),
    (c"cuMemcpyDtoA", &[(3020, c"cuMemcpyDtoA_v2", c"cuMemcpyDtoA_v2_ptds")]),
    (c"cuMemcpyAtoD", &[(3020, c"cuMemcpyAtoD_v2", c"cuMemcpyAtoD_v2_ptds")]),
    (c"cuMemcpyHtoA", &[(3020, c"cuMemcpyHtoA_v2", c"cuMemcpyHtoA_v2_ptds")]),
    (c"cuMemcpyAtoH", &[(3020, c"cuMemcpyAtoH_v2", c"cuMemcpyAtoH_v2_ptds")]),
    (c"cuMemcpyAtoA", &[(3020, c"cuMemcpyAtoA_v2", c"cuMemcpyAtoA_v2_ptds")]),
    (c"cuMemcpyHtoAAsync", &[(3020, c"cuMemcpyHtoAAsync_v2", c"cuMemcpyHtoAAsync_v2_ptsz")]),
    (c"cuMemcpyAtoHAsync", &[(3020, c"cuMemcpyAtoHAsync_v2", c"cuMemcpyAtoHAsync_v2_ptsz")]),
    (c"cuMemsetD2D8", &[(3020, c"cuMemsetD2D8_v2", c"cuMemsetD2D8_v2_ptds")]),
    (c"cuMemsetD2D16", &[(3020, c"cuMemsetD2D16_v2", c"cuMemsetD2D16_v2_ptds")]),
    (c"cuMemsetD2D32", &[(3020, c"cuMemsetD2D32_v2", c"cuMemsetD2D32_v2_ptds")]),
    (
        c"cuStreamWriteValue32",
        &[
            (8000, c"cuStreamWriteValue32", c"cuStreamWriteValue32_ptsz"),
            (11070, c"cuStreamWriteValue32_v2", c"cuStreamWriteValue32_v2_ptsz"),
        ],
    ),
    (
        c"cuStreamWriteValue64",
        &[
            (9000, c"cuStreamWriteValue64", c"cuStreamWriteValue64_ptsz"),
            (11070, c"cuStreamWriteValue64_v2", c"cuStreamWriteValue64_v2_ptsz"),
        ],
    ),
    (
        c"cuStreamBatchMemOp",
        &[
            (8000, c"cuStreamBatchMemOp", c"cuStreamBatchMemOp_ptsz"),
            (11070, c"cuStreamBatchMemOp_v2", c"cuStreamBatchMemOp_v2_ptsz"),
        ],
    ),
    (c"cuMulticastBindMem", &[(12010, c"cuMulticastBindMem", c""), (13010, c"cuMulticastBindMem_v2", c"")]),
    (
        c"cuMulticastBindAddr",
        &[(12010, c"cuMulticastBindAddr", c""), (13010, c"cuMulticastBindAddr_v2", c"")],
    ),
    (c"cuMemAllocHost", &[(3020, c"cuMemAllocHost_v2", c"")]),
    (c"cuMemHostRegister", &[(4000, c"cuMemHostRegister", c""), (6050, c"cuMemHostRegister_v2", c"")]),
    (c"cuIpcOpenMemHandle", &[(4010, c"cuIpcOpenMemHandle", c""), (11000, c"cuIpcOpenMemHandle_v2", c"")]),
];

/// Of functions with one version, those with a variant for per-thread default streams.
const PER_THREAD_VARIANTS: &[(&CStr, &CStr)] = &[
    (c"cuGraphLaunch", c"cuGraphLaunch_ptsz"),
    (c"cuGraphInstantiateWithParams", c"cuGraphInstantiateWithParams_ptsz"),
    (c"cuStreamBeginCaptureToGraph", c"cuStreamBeginCaptureToGraph_ptsz"),
    (c"cuStreamEndCapture", c"cuStreamEndCapture_ptsz"),
    (c"cuMemAllocAsync", c"cuMemAllocAsync_ptsz"),
    (c"cuMemAllocFromPoolAsync", c"cuMemAllocFromPoolAsync_ptsz"),
    (c"cuMemFreeAsync", c"cuMemFreeAsync_ptsz"),
    (c"cuMemcpyAsync", c"cuMemcpyAsync_ptsz"),
    (c"cuMemcpyPeerAsync", c"cuMemcpyPeerAsync_ptsz"),
    (c"cuMemcpy3DPeerAsync", c"cuMemcpy3DPeerAsync_ptsz"),
    (c"cuMemcpyWithAttributesAsync", c"cuMemcpyWithAttributesAsync_ptsz"),
    (c"cuMemcpy3DWithAttributesAsync", c"cuMemcpy3DWithAttributesAsync_ptsz"),
    (c"cuMemsetD2D8Async", c"cuMemsetD2D8Async_ptsz"),
    (c"cuMemsetD2D16Async", c"cuMemsetD2D16Async_ptsz"),
    (c"cuMemsetD2D32Async", c"cuMemsetD2D32Async_ptsz"),
    (c"cuMemsetD8Async", c"cuMemsetD8Async_ptsz"),
    (c"cuMemsetD16Async", c"cuMemsetD16Async_ptsz"),
    (c"cuMemsetD32Async", c"cuMemsetD32Async_ptsz"),
    (c"cuLaunchKernel", c"cuLaunchKernel_ptsz"),
    (c"cuLaunchKernelEx", c"cuLaunchKernelEx_ptsz"),
    (c"cuLaunchCooperativeKernel", c"cuLaunchCooperativeKernel_ptsz"),
    (c"cuEventRecord", c"cuEventRecord_ptsz"),
    (c"cuEventRecordWithFlags", c"cuEventRecordWithFlags_ptsz"),
    (c"cuStreamWaitEvent", c"cuStreamWaitEvent_ptsz"),
];

/// The symbol that `cuGetProcAddress` means by a name, a CUDA version and flags; `None` where it is not wrapped.
fn meant(name: &CStr, version: c_int, flags: u64) -> Option<&'static CStr> {
    let per_thread = flags & PER_THREAD != 0;
    let choose = |plain: &'static CStr, thread: &'static CStr| {
        if per_thread && !thread.is_empty() { thread } else { plain }
    };
    if let Some((_, versions)) = VERSIONED.iter().find(|(known, _)| *known == name) {
        let newest = versions.iter().rev().find(|(since, ..)| *since <= version)?;
        return Some(choose(newest.1, newest.2));
    }
    if let Some((plain, thread)) = PER_THREAD_VARIANTS.iter().find(|(plain, _)| *plain == name) {
        return Some(choose(plain, thread));
    }
    tables().into_iter().flatten().map(|hook| hook.name).find(|known| *known == name)
}

/// Puts our wrapper in the place of what the real `cuGetProcAddress` found.
unsafe fn replace(symbol: *const c_char, function: *mut *mut c_void, version: c_int, flags: u64) {
    if symbol.is_null() || function.is_null() || process::inert() {
        return;
    }
    // SAFETY: the real function has just used both.
    let (name, found) = unsafe { (CStr::from_ptr(symbol), *function) };
    if found.is_null() {
        return;
    }
    let Some(mut symbol) = meant(name, version, flags) else { return };
    // Where the driver hands out the address of a symbol, that says which variant it is.
    if let Some((_, versions)) = VERSIONED.iter().find(|(known, _)| *known == name) {
        let all = versions.iter().flat_map(|(_, plain, thread)| [plain, thread]).filter(|s| !s.is_empty());
        if let Some(exact) = all.into_iter().find(|s| driver::address(s) == Some(found)) {
            symbol = exact;
        }
    } else if driver::is_newer(name, found) {
        return;
    }
    driver::supply(symbol, found);
    if let Some(ours) = wrapper(symbol) {
        // SAFETY: as above.
        unsafe { *function = ours };
    }
}

hooks! {
    fn cuInit(flags: c_uint) {
        // SAFETY: the program's own arguments.
        let result = unsafe { driver::cuInit(flags) };
        if result == SUCCESS {
            process::initialised();
            driver_did(|_| ());
        }
        result
    }

    fn cuGetProcAddress(symbol: *const c_char, function: *mut *mut c_void, version: c_int, flags: u64) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGetProcAddress(symbol, function, version, flags);
            if result == SUCCESS {
                replace(symbol, function, version, flags);
            }
            result
        }
    }

    fn cuGetProcAddress_v2(symbol: *const c_char, function: *mut *mut c_void, version: c_int, flags: u64,
        status: *mut c_int) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGetProcAddress_v2(symbol, function, version, flags, status);
            if result == SUCCESS {
                replace(symbol, function, version, flags);
            }
            result
        }
    }
}

/// The driver calls this in the library that `CUDA_INJECTION64_PATH` names, from within `cuInit`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[allow(non_snake_case, reason = "the driver asks for this name")]
pub(super) extern "C" fn InitializeInjection() -> CUresult {
    // An error or a panic here would be the program's.
    let _ = std::panic::catch_unwind(super::inject::take_hold);
    // The program's cuInit is under way, in this process.
    process::initialised();
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_that_is_meant_has_a_wrapper_and_a_real_function() {
        let symbols =
            VERSIONED.iter().flat_map(|(_, v)| v.iter().flat_map(|(_, plain, thread)| [*plain, *thread]));
        let symbols = symbols.chain(PER_THREAD_VARIANTS.iter().flat_map(|(plain, thread)| [*plain, *thread]));
        for symbol in symbols.filter(|s| !s.is_empty()) {
            assert!(wrapper(symbol).is_some(), "{symbol:?} is not wrapped");
            assert!(driver::knows(symbol), "{symbol:?} is not in the driver's table");
        }
        for hook in tables().into_iter().flatten() {
            assert!(driver::knows(hook.name), "{:?} is not in the driver's table", hook.name);
        }
    }

    #[test]
    fn versions_and_flags_choose_the_symbol() {
        for (name, version, flags, expected) in [
            (c"cuGraphInstantiate", 10020, 0, Some(c"cuGraphInstantiate")),
            (c"cuGraphInstantiate", 11080, 0, Some(c"cuGraphInstantiate_v2")),
            (c"cuGraphInstantiate", 13000, 0, Some(c"cuGraphInstantiate_v2")),
            (c"cuGraphInstantiateWithFlags", 13000, 0, Some(c"cuGraphInstantiateWithFlags")),
            (c"cuStreamBeginCapture", 12040, 2, Some(c"cuStreamBeginCapture_v2_ptsz")),
            (c"cuGraphLaunch", 12040, 1, Some(c"cuGraphLaunch")),
            (c"cuGraphLaunch", 12040, 2, Some(c"cuGraphLaunch_ptsz")),
            (c"cuMemAlloc", 2000, 0, None),
            (c"cuMemAlloc", 12000, 2, Some(c"cuMemAlloc_v2")),
            (c"cuMemUnmap", 12000, 2, Some(c"cuMemUnmap")),
            (c"cuMulticastBindMem", 13000, 0, Some(c"cuMulticastBindMem")),
            (c"cuMulticastBindMem", 13010, 2, Some(c"cuMulticastBindMem_v2")),
            (c"cuModuleLoad", 12000, 0, None),
        ] {
            assert_eq!(meant(name, version, flags), expected, "{name:?} {version} {flags}");
        }
    }
}
