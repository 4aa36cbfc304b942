//! Patches of state: `last_codes=other`, `=other@3:2`, `=self@1`, `=@file.npy`, `hidden[0,17]=1.5`, `last_codes@0=...`.

use std::io::Read;
use std::path::{Path, PathBuf};

use npyz::{DType as NpyType, NpyFile};
use twinstep_traces::{DType, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{At, find};
use crate::patch::wrong;
use crate::selection::{Selection, resolve};
use crate::value::Value;

/// Where the bytes of a patch come from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// The other trace, at this or another step.
    Other(Option<At>),
    /// The same trace at another step.
    Own(At),
    /// A NumPy file.
    File(PathBuf),
    /// Values as typed.
    Values(String),
}

/// A patch of state, made before the step runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatePatch {
    /// As given.
    text: String,
    /// What is patched.
    pub(crate) selection: Selection,
    source: Source,
}

impl StatePatch {
    /// Reads the two sides of a patch as names resolve at `step`.
    ///
    /// # Errors
    /// [`ReplayError::Selection`], [`ReplayError::Place`].
    pub(crate) fn parse(
        trace: &Trace,
        step: &StepRecord,
        target: &str,
        source: &str,
        text: &str,
    ) -> Result<StatePatch, ReplayError> {
        let selection = Selection::parse(trace, step, target)?;
        let source = match source.split_once('@') {
            Some(("other", at)) => Source::Other(Some(at.parse()?)),
            Some(("self", at)) => Source::Own(at.parse()?),
            Some(("", file)) => Source::File(PathBuf::from(file)),
            _ if source == "other" => Source::Other(None),
            _ => Source::Values(source.to_owned()),
        };
        Ok(StatePatch { text: text.to_owned(), selection, source })
    }

    /// The buffer's bytes with the patch made on `present`.
    ///
    /// # Errors
    /// [`ReplayError::Patch`] where the source does not exist or does not fit.
    pub(crate) fn apply(
        &self,
        trace: &Trace,
        other: Option<&Trace>,
        at: At,
        mut present: Vec<u8>,
    ) -> Result<Vec<u8>, ReplayError> {
        let wrong = |what: String| wrong(&self.text, what);
        let Some(record) = trace.buffer(self.selection.buffer) else {
            return Err(wrong("no such buffer".to_owned()));
        };
        let (elements, size) = (self.selection.elements(record), record.dtype.size() as usize);
        let values: Vec<u8> = match &self.source {
            Source::Values(text) => {
                let mut parsed = Vec::new();
                for part in text.split(',') {
                    parsed.push(Value::parse(record.dtype, part).map_err(|e| wrong(e.to_string()))?);
                }
                if parsed.len() == 1 {
                    parsed = vec![parsed[0]; elements.len()];
                }
                if parsed.len() != elements.len() {
                    return Err(wrong(format!(
                        "{} values for the {} elements of `{}`",
                        parsed.len(),
                        elements.len(),
                        self.selection.name
                    )));
                }
                parsed.into_iter().flat_map(Value::to_bytes).collect()
            }
            Source::File(path) => {
                let (shape, bytes) = read_npy(path, record.dtype)?;
                let wanted: Vec<u64> = self.selection.ranges.iter().map(|(a, b)| b - a + 1).collect();
                if shape != wanted {
                    return Err(wrong(format!(
                        "{} has shape {shape:?}, `{}` wants {wanted:?}",
                        path.display(),
                        self.selection.name
                    )));
                }
                bytes
            }
            Source::Other(place) => {
                let other =
                    other.ok_or_else(|| wrong("there is no other trace: give a second one".to_owned()))?;
                self.gather(other, place.unwrap_or(at), record.dtype, &record.shape, &elements)?
            }
            Source::Own(place) => self.gather(trace, *place, record.dtype, &record.shape, &elements)?,
        };
        for (bytes, &element) in values.chunks_exact(size).zip(&elements) {
            present[element as usize * size..][..size].copy_from_slice(bytes);
        }
        Ok(present)
    }

    /// The same elements from a trace at the beginning of a step.
    fn gather(
        &self,
        from: &Trace,
        at: At,
        dtype: DType,
        shape: &[u64],
        elements: &[u64],
    ) -> Result<Vec<u8>, ReplayError> {
        let wrong = |what: String| wrong(&self.text, what);
        let step = find(from, at)?;
        let id = resolve(from, &step, &self.selection.name)?;
        let record = from.buffer(id).ok_or_else(|| wrong("no such buffer".to_owned()))?;
        if record.shape != shape || record.dtype != dtype {
            return Err(wrong(format!(
                "it is {} {:?} there, {} {shape:?} here",
                record.dtype.name(),
                record.shape,
                dtype.name()
            )));
        }
        let before = step.points.iter().find(|p| p.point == "step.before");
        let bytes = match before {
            Some(point) => from.read_buffer(point.snapshot, id)?,
            None => None,
        };
        let bytes = bytes.ok_or_else(|| {
            wrong(format!(
                "`{}` is not recorded at step {at} there: the step does not read it",
                self.selection.name
            ))
        })?;
        let size = dtype.size() as usize;
        Ok(elements.iter().flat_map(|&e| bytes[e as usize * size..][..size].to_vec()).collect())
    }
}

/// Bytes of a NumPy file that are read: more than any state buffer has.
const NPY_BYTES_MAX: u64 = 1 << 30;

/// Shape and little-endian bytes of a NumPy array that must have the given element type.
fn read_npy(path: &Path, dtype: DType) -> Result<(Vec<u64>, Vec<u8>), ReplayError> {
    let wrong = |what: String| ReplayError::File { path: path.to_owned(), what };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
    file.take(NPY_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    let file = NpyFile::new(&bytes[..]).map_err(|e| wrong(format!("no NumPy array: {e}")))?;
    let wanted = match dtype {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
        // NumPy has no bf16: its bits travel as u16.
        DType::Bf16 => "<u2",
    };
    let found = match file.dtype() {
        NpyType::Plain(found) => found.to_string(),
        other => other.descr(),
    };
    if found != wanted {
        return Err(wrong(format!("its elements are {found}, wants {wanted}")));
    }
    if file.order() != npyz::Order::C {
        return Err(wrong("it is in Fortran order; save it with numpy.ascontiguousarray".to_owned()));
    }
    let shape = file.shape().to_vec();
    let expected = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    let expected = expected.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= bytes.len());
    let Some(expected) = expected else { return Err(wrong("it is cut short".to_owned())) };
    Ok((shape, bytes[bytes.len() - expected..].to_vec()))
}
