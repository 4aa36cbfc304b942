//! Some elements of a recorded buffer, at the cost of the chunks that hold them.

use twinstep_traces::{BufferId, MAX_READ_BYTES, SnapshotId, Trace};

use crate::ReplayError;
use crate::points::called;

/// Bytes that one call gives at most: a person looks at a window, and a trace may claim any size.
pub const SLICE_BYTES_MAX: u64 = 64 << 20;

/// The bytes of elements `start..start + count` of a buffer at a snapshot; fewer where the buffer ends.
/// `None` where the snapshot does not cover the buffer.
///
/// # Errors
/// [`ReplayError::Selection`] for more than [`SLICE_BYTES_MAX`]; [`ReplayError::Read`].
pub fn read_elements(
    trace: &Trace,
    snapshot: SnapshotId,
    buffer: BufferId,
    start: u64,
    count: u64,
) -> Result<Option<Vec<u8>>, ReplayError> {
    let Some(record) = trace.buffer(buffer) else {
        return Err(ReplayError::Selection(format!("buffer {} is not in the trace", buffer.0)));
    };
    let size = record.dtype.size();
    let first = start.saturating_mul(size).min(record.bytes);
    let end = start.saturating_add(count).saturating_mul(size).min(record.bytes);
    if end - first > SLICE_BYTES_MAX {
        let what = format!("{} bytes of `{}` at once; at most {SLICE_BYTES_MAX}", end - first, record.name);
        return Err(ReplayError::Selection(what));
    }
    read_bytes(trace, snapshot, buffer, first, end)
}

/// Bytes `first..end` of a buffer at a snapshot, of whatever number; fewer where the buffer ends. `None` where the
/// snapshot does not cover the buffer. Memory is taken as chunks are found, not for what a trace claims.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn read_bytes(
    trace: &Trace,
    snapshot: SnapshotId,
    buffer: BufferId,
    first: u64,
    end: u64,
) -> Result<Option<Vec<u8>>, ReplayError> {
    if !trace.covers(snapshot, buffer)? {
        return Ok(None);
    }
    let Some(record) = trace.buffer(buffer) else { return Ok(None) };
    let end = end.min(record.bytes);
    if (first, end) == (0, record.bytes) && end <= MAX_READ_BYTES {
        return Ok(trace.read_buffer(snapshot, buffer)?);
    }
    let mut bytes = Vec::new();
    let chunk_bytes = u64::from(record.chunk_bytes.max(1));
    let mut at = first;
    while at < end {
        let chunk = at / chunk_bytes;
        let Some(stored) = trace.read_chunk(snapshot, buffer, chunk)? else { return Ok(None) };
        let offset = (at - chunk * chunk_bytes) as usize;
        let stop = (end - chunk * chunk_bytes).min(stored.len() as u64) as usize;
        if offset >= stop {
            break;
        }
        bytes.extend_from_slice(&stored[offset..stop]);
        at = chunk * chunk_bytes + stop as u64;
    }
    Ok(Some(bytes))
}

/// The snapshot of a step's point, by its name.
///
/// # Errors
/// [`ReplayError::Place`] where there is no such step.
pub fn snapshot_at(trace: &Trace, at: crate::At, point: &str) -> Result<Option<SnapshotId>, ReplayError> {
    let step = crate::at::find(trace, at)?;
    Ok(called(&step.points, point).map(|p| p.snapshot))
}
