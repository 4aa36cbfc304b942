//! How alike two waveforms are.

use serde::Serialize;
use twinstep_traces::{StepKind, Trace};

use crate::ReplayError;
use crate::diff::snapshot_of;
use crate::number::Number;
use crate::value::Value;

/// The sound of one request on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct WaveformReport {
    /// Request, counted from 1.
    pub request: u32,
    /// Samples in A.
    pub samples_a: usize,
    /// Samples in B.
    pub samples_b: usize,
    /// Whether all bits are equal.
    pub identical: bool,
    /// Pearson correlation over the common length; NaN where one side is constant.
    pub correlation: Number,
    /// RMS level of A in dB below full scale.
    pub loudness_a_db: Number,
    /// RMS level of B in dB below full scale.
    pub loudness_b_db: Number,
}

/// Every request that both sides have decoded.
pub(crate) fn compare(a: &Trace, b: &Trace) -> Result<Vec<WaveformReport>, ReplayError> {
    let mut reports = Vec::new();
    let (left, right) = (waveforms(a)?, waveforms(b)?);
    for (request, x) in &left {
        let Some((_, y)) = right.iter().find(|(r, _)| r == request) else { continue };
        reports.push(WaveformReport {
            request: *request,
            samples_a: x.len(),
            samples_b: y.len(),
            identical: x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits()),
            correlation: Number(correlation(x, y)),
            loudness_a_db: Number(loudness(x)),
            loudness_b_db: Number(loudness(y)),
        });
    }
    Ok(reports)
}

fn waveforms(trace: &Trace) -> Result<Vec<(u32, Vec<f64>)>, ReplayError> {
    let mut found = Vec::new();
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        let Some(after) = snapshot_of(&step, "step.after").filter(|_| step.kind == StepKind::Codec) else {
            continue;
        };
        for id in trace.covered(after)? {
            let Some(buffer) = trace.buffer(id).filter(|b| b.name == "waveform") else { continue };
            let bytes = trace.read_buffer(after, id)?.unwrap_or_default();
            found.push((step.request, Value::all(buffer.dtype, &bytes).map(Value::to_f64).collect()));
        }
    }
    Ok(found)
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len().min(y.len());
    let mean = |v: &[f64]| v[..n].iter().sum::<f64>() / n as f64;
    let (mx, my) = (mean(x), mean(y));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| x[..n].iter().zip(&y[..n]).map(|(a, b)| f(a - mx, b - my)).sum::<f64>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

fn loudness(x: &[f64]) -> f64 {
    10.0 * (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).log10()
}
