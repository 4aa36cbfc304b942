//! The worked example: every command on the page is run, and gives what the page shows. So is the README.

use std::path::Path;
use std::process::Command;

use twinstep_tests::{Run, binary, root};

/// A command on the page, what it prints, and how it ends.
#[derive(Debug, PartialEq)]
struct Shown {
    command: String,
    output: Vec<String>,
    status: i32,
}

/// The commands of all `console` blocks. `# exit N` after a command says that it does not end with 0; a
/// line that ends in a backslash goes on.
fn commands(page: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut lines = page.lines();
    while lines.by_ref().any(|line| line == "```console") {
        let mut lines = lines.by_ref().take_while(|line| *line != "```");
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                found.last_mut().expect("a command comes first").output.push(line.to_owned());
                continue;
            };
            let mut command = command.to_owned();
            while let Some(first) = command.strip_suffix('\\') {
                command = format!("{first}{}", lines.next().expect("a command goes on").trim_start());
            }
            let (command, status) = match command.rsplit_once("  # exit ") {
                Some((command, status)) => (command.trim_end().to_owned(), status.parse().expect("a number")),
                None => (command, 0),
            };
            found.push(Shown { command, output: Vec::new(), status });
        }
    }
    found
}

/// Whether a line is as shown; `[..]` stands for anything.
fn line_matches(shown: &str, actual: &str) -> bool {
    let mut parts = shown.split("[..]");
    let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether output is as shown; a line `...` stands for any lines.
fn matches(shown: &[String], actual: &[&str]) -> bool {
    match shown.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=actual.len()).any(|n| matches(rest, &actual[n..]))
        }
        Some((first, rest)) => {
            actual.first().is_some_and(|line| line_matches(first, line)) && matches(rest, &actual[1..])
        }
    }
}

fn run(folder: &Path, command: &str) -> Run {
    let own = binary().parent().expect("the binary lies in a folder");
    let path = format!("{}:{}", own.display(), std::env::var("PATH").expect("there is a PATH"));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path).env("LC_ALL", "C");
    shell.output().expect("a shell starts").into()
}

#[test]
fn every_command_on_the_page_gives_what_the_page_shows() {
    let page = std::fs::read_to_string(root().join("replayer/REPORT.md")).unwrap();
    let shown = commands(&page);
    for part in ["record", "diff", "step", "explain", "check", "history"] {
        assert!(shown.iter().any(|s| s.command.starts_with(&format!("twinstep {part} "))), "no {part}");
    }
    let folder = tempfile::tempdir().unwrap();
    for Shown { command, output, status } in &shown {
        let run = run(folder.path(), command);
        let actual: Vec<&str> = run.stdout.lines().collect();
        assert!(
            run.status == Some(*status) && matches(output, &actual),
            "the page shows for\n$ {command}\nexit {status}:\n{}\n\nbut it gives exit {:?}:\n{}\n{}",
            output.join("\n"),
            run.status,
            run.stdout,
            run.stderr
        );
    }
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, block) = readme.split_once("```text\n").expect("a block of text");
    let (block, _) = block.split_once("```").expect("it ends");
    let shown: Vec<String> = block.lines().map(str::to_owned).collect();
    assert!(shown.len() > 40 && shown[0].starts_with("twinstep demo"), "{shown:#?}");
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), "twinstep demo").expect(0);
    let actual: Vec<&str> = run.stdout.lines().collect();
    assert!(matches(&shown, &actual), "the README shows another demo than:\n{}", run.stdout);
}

#[test]
fn the_commands_in_the_readme_run() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("## By hand").expect("a section");
    let (section, _) = rest.split_once("\n## ").expect("it ends");
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    twinstep ")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    for arguments in commands {
        let terminal = arguments.starts_with("graph.twin");
        let run = run(folder.path(), &format!("twinstep {arguments}"));
        match terminal {
            true => assert!(run.stderr.contains("needs a terminal"), "{arguments}: {run:?}"),
            false => assert!(matches!(run.status, Some(0 | 1)), "{arguments}: {run:?}"),
        }
    }
}

/// Figures in the text: numbers with a point. What is quoted of the original report is its own.
fn figures(page: &str) -> Vec<String> {
    let mut figures = Vec::new();
    let mut console = false;
    for line in page.lines() {
        if line.starts_with("```") {
            console = !console;
        } else if !console && !line.starts_with('>') {
            let words = line.split(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
            let numbers = words.map(|w| w.trim_matches('.')).filter(|w| w.contains('.'));
            figures.extend(numbers.filter(|w| w.parse::<f64>().is_ok()).map(str::to_owned));
        }
    }
    figures
}

#[test]
fn every_figure_in_the_text_is_in_an_output_on_the_page() {
    let page = std::fs::read_to_string(root().join("replayer/REPORT.md")).unwrap();
    let outputs: Vec<String> = commands(&page).into_iter().flat_map(|s| s.output).collect();
    let figures = figures(&page);
    assert!(figures.len() > 3, "{figures:?}");
    for figure in figures {
        assert!(outputs.iter().any(|line| line.contains(&figure)), "{figure} is in no output");
    }
}

#[test]
fn the_page_is_read_as_it_is_meant() {
    let page =
        "a 1.5\n> 2.5\n```console\n$ echo a \\\n    b  # exit 1\nx [..] y 3.5\n...\n$ true\n```\n-4.5, 3.\n";
    let one = Shown {
        command: "echo a b".to_owned(),
        output: vec!["x [..] y 3.5".to_owned(), "...".to_owned()],
        status: 1,
    };
    let two = Shown { command: "true".to_owned(), output: Vec::new(), status: 0 };
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(commands(page), [one, two]);
    assert_eq!(figures(page), ["1.5", "-4.5"]);
    assert!(line_matches("a [..] b [..]", "a 1 b 2") && line_matches("[..]", "") && line_matches("a", "a"));
    assert!(!line_matches("a [..] b", "a 1 c") && !line_matches("a", "a b") && !line_matches("x[..]x", "x"));
    assert!(matches(&lines("a\n...\nd"), &["a", "b", "c", "d"]) && matches(&lines("a\n..."), &["a"]));
    assert!(!matches(&lines("a\nd"), &["a", "b", "d"]) && !matches(&lines("a"), &["a", "b"]));
    assert!(!matches(&lines("a\n...\nd"), &["a", "d", "e"]) && !matches(&lines("a"), &[]));
}
