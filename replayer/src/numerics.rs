//! Which numerics a run was computed with: the versions of its ops' contracts.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_kernels::Op;
use twinstep_traces::{Item, ProgramId, Trace};

use crate::ReplayError;

/// Versions by op, of all launches of a run that can be executed again.
type Versions = BTreeMap<String, BTreeSet<u32>>;

fn versions(trace: &Trace) -> Result<Versions, ReplayError> {
    let mut versions = Versions::new();
    for id in 0..trace.program_count() {
        let program = trace.program(ProgramId(id as u32))?;
        for item in &program.items {
            if let Item::Launch(launch) = item {
                versions.entry(launch.op.clone()).or_default().insert(launch.version);
            }
        }
    }
    Ok(versions)
}

/// Whether this build has an op of that name, if of other versions only.
fn known(name: &str) -> Option<(u32, u32)> {
    let op = Op::ALL.iter().find(|op| op.name() == name)?;
    Some((op.schema().since, op.schema().version))
}

fn said(versions: &BTreeSet<u32>) -> String {
    versions.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ")
}

/// Whether steps of both runs can be executed here and compared: all ops that this build has are of versions
/// that it has. Those mean the same, whichever of them it is.
///
/// # Errors
/// [`ReplayError::Numerics`] with the first op, by name, of a version that is not known, and what the other run has.
pub(crate) fn same_numerics(a: &Trace, b: &Trace) -> Result<(), ReplayError> {
    let (x, y) = (versions(a)?, versions(b)?);
    for (side, mine, other, theirs, trace) in [("A", &x, "B", &y, a), ("B", &y, "A", &x, b)] {
        for (op, found) in mine {
            let Some((since, newest)) = known(op) else { continue };
            if found.iter().all(|version| (since..=newest).contains(version)) {
                continue;
            }
            let tool = &trace.run().tool;
            let beside = match theirs.get(op) {
                Some(theirs) if theirs != found => format!(", version {} in {other}", said(theirs)),
                _ => String::new(),
            };
            let here = if since == newest { newest.to_string() } else { format!("{since} to {newest}") };
            return Err(ReplayError::Numerics(format!(
                "`{op}` has numerics version {} in {side}, recorded by {tool}{beside}; this build has version {here}",
                said(found)
            )));
        }
    }
    Ok(())
}
