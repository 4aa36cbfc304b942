//! The tables of a file that was never closed: a walk over its frames up to the last commit.

use crate::codec;
use crate::error::ReadError;
use crate::image::Image;
use crate::index::{ChunkEntry, StepEntry, Tables, VersionEntry};
use crate::layout::{
    COMMIT_SIGNATURE, Commit, Frame, HEADER_BYTES, MAX_CHUNK_BYTES, MAX_RECORD_BYTES, kind, padded,
};
use crate::record::StepRecord;
use crate::snapshot::{ChunksHead, Snapshot};

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) tables: Tables,
    /// Where the last commit ends; 0 if there is none.
    pub(crate) committed: u64,
}

/// Rebuilds the tables from everything up to the last commit that is whole. What follows it is
/// a tail that was never promised to anyone, and is ignored.
///
/// # Errors
///
/// Only where the bytes can't be got at; bytes that make no sense end the walk.
pub(crate) fn recover(image: &Image) -> Result<Recovered, ReadError> {
    let mut tables = Tables::default();
    let mut chain = CommitChain::default();
    let mut mark = Mark::of(&tables);
    let mut committed = 0;
    let mut offset = HEADER_BYTES;
    while offset < image.len() {
        match apply_next(image, offset, &mut tables, &mut chain) {
            Ok(frame) => {
                offset = frame.end;
                if frame.kind() == kind::COMMIT {
                    mark = Mark::of(&tables);
                    committed = frame.end;
                }
            }
            Err(ReadError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    mark.cut(&mut tables);
    tables.sort();
    Ok(Recovered { tables, committed })
}

fn apply_next(
    image: &Image,
    offset: u64,
    tables: &mut Tables,
    chain: &mut CommitChain,
) -> Result<Frame, ReadError> {
    let frame = Frame::read(image, offset, image.len())?;
    match frame.kind() {
        kind::COMMIT => chain.check(image, &frame)?,
        _ => apply(image, &frame, tables)?,
    }
    Ok(frame)
}

/// Enters what `frame` says into the tables. Frames of unknown kinds say nothing.
pub(crate) fn apply(image: &Image, frame: &Frame, tables: &mut Tables) -> Result<(), ReadError> {
    let here = frame.offset.into();
    match frame.kind() {
        kind::RUN => tables.run.push(here),
        kind::BUFFER => tables.buffers.push(here),
        kind::PROGRAM => tables.programs.push(here),
        kind::GRAPH => tables.graphs.push(here),
        kind::REQUEST => tables.requests.push(here),
        kind::CHUNKS => apply_chunks(image, frame, tables)?,
        kind::SNAPSHOT => apply_snapshot(image, frame, tables)?,
        kind::STEP => {
            let step: StepRecord = decode(frame, frame.payload(image)?)?;
            let (request, step) = (step.request.into(), step.step.into());
            tables.steps.push(StepEntry { offset: here, request, step });
        }
        _ => {}
    }
    Ok(())
}

fn apply_chunks(image: &Image, frame: &Frame, tables: &mut Tables) -> Result<(), ReadError> {
    let damaged = |what| ReadError::Damaged { offset: frame.offset, what };
    let payload = frame.payload(image)?;
    let (chunks, mut position) = ChunksHead::parse(payload).map_err(damaged)?;
    for chunk in chunks {
        let length = chunk.length.get();
        let end = padded(u64::from(length)).and_then(|length| position.checked_add(length));
        match end {
            Some(end) if end <= payload.len() as u64 && (1..=MAX_CHUNK_BYTES).contains(&length) => {
                tables.chunks.push(ChunkEntry {
                    hash: chunk.hash,
                    offset: (frame.payload_offset() + position).into(),
                    length: chunk.length,
                    reserved: 0.into(),
                });
                position = end;
            }
            _ => return Err(damaged(format!("a chunk of {length} bytes does not fit its frame"))),
        }
    }
    if position != payload.len() as u64 {
        return Err(damaged("a chunks frame has more data than it lists".into()));
    }
    Ok(())
}

fn apply_snapshot(image: &Image, frame: &Frame, tables: &mut Tables) -> Result<(), ReadError> {
    let damaged = |what| ReadError::Damaged { offset: frame.offset, what };
    let snapshot = Snapshot::parse(frame.payload(image)?).map_err(damaged)?;
    if snapshot.id as usize != tables.snapshots.len() {
        let due = tables.snapshots.len();
        return Err(damaged(format!("snapshot {} stands where {due} is due", snapshot.id)));
    }
    tables.snapshots.push(frame.offset.into());
    tables.versions.extend(snapshot.changes.iter().map(|change| VersionEntry {
        chunk: change.chunk,
        buffer: change.buffer,
        snapshot: snapshot.id.into(),
        content: change.content,
        reserved: 0.into(),
    }));
    Ok(())
}

/// The record that a frame's payload encodes.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(frame: &Frame, payload: &[u8]) -> Result<T, ReadError> {
    let damaged = |what| ReadError::Damaged { offset: frame.offset, what };
    if payload.len() as u64 > MAX_RECORD_BYTES {
        return Err(damaged(format!("a record of {} bytes is over the limit", payload.len())));
    }
    codec::decode(payload).map_err(|reason| {
        damaged(format!("this {} record cannot be decoded: {reason}", kind::name(frame.kind())))
    })
}

/// What the next commit must continue.
#[derive(Debug, Default)]
pub(crate) struct CommitChain {
    sequence: u64,
    start: u64,
    previous: u32,
}

impl CommitChain {
    /// Checks that the commit in `frame` follows the last one and that every byte between them
    /// is as it was written. On success the chain moves on.
    pub(crate) fn check(&mut self, image: &Image, frame: &Frame) -> Result<(), ReadError> {
        let damaged = |what: String| ReadError::Damaged { offset: frame.offset, what };
        let payload = frame.payload(image)?;
        frame.check_crc(payload)?;
        let commit = Commit::parse(payload).ok_or_else(|| damaged("this is no commit record".into()))?;
        let due = (self.sequence, self.start, frame.offset, self.previous);
        let found = (commit.sequence.get(), commit.start.get(), commit.end.get(), commit.previous.get());
        if found != due {
            return Err(damaged(format!("commit {} does not continue the one before it", commit.sequence)));
        }
        let vouched = image.slice(self.start, frame.offset - self.start)?;
        if crc32fast::hash(vouched) != commit.checksum.get() {
            return Err(damaged(format!(
                "commit {} does not match the bytes {} to {} that it vouches for",
                commit.sequence, commit.start, commit.end
            )));
        }
        self.follow(frame, &commit);
        Ok(())
    }

    /// Goes on after `commit` whether or not it was right, so that a damaged one is told once.
    pub(crate) fn follow(&mut self, frame: &Frame, commit: &Commit) {
        *self = Self {
            sequence: commit.sequence.get().saturating_add(1),
            start: frame.end,
            previous: commit.checksum.get(),
        };
    }
}

impl Commit {
    /// The commit record that a payload is, if it is one.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        use zerocopy::FromBytes;
        Self::read_from_bytes(payload).ok().filter(|commit| commit.signature == COMMIT_SIGNATURE)
    }
}

/// Lengths of the tables at a commit, so that what came after it can be forgotten.
struct Mark([usize; 9]);

impl Mark {
    fn of(t: &Tables) -> Self {
        Self([
            t.run.len(),
            t.buffers.len(),
            t.programs.len(),
            t.graphs.len(),
            t.requests.len(),
            t.snapshots.len(),
            t.steps.len(),
            t.chunks.len(),
            t.versions.len(),
        ])
    }

    fn cut(&self, t: &mut Tables) {
        t.run.truncate(self.0[0]);
        t.buffers.truncate(self.0[1]);
        t.programs.truncate(self.0[2]);
        t.graphs.truncate(self.0[3]);
        t.requests.truncate(self.0[4]);
        t.snapshots.truncate(self.0[5]);
        t.steps.truncate(self.0[6]);
        t.chunks.truncate(self.0[7]);
        t.versions.truncate(self.0[8]);
    }
}
