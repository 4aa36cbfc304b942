//! Recording that begins later: at a request, or at a signal.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// When recording begins. Memory, captures and their contents are followed from the start in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOn {
    /// At once.
    Now,
    /// When the n-th request begins.
    Request(u32),
    /// At SIGUSR2.
    Signal,
}

impl FromStr for StartOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("request:").map(str::parse::<u32>);
        match (text, number) {
            ("signal", _) => Ok(StartOn::Signal),
            (_, Some(Ok(n))) if n > 0 => Ok(StartOn::Request(n)),
            _ => Err(format!("`{text}` is no start: give request:N with N from 1, or signal (SIGUSR2)")),
        }
    }
}

static SIGNALLED: AtomicBool = AtomicBool::new(false);
/// What handled SIGUSR2 before: an address, or 0 and 1 for the default and ignoring.
static EARLIER: AtomicUsize = AtomicUsize::new(0);

/// Whether SIGUSR2 came.
pub fn signalled() -> bool {
    SIGNALLED.load(Ordering::Relaxed)
}

/// Listens to SIGUSR2. A handler that the program had is called as well; one that it installs later replaces ours.
pub fn listen() {
    // SAFETY: the action is all zeros but for what is set; the handler only touches atomics.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut earlier: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(libc::SIGUSR2, &action, &mut earlier) == 0
            && earlier.sa_flags & libc::SA_SIGINFO == 0
        {
            EARLIER.store(earlier.sa_sigaction, Ordering::Relaxed);
        }
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    SIGNALLED.store(true, Ordering::Relaxed);
    let earlier = EARLIER.load(Ordering::Relaxed);
    if earlier != libc::SIG_DFL && earlier != libc::SIG_IGN {
        // SAFETY: sigaction gave this address as a handler without siginfo, which takes the signal's number.
        unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(earlier)(signal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_and_others_refused() {
        assert_eq!("request:3".parse(), Ok(StartOn::Request(3)));
        assert_eq!("signal".parse(), Ok(StartOn::Signal));
        for wrong in ["request:0", "request:", "request:x", "now", ""] {
            assert!(wrong.parse::<StartOn>().unwrap_err().contains("request:N"), "{wrong}");
        }
    }
}
