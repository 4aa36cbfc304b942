//! Builds and checks the PTX in `kernels/ptx/`, and the one that `recorder/attach` loads into other programs,
//! without a GPU and without a CUDA toolkit.
//!
//! ```text
//! .ci/ptx-tools                                                  fetch the compiler and the assembler
//! cargo run -p twinstep-kernels --example ptx -- build           compile kernels/cuda/*.cu to kernels/ptx/*.ptx
//! cargo run -p twinstep-kernels --example ptx -- check           compile again and compare, lint, assemble
//! ```
//!
//! `check` exits 1 where anything is found. The lint alone is also a test and needs no tools.

mod assemble;
mod compile;
mod lint;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What goes wrong while PTX is built or checked.
type Failure = Box<dyn std::error::Error>;

/// Families of kernels: the names of the files in `cuda/` and `ptx/`, here or in [`ATTACH`].
const FAMILIES: &[&str] = &[
    "attention",
    "codec",
    "contract",
    "elementwise",
    "embed",
    "hash",
    "kv",
    "linear",
    "norm",
    "sample",
    "snapshot",
    "state",
];

/// The family that an attached process takes snapshots with, and its package, which has no need of this one.
const ATTACH: (&str, &str) = ("snapshot", "../recorder/attach");

/// The package's folder.
fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `.ci/ptx-tools` unpacks the compiler and the assembler.
fn tools() -> PathBuf {
    package().join("../.wheels")
}

/// The folder that holds `cuda/` and `ptx/` with this family.
fn home(family: &str) -> PathBuf {
    if family == ATTACH.0 { package().join(ATTACH.1) } else { package().to_owned() }
}

fn source_file(family: &str) -> PathBuf {
    home(family).join("cuda").join(family).with_extension("cu")
}

fn ptx_file(family: &str) -> PathBuf {
    home(family).join("ptx").join(family).with_extension("ptx")
}

fn main() -> ExitCode {
    let mode = std::env::args().nth(1);
    let result = match mode.as_deref() {
        Some("build") => compile::with_compiler(build),
        Some("check") => compile::with_compiler(check),
        _ => Err("wants one argument: build or check".into()),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("ptx: {failure}");
            ExitCode::from(2)
        }
    }
}

fn build() -> Result<ExitCode, Failure> {
    for family in FAMILIES {
        let ptx = compile::compile(family)?;
        std::fs::write(ptx_file(family), &ptx)?;
        println!("{family}.ptx: {} bytes", ptx.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn check() -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    for family in FAMILIES {
        let file = ptx_file(family);
        let committed = std::fs::read_to_string(&file).map_err(|e| {
            format!("{}: {e}; run `cargo run -p twinstep-kernels --example ptx -- build`", file.display())
        })?;
        if compile::compile(family)? != committed {
            findings.push(format!(
                "{family}.ptx is not what {family}.cu compiles to: build it again and commit it"
            ));
        }
        findings.extend(lint::lint(&committed).into_iter().map(|finding| format!("{family}.ptx: {finding}")));
        for architecture in assemble::ARCHITECTURES {
            for kernel in assemble::assemble(&file, architecture)? {
                println!("{kernel}");
                findings.extend(kernel.finding());
            }
        }
    }
    findings.iter().for_each(|finding| println!("error: {finding}"));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
