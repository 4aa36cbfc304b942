//! Steps: where they begin and end, and their commit.

use std::sync::Arc;
use std::time::Instant;

use twinstep_traces::{Item, Phase, RequestRecord, StepKind, WriteError};

use super::draft::Draft;
use super::{Step, Writer};
use crate::events::Kind;
use crate::snapshot::Ticket;

impl Writer {
    /// What came before the first launch of the first step is set-up.
    pub(super) fn first_launch(&mut self) -> Result<(), WriteError> {
        if self.warm_up.is_none() && self.draft.is_setup() {
            if !self.asked && self.request == 0 {
                self.request = 1;
                self.ring.request(RequestRecord {
                    request: 1,
                    text: String::new(),
                    prompt: Vec::new(),
                    row: 0,
                })?;
            }
            if self.step == 0 && !self.draft.in_request() {
                self.commit_setup()?;
            }
            self.draft.begin_step();
        }
        Ok(())
    }

    pub(super) fn bracket(
        &mut self,
        name: &Arc<str>,
        end: bool,
        stream: u32,
        ticket: Option<Ticket>,
    ) -> Result<(), WriteError> {
        if !end {
            self.first_launch()?;
            let count = self.brackets.entry(name.clone()).or_insert(0);
            *count += 1;
        }
        let count = self.brackets.get(name).copied().unwrap_or(1);
        let label = if count > 1 { format!("{name}#{count}") } else { name.to_string() };
        if end {
            self.draft.bracket_end(&label, ticket);
        } else {
            self.draft.bracket_begin(&label, name, stream, ticket);
        }
        Ok(())
    }

    pub(super) fn begin_request(&mut self, id: String, prompt: Vec<u32>) -> Result<(), WriteError> {
        self.commit_setup_or_step()?;
        self.asked = true;
        self.request += 1;
        self.step = 0;
        self.ring.request(RequestRecord { request: self.request, text: id, prompt, row: 0 })?;
        self.draft.begin_request();
        Ok(())
    }

    pub(super) fn end_step(&mut self, kind: Kind) -> Result<(), WriteError> {
        if self.warm_up.is_some() {
            return Ok(());
        }
        if kind == Kind::ByItself && std::mem::take(&mut self.early) && !self.draft.has_launches() {
            return Ok(());
        }
        if self.draft.is_setup() {
            self.first_launch()?;
        }
        self.step += 1;
        let next = self.commit_step(kind)?;
        self.draft = next;
        Ok(())
    }

    /// Where steps are guessed, one is over for sure when the next begins. A program that waits or is killed begins none:
    /// when nothing happens for a while, and as many graphs were launched as in the step before, it is over too. What
    /// comes later belongs to the next.
    pub(super) fn commit_idle_step(&mut self) -> Result<(), WriteError> {
        let guessed = !self.asked && self.warm_up.is_none() && !self.early && self.pending.is_empty();
        if guessed && self.launches > 0 && self.draft.graph_launches() == self.launches {
            self.end_step(Kind::ByItself)?;
            self.early = true;
        }
        Ok(())
    }

    /// Before something that ends a step which nobody ended: launched work is a step where steps are guessed,
    /// set-up otherwise.
    pub(super) fn commit_setup_or_step(&mut self) -> Result<(), WriteError> {
        if !self.draft.is_setup() && !self.asked && self.warm_up.is_none() && self.draft.has_launches() {
            return self.end_step(Kind::ByItself);
        }
        self.commit_setup()
    }

    /// Commits the draft as a step; gives the beginning of the next.
    pub(super) fn commit_step(&mut self, kind: Kind) -> Result<Draft, WriteError> {
        let mut draft = std::mem::take(&mut self.draft);
        self.brackets.clear();
        self.launches = if kind == Kind::ByItself { draft.graph_launches() } else { 0 };
        let next = if kind == Kind::ByItself { draft.split_tail() } else { Draft::default() };
        if !self.started {
            // Counted, not kept: only what happened to memory and graphs stays.
            draft.keep_standing();
            let mut kept = draft;
            kept.append(next);
            kept.setup_again();
            return Ok(kept);
        }
        let kind = match kind {
            Kind::ByItself | Kind::Decode => StepKind::Decode,
            Kind::Prefill => StepKind::Prefill,
            Kind::Told if self.step == 1 => StepKind::Prefill,
            Kind::Told => StepKind::Decode,
        };
        self.commit(draft, kind, self.request, self.step)?;
        Ok(next)
    }

    pub(super) fn commit_setup(&mut self) -> Result<(), WriteError> {
        let mut draft = std::mem::take(&mut self.draft);
        self.brackets.clear();
        if !self.started {
            draft.keep_standing();
        }
        if draft.is_empty() {
            return Ok(());
        }
        let again = self.warm_up.as_ref().map(|label| Item::Mark { text: format!("warm-up: {label}") });
        self.commit(draft, StepKind::Setup, 0, 0)?;
        if let Some(mark) = again {
            self.draft.push(mark);
        }
        Ok(())
    }

    pub(super) fn commit(
        &mut self,
        draft: Draft,
        kind: StepKind,
        request: u32,
        step: u32,
    ) -> Result<(), WriteError> {
        self.open()?;
        self.write_graphs(request, step)?;
        let (items, points) = draft.finish(match kind {
            StepKind::Prefill => Phase::Prefill,
            StepKind::Setup => Phase::Setup,
            StepKind::Decode | StepKind::Codec => Phase::Forward,
        });
        let rank = self.attached.settings.rank.unwrap_or(0);
        self.ring.step(Step { kind, request, step, rank, items, points })?;
        self.last_commit = Instant::now();
        Ok(())
    }
}
