//! Standard output: text for people, or one JSON document for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::failure::{Failure, escape};

/// How a command ends; the numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Same, passes, ok.
    Same = 0,
    /// Different, fails, damaged.
    Differs = 1,
    /// Trouble, or not comparable.
    Trouble = 2,
}

/// Where results go. Text lines are dropped in JSON mode and the document in text mode, so a command
/// says both and the caller chooses.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether standard output is a document.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A line, or several, for people.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        emit(&format!("{}\n", escape(&line.to_string())))
    }

    /// The one document for programs.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        // Written as it is made: values of a large buffer are many times as long as the buffer.
        let mut stdout = BufWriter::new(io::stdout().lock());
        let written = serde_json::to_writer_pretty(&mut stdout, document);
        if let Err(error) = &written
            && !error.is_io()
        {
            return Err(Failure::new("output", error));
        }
        let end =
            written.map_err(io::Error::from).and_then(|()| writeln!(stdout)).and_then(|()| stdout.flush());
        ended(end)
    }
}

fn emit(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    ended(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn ended(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Ok(()) => Ok(()),
        // The reader has seen enough (`| head`): a quiet end.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new("output", format!("cannot write to standard output: {error}"))),
    }
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    schema: &'static str,
    error: &'a Failure,
}

/// Tells the user: one line (and a hint) on standard error, or a document on standard output.
pub(crate) fn report(failure: &Failure, json: bool) {
    if json {
        let document = ErrorDocument { schema: "twinstep.error/1", error: failure };
        // Nothing is left to tell where even this cannot be written.
        let _ = Output::new(true).document(&document);
        return;
    }
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "error: {}", failure.message);
    if let Some(hint) = &failure.hint {
        let _ = writeln!(stderr, "  hint: {hint}");
    }
}
