//! What can go wrong while a voice is loaded and a text is spoken.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file of the voice cannot be read.
    #[error("cannot read {} of the voice: {source}", path.display())]
    VoiceFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the voice is not what it should be.
    #[error("{file} of the voice: {what}")]
    Voice {
        /// File name.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is nothing to say.
    #[error("the text {0}: nothing to speak; give letters or digits")]
    Text(&'static str),
    /// An option that makes no sense.
    #[error("{0}")]
    Option(String),
    /// A fault that needs other options.
    #[error("fault `{fault}` shows only with {needs}")]
    FaultNeeds {
        /// The fault.
        fault: &'static str,
        /// What it needs, as options.
        needs: String,
    },
    /// A prompt longer than the context.
    #[error("a prompt of {tokens} tokens does not fit into {room}")]
    TooLong {
        /// Its length.
        tokens: usize,
        /// What fits.
        room: usize,
    },
    /// A launch could not be made or run.
    #[error(transparent)]
    Kernel(#[from] twinstep_kernels::Error),
    /// The trace could not be written.
    #[error(transparent)]
    Trace(#[from] twinstep_traces::WriteError),
    /// The wav could not be written.
    #[error("writing the wav failed: {0}")]
    Wav(#[from] hound::Error),
}
