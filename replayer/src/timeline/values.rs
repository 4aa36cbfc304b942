//! Values of bytes that the trace knows without executing anything.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use twinstep_kernels::FRESH_BYTE;
use twinstep_traces::{BufferId, SnapshotId, StepRecord};

use super::Timeline;
use super::memory::{By, Writer};

/// Largest index operand whose values are looked at, and largest buffer that it may lie in.
const BYTES_MAX: u64 = 16 << 20;
/// Step records of earlier steps that are kept.
const STEPS_MAX: usize = 8;

/// The bytes of a buffer at a snapshot that covers it.
type Recorded = Option<Rc<Vec<u8>>>;

/// Snapshots of the present step so far, and what was read from them.
#[derive(Default)]
pub(super) struct Values {
    points: Vec<(u32, SnapshotId)>,
    read: RefCell<BTreeMap<(SnapshotId, BufferId), Recorded>>,
    steps: RefCell<BTreeMap<u32, Rc<StepRecord>>>,
}

impl Values {
    /// Another step begins.
    pub(super) fn begin(&mut self) {
        self.points.clear();
        self.read.borrow_mut().clear();
    }

    /// A snapshot was taken.
    pub(super) fn point(&mut self, time: u32, snapshot: SnapshotId) {
        self.points.push((time, snapshot));
    }
}

impl Timeline<'_> {
    /// The bytes `start..end` of a buffer as they are now; `None` where only executing would tell.
    pub(super) fn value(
        &self,
        step: &StepRecord,
        index: u32,
        buffer: BufferId,
        start: u64,
        end: u64,
    ) -> Option<Vec<u8>> {
        if end.checked_sub(start)? > BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity((end - start) as usize);
        for piece in self.memory.writers(buffer, start, end) {
            let writer = piece.writer?;
            let len = (piece.end - piece.start) as usize;
            match writer.by {
                By::Fresh if self.still(&writer) => bytes.resize(bytes.len() + len, FRESH_BYTE),
                By::Host(i) if self.still(&writer) && writer.step == index => {
                    bytes.extend(self.written(step, i, &writer, buffer, piece.start, piece.end)?);
                }
                _ => match self.snapshotted(&writer, buffer, piece.start, piece.end) {
                    Some(recorded) => bytes.extend(recorded),
                    None => {
                        let By::Host(i) = writer.by else { return None };
                        let earlier = self.still(&writer).then(|| self.earlier(writer.step))??;
                        bytes.extend(self.written(&earlier, i, &writer, buffer, piece.start, piece.end)?);
                    }
                },
            }
        }
        (bytes.len() as u64 == end - start).then_some(bytes)
    }

    /// Whether nothing unknown has run since.
    fn still(&self, writer: &Writer) -> bool {
        self.forgotten.is_none_or(|time| writer.time > time)
    }

    /// What a host write put into `start..end` of a buffer.
    fn written(
        &self,
        step: &StepRecord,
        write: u32,
        writer: &Writer,
        buffer: BufferId,
        start: u64,
        end: u64,
    ) -> Option<Vec<u8>> {
        let write = step.host_writes.get(write as usize)?;
        let (a, b) = self.shared(buffer, start, end, writer.via)?;
        let range = a.checked_sub(write.offset)? as usize..b.checked_sub(write.offset)? as usize;
        write.bytes.get(range).map(<[u8]>::to_vec)
    }

    /// Bytes from a snapshot of this step that was taken after they were last written.
    fn snapshotted(&self, writer: &Writer, buffer: BufferId, start: u64, end: u64) -> Option<Vec<u8>> {
        if self.trace.buffer(buffer)?.bytes > BYTES_MAX {
            return None;
        }
        let after = self.forgotten.unwrap_or(0).max(writer.time);
        let taken = self.values.points.iter().rev().take_while(|(time, _)| *time > after);
        for &(_, snapshot) in taken {
            let mut read = self.values.read.borrow_mut();
            let bytes = read
                .entry((snapshot, buffer))
                .or_insert_with(|| self.trace.read_buffer(snapshot, buffer).ok().flatten().map(Rc::new));
            if let Some(bytes) = bytes {
                return bytes.get(start as usize..end as usize).map(<[u8]>::to_vec);
            }
        }
        None
    }

    fn earlier(&self, index: u32) -> Option<Rc<StepRecord>> {
        let mut steps = self.values.steps.borrow_mut();
        if let Some(step) = steps.get(&index) {
            return Some(step.clone());
        }
        if steps.len() >= STEPS_MAX {
            steps.pop_first();
        }
        let step = Rc::new(self.trace.step(index as usize).ok()?);
        steps.insert(index, step.clone());
        Some(step)
    }
}
