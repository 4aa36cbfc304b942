//! What the program has: memory, streams, graphs, watched buffers, and the step it is in.
//!
//! One for the process, behind one lock that is held for a few map operations and never while the driver runs.

mod graphs;
pub mod handles;
pub mod memory;
mod naming;
pub mod watches;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use twinstep_traces::{BufferId, BufferRecord, DType, Role};

use crate::driver::{CUcontext, CUevent, CUfunction, CUgraphExec, CUstream, STREAM_LEGACY};
use crate::events::{Event, Kind};
use crate::settings::Settings;
use crate::start::StartOn;
use graphs::Graph;
use handles::Handles;
use memory::{Memory, Place};
use watches::Watches;

pub use graphs::Planned;

/// Events that may wait for the writer. Beyond that the newest are dropped, with a gap.
const MAX_EVENTS: usize = 1 << 21;

/// Chunk size of buffers that are copied.
pub const CHUNK_BYTES: u32 = crate::snapshot::CHUNK_LIMIT;

/// A context of the program.
#[derive(Debug)]
struct InContext {
    device: i32,
    /// Where memory was given in it, which may be gone by now.
    addresses: HashSet<u64>,
    /// Snapshots were taken in it.
    looked: bool,
}

/// See the module.
pub struct Session {
    settings: Arc<Settings>,
    events: Vec<Event>,
    /// Events that the writer has taken and not yet written.
    pub backlog: usize,
    dropped: u64,
    pub memory: Memory,
    pub watches: Watches,
    streams: HashMap<CUstream, u32>,
    cuda_events: HashMap<CUevent, u32>,
    graphs: HashMap<CUgraphExec, Graph>,
    next_graph: u32,
    next_buffer: u32,
    next_allocation: u32,
    /// Contexts in which memory was given, or looked at.
    contexts: HashMap<CUcontext, InContext>,
    /// Memory of other processes: how often each is open.
    pub opened: HashMap<u64, u32>,
    pub handles: Handles,
    /// Somebody says when steps end; nothing is guessed then.
    told: bool,
    /// Counts steps; a graph remembers in which it was launched last.
    step: u64,
    /// The step ends before the next graph launch (`step = "launch:GLOB"`).
    step_over: bool,
    requests: u32,
    warm_up: bool,
    /// Between the start and the end of recording.
    recording: bool,
    /// Somebody named a buffer.
    named: bool,
    auto_total: u64,
    auto_full: bool,
    /// For each watch of the file: whether its place was found.
    found: Vec<bool>,
    /// A graph came with a kernel that ends a step.
    rule_met: bool,
    /// Functions launched while the watch file waits for a kernel: each is looked at once.
    looked_at: HashSet<CUfunction>,
}

impl Session {
    pub fn new(settings: Arc<Settings>) -> Self {
        let recording = settings.start_on == StartOn::Now;
        let found = vec![false; settings.watch.watches.len()];
        let mut session = Session {
            settings,
            events: Vec::with_capacity(1 << 14),
            backlog: 0,
            dropped: 0,
            memory: Memory::default(),
            watches: Watches::default(),
            streams: HashMap::from([(STREAM_LEGACY, 0)]),
            cuda_events: HashMap::new(),
            graphs: HashMap::new(),
            next_graph: 0,
            next_buffer: 0,
            next_allocation: 0,
            contexts: HashMap::new(),
            opened: HashMap::new(),
            handles: Handles::default(),
            told: false,
            step: 1,
            step_over: false,
            requests: 0,
            warm_up: false,
            recording,
            named: false,
            auto_total: 0,
            auto_full: false,
            found,
            rule_met: false,
            looked_at: HashSet::new(),
        };
        if recording {
            session.events.push(Event::Start(None));
        }
        session
    }

    /// Puts an event into the queue.
    pub fn push(&mut self, event: Event) {
        if self.events.len() + self.backlog >= MAX_EVENTS {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.events.push(Event::Gap(format!("{dropped} calls: the writer could not keep up")));
        }
        self.events.push(event);
    }

    /// Whether events wait that had the device do something.
    pub fn had_device_do(&self) -> bool {
        self.events.iter().any(Event::is_of_device)
    }

    /// Hands all events to the writer, in exchange for an empty vector.
    pub fn take_events(&mut self, empty: &mut Vec<Event>) {
        std::mem::swap(&mut self.events, empty);
    }

    /// Whether what the program runs is recorded at this moment.
    pub fn recording(&mut self) -> bool {
        if !self.recording && self.settings.start_on == StartOn::Signal && crate::start::signalled() {
            self.start("recording begins here: signal".to_owned());
        }
        self.recording
    }

    fn start(&mut self, mark: String) {
        self.recording = true;
        self.push(Event::Start(Some(mark)));
    }

    /// Whether snapshots are taken at this moment.
    pub fn copying(&mut self) -> bool {
        self.recording() && !self.warm_up
    }

    /// Our number of a stream: 0 is the legacy default stream, others count in order of first use.
    pub fn stream(&mut self, stream: CUstream) -> u32 {
        let next = self.streams.len() as u32;
        *self.streams.entry(stream).or_insert(next)
    }

    /// Our number of an event.
    pub fn cuda_event(&mut self, event: CUevent) -> u32 {
        let next = self.cuda_events.len() as u32;
        *self.cuda_events.entry(event).or_insert(next)
    }

    fn declare(&mut self, record: BufferRecord) -> BufferId {
        let id = BufferId(self.next_buffer);
        self.next_buffer += 1;
        self.push_always(Event::Declare(Box::new(record)));
        self.push_always(Event::Allocate(id));
        id
    }

    /// For events that others refer to: never dropped.
    fn push_always(&mut self, event: Event) {
        self.events.push(event);
    }

    // Memory -------------------------------------------------------------------------------------

    /// Memory is given at an address in a context, of that device.
    pub fn given_in(&mut self, context: (CUcontext, i32), address: u64) {
        if let Some(known) = self.in_context(context) {
            known.addresses.insert(address);
        }
    }

    /// A snapshot is taken in a context, of that device: what it needs lies there from here on.
    pub fn looked_in(&mut self, context: (CUcontext, i32)) {
        if let Some(known) = self.in_context(context) {
            known.looked = true;
        }
    }

    fn in_context(&mut self, (context, device): (CUcontext, i32)) -> Option<&mut InContext> {
        let new = || InContext { device, addresses: HashSet::new(), looked: false };
        (context != 0).then(|| self.contexts.entry(context).or_insert_with(new))
    }

    /// Contexts of a device that are known.
    pub fn contexts_of(&self, device: i32) -> Vec<CUcontext> {
        let all = self.contexts.iter().filter(|(_, known)| known.device == device);
        all.map(|(&context, _)| context).collect()
    }

    /// Whether snapshots look at memory of a context, or were taken in it.
    pub fn needs(&self, context: CUcontext) -> bool {
        self.contexts.get(&context).is_some_and(|known| {
            known.looked
                || self.of_context(known).any(|(address, bytes)| self.watches.overlap(address, bytes))
        })
    }

    /// A context is gone, with all memory that was given in it.
    pub fn forget_context(&mut self, context: CUcontext) {
        let Some(known) = self.contexts.remove(&context) else { return };
        let ranges: Vec<(u64, u64)> = self.of_context(&known).collect();
        ranges.into_iter().for_each(|(address, bytes)| self.freed_range(address, bytes));
    }

    /// Memory of a context that is there still.
    fn of_context<'a>(&'a self, known: &'a InContext) -> impl Iterator<Item = (u64, u64)> + 'a {
        let there = |&address: &u64| {
            let (start, bytes, _) = self.memory.at(address)?;
            (start == address).then_some((start, bytes))
        };
        known.addresses.iter().filter_map(there)
    }

    /// The driver gave memory.
    pub fn allocated(&mut self, address: u64, bytes: u64, place: Place) {
        if let Some(buffer) = self.declare_memory(address, bytes) {
            self.memory.insert(address, bytes, buffer, place);
            self.watch_addresses();
        }
    }

    /// Memory that comes from elsewhere, or is the host's: where from, in words.
    pub fn reached(&mut self, address: u64, bytes: u64, place: Place, from: &str) {
        let number = self.next_allocation;
        if let Some(buffer) = self.declare_memory(address, bytes) {
            self.memory.insert(address, bytes, buffer, place);
            self.push(Event::Mark(format!("cuda.{number} is {from}")));
            self.watch_addresses();
        }
    }

    /// Others may write the allocation that an address lies in from here on, without a call that is seen. One that is
    /// shared already is no news.
    pub fn shared(&mut self, address: u64) {
        let Some((start, bytes, _)) = self.memory.at(address) else { return };
        if !matches!(self.memory.place(address), Some(Place::Device(_))) {
            return;
        }
        self.memory.share(address);
        self.watches.shared(start, bytes);
        self.push(Event::Mark(format!(
            "{bytes} bytes at {start:#x} can be reached by other processes from here on: what those write is not seen"
        )));
    }

    fn declare_memory(&mut self, address: u64, bytes: u64) -> Option<BufferId> {
        if address == 0 || bytes == 0 {
            return None;
        }
        // The driver would not give memory that is taken: what we know of it is out of date.
        self.freed_range(address, bytes);
        let name = format!("cuda.{}", self.next_allocation);
        self.next_allocation += 1;
        Some(self.declare(BufferRecord {
            name,
            generation: 0,
            dtype: DType::U8,
            shape: vec![bytes],
            role: Role::Scratch,
            bytes,
            chunk_bytes: CHUNK_BYTES,
            address: Some(address),
            contents: None,
        }))
    }

    /// Whatever lies in a range is gone.
    pub fn freed_range(&mut self, address: u64, bytes: u64) {
        for buffer in self.watches.freed(address, bytes) {
            self.push_always(Event::Free(buffer));
        }
        for buffer in self.memory.remove(address, bytes) {
            self.push_always(Event::Free(buffer));
        }
    }

    // Steps --------------------------------------------------------------------------------------

    /// A request begins.
    pub fn request(&mut self, id: String, prompt: Vec<u32>) {
        self.told = true;
        self.requests += 1;
        if self.settings.start_on == StartOn::Request(self.requests) && !self.recording {
            self.start(format!("recording begins here: request {}", self.requests));
        }
        self.push_always(Event::Request { id, prompt });
    }

    /// The step that ran ends.
    pub fn step_end(&mut self, kind: Kind) {
        self.told = true;
        self.recording();
        self.push_always(Event::StepEnd(kind));
    }

    /// What follows is set-up.
    pub fn warm_up(&mut self, label: Option<String>) {
        self.told = true;
        self.warm_up = label.is_some();
        self.push_always(Event::WarmUp(label));
    }

    /// Brackets mean that somebody tells of steps.
    pub fn bracket(&mut self) {
        self.told = true;
    }
}
