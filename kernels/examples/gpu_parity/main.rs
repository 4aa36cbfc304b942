//! Proof that a CUDA device computes the contract's bits, to be run on a machine that has one.
//!
//! ```text
//! cargo run --release -p twinstep-kernels --example gpu_parity -- [parity] [functions] [speed] [--cases N] [--seed N]
//! ```
//!
//! - `parity`: random launches of every op on CUDA and in the naive CPU form; all memory of all
//!   operands, margins included, is compared bit for bit, launched directly and twice from a captured
//!   graph with other contents in between. Then random sequences of allocations that share memory, buffers
//!   retired and freed, graphs, and launches beside a capture.
//! - `functions`: exp, sin and tanh at all 2^32 inputs (`--inputs N`: at N of them, edges first).
//! - `speed`: time of each op at the shapes of a 4B talker, and what part of a device copy's
//!   bandwidth the matrix products reach.
//!
//! Without a name it does all three. Each comparison is shown to be able to fail: with an operand
//! altered, with a coefficient off by one bit. Exits 1 on any difference, 2 where there is no device.

mod cases;
mod functions;
mod memory;
mod parity;
mod random;
mod speed;

use std::process::ExitCode;

use twinstep_kernels as kernels;

use kernels::{Backend as _, CudaBackend, Error};

/// What to do.
struct Options {
    parity: bool,
    functions: bool,
    speed: bool,
    /// Launches of each op.
    cases: u64,
    seed: u64,
    /// Inputs of each function.
    inputs: u64,
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { parity: false, functions: false, speed: false, cases: 300, seed: 1, inputs: 1 << 32 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} wants a number"))?;
            value.parse::<u64>().map_err(|e| format!("{arg} {value}: {e}"))
        };
        match arg.as_str() {
            "parity" => options.parity = true,
            "functions" => options.functions = true,
            "speed" => options.speed = true,
            "--cases" => options.cases = number()?,
            "--seed" => options.seed = number()?,
            "--inputs" => options.inputs = number()?.min(1 << 32),
            _ => return Err(format!("unknown argument `{arg}`")),
        }
    }
    if !(options.parity || options.functions || options.speed) {
        (options.parity, options.functions, options.speed) = (true, true, true);
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("gpu_parity: {message}");
            return ExitCode::from(2);
        }
    };
    let cuda = match CudaBackend::open() {
        Ok(cuda) => cuda,
        Err(unavailable) => {
            eprintln!("gpu_parity: {unavailable}; nothing was compared");
            return ExitCode::from(2);
        }
    };
    let info = cuda.info();
    println!("{} (compute capability {}, driver {})", info.name, info.capability, info.driver);
    println!("PTX {}", info.ptx_sha256);
    match run(cuda, &options) {
        Ok(true) => {
            println!("equal");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("DIFFERENT");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("gpu_parity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut cuda: CudaBackend, options: &Options) -> Result<bool, Error> {
    let mut equal = true;
    if options.functions {
        equal &= functions::compare(&mut cuda, options.inputs)?;
    }
    if options.speed {
        speed::measure(&mut cuda)?;
    }
    if options.parity {
        equal &= parity::compare(cuda, options.cases, options.seed)?;
    }
    Ok(equal)
}
