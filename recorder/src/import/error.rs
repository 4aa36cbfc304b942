//! Why dumps cannot be imported: one line each, that says what, where and what to do.

use std::path::PathBuf;

use twinstep_traces::WriteError;

/// An error of an import. Nothing is left behind after any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A folder that is not there, or holds nothing to import.
    #[error("{}: {what}", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A map file that cannot be read or makes no sense.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Map {
        /// Which file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// A dump that cannot be read.
    #[error("{}: {what}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file that PyTorch or Python pickled.
    #[error(
        "{}: this is a pickle, which runs code when it is read, so it is not read; \
         save it with safetensors.torch.save_file or numpy.savez",
        path.display()
    )]
    Pickle {
        /// Which file.
        path: PathBuf,
    },
    /// An array of a dump that cannot be imported.
    #[error("{}: array `{array}`: {what}", path.display())]
    Array {
        /// Which file.
        path: PathBuf,
        /// Its key in the file.
        array: String,
        /// What is wrong with it.
        what: String,
    },
    /// Steps that were not dumped between steps that were.
    #[error("{}: {what}", path.display())]
    MissingSteps {
        /// The folder.
        path: PathBuf,
        /// Which.
        what: String,
    },
    /// An array that has another shape or type than before.
    #[error("{}: {what}", path.display())]
    Reshaped {
        /// Which file.
        path: PathBuf,
        /// Which array, what it was, what it is.
        what: String,
    },
    /// Two arrays that would be one buffer at one place.
    #[error("{}: {what}", path.display())]
    Clash {
        /// The second file.
        path: PathBuf,
        /// What clashes with what.
        what: String,
    },
    /// The output is there already.
    #[error("{} exists already; --force overwrites it", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {what}", path.display())]
    Output {
        /// Which file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// More than can be imported.
    #[error("{}: {what}", path.display())]
    TooMuch {
        /// Folder or file.
        path: PathBuf,
        /// What there is too much of.
        what: String,
    },
}

impl ImportError {
    /// A failed write, without the words that are for a recording: what was written so far is gone.
    pub(super) fn output(path: &std::path::Path, error: WriteError) -> Self {
        let what = match error {
            WriteError::Append { source, .. } | WriteError::Sync(source) => source.to_string(),
            other => other.to_string(),
        };
        ImportError::Output { path: path.into(), what }
    }
}
