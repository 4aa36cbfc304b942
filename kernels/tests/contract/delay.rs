//! The delay pattern's state machine with the three profiles: rows of codes and state after each
//! step, as the reference engines have them.

use twinstep_kernels::{CpuForm, DType, Op, Scalar, delay_flags};

use crate::case::{Case, FORMS, Operand};

/// A delay profile for a number of codebooks.
struct Profile {
    flags: u32,
    eoc_from: usize,
    delay_cap: usize,
    countdown: usize,
}

fn omni(n: usize) -> Profile {
    let flags = delay_flags::MASK_LEAD_IN
        | delay_flags::BAN_SPECIALS
        | delay_flags::FORCE_RAMP
        | delay_flags::FEED_LAST_ROW;
    Profile { flags, eoc_from: 0, delay_cap: n - 1, countdown: n - 1 }
}

fn sglang(n: usize) -> Profile {
    Profile { flags: 0, eoc_from: n, delay_cap: n, countdown: n - 2 }
}

fn voice(n: usize) -> Profile {
    let flags = delay_flags::BAN_SPECIALS | delay_flags::FORCE_RAMP | delay_flags::FEED_LAST_ROW;
    Profile { flags, eoc_from: n, delay_cap: n, countdown: n - 2 }
}

const V: usize = 12;
const BOC: i64 = V as i64 - 2;
const EOC: i64 = V as i64 - 1;

/// What one step left behind.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    /// As in the reference's table: `B`, `E`, or `s` for a real code.
    codes: String,
    delay_count: i64,
    eoc_countdown: i64,
    done: bool,
    fed: bool,
    counter: u32,
}

/// Decode state of one row.
struct State {
    has_codes: Operand,
    delay_count: Operand,
    eoc_countdown: Operand,
    done: Operand,
    counter: Operand,
    feedback: Operand,
}

fn seed(form: CpuForm, n: usize) -> State {
    let stale = |dtype, shape: &[usize]| Operand::filled(dtype, shape, 0xA5);
    let operands = vec![
        stale(DType::I64, &[1, n]),
        stale(DType::Bool, &[1]),
        stale(DType::I64, &[1]),
        stale(DType::I64, &[1]),
        stale(DType::Bool, &[1]),
        stale(DType::U32, &[1]),
    ];
    let after = Case::new(Op::SeedState, operands, vec![Scalar::U32(BOC as u32)]).run(form);
    let [feedback, has_codes, delay_count, eoc_countdown, done, counter] =
        after.try_into().expect("six operands");
    assert_eq!(feedback.elements::<i64>(), vec![BOC; n]);
    assert_eq!((&has_codes.bytes[..], &done.bytes[..]), (&[1u8][..], &[0u8][..]));
    State { has_codes, delay_count, eoc_countdown, done, counter, feedback }
}

/// One step on the given logits `[n, V]`: mask, greedy, update.
fn step(form: CpuForm, n: usize, profile: &Profile, logits: &[f32], state: &mut State) -> Step {
    let logits = Operand::floats(DType::F32, &[1, n, V], logits);
    let masked = Operand::filled(DType::F32, &[1, n, V], 0);
    let specials = [BOC as u32, EOC as u32, profile.eoc_from as u32, profile.flags].map(Scalar::U32);
    let operands = vec![logits, state.delay_count.clone(), state.eoc_countdown.clone(), masked];
    let masked = Case::new(Op::DelayMask, operands, specials.to_vec()).result(form, "out");

    let key = Operand::new(DType::U32, &[1, 4], &[0u32; 4]);
    let operands = vec![masked, key, state.counter.clone(), Operand::filled(DType::I64, &[1, n], 0xA5)];
    let greedy = vec![Scalar::F32(0.0), Scalar::U32(0), Scalar::F32(1.0)];
    let sampled = Case::new(Op::Sample, operands, greedy).result(form, "sampled");

    let mut scalars = specials.to_vec();
    scalars.extend([Scalar::U32(profile.delay_cap as u32), Scalar::U32(profile.countdown as u32)]);
    let fed_before = state.feedback.clone();
    let operands = vec![
        sampled,
        state.has_codes.clone(),
        state.delay_count.clone(),
        state.eoc_countdown.clone(),
        state.done.clone(),
        state.counter.clone(),
        state.feedback.clone(),
        Operand::filled(DType::I64, &[1, n], 0xA5),
    ];
    let after = Case::new(Op::UpdateState, operands, scalars).run(form);
    let [_, has_codes, delay_count, eoc_countdown, done, counter, feedback, codes] =
        after.try_into().expect("eight operands");
    let letter = |&code: &i64| match code {
        BOC => 'B',
        EOC => 'E',
        -1 => '-',
        _ => 's',
    };
    let step = Step {
        codes: codes.elements::<i64>().iter().map(letter).collect(),
        delay_count: delay_count.elements::<i64>()[0],
        eoc_countdown: eoc_countdown.elements::<i64>()[0],
        done: done.bytes[0] != 0,
        fed: feedback == codes,
        counter: counter.elements::<u32>()[0],
    };
    assert!(step.fed || feedback == fed_before, "the feedback is this row or the one before");
    assert_ne!(step.done, has_codes.bytes[0] != 0 && step.codes != "-".repeat(n));
    *state = State { has_codes, delay_count, eoc_countdown, done, counter, feedback };
    step
}

/// Steps until the row is done, codebook 0 preferring EOC in the steps `ends` and a real code
/// otherwise; the other codebooks always prefer EOC, then BOC, then a real code.
fn speak(form: CpuForm, n: usize, profile: &Profile, ends: impl Fn(usize) -> bool) -> Vec<Step> {
    let mut state = seed(form, n);
    let mut steps: Vec<Step> = Vec::new();
    for index in 0..64 {
        let mut logits = vec![0.0f32; n * V];
        for k in 0..n {
            let row = &mut logits[k * V..][..V];
            row[(index * 3 + k) % (V - 2)] = 1.0;
            if profile.flags != 0 {
                (row[BOC as usize], row[EOC as usize]) = (2.0, 3.0);
            }
        }
        logits[EOC as usize] = if ends(index) { 3.0 } else { -3.0 };
        steps.push(step(form, n, profile, &logits, &mut state));
        if steps[index].done {
            let idle = step(form, n, profile, &logits, &mut state);
            assert_eq!(idle.codes, "-".repeat(n), "a done row produces nothing");
            assert_eq!(idle.counter, steps[index].counter, "and keeps its counter");
            return steps;
        }
    }
    panic!("did not stop: {steps:?}");
}

/// The worked example of the reference: 10 real frames, N = 8.
#[test]
fn omni_gives_the_worked_example() {
    let table = [
        ("sBBBBBBB", 1, -1),
        ("ssBBBBBB", 2, -1),
        ("sssBBBBB", 3, -1),
        ("ssssBBBB", 4, -1),
        ("sssssBBB", 5, -1),
        ("ssssssBB", 6, -1),
        ("sssssssB", 7, -1),
        ("ssssssss", 7, -1),
        ("ssssssss", 7, -1),
        ("ssssssss", 7, -1),
        ("Esssssss", 7, 7),
        ("Esssssss", 7, 6),
        ("EEssssss", 7, 5),
        ("EEEsssss", 7, 4),
        ("EEEEssss", 7, 3),
        ("EEEEEsss", 7, 2),
        ("EEEEEEss", 7, 1),
        ("EEEEEEEs", 0, -1),
    ];
    for form in FORMS {
        let steps = speak(form, 8, &omni(8), |index| index == 10);
        for (index, (step, (codes, d, r))) in steps.iter().zip(table).enumerate() {
            assert_eq!((step.codes.as_str(), step.delay_count, step.eoc_countdown), (codes, d, r));
            assert_eq!(step.counter, index as u32 + 1, "the counter advances in greedy mode too");
            assert!(step.fed);
        }
        assert_eq!(steps.len(), table.len());
        assert!(steps.iter().rev().skip(1).all(|step| !step.done));
    }
}

/// End-of-codes drawn during the lead-in ends the lead-in of all codebooks at once.
#[test]
fn omni_ends_the_lead_in_when_codebook_0_ends() {
    for form in FORMS {
        let steps = speak(form, 4, &omni(4), |index| index == 1);
        let codes: Vec<&str> = steps.iter().map(|step| step.codes.as_str()).collect();
        assert_eq!(codes, ["sBBB", "EsBB", "Esss", "EEss", "EEEs"]);
    }
}

/// T frames are T + N - 1 rows, though codebook 0 wants to end from the start.
#[test]
fn voice_gives_t_plus_n_minus_1_rows_and_feeds_the_last() {
    for form in FORMS {
        for (n, frames) in [(4, 4), (4, 10), (8, 9), (2, 5)] {
            let steps = speak(form, n, &voice(n), |index| index >= frames);
            assert_eq!(steps.len(), frames + n - 1, "N = {n}");
            assert!(steps.iter().all(|step| step.fed));
        }
        let steps = speak(form, 4, &voice(4), |_| true);
        let codes: Vec<&str> = steps.iter().map(|step| step.codes.as_str()).collect();
        assert_eq!(codes, ["sBBB", "ssBB", "sssB", "ssss", "Esss", "EEss", "EEEs"]);
    }
}

/// Nothing masked, nothing forced but the lead-in; early EOC is ignored; the last row is not fed back.
#[test]
fn sglang_gives_t_plus_n_minus_1_rows_and_does_not_feed_the_last() {
    for form in FORMS {
        for (n, frames) in [(4, 4), (8, 10), (8, 8)] {
            let steps = speak(form, n, &sglang(n), |index| index == 2 || index >= frames);
            assert_eq!(steps.len(), frames + n - 1, "N = {n}");
            let fed: Vec<bool> = steps.iter().map(|step| step.fed).collect();
            assert!(fed[..fed.len() - 1].iter().all(|&fed| fed) && !fed[fed.len() - 1], "{fed:?}");
        }
        let steps = speak(form, 4, &sglang(4), |index| index == 2 || index == 5);
        let rows: Vec<_> = steps.iter().map(|s| (s.codes.as_str(), s.delay_count, s.eoc_countdown)).collect();
        let want = [
            ("sBBB", 1, -1),
            ("ssBB", 2, -1),
            ("EssB", 3, -1),
            ("ssss", 4, -1),
            ("ssss", 4, -1),
            ("Esss", 4, 2),
            ("ssss", 4, 1),
            ("ssss", 0, -1),
        ];
        assert_eq!(rows, want);
    }
}
