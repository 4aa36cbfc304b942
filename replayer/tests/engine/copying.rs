//! A decode loop whose host copies inputs to the device before each launch of its graph, or does not.

use twinstep_traces::{BufferId, DType, GraphId, Item, StepKind, Trace};

use super::{Arg, Engine, Kernel, Memory};

/// An engine whose graph reads a position, a token, a slot table and what it computed before. A step is a word, a letter
/// for each thing that happens:
/// `p` `t` copies of another position, token; `s` of the same position again; `r` to another row of the table;
/// `L` a launch of the graph, `M` of the one for another size; `d` a copy on the device to the position,
/// `y` a copy of another position on a stream of its own, `x` one that the next launch does not wait for, `z` one on the
/// launch's stream that takes effect too late;
/// `O` a launch of a graph that reads none of them; `R` another request whose steps count on;
/// `k` a recorded kernel that is given the position, `u` one that advances it without being recorded;
/// `m` the position's memory is another from here on; `n` the same, under its name; `f` its memory is given back;
/// `|` the end of the step; `g` something was not recorded; `Q` another request; `P` a prefill.
pub(crate) struct Loop {
    e: Engine,
    position: u64,
    token: u64,
    table: u64,
    elsewhere: u64,
    segment: BufferId,
    graphs: [GraphId; 3],
    next: i32,
    at: (u32, u32),
    open: bool,
}

/// How the loop's graph and its recording are made.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    /// Whether the graph advances the position itself.
    pub(crate) advances: Advances,
    /// Whether snapshots cover the position.
    pub(crate) watched: bool,
    /// The position has a second name.
    pub(crate) alias: bool,
}

/// When a graph advances the position.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advances {
    Never,
    /// Nor does it have its address.
    Unread,
    First,
    Last,
    /// Last, up to 4.
    UpTo4,
}

impl Made {
    /// Positions come from the host.
    pub(crate) const PLAIN: Made = Made { advances: Advances::Never, watched: true, alias: false };
}

fn compute(m: &mut Memory, p: &[u64]) {
    m.set_f32(p[3], 0, (m.i32(p[0]) * 7 + m.i32(p[1])) as f32);
}

impl Loop {
    pub(crate) fn new(made: Made) -> Loop {
        let mut e = Engine::new("graph", 0x7f20_0000_0000, 0);
        e.around_graphs = true;
        e.launches = true;
        let (segment, position) = e.segment(512, None);
        let (_, pool) = e.segment(4096, None);
        let (token, table, out, elsewhere) = (pool, pool + 256, pool + 512, pool + 1024);
        if made.watched {
            e.watch("position", DType::I32, 1, position);
        }
        if made.alias {
            e.watch("position_ids", DType::I32, 1, position);
        }
        e.watch("token", DType::I32, 1, token);
        e.watch("table", DType::I32, 4, table);
        e.watch("out", DType::F32, 1, out);
        let read = if made.advances == Advances::Unread { token } else { position };
        let args = [read, token, table, out].map(Arg::Pointer).to_vec();
        let kernel = Kernel {
            name: "decode".into(),
            args,
            grid: 1,
            effect: match made.advances {
                Advances::Never | Advances::Unread => compute,
                Advances::First => |m, p| {
                    m.set_i32(p[0], m.i32(p[0]) + 1);
                    compute(m, p);
                },
                Advances::UpTo4 => |m, p| {
                    compute(m, p);
                    m.set_i32(p[0], m.i32(p[0]).max((m.i32(p[0]) + 1).min(4)));
                },
                Advances::Last => |m, p| {
                    compute(m, p);
                    m.set_i32(p[0], m.i32(p[0]) + 1);
                },
            },
        };
        let other =
            Kernel { name: "other".into(), args: vec![Arg::Pointer(out)], grid: 1, effect: |_, _| {} };
        let graphs = [
            e.capture("decode", vec![kernel.clone()]),
            e.capture("decode of 2", vec![kernel]),
            e.capture("other", vec![other]),
        ];
        e.end_set_up();
        e.request(1, "", &[]);
        let mut it =
            Loop { e, position, token, table, elsewhere, segment, graphs, next: 1, at: (1, 0), open: false };
        it.prefill();
        it
    }

    fn prefill(&mut self) {
        self.at.1 += 1;
        self.e.open(StepKind::Prefill, self.at.0, self.at.1);
        self.e.host_copy(self.position, &0i32.to_le_bytes());
        self.e.point("step.after");
        self.e.close();
    }

    /// Steps in words.
    pub(crate) fn run(mut self, words: &str) -> Trace {
        for letter in words.chars() {
            self.letter(letter);
        }
        assert!(!self.open, "the last step has not ended: {words}");
        self.e.finish()
    }

    fn letter(&mut self, letter: char) {
        let value = self.next.to_le_bytes();
        if !self.open && !matches!(letter, 'Q' | 'R' | 'P') {
            self.open = true;
            self.at.1 += 1;
            self.e.open(StepKind::Decode, self.at.0, self.at.1);
        }
        match letter {
            'p' => self.e.host_copy(self.position, &value),
            'x' | 'y' | 'z' => {
                let stream = u32::from(letter != 'z');
                self.e.host_copy_on(stream, self.position, &value, letter != 'y');
            }
            's' => {
                let same = self.e.memory.i32(self.position).to_le_bytes();
                self.e.host_copy(self.position, &same);
            }
            't' => self.e.host_copy(self.token, &value),
            'r' => self.e.host_copy(self.table + 4 * (self.next as u64 % 4), &value),
            'L' | 'M' => {
                self.next += 1;
                self.e.launch_graph(self.graphs[usize::from(letter == 'M')]);
            }
            'O' => self.e.launch_graph(self.graphs[2]),
            'R' => {
                self.at.0 += 1;
                self.e.request(self.at.0, "", &[]);
            }
            'd' => self.e.copy(self.token, self.position, 4),
            'k' => self.e.launch(&Kernel {
                name: "position_ids".into(),
                args: vec![Arg::Pointer(self.position)],
                grid: 1,
                effect: |_, _| {},
            }),
            'u' => {
                let value = self.e.memory.i32(self.position);
                self.e.memory.set_i32(self.position, value + 1);
            }
            'm' => self.position = self.elsewhere,
            'n' => {
                self.position = self.elsewhere;
                self.e.watch("position", DType::I32, 1, self.elsewhere);
            }
            'f' => self.e.free(self.segment),
            'g' => self.e.item(Item::Gap { reason: "a buffer was full".into() }),
            '|' => {
                self.open = false;
                self.e.close();
            }
            'Q' => {
                self.at = (self.at.0 + 1, 0);
                self.e.request(self.at.0, "", &[]);
                self.prefill();
            }
            'P' => self.prefill(),
            _ => panic!("no such letter: {letter}"),
        }
    }
}
