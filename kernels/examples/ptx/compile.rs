//! `.cu` to PTX, by NVRTC.

use std::process::{Command, ExitCode};

use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use crate::{Failure, package, source_file, tools};

/// The compiler's release. Another one may write other PTX for the same source.
const RELEASE: &str = "V12.2.140";

/// Runs `body` in a process that finds the pinned compiler first: the search path of libraries is read
/// when a process starts, so this one starts itself again.
pub(crate) fn with_compiler(body: fn() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    const FOUND: &str = "TWINSTEP_NVRTC";
    if std::env::var_os(FOUND).is_some() {
        return body();
    }
    let library = tools().join("nvrtc/nvidia/cuda_nvrtc/lib");
    if !library.join("libnvrtc.so.12").exists() {
        return Err(format!("no compiler in {}: run .ci/ptx-tools first", library.display()).into());
    }
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("LD_LIBRARY_PATH", library)
        .env(FOUND, "1")
        .status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)))
}

/// PTX of a family for compute capability 7.0, without the compiler's header comment.
pub(crate) fn compile(family: &str) -> Result<String, Failure> {
    let mut source = String::new();
    let headers = ["contract.cuh", "transcendental.cuh", "chunk_hash.cuh"];
    let files = headers.map(|name| package().join("cuda").join(name));
    for file in files.into_iter().chain([source_file(family)]) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        source.push_str(&format!("#line 1 \"{name}\"\n{text}\n"));
    }
    let options = CompileOptions {
        fmad: Some(false),
        ftz: Some(false),
        prec_div: Some(true),
        prec_sqrt: Some(true),
        arch: Some("compute_70"),
        name: Some(format!("{family}.cu")),
        ..CompileOptions::default()
    };
    let ptx = match compile_ptx_with_opts(&source, options) {
        Ok(ptx) => ptx.to_src(),
        Err(cudarc::nvrtc::CompileError::CompileError { log, .. }) => {
            return Err(format!("{family}.cu:\n{}", log.to_string_lossy()).into());
        }
        Err(error) => return Err(format!("{family}.cu: {error:?}").into()),
    };
    if !ptx.contains(RELEASE) {
        return Err(format!("the compiler found is not {RELEASE}: run .ci/ptx-tools again").into());
    }
    let body = ptx.lines().skip_while(|line| line.is_empty() || line.starts_with("//"));
    // The text that the compiler returns ends in a zero byte.
    Ok(body.map(|line| line.trim_end_matches('\0')).fold(String::new(), |text, line| text + line + "\n"))
}
