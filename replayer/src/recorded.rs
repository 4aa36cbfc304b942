//! One step of one run as recorded: its launches, and the state before and after.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferId, SnapshotId, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, place};
use crate::lifetime::Lifetimes;
use crate::program::{StepLaunch, launches};

/// Bytes by buffer.
pub(crate) type State = BTreeMap<BufferId, Vec<u8>>;

/// A run with what is needed to find one's way in it.
pub(crate) struct Run<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) lifetimes: Lifetimes,
}

impl<'a> Run<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Result<Self, ReplayError> {
        Ok(Run { trace, lifetimes: Lifetimes::of(trace)? })
    }

    /// The index of a step's record.
    ///
    /// # Errors
    /// [`ReplayError::Place`] with what there is.
    pub(crate) fn find(&self, at: At) -> Result<usize, ReplayError> {
        crate::at::find_index(self.trace, at)
    }

    /// A step with the state recorded around it.
    ///
    /// # Errors
    /// [`ReplayError::Opaque`] where it cannot be executed, or has no state before and after it.
    pub(crate) fn step(&self, index: usize) -> Result<RecordedStep<'_>, ReplayError> {
        let record = self.trace.step(index)?;
        let launches = launches(self.trace, &record)?;
        let name = place(&record).map_or("set-up".to_owned(), |at| at.to_string());
        let snapshot = |point: &str| {
            snapshot(&record, point)
                .ok_or_else(|| ReplayError::Opaque(format!("step {name} has no snapshot {point}")))
        };
        let (before, after) = (snapshot("step.before")?, snapshot("step.after")?);
        let state = |snapshot| {
            let mut state = State::new();
            for id in self.trace.covered(snapshot)? {
                if let Some(bytes) = self.trace.read_buffer(snapshot, id)? {
                    state.insert(id, bytes);
                }
            }
            Ok::<_, ReplayError>(state)
        };
        let (before, after) = (state(before)?, state(after)?);
        let live = self.lifetimes.live_at(index);
        Ok(RecordedStep { run: self, index, record, launches, before, after, live })
    }

    /// A step without its state: its records alone.
    ///
    /// # Errors
    /// [`ReplayError::Opaque`] where it cannot be executed.
    pub(crate) fn light(&self, index: usize) -> Result<RecordedStep<'_>, ReplayError> {
        let record = self.trace.step(index)?;
        let launches = launches(self.trace, &record)?;
        let live = self.lifetimes.live_at(index);
        let (before, after) = (State::new(), State::new());
        Ok(RecordedStep { run: self, index, record, launches, before, after, live })
    }

    /// The bytes of a buffer before the step's host writes: what the newest earlier snapshot that covers it
    /// says. `None` where there is none.
    pub(crate) fn earlier(&self, index: usize, buffer: BufferId) -> Result<Option<Vec<u8>>, ReplayError> {
        for index in (0..index).rev() {
            let record = self.trace.step(index)?;
            for point in record.points.iter().rev() {
                if let Some(bytes) = self.trace.read_buffer(point.snapshot, buffer)? {
                    return Ok(Some(bytes));
                }
            }
        }
        Ok(None)
    }
}

/// The snapshot of a step's point.
pub(crate) fn snapshot(step: &StepRecord, point: &str) -> Option<SnapshotId> {
    step.points.iter().find(|p| p.point == point).map(|p| p.snapshot)
}

/// A step with the state recorded around it.
pub(crate) struct RecordedStep<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) index: usize,
    pub(crate) record: StepRecord,
    pub(crate) launches: Vec<StepLaunch>,
    /// What `step.before` covers: the step's live-in set, host writes before the program included.
    pub(crate) before: State,
    /// What `step.after` covers.
    pub(crate) after: State,
    /// Buffers that exist or that the step allocates.
    pub(crate) live: BTreeSet<BufferId>,
}

impl RecordedStep<'_> {
    pub(crate) fn trace(&self) -> &Trace {
        self.run.trace
    }

    /// `name@generation`, for people.
    pub(crate) fn buffer_name(&self, id: BufferId) -> String {
        self.trace().buffer(id).map_or(format!("buffer {}", id.0), |b| format!("{}@{}", b.name, b.generation))
    }

    /// `name@generation` where the name means another generation here, else the bare name.
    pub(crate) fn short_name(&self, id: BufferId) -> String {
        let Some(record) = self.trace().buffer(id) else { return format!("buffer {}", id.0) };
        match self.run.lifetimes.resolve(self.trace(), self.index, &record.name) {
            Some(meant) if meant == id => record.name.clone(),
            _ => format!("{}@{}", record.name, record.generation),
        }
    }
}
