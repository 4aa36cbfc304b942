//! `twinstep import`: dumps of another engine become traces.

use std::path::PathBuf;

use twinstep_recorder::{ImportError, ImportOptions, ImportedTrace, import};
use twinstep_replayer::quoted;

use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::progress::bar;

const EXAMPLE: &str = "\
Example:
  twinstep import --eager dumps/eager --graph dumps/graph -o run
  twinstep diff run.eager.twin run.graph.twin

A folder holds .npz, .safetensors or .npy files: one a step, or one a buffer and step. Names say which:
  step_0007.npz  decode-12.safetensors  prefill.npz      the step (a number by itself is one too)
  req2/step_3.npz  r2_step3.npz  rank1/step3.npz         request and rank
  step3.before.npz, or an array `last_codes.before`      taken before the step; without it after
  decode_3/layer.0.k.npy  iter3/..  token3/..  pass3/..  other words for a step; a layer's number is none
  step_3/last_codes.npy  last_codes_step3.npy            one buffer

A map says what names don't (all of it optional):
  step = '(?<request>\\d+)/(?<step>\\d+)\\.(?<point>before|after)\\.npz'   # also rank, buffer
  point = \"before\"              # of dumps that say none
  points = [\"qkv\", \"mlp\"]       # the order of those within a step; naturally where left out
  prefill = false               # the first step of a request is a decode step
  ignore = [\"*.weight\"]
  [names]
  \"model.last_codes\" = \"last_codes\"
  [roles]
  \"*logits\" = \"output\"          # state (the default), input, output, scratch
  [dtypes]
  hidden = \"bf16\"               # what the bits are, where NumPy has no name for it
  [requests.1]
  text = \"cmpl-8f2\"             # the engine's id; requests of two runs are matched by it
  prompt = [1, 2, 3]
  [run]
  model = \"my-model\"

Where the two runs took the same requests in another order, import each by itself with a map of its own whose texts say
which request is which.";

/// Make traces of dumped arrays: .npz, .npy, .safetensors.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
#[command(group = clap::ArgGroup::new("folders").required(true).multiple(true).args(["eager", "graph"]))]
pub(crate) struct Args {
    /// Folder with the dumps of the eager run.
    #[arg(long, value_name = "DIR")]
    eager: Option<PathBuf>,
    /// Folder with the dumps of the run from CUDA graphs.
    #[arg(long, value_name = "DIR")]
    graph: Option<PathBuf>,
    /// What names mean where they don't say it themselves.
    #[arg(long, value_name = "NAMES.toml")]
    map: Option<PathBuf>,
    /// What the traces' names begin with: PREFIX.eager.twin and PREFIX.graph.twin.
    #[arg(short, long, value_name = "PREFIX")]
    output: PathBuf,
    /// Overwrite traces that exist.
    #[arg(long)]
    force: bool,
    /// Steps may be missing between others.
    #[arg(long)]
    allow_gaps: bool,
    /// Arrays may change shape or type: each change is new memory under the name.
    #[arg(long)]
    allow_reshape: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let options = ImportOptions {
        eager: args.eager.clone(),
        graph: args.graph.clone(),
        map: args.map.clone(),
        prefix: args.output.clone(),
        force: args.force,
        allow_gaps: args.allow_gaps,
        allow_reshape: args.allow_reshape,
    };
    let bar = bar("importing");
    let report = import(&options, &mut |step| bar.tick(step));
    bar.finish();
    let report = report.map_err(|e| failed(&e, args))?;
    for trace in &report.traces {
        told(trace, out)?;
    }
    for note in &report.notes {
        out.line(note)?;
    }
    let names: Vec<String> = report.traces.iter().map(|t| t.trace.display().to_string()).collect();
    let eager = report.traces.iter().find(|t| t.mode == "eager");
    let graph = report.traces.iter().find(|t| t.mode == "graph");
    match (eager, graph) {
        (Some(a), Some(b)) => {
            let [a, b] = [a, b].map(|t| quoted(&t.trace.to_string_lossy()));
            out.line(format!("next: twinstep diff {a} {b}   twinstep check {b}   twinstep {a} {b}"))?;
        }
        _ => {
            let name = quoted(names.first().map_or("", String::as_str));
            out.line(format!("next: twinstep info {name}   twinstep check {name}   twinstep {name}"))?;
        }
    }
    out.document(&report)?;
    Ok(Status::Same)
}

fn told(trace: &ImportedTrace, out: &mut Output) -> Result<(), Failure> {
    let rank = if trace.rank > 0 { format!(", rank {}", trace.rank) } else { String::new() };
    out.line(format!(
        "{}  {} bytes, {}{rank}, from {} files of {}",
        trace.trace.display(),
        trace.file_bytes,
        trace.mode,
        trace.files,
        trace.folder.display()
    ))?;
    const SHOWN: usize = 8;
    for request in trace.requests.iter().take(SHOWN) {
        let text = if request.text.is_empty() { String::new() } else { format!("  {}", request.text) };
        let (n, first, last) = (request.steps, request.first, request.last);
        out.line(format!("  request {:<3} {n} steps, {first} to {last}{text}", request.request))?;
    }
    if trace.requests.len() > SHOWN {
        out.line(format!("  and {} requests more", trace.requests.len() - SHOWN))?;
    }
    for buffer in &trace.buffers {
        let bytes = match &buffer.stored_as_bytes {
            Some(dtype) => format!("  ({dtype}, as bytes)"),
            None => String::new(),
        };
        let more = if buffer.generations > 1 {
            format!("  and {} other shapes or types", buffer.generations - 1)
        } else {
            String::new()
        };
        let shape = &buffer.shape;
        out.line(format!(
            "  {:<7} {:<22} {:<5} {shape:?}{bytes}{more}",
            buffer.role, buffer.name, buffer.dtype
        ))?;
    }
    for note in &trace.notes {
        out.line(format!("  {note}"))?;
    }
    for file in trace.left_out.iter().take(SHOWN) {
        out.line(format!("  left out: {}", file.replace('\n', "\\n")))?;
    }
    if trace.left_out.len() > SHOWN {
        out.line(format!("  left out: {} files more (--json lists them)", trace.left_out.len() - SHOWN))?;
    }
    Ok(())
}

/// Makes what `torch.save` wrote in a folder readable: a .safetensors file beside each.
const CONVERT: &str = "python3 -c 'import sys, pathlib, torch, safetensors.torch as s; \
    [s.save_file({str(k): v.clone().contiguous() for k, v in (d.items() if isinstance(d, dict) \
    else enumerate(d) if isinstance(d, (list, tuple)) else [(\"\", d)]) if torch.is_tensor(v)}, \
    p.with_suffix(\".safetensors\")) for p in pathlib.Path(sys.argv[1]).rglob(sys.argv[2]) \
    for d in [torch.load(p, map_location=\"cpu\", weights_only=True)]]'";

fn failed(error: &ImportError, args: &Args) -> Failure {
    let line = error.to_string();
    let (input, output) = (Failure::new("input", &line), Failure::new("output", &line));
    match error {
        ImportError::Pickle { path } => {
            let folder = [&args.eager, &args.graph].into_iter().flatten().find(|f| path.starts_with(f));
            let folder = folder.map_or("", |folder| folder.to_str().unwrap_or(""));
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            input.hint(format!("{CONVERT} {} '*.{extension}'", quoted(folder)))
        }
        // The one array of a .npy file has no key that a map could name.
        ImportError::Array { array, .. } if !array.is_empty() => {
            let array = array.replace('\n', "\\n");
            input.hint(format!("or leave it out: ignore = [{array:?}] in a --map"))
        }
        ImportError::Exists { .. } => output.hint("choose another prefix, or add --force"),
        ImportError::Output { .. } => output,
        ImportError::Map { .. } => Failure::new("usage", &line).hint("twinstep import --help shows a map"),
        ImportError::Folder { .. } => input.hint("twinstep import --help shows which names are understood"),
        _ => input,
    }
}
