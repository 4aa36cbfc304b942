//! Moving about in a buffer's elements.

use ratatui::layout::{Position, Rect};

use super::state::{App, Mode, top};

/// Lines above the first element of every mode.
pub(crate) const HEAD: u16 = 4;
/// Bytes of a hex line.
pub(crate) const HEX_BYTES: u64 = 16;

/// How many elements lie on one line of a mode.
pub(crate) fn stride(app: &App) -> u64 {
    let size = app.chosen().and_then(|b| b.record()).map_or(1, |r| r.dtype.size());
    match app.values.mode {
        Mode::List | Mode::Figures => 1,
        Mode::Grid | Mode::Top => app.columns(),
        Mode::Hex => HEX_BYTES / size,
    }
}

/// Moves the cursor by lines and elements.
pub(crate) fn move_by(app: &mut App, down: i64, right: i64) {
    let stride = stride(app) as i64;
    let last = app.elements().saturating_sub(1).min(i64::MAX as u64) as i64;
    let by = down.saturating_mul(stride).saturating_add(right);
    app.values.cursor = (app.values.cursor as i64).saturating_add(by).clamp(0, last) as u64;
}

/// Takes the cursor to the line of a click.
pub(crate) fn click(app: &mut App, body: Rect, at: Position) {
    let Some(line) = at.y.checked_sub(body.y + HEAD) else { return };
    if matches!(app.values.mode, Mode::Figures | Mode::Top) {
        return;
    }
    let stride = stride(app);
    let height = usize::from(body.height.saturating_sub(HEAD));
    let lines = app.elements().div_ceil(stride) as usize;
    let first = top((app.values.cursor / stride) as usize, lines, height);
    let row = (first + usize::from(line)) as u64;
    let column = app.values.cursor % stride;
    app.values.cursor = (row * stride + column).min(app.elements().saturating_sub(1));
}
