//! `twinstep info`: what a trace is and what can be done with it.

use std::path::PathBuf;

use twinstep_replayer::info;

use crate::device::describe;
use crate::failure::Failure;
use crate::output::{Output, Status};
use crate::trace_file::{failed, open};

/// Say what a trace is and what can be done with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep info a.twin")]
pub(crate) struct Args {
    /// The trace.
    trace: PathBuf,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let report = info(&open(&args.trace)?).map_err(|e| failed(&e))?;
    let d = &report.device;
    let complete = if report.complete { "complete" } else { "NOT complete: it ends at its last commit" };
    out.line(format!("{}  {} bytes, {complete}", args.trace.display(), report.file_bytes))?;
    let device = match d.backend.as_str() {
        "" => "a device that is not known".to_owned(),
        _ => describe(&d.backend, &d.name, &d.capability, &d.driver),
    };
    out.line(format!("mode      {}  on {device}", known(&report.mode)))?;
    if !d.ptx_sha256.is_empty() {
        out.line(format!("ptx       {}", d.ptx_sha256))?;
    }
    out.line(format!(
        "recorded  by {}, {} requests, {} steps, {} programs, {} snapshots",
        report.tool, report.requests, report.steps, report.programs, report.snapshots
    ))?;
    out.line(format!("text      {}", known(&report.prompt)))?;
    if report.foreign {
        out.line(format!("model     {}, of another engine", known(&report.model)))?;
        for (key, value) in report.notes.iter().filter(|(key, _)| *key != "engine") {
            out.line(format!("note      {key} = {value}"))?;
        }
    } else {
        out.line(format!(
            "model     {} ({}), weights {}, KV cache {}, profile {}, {} rows",
            report.model,
            report.model_source,
            report.weights_dtype,
            report.kv_dtype,
            report.profile,
            report.rows
        ))?;
        let s = &report.sampling;
        out.line(format!(
            "sampling  temperature {}, top-k {}, top-p {}, seed {}",
            s.temperature, s.top_k, s.top_p, s.seed
        ))?;
    }
    for graph in &report.graphs {
        let at = &graph.captured_at;
        out.line(format!(
            "graph {:<3} {} with {} nodes, captured at {}:{}",
            graph.id, graph.label, graph.nodes, at.request, at.step
        ))?;
    }
    let c = &report.capabilities;
    for (name, can) in [
        ("diff", &c.diff),
        ("step", &c.step),
        ("check", &c.check),
        ("history", &c.history),
        ("explain", &c.explain),
    ] {
        out.line(format!("{name:<9} {can}"))?;
    }
    let shown = report.buffers.iter().filter(|b| b.role != "weight" && b.role != "scratch");
    for b in shown {
        out.line(format!(
            "  {:<7} {:<18} {:<5} {:?}",
            b.role,
            format!("{}@{}", b.name, b.generation),
            b.dtype,
            b.shape
        ))?;
    }
    let hidden = report.buffers.iter().filter(|b| b.role == "weight" || b.role == "scratch").count();
    out.line(format!("  and {hidden} weights and scratch buffers (--json lists them)"))?;
    out.document(&report)?;
    Ok(Status::Same)
}

fn known(text: &str) -> &str {
    if text.is_empty() { "not known" } else { text }
}
