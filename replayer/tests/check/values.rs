//! Values and sizes: bits of op_faults, what is not finite, a workspace that is too small.

use twinstep_replayer::check;
use twinstep_traces::{Access, DType, Role, ScalarValue, StepKind, Trace};

use crate::fixture::Builder;
use crate::{clean, one};

/// A KV write to slot 99 of 4; `faults` is what the buffer holds afterwards.
fn kv_write(faults: u32) -> Trace {
    let mut t = Builder::new();
    let shape = [1, 1, 2];
    let (k, v) =
        (t.buffer("k", DType::F32, &shape, Role::Input), t.buffer("v", DType::F32, &shape, Role::Input));
    let slots = t.buffer("slot_mapping", DType::I64, &[1], Role::Input);
    let cache = [2, 2, 1, 2];
    let k_cache = t.buffer("k_cache", DType::F32, &cache, Role::State);
    let v_cache = t.buffer("v_cache", DType::F32, &cache, Role::State);
    let op_faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
    for buffer in [k, v, op_faults] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("k", k, Access::Read),
        ("v", v, Access::Read),
        ("slot_mapping", slots, Access::Read),
        ("k_cache", k_cache, Access::Write),
        ("v_cache", v_cache, Access::Write),
        ("op_faults", op_faults, Access::ReadWrite),
    ];
    for step in 2..4 {
        t.decode(
            step,
            |t| t.host_bytes(slots, 0, &i64::from(step).to_le_bytes()),
            |t| {
                let write = t.op("kv_write", "layer.0.kv_write", &operands, &[]);
                t.item(write);
                if step == 3 {
                    t.poke(op_faults, 0, &faults.to_le_bytes());
                }
            },
        );
    }
    t.finish()
}

#[test]
fn a_bit_of_op_faults() {
    clean(&kv_write(0));
    let finding = one(&kv_write(8));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("op-faults", 3, Some(0)));
    assert!(finding.message.contains("the bit `slot`"), "{}", finding.message);
    let both = check(&kv_write(8 | 4)).unwrap();
    assert_eq!(both.findings.len(), 2, "{:#?}", both.findings);
}

/// `value` written by a launch into a buffer of the role.
fn float(value: f32, role: Role, op: &str) -> Trace {
    let mut t = Builder::new();
    let shape = [1, 1, 4];
    let x = t.buffer("x", DType::F32, &shape, Role::Input);
    let counters = t.buffer("counters", DType::I64, &[1], Role::Input);
    let y = t.buffer("y", DType::F32, &shape, role);
    let later = t.buffer("later", DType::F32, &shape, Role::Output);
    t.host(counters, 0);
    t.end();
    let launch = match op {
        "delay_mask" => {
            let operands = [
                ("logits", x, Access::Read),
                ("delay_count", counters, Access::Read),
                ("eoc_countdown", counters, Access::Read),
                ("out", y, Access::Write),
            ];
            let scalars = ["boc", "eoc", "eoc_from", "flags"].map(|name| (name, ScalarValue::U32(0)));
            t.op("delay_mask", "mask", &operands, &scalars)
        }
        _ => t.silu("act", x, x, y),
    };
    for step in 2..4 {
        t.decode(
            step,
            |t| t.host(x, step as u8),
            |t| {
                t.launch(launch.clone());
                t.launch(t.silu("later", y, y, later));
                if step == 3 {
                    t.poke(y, 4, &value.to_le_bytes());
                    t.poke(later, 4, &f32::NAN.to_le_bytes());
                }
                if value.is_finite() {
                    t.poke(later, 4, &1f32.to_le_bytes());
                }
            },
        );
    }
    t.finish()
}

#[test]
fn the_first_value_that_is_not_finite() {
    clean(&float(1.0, Role::State, "silu_mul"));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let finding = one(&float(value, Role::State, "silu_mul"));
        assert_eq!((finding.check.as_str(), finding.step, finding.node), ("nonfinite", 3, Some(0)));
        assert_eq!(finding.buffer.as_deref(), Some("y@0"));
        let said = finding.message.starts_with("y[0,0,1] is ")
            && finding.message.contains("written by act of step 3");
        assert!(said && finding.message.ends_with("so are values of 1 more buffers"), "{}", finding.message);
    }
    // Scratch may hold anything: what comes of it is the finding, and the only one.
    let finding = one(&float(f32::NAN, Role::Scratch, "silu_mul"));
    assert_eq!(finding.buffer.as_deref(), Some("later@0"));
    assert!(!finding.message.contains("more buffers"), "{}", finding.message);
    // Masked logits hold -inf on purpose: what comes of them is the first finding then.
    let finding = one(&float(f32::NEG_INFINITY, Role::State, "delay_mask"));
    assert_eq!(finding.buffer.as_deref(), Some("later@0"));
    assert_eq!(one(&float(f32::NAN, Role::State, "delay_mask")).buffer.as_deref(), Some("y@0"));
}

/// A decode attention over 4 blocks of 64 positions, with this many splits.
fn attention(splits: u64, tiles_per_split: u32) -> Trace {
    let mut t = Builder::new();
    let q = t.buffer("q", DType::F32, &[1, 1, 2], Role::Input);
    let cache = [4, 64, 1, 2];
    let (k, v) = (
        t.buffer("k_cache", DType::F32, &cache, Role::State),
        t.buffer("v_cache", DType::F32, &cache, Role::State),
    );
    let table = t.buffer("block_table", DType::I32, &[1, 4], Role::Input);
    let seq_lens = t.buffer("seq_lens", DType::I32, &[1], Role::Input);
    let partial = t.buffer("attn_partial", DType::F32, &[1, 1, splits, 4], Role::Scratch);
    let faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
    for buffer in [q, k, v, table, faults] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("q", q, Access::Read),
        ("k_cache", k, Access::Read),
        ("v_cache", v, Access::Read),
        ("block_table", table, Access::Read),
        ("seq_lens", seq_lens, Access::Read),
        ("partial", partial, Access::Write),
        ("op_faults", faults, Access::ReadWrite),
    ];
    let scalars =
        [("scale", ScalarValue::F32Bits(0)), ("tiles_per_split", ScalarValue::U32(tiles_per_split))];
    for step in 2..4 {
        t.decode(
            step,
            |t| t.host_bytes(seq_lens, 0, &step.to_le_bytes()),
            |t| t.item(t.op("attention_decode", "layer.0.attn", &operands, &scalars)),
        );
    }
    t.finish()
}

#[test]
fn a_workspace_for_fewer_positions_than_the_block_table() {
    clean(&attention(4, 1));
    clean(&attention(2, 2));
    let finding = one(&attention(3, 1));
    assert_eq!((finding.check.as_str(), finding.step, finding.node), ("undersized-workspace", 2, Some(0)));
    assert!(
        finding.message.contains("192 positions") && finding.message.contains("256"),
        "{}",
        finding.message
    );
}

#[test]
fn the_first_launch_that_can_set_a_bit_is_named() {
    let mut t = Builder::new();
    let shape = [1, 1, 2];
    let (k, v) =
        (t.buffer("k", DType::F32, &shape, Role::Input), t.buffer("v", DType::F32, &shape, Role::Input));
    let slots = t.buffer("slot_mapping", DType::I64, &[1], Role::Input);
    let caches = ["k_cache", "v_cache"].map(|name| t.buffer(name, DType::F32, &[2, 2, 1, 2], Role::State));
    let op_faults = t.buffer("op_faults", DType::U32, &[1], Role::State);
    for buffer in [k, v, op_faults] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("k", k, Access::Read),
        ("v", v, Access::Read),
        ("slot_mapping", slots, Access::Read),
        ("k_cache", caches[0], Access::Write),
        ("v_cache", caches[1], Access::Write),
        ("op_faults", op_faults, Access::ReadWrite),
    ];
    t.decode(
        2,
        |t| t.host_bytes(slots, 0, &99i64.to_le_bytes()),
        |t| {
            for layer in 0..2 {
                t.item(t.op("kv_write", &format!("layer.{layer}.kv_write"), &operands, &[]));
            }
            t.poke(op_faults, 0, &8u32.to_le_bytes());
        },
    );
    let finding = one(&t.finish());
    assert_eq!(finding.node, Some(0));
    assert!(finding.message.ends_with("the first launch that can set it is layer.0.kv_write"), "{finding:?}");
}

/// Steps with a state and a scratch buffer whose bytes are given: what a snapshot shows of them after each.
fn shown(values: &[(f32, f32, f32)]) -> Vec<String> {
    let mut t = Builder::new();
    let x = t.row("x", Role::Input);
    let y = t.row("y", Role::State);
    let scratch = t.row("scratch", Role::Scratch);
    t.host(x, 1);
    t.end();
    for (step, (first, second, of_scratch)) in (2..).zip(values) {
        t.begin(StepKind::Decode, 1, step);
        t.point_of("step.before", &[x, y, scratch]);
        t.launch(t.silu("act", x, x, y));
        t.launch(t.silu("more", x, x, scratch));
        t.poke(y, 0, &first.to_le_bytes());
        t.poke(y, 8, &second.to_le_bytes());
        t.poke(scratch, 0, &of_scratch.to_le_bytes());
        t.point_of("step.after", &[x, y, scratch]);
        t.commit();
    }
    check(&t.finish()).unwrap().findings.into_iter().map(|f| f.message).collect()
}

#[test]
fn a_value_that_is_not_finite_is_told_once() {
    let written = "y[0,0] is NaN at step.after, written by act of step 2 (node 0)";
    let nan = f32::NAN;
    // The first element of a buffer, however many there are, and the first step.
    assert_eq!(shown(&[(nan, nan, 1.0), (nan, 1.0, 1.0), (1.0, 1.0, 1.0)]), [written]);
    assert_eq!(shown(&[(nan, nan, 1.0), (1.0, nan, 1.0)]), [written]);
    assert_eq!(shown(&[(1.0, 1.0, nan), (1.0, 1.0, nan)]), [""; 0], "scratch may hold anything");
}

#[test]
fn a_value_that_is_not_finite_from_the_start() {
    let mut t = Builder::new();
    let (x, y) = (t.row("x", Role::Input), t.row("y", Role::State));
    t.host_bytes(x, 0, &f32::NAN.to_le_bytes());
    t.host_bytes(x, 4, &[1; 12]);
    t.end();
    t.decode(2, |_| {}, |t| t.launch(t.silu("act", x, x, y)));
    let finding = one(&t.finish());
    assert_eq!(finding.message, "x[0,0] is NaN at step.before, written by a host write of set-up");
}

/// The same bytes in two buffers: one may hold them, the other may not.
#[test]
fn what_is_legal_in_one_buffer_is_not_in_another() {
    let mut t = Builder::new();
    let x = t.buffer("x", DType::F32, &[1, 1, 4], Role::Input);
    let counters = t.buffer("counters", DType::I64, &[1], Role::Input);
    let masked = t.buffer("masked", DType::F32, &[1, 1, 4], Role::State);
    let later = t.buffer("later", DType::F32, &[1, 1, 4], Role::Output);
    for buffer in [x, counters] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("logits", x, Access::Read),
        ("delay_count", counters, Access::Read),
        ("eoc_countdown", counters, Access::Read),
        ("out", masked, Access::Write),
    ];
    let scalars = ["boc", "eoc", "eoc_from", "flags"].map(|name| (name, ScalarValue::U32(0)));
    t.decode(
        2,
        |_| {},
        |t| {
            t.launch(t.op("delay_mask", "mask", &operands, &scalars));
            t.poke(masked, 0, &[f32::NEG_INFINITY.to_le_bytes(); 4].concat());
        },
    );
    t.decode(
        3,
        |_| {},
        |t| {
            t.launch(t.silu("later", x, x, later));
            t.poke(later, 0, &[f32::NEG_INFINITY.to_le_bytes(); 4].concat());
        },
    );
    assert_eq!(one(&t.finish()).buffer.as_deref(), Some("later@0"));
}

#[test]
fn only_the_attention_has_such_a_workspace() {
    let mut t = Builder::new();
    let cache = t.buffer("k_cache", DType::F32, &[4, 64, 1, 2], Role::State);
    let table = t.buffer("block_table", DType::I32, &[1, 4], Role::Input);
    let partial = t.buffer("attn_partial", DType::F32, &[1, 1, 1, 4], Role::Scratch);
    for buffer in [cache, table] {
        t.host(buffer, 0);
    }
    t.end();
    let operands = [
        ("k_cache", cache, Access::Read),
        ("block_table", table, Access::Read),
        ("partial", partial, Access::Write),
    ];
    let other = t.op("attention_of_2030", "", &operands, &[("tiles_per_split", ScalarValue::U32(1))]);
    t.decode(2, |_| {}, |t| t.item(other));
    clean(&t.finish());
}
