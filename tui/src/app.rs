//! The terminal UI: two runs side by side, looked into, patched and executed again.
//!
//! State is plain data ([`state::App`]), changed by one function ([`update::update`]) and drawn by one
//! function a view ([`draw`]). Key bindings are one table ([`keys`]). Whatever reads a file or computes is a
//! job ([`work`]) on a thread of its own ([`worker`]), so a key press is answered at once.

mod actions;
mod areas;
mod axes;
mod command;
mod draw;
mod findings;
mod fuzzy;
mod keys;
mod needs;
mod patches;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod update;
mod values;
mod work;
mod worker;

use ratatui::crossterm::event::Event as Input;

pub(crate) use terminal::run;
pub(crate) use work::Bench;

/// What happens to the application.
#[derive(Debug)]
pub(crate) enum Event {
    /// It begins.
    Start,
    /// A key, the mouse, a resize.
    Input(Input),
    /// Time passes.
    Tick,
    /// A job is done.
    Done { id: u64, kind: work::Kind, result: Box<Result<work::Output, String>> },
    /// The system asks it to end.
    Signal(i32),
}

/// What the application asks for.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Do a job.
    Run { id: u64, job: work::Job },
    /// Stop a job where that is possible.
    Cancel(work::Kind),
    /// End.
    Quit,
}
