//! The codec: codes to waveform. Emits launches and nothing else, but for its own scratch.

use twinstep_kernels::{Buffer, BufferSpec, DType, Launch, Op, Role, Scalar, View};
use twinstep_traces::{Phase, Storage};

use crate::buffers::load_weight;
use crate::config::Config;
use crate::error::RecordError;
use crate::tape::{Labelled, Tape};
use crate::voice::{CODEC_FILE, Voice, codebook, decoder};

const CHUNK_BYTES: usize = 4096;

struct Conv {
    label: String,
    weight: View,
    bias: View,
}

struct Unit {
    label: String,
    snake1: View,
    conv1: Conv,
    dilation: usize,
    snake2: View,
    conv2: Conv,
}

struct Block {
    label: String,
    snake: View,
    up: Conv,
    stride: usize,
    units: Vec<Unit>,
}

/// The codec's weights.
pub(crate) struct Codec {
    tables: View,
    first: Conv,
    blocks: Vec<Block>,
    snake: View,
    last: Conv,
    hop: usize,
}

impl Codec {
    /// Puts the weights in place.
    pub(crate) fn new<S: Storage>(
        tape: &mut Tape<S>,
        voice: &Voice,
        dtype: DType,
    ) -> Result<Codec, RecordError> {
        let config: &Config = voice.config();
        let c = &config.codec_config;
        let mut load = |name: String, tensors: Vec<String>, shape: &[usize]| {
            load_weight(tape, voice, &format!("codec.{name}"), (CODEC_FILE, &tensors), shape, dtype)
        };
        let tables: Vec<String> = (0..c.num_codebooks).map(codebook).collect();
        let tables =
            load("codebooks".to_owned(), tables, &[c.num_codebooks, c.codebook_size, c.codebook_dim])?;
        let mut conv = |name: &str, shape: [usize; 3], out: usize| {
            let tensor = decoder(name);
            Ok::<_, RecordError>(Conv {
                label: format!("codec.{name}"),
                weight: load(format!("{name}.weight"), vec![format!("{tensor}.weight")], &shape)?,
                bias: load(format!("{name}.bias"), vec![format!("{tensor}.bias")], &[out])?,
            })
        };
        let k = c.kernel_size;
        let mut channels = c.decoder_hidden_size;
        let first = conv("conv1", [channels, c.codebook_dim, k], channels)?;
        let mut ups = Vec::new();
        for (i, &stride) in c.upsampling_ratios.iter().enumerate() {
            let half = channels / 2;
            let up = conv(&format!("block.{i}.conv_t1"), [channels, half, 2 * stride], half)?;
            let mut units = Vec::new();
            for j in 1..=c.dilations.len() {
                let unit = format!("block.{i}.res_unit{j}");
                units.push((
                    conv(&format!("{unit}.conv1"), [half, half, k], half)?,
                    conv(&format!("{unit}.conv2"), [half, half, 1], half)?,
                ));
            }
            ups.push((up, stride, half, units));
            channels = half;
        }
        let last = conv("conv2", [1, channels, k], 1)?;
        let mut alpha = |name: String, channels: usize| {
            load(format!("{name}.alpha"), vec![format!("{}.alpha", decoder(&name))], &[channels])
        };
        let mut blocks = Vec::new();
        for (i, (up, stride, half, convs)) in ups.into_iter().enumerate() {
            let label = format!("block.{i}");
            let mut units = Vec::new();
            for (j, ((conv1, conv2), &dilation)) in convs.into_iter().zip(&c.dilations).enumerate() {
                let label = format!("{label}.res_unit{}", j + 1);
                let (snake1, snake2) =
                    (alpha(format!("{label}.snake1"), half)?, alpha(format!("{label}.snake2"), half)?);
                units.push(Unit { label: format!("codec.{label}"), snake1, conv1, dilation, snake2, conv2 });
            }
            let snake = alpha(format!("{label}.snake1"), 2 * half)?;
            blocks.push(Block { label: format!("codec.{label}"), snake, up, stride, units });
        }
        Ok(Codec {
            tables,
            first,
            blocks,
            snake: alpha("snake1".to_owned(), channels)?,
            last,
            hop: config.hop(),
        })
    }

    /// Decodes `codes`, `[frames, codebooks]`, and leaves the samples in a buffer `waveform`; the buffers
    /// are the caller's to free.
    pub(crate) fn decode<S: Storage>(
        &self,
        tape: &mut Tape<S>,
        codes: &[i64],
        op_faults: &View,
    ) -> Result<(View, Vec<Buffer>), RecordError> {
        let n = self.tables.shape[0];
        let frames = codes.len() / n;
        let mut owned = Vec::new();
        let mut allocate = |tape: &mut Tape<S>, name: &str, dtype: DType, shape: &[usize], role: Role| {
            let buffer = tape.allocate(BufferSpec::new(name, dtype, shape, role), None, CHUNK_BYTES)?;
            let view = View::whole(&buffer);
            owned.push(buffer);
            Ok::<_, RecordError>(view)
        };
        let input = allocate(tape, "codec_codes", DType::I64, &[frames, n], Role::Input)?;
        let waveform = allocate(tape, "waveform", DType::F32, &[1, frames * self.hop], Role::Output)?;
        // Three activations take turns; each is as long as the longest.
        let mut longest = self.tables.shape[2] * frames;
        let mut time = frames;
        let mut channels = self.first.weight.shape[0];
        longest = longest.max(channels * time);
        for block in &self.blocks {
            (time, channels) = (time * block.stride, channels / 2);
            longest = longest.max(channels * time);
        }
        let mut turn = Vec::new();
        for name in ["codec.a", "codec.b", "codec.c"] {
            turn.push(allocate(tape, name, DType::F32, &[longest], Role::Scratch)?);
        }
        let shaped = |i: usize, c: usize, t: usize| View::dense(turn[i].buffer, DType::F32, 0, &[c, t]);
        tape.write(&input, bytemuck::cast_slice(codes))?;

        let mut emit = |label: String, op: Op, views: Vec<View>, scalars: Vec<Scalar>| {
            tape.launch(Labelled { label, phase: Phase::Codec, launch: Launch::new(op, views, scalars)? })
        };
        let conv = |conv: &Conv, x: View, out: View| vec![x, conv.weight.clone(), conv.bias.clone(), out];
        let dilation = |d: usize| vec![Scalar::U32(d as u32)];
        let (mut t, mut c) = (frames, self.first.weight.shape[0]);
        let z = shaped(1, self.tables.shape[2], t);
        emit(
            "codec.rvq".into(),
            Op::RvqDecode,
            vec![input, self.tables.clone(), z.clone(), op_faults.clone()],
            vec![],
        )?;
        emit(self.first.label.clone(), Op::Conv1d, conv(&self.first, z, shaped(0, c, t)), dilation(1))?;
        for block in &self.blocks {
            let active = shaped(1, c, t);
            emit(
                format!("{}.snake1", block.label),
                Op::Snake,
                vec![shaped(0, c, t), block.snake.clone(), active.clone()],
                vec![],
            )?;
            (t, c) = (t * block.stride, c / 2);
            let x = shaped(0, c, t);
            emit(
                block.up.label.clone(),
                Op::ConvTranspose1d,
                conv(&block.up, active, x.clone()),
                dilation(block.stride),
            )?;
            let (a, b) = (shaped(1, c, t), shaped(2, c, t));
            for unit in &block.units {
                emit(
                    format!("{}.snake1", unit.label),
                    Op::Snake,
                    vec![x.clone(), unit.snake1.clone(), a.clone()],
                    vec![],
                )?;
                emit(
                    unit.conv1.label.clone(),
                    Op::Conv1d,
                    conv(&unit.conv1, a.clone(), b.clone()),
                    dilation(unit.dilation),
                )?;
                emit(
                    format!("{}.snake2", unit.label),
                    Op::Snake,
                    vec![b.clone(), unit.snake2.clone(), a.clone()],
                    vec![],
                )?;
                emit(
                    unit.conv2.label.clone(),
                    Op::Conv1d,
                    conv(&unit.conv2, a.clone(), b.clone()),
                    dilation(1),
                )?;
                emit(format!("{}.add", unit.label), Op::ResidualAdd, vec![x.clone(), b.clone()], vec![])?;
            }
        }
        emit(
            "codec.snake1".into(),
            Op::Snake,
            vec![shaped(0, c, t), self.snake.clone(), shaped(1, c, t)],
            vec![],
        )?;
        emit(
            self.last.label.clone(),
            Op::Conv1d,
            conv(&self.last, shaped(1, c, t), shaped(2, 1, t)),
            dilation(1),
        )?;
        emit("codec.tanh".into(), Op::Tanh, vec![shaped(2, 1, t), waveform.clone()], vec![])?;
        Ok((waveform, owned))
    }
}
