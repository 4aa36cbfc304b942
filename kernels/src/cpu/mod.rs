//! The CPU backend, and the vectorised forms of the ops: one file a family, each algorithm written once
//! over [`lanes::Lanes`] and compiled for every [`Extension`].
//!
//! `unsafe` is in two places only: calls of vector intrinsics in [`lanes`], and reading the
//! floating-point control register in [`float_environment`].

pub(crate) mod attention;
mod backend;
pub(crate) mod conv;
mod dot;
pub(crate) mod elementwise;
mod extension;
mod float_environment;
pub(crate) mod hash;
mod lanes;
pub(crate) mod linear;
mod memory;
pub(crate) mod norm;
mod processor;
pub(crate) mod sample;
mod transcendental;
mod workers;

pub use backend::{CpuBackend, CpuForm};
pub use extension::Extension;
pub(crate) use processor::Processor;
