//! The CUDA backend.

use std::collections::HashMap;
use std::rc::Rc;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

use super::device::{Device, Executable, Kernels, Memory, describe};
use super::plan::{KernelLaunch, plan};
use super::staging::Staging;
use super::{CudaUnavailable, ptx};
use crate::{Backend, BufferId, DeviceInfo, Error, FRESH_BYTE, GraphHandle, Launch, View};

/// Runs launches on the first CUDA device that the driver shows, on a stream of its own; what runs beside a
/// capture, on a second one.
///
/// Memory is fixed for the life of a buffer. A capture is the driver's own stream capture: a captured
/// kernel keeps the addresses and scalars that it was launched with. While a capture is in progress
/// nothing can be allocated, freed, read or written.
///
/// A failure of the device itself (a driver reset, an uncorrectable memory error) shows at a later
/// call and from then on at every call.
pub struct CudaBackend {
    info: DeviceInfo,
    // In the order in which they must be dropped; each holds the device as well.
    graphs: HashMap<u32, CapturedGraph>,
    buffers: HashMap<BufferId, Part>,
    pub(super) staging: Staging,
    pub(super) kernels: Kernels,
    pub(super) device: Rc<Device>,
    /// Buffers used by the capture in progress.
    capture: Option<Vec<BufferId>>,
    /// Whether something runs beside it.
    aside: bool,
    next_graph: u32,
}

/// Where a buffer lies: in memory of its own, or in a part of another one's, which it keeps.
struct Part {
    memory: Rc<Memory>,
    offset: usize,
    bytes: usize,
}

impl Part {
    fn address(&self) -> u64 {
        self.memory.address() + self.offset as u64
    }
}

struct CapturedGraph {
    executable: Executable,
    buffers: Vec<BufferId>,
}

/// Says what was being done when the driver failed.
fn failed(doing: &str) -> impl Fn(DriverError) -> Error {
    move |error| Error::Cuda(format!("{doing}: {}", describe(error)))
}

/// The driver's version with the CUDA version that it supports, such as `580.159.03 (CUDA 13.0)`.
/// The driver's library knows only the latter; on Linux its kernel module tells the former.
fn driver_version(cuda: &str) -> String {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match text.lines().next().and_then(|line| line.split_whitespace().find(is_version)) {
        Some(version) => format!("{version} (CUDA {cuda})"),
        None => format!("CUDA {cuda}"),
    }
}

impl CudaBackend {
    /// A backend on the first device; `CUDA_VISIBLE_DEVICES` chooses another.
    ///
    /// # Errors
    /// [`Error::Cuda`] with a [`CudaUnavailable`] in words; [`CudaBackend::open`] has it as a value.
    pub fn new() -> Result<Self, Error> {
        Ok(CudaBackend::open()?)
    }

    /// As [`CudaBackend::new`], for callers that tell one reason from another.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open() -> Result<Self, CudaUnavailable> {
        let failed =
            |doing| move |error: DriverError| CudaUnavailable::Driver { doing, error: describe(error) };
        let device = Device::open()?;
        let kernels = Kernels::load(&device)?;
        let asked = failed("asking for the device's properties");
        let info = DeviceInfo {
            backend: "cuda",
            name: device.name().map_err(asked)?,
            capability: device.capability().map_err(asked)?,
            driver: driver_version(&device.cuda_version().map_err(asked)?),
            ptx_sha256: ptx::sha256(),
        };
        let staging = Staging::new(&device).map_err(failed("allocating pinned memory"))?;
        let (graphs, buffers) = (HashMap::new(), HashMap::new());
        let (capture, aside, next_graph) = (None, false, 0);
        Ok(CudaBackend { info, graphs, buffers, staging, kernels, device, capture, aside, next_graph })
    }

    /// SHA-256, hex, of the PTX text in this build: what [`DeviceInfo::ptx_sha256`] is on any device.
    pub fn ptx_sha256() -> String {
        ptx::sha256()
    }

    fn refuse_in_capture(&self, what: &'static str) -> Result<(), Error> {
        self.capture.as_ref().map_or(Ok(()), |_| Err(Error::Capture(what)))
    }

    fn address_of(&self, view: &View) -> Result<u64, Error> {
        let (memory, offset) =
            locate(&self.buffers, view.buffer, view.offset, view.bytes().unwrap_or(usize::MAX))?;
        Ok(memory.address() + offset as u64)
    }

    /// Waits for what ran beside a capture.
    fn finish_aside(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.aside) {
            self.device.synchronize_aside().map_err(failed("waiting for a launch beside a capture"))?;
        }
        Ok(())
    }

    fn plan(&self, launch: &Launch) -> Result<KernelLaunch, Error> {
        let addresses: Vec<u64> =
            launch.views().iter().map(|view| self.address_of(view)).collect::<Result<_, _>>()?;
        plan(launch, &addresses)
    }
}

/// The memory that holds bytes `start..start + len` of a buffer, and where in it they begin.
fn locate(
    buffers: &HashMap<BufferId, Part>,
    id: BufferId,
    start: usize,
    len: usize,
) -> Result<(&Rc<Memory>, usize), Error> {
    let part = buffers.get(&id).ok_or(Error::NoBuffer(id))?;
    let (end, bytes) = (start.saturating_add(len), part.bytes);
    if end > bytes {
        return Err(Error::OutOfBounds { name: format!("buffer {}", id.0), start, end, bytes });
    }
    Ok((&part.memory, part.offset + start))
}

impl Backend for CudaBackend {
    fn info(&self) -> DeviceInfo {
        self.info.clone()
    }

    fn allocate(&mut self, id: BufferId, name: &str, bytes: usize) -> Result<(), Error> {
        self.refuse_in_capture("memory cannot be allocated during a capture")?;
        let memory = Memory::allocate(&self.device, bytes).map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { name: name.to_owned(), bytes },
            _ => failed("allocating memory")(error),
        })?;
        self.device.fill(&memory, 0..bytes, FRESH_BYTE).map_err(failed("filling fresh memory"))?;
        self.buffers.insert(id, Part { memory: Rc::new(memory), offset: 0, bytes });
        Ok(())
    }

    fn allocate_in(
        &mut self,
        id: BufferId,
        _: &str,
        bytes: usize,
        (donor, offset): (BufferId, usize),
    ) -> Result<(), Error> {
        // The fill would become a node.
        self.refuse_in_capture("memory cannot be handed out during a capture")?;
        let (memory, offset) = locate(&self.buffers, donor, offset, bytes)?;
        let memory = memory.clone();
        let fill = self.device.fill(&memory, offset..offset + bytes, FRESH_BYTE);
        fill.map_err(failed("filling fresh memory"))?;
        self.buffers.insert(id, Part { memory, offset, bytes });
        Ok(())
    }

    fn release(&mut self, id: BufferId) -> Result<(), Error> {
        self.refuse_in_capture("memory cannot be freed during a capture")?;
        self.buffers.remove(&id).map(drop).ok_or(Error::NoBuffer(id))?;
        self.device.take_deferred().map_err(failed("freeing memory"))
    }

    fn address(&self, id: BufferId) -> Option<u64> {
        self.buffers.get(&id).map(Part::address)
    }

    fn upload(&mut self, id: BufferId, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.refuse_in_capture("a host write cannot be captured")?;
        let (memory, offset) = locate(&self.buffers, id, offset, bytes.len())?;
        self.staging.upload(memory, offset, bytes).map_err(failed("copying to the device"))
    }

    fn download(&mut self, id: BufferId, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        self.refuse_in_capture("a host read cannot be captured")?;
        let (memory, offset) = locate(&self.buffers, id, offset, bytes.len())?;
        self.staging.download(memory, offset, bytes).map_err(failed("copying from the device"))
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Error> {
        let plan = self.plan(launch)?;
        self.device.launch(&self.kernels, &plan).map_err(failed(launch.op().name()))?;
        if let Some(buffers) = &mut self.capture {
            buffers.extend(launch.views().iter().map(|view| view.buffer));
        }
        Ok(())
    }

    fn launch_aside(&mut self, launch: &Launch) -> Result<(), Error> {
        let plan = self.plan(launch)?;
        let captures = self.capture.is_some();
        if !captures {
            self.staging.synchronize().map_err(failed("waiting for the device"))?;
        }
        self.device.launch_aside(&self.kernels, &plan).map_err(failed(launch.op().name()))?;
        self.aside = true;
        if captures { Ok(()) } else { self.finish_aside() }
    }

    fn begin_capture(&mut self) -> Result<(), Error> {
        self.refuse_in_capture("a capture is in progress already")?;
        // What runs beside the capture comes after all of this, and could not wait for it then: a stream that
        // is being captured can't be waited for, nor can an event be put on it that is not captured.
        self.staging.synchronize().map_err(failed("waiting for the device"))?;
        self.device.begin_capture().map_err(failed("starting a capture"))?;
        self.capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&mut self) -> Result<GraphHandle, Error> {
        let mut buffers = self.capture.take().ok_or(Error::Capture("no capture is in progress"))?;
        buffers.sort_unstable();
        buffers.dedup();
        let executable = self.device.end_capture().map_err(failed("ending a capture"));
        self.finish_aside()?;
        let executable = executable?;
        let handle = self.next_graph;
        self.next_graph += 1;
        self.graphs.insert(handle, CapturedGraph { executable, buffers });
        Ok(GraphHandle(handle))
    }

    fn launch_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
        self.refuse_in_capture("a graph cannot be launched during a capture")?;
        let graph = self.graphs.get(&graph.0).ok_or(Error::Capture("no such graph"))?;
        // The driver would run kernels on freed memory without a word.
        if let Some(&freed) = graph.buffers.iter().find(|id| !self.buffers.contains_key(id)) {
            return Err(Error::NoBuffer(freed));
        }
        self.device.launch_graph(&graph.executable).map_err(failed("launching a graph"))
    }

    fn destroy_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
        self.graphs.remove(&graph.0).map(drop).ok_or(Error::Capture("no such graph"))?;
        self.device.take_deferred().map_err(failed("destroying a graph"))
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        self.refuse_in_capture("a capture cannot be waited for")?;
        self.staging.synchronize().map_err(failed("waiting for the device"))?;
        self.device.take_deferred().map_err(failed("freeing memory earlier"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BufferSpec, DType, Op, Role, Stream, self_test};

    /// A backend, or `None` and a line that says why the test proves nothing here.
    fn backend() -> Option<CudaBackend> {
        let opened = CudaBackend::open();
        opened.inspect_err(|unavailable| println!("not run: {unavailable}")).ok()
    }

    #[test]
    fn without_a_driver_there_is_a_reason_and_no_panic() {
        match CudaBackend::new() {
            Ok(backend) => assert_eq!(backend.info().ptx_sha256, CudaBackend::ptx_sha256()),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.starts_with("CUDA: ") && text.contains("NVIDIA") && !text.contains('\n'),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn ops_compute_the_contracts_bits() {
        let Some(backend) = backend() else { return };
        assert!(self_test(Box::new(backend)).unwrap());
    }

    fn scratch(stream: &mut Stream, name: &str, values: &[f32]) -> View {
        let spec = BufferSpec::new(name, DType::F32, &[1, values.len()], Role::Scratch);
        let view = View::whole(&stream.allocate(spec).unwrap());
        if !values.iter().all(|x| x.is_nan()) {
            stream.write(&view, bytemuck::cast_slice(values)).unwrap();
        }
        view
    }

    fn floats(stream: &mut Stream, view: &View) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&stream.read(view).unwrap())
    }

    #[test]
    fn fresh_memory_is_filled_and_capturing_runs_nothing() {
        let Some(backend) = backend() else { return };
        let mut stream = Stream::new(Box::new(backend));
        let fresh = scratch(&mut stream, "fresh", &[f32::NAN; 5]);
        assert_eq!(stream.read(&fresh).unwrap(), [FRESH_BYTE; 20]);
        let (x, y) = (scratch(&mut stream, "x", &[1.0]), scratch(&mut stream, "y", &[2.0]));
        let launch = Launch::new(Op::ResidualAdd, vec![x.clone(), y], vec![]).unwrap();
        stream.begin_capture().unwrap();
        stream.launch(&launch).unwrap();
        let graph = stream.end_capture().unwrap();
        assert_eq!(floats(&mut stream, &x), [1.0]);
        stream.launch_graph(&graph).unwrap();
        stream.launch_graph(&graph).unwrap();
        assert_eq!(floats(&mut stream, &x), [5.0]);
        stream.destroy_graph(graph).unwrap();
        stream.synchronize().unwrap();
    }

    #[test]
    fn a_graph_keeps_addresses_and_not_contents() {
        let Some(backend) = backend() else { return };
        let mut stream = Stream::new(Box::new(backend));
        let (x, old) = (scratch(&mut stream, "x", &[1.0]), scratch(&mut stream, "y", &[10.0]));
        stream.begin_capture().unwrap();
        stream.launch(&Launch::new(Op::ResidualAdd, vec![x.clone(), old.clone()], vec![]).unwrap()).unwrap();
        let graph = stream.end_capture().unwrap();
        // A newer generation of the name is not what the graph reads; new contents of the old one are.
        let new = scratch(&mut stream, "y", &[100.0]);
        assert_ne!(stream.address(new.buffer), stream.address(old.buffer));
        stream.write(&old, bytemuck::cast_slice(&[20.0f32])).unwrap();
        stream.launch_graph(&graph).unwrap();
        assert_eq!(floats(&mut stream, &x), [21.0]);
        stream.free(old.buffer).unwrap();
        assert!(matches!(stream.launch_graph(&graph), Err(Error::NoBuffer(id)) if id == old.buffer));
    }

    #[test]
    fn memory_is_left_alone_during_a_capture() {
        let Some(mut backend) = backend() else { return };
        backend.allocate(BufferId(0), "x", 16).unwrap();
        backend.begin_capture().unwrap();
        assert!(matches!(backend.allocate(BufferId(1), "y", 16), Err(Error::Capture(_))));
        assert!(matches!(backend.upload(BufferId(0), 0, &[1]), Err(Error::Capture(_))));
        assert!(matches!(backend.download(BufferId(0), 0, &mut [0]), Err(Error::Capture(_))));
        assert!(matches!(backend.release(BufferId(0)), Err(Error::Capture(_))));
        backend.end_capture().unwrap();
        assert!(matches!(backend.upload(BufferId(0), 9, &[0; 8]), Err(Error::OutOfBounds { end: 17, .. })));
        backend.release(BufferId(0)).unwrap();
    }

    #[test]
    fn parts_of_memory_and_launches_beside_a_capture() {
        let Some(backend) = backend() else { return };
        let mut stream = Stream::new(Box::new(backend));
        let (x, y) = (scratch(&mut stream, "x", &[1.0, 2.0, 3.0, 4.0]), scratch(&mut stream, "y", &[8.0; 4]));
        let launch = |x: &View, y: &View| Launch::new(Op::ResidualAdd, vec![x.clone(), y.clone()], vec![]);
        stream.begin_capture().unwrap();
        stream.launch(&launch(&x, &y).unwrap()).unwrap();
        stream.launch_aside(&launch(&y, &x).unwrap()).unwrap();
        let graph = stream.end_capture().unwrap();
        assert_eq!(floats(&mut stream, &y), [9.0, 10.0, 11.0, 12.0], "beside the capture: at once");
        assert_eq!(floats(&mut stream, &x), [1.0, 2.0, 3.0, 4.0], "captured: not run");
        stream.retire(y.buffer).unwrap();
        let spec = BufferSpec::new("z", DType::F32, &[1, 2], Role::Scratch);
        let z = View::whole(&stream.allocate_in(spec, y.buffer, 8).unwrap());
        assert_eq!(stream.address(z.buffer), stream.address(y.buffer).map(|a| a + 8));
        assert_eq!(stream.read(&z).unwrap(), [FRESH_BYTE; 8]);
        stream.write(&z, bytemuck::cast_slice(&[100.0f32, 200.0])).unwrap();
        stream.launch_graph(&graph).unwrap();
        assert_eq!(floats(&mut stream, &x), [10.0, 12.0, 103.0, 204.0], "the graph reads what z wrote");
        stream.free(y.buffer).unwrap();
        assert_eq!(floats(&mut stream, &z), [100.0, 200.0], "z keeps the memory");
        assert!(matches!(stream.launch_graph(&graph), Err(Error::NoBuffer(id)) if id == y.buffer));
    }

    /// Longer than the staging memory, so that copies come in pieces.
    #[test]
    fn long_copies_arrive_whole() {
        let Some(mut backend) = backend() else { return };
        let bytes: Vec<u8> = (0..9_000_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        backend.allocate(BufferId(0), "x", bytes.len() + 3).unwrap();
        backend.upload(BufferId(0), 3, &bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        backend.download(BufferId(0), 3, &mut back).unwrap();
        assert!(back == bytes);
    }
}
