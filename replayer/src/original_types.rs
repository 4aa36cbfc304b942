//! What bytes are: an element type that the format does not name is stored as bytes, and the trace says which it was.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{BufferRecord, DType, Item, ProgramId, Trace};

use crate::ReplayError;
use crate::foreign::is_foreign;

/// Notes of a run begin so that say the type of a buffer: `source.dtype.NAME`, of a later generation
/// `source.dtype.NAME@1`.
const NOTE: &str = "source.dtype.";

/// What follows `NAME is TYPE` in the marks of recorders that learn of a buffer when the run has begun.
const MARKS: [&str; 2] = [
    ": stored as bytes, the last axis is one element",
    ", a type that the format does not name: kept as its bytes",
];

/// Bytes of the largest element that a recorder stores so; NumPy's largest has 32.
const ELEMENT_BYTES_MAX: u64 = 64;

/// Names that a line lists.
const SHOWN: usize = 3;

/// The types of a run's buffers that are stored as bytes.
#[derive(Debug, Default)]
pub(crate) struct OriginalTypes {
    by_label: BTreeMap<(String, u32), String>,
    /// Of names that no note is about.
    by_name: BTreeMap<String, String>,
}

impl OriginalTypes {
    /// Those that the notes and marks of a trace tell.
    pub(crate) fn of(trace: &Trace) -> Result<Self, ReplayError> {
        let mut types = OriginalTypes::default();
        if !is_foreign(trace.run()) || !trace.buffers().iter().any(is_bytes) {
            return Ok(types);
        }
        for (key, dtype) in &trace.run().notes {
            let Some(label) = key.strip_prefix(NOTE) else { continue };
            let (name, generation) = match label.rsplit_once('@') {
                Some((name, generation)) => (name, generation.parse().unwrap_or(0)),
                None => (label, 0),
            };
            types.by_label.insert((name.to_owned(), generation), dtype.clone());
        }
        let noted: BTreeSet<String> = types.by_label.keys().map(|(name, _)| name.clone()).collect();
        for id in 0..trace.program_count() {
            for item in &trace.program(ProgramId(id as u32))?.items {
                let Item::Mark { text } = item else { continue };
                let head = MARKS.iter().find_map(|tail| Some(text.split_once(tail)?.0));
                if let Some((name, dtype)) = head.and_then(|head| head.rsplit_once(" is "))
                    && !noted.contains(name)
                {
                    types.by_name.insert(name.to_owned(), dtype.to_owned());
                }
            }
        }
        Ok(types)
    }

    /// The type of a buffer that is stored as bytes.
    pub(crate) fn get(&self, record: &BufferRecord) -> Option<&str> {
        if !is_bytes(record) || self.is_empty() {
            return None;
        }
        let noted = self.by_label.get(&(record.name.clone(), record.generation));
        noted.or_else(|| self.by_name.get(&record.name)).map(String::as_str)
    }

    /// Whether no buffer is stored so.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.by_name.is_empty()
    }
}

/// Whether a buffer may hold the bytes of other elements, one along its last axis.
fn is_bytes(record: &BufferRecord) -> bool {
    record.dtype == DType::U8 && record.shape.last().is_some_and(|&bytes| bytes <= ELEMENT_BYTES_MAX)
}

/// What two buffers are that look alike and are of other types: `int16 in A, uint16 in B`. Bits without a type (NumPy's
/// `void16`) may be any.
pub(crate) fn pair_differs(
    (a, x): (&OriginalTypes, &BufferRecord),
    (b, y): (&OriginalTypes, &BufferRecord),
) -> Option<String> {
    if !(is_bytes(x) && is_bytes(y)) || x.shape != y.shape {
        return None;
    }
    let (mine, theirs) = (a.get(x).unwrap_or("u8"), b.get(y).unwrap_or("u8"));
    let untyped = |dtype: &str| dtype.starts_with("void");
    (mine != theirs && !untyped(mine) && !untyped(theirs)).then(|| format!("{mine} in A, {theirs} in B"))
}

/// One line on all buffers that are stored as the same bytes and are of other types in the two runs; `None` where there
/// are none.
///
/// # Errors
/// [`ReplayError::Read`].
pub(crate) fn other_types(a: &Trace, b: &Trace) -> Result<Option<String>, ReplayError> {
    let types = (OriginalTypes::of(a)?, OriginalTypes::of(b)?);
    if types.0.is_empty() && types.1.is_empty() {
        return Ok(None);
    }
    let by_label: BTreeMap<(&str, u32), &BufferRecord> =
        b.buffers().iter().map(|y| ((y.name.as_str(), y.generation), y)).collect();
    let mut differ = BTreeMap::new();
    for x in a.buffers() {
        let Some(y) = by_label.get(&(x.name.as_str(), x.generation)) else { continue };
        if let Some(text) = pair_differs((&types.0, x), (&types.1, y)) {
            differ.insert(x.name.clone(), text);
        }
    }
    Ok((!differ.is_empty()).then(|| told(&differ)))
}

/// Buffers and their types in words.
pub(crate) fn told(differ: &BTreeMap<String, String>) -> String {
    let listed: Vec<String> =
        differ.iter().take(SHOWN).map(|(name, text)| format!("{name} ({text})")).collect();
    let more = differ.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("not of the same type, though stored as bytes alike: {}{more}", listed.join(", "))
}

/// Buffers that can hold a NaN and are stored as bytes, in which nobody looks for one: `x (float64), y (void16)`.
pub(crate) fn unread_floats(trace: &Trace) -> Result<Option<String>, ReplayError> {
    let types = OriginalTypes::of(trace)?;
    let mut unread = BTreeMap::new();
    for record in trace.buffers() {
        if let Some(dtype) = types.get(record).filter(|dtype| !dtype.contains("int")) {
            unread.insert(record.name.as_str(), dtype);
        }
    }
    if unread.is_empty() {
        return Ok(None);
    }
    let listed: Vec<String> =
        unread.iter().take(SHOWN).map(|(name, dtype)| format!("{name} ({dtype})")).collect();
    let more = unread.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(Some(format!("{}{more}", listed.join(", "))))
}

#[cfg(test)]
mod tests {
    use twinstep_traces::{
        BufferRecord, MemoryStorage, Program, Role, RunRecord, StepKind, StepRecord, TraceWriter,
    };

    use super::*;

    /// A run of another engine with buffers of eight bytes an element, a note and a mark.
    fn run(notes: &[(&str, &str)], mark: &str) -> Trace {
        let notes = [("engine", "foreign")].iter().chain(notes);
        let notes = notes.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let run = RunRecord { notes, ..RunRecord::default() };
        let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
        for (name, generation) in [("x", 0), ("x", 1), ("y", 0)] {
            writer
                .add_buffer(&BufferRecord {
                    name: name.into(),
                    generation,
                    dtype: DType::U8,
                    shape: vec![2, 8],
                    role: Role::State,
                    bytes: 16,
                    chunk_bytes: 16,
                    address: None,
                    contents: None,
                })
                .unwrap();
        }
        let program = writer.add_program(&Program { items: vec![Item::Mark { text: mark.into() }] }).unwrap();
        writer
            .commit_step(&StepRecord {
                kind: StepKind::Setup,
                request: 0,
                step: 0,
                rank: 0,
                program,
                host_writes: vec![],
                host_reads: vec![],
                points: vec![],
            })
            .unwrap();
        Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
    }

    fn told_of(trace: &Trace) -> Vec<String> {
        let types = OriginalTypes::of(trace).unwrap();
        trace.buffers().iter().map(|b| types.get(b).unwrap_or("-").to_owned()).collect()
    }

    #[test]
    fn notes_and_marks_say_what_bytes_are() {
        let imported = "y is complex64: stored as bytes, the last axis is one element";
        let recorded = "y is int64, a type that the format does not name: kept as its bytes, 8 to an element";
        let notes = [("source.dtype.x", "float64"), ("source.dtype.x@1", "uint64")];
        assert_eq!(told_of(&run(&notes, imported)), ["float64", "uint64", "complex64"]);
        assert_eq!(told_of(&run(&notes[..1], recorded)), ["float64", "-", "int64"]);
        assert_eq!(told_of(&run(&[], "step 1 is slow")), ["-", "-", "-"]);
        // A mark is of all generations.
        let x = "x is float64, a type that the format does not name: kept as its bytes, 8 to an element";
        assert_eq!(told_of(&run(&[], x)), ["float64", "float64", "-"]);
    }

    #[test]
    fn types_that_differ_are_told_and_bits_without_one_are_any() {
        let differ = |x: &str, y: &str| {
            let (a, b) = (run(&[("source.dtype.x", x)], ""), run(&[("source.dtype.x", y)], ""));
            other_types(&a, &b).unwrap()
        };
        assert_eq!(differ("float64", "float64"), None);
        assert_eq!(differ("void64", "float64"), None);
        let told = "not of the same type, though stored as bytes alike: x (float64 in A, complex64 in B)";
        assert_eq!(differ("float64", "complex64").as_deref(), Some(told));
        // Without a word they are the bytes that they look like.
        let bytes = other_types(&run(&[("source.dtype.x", "float64")], ""), &run(&[], "")).unwrap();
        assert!(bytes.unwrap().ends_with("x (float64 in A, u8 in B)"));
    }
}
