//! What can go wrong when traces are looked at and executed again.

use std::path::PathBuf;

use twinstep_traces::ReadError;

use crate::value::ValueError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The trace could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A launch could not be made or run.
    #[error(transparent)]
    Kernel(#[from] twinstep_kernels::Error),
    /// A value that its type cannot hold.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A place that makes no sense or does not exist.
    #[error("{0}")]
    Place(String),
    /// A buffer or element that does not exist.
    #[error("{0}")]
    Selection(String),
    /// A patch that cannot be made.
    #[error("patch `{patch}`: {what}")]
    Patch {
        /// As given.
        patch: String,
        /// Why not.
        what: String,
    },
    /// A weights file or tensor is missing or not the recorded one.
    #[error("weights: {0}")]
    Weights(String),
    /// Something that was recorded but cannot be executed again.
    #[error("cannot be executed again: {0}")]
    Opaque(String),
    /// Two traces that have nothing to say about each other.
    #[error("not comparable: {0}")]
    NotComparable(String),
    /// A run whose ops compute otherwise than those of this build.
    #[error("other numerics: {0}")]
    Numerics(String),
    /// A file of values.
    #[error("{}: {what}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}
