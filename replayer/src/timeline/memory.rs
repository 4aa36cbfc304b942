//! Who wrote each byte last. Buffers that share addresses share bytes.

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Role, Trace};

use super::intervals::Intervals;

/// What wrote bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The allocation, with 0xA5: nothing has written them since.
    Fresh,
    /// The allocation of a weight, whose bytes the trace refers to.
    Loaded,
    /// This host write of the step, by its index.
    Host(u32),
    /// This launch of the step, by its number.
    Launch(u32),
    /// A kernel, copy or fill of another engine.
    Foreign,
}

/// The event that wrote a byte last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writer {
    /// What it is.
    pub(crate) by: By,
    /// The step, as an index into the trace's records.
    pub(crate) step: u32,
    /// The program item; of a host write, the one before which it happened.
    pub(crate) item: u32,
    /// Whether values that are not known decide if it wrote this byte at all.
    pub(crate) may: bool,
    /// The buffer through which it wrote: another than the one asked about where they share memory.
    pub(crate) via: BufferId,
    /// Stream number; 0 for the host.
    pub(crate) stream: u32,
    /// Rises from event to event.
    pub(crate) time: u32,
}

/// Bytes of a buffer that have the same last writer; `None`: the trace does not say who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First byte.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    /// Who wrote them.
    pub(crate) writer: Option<Writer>,
}

/// Where bytes lie: buffers with addresses lie in one space, others each in their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// The device's addresses.
    Addresses,
    /// A buffer whose address is not known.
    Own(BufferId),
}

/// The space of each buffer and the last writers in each.
pub(crate) struct Memory<'a> {
    trace: &'a Trace,
    spaces: BTreeMap<Space, Intervals<Writer>>,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        Memory { trace, spaces: BTreeMap::new() }
    }

    /// Where a buffer begins.
    pub(crate) fn place(&self, buffer: BufferId) -> (Space, u64) {
        let record = self.trace.buffer(buffer);
        let address = record.and_then(|b| b.address.filter(|a| *a != 0 && a.checked_add(b.bytes).is_some()));
        address.map_or((Space::Own(buffer), 0), |address| (Space::Addresses, address))
    }

    /// The part of `start..end` that lies in the buffer.
    fn clipped(&self, buffer: BufferId, start: u64, end: u64) -> (u64, u64) {
        let bytes = self.trace.buffer(buffer).map_or(0, |b| b.bytes);
        (start.min(bytes), end.min(bytes))
    }

    /// Notes that bytes of `writer.via` were written.
    pub(crate) fn write(&mut self, start: u64, end: u64, writer: Writer) {
        let (start, end) = self.clipped(writer.via, start, end);
        let (space, base) = self.place(writer.via);
        self.spaces.entry(space).or_default().set(base + start, base + end, writer);
    }

    /// The last writers of bytes of a buffer, in rising order and without gaps.
    pub(crate) fn writers(&self, buffer: BufferId, start: u64, end: u64) -> impl Iterator<Item = Piece> + '_ {
        let (start, end) = self.clipped(buffer, start, end);
        let (space, base) = self.place(buffer);
        let known = self.spaces.get(&space);
        // Nothing known of the space is one piece without a writer.
        let nothing = (known.is_none() && start < end).then_some((start, end, None));
        let pieces = known.into_iter().flat_map(move |s| s.pieces(base + start, base + end));
        let pieces = pieces.map(move |(a, b, writer)| (a - base, b - base, writer)).chain(nothing);
        pieces.map(|(start, end, writer)| Piece { start, end, writer })
    }

    /// The bytes that `start..end` of `from` has in common with `of`, as offsets in `of`.
    pub(crate) fn shared(&self, from: BufferId, start: u64, end: u64, of: BufferId) -> Option<(u64, u64)> {
        let (start, end) = self.clipped(from, start, end);
        let ((space, base), (other, other_base)) = (self.place(from), self.place(of));
        let other_end = other_base + self.trace.buffer(of)?.bytes;
        let (a, b) = ((base + start).max(other_base), (base + end).min(other_end));
        (space == other && a < b).then(|| (a - other_base, b - other_base))
    }

    /// What an allocation leaves in a buffer.
    pub(crate) fn allocated(&self, buffer: BufferId) -> By {
        let loaded = |b: &twinstep_traces::BufferRecord| b.role == Role::Weight || b.contents.is_some();
        if self.trace.buffer(buffer).is_some_and(loaded) { By::Loaded } else { By::Fresh }
    }
}
