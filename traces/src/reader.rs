//! Looking at a trace.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use zerocopy::byteorder::little_endian::U64;

use crate::error::{OpenError, ReadError};
use crate::hash::{ChunkHash, chunk_hash};
use crate::image::Image;
use crate::index::{ChunkEntry, Index, StepEntry, Table};
use crate::layout::{FORMAT_VERSION, FileHeader, Frame, HEADER_BYTES, OLDEST_MINOR, SIGNATURE, kind};
use crate::record::*;
use crate::recovery::{decode, recover};
use crate::snapshot::{AuditRange, Change, ChunkChange, Snapshot};
use crate::verify::{self, Verification};

/// The largest buffer that [`Trace::read_buffer`] copies out at once: 4 GiB. A file can claim a
/// buffer far larger than itself, because equal chunks are stored once.
pub const MAX_READ_BYTES: u64 = 4 << 30;

/// An open trace. Cheap to open whatever its size if the recording was closed; otherwise its
/// bytes are read once, up to the last commit.
///
/// What was committed while it was open is not seen; open it again for that. All methods take
/// `&self` and may be called from several threads.
#[derive(Debug)]
pub struct Trace {
    image: Image,
    index: Index,
    committed: u64,
    complete: bool,
    run: RunRecord,
    buffers: Vec<BufferRecord>,
    graphs: Vec<GraphRecord>,
    requests: Vec<RequestRecord>,
    programs: Mutex<HashMap<ProgramId, Arc<Program>>>,
    /// A bit for each snapshot whose checksum was found right.
    snapshots_whole: Vec<AtomicU64>,
    /// Step records read so far: see [`STEPS_HELD`].
    steps_read: AtomicU32,
}

/// Step records read until the pages of a mapped file are given back. Steps lie far apart, between the
/// chunks, and the system maps the neighbours of each page that is looked at: going through all steps of a
/// large trace would make most of the file count as this process's memory.
const STEPS_HELD: u32 = 256;

impl Trace {
    /// Opens the file at `path` by mapping it. A file that is still being recorded opens at its
    /// last commit.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; a truncated trace is no error as long as its first commit is there.
    pub fn open(path: &Path) -> Result<Trace, OpenError> {
        Self::from_image(Image::open(path)?)
    }

    /// Opens a trace that lies in memory.
    ///
    /// # Errors
    ///
    /// As for [`Trace::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Trace, OpenError> {
        Self::from_image(Image::from_bytes(bytes))
    }

    fn from_image(image: Image) -> Result<Trace, OpenError> {
        check_header(&image)?;
        let damaged = |source| OpenError::Damaged { origin: image.origin().into(), source };
        let (index, committed, complete) = match Index::find(&image) {
            Some((index, committed)) => (index, committed, true),
            None => {
                let recovered = recover(&image).map_err(damaged)?;
                if recovered.committed == 0 {
                    return Err(OpenError::NothingCommitted { origin: image.origin().into() });
                }
                (recovered.tables.into(), recovered.committed, false)
            }
        };
        let records = Records { image: &image, committed };
        let mut runs: Vec<RunRecord> = records.all(&index.run, kind::RUN).map_err(damaged)?;
        let buffers: Vec<BufferRecord> = records.all(&index.buffers, kind::BUFFER).map_err(damaged)?;
        let graphs: Vec<GraphRecord> = records.all(&index.graphs, kind::GRAPH).map_err(damaged)?;
        let requests = records.all(&index.requests, kind::REQUEST).map_err(damaged)?;
        let wrong = |what: String| damaged(ReadError::Damaged { offset: HEADER_BYTES, what });
        if runs.len() != 1 {
            return Err(wrong(format!("a trace has one run record, this one has {}", runs.len())));
        }
        for buffer in &buffers {
            let (name, generation) = (&buffer.name, buffer.generation);
            buffer.check().map_err(|e| wrong(format!("buffer {name:?}@{generation}: {e}")))?;
        }
        if let Some(due) = (0..graphs.len()).find(|&i| graphs[i].id.0 as usize != i) {
            return Err(wrong(format!("graph {} stands where {due} is due", graphs[due].id.0)));
        }
        let run = runs.remove(0);
        let mut snapshots_whole = Vec::new();
        snapshots_whole.resize_with(index.snapshots.len().div_ceil(64) as usize, AtomicU64::default);
        Ok(Self {
            index,
            committed,
            complete,
            run,
            buffers,
            graphs,
            requests,
            programs: Mutex::default(),
            snapshots_whole,
            steps_read: AtomicU32::new(0),
            image,
        })
    }

    /// Whether the recording was closed cleanly; otherwise this is its state at the last commit.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Whether a writer held the file when it was opened. A trace that is neither complete nor
    /// being recorded was cut short.
    pub fn recording(&self) -> bool {
        self.image.recording()
    }

    /// Bytes of the file after the last commit that are ignored: what an interrupted recording
    /// wrote of its next step. 0 in a complete trace.
    pub fn uncommitted_bytes(&self) -> u64 {
        if self.complete { 0 } else { self.image.len() - self.committed }
    }

    /// Size of the file in bytes when it was opened.
    pub fn file_bytes(&self) -> u64 {
        self.image.len()
    }

    /// What made the trace and from what.
    pub fn run(&self) -> &RunRecord {
        &self.run
    }

    /// All buffers; a [`BufferId`] is an index into them.
    pub fn buffers(&self) -> &[BufferRecord] {
        &self.buffers
    }

    /// The buffer numbered `id`.
    pub fn buffer(&self, id: BufferId) -> Option<&BufferRecord> {
        self.buffers.get(id.0 as usize)
    }

    /// The buffer called `name`: of the given generation, or the newest one.
    pub fn find_buffer(&self, name: &str, generation: Option<u32>) -> Option<BufferId> {
        let named = (0..self.buffers.len()).filter(|&i| self.buffers[i].name == name);
        let found = match generation {
            Some(generation) => named.into_iter().find(|&i| self.buffers[i].generation == generation),
            None => named.max_by_key(|&i| self.buffers[i].generation),
        };
        found.map(|i| BufferId(i as u32))
    }

    /// All captured graphs; a [`GraphId`] is an index into them.
    pub fn graphs(&self) -> &[GraphRecord] {
        &self.graphs
    }

    /// The graph numbered `id`.
    pub fn graph(&self, id: GraphId) -> Option<&GraphRecord> {
        self.graphs.get(id.0 as usize)
    }

    /// All requests, in order of recording.
    pub fn requests(&self) -> &[RequestRecord] {
        &self.requests
    }

    /// How many different programs ran.
    pub fn program_count(&self) -> usize {
        self.index.programs.len() as usize
    }

    /// The program numbered `id`, decoded once and kept.
    ///
    /// # Errors
    ///
    /// There is no such program, or its record is damaged.
    pub fn program(&self, id: ProgramId) -> Result<Arc<Program>, ReadError> {
        let programs = || self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs().get(&id) {
            return Ok(Arc::clone(program));
        }
        let offset = self.index.programs.entry(&self.image, "program", u64::from(id.0))?;
        let program: Arc<Program> = Arc::new(self.records().one(offset.get(), kind::PROGRAM)?.1);
        Ok(Arc::clone(programs().entry(id).or_insert(program)))
    }

    /// How many step records there are, set-up and codec included.
    pub fn step_count(&self) -> usize {
        self.index.steps.len() as usize
    }

    /// Step record `index`, in order of recording.
    ///
    /// # Errors
    ///
    /// There is no such step, or its record is damaged.
    pub fn step(&self, index: usize) -> Result<StepRecord, ReadError> {
        if self.steps_read.fetch_add(1, Ordering::Relaxed) % STEPS_HELD == STEPS_HELD - 1 {
            self.release_pages();
        }
        let entry: StepEntry = self.index.steps.entry(&self.image, "step", index as u64)?;
        Ok(self.records().one(entry.offset.get(), kind::STEP)?.1)
    }

    /// Index of the first record of step `step` of request `request`, by binary search.
    ///
    /// # Errors
    ///
    /// The index of the trace is damaged.
    pub fn find_step(&self, request: u32, step: u32) -> Result<Option<usize>, ReadError> {
        let steps = self.index.steps.entries(&self.image)?;
        let order = self.index.step_order.entries(&self.image)?;
        let entry_at = |position: usize| -> Result<(usize, StepEntry), ReadError> {
            let index = order[position].get() as usize;
            let entry = steps.get(index).ok_or_else(|| self.broken_index("the order of steps"))?;
            Ok((index, *entry))
        };
        let (mut low, mut high) = (0, order.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = entry_at(middle)?.1;
            if (entry.request.get(), entry.step.get()) < (request, step) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low == order.len() {
            return Ok(None);
        }
        let (index, entry) = entry_at(low)?;
        Ok(((entry.request.get(), entry.step.get()) == (request, step)).then_some(index))
    }

    /// How many snapshots there are.
    pub fn snapshot_count(&self) -> usize {
        self.index.snapshots.len() as usize
    }

    /// Whether snapshot `snapshot` vouches for buffer `buffer`.
    ///
    /// # Errors
    ///
    /// There is no such snapshot or buffer, or the snapshot is damaged.
    pub fn covers(&self, snapshot: SnapshotId, buffer: BufferId) -> Result<bool, ReadError> {
        self.known_buffer(buffer)?;
        Ok(self.snapshot(snapshot)?.covers(buffer))
    }

    /// The buffers that snapshot `snapshot` vouches for, ascending.
    ///
    /// # Errors
    ///
    /// There is no such snapshot, or it is damaged.
    pub fn covered(&self, snapshot: SnapshotId) -> Result<Vec<BufferId>, ReadError> {
        Ok(self.snapshot(snapshot)?.covered.iter().map(|id| BufferId(id.get())).collect())
    }

    /// The chunks that snapshot `snapshot` changed against the one before it, ascending by buffer,
    /// then chunk. Going through the snapshots in order and keeping the hashes gives what
    /// [`Trace::chunk_hash`] gives, at a cost of the changes alone.
    ///
    /// # Errors
    ///
    /// There is no such snapshot, or it or the index is damaged.
    pub fn changes(&self, snapshot: SnapshotId) -> Result<Vec<ChunkChange>, ReadError> {
        let contents = self.index.chunks.entries(&self.image)?;
        let changes = self.snapshot(snapshot)?.changes.iter();
        let change = |change: &Change| {
            let (buffer, chunk) = (BufferId(change.buffer.get()), change.chunk.get());
            let count = self.known_buffer(buffer)?.chunks();
            if chunk >= count {
                return Err(ReadError::OutOfRange { what: "chunk", index: chunk, count });
            }
            let content = contents.get(change.content.get() as usize);
            let hash = content.ok_or_else(|| self.broken_index("a snapshot"))?.hash;
            Ok(ChunkChange { buffer, chunk, hash: ChunkHash(hash) })
        };
        changes.map(change).collect()
    }

    /// The chunk ranges that snapshot `snapshot` looked at outside the written ranges.
    ///
    /// # Errors
    ///
    /// There is no such snapshot, or it is damaged.
    pub fn audited(&self, snapshot: SnapshotId) -> Result<Vec<AuditRange>, ReadError> {
        let audits = self.snapshot(snapshot)?.audits.iter();
        Ok(audits
            .map(|audit| AuditRange {
                buffer: BufferId(audit.buffer.get()),
                first_chunk: audit.first_chunk.get(),
                chunks: audit.chunks.get(),
            })
            .collect())
    }

    /// All bytes of buffer `buffer` at snapshot `snapshot`, checked against their hashes.
    /// `None` where the snapshot does not cover the buffer.
    ///
    /// # Errors
    ///
    /// There is no such snapshot or buffer, it is larger than [`MAX_READ_BYTES`], or its bytes
    /// are damaged.
    pub fn read_buffer(&self, snapshot: SnapshotId, buffer: BufferId) -> Result<Option<Vec<u8>>, ReadError> {
        let record = self.known_buffer(buffer)?;
        if !self.snapshot(snapshot)?.covers(buffer) {
            return Ok(None);
        }
        let too_large = || ReadError::TooLarge {
            what: format!("buffer {:?}@{}", record.name, record.generation),
            bytes: record.bytes,
            limit: MAX_READ_BYTES,
        };
        // Before memory is reserved, the file must hold as many versions as the buffer has chunks:
        // a few bytes that claim a large buffer reserve nothing.
        let plausible = record.chunks() <= self.index.versions.len();
        if record.bytes > MAX_READ_BYTES {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let reserved = if plausible { record.bytes as usize } else { 0 };
        bytes.try_reserve_exact(reserved).map_err(|_| too_large())?;
        for chunk in 0..record.chunks() {
            let entry = self.version(snapshot, buffer, record, chunk)?;
            bytes.extend_from_slice(self.chunk_bytes(&entry)?);
        }
        Ok(Some(bytes))
    }

    /// The bytes of one chunk of buffer `buffer` at snapshot `snapshot`, straight from the map,
    /// checked against their hash. `None` where the snapshot does not cover the buffer.
    ///
    /// # Errors
    ///
    /// There is no such snapshot, buffer or chunk, or the bytes are damaged.
    pub fn read_chunk(
        &self,
        snapshot: SnapshotId,
        buffer: BufferId,
        chunk: u64,
    ) -> Result<Option<&[u8]>, ReadError> {
        match self.covered_version(snapshot, buffer, chunk)? {
            Some(entry) => self.chunk_bytes(&entry).map(Some),
            None => Ok(None),
        }
    }

    /// The hash of one chunk of buffer `buffer` at snapshot `snapshot`, without reading the
    /// chunk. Equal hashes mean equal bytes, also across traces. `None` where the snapshot does
    /// not cover the buffer.
    ///
    /// # Errors
    ///
    /// There is no such snapshot, buffer or chunk, or the index is damaged.
    pub fn chunk_hash(
        &self,
        snapshot: SnapshotId,
        buffer: BufferId,
        chunk: u64,
    ) -> Result<Option<ChunkHash>, ReadError> {
        Ok(self.covered_version(snapshot, buffer, chunk)?.map(|entry| ChunkHash(entry.hash)))
    }

    /// Gives the pages of a mapped file that were looked at so far back to the system. They are read
    /// again when they are wanted; until then they do not count as this process's memory. For whoever
    /// goes through a large trace once.
    pub fn release_pages(&self) {
        self.image.release();
    }

    /// Reads everything: checksums, chunk hashes, references, and whether the index says what
    /// the records say.
    pub fn verify(&self) -> Verification {
        verify::verify(&self.image, &self.index, self.committed, self.complete)
    }

    fn records(&self) -> Records<'_> {
        Records { image: &self.image, committed: self.committed }
    }

    fn broken_index(&self, what: &str) -> ReadError {
        let what = format!("{what} in the index points outside its table");
        ReadError::Damaged { offset: self.committed, what }
    }

    fn known_buffer(&self, id: BufferId) -> Result<&BufferRecord, ReadError> {
        let (index, count) = (u64::from(id.0), self.buffers.len() as u64);
        self.buffer(id).ok_or(ReadError::OutOfRange { what: "buffer", index, count })
    }

    /// A snapshot's payload. Its checksum is computed the first time: it is consulted for every chunk that is
    /// read, and a first snapshot can be long.
    fn snapshot(&self, id: SnapshotId) -> Result<Snapshot<'_>, ReadError> {
        let offset = self.index.snapshots.entry(&self.image, "snapshot", u64::from(id.0))?.get();
        let frame = Frame::read(&self.image, offset, self.committed)?;
        let damaged = |what| ReadError::Damaged { offset, what };
        if frame.kind() != kind::SNAPSHOT {
            return Err(damaged(format!("snapshot {} is expected here", id.0)));
        }
        let payload = frame.payload(&self.image)?;
        let (word, bit) = (id.0 as usize / 64, 1u64 << (id.0 % 64));
        let whole = self.snapshots_whole.get(word);
        if whole.is_none_or(|whole| whole.load(Ordering::Relaxed) & bit == 0) {
            frame.check_crc(payload)?;
            if let Some(whole) = whole {
                whole.fetch_or(bit, Ordering::Relaxed);
            }
        }
        let snapshot = Snapshot::parse(payload).map_err(damaged)?;
        if snapshot.id != id.0 {
            return Err(damaged(format!("snapshot {} is expected here, this is {}", id.0, snapshot.id)));
        }
        Ok(snapshot)
    }

    fn covered_version(
        &self,
        snapshot: SnapshotId,
        buffer: BufferId,
        chunk: u64,
    ) -> Result<Option<ChunkEntry>, ReadError> {
        let record = self.known_buffer(buffer)?;
        if chunk >= record.chunks() {
            return Err(ReadError::OutOfRange { what: "chunk", index: chunk, count: record.chunks() });
        }
        if !self.snapshot(snapshot)?.covers(buffer) {
            return Ok(None);
        }
        self.version(snapshot, buffer, record, chunk).map(Some)
    }

    /// What the newest version of a chunk up to `snapshot` holds.
    fn version(
        &self,
        snapshot: SnapshotId,
        buffer: BufferId,
        record: &BufferRecord,
        chunk: u64,
    ) -> Result<ChunkEntry, ReadError> {
        let versions = self.index.versions.entries(&self.image)?;
        let after = versions.partition_point(|v| v.key() <= (buffer.0, chunk, snapshot.0));
        let newest = after.checked_sub(1).map(|i| versions[i]);
        let version =
            newest.filter(|v| (v.buffer.get(), v.chunk.get()) == (buffer.0, chunk)).ok_or_else(|| {
                let (snapshot, name) = (snapshot.0, &record.name);
                let what =
                    format!("snapshot {snapshot} covers chunk {chunk} of {name:?}, which was never stored");
                ReadError::Damaged { offset: self.committed, what }
            })?;
        let content = u64::from(version.content.get());
        if content >= self.index.chunks.len() {
            return Err(self.broken_index("a version"));
        }
        let entry = self.index.chunks.entry(&self.image, "chunk", content)?;
        if record.chunk_length(chunk) != Some(u64::from(entry.length.get())) {
            let what = format!("chunk {chunk} of {:?} is stored with {} bytes", record.name, entry.length);
            return Err(ReadError::Damaged { offset: entry.offset.get(), what });
        }
        Ok(entry)
    }

    fn chunk_bytes(&self, entry: &ChunkEntry) -> Result<&[u8], ReadError> {
        let bytes = self.image.slice(entry.offset.get(), u64::from(entry.length.get()))?;
        if chunk_hash(bytes).0 != entry.hash {
            let what = "the bytes of this chunk do not match its hash".into();
            return Err(ReadError::Damaged { offset: entry.offset.get(), what });
        }
        Ok(bytes)
    }

    #[cfg(test)]
    pub(crate) fn bytes_requested(&self) -> u64 {
        self.image.requested()
    }
}

/// Metadata records of the committed part of a file.
struct Records<'a> {
    image: &'a Image,
    committed: u64,
}

impl Records<'_> {
    /// The record at `offset`, whose frame must be of `kind` and whole; and where it ends.
    fn one<T: DeserializeOwned>(&self, offset: u64, kind: u16) -> Result<(u64, T), ReadError> {
        let (frame, payload) = Frame::read_checked(self.image, offset, self.committed, kind)?;
        Ok((frame.end, decode(&frame, payload)?))
    }

    /// All records of a table. They must follow each other in the file, so that a forged table
    /// can't name one large record many times and fill the memory with copies.
    fn all<T: DeserializeOwned>(&self, table: &Table<U64>, kind: u16) -> Result<Vec<T>, ReadError> {
        let mut free = HEADER_BYTES;
        let mut records = Vec::new();
        for offset in table.entries(self.image)? {
            let offset = offset.get();
            if offset < free {
                let what = "the index names its records out of order".into();
                return Err(ReadError::Damaged { offset, what });
            }
            let (end, record) = self.one(offset, kind)?;
            records.push(record);
            free = end;
        }
        Ok(records)
    }
}

fn check_header(image: &Image) -> Result<(), OpenError> {
    let origin = || image.origin().to_owned();
    let not_a_trace = |reason: &str| OpenError::NotATrace { origin: origin(), reason: reason.into() };
    let damaged = |source| OpenError::Damaged { origin: origin(), source };
    if image.len() == 0 {
        return Err(not_a_trace("it is empty"));
    }
    let shown = image.len().min(SIGNATURE.len() as u64);
    if image.slice(0, shown).map_err(damaged)? != &SIGNATURE[..shown as usize] {
        return Err(not_a_trace("it does not begin with the signature of one"));
    }
    if image.len() < HEADER_BYTES {
        return Err(OpenError::NothingCommitted { origin: origin() });
    }
    let header: FileHeader = image.get(0).map_err(damaged)?;
    if header.computed_crc() != header.crc.get() {
        let what = "the checksum of the file header is wrong".into();
        return Err(damaged(ReadError::Damaged { offset: 0, what }));
    }
    let (major, minor) = (header.major.get(), header.minor.get());
    if major != FORMAT_VERSION.0 || !(OLDEST_MINOR..=FORMAT_VERSION.1).contains(&minor) {
        return Err(OpenError::Version { origin: origin(), major, minor });
    }
    if u64::from(header.header_bytes.get()) != HEADER_BYTES {
        let what = format!("a file header of {} bytes is unknown", header.header_bytes);
        return Err(damaged(ReadError::Damaged { offset: 0, what }));
    }
    Ok(())
}
