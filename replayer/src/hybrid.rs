//! Executes a step again from its recorded state, as it was or with patches: a hybrid of two runs.

use std::collections::{BTreeMap, BTreeSet};

use twinstep_kernels::{Access, FRESH_BYTE, Launch};
use twinstep_traces::{BufferId, Role, chunk_hash};

use crate::ReplayError;
use crate::machine::Machine;
use crate::patch::{Patch, Target, wrong};
use crate::plan::{Memory, Origin, Plan, Planned, Twin};
use crate::recorded::{RecordedStep, Run, State};
use crate::step::PatchReport;
use crate::weights::WeightSource;

/// What the launches of a step wrote, one entry a launch: a hash over the bytes of each written operand.
pub(crate) type Trail = Vec<(Origin, Vec<[u8; 16]>)>;

/// What is kept of a launch besides the state that the step ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing.
    Nothing,
    /// Hashes of what each launch writes.
    Trail,
    /// The bytes that each launch reads, as ranges.
    Reads,
    /// What one of the step's own launches writes, by number.
    Output(usize),
}

/// What one launch read: ranges of buffers.
pub(crate) type Reads = Vec<(Origin, Vec<(BufferId, u64, u64)>)>;

/// What came of a hybrid.
pub(crate) struct Outcome {
    /// The buffers that the step's `after` covers.
    pub(crate) state: State,
    /// One a patch.
    pub(crate) reports: Vec<PatchReport>,
    /// With [`Watch::Trail`].
    pub(crate) trail: Trail,
    /// With [`Watch::Reads`].
    pub(crate) reads: Reads,
    /// With [`Watch::Output`]: the bytes of the first written operand.
    pub(crate) output: Vec<u8>,
}

/// Executes steps of one run. Weights are loaded once.
pub(crate) struct Hybrid<'a> {
    run: &'a Run<'a>,
    weights: &'a dyn WeightSource,
    machine: Machine<'a>,
    present: BTreeSet<BufferId>,
    imported: BTreeMap<BufferId, BufferId>,
    /// How many steps were executed.
    pub(crate) executions: usize,
}

/// Bytes of one buffer that a patch changed and nothing has overwritten since.
struct Changed {
    patch: usize,
    buffer: BufferId,
    ranges: Vec<(u64, u64)>,
}

impl<'a> Hybrid<'a> {
    pub(crate) fn new(run: &'a Run<'a>, weights: &'a dyn WeightSource) -> Result<Self, ReplayError> {
        Ok(Hybrid {
            run,
            weights,
            machine: Machine::new(run.trace, weights)?,
            present: BTreeSet::new(),
            imported: BTreeMap::new(),
            executions: 0,
        })
    }

    /// Executes a step with patches. `start` replaces the recorded state before it.
    ///
    /// # Errors
    /// [`ReplayError::Patch`] where a patch cannot be made, [`ReplayError::Opaque`] and
    /// [`ReplayError::Kernel`] where the hybrid cannot run.
    pub(crate) fn execute(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        patches: &[Patch],
        start: Option<&State>,
        watch: Watch,
    ) -> Result<Outcome, ReplayError> {
        let plan = Plan::new(step, twin, patches)?;
        if !plan.own_memory.is_empty() {
            // Another layout of memory needs another machine.
            let mut apart = Hybrid::new(self.run, self.weights)?;
            apart.machine.keep_apart(&plan.own_memory);
            let outcome = apart.execute_plan(step, twin, &plan, patches, start, watch);
            self.executions += apart.executions;
            return outcome;
        }
        self.execute_plan(step, twin, &plan, patches, start, watch)
    }

    fn execute_plan(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        plan: &Plan,
        patches: &[Patch],
        start: Option<&State>,
        watch: Watch,
    ) -> Result<Outcome, ReplayError> {
        self.executions += 1;
        self.prepare(step, twin, plan)?;
        self.restore(step, twin, start.unwrap_or(&step.before))?;
        let mut reports: Vec<PatchReport> = patches
            .iter()
            .zip(&plan.effects)
            .map(|(patch, effect)| PatchReport {
                patch: patch.text.clone(),
                bytes_changed: effect.bytes_changed,
                read_by: effect.read_by.clone(),
                no_effect: effect.nothing.clone(),
            })
            .collect();
        let mut changed = self.host_writes(step, plan, patches, &mut reports)?;
        self.patch_state(step, twin, patches, &mut reports, &mut changed)?;
        let (mut trail, mut reads, mut output) = (Trail::new(), Reads::new(), Vec::new());
        let mut writes = plan.writes.iter().peekable();
        for planned in &plan.launches {
            while let Some(write) = writes.next_if(|w| w.position <= planned.item) {
                self.machine.write(write.buffer, write.offset, &write.bytes)?;
                overwrite(&mut changed, write.buffer, write.offset, write.offset + write.bytes.len() as u64);
            }
            let launch = self.launch(planned)?;
            if !changed.is_empty() {
                self.follow(&launch, &planned.name(), &mut changed, &mut reports)?;
            }
            self.compare_rebound(step, planned, &mut reports)?;
            if watch == Watch::Reads {
                let touched = self.machine.touched(&launch)?.into_iter();
                let read =
                    touched.filter(|t| t.3.reads()).map(|(buffer, start, end, _)| (buffer, start, end));
                reads.push((planned.origin, read.collect()));
            }
            self.machine.run(&launch)?;
            match watch {
                Watch::Trail => trail.push((planned.origin, self.written(&launch)?)),
                Watch::Output(number) if planned.origin == Origin::Own(number) => {
                    if let Some(range) = launch.bound().into_iter().find(|r| r.access.writes()) {
                        let id = self.machine.recorded(range.buffer);
                        output = self.machine.read(id, range.start as u64, range.end - range.start)?;
                    }
                }
                _ => {}
            }
        }
        for write in writes {
            self.machine.write(write.buffer, write.offset, &write.bytes)?;
        }
        let mut state = State::new();
        for &id in step.after.keys() {
            if self.present.contains(&id) {
                state.insert(id, self.machine.whole(id)?);
            }
        }
        for (report, patch) in reports.iter_mut().zip(patches) {
            if report.no_effect.is_none() {
                report.no_effect = no_effect(step, report, &patch.target);
            }
        }
        Ok(Outcome { state, reports, trail, reads, output })
    }

    /// Allocates what the plan works on, in order of allocation, and gives back what it does not.
    fn prepare(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        plan: &Plan,
    ) -> Result<(), ReplayError> {
        let mut needed = step.live.clone();
        let mut foreign = BTreeSet::new();
        for memory in plan.launches.iter().flat_map(|planned| &planned.memory) {
            match memory {
                Memory::Own(id) => needed.insert(*id),
                Memory::Other(id) => foreign.insert(*id),
            };
        }
        // What a graph still binds was given back but is there.
        needed.extend(step.before.keys());
        let weight = |id: &BufferId| self.run.trace.buffer(*id).is_some_and(|b| b.role == Role::Weight);
        let newest = self.present.iter().copied().filter(|id| !weight(id)).max();
        let out_of_order = needed
            .iter()
            .any(|id| !self.present.contains(id) && !weight(id) && newest.is_some_and(|newest| *id < newest));
        let gone: Vec<BufferId> = self
            .present
            .iter()
            .copied()
            .filter(|id| !needed.contains(id) || (out_of_order && !weight(id)))
            .collect();
        for id in gone {
            self.machine.free(id)?;
            self.present.remove(&id);
        }
        for &id in &needed {
            if self.present.insert(id) {
                self.machine.allocate(id)?;
            }
        }
        let Some(twin) = twin else { return Ok(()) };
        for id in foreign {
            if !self.imported.contains_key(&id) {
                let local = self.machine.import(twin.step.trace(), id)?;
                self.imported.insert(id, local);
            }
        }
        Ok(())
    }

    /// Puts every buffer in its state before the step: fresh where nothing was recorded, since then the step
    /// writes it before it reads it.
    fn restore(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        start: &State,
    ) -> Result<(), ReplayError> {
        let trace = step.trace();
        for &id in &self.present {
            let Some(record) = trace.buffer(id) else { continue };
            if record.role != Role::Weight && !start.contains_key(&id) {
                self.machine.write(id, 0, &vec![FRESH_BYTE; record.bytes as usize])?;
            }
        }
        // After the fresh ones, with which they may share memory.
        for (&id, bytes) in start {
            if self.present.contains(&id) {
                self.machine.write(id, 0, bytes)?;
            }
        }
        for (id, &local) in &self.imported {
            let Some(twin) = twin else { continue };
            let Some(record) = twin.step.trace().buffer(*id) else { continue };
            match twin.step.before.get(id) {
                Some(bytes) => self.machine.write(local, 0, bytes)?,
                None if record.role != Role::Weight => {
                    self.machine.write(local, 0, &vec![FRESH_BYTE; record.bytes as usize])?
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Host writes before the program: undone, and made anew, as the plan says.
    fn host_writes(
        &mut self,
        step: &RecordedStep<'_>,
        plan: &Plan,
        patches: &[Patch],
        reports: &mut [PatchReport],
    ) -> Result<Vec<Changed>, ReplayError> {
        let mut changed = Vec::new();
        for (patch, text) in patches.iter().enumerate() {
            let Some(id) = writes_of(step, text) else { continue };
            let old = self.machine.whole(id)?;
            if plan.undone.contains(&id) {
                let own: Vec<_> =
                    step.record.host_writes.iter().filter(|w| w.buffer == id && w.position == 0).collect();
                if !own.is_empty() {
                    let earlier = step.run.earlier(step.index, id)?.ok_or_else(|| {
                        wrong(&text.text, "what the buffer held before the host's write was not recorded")
                    })?;
                    for write in own {
                        let range = write.offset as usize..write.offset as usize + write.bytes.len();
                        if let Some(bytes) = earlier.get(range) {
                            self.machine.write(id, write.offset, bytes)?;
                        }
                    }
                }
            }
            for write in plan.first_writes.iter().filter(|w| w.buffer == id) {
                self.machine.write(id, write.offset, &write.bytes)?;
            }
            let ranges = differing(&old, &self.machine.whole(id)?);
            let late = step.record.host_writes.iter().filter(|w| w.buffer == id && w.position > 0).count();
            let moved = plan.writes.iter().filter(|w| w.buffer == id).count();
            reports[patch].bytes_changed = ranges.iter().map(|(a, b)| b - a).sum();
            if late != moved {
                // A write that comes at another time changes something even where the bytes at the
                // beginning are the same.
                let bytes = |w: &twinstep_traces::HostWrite| w.bytes.len() as u64;
                let all = step.record.host_writes.iter().filter(|w| w.buffer == id && w.position > 0);
                reports[patch].bytes_changed += all.map(bytes).sum::<u64>();
            } else {
                reports[patch].read_by.clear();
            }
            changed.push(Changed { patch, buffer: id, ranges });
        }
        Ok(changed)
    }

    fn patch_state(
        &mut self,
        step: &RecordedStep<'_>,
        twin: Option<&Twin<'_>>,
        patches: &[Patch],
        reports: &mut [PatchReport],
        changed: &mut Vec<Changed>,
    ) -> Result<(), ReplayError> {
        let other = twin.map(|twin| twin.step.trace());
        let at = crate::at::place(&step.record)
            .ok_or_else(|| ReplayError::Place("set-up is no step".to_owned()))?;
        for (i, patch) in patches.iter().enumerate() {
            let Target::State(target) = &patch.target else { continue };
            let id = target.selection.buffer;
            if !self.present.contains(&id) {
                let what = format!("`{}` does not exist at step {at}", target.selection.name);
                return Err(wrong(&patch.text, what));
            }
            let present = self.machine.whole(id)?;
            let patched = target.apply(step.trace(), other, at, present.clone())?;
            let ranges = differing(&present, &patched);
            self.machine.write(id, 0, &patched)?;
            reports[i].bytes_changed = ranges.iter().map(|(a, b)| b - a).sum();
            changed.push(Changed { patch: i, buffer: id, ranges });
        }
        Ok(())
    }

    fn launch(&self, planned: &Planned) -> Result<Launch, ReplayError> {
        let mut record = planned.record.clone();
        for (view, memory) in record.views.iter_mut().zip(&planned.memory) {
            if let Memory::Other(id) = memory {
                view.buffer = self.imported.get(id).copied().unwrap_or(view.buffer);
            }
        }
        self.machine.launch(&record)
    }

    /// Counts the bytes that a rebound operand reads otherwise.
    fn compare_rebound(
        &mut self,
        step: &RecordedStep<'_>,
        planned: &Planned,
        reports: &mut [PatchReport],
    ) -> Result<(), ReplayError> {
        for (patch, operand, old) in &planned.rebound {
            let new = &planned.record.views[*operand];
            if new.access == twinstep_traces::Access::Write || !step.live.contains(&old.buffer) {
                continue;
            }
            let local = match planned.memory[*operand] {
                Memory::Own(id) => id,
                Memory::Other(id) => self.imported.get(&id).copied().unwrap_or(id),
            };
            let len = |v: &twinstep_traces::ViewRecord| {
                v.shape.iter().fold(v.dtype.size(), |n, &d| n.saturating_mul(d)) as usize
            };
            let a = self.machine.read(old.buffer, old.offset, len(old))?;
            let b = self.machine.read(local, new.offset, len(new))?;
            let longer = a.len().abs_diff(b.len()) as u64;
            let bytes: u64 = differing(&a, &b).iter().map(|(a, b)| b - a).sum();
            if new.access == twinstep_traces::Access::Read {
                reports[*patch].bytes_changed += bytes + longer;
            }
        }
        Ok(())
    }

    /// Notes which patched bytes a launch reads, then forgets those that it overwrites.
    fn follow(
        &mut self,
        launch: &Launch,
        name: &str,
        changed: &mut [Changed],
        reports: &mut [PatchReport],
    ) -> Result<(), ReplayError> {
        let touched = self.machine.touched(launch)?;
        for change in changed.iter() {
            let meets = |(buffer, start, end, access): &(BufferId, u64, u64, Access)| {
                *buffer == change.buffer
                    && access.reads()
                    && change.ranges.iter().any(|(a, b)| a < end && start < b)
            };
            let report = &mut reports[change.patch];
            if touched.iter().any(meets) && !report.read_by.iter().any(|n| n == name) {
                report.read_by.push(name.to_owned());
            }
        }
        for (buffer, start, end, access) in touched {
            // What is read and written depends on the patch from here on; only clean overwriting ends it.
            if access == Access::Write {
                overwrite(changed, buffer, start, end);
            }
        }
        Ok(())
    }

    /// Hashes of what a launch wrote, one a written operand.
    fn written(&mut self, launch: &Launch) -> Result<Vec<[u8; 16]>, ReplayError> {
        let touched = self.machine.touched(launch)?;
        let mut hashes = Vec::new();
        for range in launch.bound().into_iter().filter(|r| r.access.writes()) {
            let mut bytes = Vec::new();
            let id = self.machine.recorded(range.buffer);
            for &(buffer, start, end, access) in &touched {
                let inside = buffer == id && start < range.end as u64 && (range.start as u64) < end;
                if inside && access.writes() {
                    let (start, end) = (start.max(range.start as u64), end.min(range.end as u64));
                    bytes.extend((start - range.start as u64).to_le_bytes());
                    bytes.extend(self.machine.read(buffer, start, (end - start) as usize)?);
                }
            }
            hashes.push(chunk_hash(&bytes).0);
        }
        Ok(hashes)
    }
}

/// The buffer whose host writes a patch changes.
fn writes_of(step: &RecordedStep<'_>, patch: &Patch) -> Option<BufferId> {
    let Target::Writes { buffer, .. } = &patch.target else { return None };
    crate::selection::resolve(step.trace(), &step.record, buffer).ok()
}

fn overwrite(changed: &mut [Changed], buffer: BufferId, start: u64, end: u64) {
    for change in changed.iter_mut().filter(|change| change.buffer == buffer) {
        change.ranges = change
            .ranges
            .iter()
            .flat_map(|&(a, b)| [(a, b.min(start)), (a.max(end), b)])
            .filter(|(a, b)| a < b)
            .collect();
    }
}

/// Maximal ranges of bytes that differ.
fn differing(a: &[u8], b: &[u8]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for i in (0..a.len().min(b.len())).filter(|&i| a[i] != b[i]) {
        match ranges.last_mut() {
            Some(last) if last.1 == i as u64 => last.1 += 1,
            _ => ranges.push((i as u64, i as u64 + 1)),
        }
    }
    ranges
}

/// Why a patch proves nothing, where that is so.
fn no_effect(step: &RecordedStep<'_>, report: &PatchReport, target: &Target) -> Option<String> {
    if report.bytes_changed == 0 {
        return Some("it changes no byte: that is the value already".to_owned());
    }
    if !report.read_by.is_empty() {
        return None;
    }
    let Target::State(target) = target else {
        return Some("no launch of the step reads what it changes".to_owned());
    };
    let id = target.selection.buffer;
    let patched = step.trace().buffer(id)?;
    // The usual reason: a graph bound another generation of the name.
    let bound = step.launches.iter().find_map(|launch| {
        let same_name = |v: &&twinstep_traces::ViewRecord| {
            let reads = v.access != twinstep_traces::Access::Write;
            reads && v.buffer != id && step.trace().buffer(v.buffer).is_some_and(|b| b.name == patched.name)
        };
        let view = launch.record.views.iter().find(same_name)?;
        step.trace().buffer(view.buffer).map(|b| (b, launch))
    });
    Some(match bound {
        Some((bound, launch)) => {
            format!("no launch reads it: {} reads {}@{}", launch.name(), bound.name, bound.generation)
        }
        None => "no launch of the step reads the patched bytes before they are written".to_owned(),
    })
}
