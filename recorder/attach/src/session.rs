//! What the program has: memory, streams, graphs, watched buffers, and the step it is in.
//!
//! One for the process, behind one lock that is held for a few map operations and never while the driver runs.

pub mod memory;
pub mod watches;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use twinstep_traces::{BufferId, BufferRecord, DType, GraphId, Role};

use crate::contents::{Contents, Node};
use crate::driver::{CUevent, CUfunction, CUgraphExec, CUstream, STREAM_LEGACY};
use crate::events::{Event, Kind};
use crate::settings::Settings;
use crate::snapshot::Watched;
use crate::start::StartOn;
use crate::watch::{Place, StepRule, glob};
use memory::Memory;
use watches::Watches;

/// Events that may wait for the writer. Beyond that the newest are dropped, with a gap.
const MAX_EVENTS: usize = 1 << 21;

/// Bytes that buffers named by themselves may have together.
pub const AUTO_TOTAL_BYTES: u64 = 64 << 20;

/// Bytes of one buffer that is named by itself, where nobody says.
const AUTO_BYTES: u64 = 65536;

/// Chunk size of buffers that are copied.
pub const CHUNK_BYTES: u32 = crate::snapshot::CHUNK_LIMIT;

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

#[derive(Debug, Clone)]
struct Graph {
    id: GraphId,
    launched_in: u64,
    ends_step: bool,
    set_in_place: bool,
    contents: Arc<Contents>,
}

/// A graph that is about to be launched, or a bracket: what snapshots to take.
pub struct Planned {
    /// Ends the step before.
    pub ends_step: bool,
    pub graph: Option<GraphId>,
    pub stream: u32,
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

    /// The driver gave memory.
    pub fn allocated(&mut self, address: u64, bytes: u64) {
        if address == 0 || bytes == 0 {
            return;
        }
        // The driver would not give memory that is taken: what we know of it is out of date.
        self.freed_range(address, bytes);
        let name = format!("cuda.{}", self.next_allocation);
        self.next_allocation += 1;
        let buffer = self.declare(BufferRecord {
            name,
            generation: 0,
            dtype: DType::U8,
            shape: vec![bytes],
            role: Role::Scratch,
            bytes,
            chunk_bytes: CHUNK_BYTES,
            address: Some(address),
            contents: None,
        });
        self.memory.insert(address, bytes, buffer);
        self.watch_addresses();
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

    // Watched buffers ----------------------------------------------------------------------------

    /// A name for memory. The same again is nothing new; anything else is a new generation.
    ///
    /// # Errors
    /// One line.
    pub fn watch(
        &mut self,
        name: &str,
        address: u64,
        dtype: DType,
        shape: &[u64],
        role: Role,
    ) -> Result<(), String> {
        let bytes = shape.iter().try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
        let bytes = bytes.filter(|&b| b > 0 && address.checked_add(b).is_some());
        let bytes = bytes.ok_or_else(|| format!("`{name}` of shape {shape:?} has no bytes, or too many"))?;
        if address == 0 {
            return Err(format!("`{name}` has no address"));
        }
        if self.watches.same(name, address, dtype, shape, role) {
            return Ok(());
        }
        self.named = true;
        // A name that somebody gave takes the place of one that was made up.
        for (buffer, bytes) in self.watches.drop_made_up(address, bytes) {
            self.auto_total = self.auto_total.saturating_sub(bytes);
            let _ = buffer;
        }
        self.add_watch(name, address, bytes, dtype, shape.to_vec(), role, false);
        Ok(())
    }

    fn add_watch(
        &mut self,
        name: &str,
        address: u64,
        bytes: u64,
        dtype: DType,
        shape: Vec<u64>,
        role: Role,
        made_up: bool,
    ) {
        let generation = self.watches.next_generation(name);
        let buffer = self.declare(BufferRecord {
            name: name.to_owned(),
            generation,
            dtype,
            shape: shape.clone(),
            role,
            bytes,
            chunk_bytes: CHUNK_BYTES,
            address: Some(address),
            contents: None,
        });
        let watched = Watched { buffer, address, bytes, chunk_bytes: CHUNK_BYTES };
        self.watches.add(name, watched, dtype, shape, role, made_up);
    }

    /// Watches of the file that give an address, once there is memory.
    fn watch_addresses(&mut self) {
        if self.found.iter().all(|&found| found) {
            return;
        }
        let settings = self.settings.clone();
        for (i, watch) in settings.watch.watches.iter().enumerate() {
            let Place::Address(address) = watch.place else { continue };
            let bytes = watch.shape.iter().product::<u64>() * watch.dtype.size();
            if !self.found[i] && self.memory.holds(address, bytes) {
                self.found[i] = true;
                if let Err(trouble) = self.watch(&watch.name, address, watch.dtype, &watch.shape, watch.role)
                {
                    self.not_watched(trouble);
                }
            }
        }
    }

    /// A watch of the file that came to nothing.
    fn not_watched(&mut self, trouble: String) {
        crate::process::report(&self.settings, "trouble", &trouble);
        self.push(Event::Mark(trouble));
    }

    /// Watches of the file that give a kernel's parameter.
    pub fn watch_parameters(&mut self, kernel: &str, parameters: &[Vec<u8>]) {
        if self.found.iter().all(|&found| found) {
            return;
        }
        let settings = self.settings.clone();
        for (i, watch) in settings.watch.watches.iter().enumerate() {
            let Place::Parameter { kernel: pattern, parameter, byte } = &watch.place else { continue };
            if self.found[i] || !glob(pattern, kernel) {
                continue;
            }
            self.found[i] = true;
            let value = parameters.get(*parameter).and_then(|bytes| pointer(bytes, *byte));
            let bytes = watch.shape.iter().product::<u64>() * watch.dtype.size();
            let named = match value {
                Some(address) if self.memory.holds(address, bytes) => {
                    self.watch(&watch.name, address, watch.dtype, &watch.shape, watch.role)
                }
                Some(address) => Err(format!(
                    "`{}` is not watched: parameter {parameter} of {kernel} is {address:#x}, where no {bytes} bytes \
                     are allocated",
                    watch.name
                )),
                None => Err(format!(
                    "`{}` is not watched: {kernel} has no pointer at parameter {parameter}, byte {byte}",
                    watch.name
                )),
            };
            if let Err(trouble) = named {
                self.not_watched(trouble);
            }
        }
    }

    /// Whether the watch file waits for a kernel's parameter, and this kernel was not looked at yet.
    pub fn waits_for_kernel(&mut self, function: CUfunction) -> bool {
        let watches = self.settings.watch.watches.iter().zip(&self.found);
        let mut waits =
            watches.filter(|(watch, found)| !**found && matches!(watch.place, Place::Parameter { .. }));
        waits.next().is_some() && self.looked_at.insert(function)
    }

    /// What the file asks for and was never seen, one line each.
    pub fn not_found(&self) -> Vec<String> {
        let watches = self.settings.watch.watches.iter().zip(&self.found);
        let names = watches.filter(|(_, found)| !**found).map(|(watch, _)| &watch.name);
        let mut lines: Vec<String> =
            names.map(|name| format!("`{name}` of the watch file was never found")).collect();
        if let (StepRule::Launch(pattern), false) = (&self.settings.watch.step, self.rule_met) {
            lines.push(format!("step = \"launch:{pattern}\" of the watch file fits no graph's kernels"));
        }
        lines
    }

    /// Names memory that a graph's nodes take as pointers, unless somebody named buffers.
    fn watch_by_itself(&mut self, graph: GraphId, contents: &Contents) {
        let each =
            match (self.settings.watch.auto_bytes, self.named || !self.settings.watch.watches.is_empty()) {
                (Some(bytes), _) => bytes,
                (None, true) => 0,
                (None, false) => AUTO_BYTES,
            };
        if each == 0 {
            return;
        }
        let mut pointers = Vec::new();
        for (node, kernel) in contents.nodes.iter().enumerate() {
            let Node::Kernel(kernel) = kernel else { continue };
            for (parameter, bytes) in kernel.parameters.iter().enumerate() {
                for byte in (0..bytes.len().saturating_sub(7)).step_by(8) {
                    let Some(address) = pointer(bytes, byte) else { continue };
                    if self.memory.at(address).is_some() {
                        pointers.push((address, node, parameter, byte));
                    }
                }
            }
        }
        let mut starts: Vec<u64> = pointers.iter().map(|&(address, ..)| address).collect();
        starts.extend(self.watches.live().map(|watched| watched.address));
        starts.sort_unstable();
        starts.dedup();
        let mut seen = HashSet::new();
        for (address, node, parameter, byte) in pointers {
            if !seen.insert(address) || self.watches.covers(address) {
                continue;
            }
            let Some((start, bytes, _)) = self.memory.at(address) else { continue };
            let next = starts.get(starts.partition_point(|&s| s <= address)).copied().unwrap_or(u64::MAX);
            let end = (start + bytes).min(next).min(address.saturating_add(each));
            let bytes = end - address;
            if self.auto_total + bytes > AUTO_TOTAL_BYTES {
                if !std::mem::replace(&mut self.auto_full, true) {
                    self.push(Event::Mark(format!(
                        "not all pointers of graphs are watched by themselves: {} MiB are reached; name buffers, or \
                         set auto_bytes in a watch file",
                        AUTO_TOTAL_BYTES >> 20
                    )));
                }
                return;
            }
            self.auto_total += bytes;
            let g = graph.0;
            let name = match byte {
                0 => format!("g{g}.n{node}.p{parameter}"),
                byte => format!("g{g}.n{node}.p{parameter}.{byte}"),
            };
            self.add_watch(&name, address, bytes, DType::U8, vec![bytes], Role::State, true);
        }
    }

    /// No snapshot covers the name any more.
    pub fn unwatch(&mut self, name: &str) -> bool {
        self.watches.remove(name).is_some()
    }

    /// The engine gave the memory under a name back.
    pub fn freed(&mut self, name: &str) -> bool {
        let Some(buffer) = self.watches.remove(name) else { return false };
        self.push_always(Event::Free(buffer));
        true
    }

    // Graphs -------------------------------------------------------------------------------------

    /// A graph was instantiated.
    pub fn instantiated(&mut self, exec: CUgraphExec, contents: Contents) {
        let id = GraphId(self.next_graph);
        self.next_graph += 1;
        for node in &contents.nodes {
            if let Node::Kernel(kernel) = node {
                self.watch_parameters(&kernel.name, &kernel.parameters);
            }
        }
        self.watch_by_itself(id, &contents);
        let ends_step = match &self.settings.watch.step {
            StepRule::Repeat => false,
            StepRule::Launch(pattern) => contents
                .nodes
                .iter()
                .any(|node| matches!(node, Node::Kernel(kernel) if glob(pattern, &kernel.name))),
        };
        self.rule_met |= ends_step;
        let contents = Arc::new(contents);
        self.push_always(Event::Capture(id, contents.clone()));
        // An address that is used again belongs to a graph whose end we did not see.
        let graph = Graph { id, launched_in: 0, ends_step, set_in_place: false, contents };
        if let Some(old) = self.graphs.insert(exec, graph) {
            self.push_always(Event::DestroyGraph(old.id));
        }
    }

    /// A graph's nodes were changed in place: from here on it is another graph, unless nothing changed.
    pub fn updated(&mut self, exec: CUgraphExec, contents: Contents) {
        let Some(graph) = self.graphs.get(&exec) else { return };
        if *graph.contents == contents {
            return;
        }
        let (old, next) = (graph.id.0, self.next_graph);
        self.push(Event::Mark(format!("graph {old} was updated in place: it is graph {next} from here on")));
        self.instantiated(exec, contents);
    }

    /// One node's parameters were set in place: the driver does not tell which parameters a graph has then.
    pub fn set_in_place(&mut self, exec: CUgraphExec) {
        let Some(graph) = self.graphs.get_mut(&exec) else { return };
        if !std::mem::replace(&mut graph.set_in_place, true) {
            let id = graph.id.0;
            let reason =
                format!("what was set in place in nodes of graph {id}: its contents are as instantiated");
            self.push(Event::Gap(reason));
        }
    }

    /// The instantiated graph of that number, if it is not destroyed or updated since, and its nodes.
    pub fn exec(&self, id: GraphId) -> Option<(CUgraphExec, Arc<Contents>)> {
        let found = self.graphs.iter().find(|(_, graph)| graph.id == id);
        found.map(|(&exec, graph)| (exec, graph.contents.clone()))
    }

    /// A graph was destroyed.
    pub fn destroyed(&mut self, exec: CUgraphExec) {
        if let Some(graph) = self.graphs.remove(&exec) {
            // What ran in this step won't run in it again: where steps are guessed, the next launch begins one.
            self.step_over |= graph.launched_in == self.step;
            self.push_always(Event::DestroyGraph(graph.id));
        }
    }

    /// A graph is about to be launched: which it is, and whether that ends a step first.
    pub fn plan_launch(&mut self, exec: CUgraphExec, stream: CUstream) -> Option<Planned> {
        let stream = self.stream(stream);
        let (told, step, over) = (self.told || self.warm_up, self.step, self.step_over);
        let Some(graph) = self.graphs.get_mut(&exec) else {
            self.push(Event::Gap("a graph was launched whose instantiation was not seen".to_owned()));
            return None;
        };
        let ends_step = !told && (over || graph.launched_in == step);
        let next = if ends_step { step + 1 } else { step };
        graph.launched_in = next;
        let (id, last) = (graph.id, graph.ends_step);
        if ends_step {
            self.step = next;
        }
        self.step_over = last;
        Some(Planned { ends_step, graph: Some(id), stream })
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

/// The eight bytes at `byte` as an address.
fn pointer(bytes: &[u8], byte: usize) -> Option<u64> {
    let eight = bytes.get(byte..byte.checked_add(8)?)?;
    Some(u64::from_le_bytes(eight.try_into().ok()?))
}
