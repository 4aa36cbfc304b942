//! The vector extension in use, chosen at run time.

use super::lanes::{Lanes, portable::Portable};
#[cfg(target_arch = "x86_64")]
use super::lanes::{avx2::Avx2, avx512::Avx512};

/// A computation written over [`Lanes`].
pub(super) trait Kernel {
    /// What it returns.
    type Output;

    /// Computes. Implementations are `#[inline(always)]`, see [`Lanes`].
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// A vector extension that this processor has. All compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(super::lanes::neon::Neon),
}

impl Extension {
    /// Plain Rust, on any processor.
    pub const PORTABLE: Extension = Extension(Kind::Portable(Portable));

    /// The widest one here.
    pub fn best() -> Extension {
        Extension::available().into_iter().next().unwrap_or(Extension::PORTABLE)
    }

    /// All that this processor has, the widest first, [`Extension::PORTABLE`] last.
    pub fn available() -> Vec<Extension> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(Avx512::detect().map(Kind::Avx512));
            found.extend(Avx2::detect().map(Kind::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        found.extend(super::lanes::neon::Neon::detect().map(Kind::Neon));
        found.push(Kind::Portable(Portable));
        found.into_iter().map(Extension).collect()
    }

    /// Its name: `avx512`, `avx2`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
        }
    }

    /// Runs a kernel compiled for this extension.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable(lanes) => kernel.run(lanes),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(lanes) => lanes.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(lanes) => lanes.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(lanes) => lanes.run(kernel),
        }
    }
}
