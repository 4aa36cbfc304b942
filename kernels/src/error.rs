//! What can go wrong when launches are made and run.

use crate::BufferId;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op of that name and version does not exist here.
    #[error("no op `{name}` version {version} in this build: it was recorded by another version of twinstep")]
    UnknownOp {
        /// The name asked for.
        name: String,
        /// The version asked for.
        version: u32,
    },
    /// Arguments do not fit the op.
    #[error("launch of `{op}`: {what}")]
    Launch {
        /// The op's name.
        op: &'static str,
        /// What does not fit.
        what: String,
    },
    /// A view names a buffer that does not exist or was freed.
    #[error("buffer {} does not exist or was freed", .0.0)]
    NoBuffer(BufferId),
    /// A view leaves its buffer.
    #[error("bytes {start}..{end} of a buffer of {bytes} bytes (`{name}`)")]
    OutOfBounds {
        /// The buffer's name.
        name: String,
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Size of the buffer.
        bytes: usize,
    },
    /// An operand that is written shares bytes with another operand of the same launch.
    #[error("launch of `{op}`: operand `{operand}` is written and shares bytes with another operand")]
    Overlap {
        /// The op's name.
        op: &'static str,
        /// The operand's name.
        operand: &'static str,
    },
    /// Memory could not be had.
    #[error("cannot allocate {bytes} bytes for buffer `{name}`")]
    OutOfMemory {
        /// The buffer's name.
        name: String,
        /// Bytes asked for.
        bytes: usize,
    },
    /// Begin, end and launch of captures out of order.
    #[error("stream capture: {0}")]
    Capture(&'static str),
    /// The floating-point environment is not the contract's.
    #[error(
        "floating-point control register is {found:#06x}: the numerics contract needs round-to-nearest without flush-to-zero (something in this process changed it)"
    )]
    FloatEnvironment {
        /// Value of MXCSR (or FPCR).
        found: u64,
    },
    /// No CUDA driver, no device, or a driver call failed.
    #[error("CUDA: {0}")]
    Cuda(String),
}
