//! Bytes changed that nothing in the log writes.

use std::collections::BTreeMap;

use twinstep_kernels::FRESH_BYTE;
use twinstep_traces::{BufferId, PointRecord, Role, SnapshotId};

use super::{Check, Found, Registered, Spot};
use crate::foreign::is_foreign;
use crate::timeline::{By, Event, Timeline, What};
use crate::{Kind, ReplayError};

pub(super) const CHECK: Registered = Registered {
    name: "stray-write",
    kind: Kind::StrayWrite,
    explanation: "\
Bytes differ between two snapshots of a buffer, and nothing in the log writes them in between.

A kernel that writes beyond its operands, a library with a buffer of its own, another process: whoever
it was did not go through the recorded launches, copies and host writes. A snapshot looks at what the log
writes and at what it audits; elsewhere a change is not seen, and that is said as `not looked at`.

Seen in: live KV touched by padded rows that used slot 0 (m0at/rvllm #32); an earlier request's bytes
replaced by a captured copy from a pinned buffer in use by another (onnxruntime #32121).

Confirm: `twinstep print RUN.twin NAME --at N` and `--after` show the bytes; `twinstep history RUN.twin
NAME --at N --after` shows that their last writer is older. `twinstep verify RUN.twin --replay` ends at
the same step.",
    not_foreign: Some(super::ACCESS_UNKNOWN),
    new: |_| Box::new(StrayWrite::default()),
};

#[derive(Default)]
struct StrayWrite {
    /// The last snapshot that covered a buffer, and when it was taken.
    covered: BTreeMap<BufferId, (u32, SnapshotId)>,
    snapshots: u64,
    audits: u64,
}

impl Check for StrayWrite {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        let What::Point(point) = event.what else { return Ok(()) };
        let trace = timeline.trace();
        // Anything may have written memory of another engine, and a name may come long after that.
        if is_foreign(trace.run()) {
            return Ok(());
        }
        for change in trace.changes(point.snapshot)? {
            let Some(record) = trace.buffer(change.buffer) else { continue };
            let start = change.chunk.saturating_mul(record.chunk_bytes.into());
            let end = start.saturating_add(record.chunk_bytes.into()).min(record.bytes);
            self.chunk(timeline, event, point, change.buffer, change.chunk, (start, end), found)?;
        }
        for buffer in trace.covered(point.snapshot)? {
            self.covered.insert(buffer, (event.time, point.snapshot));
        }
        self.snapshots += 1;
        self.audits += u64::from(!trace.audited(point.snapshot)?.is_empty());
        Ok(())
    }

    fn finish(&mut self, timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
        if self.snapshots > self.audits {
            found.note(format!(
                "stray-write: bytes that the log does not write, in {} of {} snapshots: they audit nothing",
                self.snapshots - self.audits,
                self.snapshots
            ));
        }
        if is_foreign(timeline.trace().run()) {
            return Ok(());
        }
        let records = (0..).map(BufferId).zip(timeline.trace().buffers());
        let never = records.filter(|(id, b)| b.role != Role::Weight && !self.covered.contains_key(id));
        let names: Vec<String> = never.map(|(id, _)| timeline.label(id)).collect();
        if let Some(first) = names.first() {
            found.note(format!(
                "stray-write: weights, and {} buffers that no snapshot covers: {first}, ...",
                names.len()
            ));
        }
        Ok(())
    }
}

impl StrayWrite {
    fn chunk(
        &self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        point: &PointRecord,
        buffer: BufferId,
        chunk: u64,
        (start, end): (u64, u64),
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        let trace = timeline.trace();
        let last = self.covered.get(&buffer);
        // Pieces that were not written since the last look at them; at the first look, never.
        let unwritten = timeline.writers(buffer, start, end).filter(|piece| {
            piece.writer.is_some_and(|w| match last {
                Some((time, _)) => w.time <= *time,
                None => w.by == By::Fresh,
            })
        });
        let unwritten: Vec<_> = unwritten.collect();
        if unwritten.is_empty() {
            return Ok(());
        }
        let Some(now) = trace.read_chunk(point.snapshot, buffer, chunk)? else { return Ok(()) };
        let fresh = vec![FRESH_BYTE; now.len()];
        let before = match last {
            Some((_, snapshot)) => trace.read_chunk(*snapshot, buffer, chunk)?.unwrap_or(now),
            None => &fresh,
        };
        for piece in unwritten {
            let range = (piece.start - start) as usize..(piece.end - start) as usize;
            let (Some(a), Some(b)) = (before.get(range.clone()), now.get(range)) else { continue };
            let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else { continue };
            let changed = a.iter().zip(b).filter(|(a, b)| a != b).count();
            let since = match last {
                Some(_) => "the last snapshot of it",
                None => "its allocation",
            };
            let message = format!(
                "{changed} bytes of {} from byte {} on changed before {}, and nothing in the log has written them since {since}",
                timeline.label(buffer),
                piece.start + at as u64,
                point.point
            );
            let spot = Spot::of(event);
            found.report(&CHECK, timeline, &spot, Some(buffer), format!("{}", buffer.0), message);
        }
        Ok(())
    }
}
