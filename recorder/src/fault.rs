//! Mistakes that real engines make, planted where real engines make them.

use crate::error::RecordError;
use crate::options::Mode;

/// A mistake to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The captured path misses the host's copy of prefill's codes into `last_codes`, so step 2 reads
    /// the BOC seed.
    StaleCodes,
    /// A lazily captured norm+MLP graph hands out its outputs on the capturing step without a launch.
    UnlaunchedCapture,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 2] = [Fault::StaleCodes, Fault::UnlaunchedCapture];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::StaleCodes => "stale-codes",
            Fault::UnlaunchedCapture => "unlaunched-capture",
        }
    }

    /// The mode that it shows in.
    pub fn mode(self) -> Mode {
        match self {
            Fault::StaleCodes => Mode::Graph,
            Fault::UnlaunchedCapture => Mode::Piecewise,
        }
    }

    /// Checks that the fault can show.
    ///
    /// # Errors
    /// [`RecordError::FaultMode`].
    pub(crate) fn check(self, mode: Mode) -> Result<(), RecordError> {
        if self.mode() == mode {
            return Ok(());
        }
        Err(RecordError::FaultMode { fault: self.name(), mode: self.mode().name() })
    }
}
