//! Keys and values into the paged cache.

use super::{
    CACHE, Definition, F32, FAULTS, I64, Operands, ReadView, axes, bound_except, checked_index, fault, merge,
    read, read_ints, scatter, want,
};
use crate::{Access, Error, Launch, Range, Schema};

/// Row `t` of `k` and `v` goes to slot `slot_mapping[t]`, that is to block `slot / block_size`,
/// offset `slot % block_size`, rounded to the cache's type. Slot -1 writes nothing; any other slot
/// out of range writes nothing and sets [`fault::SLOT`]. Of rows with the same slot the last one stays.
pub(crate) const KV_WRITE: Definition = Definition {
    schema: Schema {
        name: "kv_write",
        version: 1,
        since: 1,
        params: &[
            read("k", F32),
            read("v", F32),
            read("slot_mapping", I64),
            scatter("k_cache", CACHE),
            scatter("v_cache", CACHE),
            FAULTS,
        ],
        scalars: &[],
    },
    check: |l| {
        let ([t, heads, d], [blocks, size, _, _]) = (axes(l, 0)?, axes(l, 3)?);
        want(l, 1, &[Some(t), Some(heads), Some(d)])?;
        want(l, 2, &[Some(t)])?;
        want(l, 3, &[Some(blocks), Some(size), Some(heads), Some(d)])?;
        want(l, 4, &[Some(blocks), Some(size), Some(heads), Some(d)])?;
        if l.view(3).dtype != l.view(4).dtype {
            return Err(format!("`k_cache` is {}, `v_cache` {}", l.view(3).dtype, l.view(4).dtype));
        }
        want(l, 5, &[Some(1)])
    },
    touched: Some(kv_write_touched),
    naive: kv_write,
    vector: None,
};

fn kv_write(o: &mut Operands<'_>) {
    let l = o.launch();
    let width = l.shape(0)[1] * l.shape(0)[2];
    let slots = l.shape(3)[0] * l.shape(3)[1];
    let (k, v, slot_mapping) = (o.read::<f32>(0), o.read::<f32>(1), o.read::<i64>(2));
    let (mut k_cache, mut v_cache, faults) = (o.write_float(3), o.write_float(4), o.write::<u32>(5));
    for (t, &slot) in slot_mapping.iter().enumerate() {
        if slot == -1 {
            continue;
        }
        let Some(slot) = checked_index(slot, slots) else {
            faults[0] |= fault::SLOT;
            continue;
        };
        for i in 0..width {
            k_cache.set(slot * width + i, k[t * width + i]);
            v_cache.set(slot * width + i, v[t * width + i]);
        }
    }
}

fn kv_write_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let width = l.shape(0)[1] * l.shape(0)[2];
    let slots = l.shape(3)[0] * l.shape(3)[1];
    let mut ranges = bound_except(l, &[0, 1, 3, 4]);
    for (t, slot) in read_ints(l, 2, read)?.into_iter().enumerate() {
        let Some(slot) = checked_index(slot, slots) else { continue };
        for (rows, cache) in [(0, 3), (1, 4)] {
            ranges.push(l.view(rows).element_range(t * width, width, Access::Read));
            ranges.push(l.view(cache).element_range(slot * width, width, Access::Write));
        }
    }
    Ok(merge(ranges))
}
