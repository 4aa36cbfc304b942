//! What a step runs once patches have changed it: launches in order, and the host writes between them.

use twinstep_traces::{BufferId, GraphId, HostWrite, Item, LaunchRecord, ScalarValue, ViewRecord};

use crate::ReplayError;
use crate::align::Alignment;
use crate::pairing::Pairing;
use crate::patch::{Patch, Select, Target, wrong};
use crate::program::{StepLaunch, nodes, writes};
use crate::recorded::RecordedStep;
use crate::suggest::{did_you_mean, nearest};
use crate::value::Value;

/// The same step of the other run, and how the two correspond.
pub(crate) struct Twin<'a> {
    pub(crate) step: &'a RecordedStep<'a>,
    /// From this run to the other.
    pub(crate) pairing: &'a Pairing,
    /// This run's launches are the first program.
    pub(crate) alignment: &'a Alignment,
}

/// Where a launch of a plan comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This step's own, by number.
    Own(usize),
    /// The other run's, by number.
    Other(usize),
    /// A node of a graph that this step did not launch.
    Graph(u32, usize),
}

/// Which buffer a launch of a plan works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Memory {
    /// One of this run.
    Own(BufferId),
    /// One of the other run, which this one has nothing for.
    Other(BufferId),
}

/// Whether another buffer known in the step lies where this one does.
fn shares_memory(step: &RecordedStep<'_>, id: BufferId) -> bool {
    let range = |id: BufferId| {
        let record = step.trace().buffer(id)?;
        let start = record.address?;
        Some((start, start.checked_add(record.bytes)?))
    };
    let Some((start, end)) = range(id) else { return false };
    let mut others = step.run.lifetimes.known(step.index).filter(|&other| other != id);
    others.any(|other| range(other).is_some_and(|(a, b)| a < end && start < b))
}

/// A launch of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// Item of the step's program before which it runs, or with which.
    pub(crate) item: u32,
    pub(crate) origin: Origin,
    /// Its views name buffers by `memory`, one an operand.
    pub(crate) record: LaunchRecord,
    pub(crate) memory: Vec<Memory>,
    /// Operands that a patch bound elsewhere: patch, operand, what it was bound to.
    pub(crate) rebound: Vec<(usize, usize, ViewRecord)>,
}

impl Planned {
    fn own(number: usize, launch: &StepLaunch) -> Planned {
        let memory = launch.record.views.iter().map(|v| Memory::Own(v.buffer)).collect();
        Planned {
            item: launch.item,
            origin: Origin::Own(number),
            record: launch.record.clone(),
            memory,
            rebound: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> String {
        let record = &self.record;
        if record.label.is_empty() { record.op.clone() } else { record.label.clone() }
    }
}

/// What a patch does to a plan, known before it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effect {
    pub(crate) bytes_changed: u64,
    pub(crate) read_by: Vec<String>,
    /// Why it changes nothing.
    pub(crate) nothing: Option<String>,
}

/// A step as it will run.
pub(crate) struct Plan {
    pub(crate) launches: Vec<Planned>,
    /// Host writes after the beginning of the program, by position.
    pub(crate) writes: Vec<HostWrite>,
    /// One a patch; those of state are known when it runs.
    pub(crate) effects: Vec<Effect>,
    /// Buffers that get memory of their own.
    pub(crate) own_memory: Vec<BufferId>,
    /// Host writes before the program that do not happen, and those that do instead.
    pub(crate) undone: Vec<BufferId>,
    pub(crate) first_writes: Vec<HostWrite>,
}

impl Plan {
    /// The plan of a step with patches.
    ///
    /// # Errors
    /// [`ReplayError::Patch`] where one cannot be made.
    pub(crate) fn new(
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        patches: &[Patch],
    ) -> Result<Plan, ReplayError> {
        let launches = step.launches.iter().enumerate().map(|(n, launch)| Planned::own(n, launch)).collect();
        let mut plan = Plan {
            launches,
            writes: step.record.host_writes.iter().filter(|w| w.position > 0).cloned().collect(),
            effects: vec![Effect::default(); patches.len()],
            own_memory: Vec::new(),
            undone: Vec::new(),
            first_writes: Vec::new(),
        };
        // Another graph first: arguments are then those of its nodes, which have the same numbers. Then
        // arguments: they name launches that a later patch may take away.
        for (i, patch) in patches.iter().enumerate() {
            if let Target::Swap(id, other) = patch.target {
                plan.swap_graph(step, i, patch, id, other)?;
            }
        }
        for (i, patch) in patches.iter().enumerate() {
            plan.arguments(step, twin, i, patch)?;
        }
        for (i, patch) in patches.iter().enumerate() {
            plan.presence(step, twin, i, patch)?;
        }
        for (i, patch) in patches.iter().enumerate() {
            plan.host_writes(step, twin, i, patch)?;
        }
        Ok(plan)
    }

    fn arguments(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        index: usize,
        patch: &Patch,
    ) -> Result<(), ReplayError> {
        match &patch.target {
            Target::Argument { launches, argument, value } => {
                let numbers = selected(step, launches, &patch.text)?;
                let mut known = Vec::new();
                let mut found = false;
                for number in numbers {
                    let Some(slot) = self.slot(number) else { continue };
                    let record = &self.launches[slot].record.clone();
                    known.extend(record.scalars.iter().map(|s| s.name.clone()));
                    known.extend(record.views.iter().map(|v| v.name.clone()));
                    let other = other_record(twin, number);
                    if value == "other" && twin.is_none() {
                        return Err(wrong(&patch.text, "there is no other trace: give a second one"));
                    }
                    if let Some(at) = record.scalars.iter().position(|s| s.name == *argument) {
                        found = true;
                        let new = match (value.as_str(), other) {
                            ("other", Some((_, other))) => {
                                other.scalars.iter().find(|s| s.name == *argument).map(|s| s.value)
                            }
                            ("other", None) => None,
                            (text, _) => Some(
                                scalar(record.scalars[at].value, text).map_err(|e| wrong(&patch.text, e))?,
                            ),
                        };
                        self.set_scalar(index, slot, at, new);
                    } else if let Some(at) = record.views.iter().position(|v| v.name == *argument) {
                        found = true;
                        let new = match (value.as_str(), other) {
                            ("other", Some((_, other))) => {
                                let view = other.views.iter().find(|v| v.name == *argument);
                                twin.zip(view).map(|(twin, view)| from_other(step, twin, view))
                            }
                            ("other", None) => None,
                            (name, _) => Some(rebound(step, &record.views[at], name, &patch.text)?),
                        };
                        self.set_view(index, slot, at, new);
                    }
                }
                if !found {
                    known.sort();
                    known.dedup();
                    let near = nearest(argument, known.iter().map(String::as_str));
                    let what =
                        format!("no selected launch has an argument `{argument}`{}", did_you_mean(&near));
                    return Err(wrong(&patch.text, what));
                }
            }
            Target::Shape { launches, operand } => {
                let twin =
                    twin.ok_or_else(|| wrong(&patch.text, "there is no other trace: give a second one"))?;
                let mut found = false;
                for number in selected(step, launches, &patch.text)? {
                    let Some(slot) = self.slot(number) else { continue };
                    let planned = &self.launches[slot];
                    let Some(at) = planned.record.views.iter().position(|v| v.name == *operand) else {
                        continue;
                    };
                    found = true;
                    let Some((_, other)) = other_record(Some(twin), number) else { continue };
                    let Some(theirs) = other.views.iter().find(|v| v.name == *operand) else { continue };
                    let (old, memory) = (&planned.record.views[at], planned.memory[at]);
                    let new = ViewRecord { buffer: old.buffer, ..theirs.clone() };
                    let room = match memory {
                        Memory::Own(id) => step.trace().buffer(id),
                        Memory::Other(id) => twin.step.trace().buffer(id),
                    };
                    let end = new.offset.saturating_add(bytes(&new));
                    if room.is_none_or(|record| end > record.bytes || record.dtype != new.dtype) {
                        let what = format!("the other run's `{operand}` does not fit in this one's buffer");
                        return Err(wrong(&patch.text, what));
                    }
                    self.set_view(index, slot, at, Some((new, memory)));
                }
                if !found {
                    return Err(wrong(&patch.text, format!("no selected launch has an operand `{operand}`")));
                }
            }
            Target::Bind { from, to } => {
                let from = crate::selection::resolve(step.trace(), &step.record, from)?;
                for slot in 0..self.launches.len() {
                    let record = &self.launches[slot].record.clone();
                    for at in (0..record.views.len()).filter(|&at| record.views[at].buffer == from) {
                        let new = rebound(step, &record.views[at], to, &patch.text)?;
                        self.set_view(index, slot, at, Some(new));
                    }
                }
                if self.effects[index].read_by.is_empty() {
                    self.effects[index].nothing =
                        Some(format!("no launch of the step is bound to {}", step.buffer_name(from)));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Where this step's own launch of a number is among those planned.
    fn slot(&self, number: usize) -> Option<usize> {
        self.launches.iter().position(|planned| planned.origin == Origin::Own(number))
    }

    fn set_scalar(&mut self, patch: usize, slot: usize, at: usize, new: Option<ScalarValue>) {
        let planned = &mut self.launches[slot];
        let old = planned.record.scalars[at].value;
        let Some(new) = new.filter(|new| *new != old) else { return };
        planned.record.scalars[at].value = new;
        let effect = &mut self.effects[patch];
        effect.bytes_changed += bytes_differing(old, new);
        effect.read_by.push(planned.name());
    }

    fn set_view(&mut self, patch: usize, slot: usize, at: usize, new: Option<(ViewRecord, Memory)>) {
        let planned = &mut self.launches[slot];
        let Some((view, memory)) = new else { return };
        let old = planned.record.views[at].clone();
        let same = planned.memory[at] == memory && old.offset == view.offset && old.shape == view.shape;
        if same {
            return;
        }
        if writes(&old) {
            self.effects[patch].bytes_changed += bytes(&view);
        }
        planned.rebound.push((patch, at, old));
        planned.record.views[at] = view;
        planned.memory[at] = memory;
        let name = planned.name();
        self.effects[patch].read_by.push(name);
    }

    fn presence(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        index: usize,
        patch: &Patch,
    ) -> Result<(), ReplayError> {
        match &patch.target {
            Target::Skip(select) => {
                let numbers = selected(step, select, &patch.text)?;
                let effect = &mut self.effects[index];
                self.launches.retain(|planned| {
                    let skipped = matches!(planned.origin, Origin::Own(n) if numbers.contains(&n));
                    if skipped {
                        touch(effect, planned);
                    }
                    !skipped
                });
            }
            Target::Insert(select) => {
                let none = || wrong(&patch.text, "there is no other trace: give a second one");
                let twin = twin.ok_or_else(none)?;
                let mut numbers = selected(twin.step, select, &patch.text)?;
                if !matches!(select, Select::Numbers(_)) {
                    // By name: those that this run lacks.
                    numbers.retain(|n| twin.alignment.only_b.contains(n));
                    if numbers.is_empty() {
                        self.effects[index].nothing = Some("this run lacks no such launch".to_owned());
                    }
                }
                for number in numbers {
                    self.insert(step, twin, index, number);
                }
            }
            Target::Launch(graphs) => {
                for id in
                    graphs.iter().flat_map(|&(a, b)| a..=b.min(a.saturating_add(step.trace().graphs().len())))
                {
                    self.launch_graph(step, index, patch, id as u32)?;
                }
            }
            Target::Own(name) => {
                let id = crate::selection::resolve(step.trace(), &step.record, name)?;
                if !shares_memory(step, id) {
                    self.effects[index].nothing = Some("no other buffer lies in its memory".to_owned());
                    return Ok(());
                }
                self.own_memory.push(id);
                self.effects[index].bytes_changed = step.trace().buffer(id).map_or(0, |b| b.bytes);
                self.effects[index].read_by = step
                    .launches
                    .iter()
                    .filter(|launch| launch.record.views.iter().any(|v| v.buffer == id))
                    .map(|launch| launch.name().to_owned())
                    .collect();
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds a launch of the other run where it belongs.
    fn insert(&mut self, step: &RecordedStep<'_>, twin: &Twin<'_>, patch: usize, number: usize) {
        let launch = &twin.step.launches[number];
        let (mut views, mut memory) = (Vec::new(), Vec::new());
        for view in &launch.record.views {
            let (view, place) = from_other(step, twin, view);
            views.push(view);
            memory.push(place);
        }
        let place = twin.alignment.place_of_b(number);
        // Before this run's launch `place`, after what was inserted there already.
        let at = self
            .launches
            .iter()
            .position(|planned| matches!(planned.origin, Origin::Own(n) if n >= place))
            .unwrap_or(self.launches.len());
        let end = step.launches.last().map_or(0, |l| l.item);
        let item = step.launches.get(place).map_or(end, |l| l.item);
        let record = LaunchRecord { views, ..launch.record.clone() };
        let planned = Planned { item, origin: Origin::Other(number), record, memory, rebound: Vec::new() };
        touch(&mut self.effects[patch], &planned);
        self.launches.insert(at, planned);
    }

    fn launch_graph(
        &mut self,
        step: &RecordedStep<'_>,
        index: usize,
        patch: &Patch,
        id: u32,
    ) -> Result<(), ReplayError> {
        let program = step.trace().program(step.record.program)?;
        let captured =
            program.items.iter().position(|item| matches!(item, Item::Capture { graph } if graph.0 == id));
        let item =
            captured.ok_or_else(|| wrong(&patch.text, format!("graph {id} is not captured in this step")))?;
        let at = self.launches.iter().position(|p| p.item > item as u32).unwrap_or(self.launches.len());
        let added = graph_nodes(step, id, item as u32)?;
        added.iter().for_each(|planned| touch(&mut self.effects[index], planned));
        self.launches.splice(at..at, added);
        Ok(())
    }

    fn swap_graph(
        &mut self,
        step: &RecordedStep<'_>,
        index: usize,
        patch: &Patch,
        id: u32,
        other: u32,
    ) -> Result<(), ReplayError> {
        let program = step.trace().program(step.record.program)?;
        let launched = |(i, item): (usize, &Item)| {
            matches!(item, Item::GraphLaunch { graph, .. } if graph.0 == id).then_some(i as u32)
        };
        let items: Vec<u32> = program.items.iter().enumerate().filter_map(launched).collect();
        if items.is_empty() {
            return Err(wrong(&patch.text, format!("graph {id} is not launched in this step")));
        }
        for item in items {
            let added = graph_nodes(step, other, item)?;
            added.iter().for_each(|planned| touch(&mut self.effects[index], planned));
            let own = |p: &&Planned| p.item == item;
            let kept: Vec<Origin> = self.launches.iter().filter(own).map(|p| p.origin).collect();
            let at = self.launches.iter().position(|p| p.item >= item).unwrap_or(self.launches.len());
            self.launches.retain(|p| p.item != item);
            // As many launches keep their numbers, so that further patches can name them.
            let same = kept.len() == added.len();
            let numbered = added.into_iter().enumerate().map(|(k, planned)| match same {
                true => Planned { origin: kept[k], ..planned },
                false => planned,
            });
            let numbered: Vec<Planned> = numbered.collect();
            self.launches.splice(at..at, numbered);
        }
        Ok(())
    }

    fn host_writes(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        index: usize,
        patch: &Patch,
    ) -> Result<(), ReplayError> {
        let Target::Writes { buffer, drop } = &patch.target else { return Ok(()) };
        let id = crate::selection::resolve(step.trace(), &step.record, buffer)?;
        self.writes.retain(|w| w.buffer != id);
        self.undone.push(id);
        if !*drop {
            let twin =
                twin.ok_or_else(|| wrong(&patch.text, "there is no other trace: give a second one"))?;
            let source = twin
                .pairing
                .of(id)
                .ok_or_else(|| wrong(&patch.text, format!("the other run has no `{buffer}`")))?;
            for write in twin.step.record.host_writes.iter().filter(|w| w.buffer == source) {
                let fits = step
                    .trace()
                    .buffer(id)
                    .is_some_and(|b| write.offset + write.bytes.len() as u64 <= b.bytes);
                if !fits {
                    return Err(wrong(
                        &patch.text,
                        format!("`{buffer}` is smaller here than in the other run"),
                    ));
                }
                let (buffer, offset, bytes) = (id, write.offset, write.bytes.clone());
                if write.position == 0 {
                    self.first_writes.push(HostWrite { position: 0, buffer, offset, bytes });
                } else {
                    let position = place_of_item(step, twin, write.position);
                    self.writes.push(HostWrite { position, buffer, offset, bytes });
                }
            }
            self.writes.sort_by_key(|w| w.position);
        }
        let readers = step.launches.iter().filter(|l| {
            l.record.views.iter().any(|v| v.buffer == id && v.access != twinstep_traces::Access::Write)
        });
        self.effects[index].read_by = readers.map(|l| l.name().to_owned()).collect();
        Ok(())
    }
}

/// An item position of the other run's program in this one's.
fn place_of_item(step: &RecordedStep<'_>, twin: &Twin<'_>, position: u32) -> u32 {
    let end = step.launches.last().map_or(0, |l| l.item) + 1;
    // The first launch of the other run that still comes after the position.
    let next = twin.step.launches.iter().position(|l| l.item >= position);
    let place = next.map(|number| twin.alignment.place_of_b(number));
    place.and_then(|place| step.launches.get(place)).map_or(end, |launch| launch.item)
}

fn graph_nodes(step: &RecordedStep<'_>, id: u32, item: u32) -> Result<Vec<Planned>, ReplayError> {
    let nodes = nodes(step.trace(), GraphId(id))?;
    let planned = |(k, record): (usize, LaunchRecord)| Planned {
        item,
        origin: Origin::Graph(id, k),
        memory: record.views.iter().map(|v| Memory::Own(v.buffer)).collect(),
        record,
        rebound: Vec::new(),
    };
    Ok(nodes.into_iter().enumerate().map(planned).collect())
}

/// A launch that is there or not counts with what it writes.
fn touch(effect: &mut Effect, planned: &Planned) {
    let written = planned.record.views.iter().filter(|v| writes(v)).map(bytes);
    effect.bytes_changed = written.fold(effect.bytes_changed, u64::saturating_add);
    effect.read_by.push(planned.name());
}

fn bytes(view: &ViewRecord) -> u64 {
    view.shape.iter().fold(view.dtype.size(), |n, &d| n.saturating_mul(d))
}

fn bytes_differing(a: ScalarValue, b: ScalarValue) -> u64 {
    let word = |value| match value {
        ScalarValue::U32(v) | ScalarValue::F32Bits(v) => u64::from(v),
        ScalarValue::I32(v) => u64::from(v as u32),
        ScalarValue::U64(v) => v,
    };
    let bytes = word(a).to_le_bytes().into_iter().zip(word(b).to_le_bytes());
    bytes.filter(|(a, b)| a != b).count() as u64
}

fn selected(step: &RecordedStep<'_>, select: &Select, text: &str) -> Result<Vec<usize>, ReplayError> {
    let numbers = select.of(step);
    if !numbers.is_empty() {
        return Ok(numbers);
    }
    let last = step.launches.len().saturating_sub(1);
    Err(wrong(
        text,
        match select {
            Select::Name(name) => {
                let names =
                    step.launches.iter().flat_map(|l| [l.record.op.as_str(), l.record.label.as_str()]);
                format!("the step has no launch `{name}`{}", did_you_mean(&nearest(name, names)))
            }
            _ => format!("the step has launches 0 to {last}; `twinstep log` lists them"),
        },
    ))
}

/// The record of the launch of the other run that stands for launch `number`.
fn other_record<'t>(twin: Option<&'t Twin<'_>>, number: usize) -> Option<(usize, &'t LaunchRecord)> {
    let twin = twin?;
    let (_, b) = twin.alignment.pairs.iter().find(|pair| pair.0 == number)?;
    Some((*b, &twin.step.launches[*b].record))
}

/// A view of the other run as one of this: on the buffer that stands for it where it fits, else on the other
/// run's own.
pub(crate) fn from_other(
    step: &RecordedStep<'_>,
    twin: &Twin<'_>,
    view: &ViewRecord,
) -> (ViewRecord, Memory) {
    let own = twin.pairing.reversed_of(view.buffer);
    let fits = own.filter(|&id| {
        let (here, there) = (step.trace().buffer(id), twin.step.trace().buffer(view.buffer));
        here.zip(there).is_some_and(|(here, there)| here.bytes >= there.bytes && here.dtype == there.dtype)
    });
    match fits {
        Some(id) => (ViewRecord { buffer: id, ..view.clone() }, Memory::Own(id)),
        None => (view.clone(), Memory::Other(view.buffer)),
    }
}

/// A view moved to another buffer of the same run.
fn rebound(
    step: &RecordedStep<'_>,
    view: &ViewRecord,
    name: &str,
    text: &str,
) -> Result<(ViewRecord, Memory), ReplayError> {
    let id = crate::selection::resolve(step.trace(), &step.record, name)?;
    let Some(record) = step.trace().buffer(id) else { return Err(wrong(text, "no such buffer")) };
    if record.dtype != view.dtype {
        return Err(wrong(
            text,
            format!("`{name}` is {}, the operand is {}", record.dtype.name(), view.dtype.name()),
        ));
    }
    if view.offset.saturating_add(bytes(view)) > record.bytes {
        return Err(wrong(text, format!("`{name}` is smaller than the operand: {:?}", record.shape)));
    }
    Ok((ViewRecord { buffer: id, ..view.clone() }, Memory::Own(id)))
}

/// A scalar as typed, of the same kind as the one that it replaces.
fn scalar(like: ScalarValue, text: &str) -> Result<ScalarValue, String> {
    use twinstep_traces::DType;
    let value = |dtype| Value::parse(dtype, text).map(Value::bits).map_err(|e| e.to_string());
    Ok(match like {
        ScalarValue::U32(_) => ScalarValue::U32(value(DType::U32)? as u32),
        ScalarValue::I32(_) => ScalarValue::I32(value(DType::I32)? as u32 as i32),
        ScalarValue::U64(_) => ScalarValue::U64(value(DType::U64)?),
        ScalarValue::F32Bits(_) => ScalarValue::F32Bits(value(DType::F32)? as u32),
    })
}
