//! One recording a process: how it begins, what fork and exit do to it, and what is told to `twinstep attach`.

use std::fs::OpenOptions;
use std::io::Write;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use crate::attached::Attached;
use crate::settings::Settings;
use crate::start::{self, StartOn};
use crate::writer;

static CURRENT: AtomicPtr<Attached> = AtomicPtr::new(null_mut());
/// Nothing is recorded here, now or later.
static INERT: AtomicBool = AtomicBool::new(false);
/// A forked child that has not initialised CUDA itself: its parent's recording is not its own.
static FORKED: AtomicBool = AtomicBool::new(false);
/// The process whose recording is [`CURRENT`].
static OWNER: AtomicU32 = AtomicU32::new(0);
static STARTING: AtomicBool = AtomicBool::new(false);

/// How long an exiting program waits for what is still under way on the device or to the disk.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Whether nothing is recorded in this process.
pub fn inert() -> bool {
    INERT.load(Ordering::Relaxed)
}

/// The recording of this process, if it has begun.
pub fn existing() -> Option<&'static Attached> {
    // SAFETY: null, or a leaked box that is never freed.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

/// The recording of this process; the first question begins it, in a forked child only [`initialised`] does.
pub fn current() -> Option<&'static Attached> {
    existing().or_else(|| if FORKED.load(Ordering::Relaxed) { None } else { begin() })
}

/// The program initialised CUDA in this process.
pub fn initialised() {
    FORKED.store(false, Ordering::Relaxed);
}

fn begin() -> Option<&'static Attached> {
    if STARTING.swap(true, Ordering::Acquire) {
        // Another thread is at it; this one call is not seen.
        return existing();
    }
    let settings = match Settings::from_environment() {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            INERT.store(true, Ordering::Relaxed);
            return None;
        }
        Err(trouble) => {
            INERT.store(true, Ordering::Relaxed);
            if let Some(path) = std::env::var_os("TWINSTEP_ATTACH_REPORT") {
                append(path.as_ref(), "trouble", &trouble);
            }
            return None;
        }
    };
    // The default hook writes to the program's standard error.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(attached) = existing() {
            report(&attached.settings, "trouble", &panic.to_string().replace('\n', " "));
        }
    }));
    if settings.start_on == StartOn::Signal {
        start::listen();
    }
    let attached: &'static Attached = Box::leak(Box::new(Attached::new(settings)));
    if let Err(trouble) = writer::spawn(attached) {
        INERT.store(true, Ordering::Relaxed);
        report(&attached.settings, "trouble", &format!("no writer thread: {trouble}"));
        return None;
    }
    static HANDLERS: AtomicBool = AtomicBool::new(false);
    if !HANDLERS.swap(true, Ordering::Relaxed) {
        // SAFETY: all handlers are functions of this library, which is never unloaded.
        unsafe {
            libc::pthread_atfork(Some(before_fork), None, Some(in_child));
            libc::atexit(at_exit);
        }
    }
    OWNER.store(std::process::id(), Ordering::Relaxed);
    CURRENT.store(std::ptr::from_ref(attached).cast_mut(), Ordering::Release);
    Some(attached)
}

unsafe extern "C" fn before_fork() {
    // A panic here would be the program's.
    let _ = std::panic::catch_unwind(|| existing().map(Attached::before_fork));
}

/// The parent's recording is not the child's: its threads don't exist here and its locks may be held for good.
unsafe extern "C" fn in_child() {
    CURRENT.store(null_mut(), Ordering::Release);
    STARTING.store(false, Ordering::Relaxed);
    FORKED.store(true, Ordering::Relaxed);
}

/// Whether the calling thread, ours, is the last of the process: the main thread has left with `pthread_exit`, and the
/// others have returned. C ends a process when its last thread does, so ours must not stay.
pub fn left_alone() -> bool {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return false };
    let own = std::process::id().to_string();
    let others = tasks.count().saturating_sub(2);
    let Ok(main) = std::fs::read_to_string(format!("/proc/self/task/{own}/stat")) else { return false };
    // The state comes after the name, which is in brackets and may hold anything.
    others == 0 && main.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

extern "C" fn at_exit() {
    // A child made by the system call itself runs no handler of a fork: its parent's recording is not its own.
    if OWNER.load(Ordering::Relaxed) == std::process::id()
        && let Some(attached) = existing()
    {
        attached.writer.close(DRAIN);
    }
}

/// C's `_exit`, which Python's `os._exit` calls: no handler runs, so what is under way is written here. A child of
/// `vfork` has our memory and another process number: it just leaves.
///
/// # Safety
/// None is needed; it does not return.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn _exit(status: std::ffi::c_int) -> ! {
    if OWNER.load(Ordering::Relaxed) == std::process::id()
        && let Some(attached) = existing()
    {
        attached.writer.close(DRAIN);
    }
    loop {
        // SAFETY: ends all threads of the process.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// Tells `twinstep attach` something: one line, appended whole.
pub fn report(settings: &Settings, word: &str, text: &str) {
    if let Some(path) = &settings.report {
        append(path, word, text);
    }
}

/// The first process that had the device do something, if one said so.
pub fn first(settings: &Settings) -> Option<u32> {
    let text = std::fs::read_to_string(settings.report.as_ref()?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("first ")?.parse().ok())
}

fn append(path: &std::path::Path, word: &str, text: &str) {
    if let Ok(mut file) = OpenOptions::new().append(true).open(path) {
        let text = text.replace(['\n', '\r'], " ");
        // Telling is all that could be done about it.
        let _ = file.write_all(format!("{word} {text}\n").as_bytes());
    }
}
