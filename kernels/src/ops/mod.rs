//! One file a family of ops: signature, shape rules, touched bytes, and the naive CPU form, which
//! is the specification that the other forms are compared with bit for bit.

pub(crate) mod attention;
pub(crate) mod codec;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub mod fault;
pub(crate) mod hash;
pub(crate) mod kv;
pub(crate) mod linear;
pub(crate) mod norm;
mod operands;
pub(crate) mod sample;
pub(crate) mod state;

pub(crate) use operands::{FloatSlice, FloatSliceMut, Operands, Slot};

use crate::cpu::Processor;
use crate::{Access, DType, Error, Launch, Param, Range, Scalar, ScalarKind, ScalarParam, Schema, View};

/// Reads the present bytes of a view.
pub(crate) type ReadView<'a> = &'a mut dyn FnMut(&View) -> Result<Vec<u8>, Error>;

/// The bytes that a launch uses, given a way to read its index operands.
pub(crate) type Touched = fn(&Launch, ReadView<'_>) -> Result<Vec<Range>, Error>;

/// An op: what it is called with, and its CPU forms.
pub(crate) struct Definition {
    pub(crate) schema: Schema,
    /// Shape rules that the schema cannot state. Operands have at least one element and fit into
    /// memory, each by itself; products of axes of different operands may still overflow.
    pub(crate) check: fn(&Launch) -> Result<(), String>,
    /// Bytes used, where that depends on values; `None`: all that is bound.
    pub(crate) touched: Option<Touched>,
    /// The specification.
    pub(crate) naive: fn(&mut Operands<'_>),
    /// The vectorised form; `None` where the naive one is fast enough.
    pub(crate) vector: Option<fn(&mut Operands<'_>, Processor)>,
}

pub(crate) const F32: &[DType] = &[DType::F32];
pub(crate) const HALF: &[DType] = &[DType::F16, DType::Bf16];
pub(crate) const CACHE: &[DType] = &[DType::F16, DType::Bf16, DType::F32];
pub(crate) const I64: &[DType] = &[DType::I64];
pub(crate) const I32: &[DType] = &[DType::I32];
pub(crate) const U32: &[DType] = &[DType::U32];
pub(crate) const BOOL: &[DType] = &[DType::Bool];

pub(crate) const fn read(name: &'static str, dtypes: &'static [DType]) -> Param {
    Param { name, access: Access::Read, dtypes, partial: false }
}

/// An operand of which values of other operands decide what is read.
pub(crate) const fn gather(name: &'static str, dtypes: &'static [DType]) -> Param {
    Param { name, access: Access::Read, dtypes, partial: true }
}

pub(crate) const fn write(name: &'static str, dtypes: &'static [DType]) -> Param {
    Param { name, access: Access::Write, dtypes, partial: false }
}

/// An operand of which values of other operands decide what is written.
pub(crate) const fn scatter(name: &'static str, dtypes: &'static [DType]) -> Param {
    Param { name, access: Access::Write, dtypes, partial: true }
}

pub(crate) const fn update(name: &'static str, dtypes: &'static [DType]) -> Param {
    Param { name, access: Access::ReadWrite, dtypes, partial: false }
}

/// The `op_faults` operand: set bits stay set.
pub(crate) const FAULTS: Param = update("op_faults", U32);

/// Checks the shape of an operand against `wants`; `None` along an axis accepts any length.
pub(crate) fn want(launch: &Launch, index: usize, wants: &[Option<usize>]) -> Result<(), String> {
    let shape = launch.shape(index);
    let fits = shape.len() == wants.len() && shape.iter().zip(wants).all(|(s, w)| w.is_none_or(|w| w == *s));
    if fits {
        return Ok(());
    }
    let axis = |w: &Option<usize>| w.map_or("any".to_owned(), |w| w.to_string());
    let wants: Vec<String> = wants.iter().map(axis).collect();
    let name = launch.op().schema().params[index].name;
    Err(format!("`{name}` has shape {shape:?}, wants [{}]", wants.join(", ")))
}

/// Shape `[a]` or an error that names the operand.
pub(crate) fn axes<const N: usize>(launch: &Launch, index: usize) -> Result<[usize; N], String> {
    want(launch, index, &[None; N])?;
    let mut axes = [0; N];
    axes.copy_from_slice(launch.shape(index));
    Ok(axes)
}

/// Reads an operand as i64, whatever integer type it has.
pub(crate) fn read_ints(launch: &Launch, index: usize, read: ReadView<'_>) -> Result<Vec<i64>, Error> {
    let view = launch.view(index);
    let bytes = read(view)?;
    Ok(match view.dtype {
        DType::I64 => bytemuck::pod_collect_to_vec::<u8, i64>(&bytes),
        DType::I32 => bytemuck::pod_collect_to_vec::<u8, i32>(&bytes).into_iter().map(i64::from).collect(),
        DType::U32 => bytemuck::pod_collect_to_vec::<u8, u32>(&bytes).into_iter().map(i64::from).collect(),
        _ => bytes.into_iter().map(i64::from).collect(),
    })
}

/// The ranges of all operands but those at `except`.
pub(crate) fn bound_except(launch: &Launch, except: &[usize]) -> Vec<Range> {
    let all = launch.views().iter().enumerate();
    let kept = all.filter(|(i, _)| !except.contains(i));
    kept.map(|(i, v)| v.range(launch.access(i))).collect()
}

/// Sorts ranges and joins those of equal access that touch or overlap.
pub(crate) fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable_by_key(|r| (r.buffer, r.access, r.start, r.end));
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|r| r.start < r.end) {
        match merged.last_mut() {
            Some(last)
                if last.buffer == range.buffer && last.access == range.access && range.start <= last.end =>
            {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The value of a scalar in place of an index operand (`seq_len`, `position`) that leaves it to the operand.
pub const FROM_OPERAND: u32 = u32::MAX;

/// A scalar that takes the place of an operand in every row; what a correct engine passes, and what older
/// launches meant, leaves it to the operand.
pub(crate) const fn in_place_of_operand(name: &'static str) -> ScalarParam {
    ScalarParam { name, kind: ScalarKind::U32, default: Some(Scalar::U32(FROM_OPERAND)) }
}

/// What such a scalar says: a value for every row, or `None` where the operand has them.
pub(crate) fn by_value(scalar: u32) -> Option<i64> {
    (scalar != FROM_OPERAND).then_some(i64::from(scalar))
}

/// `index` as a position below `len`, or `None`, which the caller answers with a fault bit.
pub(crate) fn checked_index(index: i64, len: usize) -> Option<usize> {
    usize::try_from(index).ok().filter(|&i| i < len)
}
