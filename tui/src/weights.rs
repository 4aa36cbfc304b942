//! Where the weights of a trace are found.

use std::path::PathBuf;

use twinstep_recorder::{CODEC_FILE, TALKER_FILE, Voice};
use twinstep_replayer::{ReplayError, WeightFolder, WeightSource};

/// `--weights` where given, else the embedded voice.
pub(crate) struct Weights {
    folder: Option<WeightFolder>,
    embedded: Option<Voice>,
}

impl Weights {
    pub(crate) fn new(folder: Option<&PathBuf>) -> Self {
        let embedded = if folder.is_none() { Voice::embedded().ok() } else { None };
        Weights { folder: folder.cloned().map(WeightFolder), embedded }
    }
}

impl WeightSource for Weights {
    fn file(&self, name: &str) -> Result<Vec<u8>, ReplayError> {
        if let Some(folder) = &self.folder {
            return folder.file(name);
        }
        let found = self.embedded.as_ref().and_then(|voice| voice.file(name)).map(<[u8]>::to_vec);
        found.ok_or_else(|| {
            ReplayError::Weights(format!("the embedded voice has {TALKER_FILE} and {CODEC_FILE}, the trace wants `{name}`; give the model's folder with --weights"))
        })
    }
}
