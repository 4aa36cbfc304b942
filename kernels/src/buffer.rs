//! Named allocations.

use std::sync::Arc;

use crate::DType;

/// The byte that fresh memory is filled with: finite and small in all float types
/// (f32 -2.87e-16, f16 -0.0220, bf16 -2.87e-16), so that a read of memory that nobody wrote is
/// reproducible and visible.
pub const FRESH_BYTE: u8 = 0xA5;

/// What a buffer is for. The stream attaches no meaning to it; recorders and checks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Constant for the whole run.
    Weight,
    /// Constant for the whole run, made on the host (RoPE angles).
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

/// Identity of one allocation, that is of a (name, generation), within a [`crate::Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// What to allocate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferSpec {
    /// Name without generation.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Elements along each axis, outermost first, dense and row-major.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl BufferSpec {
    /// A dense, row-major buffer.
    pub fn new(name: &str, dtype: DType, shape: &[usize], role: Role) -> Self {
        BufferSpec { name: name.to_owned(), dtype, shape: shape.to_vec(), role }
    }

    /// Size in bytes, or `None` where it overflows.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.size(), |n, &d| n.checked_mul(d))
    }
}

/// One allocation of a named buffer. A later allocation of the same name is another generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Its identity in launches.
    pub id: BufferId,
    /// Name without generation.
    pub name: Arc<str>,
    /// 0 for the first allocation of that name, then 1, 2, ...
    pub generation: u32,
    /// Element type.
    pub dtype: DType,
    /// Elements along each axis, outermost first.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}
