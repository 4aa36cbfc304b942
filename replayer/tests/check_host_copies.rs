//! Copies from the host before the graphs of another engine, missing, late and elsewhere: found where they are, and
//! nothing where a loop is sound, however it goes about it.

mod engine;

use engine::{Arg, Engine, Kernel};
use twinstep_replayer::{CheckReport, Kind, check};
use twinstep_traces::{BufferId, DType, GraphId, Item, StepKind, Trace};

/// An engine whose graph reads a position, a token, a slot table and what it computed before. A step is a word, a letter
/// for each thing that happens:
/// `p` `t` copies of another position, token; `s` of the same position again; `r` to another row of the table;
/// `L` a launch of the graph, `M` of the one for another size; `d` a copy on the device to the position,
/// `k` a recorded kernel that is given the position, `u` one that advances it without being recorded;
/// `m` the position's memory is another from here on; `n` the same, under its name; `f` its memory is given back;
/// `|` the end of the step; `g` something was not recorded; `Q` another request; `P` a prefill.
struct Loop {
    e: Engine,
    position: u64,
    token: u64,
    table: u64,
    other: u64,
    segment: BufferId,
    graphs: [GraphId; 2],
    next: i32,
    at: (u32, u32),
    open: bool,
}

/// How the loop's graph and its recording are made.
#[derive(Clone, Copy)]
struct Made {
    /// The graph advances the position itself.
    advances: bool,
    /// Nobody says how the memory is called, so that names are made up.
    watched: bool,
}

impl Loop {
    fn new(made: Made) -> Loop {
        let mut e = Engine::new("graph", 0x7f20_0000_0000, 0);
        e.around_graphs = true;
        e.launches = true;
        let (segment, position) = e.segment(512, None);
        let (_, pool) = e.segment(4096, None);
        let (token, table, out, other) = (pool, pool + 256, pool + 512, pool + 1024);
        if made.watched {
            e.watch("position", DType::I32, 1, position);
        }
        e.watch("token", DType::I32, 1, token);
        e.watch("table", DType::I32, 4, table);
        e.watch("out", DType::F32, 1, out);
        let args = [position, token, table, out].map(Arg::Pointer).to_vec();
        let kernel = Kernel {
            name: "decode".into(),
            args,
            grid: 1,
            effect: if made.advances {
                |m, p| {
                    m.set_f32(p[3], 0, (m.i32(p[0]) * 7 + m.i32(p[1])) as f32);
                    m.set_i32(p[0], m.i32(p[0]) + 1);
                }
            } else {
                |m, p| m.set_f32(p[3], 0, (m.i32(p[0]) * 7 + m.i32(p[1])) as f32)
            },
        };
        let graphs = [e.capture("decode", vec![kernel.clone()]), e.capture("decode of 2", vec![kernel])];
        e.end_set_up();
        e.request(1, "", &[]);
        let mut it =
            Loop { e, position, token, table, other, segment, graphs, next: 1, at: (1, 0), open: false };
        it.prefill();
        it
    }

    fn prefill(&mut self) {
        self.at.1 += 1;
        self.e.open(StepKind::Prefill, self.at.0, self.at.1);
        self.e.host_copy(self.position, &0i32.to_le_bytes());
        self.e.close();
    }

    /// Steps in words.
    fn run(mut self, words: &str) -> Trace {
        for letter in words.chars() {
            self.letter(letter);
        }
        assert!(!self.open, "the last step has not ended: {words}");
        self.e.finish()
    }

    fn letter(&mut self, letter: char) {
        let value = self.next.to_le_bytes();
        if !self.open && !matches!(letter, 'Q' | 'P') {
            self.open = true;
            self.at.1 += 1;
            self.e.open(StepKind::Decode, self.at.0, self.at.1);
        }
        match letter {
            'p' => self.e.host_copy(self.position, &value),
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
            'm' => self.position = self.other,
            'n' => {
                self.position = self.other;
                self.e.watch("position", DType::I32, 1, self.other);
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

const PLAIN: Made = Made { advances: false, watched: true };

fn report(words: &str) -> CheckReport {
    check(&Loop::new(PLAIN).run(words)).unwrap()
}

#[track_caller]
fn clean(words: &str) {
    let report = report(words);
    assert!(report.findings.is_empty(), "{words}: {:#?}", report.findings);
}

/// The only finding: its kind, step and buffer.
#[track_caller]
fn one(words: &str, kind: Kind, step: u32, buffer: &str) -> String {
    let report = report(words);
    let found: Vec<_> =
        report.findings.iter().map(|f| (f.kind, f.step, f.buffer.as_deref().unwrap_or(""))).collect();
    assert_eq!(found, [(kind, step, buffer)], "{words}: {:#?}", report.findings);
    let finding = &report.findings[0];
    assert_eq!((finding.check.as_str(), finding.graph, finding.node), (kind.name(), Some(0), Some(0)));
    finding.message.clone()
}

#[test]
fn a_copy_that_came_in_every_step_and_then_not() {
    let message = one("ptL|ptL|ptL|tL|ptL|", Kind::MissingHostWrite, 5, "position@0");
    assert_eq!(
        message,
        "graph 0 node 0 (decode) parameter 0 binds position@0, to which the host copied another value in each of 3 \
         decode steps before, and nothing in this one"
    );
    // The last step of the trace, and the only input.
    one("ptL|ptL|ptL|tL|", Kind::MissingHostWrite, 5, "position@0");
    one("pL|pL|pL|L|pL|", Kind::MissingHostWrite, 5, "position@0");
    // Written ahead, in the step before.
    one("ptLp|tLp|tLp|tLp|tL|tLp|tL|", Kind::MissingHostWrite, 7, "position@0");
    // A kernel that is given the position in every step does not write it.
    one("kptL|kptL|kptL|ktL|", Kind::MissingHostWrite, 5, "position@0");
    // Steps of another graph and of another request come in between.
    one("ptL|M|ptL|ptL|ptL|tL|", Kind::MissingHostWrite, 7, "position@0");
}

#[test]
fn two_of_three_steps_are_no_rule() {
    clean("ptL|ptL|tL|ptL|");
    clean("tL|tL|ptL|ptL|tL|tL|tL|");
    // The count begins anew with a request, a prefill, another graph, a gap.
    clean("ptL|ptL|ptL|QtL|tL|");
    clean("ptL|ptL|ptL|PtL|tL|");
    clean("ptL|ptL|ptL|M|tL|tL|");
    clean("ptL|ptL|ptL|gtL|tL|");
    clean("ptL|ptL|gptL|tL|tL|");
}

#[test]
fn sound_loops() {
    // In order, ahead, twice a step, now and then, always the same.
    clean("ptL|ptL|ptL|ptL|ptL|ptL|");
    clean("ptLpt|Lpt|Lpt|Lpt|Lpt|L|");
    clean("ptLpLt|pLpLt|pLpLt|pLpLt|pLpL|");
    clean("ptL|tL|tL|ptL|tL|tL|ptL|");
    clean("ptL|stL|stL|stL|tL|tL|");
    // Somebody else writes: on the device, by a kernel that is not recorded, by one that is and was not before.
    clean("ptL|ptL|ptL|dtL|ptL|");
    clean("ptL|ptL|ptL|utL|ptL|");
    clean("ptL|ptL|ptL|ktL|ptL|");
    // A change to ahead is none to late.
    clean("ptL|ptL|ptL|ptLp|tLp|tLp|tL|");
    // A ring of rows: another one each time, and then none.
    clean("rtL|rtL|rtL|tL|rtL|tL|");
    // Two sizes by turns.
    clean("ptL|ptM|ptL|ptM|ptL|ptM|");
    clean("ptL|ptM|ptL|ptM|tL|tM|");
    // The graph is not launched.
    clean("ptL|ptL|ptL|t|ptL|");
}

#[test]
fn what_the_graph_advances_itself_needs_no_copy() {
    let trace = Loop::new(Made { advances: true, ..PLAIN }).run("ptL|ptL|ptL|tL|tL|");
    assert_eq!(check(&trace).unwrap().findings, []);
}

#[test]
fn a_step_without_any_copy_is_a_dummy_run() {
    let report = report("ptL|ptL|ptL|L|ptL|");
    assert_eq!(report.findings, []);
    let said = report.not_looked_at.iter().filter(|n| n.contains("in step 5: the host copies nothing there"));
    assert_eq!(said.count(), 2, "{:?}", report.not_looked_at);
}

#[test]
fn a_copy_that_comes_after_the_launch() {
    let message = one("ptL|ptL|ptL|tLp|ptL|", Kind::LateHostWrite, 5, "position@0");
    assert_eq!(
        message,
        "graph 0 node 0 (decode) parameter 0 binds position@0, to which the host copies only afterwards; in each of 3 \
         decode steps before, it copied another value there first"
    );
    one("pL|pL|pL|Lp|pL|", Kind::LateHostWrite, 5, "position@0");
    // From then on it is ahead.
    one("ptL|ptL|ptL|tLp|tLp|tLp|tL|", Kind::LateHostWrite, 5, "position@0");
    // Where steps are guessed, the copy is counted to the next step.
    one("ptL|ptL|ptL|tL|pptL|ptL|", Kind::LateHostWrite, 5, "position@0");
    // One copy of two.
    one("pptL|pptL|pptL|tLp|pptL|", Kind::MissingHostWrite, 5, "position@0");
}

#[test]
fn a_copy_that_goes_elsewhere() {
    let message = one("ptL|ptL|ptL|mptL|ptL|", Kind::StaleBinding, 5, "position@0");
    let elsewhere = "in this one it copies as much to 0x7f2000000600 instead, where it never did";
    assert!(message.ends_with(elsewhere), "{message}");
    // In another order it may be another input.
    one("ptL|ptL|ptL|mtpL|ptL|", Kind::MissingHostWrite, 5, "position@0");
    // What has a name is told by that.
    let message = one("ptL|ptL|ptL|nptL|ptL|", Kind::StaleBinding, 5, "position@0");
    assert!(message.contains("but position is position@1 since step 5"), "{message}");
    let message = one("ptL|ptL|ptL|ftL|tL|", Kind::UseAfterFree, 5, "position@0");
    assert!(message.contains("whose memory was given back in step 5"), "{message}");
}

#[test]
fn what_no_snapshot_shows_is_not_judged() {
    let trace = Loop::new(Made { watched: false, ..PLAIN }).run("ptL|ptL|ptL|tL|ptL|");
    assert_eq!(check(&trace).unwrap().findings, []);
}
