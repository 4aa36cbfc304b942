//! Drawing never leaves the screen, whatever its size.

use super::*;

/// Keys that lead to each view, mode and overlay.
const PLACES: [&str; 21] = [
    "",
    "\n",
    "\n\t",
    "sss",
    "\n/codes_out\n\n",
    "\n/audio_logits\n\nv",
    "\n/audio_logits\n\nvv",
    "\n/audio_logits\n\nvvv",
    "\n/audio_logits\n\nvvvv",
    "4",
    "5",
    "6",
    "7",
    "\n/last_codes\no7",
    "E",
    "K",
    "\n/hidden\n\nH",
    "i",
    "?",
    ":wat",
    "/la",
];

/// Every size up to 100 by 30, the middle widths in steps of seven.
fn sizes() -> impl Iterator<Item = (u16, u16)> {
    let widths = (1..=100).filter(|width| !(24..76).contains(width) || width % 7 == 0);
    widths.flat_map(|width| (1..=30).map(move |height| (width, height)))
}

pub(super) fn draw_at_all_sizes(driver: &mut Driver) {
    for (width, height) in sizes() {
        driver.app.size = Size::new(width, height);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(&driver.app, frame)).unwrap();
    }
}

#[test]
fn every_place_is_drawn_at_every_size() {
    for keys in PLACES {
        let mut driver = Driver::new("graph-greedy", Some("graph-stale-codes"), (200, 60));
        driver.keys(keys);
        draw_at_all_sizes(&mut driver);
    }
}

#[test]
fn one_run_alone_is_drawn_at_every_size() {
    for keys in ["", "\n", "\n/codes_out\n\n", "?", ":"] {
        let mut driver = Driver::new("eager-greedy", None, (200, 60));
        driver.keys(keys);
        draw_at_all_sizes(&mut driver);
    }
}

/// A terminal that has become smaller, before that has been told.
#[test]
fn a_screen_smaller_than_was_told_is_drawn() {
    for keys in PLACES {
        let mut driver = Driver::new("graph-greedy", Some("graph-stale-codes"), (100, 30));
        driver.keys(keys);
        for (width, height) in [(1, 1), (100, 3), (3, 30), (40, 10), (100, 29), (99, 30)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(&driver.app, frame)).unwrap();
        }
    }
}
