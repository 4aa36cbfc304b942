//! The CUDA backend: the contract's kernels, compiled ahead to PTX, on a device found at run time.
//!
//! All `unsafe` is in `device`, which owns what the driver hands out, but for one promise of `staging`.

mod backend;
mod device;
mod diagnostics;
mod plan;
mod ptx;
#[cfg(test)]
mod source;
mod staging;
mod unavailable;

pub use backend::CudaBackend;
pub use diagnostics::ContractFunction;
pub use unavailable::CudaUnavailable;
