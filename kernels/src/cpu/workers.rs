//! The cores: a pool of threads of its own, and the calling thread.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::float_environment;
use crate::Error;

/// Threads beside the calling one. Work is cut so that no sum is: which thread does what, and how many
/// there are, changes no bit.
pub(super) struct Workers {
    /// `None` on a single core, and where threads cannot be had.
    pool: Option<rayon::ThreadPool>,
}

impl Workers {
    /// The pool of this process, one thread a core less the calling one.
    pub(super) fn shared() -> &'static Workers {
        static SHARED: OnceLock<Workers> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            Workers::new(cores - 1)
        })
    }

    fn new(threads: usize) -> Workers {
        // Miri finds fault with the queues that rayon takes from crossbeam, so all is serial there.
        let threads = if cfg!(miri) { 0 } else { threads };
        let builder =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("kernels-{i}"));
        Workers { pool: (threads > 0).then(|| builder.build().ok()).flatten() }
    }

    /// Threads that share a job, the calling one included.
    pub(super) fn count(&self) -> usize {
        1 + self.pool.as_ref().map_or(0, rayon::ThreadPool::current_num_threads)
    }

    /// Checks the floating-point environment of every thread of the pool.
    ///
    /// # Errors
    /// [`Error::FloatEnvironment`].
    pub(super) fn check_float_environment(&self) -> Result<(), Error> {
        let Some(pool) = &self.pool else { return Ok(()) };
        pool.broadcast(|_| float_environment::check()).into_iter().collect()
    }

    /// Does `work` once for every task, on all threads. The calling thread takes tasks from the first
    /// moment on, so that a pool slow to wake up costs little.
    pub(super) fn for_each<T: Send>(&self, tasks: Vec<T>, work: impl Fn(T) + Sync) {
        let helpers = (self.count() - 1).min(tasks.len().saturating_sub(1));
        let Some(pool) = self.pool.as_ref().filter(|_| helpers > 0) else {
            return tasks.into_iter().for_each(work);
        };
        let tasks = Mutex::new(tasks.into_iter());
        // An iterator over a vector is whole at any moment, so a poisoned lock does no harm.
        let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work_off = || {
            while let Some(task) = next() {
                work(task);
            }
        };
        pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| work_off());
            }
            work_off();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_task_is_done_once() {
        for threads in [0, 1, 3] {
            let workers = Workers::new(threads);
            for count in [0, 1, 2, 100] {
                let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                workers.for_each((0..count).collect(), |i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{threads} threads, {count}");
            }
        }
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    #[test]
    fn a_changed_environment_of_a_worker_is_an_error() {
        use super::super::float_environment::tests::with_mxcsr_bits;

        // On Linux a thread starts with the register of the thread that made it.
        let checked = with_mxcsr_bits(1 << 15, || Workers::new(2).check_float_environment());
        assert!(matches!(checked, Err(Error::FloatEnvironment { .. })), "{checked:?}");
        assert!(Workers::new(2).check_float_environment().is_ok());
    }
}
