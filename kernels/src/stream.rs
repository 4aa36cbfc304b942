//! Buffers and launches in order, on some backend.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Backend, Buffer, BufferId, BufferSpec, DeviceInfo, Error, Graph, GraphId, Launch, Range, View};

/// An in-order queue of launches on a backend, with the buffers that they work on.
///
/// Between [`Stream::begin_capture`] and [`Stream::end_capture`], [`Stream::launch`] only adds a
/// node; otherwise it runs the launch now.
pub struct Stream {
    backend: Box<dyn Backend>,
    /// Every allocation ever made; `None` once freed. Indexed by [`BufferId`].
    buffers: Vec<Option<Buffer>>,
    /// The newest allocation of each name.
    by_name: HashMap<Arc<str>, Vec<BufferId>>,
    /// Nodes of the capture in progress.
    capture: Option<Vec<Launch>>,
    graphs: u32,
}

impl Stream {
    /// A stream with no buffers.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Stream { backend, buffers: Vec::new(), by_name: HashMap::new(), capture: None, graphs: 0 }
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
        let too_big = || Error::OutOfMemory { name: spec.name.clone(), bytes: usize::MAX };
        let bytes = spec.bytes().ok_or_else(too_big)?;
        let id = BufferId(u32::try_from(self.buffers.len()).map_err(|_| too_big())?);
        self.backend.allocate(id, &spec.name, bytes)?;
        let name: Arc<str> = Arc::from(spec.name.as_str());
        let generations = self.by_name.entry(name.clone()).or_default();
        let generation = generations.len() as u32;
        generations.push(id);
        let buffer = Buffer { id, name, generation, dtype: spec.dtype, shape: spec.shape, role: spec.role };
        self.buffers.push(Some(buffer.clone()));
        Ok(buffer)
    }

    /// Gives a buffer's memory back.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    pub fn free(&mut self, id: BufferId) -> Result<(), Error> {
        let slot = self.buffers.get_mut(id.0 as usize).ok_or(Error::NoBuffer(id))?;
        slot.take().ok_or(Error::NoBuffer(id))?;
        self.backend.release(id)
    }

    /// The live buffer of that identity.
    pub fn buffer(&self, id: BufferId) -> Option<&Buffer> {
        self.buffers.get(id.0 as usize)?.as_ref()
    }

    /// The buffer that a bare name resolves to now: the newest live generation.
    pub fn resolve(&self, name: &str) -> Option<&Buffer> {
        self.by_name.get(name)?.iter().rev().find_map(|&id| self.buffer(id))
    }

    /// All live buffers in order of allocation.
    pub fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        self.buffers.iter().flatten()
    }

    /// Device address of a buffer, where there is such a thing.
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
        for view in launch.views() {
            self.check_bounds(view)?;
        }
        launch.check_overlap()?;
        self.backend.launch(launch)?;
        if let Some(nodes) = &mut self.capture {
            nodes.push(launch.clone());
        }
        Ok(())
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

    fn check_bounds(&self, view: &View) -> Result<(), Error> {
        let end = view.bytes().and_then(|n| n.checked_add(view.offset)).unwrap_or(usize::MAX);
        self.check_range(view.buffer, view.offset, end)
    }

    fn check_range(&self, id: BufferId, start: usize, end: usize) -> Result<(), Error> {
        let buffer = self.buffer(id).ok_or(Error::NoBuffer(id))?;
        let bytes = buffer.bytes();
        if end > bytes || start > end {
            return Err(Error::OutOfBounds { name: buffer.name.to_string(), start, end, bytes });
        }
        Ok(())
    }
}
