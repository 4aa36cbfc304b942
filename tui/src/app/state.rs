//! The state of the application: plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use ratatui::layout::Size;
use tui_input::Input;
use twinstep_replayer::{At, Beside, BesideBuffer, CodeGrid, KvMap, LogEntry, Rerun, Sound};
use twinstep_traces::{BufferRecord, Role};

use super::findings::Findings;
use super::fuzzy;
use super::keys::{Action, View};
use super::theme::{Heat, Theme};
use super::work::{Elements, Kind, Outcome, Point, RunInfo, Side};
use crate::failure::escape;

/// One step of both runs.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) at: At,
    pub(crate) codec: bool,
    pub(crate) in_a: bool,
    pub(crate) in_b: bool,
    pub(crate) heat: Heat,
    /// Buffers that differ, the one written first in front.
    pub(crate) differing: Vec<String>,
    pub(crate) decision: String,
}

/// The first difference.
#[derive(Debug, Clone)]
pub(crate) struct First {
    pub(crate) at: At,
    pub(crate) point: String,
    pub(crate) buffer: String,
    /// Element, in row-major order.
    pub(crate) element: u64,
}

/// Which list of the step has the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pane {
    Buffers,
    Launches,
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    List,
    Grid,
    Hex,
    Figures,
    Top,
}

impl Mode {
    pub(crate) const ALL: [Mode; 5] = [Mode::List, Mode::Grid, Mode::Hex, Mode::Figures, Mode::Top];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::List => "list",
            Mode::Grid => "grid",
            Mode::Hex => "hex",
            Mode::Figures => "figures",
            Mode::Top => "top",
        }
    }
}

/// In what terms a difference is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    Absolute,
    Relative,
    Ulps,
}

impl Difference {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Difference::Absolute => "B - A",
            Difference::Relative => "relative",
            Difference::Ulps => "ULP",
        }
    }
}

/// The step screen.
#[derive(Debug, Clone)]
pub(crate) struct StepState {
    pub(crate) beside: Option<Box<Beside>>,
    pub(crate) pane: Pane,
    /// Cursor among the buffers that the filters let through.
    pub(crate) row: usize,
    /// Cursor among launches.
    pub(crate) launch: usize,
    /// Launch to go to once the step is read, by its number on a side.
    pub(crate) wanted: Option<(Side, usize)>,
    pub(crate) filter: String,
    pub(crate) role: Option<Role>,
    pub(crate) differing: bool,
}

/// The values screen.
#[derive(Debug, Clone)]
pub(crate) struct ValuesState {
    /// Name and generation (in A, else in B).
    pub(crate) buffer: Option<(String, u32)>,
    /// Element that the cursor is on, in row-major order.
    pub(crate) cursor: u64,
    /// Element to go to once the buffer's shape is known.
    pub(crate) wanted: Option<Vec<u64>>,
    /// Point inside the step to go to once the step is read.
    pub(crate) wanted_point: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) difference: Difference,
    pub(crate) data: Option<Box<Elements>>,
}

/// The patch screen.
#[derive(Debug, Clone)]
pub(crate) struct PatchState {
    /// Step and run that the patches are for.
    pub(crate) place: Option<(At, Side)>,
    pub(crate) list: Vec<String>,
    pub(crate) outcome: Option<Box<Outcome>>,
    /// The last exported command line.
    pub(crate) exported: Option<String>,
}

/// What is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompt {
    Search,
    Goto,
    Patch,
    Break,
    SetMark,
    JumpMark,
}

impl Prompt {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Prompt::Search => "search: ",
            Prompt::Goto => "go to step (12, 2:3, 1:codec, or ' and a mark): ",
            Prompt::Patch => "patch: ",
            Prompt::Break => "stop where: ",
            Prompt::SetMark => "name the mark with a letter: ",
            Prompt::JumpMark => "to the mark: ",
        }
    }
}

/// What lies over a screen.
#[derive(Debug, Clone)]
pub(crate) enum Overlay {
    Help { scroll: usize },
    Info { scroll: usize },
    Palette { input: Input, row: usize },
    Prompt { prompt: Prompt, input: Input },
}

/// A line for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) bad: bool,
}

/// A job under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) since: u64,
}

/// What memory held inside a step, in A and B.
pub(crate) type Memory = [Option<Arc<Rerun>>; 2];

/// Everything.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) theme: Theme,
    pub(crate) size: Size,
    pub(crate) runs: [Option<RunInfo>; 2],
    pub(crate) rows: Vec<Row>,
    pub(crate) cursor: usize,
    /// Whether the person has gone anywhere: until then the first divergence is where one is taken.
    pub(crate) moved: bool,
    pub(crate) verdict: Message,
    pub(crate) first: Option<First>,
    pub(crate) view: View,
    pub(crate) back: Vec<View>,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) side: Side,
    pub(crate) point: Point,
    /// Columns of the strip are a step each at 1; more steps a column above.
    pub(crate) zoom: usize,
    pub(crate) step: StepState,
    /// Memory inside the step, for `Point::Node`.
    pub(crate) memory: Option<(At, usize, Memory)>,
    pub(crate) values: ValuesState,
    pub(crate) codes: Option<(u32, [Option<CodeGrid>; 2])>,
    /// Codebook that the cursor is on.
    pub(crate) codebook: usize,
    pub(crate) kv: Option<(At, bool, Box<KvMap>)>,
    /// Layer and slot that the cursor is on.
    pub(crate) kv_cursor: (usize, usize),
    pub(crate) sound: Option<(u32, [Option<Arc<Sound>>; 2])>,
    pub(crate) patch: PatchState,
    pub(crate) explain: Option<Findings>,
    pub(crate) check: Option<Findings>,
    pub(crate) history: Option<Findings>,
    /// Cursor among evidence, findings or writers.
    pub(crate) evidence: usize,
    pub(crate) conditions: Vec<String>,
    pub(crate) marks: BTreeMap<char, At>,
    pub(crate) search: Option<String>,
    pub(crate) message: Option<Message>,
    pub(crate) running: BTreeMap<Kind, Running>,
    /// What was asked for last, by kind: asked again only when it changes.
    pub(crate) asked: BTreeMap<Kind, String>,
    /// Why the last job of a kind failed.
    pub(crate) failed: BTreeMap<Kind, String>,
    pub(crate) next_id: u64,
    pub(crate) tick: u64,
    /// Command lines to print when the UI ends.
    pub(crate) exports: Vec<String>,
}

impl App {
    pub(crate) fn new(runs: [Option<RunInfo>; 2], size: Size, theme: Theme) -> App {
        let mut app = App {
            theme,
            size,
            runs,
            rows: Vec::new(),
            cursor: 0,
            moved: false,
            verdict: Message { text: String::new(), bad: false },
            first: None,
            view: View::Timeline,
            back: Vec::new(),
            overlay: None,
            side: Side::A,
            point: Point::After,
            zoom: 0,
            step: StepState {
                beside: None,
                pane: Pane::Buffers,
                row: 0,
                launch: 0,
                wanted: None,
                filter: String::new(),
                role: None,
                differing: false,
            },
            memory: None,
            values: ValuesState {
                buffer: None,
                cursor: 0,
                wanted: None,
                wanted_point: None,
                mode: Mode::List,
                difference: Difference::Absolute,
                data: None,
            },
            codes: None,
            codebook: 0,
            kv: None,
            kv_cursor: (0, 0),
            sound: None,
            patch: PatchState { place: None, list: Vec::new(), outcome: None, exported: None },
            explain: None,
            check: None,
            history: None,
            evidence: 0,
            conditions: Vec::new(),
            marks: BTreeMap::new(),
            search: None,
            message: None,
            running: BTreeMap::new(),
            asked: BTreeMap::new(),
            failed: BTreeMap::new(),
            next_id: 0,
            tick: 0,
            exports: Vec::new(),
        };
        app.lay_rows();
        app.verdict = app.first_verdict();
        app
    }

    /// Whether there are two runs.
    pub(crate) fn pair(&self) -> bool {
        self.runs[1].is_some()
    }

    pub(crate) fn run(&self, side: Side) -> Option<&RunInfo> {
        self.runs[side as usize].as_ref()
    }

    fn first_verdict(&self) -> Message {
        let text = match &self.runs {
            [Some(a), None] => format!(
                "one run: {} mode on {}, {} steps. Give a second trace to compare.",
                a.mode,
                a.backend,
                a.steps.iter().filter(|s| !s.codec).count()
            ),
            _ => "comparing the runs ...".to_owned(),
        };
        Message { text, bad: false }
    }

    /// Lays the steps of both runs out in order, keeping what is known of them.
    pub(crate) fn lay_rows(&mut self) {
        let old: BTreeMap<(u32, u32), Row> = self.rows.drain(..).map(|row| (order(row.at), row)).collect();
        let mut rows: BTreeMap<(u32, u32), Row> = BTreeMap::new();
        for (side, run) in self.runs.iter().enumerate() {
            for step in run.iter().flat_map(|run| &run.steps) {
                let row = rows.entry(order(step.at)).or_insert_with(|| Row {
                    at: step.at,
                    codec: step.codec,
                    in_a: false,
                    in_b: false,
                    heat: Heat::Unknown,
                    differing: Vec::new(),
                    decision: escape(&step.decision),
                });
                row.in_a |= side == 0;
                row.in_b |= side == 1;
            }
        }
        for (key, row) in &mut rows {
            if let Some(old) = old.get(key) {
                row.heat = old.heat;
                row.differing = old.differing.clone();
            }
        }
        self.rows = rows.into_values().collect();
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
    }

    /// Where the cursor is.
    pub(crate) fn at(&self) -> Option<At> {
        self.rows.get(self.cursor).map(|row| row.at)
    }

    pub(crate) fn row_of(&self, at: At) -> Option<usize> {
        self.rows.binary_search_by_key(&order(at), |row| order(row.at)).ok()
    }

    /// The step under the cursor, where it has been read.
    pub(crate) fn beside(&self) -> Option<&Beside> {
        self.step.beside.as_deref().filter(|b| Some(b.at) == self.at())
    }

    /// The buffers of the step that the filters let through, best match first where one is typed.
    pub(crate) fn buffers(&self) -> Vec<&BesideBuffer> {
        let Some(beside) = self.beside() else { return Vec::new() };
        // Weights and tables do not change and would bury the rest: shown where they are asked for.
        let asked = self.step.role;
        let named = !self.step.filter.is_empty();
        let role = |b: &BesideBuffer| {
            b.record().is_some_and(|b| match asked {
                Some(role) => b.role == role,
                None => named || !matches!(b.role, Role::Weight | Role::Table),
            })
        };
        let state = |b: &BesideBuffer| !self.step.differing || differs(b);
        let shown = beside.buffers.iter().filter(|b| role(b) && state(b));
        if self.step.filter.is_empty() {
            return shown.collect();
        }
        let mut scored: Vec<(usize, &BesideBuffer)> =
            shown.filter_map(|b| fuzzy::score(&self.step.filter, b.name()).map(|s| (s, b))).collect();
        scored.sort_by_key(|(score, _)| *score);
        scored.into_iter().map(|(_, b)| b).collect()
    }

    /// The buffer under the cursor of the step screen.
    pub(crate) fn picked(&self) -> Option<&BesideBuffer> {
        self.buffers().get(self.step.row).copied()
    }

    /// The buffer whose values are shown, as the step under the cursor has it.
    pub(crate) fn chosen(&self) -> Option<&BesideBuffer> {
        let (name, generation) = self.values.buffer.as_ref()?;
        let beside = self.beside()?;
        let named = || beside.buffers.iter().filter(|b| b.name() == name);
        let exact = named().find(|b| b.record().is_some_and(|r| r.generation == *generation));
        exact.or_else(|| named().next())
    }

    /// The buffer that an action on values or in the step screen is about.
    pub(crate) fn subject(&self) -> Option<&BesideBuffer> {
        match self.view {
            View::Values => self.chosen(),
            _ => self.picked(),
        }
    }

    /// How many launches the step has, both sides aligned.
    pub(crate) fn launches(&self) -> usize {
        self.beside().map_or(0, |b| b.launches.len())
    }

    /// What ran in the step on the side that is looked at, else on the other, as its log tells: where launches cannot
    /// be shown.
    pub(crate) fn logged(&self) -> Option<(Side, &[LogEntry])> {
        let beside = self.beside().filter(|beside| beside.launches.is_empty())?;
        let of = |side: Side| beside.logged[side as usize].as_deref().map(|entries| (side, entries));
        of(self.side).or_else(|| of(self.side.other()))
    }

    /// Lines of the list of launches.
    pub(crate) fn launch_lines(&self) -> usize {
        self.logged().map_or(self.launches(), |(_, entries)| entries.len())
    }

    /// The name of the point inside the step that is looked at.
    pub(crate) fn inside(&self) -> Option<&str> {
        let Point::Inside(n) = self.point else { return None };
        self.beside()?.points.get(n).map(String::as_str)
    }

    /// Launches of each side among the first `shown` aligned ones.
    pub(crate) fn launched(&self, shown: usize) -> [Option<usize>; 2] {
        let Some(beside) = self.beside() else { return [None, None] };
        let rows = &beside.launches[..shown.min(beside.launches.len())];
        let count = |there: bool, n: usize| there.then_some(n);
        [
            count(beside.in_a, rows.iter().filter(|l| l.a.is_some()).count()),
            count(beside.in_b, rows.iter().filter(|l| l.b.is_some()).count()),
        ]
    }

    /// Why an action cannot be done here; `None` where it can.
    pub(crate) fn unavailable(&self, action: Action) -> Option<String> {
        let alone = || (!self.pair()).then(|| "there is one run alone".to_owned());
        let of = |what: &dyn Fn(&RunInfo) -> &String, sides: &[Side]| {
            sides.iter().find_map(|&side| self.run(side).map(what).filter(|reason| *reason != "yes").cloned())
        };
        let both = [Side::A, Side::B];
        match action {
            Action::PatchOther | Action::PatchElement | Action::SwapSide => alone(),
            Action::NextDivergence | Action::PreviousDivergence | Action::FirstDivergence => alone(),
            Action::Compare => alone(),
            Action::WatchDiffers | Action::NextDiffering | Action::PreviousDiffering => alone(),
            Action::Execute | Action::Into => of(&|r| &r.step, &[self.side]),
            Action::FindCause => alone().or_else(|| of(&|r| &r.explain, &both)),
            Action::Check => of(&|r| &r.check, &both),
            Action::FindHistory => of(&|r| &r.history, &[self.side]),
            _ => None,
        }
    }

    /// Elements of the last axis of the shown buffer, at least one.
    pub(crate) fn columns(&self) -> u64 {
        let record = self.chosen().and_then(BesideBuffer::record);
        record.and_then(|r| r.shape.last().copied()).unwrap_or(1).max(1)
    }

    /// Elements of the shown buffer.
    pub(crate) fn elements(&self) -> u64 {
        self.chosen().and_then(BesideBuffer::record).map_or(0, elements)
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), bad: false });
    }

    pub(crate) fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), bad: true });
    }

    /// What the evidence or history screen lists.
    pub(crate) fn listed(&self) -> Option<&Findings> {
        match self.view {
            View::History => self.history.as_ref(),
            _ => self.explain.as_ref().or(self.check.as_ref()),
        }
    }

    /// The heat of a row, broken rules included.
    pub(crate) fn heat(&self, row: &Row) -> Heat {
        let broken = self
            .check
            .iter()
            .flat_map(|c| &c.lines)
            .any(|e| e.jump.as_ref().and_then(|j| j.at) == Some(row.at));
        if broken { Heat::RuleBroken } else { row.heat }
    }
}

/// Steps in order; a request's codec section is its last.
pub(crate) fn order(at: At) -> (u32, u32) {
    (at.request, at.step.unwrap_or(u32::MAX))
}

/// Elements of a buffer.
pub(crate) fn elements(record: &BufferRecord) -> u64 {
    record.bytes / record.dtype.size()
}

/// Whether a buffer differs at either end of the step.
pub(crate) fn differs(b: &BesideBuffer) -> bool {
    use twinstep_replayer::Sameness::Differs;
    b.before == Differs || b.after == Differs
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

/// The first line shown of a list, so that the cursor is in the middle where the list allows it.
pub(crate) fn top(cursor: usize, len: usize, height: usize) -> usize {
    cursor.saturating_sub(height / 2).min(len.saturating_sub(height))
}
