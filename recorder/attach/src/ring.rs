//! Only the last steps are kept: `--ring SIZE`.
//!
//! Without a size there is one file that grows. With one, a second file is begun beside the first when that is half
//! full. It begins with everything that later records refer to and the present contents of all buffers, and then
//! gets the same records. When the first is full, the second takes its name. So there is a readable trace under
//! that name at any moment, it holds at least half of the size, and the disk holds at most one and a half.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use twinstep_traces::{
    BufferId, BufferRecord, GraphId, Item, Program, RequestRecord, RunRecord, StepKind, WriteError,
};

use crate::snapshot::{Changed, Completed, Ticket};
use crate::writer::{GraphDraft, Recording, Step};

/// See the module.
#[derive(Default)]
pub struct Ring {
    limit: Option<u64>,
    path: PathBuf,
    run: RunRecord,
    current: Option<Recording>,
    next: Option<Recording>,
    /// Bytes of `next` that are carried over, not recorded in it.
    carried: u64,
    dropped_steps: u64,
    /// Everything that later records refer to.
    buffers: Vec<BufferRecord>,
    graphs: Vec<GraphDraft>,
    /// Graphs that are launched no more and have no record yet.
    superseded: HashSet<GraphId>,
    requests: Vec<RequestRecord>,
    standing: Vec<Item>,
    /// What each buffer held at its last snapshot; kept with a limit only.
    contents: HashMap<BufferId, Vec<u8>>,
    last_ticket: Option<Ticket>,
}

impl Ring {
    pub fn new(limit: Option<u64>) -> Self {
        let mut ring = Ring::default();
        ring.limit = limit;
        ring
    }

    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// The file has begun; what was said before is written now.
    ///
    /// # Errors
    /// Those of writing.
    pub fn open(
        &mut self,
        path: PathBuf,
        run: RunRecord,
        mut recording: Recording,
    ) -> Result<(), WriteError> {
        for buffer in &self.buffers {
            recording.declare(buffer)?;
        }
        for request in &self.requests {
            recording.request(request)?;
        }
        self.path = path;
        self.run = run;
        self.current = Some(recording);
        if self.limit.is_none() {
            self.buffers.clear();
            self.requests.clear();
        }
        Ok(())
    }

    fn files(&mut self) -> impl Iterator<Item = &mut Recording> {
        self.current.iter_mut().chain(self.next.iter_mut())
    }

    fn keeps(&self) -> bool {
        self.limit.is_some() || self.current.is_none()
    }

    pub fn declare(&mut self, record: BufferRecord) -> Result<(), WriteError> {
        for file in self.files() {
            file.declare(&record)?;
        }
        if self.keeps() {
            self.buffers.push(record);
        }
        Ok(())
    }

    pub fn request(&mut self, request: RequestRecord) -> Result<(), WriteError> {
        for file in self.files() {
            file.request(&request)?;
        }
        if self.keeps() {
            self.requests.push(request);
        }
        Ok(())
    }

    pub fn graph(&mut self, mut graph: GraphDraft) -> Result<(), WriteError> {
        for file in self.files() {
            file.graph(&graph)?;
        }
        if self.limit.is_some() {
            if self.superseded.remove(&graph.id) {
                hollow(&mut graph);
            }
            self.graphs.push(graph);
        }
        Ok(())
    }

    /// A graph that is launched no more, as it was changed in place: a file begun later has its number, not its nodes.
    pub fn superseded(&mut self, graph: GraphId) {
        if self.limit.is_none() {
            return;
        }
        match self.graphs.get_mut(graph.0 as usize) {
            Some(draft) => hollow(draft),
            // Its record is written with the step.
            None => drop(self.superseded.insert(graph)),
        }
    }

    pub fn snapshot(&mut self, completed: Completed) -> Result<(), WriteError> {
        let Completed { ticket, covered, changed, audited, .. } = completed;
        for file in self.files() {
            file.snapshot(ticket, &covered, &changed, &audited)?;
        }
        if self.limit.is_some() {
            for c in &changed {
                let Some(record) = self.buffers.get(c.buffer.0 as usize) else { continue };
                let all = self.contents.entry(c.buffer).or_insert_with(|| vec![0; record.bytes as usize]);
                let start = c.first_chunk as usize * record.chunk_bytes as usize;
                if let Some(part) = all.get_mut(start..start + c.bytes.len()) {
                    part.copy_from_slice(&c.bytes);
                }
            }
            self.last_ticket = Some(ticket);
        }
        Ok(())
    }

    pub fn step(&mut self, step: Step) -> Result<(), WriteError> {
        for file in self.files() {
            file.step(&step)?;
        }
        let Some(limit) = self.limit else { return Ok(()) };
        self.standing.extend(step.items.into_iter().filter(|item| {
            matches!(
                item,
                Item::Allocate { .. } | Item::Free { .. } | Item::Capture { .. } | Item::DestroyGraph { .. }
            )
        }));
        self.turn(limit)
    }

    fn turn(&mut self, limit: u64) -> Result<(), WriteError> {
        let Some(current) = &self.current else { return Ok(()) };
        if self.next.is_none() && current.bytes() >= limit / 2 {
            self.begin_next()?;
            return Ok(());
        }
        if let Some(next) = &self.next
            && current.bytes() >= limit
            && next.steps() > 0
        {
            let dropped = current.steps().saturating_sub(next.steps());
            std::fs::rename(self.passing(), &self.path)
                .map_err(|source| WriteError::Create { path: self.path.clone(), source })?;
            self.dropped_steps += dropped;
            self.current = self.next.take();
        }
        Ok(())
    }

    /// The next file's name until it takes the place of the first.
    fn passing(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.path.with_file_name(format!(".{name}.next"))
    }

    fn begin_next(&mut self) -> Result<(), WriteError> {
        let path = self.passing();
        // One that an earlier process left behind is replaced; the trace's own name is ours.
        let next = Recording::create(&path, &self.run, true)?;
        // What can't be written is of no use.
        self.fill_next(next).inspect_err(|_| drop(std::fs::remove_file(path)))
    }

    fn fill_next(&mut self, mut next: Recording) -> Result<(), WriteError> {
        for buffer in &self.buffers {
            next.declare(buffer)?;
        }
        for request in &self.requests {
            next.request(request)?;
        }
        for graph in &self.graphs {
            next.graph(graph)?;
        }
        let steps = self.dropped_steps + self.current.as_ref().map_or(0, Recording::steps);
        let text = format!("ring: {steps} steps before this were not kept");
        let mut items = vec![Item::Mark { text }];
        items.extend(self.standing.iter().cloned());
        let mut points = Vec::new();
        if let Some(ticket) = self.last_ticket {
            let mut covered: Vec<BufferId> = self.contents.keys().copied().collect();
            covered.sort_unstable();
            let whole = |buffer: &BufferId| {
                let bytes = self.contents.get(buffer).cloned().unwrap_or_default();
                Changed { buffer: *buffer, first_chunk: 0, bytes }
            };
            let changed: Vec<Changed> = covered.iter().map(whole).collect();
            next.snapshot(ticket, &covered, &changed, &[])?;
            points.push(("step.after".to_owned(), items.len() as u32, ticket));
        }
        let rank = self.run.notes.iter().find(|(key, _)| key == "process.rank");
        let rank = rank.and_then(|(_, rank)| rank.parse().ok()).unwrap_or(0);
        next.step(&Step { kind: StepKind::Setup, request: 0, step: 0, rank, items, points })?;
        self.carried = next.bytes();
        self.next = Some(next);
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), WriteError> {
        self.current.take().map_or(Ok(()), Recording::finish)
    }
}

impl Drop for Ring {
    /// However the recording ends, what the second file holds is in the first one too.
    fn drop(&mut self) {
        if self.next.take().is_some() {
            let _ = std::fs::remove_file(self.passing());
        }
    }
}

/// Leaves a graph its number.
fn hollow(graph: &mut GraphDraft) {
    let reason = "what a graph held that was changed in place before the steps kept here".to_owned();
    graph.program = Program { items: vec![Item::Gap { reason }] };
    graph.edges = Vec::new();
}
