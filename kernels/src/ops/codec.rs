//! Codes to waveform: residual vector quantiser, causal convolutions, activations.
//! Activations are `[channels, time]`.

use super::elementwise::same_shape;
use super::{
    Definition, F32, FAULTS, HALF, I64, Operands, ReadView, axes, bound_except, checked_index, fault, gather,
    merge, read, read_ints, want, write,
};
use crate::contract::{canonical, sin, tanh};
use crate::{Access, Error, Launch, Range, ScalarKind, ScalarParam, Schema};

/// `out[e, t] = sum over k of tables[k, codes[t, k], e]`, added in rising k. A code out of range adds
/// zeros and sets [`fault::CODEC_CODE`].
pub(crate) const RVQ_DECODE: Definition = Definition {
    schema: Schema {
        name: "rvq_decode",
        version: 1,
        since: 1,
        params: &[read("codes", I64), gather("tables", HALF), write("out", F32), FAULTS],
        scalars: &[],
    },
    check: |l| {
        let ([t, n], [_, codes, e]) = (axes(l, 0)?, axes(l, 1)?);
        want(l, 1, &[Some(n), Some(codes), Some(e)])?;
        want(l, 2, &[Some(e), Some(t)])?;
        want(l, 3, &[Some(1)])
    },
    touched: Some(rvq_decode_touched),
    naive: rvq_decode,
    vector: None,
};

fn rvq_decode(o: &mut Operands<'_>) {
    let l = o.launch();
    let ([t, n], [size, e]) = ([l.shape(0)[0], l.shape(0)[1]], [l.shape(1)[1], l.shape(1)[2]]);
    let (codes, tables) = (o.read::<i64>(0), o.read_float(1));
    let (out, faults) = (o.write::<f32>(2), o.write::<u32>(3));
    for time in 0..t {
        for k in 0..n {
            let code = checked_index(codes[time * n + k], size);
            if code.is_none() {
                faults[0] |= fault::CODEC_CODE;
            }
            for i in 0..e {
                let value = code.map_or(0.0, |code| tables.get((k * size + code) * e + i));
                let sum = &mut out[i * t + time];
                *sum = canonical(if k == 0 { value } else { *sum + value });
            }
        }
    }
}

fn rvq_decode_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let (n, size, e) = (l.shape(0)[1], l.shape(1)[1], l.shape(1)[2]);
    let mut ranges = bound_except(l, &[1]);
    for (i, code) in read_ints(l, 0, read)?.into_iter().enumerate() {
        if let Some(code) = checked_index(code, size) {
            ranges.push(l.view(1).element_range(((i % n) * size + code) * e, e, Access::Read));
        }
    }
    Ok(merge(ranges))
}

const DILATION: &[ScalarParam] = &[ScalarParam::new("dilation", ScalarKind::U32)];
const STRIDE: &[ScalarParam] = &[ScalarParam::new("stride", ScalarKind::U32)];

/// Causal convolution, PyTorch's weight layout `[out, in, taps]`: tap j meets input time
/// `t - (taps - 1 - j) * dilation`. Taps in rising input time, then input channel, each by fma from
/// +0; taps before the start are skipped; the bias is added last.
pub(crate) const CONV1D: Definition = Definition {
    schema: Schema {
        name: "conv1d",
        version: 1,
        since: 1,
        params: &[read("x", F32), read("weight", HALF), read("bias", HALF), write("out", F32)],
        scalars: DILATION,
    },
    check: |l| {
        let ([ci, t], [co, _, taps]) = (axes(l, 0)?, axes(l, 1)?);
        want(l, 1, &[Some(co), Some(ci), Some(taps)])?;
        want(l, 2, &[Some(co)])?;
        want(l, 3, &[Some(co), Some(t)])
    },
    touched: None,
    naive: conv1d,
    vector: Some(crate::cpu::conv::conv1d),
};

fn conv1d(o: &mut Operands<'_>) {
    let l = o.launch();
    let (ci, t, co, taps) = (l.shape(0)[0], l.shape(0)[1], l.shape(1)[0], l.shape(1)[2]);
    let dilation = l.u32(0) as usize;
    let (x, weight, bias, out) = (o.read::<f32>(0), o.read_float(1), o.read_float(2), o.write::<f32>(3));
    for c in 0..co {
        for time in 0..t {
            let mut sum = 0.0f32;
            for j in 0..taps {
                let Some(from) = time.checked_sub((taps - 1 - j).saturating_mul(dilation)) else { continue };
                for i in 0..ci {
                    sum = x[i * t + from].mul_add(weight.get((c * ci + i) * taps + j), sum);
                }
            }
            out[c * t + time] = canonical(sum + bias.get(c));
        }
    }
}

/// Causal transposed convolution, PyTorch's weight layout `[in, out, taps]` with taps = 2 * stride and
/// the last `stride` outputs dropped: output u gathers input time `u / stride - 1` at tap
/// `u % stride + stride` (skipped before the start), then input time `u / stride` at tap `u % stride`;
/// per input time rising input channel, each by fma from +0; the bias is added last.
pub(crate) const CONV_TRANSPOSE1D: Definition = Definition {
    schema: Schema {
        name: "conv_transpose1d",
        version: 1,
        since: 1,
        params: &[read("x", F32), read("weight", HALF), read("bias", HALF), write("out", F32)],
        scalars: STRIDE,
    },
    check: |l| {
        let ([ci, t], [_, co, taps]) = (axes(l, 0)?, axes(l, 1)?);
        let stride = l.u32(0) as usize;
        if stride == 0 || taps != 2 * stride {
            return Err(format!("{taps} taps with stride {stride}, wants twice the stride"));
        }
        want(l, 1, &[Some(ci), Some(co), Some(taps)])?;
        want(l, 2, &[Some(co)])?;
        let long = t.checked_mul(stride).ok_or("output length overflows")?;
        want(l, 3, &[Some(co), Some(long)])
    },
    touched: None,
    naive: conv_transpose1d,
    vector: Some(crate::cpu::conv::conv_transpose1d),
};

fn conv_transpose1d(o: &mut Operands<'_>) {
    let l = o.launch();
    let (ci, t, co, taps) = (l.shape(0)[0], l.shape(0)[1], l.shape(1)[1], l.shape(1)[2]);
    let stride = l.u32(0) as usize;
    let (x, weight, bias, out) = (o.read::<f32>(0), o.read_float(1), o.read_float(2), o.write::<f32>(3));
    for c in 0..co {
        for u in 0..t * stride {
            let mut sum = 0.0f32;
            let now = u / stride;
            let before = now.checked_sub(1).map(|time| (time, u % stride + stride));
            for (time, tap) in before.into_iter().chain([(now, u % stride)]) {
                for i in 0..ci {
                    sum = x[i * t + time].mul_add(weight.get((i * co + c) * taps + tap), sum);
                }
            }
            out[c * t * stride + u] = canonical(sum + bias.get(c));
        }
    }
}

/// `x + (s * s) / (alpha + 1e-9)` with `s = sin(alpha * x)`, alpha a channel (Ziyin, Hartwig, Ueda:
/// Neural networks fail to learn periodic functions; 2020; the guard as in DAC).
pub(crate) const SNAKE: Definition = Definition {
    schema: Schema {
        name: "snake",
        version: 1,
        since: 1,
        params: &[read("x", F32), read("alpha", HALF), write("out", F32)],
        scalars: &[],
    },
    check: |l| {
        let [c, t] = axes(l, 0)?;
        want(l, 1, &[Some(c)])?;
        want(l, 2, &[Some(c), Some(t)])
    },
    touched: None,
    naive: snake,
    vector: Some(crate::cpu::elementwise::snake),
};

fn snake(o: &mut Operands<'_>) {
    let t = o.launch().shape(0)[1];
    let (x, alpha, out) = (o.read::<f32>(0), o.read_float(1), o.write::<f32>(2));
    for i in 0..out.len() {
        let a = alpha.get(i / t);
        let s = sin(a * x[i]);
        out[i] = canonical(x[i] + (s * s) / (a + 1e-9));
    }
}

/// `out = tanh(x)`, elementwise.
pub(crate) const TANH: Definition = Definition {
    schema: Schema {
        name: "tanh",
        version: 1,
        since: 1,
        params: &[read("x", F32), write("out", F32)],
        scalars: &[],
    },
    check: |l| same_shape(l, &[1]),
    touched: None,
    naive: tanh_op,
    vector: Some(crate::cpu::elementwise::tanh_op),
};

fn tanh_op(o: &mut Operands<'_>) {
    let (x, out) = (o.read::<f32>(0), o.write::<f32>(1));
    for i in 0..out.len() {
        out[i] = tanh(x[i]);
    }
}
