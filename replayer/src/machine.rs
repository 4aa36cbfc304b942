//! Executes the launches of a trace again, on a stream of its own.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_kernels as kernels;
use twinstep_kernels::{Access, BufferSpec, Launch, Op, Scalar, Stream, View};
use twinstep_traces as traces;
use twinstep_traces::{BufferId, Item, LaunchRecord, ScalarValue, Trace};

use crate::ReplayError;
use crate::weights::{Loader, WeightSource};

/// Bytes of all buffers together that are allocated for a trace: one from a stranger may declare any size.
const MEMORY_MAX: u64 = 8 << 30;

/// Buffers that captured graphs use: their memory outlives them.
fn bound_by_graphs(trace: &Trace) -> Result<BTreeSet<BufferId>, ReplayError> {
    let mut bound = BTreeSet::new();
    for graph in trace.graphs() {
        bound.extend(trace.program(graph.program)?.items.iter().flat_map(Item::buffers));
    }
    Ok(bound)
}

pub(crate) fn dtype(dtype: traces::DType) -> kernels::DType {
    match dtype {
        traces::DType::F32 => kernels::DType::F32,
        traces::DType::F16 => kernels::DType::F16,
        traces::DType::Bf16 => kernels::DType::Bf16,
        traces::DType::I64 => kernels::DType::I64,
        traces::DType::I32 => kernels::DType::I32,
        traces::DType::U32 => kernels::DType::U32,
        traces::DType::U64 => kernels::DType::U64,
        traces::DType::U8 => kernels::DType::U8,
        traces::DType::Bool => kernels::DType::Bool,
    }
}

fn axes(axes: &[u64]) -> Result<Vec<usize>, ReplayError> {
    let convert =
        |&n: &u64| usize::try_from(n).map_err(|_| ReplayError::Opaque(format!("an axis of {n} elements")));
    axes.iter().map(convert).collect()
}

fn buffer_record(trace: &Trace, id: BufferId) -> Result<&traces::BufferRecord, ReplayError> {
    trace.buffer(id).ok_or_else(|| ReplayError::Opaque(format!("buffer {} is not in the trace", id.0)))
}

/// A stream with the buffers of a trace.
pub(crate) struct Machine<'a> {
    trace: &'a Trace,
    stream: Stream,
    loader: Loader<'a>,
    ids: BTreeMap<BufferId, kernels::Buffer>,
    /// Buffers of other traces, by the identity that they were given here.
    imported: u32,
    /// Buffers that get memory of their own though they were recorded sharing it.
    apart: BTreeSet<BufferId>,
    bytes: u64,
    /// Buffers with memory of their own, by recorded address.
    placed: BTreeMap<u64, BufferId>,
    /// Buffers that captured graphs use, once that was asked.
    bound: Option<BTreeSet<BufferId>>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(trace: &'a Trace, weights: &'a dyn WeightSource) -> Result<Self, ReplayError> {
        let stream = Stream::new(Box::new(kernels::CpuBackend::new()?));
        Ok(Machine {
            trace,
            stream,
            loader: Loader::new(weights),
            ids: BTreeMap::new(),
            imported: 0,
            apart: BTreeSet::new(),
            bytes: 0,
            placed: BTreeMap::new(),
            bound: None,
        })
    }

    /// Allocates a buffer as recorded: fresh, or with its weights.
    pub(crate) fn allocate(&mut self, id: BufferId) -> Result<(), ReplayError> {
        let trace = self.trace;
        // A buffer that a graph binds outlives its release.
        if self.ids.contains_key(&id) {
            return Ok(());
        }
        self.place(id, buffer_record(trace, id)?)
    }

    /// Allocates a buffer of another trace, under an identity that this trace does not use.
    pub(crate) fn import(&mut self, other: &Trace, id: BufferId) -> Result<BufferId, ReplayError> {
        self.imported += 1;
        let local = BufferId(u32::MAX - self.imported);
        // Its address means nothing among those of this trace.
        let record = traces::BufferRecord { address: None, ..buffer_record(other, id)?.clone() };
        self.place(local, &record)?;
        Ok(local)
    }

    /// From now on these are allocated in memory of their own.
    pub(crate) fn keep_apart(&mut self, ids: &[BufferId]) {
        self.apart.extend(ids);
    }

    fn place(&mut self, id: BufferId, record: &traces::BufferRecord) -> Result<(), ReplayError> {
        self.bytes = self.bytes.saturating_add(record.bytes);
        if self.bytes > MEMORY_MAX {
            return Err(ReplayError::Opaque(format!("its buffers need more than {} GiB", MEMORY_MAX >> 30)));
        }
        let role = kernels::Role::Scratch;
        let spec = BufferSpec {
            name: record.name.clone(),
            dtype: dtype(record.dtype),
            shape: axes(&record.shape)?,
            role,
        };
        // What is apart lends its memory to nobody: the others go on sharing what they share.
        let apart = self.apart.contains(&id);
        let buffer = match self.host(record).filter(|_| !apart) {
            Some((donor, offset)) => self.stream.allocate_in(spec, donor, offset)?,
            None => {
                self.placed.extend(record.address.filter(|_| !apart).map(|address| (address, id)));
                self.stream.allocate(spec)?
            }
        };
        if let Some(contents) = &record.contents {
            let bytes = self.loader.load(contents, record.bytes)?;
            self.stream.write(&View::whole(&buffer), &bytes)?;
        }
        self.ids.insert(id, buffer);
        Ok(())
    }

    /// The buffer that holds the memory which a recorded buffer lay in, and where in it that was.
    fn host(&self, record: &traces::BufferRecord) -> Option<(kernels::BufferId, usize)> {
        let address = record.address?;
        let (start, id) = self.placed.range(..=address).next_back()?;
        let (offset, host) = (address - start, self.ids.get(id)?);
        let fits = record.bytes > 0 && offset.checked_add(record.bytes)? <= host.bytes() as u64;
        Some((host.id, usize::try_from(offset).ok().filter(|_| fits)?))
    }

    /// Whether a captured graph uses a buffer.
    fn bound_by_a_graph(&mut self, id: BufferId) -> Result<bool, ReplayError> {
        if self.bound.is_none() {
            self.bound = Some(bound_by_graphs(self.trace)?);
        }
        Ok(self.bound.as_ref().is_some_and(|bound| bound.contains(&id)))
    }

    /// Frees a buffer; one that a captured graph uses keeps its memory, as the graph may still be launched.
    pub(crate) fn free(&mut self, id: BufferId) -> Result<(), ReplayError> {
        if self.bound_by_a_graph(id)? {
            return Ok(());
        }
        let address = self.trace.buffer(id).and_then(|record| record.address);
        if let Some(address) = address.filter(|address| self.placed.get(address) == Some(&id)) {
            self.placed.remove(&address);
        }
        let Some(buffer) = self.ids.remove(&id) else {
            return Err(ReplayError::Opaque(format!("buffer {} is freed but not allocated", id.0)));
        };
        self.bytes = self.bytes.saturating_sub(buffer.bytes() as u64);
        Ok(self.stream.free(buffer.id)?)
    }

    fn buffer(&self, id: BufferId) -> Result<&kernels::Buffer, ReplayError> {
        self.ids
            .get(&id)
            .ok_or_else(|| ReplayError::Opaque(format!("buffer {} is used but not allocated", id.0)))
    }

    pub(crate) fn write(&mut self, id: BufferId, offset: u64, bytes: &[u8]) -> Result<(), ReplayError> {
        let view = View::dense(self.buffer(id)?.id, kernels::DType::U8, offset as usize, &[bytes.len()]);
        Ok(self.stream.write(&view, bytes)?)
    }

    pub(crate) fn read(&mut self, id: BufferId, offset: u64, len: usize) -> Result<Vec<u8>, ReplayError> {
        let id = self.buffer(id)?.id;
        Ok(self.stream.read_range(id, offset as usize, len)?)
    }

    pub(crate) fn whole(&mut self, id: BufferId) -> Result<Vec<u8>, ReplayError> {
        let len = self.buffer(id)?.bytes();
        self.read(id, 0, len)
    }

    /// A recorded launch as one that can run here.
    pub(crate) fn launch(&self, record: &LaunchRecord) -> Result<Launch, ReplayError> {
        let op = Op::find(&record.op, record.version)?;
        let mut views = Vec::new();
        // A record's own words decide what is shown and patched: they must not say otherwise than the op.
        for (view, param) in record.views.iter().zip(op.schema().params) {
            let access = match param.access {
                Access::Read => traces::Access::Read,
                Access::Write => traces::Access::Write,
                Access::ReadWrite => traces::Access::ReadWrite,
            };
            if view.name != param.name || view.access != access {
                return Err(ReplayError::Opaque(format!(
                    "operand `{}` ({:?}) of `{}`, which has `{}` ({access:?}) there",
                    view.name.escape_debug(),
                    view.access,
                    record.op,
                    param.name
                )));
            }
        }
        for view in &record.views {
            let buffer = self.buffer(view.buffer)?.id;
            let offset = usize::try_from(view.offset)
                .map_err(|_| ReplayError::Opaque("an offset too great".to_owned()))?;
            views.push(View {
                buffer,
                dtype: dtype(view.dtype),
                offset,
                shape: axes(&view.shape)?,
                strides: axes(&view.strides)?,
            });
        }
        let scalar = |value: ScalarValue| match value {
            ScalarValue::U32(value) => Ok(Scalar::U32(value)),
            ScalarValue::F32Bits(bits) => Ok(Scalar::F32(f32::from_bits(bits))),
            other => Err(ReplayError::Opaque(format!("scalar {other:?} of `{}`", record.op))),
        };
        let scalars = record.scalars.iter().map(|s| scalar(s.value)).collect::<Result<_, _>>()?;
        Ok(Launch::new(op, views, scalars)?)
    }

    /// The recorded buffer that one of the stream stands for.
    pub(crate) fn recorded(&self, id: kernels::BufferId) -> BufferId {
        let found = self.ids.iter().find(|(_, buffer)| buffer.id == id);
        found.map_or(BufferId(u32::MAX), |(&id, _)| id)
    }

    pub(crate) fn run(&mut self, launch: &Launch) -> Result<(), ReplayError> {
        Ok(self.stream.launch(launch)?)
    }

    /// Ranges of recorded buffers that a launch would read and write now.
    pub(crate) fn touched(
        &mut self,
        launch: &Launch,
    ) -> Result<Vec<(BufferId, u64, u64, Access)>, ReplayError> {
        let back: BTreeMap<kernels::BufferId, BufferId> =
            self.ids.iter().map(|(&id, b)| (b.id, id)).collect();
        let ranges = self.stream.touched(launch)?;
        Ok(ranges.iter().map(|r| (back[&r.buffer], r.start as u64, r.end as u64, r.access)).collect())
    }
}
