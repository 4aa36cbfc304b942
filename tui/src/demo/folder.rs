//! The folder that the demo owns, and what it records there.

use std::path::{Path, PathBuf};

use crate::device::Device;
use crate::failure::Failure;
use crate::output::Output;
use crate::record::{self, Dtype, ModeName, ProfileName, Snapshots};
use crate::wrap;

const FOLDER: &str = "twinstep-demo";
/// Says that the folder is the demo's own.
const MARK: &str = ".made-by-twinstep-demo";
/// What is shown lies within these columns of the text around it.
const INDENT: usize = 5;

/// Makes the folder, or makes sure that it is ours.
pub(crate) fn prepare() -> Result<(), Failure> {
    let folder = Path::new(FOLDER);
    let cannot = |e: std::io::Error| Failure::new("output", format!("{FOLDER}: {e}"));
    if folder.exists() && !folder.join(MARK).is_file() {
        return Err(Failure::new("output", format!("./{FOLDER} exists and was not made by `twinstep demo`"))
            .hint("run the demo in another folder, or move that one away"));
    }
    std::fs::create_dir_all(folder).map_err(cannot)?;
    std::fs::write(folder.join(MARK), "twinstep demo overwrites the files in this folder\n").map_err(cannot)
}

/// Where a trace lies.
pub(crate) fn trace(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.twin"))
}

/// What is said, and how codes are drawn.
#[derive(Clone, Copy)]
pub(crate) struct Speech {
    pub(crate) text: &'static str,
    pub(crate) temperature: f32,
    pub(crate) top_k: u32,
    pub(crate) device: Device,
}

impl Speech {
    /// Speaks and records to the folder.
    pub(crate) fn record(
        &self,
        mode: ModeName,
        name: &str,
        fault: Option<&str>,
    ) -> Result<record::Report, Failure> {
        record::perform(&record::Args {
            text: self.text.to_owned(),
            mode,
            voice: None,
            device: self.device,
            seed: 42,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: 1.0,
            batch: 4,
            max_steps: None,
            context: None,
            profile: ProfileName::Voice,
            dtype: Dtype::F16,
            fault: fault.map(str::to_owned).into_iter().collect(),
            snapshots: Snapshots::On,
            output: Some(trace(name)),
            wav: Some(Path::new(FOLDER).join(format!("{name}.wav"))),
            force: true,
        })
    }
}

/// Columns for what a command prints.
pub(crate) fn width() -> usize {
    wrap::width() - INDENT
}

/// A command as if typed.
pub(crate) fn typed(out: &mut Output, command: &str) -> Result<(), Failure> {
    wrap::command(&format!("   $ {command}"), wrap::width(), INDENT)
        .iter()
        .try_for_each(|line| out.line(line))
}

/// What a command prints.
pub(crate) fn printed(out: &mut Output, lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| match line.as_str() {
        "" => out.line(""),
        line => out.line(format!("{:INDENT$}{line}", "")),
    })
}

/// A paragraph of the story, or an item of a list.
pub(crate) fn said(out: &mut Output, text: &str) -> Result<(), Failure> {
    let hang = 3 + text.len() - text.trim_start_matches([' ', '-']).len();
    wrap::fill(&format!("   {text}"), wrap::width(), hang).iter().try_for_each(|line| out.line(line))
}
