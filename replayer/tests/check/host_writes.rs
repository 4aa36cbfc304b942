//! Host writes: missing where they were before, later than their readers.

use twinstep_traces::{BufferId, DType, Item, Role, StepKind, Trace};

use crate::fixture::Builder;
use crate::{clean, one};

/// Steps 2 to 8 with a position that the host writes in every step but those left out.
fn positions(left_out: &[u32], constant: bool) -> Trace {
    let mut t = Builder::new();
    let (x, y) = (t.row("positions", Role::Input), t.row("y", Role::State));
    t.host(x, 200);
    t.end();
    for step in 2..9 {
        let host = |t: &mut Builder| {
            if !left_out.contains(&step) {
                t.host(x, if constant { 1 } else { step as u8 });
            }
        };
        t.decode(step, host, |t| t.launch(t.silu("rope", x, x, y)));
    }
    t.finish()
}

#[test]
fn an_input_that_changed_in_every_step_and_then_not() {
    clean(&positions(&[], false));
    // A constant need not be written again, and nor need what was written only now and then.
    clean(&positions(&[6], true));
    clean(&positions(&[3, 5, 7], false));
    let finding = one(&positions(&[6], false));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("missing-host-write", 6, Some(0)));
    assert_eq!(finding.buffer.as_deref(), Some("positions@0"));
}

/// As an input, then in a prefill and a decode step of another request, where nothing was written before.
fn of_two_requests(role: Role) -> Builder {
    let mut t = Builder::new();
    let (x, y) = (t.row("positions", role), t.row("y", Role::State));
    t.host(x, 200);
    t.end();
    for step in 2..9 {
        let host = |t: &mut Builder| {
            if role == Role::Input || step < 8 {
                t.host(x, step as u8);
            }
        };
        t.decode(step, host, |t| t.launch(t.silu("rope", x, x, y)));
    }
    for (kind, step) in [(StepKind::Prefill, 1), (StepKind::Decode, 2)] {
        t.begin(kind, 2, step);
        t.launch(t.silu("rope", x, x, y));
        t.end();
    }
    t
}

#[test]
fn another_request_begins_anew_and_state_is_no_input() {
    clean(&of_two_requests(Role::Input).finish());
    clean(&of_two_requests(Role::State).finish());
}

/// When the host writes a step's input.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
    Ahead,
}

fn written(when: When) -> Trace {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::Input), t.row("y", Role::State));
    t.host(x, 100);
    t.end();
    t.begin(StepKind::Prefill, 1, 1);
    t.host(x, 1);
    t.point("step.before");
    t.launch(t.silu("prefill", x, x, y));
    if when == When::Ahead {
        t.host(x, 2);
    }
    t.end();
    for step in 2..5u32 {
        t.begin(StepKind::Decode, 1, step);
        if when == When::Before {
            t.host(x, step as u8);
        }
        t.point("step.before");
        t.launch(t.silu("decode", x, x, y));
        if when != When::Before {
            t.host(x, step as u8 + 1);
        }
        t.end();
    }
    t.finish()
}

#[test]
fn an_input_that_is_written_after_its_reader() {
    clean(&written(When::Before));
    clean(&written(When::Ahead));
    let finding = one(&written(When::After));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("late-host-write", 2, Some(0)));
    assert_eq!(finding.message, "decode reads x@0, which the host writes only afterwards in this step");
}

/// Steps 2 to 6 with a position that the host writes in all but step 6; what runs there is given.
fn until_six(kind: StepKind, run: impl Fn(&mut Builder, [BufferId; 4])) -> Trace {
    let mut t = Builder::new();
    let (x, y) = (t.buffer("positions", DType::F32, &[2, 4], Role::Input), t.row("y", Role::State));
    let ones = t.buffer("ones", DType::F32, &[2, 4], Role::Input);
    let wide = t.buffer("wide", DType::F32, &[2, 4], Role::State);
    for buffer in [x, y, ones, wide] {
        t.host(buffer, 200);
    }
    t.end();
    for step in 2..7 {
        t.begin(if step == 6 { kind } else { StepKind::Decode }, 1, step);
        if step < 6 {
            t.host_bytes(x, 0, &[step as u8; 16]);
        }
        t.point("step.before");
        run(&mut t, [x, ones, wide, y]);
        t.end();
    }
    t.finish()
}

#[test]
fn the_first_launch_that_reads_what_is_missing() {
    let trace = until_six(StepKind::Decode, |t, [x, _, wide, _]| {
        t.launch(t.silu("first", x, x, wide));
        t.launch(t.silu("second", x, x, wide));
    });
    let finding = one(&trace);
    assert_eq!((finding.step, finding.node), (6, Some(0)));
    assert!(finding.message.starts_with("first reads positions@0"), "{}", finding.message);
}

#[test]
fn what_is_not_read_as_the_host_left_it_is_not_missing() {
    let read = |t: &mut Builder, [x, _, wide, _]: [BufferId; 4]| {
        t.launch(t.silu("rope", x, x, wide));
    };
    assert_eq!(one(&until_six(StepKind::Decode, read)).step, 6);
    // Only decode steps are expected to have a write.
    clean(&until_six(StepKind::Prefill, read));
    // A launch wrote it before it is read.
    clean(&until_six(StepKind::Decode, |t, buffers| {
        let [x, ones, ..] = buffers;
        t.launch(t.silu("advance", ones, ones, x));
        read(t, buffers);
    }));
    // Only the second row is read, or the second is the first that is.
    let row = |t: &Builder, row: u64, x, out| {
        let mut launch = t.silu("row", x, x, out);
        if let Item::Launch(launch) = &mut launch {
            for view in launch.views.iter_mut().filter(|v| v.name != "out") {
                (view.offset, view.shape) = (row * 16, vec![1, 4]);
            }
        }
        launch
    };
    clean(&until_six(StepKind::Decode, |t, [x, _, _, y]| t.launch(row(t, 1, x, y))));
    let trace = until_six(StepKind::Decode, |t, [x, _, _, y]| {
        t.launch(row(t, 1, x, y));
        t.launch(row(t, 0, x, y));
    });
    assert_eq!(one(&trace).node, Some(1));
}

#[test]
fn state_that_the_host_writes_after_its_reader_is_the_next_steps() {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::State), t.row("y", Role::State));
    t.host(x, 100);
    t.end();
    for step in 2..5u32 {
        t.begin(StepKind::Decode, 1, step);
        t.point("step.before");
        t.launch(t.silu("decode", x, x, y));
        t.host(x, step as u8);
        t.end();
    }
    clean(&t.finish());
}
