//! The stream as the model sees it: every launch, host write, host read, allocation and capture goes
//! through here, is passed on, and is logged where a trace is being recorded.
//!
//! A step's `before` snapshot is the last step's `after` plus the logged host writes; memory that no one
//! declared as state but that a step reads before writing it is found by analysis and captured when the
//! first launch that reads it is about to run.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_kernels as kernels;
use twinstep_kernels::{Buffer, BufferSpec, Graph, Launch, Role, Stream, View};
use twinstep_traces as traces;
use twinstep_traces::{
    ChangedChunks, Contents, GraphRecord, HostRead, HostWrite, Item, Phase, PointRecord, Program,
    RequestRecord, StepKind, StepRecord, Storage, TraceWriter,
};

use crate::convert;
use crate::error::RecordError;
use crate::ranges::Ranges;
use crate::sharing::Sharing;

/// A launch with its place in the model.
#[derive(Debug, Clone)]
pub(crate) struct Labelled {
    pub(crate) label: String,
    pub(crate) phase: Phase,
    pub(crate) launch: Launch,
}

/// A captured graph with the labels of its nodes.
pub(crate) struct LabelledGraph {
    graph: Graph,
    nodes: Vec<Labelled>,
}

/// Which step is being run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) kind: StepKind,
    pub(crate) request: u32,
    pub(crate) step: u32,
}

/// What was captured of one buffer at one point: pieces of whole chunks.
type Pieces = Vec<(u64, Vec<u8>)>;

/// A snapshot being collected.
struct Point {
    name: String,
    position: u32,
    covered: BTreeSet<kernels::BufferId>,
    pieces: BTreeMap<kernels::BufferId, Pieces>,
}

/// What is known of one buffer.
struct Tracked {
    bytes: usize,
    chunk_bytes: usize,
    role: Role,
    /// Once covered, later snapshots need only what changed.
    covered: bool,
    /// Written since the last snapshot that covered it.
    dirty: Ranges,
}

impl Tracked {
    /// Whether every snapshot of a step covers it.
    fn always_covered(&self) -> bool {
        matches!(self.role, Role::Table | Role::State | Role::Input | Role::Output)
    }
}

/// The log of the step in progress.
#[derive(Default)]
struct Log {
    items: Vec<Item>,
    writes: Vec<HostWrite>,
    reads: Vec<HostRead>,
    points: Vec<Point>,
    /// Bytes written whatever the values are, since the step began: reads of them are not live-in.
    written: BTreeMap<kernels::BufferId, Ranges>,
}

/// The recording side.
struct Recording<S: Storage> {
    writer: TraceWriter<S>,
    tracked: BTreeMap<kernels::BufferId, Tracked>,
    sharing: Sharing,
    log: Log,
}

/// A stream, recorded or not.
pub(crate) struct Tape<S: Storage> {
    stream: Stream,
    recording: Option<Recording<S>>,
    at: At,
    captured: Option<Vec<Labelled>>,
}

impl<S: Storage> Tape<S> {
    /// A tape that only passes on, or one that records into `writer`.
    pub(crate) fn new(stream: Stream, writer: Option<TraceWriter<S>>) -> Self {
        let recording = writer.map(|writer| Recording {
            writer,
            tracked: BTreeMap::new(),
            sharing: Sharing::default(),
            log: Log::default(),
        });
        Tape { stream, recording, at: At { kind: StepKind::Setup, request: 0, step: 0 }, captured: None }
    }

    /// Allocates a buffer; weights come with where their contents are from.
    pub(crate) fn allocate(
        &mut self,
        spec: BufferSpec,
        contents: Option<Contents>,
        chunk_bytes: usize,
    ) -> Result<Buffer, RecordError> {
        let buffer = self.stream.allocate(spec)?;
        self.allocated(&buffer, contents, chunk_bytes)?;
        Ok(buffer)
    }

    /// Allocates a buffer where another one lies, live or retired.
    pub(crate) fn allocate_in(
        &mut self,
        spec: BufferSpec,
        chunk_bytes: usize,
        donor: kernels::BufferId,
    ) -> Result<Buffer, RecordError> {
        let buffer = self.stream.allocate_in(spec, donor, 0)?;
        self.allocated(&buffer, None, chunk_bytes)?;
        if let Some(recording) = &mut self.recording {
            let donor_bytes = recording.tracked.get(&donor).map_or(0, |tracked| tracked.bytes);
            recording.sharing.add((buffer.id, buffer.bytes()), (donor, donor_bytes));
            recording.mark(buffer.id, 0, buffer.bytes());
        }
        Ok(buffer)
    }

    fn allocated(
        &mut self,
        buffer: &Buffer,
        contents: Option<Contents>,
        chunk_bytes: usize,
    ) -> Result<(), RecordError> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        let address = self.stream.address(buffer.id);
        let record = convert::buffer(buffer, contents, chunk_bytes, address);
        let id = recording.writer.add_buffer(&record)?;
        debug_assert_eq!(id.0, buffer.id.0, "both count allocations");
        recording.log.items.push(Item::Allocate { buffer: id });
        let (bytes, role) = (buffer.bytes(), buffer.role);
        let tracked = Tracked { bytes, chunk_bytes, role, covered: false, dirty: Ranges::default() };
        recording.tracked.insert(buffer.id, tracked);
        Ok(())
    }

    /// Gives a buffer back to a pool that keeps its memory. Graphs may still use it, so snapshots go on
    /// covering it.
    pub(crate) fn retire(&mut self, buffer: kernels::BufferId) -> Result<(), RecordError> {
        self.stream.retire(buffer)?;
        if let Some(recording) = &mut self.recording {
            recording.log.items.push(Item::Free { buffer: traces::BufferId(buffer.0) });
        }
        Ok(())
    }

    /// Gives a buffer back.
    pub(crate) fn free(&mut self, buffer: &Buffer) -> Result<(), RecordError> {
        self.stream.free(buffer.id)?;
        if let Some(recording) = &mut self.recording {
            recording.log.items.push(Item::Free { buffer: traces::BufferId(buffer.id.0) });
            recording.tracked.remove(&buffer.id);
        }
        Ok(())
    }

    /// Puts a weight's bytes in place. The trace refers to them instead of logging them.
    pub(crate) fn load(&mut self, view: &View, bytes: &[u8]) -> Result<(), RecordError> {
        Ok(self.stream.write(view, bytes)?)
    }

    /// Begins a step.
    pub(crate) fn begin(&mut self, at: At) {
        self.at = at;
    }

    /// A host write.
    pub(crate) fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), RecordError> {
        self.stream.write(view, bytes)?;
        if let Some(recording) = &mut self.recording {
            recording.log.writes.push(HostWrite {
                position: recording.log.items.len() as u32,
                buffer: traces::BufferId(view.buffer.0),
                offset: view.offset as u64,
                bytes: bytes.to_vec(),
            });
            recording.mark(view.buffer, view.offset, view.offset + bytes.len());
            recording.wrote(view.buffer, view.offset, view.offset + bytes.len());
        }
        Ok(())
    }

    /// A host write of values.
    pub(crate) fn write_values<T: bytemuck::NoUninit>(
        &mut self,
        view: &View,
        values: &[T],
    ) -> Result<(), RecordError> {
        self.write(view, bytemuck::cast_slice(values))
    }

    /// A host read; what is decided from it is said with [`Tape::decide`].
    pub(crate) fn read(&mut self, view: &View) -> Result<Vec<u8>, RecordError> {
        let bytes = self.stream.read(view)?;
        if let Some(recording) = &mut self.recording {
            recording.log.reads.push(HostRead {
                position: recording.log.items.len() as u32,
                buffer: traces::BufferId(view.buffer.0),
                offset: view.offset as u64,
                bytes: bytes.clone(),
                decision: String::new(),
            });
        }
        Ok(bytes)
    }

    /// What the host decided from its last read.
    pub(crate) fn decide(&mut self, decision: &str) {
        if let Some(read) = self.recording.as_mut().and_then(|r| r.log.reads.last_mut()) {
            decision.clone_into(&mut read.decision);
        }
    }

    /// Runs a launch or, during a capture, adds it as a node.
    pub(crate) fn launch(&mut self, launch: Labelled) -> Result<(), RecordError> {
        if let Some(nodes) = &mut self.captured {
            self.stream.launch(&launch.launch)?;
            nodes.push(launch);
            return Ok(());
        }
        if let Some(recording) = &mut self.recording {
            recording.prepare(&mut self.stream, std::slice::from_ref(&launch))?;
            recording.log.items.push(Item::Launch(convert::launch(&launch, 0)));
        }
        Ok(self.stream.launch(&launch.launch)?)
    }

    /// Runs a launch now, even during a capture: on a stream that is not captured.
    pub(crate) fn launch_aside(&mut self, launch: &Labelled) -> Result<(), RecordError> {
        if let Some(recording) = &mut self.recording {
            if self.captured.is_none() {
                recording.prepare(&mut self.stream, std::slice::from_ref(launch))?;
            } else {
                // Nothing can be read now, so all that it may write counts as written.
                for range in launch.launch.bound().iter().filter(|range| range.access.writes()) {
                    recording.mark(range.buffer, range.start, range.end);
                }
            }
            recording.log.items.push(Item::Launch(convert::launch(launch, 1)));
        }
        Ok(self.stream.launch_aside(&launch.launch)?)
    }

    /// Starts a capture.
    pub(crate) fn begin_capture(&mut self) -> Result<(), RecordError> {
        self.stream.begin_capture()?;
        self.captured = Some(Vec::new());
        Ok(())
    }

    /// Ends a capture. Nothing has run: whoever captures must launch.
    pub(crate) fn end_capture(&mut self, label: &str) -> Result<LabelledGraph, RecordError> {
        let graph = self.stream.end_capture()?;
        let nodes = self.captured.take().unwrap_or_default();
        if let Some(recording) = &mut self.recording {
            let items = nodes.iter().map(|node| Item::Launch(convert::launch(node, 0))).collect();
            let id = traces::GraphId(graph.id().0);
            let program = recording.writer.add_program(&Program { items })?;
            let captured_at = (self.at.request, self.at.step);
            let record = GraphRecord { id, label: label.to_owned(), program, edges: Vec::new(), captured_at };
            recording.writer.add_graph(&record)?;
            recording.log.items.push(Item::Capture { graph: id });
        }
        Ok(LabelledGraph { graph, nodes })
    }

    /// Runs a graph.
    pub(crate) fn launch_graph(&mut self, graph: &LabelledGraph) -> Result<(), RecordError> {
        if let Some(recording) = &mut self.recording {
            recording.prepare(&mut self.stream, &graph.nodes)?;
            recording
                .log
                .items
                .push(Item::GraphLaunch { graph: traces::GraphId(graph.graph.id().0), stream: 0 });
        }
        Ok(self.stream.launch_graph(&graph.graph)?)
    }

    /// Takes a snapshot of everything that a step's snapshots cover.
    pub(crate) fn point(&mut self, name: &str) -> Result<(), RecordError> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        let covered =
            recording.tracked.iter().filter(|(_, t)| t.always_covered()).map(|(&id, _)| id).collect();
        recording.capture(&mut self.stream, name, covered)
    }

    /// Takes a snapshot of what a graph is given: what it reads before writing it, weights apart.
    pub(crate) fn graph_before(&mut self, name: &str, graph: &LabelledGraph) -> Result<(), RecordError> {
        let mut written = BTreeSet::new();
        let mut given = BTreeSet::new();
        for node in &graph.nodes {
            for range in node.launch.bound() {
                if range.access.reads() && !written.contains(&range.buffer) {
                    given.insert(range.buffer);
                }
            }
            written.extend(node.launch.definite_writes().iter().map(|range| range.buffer));
        }
        self.capture_point(name, given)
    }

    /// Takes a snapshot of what a graph leaves: what it writes and no later node of it reads.
    pub(crate) fn graph_after(&mut self, name: &str, graph: &LabelledGraph) -> Result<(), RecordError> {
        let mut left = BTreeSet::new();
        for range in graph.nodes.iter().flat_map(|node| node.launch.bound()) {
            if range.access.writes() {
                left.insert(range.buffer);
            } else {
                left.remove(&range.buffer);
            }
        }
        self.capture_point(name, left)
    }

    fn capture_point(&mut self, name: &str, buffers: BTreeSet<kernels::BufferId>) -> Result<(), RecordError> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        let stored =
            |id: &kernels::BufferId| recording.tracked.get(id).is_some_and(|t| t.role != Role::Weight);
        let covered = buffers.into_iter().filter(stored).collect();
        recording.capture(&mut self.stream, name, covered)
    }

    /// Registers a request.
    pub(crate) fn request(&mut self, request: &RequestRecord) -> Result<(), RecordError> {
        if let Some(recording) = &mut self.recording {
            recording.writer.add_request(request)?;
        }
        Ok(())
    }

    /// Ends the step: writes its snapshots and records, and commits them.
    pub(crate) fn end(&mut self) -> Result<(), RecordError> {
        let at = self.at;
        self.recording.as_mut().map_or(Ok(()), |recording| recording.commit(at))
    }

    /// Closes the trace.
    pub(crate) fn finish(mut self) -> Result<Option<S>, RecordError> {
        self.stream.synchronize()?;
        self.recording.map(|r| r.writer.finish()).transpose().map_err(RecordError::from)
    }
}

impl<S: Storage> Recording<S> {
    /// Notes bytes that may have changed since the last snapshot.
    fn mark(&mut self, buffer: kernels::BufferId, start: usize, end: usize) {
        for (buffer, start, end) in self.sharing.names(buffer, start, end) {
            if let Some(tracked) = self.tracked.get_mut(&buffer) {
                tracked.dirty.insert(start, end);
            }
        }
    }

    /// Notes bytes that were written whatever the values are.
    fn wrote(&mut self, buffer: kernels::BufferId, start: usize, end: usize) {
        for (buffer, start, end) in self.sharing.names(buffer, start, end) {
            self.log.written.entry(buffer).or_default().insert(start, end);
        }
    }

    /// Before launches run: captures what they read and nobody declared, and notes what they write.
    fn prepare(&mut self, stream: &mut Stream, launches: &[Labelled]) -> Result<(), RecordError> {
        // What shares memory is captured before any of its names is used: a write through one of them would
        // change what the others held when the step began.
        for view in launches.iter().flat_map(|labelled| labelled.launch.views()) {
            for buffer in self.sharing.group(view.buffer) {
                self.capture_late(stream, buffer)?;
            }
        }
        for Labelled { launch, .. } in launches {
            let definite = launch.definite_writes();
            for range in launch.bound() {
                // What a partial write leaves alone is a read in all but name.
                let read = range.access.reads() || !definite.contains(&range);
                let known = self.log.written.get(&range.buffer);
                if read && !known.is_some_and(|w| w.contains(range.start, range.end)) {
                    self.capture_late(stream, range.buffer)?;
                }
            }
            for range in self.writes(stream, launch)? {
                self.mark(range.buffer, range.start, range.end);
            }
            for range in definite {
                self.wrote(range.buffer, range.start, range.end);
            }
        }
        Ok(())
    }

    /// Ranges that a launch may write: those touched where their index operands hold their values
    /// already, else all that is bound.
    fn writes(&self, stream: &mut Stream, launch: &Launch) -> Result<Vec<kernels::Range>, RecordError> {
        let partial =
            launch.definite_writes().len() < launch.bound().iter().filter(|r| r.access.writes()).count();
        let settled = partial
            && launch.op().schema().params.iter().zip(launch.views()).all(|(param, view)| {
                let index = !param.partial && !param.access.writes() && view.dtype != kernels::DType::F32;
                !index || self.tracked.get(&view.buffer).is_none_or(|t| t.role == Role::Input)
            });
        let ranges = if settled { stream.touched(launch)? } else { launch.bound() };
        Ok(ranges.into_iter().filter(|r| r.access.writes()).collect())
    }

    /// Adds a buffer to the step's `before` snapshot as it still is.
    fn capture_late(&mut self, stream: &mut Stream, buffer: kernels::BufferId) -> Result<(), RecordError> {
        let Some(tracked) = self.tracked.get_mut(&buffer) else { return Ok(()) };
        let Some(before) = self.log.points.first_mut() else { return Ok(()) };
        if tracked.role == Role::Weight || before.covered.contains(&buffer) {
            return Ok(());
        }
        let bytes = stream.read_range(buffer, 0, tracked.bytes)?;
        before.covered.insert(buffer);
        before.pieces.insert(buffer, vec![(0, bytes)]);
        tracked.covered = true;
        tracked.dirty.clear();
        Ok(())
    }

    fn capture(
        &mut self,
        stream: &mut Stream,
        name: &str,
        covered: BTreeSet<kernels::BufferId>,
    ) -> Result<(), RecordError> {
        let mut pieces = BTreeMap::new();
        for &id in &covered {
            let Some(tracked) = self.tracked.get_mut(&id) else { continue };
            if !tracked.covered {
                tracked.dirty.insert(0, tracked.bytes);
            }
            let mut found = Pieces::new();
            for (start, end) in tracked.dirty.chunks(tracked.chunk_bytes, tracked.bytes).iter() {
                found
                    .push(((start / tracked.chunk_bytes) as u64, stream.read_range(id, start, end - start)?));
            }
            tracked.covered = true;
            tracked.dirty.clear();
            pieces.insert(id, found);
        }
        let position = self.log.items.len() as u32;
        self.log.points.push(Point { name: name.to_owned(), position, covered, pieces });
        Ok(())
    }

    fn commit(&mut self, at: At) -> Result<(), RecordError> {
        let log = std::mem::take(&mut self.log);
        let program = self.writer.add_program(&Program { items: log.items })?;
        let mut points = Vec::new();
        for point in log.points {
            let covered: Vec<_> = point.covered.iter().map(|id| traces::BufferId(id.0)).collect();
            let mut changed = Vec::new();
            for (id, pieces) in &point.pieces {
                for (first_chunk, bytes) in pieces {
                    let buffer = traces::BufferId(id.0);
                    changed.push(ChangedChunks { buffer, first_chunk: *first_chunk, bytes });
                }
            }
            let snapshot = self.writer.snapshot(&covered, &changed, &[])?;
            points.push(PointRecord { point: point.name, position: point.position, snapshot });
        }
        let step = StepRecord {
            kind: at.kind,
            request: at.request,
            step: at.step,
            rank: 0,
            program,
            host_writes: log.writes,
            host_reads: log.reads,
            points,
        };
        Ok(self.writer.commit_step(&step)?)
    }
}
