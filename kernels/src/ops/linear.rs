//! Matrix products with 16-bit weights.

use super::{Definition, F32, HALF, Operands, axes, read, want, write};
use crate::contract::dot;
use crate::{Launch, Param, Schema};

const X: Param = read("x", F32);
const WEIGHT: Param = read("weight", HALF);

fn check_product(l: &Launch) -> Result<[usize; 2], String> {
    let ([t, k], [m, wk]) = (axes(l, 0)?, axes(l, 1)?);
    if k != wk {
        return Err(format!("`x` has {k} columns, `weight` {wk}"));
    }
    Ok([t, m])
}

/// `out[t, m] = dot(x[t, :], weight[m, :])` in the order of [`dot`], whatever the number of rows.
pub(crate) const LINEAR: Definition = Definition {
    schema: Schema {
        name: "linear",
        version: 1,
        since: 1,
        params: &[X, WEIGHT, write("out", F32)],
        scalars: &[],
    },
    check: |l| {
        let [t, m] = check_product(l)?;
        want(l, 2, &[Some(t), Some(m)])
    },
    touched: None,
    naive: product,
    vector: Some(crate::cpu::linear::product),
};

/// As `linear`, rounded to the weights' type as its last act.
pub(crate) const LM_HEAD: Definition = Definition {
    schema: Schema {
        name: "lm_head",
        version: 1,
        since: 1,
        params: &[X, WEIGHT, write("logits", HALF)],
        scalars: &[],
    },
    check: |l| {
        let [t, m] = check_product(l)?;
        if l.view(1).dtype != l.view(2).dtype {
            return Err(format!("`logits` is {}, `weight` {}", l.view(2).dtype, l.view(1).dtype));
        }
        want(l, 2, &[Some(t), Some(m)])
    },
    touched: None,
    naive: product,
    vector: Some(crate::cpu::linear::product),
};

/// As `linear`, its columns seen as `[codebooks, codes]`.
pub(crate) const AUDIO_HEAD: Definition = Definition {
    schema: Schema {
        name: "audio_head",
        version: 1,
        since: 1,
        params: &[X, WEIGHT, write("logits", F32)],
        scalars: &[],
    },
    check: |l| {
        let ([t, m], [rows, n, v]) = (check_product(l)?, axes(l, 2)?);
        if rows != t || n * v != m {
            return Err(format!("`logits` has shape [{rows}, {n}, {v}] for {t} rows of {m}"));
        }
        Ok(())
    },
    touched: None,
    naive: product,
    vector: Some(crate::cpu::linear::product),
};

fn product(o: &mut Operands<'_>) {
    let l = o.launch();
    let (rows, k, m) = (l.shape(0)[0], l.shape(0)[1], l.shape(1)[0]);
    let (x, weight, mut out) = (o.read::<f32>(0), o.read_float(1), o.write_float(2));
    for t in 0..rows {
        for j in 0..m {
            out.set(t * m + j, dot(k, |i| x[t * k + i], |i| weight.get(j * k + i)));
        }
    }
}
