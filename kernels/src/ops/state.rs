//! Decode state of the delay pattern: seed, mask, update.
//!
//! A row `r` of the batch holds `delay_count` d (rows of codes produced, saturating),
//! `eoc_countdown` c (-1 = not ending), `generation_done`, `has_codes` and the sampler counter.
//! The delay profile is data: a cap, a first step for end-of-codes, a countdown, and [`flags`].

use super::{
    BOOL, Definition, F32, I64, Operands, ReadView, U32, axes, bound_except, merge, read, read_ints, scatter,
    update, want, write,
};
use crate::contract::canonical;
use crate::{Access, Error, Launch, Range, ScalarKind, ScalarParam, Schema};

/// Bits of the `flags` scalar of `delay_mask` and `update_state`.
pub mod flags {
    /// Before sampling, only BOC is left to codebooks that have not started.
    pub const MASK_LEAD_IN: u32 = 1 << 0;
    /// Before sampling, BOC is banned, and EOC too but for codebook 0 from `eoc_from` on.
    pub const BAN_SPECIALS: u32 = 1 << 1;
    /// While ending, only EOC is left to the codebooks that have ended, and it is forced.
    pub const FORCE_RAMP: u32 = 1 << 2;
    /// The last row of a stream is fed back like any other.
    pub const FEED_LAST_ROW: u32 = 1 << 3;
}

const fn u32_param(name: &'static str) -> ScalarParam {
    ScalarParam::new(name, ScalarKind::U32)
}

/// Begins a stream of codes in all rows of the views: `last_codes` = BOC, `has_codes` = true,
/// `delay_count` = 0, `eoc_countdown` = -1, `generation_done` = false, counter = 0.
pub(crate) const SEED_STATE: Definition = Definition {
    schema: Schema {
        name: "seed_state",
        version: 1,
        since: 1,
        params: &[
            write("last_codes", I64),
            write("has_codes", BOOL),
            write("delay_count", I64),
            write("eoc_countdown", I64),
            write("generation_done", BOOL),
            write("sampler_counter", U32),
        ],
        scalars: &[u32_param("boc")],
    },
    check: |l| {
        let [r, _] = axes(l, 0)?;
        (1..6).try_for_each(|i| want(l, i, &[Some(r)]))
    },
    touched: None,
    naive: seed_state,
    vector: None,
};

fn seed_state(o: &mut Operands<'_>) {
    let boc = o.launch().u32(0);
    o.write::<i64>(0).fill(boc.into());
    o.write::<u8>(1).fill(1);
    o.write::<i64>(2).fill(0);
    o.write::<i64>(3).fill(-1);
    o.write::<u8>(4).fill(0);
    o.write::<u32>(5).fill(0);
}

/// Audio logits with -inf where the delay pattern leaves no choice. With N codebooks, d and c as above:
/// not ending (c < 0), `MASK_LEAD_IN` and k > d: all but BOC; ending, `FORCE_RAMP` and k < N - c: all
/// but EOC; else with `BAN_SPECIALS`: BOC, and EOC unless k = 0 and d >= `eoc_from` and c < 0.
pub(crate) const DELAY_MASK: Definition = Definition {
    schema: Schema {
        name: "delay_mask",
        version: 1,
        since: 1,
        params: &[
            read("logits", F32),
            read("delay_count", I64),
            read("eoc_countdown", I64),
            write("out", F32),
        ],
        scalars: &[u32_param("boc"), u32_param("eoc"), u32_param("eoc_from"), u32_param("flags")],
    },
    check: |l| {
        let [r, n, v] = axes(l, 0)?;
        want(l, 1, &[Some(r)])?;
        want(l, 2, &[Some(r)])?;
        want(l, 3, &[Some(r), Some(n), Some(v)])
    },
    touched: None,
    naive: delay_mask,
    vector: None,
};

fn delay_mask(o: &mut Operands<'_>) {
    let l = o.launch();
    let (n, v) = (l.shape(0)[1], l.shape(0)[2]);
    let (boc, eoc, eoc_from, flag) = (l.u32(0) as usize, l.u32(1) as usize, l.u32(2), l.u32(3));
    let (logits, delay, countdown) = (o.read::<f32>(0), o.read::<i64>(1), o.read::<i64>(2));
    let out = o.write::<f32>(3);
    for r in 0..delay.len() {
        let (d, c) = (delay[r], countdown[r]);
        for k in 0..n {
            let row = (r * n + k) * v;
            let lead_in = flag & flags::MASK_LEAD_IN != 0 && c < 0 && k as i64 > d;
            let ended = flag & flags::FORCE_RAMP != 0 && c >= 0 && (k as i64) < (n as i64).saturating_sub(c);
            let may_end = k == 0 && c < 0 && d >= i64::from(eoc_from);
            for i in 0..v {
                let allowed = if lead_in {
                    i == boc
                } else if ended {
                    i == eoc
                } else if flag & flags::BAN_SPECIALS != 0 {
                    i != boc && (i != eoc || may_end)
                } else {
                    true
                };
                out[row + i] = if allowed { canonical(logits[row + i]) } else { f32::NEG_INFINITY };
            }
        }
    }
}

/// State after sampling, in rows with `has_codes` and not `generation_done`; other rows give -1 in
/// `codes_out` and keep everything. With d and c as before the step, N codebooks:
/// - not ending: codes k > d are BOC; if codebook 0 drew EOC and d >= `eoc_from`, c becomes `countdown`;
/// - ending: with `FORCE_RAMP` codes k < N - c are EOC; c becomes c - 1; at 0 the row is done:
///   `generation_done` = true, `has_codes` = false, d = 0, c = -1.
///
/// d becomes min(d + 1, `delay_cap`) unless done. The row goes to `codes_out` and to `feedback`
/// (to `feedback` of a done row only with `FEED_LAST_ROW`). The counter rises by one.
pub(crate) const UPDATE_STATE: Definition = Definition {
    schema: Schema {
        name: "update_state",
        version: 1,
        since: 1,
        params: &[
            read("sampled", I64),
            update("has_codes", BOOL),
            update("delay_count", I64),
            update("eoc_countdown", I64),
            update("generation_done", BOOL),
            update("sampler_counter", U32),
            scatter("feedback", I64),
            write("codes_out", I64),
        ],
        scalars: &[
            u32_param("boc"),
            u32_param("eoc"),
            u32_param("eoc_from"),
            u32_param("flags"),
            u32_param("delay_cap"),
            u32_param("countdown"),
        ],
    },
    check: |l| {
        let [r, n] = axes(l, 0)?;
        (1..6).try_for_each(|i| want(l, i, &[Some(r)]))?;
        want(l, 6, &[Some(r), Some(n)])?;
        want(l, 7, &[Some(r), Some(n)])
    },
    touched: Some(update_state_touched),
    naive: update_state,
    vector: None,
};

fn update_state(o: &mut Operands<'_>) {
    let l = o.launch();
    let n = l.shape(0)[1];
    let (boc, eoc) = (i64::from(l.u32(0)), i64::from(l.u32(1)));
    let (eoc_from, flag) = (i64::from(l.u32(2)), l.u32(3));
    let (delay_cap, start) = (i64::from(l.u32(4)), i64::from(l.u32(5)));
    let (sampled, has_codes, delay) = (o.read::<i64>(0), o.write::<u8>(1), o.write::<i64>(2));
    let (countdown, done, counter) = (o.write::<i64>(3), o.write::<u8>(4), o.write::<u32>(5));
    let (feedback, codes_out) = (o.write::<i64>(6), o.write::<i64>(7));
    for r in 0..has_codes.len() {
        let codes = &mut codes_out[r * n..][..n];
        if has_codes[r] == 0 || done[r] != 0 {
            codes.fill(-1);
            continue;
        }
        codes.copy_from_slice(&sampled[r * n..][..n]);
        let (d, c) = (delay[r], countdown[r]);
        let mut last = false;
        if c < 0 {
            for k in (0..n).filter(|&k| k as i64 > d) {
                codes[k] = boc;
            }
            if codes[0] == eoc && d >= eoc_from {
                countdown[r] = start;
                last = start == 0;
            }
        } else {
            for k in
                (0..n).filter(|&k| flag & flags::FORCE_RAMP != 0 && (k as i64) < (n as i64).saturating_sub(c))
            {
                codes[k] = eoc;
            }
            countdown[r] = c - 1;
            last = countdown[r] <= 0;
        }
        delay[r] = d.saturating_add(1).min(delay_cap);
        counter[r] = counter[r].wrapping_add(1);
        if !last || flag & flags::FEED_LAST_ROW != 0 {
            feedback[r * n..][..n].copy_from_slice(codes);
        }
        if last {
            (done[r], has_codes[r], delay[r], countdown[r]) = (1, 0, 0, -1);
        }
    }
}

/// All that is bound, but for `feedback`, which only rows that produce codes write. Whether a last
/// row does is left open: the range is then reported though nothing may be written.
fn update_state_touched(l: &Launch, read: ReadView<'_>) -> Result<Vec<Range>, Error> {
    let n = l.shape(0)[1];
    let (has_codes, done) = (read_ints(l, 1, read)?, read_ints(l, 4, read)?);
    let mut ranges = bound_except(l, &[6]);
    for r in (0..has_codes.len()).filter(|&r| has_codes[r] != 0 && done[r] == 0) {
        ranges.push(l.view(6).element_range(r * n, n, Access::Write));
    }
    Ok(merge(ranges))
}
