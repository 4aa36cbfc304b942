//! What runs off the UI thread: jobs as data, and the library calls that do them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use twinstep_replayer as replayer;
use twinstep_replayer::{
    At, Beside, CodeGrid, DiffReport, Distance, ExplainOptions, Finding, HistoryOptions, KvMap, ReplayError,
    Rerun, Sound, StepReport, Summary, Twins,
};
use twinstep_traces::{BufferId, DType, Trace};

use super::findings::{self, Findings};
use crate::failure::escape;
use crate::rules::RuleSet;
use crate::weights::Weights;

/// One of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::A => "A",
            Side::B => "B",
        }
    }
}

/// Bytes of a window on a buffer.
const WINDOW_BYTES: u64 = 4 << 20;

/// Where in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    Before,
    /// A recorded point inside the step, by its place among those of the step.
    Inside(usize),
    /// After as many launches, executed again.
    Node(usize),
    After,
}

/// What a job is about; of each kind only the newest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Follow,
    Compare,
    Beside,
    Read,
    Memory,
    Outcome,
    Codes,
    Kv,
    Sound,
    Watch,
    History,
    Explain,
    Check,
}

impl Kind {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Kind; 13] = [
        Kind::Follow,
        Kind::Compare,
        Kind::Beside,
        Kind::Read,
        Kind::Memory,
        Kind::Outcome,
        Kind::Codes,
        Kind::Kv,
        Kind::Sound,
        Kind::Watch,
        Kind::History,
        Kind::Explain,
        Kind::Check,
    ];

    /// What the spinner says.
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Kind::Follow => "following the recording",
            Kind::Compare => "comparing the runs",
            Kind::Beside => "reading the step",
            Kind::Read => "reading values",
            Kind::Memory => "executing up to the launch",
            Kind::Outcome => "executing the step again",
            Kind::Codes => "reading codes",
            Kind::Kv => "reading the KV cache",
            Kind::Sound => "reading the sound",
            Kind::Watch => "looking for the next stop",
            Kind::History => "looking for writers",
            Kind::Explain => "looking for the cause",
            Kind::Check => "checking both runs",
        }
    }
}

/// Part of a buffer to read, on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) at: At,
    pub(crate) point: Point,
    /// Name of a point inside the step.
    pub(crate) name: String,
    pub(crate) ids: [Option<BufferId>; 2],
    /// First element.
    pub(crate) start: u64,
    /// Elements; cut to what a window may hold.
    pub(crate) count: u64,
    /// Memory of the step executed again, for points inside it.
    pub(crate) memory: [Option<Arc<Rerun>>; 2],
    /// What a patched step left, by the side that was patched.
    pub(crate) outcome: Option<(Side, Arc<Rerun>)>,
}

/// What to do.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Follow,
    Compare,
    Beside(At),
    Read(Window),
    Memory { at: At, launches: [Option<usize>; 2], shown: usize },
    Outcome { at: At, side: Side, patches: Vec<String> },
    Codes(u32),
    Kv { at: At, after: bool },
    Sound(u32),
    Watch { conditions: Vec<String>, from: At, forward: bool },
    History { side: Side, at: At, element: String, after: bool },
    Explain,
    Check,
}

impl Job {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Job::Follow => Kind::Follow,
            Job::Compare => Kind::Compare,
            Job::Beside(_) => Kind::Beside,
            Job::Read(_) => Kind::Read,
            Job::Memory { .. } => Kind::Memory,
            Job::Outcome { .. } => Kind::Outcome,
            Job::Codes(_) => Kind::Codes,
            Job::Kv { .. } => Kind::Kv,
            Job::Sound(_) => Kind::Sound,
            Job::Watch { .. } => Kind::Watch,
            Job::History { .. } => Kind::History,
            Job::Explain => Kind::Explain,
            Job::Check => Kind::Check,
        }
    }
}

/// One run as the UI knows it: plain data, no file.
#[derive(Debug, Clone)]
pub(crate) struct RunInfo {
    pub(crate) path: String,
    pub(crate) mode: String,
    pub(crate) backend: String,
    pub(crate) prompt: String,
    /// Name and text of what else there is to know.
    pub(crate) about: Vec<(String, String)>,
    pub(crate) complete: bool,
    pub(crate) recording: bool,
    /// Steps with what the host decided after them.
    pub(crate) steps: Vec<replayer::ListedStep>,
    /// `yes`, or why steps cannot be executed again.
    pub(crate) step: String,
    pub(crate) explain: String,
    pub(crate) check: String,
    pub(crate) history: String,
}

/// Elements that were read.
#[derive(Debug, Clone)]
pub(crate) struct Elements {
    pub(crate) at: At,
    pub(crate) point: Point,
    pub(crate) ids: [Option<BufferId>; 2],
    pub(crate) dtype: DType,
    pub(crate) start: u64,
    /// A, B, patched; `None` where there is nothing.
    pub(crate) bytes: [Option<Vec<u8>>; 3],
    /// Figures of what was read, of A and B.
    pub(crate) figures: [Option<Summary>; 2],
    /// A against B over what was read.
    pub(crate) distance: Option<Distance>,
    /// Whether that is all of the buffer.
    pub(crate) whole: bool,
    /// Why a side is missing.
    pub(crate) missing: [String; 2],
}

/// What a patched step gave.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) at: At,
    pub(crate) side: Side,
    pub(crate) patches: Vec<String>,
    pub(crate) report: StepReport,
    pub(crate) memory: Arc<Rerun>,
}

/// What a job gave.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// The runs as they now are; `None` where nothing was added.
    Follow(Option<Box<[Option<RunInfo>; 2]>>),
    Compare(Box<DiffReport>),
    Beside(Box<Beside>),
    Read(Box<Elements>),
    Memory {
        at: At,
        shown: usize,
        memory: [Option<Arc<Rerun>>; 2],
    },
    Outcome(Box<Outcome>),
    Codes {
        request: u32,
        grids: [Option<CodeGrid>; 2],
    },
    Kv {
        at: At,
        after: bool,
        map: Box<KvMap>,
    },
    Sound {
        request: u32,
        sounds: [Option<Arc<Sound>>; 2],
    },
    Watch(Option<(At, String)>),
    History(Findings),
    Explain(Findings),
    Check(Findings),
}

/// The two traces, and what else jobs need.
pub(crate) struct Bench {
    traces: Mutex<[Option<Arc<Trace>>; 2]>,
    paths: [Option<PathBuf>; 2],
    weights: Weights,
    rules: Option<RuleSet>,
}

type Done<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    escape(&error.to_string()).replace('\n', " ")
}

impl Bench {
    /// A bench with traces that are open already.
    pub(crate) fn new(a: (PathBuf, Trace), b: Option<(PathBuf, Trace)>, weights: Weights) -> Bench {
        let (path_b, b) = b.map_or((None, None), |(path, trace)| (Some(path), Some(Arc::new(trace))));
        Bench {
            traces: Mutex::new([Some(Arc::new(a.1)), b]),
            paths: [Some(a.0), path_b],
            weights,
            rules: RuleSet::new(None).ok(),
        }
    }

    fn trace(&self, side: Side) -> Option<Arc<Trace>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)[side as usize].clone()
    }

    /// How requests are numbered here, where there are two runs.
    fn twins(&self) -> Twins {
        match self.pair() {
            Ok((a, b)) => Twins::of(&a, &b),
            Err(_) => Twins::default(),
        }
    }

    /// A place of the UI's, as a side numbers its requests.
    fn own(&self, side: Side, at: At) -> At {
        if side == Side::B { self.twins().in_b(at) } else { at }
    }

    /// As a side numbers a request of the UI's.
    fn own_request(&self, side: Side, request: u32) -> u32 {
        self.own(side, At { request, step: None }).request
    }

    fn a(&self) -> Done<Arc<Trace>> {
        self.trace(Side::A).ok_or_else(|| "there is no trace".to_owned())
    }

    /// Gives back what jobs have read of the files: pages are read again when they are wanted.
    pub(crate) fn release(&self) {
        for trace in [Side::A, Side::B].into_iter().filter_map(|side| self.trace(side)) {
            trace.release_pages();
        }
    }

    /// Both runs as the UI knows them.
    ///
    /// # Errors
    /// What is damaged.
    pub(crate) fn runs(&self) -> Done<[Option<RunInfo>; 2]> {
        let run = |side: Side| {
            let Some((trace, path)) = self.trace(side).zip(self.paths[side as usize].as_deref()) else {
                return Ok(None);
            };
            run_info(&trace, path).map(Some)
        };
        let mut runs = [run(Side::A)?, run(Side::B)?];
        if let Some(b) = &mut runs[1] {
            show_as_a(b, &self.twins());
        }
        Ok(runs)
    }

    /// Does a job. `cancelled` is looked at where a job can stop early.
    ///
    /// # Errors
    /// One line for people.
    pub(crate) fn run(&self, job: Job, cancelled: &AtomicBool) -> Done<Output> {
        match job {
            Job::Follow => self.follow().map(|runs| Output::Follow(runs.map(Box::new))),
            Job::Compare => {
                let (a, b) = self.pair()?;
                let mut report = replayer::diff(&a, &b, &[]).map_err(text)?;
                let twins = Twins::of(&a, &b);
                for step in report.steps.iter_mut().filter(|s| s.state == replayer::StepState::OnlyB) {
                    step.request = twins.shown(At { request: step.request, step: None }).request;
                }
                Ok(Output::Compare(Box::new(report)))
            }
            Job::Beside(at) => {
                let b = self.trace(Side::B);
                let found = replayer::beside(&*self.a()?, b.as_deref(), at);
                found.map(|r| Output::Beside(Box::new(r))).map_err(text)
            }
            Job::Read(window) => self.read(&window).map(|e| Output::Read(Box::new(e))),
            Job::Memory { at, launches, shown } => {
                let one = |side: Side| -> Done<Option<Arc<Rerun>>> {
                    let Some((trace, upto)) = self.trace(side).zip(launches[side as usize]) else {
                        return Ok(None);
                    };
                    let memory = replayer::memory_inside(&trace, self.own(side, at), upto, &self.weights);
                    memory.map(|m| Some(Arc::new(m))).map_err(text)
                };
                Ok(Output::Memory { at, shown, memory: [one(Side::A)?, one(Side::B)?] })
            }
            Job::Outcome { at, side, patches } => self.outcome(at, side, patches),
            Job::Codes(request) => {
                let grid = |side: Side| {
                    let request = self.own_request(side, request);
                    self.trace(side).map(|t| replayer::code_grid(&t, request)).transpose().map_err(text)
                };
                Ok(Output::Codes { request, grids: [grid(Side::A)?, grid(Side::B)?] })
            }
            Job::Kv { at, after } => {
                let map = replayer::kv_map(&*self.a()?, self.trace(Side::B).as_deref(), at, after);
                map.map(|map| Output::Kv { at, after, map: Box::new(map) }).map_err(text)
            }
            Job::Sound(request) => {
                let one = |side: Side| -> Done<Option<Arc<Sound>>> {
                    let Some(trace) = self.trace(side) else { return Ok(None) };
                    let request = self.own_request(side, request);
                    replayer::sound(&trace, request).map(|s| s.map(Arc::new)).map_err(text)
                };
                Ok(Output::Sound { request, sounds: [one(Side::A)?, one(Side::B)?] })
            }
            Job::Watch { conditions, from, forward } => {
                let (a, b) = (self.a()?, self.trace(Side::B));
                let conditions = conditions
                    .iter()
                    .map(|c| c.parse::<replayer::Condition>())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(text)?;
                let stop = || cancelled.load(Ordering::Relaxed);
                let hit = replayer::next_stop(&a, b.as_deref(), &conditions, from, forward, &stop);
                hit.map(|hit| Output::Watch(hit.map(|h| (h.at, h.text)))).map_err(text)
            }
            Job::History { side, at, element, after } => {
                let trace = self.trace(side).ok_or_else(|| format!("there is no run {}", side.name()))?;
                let options = HistoryOptions { after, ..HistoryOptions::default() };
                let report =
                    replayer::history(&trace, &element, self.own(side, at), options).map_err(text)?;
                let mut found = findings::of_history(&report, side, &trace);
                if side == Side::B {
                    found.show(&self.twins());
                }
                Ok(Output::History(found))
            }
            Job::Explain => {
                let (a, b) = self.pair()?;
                let found = |trace: &Trace| self.findings(trace);
                let options = ExplainOptions { control: None, budget: replayer::BUDGET, findings: &found };
                let report = replayer::explain(&a, &b, &self.weights, &options, &mut |_| {}).map_err(text)?;
                Ok(Output::Explain(findings::of_explain(&report, [&a, &b])))
            }
            Job::Check => {
                let (a, b) = (self.a()?, self.trace(Side::B));
                let mut found = vec![(Side::A, self.findings(&a).map_err(text)?)];
                if let Some(b) = &b {
                    found.push((Side::B, self.findings(b).map_err(text)?));
                }
                Ok(Output::Check(findings::of_check(&found, [Some(&a), b.as_deref()], &self.twins())))
            }
        }
    }

    /// What checks and rules find on one trace.
    fn findings(&self, trace: &Trace) -> Result<Vec<Finding>, ReplayError> {
        match &self.rules {
            Some(rules) => rules.findings(trace),
            None => Ok(replayer::check(trace)?.findings),
        }
    }

    fn pair(&self) -> Done<(Arc<Trace>, Arc<Trace>)> {
        self.trace(Side::A).zip(self.trace(Side::B)).ok_or_else(|| "there is one run alone".to_owned())
    }

    fn outcome(&self, at: At, side: Side, patches: Vec<String>) -> Done<Output> {
        let trace = self.trace(side).ok_or_else(|| format!("there is no run {}", side.name()))?;
        let other = self.trace(side.other());
        let report = replayer::step(&trace, other.as_deref(), at, &patches, &self.weights).map_err(text)?;
        let memory =
            replayer::patched_memory(&trace, other.as_deref(), at, &patches, &self.weights).map_err(text)?;
        let memory = Arc::new(memory);
        Ok(Output::Outcome(Box::new(Outcome { at, side, patches, report, memory })))
    }

    /// Opens traces again that have grown.
    fn follow(&self) -> Done<Option<[Option<RunInfo>; 2]>> {
        let mut grown = false;
        for side in [Side::A, Side::B] {
            let Some((trace, path)) = self.trace(side).zip(self.paths[side as usize].as_ref()) else {
                continue;
            };
            let length = std::fs::metadata(path).map_or(0, |m| m.len());
            if trace.complete() || length <= trace.file_bytes() {
                continue;
            }
            // While its next step is half written there may be nothing new to see.
            let Ok(again) = Trace::open(path) else { continue };
            let same = again.step_count() == trace.step_count() && again.complete() == trace.complete();
            self.traces.lock().unwrap_or_else(PoisonError::into_inner)[side as usize] = Some(Arc::new(again));
            grown |= !same;
        }
        if grown { self.runs().map(Some) } else { Ok(None) }
    }

    fn read(&self, window: &Window) -> Done<Elements> {
        let mut dtype = None;
        let mut missing = [String::new(), String::new()];
        let mut bytes = [None, None, None];
        let mut whole = true;
        for side in [Side::A, Side::B] {
            let i = side as usize;
            let at = self.own(side, window.at);
            let Some((trace, id)) = self.trace(side).zip(window.ids[i]) else {
                missing[i] = "it has no such buffer".to_owned();
                continue;
            };
            let Some(record) = trace.buffer(id) else { continue };
            let size = record.dtype.size();
            if dtype.is_some_and(|other| other != record.dtype) {
                missing[i] = format!("it is {} there", record.dtype.name());
                continue;
            }
            dtype = Some(record.dtype);
            let count = window.count.min(WINDOW_BYTES / size);
            whole &= window.start == 0 && count * size >= record.bytes;
            let part = |all: &Vec<u8>| {
                let from = ((window.start * size) as usize).min(all.len());
                let to = (((window.start + count) * size) as usize).min(all.len());
                all[from..to].to_vec()
            };
            let recorded = |point: &str| -> Done<Option<Vec<u8>>> {
                let Ok(Some(snapshot)) = replayer::snapshot_at(&trace, at, point) else {
                    return Ok(None);
                };
                replayer::read_elements(&trace, snapshot, id, window.start, count).map_err(text)
            };
            bytes[i] = match window.point {
                Point::Before => recorded("step.before")?,
                Point::Inside(_) => recorded(&window.name)?,
                Point::After => recorded("step.after")?,
                Point::Node(_) => {
                    let kept = window.memory[i].as_ref().and_then(|m| m.buffers.get(&id)).map(part);
                    match kept {
                        Some(kept) => Some(kept),
                        // Weights and tables do not change in a step.
                        None => recorded("step.before")?,
                    }
                }
            };
            if bytes[i].is_none() {
                // What another engine ran cannot be stepped into; its dumps may tell of one side only.
                missing[i] = match (window.point, replayer::is_foreign(trace.run())) {
                    (Point::Before, true) => "not known before the step: after it (b)",
                    (Point::After, true) => "not known after the step: before it (b)",
                    (Point::Before, false) => "not recorded before the step: step into it (s)",
                    (Point::After, false) => "not recorded after the step: step into it (s)",
                    (Point::Inside(_), _) => "not recorded at this point: at another (b)",
                    (Point::Node(_), _) => "not there",
                }
                .to_owned();
            }
            if let Some((patched, memory)) = &window.outcome
                && *patched == side
                && window.point == Point::After
            {
                bytes[2] = memory.buffers.get(&id).map(part);
            }
        }
        let dtype = dtype.ok_or_else(|| "neither run has this buffer".to_owned())?;
        let figures = |i: usize| bytes[i].as_ref().map(|b| replayer::summarise(dtype, b));
        Ok(Elements {
            at: window.at,
            point: window.point,
            ids: window.ids,
            dtype,
            start: window.start,
            figures: [figures(0), figures(1)],
            distance: bytes[0].as_ref().zip(bytes[1].as_ref()).map(|(a, b)| replayer::distance(dtype, a, b)),
            bytes,
            whole,
            missing,
        })
    }
}

/// Numbers B's requests as the UI does, and says so where they have other numbers in B.
fn show_as_a(b: &mut RunInfo, twins: &Twins) {
    for step in &mut b.steps {
        step.at = twins.shown(step.at);
    }
    let renumbered: Vec<String> =
        twins.renumbered().take(8).map(|(own, shown)| format!("its {own} is shown as {shown}")).collect();
    if !renumbered.is_empty() {
        let words = format!("matched by id or prompt: {}", renumbered.join(", "));
        b.about.insert(1.min(b.about.len()), ("requests".to_owned(), words));
    }
}

fn run_info(trace: &Trace, path: &Path) -> Done<RunInfo> {
    let run = trace.run();
    let info = replayer::info(trace).map_err(text)?;
    let about = about(&info);
    let able = info.capabilities;
    Ok(RunInfo {
        path: escape(&path.display().to_string()),
        mode: escape(&run.mode),
        backend: escape(&run.device.backend),
        prompt: escape(&run.prompt),
        about,
        complete: trace.complete(),
        recording: trace.recording(),
        steps: replayer::step_list(trace).map_err(text)?,
        // A cause is shown by re-execution; of another engine's runs what the logs tell, and the result says how much.
        explain: if replayer::is_foreign(run) { "yes".to_owned() } else { able.step.clone() },
        step: able.step,
        // What it does not look at, its result says.
        check: if able.check.starts_with("in part") { "yes".to_owned() } else { able.check },
        history: able.history,
    })
}

fn about(info: &replayer::InfoReport) -> Vec<(String, String)> {
    let sampling = match info.sampling.temperature.0 {
        0.0 => "greedy".to_owned(),
        t => format!("temperature {t}, top-k {}, top-p {}", info.sampling.top_k, info.sampling.top_p),
    };
    let known = |text: String| if text.trim().is_empty() { "not known".to_owned() } else { text };
    let device = &info.device;
    // Another engine's recorder knows its model by name at most, and nothing of sampling.
    let own = |text: String| if info.foreign { "not known: another engine's run".to_owned() } else { text };
    let lines = [
        ("text", known(info.prompt.clone())),
        ("steps", format!("{} in {} requests, {} snapshots", info.steps, info.requests, info.snapshots)),
        (
            "file",
            format!("{} bytes, {}", info.file_bytes, if info.complete { "complete" } else { "not closed" }),
        ),
        ("recorded by", info.tool.clone()),
        ("mode", info.mode.clone()),
        (
            "device",
            match device.backend.as_str() {
                "" => known(String::new()),
                _ => format!(
                    "{} {} {} driver {}",
                    device.backend, device.name, device.capability, device.driver
                ),
            },
        ),
        (
            "model",
            match info.foreign {
                true => known(info.model.clone()),
                false => format!("{} from {}, profile {}", info.model, info.model_source, info.profile),
            },
        ),
        ("types", own(format!("weights {}, KV cache {}", info.weights_dtype, info.kv_dtype))),
        ("sampling", own(format!("{sampling}, seed {}, {} rows", info.sampling.seed, info.rows))),
        ("diff", info.capabilities.diff.clone()),
        ("check", info.capabilities.check.clone()),
        ("history", info.capabilities.history.clone()),
        ("step", info.capabilities.step.clone()),
    ];
    let mut about: Vec<_> = lines.into_iter().map(|(n, t)| (n.to_owned(), escape(&t))).collect();
    for graph in &info.graphs {
        let at = &graph.captured_at;
        let place =
            if at.request == 0 { "set-up".to_owned() } else { format!("step {}:{}", at.request, at.step) };
        let words = format!("{} {}, {} nodes, captured in {place}", graph.id, graph.label, graph.nodes);
        about.push(("graph".to_owned(), escape(&words)));
    }
    about
}
