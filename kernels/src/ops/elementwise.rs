//! Elementwise ops of the talker.

use super::{Definition, F32, Operands, read, update, want, write};
use crate::contract::{canonical, exp};
use crate::{Launch, Schema};

/// Checks that the operands at `others` have the shape of the first.
pub(crate) fn same_shape(l: &Launch, others: &[usize]) -> Result<(), String> {
    let shape: Vec<_> = l.shape(0).iter().map(|&s| Some(s)).collect();
    others.iter().try_for_each(|&i| want(l, i, &shape))
}

/// `out = (gate / (1 + exp(-gate))) * up` (Shazeer: GLU variants improve transformer; 2020).
pub(crate) const SILU_MUL: Definition = Definition {
    schema: Schema {
        name: "silu_mul",
        version: 1,
        since: 1,
        params: &[read("gate", F32), read("up", F32), write("out", F32)],
        scalars: &[],
    },
    check: |l| same_shape(l, &[1, 2]),
    touched: None,
    naive: silu_mul,
    vector: Some(crate::cpu::elementwise::silu_mul),
};

fn silu_mul(o: &mut Operands<'_>) {
    let (gate, up, out) = (o.read::<f32>(0), o.read::<f32>(1), o.write::<f32>(2));
    for i in 0..out.len() {
        out[i] = canonical((gate[i] / (1.0 + exp(-gate[i]))) * up[i]);
    }
}

/// `x = x + y`.
pub(crate) const RESIDUAL_ADD: Definition = Definition {
    schema: Schema {
        name: "residual_add",
        version: 1,
        since: 1,
        params: &[update("x", F32), read("y", F32)],
        scalars: &[],
    },
    check: |l| same_shape(l, &[1]),
    touched: None,
    naive: residual_add,
    vector: Some(crate::cpu::elementwise::residual_add),
};

fn residual_add(o: &mut Operands<'_>) {
    let (x, y) = (o.write::<f32>(0), o.read::<f32>(1));
    for i in 0..x.len() {
        x[i] = canonical(x[i] + y[i]);
    }
}
