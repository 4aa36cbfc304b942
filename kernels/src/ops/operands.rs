//! Typed access to the operands of a launch on a CPU.

use bytemuck::Pod;

use crate::contract::{bf16_to_f32, canonical, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::{DType, Launch};

/// The bytes of one operand.
pub(crate) enum Slot<'a> {
    Read(&'a [u8]),
    Write(&'a mut [u8]),
}

/// The operands of one launch, each taken once by the op's CPU form.
///
/// Written operands share no byte with any other, so they are plain slices.
pub(crate) struct Operands<'a> {
    launch: &'a Launch,
    slots: Vec<Slot<'a>>,
}

impl<'a> Operands<'a> {
    pub(crate) fn new(launch: &'a Launch, slots: Vec<Slot<'a>>) -> Self {
        Operands { launch, slots }
    }

    /// The launch, for shapes and scalars.
    pub(crate) fn launch(&self) -> &'a Launch {
        self.launch
    }

    fn take(&mut self, index: usize) -> Slot<'a> {
        std::mem::replace(&mut self.slots[index], Slot::Read(&[]))
    }

    /// A read operand.
    pub(crate) fn read<T: Pod>(&mut self, index: usize) -> &'a [T] {
        match self.take(index) {
            Slot::Read(bytes) => bytemuck::cast_slice(bytes),
            Slot::Write(bytes) => bytemuck::cast_slice(bytes),
        }
    }

    /// A written operand.
    pub(crate) fn write<T: Pod>(&mut self, index: usize) -> &'a mut [T] {
        match self.take(index) {
            Slot::Write(bytes) => bytemuck::cast_slice_mut(bytes),
            Slot::Read(_) => unreachable!("operand {index} of {:?} is not written", self.launch.op()),
        }
    }

    /// A read operand of any float type.
    pub(crate) fn read_float(&mut self, index: usize) -> FloatSlice<'a> {
        match self.launch.view(index).dtype {
            DType::F16 => FloatSlice::F16(self.read(index)),
            DType::Bf16 => FloatSlice::Bf16(self.read(index)),
            _ => FloatSlice::F32(self.read(index)),
        }
    }

    /// A written operand of any float type.
    pub(crate) fn write_float(&mut self, index: usize) -> FloatSliceMut<'a> {
        match self.launch.view(index).dtype {
            DType::F16 => FloatSliceMut::F16(self.write(index)),
            DType::Bf16 => FloatSliceMut::Bf16(self.write(index)),
            _ => FloatSliceMut::F32(self.write(index)),
        }
    }
}

/// Floats of one of three types, widened exactly on reading.
#[derive(Clone, Copy)]
pub(crate) enum FloatSlice<'a> {
    F16(&'a [u16]),
    Bf16(&'a [u16]),
    F32(&'a [f32]),
}

impl FloatSlice<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            FloatSlice::F16(x) | FloatSlice::Bf16(x) => x.len(),
            FloatSlice::F32(x) => x.len(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> f32 {
        match self {
            FloatSlice::F16(x) => f16_to_f32(x[index]),
            FloatSlice::Bf16(x) => bf16_to_f32(x[index]),
            FloatSlice::F32(x) => x[index],
        }
    }
}

/// Floats of one of three types, rounded to nearest even on writing, NaN canonicalised.
pub(crate) enum FloatSliceMut<'a> {
    F16(&'a mut [u16]),
    Bf16(&'a mut [u16]),
    F32(&'a mut [f32]),
}

impl FloatSliceMut<'_> {
    pub(crate) fn set(&mut self, index: usize, value: f32) {
        match self {
            FloatSliceMut::F16(x) => x[index] = f32_to_f16(value),
            FloatSliceMut::Bf16(x) => x[index] = f32_to_bf16(value),
            FloatSliceMut::F32(x) => x[index] = canonical(value),
        }
    }
}
