//! Why CUDA cannot be used.

use crate::Error;

/// Why there is no CUDA backend on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaUnavailable {
    /// The driver's library is not installed.
    #[error("no NVIDIA driver on this machine (libcuda.so.1 was not found)")]
    NoDriver,
    /// There is a driver, but nothing for it to drive.
    #[error("the NVIDIA driver sees no device (check `nvidia-smi` and CUDA_VISIBLE_DEVICES)")]
    NoDevice,
    /// The driver cannot read the PTX.
    #[error(
        "the NVIDIA driver is too old: it supports CUDA {found}, the kernels need 12.2 (driver 535 or newer)"
    )]
    DriverTooOld {
        /// CUDA version of the driver, such as `11.8`.
        found: String,
    },
    /// The device is older than the PTX's target.
    #[error("{name} has compute capability {capability}, the kernels need 7.0 or newer")]
    DeviceTooOld {
        /// The device's name.
        name: String,
        /// Such as `6.1`.
        capability: String,
    },
    /// Another failure of the driver.
    #[error("the NVIDIA driver failed: {doing}: {error}")]
    Driver {
        /// What was being done.
        doing: &'static str,
        /// The driver's own words.
        error: String,
    },
}

impl From<CudaUnavailable> for Error {
    fn from(unavailable: CudaUnavailable) -> Error {
        Error::Cuda(unavailable.to_string())
    }
}
