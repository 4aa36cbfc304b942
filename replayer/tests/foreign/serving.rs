//! A serving engine with persistent input buffers, padded batches and a graph for each batch size, whose host copies
//! come as such engines' do: at every step or where something changed, before the launch or a step ahead, one by one or
//! from one staging buffer; with dummy runs, prefills and graphs that are captured anew in between.

use twinstep_traces::{BufferId, DType, GraphId, Item, StepKind, Trace};

use crate::engine::{Arg, Engine, Kernel, Memory};

/// Random numbers of a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True in `percent` of 100.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const ROWS: usize = 8;
/// Blocks of a row of the block table.
const BLOCKS: usize = 64;

/// The inputs, in the order in which they lie in memory, with 4-byte words a row.
pub(crate) const INPUTS: [(&str, usize); 8] = [
    ("input_ids", 1),
    ("positions", 2),
    ("seq_lens", 1),
    ("slot_mapping", 2),
    ("block_table", BLOCKS),
    ("temperature", 1),
    ("kv_indptr", 1),
    ("blocks_used", 1),
];

/// When an input is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// At every step, whatever it holds: the rows of the padded batch.
    Every,
    /// At every step, all rows.
    Whole,
    /// Where the device holds something else.
    Dirty,
    /// As that, row by row.
    DirtyRows,
}

/// What a dummy run copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dummy {
    Nothing,
    SeqLens,
    SeqLensAndSlots,
}

/// How the engine is made.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) seed: u64,
    pub(crate) steps: u32,
    pub(crate) policies: [Policy; 8],
    /// All inputs in one copy.
    pub(crate) staging: bool,
    /// Per cent of copies that come after the launch before: a step ahead.
    pub(crate) ahead: u64,
    /// Copies on a stream of their own.
    pub(crate) own_stream: bool,
    /// Per cent of steps before which a dummy run comes, and what it copies.
    pub(crate) dummies: (u64, Dummy),
    /// Per cent of steps in which a request comes.
    pub(crate) arrivals: u64,
    pub(crate) tokens: u64,
    pub(crate) block: u32,
    /// Per cent of steps that capture their graph anew.
    pub(crate) captures: u64,
    /// A graph for the first four inputs, and one for the rest, copied in between.
    pub(crate) two_graphs: bool,
    /// The launch, counted from 0, and the input whose copy is left out there.
    pub(crate) omitted: Option<(u32, usize)>,
}

impl Served {
    /// One batch whose inputs are all copied at every step.
    pub(crate) fn plain(seed: u64, steps: u32) -> Served {
        Served {
            seed,
            steps,
            policies: [Policy::Every; 8],
            staging: false,
            ahead: 0,
            own_stream: false,
            dummies: (0, Dummy::Nothing),
            arrivals: 0,
            tokens: 1 << 16,
            block: 16,
            captures: 0,
            two_graphs: false,
            omitted: None,
        }
    }

    /// Any sound engine.
    pub(crate) fn random(seed: u64) -> Served {
        use Policy::{Dirty, DirtyRows, Every, Whole};
        let mut dice = Dice(seed ^ 0xd1ce);
        let mut policies = [Every; 8];
        // A host that compares everything with what it copied last.
        let careful = dice.chance(25);
        for (input, policy) in policies.iter_mut().enumerate() {
            let all: &[Policy] = match input {
                _ if careful => &[Dirty, DirtyRows],
                0..4 => &[Every, Whole],
                _ => &[Every, Whole, Dirty, Dirty, DirtyRows],
            };
            *policy = dice.one(all);
        }
        let ahead = dice.one(&[0, 0, 0, 100, 50]);
        Served {
            seed,
            steps: 5 + dice.below(56) as u32,
            policies,
            staging: ahead == 0 && dice.chance(15),
            ahead,
            own_stream: dice.chance(30),
            dummies: (
                dice.one(&[0, 0, 3, 10, 30]),
                dice.one(&[Dummy::Nothing, Dummy::SeqLens, Dummy::SeqLensAndSlots]),
            ),
            arrivals: dice.one(&[0, 3, 10, 30]),
            tokens: dice.one(&[8, 64, 1 << 16]),
            block: dice.one(&[1, 4, 16]),
            captures: dice.one(&[0, 0, 0, 10, 100]),
            two_graphs: ahead == 0 && dice.chance(20),
            omitted: None,
        }
    }

    /// The run, and whether the omitted copy would have brought another value.
    pub(crate) fn record(&self) -> (Trace, bool) {
        Serving::new(self.clone()).run()
    }
}

struct Row {
    position: u32,
    left: u64,
    blocks: Vec<i32>,
    temperature: f32,
}

struct Serving {
    plan: Served,
    dice: Dice,
    e: Engine,
    at: [u64; 8],
    out: u64,
    /// By batch size, 1, 2, 4, 8: of the first inputs and of the rest.
    graphs: [Vec<GraphId>; 4],
    rows: Vec<Row>,
    step: u32,
    launch: u32,
    /// The omitted copy would have brought another value.
    harmful: bool,
}

fn compute(m: &mut Memory, p: &[u64]) {
    let sum: i64 = p[1..].iter().map(|&input| i64::from(m.i32(input))).sum();
    m.set_i32(p[0], m.i32(p[0]).wrapping_mul(31).wrapping_add(sum as i32));
}

impl Serving {
    fn new(plan: Served) -> Serving {
        let mut e = Engine::new("graph", 0x7f30_0000_0000, 0);
        e.around_graphs = true;
        let (_, pool) = e.segment(8192, None);
        let mut next = pool;
        let mut at = [0; 8];
        for (input, (name, words)) in INPUTS.into_iter().enumerate() {
            at[input] = next;
            let elements = (ROWS * words) as u64;
            let _: BufferId = match words {
                2 => e.watch(name, DType::I64, elements / 2, next),
                _ => e.watch(name, DType::I32, elements, next),
            };
            next += 4 * elements;
        }
        e.watch("out", DType::I32, 1, next);
        let dice = Dice(plan.seed);
        let mut it = Serving {
            plan,
            dice,
            e,
            at,
            out: next,
            graphs: Default::default(),
            rows: Vec::new(),
            step: 0,
            launch: 0,
            harmful: false,
        };
        (0..4).for_each(|size| it.capture(size));
        it.e.end_set_up();
        it.e.request(1, "", &[]);
        it
    }

    fn capture(&mut self, size: usize) {
        let kernel = |inputs: &[u64]| {
            let args = [self.out].iter().chain(inputs).map(|&address| Arg::Pointer(address)).collect();
            Kernel { name: "decode".into(), args, grid: 1 << size, effect: compute }
        };
        let parts: Vec<Kernel> = match self.plan.two_graphs {
            true => vec![kernel(&self.at[..4]), kernel(&self.at[4..])],
            false => vec![kernel(&self.at)],
        };
        let label = format!("decode of {}", 1 << size);
        self.graphs[size] = parts.into_iter().map(|kernel| self.e.capture(&label, vec![kernel])).collect();
    }

    fn run(mut self) -> (Trace, bool) {
        let first = 1 + self.dice.below(ROWS as u64);
        for _ in 0..first {
            self.arrive();
        }
        let mut made = 0;
        while made < self.plan.steps {
            let (dummies, what) = self.plan.dummies;
            if self.dice.chance(dummies) {
                self.dummy(what);
            }
            self.rows.retain(|row| row.left > 0);
            while self.rows.len() < ROWS && (self.rows.is_empty() || self.dice.chance(self.plan.arrivals)) {
                self.arrive();
            }
            self.decode();
            made += 1;
        }
        self.close();
        (self.e.finish(), self.harmful)
    }

    /// A request comes: an eager prefill, of which the host's copies are seen.
    fn arrive(&mut self) {
        let prompt = 1 + self.dice.below(40) as u32;
        let left = if self.plan.arrivals == 0 { u64::MAX } else { 1 + self.dice.below(40) };
        let mut row = Row { position: 0, left, blocks: Vec::new(), temperature: self.dice.below(9) as f32 };
        for _ in 0..prompt {
            self.advance(&mut row);
        }
        self.rows.push(row);
    }

    /// One more token of a row.
    fn advance(&mut self, row: &mut Row) {
        if row.position.is_multiple_of(self.plan.block) && row.blocks.len() < BLOCKS {
            row.blocks.push(1 + self.dice.below(1 << 12) as i32);
        }
        row.position += 1;
    }

    fn open(&mut self) {
        self.step += 1;
        self.e.open(StepKind::Decode, 1, self.step);
    }

    /// What the host wants the inputs to hold, for a padded batch.
    fn values(&mut self, padded: usize) -> Vec<Vec<i32>> {
        let mut values: Vec<Vec<i32>> = INPUTS.iter().map(|(_, words)| vec![0; padded * words]).collect();
        for row in 0..padded {
            values[3][2 * row] = -1;
            values[3][2 * row + 1] = -1;
        }
        let mut pages = 0;
        for (r, row) in self.rows.iter().enumerate() {
            let position = row.position as i32 - 1;
            let block = row.blocks[(position as usize / self.plan.block as usize).min(row.blocks.len() - 1)];
            let slot = block * self.plan.block as i32 + position % self.plan.block as i32;
            values[0][r] = self.dice.below(self.plan.tokens) as i32;
            values[1][2 * r] = position;
            values[2][r] = position + 1;
            (values[3][2 * r], values[3][2 * r + 1]) = (slot, 0);
            values[4][r * BLOCKS..][..row.blocks.len()].copy_from_slice(&row.blocks);
            values[5][r] = row.temperature.to_bits() as i32;
            values[6][r] = pages;
            pages += (position / self.plan.block as i32) + 1;
        }
        values[7][0] = self.rows.iter().map(|row| row.blocks.len() as i32).sum();
        values
    }

    fn stream(&self) -> u32 {
        u32::from(self.plan.own_stream)
    }

    fn copy(&mut self, input: usize, from: usize, words: &[i32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (stream, to) = (self.stream(), self.at[input] + 4 * from as u64);
        self.e.host_copy_on(stream, to, &bytes, false);
    }

    fn held(&self, input: usize, from: usize, words: usize) -> Vec<i32> {
        (from..from + words).map(|i| self.e.memory.i32(self.at[input] + 4 * i as u64)).collect()
    }

    /// Copies an input as its policy says.
    fn give(&mut self, input: usize, values: &[i32]) {
        if self.plan.omitted == Some((self.launch, input)) {
            self.harmful = self.held(input, 0, values.len()) != values;
            return;
        }
        let words = INPUTS[input].1;
        match self.plan.policies[input] {
            Policy::Every => self.copy(input, 0, values),
            Policy::Whole => {
                let mut whole = values.to_vec();
                whole.resize(ROWS * words, 0);
                self.copy(input, 0, &whole);
            }
            Policy::Dirty => {
                if self.held(input, 0, values.len()) != values {
                    self.copy(input, 0, values);
                }
            }
            Policy::DirtyRows => {
                for row in 0..values.len() / words {
                    let of_row = &values[row * words..][..words];
                    if self.held(input, row * words, words) != of_row {
                        self.copy(input, row * words, of_row);
                    }
                }
            }
        }
    }

    fn order(&mut self) {
        if self.plan.own_stream {
            self.e.item(Item::EventRecord { event: self.step, stream: 1 });
            self.e.item(Item::EventWait { event: self.step, stream: 0 });
        }
    }

    /// A step of the batch. Copies ahead are made before the step begins: after the launch of the one before.
    fn decode(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.iter_mut().for_each(|row| {
            self.advance(row);
            row.left -= 1;
        });
        self.rows = rows;
        let size = (0..4).find(|size| self.rows.len() <= 1 << size).unwrap_or(3);
        let values = self.values(1 << size);
        let mut later: Vec<usize> = Vec::new();
        let mut early: Vec<usize> = Vec::new();
        for input in 0..INPUTS.len() {
            if self.dice.chance(self.plan.ahead) { early.push(input) } else { later.push(input) }
        }
        if !early.is_empty() && self.step > 0 {
            // The last step is still open.
            early.iter().for_each(|&input| self.give(input, &values[input]));
        } else {
            later.append(&mut early);
        }
        self.close();
        self.open();
        if self.dice.chance(self.plan.captures) {
            self.capture(size);
        }
        if self.plan.staging {
            // One copy from the first input's begin to the last one's end.
            let all: Vec<i32> = (0..INPUTS.len())
                .flat_map(|input| {
                    let mut whole = values[input].clone();
                    whole.resize(ROWS * INPUTS[input].1, 0);
                    whole
                })
                .collect();
            match self.plan.omitted {
                Some((launch, _)) if launch == self.launch => self.harmful = true,
                _ => self.copy(0, 0, &all),
            }
            later.clear();
        }
        let (first, second): (Vec<usize>, Vec<usize>) =
            later.into_iter().partition(|&input| !self.plan.two_graphs || input < 4);
        first.into_iter().for_each(|input| self.give(input, &values[input]));
        self.order();
        let graphs = self.graphs[size].clone();
        self.e.launch_graph(graphs[0]);
        second.into_iter().for_each(|input| self.give(input, &values[input]));
        if let Some(&graph) = graphs.get(1) {
            self.order();
            self.e.launch_graph(graph);
        }
        self.launch += 1;
    }

    /// The step that is open ends.
    fn close(&mut self) {
        if self.step > 0 {
            self.e.close();
        }
    }

    /// A step of no request, as a rank makes it that waits for others: the graph runs on what is there.
    fn dummy(&mut self, what: Dummy) {
        self.close();
        self.open();
        let size = match self.dice.chance(50) {
            true => (0..4).find(|size| self.rows.len() <= 1 << size).unwrap_or(3),
            false => 0,
        };
        if what != Dummy::Nothing {
            self.copy(2, 0, &vec![1; 1 << size]);
        }
        if what == Dummy::SeqLensAndSlots {
            self.copy(3, 0, &vec![-1; 2 << size]);
        }
        self.order();
        for graph in self.graphs[size].clone() {
            self.e.launch_graph(graph);
        }
    }
}
