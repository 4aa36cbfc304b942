//! A bit of the `op_faults` buffer is set.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_kernels::fault;
use twinstep_traces::BufferId;

use super::{Check, Found, Registered, Spot, subject};
use crate::timeline::{Event, Timeline, What};
use crate::{Kind, ReplayError};

/// Which ops set which bit.
const SETTERS: &[(u32, &[&str])] = &[
    (fault::TEXT_ID, &["embed_text"]),
    (fault::CODE, &["embed_codes"]),
    (fault::POSITION, &["qk_norm_rope"]),
    (fault::SLOT, &["kv_write"]),
    (fault::BLOCK, &["attention_decode", "attention_prefill"]),
    (fault::SEQ_LEN, &["attention_decode", "attention_prefill"]),
    (fault::CODEC_CODE, &["rvq_decode"]),
];

pub(super) const CHECK: Registered = Registered {
    name: "op-faults",
    kind: Kind::RuleBroken,
    explanation: "\
An op met an index out of range and set a bit in `op_faults`.

Index operands are checked inside the op: out of range it reads zeros or writes nothing, sets a bit and goes
on, where a real kernel would read or write memory of somebody else. The bits: text_id, code, position,
slot, block, seq_len, codec_code. Bits stay set, so the first step that shows one is named.

Seen in: slots and lengths of padded rows that were filled with the wrong value (sglang #1094, #1469,
vllm #25251), there as an illegal access.

Confirm: `twinstep print RUN.twin op_faults --at N --after`; then print the index operand of the launch:
`twinstep print RUN.twin slot_mapping --at N`.",
    not_foreign: Some(super::OWN_OPS),
    new: |_| Box::new(OpFaults::default()),
};

#[derive(Default)]
struct OpFaults {
    /// Bits seen of each buffer that is an operand of that name.
    seen: BTreeMap<BufferId, u32>,
    /// The first launch of each op in this step.
    launches: BTreeMap<String, (Spot, String)>,
}

impl Check for OpFaults {
    fn event(
        &mut self,
        timeline: &Timeline<'_>,
        event: &Event<'_>,
        found: &mut Found,
    ) -> Result<(), ReplayError> {
        match event.what {
            What::Begin => self.launches.clear(),
            What::Launch(launch) => {
                for view in launch.record.views.iter().filter(|v| v.name == "op_faults") {
                    self.seen.entry(view.buffer).or_default();
                    if !self.launches.contains_key(&launch.record.op) {
                        self.launches.insert(launch.record.op.clone(), (Spot::of(event), subject(event)));
                    }
                }
            }
            What::Point(point) => {
                let trace = timeline.trace();
                let changed: BTreeSet<BufferId> =
                    trace.changes(point.snapshot)?.iter().map(|c| c.buffer).collect();
                for (&buffer, seen) in self.seen.iter_mut().filter(|(b, _)| changed.contains(b)) {
                    let first = trace.read_chunk(point.snapshot, buffer, 0)?.unwrap_or_default();
                    let words = first.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
                    let bits = words.fold(0, |bits, word| bits | word);
                    let new = bits & !*seen;
                    *seen |= bits;
                    for (bit, setters) in SETTERS.iter().filter(|(bit, _)| new & bit != 0) {
                        let launches = setters.iter().filter_map(|op| self.launches.get(*op));
                        let setter = launches.min_by_key(|(spot, _)| spot.time);
                        let name = fault::names(*bit).concat();
                        let by = setter.map_or(String::new(), |(_, by)| {
                            format!("; the first launch that can set it is {by}")
                        });
                        let label = timeline.label(buffer);
                        let message = format!("{label} has the bit `{name}`: an index was out of range{by}");
                        let spot = setter.map_or_else(|| Spot::of(event), |(spot, _)| spot.clone());
                        found.report(&CHECK, timeline, &spot, Some(buffer), bit.to_string(), message);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
