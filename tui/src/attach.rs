//! `twinstep attach`: record an unmodified process.

pub(crate) mod library;
pub(crate) mod program;
mod report;
mod undisturbed;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::failure::{Failure, escape};
use crate::output::Output;
use library::Library;
use report::{Report, Written};
use undisturbed::{Emitted, Verdict};

/// Record an unmodified process at the CUDA driver.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  twinstep attach -o graph.twin -- python serve.py --model toy
  twinstep attach -o graph.twin --watch watch.toml --ring 2GiB -- python serve.py

The watch file:
  # Bytes of each buffer that nobody names; 0: nothing by itself.
  auto_bytes = 65536
  # A step ends with the launch of a graph that has such a kernel; \"repeat\"
  # (also without this line): when a graph is launched a second time in it.
  step = \"launch:*argmax*\"
  [[watch]]
  name = \"last_codes\"
  # The pointer that the first kernel of such a name (* any text, ? any
  # character) takes as this parameter, counted from 0; byte = 8 within it.
  kernel = \"*embed*\"
  parameter = 1
  # f32 f16 bf16 i64 i32 u32 u64 u8 bool; without it u8.
  dtype = \"i64\"
  shape = [4]
  # Or input, output, scratch.
  role = \"state\"
  [[watch]]
  name = \"hidden\"
  address = \"0x7f0000000000\"
  shape = [256]
Where nothing is launched from a graph, only the program can tell where a step ends: the package twinstep for Python.

Each process that uses CUDA has a file of its own: RUN.twin, RUN.rank3.twin where RANK or LOCAL_RANK is set, else
RUN.PID.twin. Exit status: the program's; 2 where it could not be started; 1 where --check-undisturbed found a
difference and the program itself ended well. A program that a signal ended counts as 128 and the signal's number.
With --json the program's standard output goes to standard error.")]
pub(crate) struct Args {
    /// The trace.
    #[arg(short, long, value_name = "RUN.twin")]
    output: PathBuf,
    /// What to watch, as TOML; without it, and where the program does not tell, memory that graphs take as pointers.
    #[arg(long, value_name = "FILE")]
    watch: Option<PathBuf>,
    /// Record kernels launched outside graphs, too.
    #[arg(long)]
    launches: bool,
    /// Keep the last steps only, in a file of about this size: 2GiB, 500MB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    ring: Option<u64>,
    /// Begin to record later: request:N, or signal (SIGUSR2; before the program uses CUDA it would end it).
    #[arg(long, value_name = "request:N|signal", value_parser = start_on)]
    start_on: Option<String>,
    /// Run the program once unrecorded first, and compare what the two runs emit. Standard input is empty for both.
    #[arg(long)]
    check_undisturbed: bool,
    /// A file that the program writes, compared by --check-undisturbed; may be given more than once.
    #[arg(long, value_name = "FILE", requires = "check_undisturbed")]
    emits: Vec<PathBuf>,
    /// Replace traces of that name.
    #[arg(long)]
    force: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// `twinstep.attach/1`.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    /// Exit status of the program.
    status: i32,
    /// Whether the program initialised CUDA.
    cuda: bool,
    traces: Vec<Written>,
    /// What went wrong while recording.
    troubles: Vec<String>,
    /// What --check-undisturbed found.
    undisturbed: Option<Verdict>,
}

/// Bytes, with a unit or without.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("a size is a number and KiB, MiB, GiB, kB, MB or GB: 2GiB".to_owned()),
    };
    let number: u64 =
        text[..digits].parse().map_err(|_| "a size begins with a whole number: 2GiB".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "no size that a file can have".to_owned())
}

/// As the preloaded library reads it.
fn start_on(text: &str) -> Result<String, String> {
    let request = text.strip_prefix("request:").and_then(|n| n.parse::<u32>().ok()).filter(|&n| n > 0);
    match (text, request) {
        ("signal", _) | (_, Some(_)) => Ok(text.to_owned()),
        _ => Err("give request:N with N from 1, or signal (SIGUSR2)".to_owned()),
    }
}

/// Everything that can be refused is refused before the program starts.
fn check(args: &Args) -> Result<Library, Failure> {
    let out = &args.output;
    let name = out.display();
    if out.is_dir() || out.file_name().is_none() {
        return Err(Failure::new("output", format!("{name} is a directory")).hint("give a file name"));
    }
    if let Some(folder) = out.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        return Err(Failure::new("output", format!("there is no folder {} for {name}", folder.display()))
            .hint(format!("mkdir -p {}", folder.display())));
    }
    if let Some(old) = earlier(out).filter(|_| !args.force) {
        return Err(Failure::new("output", format!("{} exists already; --force replaces it", old.display()))
            .hint("choose another name, or add --force"));
    }
    let library = Library::find()?;
    program::check(&args.program[0])?;
    library.probe(args.watch.as_deref())?;
    Ok(library)
}

/// A trace of that name, or of a rank under that name.
fn earlier(out: &Path) -> Option<PathBuf> {
    if out.exists() {
        return Some(out.to_owned());
    }
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let start = format!("{}.rank", out.file_stem()?.to_string_lossy());
    let extension = out.extension();
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let mut ranks = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&start) && path.extension() == extension
    });
    ranks.next()
}

/// The program with our settings in its environment.
fn recorded(args: &Args, library: &Library, report: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(&args.program[0]);
    command.args(&args.program[1..]);
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|e| Failure::new("output", format!("{}: {e}", path.display())))
    };
    let mut set = |name: &str, value: OsString| {
        command.env(format!("TWINSTEP_ATTACH_{name}"), value);
    };
    set("OUT", absolute(&args.output)?.into());
    set("REPORT", report.into());
    set("WATCH", args.watch.as_deref().map(absolute).transpose()?.unwrap_or_default().into());
    set("LAUNCHES", if args.launches { "1" } else { "" }.into());
    set("RING", args.ring.map_or(String::new(), |bytes| bytes.to_string()).into());
    set("START_ON", args.start_on.clone().unwrap_or_default().into());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    set("REPLACE_BEFORE", if args.force { now.to_string() } else { String::new() }.into());
    library.preload(&mut command);
    Ok(command)
}

/// Waits for the program. What a terminal sends goes to both of us and is the program's business; what is sent to
/// us alone is passed on.
fn wait(child: &mut Child) -> Result<ExitStatus, Failure> {
    let quiet = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT] {
        // Where the handler can't be set, the terminal's signal ends us: the program still gets it.
        let _ = signal_hook::flag::register(signal, quiet.clone());
    }
    let id = child.id().to_string();
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]) {
        std::thread::spawn(move || {
            for signal in &mut signals {
                let _ = Command::new("kill").args([&format!("-{signal}"), &id]).status();
            }
        });
    }
    child.wait().map_err(|e| Failure::new("program", format!("cannot wait for the program: {e}")))
}

fn start(command: &mut Command) -> Result<Child, Failure> {
    command.spawn().map_err(|error| {
        let name = command.get_program().to_string_lossy();
        Failure::new("program", format!("cannot start {name}: {error}"))
    })
}

/// The program's exit status as a shell says it.
fn status(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A line of our own: standard output is the program's.
fn say(line: impl std::fmt::Display) {
    // Nothing depends on it.
    let _ = writeln!(std::io::stderr().lock(), "twinstep: {}", escape(&line.to_string()));
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<ExitCode, Failure> {
    let library = check(args)?;
    let unrecorded = if args.check_undisturbed {
        say("running once unrecorded, to compare");
        let mut command = Command::new(&args.program[0]);
        command.args(&args.program[1..]).stderr(Stdio::null());
        Some(Emitted::by(&mut command, &args.emits, None)?)
    } else {
        None
    };
    let told = Report::begin()?;
    let mut command = recorded(args, &library, told.path())?;
    let (code, verdict) = match unrecorded {
        Some(unrecorded) => {
            let pass: Option<Box<dyn Write>> = match out.json() {
                true => Some(Box::new(std::io::stderr())),
                false => Some(Box::new(std::io::stdout())),
            };
            let emitted = Emitted::by(&mut command, &args.emits, pass)?;
            (emitted.status, Some(Verdict::of(&unrecorded, &emitted)))
        }
        None => {
            if out.json() {
                command.stdout(std::io::stderr());
            }
            (status(wait(&mut start(&mut command)?)?), None)
        }
    };
    let (cuda, traces, mut troubles) = told.end();
    if traces.is_empty() {
        let why = match cuda {
            true => "the recording did not begin",
            false => "the program never initialised CUDA",
        };
        say(format!("nothing was recorded: {why}"));
        if !cuda && std::io::stderr().is_terminal() {
            say(
                "what it starts is recorded unless it clears the environment or LD_PRELOAD, or changes the user",
            );
        }
        if cuda && troubles.is_empty() {
            troubles.push("the program ended before anything could be written".to_owned());
        }
    }
    for trouble in &troubles {
        say(trouble);
    }
    for trace in &traces {
        say(trace);
        trace.lack(args.start_on.as_deref()).into_iter().for_each(say);
    }
    if let Some(verdict) = &verdict {
        verdict.lines().iter().for_each(say);
    }
    if let (Some(first), true) = (traces.first(), std::io::stderr().is_terminal()) {
        say(format!("next: twinstep info {0}   twinstep check {0}", first.path));
    }
    let differs = verdict.as_ref().is_some_and(|verdict| !verdict.undisturbed);
    out.document(&Document {
        schema: "twinstep.attach/1",
        status: code,
        cuda,
        traces,
        troubles,
        undisturbed: verdict,
    })?;
    let code = if code == 0 && differs { 1 } else { code };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("500 MB"), Ok(500_000_000));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "GiB", "2XB", "-1", "0", "99999999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn starts() {
        assert!(start_on("request:3").is_ok() && start_on("signal").is_ok());
        for wrong in ["request:0", "request", "now"] {
            assert!(start_on(wrong).is_err(), "{wrong}");
        }
    }
}
