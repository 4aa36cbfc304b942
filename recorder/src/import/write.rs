//! A plan, carried out: dumps in, a trace out, an array at a time.

use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use twinstep_traces::{
    BufferId, BufferRecord, ChangedChunks, FileStorage, Item, PointRecord, Program, RequestRecord, RunRecord,
    SnapshotId, StepKind, StepRecord, TraceWriter, WriteError,
};

use super::dump::Dump;
use super::error::ImportError;
use super::folder::Folder;
use super::place::passing;
use super::plan::{Plan, PlannedArray, PlannedBuffer, PlannedStep};

/// Bytes of a chunk of every buffer.
const CHUNK_BYTES: u32 = 4096;

/// Bytes of arrays that are held before they are handed to the writer.
const HELD_BYTES_MAX: usize = 256 << 20;

/// What is said of every step: nothing of what ran is in a dump.
const NOT_RECORDED: &str = "what ran in this step (it was imported from dumps)";

/// What is said of the time before the first step.
const NOT_KNOWN_BEFORE: &str = "what ran before the first step (it was imported from dumps)";

/// A trace under a passing name, whole and synced.
pub(super) struct Written {
    pub(super) file: NamedTempFile,
    pub(super) bytes: u64,
}

/// Writes a trace beside `target`, to be renamed once all is well.
///
/// # Errors
/// A dump cannot be read, or the trace not be written; nothing is left then.
pub(super) fn write(
    folder: &Folder,
    plan: &Plan,
    run: &RunRecord,
    target: &Path,
    progress: &mut dyn FnMut(),
) -> Result<Written, ImportError> {
    let failed = |e: std::io::Error| ImportError::Output { path: target.into(), what: e.to_string() };
    let file = passing(target).map_err(failed)?;
    let storage = FileStorage::new(file.as_file().try_clone().map_err(failed)?);
    let wrong = |e: WriteError| ImportError::output(target, e);
    let mut writing = Writing {
        target: target.into(),
        writer: TraceWriter::new(storage, run).map_err(wrong)?,
        folder,
        plan,
        ids: Vec::new(),
        open: None,
    };
    writing.set_up()?;
    let mut requests = plan.requests.iter().peekable();
    for step in &plan.steps {
        if let Some(request) = requests.next_if(|r| r.request == step.request) {
            writing.request(request)?;
        }
        writing.step(step)?;
        progress();
    }
    writing.writer.finish().map_err(wrong)?;
    file.as_file().sync_all().map_err(failed)?;
    let bytes = file.as_file().metadata().map_err(failed)?.len();
    Ok(Written { file, bytes })
}

struct Writing<'a> {
    target: PathBuf,
    writer: TraceWriter<FileStorage>,
    folder: &'a Folder,
    plan: &'a Plan,
    /// Of the plan's buffers.
    ids: Vec<BufferId>,
    /// The file that was read last.
    open: Option<(usize, Dump)>,
}

impl Writing<'_> {
    fn wrong(&self, error: WriteError) -> ImportError {
        ImportError::output(&self.target, error)
    }

    /// All buffers, and a record before the first request that allocates the first of each name.
    fn set_up(&mut self) -> Result<(), ImportError> {
        let mut items = Vec::new();
        for buffer in &self.plan.buffers {
            if let Some(dtype) = buffer.opaque.as_ref().filter(|_| buffer.generation == 0) {
                let text =
                    format!("{} is {dtype}: stored as bytes, the last axis is one element", buffer.name);
                items.push(Item::Mark { text });
            }
            let added = self.writer.add_buffer(&record(buffer));
            self.ids.push(added.map_err(|e| self.wrong(e))?);
        }
        let first = self.plan.buffers.iter().zip(&self.ids).filter(|(buffer, _)| buffer.generation == 0);
        items.extend(first.map(|(_, &buffer)| Item::Allocate { buffer }));
        items.push(Item::Gap { reason: NOT_KNOWN_BEFORE.to_owned() });
        let program = self.writer.add_program(&Program { items }).map_err(|e| self.wrong(e))?;
        let record = StepRecord {
            kind: StepKind::Setup,
            request: 0,
            step: 0,
            rank: self.plan.rank,
            program,
            host_writes: vec![],
            host_reads: vec![],
            points: vec![],
        };
        self.writer.commit_step(&record).map_err(|e| self.wrong(e))
    }

    fn request(&mut self, request: &RequestRecord) -> Result<(), ImportError> {
        self.writer.add_request(request).map_err(|e| self.wrong(e))
    }

    fn step(&mut self, step: &PlannedStep) -> Result<(), ImportError> {
        let mut items: Vec<Item> = step.missing.iter().cloned().map(|reason| Item::Gap { reason }).collect();
        items.extend(step.allocated.iter().map(|&buffer| Item::Allocate { buffer: self.ids[buffer] }));
        // Of what ran between two points nothing is known either.
        let gap = || Item::Gap { reason: NOT_RECORDED.to_owned() };
        let mut positions = Vec::new();
        for (point, _) in &step.points {
            if point != "step.before" {
                items.push(gap());
            }
            positions.push(items.len() as u32);
        }
        if step.points.iter().all(|(point, _)| point == "step.before") {
            items.push(gap());
        }
        let program = self.writer.add_program(&Program { items }).map_err(|e| self.wrong(e))?;
        let mut points = Vec::new();
        for ((point, arrays), position) in step.points.iter().zip(positions) {
            let snapshot = self.snapshot(arrays)?;
            points.push(PointRecord { point: point.clone(), position, snapshot });
        }
        let record = StepRecord {
            kind: step.kind,
            request: step.request,
            step: step.step,
            rank: self.plan.rank,
            program,
            host_writes: vec![],
            host_reads: vec![],
            points,
        };
        self.writer.commit_step(&record).map_err(|e| self.wrong(e))
    }

    /// The snapshot of a point. Where its arrays are large, snapshots that no step refers to take them on
    /// the way, so that no more than one array and [`HELD_BYTES_MAX`] are in memory.
    fn snapshot(&mut self, arrays: &[PlannedArray]) -> Result<SnapshotId, ImportError> {
        let mut held: Vec<(BufferId, Vec<u8>)> = Vec::new();
        let mut covered = Vec::new();
        let mut bytes = 0;
        for array in arrays {
            let id = self.ids[array.buffer];
            let content = self.read(array.array)?;
            bytes += content.len();
            covered.push(id);
            held.push((id, content));
            if bytes > HELD_BYTES_MAX {
                let ids: Vec<BufferId> = held.iter().map(|(id, _)| *id).collect();
                self.take(&ids, &held)?;
                held.clear();
                bytes = 0;
            }
        }
        self.take(&covered, &held)
    }

    fn take(
        &mut self,
        covered: &[BufferId],
        held: &[(BufferId, Vec<u8>)],
    ) -> Result<SnapshotId, ImportError> {
        let filled = held.iter().filter(|(_, bytes)| !bytes.is_empty());
        let changed: Vec<ChangedChunks<'_>> =
            filled.map(|(buffer, bytes)| ChangedChunks { buffer: *buffer, first_chunk: 0, bytes }).collect();
        self.writer.snapshot(covered, &changed, &[]).map_err(|e| self.wrong(e))
    }

    fn read(&mut self, array: usize) -> Result<Vec<u8>, ImportError> {
        let located = &self.folder.arrays[array];
        let source = &self.folder.files[located.file];
        let mut dump = match self.open.take() {
            Some((file, dump)) if file == located.file => dump,
            _ => Dump::open(&source.path, source.format)?,
        };
        let bytes = dump.read(&located.array)?;
        self.open = Some((located.file, dump));
        Ok(bytes)
    }
}

fn record(buffer: &PlannedBuffer) -> BufferRecord {
    let bytes = buffer.shape.iter().product::<u64>() * buffer.dtype.size();
    BufferRecord {
        name: buffer.name.clone(),
        generation: buffer.generation,
        dtype: buffer.dtype,
        shape: buffer.shape.clone(),
        role: buffer.role,
        bytes,
        chunk_bytes: CHUNK_BYTES,
        address: None,
        contents: None,
    }
}
