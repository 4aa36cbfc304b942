//! All steps of both runs: the heat strip, the list, and the phases of the step under the cursor.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::Pen;
use crate::app::areas::{self, Strip};
use crate::app::state::{App, differs, top};
use crate::app::theme::Heat;

pub(crate) fn draw(app: &App, body: Rect, buf: &mut Buffer) {
    let parts = areas::timeline(body);
    strip(app, parts.strip, buf);
    legend(app, parts.legend, buf);
    list(app, parts.list, buf);
    phases(app, parts.phases, buf);
}

fn strip(app: &App, area: Rect, buf: &mut Buffer) {
    let strip = Strip::of(app.rows.len(), app.cursor, app.zoom, area.width);
    let mut column = 0;
    while column < area.width {
        let row = strip.row_at(column);
        if row >= app.rows.len() {
            break;
        }
        // A column of several steps shows the worst of them.
        let rows = &app.rows[row..(row + strip.rows).min(app.rows.len())];
        let heat = rows.iter().map(|row| app.heat(row)).max().unwrap_or(Heat::Unknown);
        let style = app.theme.heat(heat);
        for line in 0..2 {
            let mut pen = Pen::at(buf, Rect { x: area.x + column, width: 1, ..area }, line);
            pen.put(if app.pair() { heat.glyph() } else { "·" }, style);
        }
        column += 1;
    }
    let column = strip.column_of(app.cursor) as u16;
    if column < area.width && !app.rows.is_empty() {
        let mark = Rect { x: area.x + column, width: 1, ..area };
        Pen::at(buf, mark, 2).put("^", app.theme.key());
        for (line, highlighted) in [(0, true), (1, true)] {
            if highlighted {
                Pen::at(buf, mark, line).line(app.theme.cursor());
            }
        }
    }
    let scale = match (strip.rows, strip.columns) {
        (1, 1) => "a step a column".to_owned(),
        (1, n) => format!("a step in {n} columns"),
        (n, _) => format!("{n} steps a column"),
    };
    let width = scale.len() as u16;
    if area.width > width + column + 3 && area.height > 2 {
        let right = Rect { x: area.right() - width, width, ..area };
        Pen::at(buf, right, 2).put(scale, app.theme.dim());
    } else if column > width + 2 {
        Pen::at(buf, area, 2).put(scale, app.theme.dim());
    }
}

fn legend(app: &App, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::at(buf, area, 0);
    for heat in Heat::ALL.iter().filter(|h| **h != Heat::Unknown) {
        let n = app.rows.iter().filter(|row| app.heat(row) == *heat).count();
        if n > 0 {
            pen.put(heat.glyph(), app.theme.heat(*heat));
            pen.put(format!(" {} {n}   ", heat.word()), app.theme.plain());
        }
    }
    let unknown = app.rows.iter().filter(|row| app.heat(row) == Heat::Unknown).count();
    if unknown > 0 && app.pair() {
        pen.put(format!("{unknown} not compared"), app.theme.dim());
    }
}

fn list(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let mut pen = Pen::at(buf, area, 0);
    pen.put("  ", theme.head()).right("step", 9, theme.head());
    pen.field("state", 12, theme.head()).field("decision", 9, theme.head());
    pen.put("differs, written first in front", theme.head());
    let height = areas::lines(area);
    let first = top(app.cursor, app.rows.len(), height);
    for (line, row) in app.rows.iter().skip(first).take(height).enumerate() {
        let y = line as u16 + 1;
        let heat = app.heat(row);
        let mut pen = Pen::at(buf, area, y);
        pen.put(heat.glyph(), theme.heat(heat)).put(" ", theme.plain());
        pen.right(&row.at.to_string(), 9, theme.plain());
        let word = match heat {
            Heat::Unknown if row.codec => "codec",
            Heat::Unknown if !app.pair() => "",
            heat => heat.word(),
        };
        pen.field(word, 12, theme.heat(heat));
        pen.field(&row.decision, 9, theme.dim());
        let sides = match (row.in_a, row.in_b, app.pair()) {
            (true, false, true) => "only A has this step ",
            (false, true, true) => "only B has this step ",
            _ => "",
        };
        let marks: String =
            app.marks.iter().filter(|(_, at)| **at == row.at).map(|(c, _)| format!("'{c} ")).collect();
        pen.put(marks, theme.key()).put(sides, theme.plain());
        const SHOWN: usize = 6;
        pen.put(row.differing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" "), theme.plain());
        if row.differing.len() > SHOWN {
            pen.put(format!(" and {} more", row.differing.len() - SHOWN), theme.dim());
        }
        if first + line == app.cursor {
            Pen::at(buf, area, y).line(theme.cursor());
        }
    }
}

fn phases(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some(at) = app.at() else { return };
    Pen::at(buf, area, 0)
        .put(format!("phases of step {at}"), theme.head())
        .put("  Enter or s: into it", theme.dim());
    let Some(beside) = app.beside() else {
        Pen::at(buf, area, 1).put("reading ...", theme.dim());
        return;
    };
    let given = beside.buffers.iter().filter(|b| b.before == twinstep_replayer::Sameness::Differs).count();
    let host = beside.buffers.iter().filter(|b| b.host).count();
    let mut pen = Pen::at(buf, area, 1);
    pen.field("given", 9, theme.plain());
    pen.field(&format!("{host} written by the host"), 28, theme.plain());
    if app.pair() {
        let style = if given > 0 { theme.bad() } else { theme.good() };
        pen.put(said(given), style);
    }
    let mut y = 2;
    let mut names: Vec<&str> = Vec::new();
    for launch in &beside.launches {
        for side in launch.a.iter().chain(&launch.b) {
            if !names.contains(&side.phase) {
                names.push(side.phase);
            }
        }
    }
    for phase in names {
        let on = |side: fn(&twinstep_replayer::BesideLaunch) -> Option<&twinstep_replayer::LaunchSide>| {
            beside.launches.iter().filter(|l| side(l).is_some_and(|s| s.phase == phase)).count()
        };
        let (a, b) = (on(|l| l.a.as_ref()), on(|l| l.b.as_ref()));
        let counts = match app.pair() {
            true => format!("{a} launches in A, {b} in B"),
            false => format!("{a} launches"),
        };
        let mut pen = Pen::at(buf, area, y);
        pen.field(phase, 9, theme.plain()).field(&counts, 28, theme.plain());
        if app.pair() {
            let n = beside
                .buffers
                .iter()
                .filter(|b| b.phase == Some(phase) && b.after == twinstep_replayer::Sameness::Differs)
                .count();
            pen.put(said(n), if n > 0 { theme.bad() } else { theme.good() });
        }
        y += 1;
    }
    if let Some(reason) = beside.opaque.first() {
        Pen::at(buf, area, y).put(crate::failure::escape(reason), theme.bad());
        y += 1;
    }
    if area.height > 12 {
        y += 1;
        let mut shown =
            beside.buffers.iter().filter(|b| differs(b)).take(usize::from(area.height.saturating_sub(y)));
        if let Some(first) = shown.next() {
            Pen::at(buf, area, y).put("what differs, in order of dataflow", theme.head());
            for buffer in std::iter::once(first).chain(shown) {
                y += 1;
                super::step::line(app, buffer, false, area, y, buf);
            }
        }
    }
}

fn said(n: usize) -> String {
    match n {
        0 => "· no buffer differs".to_owned(),
        1 => "X 1 buffer differs".to_owned(),
        n => format!("X {n} buffers differ"),
    }
}
