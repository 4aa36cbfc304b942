//! The writer thread: turns events, in order, into the records of a trace.
//!
//! An event that names a snapshot waits until that has arrived, and so does everything behind it: the file has
//! the order of the program's calls. A step is committed when its last snapshot is there. The program never waits
//! for this thread, except at its end, and then not for long.

mod draft;
mod names;
mod recording;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use twinstep_traces::{
    BufferRecord, DType, GraphId, Item, OpaqueLaunch, Phase, Program, RequestRecord, RunRecord, StepKind,
    WriteError,
};

use crate::attached::{Attached, this_thread_is_ours};
use crate::contents::{Contents, Kernel, Node};
use crate::events::{Event, Kind};
use crate::process;
use crate::ring::Ring;
use crate::snapshot::{Completed, Ticket};
use draft::Draft;
use names::Names;

pub use recording::{GraphDraft, Recording, Step};

/// How often set-up is committed while nothing else happens.
const SETUP_COMMIT: Duration = Duration::from_secs(2);
/// The same before the file has begun.
const FIRST_COMMIT: Duration = Duration::from_secs(30);
/// How long the thread sleeps when something was just written, and when nothing happens.
const SLEEP: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(5));

/// How often an idle thread looks whether the program's own threads have all ended.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How the program's threads speak to the writer.
#[derive(Debug, Default)]
pub struct Control {
    closing: AtomicBool,
    closed: AtomicBool,
    /// Set by who wants to wait; cleared once nothing was left to write.
    flush: AtomicBool,
    /// The file, once it has begun.
    path: Mutex<Option<PathBuf>>,
}

impl Control {
    /// The trace that is being written.
    pub fn path(&self) -> Option<PathBuf> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the recording: what has arrived is written and the file closed. Waits at most `limit`.
    pub fn close(&self, limit: Duration) {
        self.closing.store(true, Ordering::Release);
        self.wait(limit, || self.closed.load(Ordering::Acquire));
    }

    /// Waits until everything so far is committed, at most `limit`. Whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        self.flush.store(true, Ordering::Release);
        self.wait(limit, || !self.flush.load(Ordering::Acquire) || self.closed.load(Ordering::Acquire))
    }

    fn wait(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let end = Instant::now() + limit;
        while !done() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }
}

/// Starts the thread, with all signals blocked: they are the program's.
///
/// # Errors
/// Where the system has no thread for us.
pub fn spawn(attached: &'static Attached) -> std::io::Result<()> {
    // SAFETY: both sets are ours; the old mask is put back on this thread.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let spawned = std::thread::Builder::new().name("twinstep".to_owned()).spawn(move || run(attached));
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        spawned.map(drop)
    }
}

fn run(attached: &'static Attached) {
    this_thread_is_ours();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Writer::new(attached).run()));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => {
            process::report(&attached.settings, "trouble", &format!("recording ended: {trouble}"));
        }
        Err(_) => {
            process::report(&attached.settings, "trouble", "recording ended: a mistake in the recorder")
        }
    }
    attached.over.store(true, Ordering::Relaxed);
    attached.writer.closed.store(true, Ordering::Release);
}

struct Writer {
    attached: &'static Attached,
    pending: VecDeque<Event>,
    arrived: VecDeque<Completed>,
    /// Tickets below have arrived and are in the trace.
    next_ticket: u64,
    /// No snapshot will arrive any more.
    given_up: bool,
    ring: Ring,
    names: Names,
    /// Events so far: the time that names live in.
    now: u64,
    draft: Draft,
    /// Graphs whose records are not written yet: their operands get names that were given later, too.
    unwritten: Vec<(GraphId, std::sync::Arc<Contents>, u64)>,
    captures: bool,
    started: bool,
    request: u32,
    /// 0 until the first step of the request has ended.
    step: u32,
    warm_up: Option<String>,
    /// A request was told; without one all steps belong to request 1.
    asked: bool,
    brackets: HashMap<std::sync::Arc<str>, u32>,
    notes: Vec<(String, String)>,
    last_commit: Instant,
}

impl Writer {
    fn new(attached: &'static Attached) -> Self {
        Writer {
            attached,
            pending: VecDeque::new(),
            arrived: VecDeque::new(),
            next_ticket: 0,
            given_up: false,
            ring: Ring::new(attached.settings.ring),
            names: Names::default(),
            now: 0,
            draft: Draft::default(),
            unwritten: Vec::new(),
            captures: false,
            started: false,
            request: 0,
            step: 0,
            warm_up: None,
            asked: false,
            brackets: HashMap::new(),
            notes: Vec::new(),
            last_commit: Instant::now(),
        }
    }

    fn run(mut self) -> Result<(), WriteError> {
        let mut taken = Vec::new();
        let mut completed = Vec::new();
        let mut closing_since: Option<Instant> = None;
        let mut last_look = Instant::now();
        loop {
            let closing = self.attached.writer.closing.load(Ordering::Acquire);
            let flush = self.attached.writer.flush.load(Ordering::Acquire);
            {
                let mut session = self.attached.session();
                session.take_events(&mut taken);
                session.backlog = self.pending.len() + taken.len();
            }
            let mut busy = !taken.is_empty();
            self.pending.extend(taken.drain(..));
            self.attached.snapshotter.poll(&mut completed);
            busy |= !completed.is_empty();
            self.arrived.extend(completed.drain(..));
            self.work()?;
            if flush && self.pending.is_empty() {
                self.attached.writer.flush.store(false, Ordering::Release);
            }
            if closing {
                let since = *closing_since.get_or_insert_with(Instant::now);
                if self.pending.is_empty() && !busy {
                    return self.close();
                }
                // The device does not finish what was enqueued: the program ends without waiting for it.
                self.given_up |= since.elapsed() > Duration::from_secs(2);
                continue;
            }
            if self.draft.is_setup() && !self.draft.is_empty() && self.last_commit.elapsed() > self.patience()
            {
                self.commit_setup()?;
            }
            if !busy && last_look.elapsed() > LOOK_AROUND {
                if process::left_alone() {
                    self.attached.writer.closing.store(true, Ordering::Release);
                }
                last_look = Instant::now();
            }
            std::thread::sleep(if busy { SLEEP.0 } else { SLEEP.1 });
        }
    }

    /// How long set-up waits for more. The file begins with what the program tells of the run, so the first time
    /// it waits for a program that loads its weights before it tells.
    fn patience(&self) -> Duration {
        if self.ring.is_open() { SETUP_COMMIT } else { FIRST_COMMIT }
    }

    /// Writes what can be written.
    fn work(&mut self) -> Result<(), WriteError> {
        while let Some(event) = self.pending.front() {
            if let Some(ticket) = last_ticket(event)
                && !self.arrive(ticket)?
            {
                return Ok(());
            }
            let Some(event) = self.pending.pop_front() else { return Ok(()) };
            self.now += 1;
            self.take(event)?;
        }
        Ok(())
    }

    /// Puts all snapshots up to one into the trace; whether they have arrived.
    fn arrive(&mut self, ticket: Ticket) -> Result<bool, WriteError> {
        while self.next_ticket <= ticket.0 {
            let Some(completed) = self.arrived.pop_front() else { return Ok(self.given_up) };
            self.next_ticket = completed.ticket.0 + 1;
            if let Some(reason) = completed.lost {
                self.draft.push(Item::Gap { reason: format!("a snapshot: {reason}") });
                continue;
            }
            self.open()?;
            self.ring.snapshot(completed)?;
        }
        Ok(true)
    }

    fn take(&mut self, event: Event) -> Result<(), WriteError> {
        match event {
            Event::Declare(record) => self.declare(*record)?,
            Event::Allocate(buffer) => self.draft.push(Item::Allocate { buffer }),
            Event::Free(buffer) => {
                self.names.died(buffer, self.now);
                self.draft.push(Item::Free { buffer });
            }
            Event::Capture(graph, contents) => {
                self.captures = true;
                self.unwritten.push((graph, contents, self.now));
                self.draft.push(Item::Capture { graph });
            }
            Event::DestroyGraph(graph) => self.draft.push(Item::DestroyGraph { graph }),
            Event::GraphLaunch { graph, stream, before, after } => {
                self.first_launch()?;
                self.draft.graph_launch(graph, stream, before, after);
            }
            Event::Launch(stream, kernel) if self.started => {
                if self.asked || self.step > 0 {
                    self.first_launch()?;
                }
                let item = self.opaque(&kernel, stream, self.now);
                self.draft.launch(item);
            }
            Event::Copy { stream, target, source, bytes } if self.started => {
                let view = |address| self.names.view(address, bytes, self.now);
                let (to, from) = (view(target), view(source));
                self.draft.copy(Item::Copy {
                    stream,
                    source: from,
                    target: to,
                    source_address: source,
                    target_address: target,
                    bytes,
                });
            }
            Event::Fill { stream, target, pattern, element, bytes } if self.started => {
                let view = self.names.view(target, bytes, self.now);
                let pattern = pattern.to_le_bytes()[..usize::from(element.min(4))].to_vec();
                self.draft.push(Item::Fill { stream, target: view, target_address: target, pattern, bytes });
            }
            Event::EventRecord(event, stream) if self.started => {
                self.draft.push(Item::EventRecord { event, stream });
            }
            Event::EventWait(event, stream) if self.started => {
                self.draft.push(Item::EventWait { event, stream });
            }
            Event::Launch(..)
            | Event::Copy { .. }
            | Event::Fill { .. }
            | Event::EventRecord(..)
            | Event::EventWait(..) => {}
            Event::Bracket { name, end, stream, ticket } => self.bracket(&name, end, stream, ticket)?,
            Event::Start(mark) => {
                self.started = true;
                if let Some(text) = mark {
                    self.commit_setup()?;
                    self.draft.push(Item::Mark { text });
                }
            }
            Event::Mark(text) => self.draft.push(Item::Mark { text }),
            Event::Gap(reason) => self.draft.push(Item::Gap { reason }),
            Event::Note(key, value) if !self.ring.is_open() => self.notes.push((key, value)),
            Event::Note(key, value) => self.draft.push(Item::Mark { text: format!("{key}: {value}") }),
            Event::Request { id, prompt } => self.begin_request(id, prompt)?,
            Event::StepEnd(kind) => self.end_step(kind)?,
            Event::WarmUp(label) => {
                self.commit_setup_or_step()?;
                if let Some(label) = &label {
                    self.draft.push(Item::Mark { text: format!("warm-up: {label}") });
                }
                self.warm_up = label;
            }
        }
        Ok(())
    }

    fn declare(&mut self, record: BufferRecord) -> Result<(), WriteError> {
        self.names.born(&record, self.now);
        self.ring.declare(record)
    }

    /// What came before the first launch of the first step is set-up.
    fn first_launch(&mut self) -> Result<(), WriteError> {
        if self.warm_up.is_none() && self.draft.is_setup() {
            if !self.asked && self.request == 0 {
                self.request = 1;
                self.ring.request(RequestRecord {
                    request: 1,
                    text: String::new(),
                    prompt: Vec::new(),
                    row: 0,
                })?;
            }
            if self.step == 0 && !self.draft.in_request() {
                self.commit_setup()?;
            }
            self.draft.begin_step();
        }
        Ok(())
    }

    fn bracket(
        &mut self,
        name: &std::sync::Arc<str>,
        end: bool,
        stream: u32,
        ticket: Option<Ticket>,
    ) -> Result<(), WriteError> {
        if !end {
            self.first_launch()?;
            let count = self.brackets.entry(name.clone()).or_insert(0);
            *count += 1;
        }
        let count = self.brackets.get(name).copied().unwrap_or(1);
        let label = if count > 1 { format!("{name}#{count}") } else { name.to_string() };
        if end {
            self.draft.bracket_end(&label, ticket);
        } else {
            self.draft.bracket_begin(&label, name, stream, ticket);
        }
        Ok(())
    }

    fn begin_request(&mut self, id: String, prompt: Vec<u32>) -> Result<(), WriteError> {
        self.commit_setup_or_step()?;
        self.asked = true;
        self.request += 1;
        self.step = 0;
        self.ring.request(RequestRecord { request: self.request, text: id, prompt, row: 0 })?;
        self.draft.begin_request();
        Ok(())
    }

    fn end_step(&mut self, kind: Kind) -> Result<(), WriteError> {
        if self.warm_up.is_some() {
            return Ok(());
        }
        if self.draft.is_setup() {
            self.first_launch()?;
        }
        self.step += 1;
        let next = self.commit_step(kind)?;
        self.draft = next;
        Ok(())
    }

    /// Before something that ends a step which nobody ended: launched work is a step where steps are guessed,
    /// set-up otherwise.
    fn commit_setup_or_step(&mut self) -> Result<(), WriteError> {
        if !self.draft.is_setup() && !self.asked && self.warm_up.is_none() && self.draft.has_launches() {
            return self.end_step(Kind::ByItself);
        }
        self.commit_setup()
    }

    /// Commits the draft as a step; gives the beginning of the next.
    fn commit_step(&mut self, kind: Kind) -> Result<Draft, WriteError> {
        let mut draft = std::mem::take(&mut self.draft);
        self.brackets.clear();
        let next = if kind == Kind::ByItself { draft.split_tail() } else { Draft::default() };
        if !self.started {
            // Counted, not kept: only what happened to memory and graphs stays.
            draft.keep_standing();
            let mut kept = draft;
            kept.append(next);
            kept.setup_again();
            return Ok(kept);
        }
        let kind = match kind {
            Kind::ByItself | Kind::Decode => StepKind::Decode,
            Kind::Prefill => StepKind::Prefill,
            Kind::Told if self.step == 1 => StepKind::Prefill,
            Kind::Told => StepKind::Decode,
        };
        self.commit(draft, kind, self.request, self.step)?;
        Ok(next)
    }

    fn commit_setup(&mut self) -> Result<(), WriteError> {
        let mut draft = std::mem::take(&mut self.draft);
        self.brackets.clear();
        if !self.started {
            draft.keep_standing();
        }
        if draft.is_empty() {
            return Ok(());
        }
        let again = self.warm_up.as_ref().map(|label| Item::Mark { text: format!("warm-up: {label}") });
        self.commit(draft, StepKind::Setup, 0, 0)?;
        if let Some(mark) = again {
            self.draft.push(mark);
        }
        Ok(())
    }

    fn commit(&mut self, draft: Draft, kind: StepKind, request: u32, step: u32) -> Result<(), WriteError> {
        self.open()?;
        self.write_graphs(request, step)?;
        let (items, points) = draft.finish(match kind {
            StepKind::Prefill => Phase::Prefill,
            StepKind::Setup => Phase::Setup,
            StepKind::Decode | StepKind::Codec => Phase::Forward,
        });
        let rank = self.attached.settings.rank.unwrap_or(0);
        self.ring.step(Step { kind, request, step, rank, items, points })?;
        self.last_commit = Instant::now();
        Ok(())
    }

    /// Graph records are written as late as possible: names given since the capture are used too.
    fn write_graphs(&mut self, request: u32, step: u32) -> Result<(), WriteError> {
        for (id, contents, at) in std::mem::take(&mut self.unwritten) {
            let mut items = Vec::with_capacity(contents.nodes.len());
            for node in &contents.nodes {
                items.push(match node {
                    Node::Kernel(kernel) => self.opaque(kernel, 0, at),
                    Node::Copy { target, source, bytes } => Item::Copy {
                        stream: 0,
                        source: self.names.view(*source, *bytes, at),
                        target: self.names.view(*target, *bytes, at),
                        source_address: *source,
                        target_address: *target,
                        bytes: *bytes,
                    },
                    Node::Fill { target, pattern, bytes } => Item::Fill {
                        stream: 0,
                        target: self.names.view(*target, *bytes, at),
                        target_address: *target,
                        pattern: pattern.clone(),
                        bytes: *bytes,
                    },
                    Node::Other(kind) => Item::Mark { text: kind.clone() },
                });
            }
            items.extend(contents.troubles.iter().map(|reason| Item::Gap { reason: reason.clone() }));
            let graph = GraphDraft {
                id,
                label: String::new(),
                program: Program { items },
                edges: contents.edges.clone(),
                captured_at: (request, step),
            };
            self.ring.graph(graph)?;
        }
        Ok(())
    }

    fn opaque(&self, kernel: &Kernel, stream: u32, at: u64) -> Item {
        let mut operands = Vec::new();
        for (parameter, bytes) in kernel.parameters.iter().enumerate() {
            for (word, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
                if let Some(view) = self.names.operand(u64::from_le_bytes(*eight), at) {
                    operands.push((parameter as u32, 8 * word as u32, view));
                }
            }
        }
        Item::Opaque(OpaqueLaunch {
            kernel: kernel.name.clone(),
            phase: Phase::Forward,
            stream,
            grid: kernel.grid,
            block: kernel.block,
            cluster: kernel.cluster,
            shared_bytes: kernel.shared_bytes,
            parameters: kernel.parameters.clone(),
            operands,
        })
    }

    /// Begins the file, once there is something to write.
    fn open(&mut self) -> Result<(), WriteError> {
        if self.ring.is_open() {
            return Ok(());
        }
        let settings = &self.attached.settings;
        let run = self.run_record();
        let (path, recording) = recording::create(settings, &run)?;
        process::report(settings, "recorded", &path.display().to_string());
        *self.attached.writer.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        self.ring.open(path, run, recording)
    }

    fn run_record(&self) -> RunRecord {
        let settings = &self.attached.settings;
        let mut mode = if self.captures { "graph" } else { "eager" }.to_owned();
        let mut notes = vec![("engine".to_owned(), "foreign".to_owned())];
        let mut process = vec![
            ("process.command".to_owned(), command_line()),
            ("process.parent".to_owned(), std::os::unix::process::parent_id().to_string()),
            ("process.pid".to_owned(), std::process::id().to_string()),
        ];
        process.extend(settings.rank.map(|rank| ("process.rank".to_owned(), rank.to_string())));
        let (mut model, mut prompt) = (String::new(), String::new());
        for (key, value) in &self.notes {
            match key.as_str() {
                "mode" => mode.clone_from(value),
                "model" => model.clone_from(value),
                "prompt" => prompt.clone_from(value),
                "engine" => {}
                _ => process.push((key.clone(), value.clone())),
            }
        }
        process.sort();
        process.dedup_by(|b, a| a.0 == b.0);
        notes.extend(process);
        RunRecord {
            tool: concat!("twinstep attach ", env!("CARGO_PKG_VERSION")).to_owned(),
            mode,
            model,
            prompt,
            device: self.attached.device.get().cloned().unwrap_or_default(),
            notes,
            ..RunRecord::default()
        }
    }

    fn close(mut self) -> Result<(), WriteError> {
        let missing = self.attached.session().not_found();
        if !self.attached.cuda.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.draft.is_empty() {
            if self.given_up {
                let reason = "snapshots that had not arrived when the program ended".to_owned();
                self.draft.push(Item::Gap { reason });
            }
            if self.draft.is_setup() || self.asked || self.warm_up.is_some() {
                self.commit_setup()?;
            } else {
                self.end_step(Kind::ByItself)?;
            }
        }
        for text in missing {
            process::report(&self.attached.settings, "trouble", &text);
            self.draft.push(Item::Mark { text });
        }
        self.commit_setup()?;
        self.open()?;
        self.ring.finish()
    }
}

/// The snapshot that an event waits for.
fn last_ticket(event: &Event) -> Option<Ticket> {
    match event {
        Event::GraphLaunch { before, after, .. } => *before.max(after),
        Event::Bracket { ticket, .. } => *ticket,
        _ => None,
    }
}

fn command_line() -> String {
    let bytes = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = bytes.split(|&b| b == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
}

/// A buffer's element type, for views of raw bytes.
const BYTES: DType = DType::U8;
