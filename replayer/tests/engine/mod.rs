//! A small engine of another kind, recorded as an attached process would be: kernels are opaque, memory has
//! addresses, names lie in it. What a kernel does is a host function here, so that snapshots are consistent
//! with the log whatever mistake is planted.

// Each test binary compiles this file and uses its own part of it.
#![allow(dead_code)]

pub(crate) mod copying;
pub(crate) mod talker;

use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::*;

/// Memory of the device: one flat piece from address `base` on.
pub(crate) struct Memory {
    base: u64,
    bytes: Vec<u8>,
}

impl Memory {
    fn at(&self, address: u64) -> usize {
        (address - self.base) as usize
    }

    pub(crate) fn f32(&self, address: u64, i: u64) -> f32 {
        let at = self.at(address + 4 * i);
        f32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn set_f32(&mut self, address: u64, i: u64, value: f32) {
        let at = self.at(address + 4 * i);
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&self, address: u64) -> i32 {
        let at = self.at(address);
        i32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn set_i32(&mut self, address: u64, value: i32) {
        let at = self.at(address);
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn copy(&mut self, from: u64, to: u64, bytes: u64) {
        let (from, to) = (self.at(from), self.at(to));
        self.bytes.copy_within(from..from + bytes as usize, to);
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    Pointer(u64),
    I32(i32),
    /// A structure: an address of the device, a value, padding, an address of the host.
    Packed(u64, i32, u64),
}

/// A kernel with its arguments: what a launch, or a node, is.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) args: Vec<Arg>,
    pub(crate) grid: u32,
    pub(crate) effect: fn(&mut Memory, &[u64]),
}

impl Kernel {
    fn run(&self, memory: &mut Memory) {
        let args: Vec<u64> = self
            .args
            .iter()
            .map(|arg| match arg {
                Arg::Pointer(address) => *address,
                Arg::I32(value) | Arg::Packed(_, value, _) => *value as u64,
            })
            .collect();
        (self.effect)(memory, &args);
    }
}

/// An engine that is being recorded.
pub(crate) struct Engine {
    writer: TraceWriter<MemoryStorage>,
    pub(crate) memory: Memory,
    records: Vec<BufferRecord>,
    /// Watched names and their newest generation.
    watched: BTreeMap<String, BufferId>,
    segments: BTreeMap<BufferId, (u64, u64)>,
    at: (StepKind, u32, u32),
    rank: u32,
    items: Vec<Item>,
    points: Vec<PointRecord>,
    graphs: Vec<Vec<Kernel>>,
    launched: BTreeMap<GraphId, u32>,
    /// Whether kernels outside graphs are recorded.
    pub(crate) launches: bool,
    /// Whether each launch of a graph has points of its own.
    pub(crate) around_graphs: bool,
    next_segment: u64,
    /// Copies that take effect while the next graph runs, after its kernels.
    racing: Vec<(u64, Vec<u8>)>,
}

impl Engine {
    pub(crate) fn new(mode: &str, base: u64, rank: u32) -> Engine {
        Engine::with_versions(mode, base, rank, "", "")
    }

    /// As [`Engine::new`], with what is known of the libraries and of the device's driver.
    pub(crate) fn with_versions(mode: &str, base: u64, rank: u32, libraries: &str, driver: &str) -> Engine {
        let mut notes = vec![
            ("engine".to_owned(), "foreign".to_owned()),
            ("process.pid".to_owned(), base.to_string()),
            ("process.rank".to_owned(), rank.to_string()),
        ];
        if !libraries.is_empty() {
            notes.push(("process.versions".to_owned(), libraries.to_owned()));
        }
        let run = RunRecord {
            tool: "twinstep attach 0.1.0".into(),
            mode: mode.into(),
            device: DeviceRecord { driver: driver.into(), ..DeviceRecord::default() },
            notes,
            ..RunRecord::default()
        };
        Engine {
            writer: TraceWriter::new(MemoryStorage::default(), &run).unwrap(),
            memory: Memory { base, bytes: vec![0; 1 << 16] },
            records: Vec::new(),
            watched: BTreeMap::new(),
            segments: BTreeMap::new(),
            at: (StepKind::Setup, 0, 0),
            rank,
            items: Vec::new(),
            points: Vec::new(),
            graphs: Vec::new(),
            launched: BTreeMap::new(),
            launches: false,
            around_graphs: false,
            next_segment: base,
            racing: Vec::new(),
        }
    }

    fn add(&mut self, record: BufferRecord) -> BufferId {
        let id = self.writer.add_buffer(&record).unwrap();
        self.records.push(record);
        self.items.push(Item::Allocate { buffer: id });
        id
    }

    /// Memory from the driver, at the next free address or at a given one.
    pub(crate) fn segment(&mut self, bytes: u64, address: Option<u64>) -> (BufferId, u64) {
        let address = address.unwrap_or(self.next_segment);
        self.next_segment = self.next_segment.max(address + bytes.next_multiple_of(512));
        let number = self.records.iter().filter(|b| b.name.starts_with("cuda.")).count();
        let id = self.add(BufferRecord {
            name: format!("cuda.{number}"),
            generation: 0,
            dtype: DType::U8,
            shape: vec![bytes],
            role: Role::Scratch,
            bytes,
            chunk_bytes: 4096,
            address: Some(address),
            contents: None,
        });
        self.segments.insert(id, (address, address + bytes));
        (id, address)
    }

    /// Names memory; again at another address it is a new generation.
    pub(crate) fn watch(&mut self, name: &str, dtype: DType, elements: u64, address: u64) -> BufferId {
        let generation = self.records.iter().filter(|b| b.name == name).count() as u32;
        let id = self.add(BufferRecord {
            name: name.into(),
            generation,
            dtype,
            shape: vec![elements],
            role: Role::State,
            bytes: elements * dtype.size(),
            chunk_bytes: 16,
            address: Some(address),
            contents: None,
        });
        self.watched.insert(name.into(), id);
        id
    }

    /// The engine gives memory back.
    pub(crate) fn free(&mut self, buffer: BufferId) {
        self.items.push(Item::Free { buffer });
        self.segments.remove(&buffer);
        let gone = &self.records[buffer.0 as usize];
        let (start, end) = (gone.address.unwrap(), gone.address.unwrap() + gone.bytes);
        let records = &self.records;
        self.watched.retain(|_, id| {
            let at = records[id.0 as usize].address.unwrap();
            *id != buffer && !(start <= at && at < end)
        });
    }

    /// The named buffer, else the segment, that an address lies in.
    fn view(&self, address: u64) -> Option<ViewRecord> {
        let within = |id: &BufferId| {
            let b = &self.records[id.0 as usize];
            (b.address? <= address && address < b.address? + b.bytes).then_some(*id)
        };
        let named = self.watched.values().find_map(within);
        let id = named.or_else(|| self.segments.keys().find_map(within))?;
        let record = &self.records[id.0 as usize];
        let offset = address - record.address?;
        let shape = vec![record.bytes - offset];
        let (dtype, access) = (DType::U8, Access::Unknown);
        Some(ViewRecord { name: String::new(), buffer: id, offset, shape, strides: vec![1], dtype, access })
    }

    fn opaque(&self, kernel: &Kernel) -> Item {
        let mut parameters = Vec::new();
        let mut operands = Vec::new();
        for (i, arg) in (0..).zip(&kernel.args) {
            match arg {
                Arg::Pointer(address) => {
                    parameters.push(address.to_le_bytes().to_vec());
                    operands.extend(self.view(*address).map(|view| (i, 0, view)));
                }
                Arg::I32(value) => parameters.push(value.to_le_bytes().to_vec()),
                Arg::Packed(address, value, host) => {
                    let words = [*address, u64::from(*value as u32), *host];
                    parameters.push(words.iter().flat_map(|word| word.to_le_bytes()).collect());
                    operands.extend(self.view(*address).map(|view| (i, 0, view)));
                }
            }
        }
        Item::Opaque(OpaqueLaunch {
            kernel: kernel.name.clone(),
            phase: Phase::Forward,
            stream: 0,
            grid: [kernel.grid, 1, 1],
            block: [128, 1, 1],
            cluster: [0; 3],
            shared_bytes: 0,
            parameters,
            operands,
        })
    }

    /// Launches a kernel outside a graph.
    pub(crate) fn launch(&mut self, kernel: &Kernel) {
        if self.launches {
            let item = self.opaque(kernel);
            self.items.push(item);
        }
        kernel.run(&mut self.memory);
    }

    /// Captures a graph; nothing runs.
    pub(crate) fn capture(&mut self, label: &str, kernels: Vec<Kernel>) -> GraphId {
        let id = GraphId(self.graphs.len() as u32);
        let items = kernels.iter().map(|k| self.opaque(k)).collect();
        let program = self.writer.add_program(&Program { items }).unwrap();
        let captured_at = (self.at.1, self.at.2);
        let record = GraphRecord { id, label: label.into(), program, edges: Vec::new(), captured_at };
        self.writer.add_graph(&record).unwrap();
        self.graphs.push(kernels);
        self.items.push(Item::Capture { graph: id });
        id
    }

    pub(crate) fn launch_graph(&mut self, graph: GraphId) {
        self.launch_part(graph, usize::MAX);
    }

    /// As if the device stopped after some nodes: for mistakes.
    pub(crate) fn launch_part(&mut self, graph: GraphId, nodes: usize) {
        let count = self.launched.entry(graph).or_default();
        *count += 1;
        let name = match *count {
            1 => format!("graph.{}", graph.0),
            n => format!("graph.{}#{n}", graph.0),
        };
        if self.around_graphs && self.at.0 != StepKind::Setup {
            self.point(&format!("{name}.before"));
        }
        self.items.push(Item::GraphLaunch { graph, stream: 0 });
        for kernel in self.graphs[graph.0 as usize].clone().iter().take(nodes) {
            kernel.run(&mut self.memory);
        }
        for (to, bytes) in std::mem::take(&mut self.racing) {
            let at = self.memory.at(to);
            self.memory.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        if self.around_graphs && self.at.0 != StepKind::Setup {
            self.point(&format!("{name}.after"));
        }
    }

    /// A copy between two places of the device, in the log.
    pub(crate) fn copy(&mut self, from: u64, to: u64, bytes: u64) {
        let (source, target) = (self.view(from), self.view(to));
        self.items.push(Item::Copy {
            stream: 0,
            source,
            target,
            source_address: from,
            target_address: to,
            bytes,
        });
        self.memory.copy(from, to, bytes);
    }

    /// A copy from host memory, in the log.
    pub(crate) fn host_copy(&mut self, to: u64, bytes: &[u8]) {
        self.host_copy_on(0, to, bytes, false);
    }

    /// On a stream, and perhaps with nothing that makes the next graph wait for it.
    pub(crate) fn host_copy_on(&mut self, stream: u32, to: u64, bytes: &[u8], races: bool) {
        self.items.push(Item::Copy {
            stream,
            source: None,
            target: self.view(to),
            source_address: 0,
            target_address: to,
            bytes: bytes.len() as u64,
        });
        if races {
            self.racing.push((to, bytes.to_vec()));
            return;
        }
        let at = self.memory.at(to);
        self.memory.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn item(&mut self, item: Item) {
        self.items.push(item);
    }

    pub(crate) fn point(&mut self, name: &str) {
        let covered: BTreeSet<BufferId> = self.watched.values().copied().collect();
        let covered: Vec<BufferId> = covered.into_iter().collect();
        let pieces: Vec<ChangedChunks<'_>> = covered
            .iter()
            .map(|&buffer| {
                let record = &self.records[buffer.0 as usize];
                let at = self.memory.at(record.address.unwrap());
                let bytes = &self.memory.bytes[at..at + record.bytes as usize];
                ChangedChunks { buffer, first_chunk: 0, bytes }
            })
            .collect();
        let snapshot = self.writer.snapshot(&covered, &pieces, &[]).unwrap();
        let position = self.items.len() as u32;
        self.points.push(PointRecord { point: name.into(), position, snapshot });
    }

    /// Set-up, or a warm-up run, ends.
    pub(crate) fn end_set_up(&mut self) {
        self.at = (StepKind::Setup, 0, 0);
        self.commit();
    }

    pub(crate) fn request(&mut self, request: u32, id: &str, prompt: &[u32]) {
        let record = RequestRecord { request, text: id.into(), prompt: prompt.to_vec(), row: 0 };
        self.writer.add_request(&record).unwrap();
    }

    pub(crate) fn begin(&mut self, request: u32, step: u32) {
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        self.at = (kind, request, step);
        self.launched.clear();
        self.point("step.before");
    }

    /// As [`Engine::begin`], without a point.
    pub(crate) fn open(&mut self, kind: StepKind, request: u32, step: u32) {
        self.at = (kind, request, step);
        self.launched.clear();
    }

    /// As [`Engine::end`], without a point.
    pub(crate) fn close(&mut self) {
        self.commit();
    }

    pub(crate) fn end(&mut self) {
        self.point("step.after");
        self.commit();
    }

    fn commit(&mut self) {
        let program = self.writer.add_program(&Program { items: std::mem::take(&mut self.items) }).unwrap();
        let (kind, request, step) = self.at;
        let record = StepRecord {
            kind,
            request,
            step,
            rank: self.rank,
            program,
            host_writes: Vec::new(),
            host_reads: Vec::new(),
            points: std::mem::take(&mut self.points),
        };
        self.writer.commit_step(&record).unwrap();
        self.at = (StepKind::Setup, 0, 0);
    }

    pub(crate) fn finish(self) -> Trace {
        Trace::from_bytes(self.bytes()).unwrap()
    }

    /// The file.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.writer.finish().unwrap().into_bytes()
    }
}
