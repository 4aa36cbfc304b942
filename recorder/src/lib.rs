//! Speaks a text with a recorded decode loop: text, talker, sampler, codec, wav.
//!
//! The model code emits launches to a tape and nothing else; the tape passes them on to a stream and,
//! where a trace is recorded, logs launches, host writes and reads, and snapshots what each step reads
//! before it writes it.
//!
//! `import` makes traces of another engine's dumps.

mod buffers;
mod capture;
mod codec;
pub mod config;
mod convert;
mod error;
mod fault;
mod import;
mod options;
mod plan;
pub mod profile;
mod ranges;
mod rope;
mod rules;
mod session;
mod sharing;
mod talker;
mod tape;
pub mod text;
mod voice;
mod wav;

pub use error::RecordError;
pub use fault::{About, Fault, Needs};
pub use import::{
    ImportError, ImportOptions, ImportReport, ImportedBuffer, ImportedRequest, ImportedTrace, import,
};
pub use options::{KvType, Mode, ROWS_MAX, RecordOptions, WeightsType};
pub use rules::RULES;
pub use session::{Progress, Recording, Spoken, record, run_record, speakable};
pub use talker::Sampling;
pub use voice::{CODEC_FILE, CONFIG_FILE, TALKER_FILE, Voice};
pub use wav::{to_i16, write_wav};
