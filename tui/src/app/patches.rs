//! Patches: picked, typed, executed, taken back, and written as a command line.

use twinstep_replayer::BesideBuffer;

use super::Effect;
use super::actions::{ask, subject_text};
use super::keys::View;
use super::state::{App, Pane, Prompt};
use super::update::start;
use super::work::{Job, Outcome, Side};

/// A buffer's name as a patch of the looked-at run means it.
pub(crate) fn name(app: &App, buffer: &BesideBuffer) -> String {
    let side = match app.side {
        Side::A => buffer.a.as_ref().or(buffer.b.as_ref()),
        Side::B => buffer.b.as_ref().or(buffer.a.as_ref()),
    };
    match side {
        Some(side) if side.resolved => side.record.name.clone(),
        Some(side) => format!("{}@{}", side.record.name, side.record.generation),
        None => buffer.name().to_owned(),
    }
}

/// Patches the buffer, or the element, or the launch's first differing argument with what the other run has.
pub(crate) fn other(app: &mut App, element: bool) {
    if app.view == View::Step && app.step.pane == Pane::Launches {
        let launch = app.beside().and_then(|b| b.launches.get(app.step.launch)).cloned();
        let side =
            launch.as_ref().and_then(|l| if app.side == Side::A { l.a.as_ref() } else { l.b.as_ref() });
        match (launch.as_ref().and_then(|l| l.differing.first()), side) {
            (Some(argument), Some(side)) => add(app, format!("node:{}.{argument}=other", side.number)),
            _ => app.say("no argument of this launch differs; Tab shows buffers"),
        }
        return;
    }
    let text = if element { subject_text(app) } else { app.subject().map(|buffer| name(app, buffer)) };
    match text {
        Some(text) => add(app, format!("{text}=other")),
        None => app.say("first choose a buffer"),
    }
}

/// Opens the prompt with what is under the cursor.
pub(crate) fn typed(app: &mut App, suffix: &str) {
    if app.view == View::Step && app.step.pane == Pane::Launches {
        let launch = app.beside().and_then(|b| b.launches.get(app.step.launch));
        let side = launch.and_then(|l| if app.side == Side::A { l.a.as_ref() } else { l.b.as_ref() });
        let number = side.map_or(0, |s| s.number);
        ask(app, Prompt::Patch, format!("node:{number}."));
        return;
    }
    match subject_text(app) {
        Some(text) => ask(app, Prompt::Patch, format!("{text}{suffix}")),
        None => app.say("first choose a buffer"),
    }
}

/// Adds a patch for the step under the cursor. Patches of another step or run are put away.
pub(crate) fn add(app: &mut App, text: String) {
    let Some(at) = app.at() else { return };
    if app.patch.place != Some((at, app.side)) {
        app.patch.place = Some((at, app.side));
        app.patch.list.clear();
        app.patch.outcome = None;
    }
    if app.patch.list.contains(&text) {
        app.say(format!("`{text}` is among the patches already: R executes the step"));
        return;
    }
    app.say(format!("patch {text} on run {} at step {at}: R executes the step again", app.side.name()));
    app.patch.list.push(text);
}

/// Executes the patched step again.
pub(crate) fn execute(app: &mut App, effects: &mut Vec<Effect>) {
    let Some(at) = app.at() else { return };
    if app.patch.place != Some((at, app.side)) {
        app.patch.place = Some((at, app.side));
        app.patch.list.clear();
    }
    app.patch.outcome = None;
    let job = Job::Outcome { at, side: app.side, patches: app.patch.list.clone() };
    start(app, job, effects);
}

/// Takes the last patch back.
pub(crate) fn undo(app: &mut App) {
    match app.patch.list.pop() {
        Some(text) => {
            app.patch.outcome = None;
            app.say(format!("taken back: {text}"));
        }
        None => app.say("there is no patch to take back"),
    }
}

/// The command line that does the same.
pub(crate) fn command_line(app: &App) -> Option<String> {
    let (at, side) = app.patch.place?;
    let own = &app.run(side)?.path;
    let other = app.run(side.other()).map_or(String::new(), |r| format!(" {}", quote(&r.path)));
    let patches: Vec<String> = app.patch.list.iter().map(|p| format!(" --patch {}", quote(p))).collect();
    Some(format!("twinstep step {}{other} --at {at}{}", quote(own), patches.concat()))
}

pub(crate) fn export(app: &mut App) {
    match command_line(app) {
        Some(line) => {
            app.say("shown above, and printed when you quit");
            app.patch.exported = Some(line.clone());
            if !app.exports.contains(&line) {
                app.exports.push(line);
            }
        }
        None => app.say("there is no patch to export"),
    }
}

/// A word as a shell takes it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What a patched step came to, in a sentence, and whether it is one to rely on.
pub(crate) fn verdict(outcome: &Outcome, pair: bool) -> (String, bool) {
    let (own, other) = (outcome.side.name(), outcome.side.other().name());
    let report = &outcome.report;
    let at = &report.at;
    if report.self_check != "equal" {
        let text = format!(
            "self-check differs: step {at} of {own} executed again does not give what was recorded, so this proves nothing"
        );
        return (text, false);
    }
    if !outcome.patches.is_empty() && report.patches.iter().all(|p| p.no_effect.is_some()) {
        return ("no effect: nothing that a launch reads was changed".to_owned(), false);
    }
    let same_as_own = report.outputs.iter().all(|o| !o.changed);
    let compared = report.outputs.iter().filter(|o| o.equals_other.is_some()).count();
    let differing: Vec<&str> =
        report.outputs.iter().filter(|o| o.equals_other == Some(false)).map(|o| o.buffer.as_str()).collect();
    match (same_as_own, report.equals_other) {
        (true, Some(true)) => (format!("equals A and B: step {at} gives the same in both"), true),
        (false, Some(true)) => {
            (format!("equals {other}: all {compared} buffers after step {at}, bit for bit"), true)
        }
        (true, _) => (format!("equals {own}: step {at} gives what was recorded"), true),
        (false, Some(false)) => (
            format!(
                "equals neither: {} of {compared} buffers differ from {other}, first {}",
                differing.len(),
                differing.first().unwrap_or(&"")
            ),
            true,
        ),
        (false, None) if pair => (format!("nothing of {other} could be compared"), false),
        (false, None) => (format!("differs from what {own} recorded"), true),
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("last_codes=other@3:2"), "last_codes=other@3:2");
        assert_eq!(quote("hidden[0,17]=1.5"), "'hidden[0,17]=1.5'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
