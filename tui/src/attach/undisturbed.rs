//! Whether recording changed what a program emits: standard output, exit status, files.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::{start, status, wait};
use crate::failure::Failure;

/// What a run emitted.
pub(crate) struct Emitted {
    pub(crate) status: i32,
    stdout: Vec<u8>,
    /// Contents; `None` where there is no such file.
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
}

/// What differs between two runs.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) undisturbed: bool,
    differences: Vec<String>,
    /// Bytes and files compared.
    compared: String,
}

impl Emitted {
    /// Runs a program to its end; its output goes to `pass` as well.
    ///
    /// # Errors
    /// It cannot be started or a file cannot be read.
    pub(crate) fn by(
        command: &mut Command,
        files: &[PathBuf],
        mut pass: Option<Box<dyn Write>>,
    ) -> Result<Self, Failure> {
        // A file that an earlier run left behind is no output of this one.
        let before: Vec<_> =
            files.iter().map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok()).collect();
        let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut stdout = Vec::new();
        if let Some(mut pipe) = child.stdout.take() {
            let mut part = vec![0; 1 << 16];
            while let Ok(read @ 1..) = pipe.read(&mut part) {
                stdout.extend_from_slice(&part[..read]);
                if let Some(pass) = &mut pass {
                    // The reader of our output may be gone; the program runs on.
                    let _ = pass.write_all(&part[..read]).and_then(|()| pass.flush());
                }
            }
        }
        let status = status(wait(&mut child)?);
        let mut contents = Vec::new();
        for (path, before) in files.iter().zip(before) {
            let bytes = match std::fs::read(path) {
                Ok(_) if std::fs::metadata(path).and_then(|m| m.modified()).ok() == before => None,
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(Failure::new("input", format!("{}: {error}", path.display()))),
            };
            contents.push((path.clone(), bytes));
        }
        Ok(Emitted { status, stdout, files: contents })
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(a, b)| a != b);
    common.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

impl Verdict {
    pub(crate) fn of(unrecorded: &Emitted, recorded: &Emitted) -> Self {
        let mut differences = Vec::new();
        if unrecorded.status != recorded.status {
            differences
                .push(format!("exit status {} unrecorded, {} recorded", unrecorded.status, recorded.status));
        }
        if let Some(at) = first_difference(&unrecorded.stdout, &recorded.stdout) {
            differences.push(format!("standard output differs from byte {at} on"));
        }
        for ((path, a), (_, b)) in unrecorded.files.iter().zip(&recorded.files) {
            let name = path.display();
            match (a, b) {
                (Some(a), Some(b)) => differences
                    .extend(first_difference(a, b).map(|at| format!("{name} differs from byte {at} on"))),
                (None, None) => differences.push(format!("{name} was written by neither run")),
                (Some(_), None) => differences.push(format!("{name} was written by the unrecorded run only")),
                (None, Some(_)) => differences.push(format!("{name} was written by the recorded run only")),
            }
        }
        let compared =
            format!("{} bytes of standard output, {} files", recorded.stdout.len(), recorded.files.len());
        Verdict { undisturbed: differences.is_empty(), differences, compared }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        if self.undisturbed {
            return vec![format!("undisturbed: both runs emitted the same ({})", self.compared)];
        }
        let mut lines: Vec<String> = self.differences.iter().map(|d| format!("NOT the same: {d}")).collect();
        lines.push(
            "a program that is not equal to itself differs here, too: run it twice without attach".to_owned(),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(status: i32, stdout: &[u8], file: Option<&[u8]>) -> Emitted {
        let files = vec![(PathBuf::from("out.bin"), file.map(<[u8]>::to_vec))];
        Emitted { status, stdout: stdout.to_vec(), files }
    }

    #[test]
    fn every_difference_is_told() {
        let a = emitted(0, b"one two", Some(b"x"));
        assert!(Verdict::of(&a, &emitted(0, b"one two", Some(b"x"))).undisturbed);
        for (b, word) in [
            (emitted(1, b"one two", Some(b"x")), "status 0 unrecorded, 1"),
            (emitted(0, b"one 2wo", Some(b"x")), "byte 4"),
            (emitted(0, b"one", Some(b"x")), "byte 3"),
            (emitted(0, b"one two", Some(b"y")), "out.bin differs"),
            (emitted(0, b"one two", None), "unrecorded run only"),
        ] {
            let verdict = Verdict::of(&a, &b);
            assert!(!verdict.undisturbed && verdict.lines()[0].contains(word), "{:?}", verdict.lines());
        }
        let neither = emitted(0, b"", None);
        assert!(
            !Verdict::of(&neither, &emitted(0, b"", None)).undisturbed,
            "a file that nobody writes proves nothing"
        );
    }
}
