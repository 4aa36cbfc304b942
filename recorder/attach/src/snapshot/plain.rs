//! Snapshots by whole copies: for drivers that run no kernels of ours, and as the other's fallback.
//!
//! Each takes pinned host memory, copies every buffer there and has the stream write a word behind the bytes. What
//! changed is found on the host.

use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use twinstep_traces::BufferId;

use super::pinned::{Pinned, stamp};
use super::{Changed, Completed, Snapshotter, Ticket, Watched};
use crate::driver::{self, CUcontext, CUresult, CUstream, SUCCESS};

/// Pinned memory that all snapshots under way may take together.
const MAX_BYTES: usize = 512 << 20;
/// How long memory is kept from being given back while a copy of it is under way.
const SETTLE: Duration = Duration::from_secs(2);
/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
const RELAXED: c_int = 2;

/// Pinned memory: a word, then bytes from 64 on.
struct Slot {
    context: CUcontext,
    memory: Pinned,
    capacity: usize,
}

const HEAD: usize = 64;

impl Slot {
    /// The device writes its lower half once: 1 behind the copies.
    fn word(&self) -> &AtomicU64 {
        self.memory.word(0)
    }

    fn through(&self) -> bool {
        stamp(self.word()) == 1
    }
}

struct UnderWay {
    slot: Slot,
    watched: Arc<[Watched]>,
}

#[derive(Default)]
struct State {
    next: u64,
    free: Vec<Slot>,
    under_way: VecDeque<UnderWay>,
    taken: usize,
}

/// See the module.
#[derive(Default)]
pub struct Plain {
    state: Mutex<State>,
    /// What each buffer held at its last snapshot. Only the writer thread uses it.
    last: Mutex<HashMap<BufferId, Vec<u8>>>,
}

fn check(call: &str, result: CUresult) -> Result<(), String> {
    if result == SUCCESS { Ok(()) } else { Err(format!("{call} gave CUDA error {result}")) }
}

/// A slot of the current context, from those that are free or new.
fn slot(state: &mut State, bytes: usize) -> Result<Slot, String> {
    let mut context = 0;
    // SAFETY: the target is ours.
    check("cuCtxGetCurrent", unsafe { driver::cuCtxGetCurrent(&mut context) })?;
    let fits = |slot: &Slot| slot.context == context && slot.capacity >= bytes;
    if let Some(at) = state.free.iter().position(fits) {
        return Ok(state.free.swap_remove(at));
    }
    if state.taken + bytes > MAX_BYTES {
        return Err(format!("{} MiB of pinned memory are in use", MAX_BYTES >> 20));
    }
    let mut mode = RELAXED;
    // SAFETY: the target is ours. The mode is put back; it lets this thread pin memory while another captures.
    let memory = unsafe {
        driver::cuThreadExchangeStreamCaptureMode(&mut mode);
        let memory = Pinned::new(HEAD + bytes);
        driver::cuThreadExchangeStreamCaptureMode(&mut mode);
        memory
    }?;
    state.taken += bytes;
    Ok(Slot { context, memory, capacity: bytes })
}

impl Snapshotter for Plain {
    fn enqueue(&self, stream: CUstream, watched: &Arc<[Watched]>, _quiet: bool) -> Result<Ticket, String> {
        let bytes = watched.iter().map(|w| w.bytes.next_multiple_of(HEAD as u64) as usize).sum();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slot(&mut state, bytes)?;
        slot.word().store(0, Ordering::Relaxed);
        let mut offset = HEAD;
        let mut enqueued = Ok(());
        for w in watched.iter() {
            // SAFETY: the slot holds all of them; the buffer's memory is there (see Watched).
            let result = unsafe {
                driver::cuMemcpyDtoHAsync_v2(
                    slot.memory.host().byte_add(offset),
                    w.address,
                    w.bytes as usize,
                    stream,
                )
            };
            enqueued = enqueued.and(check("cuMemcpyDtoHAsync", result));
            offset += w.bytes.next_multiple_of(HEAD as u64) as usize;
        }
        // SAFETY: the word is the slot's.
        let mut result = unsafe { driver::cuStreamWriteValue32_v2(stream, slot.memory.device(0), 1, 0) };
        if result == driver::NOT_FOUND {
            // SAFETY: as above.
            result = unsafe { driver::cuStreamWriteValue32(stream, slot.memory.device(0), 1, 0) };
        }
        // Some copies may be under way into the slot then: it is not used again.
        enqueued.and(check("cuStreamWriteValue32", result))?;
        state.under_way.push_back(UnderWay { slot, watched: watched.clone() });
        state.next += 1;
        Ok(Ticket(state.next - 1))
    }

    fn poll(&self, completed: &mut Vec<Completed>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (ticket, front) = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let ticket = Ticket(state.next - state.under_way.len() as u64);
                match state.under_way.front() {
                    Some(front) if front.slot.through() => {}
                    _ => return,
                }
                let Some(front) = state.under_way.pop_front() else { return };
                (ticket, front)
            };
            let mut changed = Vec::new();
            let mut offset = HEAD;
            for w in front.watched.iter() {
                // The copies are complete (the word was written after them) and the slot is ours alone.
                let now = front.slot.memory.copy(offset, w.bytes as usize);
                offset += w.bytes.next_multiple_of(HEAD as u64) as usize;
                compare(w, &now, &mut last, &mut changed);
            }
            let covered = front.watched.iter().map(|w| w.buffer).collect();
            let audited = front.watched.iter().map(super::whole).collect();
            completed.push(Completed { ticket, covered, changed, audited, lost: None });
            self.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(front.slot);
        }
    }

    fn settle(&self, address: u64, bytes: u64) -> bool {
        let end = Instant::now() + SETTLE;
        let end_address = address.saturating_add(bytes);
        let looks = |u: &UnderWay| {
            !u.slot.through()
                && u.watched.iter().any(|w| w.address < end_address && address < w.address + w.bytes)
        };
        loop {
            if !self.state.lock().unwrap_or_else(PoisonError::into_inner).under_way.iter().any(looks) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Runs of chunks that differ from the last look; everything at the first.
fn compare(w: &Watched, now: &[u8], last: &mut HashMap<BufferId, Vec<u8>>, changed: &mut Vec<Changed>) {
    let Some(before) = last.get_mut(&w.buffer) else {
        last.insert(w.buffer, now.to_vec());
        changed.push(Changed { buffer: w.buffer, first_chunk: 0, bytes: now.to_vec() });
        return;
    };
    let size = w.chunk_bytes as usize;
    let mut run: Option<(u64, Vec<u8>)> = None;
    for (chunk, (new, old)) in now.chunks(size).zip(before.chunks_mut(size)).enumerate() {
        if new == old {
            if let Some((first_chunk, bytes)) = run.take() {
                changed.push(Changed { buffer: w.buffer, first_chunk, bytes });
            }
            continue;
        }
        old.copy_from_slice(new);
        run.get_or_insert_with(|| (chunk as u64, Vec::new())).1.extend_from_slice(new);
    }
    if let Some((first_chunk, bytes)) = run {
        changed.push(Changed { buffer: w.buffer, first_chunk, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunks_that_differ_are_reported_in_runs() {
        let w = Watched { buffer: BufferId(3), address: 64, bytes: 10, chunk_bytes: 2, of_others: false };
        let (mut last, mut changed) = (HashMap::new(), Vec::new());
        compare(&w, &[0; 10], &mut last, &mut changed);
        assert_eq!(changed, [Changed { buffer: BufferId(3), first_chunk: 0, bytes: vec![0; 10] }]);
        changed.clear();
        compare(&w, &[0, 0, 1, 0, 0, 2, 0, 0, 0, 3], &mut last, &mut changed);
        assert_eq!(
            changed,
            [
                Changed { buffer: BufferId(3), first_chunk: 1, bytes: vec![1, 0, 0, 2] },
                Changed { buffer: BufferId(3), first_chunk: 4, bytes: vec![0, 3] },
            ]
        );
        changed.clear();
        compare(&w, &[0, 0, 1, 0, 0, 2, 0, 0, 0, 3], &mut last, &mut changed);
        assert_eq!(changed, []);
    }
}
