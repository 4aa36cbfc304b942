//! The first NaN or infinity in a snapshot, and its producer.

use std::collections::{BTreeSet, HashSet};

use twinstep_traces::{BufferId, ChunkHash, DType, Role, SnapshotId, Trace};

use super::{Check, Found, Registered, Spot};
use crate::between::{Intervals, describe_all};
use crate::foreign::is_foreign;
use crate::original_types::unread_floats;
use crate::selection::index_of;
use crate::timeline::{By, Event, Timeline, What, Writer, launch_of};
use crate::value::{Value, is_float};
use crate::{Kind, ReplayError};

/// Operands in which -inf is a value like any other: masked logits, the greatest score of no position.
const NEGATIVE_INFINITY: &[(&str, &str)] = &[("delay_mask", "out"), ("attention_decode", "partial")];

pub(super) const CHECK: Registered = Registered {
    name: "nonfinite",
    kind: Kind::RuleBroken,
    explanation: "\
A state, input or output buffer of floats holds a NaN or an infinity.

One NaN spreads to everything that is computed from it, so only the first snapshot that shows one is
reported, with the buffer whose writer comes first. -inf is legal where an op writes it on purpose (masked
logits). Such a value often comes from memory that was never computed, from padding rows, or from a
workspace that somebody else overwrote.

Seen in: NaN on later cycles from a buffer that aliases graph intermediates (tracel-ai/cubecl #1612);
poisoning the pool with NaN is how reads of unwritten memory are made visible (reference, section 8).

Confirm: `twinstep print RUN.twin NAME --at N --after`; `twinstep history RUN.twin 'NAME[i,j]' --at N
--after` names the launch and who wrote its inputs.",
    not_foreign: None,
    new: |_| Box::new(Nonfinite::default()),
};

#[derive(Default)]
struct Nonfinite {
    /// Chunks known to be finite.
    finite: HashSet<(ChunkHash, DType)>,
    done: bool,
    /// Buffers of another engine that were covered before, and those whose first snapshot was not finite.
    covered: BTreeSet<BufferId>,
    born: BTreeSet<BufferId>,
}

/// A value that is not finite, and who wrote it.
struct Hit {
    buffer: BufferId,
    element: u64,
    value: Value,
    writer: Option<Writer>,
}

impl Check for Nonfinite {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        let What::Point(point) = event.what else { return Ok(()) };
        if self.done {
            return Ok(());
        }
        let trace = timeline.trace();
        let mut hits: Vec<Hit> = Vec::new();
        for change in trace.changes(point.snapshot)? {
            let Some(record) = trace.buffer(change.buffer) else { continue };
            let looked_at = matches!(record.role, Role::State | Role::Input | Role::Output);
            let known = self.finite.contains(&(change.hash, record.dtype));
            if !looked_at || !is_float(record.dtype) || known {
                continue;
            }
            let Some(bytes) = trace.read_chunk(point.snapshot, change.buffer, change.chunk)? else {
                continue;
            };
            let first = change.chunk * u64::from(record.chunk_bytes) / record.dtype.size();
            let values = (first..).zip(Value::all(record.dtype, bytes));
            let mut clean = true;
            for (element, value) in values.filter(|(_, v)| !v.to_f64().is_finite()) {
                clean = false;
                let at = element * record.dtype.size();
                let writer = timeline.writers(change.buffer, at, at + 1).next().and_then(|p| p.writer);
                if !self.covered.contains(&change.buffer)
                    && is_foreign(trace.run())
                    && self.born.insert(change.buffer)
                {
                    found.note(format!(
                        "nonfinite: {} is not finite since it was first looked at",
                        timeline.label(change.buffer)
                    ));
                }
                if hits.last().is_none_or(|h| h.buffer != change.buffer)
                    && !legal(timeline, change.buffer, value, writer.as_ref())
                {
                    hits.push(Hit { buffer: change.buffer, element, value, writer });
                }
            }
            if clean {
                self.finite.insert((change.hash, record.dtype));
            }
        }
        if is_foreign(trace.run()) {
            // What fresh memory of another engine holds is not known, and nobody may read it.
            hits.retain(|hit| self.covered.contains(&hit.buffer) && !self.born.contains(&hit.buffer));
            self.covered.extend(trace.covered(point.snapshot)?);
        }
        // The buffer whose writer comes first.
        let first = hits.iter().min_by_key(|h| h.writer.map_or(0, |w| w.time));
        let Some(hit) = first else { return Ok(()) };
        self.done = true;
        let shape = trace.buffer(hit.buffer).map_or(&[][..], |b| &b.shape);
        let index: Vec<String> = index_of(hit.element, shape).iter().map(u64::to_string).collect();
        let by = match hit.writer {
            Some(writer) => format!(", written by {}", timeline.describe(&writer)),
            None => "; who wrote it is not known".to_owned(),
        };
        let name = trace.buffer(hit.buffer).map_or("", |b| &b.name);
        let mut message = format!("{name}[{}] is {} at {}{by}", index.join(","), hit.value, point.point);
        if is_foreign(trace.run()) {
            message += &since(trace, hit.buffer, point.snapshot)?;
        }
        if hits.len() > 1 {
            message += &format!("; so are values of {} more buffers", hits.len() - 1);
        }
        let mut spot = Spot::of(event);
        if let Some(Writer { by: By::Launch(number), step, .. }) = hit.writer
            && step == event.index
        {
            spot.node = Some(number);
            let launch = hit.writer.and_then(|w| launch_of(trace, event.step, &w));
            spot.graph = launch.and_then(|(_, graph)| graph).map(|(graph, _)| graph.0);
        }
        found.report(&CHECK, timeline, &spot, Some(hit.buffer), String::new(), message);
        Ok(())
    }

    fn finish(&mut self, timeline: &Timeline<'_>, found: &mut Found) -> Result<(), ReplayError> {
        if let Some(unread) = unread_floats(timeline.trace())? {
            found.note(format!(
                "nonfinite: of types that the format does not name, stored as bytes: {unread}"
            ));
        }
        Ok(())
    }
}

/// The last point at which a buffer was seen before, and what ran since.
fn since(trace: &Trace, buffer: BufferId, snapshot: SnapshotId) -> Result<String, ReplayError> {
    let intervals = Intervals::of(trace)?;
    let Some(at) = intervals.ending_at(snapshot) else { return Ok(String::new()) };
    let Some(&since) = intervals.list[at].changed.get(&buffer) else { return Ok(String::new()) };
    let from = intervals.list[since].to.name();
    let ran = describe_all(trace, intervals.ran(since, at))?;
    Ok(match ran.as_slice() {
        [] => format!("; it was finite at {from}, and nothing that is recorded ran in between"),
        ran => format!("; it was finite at {from}, and in between ran {}", ran.join(", ")),
    })
}

/// Whether the value is one that its producer writes on purpose, or may do so for all that is known.
fn legal(timeline: &Timeline<'_>, buffer: BufferId, value: Value, writer: Option<&Writer>) -> bool {
    if value.to_f64() != f64::NEG_INFINITY {
        return false;
    }
    let Some(writer) = writer else { return true };
    match writer.by {
        By::Launch(_) => {
            let Ok(step) = timeline.trace().step(writer.step as usize) else { return true };
            let Some((launch, _)) = launch_of(timeline.trace(), &step, writer) else { return true };
            let operands = launch.views.iter().filter(|v| v.buffer == buffer);
            let mut pairs = operands.map(|v| (launch.op.as_str(), v.name.as_str()));
            pairs.any(|pair| NEGATIVE_INFINITY.contains(&pair))
        }
        By::Foreign | By::Host(_) => true,
        By::Fresh | By::Loaded => false,
    }
}
