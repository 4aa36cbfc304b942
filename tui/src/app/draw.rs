//! Drawing: state in, screen out. One function a view, and only lines that are seen are made.

mod overlay;
mod pictures;
mod report;
mod step;
mod timeline;
mod values;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Style;

use super::areas::{self, Areas};
use super::keys::{BINDINGS, View};
use super::state::App;
use super::update::is_long;
use super::work::{Kind, Point, Side};

/// Instead of what belongs to a step.
const NO_STEPS: &str = "the trace has no steps";

/// Draws a frame.
pub(crate) fn draw(app: &App, frame: &mut Frame<'_>) {
    // The screen may have become smaller, and that not been told yet.
    let screen = frame.area().as_size();
    let (width, height) = (app.size.width.min(screen.width), app.size.height.min(screen.height));
    let areas = Areas::of(Size::new(width, height));
    let buf = frame.buffer_mut();
    title(app, areas.title, buf);
    verdict(app, areas.verdict, buf);
    tabs(app, areas.tabs, buf);
    match app.view {
        View::Timeline => timeline::draw(app, areas.body, buf),
        View::Step => step::draw(app, areas.body, buf),
        View::Values => values::draw(app, areas.body, buf),
        View::Codes => pictures::codes(app, areas.body, buf),
        View::Kv => pictures::kv(app, areas.body, buf),
        View::Sound => pictures::sound(app, areas.body, buf),
        View::Patch => report::patch(app, areas.body, buf),
        View::Explain => report::explain(app, areas.body, buf),
        View::History => report::history(app, areas.body, buf),
    }
    status(app, areas.status, buf);
    footer(app, areas.footer, buf);
    overlay::draw(app, &areas, buf);
}

/// A pen on one line of an area: what does not fit, in the area or on the screen, is cut.
pub(crate) struct Pen<'a> {
    buf: &'a mut Buffer,
    area: Rect,
    x: u16,
    y: u16,
}

impl<'a> Pen<'a> {
    /// At the start of line `y` of an area; beyond its last line nothing is drawn.
    pub(crate) fn at(buf: &'a mut Buffer, area: Rect, y: u16) -> Pen<'a> {
        let (x, y) = (area.x, area.y.saturating_add(y));
        let area = area.intersection(buf.area);
        Pen { buf, area, x, y }
    }

    fn left(&self) -> u16 {
        if self.y >= self.area.bottom() { 0 } else { self.area.right().saturating_sub(self.x) }
    }

    /// Writes on.
    pub(crate) fn put(&mut self, text: impl AsRef<str>, style: Style) -> &mut Self {
        let left = self.left();
        if left > 0 {
            self.x = self.buf.set_stringn(self.x, self.y, text.as_ref(), usize::from(left), style).0;
        }
        self
    }

    /// Writes in a field of a width: cut with `…` where longer, then a blank.
    pub(crate) fn field(&mut self, text: &str, width: u16, style: Style) -> &mut Self {
        let start = self.x;
        self.put(cut(text, usize::from(width)), style);
        self.x = (start + width + 1).min(self.area.right());
        self
    }

    /// Writes at the right end of a field.
    pub(crate) fn right(&mut self, text: &str, width: u16, style: Style) -> &mut Self {
        let shown = cut(text, usize::from(width));
        let pad = usize::from(width).saturating_sub(shown.chars().count());
        self.put(" ".repeat(pad), Style::new()).put(shown, style);
        self.put(" ", Style::new())
    }

    /// Gives the whole line a style.
    pub(crate) fn line(&mut self, style: Style) -> &mut Self {
        if self.y < self.area.bottom() {
            self.buf.set_style(Rect::new(self.area.x, self.y, self.area.width, 1), style);
        }
        self
    }
}

/// A text in so many characters, its end replaced by `…` where it is longer.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn title(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let mut pen = Pen::at(buf, area, 0);
    pen.put("twinstep ", theme.head());
    for side in [Side::A, Side::B] {
        let Some(run) = app.run(side) else { continue };
        let style = if side == Side::A { theme.a() } else { theme.b() };
        let state = match (run.complete, run.recording) {
            (true, _) => "",
            (false, true) => " recording",
            (false, false) => " cut short",
        };
        // The end of a path says more than its beginning.
        let room = usize::from(area.width / if app.pair() { 2 } else { 1 }).saturating_sub(28);
        let chars = run.path.chars().count();
        let path: String = match chars > room.max(12) {
            true => format!("…{}", run.path.chars().skip(chars - room.max(12) + 1).collect::<String>()),
            false => run.path.clone(),
        };
        pen.put(side.name(), style.patch(theme.head()));
        let how = format!("{} {}", run.mode, run.backend);
        pen.put(format!(" {path} ({}){state}  ", how.trim()), style);
    }
    if let Some(run) = app.run(Side::A).filter(|run| !run.prompt.is_empty()) {
        pen.put(format!("\"{}\"", run.prompt), theme.dim());
    }
}

fn verdict(app: &App, area: Rect, buf: &mut Buffer) {
    let style = if app.verdict.bad { app.theme.bad() } else { app.theme.good() };
    let width = usize::from(area.width.max(1));
    // Broken between words where there is room for a second line.
    let text = &app.verdict.text;
    let fits = text.chars().count() <= width || area.height < 2;
    let end = text.char_indices().nth(width).map_or(text.len(), |(i, _)| i);
    let end = if fits { text.len() } else { text[..end].rfind(' ').unwrap_or(end) };
    Pen::at(buf, area, 0).put(cut(&text[..end], width), style);
    Pen::at(buf, area, 1).put(cut(text[end..].trim_start(), width), style);
}

fn tabs(app: &App, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::at(buf, area, 0);
    for view in View::ALL {
        let style = if view == app.view { app.theme.cursor() } else { app.theme.dim() };
        pen.put(areas::tab(view), style).put(" ", Style::new());
    }
}

/// What is being done, what was said, and where one is.
fn status(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let place = place(app);
    // A message that needs the room gets it.
    let said = app.message.as_ref().map_or(0, |m| m.text.chars().count());
    let width = place.chars().count() as u16;
    let width = if said + usize::from(width) > usize::from(area.width) { 0 } else { width };
    let [left, right] = ratatui::layout::Layout::horizontal([
        ratatui::layout::Constraint::Min(0),
        ratatui::layout::Constraint::Length(width.min(area.width / 2)),
    ])
    .areas(area);
    let mut pen = Pen::at(buf, left, 0);
    let busy = app
        .running
        .iter()
        .filter(|(kind, _)| **kind != Kind::Follow)
        .find(|(_, running)| is_long(app.tick, running));
    match (busy, &app.message) {
        (_, Some(message)) => {
            let style = if message.bad { theme.bad() } else { theme.plain() };
            pen.put(&message.text, style);
        }
        (Some((kind, running)), None) => {
            const SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
            let seconds = app.tick.saturating_sub(running.since) / 8;
            pen.put(SPINNER[(app.tick % 4) as usize], theme.key());
            pen.put(format!(" {} ... {seconds} s, Esc cancels", kind.doing()), theme.plain());
        }
        (None, None) => {
            if let Some(search) = &app.search {
                pen.put(format!("search `{search}`: n and N repeat it, Esc ends it"), theme.key());
            } else if !app.step.filter.is_empty() && app.view == View::Step {
                pen.put(format!("only buffers like `{}`: Esc shows all", app.step.filter), theme.key());
            } else if !app.patch.list.is_empty() && app.patch.outcome.is_none() {
                let n = app.patch.list.len();
                pen.put(
                    format!("{n} patch{}: R executes the step again", if n == 1 { "" } else { "es" }),
                    theme.patched(),
                );
            } else if !app.conditions.is_empty() {
                pen.put(format!("c stops where: {}", app.conditions.join("; ")), theme.dim());
            }
        }
    }
    Pen::at(buf, right, 0).put(place, theme.head());
}

/// Step, point and side.
fn place(app: &App) -> String {
    let Some(at) = app.at() else { return String::new() };
    let point = match app.point {
        Point::Before => "before".to_owned(),
        Point::Inside(_) => app.inside().map_or(String::new(), crate::failure::escape),
        Point::After => "after".to_owned(),
        Point::Node(n) => format!("after {n} of {} launches", app.launches()),
    };
    let side = if app.pair() { format!(" of {}", app.side.name()) } else { String::new() };
    format!("  step {at}{side}, {point}")
}

fn footer(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let mut pen = Pen::at(buf, area, 0);
    let shown = BINDINGS.iter().filter(|b| !b.footer.is_empty() && b.here(app.view, app.search.is_some()));
    // What belongs to this place alone comes first; help stays in sight whatever is cut.
    let mut list: Vec<_> = shown.collect();
    list.sort_by_key(|b| (b.footer != "help", b.footer != "quit", b.views.is_empty()));
    for binding in list {
        let key = binding.keys.first().map_or(String::new(), |k| k.name());
        let need = key.chars().count() + binding.footer.chars().count() + 3;
        if usize::from(pen.left()) < need {
            break;
        }
        let able = app.unavailable(binding.action).is_none();
        pen.put(key, if able { theme.key() } else { theme.dim() });
        pen.put(format!(" {}  ", binding.footer), if able { theme.plain() } else { theme.dim() });
    }
}
