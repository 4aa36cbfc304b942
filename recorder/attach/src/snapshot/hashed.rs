//! Snapshots by a kernel of ours: only chunks that changed leave the device.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use twinstep_traces::BufferId;

use super::kernels::Kernels;
use super::lane::{Lane, Sharing, lock};
use super::order::Order;
use super::pinned::Pinned;
use super::{Completed, Snapshotter, Ticket, Watched};
use crate::driver::{self, CUcontext, CUstream, STREAM_PER_THREAD};

/// Slots (a chunk each) in the ring of the first lane, and of each later one.
const FIRST_SLOTS: u32 = 1 << 16;
const LATER_SLOTS: u32 = 1 << 14;

/// Streams with snapshots under way at one time.
const MAX_LANES: usize = 16;

/// How long memory is kept from being given back while a snapshot looks at it.
const SETTLE: Duration = Duration::from_secs(2);

/// `CU_STREAM_CAPTURE_MODE_RELAXED`: what we allocate is no business of a capture that is under way elsewhere.
const RELAXED: i32 = 2;

/// What tells streams apart: a context, and the driver's own number of the stream, else its handle and thread.
type StreamKey = (CUcontext, u64, u64);

/// See the module. One for the process.
#[derive(Default)]
pub struct Hashed {
    lanes: Mutex<Lanes>,
    next: AtomicU64,
    sharing: Registry,
    order: Mutex<Order>,
    process: u32,
}

#[derive(Default)]
struct Lanes {
    kernels: HashMap<CUcontext, Result<Arc<Kernels>, String>>,
    all: Vec<(CUcontext, Arc<Lane>)>,
    of_stream: HashMap<StreamKey, usize>,
    /// Of lanes that found no memory on the device, by context and slots.
    spare: HashMap<(CUcontext, u32), Pinned>,
}

impl Lanes {
    /// The kernels of the current context, loaded once.
    fn kernels(&mut self, context: CUcontext) -> Result<Arc<Kernels>, String> {
        let load = || relaxed(|| Kernels::load().map(Arc::new));
        self.kernels.entry(context).or_insert_with(load).clone()
    }
}

impl Hashed {
    /// Nothing is loaded or allocated until the first snapshot.
    pub fn new() -> Self {
        Self { process: std::process::id(), ..Self::default() }
    }

    /// A forked child has the parent's words and none of its device.
    fn ours(&self) -> bool {
        std::process::id() == self.process
    }

    /// Whether the kernels run in the current context.
    ///
    /// # Errors
    /// Why not.
    pub fn runs(&self) -> Result<(), String> {
        let mut context = 0;
        // SAFETY: a place for the answer.
        unsafe { driver::cuCtxGetCurrent(&mut context) };
        lock(&self.lanes).kernels(context).map(drop)
    }

    fn lane(&self, context: CUcontext, stream: CUstream) -> Result<(usize, Arc<Lane>), String> {
        let key = stream_key(context, stream);
        let mut lanes = lock(&self.lanes);
        if let Some(&at) = lanes.of_stream.get(&key) {
            return Ok((at, lanes.all[at].1.clone()));
        }
        relaxed(|| {
            let kernels = lanes.kernels(context)?;
            let at = if lanes.all.len() < MAX_LANES {
                let slots = if lanes.all.is_empty() { FIRST_SLOTS } else { LATER_SLOTS };
                let mut spare = lanes.spare.remove(&(context, slots));
                let lane = Lane::new(kernels, stream, slots, &mut spare);
                lanes.spare.extend(spare.map(|pinned| ((context, slots), pinned)));
                lanes.all.push((context, Arc::new(lane?)));
                lanes.all.len() - 1
            } else {
                // A lane whose kernels are all through may serve another stream.
                let free = lanes.all.iter().position(|(owner, lane)| *owner == context && lane.idle());
                let free =
                    free.ok_or_else(|| format!("more than {MAX_LANES} streams have watched launches"))?;
                lanes.of_stream.retain(|_, at| *at != free);
                free
            };
            lanes.of_stream.insert(key, at);
            Ok((at, lanes.all[at].1.clone()))
        })
    }

    fn all(&self) -> Vec<Arc<Lane>> {
        lock(&self.lanes).all.iter().map(|(_, lane)| lane.clone()).collect()
    }
}

impl Snapshotter for Hashed {
    fn enqueue(&self, stream: CUstream, watched: &Arc<[Watched]>, quiet: bool) -> Result<Ticket, String> {
        if !self.ours() {
            return Err("CUDA does not survive a fork".to_owned());
        }
        let (mut context, mut capturing) = (0, 0);
        // SAFETY: places for the answers; `stream` is one of the program's, which it is about to launch on.
        let status = unsafe {
            driver::cuCtxGetCurrent(&mut context);
            driver::cuStreamIsCapturing(stream, &mut capturing)
        };
        if status != driver::SUCCESS || capturing != 0 {
            return Err("the stream is being captured".to_owned());
        }
        if context == 0 {
            return Err("no context is current".to_owned());
        }
        let (number, lane) = self.lane(context, stream)?;
        let ticket = || Ticket(self.next.fetch_add(1, Ordering::AcqRel));
        // A table may have to grow.
        relaxed(|| lane.enqueue(number, stream, watched, quiet, &self.sharing, ticket))
    }

    fn poll(&self, completed: &mut Vec<Completed>) {
        if !self.ours() {
            return;
        }
        let mut order = lock(&self.order);
        let mut landed = Vec::new();
        for (number, lane) in self.all().iter().enumerate() {
            lane.take(&mut landed);
            landed.drain(..).for_each(|one| order.put(number, one));
        }
        order.give(completed);
    }

    fn settle(&self, address: u64, bytes: u64) -> bool {
        let until = Instant::now() + SETTLE;
        !self.ours() || self.all().iter().all(|lane| lane.settle(address, bytes, until))
    }
}

fn stream_key(context: CUcontext, stream: CUstream) -> StreamKey {
    let mut id = 0;
    // SAFETY: a place for the answer; the stream is the program's.
    if unsafe { driver::cuStreamGetId(stream, &mut id) } == driver::SUCCESS {
        return (context, id, u64::MAX);
    }
    // SAFETY: no arguments.
    let thread = if stream == STREAM_PER_THREAD { unsafe { libc::gettid() } } else { 0 };
    (context, stream as u64, u64::from(thread.unsigned_abs()))
}

/// Runs `body` so that allocations in it disturb no capture of any thread.
fn relaxed<T>(body: impl FnOnce() -> T) -> T {
    let mut mode = RELAXED;
    // SAFETY: exchanges the calling thread's mode with the one given, and back.
    let changed = unsafe { driver::cuThreadExchangeStreamCaptureMode(&mut mode) } == driver::SUCCESS;
    let result = body();
    if changed {
        // SAFETY: as above.
        unsafe { driver::cuThreadExchangeStreamCaptureMode(&mut mode) };
    }
    result
}

/// Which lanes look at which buffer.
#[derive(Default)]
struct Registry {
    epoch: AtomicU64,
    lanes: Mutex<HashMap<BufferId, (Vec<usize>, u32)>>,
}

impl Sharing for Registry {
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn join(&self, lane: usize, buffer: BufferId) -> (bool, u32) {
        let mut lanes = lock(&self.lanes);
        let (who, shared) = lanes.entry(buffer).or_default();
        if !who.contains(&lane) {
            who.push(lane);
            if who.len() == 2 {
                *shared += 1;
                self.epoch.fetch_add(1, Ordering::SeqCst);
            }
        }
        (who.len() > 1, *shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_shared_from_its_second_lane_on() {
        let registry = Registry::default();
        assert_eq!(registry.join(0, BufferId(1)), (false, 0));
        assert_eq!((registry.join(0, BufferId(1)), registry.epoch()), ((false, 0), 0));
        assert_eq!((registry.join(1, BufferId(1)), registry.epoch()), ((true, 1), 1));
        assert_eq!((registry.join(2, BufferId(1)), registry.epoch()), ((true, 1), 1));
        assert_eq!(registry.join(2, BufferId(2)), (false, 0));
    }
}
