//! A fault planted at random: the verdict first, then what it was.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use twinstep_recorder::{Fault, Mode};
use twinstep_replayer::{BUDGET, ExplainReport};

use crate::demo::folder::{Speech, printed, said, trace, typed, width};
use crate::device::Device;
use crate::explain;
use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::record::{self, ModeName};
use crate::rules::RuleSet;
use crate::weights::Weights;

/// Meets what every fault needs to show: two requests, the second one shorter, and a first one that goes
/// beyond 192 positions.
const TEXT: &str =
    "they have been working on this problem for many years and the company will announce it now. good night.";
/// Codes are drawn, as some faults show only then.
const TEMPERATURE: f32 = 1.0;
const TOP_K: u32 = 50;
/// Seeds of the clock stay below it, to be short enough to type.
const SEEDS: u64 = 1_000_000;

/// `twinstep.demo-blind/1`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    seed: u64,
    device: &'a str,
    text: &'static str,
    recordings: &'a [record::Report],
    explain: &'a ExplainReport,
    commands: &'a [explain::Command],
    planted: Planted,
    /// Whether the verdict has the kind of what was planted.
    named: bool,
    next: &'a [String],
}

#[derive(Serialize)]
struct Planted {
    name: &'static str,
    kind: &'static str,
    sentence: &'static str,
    report: &'static str,
}

/// One of all faults, each as likely as the others.
fn choose(seed: u64) -> Fault {
    // A step of splitmix64: seeds that lie side by side choose faults that do not.
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    Fault::ALL[(z % Fault::ALL.len() as u64) as usize]
}

/// A number that nobody knows in advance.
fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) % SEEDS
}

pub(crate) fn run(seed: Option<u64>, device: Device, out: &mut Output) -> Result<Status, Failure> {
    let seed = seed.unwrap_or_else(clock);
    let about = choose(seed).about();
    let speech = Speech { text: TEXT, temperature: TEMPERATURE, top_k: TOP_K, device };
    let (suspect, other) = (trace("blind"), trace("blind-eager"));
    // A mistake that does not depend on the mode is made in both runs.
    let (mode, both) = match about.needs.mode {
        Some(Mode::Piecewise) => (ModeName::Piecewise, None),
        Some(_) => (ModeName::Graph, None),
        None => (ModeName::Graph, Some(about.name)),
    };

    out.line(format!("twinstep demo --blind --seed {seed}\n"))?;
    out.line(format!("1. One of {} faults is planted, and the text spoken twice", Fault::ALL.len()))?;
    let recordings = vec![
        speech.record(mode, "blind", Some(about.name))?,
        speech.record(ModeName::Eager, "blind-eager", both)?,
    ];
    let device = recordings[0].device.clone();
    said(out, &format!("\"{TEXT}\""))?;
    said(out, &format!("runs on {device}"))?;
    for (path, report) in [(&suspect, &recordings[0]), (&other, &recordings[1])] {
        said(out, &format!("{}: {}", path.display(), record::summary(report)))?;
    }

    out.line("\n2. The cause, searched for in the two traces: no byte of them names the fault")?;
    let found = explain::compare(&suspect, &other, None, BUDGET, &RuleSet::new(None)?, &Weights::new(None))?;
    let commands = explain::commands((&suspect, &other), None, &found);
    typed(out, &format!("twinstep explain {} {}", suspect.display(), other.display()))?;
    printed(out, &explain::show(&found, &commands, width()))?;

    let named = found.verdict.kind.name() == about.kind;
    out.line("\n3. What was planted")?;
    said(out, &format!("{}, of the kind {}", about.name, about.kind))?;
    said(out, about.sentence)?;
    said(out, &format!("taken from: {}", about.report))?;
    let kind = found.verdict.kind;
    said(
        out,
        &match (named, found.verdict.proven) {
            (true, true) => format!("The verdict names the kind, and proves it: {kind}."),
            (true, false) => format!("The verdict names the kind, without proof: {kind}."),
            (false, _) => format!("The verdict does NOT name the kind: it says {kind}."),
        },
    )?;
    let next = [
        format!("twinstep diff {} {}", suspect.display(), other.display()),
        format!("twinstep check {}", suspect.display()),
        "twinstep dev faults".to_owned(),
        "twinstep demo --blind".to_owned(),
    ];
    out.line("\nNext:")?;
    for command in &next {
        said(out, command)?;
    }
    out.document(&Document {
        schema: "twinstep.demo-blind/1",
        seed,
        device: &device,
        text: TEXT,
        recordings: &recordings,
        explain: &found,
        commands: &commands,
        planted: Planted {
            name: about.name,
            kind: about.kind,
            sentence: about.sentence,
            report: about.report,
        },
        named,
        next: &next,
    })?;
    Ok(if named { Status::Same } else { Status::Differs })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_can_be_planted_and_a_seed_always_plants_the_same() {
        let all: BTreeSet<&str> = (0..2000).map(|seed| choose(seed).name()).collect();
        assert_eq!(all.len(), Fault::ALL.len(), "{all:?}");
        assert!((0..50).all(|seed| choose(seed) == choose(seed)));
    }
}
