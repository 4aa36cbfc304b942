//! Buffers: element types, what they are for, one record an allocation.

use serde::{Deserialize, Serialize};

use super::line::line;

/// Element type of a buffer or a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned byte, or bytes of a type that the recorder could not name.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// All of them, in the order of their numbers in a file.
    pub const ALL: [DType; 9] = [
        DType::F32,
        DType::F16,
        DType::Bf16,
        DType::I64,
        DType::I32,
        DType::U32,
        DType::U64,
        DType::U8,
        DType::Bool,
    ];

    /// Size of one element in bytes.
    pub fn size(self) -> u64 {
        match self {
            DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::Bf16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// The name shown to people and used in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Constant for the whole run; contents are referenced, not stored (see [`Contents`]).
    Weight,
    /// Constant for the whole run, made on the host and written once (RoPE angles).
    Table,
    /// Decode state that the device advances.
    State,
    /// Written by the host before a step.
    Input,
    /// Result of a step that the host or a person looks at.
    Output,
    /// Memory that a step should write before it reads it.
    Scratch,
}

impl Role {
    /// The name shown to people and used in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Table => "table",
            Role::State => "state",
            Role::Input => "input",
            Role::Output => "output",
            Role::Scratch => "scratch",
        }
    }
}

/// Where the bytes of a weight come from: parts of safetensors files, concatenated, each
/// optionally converted, and the SHA-256 of the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contents {
    /// In order of concatenation.
    pub parts: Vec<ContentPart>,
    /// Element type that the parts are converted to (round to nearest even) before concatenation.
    pub dtype: DType,
    /// SHA-256 of the concatenated, converted bytes.
    pub sha256: [u8; 32],
}

/// One tensor of a weights file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentPart {
    /// File name within the model's folder, without any folder: `talker.safetensors`.
    #[serde(deserialize_with = "line")]
    pub file: String,
    /// Tensor name within that file.
    #[serde(deserialize_with = "line")]
    pub tensor: String,
}

/// One allocation of a named buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BufferRecord {
    /// Name without generation: `last_codes`.
    #[serde(deserialize_with = "line")]
    pub name: String,
    /// 0 for the first allocation of that name, then 1, 2, ...
    pub generation: u32,
    /// Element type.
    pub dtype: DType,
    /// Elements along each axis, outermost first, dense and row-major.
    pub shape: Vec<u64>,
    /// What it is for.
    pub role: Role,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes that one chunk of this buffer covers; a power of two, the last chunk may be shorter.
    pub chunk_bytes: u32,
    /// Device address, where the recorder knew one.
    pub address: Option<u64>,
    /// For weights.
    pub contents: Option<Contents>,
}

impl BufferRecord {
    /// How many chunks it has: `bytes / chunk_bytes`, rounded up.
    pub fn chunks(&self) -> u64 {
        self.bytes.div_ceil(u64::from(self.chunk_bytes.max(1)))
    }

    /// Length in bytes of chunk `chunk`; only the last may be shorter than `chunk_bytes`.
    /// `None` beyond the last.
    pub fn chunk_length(&self, chunk: u64) -> Option<u64> {
        let chunk_bytes = u64::from(self.chunk_bytes);
        let start = chunk.checked_mul(chunk_bytes)?;
        (start < self.bytes).then(|| chunk_bytes.min(self.bytes - start))
    }

    /// Whether the record agrees with itself: a chunk size that is a power of two up to
    /// [`MAX_CHUNK_BYTES`](crate::MAX_CHUNK_BYTES), and as many bytes as shape and type say.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if !self.chunk_bytes.is_power_of_two() || self.chunk_bytes > crate::MAX_CHUNK_BYTES {
            let limit = crate::MAX_CHUNK_BYTES;
            return Err(format!("a chunk of {} bytes is not a power of two up to {limit}", self.chunk_bytes));
        }
        let bytes = self.shape.iter().try_fold(self.dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
        match bytes {
            Some(bytes) if bytes == self.bytes => Ok(()),
            Some(bytes) => Err(format!(
                "shape {:?} of {} has {bytes} bytes, the record says {}",
                self.shape,
                self.dtype.name(),
                self.bytes
            )),
            None => Err(format!("shape {:?} of {} has more than 2^64 bytes", self.shape, self.dtype.name())),
        }
    }
}
