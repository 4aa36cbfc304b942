//! Progress on a terminal; nothing in a pipe.

use indicatif::{ProgressBar, ProgressDrawTarget};

/// A counter that is shown where standard error is a terminal.
pub(crate) struct Bar(ProgressBar);

/// A counter of `what`.
pub(crate) fn bar(what: &'static str) -> Bar {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    Bar(bar)
}

impl Bar {
    pub(crate) fn tick(&self, position: u64) {
        self.0.set_position(position);
        self.0.set_message(format!("step {position}"));
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
