//! A workspace that cannot hold what the launch's other operands allow.

use twinstep_traces::{LaunchRecord, ScalarValue, ViewRecord};

use super::{Check, Found, Registered, Spot, subject};
use crate::timeline::{Event, Timeline, What};
use crate::{Kind, ReplayError};

/// Positions of a tile of the attention ops.
const TILE: u64 = 64;

pub(super) const CHECK: Registered = Registered {
    name: "undersized-workspace",
    kind: Kind::UndersizedWorkspace,
    explanation: "\
The decode attention's workspace has fewer splits than the block table has room for positions.

Grid and workspace of a captured launch are fixed. Sized for the length that the sequence had at capture,
they are too small later: positions beyond the last split are dropped, the result is plausible and wrong, and
only for long sequences. The launch is reported as soon as it could happen; a step in which it does happen
is one whose seq_len is greater than the limit given.

Seen in: a scalar-paged decode workspace capped at the seq_len seen at capture (1CatAI/1Cat-vLLM PR
#69); a workspace not reserved for the worst case before capture (vllm #44053).

Confirm: `twinstep print RUN.twin seq_lens --at N` against the limit;
`twinstep diff RUN.twin OTHER.twin` differs from the first step beyond it.
Fix: size grids and workspaces for the longest sequence.",
    not_foreign: Some(super::OWN_OPS),
    new: |_| Box::new(UndersizedWorkspace),
};

struct UndersizedWorkspace;

/// Positions that the workspace holds, and those that the block table has room for.
fn capacities(launch: &LaunchRecord) -> Option<(u64, u64, &ViewRecord)> {
    if launch.op != "attention_decode" {
        return None;
    }
    let view = |name: &str| launch.views.iter().find(|v| v.name == name);
    let tiles = launch.scalars.iter().find(|s| s.name == "tiles_per_split")?;
    let ScalarValue::U32(tiles) = tiles.value else { return None };
    let partial = view("partial")?;
    let holds = partial.shape.get(2)?.saturating_mul(tiles.into()).saturating_mul(TILE);
    let (table, cache) = (view("block_table")?.shape.get(1)?, view("k_cache")?.shape.get(1)?);
    Some((holds, table.saturating_mul(*cache), partial))
}

impl Check for UndersizedWorkspace {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        let What::Launch(launch) = event.what else { return Ok(()) };
        let Some((holds, wanted, partial)) = capacities(launch.record).filter(|(a, b, _)| a < b) else {
            return Ok(());
        };
        let message = format!(
            "{} has room for {holds} positions in {} and drops those beyond; the block table allows {wanted}",
            subject(event),
            timeline.label(partial.buffer)
        );
        let key = format!("{} {holds}", partial.buffer.0);
        found.report(&CHECK, timeline, &Spot::of(event), Some(partial.buffer), key, message);
        Ok(())
    }
}
