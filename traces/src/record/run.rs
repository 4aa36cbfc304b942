//! The run: tool, device, model, sampling, requests.

use serde::{Deserialize, Serialize};

use super::line::{line, lines};

/// One utterance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Counted from 1.
    pub request: u32,
    /// The text spoken, normalised.
    #[serde(deserialize_with = "line")]
    pub text: String,
    /// Prompt token ids.
    pub prompt: Vec<u32>,
    /// The row of the batch that it occupies.
    pub row: u32,
}

/// What ran the launches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// `cpu` or `cuda`.
    #[serde(deserialize_with = "line")]
    pub backend: String,
    /// Device name as it gives itself.
    #[serde(deserialize_with = "line")]
    pub name: String,
    /// Compute capability such as `9.0`, or the vector extension used on a CPU.
    #[serde(deserialize_with = "line")]
    pub capability: String,
    /// Driver version, empty on a CPU.
    #[serde(deserialize_with = "line")]
    pub driver: String,
    /// SHA-256 of the PTX text that was loaded, hex, empty on a CPU.
    #[serde(deserialize_with = "line")]
    pub ptx_sha256: String,
}

/// How codes were chosen. Floats are kept as bits so that records compare exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplingRecord {
    /// Bits of the temperature; 0 means greedy.
    pub temperature_bits: u32,
    /// 0 means off.
    pub top_k: u32,
    /// Bits of top-p; 1.0 means off.
    pub top_p_bits: u32,
    /// Seed of the counter-based generator.
    pub seed: u64,
}

/// What made a trace and from what. Written first; says nothing about planted faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Tool and version that wrote it.
    #[serde(deserialize_with = "line")]
    pub tool: String,
    /// `eager`, `graph`, `piecewise`, or a foreign engine's word.
    #[serde(deserialize_with = "line")]
    pub mode: String,
    /// The device.
    pub device: DeviceRecord,
    /// Model name.
    #[serde(deserialize_with = "line")]
    pub model: String,
    /// `embedded`, or the folder that the weights were read from.
    #[serde(deserialize_with = "line")]
    pub model_source: String,
    /// SHA-256 over the model's configuration and weights files.
    pub model_sha256: [u8; 32],
    /// Element type of the weights as used.
    #[serde(deserialize_with = "line")]
    pub weights_dtype: String,
    /// Element type of the KV cache.
    #[serde(deserialize_with = "line")]
    pub kv_dtype: String,
    /// Delay profile.
    #[serde(deserialize_with = "line")]
    pub profile: String,
    /// The text as given.
    #[serde(deserialize_with = "line")]
    pub prompt: String,
    /// Rows of the batch.
    pub rows: u32,
    /// Sampling parameters.
    pub sampling: SamplingRecord,
    /// Samples a second of the `waveform` output, 0 where there is none.
    pub sample_rate: u32,
    /// Anything else a foreign recorder wants to say, sorted by key.
    #[serde(deserialize_with = "lines")]
    pub notes: Vec<(String, String)>,
}
