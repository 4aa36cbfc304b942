//! The CPU backend.

mod memory;

use std::collections::HashMap;

use crate::ops::Operands;
use crate::{Backend, BufferId, DeviceInfo, Error, FRESH_BYTE, GraphHandle, Launch};
use memory::Memory;

/// Which form of each op the CPU backend runs. Both compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuForm {
    /// The vectorised form, on all cores.
    #[default]
    Vector,
    /// The naive form, which is the specification.
    Naive,
}

/// Runs launches on the CPU. A captured graph owns copies of its launches, so nothing that changes
/// after the capture reaches it but the contents of buffers.
pub struct CpuBackend {
    form: CpuForm,
    memory: Memory,
    capture: Option<Vec<Launch>>,
    graphs: HashMap<u32, Vec<Launch>>,
    next_graph: u32,
}

impl CpuBackend {
    /// A backend that runs the vectorised forms.
    ///
    /// # Errors
    /// [`Error::FloatEnvironment`].
    pub fn new() -> Result<Self, Error> {
        CpuBackend::with_form(CpuForm::Vector)
    }

    /// A backend that runs the given forms.
    ///
    /// # Errors
    /// [`Error::FloatEnvironment`].
    pub fn with_form(form: CpuForm) -> Result<Self, Error> {
        Ok(CpuBackend {
            form,
            memory: Memory::default(),
            capture: None,
            graphs: HashMap::new(),
            next_graph: 0,
        })
    }

    fn run(memory: &mut Memory, form: CpuForm, launch: &Launch) -> Result<(), Error> {
        let definition = launch.op().definition();
        let body = match form {
            CpuForm::Vector => definition.vector,
            CpuForm::Naive => definition.naive,
        };
        memory.with_operands(launch, |slots| body(&mut Operands::new(launch, slots)))
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            backend: "cpu",
            name: std::env::consts::ARCH.to_owned(),
            capability: String::new(),
            driver: String::new(),
            ptx_sha256: String::new(),
        }
    }

    fn allocate(&mut self, id: BufferId, name: &str, bytes: usize) -> Result<(), Error> {
        self.memory.allocate(id, name, bytes, FRESH_BYTE)
    }

    fn release(&mut self, id: BufferId) -> Result<(), Error> {
        self.memory.release(id)
    }

    fn address(&self, _: BufferId) -> Option<u64> {
        None
    }

    fn upload(&mut self, id: BufferId, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.memory.bytes_mut(id, offset, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, id: BufferId, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.copy_from_slice(self.memory.bytes(id, offset, bytes.len())?);
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Error> {
        match &mut self.capture {
            Some(nodes) => {
                nodes.push(launch.clone());
                Ok(())
            }
            None => CpuBackend::run(&mut self.memory, self.form, launch),
        }
    }

    fn begin_capture(&mut self) -> Result<(), Error> {
        self.capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&mut self) -> Result<GraphHandle, Error> {
        let nodes = self.capture.take().ok_or(Error::Capture("no capture is in progress"))?;
        let handle = self.next_graph;
        self.next_graph += 1;
        self.graphs.insert(handle, nodes);
        Ok(GraphHandle(handle))
    }

    fn launch_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
        let nodes = self.graphs.get(&graph.0).ok_or(Error::Capture("no such graph"))?;
        nodes.iter().try_for_each(|launch| CpuBackend::run(&mut self.memory, self.form, launch))
    }

    fn destroy_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
        self.graphs.remove(&graph.0).map(drop).ok_or(Error::Capture("no such graph"))
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
