//! The decode step as graphs: captured in set-up on dummy input, and chosen for each step.

use twinstep_kernels::{BufferId, BufferSpec, DType, FRESH_BYTE, Role, View};
use twinstep_traces::Storage;

use crate::buffers::{again, first_theta, row_chunk};
use crate::error::RecordError;
use crate::plan::Plan;
use crate::talker::{Form, Sampling, Talker};
use crate::tape::{LabelledGraph, Tape};

/// How the dummy request that a graph is captured with would choose codes.
const DUMMY_SAMPLING: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 };
/// Length of the dummy request, and the position of its token.
const DUMMY_LENGTH: u32 = 1;
const DUMMY_POSITION: u32 = 0;

/// Graphs of the decode step.
#[derive(Default)]
pub(crate) struct Captured {
    /// By the rows that they compute, rising; each is launched in order.
    steps: Vec<(usize, Vec<LabelledGraph>)>,
    /// Memory that a pool has taken back and nobody has asked for yet.
    pool: Option<BufferId>,
}

impl Captured {
    /// Captures the decode step on dummy input: one token, no slot, BOC codes. Nothing runs.
    pub(crate) fn new<S: Storage>(
        talker: &mut Talker<'_>,
        tape: &mut Tape<S>,
        plan: &Plan,
    ) -> Result<Captured, RecordError> {
        let rows = talker.buffers.seq_lens.len();
        let boc = i64::from(talker.config.audio_encoder_config.boc_token_id);
        let b = &talker.buffers;
        tape.write_values(&b.last_codes, &vec![boc; b.last_codes.len()])?;
        if !plan.keep_fresh_has_codes {
            let codes = u8::from(!plan.feedback_at_capture);
            tape.write_values(&b.has_codes, &vec![codes; rows])?;
        }
        tape.write_values(&b.seq_lens, &vec![DUMMY_LENGTH as i32; rows])?;
        tape.write_values(&b.slot_mapping, &vec![-1i64; rows])?;
        let form = form(talker, tape, plan, rows)?;
        let mut captured = Captured::default();
        if plan.dispatch_by_live_rows {
            let one = Form { rows: 1, embedded_rows: 1, ..form.clone() };
            captured.steps.push((1, graphs(talker, tape, plan, &one, "decode.1")?));
        }
        captured.steps.push((rows, graphs(talker, tape, plan, &form, "decode")?));
        // Nothing ran; the dummy input must not be there when something does.
        let b = &talker.buffers;
        tape.write_values(&b.last_codes, &vec![0i64; b.last_codes.len()])?;
        if !plan.keep_fresh_has_codes {
            tape.write_values(&b.has_codes, &vec![0u8; rows])?;
        }
        tape.write_values(&b.seq_lens, &vec![0i32; rows])?;
        captured.settle(talker, tape, plan)?;
        Ok(captured)
    }

    /// What an engine does between the capture and the first request. A correct one leaves all that its
    /// graphs use where it is.
    fn settle<S: Storage>(
        &mut self,
        talker: &mut Talker<'_>,
        tape: &mut Tape<S>,
        plan: &Plan,
    ) -> Result<(), RecordError> {
        let (b, config) = (&mut talker.buffers, talker.config);
        if plan.grow_codes_after_capture {
            let codes = tape.read(&b.last_codes)?;
            b.last_codes = again(tape, "last_codes", Role::State, &b.last_codes)?;
            tape.write(&b.last_codes, &codes)?;
        }
        // A cache that evicts a table makes it anew when it is next asked for.
        let (cosines, sines) = b.angles(config, first_theta(config, plan));
        if plan.sines_to_pool {
            let old = b.rope_sin.clone();
            tape.retire(old.buffer)?;
            self.pool = Some(old.buffer);
            b.rope_sin = again(tape, "rope_sin", Role::Table, &old)?;
            tape.write_values(&b.rope_sin, &sines)?;
        }
        if plan.cosines_to_pool {
            let old = b.rope_cos.clone();
            tape.write(&old, &vec![FRESH_BYTE; old.len() * old.dtype.size()])?;
            tape.retire(old.buffer)?;
            b.rope_cos = again(tape, "rope_cos", Role::Table, &old)?;
            tape.write_values(&b.rope_cos, &cosines)?;
        }
        if plan.tables_before_parameters {
            let (cosines, sines) = b.angles(config, config.text_config.rope_theta);
            b.rope_cos = again(tape, "rope_cos", Role::Table, &b.rope_cos)?;
            b.rope_sin = again(tape, "rope_sin", Role::Table, &b.rope_sin)?;
            tape.write_values(&b.rope_cos, &cosines)?;
            tape.write_values(&b.rope_sin, &sines)?;
        }
        Ok(())
    }

    /// Prefill's keys from the pool, where they are made when first needed.
    pub(crate) fn hand_out<S: Storage>(
        &mut self,
        talker: &mut Talker<'_>,
        tape: &mut Tape<S>,
    ) -> Result<(), RecordError> {
        if let Some(pool) = self.pool.take() {
            let keys = &mut talker.buffers.prefill.k;
            let spec = BufferSpec::new("prefill.k", keys.dtype, &keys.shape, Role::Scratch);
            *keys =
                View::whole(&tape.allocate_in(spec, row_chunk(keys.shape[1] * keys.dtype.size()), pool)?);
        }
        Ok(())
    }

    /// The graphs for a step of a batch of `rows` rows, of which `live` speak; `None`: it runs eagerly.
    pub(crate) fn dispatch(&self, plan: &Plan, rows: usize, live: usize) -> Option<&[LabelledGraph]> {
        let wanted = if plan.dispatch_by_live_rows { live } else { rows };
        let step = self.steps.iter().find(|(captured, _)| *captured >= wanted);
        step.filter(|_| !plan.never_dispatch).map(|(_, graphs)| graphs.as_slice())
    }
}

/// The form in which the step is captured.
fn form<S: Storage>(
    talker: &Talker<'_>,
    tape: &mut Tape<S>,
    plan: &Plan,
    rows: usize,
) -> Result<Form, RecordError> {
    let mut form = Form::correct(rows, talker.sampling);
    if plan.feedback_at_capture {
        form.feedback = tape.read(&talker.buffers.has_codes)?.iter().any(|&codes| codes != 0);
        tape.decide(if form.feedback {
            "feedback captured: a row has codes"
        } else {
            "feedback left out: no row has codes"
        });
    }
    if plan.seq_len_by_value {
        form.seq_len = DUMMY_LENGTH;
    }
    if plan.position_by_value {
        form.position = DUMMY_POSITION;
    }
    if plan.sampling_at_capture {
        form.sampling = DUMMY_SAMPLING;
    }
    if plan.wide_splits {
        form.tiles_per_split = 2;
    }
    if plan.embed_live_row {
        form.embedded_rows = 1;
    }
    form.kv_write_aside = plan.kv_write_aside;
    if plan.counter_of_capture {
        let spec = BufferSpec::new("capture_offset", DType::U32, &[rows], Role::State);
        let counter = View::whole(&tape.allocate(spec, None, 64)?);
        tape.write_values(&counter, &vec![0u32; rows])?;
        form.advanced_counter = Some(counter);
    }
    Ok(form)
}

/// Captures one form of the step.
fn graphs<S: Storage>(
    talker: &mut Talker<'_>,
    tape: &mut Tape<S>,
    plan: &Plan,
    form: &Form,
    label: &str,
) -> Result<Vec<LabelledGraph>, RecordError> {
    tape.begin_capture()?;
    if !plan.sample_graph_in_pool {
        talker.decode(tape, form, None)?;
        return Ok(vec![tape.end_capture(label)?]);
    }
    talker.forward(tape, form, None)?;
    let forward = tape.end_capture(&format!("{label}.forward"))?;
    // To the pool the first graph's scratch is free again.
    let b = &mut talker.buffers;
    let counts = BufferSpec::new("delay_count", b.delay_count.dtype, &b.delay_count.shape, Role::State);
    b.delay_count = View::whole(&tape.allocate_in(counts, 64, b.decode.text.buffer)?);
    tape.write_values(&b.delay_count, &vec![0i64; b.delay_count.len()])?;
    tape.begin_capture()?;
    talker.sample(tape, form)?;
    Ok(vec![forward, tape.end_capture(&format!("{label}.sample"))?])
}
