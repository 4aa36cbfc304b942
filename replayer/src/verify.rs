//! Is a trace sound, and does executing it again give what was recorded?

use serde::Serialize;
use twinstep_traces::{Item, Trace};

use crate::ReplayError;
use crate::at::place;
use crate::cursor::ByteCursor;
use crate::machine::Machine;
use crate::selection::index_of;
use crate::value::Value;
use crate::weights::WeightSource;

/// Differences listed; more are only counted.
const LISTED: usize = 20;

/// `twinstep.verify/1`.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Document type.
    pub schema: &'static str,
    /// No damage, and where replayed no difference.
    pub ok: bool,
    /// Whether the recording was closed cleanly.
    pub complete: bool,
    /// Steps executed again, codec sections included; 0 without `--replay`.
    pub steps_replayed: u64,
    /// Snapshots compared bit for bit; 0 without `--replay`.
    pub snapshots_compared: u64,
    /// Bytes after the last commit, ignored.
    pub uncommitted_bytes: u64,
    /// What is wrong.
    pub damage: Vec<DamageReport>,
    /// Places of damage beyond those listed.
    pub damage_omitted: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct DamageReport {
    /// Byte of the file, where that is known.
    pub offset: Option<u64>,
    /// What is wrong there.
    pub what: String,
}

/// Checks every checksum, hash and reference.
pub fn verify(trace: &Trace) -> VerifyReport {
    let found = trace.verify();
    let damage: Vec<_> =
        found.damage.iter().map(|d| DamageReport { offset: Some(d.offset), what: d.what.clone() }).collect();
    VerifyReport {
        schema: "twinstep.verify/1",
        ok: found.ok(),
        complete: found.complete,
        steps_replayed: 0,
        snapshots_compared: 0,
        uncommitted_bytes: found.uncommitted_bytes,
        damage,
        damage_omitted: found.damage_omitted,
    }
}

/// Checks, then executes everything again from the initial state with the logged host writes and compares
/// every snapshot and host read bit for bit.
///
/// # Errors
/// [`ReplayError`] where something cannot be executed here.
pub fn verify_replay(
    trace: &Trace,
    weights: &dyn WeightSource,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<VerifyReport, ReplayError> {
    let mut report = verify(trace);
    if !report.ok {
        return Ok(report);
    }
    let mut machine = Machine::new(trace, weights)?;
    let mut recorded = ByteCursor::new(trace);
    for index in 0..trace.step_count() {
        progress(index, trace.step_count());
        replay_step(trace, &mut machine, index, &mut recorded, &mut report)?;
    }
    report.ok = report.damage.is_empty();
    Ok(report)
}

fn replay_step(
    trace: &Trace,
    machine: &mut Machine<'_>,
    index: usize,
    cursor: &mut ByteCursor<'_>,
    report: &mut VerifyReport,
) -> Result<(), ReplayError> {
    let step = trace.step(index)?;
    let program = trace.program(step.program)?;
    let name = place(&step).map_or("set-up".to_owned(), |at| format!("step {at}"));
    for position in 0..=program.items.len() {
        let here = |p: u32| p as usize == position;
        for write in step.host_writes.iter().filter(|w| here(w.position)) {
            machine.write(write.buffer, write.offset, &write.bytes)?;
        }
        for point in step.points.iter().filter(|p| here(p.position)) {
            cursor.advance(point.snapshot)?;
            for id in trace.covered(point.snapshot)? {
                let recorded = cursor.of(id);
                let replayed = machine.whole(id)?;
                if recorded != replayed {
                    mismatch(trace, id, &format!("{name}, {}", point.point), (recorded, &replayed), report);
                }
            }
            report.snapshots_compared += 1;
        }
        for read in step.host_reads.iter().filter(|r| here(r.position)) {
            let replayed = machine.read(read.buffer, read.offset, read.bytes.len())?;
            if replayed != read.bytes {
                mismatch(trace, read.buffer, &format!("{name}, host read"), (&read.bytes, &replayed), report);
            }
        }
        match program.items.get(position) {
            Some(Item::Allocate { buffer }) => machine.allocate(*buffer)?,
            Some(Item::Free { buffer }) => machine.free(*buffer)?,
            Some(_) => run_item(trace, machine, &step, position as u32)?,
            None => {}
        }
    }
    report.steps_replayed += u64::from(place(&step).is_some());
    Ok(())
}

fn run_item(
    trace: &Trace,
    machine: &mut Machine<'_>,
    step: &twinstep_traces::StepRecord,
    item: u32,
) -> Result<(), ReplayError> {
    let program = trace.program(step.program)?;
    let run = |machine: &mut Machine<'_>, item: &Item| match item {
        Item::Launch(record) => {
            let launch = machine.launch(record)?;
            machine.run(&launch)
        }
        _ => Err(ReplayError::Opaque("a graph holds something other than launches".to_owned())),
    };
    match &program.items[item as usize] {
        launch @ Item::Launch(_) => run(machine, launch),
        Item::GraphLaunch { graph, .. } => {
            let missing = || ReplayError::Opaque(format!("graph {} is not in the trace", graph.0));
            let graph = trace.graph(*graph).ok_or_else(missing)?;
            trace.program(graph.program)?.items.iter().try_for_each(|node| run(machine, node))
        }
        Item::Capture { .. }
        | Item::DestroyGraph { .. }
        | Item::EventRecord { .. }
        | Item::EventWait { .. }
        | Item::Mark { .. } => Ok(()),
        // Names what it is.
        _ => crate::program::launches(trace, step).map(drop),
    }
}

fn mismatch(
    trace: &Trace,
    id: twinstep_traces::BufferId,
    place: &str,
    (recorded, replayed): (&[u8], &[u8]),
    report: &mut VerifyReport,
) {
    if report.damage.len() >= LISTED {
        report.damage_omitted += 1;
        return;
    }
    let Some(buffer) = trace.buffer(id) else { return };
    let size = buffer.dtype.size() as usize;
    let at = recorded.iter().zip(replayed).position(|(a, b)| a != b).unwrap_or(0) / size;
    let value = |bytes: &[u8]| {
        let element = bytes.get(at * size..(at + 1) * size);
        element
            .and_then(|e| Value::from_bytes(buffer.dtype, e))
            .map_or("nothing".to_owned(), |v| v.to_string())
    };
    let what = format!(
        "{place}: {}{:?} was recorded as {}, executed again it is {}",
        buffer.name,
        index_of(at as u64, &buffer.shape),
        value(recorded),
        value(replayed)
    );
    report.damage.push(DamageReport { offset: None, what });
}
