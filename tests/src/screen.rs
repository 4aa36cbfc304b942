//! The binary in a pseudo-terminal: keys in, a screen out.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::binary;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary on a screen.
pub struct Screen {
    /// The terminal's end.
    pub master: Box<dyn MasterPty + Send>,
    /// The process.
    pub child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    /// What the process writes.
    pub output: Receiver<Vec<u8>>,
    /// What is on the screen.
    pub parser: vt100::Parser,
    /// Everything that was written, for what is not on a screen.
    pub raw: Vec<u8>,
}

/// A size in cells.
pub fn size(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

fn parser(rows: u16, cols: u16) -> vt100::Parser {
    let cell = |n: u16| n.try_into().expect("a size is not zero");
    vt100::Parser::new(cell(rows), cell(cols), 0)
}

impl Screen {
    /// Starts the binary on 24 lines of 80, without colours.
    ///
    /// # Panics
    /// Where there is no pseudo-terminal.
    pub fn start(folder: &Path, arguments: &[&str]) -> Screen {
        Self::with(folder, arguments, (24, 80), &[("NO_COLOR", "1")])
    }

    /// Starts the binary on so many lines and columns with these variables.
    ///
    /// # Panics
    /// Where there is no pseudo-terminal.
    pub fn with(
        folder: &Path,
        arguments: &[&str],
        (rows, cols): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Screen {
        let pair = native_pty_system().openpty(size(rows, cols)).expect("a pseudo-terminal");
        let mut command = CommandBuilder::new(binary());
        command.args(arguments);
        command.cwd(folder);
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        command.env_remove("COLORTERM");
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).expect("the process is there");
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().expect("the process is there");
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = reader.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = pair.master.take_writer().expect("the process is there");
        let parser = parser(rows, cols);
        Screen { master: pair.master, child, keyboard, output, parser, raw: Vec::new() }
    }

    /// Types.
    ///
    /// # Panics
    /// Where the process has gone.
    pub fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the process is there");
        self.keyboard.flush().expect("the process is there");
    }

    /// Takes in what is written within a time.
    pub fn take(&mut self, wait: Duration) {
        if let Ok(bytes) = self.output.recv_timeout(wait) {
            self.parser.process(&bytes);
            self.raw.extend(bytes);
        }
    }

    /// Waits until the screen meets a condition.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn until(&mut self, what: &str, meets: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !meets(&self.parser.screen().contents()) {
            let ended = self.child.try_wait().ok().flatten();
            let waiting = start.elapsed() < PATIENCE;
            assert!(waiting, "{what} ({ended:?}):\n{}", self.parser.screen().contents());
            self.take(Duration::from_millis(50));
        }
    }

    /// Waits until a text is on the screen.
    ///
    /// # Panics
    /// Where it never is.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Types until a text is on the screen: a key that comes in the same instant as a resize may be taken
    /// only with the next one.
    ///
    /// # Panics
    /// Where it never is.
    #[track_caller]
    pub fn insist(&mut self, keys: &str, text: &str) {
        let start = Instant::now();
        loop {
            self.keys(keys);
            let tried = Instant::now();
            while tried.elapsed() < Duration::from_secs(2) {
                self.take(Duration::from_millis(50));
                if self.parser.screen().contents().contains(text) {
                    return;
                }
            }
            assert!(start.elapsed() < PATIENCE, "{text}:\n{}", self.parser.screen().contents());
        }
    }

    /// Waits for the end; gives the exit status.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn ends(&mut self) -> u32 {
        let start = Instant::now();
        loop {
            self.take(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().expect("the process is there") {
                // What was written last may still be on its way.
                self.take(Duration::from_millis(200));
                return status.exit_code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.parser.screen().contents());
        }
    }

    /// The alternate screen was left, the mouse given back and the cursor shown, in the end.
    ///
    /// # Panics
    /// Where it was not.
    #[track_caller]
    pub fn is_restored(&self) {
        let last = |what: &[u8]| self.raw.windows(what.len()).rposition(|w| w == what);
        for (on, off) in
            [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?1000h", "\x1b[?1000l"), ("\x1b[?25l", "\x1b[?25h")]
        {
            let (on, off) = (last(on.as_bytes()), last(off.as_bytes()));
            assert!(on.is_some() && off > on, "the terminal is not as it was: {on:?} {off:?}");
        }
    }

    /// Changes the size.
    ///
    /// # Panics
    /// Where the terminal refuses.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.master.resize(size(rows, cols)).expect("a terminal can be resized");
        let cell = |n: u16| n.try_into().expect("a size is not zero");
        self.parser.screen_mut().set_size(cell(rows), cell(cols));
    }

    /// Sends a signal, as `kill` names it.
    ///
    /// # Panics
    /// Where the process has gone.
    pub fn signal(&self, signal: &str) {
        let id = self.child.process_id().expect("the process is there").to_string();
        assert!(
            std::process::Command::new("kill")
                .args([signal, &id])
                .status()
                .expect("the process is there")
                .success()
        );
    }
}
