//! Which backend a command runs on.

use clap::ValueEnum;
use twinstep_kernels::{Backend, CpuBackend, CudaBackend};

use crate::failure::Failure;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// CUDA where there is a usable device, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device, or an error.
    Cuda,
}

impl Device {
    /// A fresh backend.
    ///
    /// # Errors
    /// Where CUDA was asked for and cannot be used, or the CPU's float environment is not the contract's.
    pub(crate) fn backend(self) -> Result<Box<dyn Backend>, Failure> {
        let cpu = || -> Result<Box<dyn Backend>, Failure> {
            Ok(Box::new(CpuBackend::new().map_err(|e| Failure::new("device", e))?))
        };
        match self {
            Device::Cpu => cpu(),
            Device::Auto => match CudaBackend::new() {
                Ok(cuda) => Ok(Box::new(cuda)),
                Err(_) => cpu(),
            },
            Device::Cuda => match CudaBackend::new() {
                Ok(cuda) => Ok(Box::new(cuda)),
                Err(error) => Err(Failure::new("device", error).hint(
                    "`--device cpu` gives the same bits; `twinstep doctor` says what this machine can do",
                )),
            },
        }
    }
}

/// One line that says what runs: `cuda (NVIDIA H200, 9.0, driver 580.1)`.
pub(crate) fn describe(backend: &str, name: &str, capability: &str, driver: &str) -> String {
    let mut parts: Vec<String> =
        [name, capability].into_iter().filter(|part| !part.is_empty()).map(str::to_owned).collect();
    parts.extend((!driver.is_empty()).then(|| format!("driver {driver}")));
    match parts[..] {
        [] => backend.to_owned(),
        _ => format!("{backend} ({})", parts.join(", ")),
    }
}
