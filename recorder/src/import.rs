//! Dumps of another engine become traces: folders of `.npz`, `.npy` or `.safetensors` files in, an eager
//! and a graph trace out, for everything that looks at traces.
//!
//! A dump tells what memory held after a step and nothing of what ran. So a step's program is one gap, and
//! what needs launches says so.
//!
//! | module | concept |
//! | --- | --- |
//! | `map` | the map file: what names mean where they do not say it themselves |
//! | `names` | what a path or a key says: step, request, rank, point, buffer |
//! | `folder` | the dumps of a folder, listed by their headers |
//! | `dump`, `npy` | one file, opened; the header of a NumPy array |
//! | `array` | an array's type and order, and its bytes as a trace holds them |
//! | `plan` | requests, steps and buffers, checked before anything is written |
//! | `write` | the trace, under a passing name |
//! | `place` | all traces of an import under their names, or none |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use twinstep_traces::RunRecord;

mod array;
mod dump;
mod error;
mod folder;
mod map;
mod names;
mod npy;
mod place;
mod plan;
mod write;

pub use error::ImportError;

use folder::Folder;
use map::Map;
use place::{check_target, place_all, remove_stale};
use plan::{Allowed, Numbering, Plan};
use write::write;

/// What to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Dumps of the eager run.
    pub eager: Option<PathBuf>,
    /// Dumps of the run from graphs.
    pub graph: Option<PathBuf>,
    /// The map file.
    pub map: Option<PathBuf>,
    /// What the names of the traces begin with.
    pub prefix: PathBuf,
    /// Whether traces that exist are replaced.
    pub force: bool,
    /// Whether steps may be missing between others.
    pub allow_gaps: bool,
    /// Whether an array may change its shape or type.
    pub allow_reshape: bool,
}

/// `twinstep.import/1`.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    /// Document type.
    pub schema: &'static str,
    /// What was written, eager first.
    pub traces: Vec<ImportedTrace>,
    /// What was done to all of it.
    pub notes: Vec<String>,
}

/// One trace.
#[derive(Debug, Clone, Serialize)]
pub struct ImportedTrace {
    /// The file.
    pub trace: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// `eager` or `graph`.
    pub mode: &'static str,
    /// Rank of the process.
    pub rank: u32,
    /// Where the dumps were.
    pub folder: PathBuf,
    /// Dumps read.
    pub files: usize,
    /// Requests in order.
    pub requests: Vec<ImportedRequest>,
    /// Buffers as they were at first.
    pub buffers: Vec<ImportedBuffer>,
    /// What is not known at some steps.
    pub notes: Vec<String>,
    /// What was found and not imported.
    pub left_out: Vec<String>,
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct ImportedRequest {
    /// Counted from 1.
    pub request: u32,
    /// Its id or text, where the map gives one.
    pub text: String,
    /// Number of its first step.
    pub first: u32,
    /// Number of its last step.
    pub last: u32,
    /// How many there are.
    pub steps: usize,
}

/// One buffer.
#[derive(Debug, Clone, Serialize)]
pub struct ImportedBuffer {
    /// Without generation.
    pub name: String,
    /// As the trace says.
    pub dtype: &'static str,
    /// As the trace says.
    pub shape: Vec<u64>,
    /// What it is for.
    pub role: &'static str,
    /// The dump's element type, where the trace holds its bytes instead.
    pub stored_as_bytes: Option<String>,
    /// Shapes and types that it has in turn.
    pub generations: usize,
}

/// Names that a note lists.
const NAMES_SHOWN: usize = 8;

/// What keys of notes begin with that say the type of a buffer which is stored as bytes.
const DTYPE: &str = "source.dtype.";

/// Key of the note that says what was added to the numbers of a dump's steps.
const SHIFT: &str = "source.shift";

/// Imports one or two folders. Traces appear under their names once all of them are whole.
///
/// # Errors
/// [`ImportError`]; nothing has been written then.
pub fn import(options: &ImportOptions, progress: &mut dyn FnMut(u64)) -> Result<ImportReport, ImportError> {
    let map = options.map.as_deref().map(Map::open).transpose()?.unwrap_or_default();
    if !names_a_file(&options.prefix) {
        let what = "this is a folder; name the runs in it too, such as `run`".to_owned();
        return Err(ImportError::Output { path: options.prefix.clone(), what });
    }
    let modes = [("eager", &options.eager), ("graph", &options.graph)];
    let modes: Vec<(&'static str, &PathBuf)> =
        modes.into_iter().filter_map(|(mode, folder)| Some((mode, folder.as_ref()?))).collect();
    let folders: Vec<Folder> =
        modes.iter().map(|(_, path)| Folder::list(path, &map)).collect::<Result<_, _>>()?;
    let points = folders.iter().flat_map(|folder| &folder.arrays).map(|array| array.point.as_str()).collect();
    map.check_points(&points)?;
    let numbering = Numbering::of(&folders);
    let allowed = Allowed { gaps: options.allow_gaps, reshape: options.allow_reshape };
    let mut plans = Vec::new();
    for (folder, (mode, _)) in folders.iter().zip(&modes) {
        let ranks: BTreeSet<u32> = folder.arrays.iter().map(|array| array.rank).collect();
        for (nth, &rank) in ranks.iter().enumerate() {
            let suffix = if nth == 0 { format!(".{mode}.twin") } else { format!(".{mode}.rank{rank}.twin") };
            let mut target = options.prefix.clone().into_os_string();
            target.push(suffix);
            let target = PathBuf::from(target);
            check_target(&target, options.force)?;
            plans.push((folder, *mode, Plan::of(folder, rank, &numbering, &map, allowed)?, target));
        }
    }
    plans.iter().for_each(|(.., target)| remove_stale(target));
    let mut written = Vec::new();
    let mut steps = 0;
    for (folder, mode, plan, target) in &plans {
        let mut run = run(folder, mode, plan, &map, options.map.as_deref());
        if numbering.shift() > 0 {
            run.notes.push((SHIFT.to_owned(), numbering.shift().to_string()));
            run.notes.sort();
        }
        let done = write(folder, plan, &run, target, &mut || {
            steps += 1;
            progress(steps);
        })?;
        written.push(done);
    }
    let mut traces = Vec::new();
    let mut placing = Vec::new();
    for ((folder, mode, plan, target), done) in plans.iter().zip(written) {
        traces.push(imported(folder, mode, plan, target, done.bytes));
        placing.push((done.file, target.clone()));
    }
    place_all(placing, options.force)?;
    let mut notes = numbering.notes();
    notes.extend(one_sided(&plans.iter().map(|(_, mode, plan, _)| (*mode, plan)).collect::<Vec<_>>()));
    notes.extend(apart(&plans.iter().map(|(_, mode, plan, _)| (*mode, plan)).collect::<Vec<_>>()));
    let plans: Vec<&Plan> = plans.iter().map(|(_, _, plan, _)| plan).collect();
    notes.extend(idle(&map, &folders, &plans, &numbering));
    Ok(ImportReport { schema: "twinstep.import/1", traces, notes })
}

/// Whether a prefix goes on after its folder: `dumps/` alone would make hidden files.
fn names_a_file(prefix: &Path) -> bool {
    let text = prefix.as_os_str().to_string_lossy();
    prefix.file_name().is_some() && !text.ends_with(std::path::is_separator) && !text.ends_with("/.")
}

/// Names that one of two folders lacks: nothing will compare them.
fn one_sided(plans: &[(&str, &Plan)]) -> Vec<String> {
    let mut notes = Vec::new();
    for (_, eager) in plans.iter().filter(|(mode, _)| *mode == "eager") {
        let rank = if eager.rank > 0 { format!("rank {}: ", eager.rank) } else { String::new() };
        let Some((_, graph)) = plans.iter().find(|(mode, p)| *mode != "eager" && p.rank == eager.rank) else {
            continue;
        };
        let names = |plan: &Plan| plan.buffers.iter().map(|b| b.name.clone()).collect::<BTreeSet<_>>();
        let (a, b) = (names(eager), names(graph));
        let only = |mine: &BTreeSet<String>, theirs: &BTreeSet<String>, folder: &str| {
            let names: Vec<&str> = mine.difference(theirs).map(String::as_str).collect();
            let more = names.len().saturating_sub(NAMES_SHOWN);
            let listed = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(" ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!names.is_empty()).then(|| format!("in the {folder} folder only: {listed}{more}"))
        };
        let sides: Vec<String> =
            [only(&a, &b, "eager"), only(&b, &a, "graph")].into_iter().flatten().collect();
        if !sides.is_empty() {
            notes.push(format!(
                "{rank}not compared, as their names are not on both sides: {}; [names] of a --map pairs them",
                sides.join("; ")
            ));
        }
    }
    notes
}

/// Requests of the same rank whose steps begin with other numbers in the two runs.
fn apart(plans: &[(&str, &Plan)]) -> Vec<String> {
    let mut notes = Vec::new();
    let eager = plans.iter().filter(|(mode, _)| *mode == "eager");
    for (_, eager) in eager {
        let Some((_, graph)) = plans.iter().find(|(mode, p)| *mode != "eager" && p.rank == eager.rank) else {
            continue;
        };
        for request in &eager.requests {
            let first = |plan: &Plan| {
                plan.steps.iter().find(|step| step.request == request.request).map(|step| step.step)
            };
            if let (Some(a), Some(b)) = (first(eager), first(graph))
                && a != b
            {
                notes.push(format!(
                    "request {} begins at step {a} in the eager run and at step {b} in the other: steps are \
                     compared by number",
                    request.request
                ));
            }
        }
    }
    notes
}

/// What the map says of things that none of the folders has.
fn idle(map: &Map, folders: &[Folder], plans: &[&Plan], numbering: &Numbering) -> Vec<String> {
    let buffers: BTreeSet<&str> =
        folders.iter().flat_map(|folder| &folder.arrays).map(|array| array.name.as_str()).collect();
    let ignored: BTreeSet<&str> =
        folders.iter().flat_map(|folder| &folder.ignored).map(String::as_str).collect();
    let requests: BTreeSet<String> = plans.iter().flat_map(|plan| numbering.labels(plan)).collect();
    map.idle(&buffers, &ignored, &requests)
}

fn run(folder: &Folder, mode: &str, plan: &Plan, map: &Map, map_path: Option<&Path>) -> RunRecord {
    let note = |key: &str, value: String| (key.to_owned(), value);
    let mut notes =
        vec![note("engine", "foreign".to_owned()), note("source.folder", folder.path.display().to_string())];
    notes.extend(map_path.map(|path| note("source.map", path.display().to_string())));
    notes.extend(map.pattern.as_ref().map(|pattern| note("source.pattern", pattern.to_string())));
    notes.extend(plan.buffers.iter().filter_map(|buffer| {
        let generation =
            if buffer.generation > 0 { format!("@{}", buffer.generation) } else { String::new() };
        Some(note(&format!("{DTYPE}{}{generation}", buffer.name), buffer.opaque.clone()?))
    }));
    notes.extend((plan.rank > 0).then(|| note("process.rank", plan.rank.to_string())));
    notes.sort();
    RunRecord {
        tool: concat!("twinstep import ", env!("CARGO_PKG_VERSION")).to_owned(),
        mode: mode.to_owned(),
        model: map.run.model.clone(),
        prompt: map.run.prompt.clone(),
        rows: map.run.rows,
        notes,
        ..RunRecord::default()
    }
}

fn imported(
    folder: &Folder,
    mode: &'static str,
    plan: &Plan,
    target: &Path,
    file_bytes: u64,
) -> ImportedTrace {
    let requests = plan.requests.iter().map(|request| {
        let of = || plan.steps.iter().filter(|step| step.request == request.request).map(|step| step.step);
        ImportedRequest {
            request: request.request,
            text: request.text.clone(),
            first: of().min().unwrap_or(0),
            last: of().max().unwrap_or(0),
            steps: of().count(),
        }
    });
    let first = plan.buffers.iter().filter(|buffer| buffer.generation == 0);
    let buffers = first.map(|buffer| ImportedBuffer {
        name: buffer.name.clone(),
        dtype: buffer.dtype.name(),
        shape: buffer.shape.clone(),
        role: buffer.role.name(),
        stored_as_bytes: buffer.opaque.clone(),
        generations: plan.buffers.iter().filter(|other| other.name == buffer.name).count(),
    });
    let of_rank = folder.arrays.iter().filter(|array| array.rank == plan.rank);
    let files: BTreeSet<usize> = of_rank.map(|array| array.file).collect();
    ImportedTrace {
        trace: target.into(),
        file_bytes,
        mode,
        rank: plan.rank,
        folder: folder.path.clone(),
        files: files.len(),
        requests: requests.collect(),
        buffers: buffers.collect(),
        notes: plan.notes.clone(),
        left_out: folder.left_out.clone(),
    }
}
