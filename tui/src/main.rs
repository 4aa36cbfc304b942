//! twinstep: a deterministic record/replay debugger for GPU decode loops.
//!
//! This binary parses arguments, calls the libraries and prints; one file a subcommand.

#![forbid(unsafe_code)]

mod app;
mod assert;
mod attach;
mod check;
mod demo;
mod dev;
mod device;
mod diff;
mod doctor;
mod explain;
mod failure;
mod history;
mod import;
mod info;
mod log;
mod output;
mod print;
mod progress;
mod ranks;
mod record;
mod rules;
mod step;
mod trace_file;
mod tui;
mod verify;
mod weights;
mod wrap;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;
use output::{Output, Status};

/// The subcommands by what one wants to do; clap's own list is flat.
const GROUPS: &str = "\
Record:
  demo    The whole story         twinstep demo
  record  Speak and record        twinstep record --text 'hello.' -o a.twin
  attach  Record a program        twinstep attach -o a.twin -- python serve.py

Look:
  tui     Both, side by side      twinstep tui a.twin b.twin   (or: twinstep a.twin b.twin)
  info    What a trace is         twinstep info a.twin
  log     What a step ran         twinstep log a.twin --at 2
  print   Values of a buffer      twinstep print a.twin 'last_codes[0,:]' --at 2
  history Who wrote an element    twinstep history a.twin 'hidden[0,17]' --at 2
  diff    Where two runs differ   twinstep diff a.twin b.twin

Prove:
  check   Mistakes in one run     twinstep check a.twin
  step    One step again, patched twinstep step a.twin b.twin --at 2 --patch last_codes=other
  explain Why two runs differ    twinstep explain a.twin b.twin
  verify  All of it again         twinstep verify a.twin --replay

Keep:
  import  Dumps of your engine    twinstep import --eager DIR --graph DIR -o run
  assert  Equal enough, for CI    twinstep assert a.twin b.twin --policy parity.toml
  doctor  What this machine does  twinstep doctor
  dev     Faults to plant         twinstep dev faults

Exit status: 0 same or ok, 1 different, damaged or findings, 2 trouble.
Every command takes --json and --help.";

/// A deterministic record/replay debugger for GPU decode loops.
#[derive(Parser)]
#[command(
    name = "twinstep",
    version,
    about = "A deterministic record/replay debugger for GPU decode loops.",
    help_template = "{about}\n\nUsage: {usage}\n\n{after-help}\n",
    override_usage = "twinstep COMMAND [ARGUMENTS], or twinstep A.twin [B.twin]",
    after_help = GROUPS,
    disable_help_subcommand = true,
    subcommand_required = true
)]
struct Cli {
    /// One JSON document on standard output instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Record(record::Args),
    Attach(attach::Args),
    Info(info::Args),
    Log(log::Args),
    Print(print::Args),
    History(history::Args),
    Diff(diff::Args),
    Check(check::Args),
    Step(step::Args),
    Tui(tui::Args),
    Explain(explain::Args),
    Verify(verify::Args),
    Assert(assert::Args),
    Import(import::Args),
    Doctor(doctor::Args),
    Dev(dev::Args),
}

fn main() -> ExitCode {
    // clap's errors too must be a document where a program reads the output.
    let json = std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json");
    let cli = match Cli::try_parse_from(with_default(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Whoever reads may have closed the pipe after the first lines.
            let _ = write!(std::io::stdout(), "{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return trouble(&usage(&error), json),
    };
    let mut out = Output::new(cli.json);
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args, &mut out),
        Command::Record(args) => record::run(&args, &mut out),
        // Its exit status is the program's.
        Command::Attach(args) => {
            return attach::run(&args, &mut out).unwrap_or_else(|failure| trouble(&failure, cli.json));
        }
        Command::Info(args) => info::run(&args, &mut out),
        Command::Log(args) => log::run(&args, &mut out),
        Command::Print(args) => print::run(&args, &mut out),
        Command::History(args) => history::run(&args, &mut out),
        Command::Diff(args) => diff::run(&args, &mut out),
        Command::Check(args) => check::run(&args, &mut out),
        Command::Step(args) => step::run(&args, &mut out),
        Command::Tui(args) => tui::run(&args, &mut out),
        Command::Explain(args) => explain::run(&args, &mut out),
        Command::Verify(args) => verify::run(&args, &mut out),
        Command::Assert(args) => assert::run(&args, &mut out),
        Command::Import(args) => import::run(&args, &mut out),
        Command::Doctor(args) => doctor::run(&args, &mut out),
        Command::Dev(args) => dev::run(&args, &mut out),
    };
    match result {
        Ok(status) => ExitCode::from(status as u8),
        Err(failure) => trouble(&failure, cli.json),
    }
}

/// A first argument that names a file rather than a command opens the UI: `twinstep a.twin b.twin`.
fn with_default(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(first) = arguments.get(1) else { return arguments };
    let path = Path::new(first);
    let named = path.extension().is_some_and(|e| e == "twin") || path.components().count() > 1;
    let command =
        first.to_str().is_some_and(|f| f.starts_with('-') || Cli::command().find_subcommand(f).is_some());
    if !command && (named || path.is_file()) {
        arguments.insert(1, "tui".into());
    }
    arguments
}

fn trouble(failure: &Failure, json: bool) -> ExitCode {
    output::report(failure, json);
    ExitCode::from(Status::Trouble as u8)
}

/// clap's message without its `error: ` and without the usage block: one line, then what to do.
fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("these arguments make no command").trim_start_matches("error: ");
    let rest: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let message = if rest.is_empty() { first.to_owned() } else { format!("{first} {}", rest.join("; ")) };
    Failure::new("usage", message)
        .hint("twinstep --help lists the commands, twinstep COMMAND --help one in full")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_in_the_grouped_help_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let line = GROUPS.lines().find(|l| l.trim_start().starts_with(&format!("{name} ")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in the help"));
            assert!(line.contains(&format!("twinstep {name}")), "{name} has no example");
        }
    }
}
