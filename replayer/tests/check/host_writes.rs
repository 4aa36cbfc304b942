//! Host writes: missing where they were before, later than their readers.

use twinstep_traces::{Role, StepKind, Trace};

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
