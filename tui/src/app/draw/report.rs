//! Patches and what they gave; verdict and evidence; writers of an element.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Pen, cut};
use crate::app::areas;
use crate::app::keys::Action;
use crate::app::patches::{command_line, verdict};
use crate::app::state::{App, top};
use crate::app::work::Kind;
use crate::failure::escape;

/// The patches, the verdict in a sentence, and every output with what it equals.
pub(crate) fn patch(app: &App, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let mut y = 0;
    let mut say = |buf: &mut Buffer, text: String, style| {
        Pen::at(buf, area, y).put(cut(&text, usize::from(area.width)), style);
        y += 1;
    };
    let Some((at, side)) = app.patch.place else {
        say(buf, "no patch yet".to_owned(), theme.head());
        for line in [
            "In the step (2) or among values (3):",
            "  o  patch the buffer with what the other run has       last_codes=other",
            "  O  patch this element alone                           last_codes[0,2]=other",
            "  =  patch with a value to type                         hidden[0,17]=1.5",
            "  @  patch with what a run has at another step          last_codes=self@1",
            "  p  write the patch as the command line takes it",
            "  x  patch the other run instead",
            "Then R executes the step again and says whether it equals A or B.",
        ] {
            say(buf, line.to_owned(), theme.plain());
        }
        if let Some(reason) = app.unavailable(Action::Execute) {
            say(buf, format!("This trace: {reason}"), theme.bad());
        }
        return;
    };
    say(buf, format!("step {at} of run {}, patched with:", side.name()), theme.head());
    let outcome = app.patch.outcome.as_deref();
    for (i, patch) in app.patch.list.iter().enumerate() {
        let report = outcome.and_then(|o| o.report.patches.get(i));
        let said = report.map_or(String::new(), |r| match &r.no_effect {
            Some(reason) => format!("  no effect: {reason}"),
            None => {
                let more = r.read_by.len().saturating_sub(3);
                let readers: Vec<&str> = r.read_by.iter().take(3).map(String::as_str).collect();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("  {} bytes changed, read by {}{more}", r.bytes_changed, readers.join(", "))
            }
        });
        let style = if report.is_some_and(|r| r.no_effect.is_some()) { theme.bad() } else { theme.patched() };
        say(buf, format!("  {}{}", escape(patch), escape(&said)), style);
    }
    if app.patch.list.is_empty() {
        say(buf, "  none: the step is executed as it was recorded".to_owned(), theme.dim());
    }
    let Some(outcome) = outcome else {
        let text = match (app.running.contains_key(&Kind::Outcome), app.failed.get(&Kind::Outcome)) {
            (true, _) => "executing ...".to_owned(),
            (false, Some(reason)) => reason.clone(),
            (false, None) => "R executes the step again".to_owned(),
        };
        say(buf, text, theme.dim());
        export(app, area, y, buf);
        return;
    };
    let (text, proves) = verdict(outcome, app.pair());
    say(buf, escape(&text), if proves { theme.good().patch(theme.head()) } else { theme.bad() });
    say(buf, format!("self-check of step {at} unpatched: {}", outcome.report.self_check), theme.dim());
    for name in outcome.report.not_compared.iter().take(1) {
        let n = outcome.report.not_compared.len();
        say(buf, format!("{n} buffers are recorded on one side only: {} ...", escape(name)), theme.dim());
    }
    Pen::at(buf, area, y)
        .put("   ", theme.dim())
        .field("output", 28, theme.dim())
        .field(&format!("against {}", side.name()), 14, theme.dim())
        .put(
            if app.pair() { format!("against {}", side.other().name()) } else { String::new() },
            theme.dim(),
        );
    y += 1;
    let need = command_line(app).map_or(0, |l| l.chars().count() / usize::from(area.width.max(5) - 4) + 1);
    let last = area.height.saturating_sub(need as u16 + 1);
    let mut outputs: Vec<_> = outcome.report.outputs.iter().collect();
    // What differs from anything comes first.
    outputs.sort_by_key(|o| (o.equals_other != Some(false), !o.changed));
    for (i, output) in outputs.iter().enumerate() {
        if y >= last {
            Pen::at(buf, area, y).put(format!("   and {} more", outputs.len() - i), theme.dim());
            y += 1;
            break;
        }
        let own = if output.changed { ("X changed", theme.bad()) } else { ("= same", theme.good()) };
        let other = match output.equals_other {
            Some(true) => ("= same", theme.good()),
            Some(false) => ("X differs", theme.bad()),
            None if app.pair() => ("not compared", theme.dim()),
            None => ("", theme.dim()),
        };
        Pen::at(buf, area, y)
            .put("   ", theme.dim())
            .field(&escape(&output.buffer), 28, theme.plain())
            .field(own.0, 14, own.1)
            .put(other.0, other.1);
        y += 1;
    }
    export(app, area, y, buf);
}

/// The command line that does the same, on as many lines as it needs at the bottom.
fn export(app: &App, area: Rect, y: u16, buf: &mut Buffer) {
    let Some(line) = command_line(app) else { return };
    let lines = wrapped(&escape(&line), usize::from(area.width.saturating_sub(4)).max(1));
    let y = y.min(area.height.saturating_sub(lines.len() as u16));
    for (i, part) in lines.iter().enumerate() {
        let end = if i + 1 < lines.len() { " \\" } else { "" };
        Pen::at(buf, area, y + i as u16)
            .put(if i == 0 { "$ " } else { "  " }, app.theme.key())
            .put(part, app.theme.plain())
            .put(end, app.theme.dim());
    }
}

pub(crate) fn explain(app: &App, area: Rect, buf: &mut Buffer) {
    let hint = "E looks for the cause, K for mistakes in each run, both in the background";
    let busy = [Kind::Explain, Kind::Check];
    findings(app, &busy, Action::FindCause, hint, area, buf);
}

pub(crate) fn history(app: &App, area: Rect, buf: &mut Buffer) {
    let hint = "H on an element (3) or a buffer (2) finds who wrote it";
    findings(app, &[Kind::History], Action::FindHistory, hint, area, buf);
}

fn findings(app: &App, kinds: &[Kind], action: Action, hint: &str, area: Rect, buf: &mut Buffer) {
    let theme = app.theme;
    let busy = kinds.iter().find(|kind| app.running.contains_key(kind));
    let (list, detail) = areas::evidence(area);
    let Some(found) = app.listed().filter(|_| busy.is_none()) else {
        let text = busy.map_or(hint.to_owned(), |kind| format!("{} ...", kind.doing()));
        Pen::at(buf, area, 0).put(text, theme.head());
        let failed = kinds.iter().find_map(|kind| app.failed.get(kind)).cloned();
        if let Some(reason) = failed.or_else(|| app.unavailable(action)) {
            Pen::at(buf, area, 1).put(reason, theme.bad());
        }
        return;
    };
    let style = if found.good { theme.good() } else { theme.bad() };
    Pen::at(buf, list, 0).put(escape(&found.headline), style.patch(theme.head()));
    let height = areas::lines(list);
    let first = top(app.evidence, found.lines.len(), height);
    for (i, line) in found.lines.iter().enumerate().skip(first).take(height) {
        let y = (i - first) as u16 + 1;
        let arrow = if line.jump.is_some() { "> " } else { "  " };
        let text = cut(&line.text, usize::from(list.width.saturating_sub(2)));
        Pen::at(buf, list, y).put(arrow, theme.key()).put(text, theme.plain());
        if i == app.evidence {
            Pen::at(buf, list, y).line(theme.cursor());
        }
    }
    if let Some(line) = found.lines.get(app.evidence) {
        Pen::at(buf, detail, 0).put("─".repeat(usize::from(detail.width)), theme.dim());
        for (y, part) in wrapped(line.text.trim(), usize::from(detail.width)).iter().enumerate() {
            Pen::at(buf, detail, y as u16 + 1).put(part, theme.plain());
        }
    }
}

/// A text in lines of a width, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().map_or(0, |l| l.chars().count());
        let need = word.chars().count();
        match lines.last_mut() {
            Some(line) if last == 0 => line.push_str(word),
            Some(line) if last + 1 + need <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
