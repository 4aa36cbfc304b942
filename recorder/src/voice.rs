//! The voice: configuration and weights, embedded in the binary or mapped from a folder.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use twinstep_traces::{ContentPart, Contents, DType};

use crate::config::Config;
use crate::error::RecordError;

/// The talker's weights file.
pub const TALKER_FILE: &str = "talker.safetensors";
/// The codec's weights file.
pub const CODEC_FILE: &str = "codec.safetensors";
/// The configuration file.
pub const CONFIG_FILE: &str = "config.json";

static EMBEDDED_TALKER: &[u8] = include_bytes!("../voice/talker.safetensors");
static EMBEDDED_CODEC: &[u8] = include_bytes!("../voice/codec.safetensors");
static EMBEDDED_CONFIG: &[u8] = include_bytes!("../voice/config.json");

/// Bytes of a file that live as long as the voice.
enum Bytes {
    Static(&'static [u8]),
    Mapped(Mmap),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

/// Configuration and weights.
pub struct Voice {
    config: Config,
    source: Option<PathBuf>,
    talker: Bytes,
    codec: Bytes,
    sha256: [u8; 32],
}

/// Bytes of a weight, and where they come from.
pub(crate) struct Weight {
    pub(crate) bytes: Vec<u8>,
    pub(crate) contents: Contents,
}

impl Voice {
    /// The voice inside the binary.
    ///
    /// # Errors
    /// [`RecordError::Voice`] where the build embedded something else.
    pub fn embedded() -> Result<Voice, RecordError> {
        Voice::new(None, EMBEDDED_CONFIG, Bytes::Static(EMBEDDED_TALKER), Bytes::Static(EMBEDDED_CODEC))
    }

    /// The voice in a folder, by memory map.
    ///
    /// # Errors
    /// [`RecordError::VoiceFile`], [`RecordError::Voice`] with the file and what is wrong in it.
    pub fn open(folder: &Path) -> Result<Voice, RecordError> {
        let failed = |path: PathBuf| move |source| RecordError::VoiceFile { path, source };
        let path = folder.join(CONFIG_FILE);
        let config = std::fs::read(&path).map_err(failed(path))?;
        let map = |name: &str| {
            let path = folder.join(name);
            let file = File::open(&path).map_err(failed(path.clone()))?;
            // SAFETY: the map is only read, and only while the weights are validated and copied into
            // buffers. A file cut by someone else in that moment would raise SIGBUS, as for any program
            // that maps weights; a voice that is being rewritten cannot be spoken from.
            let map = unsafe { Mmap::map(&file) }.map_err(failed(path))?;
            Ok::<_, RecordError>(Bytes::Mapped(map))
        };
        Voice::new(Some(folder.to_owned()), &config, map(TALKER_FILE)?, map(CODEC_FILE)?)
    }

    fn new(
        source: Option<PathBuf>,
        config: &[u8],
        talker: Bytes,
        codec: Bytes,
    ) -> Result<Voice, RecordError> {
        let mut hasher = Sha256::new();
        for bytes in [config, talker.as_slice(), codec.as_slice()] {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        let sha256 = hasher.finalize().into();
        let voice = Voice { config: Config::parse(config)?, source, talker, codec, sha256 };
        voice.check()?;
        Ok(voice)
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// `embedded`, or the folder.
    pub fn source(&self) -> String {
        self.source.as_ref().map_or("embedded".to_owned(), |folder| folder.display().to_string())
    }

    /// SHA-256 over configuration, talker and codec, each preceded by its length.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The bytes of one of its weights files, by name.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        match name {
            TALKER_FILE => Some(self.talker.as_slice()),
            CODEC_FILE => Some(self.codec.as_slice()),
            _ => None,
        }
    }

    fn tensors(&self, file: &str) -> Result<SafeTensors<'_>, RecordError> {
        let bytes = self.file(file).unwrap_or_default();
        let wrong = |e| RecordError::Voice { file: file.to_owned(), what: format!("not safetensors: {e}") };
        SafeTensors::deserialize(bytes).map_err(wrong)
    }

    /// Every tensor that inference uses, with its shape.
    fn manifest(&self) -> Vec<(&'static str, String, Vec<usize>)> {
        let (t, a, c) =
            (&self.config.text_config, &self.config.audio_encoder_config, &self.config.codec_config);
        let (d, q, kv) =
            (t.hidden_size, t.num_attention_heads * t.head_dim, t.num_key_value_heads * t.head_dim);
        let mut wants = vec![
            (TALKER_FILE, TEXT_EMBEDDING.to_owned(), vec![t.vocab_size, d]),
            (TALKER_FILE, CODE_EMBEDDING.to_owned(), vec![a.num_codebooks * a.vocab_size, d]),
            (TALKER_FILE, FINAL_NORM.to_owned(), vec![d]),
        ];
        for i in 0..t.num_hidden_layers {
            let shapes = [
                ("input_layernorm", vec![d]),
                ("post_attention_layernorm", vec![d]),
                ("self_attn.q_proj", vec![q, d]),
                ("self_attn.k_proj", vec![kv, d]),
                ("self_attn.v_proj", vec![kv, d]),
                ("self_attn.o_proj", vec![d, q]),
                ("self_attn.q_norm", vec![t.head_dim]),
                ("self_attn.k_norm", vec![t.head_dim]),
                ("mlp.gate_proj", vec![t.intermediate_size, d]),
                ("mlp.up_proj", vec![t.intermediate_size, d]),
                ("mlp.down_proj", vec![d, t.intermediate_size]),
            ];
            wants.extend(shapes.map(|(name, shape)| (TALKER_FILE, layer_tensor(i, name), shape)));
        }
        for k in 0..c.num_codebooks {
            wants.push((CODEC_FILE, codebook(k), vec![c.codebook_size, c.codebook_dim]));
        }
        let mut conv = |name: String, shape: [usize; 3], out: usize| {
            wants.push((CODEC_FILE, format!("{name}.weight"), shape.to_vec()));
            wants.push((CODEC_FILE, format!("{name}.bias"), vec![out]));
        };
        let k = c.kernel_size;
        let mut channels = c.decoder_hidden_size;
        conv(decoder("conv1"), [channels, c.codebook_dim, k], channels);
        let mut alphas = Vec::new();
        for (i, &stride) in c.upsampling_ratios.iter().enumerate() {
            let half = channels / 2;
            alphas.push((decoder(&format!("block.{i}.snake1")), channels));
            conv(decoder(&format!("block.{i}.conv_t1")), [channels, half, 2 * stride], half);
            for j in 1..=c.dilations.len() {
                let unit = decoder(&format!("block.{i}.res_unit{j}"));
                alphas.push((format!("{unit}.snake1"), half));
                conv(format!("{unit}.conv1"), [half, half, k], half);
                alphas.push((format!("{unit}.snake2"), half));
                conv(format!("{unit}.conv2"), [half, half, 1], half);
            }
            channels = half;
        }
        alphas.push((decoder("snake1"), channels));
        conv(decoder("conv2"), [1, channels, k], 1);
        wants.extend(alphas.into_iter().map(|(n, c)| (CODEC_FILE, format!("{n}.alpha"), vec![1, c, 1])));
        wants
    }

    fn check(&self) -> Result<(), RecordError> {
        let (talker, codec) = (self.tensors(TALKER_FILE)?, self.tensors(CODEC_FILE)?);
        for (file, name, shape) in self.manifest() {
            let wrong = |what: String| RecordError::Voice { file: file.to_owned(), what };
            let tensors = if file == TALKER_FILE { &talker } else { &codec };
            let tensor = tensors.tensor(&name).map_err(|_| wrong(format!("tensor `{name}` is missing")))?;
            if tensor.shape() != shape {
                return Err(wrong(format!(
                    "tensor `{name}` has shape {:?}, wants {shape:?}",
                    tensor.shape()
                )));
            }
            if !matches!(tensor.dtype(), Dtype::F16 | Dtype::BF16) {
                return Err(wrong(format!("tensor `{name}` is {:?}, wants F16 or BF16", tensor.dtype())));
            }
        }
        Ok(())
    }

    /// Tensors of a file, converted to `dtype` (round to nearest even) and concatenated.
    pub(crate) fn weight(&self, file: &str, tensors: &[String], dtype: DType) -> Result<Weight, RecordError> {
        let all = self.tensors(file)?;
        let mut bytes = Vec::new();
        for name in tensors {
            let missing =
                |_| RecordError::Voice { file: file.to_owned(), what: format!("tensor `{name}` is missing") };
            let tensor = all.tensor(name).map_err(missing)?;
            let from = tensor.dtype();
            for half in tensor.data().chunks_exact(2) {
                let bits = u16::from_le_bytes([half[0], half[1]]);
                let value = || {
                    if from == Dtype::BF16 {
                        half::bf16::from_bits(bits).to_f32()
                    } else {
                        half::f16::from_bits(bits).to_f32()
                    }
                };
                let bits = match (from, dtype) {
                    (Dtype::F16, DType::F16) | (Dtype::BF16, DType::Bf16) => bits,
                    (_, DType::Bf16) => half::bf16::from_f32(value()).to_bits(),
                    _ => half::f16::from_f32(value()).to_bits(),
                };
                bytes.extend(bits.to_le_bytes());
            }
        }
        let sha256 = Sha256::digest(&bytes).into();
        let part = |tensor: &String| ContentPart { file: file.to_owned(), tensor: tensor.clone() };
        Ok(Weight { bytes, contents: Contents { parts: tensors.iter().map(part).collect(), dtype, sha256 } })
    }
}

pub(crate) const TEXT_EMBEDDING: &str = "tied.embedding.text_embedding.weight";
pub(crate) const CODE_EMBEDDING: &str = "tied.embedding.modality_embeddings.0.embedding.weight";
pub(crate) const FINAL_NORM: &str = "body.norm.weight";

pub(crate) fn layer_tensor(layer: usize, name: &str) -> String {
    format!("body.layers.{layer}.{name}.weight")
}

pub(crate) fn codebook(k: usize) -> String {
    format!("quantizer.quantizers.{k}.codebook.embed")
}

pub(crate) fn decoder(name: &str) -> String {
    format!("acoustic_decoder.{name}")
}
