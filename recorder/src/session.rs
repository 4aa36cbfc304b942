//! The decode loop: requests, steps, host writes and reads, blocks of the KV cache.

use twinstep_kernels::{Backend, DType, DeviceInfo, Stream, View};
use twinstep_traces::{
    DeviceRecord, RequestRecord, RunRecord, SamplingRecord, StepKind, Storage, TraceWriter,
};

use crate::buffers::{BLOCK_TOKENS, Buffers, Types, positions};
use crate::capture::Captured;
use crate::codec::Codec;
use crate::error::RecordError;
use crate::options::{KvType, Mode, RecordOptions, WeightsType};
use crate::plan::Plan;
use crate::profile::{Profile, Residual};
use crate::talker::{Form, MlpGraphs, Talker};
use crate::tape::{At, Tape};
use crate::text;
use crate::voice::Voice;

/// The row that speaks.
const ROW: usize = 0;

/// What was said of one piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Normalised text.
    pub text: String,
    /// Steps, prefill included.
    pub steps: u32,
    /// Frames of codes, `[frames][codebooks]`.
    pub codes: Vec<Vec<i64>>,
    /// Why it ended.
    pub stopped: String,
    /// Samples.
    pub samples: usize,
}

/// What came of a run.
#[derive(Debug)]
pub struct Recording<S> {
    /// One entry a request.
    pub requests: Vec<Spoken>,
    /// All requests, one after the other, in [-1, 1].
    pub waveform: Vec<f32>,
    /// Samples a second.
    pub sample_rate: u32,
    /// The closed trace's storage, where one was recorded.
    pub storage: Option<S>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Request, counted from 1.
    pub request: u32,
    /// Requests in all.
    pub requests: u32,
    /// Step within the request.
    pub step: u32,
}

/// The pieces of a text, or why there are none.
///
/// # Errors
/// [`RecordError::Text`].
pub fn speakable(text: &str) -> Result<Vec<String>, RecordError> {
    if text.trim().is_empty() {
        return Err(RecordError::Text("is empty"));
    }
    let pieces = text::pieces(text);
    if pieces.is_empty() {
        return Err(RecordError::Text("has no letter or digit that the voice knows"));
    }
    Ok(pieces)
}

/// What a trace says of its run. Faults are not among it.
pub fn run_record(voice: &Voice, options: &RecordOptions, device: &DeviceInfo) -> RunRecord {
    let types = types(options);
    RunRecord {
        tool: concat!("twinstep ", env!("CARGO_PKG_VERSION")).to_owned(),
        mode: options.mode.name().to_owned(),
        device: DeviceRecord {
            backend: device.backend.to_owned(),
            name: device.name.clone(),
            capability: device.capability.clone(),
            driver: device.driver.clone(),
            ptx_sha256: device.ptx_sha256.clone(),
        },
        model: voice.config().model_type.clone(),
        model_source: voice.source(),
        model_sha256: voice.sha256(),
        weights_dtype: types.weights.name().to_owned(),
        kv_dtype: types.kv.name().to_owned(),
        profile: options.profile.name.to_owned(),
        prompt: options.text.clone(),
        rows: options.rows as u32,
        sampling: SamplingRecord {
            temperature_bits: options.sampling.temperature.to_bits(),
            top_k: options.sampling.top_k,
            top_p_bits: options.sampling.top_p.to_bits(),
            seed: options.seed,
        },
        sample_rate: voice.config().codec_config.sampling_rate,
        notes: options.context.map(|n| ("context".to_owned(), n.to_string())).into_iter().collect(),
    }
}

fn types(options: &RecordOptions) -> Types {
    let weights = match options.weights {
        WeightsType::F16 => DType::F16,
        WeightsType::Bf16 => DType::Bf16,
    };
    Types { weights, kv: if options.kv == KvType::F32 { DType::F32 } else { weights } }
}

/// Speaks a text; with a writer, every step is recorded.
///
/// # Errors
/// Before anything runs: options, text. Later: [`RecordError::Kernel`], [`RecordError::Trace`]; what was
/// committed until then stays readable.
pub fn record<S: Storage>(
    voice: &Voice,
    options: &RecordOptions,
    backend: Box<dyn Backend>,
    writer: Option<TraceWriter<S>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recording<S>, RecordError> {
    options.check()?;
    let pieces = speakable(&options.text)?;
    let mut tape = Tape::new(Stream::new(backend), writer);
    let types = types(options);
    let plan = Plan::new(&options.faults);
    let buffers = Buffers::new(&mut tape, voice, options.rows, options.context, types, &plan)?;
    let codec = Codec::new(&mut tape, voice, types.weights)?;
    let talker =
        Talker { config: voice.config(), buffers, profile: options.profile, sampling: options.sampling };
    // The newest freed block is used first, so that a later request meets memory that was used.
    let free_blocks = (0..(positions(voice.config(), options.context) / BLOCK_TOKENS) as i32).rev().collect();
    let mut session = Session {
        options,
        plan,
        talker,
        captured: Captured::default(),
        pieces: (options.mode == Mode::Piecewise).then(MlpGraphs::default),
        free_blocks,
        held: Vec::new(),
        longest: 0,
        tape,
    };
    if let Some(pieces) = &mut session.pieces {
        pieces.unlaunched = plan.skip_launch_at_capture;
    }
    session.capture()?;
    let mut requests = Vec::new();
    let mut waveform = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let request = i as u32 + 1;
        let mut at = |step| progress(Progress { request, requests: pieces.len() as u32, step });
        let (rows, stopped) = session.speak(request, piece, &mut at)?;
        // Forced codes stand for those that were said.
        let said = options.forced_codes.as_ref().filter(|forced| forced.len() == rows.len()).unwrap_or(&rows);
        let codes = frames(said, voice.config().audio_encoder_config.vocab_size, &options.profile);
        let samples = session.decode_codes(request, rows.len() as u32 + 1, &codec, &codes)?;
        requests.push(Spoken {
            text: piece.clone(),
            steps: rows.len() as u32,
            codes,
            stopped,
            samples: samples.len(),
        });
        waveform.extend(samples);
    }
    let storage = session.tape.finish()?;
    Ok(Recording { requests, waveform, sample_rate: voice.config().codec_config.sampling_rate, storage })
}

/// Undoes the delay: code k of frame t is cell k of row t + k. Special codes that are left become 0 or
/// the greatest real code, as the profile says.
fn frames(rows: &[Vec<i64>], vocab: usize, profile: &Profile) -> Vec<Vec<i64>> {
    let n = rows.first().map_or(0, Vec::len);
    let used = rows.len() - usize::from(profile.drop_last_row && !rows.is_empty());
    let real = vocab as i64 - 2;
    let residual = match profile.residual {
        Residual::Zero => 0,
        Residual::Clamp => real - 1,
    };
    let code =
        |t: usize, k: usize| Some(rows[t + k][k]).filter(|c| (0..real).contains(c)).unwrap_or(residual);
    (0..(used + 1).saturating_sub(n)).map(|t| (0..n).map(|k| code(t, k)).collect()).collect()
}

struct Session<'a, S: Storage> {
    options: &'a RecordOptions,
    plan: Plan,
    talker: Talker<'a>,
    tape: Tape<S>,
    captured: Captured,
    pieces: Option<MlpGraphs>,
    free_blocks: Vec<i32>,
    held: Vec<i32>,
    /// Length of the longest request so far.
    longest: usize,
}

impl<S: Storage> Session<'_, S> {
    /// Set-up: in graph mode the decode step is captured.
    fn capture(&mut self) -> Result<(), RecordError> {
        if self.options.mode == Mode::Graph {
            self.captured = Captured::new(&mut self.talker, &mut self.tape, &self.plan)?;
        }
        self.tape.point("step.after")?;
        self.tape.end()
    }

    /// One request, to its end; returns its rows of codes and why it ended.
    fn speak(
        &mut self,
        request: u32,
        piece: &str,
        progress: &mut dyn FnMut(u32),
    ) -> Result<(Vec<Vec<i64>>, String), RecordError> {
        let ids = self.talker.config.special_tokens.clone();
        let prompt: Vec<u32> =
            [ids.tts, ids.text].into_iter().chain(piece.bytes().map(u32::from)).chain([ids.audio]).collect();
        let context = positions(self.talker.config, self.options.context);
        let room = self.talker.buffers.prefill.k.shape[0].min(context.saturating_sub(1));
        if prompt.len() > room {
            return Err(RecordError::TooLong { tokens: prompt.len(), room });
        }
        let record =
            RequestRecord { request, text: piece.to_owned(), prompt: prompt.clone(), row: ROW as u32 };
        self.tape.request(&record)?;
        let patience = text::patience(piece);
        let wanted = self.options.max_steps.map_or(usize::MAX, |n| n as usize);
        let forced = self.options.forced_codes.as_ref().map_or(usize::MAX, Vec::len);
        let fits = context - prompt.len() + 1;
        let most = patience.min(wanted).min(fits).min(forced);
        let limit = match most {
            n if n == wanted => "--max-steps reached",
            n if n == forced => "forced codes used up",
            n if n == fits => "context full",
            _ => "no end of speech within the bound on steps",
        };

        let mut rows: Vec<Vec<i64>> = Vec::new();
        loop {
            let step = rows.len() as u32 + 1;
            progress(step);
            let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
            self.tape.begin(At { kind, request, step });
            if step == 1 {
                self.prefill(request, &prompt)?;
            } else {
                self.decode(prompt.len() + rows.len(), &rows)?;
            }
            self.tape.point("step.after")?;
            let b = &self.talker.buffers;
            let out = if step == 1 { &b.prefill_codes } else { &b.codes_out };
            let done = self.tape.read(&b.generation_done.rows(ROW, 1))?[0] != 0;
            let row: Vec<i64> = bytemuck::pod_collect_to_vec(&self.tape.read(&out.rows(ROW, 1))?);
            rows.push(row);
            let stopped = if done { Some("end of speech") } else { (rows.len() >= most).then_some(limit) };
            self.tape.decide(&stopped.map_or("continue".to_owned(), |reason| format!("stop: {reason}")));
            self.tape.end()?;
            if let Some(reason) = stopped {
                self.free_blocks.append(&mut self.held);
                self.longest = self.longest.max(prompt.len() + rows.len() - 1);
                return Ok((rows, reason.to_owned()));
            }
        }
    }

    /// The slot of a position, taking a block where the position begins one.
    fn slot(&mut self, position: usize) -> i64 {
        if position.is_multiple_of(BLOCK_TOKENS) {
            // There are as many blocks as the context has, and one request at a time.
            self.held.extend(self.free_blocks.pop());
        }
        i64::from(self.held[position / BLOCK_TOKENS]) * BLOCK_TOKENS as i64 + (position % BLOCK_TOKENS) as i64
    }

    fn write_block_table(&mut self) -> Result<(), RecordError> {
        let table = self.talker.buffers.block_table.rows(ROW, 1);
        let used = View::dense(table.buffer, table.dtype, table.offset, &[self.held.len()]);
        self.tape.write_values(&used, &self.held)
    }

    fn prefill(&mut self, request: u32, prompt: &[u32]) -> Result<(), RecordError> {
        let n = prompt.len();
        let ids: Vec<i32> = prompt.iter().map(|&id| id as i32).collect();
        let positions: Vec<i64> = (0..n as i64).collect();
        let slots: Vec<i64> = (0..n).map(|position| self.slot(position)).collect();
        self.captured.hand_out(&mut self.talker, &mut self.tape)?;
        let (b, tape) = (&self.talker.buffers, &mut self.tape);
        tape.write_values(&b.prefill_ids.rows(0, n), &ids)?;
        tape.write_values(&b.prefill_positions.rows(0, n), &positions)?;
        tape.write_values(&b.prefill_slots.rows(0, n), &slots)?;
        self.write_block_table()?;
        let (b, tape) = (&self.talker.buffers, &mut self.tape);
        tape.write_values(&b.seq_lens.rows(ROW, 1), &[n as i32])?;
        let seed = self.options.seed;
        tape.write_values(&b.sampler_key.rows(ROW, 1), &[seed as u32, (seed >> 32) as u32, request, 0])?;
        tape.point("step.before")?;
        self.talker.prefill(tape, n, ROW)
    }

    /// A decode step; `next` is the length with the token fed in.
    fn decode(&mut self, next: usize, rows: &[Vec<i64>]) -> Result<(), RecordError> {
        let position = next - 1;
        let slot = self.slot(position);
        let length = if self.plan.high_water_lengths { next.max(self.longest) } else { next };
        let seq_len = self.talker.buffers.seq_lens.rows(ROW, 1);
        let (b, tape) = (&self.talker.buffers, &mut self.tape);
        tape.write_values(&b.input_ids.rows(ROW, 1), &[self.talker.config.special_tokens.audio as i32])?;
        tape.write_values(&b.positions.rows(ROW, 1), &[position as i64])?;
        if !self.plan.lengths_after_launch {
            tape.write_values(&seq_len, &[length as i32])?;
        }
        if self.plan.padding_slot_zero {
            let mut slots = vec![0; b.slot_mapping.len()];
            slots[ROW] = slot;
            tape.write_values(&b.slot_mapping, &slots)?;
        } else {
            tape.write_values(&b.slot_mapping.rows(ROW, 1), &[slot])?;
        }
        if !self.plan.block_table_at_prefill {
            self.write_block_table()?;
        }
        let last = match &self.options.forced_codes {
            Some(forced) => Some(&forced[rows.len() - 1]),
            // Prefill leaves its row in its own output; the host hands it on.
            None => rows.first().filter(|_| rows.len() == 1 && !self.plan.keep_seed_codes),
        };
        if let Some(codes) = last {
            self.tape.write_values(&self.talker.buffers.last_codes.rows(ROW, 1), codes)?;
        }
        self.tape.point("step.before")?;
        let live_rows = 1;
        match self.captured.dispatch(&self.plan, self.options.rows, live_rows) {
            Some(graphs) => graphs.iter().try_for_each(|graph| self.tape.launch_graph(graph))?,
            None => {
                let form = Form::correct(self.options.rows, self.options.sampling);
                self.talker.decode(&mut self.tape, &form, self.pieces.as_mut())?;
            }
        }
        if self.plan.lengths_after_launch {
            self.tape.write_values(&seq_len, &[length as i32])?;
        }
        Ok(())
    }

    /// The codec's section after a request's last step.
    fn decode_codes(
        &mut self,
        request: u32,
        step: u32,
        codec: &Codec,
        codes: &[Vec<i64>],
    ) -> Result<Vec<f32>, RecordError> {
        if codes.is_empty() {
            return Ok(Vec::new());
        }
        self.tape.begin(At { kind: StepKind::Codec, request, step });
        self.tape.point("step.before")?;
        let (waveform, owned) =
            codec.decode(&mut self.tape, &codes.concat(), &self.talker.buffers.op_faults)?;
        self.tape.point("step.after")?;
        let samples = bytemuck::pod_collect_to_vec(&self.tape.read(&waveform)?);
        for buffer in &owned {
            self.tape.free(buffer)?;
        }
        self.tape.end()?;
        Ok(samples)
    }
}
