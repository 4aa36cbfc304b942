//! `twinstep doctor`: what this machine can do.

use serde::Serialize;
use twinstep_kernels::{Backend, CpuBackend, CudaBackend, self_test};
use twinstep_recorder::Voice;

use crate::device::describe;
use crate::failure::Failure;
use crate::output::{Output, Status};

/// Say what this machine can do, and check that it computes the contract's bits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twinstep doctor")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    cores: usize,
    cpu: Device,
    cuda: Device,
    voice: Voices,
}

#[derive(Serialize)]
struct Device {
    available: bool,
    /// The device, or why there is none.
    description: String,
    /// Whether a chain of ops, direct and captured, gave the specification's bits.
    same_bits: Option<bool>,
}

#[derive(Serialize)]
struct Voices {
    available: bool,
    description: String,
}

fn look<B: Backend + 'static>(backend: Result<B, twinstep_kernels::Error>) -> Device {
    let backend = match backend {
        Ok(backend) => backend,
        Err(error) => return Device { available: false, description: error.to_string(), same_bits: None },
    };
    let info = backend.info();
    let description = describe(info.backend, &info.name, &info.capability, &info.driver);
    match self_test(Box::new(backend)) {
        Ok(same) => Device { available: true, description, same_bits: Some(same) },
        Err(error) => {
            Device { available: false, description: format!("{description}: {error}"), same_bits: None }
        }
    }
}

pub(crate) fn run(_: &Args, out: &mut Output) -> Result<Status, Failure> {
    let voice = match Voice::embedded() {
        Ok(_) => Voices { available: true, description: "embedded, all tensors in place".to_owned() },
        Err(error) => Voices { available: false, description: error.to_string() },
    };
    let report = Report {
        schema: "twinstep.doctor/1",
        version: env!("CARGO_PKG_VERSION"),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu: look(CpuBackend::new()),
        cuda: look(CudaBackend::new()),
        voice,
    };
    let bits = |device: &Device| match device.same_bits {
        Some(true) => ", computes the contract's bits",
        Some(false) => ", COMPUTES OTHER BITS than the contract: do not trust it; report it with this output",
        None => "",
    };
    let mark = |ok: bool| if ok { "yes" } else { "no " };
    out.line(format!("twinstep {} on {} cores", report.version, report.cores))?;
    out.line(format!(
        "cpu    {}  {}{}",
        mark(report.cpu.available),
        report.cpu.description,
        bits(&report.cpu)
    ))?;
    out.line(format!(
        "cuda   {}  {}{}",
        mark(report.cuda.available),
        report.cuda.description,
        bits(&report.cuda)
    ))?;
    out.line(format!("voice  {}  {}", mark(report.voice.available), report.voice.description))?;
    if !report.cuda.available {
        out.line("Everything works without CUDA, with the same bits; traces recorded on a GPU replay here.")?;
    }
    out.document(&report)?;
    let wrong = [&report.cpu, &report.cuda].iter().any(|d| d.same_bits == Some(false));
    Ok(if wrong || !report.voice.available { Status::Differs } else { Status::Same })
}
