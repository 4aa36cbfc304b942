//! The terminal UI as people meet it: the real binary in a pseudo-terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use twinstep_tests::{binary, record, root};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary on a screen.
struct Screen {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// Everything that was written, for what is not on a screen.
    raw: Vec<u8>,
}

fn size(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

impl Screen {
    fn start(folder: &Path, arguments: &[&str]) -> Screen {
        let pair = native_pty_system().openpty(size(24, 80)).unwrap();
        let mut command = CommandBuilder::new(binary());
        command.args(arguments);
        command.cwd(folder);
        command.env("TERM", "xterm-256color");
        command.env("NO_COLOR", "1");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = reader.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        let parser = vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0);
        Screen { master: pair.master, child, keyboard, output, parser, raw: Vec::new() }
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    fn take(&mut self, wait: Duration) {
        if let Ok(bytes) = self.output.recv_timeout(wait) {
            self.parser.process(&bytes);
            self.raw.extend(bytes);
        }
    }

    /// Waits until the screen meets a condition.
    #[track_caller]
    fn until(&mut self, what: &str, meets: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !meets(&self.parser.screen().contents()) {
            assert!(start.elapsed() < PATIENCE, "{what}:\n{}", self.parser.screen().contents());
            self.take(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Waits for the end; gives the exit status.
    #[track_caller]
    fn ends(&mut self) -> u32 {
        let start = Instant::now();
        loop {
            self.take(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                // What was written last may still be on its way.
                self.take(Duration::from_millis(200));
                return status.exit_code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.parser.screen().contents());
        }
    }

    /// The alternate screen was left, the mouse given back and the cursor shown, in the end.
    #[track_caller]
    fn is_restored(&self) {
        let last = |what: &[u8]| self.raw.windows(what.len()).rposition(|w| w == what);
        for (on, off) in
            [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?1000h", "\x1b[?1000l"), ("\x1b[?25l", "\x1b[?25h")]
        {
            let (on, off) = (last(on.as_bytes()), last(off.as_bytes()));
            assert!(on.is_some() && off > on, "the terminal is not as it was: {on:?} {off:?}");
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.process_id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

fn samples() -> std::path::PathBuf {
    root().join("traces/samples")
}

/// Opens the two runs of the original report's kind and waits for the verdict.
#[track_caller]
fn opened() -> Screen {
    let mut screen = Screen::start(&samples(), &["graph-greedy.twin", "graph-stale-codes.twin"]);
    screen.shows("first difference: step 2");
    screen
}

#[test]
fn two_traces_to_equals_a() {
    let mut screen = opened();
    screen.shows("step 2 of A");
    // Into the step, to run B, to last_codes.
    screen.keys("\r");
    screen.shows("buffers, by dataflow");
    screen.keys("x/last_codes\r");
    screen.shows("of 120: `last_codes`");
    screen.keys("o");
    screen.shows("patch last_codes=other on run B at step 2");
    screen.keys("R");
    screen.shows("equals A: all");
    screen.keys("7");
    screen.shows("bytes changed, read by");
    screen.keys("y");
    screen.shows("printed when you quit");
    screen.keys("q");
    assert_eq!(screen.ends(), 0);
    screen.is_restored();
    let raw = String::from_utf8_lossy(&screen.raw).into_owned();
    let line = "twinstep step graph-stale-codes.twin graph-greedy.twin --at 2 --patch last_codes=other";
    assert!(raw.rsplit("\x1b[?1049l").next().unwrap().contains(line), "{raw:?}");
    // And that command line says the same.
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    twinstep_tests::twinstep(&samples(), &words).expect(0);
}

#[test]
fn a_resize_is_followed_down_to_nothing_and_back() {
    let mut screen = opened();
    for (rows, cols) in [(50, 160), (3, 10), (1, 1), (24, 80)] {
        screen.master.resize(size(rows, cols)).unwrap();
        screen.parser.screen_mut().set_size(rows.try_into().unwrap(), cols.try_into().unwrap());
        screen.keys("2");
        screen.take(Duration::from_millis(300));
        screen.keys("1");
    }
    screen.shows("a step a column");
    screen.shows("? help");
    screen.keys("q");
    assert_eq!(screen.ends(), 0);
    screen.is_restored();
}

#[test]
fn signals_end_it_with_the_terminal_restored() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mut screen = opened();
        screen.signal(signal);
        assert_eq!(screen.ends(), status, "{signal}");
        screen.is_restored();
    }
}

#[test]
fn control_c_leaves_from_anywhere() {
    let mut screen = opened();
    screen.keys(":");
    screen.shows("every action");
    screen.keys("\x03");
    assert_eq!(screen.ends(), 0);
    screen.is_restored();
}

#[test]
fn a_truncated_trace_opens_at_its_last_commit() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(samples().join("graph-greedy.twin")).unwrap();
    std::fs::write(folder.path().join("cut.twin"), &whole[..whole.len() * 6 / 10]).unwrap();
    std::fs::copy(samples().join("graph-stale-codes.twin"), folder.path().join("b.twin")).unwrap();
    let mut screen = Screen::start(folder.path(), &["cut.twin", "b.twin"]);
    screen.shows("cut short");
    screen.shows("first difference: step 2");
    screen.keys("q");
    assert_eq!(screen.ends(), 0);
    // Cut before the first commit, it is refused before the screen is taken.
    std::fs::write(folder.path().join("stub.twin"), &whole[..200]).unwrap();
    let mut screen = Screen::start(folder.path(), &["stub.twin"]);
    assert_eq!(screen.ends(), 2);
    assert!(String::from_utf8_lossy(&screen.raw).contains("stub.twin"));
    assert!(!screen.raw.windows(8).any(|w| w == b"\x1b[?1049h"));
}

#[test]
fn a_file_that_is_cut_while_it_is_looked_at_is_an_error_on_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.twin");
    std::fs::copy(samples().join("eager-greedy.twin"), &path).unwrap();
    let mut screen = Screen::start(folder.path(), &["a.twin"]);
    screen.shows("one run: eager mode");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    screen.keys("n");
    screen.shows("shrunk");
    screen.keys("q");
    assert_eq!(screen.ends(), 0);
    screen.is_restored();
}

#[test]
fn a_recording_is_followed_while_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "whole.twin", "good night.", &["--max-steps", "12"]);
    let whole = std::fs::read(folder.path().join("whole.twin")).unwrap();
    let path = folder.path().join("live.twin");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut screen = Screen::start(folder.path(), &["live.twin"]);
    screen.shows("cut short");
    screen.until("one run", |s| s.contains("one run") && !s.contains(" 12 steps"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&whole[whole.len() / 2..]).unwrap();
    screen.shows(" 12 steps");
    screen.until("complete", |s| !s.contains("cut short"));
    screen.keys("q");
    assert_eq!(screen.ends(), 0);
}

#[test]
fn without_a_terminal_it_says_what_works_instead() {
    let run = twinstep_tests::twinstep(&samples(), &["eager-greedy.twin"]).expect(2);
    assert!(run.stderr.contains("needs a terminal") && run.stderr.contains("twinstep diff"), "{run:?}");
}

#[test]
fn a_mistyped_command_is_not_taken_for_a_file() {
    let run = twinstep_tests::twinstep(&samples(), &["dif", "a.twin"]).expect(2);
    assert!(run.stderr.contains("dif") && run.stderr.contains("diff"), "{run:?}");
    let run = twinstep_tests::twinstep(&samples(), &["missing.twin"]).expect(2);
    assert!(run.stderr.contains("missing.twin") && run.stderr.lines().count() == 2, "{run:?}");
}
