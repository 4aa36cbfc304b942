//! What the program had the device do between two snapshots: whether anything may have written memory.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::driver::CUstream;

/// Counts calls that may write device memory.
#[derive(Debug, Default)]
pub struct Activity {
    calls: AtomicU64,
    last_stream: AtomicUsize,
    /// `calls` when they last went to another stream than the call before.
    switched: AtomicU64,
    /// `calls` at the last snapshot and at the one before it, and the last one's stream.
    snapshots: Mutex<(u64, u64, CUstream)>,
    /// A kernel was launched by itself that nobody recorded.
    unrecorded: AtomicBool,
}

impl Activity {
    /// A launch, copy or fill on `stream`.
    pub fn call(&self, stream: CUstream) {
        let calls = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        if self.last_stream.swap(stream, Ordering::AcqRel) != stream {
            self.switched.store(calls, Ordering::Release);
        }
    }

    /// A kernel that is not recorded.
    pub fn unrecorded(&self) {
        self.unrecorded.store(true, Ordering::Release);
    }

    /// Whether there was one since the last question.
    pub fn take_unrecorded(&self) -> bool {
        self.unrecorded.load(Ordering::Relaxed) && self.unrecorded.swap(false, Ordering::AcqRel)
    }

    /// A snapshot is taken on `stream`. Whether no call that we see was made since the last one, which was on the same
    /// stream, and none on another stream since the one before that: such a call's work may run late.
    pub fn quiet(&self, stream: CUstream) -> bool {
        let calls = self.calls.load(Ordering::Acquire);
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, before, on) = *snapshots;
        *snapshots = (calls, last, stream);
        on == stream && calls > 0 && calls == last && self.switched.load(Ordering::Acquire) <= before
    }
}

#[cfg(test)]
mod tests {
    use super::Activity;

    /// Before and after a launch, over and over; `between` has calls on streams between the launches.
    fn quiet(between: &[&[usize]]) -> Vec<bool> {
        let activity = Activity::default();
        let mut quiet = Vec::new();
        for calls in between {
            calls.iter().for_each(|&stream| activity.call(stream));
            quiet.push(activity.quiet(7));
            activity.call(7);
            assert!(!activity.quiet(7), "a launch is between");
        }
        quiet
    }

    #[test]
    fn it_is_quiet_where_nothing_was_called() {
        assert_eq!(quiet(&[&[], &[], &[], &[7], &[]]), [false, false, true, false, true]);
    }

    #[test]
    fn work_of_another_stream_may_run_late() {
        assert_eq!(quiet(&[&[], &[3], &[], &[]]), [false, false, false, true]);
    }
}
