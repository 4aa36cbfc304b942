//! Text embedding, and fused codebook embedding with feedback select.

use super::{
    BOOL, Definition, F32, FAULTS, HALF, I32, I64, Operands, ReadView, axes, bound_except, checked_index,
    fault, gather, merge, read, read_ints, want, write,
};
use crate::contract::canonical;
use crate::{Access, Error, Launch, Range, Schema};

/// `out[t, :] = table[ids[t], :]`, widened; zeros and [`fault::TEXT_ID`] for an id out of range.
pub(crate) const EMBED_TEXT: Definition = Definition {
    schema: Schema {
        name: "embed_text",
        version: 1,
        since: 1,
        params: &[read("ids", I32), gather("table", HALF), write("out", F32), FAULTS],
        scalars: &[],
    },
    check: |l| {
        let ([t], [_, d]) = (axes(l, 0)?, axes(l, 1)?);
        want(l, 2, &[Some(t), Some(d)])?;
        want(l, 3, &[Some(1)])
    },
    touched: Some(embed_text_touched),
    naive: embed_text,
    vector: None,
};

fn embed_text(o: &mut Operands<'_>) {
    let l = o.launch();
    let (vocab, d) = (l.shape(1)[0], l.shape(1)[1]);
    let (ids, table) = (o.read::<i32>(0), o.read_float(1));
    let (out, faults) = (o.write::<f32>(2), o.write::<u32>(3));
    for (t, &id) in ids.iter().enumerate() {
        let row = checked_index(id.into(), vocab);
        if row.is_none() {
            faults[0] |= fault::TEXT_ID;
        }
        for i in 0..d {
            out[t * d + i] = row.map_or(0.0, |row| canonical(table.get(row * d + i)));
        }
    }
}

fn embed_text_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let (vocab, d) = (l.shape(1)[0], l.shape(1)[1]);
    let mut ranges = bound_except(l, &[1]);
    for row in read_ints(l, 0, read)?.into_iter().filter_map(|id| checked_index(id, vocab)) {
        ranges.push(l.view(1).element_range(row * d, d, Access::Read));
    }
    Ok(merge(ranges))
}

/// For a row with `has_codes`: `out[r, :] = sum over k of table[k * V + codes[r, k], :]`, added in
/// rising k; a code out of range adds zeros and sets [`fault::CODE`]. Otherwise `out[r, :] = text[r, :]`.
/// `V` is the table's rows over the number of codebooks.
pub(crate) const EMBED_CODES: Definition = Definition {
    schema: Schema {
        name: "embed_codes",
        version: 1,
        since: 1,
        params: &[
            gather("codes", I64),
            read("has_codes", BOOL),
            gather("table", HALF),
            gather("text", F32),
            write("out", F32),
            FAULTS,
        ],
        scalars: &[],
    },
    check: |l| {
        let ([r, n], [rows, d]) = (axes(l, 0)?, axes(l, 2)?);
        if !rows.is_multiple_of(n) {
            return Err(format!("{rows} rows of `table` for {n} codebooks"));
        }
        want(l, 1, &[Some(r)])?;
        want(l, 3, &[Some(r), Some(d)])?;
        want(l, 4, &[Some(r), Some(d)])?;
        want(l, 5, &[Some(1)])
    },
    touched: Some(embed_codes_touched),
    naive: embed_codes,
    vector: None,
};

fn embed_codes(o: &mut Operands<'_>) {
    let l = o.launch();
    let (rows, n, d) = (l.shape(0)[0], l.shape(0)[1], l.shape(2)[1]);
    let vocab = l.shape(2)[0] / n;
    let (codes, has_codes, table) = (o.read::<i64>(0), o.read::<u8>(1), o.read_float(2));
    let (text, out, faults) = (o.read::<f32>(3), o.write::<f32>(4), o.write::<u32>(5));
    for r in 0..rows {
        let row = &mut out[r * d..][..d];
        if has_codes[r] == 0 {
            for i in 0..d {
                row[i] = canonical(text[r * d + i]);
            }
            continue;
        }
        for k in 0..n {
            let code = checked_index(codes[r * n + k], vocab);
            if code.is_none() {
                faults[0] |= fault::CODE;
            }
            for i in 0..d {
                let value = code.map_or(0.0, |code| table.get((k * vocab + code) * d + i));
                row[i] = canonical(if k == 0 { value } else { row[i] + value });
            }
        }
    }
}

fn embed_codes_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let (rows, n, d) = (l.shape(0)[0], l.shape(0)[1], l.shape(2)[1]);
    let vocab = l.shape(2)[0] / n;
    let (codes, has_codes) = (read_ints(l, 0, read)?, read_ints(l, 1, read)?);
    let mut ranges = bound_except(l, &[0, 2, 3]);
    for r in 0..rows {
        if has_codes[r] == 0 {
            ranges.push(l.view(3).element_range(r * d, d, Access::Read));
            continue;
        }
        ranges.push(l.view(0).element_range(r * n, n, Access::Read));
        for k in 0..n {
            if let Some(code) = checked_index(codes[r * n + k], vocab) {
                ranges.push(l.view(2).element_range((k * vocab + code) * d, d, Access::Read));
            }
        }
    }
    Ok(merge(ranges))
}
