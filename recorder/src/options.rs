//! What to record and how.

use crate::error::RecordError;
use crate::fault::Fault;
use crate::profile::{Profile, VOICE};
use crate::talker::Sampling;

/// How decode steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Launch by launch.
    Eager,
    /// The whole decode step from one graph, captured before the first request.
    Graph,
    /// Each layer's norm and MLP from a graph of its own, captured inside the first decode step.
    Piecewise,
}

impl Mode {
    /// Its name on the command line and in traces.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Eager => "eager",
            Mode::Graph => "graph",
            Mode::Piecewise => "piecewise",
        }
    }
}

/// Element type of weights as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsType {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

/// Element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// That of the weights.
    Weights,
    /// binary32, for comparison with a reference that keeps everything so.
    F32,
}

/// What to record and how.
#[derive(Debug, Clone)]
pub struct RecordOptions {
    /// What to say.
    pub text: String,
    /// How decode steps run.
    pub mode: Mode,
    /// How streams of codes lead in and end.
    pub profile: Profile,
    /// Rows of the batch: one speaks, the others are padding.
    pub rows: usize,
    /// Seed of the sampler.
    pub seed: u64,
    /// How codes are chosen.
    pub sampling: Sampling,
    /// Steps of a request at most, prefill included.
    pub max_steps: Option<u32>,
    /// Positions that the KV cache holds, rounded down to whole blocks; `None` is all that the model knows.
    pub context: Option<usize>,
    /// Mistakes to plant.
    pub faults: Vec<Fault>,
    /// Element type of weights as used.
    pub weights: WeightsType,
    /// Element type of the KV cache.
    pub kv: KvType,
    /// For tests against a reference: the code row of each step, fed back in place of the sampled one.
    /// The request ends with them.
    pub forced_codes: Option<Vec<Vec<i64>>>,
}

/// Most rows of a batch.
pub const ROWS_MAX: usize = 64;

/// Least positions of a context.
const CONTEXT_MIN: usize = 128;

impl RecordOptions {
    /// Greedy, eager, four rows.
    pub fn new(text: &str) -> Self {
        RecordOptions {
            text: text.to_owned(),
            mode: Mode::Eager,
            profile: VOICE,
            rows: 4,
            seed: 42,
            sampling: Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 },
            max_steps: None,
            context: None,
            faults: Vec::new(),
            weights: WeightsType::F16,
            kv: KvType::Weights,
            forced_codes: None,
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`RecordError::Option`], [`RecordError::FaultNeeds`].
    pub fn check(&self) -> Result<(), RecordError> {
        let wrong = |what: String| Err(RecordError::Option(what));
        if !(1..=ROWS_MAX).contains(&self.rows) {
            return wrong(format!("--batch is {}, wants 1 to {ROWS_MAX} rows", self.rows));
        }
        if self.max_steps == Some(0) {
            return wrong("--max-steps is 0, wants at least 1: step 1 is the prefill".to_owned());
        }
        if self.context.is_some_and(|n| n < CONTEXT_MIN) {
            return wrong(format!("--context is below {CONTEXT_MIN}, room for a prompt and some speech"));
        }
        let s = &self.sampling;
        if !(0.0..=100.0).contains(&s.temperature) {
            return wrong(format!("--temperature is {}, wants 0 (greedy) to 100", s.temperature));
        }
        if !(s.top_p > 0.0 && s.top_p <= 1.0) {
            return wrong(format!("--top-p is {}, wants above 0 up to 1 (off)", s.top_p));
        }
        self.faults.iter().try_for_each(|fault| fault.check(self))
    }
}
