//! What there is once in a process that is recorded, and how wrappers and the C interface reach it.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use twinstep_traces::DeviceRecord;

use crate::activity::Activity;
use crate::driver::{self, CUfunction, CUstream};
use crate::events::Event;
use crate::process;
use crate::session::Session;
use crate::settings::Settings;
use crate::snapshot::choice::Choice;
use crate::snapshot::{Snapshotter, Ticket};
use crate::watch::Place;

/// See the module.
pub struct Attached {
    pub settings: Arc<Settings>,
    session: Mutex<Session>,
    pub snapshotter: Box<dyn Snapshotter>,
    /// Held for reading while snapshots are enqueued, and for writing while a watched buffer's memory is about to
    /// be given back: no copy is enqueued of memory that is already gone.
    pub gate: RwLock<()>,
    /// Stream captures under way.
    pub captures: AtomicUsize,
    /// Whether snapshots cover anything; read without a lock.
    pub watching: AtomicBool,
    /// Recording has ended, by trouble or for good: wrappers pass through.
    pub over: AtomicBool,
    /// Whether the driver was used at all.
    pub cuda: AtomicBool,
    /// Whether it was told that this process had the device do something.
    first_told: AtomicBool,
    /// The first device that the program used.
    pub device: OnceLock<DeviceRecord>,
    pub writer: crate::writer::Control,
    /// Whether snapshots must look at everything.
    pub activity: Activity,
    /// Copies of graphs, for prefixes.
    pub kept: crate::reexecute::kept::Kept,
    /// The watch file names parameters of kernels.
    waits_for_kernels: bool,
}

thread_local! {
    /// This thread is inside one of our wrappers or on a thread of ours.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls of this thread into the driver are our own from here on.
pub fn this_thread_is_ours() {
    INSIDE.set(true);
}

/// Does our part of a wrapper or of the C interface. `None` where nothing is recorded, when called again on the
/// same thread from within, and after a panic, which ends the recording.
pub fn ours<T>(work: impl FnOnce(&'static Attached) -> T) -> Option<T> {
    if process::inert() || INSIDE.replace(true) {
        return None;
    }
    let done = catch_unwind(AssertUnwindSafe(|| {
        let attached = process::current()?;
        (!attached.over.load(Ordering::Relaxed)).then(|| work(attached))
    }));
    INSIDE.set(false);
    done.unwrap_or_else(|_| {
        if let Some(attached) = process::existing() {
            attached.end("a mistake in the recorder (please report it)");
        }
        None
    })
}

/// As [`ours`], for what the driver did.
pub fn driver_did<T>(work: impl FnOnce(&'static Attached) -> T) -> Option<T> {
    ours(|attached| {
        if !attached.cuda.load(Ordering::Relaxed) {
            attached.first_use();
        }
        work(attached)
    })
}

impl Attached {
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let watches = &settings.watch.watches;
        let waits_for_kernels = watches.iter().any(|watch| matches!(watch.place, Place::Parameter { .. }));
        Attached {
            session: Mutex::new(Session::new(settings.clone())),
            settings,
            snapshotter: Box::new(Choice::new()),
            gate: RwLock::new(()),
            captures: AtomicUsize::new(0),
            watching: AtomicBool::new(false),
            over: AtomicBool::new(false),
            cuda: AtomicBool::new(false),
            first_told: AtomicBool::new(false),
            device: OnceLock::new(),
            writer: crate::writer::Control::default(),
            activity: Activity::default(),
            kept: crate::reexecute::kept::Kept::default(),
            waits_for_kernels,
        }
    }

    /// The session. Hold it shortly and call no driver meanwhile.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the session, and keeps [`Attached::watching`] right.
    pub fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.session();
        let result = change(&mut session);
        self.watching.store(!session.watches.is_empty(), Ordering::Relaxed);
        result
    }

    /// Puts one event into the queue, if what the program runs is recorded at this moment.
    pub fn push(&self, event: impl FnOnce(&mut Session) -> Event) {
        let mut session = self.session();
        if session.recording() {
            let event = event(&mut session);
            session.push(event);
        }
    }

    fn first_use(&self) {
        if !self.cuda.swap(true, Ordering::Relaxed) {
            process::report(&self.settings, "cuda", &std::process::id().to_string());
        }
    }

    /// This process had the device do something; told once, for the name that the user gave.
    pub fn tell_first(&self) {
        if !self.first_told.swap(true, Ordering::Relaxed) {
            process::report(&self.settings, "first", &std::process::id().to_string());
        }
    }

    /// The program is about to fork: a child that has the device do something is told what this process did, even if
    /// the writer has not come to it yet.
    pub fn before_fork(&self) {
        if !self.first_told.load(Ordering::Relaxed)
            && let Ok(session) = self.session.try_lock()
            && session.had_device_do()
        {
            self.tell_first();
        }
    }

    /// Ends the recording: with a gap that says why, if the writer still can.
    pub fn end(&self, reason: &str) {
        if !self.over.swap(true, Ordering::Relaxed) {
            process::report(&self.settings, "trouble", &format!("recording ended: {reason}"));
            let mut session = self.session();
            session.push(Event::Gap(format!("everything from here on: {reason}")));
        }
    }

    /// Ends the recording before memory goes that snapshots look at, or are written to: what has arrived is written.
    /// Waits at most as long as a program's end does.
    pub fn finish(&self, why: &str) {
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        // Who enqueues a snapshot at this moment has done so then; nobody begins one any more.
        drop(self.gate.write().unwrap_or_else(PoisonError::into_inner));
        self.session().push(Event::Mark(format!("the recording ended here: {why}")));
        self.writer.close(process::DRAIN);
    }

    /// Whether a stream is being captured into a graph. Asks the driver only while some stream is.
    pub fn capturing(&self, stream: CUstream) -> bool {
        if self.captures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut status: c_int = 0;
        // SAFETY: the stream is the program's, the status is ours. An error means that a capture forbids the
        // question on the legacy stream: nothing may be enqueued there either.
        let result = unsafe { driver::cuStreamIsCapturing(stream, &mut status) };
        result != driver::SUCCESS || status != 0
    }

    /// Something ran on a stream that may have written memory: notes it, so that the next snapshot looks at everything.
    /// `false` inside a capture, where nothing runs.
    pub fn ran(&self, stream: CUstream) -> bool {
        if self.capturing(stream) {
            return false;
        }
        self.activity.call(stream);
        true
    }

    /// Says once that kernels ran which nobody recorded, if any did since the last time.
    pub fn say_unrecorded(&self) {
        if self.activity.take_unrecorded() {
            let reason = "kernels launched outside graphs; --launches records them".to_owned();
            self.push(|_| Event::Gap(reason));
        }
    }

    /// Enqueues a snapshot of everything watched. `None` where nothing is, where a capture forbids it, or where it
    /// could not be taken, which is then said.
    pub fn snapshot(&self, stream: CUstream) -> Option<Ticket> {
        self.say_unrecorded();
        if !self.watching.load(Ordering::Relaxed) || self.capturing(stream) {
            return None;
        }
        // Under the gate the set stays true: who gives memory back takes it out first, under the same gate.
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let Some(device) = driver::current_device() else {
            self.push(|_| Event::Gap("a snapshot: no context is current".to_owned()));
            return None;
        };
        let context = driver::current_context();
        let set = {
            let mut session = self.session();
            if !session.copying() {
                return None;
            }
            let set = session.watches.set(device);
            if set.is_empty() {
                return None;
            }
            session.looked_in((context, device));
            set
        };
        match self.snapshotter.enqueue(stream, &set, self.activity.quiet(stream)) {
            Ok(ticket) => Some(ticket),
            Err(reason) => {
                // Nobody looked: the next one is not to take what ran before this one for seen.
                self.activity.call(stream);
                self.session().push(Event::Gap(format!("a snapshot: {reason}")));
                None
            }
        }
    }

    /// Whether the watch file waits for a kernel, and this one was not looked at yet.
    pub fn waits_for_kernel(&self, function: CUfunction) -> bool {
        self.waits_for_kernels && self.session().waits_for_kernel(function)
    }

    /// Notes the device that the calling thread uses, the first time.
    pub fn note_device(&self) {
        if self.device.get().is_none()
            && let Some(device) = device()
        {
            let _ = self.device.set(device);
        }
    }
}

/// The device of the calling thread's context.
fn device() -> Option<DeviceRecord> {
    let (mut context, mut device, mut major, mut minor, mut version) = (0, 0, 0, 0, 0);
    let mut name = [0 as std::ffi::c_char; 256];
    // SAFETY: all targets are ours and of the sizes that the driver's header gives; 75 and 76 are
    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    let name = unsafe {
        if driver::cuCtxGetCurrent(&mut context) != driver::SUCCESS
            || context == 0
            || driver::cuCtxGetDevice(&mut device) != driver::SUCCESS
            || driver::cuDeviceGetName(name.as_mut_ptr(), 255, device) != driver::SUCCESS
        {
            return None;
        }
        driver::cuDeviceGetAttribute(&mut major, 75, device);
        driver::cuDeviceGetAttribute(&mut minor, 76, device);
        driver::cuDriverGetVersion(&mut version);
        CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
    };
    Some(DeviceRecord {
        backend: "cuda".to_owned(),
        name,
        capability: format!("{major}.{minor}"),
        driver: format!("{}.{}", version / 1000, version % 1000 / 10),
        ptx_sha256: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::StartOn;
    use crate::watch::WatchFile;

    #[test]
    fn what_ran_on_a_stream_is_followed_by_a_look_at_everything() {
        let attached = Attached::new(Settings {
            out: "run.twin".into(),
            replace_before: 0,
            report: None,
            watch: WatchFile::default(),
            launches: false,
            ring: None,
            start_on: StartOn::Now,
            rank: None,
        });
        let quiet = || attached.activity.quiet(7);
        assert!(attached.ran(7));
        assert_eq!([quiet(), quiet(), quiet()], [false, false, true], "nothing ran between the last two");
        assert!(attached.ran(7));
        assert!(!quiet());
        // No driver is here to say which streams are captured: none may run.
        attached.captures.store(1, Ordering::Relaxed);
        assert!(quiet() && !attached.ran(7) && quiet());
    }
}
