//! The talker's buffers: weights, tables, decode state, inputs, outputs, scratch.

use twinstep_kernels::{Buffer, BufferId, BufferSpec, DType, Role, View};
use twinstep_traces as traces;
use twinstep_traces::Storage;

use crate::config::Config;
use crate::error::RecordError;
use crate::plan::Plan;
use crate::rope;
use crate::tape::Tape;
use crate::text::PIECE_CHARS;
use crate::voice::{CODE_EMBEDDING, FINAL_NORM, TALKER_FILE, TEXT_EMBEDDING, Voice, layer_tensor};

/// Tokens of a block of the paged KV cache.
pub(crate) const BLOCK_TOKENS: usize = 16;
/// Positions of an attention tile; a split of the decode attention holds one.
const SPLIT_POSITIONS: usize = 64;
/// Base of the rotation's frequencies where a checkpoint does not say: the architecture's own.
const DEFAULT_THETA: f64 = 1e6;
/// Chunk of a buffer whose elements mostly change together.
const CHUNK_BYTES: usize = 4096;

/// Element types of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Types {
    pub(crate) weights: DType,
    pub(crate) kv: DType,
}

/// One layer's weights and what its graph owns.
pub(crate) struct Layer {
    pub(crate) input_norm: View,
    pub(crate) q: View,
    pub(crate) k: View,
    pub(crate) v: View,
    pub(crate) o: View,
    pub(crate) q_norm: View,
    pub(crate) k_norm: View,
    pub(crate) post_norm: View,
    pub(crate) gate: View,
    pub(crate) up: View,
    pub(crate) down: View,
    pub(crate) kv_cache: View,
    pub(crate) mlp_out: View,
}

/// Scratch for a number of tokens.
pub(crate) struct Scratch {
    pub(crate) text: View,
    pub(crate) x: View,
    pub(crate) norm: View,
    pub(crate) q: View,
    pub(crate) k: View,
    pub(crate) v: View,
    pub(crate) q_rot: View,
    pub(crate) k_rot: View,
    pub(crate) attn_out: View,
    pub(crate) o_out: View,
    pub(crate) gate: View,
    pub(crate) up: View,
    pub(crate) act: View,
}

/// Everything that stays allocated for a run.
pub(crate) struct Buffers {
    pub(crate) text_embedding: View,
    pub(crate) code_embedding: View,
    pub(crate) final_norm: View,
    pub(crate) layers: Vec<Layer>,
    pub(crate) rope_cos: View,
    pub(crate) rope_sin: View,
    pub(crate) last_codes: View,
    pub(crate) has_codes: View,
    pub(crate) delay_count: View,
    pub(crate) eoc_countdown: View,
    pub(crate) generation_done: View,
    pub(crate) sampler_counter: View,
    pub(crate) op_faults: View,
    pub(crate) input_ids: View,
    pub(crate) positions: View,
    pub(crate) seq_lens: View,
    pub(crate) slot_mapping: View,
    pub(crate) block_table: View,
    pub(crate) sampler_key: View,
    pub(crate) prefill_ids: View,
    pub(crate) prefill_positions: View,
    pub(crate) prefill_slots: View,
    pub(crate) hidden: View,
    pub(crate) lm_logits: View,
    pub(crate) audio_logits: View,
    pub(crate) prefill_codes: View,
    pub(crate) codes_out: View,
    pub(crate) masked_logits: View,
    pub(crate) sampled: View,
    pub(crate) attn_partial: View,
    pub(crate) prefill_mlp_out: View,
    pub(crate) decode: Scratch,
    pub(crate) prefill: Scratch,
}

/// Most tokens of a prompt: `<|tts|> <|text|>`, a piece, `<|audio|>`.
pub(crate) const PROMPT_TOKENS: usize = PIECE_CHARS + 3;

/// Positions that the context holds: whole blocks, all of the model's or as many as asked for.
pub(crate) fn positions(config: &Config, context: Option<usize>) -> usize {
    let most = config.text_config.max_position_embeddings;
    context.map_or(most, |n| n.min(most)) / BLOCK_TOKENS * BLOCK_TOKENS
}

fn chunk_bytes(bytes: usize) -> usize {
    bytes.next_power_of_two().clamp(64, CHUNK_BYTES)
}

/// A chunk a row where that is possible: padding rows do not change, and so are stored once.
pub(crate) fn row_chunk(row_bytes: usize) -> usize {
    if row_bytes.is_power_of_two() { row_bytes.clamp(64, CHUNK_BYTES) } else { CHUNK_BYTES / 4 }
}

/// Base of the rotation's frequencies when the tables are made first.
pub(crate) fn first_theta(config: &Config, plan: &Plan) -> f64 {
    if plan.tables_before_parameters { DEFAULT_THETA } else { config.text_config.rope_theta }
}

/// A buffer that is allocated later: until then launches of it are refused.
fn later(dtype: DType, shape: &[usize]) -> View {
    View::dense(BufferId(u32::MAX), dtype, 0, shape)
}

/// Allocates the next generation of a buffer of which all is viewed.
pub(crate) fn again<S: Storage>(
    tape: &mut Tape<S>,
    name: &str,
    role: Role,
    view: &View,
) -> Result<View, RecordError> {
    let spec = BufferSpec::new(name, view.dtype, &view.shape, role);
    Ok(View::whole(&tape.allocate(spec, None, chunk_bytes(view.len() * view.dtype.size()))?))
}

struct Allocator<'a, S: Storage> {
    tape: &'a mut Tape<S>,
}

impl<S: Storage> Allocator<'_, S> {
    fn chunked(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        role: Role,
        chunk: usize,
    ) -> Result<View, RecordError> {
        let buffer: Buffer = self.tape.allocate(BufferSpec::new(name, dtype, shape, role), None, chunk)?;
        Ok(View::whole(&buffer))
    }

    fn buffer(&mut self, name: &str, dtype: DType, shape: &[usize], role: Role) -> Result<View, RecordError> {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        self.chunked(name, dtype, shape, role, chunk_bytes(bytes))
    }

    /// `keys`: those that are allocated elsewhere.
    fn scratch(
        &mut self,
        prefix: &str,
        rows: usize,
        config: &Config,
        keys: Option<View>,
    ) -> Result<Scratch, RecordError> {
        let t = &config.text_config;
        let (d, ffn) = (t.hidden_size, t.intermediate_size);
        let (q, kv) = (t.num_attention_heads * t.head_dim, t.num_key_value_heads * t.head_dim);
        let mut get = |name: &str, width: usize| {
            let chunk = row_chunk(width * 4);
            self.chunked(&format!("{prefix}{name}"), DType::F32, &[rows, width], Role::Scratch, chunk)
        };
        Ok(Scratch {
            text: get("text", d)?,
            x: get("x", d)?,
            norm: get("norm", d)?,
            q: get("q", q)?,
            k: keys.map_or_else(|| get("k", kv), Ok)?,
            v: get("v", kv)?,
            q_rot: get("q_rot", q)?,
            k_rot: get("k_rot", kv)?,
            attn_out: get("attn_out", q)?,
            o_out: get("o_out", d)?,
            gate: get("gate", ffn)?,
            up: get("up", ffn)?,
            act: get("act", ffn)?,
        })
    }
}

/// Allocates a weight and puts its bytes in place.
pub(crate) fn load_weight<S: Storage>(
    tape: &mut Tape<S>,
    voice: &Voice,
    name: &str,
    (file, tensors): (&str, &[String]),
    shape: &[usize],
    dtype: DType,
) -> Result<View, RecordError> {
    let record_dtype = if dtype == DType::Bf16 { traces::DType::Bf16 } else { traces::DType::F16 };
    let weight = voice.weight(file, tensors, record_dtype)?;
    let spec = BufferSpec::new(name, dtype, shape, Role::Weight);
    let buffer = tape.allocate(spec, Some(weight.contents), CHUNK_BYTES)?;
    let view = View::whole(&buffer);
    tape.load(&view, &weight.bytes)?;
    Ok(view)
}

impl Buffers {
    /// Allocates everything and puts weights, tables and initial state in place.
    pub(crate) fn new<S: Storage>(
        tape: &mut Tape<S>,
        voice: &Voice,
        rows: usize,
        context: Option<usize>,
        types: Types,
        plan: &Plan,
    ) -> Result<Buffers, RecordError> {
        let config = voice.config();
        let (t, a) = (&config.text_config, &config.audio_encoder_config);
        let (d, hd, n, v) = (t.hidden_size, t.head_dim, a.num_codebooks, a.vocab_size);
        let (q, kv) = (t.num_attention_heads * hd, t.num_key_value_heads * hd);
        let positions = positions(config, context);
        let blocks = positions / BLOCK_TOKENS;
        let mut weight = |name: &str, tensor: String, shape: &[usize]| {
            load_weight(tape, voice, name, (TALKER_FILE, &[tensor]), shape, types.weights)
        };
        let text_embedding = weight("text_embedding", TEXT_EMBEDDING.to_owned(), &[t.vocab_size, d])?;
        let code_embedding = weight("code_embedding", CODE_EMBEDDING.to_owned(), &[n * v, d])?;
        let final_norm = weight("final_norm", FINAL_NORM.to_owned(), &[d])?;
        let mut weights = Vec::new();
        for i in 0..t.num_hidden_layers {
            let mut get = |name: &str, tensor: &str, shape: &[usize]| {
                weight(&format!("layer.{i}.{name}"), layer_tensor(i, tensor), shape)
            };
            weights.push([
                get("input_norm", "input_layernorm", &[d])?,
                get("attn.q.weight", "self_attn.q_proj", &[q, d])?,
                get("attn.k.weight", "self_attn.k_proj", &[kv, d])?,
                get("attn.v.weight", "self_attn.v_proj", &[kv, d])?,
                get("attn.o.weight", "self_attn.o_proj", &[d, q])?,
                get("attn.q_norm", "self_attn.q_norm", &[hd])?,
                get("attn.k_norm", "self_attn.k_norm", &[hd])?,
                get("post_norm", "post_attention_layernorm", &[d])?,
                get("mlp.gate.weight", "mlp.gate_proj", &[t.intermediate_size, d])?,
                get("mlp.up.weight", "mlp.up_proj", &[t.intermediate_size, d])?,
                get("mlp.down.weight", "mlp.down_proj", &[d, t.intermediate_size])?,
            ]);
        }
        let mut alloc = Allocator { tape };
        let token_row = kv * types.kv.size();
        let kv_chunk = if token_row.is_power_of_two() { token_row } else { CHUNK_BYTES };
        let mut layers = Vec::new();
        for (i, [input_norm, q, k, v, o, q_norm, k_norm, post_norm, gate, up, down]) in
            weights.into_iter().enumerate()
        {
            let shape = [2, blocks, BLOCK_TOKENS, t.num_key_value_heads, hd];
            let kv_cache =
                alloc.chunked(&format!("kv_cache.{i}"), types.kv, &shape, Role::State, kv_chunk)?;
            let name = format!("layer.{i}.mlp_out");
            let mlp_out = alloc.chunked(&name, DType::F32, &[rows, d], Role::Scratch, row_chunk(d * 4))?;
            layers.push(Layer {
                input_norm,
                q,
                k,
                v,
                o,
                q_norm,
                k_norm,
                post_norm,
                gate,
                up,
                down,
                kv_cache,
                mlp_out,
            });
        }
        let (i64s, i32s, u32s, f32s, flag) = (DType::I64, DType::I32, DType::U32, DType::F32, DType::Bool);
        // A correct workspace has room for the longest sequence, not for that of the capture.
        let longest = if plan.workspace_at_capture { 1 } else { positions };
        let splits = longest.div_ceil(SPLIT_POSITIONS);
        let partial = [rows, t.num_attention_heads, splits, hd + 2];
        let buffers = Buffers {
            text_embedding,
            code_embedding,
            final_norm,
            layers,
            rope_cos: alloc.buffer("rope_cos", f32s, &[positions, hd / 2], Role::Table)?,
            rope_sin: alloc.buffer("rope_sin", f32s, &[positions, hd / 2], Role::Table)?,
            last_codes: alloc.buffer("last_codes", i64s, &[rows, n], Role::State)?,
            has_codes: alloc.buffer("has_codes", flag, &[rows], Role::State)?,
            delay_count: if plan.sample_graph_in_pool {
                later(i64s, &[rows])
            } else {
                alloc.buffer("delay_count", i64s, &[rows], Role::State)?
            },
            eoc_countdown: alloc.buffer("eoc_countdown", i64s, &[rows], Role::State)?,
            generation_done: alloc.buffer("generation_done", flag, &[rows], Role::State)?,
            sampler_counter: alloc.buffer("sampler_counter", u32s, &[rows], Role::State)?,
            op_faults: alloc.buffer("op_faults", u32s, &[1], Role::State)?,
            input_ids: alloc.buffer("input_ids", i32s, &[rows], Role::Input)?,
            positions: alloc.buffer("positions", i64s, &[rows], Role::Input)?,
            seq_lens: alloc.buffer("seq_lens", i32s, &[rows], Role::Input)?,
            slot_mapping: alloc.buffer("slot_mapping", i64s, &[rows], Role::Input)?,
            block_table: alloc.buffer("block_table", i32s, &[rows, blocks], Role::Input)?,
            sampler_key: alloc.buffer("sampler_key", u32s, &[rows, 4], Role::Input)?,
            prefill_ids: alloc.buffer("prefill_ids", i32s, &[PROMPT_TOKENS], Role::Input)?,
            prefill_positions: alloc.buffer("prefill_positions", i64s, &[PROMPT_TOKENS], Role::Input)?,
            prefill_slots: alloc.buffer("prefill_slots", i64s, &[PROMPT_TOKENS], Role::Input)?,
            hidden: alloc.chunked("hidden", f32s, &[rows, d], Role::Output, row_chunk(d * 4))?,
            lm_logits: alloc.buffer("lm_logits", types.weights, &[rows, t.vocab_size], Role::Output)?,
            audio_logits: alloc.chunked("audio_logits", f32s, &[rows, n, v], Role::Output, 1024)?,
            prefill_codes: alloc.buffer("prefill_codes", i64s, &[1, n], Role::Output)?,
            codes_out: alloc.buffer("codes_out", i64s, &[rows, n], Role::Output)?,
            masked_logits: alloc.buffer("masked_logits", f32s, &[rows, n, v], Role::Scratch)?,
            sampled: alloc.buffer("sampled", i64s, &[rows, n], Role::Scratch)?,
            attn_partial: alloc.buffer("attn_partial", f32s, &partial, Role::Scratch)?,
            prefill_mlp_out: alloc.buffer("prefill.mlp_out", f32s, &[PROMPT_TOKENS, d], Role::Scratch)?,
            decode: alloc.scratch("", rows, config, None)?,
            prefill: {
                // Keys that are made when first needed have to fit where the sines lay.
                let fits = positions * (hd / 2) / kv;
                let keys = plan.sines_to_pool.then(|| later(f32s, &[fits.clamp(1, PROMPT_TOKENS), kv]));
                alloc.scratch("prefill.", PROMPT_TOKENS, config, keys)?
            },
        };
        buffers.initialise(tape, config, plan)?;
        Ok(buffers)
    }

    fn initialise<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        config: &Config,
        plan: &Plan,
    ) -> Result<(), RecordError> {
        let (cosines, sines) = self.angles(config, first_theta(config, plan));
        tape.write_values(&self.rope_cos, &cosines)?;
        tape.write_values(&self.rope_sin, &sines)?;
        if plan.embed_live_row {
            tape.write_values(&self.decode.x, &vec![f32::NAN; self.decode.x.len()])?;
        }
        let has_codes = Some(&self.has_codes).filter(|_| !plan.keep_fresh_has_codes);
        let delay_count = Some(&self.delay_count).filter(|_| !plan.sample_graph_in_pool);
        let begin = [Some(&self.last_codes), has_codes, delay_count];
        let rest = [
            &self.generation_done,
            &self.sampler_counter,
            &self.op_faults,
            &self.input_ids,
            &self.positions,
            &self.seq_lens,
            &self.block_table,
            &self.sampler_key,
        ];
        for view in begin.into_iter().flatten().chain(rest) {
            tape.write(view, &vec![0; view.len() * view.dtype.size()])?;
        }
        let minus_one = vec![-1i64; self.eoc_countdown.len()];
        tape.write(&self.eoc_countdown, bytemuck::cast_slice(&minus_one))?;
        tape.write(&self.slot_mapping, bytemuck::cast_slice(&minus_one))
    }

    /// Cosines and sines of the rotation.
    pub(crate) fn angles(&self, config: &Config, theta: f64) -> (Vec<f32>, Vec<f32>) {
        rope::table(self.rope_cos.shape[0], config.text_config.head_dim, theta)
    }
}

/// Halves of a layer's KV cache: keys `[blocks, tokens, heads, head_dim]`, values likewise.
pub(crate) fn kv_halves(cache: &View) -> (View, View) {
    let shape = cache.shape[1..].to_vec();
    (cache.rows(0, 1).reshape(&shape), cache.rows(1, 1).reshape(&shape))
}
