//! Recording: records and chunks in, an append-only file out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use zerocopy::IntoBytes;

use crate::codec;
use crate::error::WriteError;
use crate::hash::{ChunkHash, chunk_hash};
use crate::index::{ChunkEntry, StepEntry, Tables, VersionEntry};
use crate::layout::{
    COMMIT_SIGNATURE, Commit, DirectoryEntry, FRAME_HEADER_BYTES, FileHeader, FooterHead, FrameHeader,
    TRAILER_SIGNATURE, Trailer, kind, padded,
};
use crate::record::*;
use crate::snapshot::{AuditRange, Change, ChangedChunks, ChunksHead, Snapshot};
use crate::storage::{FileStorage, Storage};

mod checks;
#[cfg(test)]
mod tests;

/// Bytes collected before they are appended in one go. A commit always appends what there is.
const APPEND_BYTES: usize = 1 << 20;

/// Writes one trace.
///
/// Records become readable to others at the next [`TraceWriter::commit_step`]. A writer that is
/// dropped without [`TraceWriter::finish`], like a process that is killed, leaves a trace that
/// opens at its last commit. A refused argument changes nothing; after a failed write every
/// further call fails.
#[derive(Debug)]
pub struct TraceWriter<S: Storage> {
    storage: S,
    /// Bytes written so far, those still in `pending` included.
    offset: u64,
    pending: Vec<u8>,
    /// Over the bytes since the last commit.
    checksum: crc32fast::Hasher,
    last_commit: LastCommit,
    stopped: bool,
    tables: Tables,
    buffers: Vec<BufferState>,
    buffer_names: HashMap<(String, u32), BufferId>,
    /// Keyed by hash and length of the encoded program.
    programs: HashMap<(ChunkHash, u64), ProgramId>,
    program_items: Vec<usize>,
    /// Keyed by hash and length of the chunk; the value is its index in the chunk table.
    contents: HashMap<(ChunkHash, u32), u32>,
}

#[derive(Debug, Default)]
struct LastCommit {
    sequence: u64,
    end: u64,
    checksum: u32,
    steps: usize,
}

#[derive(Debug)]
struct BufferState {
    name: String,
    generation: u32,
    record_bytes: u64,
    chunk_bytes: u64,
    chunks: u64,
    /// Content of each chunk at the last snapshot; empty until the buffer is first covered.
    contents: Vec<u32>,
    covered: bool,
}

impl BufferState {
    fn label(&self) -> String {
        format!("{:?}@{}", self.name, self.generation)
    }
}

impl TraceWriter<FileStorage> {
    /// Starts a trace in a new file at `path`.
    ///
    /// An existing file is refused unless `overwrite` is set. It is then replaced, not
    /// rewritten: the new file is made beside it under a passing name, and takes its place in
    /// one rename as soon as its own first commit is in it. Until then nothing happened to the
    /// old file; from then on a killed recording opens under `path`. Whoever has the old file
    /// open or mapped keeps it.
    ///
    /// # Errors
    ///
    /// The file exists, is being recorded by another process, is no regular file, or cannot be
    /// created or written. Nothing is left behind then.
    pub fn create(path: &Path, run: &RunRecord, overwrite: bool) -> Result<Self, WriteError> {
        let failed = |source| WriteError::Create { path: path.into(), source };
        match std::fs::metadata(path) {
            Ok(_) if !overwrite => Err(WriteError::Exists { path: path.into() }),
            Ok(metadata) if !metadata.is_file() => Err(WriteError::NotAFile { path: path.into() }),
            Ok(_) => {
                // A symbolic link stays; the file that it leads to is replaced.
                let target = std::fs::canonicalize(path).map_err(failed)?;
                let old = File::open(&target).map_err(failed)?;
                if matches!(old.try_lock_shared(), Err(TryLockError::WouldBlock)) {
                    return Err(WriteError::InUse { path: path.into() });
                }
                let passing = passing_name(&target);
                let writer = Self::create_new(&passing, run)?;
                std::fs::rename(&passing, &target).map_err(|source| {
                    // The rename's failure is what matters; a file left over is harmless.
                    let _ = std::fs::remove_file(&passing);
                    failed(source)
                })?;
                Ok(writer)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create_new(path, run),
            Err(error) => Err(failed(error)),
        }
    }

    fn create_new(path: &Path, run: &RunRecord) -> Result<Self, WriteError> {
        let file =
            OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| {
                match source.kind() {
                    io::ErrorKind::AlreadyExists => WriteError::Exists { path: path.into() },
                    _ => WriteError::Create { path: path.into(), source },
                }
            })?;
        // Held until the recording ends, so that others can tell a live one from a killed one.
        // Readers do not wait for it. A file system without locks is no reason not to record.
        let _ = file.try_lock();
        Self::new(FileStorage::new(file), run).inspect_err(|_| {
            // The error of the write is what matters; this file was made a moment ago, here.
            let _ = std::fs::remove_file(path);
        })
    }
}

/// A name beside `target` that nobody else uses.
fn passing_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    target.with_file_name(name)
}

impl<S: Storage> TraceWriter<S> {
    /// Starts a trace in an empty storage: file header, run record and a first commit.
    ///
    /// # Errors
    ///
    /// The storage is not empty or cannot be written.
    pub fn new(storage: S, run: &RunRecord) -> Result<Self, WriteError> {
        let bytes =
            storage.len().map_err(|source| WriteError::Append { offset: 0, bytes: 0, steps: 0, source })?;
        if bytes != 0 {
            return Err(WriteError::NotEmpty { bytes });
        }
        let mut writer = Self {
            storage,
            offset: 0,
            pending: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            last_commit: LastCommit::default(),
            stopped: false,
            tables: Tables::default(),
            buffers: Vec::new(),
            buffer_names: HashMap::new(),
            programs: HashMap::new(),
            program_items: Vec::new(),
            contents: HashMap::new(),
        };
        writer.put(FileHeader::new().as_bytes())?;
        let offset = writer.add_record(kind::RUN, run)?;
        writer.tables.run.push(offset.into());
        writer.commit()?;
        Ok(writer)
    }

    /// Adds an allocation of a named buffer. Weights are added like any buffer; they just never
    /// appear in a snapshot.
    ///
    /// # Errors
    ///
    /// The record fails [`BufferRecord::check`], or its name and generation are taken.
    pub fn add_buffer(&mut self, b: &BufferRecord) -> Result<BufferId, WriteError> {
        self.check_running()?;
        let bad = |reason| WriteError::BadBuffer { name: b.name.clone(), generation: b.generation, reason };
        b.check().map_err(bad)?;
        let key = (b.name.clone(), b.generation);
        if let Some(id) = self.buffer_names.get(&key) {
            return Err(bad(format!("buffer {} has that name and generation already", id.0)));
        }
        let id = BufferId(next_number(self.buffers.len(), "buffers")?);
        let offset = self.add_record(kind::BUFFER, b)?;
        self.tables.buffers.push(offset.into());
        self.buffer_names.insert(key, id);
        self.buffers.push(BufferState {
            name: b.name.clone(),
            generation: b.generation,
            record_bytes: b.bytes,
            chunk_bytes: u64::from(b.chunk_bytes),
            chunks: b.chunks(),
            contents: Vec::new(),
            covered: false,
        });
        Ok(id)
    }

    /// Stores a program, unless an equal one is stored already, and gives its number.
    ///
    /// # Errors
    ///
    /// An item names a buffer that was not added.
    pub fn add_program(&mut self, p: &Program) -> Result<ProgramId, WriteError> {
        self.check_running()?;
        for (position, item) in p.items.iter().enumerate() {
            for buffer in item.buffers() {
                self.check_buffer(buffer, || format!("program item {position}"))?;
            }
        }
        let encoded = encode("program", p)?;
        let key = (chunk_hash(&encoded), encoded.len() as u64);
        if let Some(&id) = self.programs.get(&key) {
            return Ok(id);
        }
        let id = ProgramId(next_number(self.tables.programs.len(), "programs")?);
        let offset = self.put_frame(kind::PROGRAM, &[&encoded])?;
        self.tables.programs.push(offset.into());
        self.programs.insert(key, id);
        self.program_items.push(p.items.len());
        Ok(id)
    }

    /// Adds a captured graph.
    ///
    /// # Errors
    ///
    /// Its number is not the next one, or its program was not added.
    pub fn add_graph(&mut self, g: &GraphRecord) -> Result<(), WriteError> {
        self.check_running()?;
        let due = self.tables.graphs.len();
        if g.id.0 as usize != due {
            return Err(WriteError::GraphOutOfOrder { given: g.id.0, due });
        }
        self.check_program(g.program, || format!("graph {}", g.id.0))?;
        let offset = self.add_record(kind::GRAPH, g)?;
        self.tables.graphs.push(offset.into());
        Ok(())
    }

    /// Adds a request.
    ///
    /// # Errors
    ///
    /// Only those of writing.
    pub fn add_request(&mut self, r: &RequestRecord) -> Result<(), WriteError> {
        self.check_running()?;
        let offset = self.add_record(kind::REQUEST, r)?;
        self.tables.requests.push(offset.into());
        Ok(())
    }

    /// Takes a snapshot.
    ///
    /// `covered` lists every buffer that this snapshot vouches for, changed or not. `changed`
    /// holds whole chunks of covered buffers with their present bytes: at least those that
    /// differ from the last snapshot that covered the buffer; equal ones add nothing. A buffer
    /// that is covered for the first time must be given whole. `audited` lists the chunks that
    /// were looked at although no known write touched them.
    ///
    /// # Errors
    ///
    /// A piece does not consist of whole chunks of a covered buffer, overlaps another, or a
    /// buffer first covered is not given whole.
    pub fn snapshot(
        &mut self,
        covered: &[BufferId],
        changed: &[ChangedChunks<'_>],
        audited: &[AuditRange],
    ) -> Result<SnapshotId, WriteError> {
        self.check_running()?;
        let covered = self.check_covered(covered)?;
        let pieces = self.check_pieces(&covered, changed)?;
        self.check_audited(audited)?;
        let id = next_number(self.tables.snapshots.len(), "snapshots")?;
        // Every chunk given might be new; refused here, before anything has changed.
        let given = pieces.iter().map(|piece| {
            piece.bytes.chunks(self.buffers[piece.buffer.0 as usize].chunk_bytes as usize).len()
        });
        next_number(given.fold(self.tables.chunks.len(), usize::saturating_add), "chunks")?;

        let mut changes = Vec::new();
        let mut fresh = Vec::new();
        for piece in pieces {
            let buffer = &mut self.buffers[piece.buffer.0 as usize];
            for (chunk, bytes) in (piece.first_chunk..).zip(piece.bytes.chunks(buffer.chunk_bytes as usize)) {
                let hash = chunk_hash(bytes);
                let next = (self.tables.chunks.len() + fresh.len()) as u32;
                let content = *self.contents.entry((hash, bytes.len() as u32)).or_insert_with(|| {
                    fresh.push((hash, bytes));
                    next
                });
                match buffer.contents.get_mut(chunk as usize) {
                    Some(last) if *last == content => continue,
                    Some(last) => *last = content,
                    // Pieces are sorted, so a buffer first covered fills up from its start.
                    None => buffer.contents.push(content),
                }
                let (buffer, chunk) = (piece.buffer.0.into(), chunk.into());
                changes.push(Change { buffer, content: content.into(), chunk });
            }
        }
        for buffer in &covered {
            self.buffers[buffer.0 as usize].covered = true;
        }
        self.put_chunks(&fresh)?;
        let offset = self.put_frame(kind::SNAPSHOT, &[&Snapshot::encode(id, &covered, &changes, audited)])?;
        self.tables.snapshots.push(offset.into());
        self.tables.versions.extend(changes.iter().map(|change| VersionEntry {
            chunk: change.chunk,
            buffer: change.buffer,
            snapshot: id.into(),
            content: change.content,
            reserved: 0.into(),
        }));
        Ok(SnapshotId(id))
    }

    /// Writes the record of a step, then the commit that makes it and everything since the last
    /// commit part of the trace.
    ///
    /// # Errors
    ///
    /// It names a program, snapshot or buffer that the trace does not have, or a position
    /// beyond its program.
    pub fn commit_step(&mut self, s: &StepRecord) -> Result<(), WriteError> {
        self.check_running()?;
        self.check_step(s)?;
        next_number(self.tables.steps.len(), "steps")?;
        let offset = self.add_record(kind::STEP, s)?;
        let (request, step) = (s.request.into(), s.step.into());
        self.tables.steps.push(StepEntry { offset: offset.into(), request, step });
        self.commit()
    }

    /// Closes the trace: commits what is left, writes index and footer, makes all of it durable.
    ///
    /// # Errors
    ///
    /// Only those of writing; the trace then opens at its last commit.
    pub fn finish(mut self) -> Result<S, WriteError> {
        self.check_running()?;
        if self.offset != self.last_commit.end {
            self.commit()?;
        }
        let committed = self.offset;
        let mut tables = std::mem::take(&mut self.tables);
        tables.sort();
        let mut directory = Vec::new();
        for (table, entry_bytes, count, bytes) in tables.parts() {
            let offset = self.put_frame(kind::INDEX, &[bytes])?;
            directory.push(DirectoryEntry {
                table: table.into(),
                entry_bytes: (entry_bytes as u32).into(),
                offset: offset.into(),
                count: (count as u64).into(),
            });
        }
        let head = FooterHead {
            committed: committed.into(),
            tables: (directory.len() as u32).into(),
            reserved: 0.into(),
        };
        let trailer = Trailer { footer: self.offset.into(), signature: TRAILER_SIGNATURE };
        self.put_frame(kind::FOOTER, &[head.as_bytes(), directory.as_bytes(), trailer.as_bytes()])?;
        self.flush()?;
        self.storage.sync().map_err(WriteError::Sync)?;
        Ok(self.storage)
    }

    /// Bytes of the trace so far, committed or not.
    pub fn bytes_written(&self) -> u64 {
        self.offset
    }

    fn check_running(&self) -> Result<(), WriteError> {
        if self.stopped { Err(WriteError::Stopped { steps: self.last_commit.steps }) } else { Ok(()) }
    }

    /// Writes contents that the trace does not have yet.
    fn put_chunks(&mut self, fresh: &[(ChunkHash, &[u8])]) -> Result<(), WriteError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let list = ChunksHead::encode(fresh);
        let mut parts: Vec<&[u8]> = vec![&list];
        let mut position = self.offset + FRAME_HEADER_BYTES + list.len() as u64;
        for (hash, bytes) in fresh {
            let length = bytes.len() as u64;
            let zeros = padded(length).map_or(0, |padded| padded - length);
            parts.push(bytes);
            parts.push(&[0; 8][..zeros as usize]);
            self.tables.chunks.push(ChunkEntry {
                hash: hash.0,
                offset: position.into(),
                length: (length as u32).into(),
                reserved: 0.into(),
            });
            position += length + zeros;
        }
        self.put_frame(kind::CHUNKS, &parts).map(drop)
    }

    fn add_record<T: Serialize>(&mut self, kind: u16, record: &T) -> Result<u64, WriteError> {
        let encoded = encode(kind::name(kind), record)?;
        self.put_frame(kind, &[&encoded])
    }

    /// Writes a frame and gives its offset.
    fn put_frame(&mut self, kind: u16, parts: &[&[u8]]) -> Result<u64, WriteError> {
        let offset = self.offset;
        let header = FrameHeader::new(kind, parts);
        let length = header.length.get();
        self.put(header.as_bytes())?;
        for part in parts {
            self.put(part)?;
        }
        let zeros = padded(length).map_or(0, |padded| padded - length);
        self.put(&[0; 8][..zeros as usize])?;
        Ok(offset)
    }

    fn commit(&mut self) -> Result<(), WriteError> {
        let checksum = self.checksum.clone().finalize();
        let commit = Commit {
            signature: COMMIT_SIGNATURE,
            sequence: self.last_commit.sequence.into(),
            start: self.last_commit.end.into(),
            end: self.offset.into(),
            checksum: checksum.into(),
            previous: self.last_commit.checksum.into(),
        };
        self.put_frame(kind::COMMIT, &[commit.as_bytes()])?;
        self.flush()?;
        self.checksum = crc32fast::Hasher::new();
        self.last_commit = LastCommit {
            sequence: self.last_commit.sequence + 1,
            end: self.offset,
            checksum,
            steps: self.tables.steps.len(),
        };
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.checksum.update(bytes);
        self.offset += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= APPEND_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let bytes = self.pending.len() as u64;
        self.storage.append(&self.pending).map_err(|source| {
            self.stopped = true;
            let (offset, steps) = (self.offset - bytes, self.last_commit.steps);
            WriteError::Append { offset, bytes, steps, source }
        })?;
        self.pending.clear();
        Ok(())
    }
}

/// The number of the next of `count` things.
fn next_number(count: usize, what: &'static str) -> Result<u32, WriteError> {
    u32::try_from(count).ok().filter(|&n| n != u32::MAX).ok_or(WriteError::TooMany { what })
}

fn encode<T: Serialize>(kind: &'static str, record: &T) -> Result<Vec<u8>, WriteError> {
    codec::encode(record).map_err(|reason| WriteError::BadRecord { kind, reason })
}
