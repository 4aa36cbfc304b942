//! Buffers and launches in order, on some backend.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Backend, Buffer, BufferId, BufferSpec, DeviceInfo, Error, Graph, GraphId, Launch, Range, View};

/// What became of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// Given back to a pool: only graphs captured before use it.
    Retired,
    Freed,
}

/// One allocation.
struct Allocation {
    buffer: Buffer,
    state: State,
    /// In whose memory it lies, and from which byte on.
    place: (BufferId, usize),
}

/// An in-order queue of launches on a backend, with the buffers that they work on.
///
/// Between [`Stream::begin_capture`] and [`Stream::end_capture`], [`Stream::launch`] only adds a
/// node; otherwise it runs the launch now.
pub struct Stream {
    backend: Box<dyn Backend>,
    /// Every allocation ever made, indexed by [`BufferId`].
    allocations: Vec<Allocation>,
    /// The newest allocation of each name.
    by_name: HashMap<Arc<str>, Vec<BufferId>>,
    /// Nodes of the capture in progress.
    capture: Option<Vec<Launch>>,
    graphs: u32,
}

/// Bytes of the widest element: what places inside another buffer's memory are multiples of.
const WIDEST_ELEMENT: usize = 8;

impl Stream {
    /// A stream with no buffers.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Stream { backend, allocations: Vec::new(), by_name: HashMap::new(), capture: None, graphs: 0 }
    }

    /// What runs the launches.
    pub fn device(&self) -> DeviceInfo {
        self.backend.info()
    }

    /// Allocates a buffer filled with [`crate::FRESH_BYTE`]. A name that exists already gets its
    /// next generation; the earlier one stays until it is freed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Cuda`].
    pub fn allocate(&mut self, spec: BufferSpec) -> Result<Buffer, Error> {
        let (id, bytes) = self.next(&spec)?;
        self.backend.allocate(id, &spec.name, bytes)?;
        Ok(self.register(id, spec, (id, 0)))
    }

    /// Allocates a buffer in the memory of another one, live or retired, from byte `offset` of it on, as a
    /// pool does that hands memory out again. It is filled with [`crate::FRESH_BYTE`]; the two share bytes
    /// from then on.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::OutOfBounds`] where it does not fit, [`Error::Launch`] where `offset` is
    /// not a multiple of eight, [`Error::Cuda`].
    pub fn allocate_in(&mut self, spec: BufferSpec, donor: BufferId, offset: usize) -> Result<Buffer, Error> {
        let (id, bytes) = self.next(&spec)?;
        let (root, start) = self.kept(donor)?.place;
        self.check_range(donor, offset, offset.saturating_add(bytes))?;
        if !offset.is_multiple_of(WIDEST_ELEMENT) {
            let what =
                format!("byte {offset} of `{}` is no place for a buffer", self.kept(donor)?.buffer.name);
            return Err(Error::Launch { op: "allocate_in", what });
        }
        self.backend.allocate_in(id, &spec.name, bytes, (donor, offset))?;
        Ok(self.register(id, spec, (root, start + offset)))
    }

    /// Identity and size of the next allocation.
    fn next(&self, spec: &BufferSpec) -> Result<(BufferId, usize), Error> {
        let too_big = || Error::OutOfMemory { name: spec.name.clone(), bytes: usize::MAX };
        let bytes = spec.bytes().ok_or_else(too_big)?;
        Ok((BufferId(u32::try_from(self.allocations.len()).map_err(|_| too_big())?), bytes))
    }

    fn register(&mut self, id: BufferId, spec: BufferSpec, place: (BufferId, usize)) -> Buffer {
        let name: Arc<str> = Arc::from(spec.name.as_str());
        let generations = self.by_name.entry(name.clone()).or_default();
        let generation = generations.len() as u32;
        generations.push(id);
        let buffer = Buffer { id, name, generation, dtype: spec.dtype, shape: spec.shape, role: spec.role };
        self.allocations.push(Allocation { buffer: buffer.clone(), state: State::Live, place });
        buffer
    }

    /// Gives a buffer's memory back. Graphs that use it can't be launched any more.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    pub fn free(&mut self, id: BufferId) -> Result<(), Error> {
        self.kept(id)?;
        self.allocations[id.0 as usize].state = State::Freed;
        self.backend.release(id)
    }

    /// Gives a buffer back to a pool that keeps its memory: its name means an earlier generation or nothing,
    /// launches and host writes are refused, and graphs that were captured before still use the memory,
    /// which [`Stream::allocate_in`] can hand out again. It can still be read, to look at it.
    ///
    /// # Errors
    /// [`Error::NoBuffer`].
    pub fn retire(&mut self, id: BufferId) -> Result<(), Error> {
        self.buffer(id).ok_or(Error::NoBuffer(id))?;
        self.allocations[id.0 as usize].state = State::Retired;
        Ok(())
    }

    /// The live buffer of that identity.
    pub fn buffer(&self, id: BufferId) -> Option<&Buffer> {
        let allocation = self.allocations.get(id.0 as usize)?;
        (allocation.state == State::Live).then_some(&allocation.buffer)
    }

    /// The allocation of that identity, live or retired.
    fn kept(&self, id: BufferId) -> Result<&Allocation, Error> {
        let allocation = self.allocations.get(id.0 as usize).filter(|a| a.state != State::Freed);
        allocation.ok_or(Error::NoBuffer(id))
    }

    /// The buffer that a bare name resolves to now: the newest live generation.
    pub fn resolve(&self, name: &str) -> Option<&Buffer> {
        self.by_name.get(name)?.iter().rev().find_map(|&id| self.buffer(id))
    }

    /// All live buffers in order of allocation.
    pub fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        self.allocations.iter().filter(|a| a.state == State::Live).map(|a| &a.buffer)
    }

    /// Address of a buffer, where the device has such a thing; buffers that share bytes show it there.
    pub fn address(&self, id: BufferId) -> Option<u64> {
        self.backend.address(id)
    }

    /// Writes bytes from the host into a dense view, after all earlier work.
    ///
    /// # Errors
    /// [`Error::Launch`] where the number of bytes is not the view's, [`Error::OutOfBounds`],
    /// [`Error::Capture`] during a capture, [`Error::Cuda`].
    pub fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Error> {
        if self.capture.is_some() {
            return Err(Error::Capture("a host write cannot be captured"));
        }
        if view.bytes() != Some(bytes.len()) || !view.is_dense() {
            let what = format!("host write of {} bytes to a view of shape {:?}", bytes.len(), view.shape);
            return Err(Error::Launch { op: "write", what });
        }
        self.check_live(view)?;
        self.check_bounds(view)?;
        self.backend.upload(view.buffer, view.offset, bytes)
    }

    /// Reads the bytes of a dense view to the host, after all earlier work.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Capture`] during a capture, [`Error::Cuda`].
    pub fn read(&mut self, view: &View) -> Result<Vec<u8>, Error> {
        self.check_bounds(view)?;
        self.read_range(view.buffer, view.offset, view.len() * view.dtype.size())
    }

    /// Reads `len` bytes of a buffer from `offset` on, after all earlier work.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Capture`] during a capture, [`Error::Cuda`].
    pub fn read_range(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<u8>, Error> {
        if self.capture.is_some() {
            return Err(Error::Capture("a host read cannot be captured"));
        }
        self.check_range(id, offset, offset.saturating_add(len))?;
        let mut bytes = vec![0; len];
        self.backend.download(id, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Runs a launch now or, during a capture, adds it as a node.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::NoBuffer`], [`Error::Overlap`], [`Error::Cuda`].
    pub fn launch(&mut self, launch: &Launch) -> Result<(), Error> {
        self.check_launch(launch)?;
        self.backend.launch(launch)?;
        if let Some(nodes) = &mut self.capture {
            nodes.push(launch.clone());
        }
        Ok(())
    }

    /// Runs a launch now even during a capture, as an op on a stream that is not being captured does. All
    /// work asked for before the capture is done first.
    ///
    /// # Errors
    /// As for [`Stream::launch`].
    pub fn launch_aside(&mut self, launch: &Launch) -> Result<(), Error> {
        self.check_launch(launch)?;
        self.backend.launch_aside(launch)
    }

    /// Starts a capture.
    ///
    /// # Errors
    /// [`Error::Capture`] where one is in progress, [`Error::Cuda`].
    pub fn begin_capture(&mut self) -> Result<(), Error> {
        if self.capture.is_some() {
            return Err(Error::Capture("a capture is in progress already"));
        }
        self.backend.begin_capture()?;
        self.capture = Some(Vec::new());
        Ok(())
    }

    /// Ends the capture and returns its graph, which has not run.
    ///
    /// # Errors
    /// [`Error::Capture`] where none is in progress, [`Error::Cuda`].
    pub fn end_capture(&mut self) -> Result<Graph, Error> {
        let nodes = self.capture.take().ok_or(Error::Capture("no capture is in progress"))?;
        let handle = self.backend.end_capture()?;
        let id = GraphId(self.graphs);
        self.graphs += 1;
        Ok(Graph { id, nodes, handle })
    }

    /// Runs all nodes of a graph.
    ///
    /// # Errors
    /// [`Error::Capture`] during a capture, [`Error::NoBuffer`] where a node's buffer was freed,
    /// [`Error::Cuda`].
    pub fn launch_graph(&mut self, graph: &Graph) -> Result<(), Error> {
        if self.capture.is_some() {
            return Err(Error::Capture("a graph cannot be launched during a capture"));
        }
        for view in graph.nodes.iter().flat_map(Launch::views) {
            self.check_bounds(view)?;
        }
        self.backend.launch_graph(graph.handle)
    }

    /// Frees a graph.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn destroy_graph(&mut self, graph: Graph) -> Result<(), Error> {
        self.backend.destroy_graph(graph.handle)
    }

    /// Byte ranges that a launch will read and write, given the present values of its index operands.
    ///
    /// # Errors
    /// As for [`Stream::read`].
    pub fn touched(&mut self, launch: &Launch) -> Result<Vec<Range>, Error> {
        // All of them, not only those that are read: what lies in memory bounds the number of ranges.
        for view in launch.views() {
            self.check_bounds(view)?;
        }
        launch.touched(&mut |view| self.read(view))
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// [`Error::Cuda`], of this or of earlier work.
    pub fn synchronize(&mut self) -> Result<(), Error> {
        self.backend.synchronize()
    }

    fn check_launch(&self, launch: &Launch) -> Result<(), Error> {
        for view in launch.views() {
            self.check_live(view)?;
            self.check_bounds(view)?;
        }
        launch.check_overlap(|id| self.kept(id).map_or((id, 0), |allocation| allocation.place))
    }

    fn check_live(&self, view: &View) -> Result<(), Error> {
        self.buffer(view.buffer).map(drop).ok_or(Error::NoBuffer(view.buffer))
    }

    fn check_bounds(&self, view: &View) -> Result<(), Error> {
        let end = view.bytes().and_then(|n| n.checked_add(view.offset)).unwrap_or(usize::MAX);
        self.check_range(view.buffer, view.offset, end)
    }

    fn check_range(&self, id: BufferId, start: usize, end: usize) -> Result<(), Error> {
        let buffer = &self.kept(id)?.buffer;
        let bytes = buffer.bytes();
        if end > bytes || start > end {
            return Err(Error::OutOfBounds { name: buffer.name.to_string(), start, end, bytes });
        }
        Ok(())
    }
}
