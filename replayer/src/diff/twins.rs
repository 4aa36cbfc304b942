//! Which buffers of two snapshots are compared.

use std::collections::BTreeSet;

use twinstep_traces::{BufferId, SnapshotId, Trace};

use crate::ReplayError;
use crate::pairing::Pairing;

/// Names that both runs have a buffer of.
pub(crate) struct CommonNames(BTreeSet<String>);

impl CommonNames {
    pub(crate) fn of(a: &Trace, b: &Trace) -> CommonNames {
        let names = |trace: &Trace| trace.buffers().iter().map(|b| b.name.clone()).collect::<BTreeSet<_>>();
        CommonNames(names(a).intersection(&names(b)).cloned().collect())
    }

    /// The buffer of B's snapshot that a buffer of A's snapshot is compared with: the one that it is paired with in this
    /// step, or, where a run allocates anew within the step, the newest generation of the name in each snapshot.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub(crate) fn twin(
        &self,
        (a, sa, id): (&Trace, SnapshotId, BufferId),
        (b, sb): (&Trace, SnapshotId),
        pairing: &Pairing,
    ) -> Result<Option<BufferId>, ReplayError> {
        if let Some(twin) = pairing.of(id)
            && b.covers(sb, twin)?
        {
            return Ok(Some(twin));
        }
        let Some(record) = a.buffer(id).filter(|record| self.0.contains(&record.name)) else {
            return Ok(None);
        };
        let newest = |trace: &Trace, snapshot| -> Result<Option<BufferId>, ReplayError> {
            let generation =
                |id: &BufferId| trace.buffer(*id).filter(|b| b.name == record.name).map(|b| b.generation);
            let covered = trace.covered(snapshot)?.into_iter();
            Ok(covered.filter(|id| generation(id).is_some()).max_by_key(generation))
        };
        if newest(a, sa)? != Some(id) {
            return Ok(None);
        }
        let Some(twin) = newest(b, sb)? else { return Ok(None) };
        // Not where it is compared with another one there.
        match pairing.reversed_of(twin) {
            Some(other) if other != id && a.covers(sa, other)? => Ok(None),
            _ => Ok(Some(twin)),
        }
    }
}
