//! How the program's threads speak to the writer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub struct Control {
    pub(super) closing: AtomicBool,
    pub(super) closed: AtomicBool,
    /// Set by who wants to wait; cleared once nothing was left to write.
    pub(super) flush: AtomicBool,
    /// The file, once it has begun.
    pub(super) path: Mutex<Option<PathBuf>>,
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
