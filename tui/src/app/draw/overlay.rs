//! What lies over a screen: help, the palette, a line to type in.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::{Block, Clear, Widget};
use tui_input::Input;

use super::Pen;
use crate::app::areas::Areas;
use crate::app::keys::{BINDINGS, Binding};
use crate::app::state::{App, Overlay, top};
use crate::app::update::palette as matching;
use crate::app::work::Side;

pub(crate) fn draw(app: &App, areas: &Areas, buf: &mut Buffer) {
    match &app.overlay {
        None => {}
        Some(Overlay::Help { scroll }) => help(app, *scroll, areas.body, buf),
        Some(Overlay::Info { scroll }) => info(app, *scroll, areas.body, buf),
        Some(Overlay::Palette { input, row }) => palette(app, input, *row, areas.body, buf),
        Some(Overlay::Prompt { prompt, input }) => {
            Clear.render(areas.status, buf);
            typing(app, prompt.label(), input, areas.status, buf);
        }
    }
}

/// A box over the body, and the room in it.
fn window(app: &App, title: &str, area: Rect, buf: &mut Buffer) -> Rect {
    let width = area.width.min(100);
    let area = Rect { x: area.x + (area.width - width) / 2, width, ..area };
    Clear.render(area, buf);
    let block = Block::bordered().title(title.to_owned()).border_style(app.theme.key());
    let inner = block.inner(area);
    block.render(area, buf);
    inner
}

/// A label, what is typed, and the cursor.
fn typing(app: &App, label: &str, input: &Input, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let room = usize::from(area.width).saturating_sub(label.chars().count() + 1);
    let skip = input.visual_scroll(room.max(1));
    let mut pen = Pen::at(buf, area, 0);
    pen.put(label, theme.key());
    let cursor = input.visual_cursor();
    for (i, c) in input.value().chars().chain([' ']).enumerate().skip(skip) {
        let style = if i == cursor { theme.cursor() } else { theme.plain() };
        pen.put(c.to_string(), style);
    }
}

fn help(app: &App, scroll: usize, area: Rect, buf: &mut Buffer) {
    let title = format!(" keys of {} (any other key closes) ", app.view.title());
    let inner = window(app, &title, area, buf);
    let mut lines: Vec<&Binding> =
        BINDINGS.iter().filter(|b| b.here(app.view, app.search.is_some()) && !b.keys.is_empty()).collect();
    // What holds here alone comes first.
    lines.sort_by_key(|b| b.views.is_empty());
    let height = usize::from(inner.height);
    let first = scroll.min(lines.len().saturating_sub(height));
    for (i, binding) in lines.iter().skip(first).take(height).enumerate() {
        entry(app, binding, Rect { y: inner.y + i as u16, height: 1, ..inner }, buf);
    }
    if first + height < lines.len() {
        let more = Rect { x: inner.right().saturating_sub(8), y: inner.bottom(), width: 8, height: 1 };
        Pen::at(buf, more, 0).put(" ↓ more ", app.theme.key());
    }
}

/// What each trace is, and what can be done with it or why not.
fn info(app: &App, scroll: usize, area: Rect, buf: &mut Buffer) {
    let inner = window(app, " what the traces are (any other key closes) ", area, buf);
    let mut lines = Vec::new();
    for side in [Side::A, Side::B] {
        let Some(run) = app.run(side) else { continue };
        lines.push((side.name(), run.path.as_str()));
        lines.extend(run.about.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    }
    let height = usize::from(inner.height);
    let first = scroll.min(lines.len().saturating_sub(height));
    for (i, (name, text)) in lines.iter().skip(first).take(height).enumerate() {
        let title = matches!(*name, "A" | "B");
        let style = if title { app.theme.head() } else { app.theme.plain() };
        Pen::at(buf, inner, i as u16).put(" ", style).field(name, 12, app.theme.key()).put(text, style);
    }
}

fn entry(app: &App, binding: &Binding, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let reason = app.unavailable(binding.action);
    let style = if reason.is_some() { theme.dim() } else { theme.plain() };
    let mut pen = Pen::at(buf, area, 0);
    pen.put(" ", style).field(&binding.key_names(), 9, theme.key()).field(binding.word, 20, theme.head());
    pen.put(binding.help, style);
    if let Some(reason) = reason {
        pen.put(format!(" ({reason})"), theme.bad());
    }
}

fn palette(app: &App, input: &Input, row: usize, area: Rect, buf: &mut Buffer) {
    let inner =
        window(app, " every action; also print hidden[0,17], patch last_codes=other, goto 12 ", area, buf);
    typing(app, ": ", input, inner, buf);
    let list = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    let found = matching(input.value());
    let height = usize::from(list.height);
    let first = top(row, found.len(), height);
    for (i, binding) in found.iter().enumerate().skip(first).take(height) {
        let line = Rect { y: list.y + (i - first) as u16, height: 1, ..list };
        entry(app, binding, line, buf);
        if i == row {
            Pen::at(buf, line, 0).line(app.theme.cursor());
        }
    }
}
