//! What a trace is and what can be done with it.

use std::collections::BTreeMap;

use serde::Serialize;
use twinstep_traces::{StepKind, Trace};

use crate::ReplayError;
use crate::checks::not_on_foreign_runs;
use crate::foreign::{is_foreign, tells_what_ran};
use crate::number::Number;
use crate::program::launches;

/// `twinstep.info/1`.
#[derive(Debug, Clone, Serialize)]
pub struct InfoReport {
    /// Document type.
    pub schema: &'static str,
    /// Decode and prefill steps.
    pub steps: usize,
    /// Requests.
    pub requests: usize,
    /// Programs stored.
    pub programs: usize,
    /// Snapshots stored.
    pub snapshots: usize,
    /// Whether the recording was closed cleanly.
    pub complete: bool,
    /// Size of the file.
    pub file_bytes: u64,
    /// Tool and version that recorded it.
    pub tool: String,
    /// Whether it is a run of another engine.
    pub foreign: bool,
    /// What the recorder noted.
    pub notes: BTreeMap<String, String>,
    /// How decode steps ran.
    pub mode: String,
    /// What ran them.
    pub device: DeviceReport,
    /// Model name.
    pub model: String,
    /// Where the weights were.
    pub model_source: String,
    /// SHA-256 of configuration and weights, hex; zeros where it is not known.
    pub model_sha256: String,
    /// Element type of weights.
    pub weights_dtype: String,
    /// Element type of the KV cache.
    pub kv_dtype: String,
    /// Delay profile.
    pub profile: String,
    /// The text.
    pub prompt: String,
    /// Rows of the batch.
    pub rows: u32,
    /// How codes were chosen.
    pub sampling: SamplingReport,
    /// What can be done with it.
    pub capabilities: Capabilities,
    /// Buffers.
    pub buffers: Vec<BufferReport>,
    /// Graphs.
    pub graphs: Vec<GraphReport>,
}

/// The device.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields of DeviceRecord")]
pub struct DeviceReport {
    pub backend: String,
    pub name: String,
    pub capability: String,
    pub driver: String,
    pub ptx_sha256: String,
}

/// How codes were chosen.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields of SamplingRecord")]
pub struct SamplingReport {
    pub temperature: Number,
    pub top_k: u32,
    pub top_p: Number,
    pub seed: u64,
}

/// `yes`, or the reason why not.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "named for the commands")]
pub struct Capabilities {
    pub diff: String,
    pub check: String,
    pub history: String,
    pub step: String,
    pub explain: String,
}

/// One buffer.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields of BufferRecord")]
pub struct BufferReport {
    pub name: String,
    pub generation: u32,
    pub role: &'static str,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
}

/// One graph.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields of GraphRecord")]
pub struct GraphReport {
    pub id: u32,
    pub label: String,
    pub nodes: usize,
    pub captured_at: CapturedAt,
}

/// Where a graph was captured; 0, 0 is before the first request.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as in StepRecord")]
pub struct CapturedAt {
    pub request: u32,
    pub step: u32,
}

/// Describes a trace.
///
/// # Errors
/// [`ReplayError::Read`].
pub fn info(trace: &Trace) -> Result<InfoReport, ReplayError> {
    let run = trace.run();
    let mut steps = 0;
    let mut step_capability = "the trace has no step".to_owned();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        if matches!(step.kind, StepKind::Prefill | StepKind::Decode) {
            steps += 1;
            if steps == 1 {
                step_capability = launches(trace, &step).map_or_else(|e| e.to_string(), |_| "yes".to_owned());
            }
        }
    }
    let mut graphs = Vec::new();
    for graph in trace.graphs() {
        let captured_at = CapturedAt { request: graph.captured_at.0, step: graph.captured_at.1 };
        let nodes = trace.program(graph.program)?.items.len();
        graphs.push(GraphReport { id: graph.id.0, label: graph.label.clone(), nodes, captured_at });
    }
    let buffer = |b: &twinstep_traces::BufferRecord| BufferReport {
        name: b.name.clone(),
        generation: b.generation,
        role: b.role.name(),
        dtype: b.dtype.name(),
        shape: b.shape.clone(),
    };
    Ok(InfoReport {
        schema: "twinstep.info/1",
        steps,
        requests: trace.requests().len(),
        programs: trace.program_count(),
        snapshots: trace.snapshot_count(),
        complete: trace.complete(),
        file_bytes: trace.file_bytes(),
        tool: run.tool.clone(),
        foreign: is_foreign(run),
        notes: run.notes.iter().cloned().collect(),
        mode: run.mode.clone(),
        device: DeviceReport {
            backend: run.device.backend.clone(),
            name: run.device.name.clone(),
            capability: run.device.capability.clone(),
            driver: run.device.driver.clone(),
            ptx_sha256: run.device.ptx_sha256.clone(),
        },
        model: run.model.clone(),
        model_source: run.model_source.clone(),
        model_sha256: run.model_sha256.iter().map(|b| format!("{b:02x}")).collect(),
        weights_dtype: run.weights_dtype.clone(),
        kv_dtype: run.kv_dtype.clone(),
        profile: run.profile.clone(),
        prompt: run.prompt.clone(),
        rows: run.rows,
        sampling: SamplingReport {
            temperature: Number(f32::from_bits(run.sampling.temperature_bits).into()),
            top_k: run.sampling.top_k,
            top_p: Number(f32::from_bits(run.sampling.top_p_bits).into()),
            seed: run.sampling.seed,
        },
        capabilities: capabilities(trace, step_capability)?,
        buffers: trace.buffers().iter().map(buffer).collect(),
        graphs,
    })
}

/// What can be done with a trace whose first step can be executed again, or why not.
fn capabilities(trace: &Trace, step: String) -> Result<Capabilities, ReplayError> {
    let yes = || "yes".to_owned();
    let diff = match trace.snapshot_count() {
        0 => "no snapshot is in it: there is nothing to compare".to_owned(),
        _ => yes(),
    };
    if !is_foreign(trace.run()) {
        return Ok(Capabilities { diff, check: yes(), history: yes(), explain: step.clone(), step });
    }
    let tells = tells_what_ran(trace)?;
    let (check, history) = match tells {
        true => (format!("in part: all but {}", not_on_foreign_runs()), yes()),
        false => (
            "in part: values that are not finite, and rules; what read and wrote memory is not recorded"
                .to_owned(),
            "who wrote what is not recorded; `twinstep print NAME --at N --after` shows values step by step"
                .to_owned(),
        ),
    };
    let instead = |what: &str| match step.as_str() {
        "yes" => yes(),
        reason => format!("{reason}; {what}"),
    };
    Ok(Capabilities {
        diff,
        check,
        history,
        explain: match tells && step != "yes" {
            true => format!("in part: causes are named from the log and none is proven; {step}"),
            false => instead("`twinstep diff` shows where two runs part"),
        },
        step: instead("`twinstep print` shows what memory held around it"),
    })
}
