//! One trace file: what the writer says, in the file's own numbers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use twinstep_traces::{
    AuditRange, BufferId, BufferRecord, ChangedChunks, FileStorage, GraphId, GraphRecord, Item, PointRecord,
    Program, RequestRecord, RunRecord, SnapshotId, StepKind, StepRecord, TraceWriter, WriteError,
};

use super::draft::Point;
use crate::process;
use crate::settings::Settings;
use crate::snapshot::{Changed, Ticket};

/// A graph, before its program has a number.
#[derive(Debug, Clone)]
pub struct GraphDraft {
    pub id: GraphId,
    pub label: String,
    pub program: Program,
    pub edges: Vec<(u32, u32)>,
    pub captured_at: (u32, u32),
}

/// A step, before its program and its snapshots have numbers.
#[derive(Debug, Clone)]
pub struct Step {
    pub kind: StepKind,
    pub request: u32,
    pub step: u32,
    pub rank: u32,
    pub items: Vec<Item>,
    pub points: Vec<Point>,
}

/// See the module.
pub struct Recording {
    trace: TraceWriter<FileStorage>,
    /// Snapshots that no step has named yet.
    snapshots: HashMap<Ticket, SnapshotId>,
    steps: u64,
}

impl Recording {
    /// Begins a file.
    ///
    /// # Errors
    /// As [`TraceWriter::create`].
    pub fn create(path: &Path, run: &RunRecord, overwrite: bool) -> Result<Self, WriteError> {
        let trace = TraceWriter::create(path, run, overwrite)?;
        Ok(Recording { trace, snapshots: HashMap::new(), steps: 0 })
    }

    pub fn declare(&mut self, record: &BufferRecord) -> Result<(), WriteError> {
        self.trace.add_buffer(record).map(drop)
    }

    pub fn request(&mut self, request: &RequestRecord) -> Result<(), WriteError> {
        self.trace.add_request(request)
    }

    pub fn graph(&mut self, graph: &GraphDraft) -> Result<(), WriteError> {
        let program = self.trace.add_program(&graph.program)?;
        self.trace.add_graph(&GraphRecord {
            id: graph.id,
            label: graph.label.clone(),
            program,
            edges: graph.edges.clone(),
            captured_at: graph.captured_at,
        })
    }

    pub fn snapshot(
        &mut self,
        ticket: Ticket,
        covered: &[BufferId],
        changed: &[Changed],
        audited: &[AuditRange],
    ) -> Result<(), WriteError> {
        let changed: Vec<ChangedChunks<'_>> = changed
            .iter()
            .map(|c| ChangedChunks { buffer: c.buffer, first_chunk: c.first_chunk, bytes: &c.bytes })
            .collect();
        let snapshot = self.trace.snapshot(covered, &changed, audited)?;
        self.snapshots.insert(ticket, snapshot);
        Ok(())
    }

    pub fn step(&mut self, step: &Step) -> Result<(), WriteError> {
        let program = self.trace.add_program(&Program { items: step.items.clone() })?;
        let points = step.points.iter().filter_map(|(point, position, ticket)| {
            let snapshot = *self.snapshots.get(ticket)?;
            Some(PointRecord { point: point.clone(), position: *position, snapshot })
        });
        let points = points.collect();
        let &Step { kind, request, step: number, rank, .. } = step;
        self.trace.commit_step(&StepRecord {
            kind,
            request,
            step: number,
            rank,
            program,
            host_writes: Vec::new(),
            host_reads: Vec::new(),
            points,
        })?;
        // Snapshots of later steps may have arrived: those that this step's last one precedes stay.
        if let Some(last) = step.points.iter().map(|(.., ticket)| *ticket).max() {
            self.snapshots.retain(|ticket, _| *ticket > last);
        }
        self.steps += u64::from(kind != StepKind::Setup);
        Ok(())
    }

    /// Steps written, set-up not counted.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub fn bytes(&self) -> u64 {
        self.trace.bytes_written()
    }

    pub fn finish(self) -> Result<(), WriteError> {
        self.trace.finish().map(drop)
    }
}

/// Begins the trace of this process under the first of its names that is free, or that an older file has which may
/// be replaced. The name that the user gave is for the first process that has the device do something: helpers which
/// look at the driver before are not what the user wants to see.
///
/// # Errors
/// The last name is refused as well.
pub(super) fn create(settings: &Settings, run: &RunRecord) -> Result<(PathBuf, Recording), WriteError> {
    let pid = std::process::id();
    let mut suffixes = match settings.rank {
        Some(rank) => vec![format!(".rank{rank}"), format!(".rank{rank}.{pid}")],
        None if process::first(settings).is_some_and(|first| first != pid) => vec![format!(".{pid}")],
        None => vec![String::new(), format!(".{pid}")],
    };
    // A process that records twice, or a process number that was used before.
    suffixes.extend((2..10).map(|n| format!(".{pid}.{n}")));
    let mut refused = None;
    for suffix in suffixes {
        let path = named(&settings.out, &suffix);
        match Recording::create(&path, run, may_replace(&path, settings.replace_before)) {
            Ok(recording) => return Ok((path, recording)),
            Err(error @ (WriteError::Exists { .. } | WriteError::InUse { .. })) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or(WriteError::Exists { path: settings.out.clone() }))
}

/// `RUN.twin` with a suffix before its extension.
fn named(out: &Path, suffix: &str) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let extension = out.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    out.with_file_name(format!("{stem}{suffix}{extension}"))
}

/// Whether a file was there before this run began, and the user said that it may go.
fn may_replace(path: &Path, before: u64) -> bool {
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    before > 0 && since.is_some_and(|since| since.as_nanos() < u128::from(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named_after_the_first() {
        assert_eq!(named(Path::new("/a/run.twin"), ".rank3"), Path::new("/a/run.rank3.twin"));
        assert_eq!(named(Path::new("run"), ".77"), Path::new("run.77"));
        assert_eq!(named(Path::new("run.twin"), ""), Path::new("run.twin"));
    }
}
