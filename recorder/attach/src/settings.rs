//! What the environment asks for: `TWINSTEP_ATTACH_*`, set by `twinstep attach`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::start::StartOn;
use crate::watch::WatchFile;

/// How this process is recorded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The first process's trace; others are named after it.
    pub out: PathBuf,
    /// Files last changed before this moment (nanoseconds since 1970) may be replaced; 0: none may.
    pub replace_before: u64,
    /// Where trouble is told, and which files were written: `twinstep attach` reads it at the end.
    pub report: Option<PathBuf>,
    /// What to watch.
    pub watch: WatchFile,
    /// Whether kernels launched by themselves are recorded.
    pub launches: bool,
    /// Bytes that the trace may have, where only the last steps are kept.
    pub ring: Option<u64>,
    /// When recording begins.
    pub start_on: StartOn,
    /// The process's rank, where the launcher of a distributed run says one.
    pub rank: Option<u32>,
}

impl Settings {
    /// Reads the environment. `None` where nobody asked for a recording.
    ///
    /// # Errors
    /// One line on what is wrong.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let Some(out) = variable("OUT").filter(|out| !out.is_empty()) else { return Ok(None) };
        let text =
            |name: &str| variable(name).map(|v| v.to_string_lossy().into_owned()).filter(|v| !v.is_empty());
        let number = |name: &str| {
            let value = text(name)
                .map(|v| v.parse::<u64>().map_err(|_| format!("TWINSTEP_ATTACH_{name}={v} is no number")));
            value.transpose()
        };
        let mut watch = match variable("WATCH").filter(|w| !w.is_empty()) {
            Some(path) => WatchFile::open(&PathBuf::from(path)).map_err(|e| e.to_string())?,
            None => WatchFile::default(),
        };
        if let Some(bytes) = number("AUTO_BYTES")? {
            watch.auto_bytes = Some(bytes);
        }
        let rank = ["RANK", "LOCAL_RANK"].iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
        Ok(Some(Settings {
            out: absolute(out),
            replace_before: number("REPLACE_BEFORE")?.unwrap_or(0),
            report: variable("REPORT").filter(|r| !r.is_empty()).map(PathBuf::from),
            watch,
            launches: text("LAUNCHES").is_some_and(|v| v != "0"),
            ring: number("RING")?.filter(|&bytes| bytes > 0),
            start_on: text("START_ON").map_or(Ok(StartOn::Now), |v| v.parse())?,
            rank,
        }))
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(format!("TWINSTEP_ATTACH_{name}"))
}

/// Programs change their folder; the trace stays where it was asked for.
fn absolute(path: OsString) -> PathBuf {
    let path = PathBuf::from(path);
    std::path::absolute(&path).unwrap_or(path)
}
