//! The stub driver, the engines, and one run of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use twinstep_traces::{Item, SnapshotId, StepKind, StepRecord, Trace};

/// What tests need built: once for all of them.
struct Built {
    folder: PathBuf,
    twinstep: PathBuf,
}

fn compile(arguments: &[&str]) {
    let status = Command::new("cc").args(arguments).status().expect("a C compiler is there");
    assert!(status.success(), "cc {arguments:?}");
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test.ancestors().nth(2).expect("tests live in <target>/<profile>/deps");
        // The library and the binary belong to other targets, so cargo does not build them for these tests.
        for package in ["twinstep-attach", "twinstep"] {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked", "--package", package, "--target-dir"]);
            cargo.arg(profile.parent().expect("a profile folder lies in the target folder"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs").success());
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("stub-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let stub = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub");
        let text = |path: PathBuf| path.to_str().expect("a path of UTF-8").to_owned();
        let (driver, source) = (text(folder.join("libcuda.so.1")), text(stub.join("cuda.c")));
        let soname = "-Wl,-soname,libcuda.so.1";
        compile(&["-shared", "-fPIC", "-O1", "-Wl,-Bsymbolic", soname, "-o", &driver, &source, "-lpthread"]);
        let source = text(stub.join("engine.c"));
        compile(&["-O1", "-o", &text(folder.join("engine")), &source, "-ldl", "-lpthread"]);
        let linked = text(folder.join("engine-linked"));
        compile(&["-O1", "-DLINKED", "-o", &linked, &source, &driver, "-ldl", "-lpthread"]);
        compile(&[
            "-std=gnu11",
            "-O1",
            "-o",
            &text(folder.join("moves")),
            &text(stub.join("moves.c")),
            "-ldl",
        ]);
        Built { folder, twinstep: profile.join("twinstep") }
    })
}

/// One finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The engine's path for a route.
pub(crate) fn engine(route: &str) -> PathBuf {
    let name = match route {
        "linked" => "engine-linked",
        moves if moves.starts_with("moves-") => "moves",
        _ => "engine",
    };
    built().folder.join(name)
}

fn with_driver(command: &mut Command, folder: &Path) -> Command {
    command.current_dir(folder).env("LD_LIBRARY_PATH", &built().folder).stdin(Stdio::null());
    command.env_remove("RANK").env_remove("LOCAL_RANK").env("NO_COLOR", "1");
    std::mem::replace(command, Command::new("true"))
}

/// An engine by itself.
pub(crate) fn alone(folder: &Path, arguments: [&str; 3]) -> Run {
    let mut command = Command::new(engine(arguments[0]));
    with_driver(command.args(arguments), folder).output().expect("the engine starts").into()
}

/// `twinstep` with the stub driver in reach.
pub(crate) fn twinstep(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&built().twinstep);
    with_driver(command.args(arguments), folder)
}

/// `twinstep attach -o run.twin OPTIONS -- engine ROUTE SCENARIO STEPS`, not started.
pub(crate) fn attach(folder: &Path, options: &[&str], arguments: [&str; 3]) -> Command {
    let mut command = twinstep(folder, &["attach", "-o", "run.twin"]);
    command.args(options).arg("--").arg(engine(arguments[0])).args(arguments);
    command
}

/// An engine, recorded; its results are the same as alone, its exit status too. Buffers are copied whole.
#[track_caller]
pub(crate) fn record(folder: &Path, options: &[&str], arguments: [&str; 3]) -> Run {
    recorded(attach(folder, options, arguments), folder, arguments)
}

/// As [`record`], with the stub's form of the snapshot kernels.
#[track_caller]
pub(crate) fn record_with_kernels(folder: &Path, arguments: [&str; 3]) -> Run {
    let mut command = attach(folder, &[], arguments);
    command.env("STUB_KERNELS", "1");
    recorded(command, folder, arguments)
}

#[track_caller]
fn recorded(mut command: Command, folder: &Path, arguments: [&str; 3]) -> Run {
    let run: Run = command.output().expect("twinstep starts").into();
    let plain = alone(folder, arguments);
    // A shell's way to say that a signal ended it.
    let status = plain.status.or(match arguments[1] {
        "abort" => Some(134),
        "kill" | "idle-kill" => Some(137),
        _ => None,
    });
    assert_eq!((run.stdout.as_str(), run.status), (plain.stdout.as_str(), status), "{run:#?}");
    run
}

/// A trace that holds what it should, checked through and through.
#[track_caller]
pub(crate) fn open(folder: &Path, name: &str) -> Trace {
    let trace = Trace::open(&folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let verification = trace.verify();
    assert!(verification.ok(), "{name}: {verification:?}");
    assert_eq!(trace.run().tool, format!("twinstep attach {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(trace.run().notes[0], ("engine".to_owned(), "foreign".to_owned()));
    trace
}

/// All records of steps.
pub(crate) fn records(trace: &Trace) -> Vec<StepRecord> {
    (0..trace.step_count()).map(|i| trace.step(i).expect("a step")).collect()
}

/// Records of steps, set-up left out.
pub(crate) fn steps(trace: &Trace) -> Vec<StepRecord> {
    records(trace).into_iter().filter(|step| step.kind != StepKind::Setup).collect()
}

/// What ran in a step.
pub(crate) fn items(trace: &Trace, step: &StepRecord) -> Vec<Item> {
    trace.program(step.program).expect("a program").items.clone()
}

/// Everything that ran, in order.
pub(crate) fn all_items(trace: &Trace) -> Vec<Item> {
    records(trace).iter().flat_map(|step| items(trace, step)).collect()
}

/// Names of a step's points, in order.
pub(crate) fn points(step: &StepRecord) -> Vec<&str> {
    step.points.iter().map(|p| p.point.as_str()).collect()
}

/// Bytes of the newest generation of a buffer that a point covers.
#[track_caller]
pub(crate) fn value(trace: &Trace, step: &StepRecord, point: &str, name: &str) -> Vec<u8> {
    let found = step.points.iter().find(|p| p.point == point);
    let snapshot: SnapshotId = found.unwrap_or_else(|| panic!("no {point} in {step:?}")).snapshot;
    let covered = trace.covered(snapshot).expect("a snapshot");
    let buffer = covered.iter().rev().find(|&&id| trace.buffer(id).is_some_and(|b| b.name == name));
    let buffer = *buffer.unwrap_or_else(|| panic!("{point} does not cover {name}: {covered:?}"));
    trace.read_buffer(snapshot, buffer).expect("readable").expect("covered")
}

/// Codes as the engine prints them.
pub(crate) fn codes(bytes: &[u8]) -> String {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|w| i64::from_le_bytes(*w).to_string()).collect::<Vec<_>>().join(" ")
}

/// After each step a buffer holds the codes that the engine printed then.
#[track_caller]
pub(crate) fn codes_are_as_printed(trace: &Trace, name: &str, stdout: &str) {
    let steps = steps(trace);
    assert_eq!(steps.len(), stdout.lines().count(), "{stdout}");
    for (step, line) in steps.iter().zip(stdout.lines()) {
        assert_eq!(codes(&value(trace, step, "step.after", name)), line, "after step {}", step.step);
    }
    for pair in steps.windows(2) {
        let (after, before) =
            (value(trace, &pair[0], "step.after", name), value(trace, &pair[1], "step.before", name));
        assert_eq!(after, before, "nothing writes between steps");
    }
}

/// Files of a folder, sorted, hidden ones too.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
