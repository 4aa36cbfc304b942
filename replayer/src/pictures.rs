//! What can be looked at as a picture: codes over steps, the KV cache over layers and positions, sound.

use twinstep_traces::{BufferId, SnapshotId, StepKind, Trace};

use crate::ReplayError;
use crate::at::{At, find};
use crate::recorded::snapshot;
use crate::requests::Twins;
use crate::selection::resolve;
use crate::value::Value;

/// Positions and steps in a picture at most; more are not looked at.
const PICTURE_MAX: usize = 1 << 16;

/// The codes of a request: a column a step, a row a codebook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeGrid {
    /// Codebooks.
    pub codebooks: usize,
    /// Step numbers of the columns.
    pub steps: Vec<u32>,
    /// Code by step, then codebook.
    pub codes: Vec<Vec<i64>>,
    /// Code that begins a codebook's stream, where the trace tells the size of a codebook.
    pub boc: Option<i64>,
    /// Code that ends it.
    pub eoc: Option<i64>,
}

/// What `codes_out` holds after each step of a request, in the request's row.
///
/// # Errors
/// [`ReplayError::Read`].
pub fn code_grid(trace: &Trace, request: u32) -> Result<CodeGrid, ReplayError> {
    let row = trace.requests().iter().find(|r| r.request == request).map_or(0, |r| r.row) as usize;
    // The two last codes of a codebook are BOC and EOC; the logits tell how many there are.
    let vocabulary = trace
        .find_buffer("audio_logits", None)
        .and_then(|id| trace.buffer(id))
        .and_then(|b| b.shape.last().copied())
        .and_then(|n| i64::try_from(n).ok());
    let mut grid = CodeGrid {
        codebooks: 0,
        steps: Vec::new(),
        codes: Vec::new(),
        boc: vocabulary.map(|n| n - 2),
        eoc: vocabulary.map(|n| n - 1),
    };
    let Some(id) = trace.find_buffer("codes_out", None) else { return Ok(grid) };
    let Some(record) = trace.buffer(id).filter(|r| r.shape.len() == 2) else { return Ok(grid) };
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        if step.request != request || !matches!(step.kind, StepKind::Prefill | StepKind::Decode) {
            continue;
        }
        let Some(after) = snapshot(&step, "step.after") else { continue };
        let Some(bytes) = trace.read_buffer(after, id)? else { continue };
        let codebooks = record.shape[1].min(PICTURE_MAX as u64) as usize;
        let values = Value::all(record.dtype, &bytes).skip(row * codebooks).take(codebooks);
        grid.codes.push(values.map(|v| v.to_f64() as i64).collect());
        grid.steps.push(step.step);
        grid.codebooks = codebooks;
        if grid.steps.len() == PICTURE_MAX {
            break;
        }
    }
    Ok(grid)
}

/// One position of one layer's KV cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvCell {
    /// Root mean square of its finite values; `None` where A does not record it.
    pub a: Option<f64>,
    /// The same in B.
    pub b: Option<f64>,
    /// Whether the bits differ.
    pub differs: bool,
    /// Whether it still holds what fresh memory is filled with (0xA5), in both.
    pub fresh: bool,
}

/// The KV cache: layers of positions.
#[derive(Debug, Clone, PartialEq)]
pub struct KvMap {
    /// Buffer names by layer.
    pub layers: Vec<String>,
    /// Cells by layer, then slot.
    pub cells: Vec<Vec<KvCell>>,
}

/// The KV caches (`kv_cache.I`, shaped `[2, blocks, tokens, ...]`) before or after a step.
///
/// # Errors
/// [`ReplayError::Place`], [`ReplayError::Read`].
pub fn kv_map(a: &Trace, b: Option<&Trace>, at: At, after: bool) -> Result<KvMap, ReplayError> {
    let point = if after { "step.after" } else { "step.before" };
    let (left, right) =
        (find(a, at), b.map(|b| find(b, Twins::of(a, b).in_b(at))).transpose().ok().flatten());
    let snapshot_a = left.as_ref().ok().and_then(|step| snapshot(step, point));
    let snapshot_b = right.as_ref().and_then(|step| snapshot(step, point));
    let mut map = KvMap { layers: Vec::new(), cells: Vec::new() };
    for layer in 0.. {
        let name = format!("kv_cache.{layer}");
        let of = |trace: &Trace, step: Option<&twinstep_traces::StepRecord>| {
            step.and_then(|step| resolve(trace, step, &name).ok())
        };
        let ia = of(a, left.as_ref().ok());
        let ib = b.and_then(|b| of(b, right.as_ref()));
        if ia.is_none() && ib.is_none() {
            break;
        }
        let read = |trace: Option<&Trace>, snapshot: Option<SnapshotId>, id: Option<BufferId>| match (
            trace, snapshot, id,
        ) {
            (Some(trace), Some(snapshot), Some(id)) => trace.read_buffer(snapshot, id),
            _ => Ok(None),
        };
        let (x, y) = (read(Some(a), snapshot_a, ia)?, read(b, snapshot_b, ib)?);
        let record = ia.and_then(|id| a.buffer(id)).or(ib.and_then(|id| b.and_then(|b| b.buffer(id))));
        let Some(record) = record.filter(|r| r.shape.len() >= 4 && r.shape[0] == 2) else { break };
        let slots = (record.shape[1].saturating_mul(record.shape[2])).min(PICTURE_MAX as u64) as usize;
        let token = (record.bytes / 2 / (record.shape[1] * record.shape[2]).max(1)) as usize;
        let half = (record.bytes / 2) as usize;
        let part = |bytes: &Option<Vec<u8>>, slot: usize| -> Option<Vec<u8>> {
            let bytes = bytes.as_ref()?;
            let keys = bytes.get(slot * token..(slot + 1) * token)?;
            let values = bytes.get(half + slot * token..half + (slot + 1) * token)?;
            Some([keys, values].concat())
        };
        let rms = |bytes: &Option<Vec<u8>>| {
            let bytes = bytes.as_ref()?;
            let finite = Value::all(record.dtype, bytes).map(Value::to_f64).filter(|v| v.is_finite());
            let (sum, n) = finite.fold((0.0, 0u64), |(sum, n), v| (sum + v * v, n + 1));
            Some((sum / n.max(1) as f64).sqrt())
        };
        let cell = |slot: usize| {
            let (p, q) = (part(&x, slot), part(&y, slot));
            let untouched = |bytes: &Option<Vec<u8>>| bytes.iter().flatten().all(|&byte| byte == 0xa5);
            KvCell {
                a: rms(&p),
                b: rms(&q),
                differs: p.is_some() && q.is_some() && p != q,
                fresh: untouched(&p) && untouched(&q),
            }
        };
        map.cells.push((0..slots).map(cell).collect());
        map.layers.push(name);
        if map.layers.len() == 1024 {
            break;
        }
    }
    Ok(map)
}

/// The sound of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples.
    pub samples: Vec<f32>,
}

/// What the codec section of a request made; `None` where it was not recorded.
///
/// # Errors
/// [`ReplayError::Read`].
pub fn sound(trace: &Trace, request: u32) -> Result<Option<Sound>, ReplayError> {
    let Ok(step) = find(trace, At { request, step: None }) else { return Ok(None) };
    let Some(after) = snapshot(&step, "step.after") else { return Ok(None) };
    for id in trace.covered(after)? {
        let Some(record) = trace.buffer(id).filter(|b| b.name == "waveform") else { continue };
        let bytes = trace.read_buffer(after, id)?.unwrap_or_default();
        let samples = Value::all(record.dtype, &bytes).map(|v| v.to_f64() as f32).collect();
        return Ok(Some(Sound { sample_rate: trace.run().sample_rate, samples }));
    }
    Ok(None)
}
