//! `twinstep demo`: one sentence spoken twice, compared; a fault planted, found and undone.

use std::path::{Path, PathBuf};

use serde::Serialize;
use twinstep_replayer::{DiffReport, StepReport};

use crate::device::Device;
use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::record::{self, Dtype, ModeName, ProfileName, Snapshots};
use crate::weights::Weights;
use crate::{diff, step};

/// Speak a sentence twice, plant a fault, find it and prove it; writes to ./twinstep-demo/.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep demo")]
pub(crate) struct Args {
    /// What runs the launches.
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
}

const TEXT: &str = "the weather is nice today and the sun is shining.";
const FOLDER: &str = "twinstep-demo";
/// Says that the folder is the demo's own.
const MARK: &str = ".made-by-twinstep-demo";
/// The suspects of the original report besides the feedback: is the attention metadata to blame?
const INNOCENT: &str = "seq_lens=other";

/// `twinstep.demo/1`.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    device: String,
    text: &'static str,
    planted: &'static str,
    recordings: Vec<record::Report>,
    clean: DiffReport,
    faulty: DiffReport,
    steps: Steps,
    wavs: Vec<PathBuf>,
    next: Vec<String>,
}

/// The same step executed again: as it was, with the culprit patched, with an innocent patched.
#[derive(Serialize)]
struct Steps {
    unpatched: StepReport,
    patched: StepReport,
    innocent: StepReport,
}

fn prepare(folder: &Path) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::new("output", format!("{FOLDER}: {e}"));
    if folder.exists() && !folder.join(MARK).is_file() {
        return Err(Failure::new("output", format!("./{FOLDER} exists and was not made by `twinstep demo`"))
            .hint("run the demo in another folder, or move that one away"));
    }
    std::fs::create_dir_all(folder).map_err(cannot)?;
    std::fs::write(folder.join(MARK), "twinstep demo overwrites the files in this folder\n").map_err(cannot)
}

fn speak(device: Device, mode: ModeName, name: &str, fault: Option<&str>) -> Result<record::Report, Failure> {
    record::perform(&record::Args {
        text: TEXT.to_owned(),
        mode,
        voice: None,
        device,
        seed: 42,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        batch: 4,
        max_steps: None,
        context: None,
        profile: ProfileName::Voice,
        dtype: Dtype::F16,
        fault: fault.map(str::to_owned).into_iter().collect(),
        snapshots: Snapshots::On,
        output: Some(Path::new(FOLDER).join(format!("{name}.twin"))),
        wav: Some(Path::new(FOLDER).join(format!("{name}.wav"))),
        force: true,
    })
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    prepare(Path::new(FOLDER))?;
    let path = |name: &str| Path::new(FOLDER).join(format!("{name}.twin"));
    let (eager, graph, faulty) = (path("eager"), path("graph"), path("graph-faulty"));

    out.line(format!("twinstep demo: \"{TEXT}\"\n"))?;
    out.line("1. A clean pair: eager, and the decode step from one captured graph")?;
    let mut recordings = vec![speak(args.device, ModeName::Eager, "eager", None)?];
    let device = recordings[0].device.clone();
    out.line(format!("   runs on {device}"))?;
    out.line(format!("   eager: {}, every step recorded", record::summary(&recordings[0])))?;
    recordings.push(speak(args.device, ModeName::Graph, "graph", None)?);
    out.line(format!("   graph: {}, every step recorded", record::summary(&recordings[1])))?;
    let clean = diff::compare(&graph, &eager, &[])?;
    out.line(format!("   $ twinstep diff {} {}", graph.display(), eager.display()))?;
    indent(out, &diff::show(&clean, false))?;

    out.line("\n2. A planted fault: stale-codes. The captured path misses the host's copy of the first codes into last_codes")?;
    recordings.push(speak(args.device, ModeName::Graph, "graph-faulty", Some("stale-codes"))?);
    let found = diff::compare(&faulty, &eager, &[])?;
    out.line(format!("   $ twinstep diff {} {}", faulty.display(), eager.display()))?;
    indent(out, &diff::show(&found, false))?;

    out.line("\n3. Proof: step 2 of the faulty run executed again, from its recorded state")?;
    let weights = Weights::new(None);
    let mut execute = |patch: Option<&str>| {
        let patches: Vec<String> = patch.iter().map(|p| (*p).to_owned()).collect();
        let report = step::execute(&faulty, Some(&eager), "2", &patches, &weights)?;
        let patch = patch.map_or(String::new(), |p| format!(" --patch {p}"));
        out.line(format!("   $ twinstep step {} {} --at 2{patch}", faulty.display(), eager.display()))?;
        indent(out, &step::show(&report))?;
        Ok::<_, Failure>(report)
    };
    let steps = Steps {
        unpatched: execute(None)?,
        patched: execute(Some("last_codes=other"))?,
        innocent: execute(Some(INNOCENT))?,
    };
    out.line(
        "   With last_codes as in the other run the step equals it; the attention metadata is innocent.",
    )?;

    let wavs: Vec<PathBuf> = recordings.iter().filter_map(|r| r.wav.clone()).collect();
    out.line("\n4. Listen")?;
    for wav in &wavs {
        out.line(format!("   {}", wav.display()))?;
    }
    let (e, f) = (eager.display(), faulty.display());
    let next = vec![
        format!("twinstep print {f} 'last_codes[0,:]' --at 2"),
        format!("twinstep print {e} 'last_codes[0,:]' --at 2"),
        format!("twinstep log {f} --at 2"),
        format!("twinstep verify {f} --replay"),
    ];
    out.line("\nNext:")?;
    for command in &next {
        out.line(format!("   {command}"))?;
    }
    let held = clean.identical
        && !found.identical
        && steps.unpatched.equals_other == Some(false)
        && steps.patched.equals_other == Some(true)
        && steps.innocent.equals_other == Some(false);
    out.document(&Report {
        schema: "twinstep.demo/1",
        device,
        text: TEXT,
        planted: "stale-codes",
        recordings,
        clean,
        faulty: found,
        steps,
        wavs,
        next,
    })?;
    Ok(if held { Status::Same } else { Status::Differs })
}

fn indent(out: &mut Output, lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| out.line(format!("     {line}")))
}
