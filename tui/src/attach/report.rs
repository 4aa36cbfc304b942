//! What the preloaded library tells us: one line a fact, appended to a passing file by every process.

use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use serde::Serialize;
use twinstep_traces::{StepKind, Trace};

use crate::failure::Failure;

/// The file, until the program has ended.
pub(crate) struct Report {
    path: PathBuf,
}

/// A trace that was written.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    /// Where.
    pub(crate) path: String,
    /// Requests and steps in it; set-up is not counted.
    requests: u64,
    steps: u64,
    /// Points at which memory was kept.
    snapshots: u64,
    /// Whether it was closed.
    complete: bool,
    /// Why it can't be read, where it can't.
    trouble: Option<String>,
}

impl Report {
    pub(crate) fn begin() -> Result<Self, Failure> {
        let folder = std::env::temp_dir();
        let names = (0..100).map(|n| folder.join(format!("twinstep-attach.{}.{n}", std::process::id())));
        for path in names {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(_) => return Ok(Report { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Failure::new("output", format!("cannot write {}: {error}", path.display()))
                        .hint("TMPDIR names another folder for passing files"));
                }
            }
        }
        Err(Failure::new("output", format!("no free name in {}", folder.display())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether CUDA was initialised, the traces, and what went wrong; each once.
    pub(crate) fn end(self) -> (bool, Vec<Written>, Vec<String>) {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let mut cuda = false;
        let (mut paths, mut troubles) = (Vec::<String>::new(), Vec::<String>::new());
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("cuda", _)) => cuda = true,
                Some(("recorded", path)) if !paths.iter().any(|p| p == path) => paths.push(path.to_owned()),
                Some(("trouble", text)) if !troubles.iter().any(|t| t == text) => {
                    troubles.push(text.to_owned())
                }
                _ => {}
            }
        }
        (cuda, paths.into_iter().map(Written::look).collect(), troubles)
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // It lies among passing files.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Written {
    fn look(path: String) -> Self {
        let counted = Trace::open(Path::new(&path)).map_err(|e| e.to_string()).and_then(|trace| {
            let mut steps = 0;
            for index in 0..trace.step_count() {
                let step = trace.step(index).map_err(|e| e.to_string())?;
                steps += u64::from(matches!(step.kind, StepKind::Prefill | StepKind::Decode));
            }
            Ok((trace.requests().len() as u64, steps, trace.snapshot_count() as u64, trace.complete()))
        });
        match counted {
            Ok((requests, steps, snapshots, complete)) => {
                Written { path, requests, steps, snapshots, complete, trouble: None }
            }
            Err(trouble) => {
                let (requests, steps, snapshots, complete) = (0, 0, 0, false);
                Written { path, requests, steps, snapshots, complete, trouble: Some(trouble) }
            }
        }
    }

    /// What it lacks for `diff`, and what to do about it: nobody should find out from an empty comparison.
    pub(crate) fn lack(&self, start_on: Option<&str>) -> Option<String> {
        if self.trouble.is_some() || (self.steps > 0 && self.snapshots > 0) {
            return None;
        }
        Some(match (self.steps, start_on) {
            (0, Some(start)) => format!("no step is in it: --start-on {start} did not come before the last of them"),
            (0, None) => "no step is in it: no graph was launched, and nobody told where a step ends \
                          (the Python package does: r.step(), r.watch())"
                .to_owned(),
            _ => "no memory is in it: nothing was watched, or it could not be read; name buffers by the Python \
                  package or a watch file (twinstep attach --help)"
                .to_owned(),
        })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trouble {
            Some(trouble) => write!(f, "{}: {trouble}", self.path),
            None => {
                let tail = if self.complete { "" } else { "; not closed: it ends at its last commit" };
                write!(f, "recorded {}: {} requests, {} steps{tail}", self.path, self.requests, self.steps)
            }
        }
    }
}
