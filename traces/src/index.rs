//! The tables that turn (snapshot, buffer, chunk) into bytes.
//!
//! While recording and during recovery they are vectors ([`Tables`]). A clean close writes them
//! behind the last commit, and a reader then looks them up in the mapped file ([`Index`]).

use std::sync::OnceLock;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::ReadError;
use crate::image::Image;
use crate::layout::{DirectoryEntry, FooterHead, Frame, HEADER_BYTES, TRAILER_SIGNATURE, Trailer, kind};

/// A table entry: fixed size, no alignment, any bit pattern is a value.
pub(crate) trait Entry: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Copy {}
impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Copy> Entry for T {}

/// Where a step's frame is and what step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct StepEntry {
    pub(crate) offset: U64,
    pub(crate) request: U32,
    pub(crate) step: U32,
}

/// Where the bytes of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ChunkEntry {
    pub(crate) hash: [u8; 16],
    pub(crate) offset: U64,
    pub(crate) length: U32,
    pub(crate) reserved: U32,
}

/// From `snapshot` on, until the next entry of the same buffer and chunk, the chunk holds
/// entry `content` of the chunk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct VersionEntry {
    pub(crate) chunk: U64,
    pub(crate) buffer: U32,
    pub(crate) snapshot: U32,
    pub(crate) content: U32,
    pub(crate) reserved: U32,
}

impl VersionEntry {
    /// The order of the version table.
    pub(crate) fn key(&self) -> (u32, u64, u32) {
        (self.buffer.get(), self.chunk.get(), self.snapshot.get())
    }
}

/// Numbers of the tables in the footer's directory.
mod table {
    pub(super) const RUN: u32 = 1;
    pub(super) const BUFFERS: u32 = 2;
    pub(super) const PROGRAMS: u32 = 3;
    pub(super) const GRAPHS: u32 = 4;
    pub(super) const REQUESTS: u32 = 5;
    pub(super) const SNAPSHOTS: u32 = 6;
    pub(super) const STEPS: u32 = 7;
    pub(super) const STEP_ORDER: u32 = 8;
    pub(super) const CHUNKS: u32 = 9;
    pub(super) const VERSIONS: u32 = 10;
}

/// The tables as vectors. Frame offsets are in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) run: Vec<U64>,
    pub(crate) buffers: Vec<U64>,
    pub(crate) programs: Vec<U64>,
    pub(crate) graphs: Vec<U64>,
    pub(crate) requests: Vec<U64>,
    pub(crate) snapshots: Vec<U64>,
    pub(crate) steps: Vec<StepEntry>,
    /// Indices of `steps`, ascending by (request, step, index); made by [`Tables::sort`].
    pub(crate) step_order: Vec<U32>,
    pub(crate) chunks: Vec<ChunkEntry>,
    /// In order of recording until [`Tables::sort`] orders them by [`VersionEntry::key`].
    pub(crate) versions: Vec<VersionEntry>,
}

impl Tables {
    /// Brings the tables into the order in which they are searched.
    pub(crate) fn sort(&mut self) {
        self.versions.sort_unstable_by_key(VersionEntry::key);
        let mut order: Vec<u32> = (0..self.steps.len() as u32).collect();
        order.sort_by_key(|&i| {
            let entry = &self.steps[i as usize];
            (entry.request.get(), entry.step.get())
        });
        self.step_order = order.into_iter().map(U32::new).collect();
    }

    /// Number, entry size, count and bytes of each table, as the file holds them.
    pub(crate) fn parts(&self) -> [(u32, usize, usize, &[u8]); 10] {
        fn part<T: Entry>(number: u32, entries: &[T]) -> (u32, usize, usize, &[u8]) {
            (number, size_of::<T>(), entries.len(), entries.as_bytes())
        }
        [
            part(table::RUN, &self.run),
            part(table::BUFFERS, &self.buffers),
            part(table::PROGRAMS, &self.programs),
            part(table::GRAPHS, &self.graphs),
            part(table::REQUESTS, &self.requests),
            part(table::SNAPSHOTS, &self.snapshots),
            part(table::STEPS, &self.steps),
            part(table::STEP_ORDER, &self.step_order),
            part(table::CHUNKS, &self.chunks),
            part(table::VERSIONS, &self.versions),
        ]
    }
}

/// A table to look things up in.
#[derive(Debug)]
pub(crate) enum Table<T> {
    /// In the file: a frame that lies inside it, and whose checksum is computed when the table is first
    /// used. So opening costs the same whatever the size of the tables, and no entry of a damaged one is
    /// ever handed out.
    Mapped { frame: Frame, count: u64, whole: OnceLock<bool> },
    /// In memory, after recovery.
    Owned(Vec<T>),
}

impl<T: Entry> Table<T> {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Table::Mapped { count, .. } => *count,
            Table::Owned(entries) => entries.len() as u64,
        }
    }

    /// All entries, once the checksum of a mapped table has been found right.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] at the table's frame where it is wrong.
    pub(crate) fn entries<'a>(&'a self, image: &'a Image) -> Result<&'a [T], ReadError> {
        self.check(image)?;
        self.stored(image)
    }

    /// All entries as they are stored, right or wrong: for whoever checks them himself.
    pub(crate) fn stored<'a>(&'a self, image: &'a Image) -> Result<&'a [T], ReadError> {
        match self {
            Table::Owned(entries) => Ok(entries),
            Table::Mapped { frame, .. } => {
                let bytes = frame.payload(image)?;
                <[T]>::ref_from_bytes(bytes).map_err(|_| ReadError::Damaged {
                    offset: frame.payload_offset(),
                    what: format!("{} bytes are no whole number of table entries", bytes.len()),
                })
            }
        }
    }

    fn check(&self, image: &Image) -> Result<(), ReadError> {
        let Table::Mapped { frame, whole, .. } = self else { return Ok(()) };
        if whole.get() == Some(&true) {
            return Ok(());
        }
        // What failed to be read is not remembered: it says nothing of the bytes.
        let result = frame.check_crc(frame.payload(image)?);
        let _ = whole.set(result.is_ok());
        result
    }

    /// Entry `index`, of `what` in messages.
    pub(crate) fn entry(&self, image: &Image, what: &'static str, index: u64) -> Result<T, ReadError> {
        let count = self.len();
        if index >= count {
            return Err(ReadError::OutOfRange { what, index, count });
        }
        self.check(image)?;
        match self {
            Table::Owned(entries) => Ok(entries[index as usize]),
            Table::Mapped { frame, .. } => image.get(frame.payload_offset() + index * size_of::<T>() as u64),
        }
    }
}

/// The tables of an open trace.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) run: Table<U64>,
    pub(crate) buffers: Table<U64>,
    pub(crate) programs: Table<U64>,
    pub(crate) graphs: Table<U64>,
    pub(crate) requests: Table<U64>,
    pub(crate) snapshots: Table<U64>,
    pub(crate) steps: Table<StepEntry>,
    pub(crate) step_order: Table<U32>,
    pub(crate) chunks: Table<ChunkEntry>,
    pub(crate) versions: Table<VersionEntry>,
}

impl From<Tables> for Index {
    fn from(tables: Tables) -> Self {
        Self {
            run: Table::Owned(tables.run),
            buffers: Table::Owned(tables.buffers),
            programs: Table::Owned(tables.programs),
            graphs: Table::Owned(tables.graphs),
            requests: Table::Owned(tables.requests),
            snapshots: Table::Owned(tables.snapshots),
            steps: Table::Owned(tables.steps),
            step_order: Table::Owned(tables.step_order),
            chunks: Table::Owned(tables.chunks),
            versions: Table::Owned(tables.versions),
        }
    }
}

impl Index {
    /// The index that the last bytes of the file point to, and where the committed bytes end.
    /// `None` where there is no such index: the recording was not closed, or its end is damaged.
    pub(crate) fn find(image: &Image) -> Option<(Self, u64)> {
        let trailer_offset = image.len().checked_sub(size_of::<Trailer>() as u64)?;
        let trailer: Trailer = image.get(trailer_offset).ok()?;
        let footer = trailer.footer.get();
        if trailer.signature != TRAILER_SIGNATURE {
            return None;
        }
        let (frame, payload) = Frame::read_checked(image, footer, image.len(), kind::FOOTER).ok()?;
        if frame.end != image.len() {
            return None;
        }
        let (head, rest) = FooterHead::read_from_prefix(payload).ok()?;
        let committed = head.committed.get();
        if !(HEADER_BYTES..=footer).contains(&committed) {
            return None;
        }
        let tables = usize::try_from(head.tables.get()).ok()?;
        let (directory, _) = <[DirectoryEntry]>::ref_from_prefix_with_elems(rest, tables).ok()?;
        let region = Region { image, directory, start: committed, end: footer };
        let index = Self {
            run: region.table(table::RUN)?,
            buffers: region.table(table::BUFFERS)?,
            programs: region.table(table::PROGRAMS)?,
            graphs: region.table(table::GRAPHS)?,
            requests: region.table(table::REQUESTS)?,
            snapshots: region.table(table::SNAPSHOTS)?,
            steps: region.table(table::STEPS)?,
            step_order: region.table(table::STEP_ORDER)?,
            chunks: region.table(table::CHUNKS)?,
            versions: region.table(table::VERSIONS)?,
        };
        Some((index, committed))
    }
}

/// The part of a file between the last commit and the footer, where the tables are.
struct Region<'a> {
    image: &'a Image,
    directory: &'a [DirectoryEntry],
    start: u64,
    end: u64,
}

impl Region<'_> {
    /// Table `number`, if it is listed and its frame holds exactly the entries listed.
    fn table<T: Entry>(&self, number: u32) -> Option<Table<T>> {
        let listed = self.directory.iter().find(|entry| entry.table.get() == number)?;
        let offset = listed.offset.get();
        let frame = Frame::read(self.image, offset, self.end).ok()?;
        let count = listed.count.get();
        let fits = offset >= self.start
            && frame.kind() == kind::INDEX
            && listed.entry_bytes.get() as usize == size_of::<T>()
            && count.checked_mul(size_of::<T>() as u64) == Some(frame.header.length.get());
        fits.then(|| Table::Mapped { frame, count, whole: OnceLock::new() })
    }
}
