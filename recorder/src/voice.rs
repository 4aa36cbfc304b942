//! A voice: configuration and weights of a talker and its codec.

use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use twinstep_kernels::DType;
use twinstep_kernels::contract::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

use crate::config::Config;
use crate::mapped_file;

/// Name of the configuration file.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the talker's weights file.
pub const TALKER_FILE: &str = "talker.safetensors";
/// Name of the codec's weights file.
pub const CODEC_FILE: &str = "codec.safetensors";

const EMBEDDED_CONFIG: &[u8] = include_bytes!("../voice/config.json");
const EMBEDDED_TALKER: &[u8] = include_bytes!("../voice/talker.safetensors");
const EMBEDDED_CODEC: &[u8] = include_bytes!("../voice/codec.safetensors");

/// Why a voice cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VoiceError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; a voice is a folder with {CONFIG_FILE}, {TALKER_FILE} and {CODEC_FILE}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration makes no model.
    #[error("{file}: {reason}")]
    Config {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A weights file is not a safetensors file, or damaged.
    #[error("{file} is not a whole safetensors file: {reason}; get another copy")]
    NotSafetensors {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is missing.
    #[error("{file} has no tensor `{tensor}`, expected with shape {expected:?}; the file or {CONFIG_FILE} is of another model")]
    MissingTensor {
        /// Which file.
        file: String,
        /// Which tensor.
        tensor: String,
        /// The shape that the configuration gives it.
        expected: Vec<usize>,
    },
    /// A tensor has another shape or type than the configuration says.
    #[error("{file}: tensor `{tensor}` is {found}, expected {expected}; the file or {CONFIG_FILE} is of another model")]
    Tensor {
        /// Which file.
        file: String,
        /// Which tensor.
        tensor: String,
        /// Type and shape wanted.
        expected: String,
        /// Type and shape found.
        found: String,
    },
}

/// A tensor that a voice has to have.
pub(crate) struct TensorSpec {
    pub(crate) file: &'static str,
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

enum Bytes {
    Embedded(&'static [u8]),
    Mapped(Mmap),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Embedded(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

/// A voice whose every tensor is in place.
pub struct Voice {
    config: Config,
    /// `embedded`, or the folder.
    source: String,
    files: [(&'static str, Bytes); 3],
    sha256: [u8; 32],
}

impl Voice {
    /// The voice in this binary.
    ///
    /// # Errors
    /// None that a build which passed its tests can give.
    pub fn embedded() -> Result<Voice, VoiceError> {
        let files = [
            (CONFIG_FILE, Bytes::Embedded(EMBEDDED_CONFIG)),
            (TALKER_FILE, Bytes::Embedded(EMBEDDED_TALKER)),
            (CODEC_FILE, Bytes::Embedded(EMBEDDED_CODEC)),
        ];
        Voice::new("embedded".to_owned(), files, |name| name.to_owned())
    }

    /// A voice in a folder with [`CONFIG_FILE`], [`TALKER_FILE`] and [`CODEC_FILE`], mapped to memory.
    ///
    /// # Errors
    /// [`VoiceError`] with the file, the tensor, what was expected and what was found.
    pub fn open(folder: &Path) -> Result<Voice, VoiceError> {
        let map = |name: &'static str| {
            let path = folder.join(name);
            let map = mapped_file::map(&path).map_err(|source| VoiceError::Read { path, source })?;
            Ok((name, Bytes::Mapped(map)))
        };
        let files = [map(CONFIG_FILE)?, map(TALKER_FILE)?, map(CODEC_FILE)?];
        Voice::new(folder.display().to_string(), files, |name| folder.join(name).display().to_string())
    }

    fn new(
        source: String,
        files: [(&'static str, Bytes); 3],
        path: impl Fn(&str) -> String,
    ) -> Result<Voice, VoiceError> {
        let config = Config::parse(files[0].1.get())
            .map_err(|reason| VoiceError::Config { file: path(CONFIG_FILE), reason })?;
        let mut sha256 = Sha256::new();
        for (_, bytes) in &files {
            sha256.update((bytes.get().len() as u64).to_le_bytes());
            sha256.update(bytes.get());
        }
        let voice = Voice { config, source, files, sha256: sha256.finalize().into() };
        for file in [TALKER_FILE, CODEC_FILE] {
            let tensors = SafeTensors::deserialize(voice.file(file).unwrap_or_default())
                .map_err(|e| VoiceError::NotSafetensors { file: path(file), reason: e.to_string() })?;
            let mut specs = crate::talker::tensors(&voice.config);
            specs.extend(crate::codec::tensors(&voice.config));
            specs.retain(|spec| spec.file == file);
            specs.iter().try_for_each(|spec| check(&tensors, spec, &path(file)))?;
        }
        Ok(voice)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// `embedded`, or the folder that it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 over the lengths (u64, little-endian) and bytes of [`CONFIG_FILE`], [`TALKER_FILE`] and
    /// [`CODEC_FILE`], in this order.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The bytes of one of its three files: what a replay asks for.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| bytes.get())
    }

    /// Reads tensors of one file and converts them to `dtype`, f16 or bf16, round to nearest even.
    ///
    /// # Errors
    /// Those of [`Voice::open`], where the file has changed since.
    pub(crate) fn read(&self, specs: &[TensorSpec], dtype: DType) -> Result<Vec<u8>, VoiceError> {
        let mut bytes = Vec::new();
        for spec in specs {
            let file = || spec.file.to_owned();
            let tensors = SafeTensors::deserialize(self.file(spec.file).unwrap_or_default())
                .map_err(|e| VoiceError::NotSafetensors { file: file(), reason: e.to_string() })?;
            check(&tensors, spec, spec.file)?;
            if let Ok(tensor) = tensors.tensor(&spec.name) {
                convert(tensor.data(), tensor.dtype(), dtype, &mut bytes);
            }
        }
        Ok(bytes)
    }
}

fn check(tensors: &SafeTensors<'_>, spec: &TensorSpec, file: &str) -> Result<(), VoiceError> {
    let Ok(tensor) = tensors.tensor(&spec.name) else {
        let (tensor, expected) = (spec.name.clone(), spec.shape.clone());
        return Err(VoiceError::MissingTensor { file: file.to_owned(), tensor, expected });
    };
    let float = matches!(tensor.dtype(), Dtype::F16 | Dtype::BF16 | Dtype::F32);
    if !float || tensor.shape() != spec.shape {
        return Err(VoiceError::Tensor {
            file: file.to_owned(),
            tensor: spec.name.clone(),
            expected: format!("F16, BF16 or F32 of shape {:?}", spec.shape),
            found: format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape()),
        });
    }
    Ok(())
}

/// Converts elements one by one; equal types are copied.
fn convert(data: &[u8], from: Dtype, to: DType, out: &mut Vec<u8>) {
    let narrow: fn(f32) -> u16 = if to == DType::Bf16 { f32_to_bf16 } else { f32_to_f16 };
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    match (from, to) {
        (Dtype::F16, DType::F16) | (Dtype::BF16, DType::Bf16) => out.extend_from_slice(data),
        (Dtype::F16, _) => {
            out.extend(data.chunks_exact(2).flat_map(|b| narrow(f16_to_f32(pair(b))).to_le_bytes()));
        }
        (Dtype::BF16, _) => {
            out.extend(data.chunks_exact(2).flat_map(|b| narrow(bf16_to_f32(pair(b))).to_le_bytes()));
        }
        _ => {
            let wide = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            out.extend(data.chunks_exact(4).flat_map(|b| narrow(wide(b)).to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn the_embedded_voice_is_whole() {
        let voice = Voice::embedded().unwrap();
        assert_eq!(voice.source(), "embedded");
        assert_eq!(voice.file(CONFIG_FILE), Some(EMBEDDED_CONFIG));
        assert_eq!(voice.file("other"), None);
    }

    #[test]
    fn a_folder_gives_the_same_voice_as_the_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("voice");
        let (mapped, embedded) = (Voice::open(&folder).unwrap(), Voice::embedded().unwrap());
        assert_eq!(mapped.sha256(), embedded.sha256());
        assert_eq!(mapped.file(TALKER_FILE), embedded.file(TALKER_FILE));
    }

    #[test]
    fn conversions_round_to_nearest_even() {
        let values = [1.0f32, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.1, 65504.0];
        let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let mut out = Vec::new();
        convert(&halves, Dtype::F16, DType::Bf16, &mut out);
        let wanted: Vec<u8> =
            values.iter().flat_map(|&v| bf16::from_f32(f16::from_f32(v).to_f32()).to_le_bytes()).collect();
        assert_eq!(out, wanted);
        let mut same = Vec::new();
        convert(&halves, Dtype::F16, DType::F16, &mut same);
        assert_eq!(same, halves);
        let mut from_f32 = Vec::new();
        let wide: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        convert(&wide, Dtype::F32, DType::F16, &mut from_f32);
        assert_eq!(from_f32, halves);
    }
}
