//! The step: its buffers side by side, its launches side by side, and what is under the cursor in full.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use twinstep_replayer::{BesideBuffer, BesideLaunch, BufferSide, LogEntry, Sameness, Value};
use twinstep_traces::DType;

use super::{NO_STEPS, Pen, cut};
use crate::app::areas;
use crate::app::state::{App, Pane, index_of, top};
use crate::app::work::{Point, Side};
use crate::failure::escape;

pub(crate) fn draw(app: &App, body: Rect, buf: &mut Buffer) {
    let parts = areas::step(body, app.step.pane);
    if app.beside().is_none() {
        let failed = app.failed.get(&crate::app::work::Kind::Beside);
        let waiting = if app.rows.is_empty() { NO_STEPS } else { "reading the step ..." };
        let text = failed.map_or(waiting, String::as_str);
        Pen::at(buf, body, 0).put(text, app.theme.dim());
        return;
    }
    if let Some(area) = parts.buffers {
        buffers(app, area, buf);
    }
    if let Some(area) = parts.launches {
        launches(app, area, buf);
    }
    detail(app, parts.detail, buf);
}

/// Sameness as a glyph and its style.
fn mark(app: &App, same: Sameness) -> (&'static str, Style) {
    let theme = app.theme;
    if !app.pair() {
        return match same {
            Sameness::Unknown => (" ", theme.dim()),
            _ => ("o", theme.plain()),
        };
    }
    match same {
        Sameness::Equal => ("·", theme.good()),
        Sameness::Differs => ("X", theme.bad()),
        Sameness::OnlyA => ("A", theme.a()),
        Sameness::OnlyB => ("B", theme.b()),
        Sameness::Unknown => (" ", theme.dim()),
    }
}

fn buffers(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let list = app.buffers();
    let all = app.beside().map_or(0, |b| b.buffers.len());
    let mut filters = Vec::new();
    if let Some(role) = app.step.role {
        filters.push(format!("role {}", role.name()));
    }
    if app.step.differing {
        filters.push("differing".to_owned());
    }
    if !app.step.filter.is_empty() {
        filters.push(format!("`{}`", app.step.filter));
    }
    let head = match filters.is_empty() {
        true => format!("{} buffers, by dataflow", list.len()),
        false => format!("{} of {all}: {}", list.len(), filters.join(", ")),
    };
    let style = if app.step.pane == Pane::Buffers { theme.head() } else { theme.dim() };
    let mut pen = Pen::at(buf, area, 0);
    if area.width >= 70 {
        let (a, b) = columns(app, area.width);
        pen.put("bef aft ", theme.dim()).field(&head, name_width(area.width), style);
        pen.right(a, VALUE, theme.a());
        if app.pair() {
            pen.right(b, VALUE, theme.b());
        }
        pen.put("written by", theme.dim());
    } else {
        pen.put(head, style);
    }
    let height = areas::lines(area);
    let first = top(app.step.row, list.len(), height);
    for (i, buffer) in list.iter().enumerate().skip(first).take(height) {
        let here = i == app.step.row && app.step.pane == Pane::Buffers;
        line(app, buffer, here, area, (i - first) as u16 + 1, buf);
    }
}

const VALUE: u16 = 12;

fn columns(app: &App, _width: u16) -> (&'static str, &'static str) {
    if app.pair() { ("A", "B") } else { ("value", "") }
}

fn name_width(width: u16) -> u16 {
    width.saturating_sub(2 * (VALUE + 1) + 8 + 18).clamp(18, 48)
}

/// One buffer in a line.
pub(crate) fn line(app: &App, buffer: &BesideBuffer, here: bool, area: Rect, y: u16, buf: &mut Buffer) {
    let theme = app.theme;
    let mut pen = Pen::at(buf, area, y);
    for same in [buffer.before, buffer.after] {
        let (glyph, style) = mark(app, same);
        pen.put(" ", theme.plain()).put(glyph, style).put("  ", theme.plain());
    }
    let shape = buffer.record().map_or(&[][..], |r| &r.shape);
    let sample = buffer.sample.filter(|_| shape.iter().all(|n| *n > 0));
    let index = sample.map_or(String::new(), |s| {
        let index: Vec<String> = index_of(s.flat, shape).iter().map(u64::to_string).collect();
        format!("[{}]", index.join(","))
    });
    let width = name_width(area.width);
    let label = format!("{}{index}", escape(&generations(buffer)));
    pen.field(&label, width, theme.plain());
    let value = |v: Option<Value>| v.map_or("-".to_owned(), short);
    if let Some(sample) = sample {
        pen.right(&value(sample.a), VALUE, theme.a());
        if app.pair() {
            pen.right(&value(sample.b), VALUE, theme.b());
        }
    } else {
        pen.right("", VALUE, theme.dim());
        if app.pair() {
            pen.right("", VALUE, theme.dim());
        }
    }
    let role = buffer.record().map_or("", |r| r.role.name());
    let written = match (buffer.writer, buffer.host) {
        (Some(n), _) => format!("#{n} {}", buffer.phase.unwrap_or("")),
        (None, true) => "host".to_owned(),
        (None, false) => format!("given, {role}"),
    };
    pen.put(written, theme.dim());
    if here {
        Pen::at(buf, area, y).line(theme.cursor());
    }
}

/// Representable values between two floats; for integers the difference says it already.
pub(crate) fn ulps(a: Value, b: Value) -> Option<u64> {
    let float = matches!(a.dtype(), DType::F32 | DType::F16 | DType::Bf16);
    a.ulps(b).filter(|_| float)
}

/// A value in eleven characters.
pub(crate) fn short(value: Value) -> String {
    fit(value, 11)
}

/// A value in so many characters, at least nine: exact where that fits, else with fewer digits.
pub(crate) fn fit(value: Value, width: usize) -> String {
    let exact = value.to_string();
    if exact.len() <= width {
        return exact;
    }
    let number = value.to_f64();
    let fixed = (0..=width).rev().map(|digits| format!("{number:.digits$}")).find(|text| text.len() <= width);
    match fixed {
        Some(fixed) if number.abs() >= 1e-3 => fixed,
        // `-1.23e-308` is the longest.
        _ => format!("{number:.*e}", width.saturating_sub(8).min(4)),
    }
}

/// `hidden@0`, or both where A and B, or what is bound and what the name means, are not of one generation.
fn generations(buffer: &BesideBuffer) -> String {
    let of = |side: &BufferSide| {
        let stale = if side.resolved { "" } else { " stale" };
        format!("@{}{stale}", side.record.generation)
    };
    match (&buffer.a, &buffer.b) {
        (Some(a), Some(b)) if of(a) != of(b) => format!("{}{}|{}", buffer.name(), of(a), of(b)),
        (Some(side), _) | (None, Some(side)) => {
            let generation =
                if side.record.generation == 0 && side.resolved { String::new() } else { of(side) };
            format!("{}{generation}", buffer.name())
        }
        (None, None) => String::new(),
    }
}

fn launches(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some(beside) = app.beside() else { return };
    if let Some((side, entries)) = app.logged() {
        return logged(app, side, entries, area, buf);
    }
    let style = if app.step.pane == Pane::Launches { theme.head() } else { theme.dim() };
    let differing =
        beside.launches.iter().filter(|l| !l.differing.is_empty() || l.a.is_none() || l.b.is_none()).count();
    let head = match app.pair() {
        true => format!("{} launches, {differing} with a difference", beside.launches.len()),
        false => format!("{} launches", beside.launches.len()),
    };
    let mut pen = Pen::at(buf, area, 0);
    pen.put("     A    B ", theme.dim()).put(head, style);
    let height = areas::lines(area);
    let first = top(app.step.launch, beside.launches.len(), height);
    for (i, launch) in beside.launches.iter().enumerate().skip(first).take(height) {
        let y = (i - first) as u16 + 1;
        one_launch(app, i, launch, area, y, buf);
        if i == app.step.launch && app.step.pane == Pane::Launches {
            Pen::at(buf, area, y).line(theme.cursor());
        }
    }
}

/// What another engine ran: its log, as `twinstep log` shows it.
fn logged(app: &App, side: Side, entries: &[LogEntry], area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let style = if app.step.pane == Pane::Launches { theme.head() } else { theme.dim() };
    let kernels = entries.iter().filter(|entry| entry.kernel.is_some()).count();
    let run = if app.pair() { format!(" of {}", side.name()) } else { String::new() };
    let head = format!("log{run}: {kernels} {}", if kernels == 1 { "kernel" } else { "kernels" });
    Pen::at(buf, area, 0).put(head, style);
    let height = areas::lines(area);
    let first = top(app.step.launch, entries.len(), height);
    for (i, entry) in entries.iter().enumerate().skip(first).take(height) {
        let y = (i - first) as u16 + 1;
        Pen::at(buf, area, y).field(entry.kind, 8, theme.dim()).put(escape(&entry.text), theme.plain());
        if i == app.step.launch && app.step.pane == Pane::Launches {
            Pen::at(buf, area, y).line(theme.cursor());
        }
    }
}

fn one_launch(app: &App, i: usize, launch: &BesideLaunch, area: Rect, y: u16, buf: &mut Buffer) {
    let theme = app.theme;
    let number = |side: &Option<twinstep_replayer::LaunchSide>| {
        side.as_ref().map_or("-".to_owned(), |s| s.number.to_string())
    };
    let ran = match app.point {
        Point::Node(n) => i < n,
        _ => false,
    };
    let next = matches!(app.point, Point::Node(n) if n == i + 1);
    let mut pen = Pen::at(buf, area, y);
    pen.put(
        if next {
            ">"
        } else if ran {
            "·"
        } else {
            " "
        },
        theme.key(),
    );
    pen.right(&number(&launch.a), 4, theme.a()).right(&number(&launch.b), 4, theme.b());
    let Some(side) = launch.a.as_ref().or(launch.b.as_ref()) else { return };
    let missing = match (&launch.a, &launch.b, app.pair()) {
        (None, Some(_), true) => "only B ",
        (Some(_), None, true) => "only A ",
        _ => "",
    };
    pen.put(if launch.differing.is_empty() && missing.is_empty() { "  " } else { "X " }, theme.bad());
    pen.put(missing, theme.bad());
    pen.field(side.phase, 7, theme.dim());
    let graph = side.graph.map_or(String::new(), |g| format!("g{g} "));
    pen.put(graph, theme.dim());
    pen.put(escape(&side.label), theme.plain());
    if side.label != side.op {
        pen.put(format!(" {}", escape(&side.op)), theme.dim());
    }
    if !launch.differing.is_empty() {
        pen.put(format!("  differs: {}", escape(&launch.differing.join(", "))), theme.bad());
    }
}

fn detail(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let rule = "─".repeat(usize::from(area.width));
    Pen::at(buf, area, 0).put(rule, theme.dim());
    match app.step.pane {
        Pane::Buffers => match app.picked() {
            Some(buffer) => buffer_detail(app, buffer, area, buf),
            None => {
                Pen::at(buf, area, 1)
                    .put("no buffer passes the filters: r, t and Esc change them", theme.dim());
            }
        },
        Pane::Launches => {
            let launch = app.beside().and_then(|b| b.launches.get(app.step.launch));
            match launch {
                Some(launch) => launch_detail(app, launch, area, buf),
                None => {
                    let reason = app.beside().and_then(|b| b.opaque.first()).cloned();
                    let text = reason.unwrap_or_else(|| "the step has no launches".to_owned());
                    Pen::at(buf, area, 1).put(escape(&text), theme.dim());
                }
            }
        }
    }
}

fn buffer_detail(app: &App, buffer: &BesideBuffer, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let mut y = 1;
    for (name, side, style) in [("A", &buffer.a, theme.a()), ("B", &buffer.b, theme.b())] {
        let Some(side) = side else {
            if app.pair() {
                Pen::at(buf, area, y).put(name, style).put(" has no such buffer here", theme.dim());
                y += 1;
            }
            continue;
        };
        let record = &side.record;
        let recorded = match (side.before, side.after) {
            (true, true) => "recorded before and after",
            (true, false) => "recorded before",
            (false, true) => "recorded after",
            (false, false) => "not recorded here",
        };
        let stale = if side.resolved { "" } else { "; its name means another generation now" };
        let bound = if side.bound { "" } else { "; no launch of this step has it as an operand" };
        let mut pen = Pen::at(buf, area, y);
        pen.put(name, style.patch(theme.head())).put(
            format!(
                " {}@{} {} {:?} {}, {recorded}",
                escape(&record.name),
                record.generation,
                record.dtype.name(),
                record.shape,
                record.role.name()
            ),
            theme.plain(),
        );
        pen.put(format!("{stale}{bound}"), theme.bad());
        y += 1;
    }
    if let Some(beside) = app.beside() {
        let by = |n: Option<usize>| n.map_or("no launch".to_owned(), |n| format!("launch {n}"));
        let label = |n: Option<usize>| {
            n.and_then(|n| {
                let of = |l: &BesideLaunch| {
                    let side = if buffer.a.is_some() { l.a.as_ref() } else { l.b.as_ref() };
                    side.filter(|s| s.number == n).map(|s| format!(" ({})", s.label))
                };
                beside.launches.iter().find_map(of)
            })
            .unwrap_or_default()
        };
        let text = format!(
            "read first by {}{}, written first by {}{}",
            by(buffer.reader),
            label(buffer.reader),
            by(buffer.writer),
            label(buffer.writer)
        );
        Pen::at(buf, area, y).put(escape(&text), theme.plain());
    }
    y += 1;
    if let Some(sample) = buffer.sample.filter(|_| app.pair())
        && let (Some(a), Some(b)) = (sample.a, sample.b)
        && a.bits() != b.bits()
    {
        let ulps = ulps(a, b).map_or(String::new(), |u| format!(", {u} ULP"));
        let when = if sample.after { "after" } else { "before" };
        let text = format!(
            "first difference {when} the step: {} in A, {} in B, B - A = {:.4e}{ulps}",
            a.told(),
            b.told(),
            b.to_f64() - a.to_f64()
        );
        Pen::at(buf, area, y).put(cut(&text, usize::from(area.width)), theme.bad());
    }
}

fn launch_detail(app: &App, launch: &BesideLaunch, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in launch.a.iter().chain(&launch.b).flat_map(|s| &s.arguments) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // What differs first: on a short screen the rest is cut.
    names.sort_by_key(|name| !launch.differing.contains(name));
    for (i, name) in names.iter().enumerate() {
        let of = |side: &Option<twinstep_replayer::LaunchSide>| {
            side.as_ref().and_then(|s| s.arguments.iter().find(|(n, _)| n == *name)).map(|(_, v)| escape(v))
        };
        let (a, b) = (of(&launch.a), of(&launch.b));
        let mut pen = Pen::at(buf, area, i as u16 + 1);
        let differs = launch.differing.contains(name);
        pen.put(if differs { "X " } else { "  " }, theme.bad());
        pen.field(&escape(name), 14, theme.head());
        let side = a.clone().or(b.clone()).unwrap_or_default();
        if differs {
            pen.put("A ", theme.a()).put(a.unwrap_or("-".to_owned()), theme.a());
            pen.put("  B ", theme.b()).put(b.unwrap_or("-".to_owned()), theme.b());
        } else {
            pen.put(side, theme.plain());
        }
    }
}
