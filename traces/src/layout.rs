//! File header, frames, commit and footer as they lie in the file (`FORMAT.md` has the maps).
//!
//! Everything here is fixed-size and little-endian, so it can be read in place.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::ReadError;
use crate::image::Image;

/// Major and minor number of the format that this crate writes.
pub const FORMAT_VERSION: (u16, u16) = (0, 2);

/// The oldest minor number of that major number that this crate still reads.
pub const OLDEST_MINOR: u16 = 1;

/// The largest chunk: it keeps a word's index in the chunk hash far below 2^32 and a single
/// read small.
pub const MAX_CHUNK_BYTES: u32 = 64 << 20;

/// The largest metadata record, encoded.
pub const MAX_RECORD_BYTES: u64 = 256 << 20;

/// The first byte is not ASCII and the line ends are of both kinds, so that a transfer in text
/// mode is noticed at once (the idea is PNG's).
pub(crate) const SIGNATURE: [u8; 8] = *b"\x89TWIN\r\n\x1a";

/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;

/// Begins the file.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FileHeader {
    pub(crate) signature: [u8; 8],
    pub(crate) major: U16,
    pub(crate) minor: U16,
    /// Where the first frame begins.
    pub(crate) header_bytes: U32,
    pub(crate) reserved: [u8; 44],
    /// Of the bytes before it.
    pub(crate) crc: U32,
}

pub(crate) const HEADER_BYTES: u64 = size_of::<FileHeader>() as u64;

impl FileHeader {
    pub(crate) fn new() -> Self {
        let mut header = Self {
            signature: SIGNATURE,
            major: FORMAT_VERSION.0.into(),
            minor: FORMAT_VERSION.1.into(),
            header_bytes: (HEADER_BYTES as u32).into(),
            reserved: [0; 44],
            crc: 0.into(),
        };
        header.crc = header.computed_crc().into();
        header
    }

    pub(crate) fn computed_crc(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(&bytes[..bytes.len() - size_of::<U32>()])
    }
}

/// Frame kinds. Numbers are never used again for something else.
pub(crate) mod kind {
    pub(crate) const RUN: u16 = 1;
    pub(crate) const BUFFER: u16 = 2;
    pub(crate) const PROGRAM: u16 = 3;
    pub(crate) const GRAPH: u16 = 4;
    pub(crate) const REQUEST: u16 = 5;
    pub(crate) const CHUNKS: u16 = 6;
    pub(crate) const SNAPSHOT: u16 = 7;
    pub(crate) const STEP: u16 = 8;
    pub(crate) const COMMIT: u16 = 9;
    pub(crate) const INDEX: u16 = 10;
    pub(crate) const FOOTER: u16 = 11;

    /// The kind's name in messages.
    pub(crate) fn name(kind: u16) -> &'static str {
        match kind {
            RUN => "run",
            BUFFER => "buffer",
            PROGRAM => "program",
            GRAPH => "graph",
            REQUEST => "request",
            CHUNKS => "chunks",
            SNAPSHOT => "snapshot",
            STEP => "step",
            COMMIT => "commit",
            INDEX => "index",
            FOOTER => "footer",
            _ => "unknown",
        }
    }
}

/// Begins every frame; the payload follows, then zeros up to [`ALIGNMENT`].
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FrameHeader {
    pub(crate) kind: U16,
    /// None is defined: written 0, not looked at.
    pub(crate) flags: U16,
    /// Of `kind`, `flags`, `length`, then the payload.
    pub(crate) crc: U32,
    /// Of the payload in bytes, without the zeros after it.
    pub(crate) length: U64,
}

pub(crate) const FRAME_HEADER_BYTES: u64 = size_of::<FrameHeader>() as u64;

impl FrameHeader {
    /// The header of a frame whose payload is `parts`, one after the other.
    pub(crate) fn new(kind: u16, parts: &[&[u8]]) -> Self {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let mut header = Self { kind: kind.into(), flags: 0.into(), crc: 0.into(), length: length.into() };
        header.crc = header.computed_crc(parts).into();
        header
    }

    pub(crate) fn computed_crc(&self, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.kind.as_bytes());
        hasher.update(self.flags.as_bytes());
        hasher.update(self.length.as_bytes());
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }
}

/// `length` rounded up to [`ALIGNMENT`], or nothing where that overflows.
pub(crate) fn padded(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(ALIGNMENT)
}

/// A frame found in a file: header and payload lie inside it, nothing else is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    /// Where the next frame begins.
    pub(crate) end: u64,
}

impl Frame {
    /// The frame at `offset`, all of which must lie below `limit`.
    pub(crate) fn read(image: &Image, offset: u64, limit: u64) -> Result<Self, ReadError> {
        let damaged = |what: String| ReadError::Damaged { offset, what };
        if offset < HEADER_BYTES || !offset.is_multiple_of(ALIGNMENT) {
            return Err(damaged("no frame can begin here".into()));
        }
        if limit.checked_sub(offset).is_none_or(|room| room < FRAME_HEADER_BYTES) {
            return Err(damaged(format!("a frame header does not fit before byte {limit}")));
        }
        let header: FrameHeader = image.get(offset)?;
        let end = padded(header.length.get())
            .and_then(|payload| offset.checked_add(FRAME_HEADER_BYTES)?.checked_add(payload))
            .filter(|&end| end <= limit)
            .ok_or_else(|| {
                damaged(format!(
                    "a {} frame of {} bytes does not fit before byte {limit}",
                    kind::name(header.kind.get()),
                    header.length
                ))
            })?;
        Ok(Self { offset, header, end })
    }

    /// The frame at `offset` if it is of `kind` and its checksum is right, with its payload.
    pub(crate) fn read_checked(
        image: &Image,
        offset: u64,
        limit: u64,
        kind: u16,
    ) -> Result<(Self, &[u8]), ReadError> {
        let frame = Self::read(image, offset, limit)?;
        if frame.kind() != kind {
            let what =
                format!("a {} frame is expected, this is one of kind {}", kind::name(kind), frame.kind());
            return Err(ReadError::Damaged { offset, what });
        }
        let payload = frame.payload(image)?;
        frame.check_crc(payload)?;
        Ok((frame, payload))
    }

    pub(crate) fn kind(&self) -> u16 {
        self.header.kind.get()
    }

    /// Where the payload begins.
    pub(crate) fn payload_offset(&self) -> u64 {
        self.offset + FRAME_HEADER_BYTES
    }

    pub(crate) fn payload<'a>(&self, image: &'a Image) -> Result<&'a [u8], ReadError> {
        image.slice(self.payload_offset(), self.header.length.get())
    }

    pub(crate) fn check_crc(&self, payload: &[u8]) -> Result<(), ReadError> {
        if self.header.computed_crc(&[payload]) == self.header.crc.get() {
            return Ok(());
        }
        let what = format!("the checksum of this {} frame is wrong", kind::name(self.kind()));
        Err(ReadError::Damaged { offset: self.offset, what })
    }
}

/// Payload of a commit: everything before it, back to the previous commit, is whole.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Commit {
    pub(crate) signature: [u8; 8],
    /// 0 for the first commit of the file.
    pub(crate) sequence: U64,
    /// First byte vouched for: where the previous commit's frame ended, or 0.
    pub(crate) start: U64,
    /// Where this commit's own frame begins, which ends what it vouches for.
    pub(crate) end: U64,
    /// CRC-32 of the bytes from `start` to `end`.
    pub(crate) checksum: U32,
    /// `checksum` of the previous commit, or 0.
    pub(crate) previous: U32,
}

pub(crate) const COMMIT_SIGNATURE: [u8; 8] = *b"TWCOMMIT";

/// One table of the index, as the footer lists it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct DirectoryEntry {
    pub(crate) table: U32,
    pub(crate) entry_bytes: U32,
    /// Of the index frame.
    pub(crate) offset: U64,
    pub(crate) count: U64,
}

/// Begins the footer's payload; the directory and the trailer follow.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FooterHead {
    /// Where the last commit's frame ends and the index begins.
    pub(crate) committed: U64,
    /// Entries of the directory.
    pub(crate) tables: U32,
    pub(crate) reserved: U32,
}

/// Ends the footer's payload and with it the file.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Trailer {
    /// Of the footer's frame.
    pub(crate) footer: U64,
    pub(crate) signature: [u8; 8],
}

pub(crate) const TRAILER_SIGNATURE: [u8; 8] = *b"TWINDEX\n";
