//! `twinstep doctor`: what this machine can do.

use std::ffi::OsString;

use serde::Serialize;
use twinstep_kernels::{Backend, CpuBackend, CudaBackend, self_test};
use twinstep_recorder::Voice;

use crate::attach::{library::Library, program};
use crate::device::describe;
use crate::failure::Failure;
use crate::output::{Output, Status};

/// Say what this machine can do, and check that it computes the contract's bits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  twinstep doctor\n  twinstep doctor --program python")]
pub(crate) struct Args {
    /// A program that shall be attached to: says whether it can be.
    #[arg(long, value_name = "PROGRAM")]
    program: Option<OsString>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    cores: usize,
    cpu: Device,
    cuda: Device,
    voice: Voices,
    attach: Attach,
}

/// Whether a process can be recorded with `twinstep attach`.
#[derive(Serialize)]
struct Attach {
    available: bool,
    /// Whether the program that was asked about can be attached to, by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<bool>,
    /// What is there, and for what is not what to do: a line each.
    lines: Vec<String>,
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

/// The oldest driver whose graphs can be read: 12.0.
const OLDEST_DRIVER: u32 = 12000;

/// From here on the driver tells the sizes of kernels' parameters (`cuFuncGetParamInfo`): 12.4.
const TELLS_PARAMETERS: u32 = 12040;

fn attaching(wanted: Option<&OsString>) -> Attach {
    let mut report = Attach { available: true, program: wanted.map(|_| true), lines: Vec::new() };
    let told = |failure: &Failure| match &failure.hint {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message.clone(),
    };
    match Library::find() {
        Ok(library) => match library.probe(None) {
            Ok(probe) => {
                report.lines.push(format!("{} can be preloaded", library.path().display()));
                match probe.driver {
                    Ok(version) if version >= OLDEST_DRIVER => {
                        let (major, minor) = (version / 1000, version % 1000 / 10);
                        report.lines.push(format!("libcuda.so.1 is there, for CUDA {major}.{minor}"));
                        if version < TELLS_PARAMETERS {
                            let lack = "before 12.4 it does not tell what graphs point to: name what is to be watched";
                            report.lines.push(lack.to_owned());
                        }
                    }
                    Ok(version) => {
                        report.available = false;
                        report.lines.push(format!(
                            "libcuda.so.1 is too old: CUDA {}.{}; install a driver for 12.0 or newer (525)",
                            version / 1000,
                            version % 1000 / 10
                        ));
                    }
                    Err(why) => {
                        report.available = false;
                        report
                            .lines
                            .push(format!("no driver: {why}; run it where the NVIDIA driver is installed"));
                    }
                }
            }
            Err(failure) => {
                report.available = false;
                // The hint there is to come here.
                report.lines.push(format!(
                    "{}; look for a sandbox or a loader that drops LD_PRELOAD, or a C library that is not glibc",
                    failure.message
                ));
            }
        },
        Err(failure) => {
            report.available = false;
            report.lines.push(told(&failure));
        }
    }
    if let Some(wanted) = wanted {
        match program::check(wanted) {
            Ok(()) => report.lines.push(format!("{} can be attached to", wanted.to_string_lossy())),
            Err(failure) => {
                report.available = false;
                report.program = Some(false);
                report.lines.push(told(&failure));
            }
        }
    }
    report
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
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
        attach: attaching(args.program.as_ref()),
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
    for (i, line) in report.attach.lines.iter().enumerate() {
        let head = if i == 0 { format!("attach {}", mark(report.attach.available)) } else { " ".repeat(10) };
        out.line(format!("{head}  {line}"))?;
    }
    if !report.cuda.available {
        out.line("Everything works without CUDA, with the same bits; traces recorded on a GPU replay here.")?;
    }
    out.document(&report)?;
    let wrong = [&report.cpu, &report.cuda].iter().any(|d| d.same_bits == Some(false));
    let refused = report.attach.program == Some(false);
    Ok(if wrong || refused || !report.voice.available { Status::Differs } else { Status::Same })
}
