//! The terminal: taken, given back whatever happens, and the loop between.

use std::io::{self, Stdout, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, DisableMouseCapture, EnableMouseCapture, Event as Input};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Size;
use ratatui::{Terminal, TerminalOptions, Viewport};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::draw::draw;
use super::state::App;
use super::theme::{Colours, Theme};
use super::update::{TICK, update};
use super::work::Bench;
use super::worker::Workers;
use super::{Effect, Event};

/// How the UI ended.
pub(crate) struct Ended {
    /// Command lines that were exported.
    pub(crate) exports: Vec<String>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
}

/// Runs the UI until it is left.
///
/// # Errors
/// Where the terminal cannot be used; a damaged trace, in words.
pub(crate) fn run(bench: Bench) -> io::Result<Ended> {
    let runs = bench.runs().map_err(io::Error::other)?;
    let bench = Arc::new(bench);
    let (events, inbox) = mpsc::channel();
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let guard = Guard::take()?;
    let mut terminal = Terminal::with_options(
        CrosstermBackend::new(io::stdout()),
        TerminalOptions { viewport: Viewport::Fullscreen },
    )?;
    let size = terminal.size()?;
    let theme = Theme::new(Colours::from_environment());
    let app = App::new(runs, Size::new(size.width, size.height), theme);
    let workers = Workers::start(&bench, &events);
    listen(&events, signals);
    let ended = turn(&mut terminal, app, workers, &inbox);
    drop(guard);
    ended
}

/// Raw mode, the alternate screen and the mouse, for as long as it lives; and a panic's message goes to a
/// terminal that is in order again.
struct Guard;

impl Guard {
    fn take() -> io::Result<Guard> {
        let default = std::panic::take_hook();
        let main = thread::current().id();
        std::panic::set_hook(Box::new(move |panic| {
            // A worker's panic becomes an answer on the screen; the screen stays.
            if thread::current().id() == main {
                give_back();
                default(panic);
            }
        }));
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture)?;
        Ok(Guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
        // The hook cannot be changed while a panic passes through here.
        if !thread::panicking() {
            let _ = std::panic::take_hook();
        }
    }
}

/// Best effort: there is nobody left to tell.
fn give_back() {
    let _ = disable_raw_mode();
    let _ =
        execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, ratatui::crossterm::cursor::Show);
    let _ = io::stdout().flush();
}

/// Threads that turn what comes from outside into events.
fn listen(events: &Sender<Event>, mut signals: Signals) {
    let sender = events.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    let sender = events.clone();
    thread::spawn(move || {
        while let Ok(input) = event::read() {
            if sender.send(Event::Input(input)).is_err() {
                return;
            }
        }
        // The terminal is gone.
        let _ = sender.send(Event::Signal(SIGHUP));
    });
}

fn turn(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    mut app: App,
    mut workers: Workers,
    inbox: &Receiver<Event>,
) -> io::Result<Ended> {
    let mut next_tick = Instant::now() + TICK;
    let mut event = Some(Event::Start);
    loop {
        let mut drawn = false;
        // Everything that has arrived is taken in before a frame is drawn.
        while let Some(now) = event.take().or_else(|| inbox.try_recv().ok()) {
            let signal = if let Event::Signal(signal) = now { Some(signal) } else { None };
            if let Event::Input(Input::Resize(_, _)) = now {
                terminal.autoresize()?;
            }
            // Ticks change nothing on a screen without a spinner.
            drawn |= !matches!(now, Event::Tick) || !app.running.is_empty();
            for effect in update(&mut app, now) {
                match effect {
                    Effect::Run { id, job } => workers.send(id, job),
                    Effect::Cancel(kind) => workers.cancel(kind),
                    Effect::Quit => return Ok(Ended { exports: app.exports, signal }),
                }
            }
        }
        if drawn {
            terminal.draw(|frame| {
                let area = frame.area();
                app.size = Size::new(area.width, area.height);
                draw(&app, frame);
            })?;
        }
        event = match inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => {
                next_tick = Instant::now() + TICK;
                Some(Event::Tick)
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Ended { exports: app.exports, signal: None }),
        };
    }
}
