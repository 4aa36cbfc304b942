//! The terminal UI as people meet it: the real binary in a pseudo-terminal.

use std::io::Write;
use std::time::Duration;

use twinstep_tests::screen::Screen;
use twinstep_tests::{record, root};

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
fn the_cause_is_found_in_the_background_while_one_looks_around() {
    let mut screen = opened();
    screen.keys("E");
    screen.shows("looking for the cause");
    // It goes on while other screens are looked at.
    screen.keys("4");
    screen.shows("codes of request 1");
    screen.keys("8");
    screen.shows("verdict: missing-host-write, run B (proven)");
    // The launch whose output differs first, and there.
    screen.keys("jjj\r");
    screen.shows("110 launches");
    screen.keys("8K");
    screen.shows("checks and rules find");
    screen.keys("2\t/hidden\rH");
    screen.shows("writers of hidden@0");
    screen.keys("q");
    assert_eq!(screen.ends(), 0);
    screen.is_restored();
}

#[test]
fn a_resize_is_followed_down_to_nothing_and_back() {
    let mut screen = opened();
    for (rows, cols) in [(50, 160), (3, 10), (1, 1), (24, 80)] {
        screen.resize(rows, cols);
        screen.keys("2");
        screen.take(Duration::from_millis(300));
        screen.keys("1");
    }
    screen.insist("2", "by dataflow");
    screen.insist("1", "a step a column");
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
    // The check of the length comes before each read; a cut in the middle of one is another matter.
    screen.until("at rest", |screen| screen.contains("phases of step 1") && !screen.contains("reading"));
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    screen.keys("n");
    screen.shows("shrank");
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
