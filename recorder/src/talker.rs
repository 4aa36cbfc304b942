//! The talker: emits launches and nothing else.

use twinstep_kernels::{FROM_OPERAND, Launch, Op, Scalar, View};
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
    /// Whether the outputs are used on the capturing step without a launch: a mistake.
    pub(crate) unlaunched: bool,
}

/// What a decode step is made of, as far as engines make it differently when they capture it. In a correct
/// one there is a single form, and nothing in it changes from step to step.
#[derive(Clone)]
pub(crate) struct Form {
    /// Rows of the batch that are computed.
    pub(crate) rows: usize,
    /// Rows that are embedded; the others keep what the input embedding holds.
    pub(crate) embedded_rows: usize,
    /// Whether the codes of the last step are fed back, or the input token alone.
    pub(crate) feedback: bool,
    /// Position by value, or [`FROM_OPERAND`].
    pub(crate) position: u32,
    /// Sequence length by value, or [`FROM_OPERAND`].
    pub(crate) seq_len: u32,
    /// Tiles of positions in a split of the attention.
    pub(crate) tiles_per_split: u32,
    /// Whether keys and values are written on a stream of their own.
    pub(crate) kv_write_aside: bool,
    /// How codes are chosen.
    pub(crate) sampling: Sampling,
    /// The counter that sampling advances, where it is not the one that it draws with.
    pub(crate) advanced_counter: Option<View>,
}

impl Form {
    /// The form of a correct engine.
    pub(crate) fn correct(rows: usize, sampling: Sampling) -> Form {
        Form {
            rows,
            embedded_rows: rows,
            feedback: true,
            position: FROM_OPERAND,
            seq_len: FROM_OPERAND,
            tiles_per_split: 1,
            kv_write_aside: false,
            sampling,
            advanced_counter: None,
        }
    }
}

/// What the launches are made from.
pub(crate) struct Talker<'a> {
    pub(crate) config: &'a Config,
    pub(crate) buffers: Buffers,
    pub(crate) profile: Profile,
    pub(crate) sampling: Sampling,
}

/// Where one token's keys and values go and which positions it attends to.
struct Place {
    positions: View,
    /// Position of all rows by value, or [`FROM_OPERAND`].
    position: u32,
    slots: View,
    /// Whether they are written on a stream of their own.
    write_aside: bool,
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
        let (b, phase) = (&self.buffers, Phase::Prefill);
        let s = b.prefill.rows(tokens);
        let ids = b.prefill_ids.rows(0, tokens);
        let faults = || b.op_faults.clone();
        let place = Place {
            positions: b.prefill_positions.rows(0, tokens),
            position: FROM_OPERAND,
            slots: b.prefill_slots.rows(0, tokens),
            write_aside: false,
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
        self.choose(tape, row, 1, b.prefill_codes.clone(), &Form::correct(1, self.sampling))
    }

    /// Steps 2, 3, ...: one token in every row of the batch.
    pub(crate) fn decode<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        form: &Form,
        pieces: Option<&mut MlpGraphs>,
    ) -> Result<(), RecordError> {
        self.forward(tape, form, pieces)?;
        self.sample(tape, form)
    }

    /// The forward pass of a decode step.
    pub(crate) fn forward<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        form: &Form,
        mut pieces: Option<&mut MlpGraphs>,
    ) -> Result<(), RecordError> {
        let (b, phase) = (&self.buffers, Phase::Forward);
        let cut = |view: &View| view.rows(0, form.rows);
        let s = b.decode.rows(form.rows);
        let faults = || b.op_faults.clone();
        let place = Place {
            positions: cut(&b.positions),
            position: form.position,
            slots: cut(&b.slot_mapping),
            write_aside: form.kv_write_aside,
        };
        self.embed(tape, form)?;
        let (seq_lens, partial) = (cut(&b.seq_lens), cut(&b.attn_partial));
        for (i, layer) in b.layers.iter().enumerate() {
            let (q, out) = self.attention_inputs(tape, phase, i, layer, &s, &place)?;
            let (k_cache, v_cache) = kv_halves(&layer.kv_cache);
            let table = cut(&b.block_table);
            let views = vec![q, k_cache, v_cache, table, seq_lens.clone(), partial.clone(), faults()];
            let tiles = Scalar::U32(form.tiles_per_split);
            let scalars = vec![self.scale(), tiles, Scalar::U32(form.seq_len)];
            self.emit(tape, phase, format!("layer.{i}.attn"), Op::AttentionDecode, views, scalars)?;
            let merge = vec![partial.clone(), seq_lens.clone(), out];
            self.emit(tape, phase, format!("layer.{i}.attn.merge"), Op::AttentionMerge, merge, vec![tiles])?;
            self.attention_output(tape, phase, i, layer, &s)?;
            let mlp_out = cut(&layer.mlp_out);
            match &mut pieces {
                Some(pieces) => self.mlp_graph(tape, i, layer, &s, &mlp_out, pieces)?,
                None => self.mlp(tape, phase, i, layer, &s, &mlp_out)?,
            }
            self.emit(
                tape,
                phase,
                format!("layer.{i}.mlp.add"),
                Op::ResidualAdd,
                vec![s.x.clone(), mlp_out],
                vec![],
            )?;
        }
        self.heads(tape, phase, s.x.clone(), 0, form.rows)
    }

    /// The input of a decode step: the last step's codes in rows that have some, else the input token.
    fn embed<S: Storage>(&self, tape: &mut Tape<S>, form: &Form) -> Result<(), RecordError> {
        let (b, phase) = (&self.buffers, Phase::Forward);
        let cut = |view: &View| view.rows(0, form.embedded_rows);
        let (text, x) = (cut(&b.decode.text), cut(&b.decode.x));
        let token = if form.feedback { &text } else { &x };
        let embed = vec![cut(&b.input_ids), b.text_embedding.clone(), token.clone(), b.op_faults.clone()];
        self.emit(tape, phase, "embed.text".into(), Op::EmbedText, embed, vec![])?;
        if !form.feedback {
            return Ok(());
        }
        let feedback = vec![
            cut(&b.last_codes),
            cut(&b.has_codes),
            b.code_embedding.clone(),
            text,
            x,
            b.op_faults.clone(),
        ];
        self.emit(tape, phase, "embed.codes".into(), Op::EmbedCodes, feedback, vec![])
    }

    /// The sampling of a decode step.
    pub(crate) fn sample<S: Storage>(&self, tape: &mut Tape<S>, form: &Form) -> Result<(), RecordError> {
        self.choose(tape, 0, form.rows, self.buffers.last_codes.rows(0, form.rows), form)
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
        place: &Place,
    ) -> Result<(View, View), RecordError> {
        let (b, t) = (&self.buffers, &self.config.text_config);
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
            let scalars = [self.eps(), vec![Scalar::U32(place.position)]].concat();
            self.emit(tape, phase, name(part), Op::QkNormRope, views, scalars)?;
        }
        let (k_cache, v_cache) = kv_halves(&layer.kv_cache);
        let (k, v) = (heads(&s.k_rot, t.num_key_value_heads), heads(&s.v, t.num_key_value_heads));
        let write = vec![k, v, place.slots.clone(), k_cache, v_cache, b.op_faults.clone()];
        if place.write_aside {
            let launch = Launch::new(Op::KvWrite, write, vec![])?;
            tape.launch_aside(&Labelled { label: name("kv_write"), phase, launch })?;
        } else {
            self.emit(tape, phase, name("kv_write"), Op::KvWrite, write, vec![])?;
        }
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
        s: &Scratch,
        out: &View,
        pieces: &mut MlpGraphs,
    ) -> Result<(), RecordError> {
        let captured_now = pieces.graphs.len() == i;
        if captured_now {
            tape.begin_capture()?;
            self.mlp(tape, Phase::Forward, i, layer, s, out)?;
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
        let b = &self.buffers;
        let hidden = b.hidden.rows(row, count);
        let norm = vec![x, b.final_norm.clone(), hidden.clone()];
        self.emit(tape, phase, "final_norm".into(), Op::RmsNorm, norm, self.eps())?;
        let lm = vec![hidden.clone(), b.text_embedding.clone(), b.lm_logits.rows(row, count)];
        self.emit(tape, phase, "head.lm".into(), Op::LmHead, lm, vec![])?;
        let audio = vec![hidden, b.code_embedding.clone(), b.audio_logits.rows(row, count)];
        self.emit(tape, phase, "head.audio".into(), Op::AudioHead, audio, vec![])
    }

    /// Mask, sample and update state of `count` rows from `row` on.
    fn choose<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        row: usize,
        count: usize,
        feedback: View,
        form: &Form,
    ) -> Result<(), RecordError> {
        let (b, a, p) = (&self.buffers, &self.config.audio_encoder_config, &self.profile);
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
        let s = form.sampling;
        let scalars = vec![Scalar::F32(s.temperature), Scalar::U32(s.top_k), Scalar::F32(s.top_p)];
        self.emit(tape, Phase::Sample, "sample.draw".into(), Op::Sample, draw, scalars)?;
        let update = vec![
            rows(&b.sampled),
            rows(&b.has_codes),
            rows(&b.delay_count),
            rows(&b.eoc_countdown),
            rows(&b.generation_done),
            rows(form.advanced_counter.as_ref().unwrap_or(&b.sampler_counter)),
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
