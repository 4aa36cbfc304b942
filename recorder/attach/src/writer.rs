//! The writer thread: turns events, in order, into the records of a trace.
//!
//! An event that names a snapshot waits until that has arrived, and so does everything behind it: the file has
//! the order of the program's calls. A step is committed when its last snapshot is there. The program never waits
//! for this thread, except at its end, and then not for long.

mod control;
mod draft;
mod items;
mod names;
mod recording;
mod run;
mod steps;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use twinstep_traces::{BufferRecord, DType, GraphId, Item, WriteError};

use crate::attached::{Attached, this_thread_is_ours};
use crate::contents::Contents;
use crate::events::{Event, Kind};
use crate::process;
use crate::ring::Ring;
use crate::snapshot::{Completed, Ticket};
use draft::Draft;
use names::Names;

pub use control::Control;
pub use recording::{GraphDraft, Recording, Step};

/// How often set-up is committed while nothing else happens.
const SETUP_COMMIT: Duration = Duration::from_secs(2);
/// The same before the file has begun.
const FIRST_COMMIT: Duration = Duration::from_secs(30);
/// A guessed step is over when nothing happened for so long.
const STEP_COMMIT: Duration = Duration::from_secs(2);
/// How long the thread sleeps when something was just written, and when nothing happens.
const SLEEP: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(5));

/// How often an idle thread looks whether the program's own threads have all ended.
const LOOK_AROUND: Duration = Duration::from_secs(1);

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
    unwritten: Vec<(GraphId, Arc<Contents>, u64)>,
    captures: bool,
    started: bool,
    request: u32,
    /// 0 until the first step of the request has ended.
    step: u32,
    warm_up: Option<String>,
    /// A request was told; without one all steps belong to request 1.
    asked: bool,
    brackets: HashMap<Arc<str>, u32>,
    notes: Vec<(String, String)>,
    last_commit: Instant,
    last_event: Instant,
    /// Graph launches of the last step whose end was guessed.
    launches: usize,
    /// The step that is guessed to end next was committed already.
    early: bool,
    /// The program had the device do something.
    active: bool,
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
            last_event: Instant::now(),
            launches: 0,
            early: false,
            active: false,
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
            if !self.active && taken.iter().any(Event::is_of_device) {
                self.active = true;
                self.attached.tell_first();
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
            if busy {
                self.last_event = Instant::now();
            } else if self.last_event.elapsed() > STEP_COMMIT {
                self.commit_idle_step()?;
            }
            if !busy && last_look.elapsed() > LOOK_AROUND {
                if process::left_alone() {
                    self.attached.writer.closing.store(true, Ordering::Release);
                }
                last_look = Instant::now();
            }
            // Until there is a file, what a program that ends now has done is lost.
            let soon = busy || !self.ring.is_open() && self.last_event.elapsed() < LOOK_AROUND;
            std::thread::sleep(if soon { SLEEP.0 } else { SLEEP.1 });
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
            let Some(ticket) = last_ticket(event) else {
                self.take_next()?;
                continue;
            };
            // What came before the first launch is there even if that never ends.
            if !matches!(event, Event::Bracket { end: true, .. }) {
                self.first_launch()?;
            }
            if !self.arrive(ticket)? {
                return Ok(());
            }
            self.take_next()?;
        }
        Ok(())
    }

    fn take_next(&mut self) -> Result<(), WriteError> {
        let Some(event) = self.pending.pop_front() else { return Ok(()) };
        self.now += 1;
        self.take(event)
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
            Event::CaptureAgain(graph) => self.draft.push(Item::Capture { graph }),
            Event::DestroyGraph(graph) => self.draft.push(Item::DestroyGraph { graph }),
            Event::Superseded(graph) => {
                self.draft.push(Item::DestroyGraph { graph });
                self.ring.superseded(graph);
            }
            Event::GraphLaunch { graph, first, stream, before, after } => {
                self.first_launch()?;
                self.draft.graph_launch(graph, first, stream, (before, after));
            }
            Event::Launch(stream, kernel) if self.started => {
                if self.asked || self.step > 0 {
                    self.first_launch()?;
                }
                let item = self.opaque(&kernel, stream, self.now);
                self.draft.launch(item);
            }
            Event::Copy { stream, target, source, bytes } if self.started => {
                let item = self.copy((target, source, bytes), stream, self.now);
                self.draft.copy(item, source == 0 && target != 0);
            }
            Event::Fill { stream, target, pattern, element, bytes } if self.started => {
                let pattern = pattern.to_le_bytes();
                let pattern = &pattern[..usize::from(element.min(8))];
                let item = self.fill((target, 0, bytes), pattern, stream, self.now);
                self.draft.push(item);
            }
            Event::Rows(stream, rows) if self.started => {
                let from_host = rows.source.is_none() && rows.pattern.is_none() && rows.target.is_some();
                for item in self.rows_items(&rows, stream, self.now) {
                    self.draft.copy(item, from_host);
                }
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
            | Event::Rows(..)
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

    fn close(mut self) -> Result<(), WriteError> {
        let missing = self.attached.session().not_found();
        if !self.attached.cuda.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.active && process::first(&self.attached.settings).is_some() {
            // A helper that had the driver do nothing, beside a process that did.
            return Ok(());
        }
        if !self.draft.is_empty() {
            if self.given_up {
                let reason = "snapshots that had not arrived when the program ended".to_owned();
                self.draft.push(Item::Gap { reason });
            }
            let step = !self.draft.is_setup() && !self.asked && self.draft.has_launches();
            if !step || self.warm_up.is_some() {
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

/// A buffer's element type, for views of raw bytes.
const BYTES: DType = DType::U8;
