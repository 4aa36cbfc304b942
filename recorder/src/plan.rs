//! Where this engine errs: the planted faults as decisions, each made at the place where a real engine
//! makes it. All are false in a correct engine.

use crate::fault::Fault;

/// The decisions that an engine with faults makes differently.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    /// A lazily captured norm+MLP graph hands out its outputs on the capturing step without a launch.
    pub(crate) skip_launch_at_capture: bool,
    /// Prefill's codes are not handed on to the first decode step.
    pub(crate) keep_seed_codes: bool,
    /// Capacity grows once the graph is captured: the codes fed back are allocated again.
    pub(crate) grow_codes_after_capture: bool,
    /// The host decides at capture whether codes are fed back, from the state that it finds then.
    pub(crate) feedback_at_capture: bool,
    /// The sequence length is passed by value.
    pub(crate) seq_len_by_value: bool,
    /// The position is passed by value.
    pub(crate) position_by_value: bool,
    /// The graph samples as the dummy request that it is captured with.
    pub(crate) sampling_at_capture: bool,
    /// The workspace of attention has room for the length seen at capture.
    pub(crate) workspace_at_capture: bool,
    /// While capturing, what advances the sampler's counter goes to one of the capture's own.
    pub(crate) counter_of_capture: bool,
    /// The block table is written at prefill only.
    pub(crate) block_table_at_prefill: bool,
    /// The decode step's KV write goes to a stream that is not captured.
    pub(crate) kv_write_aside: bool,
    /// The sequence length is written after the step was launched.
    pub(crate) lengths_after_launch: bool,
    /// The table cache gives its sines back after the capture, and prefill's keys get the memory.
    pub(crate) sines_to_pool: bool,
    /// The table cache gives its cosines back after the capture, and the pool fills the memory.
    pub(crate) cosines_to_pool: bool,
    /// Forward and sampling are graphs of their own, and the second takes memory from the first.
    pub(crate) sample_graph_in_pool: bool,
    /// The length never falls below that of an earlier request.
    pub(crate) high_water_lengths: bool,
    /// Rows without a request get slot 0.
    pub(crate) padding_slot_zero: bool,
    /// The input embedding is filled with NaN when allocated, and only the row that speaks is embedded.
    pub(crate) embed_live_row: bool,
    /// A graph for one row is captured as well, and chosen by the number of rows that speak.
    pub(crate) dispatch_by_live_rows: bool,
    /// The rotation's tables are made before the checkpoint's parameters are known, and again after.
    pub(crate) tables_before_parameters: bool,
    /// `has_codes` is not cleared when allocated.
    pub(crate) keep_fresh_has_codes: bool,
    /// No step is dispatched to a graph.
    pub(crate) never_dispatch: bool,
    /// Attention takes two tiles a split under the graph.
    pub(crate) wide_splits: bool,
}

impl Plan {
    pub(crate) fn new(faults: &[Fault]) -> Plan {
        let mut plan = Plan::default();
        for fault in faults {
            *plan.decision(*fault) = true;
        }
        plan
    }

    fn decision(&mut self, fault: Fault) -> &mut bool {
        match fault {
            Fault::UnlaunchedCapture => &mut self.skip_launch_at_capture,
            Fault::StaleCodes | Fault::InBoth => &mut self.keep_seed_codes,
            Fault::CodesReallocated => &mut self.grow_codes_after_capture,
            Fault::GateBaked => &mut self.feedback_at_capture,
            Fault::SeqLenBaked => &mut self.seq_len_by_value,
            Fault::PositionBaked => &mut self.position_by_value,
            Fault::TemperatureBaked => &mut self.sampling_at_capture,
            Fault::WorkspaceCapped => &mut self.workspace_at_capture,
            Fault::RngNotAdvanced => &mut self.counter_of_capture,
            Fault::ResetSkipped => &mut self.block_table_at_prefill,
            Fault::WriteMissedCapture => &mut self.kv_write_aside,
            Fault::LateHostWrite => &mut self.lengths_after_launch,
            Fault::PoolAliasing => &mut self.sines_to_pool,
            Fault::TableFreed => &mut self.cosines_to_pool,
            Fault::SharedPool => &mut self.sample_graph_in_pool,
            Fault::StaleTail => &mut self.high_water_lengths,
            Fault::PaddingRow => &mut self.padding_slot_zero,
            Fault::NanInPadding => &mut self.embed_live_row,
            Fault::WrongGraph => &mut self.dispatch_by_live_rows,
            Fault::RopeTableReplaced => &mut self.tables_before_parameters,
            Fault::StateNotCleared => &mut self.keep_fresh_has_codes,
            Fault::GraphNeverEngaged => &mut self.never_dispatch,
            Fault::ReductionOrder => &mut self.wide_splits,
        }
    }
}
