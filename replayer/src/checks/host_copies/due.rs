//! Whether a copy was due that did not come: by the values that launches were given before and after it.
//!
//! A position that rose by one at each launch, stayed, and is two further at the next one has been counted on by the host
//! meanwhile: its copy was left out. If it is one further, nothing had happened in between: the launch was a dummy run.
//! A table that is copied where it has changed goes on from where it was. Words that follow no rule (token ids) tell
//! nothing of what came in between; that they had to change is believed only if they changed at each of many launches,
//! up and down, as no table or count that grows does.

use twinstep_traces::{BufferId, SnapshotId, Trace};

use crate::ReplayError;

/// Bytes of an input that are looked at, from the first copy on.
pub(super) const BYTES_MAX: u64 = 4096;
/// Launches whose values follow no rule after which another value is expected.
pub(super) const JUMPS_MIN: usize = 32;

/// What values say of a copy that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The host counted on, in so many words.
    Skipped(usize),
    /// It did not, in so many words.
    Stayed(usize),
    /// Other values came at each of [`JUMPS_MIN`] launches before.
    Jumped,
    Unknown,
}

/// The words of an input from an offset on.
fn words(trace: &Trace, snapshot: SnapshotId, buffer: BufferId, from: u64) -> Result<Vec<u32>, ReplayError> {
    let Some(record) = trace.buffer(buffer) else { return Ok(Vec::new()) };
    let from = from.min(record.bytes) / 4 * 4;
    let end = from.saturating_add(BYTES_MAX).min(record.bytes);
    let chunk = u64::from(record.chunk_bytes).max(1);
    let mut bytes: Vec<u8> = Vec::new();
    for number in from / chunk..end.div_ceil(chunk) {
        let Some(all) = trace.read_chunk(snapshot, buffer, number)? else { return Ok(Vec::new()) };
        let begin = number.saturating_mul(chunk);
        let within = |at: u64| (at.saturating_sub(begin) as usize).min(all.len());
        bytes.extend_from_slice(&all[within(from)..within(end)]);
    }
    Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

/// What the launches with a copy before it were given, the launch without one, and the next one with one.
///
/// # Errors
/// [`ReplayError::Read`].
pub(super) fn due(
    trace: &Trace,
    buffer: BufferId,
    from: u64,
    before: impl Iterator<Item = SnapshotId>,
    now: SnapshotId,
    after: SnapshotId,
) -> Result<Due, ReplayError> {
    let read = |snapshot| words(trace, snapshot, buffer, from);
    let before = before.map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(judge(&before, &read(now)?, &read(after)?))
}

fn judge(before: &[Vec<u32>], now: &[u32], after: &[u32]) -> Due {
    let deltas = |word: usize| {
        let values: Vec<u32> = before.iter().filter_map(|words| words.get(word)).copied().collect();
        values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect::<Vec<u32>>()
    };
    let (mut skipped, mut stayed, mut regular, mut others) = (0, 0, 0, 0);
    // Of words without a rule: all steps, those with a change, up and down.
    let (mut all, mut rises, mut falls) = (0, 0, 0);
    for (word, (now, after)) in now.iter().zip(after).enumerate() {
        let deltas = deltas(word);
        let Some((&by, rest)) = deltas.split_last().filter(|(_, rest)| !rest.is_empty()) else { continue };
        let alike = deltas.iter().filter(|&&delta| delta == by).count();
        if by != 0 && rest.last() == Some(&by) && alike * 4 >= deltas.len() * 3 {
            regular += 1;
            let since = after.wrapping_sub(*now);
            skipped += usize::from(since == by.wrapping_mul(2));
            stayed += usize::from(since == by);
        } else if now != after || deltas.iter().any(|&delta| delta != 0) {
            others += 1;
            all += deltas.len();
            rises += deltas.iter().filter(|&&delta| delta as i32 > 0).count();
            falls += deltas.iter().filter(|&&delta| (delta as i32) < 0).count();
        }
    }
    let jumps = (rises + falls) * 4 >= all * 3 && rises.min(falls) * 4 >= all;
    match () {
        () if skipped > others && skipped * 2 > regular => Due::Skipped(skipped),
        () if stayed > others && stayed * 2 > regular => Due::Stayed(stayed),
        () if regular == 0 && all > 0 && before.len() >= JUMPS_MIN && jumps && now != after => Due::Jumped,
        () => Due::Unknown,
    }
}
