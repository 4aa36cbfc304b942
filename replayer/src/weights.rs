//! Weights by reference: a trace names files and tensors; their bytes come from elsewhere.

use std::collections::HashMap;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use twinstep_kernels::contract::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use twinstep_traces::{Contents, DType};

use crate::ReplayError;

/// Where the files of a model are.
pub trait WeightSource {
    /// The bytes of a file, by its name without any folder.
    ///
    /// # Errors
    /// [`ReplayError::Weights`] that says where was looked.
    fn file(&self, name: &str) -> Result<Vec<u8>, ReplayError>;
}

/// A folder.
#[derive(Debug, Clone)]
pub struct WeightFolder(pub PathBuf);

impl WeightSource for WeightFolder {
    fn file(&self, name: &str) -> Result<Vec<u8>, ReplayError> {
        // Names come from the trace: nothing but a plain file name may reach the file system.
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(ReplayError::Weights(format!("`{name}` is no plain file name")));
        }
        let path = self.0.join(name);
        std::fs::read(&path).map_err(|e| ReplayError::Weights(format!("cannot read {}: {e}", path.display())))
    }
}

/// Files in memory.
#[derive(Debug, Clone, Default)]
pub struct WeightFiles(pub Vec<(String, &'static [u8])>);

impl WeightSource for WeightFiles {
    fn file(&self, name: &str) -> Result<Vec<u8>, ReplayError> {
        let found = self.0.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.to_vec());
        found.ok_or_else(|| ReplayError::Weights(format!("no file `{name}` in the embedded voice")))
    }
}

/// Files read so far.
pub(crate) struct Loader<'a> {
    source: &'a dyn WeightSource,
    files: HashMap<String, Vec<u8>>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(source: &'a dyn WeightSource) -> Self {
        Loader { source, files: HashMap::new() }
    }

    /// The bytes of a weight, `wanted` of them, checked against the recorded hash.
    pub(crate) fn load(&mut self, contents: &Contents, wanted: u64) -> Result<Vec<u8>, ReplayError> {
        let mut bytes = Vec::new();
        for part in &contents.parts {
            if !self.files.contains_key(&part.file) {
                self.files.insert(part.file.clone(), self.source.file(&part.file)?);
            }
            let wrong = |what: String| {
                ReplayError::Weights(format!("tensor `{}` of {}: {what}", part.tensor, part.file))
            };
            let file = SafeTensors::deserialize(&self.files[&part.file]).map_err(|e| wrong(e.to_string()))?;
            let tensor = file.tensor(&part.tensor).map_err(|e| wrong(e.to_string()))?;
            if (bytes.len() + tensor.data().len()) as u64 > wanted {
                return Err(wrong(format!("more than the {wanted} bytes of the buffer")));
            }
            for half in tensor.data().chunks_exact(2) {
                let bits = u16::from_le_bytes([half[0], half[1]]);
                let converted = match (tensor.dtype(), contents.dtype) {
                    (Dtype::F16, DType::F16) | (Dtype::BF16, DType::Bf16) => bits,
                    (Dtype::F16, DType::Bf16) => f32_to_bf16(f16_to_f32(bits)),
                    (Dtype::BF16, DType::F16) => f32_to_f16(bf16_to_f32(bits)),
                    (from, to) => return Err(wrong(format!("{from:?} as {}", to.name()))),
                };
                bytes.extend(converted.to_le_bytes());
            }
        }
        if Sha256::digest(&bytes).as_slice() != contents.sha256 {
            let first = contents.parts.first().map_or("", |p| p.tensor.as_str());
            return Err(ReplayError::Weights(format!(
                "`{first}` is not what was recorded: its SHA-256 differs; give the model that made the trace with --weights"
            )));
        }
        Ok(bytes)
    }
}
