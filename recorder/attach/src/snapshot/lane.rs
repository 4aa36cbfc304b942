//! A lane: what snapshots on one stream need, on the device and on the host.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use twinstep_traces::BufferId;

use super::arrivals::{Arrivals, Flight, Landed, Layout, PUBLICATIONS};
use super::kernels::{self, Kernels};
use super::pinned::{Pinned, stamp};
use super::tables::{self, ENTRY_WORDS, Encoded, Places, Table};
use super::{CHUNK_LIMIT, Ticket, Watched};
use crate::driver::{self, CUstream};

/// Tables that a lane keeps ready: a program that alternates between sets of buffers writes none anew.
const TABLES: usize = 4;

/// Bytes of `Control` and what is left free behind it: a multiple of what an allocation is aligned to.
const CONTROL: u64 = 256;

/// How long a kernel waits for room in the ring: where it hands over whole buffers for the first time, and else.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_millis(100);

/// See the module.
pub struct Lane {
    kernels: Arc<Kernels>,
    pinned: Pinned,
    layout: Layout,
    inner: Mutex<Inner>,
    /// Snapshots enqueued that [`Lane::take`] has not seen yet.
    expected: Mutex<Vec<Flight>>,
    arrivals: Mutex<Arrivals>,
    /// Launches enqueued and through.
    launched: AtomicU64,
    through: AtomicU64,
    /// The last snapshot was not whole: the writer does not keep up, and no kernel waits for it.
    behind: AtomicBool,
}

struct Inner {
    device: kernels::Lane,
    /// Chunks that `device.known` has room for.
    known: u64,
    places: Places,
    tables: Vec<Ready>,
    /// How often lanes began to share buffers, when `tables` were made.
    shared_epoch: u64,
}

/// A table on the device.
struct Ready {
    /// What it was asked for; none where it is out of date.
    of: Option<Arc<[Watched]>>,
    first_blocks: Vec<u32>,
    /// Counts quiet snapshots.
    turn: u32,
    table: Arc<Table>,
    /// Device address and size of the memory that holds it.
    memory: (u64, u64),
    entry_of_block: u64,
    blocks: u32,
    /// The last launch with it.
    last: u64,
}

/// What all lanes know of buffers that several of them look at.
pub trait Sharing {
    /// Changes whenever lanes begin to share a buffer.
    fn epoch(&self) -> u64;
    /// A lane looks at a buffer: whether others do, and how often that began.
    fn join(&self, lane: usize, buffer: BufferId) -> (bool, u32);
}

impl Lane {
    /// A lane with a ring of `slots` slots (a power of two). The context is current, `stream` is of it. `spare` is pinned
    /// memory that an attempt for as many slots left in this context: the next one may be soon, and pins no more.
    ///
    /// # Errors
    /// No memory.
    pub fn new(
        kernels: Arc<Kernels>,
        stream: CUstream,
        slots: u32,
        spare: &mut Option<Pinned>,
    ) -> Result<Self, String> {
        let layout = Layout::new(u64::from(slots));
        let known = 1 << 14;
        let pinned = match spare.take() {
            Some(pinned) => pinned,
            None => Pinned::new(layout.bytes())?,
        };
        // In one piece, so that a device without memory has nothing of it.
        let control = match zeroed(stream, CONTROL + known * 16) {
            Ok(control) => control,
            Err(reason) => {
                *spare = Some(pinned);
                return Err(reason);
            }
        };
        let device = kernels::Lane {
            known: control + CONTROL,
            control,
            tail: pinned.device(layout.tail()),
            ring: pinned.device(layout.slot(0)),
            payload: pinned.device(layout.payload(0)),
            slots,
        };
        let inner = Inner { device, known, places: Places::default(), tables: Vec::new(), shared_epoch: 0 };
        Ok(Self {
            kernels,
            pinned,
            layout,
            inner: Mutex::new(inner),
            expected: Mutex::default(),
            arrivals: Mutex::default(),
            launched: AtomicU64::new(0),
            through: AtomicU64::new(0),
            behind: AtomicBool::new(false),
        })
    }

    /// Enqueues a snapshot. `ticket` is called once, and only if that number is used; what the driver refuses after
    /// that is a snapshot that is lost.
    ///
    /// # Errors
    /// Nothing was enqueued.
    pub fn enqueue(
        &self,
        number: usize,
        stream: CUstream,
        watched: &Arc<[Watched]>,
        quiet: bool,
        sharing: &impl Sharing,
        ticket: impl FnOnce() -> Ticket,
    ) -> Result<Ticket, String> {
        let mut inner = lock(&self.inner);
        let launch = self.launched.load(Ordering::Relaxed);
        if launch - self.through.load(Ordering::Acquire) >= PUBLICATIONS - 1 {
            return Err(format!("{PUBLICATIONS} snapshots wait for the device"));
        }
        let (mut ready, mut fresh) = self.ready(&mut inner, number, stream, watched, sharing)?;
        let ticket = ticket();
        // Lanes say that they share a buffer before they take a ticket: what has a later one learns of it here.
        let mut trouble = None;
        if inner.shared_epoch != sharing.epoch() {
            match self.ready(&mut inner, number, stream, watched, sharing) {
                Ok(again) => (ready, fresh) = (again.0, fresh || again.1),
                Err(reason) => trouble = Some(reason),
            }
        }
        let patience = match (self.behind.load(Ordering::Relaxed), fresh) {
            (true, _) => Duration::ZERO,
            (false, true) => FIRST_PATIENCE,
            (false, false) => PATIENCE,
        };
        let publication = (self.pinned.device(self.layout.publication(launch)), launch);
        let (device, with) = (inner.device, &mut inner.tables[ready]);
        with.last = launch;
        let all = kernels::Look { always: with.blocks, slice: 0, blocks: 0 };
        // Shared buffers have other lanes' writers, and what was lost is yet to be handed over.
        let partly =
            quiet && !fresh && !with.table.shared.contains(&true) && !self.behind.load(Ordering::Relaxed);
        let (look, audited) = if partly {
            with.turn = with.turn.wrapping_add(1);
            tables::part(&with.table.watched, &with.first_blocks, with.blocks, with.turn)
        } else {
            (all, with.table.watched.iter().map(super::whole).collect())
        };
        let (table, patience) = (with.table.clone(), u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        let place = (with.memory.0, with.entry_of_block);
        let launched = match trouble {
            Some(reason) => Err(reason),
            None => self.kernels.snapshot(stream, &device, place, look, publication, patience),
        };
        if launched.is_ok() {
            self.launched.store(launch + 1, Ordering::Release);
        }
        lock(&self.expected).push(Flight {
            ticket,
            table,
            audited,
            partly,
            launch: launched.map(|()| launch),
        });
        Ok(ticket)
    }

    /// The table of `watched`, known or made: its index, and whether it has entries that are new.
    fn ready(
        &self,
        inner: &mut Inner,
        number: usize,
        stream: CUstream,
        watched: &Arc<[Watched]>,
        sharing: &impl Sharing,
    ) -> Result<(usize, bool), String> {
        if inner.shared_epoch != sharing.epoch() {
            inner.shared_epoch = sharing.epoch();
            inner.tables.iter_mut().for_each(Ready::forget);
        }
        match inner
            .tables
            .iter()
            .position(|ready| ready.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, watched)))
        {
            Some(at) => Ok((at, false)),
            None => self.make_ready(inner, number, stream, watched, sharing),
        }
    }

    /// Puts a table on the device, in stream order. Gives its index, and whether it has entries that are new.
    fn make_ready(
        &self,
        inner: &mut Inner,
        number: usize,
        stream: CUstream,
        watched: &Arc<[Watched]>,
        sharing: &impl Sharing,
    ) -> Result<(usize, bool), String> {
        if let Some(w) =
            watched.iter().find(|w| w.bytes == 0 || w.chunk_bytes == 0 || w.chunk_bytes > CHUNK_LIMIT)
        {
            return Err(format!("{} bytes in chunks of {} can't be looked at", w.bytes, w.chunk_bytes));
        }
        let order = tables::sorted(watched);
        let joined: Vec<(bool, u32)> = order.iter().map(|w| sharing.join(number, w.buffer)).collect();
        // Joining may itself begin a sharing; tables of this lane that were made before are out of date then.
        if inner.shared_epoch != sharing.epoch() {
            inner.shared_epoch = sharing.epoch();
            inner.tables.iter_mut().for_each(Ready::forget);
        }
        let epochs: std::collections::HashMap<BufferId, u32> =
            order.iter().map(|w| w.buffer).zip(joined.iter().map(|j| j.1)).collect();
        let oldest = inner.tables.iter().enumerate().min_by_key(|(_, ready)| ready.last).map(|(at, _)| at);
        let at = match oldest {
            Some(at) if inner.tables.len() >= TABLES => at,
            _ => {
                inner.tables.push(Ready::new());
                inner.tables.len() - 1
            }
        };
        inner.tables[at].forget();
        let (tables, places) = (&inner.tables, &mut inner.places);
        places.keep(|buffer| {
            epochs.contains_key(&buffer)
                || tables.iter().any(|r| r.table.watched.iter().any(|w| w.buffer == buffer))
        });
        let encoded = places.encode(&order, |buffer| epochs.get(&buffer).copied().unwrap_or(0))?;
        if let Err(reason) = self.put(inner, at, stream, &encoded) {
            encoded.fresh.iter().for_each(|&buffer| inner.places.give_back(buffer));
            return Err(reason);
        }
        let ready = &mut inner.tables[at];
        ready.blocks = encoded.blocks;
        ready.of = Some(watched.clone());
        ready.first_blocks = encoded.first_blocks;
        ready.table = Arc::new(Table { watched: order, shared: joined.iter().map(|j| j.0).collect() });
        Ok((at, !encoded.fresh.is_empty()))
    }

    /// Has the device read a table in the memory of that index, and makes room for what it knows.
    fn put(&self, inner: &mut Inner, at: usize, stream: CUstream, encoded: &Encoded) -> Result<(), String> {
        if inner.places.end() > inner.known {
            let more = inner.places.end().next_power_of_two();
            let grown = zeroed(stream, more * 16)?;
            // SAFETY: both are memory of ours, of at least that size; the old one is kept for good, as kernels that
            // are under way may use it.
            let status = unsafe {
                driver::cuMemcpyDtoDAsync_v2(grown, inner.device.known, inner.known as usize * 16, stream)
            };
            refused(status, "a copy")?;
            (inner.device.known, inner.known) = (grown, more);
        }
        let entries = (encoded.words.len() * 8) as u64;
        let bytes = entries + u64::from(encoded.blocks) * 4;
        if inner.tables[at].memory.1 < bytes {
            let more = bytes.next_power_of_two().max(4096);
            inner.tables[at].memory = (zeroed(stream, more)?, more);
        }
        let memory = inner.tables[at].memory.0;
        let addresses = (memory, memory + entries, inner.device.known);
        inner.tables[at].entry_of_block = memory + entries;
        self.kernels.write_table(stream, addresses, &encoded.words, ENTRY_WORDS)
    }

    /// Gives the snapshots that are through.
    pub fn take(&self, landed: &mut Vec<Landed>) {
        let mut arrivals = lock(&self.arrivals);
        lock(&self.expected).drain(..).for_each(|flight| arrivals.expect(flight));
        let before = landed.len();
        arrivals.take(&self.pinned, &self.layout, landed);
        let new = landed[before..].iter().filter(|l| l.flight.launch.is_ok()).count();
        self.through.fetch_add(new as u64, Ordering::AcqRel);
        if let Some(last) = landed[before..].iter().rev().find(|l| l.flight.launch.is_ok()) {
            self.behind.store(last.lost.is_some(), Ordering::Relaxed);
        }
    }

    /// Whether nothing is under way.
    pub fn idle(&self) -> bool {
        self.launched.load(Ordering::Acquire) == self.through.load(Ordering::Acquire)
    }

    /// Waits until snapshots that look at memory in a range are through; `false` where that takes beyond `until`.
    /// Waits on the host only, for words in pinned memory.
    pub fn settle(&self, address: u64, bytes: u64, until: Instant) -> bool {
        let end = address.saturating_add(bytes);
        let inside = |w: &Watched| w.address < end && address < w.address.saturating_add(w.bytes);
        // Not while a snapshot is being enqueued: its flight is not listed yet.
        let last = loop {
            match self.inner.try_lock() {
                Ok(_inner) => {
                    let mut arrivals = lock(&self.arrivals);
                    lock(&self.expected).drain(..).for_each(|flight| arrivals.expect(flight));
                    break arrivals.last_looking_at(inside);
                }
                Err(std::sync::TryLockError::Poisoned(_)) => return false,
                Err(_) if Instant::now() > until => return false,
                Err(_) => std::thread::sleep(Duration::from_micros(20)),
            }
        };
        let Some(last) = last else { return true };
        while stamp(self.pinned.word(self.layout.publication(last))) <= last {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        true
    }
}

impl Ready {
    fn new() -> Self {
        let table = Arc::new(Table::gone());
        let (of, first_blocks) = (None, Vec::new());
        Self { of, first_blocks, turn: 0, table, memory: (0, 0), entry_of_block: 0, blocks: 0, last: 0 }
    }

    fn forget(&mut self) {
        self.of = None;
        self.table = Arc::new(Table::gone());
    }
}

impl Table {
    /// Looks at nothing.
    fn gone() -> Self {
        Self { watched: [].into(), shared: Vec::new() }
    }
}

/// Device memory of ours, zeroed in stream order. It is never given back: that would wait for the device.
fn zeroed(stream: CUstream, bytes: u64) -> Result<u64, String> {
    let mut address = 0;
    // SAFETY: `address` is a place for the answer.
    refused(unsafe { driver::cuMemAlloc_v2(&mut address, bytes as usize) }, "memory for snapshots")?;
    // SAFETY: memory that was just given, whole.
    refused(unsafe { driver::cuMemsetD8Async(address, 0, bytes as usize, stream) }, "a memset")?;
    Ok(address)
}

fn refused(status: driver::CUresult, what: &str) -> Result<(), String> {
    if status == driver::SUCCESS {
        Ok(())
    } else {
        Err(format!("the driver refuses {what} (error {status})"))
    }
}

/// A lock that a panic elsewhere does not close.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
