//! Every checksum, hash and reference of a trace.

use std::collections::HashSet;

use zerocopy::IntoBytes;

use crate::error::ReadError;
use crate::hash::chunk_hash;
use crate::image::Image;
use crate::index::{Entry, Index, Table, Tables};
use crate::layout::{COMMIT_SIGNATURE, Commit, FRAME_HEADER_BYTES, Frame, HEADER_BYTES, kind};
use crate::record::*;
use crate::recovery::{CommitChain, apply, decode};
use crate::snapshot::Snapshot;

/// Damage is listed up to this many places; more are only counted.
const LISTED: usize = 1000;

/// What [`crate::Trace::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Whether the recording was closed cleanly. If not, that alone is no damage.
    pub complete: bool,
    /// The first places of damage, in the order in which they were met.
    pub damage: Vec<Damage>,
    /// Places of damage beyond those listed.
    pub damage_omitted: u64,
    /// Frames looked at.
    pub frames: u64,
    /// Commits whose checksum was computed.
    pub commits: u64,
    /// Stored chunks whose hash was computed.
    pub chunks: u64,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Step records looked at.
    pub steps: u64,
    /// Bytes after the last commit, which are ignored.
    pub uncommitted_bytes: u64,
}

impl Verification {
    /// Whether there is no damage.
    pub fn ok(&self) -> bool {
        self.damage.is_empty()
    }
}

/// One place of damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Byte of the file where it shows.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// Checks the committed part of `image` frame by frame, then its index, then its tail.
pub(crate) fn verify(image: &Image, index: &Index, committed: u64, complete: bool) -> Verification {
    let mut checker = Checker::new(image, complete);
    checker.records(committed);
    checker.graph_references();
    if complete {
        checker.index(index, committed);
    } else {
        checker.result.uncommitted_bytes = image.len() - committed;
        checker.tail(committed);
    }
    checker.result
}

struct Checker<'a> {
    image: &'a Image,
    result: Verification,
    tables: Tables,
    buffers: Vec<BufferRecord>,
    /// Whether a snapshot has covered the buffer.
    covered: Vec<bool>,
    names: HashSet<(String, u32)>,
    /// Items of each program.
    program_items: Vec<usize>,
    /// Graphs named by programs, and by whom; a program may be stored before its graph.
    graphs_named: Vec<(GraphId, u64)>,
}

impl<'a> Checker<'a> {
    fn new(image: &'a Image, complete: bool) -> Self {
        let result = Verification {
            complete,
            damage: Vec::new(),
            damage_omitted: 0,
            frames: 0,
            commits: 0,
            chunks: 0,
            snapshots: 0,
            steps: 0,
            uncommitted_bytes: 0,
        };
        Self {
            image,
            result,
            tables: Tables::default(),
            buffers: Vec::new(),
            covered: Vec::new(),
            names: HashSet::new(),
            program_items: Vec::new(),
            graphs_named: Vec::new(),
        }
    }

    fn damaged(&mut self, offset: u64, what: impl Into<String>) {
        if self.result.damage.len() < LISTED {
            self.result.damage.push(Damage { offset, what: what.into() });
        } else {
            self.result.damage_omitted += 1;
        }
    }

    fn note(&mut self, offset: u64, result: Result<(), ReadError>) {
        match result {
            Ok(()) => {}
            Err(ReadError::Damaged { offset, what }) => self.damaged(offset, what),
            Err(error) => self.damaged(offset, error.to_string()),
        }
    }

    /// All frames up to the end of the last commit.
    fn records(&mut self, committed: u64) {
        let mut chain = CommitChain::default();
        let mut offset = HEADER_BYTES;
        while offset < committed {
            let Some(frame) = self.frame(offset, committed) else { return };
            if frame.kind() == kind::COMMIT {
                self.commit(&frame, &mut chain);
            } else {
                let result = self.record(&frame);
                self.note(offset, result);
            }
            offset = frame.end;
        }
        if !self.tables.run.len().eq(&1) {
            self.damaged(HEADER_BYTES, format!("{} run records where one is due", self.tables.run.len()));
        }
    }

    /// The frame at `offset` with checksum and padding; `None` where the walk cannot go on.
    fn frame(&mut self, offset: u64, limit: u64) -> Option<Frame> {
        let frame = match Frame::read(self.image, offset, limit) {
            Ok(frame) => frame,
            Err(error) => {
                self.note(offset, Err(error));
                return None;
            }
        };
        self.result.frames += 1;
        let payload = frame.payload(self.image).and_then(|payload| frame.check_crc(payload));
        self.note(offset, payload);
        let payload_end = frame.payload_offset() + frame.header.length.get();
        match self.image.slice(payload_end, frame.end - payload_end) {
            Ok(padding) if padding.iter().any(|&byte| byte != 0) => {
                self.damaged(payload_end, "the padding of a frame is not zero");
            }
            Ok(_) => {}
            Err(error) => self.note(payload_end, Err(error)),
        }
        Some(frame)
    }

    fn commit(&mut self, frame: &Frame, chain: &mut CommitChain) {
        self.result.commits += 1;
        if let Err(error) = chain.check(self.image, frame) {
            self.note(frame.offset, Err(error));
            if let Some(commit) = frame.payload(self.image).ok().and_then(Commit::parse) {
                chain.follow(frame, &commit);
            }
        }
    }

    fn record(&mut self, frame: &Frame) -> Result<(), ReadError> {
        let chunks_before = self.tables.chunks.len();
        apply(self.image, frame, &mut self.tables)?;
        let payload = frame.payload(self.image)?;
        match frame.kind() {
            kind::RUN => decode::<RunRecord>(frame, payload).map(drop)?,
            kind::BUFFER => self.buffer(frame.offset, decode(frame, payload)?),
            kind::PROGRAM => self.program(frame.offset, &decode(frame, payload)?),
            kind::GRAPH => self.graph(frame.offset, &decode(frame, payload)?),
            kind::REQUEST => decode::<RequestRecord>(frame, payload).map(drop)?,
            kind::CHUNKS => self.chunks(chunks_before)?,
            kind::SNAPSHOT => {
                let damaged = |what| ReadError::Damaged { offset: frame.offset, what };
                self.snapshot(frame.offset, &Snapshot::parse(payload).map_err(damaged)?);
            }
            kind::STEP => self.step(frame.offset, &decode(frame, payload)?),
            kind::INDEX | kind::FOOTER => self.damaged(frame.offset, "an index lies among the records"),
            _ => {}
        }
        Ok(())
    }

    fn buffer(&mut self, offset: u64, buffer: BufferRecord) {
        if let Err(what) = buffer.check() {
            self.damaged(offset, format!("buffer {:?}@{}: {what}", buffer.name, buffer.generation));
        }
        if !self.names.insert((buffer.name.clone(), buffer.generation)) {
            self.damaged(offset, format!("a second buffer {:?}@{}", buffer.name, buffer.generation));
        }
        self.buffers.push(buffer);
        self.covered.push(false);
    }

    fn program(&mut self, offset: u64, program: &Program) {
        self.program_items.push(program.items.len());
        for (position, item) in program.items.iter().enumerate() {
            for buffer in item.buffers() {
                self.known_buffer(offset, buffer, &format!("program item {position}"));
            }
            self.graphs_named.extend(item.graph().map(|graph| (graph, offset)));
        }
    }

    fn graph(&mut self, offset: u64, graph: &GraphRecord) {
        let due = self.tables.graphs.len() - 1;
        if graph.id.0 as usize != due {
            self.damaged(offset, format!("graph {} stands where {due} is due", graph.id.0));
        }
        match self.program_items.get(graph.program.0 as usize) {
            None => self.damaged(offset, format!("graph {due} names unknown program {}", graph.program.0)),
            Some(&nodes) => {
                if graph.edges.iter().any(|&(from, to)| from as usize >= nodes || to as usize >= nodes) {
                    self.damaged(offset, format!("graph {due} has an edge beyond its {nodes} nodes"));
                }
            }
        }
    }

    fn chunks(&mut self, first: usize) -> Result<(), ReadError> {
        for i in first..self.tables.chunks.len() {
            let entry = self.tables.chunks[i];
            let bytes = self.image.slice(entry.offset.get(), u64::from(entry.length.get()))?;
            self.result.chunks += 1;
            if chunk_hash(bytes).0 != entry.hash {
                self.damaged(entry.offset.get(), format!("stored chunk {i} does not match its hash"));
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, offset: u64, snapshot: &Snapshot<'_>) {
        self.result.snapshots += 1;
        let id = snapshot.id;
        if !snapshot.covered.is_sorted_by(|a, b| a.get() < b.get()) {
            self.damaged(offset, format!("the coverage of snapshot {id} is not in order"));
        }
        if !snapshot.changes.is_sorted_by_key(|c| (c.buffer.get(), c.chunk.get())) {
            self.damaged(offset, format!("the changes of snapshot {id} are not in order"));
        }
        for change in snapshot.changes {
            let (buffer, chunk) = (BufferId(change.buffer.get()), change.chunk.get());
            if !snapshot.covers(buffer) {
                self.damaged(
                    offset,
                    format!("snapshot {id} changes buffer {} without covering it", buffer.0),
                );
            }
            if !self.known_buffer(offset, buffer, "a snapshot") {
                continue;
            }
            let due = self.buffers[buffer.0 as usize].chunk_length(chunk);
            let stored = self.tables.chunks.get(change.content.get() as usize);
            let stored = stored.map(|entry| u64::from(entry.length.get()));
            if due.is_none() || due != stored {
                self.damaged(
                    offset,
                    format!(
                        "snapshot {id}, buffer {}, chunk {chunk}: no content of the right length",
                        buffer.0
                    ),
                );
            }
        }
        for buffer in snapshot.covered.iter().map(|buffer| BufferId(buffer.get())) {
            if !self.known_buffer(offset, buffer, "a snapshot") {
                continue;
            }
            let at = buffer.0 as usize;
            let first = snapshot.changes.partition_point(|change| change.buffer.get() < buffer.0);
            let after = snapshot.changes.partition_point(|change| change.buffer.get() <= buffer.0);
            let given = after.saturating_sub(first) as u64;
            if !std::mem::replace(&mut self.covered[at], true) && given != self.buffers[at].chunks() {
                self.damaged(offset, format!("snapshot {id} first covers buffer {at} but not whole"));
            }
        }
        for audit in snapshot.audits {
            let buffer = BufferId(audit.buffer.get());
            if self.known_buffer(offset, buffer, "an audited range") {
                let end = audit.first_chunk.get().checked_add(audit.chunks.get());
                if end.is_none_or(|end| end > self.buffers[buffer.0 as usize].chunks()) {
                    self.damaged(offset, format!("snapshot {id} audited chunks that do not exist"));
                }
            }
        }
    }

    fn step(&mut self, offset: u64, step: &StepRecord) {
        self.result.steps += 1;
        let name = format!("step {}:{}", step.request, step.step);
        match self.program_items.get(step.program.0 as usize) {
            None => self.damaged(offset, format!("{name} names unknown program {}", step.program.0)),
            Some(&items) => {
                let writes = step.host_writes.iter().map(|write| write.position);
                let reads = step.host_reads.iter().map(|read| read.position);
                let points = step.points.iter().map(|point| point.position);
                if writes.chain(reads).chain(points).any(|position| position as usize > items) {
                    self.damaged(offset, format!("{name} names a position beyond its {items} items"));
                }
            }
        }
        for point in &step.points {
            if point.snapshot.0 as usize >= self.tables.snapshots.len() {
                self.damaged(offset, format!("{name} names unknown snapshot {}", point.snapshot.0));
            }
        }
        let writes = step.host_writes.iter().map(|w| (w.buffer, w.offset, w.bytes.len()));
        let reads = step.host_reads.iter().map(|r| (r.buffer, r.offset, r.bytes.len()));
        for (buffer, start, bytes) in writes.chain(reads) {
            if self.known_buffer(offset, buffer, &name) {
                let end = start.checked_add(bytes as u64);
                if end.is_none_or(|end| end > self.buffers[buffer.0 as usize].bytes) {
                    self.damaged(offset, format!("{name} has a host access beyond buffer {}", buffer.0));
                }
            }
        }
    }

    fn known_buffer(&mut self, offset: u64, buffer: BufferId, user: &str) -> bool {
        let known = (buffer.0 as usize) < self.buffers.len();
        if !known {
            self.damaged(offset, format!("{user} names unknown buffer {}", buffer.0));
        }
        known
    }

    fn graph_references(&mut self) {
        let count = self.tables.graphs.len();
        for (graph, offset) in std::mem::take(&mut self.graphs_named) {
            if graph.0 as usize >= count {
                self.damaged(offset, format!("a program names unknown graph {}", graph.0));
            }
        }
    }

    /// Frames of the index, and whether its tables are those of the records.
    fn index(&mut self, index: &Index, committed: u64) {
        let mut offset = committed;
        while offset < self.image.len() {
            let Some(frame) = self.frame(offset, self.image.len()) else { return };
            offset = frame.end;
        }
        self.tables.sort();
        let tables = std::mem::take(&mut self.tables);
        self.table("run", &index.run, &tables.run, committed);
        self.table("buffer", &index.buffers, &tables.buffers, committed);
        self.table("program", &index.programs, &tables.programs, committed);
        self.table("graph", &index.graphs, &tables.graphs, committed);
        self.table("request", &index.requests, &tables.requests, committed);
        self.table("snapshot", &index.snapshots, &tables.snapshots, committed);
        self.table("step", &index.steps, &tables.steps, committed);
        self.table("step order", &index.step_order, &tables.step_order, committed);
        self.table("chunk", &index.chunks, &tables.chunks, committed);
        self.table("version", &index.versions, &tables.versions, committed);
    }

    fn table<T: Entry>(&mut self, name: &str, found: &Table<T>, due: &[T], committed: u64) {
        // The checksum of its frame was told already.
        match found.stored(self.image) {
            Ok(entries) if entries.as_bytes() == due.as_bytes() => {}
            Ok(_) => {
                self.damaged(committed, format!("the {name} table of the index contradicts the records"))
            }
            Err(error) => self.note(committed, Err(error)),
        }
    }

    /// A tail that was never committed is no damage. One with a commit in it was committed once,
    /// and something before that commit has changed since: commits tell their own place, so
    /// they are recognised wherever the chain of frames broke.
    fn tail(&mut self, committed: u64) {
        let Ok(tail) = self.image.slice(committed, self.image.len() - committed) else { return };
        let (words, _) = tail.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            let Some(offset) = (committed + 8 * i as u64).checked_sub(FRAME_HEADER_BYTES) else { continue };
            if *word != COMMIT_SIGNATURE || offset < committed {
                continue;
            }
            let Ok((frame, payload)) =
                Frame::read_checked(self.image, offset, self.image.len(), kind::COMMIT)
            else {
                continue;
            };
            if Commit::parse(payload).is_some_and(|commit| commit.end.get() == frame.offset) {
                self.damaged(
                    committed,
                    format!("the bytes from here to the commit at byte {offset} are not those committed"),
                );
                return;
            }
        }
    }
}
