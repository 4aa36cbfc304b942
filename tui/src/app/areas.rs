//! Where things are on the screen: for drawing, and for the mouse.

use ratatui::layout::{Constraint, Layout, Position, Rect, Size};

use super::keys::View;
use super::state::Pane;

/// Narrower screens show one pane of the step at a time.
const BOTH_PANES: u16 = 150;

/// The parts of every screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Areas {
    pub(crate) title: Rect,
    pub(crate) verdict: Rect,
    pub(crate) tabs: Rect,
    pub(crate) body: Rect,
    pub(crate) status: Rect,
    pub(crate) footer: Rect,
}

impl Areas {
    pub(crate) fn of(size: Size) -> Areas {
        let [title, verdict, tabs, body, status, footer] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(if size.width < 140 { 2 } else { 1 }),
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(Rect::new(0, 0, size.width, size.height));
        Areas { title, verdict, tabs, body, status, footer }
    }
}

/// The label of a tab.
pub(crate) fn tab(view: View) -> String {
    let number = View::ALL.iter().position(|v| *v == view).unwrap_or(0) + 1;
    format!("{number} {}", view.title())
}

/// The view whose tab lies at a column.
pub(crate) fn tab_at(area: Rect, x: u16) -> Option<View> {
    let mut left = area.x;
    for view in View::ALL {
        let right = left + tab(view).len() as u16;
        if (left..right).contains(&x) {
            return Some(view);
        }
        left = right + 1;
    }
    None
}

/// Lines of a list below its one-line head.
pub(crate) fn lines(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(1))
}

/// The line of a list, without its head, at a place.
pub(crate) fn line_at(area: Rect, at: Position) -> Option<usize> {
    (area.contains(at) && at.y > area.y).then(|| usize::from(at.y - area.y - 1))
}

/// The parts of the timeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    /// The heat strip: its cells, and the marker below them.
    pub(crate) strip: Rect,
    pub(crate) legend: Rect,
    pub(crate) list: Rect,
    pub(crate) phases: Rect,
}

pub(crate) fn timeline(body: Rect) -> Timeline {
    let [strip, legend, rest] =
        Layout::vertical([Constraint::Length(3), Constraint::Length(1), Constraint::Min(0)]).areas(body);
    let [list, phases] = if body.width >= 120 {
        Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(rest)
    } else {
        Layout::vertical([Constraint::Min(0), Constraint::Length(6.min(rest.height / 2))]).areas(rest)
    };
    Timeline { strip, legend, list, phases }
}

/// The columns of the heat strip.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strip {
    /// First row of the first column.
    pub(crate) first: usize,
    /// Rows a column.
    pub(crate) rows: usize,
    /// Columns a row, where a row has several.
    pub(crate) columns: usize,
}

impl Strip {
    /// The strip of so many rows around the cursor. Zoom 0 fits all of them in; each step halves.
    pub(crate) fn of(len: usize, cursor: usize, zoom: usize, width: u16) -> Strip {
        let width = usize::from(width.max(1));
        let fit = len.div_ceil(width).max(1);
        let rows = (fit >> zoom.min(60)).max(1);
        let columns = if fit == 1 || rows == 1 {
            let spare = width / len.max(1);
            let steps_of_zoom = zoom.saturating_sub(fit.ilog2() as usize);
            (spare.clamp(1, 4) << steps_of_zoom.min(3)).clamp(1, 16)
        } else {
            1
        };
        let visible = (width / columns).max(1);
        let groups = len.div_ceil(rows);
        let first = (cursor / rows).saturating_sub(visible / 2).min(groups.saturating_sub(visible)) * rows;
        Strip { first, rows, columns }
    }

    /// The column of a row.
    pub(crate) fn column_of(&self, row: usize) -> usize {
        row.saturating_sub(self.first) / self.rows * self.columns
    }

    /// The row at a column.
    pub(crate) fn row_at(&self, column: u16) -> usize {
        self.first + usize::from(column) / self.columns * self.rows
    }
}

/// The parts of the step screen; on narrow screens one pane at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) buffers: Option<Rect>,
    pub(crate) launches: Option<Rect>,
    pub(crate) detail: Rect,
}

pub(crate) fn step(body: Rect, pane: Pane) -> Step {
    let detail_height = if body.height >= 30 { 10 } else { 6 };
    let [lists, detail] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(detail_height)]).areas(body);
    if body.width >= BOTH_PANES {
        let [buffers, launches] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(1).areas(lists);
        return Step { buffers: Some(buffers), launches: Some(launches), detail };
    }
    match pane {
        Pane::Buffers => Step { buffers: Some(lists), launches: None, detail },
        Pane::Launches => Step { buffers: None, launches: Some(lists), detail },
    }
}

/// The list of evidence, and the line under the cursor in full.
pub(crate) fn evidence(body: Rect) -> (Rect, Rect) {
    let [list, detail] =
        Layout::vertical([Constraint::Min(2), Constraint::Length((body.height / 3).min(7))]).areas(body);
    (list, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strip_shows_the_cursor_at_every_zoom_and_length() {
        for len in [1, 2, 20, 79, 80, 81, 500, 2000, 100_000] {
            for zoom in 0..20 {
                for cursor in [0, len / 3, len - 1] {
                    let strip = Strip::of(len, cursor, zoom, 80);
                    let column = strip.column_of(cursor);
                    assert!(column < 80, "{len} {zoom} {cursor}: {strip:?}");
                    let row = strip.row_at(column as u16);
                    assert!(row <= cursor && cursor < row + strip.rows, "{len} {zoom} {cursor}: {strip:?}");
                }
            }
            let all = Strip::of(len, 0, 0, 80);
            assert!(all.column_of(len - 1) < 80, "{len}: {all:?}");
        }
    }
}
