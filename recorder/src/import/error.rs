//! Why dumps cannot be imported: one line each, that says what, where and what to do.

use std::fmt::{self, Display, Write};
use std::path::PathBuf;

use twinstep_traces::WriteError;

/// What may come from a stranger's file or its name, kept to one line: control characters are shown escaped.
struct Line<T>(T);

impl<T: Display> Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Shown<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl Write for Shown<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    c if c.is_control() => write!(self.0, "{}", c.escape_default()),
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Shown(f), "{}", self.0)
    }
}

/// An error of an import. Nothing is left behind after any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A folder that is not there, or holds nothing to import.
    #[error("{}: {}", Line(path.display()), Line(what))]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A map file that cannot be read or makes no sense.
    #[error("{}:{line}:{column}: {}", Line(path.display()), Line(what))]
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
    #[error("{}: {}", Line(path.display()), Line(what))]
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
        Line(path.display())
    )]
    Pickle {
        /// Which file.
        path: PathBuf,
    },
    /// An array of a dump that cannot be imported.
    #[error("{}: array `{}`: {}", Line(path.display()), Line(array), Line(what))]
    Array {
        /// Which file.
        path: PathBuf,
        /// Its key in the file.
        array: String,
        /// What is wrong with it.
        what: String,
    },
    /// Steps that were not dumped between steps that were.
    #[error("{}: {}", Line(path.display()), Line(what))]
    MissingSteps {
        /// The folder.
        path: PathBuf,
        /// Which.
        what: String,
    },
    /// An array that has another shape or type than before.
    #[error("{}: {}", Line(path.display()), Line(what))]
    Reshaped {
        /// Which file.
        path: PathBuf,
        /// Which array, what it was, what it is.
        what: String,
    },
    /// Two arrays that would be one buffer at one place.
    #[error("{}: {}", Line(path.display()), Line(what))]
    Clash {
        /// The second file.
        path: PathBuf,
        /// What clashes with what.
        what: String,
    },
    /// The output is there already.
    #[error("{} exists already; --force overwrites it", Line(path.display()))]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {}", Line(path.display()), Line(what))]
    Output {
        /// Which file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// More than can be imported.
    #[error("{}: {}", Line(path.display()), Line(what))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_line_breaks_makes_no_second_line() {
        let error = ImportError::Array {
            path: "d/a\nb.npz".into(),
            array: "h\r\u{1b}[2J".into(),
            what: "element type `\n` is not known: ü".into(),
        };
        let text = error.to_string();
        assert_eq!(text, r"d/a\nb.npz: array `h\r\u{1b}[2J`: element type `\n` is not known: ü");
    }
}
