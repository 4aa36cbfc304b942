//! Runs recorded in memory, and what `explain` says of two of them: the libraries without the binary, for
//! tests of hundreds of pairs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use twinstep_kernels::{Backend, CpuBackend};
use twinstep_recorder::{Fault, RULES, RecordOptions, Sampling, Voice, record, run_record, text};
use twinstep_replayer::{
    BUDGET, ExplainOptions, ExplainReport, Finding, ReplayError, Rules, WeightSource, check, explain,
};
use twinstep_traces::{MemoryStorage, Trace, TraceWriter};

/// The most probable code.
pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 };
/// Far from greedy, so that draws show.
pub const SAMPLED: Sampling = Sampling { temperature: 1.5, top_k: 50, top_p: 1.0 };

/// The embedded voice, loaded once.
pub fn voice() -> &'static Voice {
    static VOICE: OnceLock<Voice> = OnceLock::new();
    VOICE.get_or_init(|| Voice::embedded().expect("the embedded voice is sound"))
}

/// The embedded voice's weights.
struct Embedded;

impl WeightSource for Embedded {
    fn file(&self, name: &str) -> Result<Vec<u8>, ReplayError> {
        let found = voice().file(name).map(<[u8]>::to_vec);
        found.ok_or_else(|| ReplayError::Weights(format!("the embedded voice has no `{name}`")))
    }
}

/// What all these runs have in common: one row, as little KV cache as serves, a seed.
pub fn options_of(text: &str) -> RecordOptions {
    let mut options = RecordOptions::new(text);
    (options.rows, options.context, options.seed) = (1, Some(256), 7);
    options
}

/// A run on the CPU.
///
/// # Panics
/// Where it cannot be recorded.
pub fn speak(options: &RecordOptions) -> Trace {
    let backend = Box::new(CpuBackend::new().expect("a CPU"));
    let run = run_record(voice(), options, &Backend::info(&*backend));
    let writer = TraceWriter::new(MemoryStorage::default(), &run).expect("memory");
    let recording = record(voice(), options, backend, Some(writer), &mut |_| {});
    let storage = recording.unwrap_or_else(|e| panic!("{options:?}: {e}")).storage.expect("it is recorded");
    Trace::from_bytes(storage.into_bytes()).expect("a recorded trace opens")
}

/// What checks and the model's rules find.
///
/// # Errors
/// [`ReplayError::Read`].
///
/// # Panics
/// Where the embedded rules are none.
pub fn findings(trace: &Trace) -> Result<Vec<Finding>, ReplayError> {
    static PARSED: OnceLock<Rules> = OnceLock::new();
    let rules = PARSED.get_or_init(|| Rules::parse("rules.toml", RULES).unwrap_or_else(|e| panic!("{e}")));
    let mut report = check(trace)?;
    let found = rules.check(trace)?;
    report.add(found.findings, found.not_looked_at);
    Ok(report.findings)
}

/// `explain A B` as the binary does it.
///
/// # Panics
/// Where it fails.
pub fn explain_pair(a: &Trace, b: &Trace) -> ExplainReport {
    let options = ExplainOptions { control: None, budget: BUDGET, findings: &findings };
    explain(a, b, &Embedded, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

/// Tokens of a text's last request: its characters and three special tokens.
fn prompt(said: &str) -> u32 {
    let last = text::pieces(said).pop().expect("a request");
    last.len() as u32 + 3
}

/// Request and step in which the mistake is first made, from what the fault is and the prompt's length alone.
/// `None` where it depends on what is drawn.
pub fn known_place(fault: Fault, said: &str) -> Option<(u32, u32)> {
    let prompt = prompt(said);
    // Step n adds position prompt + n - 2.
    let step_of_position = |position: u32| position + 2 - prompt;
    Some(match fault {
        Fault::TemperatureBaked => return None,
        Fault::WorkspaceCapped => (1, step_of_position(64)),
        Fault::ReductionOrder => (1, step_of_position(192)),
        Fault::ResetSkipped => (1, step_of_position(prompt.next_multiple_of(16))),
        Fault::StaleTail => (2, 2),
        // Given to prefill as it was allocated.
        Fault::StateNotCleared => (1, 1),
        // Seen at the graph that was captured: in set-up.
        Fault::GraphNeverEngaged => (0, 0),
        _ => (1, 2),
    })
}

/// Whether a name without its generation is one of those that a pattern with `*` stands for.
pub fn stands_for(pattern: &str, name: &str) -> bool {
    let name = name.split('@').next().unwrap_or(name);
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

/// Runs all jobs on two threads; results come in the order of the jobs.
///
/// # Panics
/// Where a job does.
pub fn two_at_a_time<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((i, job)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, jobs.get(i)?)))
        {
            done.push((i, work(job)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let threads = [scope.spawn(worker), scope.spawn(worker)];
        threads.into_iter().flat_map(|t| t.join().expect("no job panics")).collect::<Vec<_>>()
    });
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}
