//! What a vectorised form runs on: a vector extension and the cores.

use super::extension::{Extension, Kernel};
use super::workers::Workers;

/// A vector extension and the threads that share large launches.
#[derive(Clone, Copy)]
pub(crate) struct Processor {
    extension: Extension,
    workers: &'static Workers,
}

/// Nanoseconds below which a launch stays on the calling thread: waking another one takes 10 to 50.
const WORTH_SHARING: usize = 60_000;

impl Processor {
    pub(super) fn new(extension: Extension) -> Processor {
        Processor { extension, workers: Workers::shared() }
    }

    pub(super) fn extension(self) -> Extension {
        self.extension
    }

    pub(super) fn workers(self) -> &'static Workers {
        self.workers
    }

    /// Runs a kernel on the calling thread, or on the one that a task of [`Processor::for_each`] is on.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.extension.run(kernel)
    }

    /// In how many parts a launch is best cut that takes one thread about `nanoseconds`: 1, or a few for
    /// each thread, so that one that is held up does not hold up all.
    pub(super) fn parts(self, nanoseconds: usize) -> usize {
        let threads = self.workers.count();
        if threads == 1 || nanoseconds < WORTH_SHARING { 1 } else { threads * 4 }
    }

    /// Does `work` once for every task, on all cores.
    pub(super) fn for_each<T: Send>(self, tasks: Vec<T>, work: impl Fn(T) + Sync) {
        self.workers.for_each(tasks, work);
    }
}
