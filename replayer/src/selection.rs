//! Buffers and parts of them: `last_codes`, `last_codes@0`, `hidden[0,17]`, `codes_out[0,:]`, `kv_cache.0[0,1-3]`.

use twinstep_traces::{BufferId, BufferRecord, GraphId, SnapshotId, StepRecord, Trace};

use crate::ReplayError;
use crate::at::{find_index, place};
use crate::lifetime::Lifetimes;
use crate::suggest::{did_you_mean, nearest};

/// A part of a buffer: inclusive index ranges along its leading axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Which buffer.
    pub buffer: BufferId,
    /// Its name with generation where the user gave one.
    pub name: String,
    /// First and last index along each axis.
    pub ranges: Vec<(u64, u64)>,
    /// Whether all of the buffer is meant.
    pub whole: bool,
}

impl Selection {
    /// Finds a buffer and checks the indices, as names resolve at `step`.
    ///
    /// # Errors
    /// [`ReplayError::Selection`] with the nearest names, or the shape.
    pub fn parse(trace: &Trace, step: &StepRecord, text: &str) -> Result<Selection, ReplayError> {
        Self::parse_at(trace, step, None, text)
    }

    /// As [`Selection::parse`], where a name alone means what it meant at a snapshot of the step: before a step
    /// that allocates new memory under a name, the old memory.
    ///
    /// # Errors
    /// As [`Selection::parse`].
    pub(crate) fn parse_at(
        trace: &Trace,
        step: &StepRecord,
        snapshot: Option<SnapshotId>,
        text: &str,
    ) -> Result<Selection, ReplayError> {
        let wrong = |what: String| ReplayError::Selection(what);
        // Engines name buffers `layers[0].k`: such a name is taken as it is, and the last bracket selects.
        let named = trace.find_buffer(text, None).is_some();
        let (name, index) = match text.rsplit_once('[').filter(|_| !named) {
            Some((name, rest)) => {
                let index =
                    rest.strip_suffix(']').ok_or_else(|| wrong(format!("`{text}`: `[` without `]`")))?;
                (name, Some(index))
            }
            None => (text, None),
        };
        // A scalar has no axis: what is shown as `x[]`.
        let index = index.filter(|index| !index.trim().is_empty());
        let buffer = resolve_at(trace, step, snapshot, name)?;
        let Some(record) = trace.buffer(buffer) else { return Err(wrong(format!("no buffer `{name}`"))) };
        let mut ranges: Vec<(u64, u64)> = record.shape.iter().map(|&n| (0, n.saturating_sub(1))).collect();
        let parts: Vec<&str> = index.map_or(Vec::new(), |index| index.split(',').map(str::trim).collect());
        if parts.len() > ranges.len() {
            return Err(wrong(format!(
                "`{text}` has {} indices, `{name}` has shape {:?}",
                parts.len(),
                record.shape
            )));
        }
        for (axis, part) in parts.iter().enumerate() {
            if *part == ":" {
                continue;
            }
            let number = |text: &str| text.trim().parse::<u64>().ok();
            let range = match part.split_once('-') {
                Some((a, b)) => number(a).zip(number(b)),
                None => number(part).map(|n| (n, n)),
            };
            let (a, b) =
                range.ok_or_else(|| wrong(format!("`{part}` in `{text}` is no index: write 3, 2-4 or :")))?;
            if a > b || b >= record.shape[axis] {
                return Err(wrong(format!(
                    "index {part} of `{text}` is out of range: `{name}` has shape {:?}",
                    record.shape
                )));
            }
            ranges[axis] = (a, b);
        }
        Ok(Selection { buffer, name: name.to_owned(), ranges, whole: index.is_none() })
    }

    /// How many elements are selected.
    pub fn count(&self, record: &BufferRecord) -> u64 {
        if record.shape.contains(&0) {
            return 0;
        }
        // No more than the buffer has, whose size was checked.
        self.ranges.iter().fold(1, |count, (a, b)| count * (b - a + 1))
    }

    /// Flat index of the `n`-th of the selected elements in row-major order, counted from 0, in a buffer of a shape.
    pub(crate) fn element(&self, n: u64, shape: &[u64]) -> u64 {
        let (mut rest, mut flat, mut stride) = (n, 0, 1);
        for (&(a, b), &length) in self.ranges.iter().zip(shape).rev() {
            flat += (a + rest % (b - a + 1)) * stride;
            rest /= b - a + 1;
            stride *= length;
        }
        flat
    }

    /// Flat indices of the elements, in row-major order.
    pub fn elements(&self, record: &BufferRecord) -> Vec<u64> {
        let mut flat = vec![0];
        for (&(a, b), &n) in self.ranges.iter().zip(&record.shape) {
            flat = flat.iter().flat_map(|base| (a..=b).map(move |i| base * n + i)).collect();
        }
        if record.shape.contains(&0) { Vec::new() } else { flat }
    }
}

/// Position of a flat element along each axis.
pub(crate) fn index_of(flat: u64, shape: &[u64]) -> Vec<u64> {
    let mut rest = flat;
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&n| {
            let i = rest % n.max(1);
            rest /= n.max(1);
            i
        })
        .collect();
    index.reverse();
    index
}

/// The buffer that a name, with or without `@generation`, means at a step.
///
/// # Errors
/// [`ReplayError::Selection`] with the nearest names.
pub(crate) fn resolve(trace: &Trace, step: &StepRecord, name: &str) -> Result<BufferId, ReplayError> {
    resolve_at(trace, step, None, name)
}

/// As [`resolve`]; of several generations one that the snapshot covers is meant.
pub(crate) fn resolve_at(
    trace: &Trace,
    step: &StepRecord,
    snapshot: Option<SnapshotId>,
    name: &str,
) -> Result<BufferId, ReplayError> {
    let (bare, generation) = name.rsplit_once('@').map_or((name, None), |(bare, text)| (bare, Some(text)));
    let of_name: Vec<(usize, &BufferRecord)> =
        trace.buffers().iter().enumerate().filter(|(_, b)| b.name == bare).collect();
    if of_name.is_empty() {
        let near = nearest(bare, trace.buffers().iter().map(|b| b.name.as_str()));
        return Err(ReplayError::Selection(format!(
            "no buffer `{bare}` in this trace{}",
            did_you_mean(&near)
        )));
    }
    let found = match generation {
        Some(text) => {
            let wrong = || {
                let form = format!("write {bare}@0, or {bare}@g3 for what graph 3 bound");
                ReplayError::Selection(format!("`{name}`: `{text}` is no generation; {form}"))
            };
            if let Some(graph) = text.strip_prefix('g') {
                return bound_by(trace, GraphId(graph.parse().map_err(|_| wrong())?), bare);
            }
            let generation: u32 = text.parse().map_err(|_| wrong())?;
            of_name.iter().find(|(_, b)| b.generation == generation)
        }
        None if of_name.len() == 1 => of_name.first(),
        None => {
            let lifetimes = Lifetimes::of(trace)?;
            let index = place(step).map_or(Ok(0), |at| find_index(trace, at))?;
            let live = |i: usize| lifetimes.live(BufferId(i as u32), index);
            let mut best = of_name.last().map(|found| (0, found));
            for found in of_name.iter().rev() {
                let id = BufferId(found.0 as u32);
                let covered = snapshot.map_or(Ok(false), |snapshot| trace.covers(snapshot, id))?;
                let rank = 2 * u8::from(covered) + u8::from(live(found.0));
                if best.is_none_or(|(other, _)| other < rank) {
                    best = Some((rank, found));
                }
            }
            best.map(|(_, found)| found)
        }
    };
    let missing = || {
        ReplayError::Selection(format!(
            "no buffer `{name}`: `{bare}` has generations 0 to {}",
            of_name.len() - 1
        ))
    };
    found.map(|(i, _)| BufferId(*i as u32)).ok_or_else(missing)
}

/// The generation of a name that a graph's nodes are bound to.
fn bound_by(trace: &Trace, graph: GraphId, bare: &str) -> Result<BufferId, ReplayError> {
    let nodes = crate::program::nodes(trace, graph)?;
    let bound = |v: &&twinstep_traces::ViewRecord| trace.buffer(v.buffer).is_some_and(|b| b.name == bare);
    let found = nodes.iter().flat_map(|node| &node.views).find(bound).map(|v| v.buffer);
    found.ok_or_else(|| ReplayError::Selection(format!("graph {} binds no `{bare}`", graph.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use twinstep_traces::{DType, Role};

    use super::*;

    fn selection() -> impl Strategy<Value = (BufferRecord, Selection)> {
        let axis = (1u64..6).prop_flat_map(|n| (Just(n), 0..n, 0..n));
        proptest::collection::vec(axis, 0..4).prop_map(|axes| {
            let shape: Vec<u64> = axes.iter().map(|axis| axis.0).collect();
            let ranges = axes.iter().map(|&(_, a, b)| (a.min(b), a.max(b))).collect();
            let record = BufferRecord {
                name: "x".to_owned(),
                generation: 0,
                dtype: DType::U8,
                bytes: shape.iter().product(),
                shape,
                role: Role::State,
                chunk_bytes: 8,
                address: None,
                contents: None,
            };
            (record, Selection { buffer: BufferId(0), name: "x".to_owned(), ranges, whole: false })
        })
    }

    proptest! {
        #[test]
        fn elements_one_at_a_time_are_those_of_the_list((record, selection) in selection()) {
            let one_by_one: Vec<u64> =
                (0..selection.count(&record)).map(|n| selection.element(n, &record.shape)).collect();
            prop_assert_eq!(one_by_one, selection.elements(&record));
        }
    }
}
