//! Values and sizes: bits of op_faults, what is not finite, a workspace that is too small.

use twinstep_replayer::check;
use twinstep_traces::{Access, DType, Role, ScalarValue, Trace};

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
