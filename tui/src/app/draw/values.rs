//! Values of a buffer: list, grid, hex, figures, and the greatest of each row.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use twinstep_replayer::{BesideBuffer, Distance, Value, relative};
use twinstep_traces::DType;

use super::step::{fit, short};
use super::{NO_STEPS, Pen};
use crate::app::axes::axes;
use crate::app::state::{App, Difference, Mode, index_of, top};
use crate::app::values::{HEAD, HEX_BYTES, stride};
use crate::app::work::{Elements, Kind, Point, Side};
use crate::failure::escape;

const CELL: u16 = 12;

pub(crate) fn draw(app: &App, body: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some(chosen) = app.chosen() else {
        let text = match &app.values.buffer {
            Some((name, _)) if app.beside().is_some() => {
                format!("this step has no buffer `{}`", escape(name))
            }
            _ if app.rows.is_empty() => NO_STEPS.to_owned(),
            Some(_) => "reading ...".to_owned(),
            None => "no buffer is chosen: 2 shows the step's buffers, Enter takes one".to_owned(),
        };
        Pen::at(buf, body, 0).put(text, theme.dim());
        return;
    };
    heading(app, chosen, body, buf);
    let ids = [chosen.a.as_ref().map(|s| s.id), chosen.b.as_ref().map(|s| s.id)];
    let data =
        app.values.data.as_deref().filter(|d| d.ids == ids && d.point == app.point && Some(d.at) == app.at());
    let Some(data) = data else {
        let failed = app.failed.get(&Kind::Read).or(app.failed.get(&Kind::Memory));
        Pen::at(buf, body, HEAD - 1).put(failed.map_or("reading ...", String::as_str), theme.dim());
        return;
    };
    let inner = Rect { y: body.y + HEAD - 1, height: body.height.saturating_sub(HEAD - 1), ..body };
    if data.bytes.iter().all(Option::is_none) {
        Pen::at(buf, inner, 0).put(&data.missing[0], theme.bad());
        return;
    }
    match app.values.mode {
        Mode::List => list(app, chosen, data, inner, buf),
        Mode::Grid => grid(app, chosen, data, inner, buf),
        Mode::Hex => hex(app, data, inner, buf),
        Mode::Figures => figures(app, data, inner, buf),
        Mode::Top => greatest(app, chosen, data, inner, buf),
    }
}

fn heading(app: &App, chosen: &BesideBuffer, body: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some(record) = chosen.record() else { return };
    let at = app.at().map_or(String::new(), |at| at.to_string());
    let point = match app.point {
        Point::Before => format!("before step {at}"),
        Point::Inside(_) => format!("at {} of step {at}", app.inside().map_or(String::new(), escape)),
        Point::After => format!("after step {at}"),
        Point::Node(n) => {
            let label =
                app.beside().and_then(|b| b.launches.get(n - 1)).and_then(|l| l.a.as_ref().or(l.b.as_ref()));
            format!("step {at} executed again up to launch {}", label.map_or("", |l| &l.label))
        }
    };
    let mut pen = Pen::at(buf, body, 0);
    pen.put(escape(&record.name), theme.head());
    pen.put(
        format!(
            "@{} {} {:?} {}  {point}  ",
            record.generation,
            record.dtype.name(),
            record.shape,
            record.role.name()
        ),
        theme.plain(),
    );
    let mut pen = Pen::at(buf, body, 1);
    for mode in Mode::ALL {
        pen.put(mode.name(), if mode == app.values.mode { theme.cursor() } else { theme.dim() });
        pen.put(" ", theme.plain());
    }
    let names = axes(record, app.rows.len() > 1 && record.shape.first() == Some(&4));
    let index = index_of(app.values.cursor, &record.shape);
    let place: Vec<String> =
        names.iter().zip(&index).zip(&record.shape).map(|((name, i), n)| format!("{name} {i}/{n}")).collect();
    pen.put(format!(" at {}", place.join(", ")), theme.plain());
    if app.pair() {
        let mut pen = Pen::at(buf, body, 2);
        let data = app.values.data.as_deref();
        if let Some(d) = data.and_then(|d| d.distance.as_ref()) {
            let part = if data.is_some_and(|d| d.whole) { "" } else { " of this part" };
            if d.differing == 0 {
                pen.put(
                    format!("· all {} elements{part} are the same bits in A and B", d.compared),
                    theme.good(),
                );
            } else {
                let float = matches!(record.dtype, DType::F32 | DType::F16 | DType::Bf16);
                pen.put(how_far(d, part, float), theme.bad());
            }
        } else if let Some(d) = data {
            let missing: Vec<String> = [("A", 0), ("B", 1)]
                .iter()
                .filter(|(_, i)| !d.missing[*i].is_empty())
                .map(|(name, i)| format!("{name}: {}", d.missing[*i]))
                .collect();
            pen.put(missing.join("; "), theme.dim());
        }
    }
}

/// How many elements differ, and by how much. A value that is not finite is at no distance.
fn how_far(d: &Distance, part: &str, float: bool) -> String {
    let differ = format!("X {} of {} elements{part} differ", d.differing, d.compared);
    let ulps = d.max_ulps.filter(|_| float).map_or(String::new(), |u| format!(", {u} ULP"));
    let far = format!("at most {:.4e} absolute, {:.2e} relative{ulps}", d.max_abs, d.max_rel);
    match d.not_finite {
        0 => format!("{differ}: {far}"),
        1 if d.differing == 1 => format!("{differ}: not finite in A or B"),
        n if n == d.differing => format!("{differ}: each is not finite in A or B"),
        n => format!("{differ}, {n} not finite in A or B; the others: {far}"),
    }
}

/// One element of a side: 0 is A, 1 is B, 2 what the patched step gave.
fn value(data: &Elements, side: usize, flat: u64) -> Option<Value> {
    let size = data.dtype.size();
    let at = flat.checked_sub(data.start)?.checked_mul(size)? as usize;
    let bytes = data.bytes[side].as_ref()?.get(at..at + size as usize)?;
    Value::from_bytes(data.dtype, bytes)
}

/// The difference of two values in the chosen terms.
fn difference(app: &App, a: Value, b: Value) -> String {
    if a.bits() == b.bits() {
        return "·".to_owned();
    }
    match app.values.difference {
        Difference::Absolute => format!("{:+.4e}", b.to_f64() - a.to_f64()),
        Difference::Relative => format!("{:.3e}", relative(a, b)),
        Difference::Ulps => a.ulps(b).map_or("-".to_owned(), |u| u.to_string()),
    }
}

/// Names of what the patched column equals.
fn equals(patched: Option<Value>, a: Option<Value>, b: Option<Value>) -> &'static str {
    let same = |x: Option<Value>| patched.is_some() && patched.map(Value::bits) == x.map(Value::bits);
    match (same(a), same(b)) {
        _ if patched.is_none() => "",
        (true, true) => "= A B",
        (true, false) => "= A",
        (false, true) => "= B",
        (false, false) => "neither",
    }
}

fn list(app: &App, chosen: &BesideBuffer, data: &Elements, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some(record) = chosen.record() else { return };
    let patched = data.bytes[2].is_some();
    // A third column fits on the least screen only where the others are narrower.
    let (wide, label) = if patched && area.width < 100 { (11, 15) } else { (14, 18) };
    let mut pen = Pen::at(buf, area, 0);
    pen.put("  ", theme.dim()).field("element", label, theme.dim());
    if app.pair() {
        pen.right("A", wide, theme.a()).right("B", wide, theme.b());
        pen.right(app.values.difference.name(), wide, theme.dim());
    } else {
        pen.right("value", wide, theme.a());
        pen.right("bits", 18, theme.dim());
    }
    if patched {
        pen.right("patched", 11, theme.patched());
    }
    let height = usize::from(area.height.saturating_sub(1));
    let first = top(app.values.cursor as usize, app.elements() as usize, height) as u64;
    for line in 0..height as u64 {
        let flat = first + line;
        if flat >= app.elements() {
            break;
        }
        let y = line as u16 + 1;
        let (a, b, c) = (value(data, 0, flat), value(data, 1, flat), value(data, 2, flat));
        let index: Vec<String> = index_of(flat, &record.shape).iter().map(u64::to_string).collect();
        let differs = a.zip(b).is_some_and(|(a, b)| a.bits() != b.bits());
        let mut pen = Pen::at(buf, area, y);
        pen.put(if differs { "X " } else { "  " }, theme.bad());
        pen.field(&format!("[{}]", index.join(",")), label, theme.plain());
        let show = |v: Option<Value>| v.map_or("-".to_owned(), |v| fit(v, usize::from(wide)));
        pen.right(&show(a), wide, theme.a());
        if app.pair() {
            pen.right(&show(b), wide, theme.b());
            let text = a.zip(b).map_or(String::new(), |(a, b)| difference(app, a, b));
            pen.right(&text, wide, if differs { theme.bad() } else { theme.dim() });
        } else {
            let bits = a.map_or(String::new(), |v| format!("{:#x}", v.bits()));
            pen.right(&bits, 18, theme.dim());
        }
        if patched {
            pen.right(&c.map_or("-".to_owned(), short), 11, theme.patched());
            pen.put(equals(c, a, b), theme.patched());
        }
        if flat == app.values.cursor {
            Pen::at(buf, area, y).line(theme.cursor());
        }
    }
}

/// The side that single-sided modes show, where it is recorded.
fn shown(app: &App, data: &Elements) -> usize {
    let side = app.side as usize;
    if data.bytes[side].is_some() { side } else { 1 - side }
}

fn side_style(app: &App, side: usize) -> Style {
    match side {
        0 => app.theme.a(),
        1 => app.theme.b(),
        _ => app.theme.patched(),
    }
}

const SIDES: [&str; 3] = ["A", "B", "patched"];

fn grid(app: &App, chosen: &BesideBuffer, data: &Elements, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let there: Vec<usize> = (0..3).filter(|&i| data.bytes[i].is_some()).collect();
    let most = usize::from(area.width / 60).max(1);
    let sides: Vec<usize> = if most >= there.len() { there } else { vec![shown(app, data)] };
    let width = area.width / sides.len() as u16;
    for (n, side) in sides.iter().enumerate() {
        let part = Rect { x: area.x + n as u16 * width, width: width.saturating_sub(1), ..area };
        let other = if *side == 0 { 1 } else { 0 };
        Pen::at(buf, part, 0).put("      ", theme.dim());
        let columns = app.columns();
        let cells = u64::from((part.width.saturating_sub(7)) / CELL).max(1);
        let column = app.values.cursor % columns;
        let left = column.saturating_sub(cells / 2).min(columns.saturating_sub(cells));
        let mut pen = Pen::at(buf, part, 0);
        pen.field(SIDES[*side], 6, side_style(app, *side));
        for c in left..(left + cells).min(columns) {
            pen.right(&c.to_string(), CELL - 1, theme.dim());
        }
        let rows = app.elements() / columns;
        let height = usize::from(part.height.saturating_sub(1));
        let first = top((app.values.cursor / columns) as usize, rows as usize, height) as u64;
        let Some(record) = chosen.record() else { return };
        for line in 0..height as u64 {
            let row = first + line;
            if row >= rows {
                break;
            }
            let mut pen = Pen::at(buf, part, line as u16 + 1);
            let index = index_of(row * columns, &record.shape);
            let label: Vec<String> =
                index[..index.len().saturating_sub(1)].iter().map(u64::to_string).collect();
            // The end of a long index changes from row to row, its beginning does not.
            let label = label.join(",");
            let from = label.len().saturating_sub(6);
            pen.field(&label[from..], 6, theme.dim());
            for c in left..(left + cells).min(columns) {
                let flat = row * columns + c;
                let (x, y) = (value(data, *side, flat), value(data, other, flat));
                let differs = x.zip(y).is_some_and(|(x, y)| x.bits() != y.bits());
                let room = usize::from(CELL) - 2 - usize::from(differs);
                let text = x.map_or("-".to_owned(), |v| fit(v, room));
                let text = if differs { format!("X{text}") } else { text };
                let mut style = if differs { theme.bad() } else { side_style(app, *side) };
                if flat == app.values.cursor {
                    style = style.patch(theme.cursor());
                }
                pen.right(&text, CELL - 1, style);
            }
        }
    }
}

fn hex(app: &App, data: &Elements, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let there: Vec<usize> = (0..3).filter(|&i| data.bytes[i].is_some()).collect();
    let most = usize::from(area.width / 62).max(1);
    let sides: Vec<usize> = if most >= there.len() { there } else { vec![shown(app, data)] };
    let width = area.width / sides.len() as u16;
    let stride = stride(app);
    let lines = app.elements().div_ceil(stride);
    for (n, side) in sides.iter().enumerate() {
        let part = Rect { x: area.x + n as u16 * width, width: width.saturating_sub(1), ..area };
        let other = if *side == 0 { 1 } else { 0 };
        let mut pen = Pen::at(buf, part, 0);
        pen.field("byte", 9, theme.dim()).put(SIDES[*side], side_style(app, *side));
        let height = usize::from(part.height.saturating_sub(1));
        let first = top((app.values.cursor / stride) as usize, lines as usize, height) as u64;
        for line in 0..height as u64 {
            let Some(bytes) = &data.bytes[*side] else { break };
            let from = (first + line) * HEX_BYTES;
            let Some(offset) = from.checked_sub(data.start * data.dtype.size()).map(|o| o as usize) else {
                continue;
            };
            let Some(shown) = bytes.get(offset..(offset + HEX_BYTES as usize).min(bytes.len())) else {
                break;
            };
            if shown.is_empty() {
                break;
            }
            let mut pen = Pen::at(buf, part, line as u16 + 1);
            pen.field(&format!("{from:08x}"), 8, theme.dim()).put(" ", theme.dim());
            for (i, byte) in shown.iter().enumerate() {
                let twin = data.bytes[other].as_ref().and_then(|b| b.get(offset + i));
                let differs = twin.is_some_and(|twin| twin != byte);
                let here = (from + i as u64) / data.dtype.size() == app.values.cursor;
                let mut style = if differs {
                    theme.bad().add_modifier(ratatui::style::Modifier::UNDERLINED)
                } else {
                    theme.plain()
                };
                if here {
                    style = style.patch(theme.cursor());
                }
                pen.put(format!("{byte:02x}"), style).put(if i % 4 == 3 { "  " } else { " " }, theme.plain());
            }
        }
    }
}

fn figures(app: &App, data: &Elements, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let of = if data.whole { "all elements" } else { "the part around the cursor" };
    let mut pen = Pen::at(buf, area, 0);
    pen.field(of, 28, theme.dim()).right("A", 16, theme.a());
    if app.pair() {
        pen.right("B", 16, theme.b());
    }
    type Figure = (&'static str, fn(&twinstep_replayer::Summary) -> String);
    let rows: [Figure; 8] = [
        ("elements", |s| s.count.to_string()),
        ("least", |s| format!("{:.6e}", s.min)),
        ("greatest", |s| format!("{:.6e}", s.max)),
        ("mean", |s| format!("{:.6e}", s.mean)),
        ("root mean square", |s| format!("{:.6e}", s.rms)),
        ("zeros", |s| s.zeros.to_string()),
        ("NaN", |s| s.nan.to_string()),
        ("infinite", |s| s.infinite.to_string()),
    ];
    for (i, (name, figure)) in rows.iter().enumerate() {
        let mut pen = Pen::at(buf, area, i as u16 + 1);
        pen.field(name, 28, theme.plain());
        for side in 0..if app.pair() { 2 } else { 1 } {
            let text = data.figures[side].as_ref().map_or("-".to_owned(), figure);
            pen.right(&text, 16, side_style(app, side));
        }
    }
    histogram(app, data, Rect { y: area.y + 10, height: area.height.saturating_sub(10), ..area }, buf);
}

/// Both histograms on a logarithmic scale, one above the other.
fn histogram(app: &App, data: &Elements, area: Rect, buf: &mut Buffer) {
    const BARS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let theme = app.theme;
    let sides: Vec<usize> = (0..2).filter(|&i| data.figures[i].is_some()).collect();
    let height = (area.height / sides.len().max(1) as u16).saturating_sub(1).min(8);
    if height == 0 {
        return;
    }
    for (n, side) in sides.iter().enumerate() {
        let Some(figures) = &data.figures[*side] else { continue };
        let y = n as u16 * (height + 1);
        let greatest = figures.histogram.iter().max().copied().unwrap_or(0).max(1);
        let wide = (area.width / figures.histogram.len().max(1) as u16).clamp(1, 3);
        for (bin, &count) in figures.histogram.iter().enumerate() {
            // One element must be seen beside a million.
            let part =
                if count == 0 { 0.0 } else { (1.0 + count as f64).ln() / (1.0 + greatest as f64).ln() };
            let eighths = (part * f64::from(height) * 8.0).round() as u16;
            for line in 0..height {
                let filled = eighths.saturating_sub((height - 1 - line) * 8).min(8);
                let x = area.x + bin as u16 * wide;
                let cell = Rect { x, width: wide.min(area.right().saturating_sub(x)), ..area };
                Pen::at(buf, cell, y + line)
                    .put(BARS[usize::from(filled)].repeat(usize::from(wide)), side_style(app, *side));
            }
        }
        let text = format!(
            "{} {:.3e} to {:.3e}, log count, most {greatest}",
            SIDES[*side], figures.min, figures.max
        );
        Pen::at(buf, area, y + height).put(text, theme.dim());
    }
}

fn greatest(app: &App, chosen: &BesideBuffer, data: &Elements, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let Some(record) = chosen.record() else { return };
    let columns = app.columns();
    let rows = app.elements() / columns;
    let here = app.values.cursor / columns;
    let wide = if app.pair() { 44 } else { 24 };
    let fit = u64::from(area.width / wide).max(1);
    // Rows that share their leading index: the codebooks of one row of the batch.
    let group = record.shape.iter().rev().nth(1).copied().unwrap_or(1).max(1);
    let base = here / group * group;
    let first = base + (here - base).saturating_sub(fit - 1);
    for n in 0..fit {
        let row = first + n;
        if row >= rows.min(base + group) {
            break;
        }
        let part = Rect { x: area.x + n as u16 * wide, width: wide.saturating_sub(2), ..area };
        let index = index_of(row * columns, &record.shape);
        let label: Vec<String> = index[..index.len().saturating_sub(1)].iter().map(u64::to_string).collect();
        let style = if row == here { theme.cursor() } else { theme.head() };
        Pen::at(buf, part, 0).put(format!("[{},:] greatest first", label.join(",")), style);
        for (slot, side) in [Side::A, Side::B].iter().enumerate() {
            let side = *side as usize;
            if data.bytes[side].is_none() {
                continue;
            }
            let ranked = rank(data, side, row * columns, columns);
            let other = rank(data, 1 - side, row * columns, columns);
            let half = Rect { x: part.x + slot as u16 * 21, width: 20.min(part.width), ..part };
            Pen::at(buf, half, 1).put(SIDES[side], side_style(app, side));
            for (line, (place, v)) in
                ranked.iter().take(usize::from(area.height.saturating_sub(2))).enumerate()
            {
                let same = !app.pair() || other.get(line).map(|o| o.0) == Some(*place);
                let mut pen = Pen::at(buf, half, line as u16 + 2);
                pen.put(if same { " " } else { "X" }, theme.bad());
                pen.right(&place.to_string(), 6, theme.plain()).right(&short(*v), 11, side_style(app, side));
            }
        }
    }
}

/// Elements of a row by value, falling; ties by index.
fn rank(data: &Elements, side: usize, start: u64, columns: u64) -> Vec<(u64, Value)> {
    let mut all: Vec<(u64, Value)> =
        (0..columns).filter_map(|c| value(data, side, start + c).map(|v| (c, v))).collect();
    all.sort_by(|x, y| y.1.to_f64().total_cmp(&x.1.to_f64()).then(x.0.cmp(&y.0)));
    all.truncate(100);
    all
}

#[cfg(test)]
mod tests {
    use super::how_far;
    use twinstep_replayer::distance;
    use twinstep_traces::DType;

    #[test]
    fn a_value_that_is_not_finite_is_at_no_distance() {
        let told = |a: &[f32], b: &[f32]| {
            let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            how_far(&distance(DType::F32, &bytes(a), &bytes(b)), "", true)
        };
        assert_eq!(told(&[1.0, f32::NAN], &[1.0, 2.0]), "X 1 of 2 elements differ: not finite in A or B");
        let (none, some) = (f32::INFINITY, f32::NAN);
        assert_eq!(
            told(&[none, some], &[1.0, 2.0]),
            "X 2 of 2 elements differ: each is not finite in A or B"
        );
        assert_eq!(
            told(&[1.0, 2.0], &[some, 4.0]),
            "X 2 of 2 elements differ, 1 not finite in A or B; the others: at most 2.0000e0 absolute, \
             5.00e-1 relative, 8388608 ULP"
        );
        assert_eq!(
            told(&[2.0], &[4.0]),
            "X 1 of 1 elements differ: at most 2.0000e0 absolute, 5.00e-1 relative, 8388608 ULP"
        );
    }
}
