//! The file and its run record: what is known of the process when there is something to write.

use std::sync::PoisonError;

use twinstep_traces::{RunRecord, WriteError};

use super::{Writer, recording};
use crate::process;

impl Writer {
    /// Begins the file, once there is something to write.
    pub(super) fn open(&mut self) -> Result<(), WriteError> {
        if self.ring.is_open() {
            return Ok(());
        }
        let settings = &self.attached.settings;
        let run = self.run_record();
        let (path, recording) = recording::create(settings, &run)?;
        process::report(settings, "recorded", &path.display().to_string());
        *self.attached.writer.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        self.ring.open(path, run, recording)
    }

    pub(super) fn run_record(&self) -> RunRecord {
        let settings = &self.attached.settings;
        let mut mode = if self.captures { "graph" } else { "eager" }.to_owned();
        let mut notes = vec![("engine".to_owned(), "foreign".to_owned())];
        let mut process = vec![
            ("process.command".to_owned(), command_line()),
            ("process.parent".to_owned(), std::os::unix::process::parent_id().to_string()),
            ("process.pid".to_owned(), std::process::id().to_string()),
        ];
        process.extend(settings.rank.map(|rank| ("process.rank".to_owned(), rank.to_string())));
        let (mut model, mut prompt) = (String::new(), String::new());
        for (key, value) in &self.notes {
            match key.as_str() {
                "mode" => mode.clone_from(value),
                "model" => model.clone_from(value),
                "prompt" => prompt.clone_from(value),
                "engine" => {}
                _ => process.push((key.clone(), value.clone())),
            }
        }
        process.sort();
        process.dedup_by(|b, a| a.0 == b.0);
        notes.extend(process);
        RunRecord {
            tool: concat!("twinstep attach ", env!("CARGO_PKG_VERSION")).to_owned(),
            mode,
            model,
            prompt,
            device: self.attached.device.get().cloned().unwrap_or_default(),
            notes,
            ..RunRecord::default()
        }
    }
}

fn command_line() -> String {
    let bytes = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = bytes.split(|&b| b == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
}
