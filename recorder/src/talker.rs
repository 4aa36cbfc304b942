//! The talker: emits launches and nothing else.

use twinstep_kernels::{Launch, Op, Scalar, View};
use twinstep_traces::{Phase, Storage};

use crate::buffers::{Buffers, Layer, Scratch, kv_halves};
use crate::config::Config;
use crate::error::RecordError;
use crate::profile::Profile;
use crate::tape::{Labelled, LabelledGraph, Tape};

/// How codes are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 means greedy.
    pub temperature: f32,
    /// Codes kept; 0 means all.
    pub top_k: u32,
    /// Probability kept; 1 means all.
    pub top_p: f32,
}

/// The norm and MLP of each layer as graphs of their own, captured when first needed.
#[derive(Default)]
pub(crate) struct MlpGraphs {
    graphs: Vec<LabelledGraph>,
    /// The planted mistake: on the capturing step the outputs are used without a launch.
    pub(crate) unlaunched: bool,
}

/// What the launches are made from.
pub(crate) struct Talker<'a> {
    pub(crate) config: &'a Config,
    pub(crate) buffers: &'a Buffers,
    pub(crate) profile: Profile,
    pub(crate) sampling: Sampling,
}

/// Where one token's keys and values go and which positions it attends to.
struct Place<'a> {
    positions: &'a View,
    slots: &'a View,
}

impl Talker<'_> {
    fn emit<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        phase: Phase,
        label: String,
        op: Op,
        views: Vec<View>,
        scalars: Vec<Scalar>,
    ) -> Result<(), RecordError> {
        tape.launch(Labelled { label, phase, launch: Launch::new(op, views, scalars)? })
    }

    /// Step 1: the prompt of one request in row `row`, `tokens` long.
    pub(crate) fn prefill<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        tokens: usize,
        row: usize,
    ) -> Result<(), RecordError> {
        let (b, phase) = (self.buffers, Phase::Prefill);
        let s = b.prefill.rows(tokens);
        let ids = b.prefill_ids.rows(0, tokens);
        let faults = || b.op_faults.clone();
        let place = Place {
            positions: &b.prefill_positions.rows(0, tokens),
            slots: &b.prefill_slots.rows(0, tokens),
        };
        let embed = vec![ids, b.text_embedding.clone(), s.x.clone(), faults()];
        self.emit(tape, phase, "embed.text".into(), Op::EmbedText, embed, vec![])?;
        let mlp_out = b.prefill_mlp_out.rows(0, tokens);
        for (i, layer) in b.layers.iter().enumerate() {
            let (q, out) = self.attention_inputs(tape, phase, i, layer, &s, &place)?;
            let (k_cache, v_cache) = kv_halves(&layer.kv_cache);
            let table = b.block_table.rows(row, 1);
            let views = vec![q, k_cache, v_cache, table, place.positions.clone(), out, faults()];
            let scalars = vec![self.scale(), Scalar::U32(1)];
            self.emit(tape, phase, format!("layer.{i}.attn"), Op::AttentionPrefill, views, scalars)?;
            self.attention_output(tape, phase, i, layer, &s)?;
            self.mlp(tape, phase, i, layer, &s, &mlp_out)?;
            self.emit(
                tape,
                phase,
                format!("layer.{i}.mlp.add"),
                Op::ResidualAdd,
                vec![s.x.clone(), mlp_out.clone()],
                vec![],
            )?;
        }
        let last = s.x.rows(tokens - 1, 1);
        self.heads(tape, phase, last, row, 1)?;
        let row1 = |view: &View| view.rows(row, 1);
        let seed = vec![
            row1(&b.last_codes),
            row1(&b.has_codes),
            row1(&b.delay_count),
            row1(&b.eoc_countdown),
            row1(&b.generation_done),
            row1(&b.sampler_counter),
        ];
        let boc = Scalar::U32(self.config.audio_encoder_config.boc_token_id);
        self.emit(tape, Phase::Sample, "sample.seed".into(), Op::SeedState, seed, vec![boc])?;
        self.sample(tape, row, 1, b.prefill_codes.clone())
    }

    /// Steps 2, 3, ...: one token in every row of the batch.
    pub(crate) fn decode<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        mut pieces: Option<&mut MlpGraphs>,
    ) -> Result<(), RecordError> {
        let (b, phase) = (self.buffers, Phase::Forward);
        let s = &b.decode;
        let rows = s.x.shape[0];
        let faults = || b.op_faults.clone();
        let place = Place { positions: &b.positions, slots: &b.slot_mapping };
        let embed = vec![b.input_ids.clone(), b.text_embedding.clone(), s.text.clone(), faults()];
        self.emit(tape, phase, "embed.text".into(), Op::EmbedText, embed, vec![])?;
        let feedback = vec![
            b.last_codes.clone(),
            b.has_codes.clone(),
            b.code_embedding.clone(),
            s.text.clone(),
            s.x.clone(),
            faults(),
        ];
        self.emit(tape, phase, "embed.codes".into(), Op::EmbedCodes, feedback, vec![])?;
        for (i, layer) in b.layers.iter().enumerate() {
            let (q, out) = self.attention_inputs(tape, phase, i, layer, s, &place)?;
            let (k_cache, v_cache) = kv_halves(&layer.kv_cache);
            let views = vec![
                q,
                k_cache,
                v_cache,
                b.block_table.clone(),
                b.seq_lens.clone(),
                b.attn_partial.clone(),
                faults(),
            ];
            let scalars = vec![self.scale(), Scalar::U32(1)];
            self.emit(tape, phase, format!("layer.{i}.attn"), Op::AttentionDecode, views, scalars)?;
            let merge = vec![b.attn_partial.clone(), b.seq_lens.clone(), out];
            self.emit(
                tape,
                phase,
                format!("layer.{i}.attn.merge"),
                Op::AttentionMerge,
                merge,
                vec![Scalar::U32(1)],
            )?;
            self.attention_output(tape, phase, i, layer, s)?;
            match &mut pieces {
                Some(pieces) => self.mlp_graph(tape, i, layer, pieces)?,
                None => self.mlp(tape, phase, i, layer, s, &layer.mlp_out)?,
            }
            self.emit(
                tape,
                phase,
                format!("layer.{i}.mlp.add"),
                Op::ResidualAdd,
                vec![s.x.clone(), layer.mlp_out.clone()],
                vec![],
            )?;
        }
        self.heads(tape, phase, s.x.clone(), 0, rows)?;
        self.sample(tape, 0, rows, b.last_codes.clone())
    }

    fn scale(&self) -> Scalar {
        Scalar::F32(1.0 / (self.config.text_config.head_dim as f32).sqrt())
    }

    fn eps(&self) -> Vec<Scalar> {
        vec![Scalar::F32(self.config.text_config.rms_norm_eps)]
    }

    /// Norm, projections, QK-norm with RoPE, KV write; returns rotated queries and the place for the
    /// attention's output.
    fn attention_inputs<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        phase: Phase,
        i: usize,
        layer: &Layer,
        s: &Scratch,
        place: &Place<'_>,
    ) -> Result<(View, View), RecordError> {
        let (b, t) = (self.buffers, &self.config.text_config);
        let rows = s.x.shape[0];
        let name = |part: &str| format!("layer.{i}.{part}");
        let heads = |view: &View, heads: usize| view.reshape(&[rows, heads, t.head_dim]);
        let norm = vec![s.x.clone(), layer.input_norm.clone(), s.norm.clone()];
        self.emit(tape, phase, name("input_norm"), Op::RmsNorm, norm, self.eps())?;
        for (part, weight, out) in
            [("attn.q", &layer.q, &s.q), ("attn.k", &layer.k, &s.k), ("attn.v", &layer.v, &s.v)]
        {
            let views = vec![s.norm.clone(), weight.clone(), out.clone()];
            self.emit(tape, phase, name(part), Op::Linear, views, vec![])?;
        }
        let rotated = [
            ("attn.q_norm_rope", &s.q, &layer.q_norm, &s.q_rot, t.num_attention_heads),
            ("attn.k_norm_rope", &s.k, &layer.k_norm, &s.k_rot, t.num_key_value_heads),
        ];
        for (part, x, weight, out, n) in rotated {
            let views = vec![
                heads(x, n),
                weight.clone(),
                place.positions.clone(),
                b.rope_cos.clone(),
                b.rope_sin.clone(),
                heads(out, n),
                b.op_faults.clone(),
            ];
            self.emit(tape, phase, name(part), Op::QkNormRope, views, self.eps())?;
        }
        let (k_cache, v_cache) = kv_halves(&layer.kv_cache);
        let (k, v) = (heads(&s.k_rot, t.num_key_value_heads), heads(&s.v, t.num_key_value_heads));
        let write = vec![k, v, place.slots.clone(), k_cache, v_cache, b.op_faults.clone()];
        self.emit(tape, phase, name("kv_write"), Op::KvWrite, write, vec![])?;
        Ok((heads(&s.q_rot, t.num_attention_heads), s.attn_out.clone()))
    }

    /// Output projection into the residual stream.
    fn attention_output<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        phase: Phase,
        i: usize,
        layer: &Layer,
        s: &Scratch,
    ) -> Result<(), RecordError> {
        let views = vec![s.attn_out.clone(), layer.o.clone(), s.o_out.clone()];
        self.emit(tape, phase, format!("layer.{i}.attn.o"), Op::Linear, views, vec![])?;
        let add = vec![s.x.clone(), s.o_out.clone()];
        self.emit(tape, phase, format!("layer.{i}.attn.add"), Op::ResidualAdd, add, vec![])
    }

    /// Norm and MLP, into `out`: what the piecewise mode captures.
    fn mlp<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        phase: Phase,
        i: usize,
        layer: &Layer,
        s: &Scratch,
        out: &View,
    ) -> Result<(), RecordError> {
        let name = |part: &str| format!("layer.{i}.{part}");
        let norm = vec![s.x.clone(), layer.post_norm.clone(), s.norm.clone()];
        self.emit(tape, phase, name("post_norm"), Op::RmsNorm, norm, self.eps())?;
        let gate = vec![s.norm.clone(), layer.gate.clone(), s.gate.clone()];
        self.emit(tape, phase, name("mlp.gate"), Op::Linear, gate, vec![])?;
        let up = vec![s.norm.clone(), layer.up.clone(), s.up.clone()];
        self.emit(tape, phase, name("mlp.up"), Op::Linear, up, vec![])?;
        let act = vec![s.gate.clone(), s.up.clone(), s.act.clone()];
        self.emit(tape, phase, name("mlp.act"), Op::SiluMul, act, vec![])?;
        let down = vec![s.act.clone(), layer.down.clone(), out.clone()];
        self.emit(tape, phase, name("mlp.down"), Op::Linear, down, vec![])
    }

    fn mlp_graph<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        i: usize,
        layer: &Layer,
        pieces: &mut MlpGraphs,
    ) -> Result<(), RecordError> {
        let captured_now = pieces.graphs.len() == i;
        if captured_now {
            tape.begin_capture()?;
            self.mlp(tape, Phase::Forward, i, layer, &self.buffers.decode, &layer.mlp_out)?;
            pieces.graphs.push(tape.end_capture(&format!("layer.{i}.mlp"))?);
            if pieces.unlaunched {
                return Ok(());
            }
        }
        let graph = &pieces.graphs[i];
        tape.graph_before(&format!("layer.{i}.mlp.before"), graph)?;
        tape.launch_graph(graph)?;
        tape.graph_after(&format!("layer.{i}.mlp.after"), graph)
    }

    /// Final norm, LM head and audio head of `count` rows from `row` on.
    fn heads<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        phase: Phase,
        x: View,
        row: usize,
        count: usize,
    ) -> Result<(), RecordError> {
        let b = self.buffers;
        let hidden = b.hidden.rows(row, count);
        let norm = vec![x, b.final_norm.clone(), hidden.clone()];
        self.emit(tape, phase, "final_norm".into(), Op::RmsNorm, norm, self.eps())?;
        let lm = vec![hidden.clone(), b.text_embedding.clone(), b.lm_logits.rows(row, count)];
        self.emit(tape, phase, "head.lm".into(), Op::LmHead, lm, vec![])?;
        let audio = vec![hidden, b.code_embedding.clone(), b.audio_logits.rows(row, count)];
        self.emit(tape, phase, "head.audio".into(), Op::AudioHead, audio, vec![])
    }

    /// Mask, sample and update state of `count` rows from `row` on.
    fn sample<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        row: usize,
        count: usize,
        feedback: View,
    ) -> Result<(), RecordError> {
        let (b, a, p) = (self.buffers, &self.config.audio_encoder_config, &self.profile);
        let n = a.num_codebooks as u32;
        let rows = |view: &View| view.rows(row, count);
        let (boc, eoc) = (Scalar::U32(a.boc_token_id), Scalar::U32(a.eoc_token_id));
        let eoc_from = Scalar::U32(if p.eoc_after_lead_in { n } else { 0 });
        let flags = Scalar::U32(p.flags);
        let mask =
            vec![rows(&b.audio_logits), rows(&b.delay_count), rows(&b.eoc_countdown), rows(&b.masked_logits)];
        self.emit(
            tape,
            Phase::Sample,
            "sample.mask".into(),
            Op::DelayMask,
            mask,
            vec![boc, eoc, eoc_from, flags],
        )?;
        let draw =
            vec![rows(&b.masked_logits), rows(&b.sampler_key), rows(&b.sampler_counter), rows(&b.sampled)];
        let s = self.sampling;
        let scalars = vec![Scalar::F32(s.temperature), Scalar::U32(s.top_k), Scalar::F32(s.top_p)];
        self.emit(tape, Phase::Sample, "sample.draw".into(), Op::Sample, draw, scalars)?;
        let update = vec![
            rows(&b.sampled),
            rows(&b.has_codes),
            rows(&b.delay_count),
            rows(&b.eoc_countdown),
            rows(&b.generation_done),
            rows(&b.sampler_counter),
            feedback,
            rows(&b.codes_out),
        ];
        let cap = Scalar::U32(n.saturating_sub(p.delay_cap_below));
        let countdown = Scalar::U32(n.saturating_sub(p.countdown_below));
        let scalars = vec![boc, eoc, eoc_from, flags, cap, countdown];
        self.emit(tape, Phase::Sample, "sample.update".into(), Op::UpdateState, update, scalars)
    }
}

impl Scratch {
    /// The first `count` rows of each.
    fn rows(&self, count: usize) -> Scratch {
        let cut = |view: &View| view.rows(0, count);
        Scratch {
            text: cut(&self.text),
            x: cut(&self.x),
            norm: cut(&self.norm),
            q: cut(&self.q),
            k: cut(&self.k),
            v: cut(&self.v),
            q_rot: cut(&self.q_rot),
            k_rot: cut(&self.k_rot),
            attn_out: cut(&self.attn_out),
            o_out: cut(&self.o_out),
            gate: cut(&self.gate),
            up: cut(&self.up),
            act: cut(&self.act),
        }
    }
}
