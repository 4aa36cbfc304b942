//! What the screens want to know: asked for when it changes, never twice.

use super::Effect;
use super::keys::View;
use super::state::{App, elements};
use super::update::start;
use super::work::{Job, Kind, Point, Window};

/// Elements read around the cursor of a buffer too large to be read whole.
const WINDOW: u64 = 1 << 19;

/// Starts the jobs whose answers the screens lack.
pub(crate) fn needs(app: &mut App, effects: &mut Vec<Effect>) {
    let mut wanted: Vec<(String, Job)> = Vec::new();
    if app.pair() && !app.running.contains_key(&Kind::Compare) {
        let steps: Vec<_> = app.runs.iter().flatten().map(|run| (run.steps.len(), run.complete)).collect();
        wanted.push((format!("{steps:?}"), Job::Compare));
    }
    if let Some(at) = app.at() {
        wanted.push((at.to_string(), Job::Beside(at)));
        let after = app.point != Point::Before;
        match app.view {
            View::Codes => wanted.push((at.request.to_string(), Job::Codes(at.request))),
            View::Kv => wanted.push((format!("{at} {after}"), Job::Kv { at, after })),
            View::Sound => wanted.push((at.request.to_string(), Job::Sound(at.request))),
            _ => {}
        }
    }
    wanted.extend(memory(app));
    wanted.extend(window(app));
    for (key, job) in wanted {
        let kind = job.kind();
        if app.asked.get(&kind) != Some(&key) {
            app.asked.insert(kind, key);
            start(app, job, effects);
        }
    }
}

fn memory(app: &App) -> Option<(String, Job)> {
    let Point::Node(shown) = app.point else { return None };
    let at = app.beside()?.at;
    Some((format!("{at} {shown}"), Job::Memory { at, launches: app.launched(shown), shown }))
}

fn window(app: &App) -> Option<(String, Job)> {
    if app.view != View::Values {
        return None;
    }
    let at = app.beside()?.at;
    let chosen = app.chosen()?;
    let count = elements(chosen.record()?);
    let ids = [chosen.a.as_ref().map(|s| s.id), chosen.b.as_ref().map(|s| s.id)];
    // Windows overlap by half, so that what is around the cursor is always in one.
    let start =
        if count <= WINDOW { 0 } else { (app.values.cursor / (WINDOW / 2)).saturating_sub(1) * (WINDOW / 2) };
    let start = if app.values.cursor < start + WINDOW / 4 { start.saturating_sub(WINDOW / 4) } else { start };
    let memory = match (&app.memory, app.point) {
        (Some((there, shown, memory)), Point::Node(n)) if *there == at && *shown == n => memory.clone(),
        (_, Point::Node(_)) => return None,
        _ => [None, None],
    };
    let outcome = app.patch.outcome.as_ref().filter(|o| o.at == at);
    let outcome_key = outcome.map(|o| (o.side, o.patches.clone(), std::sync::Arc::as_ptr(&o.memory)));
    let key = format!("{at} {:?} {ids:?} {start} {outcome_key:?}", app.point);
    let outcome = outcome.map(|o| (o.side, std::sync::Arc::clone(&o.memory)));
    let name = app.inside().unwrap_or_default().to_owned();
    let window = Window { at, point: app.point, name, ids, start, count: WINDOW, memory, outcome };
    Some((key, Job::Read(window)))
}
