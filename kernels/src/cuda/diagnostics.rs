//! What a proof of the backend needs beyond running launches: the contract's functions by
//! themselves, and the speed of the memory.

use std::time::{Duration, Instant};

use cudarc::driver::result::DriverError;

use super::CudaBackend;
use super::device::{Memory, describe};
use super::plan::elementwise;
use crate::{Error, contract};

/// A function of the numerics contract that a CUDA device evaluates by steps of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContractFunction {
    /// [`contract::exp()`].
    Exp,
    /// [`contract::sin()`].
    Sin,
    /// [`contract::tanh()`].
    Tanh,
}

impl ContractFunction {
    /// All of them.
    pub const ALL: [ContractFunction; 3] =
        [ContractFunction::Exp, ContractFunction::Sin, ContractFunction::Tanh];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            ContractFunction::Exp => "exp",
            ContractFunction::Sin => "sin",
            ContractFunction::Tanh => "tanh",
        }
    }

    /// Its value as the contract defines it.
    pub fn on_cpu(self, x: f32) -> f32 {
        match self {
            ContractFunction::Exp => contract::exp(x),
            ContractFunction::Sin => contract::sin(x),
            ContractFunction::Tanh => contract::tanh(x),
        }
    }
}

fn failed(error: DriverError) -> Error {
    Error::Cuda(format!("diagnostics: {}", describe(error)))
}

impl CudaBackend {
    /// Values of a function at all of `x`, computed on the device.
    ///
    /// # Errors
    /// [`Error::Cuda`], [`Error::Launch`] for more inputs than a grid holds.
    pub fn evaluate(&mut self, function: ContractFunction, x: &[f32]) -> Result<Vec<f32>, Error> {
        if x.is_empty() {
            return Ok(Vec::new());
        }
        let (device, bytes) = (self.device.clone(), size_of_val(x));
        let input = Memory::allocate(&device, bytes).map_err(failed)?;
        let output = Memory::allocate(&device, bytes).map_err(failed)?;
        self.staging.upload(&input, 0, bytemuck::cast_slice(x)).map_err(failed)?;
        let kernel = format!("contract_{}_f32", function.name());
        let plan = elementwise(kernel, &[input.address(), output.address()], x.len())?;
        device.launch(&self.kernels, &plan).map_err(failed)?;
        let mut values = vec![0.0f32; x.len()];
        self.staging.download(&output, 0, bytemuck::cast_slice_mut(&mut values)).map_err(failed)?;
        Ok(values)
    }

    /// Time of one copy of `bytes` from device memory to device memory: it reads and writes each byte
    /// once, so it is the measure for kernels that memory limits.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn time_copy(&mut self, bytes: usize) -> Result<Duration, Error> {
        const COPIES: u32 = 20;
        let device = self.device.clone();
        let from = Memory::allocate(&device, bytes).map_err(failed)?;
        let to = Memory::allocate(&device, bytes).map_err(failed)?;
        let copy = || device.copy(&from, &to).map_err(failed);
        copy()?;
        device.synchronize().map_err(failed)?;
        let start = Instant::now();
        (0..COPIES).try_for_each(|_| copy())?;
        device.synchronize().map_err(failed)?;
        Ok(start.elapsed() / COPIES)
    }
}
