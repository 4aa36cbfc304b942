//! What the driver hands out, owned: a context with its streams, device and pinned memory, modules,
//! graphs. This file holds all `unsafe` of the CUDA backend.
//!
//! The driver is reached through `cudarc`, whose first call panics where there is no driver; so the
//! library is looked for before anything else.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};

use super::plan::KernelLaunch;
use super::{CudaUnavailable, ptx};

/// A device, its primary context, the stream that work goes to, and one for work beside a capture.
///
/// Everything below holds one of these, so that the streams and the context outlive it.
pub(super) struct Device {
    context: Arc<CudaContext>,
    stream: sys::CUstream,
    /// Never captured.
    aside: sys::CUstream,
    /// The first failure of a `drop`, which has no caller to tell.
    deferred: Cell<Option<DriverError>>,
}

/// The CUDA version of the driver as people write it.
fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

impl Device {
    /// The first device that the driver shows.
    pub(super) fn open() -> Result<Rc<Device>, CudaUnavailable> {
        // SAFETY: looking for a shared library runs its initialisers; NVIDIA's and its stubs' are sound.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaUnavailable::NoDriver);
        }
        let failed = |doing| move |e: DriverError| CudaUnavailable::Driver { doing, error: describe(e) };
        let count = CudaContext::device_count().or_else(|e| match e.0 {
            CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
            _ => Err(failed("starting it")(e)),
        })?;
        if count == 0 {
            return Err(CudaUnavailable::NoDevice);
        }
        let context = CudaContext::new(0).map_err(failed("opening the device"))?;
        let name = context.name().map_err(failed("asking for the device's name"))?;
        let (major, minor) = context.compute_capability().map_err(failed("asking for the capability"))?;
        if major < 7 {
            return Err(CudaUnavailable::DeviceTooOld { name, capability: format!("{major}.{minor}") });
        }
        // Work on the legacy default stream would wait for all others and could not be captured.
        let create = || result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = create().map_err(failed("making a stream"))?;
        let aside = create().map_err(failed("making a stream"))?;
        Ok(Rc::new(Device { context, stream, aside, deferred: Cell::new(None) }))
    }

    /// The device's own name.
    pub(super) fn name(&self) -> Result<String, DriverError> {
        self.context.name()
    }

    /// Compute capability, such as `9.0`.
    pub(super) fn capability(&self) -> Result<String, DriverError> {
        self.context.compute_capability().map(|(major, minor)| format!("{major}.{minor}"))
    }

    /// CUDA version that the driver supports, such as `12.2`.
    pub(super) fn cuda_version(&self) -> Result<String, DriverError> {
        let mut version = 0;
        // SAFETY: the driver is present, and the pointer is to a live integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
        Ok(version_text(version))
    }

    /// Makes the context current on this thread, as every call below wants.
    fn enter(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()
    }

    fn defer(&self, result: Result<(), DriverError>) {
        if let (Err(error), None) = (result, self.deferred.get()) {
            self.deferred.set(Some(error));
        }
    }

    /// A failure of an earlier `drop`, once.
    pub(super) fn take_deferred(&self) -> Result<(), DriverError> {
        self.deferred.take().map_or(Ok(()), Err)
    }

    /// Waits for all work but that beside a capture.
    pub(super) fn synchronize(&self) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }
    }

    /// Waits for the work beside a capture. Not while one is in progress.
    pub(super) fn synchronize_aside(&self) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.aside) }
    }

    /// Sets a part of `memory` to `byte`, in stream order.
    ///
    /// # Panics
    /// Where the part leaves the memory: callers have checked.
    pub(super) fn fill(&self, memory: &Memory, part: Range<usize>, byte: u8) -> Result<(), DriverError> {
        self.enter()?;
        assert!(part.start <= part.end && part.end <= memory.bytes, "{part:?} of {}", memory.bytes);
        // SAFETY: `memory` is live and that long; freeing it waits for the device.
        unsafe { result::memset_d8_async(memory.address + part.start as u64, byte, part.len(), self.stream) }
    }

    /// Copies a part of pinned memory to `offset` of `memory`, in stream order, without waiting.
    ///
    /// # Panics
    /// Where either part leaves its memory: callers have checked.
    ///
    /// # Safety
    /// The part of `from` stays as it is until the copy is done, which [`Device::synchronize`] waits for.
    pub(super) unsafe fn upload(
        &self,
        memory: &Memory,
        offset: usize,
        from: &Pinned,
        part: Range<usize>,
    ) -> Result<(), DriverError> {
        self.enter()?;
        assert!(offset + part.len() <= memory.bytes, "{part:?} to {offset} of {}", memory.bytes);
        let source = &from.as_slice()[part];
        // SAFETY: both ends are live and long enough; the caller keeps the source as it is.
        unsafe { result::memcpy_htod_async(memory.address + offset as u64, source, self.stream) }
    }

    /// Copies from `offset` of `memory` to the start of pinned memory, after all earlier work, and waits.
    ///
    /// # Panics
    /// Where the part leaves either memory: callers have checked.
    pub(super) fn download(
        &self,
        memory: &Memory,
        offset: usize,
        to: &mut Pinned,
        len: usize,
    ) -> Result<(), DriverError> {
        self.enter()?;
        assert!(offset + len <= memory.bytes, "{len} from {offset} of {}", memory.bytes);
        let target = &mut to.as_mut_slice()[..len];
        // SAFETY: both ends are live and long enough, and the borrow of `to` outlasts the wait.
        unsafe { result::memcpy_dtoh_async(target, memory.address + offset as u64, self.stream) }?;
        self.synchronize()
    }

    /// Copies all of `from` to `to`, as far as both go, in stream order.
    pub(super) fn copy(&self, from: &Memory, to: &Memory) -> Result<(), DriverError> {
        self.enter()?;
        let bytes = from.bytes.min(to.bytes);
        // SAFETY: both are live and that long, and two allocations do not overlap.
        unsafe { result::memcpy_dtod_async(to.address, from.address, bytes, self.stream) }
    }

    /// Runs a kernel, or adds it to the graph being captured.
    pub(super) fn launch(&self, kernels: &Kernels, launch: &KernelLaunch) -> Result<(), DriverError> {
        self.launch_on(self.stream, kernels, launch)
    }

    /// Runs a kernel whether or not a capture is in progress. What the other stream does is not waited for.
    pub(super) fn launch_aside(&self, kernels: &Kernels, launch: &KernelLaunch) -> Result<(), DriverError> {
        self.launch_on(self.aside, kernels, launch)
    }

    fn launch_on(
        &self,
        stream: sys::CUstream,
        kernels: &Kernels,
        launch: &KernelLaunch,
    ) -> Result<(), DriverError> {
        self.enter()?;
        let function = kernels.functions.get(launch.kernel.as_str()).copied();
        let function = function.ok_or(DriverError(CUresult::CUDA_ERROR_NOT_FOUND))?;
        // The driver copies as many bytes of each value as the kernel declares: on the little-endian
        // machines that CUDA runs on, the low ones.
        let mut values: Vec<u64> = launch.arguments.iter().map(|argument| argument.bits()).collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
        let (grid, block) = ((launch.blocks, 1, 1), (launch.threads, 1, 1));
        // SAFETY: the plan's arguments have the number and types that the kernel declares (a test compares
        // them with the PTX); its pointers were made from live buffers whose bounds were checked, and
        // freeing one waits for the device; values are read before the call returns.
        unsafe { result::launch_kernel(function, grid, block, 0, stream, &mut pointers) }
    }

    /// Starts a capture of what this thread sends to the stream.
    pub(super) fn begin_capture(&self) -> Result<(), DriverError> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live, and no default stream.
        unsafe { result::stream::begin_capture(self.stream, mode) }
    }

    /// Ends the capture and instantiates its graph.
    pub(super) fn end_capture(self: &Rc<Self>) -> Result<Executable, DriverError> {
        self.enter()?;
        // SAFETY: the stream is live.
        let graph = unsafe { result::stream::end_capture(self.stream) }?;
        // SAFETY: the driver has just returned this graph.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: the graph is valid and not used again; its executable is independent of it.
        unsafe { result::graph::destroy(graph) }?;
        Ok(Executable { handle: executable?, device: self.clone() })
    }

    /// Runs all nodes of a graph, in stream order.
    pub(super) fn launch_graph(&self, graph: &Executable) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: both handles are live; the backend has checked that the nodes' buffers are.
        unsafe { result::graph::launch(graph.handle, self.stream) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure. What the stream still does is finished by the driver.
        if self.enter().is_ok() {
            for stream in [self.stream, self.aside] {
                // SAFETY: all users of the streams held a reference to `self`.
                let _ = unsafe { result::stream::destroy(stream) };
            }
        }
    }
}

/// Device memory.
pub(super) struct Memory {
    address: sys::CUdeviceptr,
    bytes: usize,
    device: Rc<Device>,
}

impl Memory {
    /// Uninitialised memory, outside the stream-ordered pool: its address stays fixed, as graphs want.
    pub(super) fn allocate(device: &Rc<Device>, bytes: usize) -> Result<Memory, DriverError> {
        device.enter()?;
        // SAFETY: any size may be asked for, but the driver refuses none at all.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }?;
        Ok(Memory { address, bytes, device: device.clone() })
    }

    /// Where it starts on the device.
    pub(super) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // The driver waits for all work before it frees: nothing that runs can use the memory after.
        // SAFETY: this is the only owner of an address that `malloc_sync` returned.
        let free = || unsafe { result::free_sync(self.address) };
        self.device.defer(self.device.enter().and_then(|()| free()));
    }
}

/// Host memory that the device copies from and to by itself.
pub(super) struct Pinned {
    start: *mut u8,
    bytes: usize,
    device: Rc<Device>,
}

impl Pinned {
    /// Zeroed memory; not write-combined, because it is read as well.
    pub(super) fn allocate(device: &Rc<Device>, bytes: usize) -> Result<Pinned, DriverError> {
        device.enter()?;
        // SAFETY: any size from 1 on may be asked for.
        let start: *mut u8 = unsafe { result::malloc_host(bytes.max(1), 0) }?.cast();
        // SAFETY: the driver has just returned that many bytes, which nobody else uses.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Pinned { start, bytes, device: device.clone() })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` is good for `bytes` initialised bytes, and writes want `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy from it may be under way.
        let waited = self.device.synchronize();
        // SAFETY: this is the only owner of what `malloc_host` returned, and all copies are done.
        let freed = waited.and_then(|()| unsafe { result::free_host(self.start.cast()) });
        self.device.defer(freed);
    }
}

/// An instantiated graph. Its kernels' arguments are the driver's own copies.
pub(super) struct Executable {
    handle: sys::CUgraphExec,
    device: Rc<Device>,
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: this is the only owner; the driver lets a launch under way finish.
        let destroy = || unsafe { result::graph::exec_destroy(self.handle) };
        self.device.defer(self.device.enter().and_then(|()| destroy()));
    }
}

/// All kernels of the PTX, loaded.
pub(super) struct Kernels {
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
    device: Rc<Device>,
}

impl Kernels {
    /// Loads all modules and looks up all kernels now: a lookup later would load code in the middle
    /// of a capture, where the driver refuses to.
    pub(super) fn load(device: &Rc<Device>) -> Result<Kernels, CudaUnavailable> {
        let mut kernels = Kernels { modules: Vec::new(), functions: HashMap::new(), device: device.clone() };
        for text in ptx::MODULES {
            kernels.load_module(text).map_err(|error| match error.0 {
                CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => CudaUnavailable::DriverTooOld {
                    found: device.cuda_version().unwrap_or_else(|_| "?".to_owned()),
                },
                _ => CudaUnavailable::Driver { doing: "loading the kernels", error: describe(error) },
            })?;
        }
        Ok(kernels)
    }

    fn load_module(&mut self, text: &'static str) -> Result<(), DriverError> {
        let invalid = |_| DriverError(CUresult::CUDA_ERROR_INVALID_PTX);
        self.device.enter()?;
        let image = CString::new(text).map_err(invalid)?;
        // SAFETY: the image is PTX text that ends in a zero byte and outlives the call.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }?;
        self.modules.push(module);
        for name in ptx::kernels(text) {
            let symbol = CString::new(name).map_err(invalid)?;
            // SAFETY: the module is loaded and stays so as long as `self`.
            let function = unsafe { result::module::get_function(module, symbol) }?;
            self.functions.insert(name, function);
        }
        Ok(())
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        let waited = self.device.synchronize();
        for &module in &self.modules {
            // SAFETY: nothing runs any more, and the functions go with `self`.
            self.device.defer(waited.and_then(|()| unsafe { result::module::unload(module) }));
        }
    }
}

/// The driver's name and words for an error.
pub(super) fn describe(error: DriverError) -> String {
    let text = |s: Result<&std::ffi::CStr, _>| s.map(|s| s.to_string_lossy().into_owned()).ok();
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(words)) => format!("{name}: {words}"),
        _ => format!("error {}", error.0 as u32),
    }
}
