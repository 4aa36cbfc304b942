//! Mistakes that real engines make: what they are and what it takes for them to show. Where they are made
//! is [`crate::plan`].

use crate::buffers::PROMPT_TOKENS;
use crate::error::RecordError;
use crate::options::{Mode, RecordOptions};
use crate::text::{self, PIECE_CHARS, patience};

/// What a record call has to be for a fault to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The mode; `None`: any.
    pub mode: Option<Mode>,
    /// Whether codes have to be drawn: a temperature above 0.
    pub sampled: bool,
    /// Requests at least: sentences of the text.
    pub requests: u32,
    /// Rows of the batch at least: one speaks, the others are padding.
    pub batch: u32,
    /// Positions that a request has to reach, its prompt included: it shows from there on.
    pub positions: u32,
}

/// What there is to say of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name on the command line.
    pub name: &'static str,
    /// The mistake, in a sentence.
    pub sentence: &'static str,
    /// The mechanism: a name of the closed list of kinds.
    pub kind: &'static str,
    /// The mode whose run is wrong: `graph`, `piecewise` or `both`.
    pub side: &'static str,
    /// Buffers that it is about; `*` stands for any characters.
    pub buffers: &'static [&'static str],
    /// Arguments of launches that it is about.
    pub arguments: &'static [&'static str],
    /// What it takes to show.
    pub needs: Needs,
    /// The public report that it is taken from.
    pub report: &'static str,
}

const GRAPH: Needs = Needs { mode: Some(Mode::Graph), sampled: false, requests: 1, batch: 1, positions: 1 };
const PIECEWISE: Needs = Needs { mode: Some(Mode::Piecewise), ..GRAPH };
const ANY: Needs = Needs { mode: None, ..GRAPH };
const SAMPLED: Needs = Needs { sampled: true, ..GRAPH };
const TWO_REQUESTS: Needs = Needs { requests: 2, ..GRAPH };
const PADDED: Needs = Needs { batch: 2, ..GRAPH };
/// Beyond one tile of attention, and beyond three: two and three are merged in the same order either way.
const TWO_TILES: Needs = Needs { positions: 65, ..GRAPH };
const FOUR_TILES: Needs = Needs { positions: 193, ..GRAPH };

macro_rules! faults {
    ($(
        $variant:ident $name:literal [$kind:literal $side:literal $needs:ident]
        [$($buffer:literal)*] [$($argument:literal)*] $report:literal
        $sentence:literal;
    )*) => {
        /// A mistake to plant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault { $(#[doc = $sentence] $variant,)* }

        impl Fault {
            /// All faults.
            pub const ALL: &[Fault] = &[$(Fault::$variant,)*];

            /// What there is to say of it.
            pub const fn about(self) -> About {
                match self {
                    $(Fault::$variant => About {
                        name: $name,
                        sentence: $sentence,
                        kind: $kind,
                        side: $side,
                        buffers: &[$($buffer,)*],
                        arguments: &[$($argument,)*],
                        needs: $needs,
                        report: $report,
                    },)*
                }
            }
        }
    };
}

faults! {
    UnlaunchedCapture "unlaunched-capture" ["unlaunched-capture" "piecewise" PIECEWISE]
        ["layer.*.mlp_out"] [] "vllm-omni #4564, not confirmed; IsaacLab #4829"
        "Each layer's norm+MLP graph is captured inside the first decode step and its outputs are used without a launch.";
    StaleCodes "stale-codes" ["missing-host-write" "graph" GRAPH]
        ["last_codes"] [] "vllm-omni #4564, a guess of its reporter"
        "The captured path lacks the host's copy of prefill's codes into last_codes, so step 2 reads the BOC seed.";
    CodesReallocated "codes-reallocated" ["stale-binding" "graph" GRAPH]
        ["last_codes"] [] "vllm #40390; sglang #37975"
        "Capacity grows after the capture: last_codes is allocated again and copied, and the graph keeps the first one.";
    GateBaked "gate-baked" ["frozen-branch" "graph" GRAPH]
        ["has_codes" "x"] [] "vllm-omni #4204"
        "The host looks at has_codes while it captures, finds no row with codes, and leaves the feedback out of the graph.";
    SeqLenBaked "seq-len-baked" ["frozen-argument" "graph" GRAPH]
        [] ["seq_len"] "ik_llama.cpp #2096"
        "Attention gets the sequence length by value, frozen as the capture's 1.";
    PositionBaked "position-baked" ["frozen-argument" "graph" GRAPH]
        [] ["position"] "sglang-omni #1908"
        "The rotation gets the position by value, frozen as the capture's 0.";
    TemperatureBaked "temperature-baked" ["frozen-argument" "graph" SAMPLED]
        [] ["temperature"] "sglang-omni #415"
        "The graph is captured with the dummy request's sampling parameters, which are greedy.";
    WorkspaceCapped "workspace-capped" ["undersized-workspace" "graph" TWO_TILES]
        ["attn_partial"] [] "1Cat-vLLM PR #69"
        "Attention's workspace is sized for the length seen at capture, one split: positions beyond 64 are dropped.";
    RngNotAdvanced "rng-not-advanced" ["counter-not-advanced" "graph" GRAPH]
        ["sampler_counter"] [] "pytorch #46148"
        "While capturing, the counter to advance is swapped for one of the capture's own, and draws keep reading the first.";
    ResetSkipped "reset-skipped" ["missing-host-write" "graph" GRAPH]
        ["block_table"] [] "rtp-llm #378"
        "Only the eager path refreshes block_table in each step, so a block begun after prefill is not in it.";
    WriteMissedCapture "write-missed-capture" ["missing-launch" "graph" GRAPH]
        ["kv_cache.*"] [] "sglang-omni #1369"
        "The decode step's KV write goes to a stream that is not captured: it ran once, on dummy slots, and is not in the graph.";
    LateHostWrite "late-host-write" ["late-host-write" "graph" GRAPH]
        ["seq_lens"] [] "ninfer-3090 #44"
        "The host writes seq_lens after it launched the graph, so every step sees the length of the one before.";
    PoolAliasing "pool-aliasing" ["aliased-memory" "graph" GRAPH]
        ["rope_sin"] [] "vllm-omni #7556"
        "The table cache evicts rope_sin after the capture and makes it anew; the pool hands the old memory to prefill's keys while the graph reads it.";
    TableFreed "table-freed" ["use-after-free" "graph" GRAPH]
        ["rope_cos"] [] "llama.cpp #26771"
        "The table cache evicts rope_cos after the capture and makes it anew; the pool fills the old memory as it takes it back while the graph reads it.";
    SharedPool "shared-pool" ["aliased-memory" "graph" GRAPH]
        ["delay_count"] [] "cubecl #1612"
        "Forward and sampling are two graphs of one pool: delay_count is allocated between the captures where the forward graph's text still lies.";
    StaleTail "stale-tail" ["stale-memory" "graph" TWO_REQUESTS]
        ["seq_lens"] [] "vllm-omni #4466"
        "The captured path keeps a high-water mark as the length, so attention reads keys and values that a longer earlier request left.";
    PaddingRow "padding-row" ["padding-leak" "graph" PADDED]
        ["slot_mapping"] [] "rvllm #32"
        "Padding rows get slot 0 instead of -1, so they write over the first position.";
    NanInPadding "nan-in-padding" ["padding-leak" "graph" PADDED]
        ["x"] [] "TensorRT-LLM #5058"
        "The static input embedding is filled with NaN when it is allocated, and the graph embeds only the row that speaks.";
    WrongGraph "wrong-graph" ["wrong-dispatch" "graph" PADDED]
        [] [] "aprender #2030"
        "Graphs for one row and for all rows are captured; the dispatcher counts the rows that speak and launches the one-row graph.";
    RopeTableReplaced "rope-table-replaced" ["stale-binding" "graph" GRAPH]
        ["rope_cos" "rope_sin"] [] "sglang-omni #503"
        "The tables at capture have the default theta of 1000000; the checkpoint's parameters are read later, the tables are made anew, and the graph keeps the first ones.";
    StateNotCleared "state-not-cleared" ["uninitialised-read" "graph" PADDED]
        ["has_codes"] [] "kekzl/imp #1709"
        "Only the eager path clears has_codes when it is allocated, so padding rows read what the memory held.";
    GraphNeverEngaged "graph-never-engaged" ["not-engaged" "graph" GRAPH]
        [] [] "no single report"
        "The decode step is captured and then runs eagerly: the run is not what it claims to be.";
    InBoth "in-both" ["rule-broken" "both" ANY]
        ["last_codes"] [] "vllm-omni #4564, a guess of its reporter"
        "Whatever the mode, the host does not hand prefill's codes on: eager and graph runs agree and are both wrong.";
    ReductionOrder "reduction-order" ["rounding" "graph" FOUR_TILES]
        [] ["tiles_per_split"] "vllm-omni #5466"
        "Attention takes two tiles a split under the graph and one in eager runs: another order of additions beyond 192 positions.";
}

impl Fault {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Checks that the fault can show.
    ///
    /// # Errors
    /// [`RecordError::FaultNeeds`].
    pub(crate) fn check(self, options: &RecordOptions) -> Result<(), RecordError> {
        let needs = self.about().needs;
        let requests = text::pieces(&options.text).len();
        let met = needs.mode.is_none_or(|mode| mode == options.mode)
            && (!needs.sampled || options.sampling.temperature > 0.0)
            // A text without any request is refused for what it is.
            && (requests == 0 || requests >= needs.requests as usize)
            && options.rows >= needs.batch as usize
            && (requests == 0 || reachable(options) >= needs.positions as usize);
        if met { Ok(()) } else { Err(RecordError::FaultNeeds { fault: self.name(), needs: needs.words() }) }
    }
}

/// Positions that the longest request can reach; it may end before.
fn reachable(options: &RecordOptions) -> usize {
    let of = |piece: &String| {
        let prompt = piece.len() + PROMPT_TOKENS - PIECE_CHARS;
        let steps = options.max_steps.map_or(usize::MAX, |n| n as usize).min(patience(piece));
        (prompt + steps).saturating_sub(1).min(options.context.unwrap_or(usize::MAX))
    };
    text::pieces(&options.text).iter().map(of).max().unwrap_or(0)
}

impl Needs {
    /// As options of the command line.
    fn words(self) -> String {
        let mut words = Vec::new();
        words.extend(self.mode.map(|mode| format!("--mode {}", mode.name())));
        words.extend(self.sampled.then(|| "--temperature above 0".to_owned()));
        words.extend((self.batch > 1).then(|| format!("--batch {} or more", self.batch)));
        words.extend(
            (self.positions > 1).then(|| {
                format!("a text, --max-steps and --context for {} positions or more", self.positions)
            }),
        );
        words.extend((self.requests > 1).then(|| format!("a text of {} sentences or more", self.requests)));
        words.join(", ")
    }
}
