//! PTX to machine code, by ptxas, for what it says of registers and memory.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::{Failure, tools};

/// A V100, an A100, an H100 or H200.
pub(crate) const ARCHITECTURES: &[&str] = &["sm_70", "sm_80", "sm_90"];

/// What ptxas says of one kernel.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Kernel {
    name: String,
    architecture: String,
    registers: u32,
    shared_bytes: u32,
    stack_bytes: u32,
    spill_bytes: u32,
}

impl Kernel {
    /// What is wrong with it: values that leave registers cost what the kernel was written to save.
    pub(crate) fn finding(&self) -> Option<String> {
        let Kernel { name, architecture, stack_bytes, spill_bytes, .. } = self;
        (stack_bytes + spill_bytes > 0).then(|| {
            format!("{name} on {architecture}: {stack_bytes} bytes of stack, {spill_bytes} bytes of spills")
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kernel { name, architecture, registers, shared_bytes, stack_bytes, spill_bytes } = self;
        write!(
            f,
            "{architecture} {name:<28} {registers:>3} registers {shared_bytes:>5} shared {stack_bytes} stack {spill_bytes} spilled"
        )
    }
}

/// Assembles a PTX file and reports on its kernels.
pub(crate) fn assemble(ptx: &Path, architecture: &str) -> Result<Vec<Kernel>, Failure> {
    let ptxas = tools().join("nvcc/nvidia/cuda_nvcc/bin/ptxas");
    let output = Command::new(&ptxas)
        .arg(format!("-arch={architecture}"))
        .args(["-v", "-o", "/dev/null"])
        .arg(ptx)
        .output()
        .map_err(|e| format!("{}: {e}: run .ci/ptx-tools first", ptxas.display()))?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("ptxas {architecture}: {}: {report}", ptx.display()).into());
    }
    let kernels = parse(&report, architecture);
    if kernels.is_empty() {
        return Err(format!("ptxas {architecture}: no kernel in its report on {}", ptx.display()).into());
    }
    Ok(kernels)
}

/// The number before `unit`, or 0 where the line has none.
fn number_before(line: &str, unit: &str) -> u32 {
    let before = line.find(unit).map_or("", |at| line[..at].trim_end());
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn parse(report: &str, architecture: &str) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in report.lines() {
        if let Some(name) = line.split('\'').nth(1).filter(|_| line.contains("Compiling entry function")) {
            let (name, architecture) = (name.to_owned(), architecture.to_owned());
            kernels.push(Kernel { name, architecture, ..Kernel::default() });
        }
        let Some(kernel) = kernels.last_mut() else { continue };
        if line.contains("stack frame") {
            kernel.stack_bytes += number_before(line, "bytes stack frame");
            kernel.spill_bytes +=
                number_before(line, "bytes spill stores") + number_before(line, "bytes spill loads");
        } else if line.contains("Used ") {
            kernel.registers = number_before(line, "registers");
            kernel.shared_bytes = number_before(line, "bytes smem");
        }
    }
    kernels
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_70'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, 2048 bytes smem, 392 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_70'
ptxas info    : Function properties for second
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, 392 bytes cmem[0]
";

    #[test]
    fn reports_are_read_and_spills_are_found() {
        let kernels = parse(REPORT, "sm_70");
        let [first, second] = &kernels[..] else { panic!("{kernels:?}") };
        assert_eq!((first.registers, first.shared_bytes, first.finding()), (32, 2048, None));
        assert_eq!(
            second.finding().as_deref(),
            Some("second on sm_70: 16 bytes of stack, 12 bytes of spills")
        );
    }
}
