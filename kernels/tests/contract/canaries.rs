//! `touched` is the truth: a launch changes no byte outside of what it says it writes, and no byte
//! outside of what it says it reads changes a result.

use proptest::prelude::*;
use twinstep_kernels::{BufferSpec, CpuForm, DType, Launch, Op, Range, Role, Stream, View};

use crate::case::{Case, FORMS, stream};
use crate::generate::{Random, case};

/// Canary bytes on either side of an operand: a multiple of every element's size.
const MARGIN: usize = 64;

/// Operands with canaries around each, all in one buffer or each in its own.
struct Layout {
    stream: Stream,
    /// One per buffer.
    views: Vec<View>,
    launch: Launch,
}

/// What a launch may do with each byte of each buffer.
#[derive(Clone, PartialEq, Debug)]
struct Permission {
    reads: Vec<Vec<bool>>,
    writes: Vec<Vec<bool>>,
}

impl Layout {
    fn new(form: CpuForm, case: &Case, one_buffer: bool, random: &mut Random) -> Layout {
        let mut stream = stream(form);
        let padded = |len: usize| len.next_multiple_of(8) + MARGIN;
        let (mut sizes, mut places) = (Vec::new(), Vec::new());
        for operand in &case.operands {
            if !one_buffer || sizes.is_empty() {
                sizes.push(MARGIN);
            }
            let size = sizes.last_mut().expect("one was pushed");
            let offset = *size;
            *size += padded(operand.bytes.len());
            places.push((sizes.len() - 1, offset));
        }
        let mut whole = Vec::new();
        for (i, &size) in sizes.iter().enumerate() {
            let spec = BufferSpec::new(&format!("memory{i}"), DType::U8, &[size], Role::State);
            let buffer = stream.allocate(spec).expect("small");
            let view = View::whole(&buffer);
            stream.write(&view, &random.bytes(size)).expect("in bounds");
            whole.push(view);
        }
        let mut views = Vec::new();
        for (operand, &(buffer, offset)) in case.operands.iter().zip(&places) {
            let view = View::dense(whole[buffer].buffer, operand.dtype, offset, &operand.shape);
            stream.write(&view, &operand.bytes).expect("in bounds");
            views.push(view);
        }
        let launch = Launch::new(case.op, views, case.scalars.clone()).expect("valid");
        Layout { stream, views: whole, launch }
    }

    fn contents(&mut self) -> Vec<Vec<u8>> {
        self.views.iter().map(|view| self.stream.read(view).expect("in bounds")).collect()
    }

    fn restore(&mut self, contents: &[Vec<u8>]) {
        for (view, bytes) in self.views.iter().zip(contents) {
            self.stream.write(view, bytes).expect("in bounds");
        }
    }

    fn permission(&self, ranges: &[Range]) -> Permission {
        let nothing: Vec<Vec<bool>> = self.views.iter().map(|v| vec![false; v.len()]).collect();
        let mut permission = Permission { reads: nothing.clone(), writes: nothing };
        for range in ranges {
            let buffer = self.views.iter().position(|v| v.buffer == range.buffer).expect("one of ours");
            let mark = |all: &mut Vec<Vec<bool>>| all[buffer][range.start..range.end].fill(true);
            if range.access.reads() {
                mark(&mut permission.reads);
            }
            if range.access.writes() {
                mark(&mut permission.writes);
            }
        }
        permission
    }
}

fn implies(a: &[Vec<bool>], b: &[Vec<bool>]) -> bool {
    a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| !a || *b)
}

fn check(form: CpuForm, op: Op, seed: u64, one_buffer: bool) {
    let mut random = Random::new(seed);
    let case = case(op, &mut random);
    let mut layout = Layout::new(form, &case, one_buffer, &mut random);
    let launch = layout.launch.clone();

    let touched = layout.stream.touched(&launch).expect("in bounds");
    let touched = layout.permission(&touched);
    let bound = layout.permission(&launch.bound());
    let definite = layout.permission(&launch.definite_writes());
    assert!(implies(&touched.reads, &bound.reads), "{op:?} touches reads that are not bound");
    assert!(implies(&touched.writes, &bound.writes), "{op:?} touches writes that are not bound");
    assert!(implies(&definite.writes, &touched.writes), "{op:?} has definite writes that are not touched");

    let before = layout.contents();
    layout.stream.launch(&launch).expect("valid");
    let after = layout.contents();

    // The same again where every byte that is not read holds something else.
    let mut other_before = before.clone();
    for (buffer, reads) in other_before.iter_mut().zip(&touched.reads) {
        for (byte, _) in buffer.iter_mut().zip(reads).filter(|(_, read)| !**read) {
            *byte = random.bits() as u8;
        }
    }
    layout.restore(&other_before);
    let again = layout.stream.touched(&launch).expect("in bounds");
    assert_eq!(layout.permission(&again), touched, "{op:?} reads index bytes that it does not tell");
    layout.stream.launch(&launch).expect("valid");
    let other_after = layout.contents();

    for b in 0..before.len() {
        for i in 0..before[b].len() {
            let at = || format!("{op:?} {form:?}: byte {i} of buffer {b}\n{case:?}");
            if !touched.writes[b][i] {
                assert_eq!(after[b][i], before[b][i], "changed without being touched: {}", at());
                assert_eq!(other_after[b][i], other_before[b][i], "changed without being touched: {}", at());
                continue;
            }
            let left_alone = after[b][i] == before[b][i] && other_after[b][i] == other_before[b][i];
            let may_stay = left_alone && !definite.writes[b][i];
            assert!(after[b][i] == other_after[b][i] || may_stay, "depends on unread bytes: {}", at());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn launches_keep_to_what_they_touch(seed: u64, one_buffer: bool) {
        for form in FORMS {
            for &op in Op::ALL {
                check(form, op, seed, one_buffer);
            }
        }
    }
}
