//! A decode loop on that engine: embed, attend, MLP, head, sample; and the mistakes that it can make.

use twinstep_traces::{DType, GraphId, Item, Trace};

use super::{Arg, Engine, Kernel, Memory};

/// What goes wrong. Each is a line or two where a real engine would do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// `last_codes` gets new memory at step 4; the graph keeps the old.
    Rebound,
    /// As `Rebound`, and nobody watches the new memory under the name.
    ReboundUnseen,
    /// The sequence length is passed by value and baked at capture.
    FrozenLength,
    /// The MLP's graph is captured in step 2 and not launched there.
    Unlaunched,
    /// The segment of the feedback buffer is given back at step 4 under the graph.
    Freed,
    /// The same, and the graph is not launched in step 7, which is another mistake.
    FreedAndSkipped,
    /// And handed out again to somebody who writes to it.
    Aliased,
    /// The graph is not launched in step 5.
    Skipped,
    /// In step 5 the graph of another size is launched.
    WrongGraph,
    /// In step 5 the graph is changed in place, and changed back after it.
    Changed,
    /// From step 5 on the graph of another size is launched.
    Switched,
    /// In step 5 the kernels run one by one instead, and not as the graph does.
    FellBack,
    /// `Rebound`, and in step 4 the graph of another size is launched.
    ReboundAndWrongGraph,
    /// `Rebound`, and in step 5 only the first three nodes take effect.
    ReboundAndPartial,
    /// As `Unlaunched`, after a warm-up of the same kernel on other memory.
    WarmedElsewhere,
    /// In step 5 only the first three nodes take effect.
    Partial,
    /// In step 5 somebody changes a value of `hidden` without a launch.
    Stray,
    /// In step 5 the head divides by zero.
    NotANumber,
    /// All values are off by a little from step 5 on.
    Noise(u32),
    /// A value is off by as many thousandths from step 5 on.
    Off(u32),
}

/// How the loop runs.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// `eager`, `graph` or `piecewise`.
    pub(crate) mode: &'static str,
    pub(crate) mistake: Mistake,
    pub(crate) base: u64,
    pub(crate) launches: bool,
    pub(crate) around_graphs: bool,
    pub(crate) warm_ups: u32,
    /// Prefix of kernel names.
    pub(crate) arch: &'static str,
    pub(crate) steps: u32,
    /// Ids and numbers of requests, in order.
    pub(crate) requests: Vec<(&'static str, Vec<u32>)>,
    pub(crate) rank: u32,
    /// Eager passes an upper bound of the length by value as well, and the graph the greatest.
    pub(crate) bound: bool,
    /// The MLP runs eagerly in the step that captures its graph, and the graph is not launched there.
    pub(crate) warm_capture: bool,
    /// The request in which it goes wrong.
    pub(crate) in_request: u32,
    /// The length that the graph is captured with.
    pub(crate) captured_length: i32,
    /// What is passed by value is not the length but a slot that follows from it, to and fro.
    pub(crate) scattered: bool,
    /// The length is passed in a structure.
    pub(crate) packed: bool,
    /// A kernel that does nothing runs after the one of this name.
    pub(crate) extra: Option<&'static str>,
}

impl Plan {
    pub(crate) fn new(mode: &'static str, mistake: Mistake) -> Plan {
        Plan {
            mode,
            mistake,
            base: 0x7f00_0000_0000,
            launches: false,
            around_graphs: false,
            warm_ups: 0,
            arch: "sm90",
            steps: 8,
            requests: vec![("req-a", vec![5, 6, 7])],
            rank: 0,
            bound: false,
            warm_capture: false,
            in_request: 1,
            captured_length: 1,
            scattered: false,
            packed: false,
            extra: None,
        }
    }

    pub(crate) fn record(&self) -> Trace {
        Talker::new(self).run().finish()
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        Talker::new(self).run().bytes()
    }
}

const WIDTH: u64 = 4;

fn embed(m: &mut Memory, p: &[u64]) {
    for i in 0..WIDTH {
        let code = m.i32(p[0]) as f32;
        m.set_f32(p[1], i, code * 0.5 + i as f32);
    }
}

fn attend_length(m: &mut Memory, p: &[u64], length: i32) {
    let length = length.clamp(0, 30) as u64;
    let first = m.f32(p[0], 0);
    m.set_f32(p[1], length, first);
    let sum: f32 = (0..=length).map(|i| m.f32(p[1], i)).sum();
    for i in 0..WIDTH {
        let value = m.f32(p[0], i);
        m.set_f32(p[0], i, value + sum * 0.25);
    }
}

fn attend(m: &mut Memory, p: &[u64]) {
    let length = m.i32(p[2]);
    attend_length(m, p, length);
    m.set_i32(p[2], length + 1);
}

/// Length by value; the device's own is advanced as well, so that both forms leave the same.
fn attend_by_value(m: &mut Memory, p: &[u64]) {
    attend_length(m, p, p[3] as i32);
    let length = m.i32(p[2]);
    m.set_i32(p[2], length + 1);
}

fn mlp(m: &mut Memory, p: &[u64]) {
    for i in 0..WIDTH {
        let value = m.f32(p[0], i);
        m.set_f32(p[1], i, value * 0.5 + 1.0);
    }
}

fn head(m: &mut Memory, p: &[u64]) {
    for i in 0..WIDTH {
        let value = m.f32(p[0], i);
        m.set_f32(p[1], i, value * (i as f32 - 1.5));
    }
}

fn head_by_zero(m: &mut Memory, p: &[u64]) {
    head(m, p);
    m.set_f32(p[1], 2, f32::NAN);
}

fn sample(m: &mut Memory, p: &[u64]) {
    let value = m.f32(p[0], 3) * 10.0;
    let code = if value.is_finite() { (value as i64).rem_euclid(512) as i32 } else { 0 };
    m.set_i32(p[1], code);
}

/// Where things lie.
struct Talker<'p> {
    plan: &'p Plan,
    e: Engine,
    codes: u64,
    hidden: u64,
    kv: u64,
    length: u64,
    mlp_out: u64,
    logits: u64,
    seen: i32,
    decode: Option<GraphId>,
    other: Option<GraphId>,
    mlp_graph: Option<GraphId>,
    codes_segment: twinstep_traces::BufferId,
}

impl<'p> Talker<'p> {
    fn new(plan: &'p Plan) -> Self {
        let mut e = Engine::new(plan.mode, plan.base, plan.rank);
        e.launches = plan.launches;
        e.around_graphs = plan.around_graphs;
        let (codes_segment, codes) = e.segment(512, None);
        let (_, pool) = e.segment(4096, None);
        let (hidden, kv, length) = (pool, pool + 256, pool + 512);
        let (mlp_out, logits) = (pool + 1024, pool + 1280);
        e.watch("last_codes", DType::I32, 1, codes);
        e.watch("hidden", DType::F32, WIDTH, hidden);
        e.watch("kv", DType::F32, 32, kv);
        e.watch("seq_len", DType::I32, 1, length);
        e.watch("mlp_out", DType::F32, WIDTH, mlp_out);
        e.watch("logits", DType::F32, WIDTH, logits);
        let (decode, other, mlp_graph) = (None, None, None);
        let mut talker = Talker {
            plan,
            e,
            codes,
            hidden,
            kv,
            length,
            mlp_out,
            logits,
            seen: 0,
            decode,
            other,
            mlp_graph,
            codes_segment,
        };
        if plan.mode == "graph" {
            // Captured on dummy input, length 1.
            let kernels = talker.kernels(plan.captured_length, mlp);
            talker.decode = Some(talker.e.capture("decode", kernels));
            let mut small = talker.kernels(1, mlp);
            small.truncate(4);
            talker.other = Some(talker.e.capture("decode of another size", small));
        }
        talker.e.end_set_up();
        talker
    }

    fn kernel(&self, name: &str, args: Vec<Arg>, effect: fn(&mut Memory, &[u64])) -> Kernel {
        Kernel { name: format!("{}_{name}", self.plan.arch), args, grid: 4, effect }
    }

    /// The kernels of a decode step.
    fn kernels(&self, length: i32, mlp: fn(&mut Memory, &[u64])) -> Vec<Kernel> {
        use Arg::{I32, Packed, Pointer};
        let by_value = self.plan.mistake == Mistake::FrozenLength
            || self.plan.mode == "eager" && self.plan.launches && !self.plan.bound;
        let mut args = vec![Pointer(self.hidden), Pointer(self.kv), Pointer(self.length)];
        let mut attention = if by_value {
            args.push(match (self.plan.scattered, self.plan.packed) {
                (true, _) => I32(length * 7 % 29),
                (_, true) => Packed(self.hidden, length, 0x7ffd_0000_1000 + 16 * length as u64),
                _ => I32(length),
            });
            self.kernel("attend", args, attend_by_value)
        } else {
            // The value is passed, and not used: an upper bound.
            let bound = if self.plan.mode == "graph" { 32 } else { length };
            args.push(I32(if self.plan.bound { bound } else { 0 }));
            self.kernel("attend", args, attend)
        };
        attention.grid = 4;
        let mut kernels = vec![
            self.kernel("embed", vec![Pointer(self.codes), Pointer(self.hidden)], embed),
            attention,
            self.kernel("mlp", vec![Pointer(self.hidden), Pointer(self.mlp_out)], mlp),
            self.kernel("head", vec![Pointer(self.mlp_out), Pointer(self.logits)], head),
            self.kernel("sample", vec![Pointer(self.logits), Pointer(self.codes)], sample),
        ];
        let named = |k: &Kernel| self.plan.extra.is_some_and(|name| k.name.ends_with(name));
        if let Some(at) = kernels.iter().position(named) {
            let name = format!("after_{}", kernels[at].name);
            kernels.insert(at + 1, self.kernel(&name, vec![Pointer(self.hidden)], |_, _| {}));
        }
        kernels
    }

    fn run(mut self) -> Engine {
        for _ in 0..self.plan.warm_ups {
            self.e.item(Item::Mark { text: "warm-up: dummy".into() });
            if let Some(graph) = self.decode {
                self.e.launch_graph(graph);
            }
            self.e.end_set_up();
        }
        for (number, (id, prompt)) in (1..).zip(&self.plan.requests) {
            self.e.request(number, id, prompt);
            self.prefill(number, prompt);
            for step in 2..=self.plan.steps {
                self.step(number, step);
            }
        }
        self.e
    }

    /// State as the prompt leaves it, by the host.
    fn prefill(&mut self, request: u32, prompt: &[u32]) {
        self.e.begin(request, 1);
        let (codes, kv, length) = (self.codes, self.kv, self.length);
        for i in 0..32 {
            self.e.memory.set_f32(kv, i, 0.0);
        }
        for i in 0..WIDTH {
            self.e.memory.set_f32(self.hidden, i, 0.0);
            self.e.memory.set_f32(self.mlp_out, i, 0.0);
            self.e.memory.set_f32(self.logits, i, 0.0);
        }
        for (i, token) in (0..).zip(prompt) {
            self.e.memory.set_f32(kv, i, *token as f32);
        }
        self.seen = prompt.len() as i32;
        self.e.memory.set_i32(length, self.seen);
        self.e.memory.set_i32(codes, prompt.iter().sum::<u32>() as i32);
        self.e.end();
    }

    fn step(&mut self, request: u32, step: u32) {
        let mistake = self.plan.mistake;
        if step == 4 && request == self.plan.in_request {
            match mistake {
                Mistake::Rebound
                | Mistake::ReboundUnseen
                | Mistake::ReboundAndWrongGraph
                | Mistake::ReboundAndPartial => {
                    let (_, address) = self.e.segment(512, None);
                    if mistake != Mistake::ReboundUnseen {
                        self.e.watch("last_codes", DType::I32, 1, address);
                    }
                    // The engine seeds it anew, and goes on with the new memory.
                    self.e.memory.set_i32(address, 99);
                    self.codes = address;
                }
                Mistake::Freed | Mistake::FreedAndSkipped => self.e.free(self.codes_segment),
                Mistake::Aliased => {
                    self.e.free(self.codes_segment);
                    self.e.segment(512, Some(self.plan.base));
                    self.e.memory.set_i32(self.codes, 123);
                }
                _ => {}
            }
        }
        self.e.begin(request, step);
        let at_five = step == 5 && request == self.plan.in_request;
        if at_five && mistake == Mistake::Stray {
            self.e.memory.set_f32(self.kv, 0, -3.0);
        }
        match self.plan.mode {
            "graph" => self.graph_step(step, at_five),
            "piecewise" => self.piecewise_step(step, request),
            _ => {
                let mut kernels = self.kernels(self.seen, mlp);
                if at_five && mistake == Mistake::NotANumber {
                    kernels[3].effect = head_by_zero;
                }
                kernels.iter().for_each(|k| self.e.launch(k));
            }
        }
        if let Mistake::Noise(seed) = mistake
            && step >= 5
        {
            let wobble = (seed.wrapping_mul(2_654_435_761).wrapping_add(step * 40_503) % 1000) as f32;
            let value = self.e.memory.f32(self.logits, 1);
            self.e.memory.set_f32(self.logits, 1, value + (wobble + 200.0) * 1e-6);
        }
        if let Mistake::Off(thousandths) = mistake
            && step >= 5
        {
            let value = self.e.memory.f32(self.logits, 1);
            self.e.memory.set_f32(self.logits, 1, value + thousandths as f32 * 1e-3);
        }
        self.seen += 1;
        self.e.end();
    }

    fn graph_step(&mut self, step: u32, at_five: bool) {
        let (Some(decode), Some(other)) = (self.decode, self.other) else { return };
        match self.plan.mistake {
            Mistake::Skipped if at_five => {}
            Mistake::WrongGraph if at_five => self.e.launch_graph(other),
            Mistake::Changed if at_five => {
                let mut kernels = self.kernels(1, mlp);
                kernels.truncate(4);
                let changed = self.e.capture("decode", kernels);
                self.e.launch_graph(changed);
            }
            Mistake::Switched if step >= 5 => self.e.launch_graph(other),
            Mistake::ReboundAndWrongGraph if step == 4 => self.e.launch_graph(other),
            Mistake::FellBack if at_five => {
                let mut kernels = self.kernels(self.seen, mlp);
                kernels[3].effect = head_by_zero;
                kernels.iter().for_each(|k| self.e.launch(k));
            }
            Mistake::Partial | Mistake::ReboundAndPartial if at_five => self.e.launch_part(decode, 3),
            Mistake::FreedAndSkipped if step == 7 => {}
            _ => self.e.launch_graph(decode),
        }
    }

    fn piecewise_step(&mut self, step: u32, request: u32) {
        let kernels = self.kernels(self.seen, mlp);
        self.e.launch(&kernels[0]);
        self.e.launch(&kernels[1]);
        let first = step == 2 && request == 1;
        if first {
            if self.plan.warm_capture {
                self.e.launch(&kernels[2]);
            }
            if self.plan.mistake == Mistake::WarmedElsewhere {
                let (from, to) = (self.logits + 256, self.logits + 512);
                let args = vec![Arg::Pointer(from), Arg::Pointer(to)];
                let warm_up = self.kernel("mlp", args, mlp);
                self.e.launch(&warm_up);
            }
            self.mlp_graph = Some(self.e.capture("mlp", vec![kernels[2].clone()]));
        }
        let unlaunched = matches!(self.plan.mistake, Mistake::Unlaunched | Mistake::WarmedElsewhere);
        let left_out = first && (unlaunched || self.plan.warm_capture);
        if let Some(graph) = self.mlp_graph.filter(|_| !left_out) {
            self.e.launch_graph(graph);
        }
        self.e.launch(&kernels[3]);
        self.e.launch(&kernels[4]);
    }
}
