//! Looks into traces, compares them, and executes their steps again.
//!
//! Everything here works from a trace alone: launches are executed by `twinstep-kernels` on a CPU,
//! weights come from a [`WeightSource`], and nothing knows the model. Reports are plain data that
//! serialise to the documents of `--json`.

#![forbid(unsafe_code)]

mod align;
mod assertion;
mod at;
mod beside;
mod between;
mod check;
mod checks;
mod comparable;
mod condition;
mod cursor;
mod dataflow;
mod diff;
mod error;
mod explain;
mod figure;
mod finding;
mod foreign;
mod history;
mod hybrid;
mod info;
mod kernel_name;
mod kind;
mod lifetime;
mod log;
mod machine;
mod next;
mod noise;
mod number;
mod numerics;
mod original_types;
mod pairing;
mod patch;
mod pictures;
mod plan;
mod points;
mod print;
mod program;
mod recorded;
mod requests;
mod rerun;
mod rules;
mod selection;
mod slice;
mod statistic;
mod step;
mod step_list;
mod suggest;
mod summary;
mod timeline;
mod value;
mod verify;
mod watch;
mod waveform;
mod weights;

pub use assertion::assert_traces;
pub use assertion::expected::{Expected, accept};
pub use assertion::github::github_annotations;
pub use assertion::glob::Glob;
pub use assertion::junit::junit;
pub use assertion::policy::{AfterFork, Demand, Policy, PolicyError, Rows, Rule, Scope};
pub use assertion::report::{
    AssertError, AssertReport, Divergence, Divergent, ExpectedReport, ForkReport, GuardReport, RuleReport,
    SelfTest, SelfTestReport, SelfTestState, Shown,
};
pub use assertion::self_test::self_test;
pub use assertion::steps::Steps;
pub use at::At;
pub use beside::{Beside, BesideBuffer, BesideLaunch, BufferSide, LaunchSide, Sameness, Sample, beside};
pub use check::{CheckReport, check, check_explanation, check_names};
pub use comparable::comparable;
pub use condition::{Condition, Relation};
pub use diff::{
    DiffReport, Element, FirstDifference, OneSided, OtherForm, StepDiff, StepState, StepStatistic, diff,
    diff_with,
};
pub use error::ReplayError;
pub use explain::{
    BUDGET, CauseReport, Evidence, Exonerated, ExplainOptions, ExplainReport, Proof, SidedFinding, Verdict,
    explain,
};
pub use figure::Figure;
pub use finding::Finding;
pub use foreign::is_foreign;
pub use history::{
    HistoryChange, HistoryGroup, HistoryInput, HistoryOptions, HistoryReport, HistoryWriter, history,
};
pub use info::{
    BufferReport, Capabilities, CapturedAt, DeviceReport, GraphReport, InfoReport, SamplingReport, info,
};
pub use kind::Kind;
pub use log::{LogEntry, LogReport, log};
pub use next::{print_command, quoted};
pub use noise::{ControlReport, FACTOR, NoisyBuffer, Rise};
pub use number::Number;
pub use patch::Patch;
pub use pictures::{CodeGrid, KvCell, KvMap, Sound, code_grid, kv_map, sound};
pub use print::{PrintReport, PrintedElement, PrintedElements, print, print_at, print_inside};
pub use requests::{Twins, rank};
pub use rerun::{Rerun, memory_inside, patched_memory};
pub use rules::{Rules, RulesError, RulesReport};
pub use selection::Selection;
pub use slice::{SLICE_BYTES_MAX, read_elements, snapshot_at};
pub use statistic::{Statistic, StatisticOf};
pub use step::{LaunchReport, OutputReport, PatchReport, StepReport, step, step_into};
pub use step_list::{ListedStep, step_list};
pub use summary::{BINS, Distance, Summary, distance, relative, summarise};
pub use value::{Value, ValueError};
pub use verify::{DamageReport, VerifyReport, verify, verify_replay};
pub use watch::{Stop, next_stop};
pub use waveform::WaveformReport;
pub use weights::{WeightFiles, WeightFolder, WeightSource};
