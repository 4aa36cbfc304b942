//! The application driven without a terminal: keys in, jobs done at once, screens out.

mod foreign;
mod readme;
mod screens;
mod sizes;
mod story;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;
use twinstep_traces::Trace;

use super::draw::draw;
use super::state::App;
use super::theme::{Colours, Theme};
use super::update::update;
use super::work::Bench;
use super::{Effect, Event};
use crate::weights::Weights;

/// The UI on recorded traces, every job done before the next key.
struct Driver {
    app: App,
    bench: Bench,
    left: bool,
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/samples").join(format!("{name}.twin"))
}

impl Driver {
    fn new(a: &str, b: Option<&str>, size: (u16, u16)) -> Driver {
        let opened = |name: &str| Trace::open(&sample(name)).unwrap();
        // Where the repository lies must not be on a screen.
        let (path_a, path_b) = (format!("{a}.twin"), b.map_or(String::new(), |b| format!("{b}.twin")));
        Driver::of((&path_a, opened(a)), b.map(|b| (path_b.as_str(), opened(b))), size)
    }

    /// On traces under names.
    fn of(a: (&str, Trace), b: Option<(&str, Trace)>, size: (u16, u16)) -> Driver {
        let named = |(name, trace): (&str, Trace)| (PathBuf::from(name), trace);
        let bench = Bench::new(named(a), b.map(named), Weights::new(None));
        let theme = Theme::new(Colours::None);
        let app = App::new(bench.runs().unwrap(), Size::new(size.0, size.1), theme);
        let mut driver = Driver { app, bench, left: false };
        driver.event(Event::Start);
        driver
    }

    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in update(&mut self.app, event) {
                match effect {
                    Effect::Run { id, job } => {
                        let kind = job.kind();
                        let result = Box::new(self.bench.run(job, &AtomicBool::new(false)));
                        events.push(Event::Done { id, kind, result });
                    }
                    Effect::Cancel(_) => {}
                    Effect::Quit => self.left = true,
                }
            }
        }
    }

    fn code(&mut self, code: KeyCode) {
        self.event(Event::Input(Input::Key(KeyEvent::new(code, KeyModifiers::NONE))));
    }

    /// Types characters; `\n` is Enter, `\t` Tab, `\x1b` Esc.
    fn keys(&mut self, keys: &str) {
        for c in keys.chars() {
            self.code(match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\x1b' => KeyCode::Esc,
                c => KeyCode::Char(c),
            });
        }
    }

    fn screen(&self) -> String {
        let mut terminal =
            Terminal::new(TestBackend::new(self.app.size.width, self.app.size.height)).unwrap();
        terminal.draw(|frame| draw(&self.app, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for y in 0..buffer.area.height {
            let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let screen = self.screen();
        assert!(screen.contains(text), "`{text}` is not on the screen:\n{screen}");
    }
}
