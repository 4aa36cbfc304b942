//! Pictures: codes over steps, the KV cache over layers and positions, both waveforms.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{NO_STEPS, Pen};
use crate::app::state::App;
use crate::app::work::Kind;

fn waiting(app: &App, kind: Kind, area: Rect, buf: &mut Buffer) {
    let waiting = if app.rows.is_empty() { NO_STEPS } else { "reading ..." };
    let text = app.failed.get(&kind).map_or(waiting, String::as_str);
    Pen::at(buf, area, 0).put(text, app.theme.dim());
}

/// Codes by codebook (down) and step (across); A above B, differences marked.
pub(crate) fn codes(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let request = app.at().map_or(0, |at| at.request);
    let Some((_, grids)) = app.codes.as_ref().filter(|(r, _)| *r == request) else {
        return waiting(app, Kind::Codes, area, buf);
    };
    let here = app.at().and_then(|at| at.step);
    let cell = 5;
    let Some(steps) = grids.iter().flatten().map(|g| &g.steps).max_by_key(|s| s.len()) else {
        return waiting(app, Kind::Codes, area, buf);
    };
    let column = steps.iter().position(|s| Some(*s) == here).unwrap_or(steps.len().saturating_sub(1));
    let fit = usize::from(area.width.saturating_sub(8) / cell).max(1);
    let left = crate::app::state::top(column, steps.len(), fit);
    Pen::at(buf, area, 0)
        .put(format!("codes of request {request} after each step"), theme.head())
        .put("   X differs", theme.dim());
    let mut pen = Pen::at(buf, area, 1);
    pen.field("step", 7, theme.dim());
    for step in steps.iter().skip(left).take(fit) {
        let style = if Some(*step) == here { theme.cursor() } else { theme.dim() };
        pen.right(&step.to_string(), cell - 1, style);
    }
    let mut y = 2;
    for (side, grid) in grids.iter().enumerate() {
        let Some(grid) = grid else { continue };
        let (name, style) = if side == 0 { ("A", theme.a()) } else { ("B", theme.b()) };
        for book in 0..grid.codebooks {
            let mut pen = Pen::at(buf, area, y);
            let label = if book == app.codebook { theme.cursor() } else { theme.dim() };
            pen.field(&format!("{name} cb {book}"), 7, label);
            for step in steps.iter().skip(left).take(fit) {
                let of = |grid: &twinstep_replayer::CodeGrid| {
                    let at = grid.steps.binary_search(step).ok()?;
                    grid.codes.get(at)?.get(book).copied()
                };
                let code = of(grid);
                let twin = grids[1 - side].as_ref().and_then(of);
                let differs = app.pair() && code != twin;
                let text = match code {
                    None => "-".to_owned(),
                    Some(c) if Some(c) == grid.boc => "BOC".to_owned(),
                    Some(c) if Some(c) == grid.eoc => "EOC".to_owned(),
                    Some(c) => c.to_string(),
                };
                let mark = if differs { format!("X{text}") } else { text };
                let mut shown = if differs { theme.bad() } else { style };
                if Some(*step) == here && book == app.codebook {
                    shown = shown.patch(theme.cursor());
                }
                pen.right(&mark, cell - 1, shown);
            }
            y += 1;
        }
        y += 1;
    }
}

/// The KV cache by layer (down) and slot (across): how great its values are, and where they differ.
pub(crate) fn kv(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some((_, _, map)) = app.kv.as_ref().filter(|(at, after, _)| {
        Some(*at) == app.at() && *after == (app.point != crate::app::work::Point::Before)
    }) else {
        return waiting(app, Kind::Kv, area, buf);
    };
    let Some(slots) = map.cells.first().map(Vec::len) else {
        Pen::at(buf, area, 0)
            .put("no buffers kv_cache.N of shape [2, blocks, tokens, ...] here: 3 shows values", theme.dim());
        return;
    };
    let (layer, slot) = app.kv_cursor;
    let label = 12;
    let fit = usize::from(area.width.saturating_sub(label)).max(1);
    let left = crate::app::state::top(slot, slots, fit);
    let greatest = map.cells.iter().flatten().flat_map(|c| [c.a, c.b]).flatten().fold(0.0, f64::max);
    Pen::at(buf, area, 0)
        .put("KV cache: layer by slot", theme.head())
        .put("  ░▒▓█ root mean square   X differs   (blank) never written", theme.dim());
    for (n, cells) in map.cells.iter().enumerate().take(usize::from(area.height.saturating_sub(5))) {
        let mut pen = Pen::at(buf, area, n as u16 + 1);
        pen.field(&map.layers[n], label - 1, if n == layer { theme.head() } else { theme.dim() });
        for (i, cell) in cells.iter().enumerate().skip(left).take(fit) {
            let part = cell.a.or(cell.b).unwrap_or(0.0) / greatest.max(f64::MIN_POSITIVE);
            let glyph = match part {
                _ if cell.differs => "X",
                _ if cell.fresh || cell.a.is_none() && cell.b.is_none() => " ",
                p if p < 0.25 => "░",
                p if p < 0.5 => "▒",
                p if p < 0.75 => "▓",
                _ => "█",
            };
            let mut style = if cell.differs { theme.bad() } else { theme.good() };
            if (n, i) == (layer, slot) {
                style = style.patch(theme.cursor());
            }
            pen.put(glyph, style);
        }
    }
    let y = map.cells.len() as u16 + 2;
    let cell = map.cells.get(layer).and_then(|l| l.get(slot));
    if let Some(cell) = cell {
        let show = |v: Option<f64>| v.map_or("not recorded".to_owned(), |v| format!("{v:.5}"));
        let state = match (cell.fresh, cell.differs, app.pair()) {
            (true, _, _) => "never written",
            (_, true, _) => "differs",
            (_, _, true) => "same bits",
            _ => "written",
        };
        let text = match app.pair() {
            true => format!(
                "layer {layer}, slot {slot}: {state}; root mean square {} in A, {} in B",
                show(cell.a),
                show(cell.b)
            ),
            false => format!("layer {layer}, slot {slot}: {state}; root mean square {}", show(cell.a)),
        };
        Pen::at(buf, area, y).put(text, if cell.differs { theme.bad() } else { theme.plain() });
    }
    let n = map.cells.iter().flatten().filter(|c| c.differs).count();
    if app.pair() {
        let style = if n > 0 { theme.bad() } else { theme.good() };
        Pen::at(buf, area, y + 1).put(format!("{n} of {} positions differ", slots * map.cells.len()), style);
    }
}

/// Both waveforms over the whole request, with the cursor at the step.
pub(crate) fn sound(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let request = app.at().map_or(0, |at| at.request);
    let Some((_, sounds)) = app.sound.as_ref().filter(|(r, _)| *r == request) else {
        return waiting(app, Kind::Sound, area, buf);
    };
    if sounds.iter().all(Option::is_none) {
        Pen::at(buf, area, 0)
            .put("no sound was recorded: the request has no codec section in this trace", theme.dim());
        return;
    }
    let longest = sounds.iter().flatten().map(|s| s.samples.len()).max().unwrap_or(0).max(1);
    let loudest = sounds.iter().flatten().flat_map(|s| &s.samples).fold(0.0f32, |m, s| m.max(s.abs()));
    let steps: Vec<u32> =
        app.rows.iter().filter(|r| r.at.request == request).filter_map(|r| r.at.step).collect();
    let here = app.at().and_then(|at| at.step).and_then(|s| steps.iter().position(|x| *x == s));
    let cursor = here.map(|i| i * usize::from(area.width) / steps.len().max(1));
    let sides: Vec<(usize, &str, Style)> = [(0, "A", theme.a()), (1, "B", theme.b())]
        .into_iter()
        .filter(|(i, _, _)| sounds[*i].is_some())
        .collect();
    let height = (area.height.saturating_sub(1) / sides.len().max(1) as u16).saturating_sub(1);
    let rate = sounds.iter().flatten().map(|s| s.sample_rate).max().unwrap_or(1).max(1);
    Pen::at(buf, area, 0).put(
        format!(
            "sound of request {request}: {:.2} s at {rate} Hz; ← → move through the steps",
            longest as f64 / f64::from(rate)
        ),
        theme.head(),
    );
    for (n, (side, name, style)) in sides.iter().enumerate() {
        let Some(sound) = &sounds[*side] else { continue };
        let twin = sounds[1 - side].as_ref();
        let top = 1 + n as u16 * (height + 1);
        let same = twin.map(|twin| twin.samples == sound.samples);
        let said = match same {
            Some(true) => "  · the same samples as the other run",
            Some(false) => "  X other samples than the other run",
            None => "",
        };
        Pen::at(buf, area, top)
            .put(format!("{name} {} samples", sound.samples.len()), *style)
            .put(said, if same == Some(false) { theme.bad() } else { theme.good() });
        wave(&sound.samples, longest, loudest, Rect { y: area.y + top + 1, height, ..area }, *style, buf);
        if let Some(x) = cursor.filter(|x| *x < usize::from(area.width)) {
            for line in 0..height.min(area.bottom().saturating_sub(area.y + top + 1)) {
                let cell = Rect { x: area.x + x as u16, y: area.y + top + 1, width: 1, height };
                Pen::at(buf, cell, line).line(theme.cursor());
            }
        }
    }
}

/// A waveform in braille: two by four dots a cell, from least to greatest sample of each dot's time.
fn wave(samples: &[f32], longest: usize, loudest: f32, area: Rect, style: Style, buf: &mut Buffer) {
    const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    let (width, height) = (usize::from(area.width) * 2, usize::from(area.height) * 4);
    if width == 0 || height == 0 {
        return;
    }
    let scale = if loudest > 0.0 { loudest } else { 1.0 };
    for column in 0..area.width {
        let mut cells = vec![0u32; usize::from(area.height)];
        for half in 0..2usize {
            let dot = usize::from(column) * 2 + half;
            let (from, to) = (dot * longest / width, (dot + 1) * longest / width);
            let Some(part) = samples.get(from..to.max(from + 1).min(samples.len())) else { continue };
            let finite = || part.iter().filter(|s| s.is_finite());
            let (low, high) = (
                finite().copied().fold(f32::INFINITY, f32::min),
                finite().copied().fold(f32::NEG_INFINITY, f32::max),
            );
            if low > high {
                continue;
            }
            let line = |v: f32| {
                let up = (1.0 - v / scale) / 2.0 * (height - 1) as f32;
                (up.round().max(0.0) as usize).min(height - 1)
            };
            for y in line(high)..=line(low) {
                cells[y / 4] |= DOTS[half][y % 4];
            }
        }
        for (line, dots) in cells.iter().enumerate() {
            if let Some(glyph) = char::from_u32(0x2800 + dots).filter(|_| *dots > 0) {
                let cell = Rect { x: area.x + column, width: 1, ..area };
                Pen::at(buf, cell, line as u16).put(glyph.to_string(), style);
            }
        }
    }
}
