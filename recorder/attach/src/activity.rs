//! What the program had the device do between two snapshots: whether anything may have written memory.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::driver::{self, CUcontext, CUstream, STREAM_LEGACY, STREAM_PER_THREAD};

/// What tells streams of all contexts apart, as [`queue`] makes it.
type Queue = usize;

/// Handles of streams that were created differ, whatever their contexts. The default streams have the same two in
/// each context, and one in each thread.
fn queue(stream: CUstream) -> Queue {
    static THREADS: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    let context = driver::current_context;
    match stream {
        STREAM_LEGACY => of_default(context(), stream, 0),
        // A thread that ends has no number any more; what it launches then is nobody's.
        STREAM_PER_THREAD => of_default(context(), stream, THREAD.try_with(|&n| n).unwrap_or(0)),
        stream => stream,
    }
}

/// Of a default stream. Addresses have less than 48 bits, and the two lowest are free in a context's.
fn of_default(context: CUcontext, stream: CUstream, thread: usize) -> Queue {
    context ^ stream ^ thread << 48
}

/// Counts calls that may write device memory.
#[derive(Debug, Default)]
pub struct Activity {
    calls: AtomicU64,
    last_queue: AtomicUsize,
    /// `calls` when they last went to another stream than the call before.
    switched: AtomicU64,
    /// `calls` at the last snapshot and at the one before it, and the last one's stream.
    snapshots: Mutex<(u64, u64, Queue)>,
    /// A kernel was launched by itself that nobody recorded.
    unrecorded: AtomicBool,
}

impl Activity {
    /// A launch, copy or fill on `stream` of the current context.
    pub fn call(&self, stream: CUstream) {
        self.call_in(queue(stream));
    }

    fn call_in(&self, queue: Queue) {
        let calls = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        if self.last_queue.swap(queue, Ordering::AcqRel) != queue {
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

    /// A snapshot is taken on `stream` of the current context. Whether no call that we see was made since the last one,
    /// which was on the same stream, and none on another stream since the one before that: such a call's work may run
    /// late.
    pub fn quiet(&self, stream: CUstream) -> bool {
        self.quiet_in(queue(stream))
    }

    fn quiet_in(&self, queue: Queue) -> bool {
        let calls = self.calls.load(Ordering::Acquire);
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, before, on) = *snapshots;
        *snapshots = (calls, last, queue);
        on == queue && calls > 0 && calls == last && self.switched.load(Ordering::Acquire) <= before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn default_streams_differ_by_context_and_thread() {
        let (legacy, own) = (STREAM_LEGACY, STREAM_PER_THREAD);
        let all =
            [(0x7f00, legacy, 0), (0x7f08, legacy, 0), (0x7f00, own, 1), (0x7f00, own, 2), (0x7f08, own, 1)]
                .map(|(context, stream, thread)| of_default(context, stream, thread));
        assert!((0..all.len()).all(|i| !all[..i].contains(&all[i])), "{all:x?}");
        let here = queue(own);
        let there = std::thread::spawn(move || queue(own)).join();
        assert_eq!((queue(own) == here, there.is_ok_and(|there| there != here)), (true, true));
        assert_eq!(queue(0x7f01_2340), 0x7f01_2340);
    }

    /// Launches on the default streams of two contexts, in turn: each time the other's work is between.
    #[test]
    fn an_equal_handle_in_another_context_is_another_stream() {
        let activity = Activity::default();
        let streams = [0x7f00, 0x7f08].map(|context| of_default(context, STREAM_LEGACY, 0));
        for stream in streams.into_iter().cycle().take(6) {
            assert!(!activity.quiet_in(stream));
            activity.call_in(stream);
            assert!(!activity.quiet_in(stream));
        }
    }

    #[test]
    fn work_of_another_stream_may_run_late() {
        assert_eq!(quiet(&[&[], &[3], &[], &[]]), [false, false, false, true]);
    }
}
