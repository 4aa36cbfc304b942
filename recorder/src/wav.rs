//! 16-bit mono wav.

use std::io::{Seek, Write};

use crate::error::RecordError;

/// A sample as 16 bits: clipped to [-1, 1], times 32767, truncated toward zero.
pub fn to_i16(sample: f32) -> i16 {
    // `as` takes NaN to 0.
    (sample.clamp(-1.0, 1.0) * 32767.0) as i16
}

/// Writes samples as a 16-bit mono wav file.
///
/// # Errors
/// Those of `writer`.
pub fn write_wav<W: Write + Seek>(writer: W, samples: &[f32], sample_rate: u32) -> Result<(), RecordError> {
    let format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: format };
    let mut wav = hound::WavWriter::new(writer, spec)?;
    samples.iter().try_for_each(|&sample| wav.write_sample(to_i16(sample)))?;
    Ok(wav.finalize()?)
}
