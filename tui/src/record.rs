//! `twinstep record`: speak a text and record every decode step.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;
use twinstep_kernels::Backend;
use twinstep_recorder::profile::Profile;
use twinstep_recorder::{
    Fault, Mode, RecordError, RecordOptions, Recording, Sampling, Spoken, Voice, WeightsType, record,
    run_record, speakable, write_wav,
};
use twinstep_traces::{FileStorage, TraceWriter};

use crate::device::{Device, describe};
use crate::failure::Failure;
use crate::output::{Output, Status};

/// How decode steps run.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModeName {
    /// Launch by launch.
    Eager,
    /// The whole decode step from one captured graph.
    Graph,
    /// Each layer's norm and MLP from a graph of its own.
    Piecewise,
}

/// Element type of weights as used.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Dtype {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

/// Delay profile.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ProfileName {
    /// The embedded voice's own.
    Voice,
    /// As vLLM-Omni does it.
    Omni,
    /// As SGLang-Omni does it.
    Sglang,
}

/// Whether a trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Snapshots {
    /// Every step.
    On,
    /// Nothing: only speak.
    Off,
}

/// Speak a text and record every decode step.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep record --text \"good morning.\" --mode graph -o graph.twin --wav graph.wav"
)]
pub(crate) struct Args {
    /// What to say (English; sentences are requests of their own).
    #[arg(long)]
    pub(crate) text: String,
    /// How decode steps run.
    #[arg(long, value_enum, default_value = "eager")]
    pub(crate) mode: ModeName,
    /// Folder of another voice.
    #[arg(long, value_name = "DIR")]
    pub(crate) voice: Option<PathBuf>,
    /// What runs the launches.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: Device,
    /// Seed of the sampler.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Codes kept; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: u32,
    /// Probability kept; 1 keeps all.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Rows of the batch; one speaks, the others are padding.
    #[arg(long, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Steps of a request at most, prefill included.
    #[arg(long)]
    pub(crate) max_steps: Option<u32>,
    /// Positions that the KV cache holds; by default all that the model knows.
    #[arg(long)]
    pub(crate) context: Option<usize>,
    /// Delay profile.
    #[arg(long, value_enum, default_value = "voice")]
    pub(crate) profile: ProfileName,
    /// Element type of weights and KV cache.
    #[arg(long, value_enum, default_value = "f16")]
    pub(crate) dtype: Dtype,
    /// A mistake to plant, as `twinstep dev faults` lists them; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(crate) fault: Vec<String>,
    /// Whether a trace is recorded.
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) snapshots: Snapshots,
    /// The trace; by default the next free name.
    #[arg(short, long, value_name = "RUN.twin")]
    pub(crate) output: Option<PathBuf>,
    /// Also write the sound.
    #[arg(long, value_name = "FILE")]
    pub(crate) wav: Option<PathBuf>,
    /// Overwrite outputs that exist.
    #[arg(long)]
    pub(crate) force: bool,
}

/// `twinstep.record/1`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    pub(crate) device: String,
    mode: &'static str,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) wav: Option<PathBuf>,
    requests: Vec<Request>,
    pub(crate) audio_s: f64,
    pub(crate) wall_s: f64,
}

#[derive(Debug, Serialize)]
struct Request {
    request: usize,
    text: String,
    steps: u32,
    frames: usize,
    stopped: String,
    codes: Vec<Vec<i64>>,
}

pub(crate) fn fault(name: &str) -> Result<Fault, Failure> {
    let found = Fault::ALL.iter().find(|f| f.name() == name).copied();
    found.ok_or_else(|| {
        Failure::new("usage", format!("no fault `{name}`")).hint("twinstep dev faults lists them")
    })
}

pub(crate) fn failed(error: &RecordError, output: Option<&Path>) -> Failure {
    match error {
        RecordError::Trace(error) => {
            let name = output.map_or(String::new(), |path| format!("{}: ", path.display()));
            let text = error.to_string();
            let text = if output.is_some_and(|p| text.contains(&p.display().to_string())) {
                text
            } else {
                format!("{name}{text}")
            };
            Failure::new("output", text)
                .hint("what was committed before is readable: `twinstep info` says how much")
        }
        RecordError::Text(_) => {
            Failure::new("input", error).hint("twinstep record --text \"good morning.\" -o a.twin")
        }
        RecordError::Option(_) | RecordError::FaultNeeds { .. } => Failure::new("usage", error),
        _ => Failure::new("input", error),
    }
}

fn options(args: &Args) -> Result<RecordOptions, Failure> {
    let mut options = RecordOptions::new(&args.text);
    options.mode = match args.mode {
        ModeName::Eager => Mode::Eager,
        ModeName::Graph => Mode::Graph,
        ModeName::Piecewise => Mode::Piecewise,
    };
    options.profile = Profile::ALL[args.profile as usize];
    options.rows = args.batch;
    options.seed = args.seed;
    options.sampling = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    options.max_steps = args.max_steps;
    options.context = args.context;
    options.faults = args.fault.iter().map(|name| fault(name)).collect::<Result<_, _>>()?;
    options.weights = match args.dtype {
        Dtype::F16 => WeightsType::F16,
        Dtype::Bf16 => WeightsType::Bf16,
    };
    options.check().map_err(|e| failed(&e, None))?;
    speakable(&args.text).map_err(|e| failed(&e, None))?;
    Ok(options)
}

/// The next free name for a trace of a mode.
fn free_name(mode: Mode) -> PathBuf {
    let candidate = |i: u32| match i {
        1 => PathBuf::from(format!("{}.twin", mode.name())),
        i => PathBuf::from(format!("{}-{i}.twin", mode.name())),
    };
    (1..).map(candidate).find(|path| !path.exists()).unwrap_or_default()
}

fn check_output(path: &Path, force: bool) -> Result<(), Failure> {
    let name = path.display();
    if path.is_dir() {
        return Err(Failure::new("output", format!("{name} is a directory")).hint("give a file name"));
    }
    if path.exists() && !force {
        return Err(Failure::new("output", format!("{name} exists already; --force overwrites it"))
            .hint("choose another name, or add --force"));
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        Some(folder) => {
            Err(Failure::new("output", format!("there is no folder {} for {name}", folder.display()))
                .hint(format!("mkdir -p {}", folder.display())))
        }
        None => Ok(()),
    }
}

/// The voice that a command uses.
pub(crate) fn voice(folder: Option<&Path>) -> Result<Voice, Failure> {
    let voice = match folder {
        Some(folder) => Voice::open(folder),
        None => Voice::embedded(),
    };
    voice.map_err(|e| Failure::new("voice", e).hint("without --voice the embedded voice speaks"))
}

/// Records as the arguments say; everything that can be refused is refused before anything is written.
pub(crate) fn perform(args: &Args) -> Result<Report, Failure> {
    let options = options(args)?;
    let voice = voice(args.voice.as_deref())?;
    let output = match (args.snapshots, &args.output) {
        (Snapshots::Off, _) => None,
        (Snapshots::On, Some(path)) => Some(path.clone()),
        (Snapshots::On, None) => Some(free_name(options.mode)),
    };
    for path in [output.as_ref(), args.wav.as_ref()].into_iter().flatten() {
        check_output(path, args.force)?;
    }
    let backend: Box<dyn Backend> = args.device.backend()?;
    let info = backend.info();
    let writer = match &output {
        Some(path) => {
            let run = run_record(&voice, &options, &info);
            let writer = TraceWriter::<FileStorage>::create(path, &run, args.force);
            Some(writer.map_err(|e| failed(&RecordError::Trace(e), Some(path)))?)
        }
        None => None,
    };
    let start = Instant::now();
    let bar = crate::progress::bar("steps");
    let recorded: Recording<FileStorage> =
        record(&voice, &options, backend, writer, &mut |p| bar.tick(u64::from(p.step)))
            .map_err(|e| failed(&e, output.as_deref()))?;
    bar.finish();
    let wall_s = start.elapsed().as_secs_f64();
    if let Some(path) = &args.wav {
        let cannot = |e: &dyn std::fmt::Display| Failure::new("output", format!("{}: {e}", path.display()));
        let file = File::create(path).map_err(|e| cannot(&e))?;
        write_wav(BufWriter::new(file), &recorded.waveform, recorded.sample_rate).map_err(|e| cannot(&e))?;
    }
    let request = |(i, spoken): (usize, Spoken)| Request {
        request: i + 1,
        text: spoken.text,
        steps: spoken.steps,
        frames: spoken.codes.len(),
        stopped: spoken.stopped,
        codes: spoken.codes,
    };
    Ok(Report {
        schema: "twinstep.record/1",
        device: describe(info.backend, &info.name, &info.capability, &info.driver),
        mode: options.mode.name(),
        trace: output,
        wav: args.wav.clone(),
        requests: recorded.requests.into_iter().enumerate().map(request).collect(),
        audio_s: recorded.waveform.len() as f64 / f64::from(recorded.sample_rate),
        wall_s,
    })
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let report = perform(args)?;
    out.line(format!("{} on {}", report.mode, report.device))?;
    for r in &report.requests {
        out.line(format!(
            "request {}: {} steps, {} frames, {}: {}",
            r.request, r.steps, r.frames, r.stopped, r.text
        ))?;
    }
    out.line(summary(&report))?;
    match &report.trace {
        Some(trace) => {
            out.line(format!("trace {}", trace.display()))?;
            out.line(format!(
                "next: twinstep info {0}   twinstep log {0} --at 2   twinstep verify {0} --replay",
                trace.display()
            ))?;
        }
        None => out.line("no trace: --snapshots off")?,
    }
    if let Some(wav) = &report.wav {
        out.line(format!("sound {}", wav.display()))?;
    }
    out.document(&report)?;
    Ok(Status::Same)
}

/// How long it took.
pub(crate) fn summary(report: &Report) -> String {
    let ratio = report.audio_s / report.wall_s;
    format!("{:.2} s of speech in {:.2} s: {ratio:.1} times real time", report.audio_s, report.wall_s)
}
