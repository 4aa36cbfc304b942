//! What a folder's dumps become: requests, steps, points and buffers, checked before anything is written.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use twinstep_traces::{DType, RequestRecord, Role, StepKind};

use super::error::ImportError;
use super::folder::{Folder, Located};
use super::map::Map;
use super::names::{Request, Step, natural};

/// How written numbers become those of a trace; the same for all folders of an import.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    /// Added to a step's number.
    shift: i64,
    /// The number that stands for a prefill without one.
    prefill: i64,
    /// Added to a request's number.
    request_shift: u32,
    /// Requests that are not numbered, in order.
    ids: Vec<String>,
    /// Folders with a prefill without a number, and the first and last number of their steps.
    prefilled: Vec<(PathBuf, u32, u32)>,
}

/// One step of a request, as numbered in the trace.
pub(super) type Place = (u32, u32);

/// A buffer of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedBuffer {
    pub(super) name: String,
    pub(super) generation: u32,
    pub(super) dtype: DType,
    pub(super) shape: Vec<u64>,
    pub(super) role: Role,
    /// The dump's name of a type that is stored as bytes.
    pub(super) opaque: Option<String>,
}

/// An array at a point.
#[derive(Debug)]
pub(super) struct PlannedArray {
    /// Index in the folder's arrays.
    pub(super) array: usize,
    /// Index in the plan's buffers.
    pub(super) buffer: usize,
}

/// A step of the trace.
#[derive(Debug)]
pub(super) struct PlannedStep {
    pub(super) request: u32,
    pub(super) step: u32,
    pub(super) kind: StepKind,
    /// Steps before it that were not dumped.
    pub(super) missing: Option<String>,
    /// Buffers that appear here as new memory under a known name.
    pub(super) allocated: Vec<usize>,
    /// `step.before`, others, `step.after`.
    pub(super) points: Vec<(String, Vec<PlannedArray>)>,
}

/// One trace.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rank: u32,
    pub(super) requests: Vec<RequestRecord>,
    pub(super) steps: Vec<PlannedStep>,
    pub(super) buffers: Vec<PlannedBuffer>,
    /// What a reader of the summary should know.
    pub(super) notes: Vec<String>,
}

impl Numbering {
    /// Looks at all that is imported together.
    pub(super) fn of(folders: &[Folder]) -> Self {
        let all = || folders.iter().flat_map(|folder| &folder.arrays);
        let numbers = || {
            all().filter_map(|a| match a.step {
                Step::Number(n) => Some(i64::from(n)),
                Step::Prefill => None,
            })
        };
        let first = numbers().min().unwrap_or(2);
        let prefill = first - 1;
        let smallest = if all().any(|a| a.step == Step::Prefill) { prefill } else { first };
        let requests: BTreeSet<Request> = all().filter_map(|a| a.request.clone()).collect();
        let named = requests.iter().any(|r| matches!(r, Request::Id(_)));
        let ids = requests.iter().map(|r| match r {
            Request::Number(n) => n.to_string(),
            Request::Id(id) => id.clone(),
        });
        Numbering {
            shift: (1 - smallest).max(0),
            prefill,
            request_shift: u32::from(!named && requests.contains(&Request::Number(0))),
            prefilled: folders.iter().filter_map(prefilled).collect(),
            ids: if named { ids.collect::<BTreeSet<_>>().into_iter().collect() } else { Vec::new() },
        }
    }

    /// What was done to the numbers, for people.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.shift > 0 {
            notes.push(format!("steps count from 1 in a trace: {} was added to their numbers", self.shift));
        }
        if self.request_shift > 0 {
            notes.push("requests count from 1 in a trace: 1 was added to their numbers".to_owned());
        }
        notes
    }

    /// Where folders with a prefill count on from different numbers: what each has.
    fn apart(&self) -> Option<String> {
        let first = self.prefilled.first()?.1;
        let has = |(path, first, last): &(PathBuf, u32, u32)| {
            format!("{} has a prefill and steps {first} to {last}", path.display())
        };
        let all = || self.prefilled.iter().map(has).collect::<Vec<_>>().join(", ");
        self.prefilled.iter().any(|(_, other, _)| *other != first).then(all)
    }

    /// What was added to the numbers of a dump's steps.
    pub(super) fn shift(&self) -> i64 {
        self.shift
    }

    fn raw(&self, step: Step) -> i64 {
        match step {
            Step::Number(n) => i64::from(n),
            Step::Prefill => self.prefill,
        }
    }

    fn step(&self, raw: i64) -> Option<u32> {
        u32::try_from(raw + self.shift).ok()
    }

    fn request(&self, request: Option<&Request>) -> Option<u32> {
        let id = match request {
            None => return Some(1),
            Some(Request::Number(n)) if self.ids.is_empty() => return n.checked_add(self.request_shift),
            Some(Request::Number(n)) => n.to_string(),
            Some(Request::Id(id)) => id.clone(),
        };
        self.ids.binary_search(&id).ok().map(|i| i as u32 + 1)
    }

    /// What a map may call the requests.
    pub(super) fn labels(&self, plan: &Plan) -> BTreeSet<String> {
        plan.requests.iter().map(|request| self.label(request.request)).collect()
    }

    /// What the map calls a request.
    fn label(&self, request: u32) -> String {
        match self.ids.get(request as usize - 1) {
            Some(id) => id.clone(),
            None => (request - self.request_shift).to_string(),
        }
    }
}

/// What may be unlike from step to step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowed {
    pub(super) gaps: bool,
    pub(super) reshape: bool,
}

/// The arrays of each point of each step.
type Slots = BTreeMap<(u32, i64), BTreeMap<PointOrder, Vec<usize>>>;

/// A point, in the order of a step: `step.before` first, `step.after` last, others as the map has them, else naturally.
#[derive(Debug, PartialEq, Eq)]
struct PointOrder {
    part: u8,
    mapped: usize,
    name: String,
}

impl PointOrder {
    fn of(point: &str, map: &Map) -> Self {
        let part = match point {
            "step.before" => 0,
            "step.after" => 2,
            _ => 1,
        };
        PointOrder { part, mapped: map.point_order(point).unwrap_or(0), name: point.to_owned() }
    }
}

impl Ord for PointOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_place = (self.part, self.mapped).cmp(&(other.part, other.mapped));
        by_place.then_with(|| natural(&self.name, &other.name))
    }
}

impl PartialOrd for PointOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A folder with a prefill without a number, and the first and last number of its steps.
fn prefilled(folder: &Folder) -> Option<(PathBuf, u32, u32)> {
    let numbers = || {
        folder.arrays.iter().filter_map(|array| match array.step {
            Step::Number(n) => Some(n),
            Step::Prefill => None,
        })
    };
    let prefill = folder.arrays.iter().any(|array| array.step == Step::Prefill);
    prefill.then(|| Some((folder.path.clone(), numbers().min()?, numbers().max()?))).flatten()
}

impl Plan {
    /// Plans the trace of one rank of a folder.
    ///
    /// # Errors
    /// Names clash, steps are missing, or a shape changes, where that is not allowed.
    pub(super) fn of(
        folder: &Folder,
        rank: u32,
        numbering: &Numbering,
        map: &Map,
        allowed: Allowed,
    ) -> Result<Self, ImportError> {
        let slots = slots(folder, rank, numbering, map)?;
        let mut plan =
            Plan { rank, requests: Vec::new(), steps: Vec::new(), buffers: Vec::new(), notes: Vec::new() };
        let mut shapes = Shapes::default();
        let mut last: Option<(u32, i64)> = None;
        for ((request, raw), points) in slots {
            let path = || first_path(folder, &points);
            let wrong = |what: &str| ImportError::File { path: path().into(), what: what.to_owned() };
            let step = numbering.step(raw).ok_or_else(|| wrong("its step's number is too large"))?;
            let before = last.filter(|(of, _)| *of == request).map(|(_, raw)| raw);
            if before.is_none() {
                let label = numbering.label(request);
                let said = map.requests.get(&label).cloned().unwrap_or_default();
                let named = !numbering.ids.is_empty() && said.text.is_empty();
                let text = if named { label } else { said.text };
                plan.requests.push(RequestRecord { request, text, prompt: said.prompt, row: 0 });
            }
            let missing = before.filter(|before| before + 1 < raw).map(|before| {
                let (from, to) = (before + 1, raw - 1);
                if from == to { format!("step {from}") } else { format!("steps {from} to {to}") }
            });
            if let Some(missing) = &missing
                && !allowed.gaps
            {
                let of = if request > 1 || !numbering.ids.is_empty() {
                    format!(" of request {}", numbering.label(request))
                } else {
                    String::new()
                };
                let left_out = match folder.left_out.first() {
                    Some(first) => format!(" (left out: {first})"),
                    None => String::new(),
                };
                if before == Some(numbering.prefill)
                    && let Some(apart) = numbering.apart()
                {
                    let what = format!(
                        "{apart}: they count their steps from different numbers; name the dumps of one anew, so that \
                         step N is the same in both"
                    );
                    return Err(ImportError::MissingSteps { path: folder.path.clone(), what });
                }
                let what = format!(
                    "{missing}{of}: not dumped{left_out}; dump again, or import what there is with --allow-gaps"
                );
                return Err(ImportError::MissingSteps { path: folder.path.clone(), what });
            }
            last = Some((request, raw));
            let prefill = map.prefill.map_or(step == 1, |first| first && before.is_none());
            let kind = if prefill { StepKind::Prefill } else { StepKind::Decode };
            let (mut allocated, mut planned) = (Vec::new(), Vec::new());
            for (PointOrder { name: point, .. }, arrays) in points {
                let mut covered = Vec::new();
                for array in arrays {
                    let located = &folder.arrays[array];
                    let place = (request, step);
                    let (buffer, new) =
                        shapes.buffer(folder, located, place, &mut plan.buffers, map, allowed)?;
                    if new && plan.buffers[buffer].generation > 0 {
                        allocated.push(buffer);
                    }
                    covered.push(PlannedArray { array, buffer });
                }
                planned.push((point, covered));
            }
            let missing = missing.map(|missing| format!("{missing}: not dumped"));
            plan.steps.push(PlannedStep { request, step, kind, missing, allocated, points: planned });
        }
        plan.notes = plan.incomplete();
        plan.notes.extend(plan.halves());
        Ok(plan)
    }

    /// What to write where 16 bits without a name are bfloat16, as they mostly are: NumPy has none for it.
    fn halves(&self) -> Option<String> {
        let nameless = |opaque: &str| ["void16", "uint16"].contains(&opaque);
        let buffers = self.buffers.iter().filter(|b| b.opaque.as_deref().is_some_and(nameless));
        let names: BTreeSet<&str> = buffers.map(|b| b.name.as_str()).collect();
        let first = names.first()?;
        let more = match names.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "{first}{more}: 16 bits without a type; if they are bfloat16, `[dtypes]` and `\"{first}\" = \"bf16\"` \
             in a --map say so"
        ))
    }

    /// Buffers that some points of a kind cover and others do not.
    fn incomplete(&self) -> Vec<String> {
        let mut points: BTreeMap<&str, Vec<(Place, BTreeSet<&str>)>> = BTreeMap::new();
        for step in &self.steps {
            for (point, arrays) in &step.points {
                let names = arrays.iter().map(|a| self.buffers[a.buffer].name.as_str()).collect();
                points.entry(point).or_default().push(((step.request, step.step), names));
            }
        }
        let mut notes = Vec::new();
        for (point, steps) in points {
            let all: BTreeSet<&str> = steps.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            for name in all {
                let without: Vec<String> = steps
                    .iter()
                    .filter(|(_, names)| !names.contains(name))
                    .map(|((request, step), _)| format!("{request}:{step}"))
                    .collect();
                if without.is_empty() {
                    continue;
                }
                let shown = without[..without.len().min(3)].join(", ");
                let more = without.len().saturating_sub(3);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                notes.push(format!("{name} is not in the dumps of {shown}{more} ({point}): not known there"));
            }
        }
        notes
    }
}

/// What each name is at present.
#[derive(Debug, Default)]
struct Shapes {
    /// Index in the plan's buffers, and where it was seen first.
    now: HashMap<String, (usize, Place)>,
}

impl Shapes {
    /// The buffer that an array is, and whether it is new.
    fn buffer(
        &mut self,
        folder: &Folder,
        located: &Located,
        place: Place,
        buffers: &mut Vec<PlannedBuffer>,
        map: &Map,
        allowed: Allowed,
    ) -> Result<(usize, bool), ImportError> {
        let header = located.header();
        let mut is = PlannedBuffer {
            name: located.name.clone(),
            generation: 0,
            dtype: header.element.dtype,
            shape: header.stored_shape(),
            role: map.role(&located.name),
            opaque: header.element.opaque,
        };
        if let Some(&(index, since)) = self.now.get(&is.name) {
            is.generation = buffers[index].generation;
            if buffers[index] == is {
                return Ok((index, false));
            }
            if !allowed.reshape {
                let kind = |b: &PlannedBuffer| {
                    let dtype = b.opaque.as_deref().unwrap_or(b.dtype.name());
                    format!("{dtype} {:?}", b.shape)
                };
                let what = format!(
                    "`{}` is {} at step {}:{}, it was {} at {}:{}; --allow-reshape imports it as new memory under its name",
                    is.name,
                    kind(&is),
                    place.0,
                    place.1,
                    kind(&buffers[index]),
                    since.0,
                    since.1
                );
                return Err(ImportError::Reshaped { path: folder.files[located.file].path.clone(), what });
            }
            is.generation += 1;
        }
        let index = buffers.len();
        self.now.insert(is.name.clone(), (index, place));
        buffers.push(is);
        Ok((index, true))
    }
}

fn first_path<'a>(folder: &'a Folder, points: &BTreeMap<PointOrder, Vec<usize>>) -> &'a Path {
    let first = points.values().flatten().next();
    first.map_or(&folder.path, |&array| &folder.files[folder.arrays[array].file].path)
}

/// Sorts a rank's arrays by where they belong.
fn slots(folder: &Folder, rank: u32, numbering: &Numbering, map: &Map) -> Result<Slots, ImportError> {
    let mut slots = Slots::new();
    let mut taken: HashMap<(u32, i64, &str, &str), usize> = HashMap::new();
    for (index, located) in folder.arrays.iter().enumerate().filter(|(_, a)| a.rank == rank) {
        let path = &folder.files[located.file].path;
        let request = numbering.request(located.request.as_ref()).ok_or_else(|| ImportError::File {
            path: path.clone(),
            what: "its request's number is too large".to_owned(),
        })?;
        let raw = numbering.raw(located.step);
        if let Some(first) = taken.insert((request, raw, &located.point, &located.name), index) {
            let first = &folder.arrays[first];
            let other = folder.files[first.file].path.display();
            let step = match located.step {
                Step::Prefill => "the prefill".to_owned(),
                Step::Number(n) => format!("step {n}"),
            };
            let what = if first.file == located.file && first.array.key == located.array.key {
                format!(
                    "its members `{}` and `{}` are both the array `{}`; keep one, or name one anew",
                    first.array.member, located.array.member, located.array.key
                )
            } else if first.array.key == located.array.key {
                format!(
                    "this and {other} are both for {step}; keep one, or say with --map what tells them apart"
                )
            } else {
                format!(
                    "arrays `{}` and `{}` of {step} are both `{}`; give them two names in [names] of a map",
                    first.array.key, located.array.key, located.name
                )
            };
            return Err(ImportError::Clash { path: path.clone(), what });
        }
        let point = PointOrder::of(&located.point, map);
        slots.entry((request, raw)).or_default().entry(point).or_default().push(index);
    }
    Ok(slots)
}
