//! RMSNorm, and per-head RMSNorm with rotary position embedding.

use super::{
    Definition, F32, FAULTS, FloatSlice, HALF, I64, Operands, ReadView, axes, bound_except, by_value,
    checked_index, fault, gather, in_place_of_operand, merge, read, read_ints, want, write,
};
use crate::contract::{canonical, dot};
use crate::{Access, Error, Launch, Range, ScalarKind, ScalarParam, Schema};

const EPS: ScalarParam = ScalarParam::new("eps", ScalarKind::F32);

/// `out = (x * r) * weight` along the last axis, `r = 1 / sqrt(dot(x, x) / D + eps)`
/// (Zhang and Sennrich: Root mean square layer normalization; 2019).
pub(crate) const RMS_NORM: Definition = Definition {
    schema: Schema {
        name: "rms_norm",
        version: 1,
        since: 1,
        params: &[read("x", F32), read("weight", HALF), write("out", F32)],
        scalars: &[EPS],
    },
    check: |l| {
        let [t, d] = axes(l, 0)?;
        want(l, 1, &[Some(d)])?;
        want(l, 2, &[Some(t), Some(d)])
    },
    touched: None,
    naive: rms_norm,
    vector: Some(crate::cpu::norm::rms_norm),
};

/// `(x * r) * weight`, NaN not yet canonicalised.
fn normalise(x: &[f32], weight: FloatSlice<'_>, eps: f32, out: &mut [f32]) {
    let d = x.len();
    let r = 1.0 / (dot(d, |i| x[i], |i| x[i]) / d as f32 + eps).sqrt();
    for i in 0..d {
        out[i] = (x[i] * r) * weight.get(i);
    }
}

fn rms_norm(o: &mut Operands<'_>) {
    let l = o.launch();
    let (d, eps) = (l.shape(0)[1], l.f32(0));
    let (x, weight, out) = (o.read::<f32>(0), o.read_float(1), o.write::<f32>(2));
    for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        normalise(x, weight, eps, out);
        out.iter_mut().for_each(|y| *y = canonical(*y));
    }
}

/// RMSNorm over each head, then the rotate-half rotation (Su et al.: RoFormer; 2021) by the
/// angles of `positions[t]`: with `h = head_dim / 2` and `i < h`,
/// `out[i] = y[i] * cos[i] - y[i + h] * sin[i]`, `out[i + h] = y[i + h] * cos[i] + y[i] * sin[i]`,
/// products and sum rounded one by one. A position outside the table gives zeros and [`fault::POSITION`].
/// A scalar `position` other than [`super::FROM_OPERAND`] takes the place of `positions` in every row.
pub(crate) const QK_NORM_ROPE: Definition = Definition {
    schema: Schema {
        name: "qk_norm_rope",
        version: 2,
        since: 1,
        params: &[
            read("x", F32),
            read("weight", HALF),
            read("positions", I64),
            gather("cos", F32),
            gather("sin", F32),
            write("out", F32),
            FAULTS,
        ],
        scalars: &[EPS, in_place_of_operand("position")],
    },
    check: |l| {
        let ([t, heads, d], [p, half]) = (axes(l, 0)?, axes(l, 3)?);
        if d != 2 * half {
            return Err(format!("head dimension {d} with {half} angles a position"));
        }
        want(l, 1, &[Some(d)])?;
        want(l, 2, &[Some(t)])?;
        want(l, 4, &[Some(p), Some(half)])?;
        want(l, 5, &[Some(t), Some(heads), Some(d)])?;
        want(l, 6, &[Some(1)])
    },
    touched: Some(qk_norm_rope_touched),
    naive: qk_norm_rope,
    vector: Some(crate::cpu::norm::qk_norm_rope),
};

fn qk_norm_rope(o: &mut Operands<'_>) {
    let l = o.launch();
    let (heads, d, table, eps) = (l.shape(0)[1], l.shape(0)[2], l.shape(3)[0], l.f32(0));
    let half = d / 2;
    let (x, weight, positions) = (o.read::<f32>(0), o.read_float(1), o.read::<i64>(2));
    let (cos, sin) = (o.read::<f32>(3), o.read::<f32>(4));
    let (out, faults) = (o.write::<f32>(5), o.write::<u32>(6));
    let fixed = by_value(l.u32(1));
    let mut y = vec![0.0; d];
    for (t, &position) in positions.iter().enumerate() {
        let position = checked_index(fixed.unwrap_or(position), table);
        if position.is_none() {
            faults[0] |= fault::POSITION;
        }
        for head in t * heads..(t + 1) * heads {
            let out = &mut out[head * d..][..d];
            let Some(p) = position else {
                out.fill(0.0);
                continue;
            };
            normalise(&x[head * d..][..d], weight, eps, &mut y);
            for i in 0..half {
                let (c, s) = (cos[p * half + i], sin[p * half + i]);
                out[i] = canonical(y[i] * c - y[i + half] * s);
                out[i + half] = canonical(y[i + half] * c + y[i] * s);
            }
        }
    }
}

fn qk_norm_rope_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let (table, half) = (l.shape(3)[0], l.shape(3)[1]);
    let (mut ranges, positions) = match by_value(l.u32(1)) {
        Some(position) => (bound_except(l, &[2, 3, 4]), vec![position]),
        None => (bound_except(l, &[3, 4]), read_ints(l, 2, read)?),
    };
    for p in positions.into_iter().filter_map(|p| checked_index(p, table)) {
        ranges.push(l.view(3).element_range(p * half, half, Access::Read));
        ranges.push(l.view(4).element_range(p * half, half, Access::Read));
    }
    Ok(merge(ranges))
}
