//! What a device has to offer.

use crate::{BufferId, Error, Launch};

/// What runs the launches, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `cpu` or `cuda`.
    pub backend: &'static str,
    /// The device's own name.
    pub name: String,
    /// Compute capability such as `9.0`; on a CPU the vector extension in use.
    pub capability: String,
    /// Driver version; empty on a CPU.
    pub driver: String,
    /// SHA-256 of the PTX text loaded, hex; empty on a CPU.
    pub ptx_sha256: String,
}

/// Identity of a captured graph within a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphHandle(pub u32);

/// A device: memory, launches in order, capture.
///
/// [`crate::Stream`] checks arguments before it calls: launches are valid for their op's schema
/// and every view lies within its live buffer.
pub trait Backend {
    /// What this device is.
    fn info(&self) -> DeviceInfo;

    /// Takes memory for a buffer and fills it with [`crate::FRESH_BYTE`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Cuda`].
    fn allocate(&mut self, id: BufferId, name: &str, bytes: usize) -> Result<(), Error>;

    /// Makes a buffer in the memory of another one, from a byte of it on, and fills it with
    /// [`crate::FRESH_BYTE`]. The memory stays until all buffers in it are released.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    fn allocate_in(
        &mut self,
        id: BufferId,
        name: &str,
        bytes: usize,
        donor: (BufferId, usize),
    ) -> Result<(), Error>;

    /// Gives a buffer back, and its memory unless another one lies in it.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    fn release(&mut self, id: BufferId) -> Result<(), Error>;

    /// Address of a buffer on the device; on a CPU one that is made up, the same in every run. Buffers that
    /// share bytes have addresses that say so.
    fn address(&self, id: BufferId) -> Option<u64>;

    /// Copies bytes to a buffer, in stream order.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    fn upload(&mut self, id: BufferId, offset: usize, bytes: &[u8]) -> Result<(), Error>;

    /// Copies bytes from a buffer, after all earlier work of the stream.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    fn download(&mut self, id: BufferId, offset: usize, bytes: &mut [u8]) -> Result<(), Error>;

    /// Runs a launch; while capturing, adds it to the graph being captured and runs nothing.
    ///
    /// # Errors
    /// [`Error::Overlap`], [`Error::NoBuffer`], [`Error::Cuda`].
    fn launch(&mut self, launch: &Launch) -> Result<(), Error>;

    /// Runs a launch now, on a stream that no capture covers, after all work that was asked for before the
    /// capture in progress; and lets nothing asked for later overtake it.
    ///
    /// # Errors
    /// [`Error::NoBuffer`], [`Error::Cuda`].
    fn launch_aside(&mut self, launch: &Launch) -> Result<(), Error>;

    /// Starts a capture.
    ///
    /// # Errors
    /// [`Error::Capture`], [`Error::Cuda`].
    fn begin_capture(&mut self) -> Result<(), Error>;

    /// Ends a capture and makes an executable graph of it.
    ///
    /// # Errors
    /// [`Error::Capture`], [`Error::Cuda`].
    fn end_capture(&mut self) -> Result<GraphHandle, Error>;

    /// Runs all nodes of a graph.
    ///
    /// # Errors
    /// [`Error::Capture`] where there is no such graph, [`Error::Cuda`].
    fn launch_graph(&mut self, graph: GraphHandle) -> Result<(), Error>;

    /// Frees a graph.
    ///
    /// # Errors
    /// [`Error::Capture`] where there is no such graph, [`Error::Cuda`].
    fn destroy_graph(&mut self, graph: GraphHandle) -> Result<(), Error>;

    /// Waits for all work.
    ///
    /// # Errors
    /// [`Error::Cuda`], of this or of earlier work.
    fn synchronize(&mut self) -> Result<(), Error>;
}
