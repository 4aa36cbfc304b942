//! Worker threads: a lane for each sort of job, so that a look never waits for a long comparison.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::Event;
use super::work::{Bench, Job, Kind};

/// Jobs of one lane that wait: of each kind the newest alone.
#[derive(Default)]
struct Lane {
    queue: Mutex<VecDeque<(u64, Job, Arc<AtomicBool>)>>,
    news: Condvar,
}

/// How many lanes there are: [`lane`] names them.
const LANES: usize = 4;

/// The threads, and how to give them work.
pub(crate) struct Workers {
    lanes: [Arc<Lane>; LANES],
    running: BTreeMap<Kind, Arc<AtomicBool>>,
}

/// The lane of a sort of job, below [`LANES`].
fn lane(kind: Kind) -> usize {
    match kind {
        Kind::Beside | Kind::Read | Kind::Codes | Kind::Kv | Kind::Sound => 0,
        Kind::Follow | Kind::Compare => 1,
        Kind::Memory | Kind::Outcome | Kind::Watch => 2,
        // These take long and cannot be stopped half-way.
        Kind::History | Kind::Explain | Kind::Check => 3,
    }
}

impl Workers {
    /// Starts the threads; what they give arrives as events.
    pub(crate) fn start(bench: &Arc<Bench>, events: &Sender<Event>) -> Workers {
        let lanes: [Arc<Lane>; LANES] = Default::default();
        for lane in &lanes {
            let (lane, bench, events) = (Arc::clone(lane), Arc::clone(bench), events.clone());
            thread::spawn(move || {
                loop {
                    let (id, job, cancelled) = lane.next();
                    let kind = job.kind();
                    // A panic here is a bug; it must cost one answer, not the terminal.
                    let result = catch_unwind(AssertUnwindSafe(|| bench.run(job, &cancelled)))
                        .unwrap_or_else(|_| Err("this crashed, which is a bug; please report it".to_owned()));
                    bench.release();
                    if events.send(Event::Done { id, kind, result: Box::new(result) }).is_err() {
                        return;
                    }
                }
            });
        }
        Workers { lanes, running: BTreeMap::new() }
    }

    /// Gives a job to its lane. An older one of its kind is dropped, or told to stop.
    pub(crate) fn send(&mut self, id: u64, job: Job) {
        let kind = job.kind();
        self.cancel(kind);
        let flag = Arc::new(AtomicBool::new(false));
        self.running.insert(kind, Arc::clone(&flag));
        let lane = &self.lanes[lane(kind)];
        let mut queue = lane.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.retain(|(_, waiting, _)| waiting.kind() != kind);
        queue.push_back((id, job, flag));
        lane.news.notify_one();
    }

    /// Tells a job to stop where it can.
    pub(crate) fn cancel(&mut self, kind: Kind) {
        if let Some(flag) = self.running.remove(&kind) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

impl Lane {
    fn next(&self) -> (u64, Job, Arc<AtomicBool>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = queue.pop_front() {
                return job;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, LANES, lane};

    #[test]
    fn every_sort_of_job_has_a_lane() {
        assert!(Kind::ALL.iter().all(|&kind| lane(kind) < LANES));
    }
}
