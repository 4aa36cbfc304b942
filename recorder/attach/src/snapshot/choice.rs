//! Which snapshotter a process uses: the snapshot kernel, else whole copies.

use std::sync::{Arc, OnceLock};

use super::hashed::Hashed;
use super::plain::Plain;
use super::{Completed, Snapshotter, Ticket, Watched};
use crate::driver::CUstream;

/// Chosen at the first snapshot: whether the driver takes the snapshot kernel is not known before.
pub struct Choice {
    hashed: Hashed,
    plain: Plain,
    /// Why the kernel is not used, where it is not.
    chosen: OnceLock<Option<String>>,
}

impl Choice {
    /// Nothing is loaded or allocated until the first snapshot.
    pub fn new() -> Self {
        Choice { hashed: Hashed::new(), plain: Plain::default(), chosen: OnceLock::new() }
    }

    fn now(&self) -> &dyn Snapshotter {
        match self.chosen.get() {
            Some(Some(_)) => &self.plain,
            _ => &self.hashed,
        }
    }
}

impl Snapshotter for Choice {
    fn enqueue(&self, stream: CUstream, watched: &Arc<[Watched]>, quiet: bool) -> Result<Ticket, String> {
        self.chosen.get_or_init(|| self.hashed.runs().err());
        self.now().enqueue(stream, watched, quiet)
    }

    fn poll(&self, completed: &mut Vec<Completed>) {
        self.now().poll(completed);
    }

    fn settle(&self, address: u64, bytes: u64) -> bool {
        self.now().settle(address, bytes)
    }
}
