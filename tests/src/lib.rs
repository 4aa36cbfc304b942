//! What the end-to-end tests share: the real binary, run in a folder of its own.

pub mod dumps;
pub mod screen;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

pub mod in_memory;

/// The sentence of the demo and of `traces/samples/`.
pub const SENTENCE: &str = "the weather is nice today and the sun is shining.";

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The binary, built once with the profile that the tests were built with. It belongs to another
/// package, so cargo does not build it for these tests by itself.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test.ancestors().nth(2).expect("tests live in <target>/<profile>/deps");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "twinstep", "--target-dir"]);
        cargo.arg(profile.parent().expect("a profile folder lies in the target folder")).current_dir(root());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "the binary must build");
        profile.join("twinstep")
    })
}

/// One finished run of the binary.
#[derive(Debug)]
pub struct Run {
    /// Exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// Where it is not exactly that.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("not one JSON document ({e}): {self:#?}"))
    }

    /// Asserts the exit status and passes the run on.
    ///
    /// # Panics
    /// Where it is another one.
    #[track_caller]
    pub fn expect(self, status: i32) -> Run {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The binary with these arguments, in `folder`, with no terminal.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// Runs the binary to its end.
///
/// # Panics
/// Where it cannot be started.
pub fn twinstep(folder: &Path, arguments: &[&str]) -> Run {
    command(folder, arguments).output().expect("the binary starts").into()
}

/// Records `text` to `name` on the CPU with more arguments, and asserts success.
///
/// # Panics
/// Where the recording fails.
#[track_caller]
pub fn record(folder: &Path, name: &str, text: &str, more: &[&str]) -> Run {
    let mut arguments = vec!["record", "--text", text, "--device", "cpu", "-o", name];
    arguments.extend(more);
    twinstep(folder, &arguments).expect(0)
}
