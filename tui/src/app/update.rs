//! The one update function: state and event in, state and effects out.

use std::time::Duration;

use ratatui::crossterm::event::{
    Event as Input, KeyCode, KeyEvent, KeyEventKind, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::{Position, Size};
use tui_input::backend::crossterm::EventHandler;
use twinstep_replayer::{DiffReport, StepState};

use super::actions::perform;
use super::areas::{self, Areas};
use super::command;
use super::fuzzy;
use super::keys::{self, Action, BINDINGS, Binding, Key, View};
use super::needs::needs;
use super::state::{App, First, Message, Overlay, Pane, Prompt, top};
use super::theme::Heat;
use super::work::{Job, Kind, Output, Point, Side};
use super::{Effect, Event};

/// How long a tick is.
pub(crate) const TICK: Duration = Duration::from_millis(125);
/// Ticks between looks at a file that is still being written.
const FOLLOW_TICKS: u64 = 4;

/// Takes an event in.
pub(crate) fn update(app: &mut App, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    match event {
        Event::Start => {}
        Event::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => {
            key_pressed(app, &key, &mut effects);
        }
        Event::Input(Input::Mouse(mouse)) => mouse_used(app, mouse, &mut effects),
        Event::Input(Input::Resize(width, height)) => app.size = Size::new(width, height),
        Event::Input(_) => {}
        Event::Tick => tick(app, &mut effects),
        Event::Done { id, kind, result } => done(app, id, kind, *result),
        Event::Signal(_) => effects.push(Effect::Quit),
    }
    find_wanted(app);
    needs(app, &mut effects);
    effects
}

/// Starts a job; an older one of its kind no longer counts.
pub(crate) fn start(app: &mut App, job: Job, effects: &mut Vec<Effect>) {
    app.next_id += 1;
    let running = super::state::Running { id: app.next_id, since: app.tick };
    app.running.insert(job.kind(), running);
    app.failed.remove(&job.kind());
    effects.push(Effect::Run { id: app.next_id, job });
}

/// Whether a job takes so long that a person should be told. Short work shows no spinner: it would only flicker.
pub(crate) fn is_long(tick: u64, running: &super::state::Running) -> bool {
    tick.saturating_sub(running.since) >= 2
}

fn tick(app: &mut App, effects: &mut Vec<Effect>) {
    app.tick += 1;
    let open = app.runs.iter().flatten().any(|run| !run.complete);
    let due = app.tick.is_multiple_of(FOLLOW_TICKS) && !app.running.contains_key(&Kind::Follow);
    if open && due {
        start(app, Job::Follow, effects);
    }
}

fn done(app: &mut App, id: u64, kind: Kind, result: Result<Output, String>) {
    // An answer to a question that is no longer asked.
    if app.running.get(&kind).is_none_or(|running| running.id != id) {
        return;
    }
    app.running.remove(&kind);
    let output = match result {
        Ok(output) => output,
        Err(reason) => {
            if kind == Kind::Compare {
                app.verdict = Message { text: reason.clone(), bad: true };
            } else if kind != Kind::Follow {
                app.complain(reason.clone());
            }
            app.failed.insert(kind, reason);
            return;
        }
    };
    match output {
        Output::Follow(None) => {}
        Output::Follow(Some(runs)) => followed(app, *runs),
        Output::Compare(report) => compared(app, &report),
        Output::Beside(beside) => {
            app.step.beside = Some(beside);
            let (buffers, lines) = (app.buffers().len(), app.launch_lines());
            app.step.row = app.step.row.min(buffers.saturating_sub(1));
            app.step.launch = app.step.launch.min(lines.saturating_sub(1));
            match app.point {
                Point::Node(n) => app.point = Point::Node(n.min(app.launches())),
                Point::Inside(_) if app.inside().is_none() => app.point = Point::After,
                _ => {}
            }
            first_element(app);
            // Values that were asked for before their step had been read.
            if app.view == View::Values && app.values.buffer.is_none() {
                super::actions::choose(app);
            }
        }
        Output::Read(elements) => app.values.data = Some(elements),
        Output::Memory { at, shown, memory } => app.memory = Some((at, shown, memory)),
        Output::Outcome(outcome) => {
            let (text, proves) = super::patches::verdict(&outcome, app.pair());
            app.message = Some(Message { text: crate::failure::escape(&text), bad: !proves });
            app.point = Point::After;
            app.patch.outcome = Some(outcome);
        }
        Output::Codes { request, grids } => app.codes = Some((request, grids)),
        Output::Kv { at, after, map } => app.kv = Some((at, after, map)),
        Output::Sound { request, sounds } => app.sound = Some((request, sounds)),
        Output::Watch(Some((at, text))) => {
            go_to(app, at);
            app.say(format!("stopped at step {at}: {text}"));
        }
        Output::Watch(None) => app.say("the run ends before any watch or break is met"),
        Output::History(found) => {
            app.evidence = found.first_place();
            app.history = Some(found);
        }
        Output::Explain(found) => {
            app.explain = Some(found);
            app.evidence = 0;
        }
        Output::Check(found) => {
            app.say(found.headline.clone());
            app.check = Some(found);
        }
    }
}

fn followed(app: &mut App, runs: [Option<super::work::RunInfo>; 2]) {
    let at_end = app.cursor + 1 == app.rows.len() && app.moved;
    app.runs = runs;
    app.lay_rows();
    if at_end {
        app.cursor = app.rows.len().saturating_sub(1);
    }
    if !app.pair() {
        app.verdict = App::new(app.runs.clone(), app.size, app.theme).verdict;
    }
    // What was read before may have grown.
    app.asked.clear();
}

fn compared(app: &mut App, report: &DiffReport) {
    for step in &report.steps {
        let at = twinstep_replayer::At {
            request: step.request,
            step: (step.kind != "codec").then_some(step.step),
        };
        if let Some(row) = app.row_of(at) {
            app.rows[row].heat = Heat::of(step.state);
            app.rows[row].differing =
                step.differing.iter().map(|name| crate::failure::escape(name)).collect();
        }
    }
    let steps = report.steps.iter().filter(|s| s.kind == "step").count();
    let diverged = report.steps.iter().filter(|s| s.state == StepState::Diverged).count();
    let forked = report.steps.iter().filter(|s| s.state == StepState::Forked).count();
    app.first = None;
    app.verdict = match &report.first {
        Some(first) => {
            let place = app.rows.iter().find(|row| {
                let step = row.at.step.unwrap_or(u32::MAX);
                row.at.request == first.request
                    && (step == first.step
                        || row.codec
                            && !report.steps.iter().any(|s| {
                                s.request == first.request && s.step == first.step && s.kind == "step"
                            }))
            });
            let at = place.map(|row| row.at);
            app.first = at.map(|at| First {
                at,
                point: first.point.clone(),
                buffer: first.buffer.clone(),
                element: first.element.flat,
            });
            let phase = first.phase.map_or(String::new(), |p| format!(" {p},"));
            let place = at.map_or(first.step.to_string(), |at| at.to_string());
            let after = match first.point.as_str() {
                "step.after" => String::new(),
                "step.before" => ", given to the step".to_owned(),
                point => format!(", at {}", crate::failure::escape(point)),
            };
            let forked = if forked > 0 { format!(", then {forked} forked") } else { String::new() };
            let text = format!(
                "first difference: step {place},{phase} {}{after}; {diverged} of {steps} steps differ{forked}",
                crate::failure::escape(&first.to_string())
            );
            Message { text, bad: true }
        }
        None => {
            let one_sided = report.one_sided_line().map_or(String::new(), |line| format!("; {line}"));
            let text = crate::failure::escape(&(report.headline() + &one_sided));
            Message { text, bad: !report.identical }
        }
    };
    if !app.moved
        && let Some(first) = &app.first
    {
        app.cursor = app.row_of(first.at).unwrap_or(app.cursor);
    }
}

/// Takes the cursor to a step.
pub(crate) fn go_to(app: &mut App, at: twinstep_replayer::At) {
    app.moved = true;
    if let Some(row) = app.row_of(at) {
        if app.cursor != row && matches!(app.point, Point::Node(_) | Point::Inside(_)) {
            app.point = Point::After;
        }
        app.cursor = row;
    }
}

/// Takes the cursors to a launch and an element that were asked for before the step was read.
fn find_wanted(app: &mut App) {
    if let (Some((side, number)), Some(beside)) = (app.step.wanted, app.beside()) {
        let of = |l: &twinstep_replayer::BesideLaunch| {
            let there = if side == Side::A { &l.a } else { &l.b };
            there.as_ref().map(|s| s.number)
        };
        let row = beside.launches.iter().position(|l| of(l) == Some(number));
        app.step.launch = row.unwrap_or(0);
        app.step.wanted = None;
    }
    if let Some(beside) = app.beside()
        && let Some(name) = app.values.wanted_point.clone()
    {
        let found = beside.points.iter().position(|point| *point == name);
        app.values.wanted_point = None;
        match found {
            Some(n) => app.point = Point::Inside(n),
            None => app.complain(format!("this step has no point `{}`", crate::failure::escape(&name))),
        }
    }
    let Some(shape) = app.chosen().and_then(|b| b.record()).map(|r| r.shape.clone()) else { return };
    let Some(index) = app.values.wanted.take() else { return };
    let place = |axis: usize| index.get(axis).copied().unwrap_or(0);
    app.values.cursor =
        shape.iter().enumerate().fold(0, |flat, (axis, n)| flat * n + place(axis).min(n.saturating_sub(1)));
}

/// On the step of the first difference the buffer that differs first is taken, unless one was chosen.
fn first_element(app: &mut App) {
    let Some(first) = app.first.clone() else { return };
    if app.at() != Some(first.at) || app.values.buffer.is_some() {
        return;
    }
    let Some(row) = app.buffers().iter().position(|b| b.name() == first.buffer) else { return };
    app.step.row = row;
    app.values.cursor = first.element;
    // Before and after the step the two may be equal.
    if let Some(n) = app.beside().and_then(|b| b.points.iter().position(|p| *p == first.point)) {
        app.point = Point::Inside(n);
    }
}

fn key_pressed(app: &mut App, key: &KeyEvent, effects: &mut Vec<Effect>) {
    let named = Key::of(key);
    if app.overlay.is_some() && named != Some(Key::Ctrl('c')) {
        overlay_key(app, key, named, effects);
        return;
    }
    app.message = None;
    match named.and_then(|key| keys::action(key, app.view, app.search.is_some())) {
        Some(action) => perform(app, action, effects),
        None => app.say("no such key here: ? shows the keys of this place"),
    }
}

fn overlay_key(app: &mut App, key: &KeyEvent, named: Option<Key>, effects: &mut Vec<Effect>) {
    let Some(mut overlay) = app.overlay.take() else { return };
    let typed = || Input::Key(*key);
    match &mut overlay {
        Overlay::Help { scroll } | Overlay::Info { scroll } => match named {
            Some(Key::Down | Key::Char('j')) => *scroll = scroll.saturating_add(1),
            Some(Key::Up | Key::Char('k')) => *scroll = scroll.saturating_sub(1),
            Some(Key::PageDown | Key::Char(' ')) => *scroll = scroll.saturating_add(10),
            Some(Key::PageUp) => *scroll = scroll.saturating_sub(10),
            _ => return,
        },
        Overlay::Palette { input, row } => match key.code {
            KeyCode::Esc => return,
            KeyCode::Up => *row = row.saturating_sub(1),
            KeyCode::Down => *row = (*row + 1).min(palette(input.value()).len().saturating_sub(1)),
            KeyCode::Enter => {
                let (text, row) = (input.value().to_owned(), *row);
                command::run(app, &text, row, effects);
                return;
            }
            _ => {
                if input.handle_event(&typed()).is_some_and(|change| change.value) {
                    *row = 0;
                }
            }
        },
        Overlay::Prompt { prompt, input } => match key.code {
            KeyCode::Esc => {
                if *prompt == Prompt::Search {
                    app.step.filter.clear();
                }
                return;
            }
            KeyCode::Enter => {
                let (prompt, text) = (*prompt, input.value().trim().to_owned());
                command::answer(app, prompt, &text);
                return;
            }
            _ => {
                let _ = input.handle_event(&typed());
                let text = input.value().to_owned();
                match prompt {
                    Prompt::Search if app.view == View::Step && app.step.pane == Pane::Buffers => {
                        app.step.filter = text;
                        app.step.row = 0;
                    }
                    // A mark is one letter: no Enter needed.
                    Prompt::SetMark | Prompt::JumpMark if !text.is_empty() => {
                        let prompt = *prompt;
                        command::answer(app, prompt, &text);
                        return;
                    }
                    _ => {}
                }
            }
        },
    }
    app.overlay = Some(overlay);
}

/// The bindings that what is typed matches, best first.
pub(crate) fn palette(text: &str) -> Vec<&'static Binding> {
    let word = text.trim_start().split(' ').next().unwrap_or("");
    let mut scored: Vec<(usize, usize, &Binding)> = BINDINGS
        .iter()
        .enumerate()
        .filter_map(|(i, b)| {
            let by_word = fuzzy::score(word, b.word);
            let by_help = fuzzy::score(text.trim(), b.help).map(|s| s + 500);
            let score = if word.is_empty() { Some(0) } else { by_word.into_iter().chain(by_help).min() };
            score.map(|s| (s, i, b))
        })
        .collect();
    scored.sort_by_key(|(score, i, _)| (*score, *i));
    scored.into_iter().map(|(_, _, b)| b).collect()
}

fn mouse_used(app: &mut App, mouse: MouseEvent, effects: &mut Vec<Effect>) {
    let wheel = match mouse.kind {
        MouseEventKind::ScrollUp => Some(Action::Up),
        MouseEventKind::ScrollDown => Some(Action::Down),
        MouseEventKind::Down(MouseButton::Left) => None,
        _ => return,
    };
    if let Some(action) = wheel {
        match &mut app.overlay {
            Some(Overlay::Help { scroll } | Overlay::Info { scroll }) => {
                *scroll = if action == Action::Up { scroll.saturating_sub(3) } else { *scroll + 3 };
            }
            Some(_) => {}
            None => (0..3).for_each(|_| perform(app, action, effects)),
        }
        return;
    }
    if app.overlay.is_some() {
        app.overlay = None;
        return;
    }
    app.message = None;
    let areas = Areas::of(app.size);
    let at = Position::new(mouse.column, mouse.row);
    if areas.tabs.contains(at) {
        if let Some(view) = areas::tab_at(areas.tabs, at.x) {
            perform(app, Action::Show(view), effects);
        }
        return;
    }
    if !areas.body.contains(at) {
        return;
    }
    clicked(app, &areas, at, effects);
}

fn clicked(app: &mut App, areas: &Areas, at: Position, effects: &mut Vec<Effect>) {
    // A second click on the same line opens it.
    let again = match app.view {
        View::Timeline => {
            let parts = areas::timeline(areas.body);
            let before = app.cursor;
            if parts.strip.contains(at) {
                let strip = areas::Strip::of(app.rows.len(), app.cursor, app.zoom, parts.strip.width);
                app.cursor = strip.row_at(at.x - parts.strip.x).min(app.rows.len().saturating_sub(1));
                app.moved = true;
                return;
            }
            let Some(line) = areas::line_at(parts.list, at) else { return };
            let row = top(app.cursor, app.rows.len(), areas::lines(parts.list)) + line;
            if row < app.rows.len() {
                go_to(app, app.rows[row].at);
            }
            app.cursor == before
        }
        View::Step => {
            let parts = areas::step(areas.body, app.step.pane);
            if let Some(line) = parts.buffers.and_then(|area| areas::line_at(area, at)) {
                let height = areas::lines(parts.buffers.unwrap_or_default());
                let row = top(app.step.row, app.buffers().len(), height) + line;
                let same = app.step.pane == Pane::Buffers && row == app.step.row;
                app.step.pane = Pane::Buffers;
                app.step.row = row.min(app.buffers().len().saturating_sub(1));
                same
            } else if let Some(line) = parts.launches.and_then(|area| areas::line_at(area, at)) {
                let height = areas::lines(parts.launches.unwrap_or_default());
                let row = top(app.step.launch, app.launch_lines(), height) + line;
                app.step.pane = Pane::Launches;
                app.step.launch = row.min(app.launch_lines().saturating_sub(1));
                false
            } else {
                false
            }
        }
        View::Explain | View::History => {
            let before = app.evidence;
            let len = app.listed().map_or(0, |f| f.lines.len());
            let list = areas::evidence(areas.body).0;
            let Some(line) = areas::line_at(list, at) else { return };
            app.evidence = (top(app.evidence, len, areas::lines(list)) + line).min(len.saturating_sub(1));
            app.evidence == before
        }
        View::Values => {
            super::values::click(app, areas.body, at);
            false
        }
        View::Codes | View::Kv | View::Sound | View::Patch => false,
    };
    if again {
        perform(app, Action::Enter, effects);
    }
}
