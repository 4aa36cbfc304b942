//! What is typed: the palette, which takes the words of the command line, and the answers to prompts.

use super::Effect;
use super::actions::{add_condition, go_to_text, open, perform, search};
use super::keys::{Action, BINDINGS, View};
use super::patches;
use super::state::{App, Pane, Prompt};
use super::update::{go_to, palette};

/// Runs what was typed in the palette; without an argument, the chosen line.
pub(crate) fn run(app: &mut App, text: &str, row: usize, effects: &mut Vec<Effect>) {
    let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let rest = rest.trim();
    if !rest.is_empty() && with_argument(app, word, rest, effects) {
        return;
    }
    let exact = BINDINGS.iter().find(|b| b.word == word && rest.is_empty());
    match exact.filter(|_| row == 0).or_else(|| palette(text).get(row).copied()) {
        Some(binding) => perform(app, binding.action, effects),
        None => app.complain(format!("no action is called `{word}`: Esc, then ? shows all")),
    }
}

/// A word of the command line with what follows it.
fn with_argument(app: &mut App, word: &str, rest: &str, effects: &mut Vec<Effect>) -> bool {
    match word {
        "goto" | "step" | "log" => {
            go_to_text(app, rest);
            if word != "goto" {
                super::actions::show(app, View::Step);
            }
        }
        "print" => print(app, rest),
        "patch" => {
            rest.split_whitespace().for_each(|patch| patches::add(app, patch.to_owned()));
        }
        "break" => add_condition(app, rest.to_owned()),
        "watch" => add_condition(app, format!("changes {rest}")),
        "watch-differs" => add_condition(app, format!("differs {rest}")),
        "history" => {
            print(app, rest);
            perform(app, Action::FindHistory, effects);
        }
        "search" => {
            app.search = Some(rest.to_owned());
            search(app, true);
        }
        _ => return false,
    }
    true
}

/// Shows `hidden`, `hidden[0,17]`, `hidden@1`, optionally followed by `--at 2` and `--after` or
/// `--point layer.0.after`.
fn print(app: &mut App, text: &str) {
    let mut words = text.split_whitespace();
    let Some(what) = words.next() else { return };
    while let Some(word) = words.next() {
        match word {
            "--at" => go_to_text(app, words.next().unwrap_or("")),
            "--after" => app.point = super::work::Point::After,
            "--before" => app.point = super::work::Point::Before,
            "--point" => match words.next() {
                Some("step.before") => app.point = super::work::Point::Before,
                Some("step.after") => app.point = super::work::Point::After,
                name => app.values.wanted_point = name.map(str::to_owned),
            },
            _ => {
                app.complain(format!("`{word}` is not understood here: print hidden[0,17] --at 2 --after"));
                return;
            }
        }
    }
    // As `Selection` reads it: names may have brackets.
    let named = app.beside().is_some_and(|beside| beside.buffers.iter().any(|b| b.name() == what));
    let (name, index) = what.rsplit_once('[').filter(|_| !named).unwrap_or((what, ""));
    open(app, name);
    if !index.is_empty() {
        // The first element of the selection has the cursor.
        let first = |part: &str| part.trim().split('-').next().unwrap_or("").parse().unwrap_or(0);
        app.values.wanted = Some(index.trim_end_matches(']').split(',').map(first).collect());
    }
}

/// Takes the answer to a prompt.
pub(crate) fn answer(app: &mut App, prompt: Prompt, text: &str) {
    if text.is_empty() {
        if prompt == Prompt::Search {
            app.search = None;
            app.step.filter.clear();
        }
        return;
    }
    let letter = text.chars().next().unwrap_or(' ');
    match prompt {
        // Among buffers it is a filter: what is left are the hits.
        Prompt::Search if app.view == View::Step && app.step.pane == Pane::Buffers => {
            app.step.filter = text.to_owned();
        }
        Prompt::Search => {
            app.search = Some(text.to_owned());
            search(app, true);
        }
        Prompt::Goto => match text.strip_prefix('\'') {
            Some(mark) => answer(app, Prompt::JumpMark, mark),
            None => go_to_text(app, text),
        },
        Prompt::Patch if text.contains('=') => patches::add(app, text.to_owned()),
        Prompt::Patch => {
            app.complain("a patch is BUFFER=other, BUFFER=other@3:2, BUFFER=self@1 or BUFFER[0,17]=1.5")
        }
        Prompt::Break => add_condition(app, text.to_owned()),
        Prompt::SetMark => {
            if let Some(at) = app.at() {
                app.marks.insert(letter, at);
                app.say(format!("mark {letter} at step {at}: ' and {letter} come back"));
            }
        }
        Prompt::JumpMark => match app.marks.get(&letter).copied() {
            Some(at) => go_to(app, at),
            None => app.complain(format!("there is no mark {letter}")),
        },
    }
}
