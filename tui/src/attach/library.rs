//! The library that is preloaded: where it is, and whether preloading works here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

const NAME: &str = "libtwinstep_attach.so";

/// The library, found.
#[derive(Debug)]
pub(crate) struct Library {
    path: PathBuf,
}

/// What the library says of itself when it is preloaded.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Version of the driver, 12040 for 12.4; or why there is none.
    pub(crate) driver: Result<u32, String>,
}

impl Library {
    /// Looks where it may be.
    ///
    /// # Errors
    /// It is nowhere; the places are said.
    pub(crate) fn find() -> Result<Self, Failure> {
        let named = std::env::var_os("TWINSTEP_ATTACH_LIBRARY").filter(|path| !path.is_empty());
        let places: Vec<PathBuf> = match named {
            Some(path) => vec![path.into()],
            None => {
                let binary = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
                let folder = binary.parent().unwrap_or(Path::new("."));
                vec![
                    folder.join(NAME),
                    folder.join("deps").join(NAME),
                    folder.join("../lib/twinstep").join(NAME),
                ]
            }
        };
        let found = places.iter().find(|path| path.is_file());
        let listed = places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        let found = found.ok_or_else(|| {
            Failure::new("library", format!("no {NAME}; looked at {listed}")).hint(
                "cargo build --release makes it beside the binary; or name it in TWINSTEP_ATTACH_LIBRARY",
            )
        })?;
        let path = std::fs::canonicalize(found).unwrap_or_else(|_| found.clone());
        if path.to_string_lossy().contains([' ', ':', '\t', '\n']) {
            let text = format!("LD_PRELOAD cannot name {}: it has a space or a colon", path.display());
            return Err(Failure::new("library", text)
                .hint("copy the library elsewhere and name it in TWINSTEP_ATTACH_LIBRARY"));
        }
        Ok(Library { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has a program load it first, before what it preloads anyway; the driver is told of it, too.
    pub(crate) fn preload(&self, command: &mut Command) {
        let mut preload = OsString::from(&self.path);
        if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
            preload.push(":");
            preload.push(others);
        }
        command.env("LD_PRELOAD", preload).env("CUDA_INJECTION64_PATH", &self.path);
    }

    /// Preloads it into a process of our own, which says what it sees and ends. Checks the watch file as well.
    ///
    /// # Errors
    /// Preloading does not work here, or the watch file is wrong.
    pub(crate) fn probe(&self, watch: Option<&Path>) -> Result<Probe, Failure> {
        let blocked = |why: String| {
            Failure::new("library", format!("{} cannot be preloaded here: {why}", self.path.display()))
                .hint("twinstep doctor says what is in the way")
        };
        let binary = std::env::current_exe().map_err(|e| blocked(e.to_string()))?;
        let mut command = Command::new(binary);
        command.arg("--version").stdin(Stdio::null()).env("TWINSTEP_ATTACH_CHECK", "1");
        command.env("TWINSTEP_ATTACH_WATCH", watch.map_or(OsString::new(), OsString::from));
        command.env("LD_PRELOAD", &self.path).env_remove("CUDA_INJECTION64_PATH");
        let output = command.output().map_err(|e| blocked(e.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = |word: &str| {
            text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ').map(str::to_owned))
        };
        if said("twinstep-attach").as_deref() != Some("1") {
            // The loader says on standard error why it left a library out.
            let error = String::from_utf8_lossy(&output.stderr);
            let line = error.lines().find(|line| line.contains("ld.so")).unwrap_or("it was not loaded");
            return Err(blocked(line.to_owned()));
        }
        if let Some(trouble) = said("watch-error") {
            return Err(Failure::new("input", trouble).hint("the watch file's form: twinstep attach --help"));
        }
        let version = said("cuda").and_then(|version| version.parse().ok());
        let missing = || said("cuda-missing").unwrap_or_else(|| "libcuda.so.1 says no version".to_owned());
        Ok(Probe { driver: version.ok_or_else(missing) })
    }
}
