//! The abstraction over vector extensions: each algorithm is written once over [`Lanes`] and
//! instantiated for every [`super::Extension`].

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod portable;
mod vector;

pub(super) use vector::{Lanes, MAX_LANES};
