//! The CPU backend.

use std::collections::HashMap;

use super::extension::Extension;
use super::float_environment;
use super::memory::Memory;
use super::processor::Processor;
use crate::ops::Operands;
use crate::{Backend, BufferId, DeviceInfo, Error, FRESH_BYTE, GraphHandle, Launch};

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
    processor: Processor,
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
        CpuBackend::make(form, Extension::best())
    }

    /// A backend that runs the vectorised forms with the given extension.
    ///
    /// # Errors
    /// [`Error::FloatEnvironment`].
    pub fn with_extension(extension: Extension) -> Result<Self, Error> {
        CpuBackend::make(CpuForm::Vector, extension)
    }

    fn make(form: CpuForm, extension: Extension) -> Result<Self, Error> {
        // Before the pool is made: its threads would inherit what is wrong with this one.
        float_environment::check()?;
        let processor = Processor::new(extension);
        processor.workers().check_float_environment()?;
        Ok(CpuBackend {
            form,
            processor,
            memory: Memory::default(),
            capture: None,
            graphs: HashMap::new(),
            next_graph: 0,
        })
    }
}

/// Runs one launch. The calling thread may be another than the one that made the backend, or have been
/// changed since, so its floating-point environment is looked at again; that costs nanoseconds.
fn run(memory: &mut Memory, form: CpuForm, processor: Processor, launch: &Launch) -> Result<(), Error> {
    float_environment::check()?;
    let definition = launch.op().definition();
    memory.with_operands(launch, |slots| {
        let mut operands = Operands::new(launch, slots);
        match (form, definition.vector) {
            (CpuForm::Vector, Some(vector)) => vector(&mut operands, processor),
            _ => (definition.naive)(&mut operands),
        }
    })
}

/// The processor's name: on Linux `model name` of /proc/cpuinfo where there is one.
fn processor_name() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.filter(|name| !name.is_empty()).unwrap_or(std::env::consts::ARCH).to_owned()
}

impl Backend for CpuBackend {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            backend: "cpu",
            name: processor_name(),
            capability: match self.form {
                CpuForm::Vector => self.processor.extension().name().to_owned(),
                CpuForm::Naive => "naive".to_owned(),
            },
            driver: String::new(),
            ptx_sha256: String::new(),
        }
    }

    fn allocate(&mut self, id: BufferId, name: &str, bytes: usize) -> Result<(), Error> {
        self.memory.allocate(id, name, bytes, FRESH_BYTE)
    }

    fn allocate_in(
        &mut self,
        id: BufferId,
        _: &str,
        bytes: usize,
        donor: (BufferId, usize),
    ) -> Result<(), Error> {
        self.memory.allocate_in(id, bytes, donor, FRESH_BYTE)
    }

    fn release(&mut self, id: BufferId) -> Result<(), Error> {
        self.memory.release(id)
    }

    fn address(&self, id: BufferId) -> Option<u64> {
        self.memory.address(id)
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
            None => run(&mut self.memory, self.form, self.processor, launch),
        }
    }

    fn launch_aside(&mut self, launch: &Launch) -> Result<(), Error> {
        run(&mut self.memory, self.form, self.processor, launch)
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
        nodes.iter().try_for_each(|launch| run(&mut self.memory, self.form, self.processor, launch))
    }

    fn destroy_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
        self.graphs.remove(&graph.0).map(drop).ok_or(Error::Capture("no such graph"))
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
