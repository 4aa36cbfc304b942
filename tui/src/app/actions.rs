//! What each action does to the state.

use tui_input::Input;
use twinstep_replayer::{At, BesideBuffer};
use twinstep_traces::Role;

use super::Effect;
use super::findings::{Findings, Jump};
use super::keys::{Action, View};
use super::patches;
use super::state::{App, Difference, Mode, Overlay, Pane, Prompt, index_of};
use super::update::{go_to, start};
use super::work::{Job, Kind, Point};

/// Lines that a page moves.
fn page(app: &App) -> i64 {
    i64::from(app.size.height.saturating_sub(8).max(1))
}

/// Does an action, or says why it cannot be done.
pub(crate) fn perform(app: &mut App, action: Action, effects: &mut Vec<Effect>) {
    if let Some(reason) = app.unavailable(action) {
        app.complain(format!("{}: {reason}", super::keys::binding(action).map_or("", |b| b.word)));
        return;
    }
    match action {
        Action::Quit => effects.push(Effect::Quit),
        Action::Help => app.overlay = Some(Overlay::Help { scroll: 0 }),
        Action::Palette => app.overlay = Some(Overlay::Palette { input: Input::default(), row: 0 }),
        Action::Search => ask(app, Prompt::Search, String::new()),
        Action::Goto => ask(app, Prompt::Goto, String::new()),
        Action::SetMark => ask(app, Prompt::SetMark, String::new()),
        Action::JumpMark => ask(app, Prompt::JumpMark, String::new()),
        Action::Break => ask(app, Prompt::Break, String::new()),
        Action::Escape => escape(app, effects),
        Action::Show(view) => show(app, view),
        Action::Up => move_by(app, -1, 0),
        Action::Down => move_by(app, 1, 0),
        Action::Left => move_by(app, 0, -1),
        Action::Right => move_by(app, 0, 1),
        Action::PageUp => move_by(app, -page(app), 0),
        Action::PageDown => move_by(app, page(app), 0),
        Action::Home => move_by(app, i64::MIN, 0),
        Action::End => move_by(app, i64::MAX, 0),
        Action::Enter => enter(app),
        Action::NextPane => {
            app.step.pane = if app.step.pane == Pane::Buffers { Pane::Launches } else { Pane::Buffers };
        }
        Action::NextStep => step_by(app, 1),
        Action::PreviousStep => step_by(app, -1),
        Action::Into => into(app),
        Action::IntoBack => into_back(app),
        Action::Finish => finish(app),
        Action::FinishBack => app.point = Point::Before,
        Action::Continue | Action::ContinueBack => go_on(app, action == Action::Continue, effects),
        Action::NextDivergence => diverging(app, true),
        Action::PreviousDivergence => diverging(app, false),
        Action::FirstDivergence => match app.first.clone() {
            Some(first) => go_to(app, first.at),
            None => app.say("no difference has been found"),
        },
        Action::SearchNext | Action::SearchPrevious => search(app, action == Action::SearchNext),
        Action::ZoomIn => app.zoom = (app.zoom + 1).min(20),
        Action::ZoomOut => app.zoom = app.zoom.saturating_sub(1),
        Action::BeforeAfter => app.point = next_point(app),
        Action::SwapSide => {
            app.side = app.side.other();
            app.say(format!("run {} is looked at and patched", app.side.name()));
        }
        Action::NextMode => {
            let next = Mode::ALL.iter().position(|m| *m == app.values.mode).map_or(0, |i| i + 1);
            app.values.mode = Mode::ALL[next % Mode::ALL.len()];
        }
        Action::NextDifference => {
            app.values.difference = match app.values.difference {
                Difference::Absolute => Difference::Relative,
                Difference::Relative => Difference::Ulps,
                Difference::Ulps => Difference::Absolute,
            };
        }
        Action::SliceNext | Action::SlicePrevious => slice(app, action == Action::SliceNext),
        Action::NextDiffering => differing(app, true),
        Action::PreviousDiffering => differing(app, false),
        Action::FilterRole => {
            const ROLES: [Role; 6] =
                [Role::State, Role::Input, Role::Output, Role::Scratch, Role::Weight, Role::Table];
            let next = app.step.role.map_or(0, |r| ROLES.iter().position(|x| *x == r).map_or(0, |i| i + 1));
            app.step.role = ROLES.get(next).copied();
            app.step.row = 0;
        }
        Action::FilterState => {
            app.step.differing = !app.step.differing;
            app.step.row = 0;
        }
        Action::PatchOther => patches::other(app, false),
        Action::PatchElement => patches::other(app, true),
        Action::PatchValue => patches::typed(app, "="),
        Action::PatchFromStep => patches::typed(app, "=other@"),
        Action::PatchText => ask(app, Prompt::Patch, String::new()),
        Action::Execute => patches::execute(app, effects),
        Action::Undo => patches::undo(app),
        Action::Export => patches::export(app),
        Action::WatchChange => watch(app, "changes"),
        Action::WatchDiffers => watch(app, "differs"),
        Action::ClearWatches => {
            app.conditions.clear();
            app.say("no watches and no breaks are left");
        }
        Action::FindHistory => {
            let (Some(at), Some(element)) = (app.at(), subject_text(app)) else {
                app.say("first choose an element");
                return;
            };
            show(app, View::History);
            let after = app.point != Point::Before;
            start(app, Job::History { side: app.side, at, element, after }, effects);
        }
        Action::FindCause => {
            show(app, View::Explain);
            start(app, Job::Explain, effects);
        }
        Action::Info => app.overlay = Some(Overlay::Info { scroll: 0 }),
        Action::Compare => {
            app.asked.remove(&Kind::Compare);
            app.failed.remove(&Kind::Compare);
        }
        Action::Check => {
            show(app, View::Explain);
            app.explain = None;
            start(app, Job::Check, effects);
        }
    }
}

/// Opens a prompt with something typed already.
pub(crate) fn ask(app: &mut App, prompt: Prompt, text: String) {
    app.overlay = Some(Overlay::Prompt { prompt, input: Input::new(text) });
}

/// Goes to a screen; Esc comes back.
pub(crate) fn show(app: &mut App, view: View) {
    if app.view == view {
        return;
    }
    if view == View::Values && app.values.buffer.is_none() {
        choose(app);
    }
    app.back.retain(|v| *v != view);
    app.back.push(app.view);
    app.view = view;
    app.moved = true;
    match view {
        View::Explain => app.evidence = 0,
        View::History => app.evidence = app.history.as_ref().map_or(0, Findings::first_place),
        _ => {}
    }
}

/// Before the step, at each recorded point inside it that holds the buffer, after it, and so on.
fn next_point(app: &App) -> Point {
    let points = match app.view {
        View::Kv => &[][..],
        _ => app.subject().map_or(&[][..], |buffer| &buffer.points),
    };
    let from = match app.point {
        Point::Before => 0,
        Point::Inside(n) => n + 1,
        Point::Node(_) | Point::After => return Point::Before,
    };
    points.iter().find(|&&n| n >= from).map_or(Point::After, |&n| Point::Inside(n))
}

/// Takes the buffer under the step's cursor as the one whose values are shown.
pub(crate) fn choose(app: &mut App) {
    let Some(key) = app.picked().and_then(key) else { return };
    if app.values.buffer.as_ref() == Some(&key) {
        return;
    }
    let keep = app.values.buffer.is_none();
    let first = app.picked().and_then(|b| b.sample).map_or(0, |s| s.flat);
    app.values.cursor = if keep && app.values.cursor > 0 { app.values.cursor } else { first };
    app.values.buffer = Some(key);
}

pub(crate) fn key(buffer: &BesideBuffer) -> Option<(String, u32)> {
    buffer.record().map(|r| (r.name.clone(), r.generation))
}

fn escape(app: &mut App, effects: &mut Vec<Effect>) {
    // What a person waits for is cancelled first, then a search, then the place is left.
    let asked_for = [Kind::Outcome, Kind::Watch, Kind::Explain, Kind::Check, Kind::History, Kind::Memory];
    let waits = app.running.iter().find(|(kind, running)| {
        asked_for.contains(kind) || **kind != Kind::Follow && super::update::is_long(app.tick, running)
    });
    if let Some((&kind, _)) = waits {
        app.running.remove(&kind);
        effects.push(Effect::Cancel(kind));
        match kind {
            Kind::Memory => app.point = Point::Before,
            Kind::Compare => {
                let text = "not compared: cancelled; `:diff` compares again".to_owned();
                app.verdict = super::state::Message { text, bad: true };
            }
            _ => {}
        }
        app.failed.insert(kind, "cancelled".to_owned());
        app.say(format!("cancelled: {}", kind.doing()));
    } else if app.search.take().is_some() {
        app.say("the search is over");
    } else if app.view == View::Step && !app.step.filter.is_empty() {
        // The buffer stays under the cursor when the others come back.
        let kept = app.picked().and_then(key);
        app.step.filter.clear();
        let row = app.buffers().iter().position(|b| key(b) == kept);
        app.step.row = row.unwrap_or(0);
    } else if let Some(view) = app.back.pop() {
        app.view = view;
    } else if app.view != View::Timeline {
        app.view = View::Timeline;
    }
}

fn shift(value: usize, by: i64, len: usize) -> usize {
    (value as i64).saturating_add(by).clamp(0, len.saturating_sub(1) as i64) as usize
}

fn step_by(app: &mut App, by: i64) {
    let row = shift(app.cursor, by, app.rows.len());
    if row == app.cursor {
        app.say(if by > 0 { "this is the last step" } else { "this is the first step" });
        return;
    }
    go_to(app, app.rows[row].at);
}

fn move_by(app: &mut App, down: i64, right: i64) {
    match app.view {
        View::Timeline => {
            if app.rows.is_empty() {
                return;
            }
            let row = shift(app.cursor, down.saturating_add(right), app.rows.len());
            go_to(app, app.rows[row].at);
        }
        View::Step => match app.step.pane {
            Pane::Buffers => app.step.row = shift(app.step.row, down, app.buffers().len()),
            Pane::Launches => app.step.launch = shift(app.step.launch, down, app.launch_lines()),
        },
        View::Values => super::values::move_by(app, down, right),
        View::Codes => {
            let books = app.codes.iter().flat_map(|c| &c.1).flatten().map(|g| g.codebooks).max();
            app.codebook = shift(app.codebook, down, books.unwrap_or(1));
            let row = shift(app.cursor, right, app.rows.len());
            if row != app.cursor {
                go_to(app, app.rows[row].at);
            }
        }
        View::Kv => {
            let layers = app.kv.as_ref().map_or(1, |kv| kv.2.layers.len());
            let slots = app.kv.as_ref().and_then(|kv| kv.2.cells.first()).map_or(1, Vec::len);
            app.kv_cursor.0 = shift(app.kv_cursor.0, down, layers);
            app.kv_cursor.1 = shift(app.kv_cursor.1, right, slots);
        }
        View::Sound | View::Patch => {
            let row = shift(app.cursor, right, app.rows.len());
            if row != app.cursor {
                go_to(app, app.rows[row].at);
            }
        }
        View::Explain | View::History => {
            let len = app.listed().map_or(0, |f| f.lines.len());
            app.evidence = shift(app.evidence, down, len);
        }
    }
}

fn enter(app: &mut App) {
    match app.view {
        View::Timeline => show(app, View::Step),
        View::Step => {
            if app.step.pane == Pane::Launches {
                // The launch's output, as it is right after it.
                let launch = app.beside().and_then(|b| b.launches.get(app.step.launch)).cloned();
                let Some(launch) = launch else {
                    app.say(
                        "what another engine ran cannot be looked into: its buffers are in the other pane",
                    );
                    return;
                };
                let id_a = launch.a.as_ref().and_then(|l| l.writes.first().copied());
                let id_b = launch.b.as_ref().and_then(|l| l.writes.first().copied());
                let written = app.beside().and_then(|beside| {
                    beside.buffers.iter().find(|b| {
                        id_a.is_some() && b.a.as_ref().map(|s| s.id) == id_a
                            || id_a.is_none() && id_b.is_some() && b.b.as_ref().map(|s| s.id) == id_b
                    })
                });
                if let Some(key) = written.and_then(key) {
                    if app.values.buffer.as_ref() != Some(&key) {
                        app.values.cursor = 0;
                    }
                    app.values.buffer = Some(key);
                }
                if app.unavailable(Action::Into).is_none() {
                    app.point = Point::Node(app.step.launch + 1);
                }
            } else {
                choose(app);
            }
            show(app, View::Values);
        }
        View::Codes => open(app, "codes_out"),
        View::Kv => {
            let name = app.kv.as_ref().and_then(|kv| kv.2.layers.get(app.kv_cursor.0)).cloned();
            let slot = app.kv_cursor.1 as u64;
            if let Some(name) = name {
                open(app, &name);
                if let Some(record) = app.chosen().and_then(BesideBuffer::record) {
                    let token: u64 = record.shape.get(3..).map_or(1, |rest| rest.iter().product());
                    app.values.cursor = slot * token;
                }
            }
        }
        View::Explain | View::History => {
            let jump = app.listed().and_then(|f| f.lines.get(app.evidence)).and_then(|e| e.jump.clone());
            match jump {
                Some(jump) => jump_to(app, &jump),
                None => app.say("this line speaks of no place"),
            }
        }
        View::Values | View::Sound | View::Patch => {}
    }
}

/// Shows the values of a buffer by its name, with or without generation; where the step has not been read
/// yet, as soon as it is.
pub(crate) fn open(app: &mut App, name: &str) {
    let (bare, generation) = name
        .rsplit_once('@')
        .map_or((name, None), |(bare, generation)| (bare, generation.parse::<u32>().ok()));
    let buffers = app.beside().map(|b| &b.buffers);
    let named = |b: &&BesideBuffer| b.name() == bare;
    let found = buffers.and_then(|list| {
        let mut meant = list.iter().filter(named).filter(|b| {
            let side = b.a.as_ref().or(b.b.as_ref());
            side.is_some_and(|s| generation.map_or(s.resolved, |g| s.record.generation == g))
        });
        meant.next().or_else(|| list.iter().find(named)).and_then(key)
    });
    if found.is_none() && app.beside().is_some() {
        app.complain(format!("this step has no buffer `{}`", crate::failure::escape(name)));
        return;
    }
    let key = found.unwrap_or_else(|| (bare.to_owned(), generation.unwrap_or(0)));
    if app.values.buffer.as_ref() != Some(&key) {
        app.values.cursor = 0;
    }
    app.values.buffer = Some(key);
    show(app, View::Values);
}

/// Goes to the place that a line of evidence speaks of.
fn jump_to(app: &mut App, jump: &Jump) {
    if let Some(at) = jump.at {
        go_to(app, at);
    }
    if let Some(launch) = jump.launch {
        app.step.wanted = Some(launch);
        app.step.pane = Pane::Launches;
        app.side = launch.0;
        show(app, View::Step);
    } else if let Some(name) = &jump.buffer {
        open(app, name);
        app.values.cursor = jump.element;
    } else {
        show(app, View::Step);
    }
}

fn into(app: &mut App) {
    if app.view == View::Timeline {
        show(app, View::Step);
        app.step.pane = Pane::Launches;
        app.step.launch = 0;
        return;
    }
    let launches = app.launches();
    let next = match app.point {
        Point::Before | Point::Inside(_) => 1,
        Point::Node(n) => n + 1,
        Point::After if app.step.pane == Pane::Launches && app.view == View::Step => app.step.launch + 1,
        Point::After => 1,
    };
    if app.beside().is_none() {
        app.say("still reading the step");
        return;
    }
    if launches == 0 {
        app.say("this step has no launches to step into");
        return;
    }
    if next > launches {
        app.point = Point::After;
        app.say("the step is over");
        return;
    }
    app.point = Point::Node(next);
    app.step.launch = next - 1;
}

fn into_back(app: &mut App) {
    app.point = match app.point {
        Point::Before => {
            app.say("this is the beginning of the step");
            return;
        }
        Point::Node(n) if n > 1 => Point::Node(n - 1),
        Point::Node(_) | Point::Inside(_) => Point::Before,
        Point::After => Point::Node(app.launches().max(1)),
    };
    if let Point::Node(n) = app.point {
        app.step.launch = n - 1;
    }
}

fn finish(app: &mut App) {
    if app.point == Point::After {
        app.view = View::Timeline;
        app.back.clear();
    } else {
        app.point = Point::After;
        app.say("after the step");
    }
}

fn go_on(app: &mut App, forward: bool, effects: &mut Vec<Effect>) {
    let Some(from) = app.at() else { return };
    if app.conditions.is_empty() {
        app.say("there is no watch and no break yet: w on a buffer, or B");
        return;
    }
    start(app, Job::Watch { conditions: app.conditions.clone(), from, forward }, effects);
}

fn diverging(app: &mut App, forward: bool) {
    let stops = |i: &usize| app.heat(&app.rows[*i]).stops();
    let found = if forward {
        (app.cursor + 1..app.rows.len()).find(stops)
    } else {
        (0..app.cursor).rev().find(stops)
    };
    match found {
        Some(row) => go_to(app, app.rows[row].at),
        None if app.running.contains_key(&Kind::Compare) => app.say("still comparing the runs"),
        None => app.say(if forward { "no step after this diverges" } else { "no step before this diverges" }),
    }
}

/// Goes to the next hit of the active search.
pub(crate) fn search(app: &mut App, forward: bool) {
    let Some(text) = app.search.clone() else { return };
    if app.view == View::Step {
        let hit = |i: &usize| {
            app.beside().and_then(|b| b.launches.get(*i)).is_some_and(|l| {
                l.a.iter().chain(&l.b).any(|s| s.label.contains(&text) || s.op.contains(&text))
            })
        };
        let n = app.launches();
        let mut order = (1..=n).map(|d| (app.step.launch + if forward { d } else { n - d }) % n.max(1));
        match order.find(hit) {
            Some(row) => app.step.launch = row,
            None => app.say(format!("no launch of this step matches `{text}`")),
        }
        return;
    }
    let hit = |i: &usize| {
        let row = &app.rows[*i];
        row.at.to_string() == text
            || row.decision.contains(&text)
            || app.heat(row).word().contains(&text)
            || row.differing.iter().any(|name| name.contains(&text))
    };
    let n = app.rows.len();
    let mut order = (1..=n).map(|d| (app.cursor + if forward { d } else { n - d }) % n.max(1));
    match order.find(hit) {
        Some(row) => go_to(app, app.rows[row].at),
        None => app.say(format!("no step matches `{text}`")),
    }
}

fn slice(app: &mut App, forward: bool) {
    let Some(record) = app.chosen().and_then(BesideBuffer::record) else { return };
    if record.shape.len() < 3 {
        app.say("the buffer has no more than two axes: all of it is one slice");
        return;
    }
    let size: u64 = record.shape[record.shape.len() - 2..].iter().product();
    let (all, size) = (app.elements(), size.max(1));
    let cursor = app.values.cursor;
    app.values.cursor = match forward {
        true if cursor + size < all => cursor + size,
        false if cursor >= size => cursor - size,
        _ => {
            app.say("this is the last slice that way");
            return;
        }
    };
}

fn differing(app: &mut App, forward: bool) {
    let Some(data) = &app.values.data else { return };
    let [Some(a), Some(b), _] = &data.bytes else {
        app.say("one side is not recorded here");
        return;
    };
    let size = data.dtype.size() as usize;
    let n = a.len().min(b.len()) / size;
    let differs = |i: &usize| a[i * size..(i + 1) * size] != b[i * size..(i + 1) * size];
    let at = app.values.cursor.saturating_sub(data.start) as usize;
    let found = if forward { (at + 1..n).find(differs) } else { (0..at.min(n)).rev().find(differs) };
    match found {
        Some(i) => app.values.cursor = data.start + i as u64,
        None => app.say(if forward { "no element after this differs" } else { "none before this differs" }),
    }
}

/// The element (in values) or buffer (in the step) under the cursor, as the command line writes it.
pub(crate) fn subject_text(app: &App) -> Option<String> {
    let buffer = app.subject()?;
    let name = patches::name(app, buffer);
    if app.view != View::Values {
        return Some(name);
    }
    let index = index_of(app.values.cursor, &buffer.record()?.shape);
    let index: Vec<String> = index.iter().map(u64::to_string).collect();
    Some(format!("{name}[{}]", index.join(",")))
}

fn watch(app: &mut App, verb: &str) {
    let Some(subject) = subject_text(app) else {
        app.say("first choose a buffer");
        return;
    };
    add_condition(app, format!("{verb} {subject}"));
}

pub(crate) fn add_condition(app: &mut App, text: String) {
    match text.parse::<twinstep_replayer::Condition>() {
        Ok(condition) => {
            let text = condition.to_string();
            app.say(format!("c stops where: {text}"));
            if !app.conditions.contains(&text) {
                app.conditions.push(text);
            }
        }
        Err(error) => app.complain(crate::failure::escape(&error.to_string())),
    }
}

/// Reads a place as typed.
pub(crate) fn go_to_text(app: &mut App, text: &str) {
    // A bare number is a step of the request that the cursor is in.
    let here = app.at().map_or(1, |at| at.request);
    let at = match text.parse::<u32>() {
        Ok(step) => Ok(At { request: here, step: Some(step) }),
        Err(_) => text.parse::<At>(),
    };
    match at {
        Ok(at) if app.row_of(at).is_some() => go_to(app, at),
        Ok(at) => app.complain(format!("there is no step {at}")),
        Err(error) => app.complain(crate::failure::escape(&error.to_string())),
    }
}
