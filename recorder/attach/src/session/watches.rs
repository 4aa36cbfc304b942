//! Named memory that snapshots cover.

use std::collections::HashMap;
use std::sync::Arc;

use twinstep_traces::{BufferId, DType, Role};

use super::memory::Place;
use crate::snapshot::Watched;

#[derive(Debug)]
struct Live {
    name: String,
    watched: Watched,
    place: Option<Place>,
    dtype: DType,
    shape: Vec<u64>,
    role: Role,
    made_up: bool,
}

/// The present generation of each name.
#[derive(Debug, Default)]
pub struct Watches {
    live: Vec<Live>,
    generations: HashMap<String, u32>,
    /// What snapshots on each device cover; made anew at the next question after a change.
    sets: HashMap<i32, Arc<[Watched]>>,
}

impl Watches {
    /// Whether a name already means just this.
    pub fn same(&self, name: &str, address: u64, dtype: DType, shape: &[u64], role: Role) -> bool {
        self.live.iter().any(|l| {
            l.name == name
                && l.watched.address == address
                && l.dtype == dtype
                && l.shape == shape
                && l.role == role
        })
    }

    /// Counts a new generation of a name.
    pub fn next_generation(&mut self, name: &str) -> u32 {
        let next = self.generations.entry(name.to_owned()).or_insert(0);
        *next += 1;
        *next - 1
    }

    /// Adds a generation; it takes the place of the one before.
    pub fn add(
        &mut self,
        name: &str,
        watched: Watched,
        place: Option<Place>,
        dtype: DType,
        shape: Vec<u64>,
        role: Role,
        made_up: bool,
    ) {
        self.remove(name);
        self.live.push(Live { name: name.to_owned(), watched, place, dtype, shape, role, made_up });
        self.sets.clear();
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) -> Option<BufferId> {
        let at = self.live.iter().position(|l| l.name == name)?;
        self.sets.clear();
        Some(self.live.remove(at).watched.buffer)
    }

    /// Takes out whatever overlaps a range.
    pub fn freed(&mut self, address: u64, bytes: u64) -> Vec<BufferId> {
        let end = address.saturating_add(bytes);
        let gone = |l: &Live| l.watched.address < end && address < l.watched.address + l.watched.bytes;
        let buffers: Vec<BufferId> = self.live.iter().filter(|l| gone(l)).map(|l| l.watched.buffer).collect();
        if !buffers.is_empty() {
            self.live.retain(|l| !gone(l));
            self.sets.clear();
        }
        buffers
    }

    /// Others write a range from here on: what lies there is looked at whole.
    pub fn shared(&mut self, address: u64, bytes: u64) {
        let end = address.saturating_add(bytes);
        let inside = |l: &&mut Live| l.watched.address < end && address < l.watched.address + l.watched.bytes;
        for live in self.live.iter_mut().filter(inside) {
            live.watched.of_others = true;
        }
        self.sets.clear();
    }

    /// Takes out made-up names that begin in a range, with their sizes.
    pub fn drop_made_up(&mut self, address: u64, bytes: u64) -> Vec<(BufferId, u64)> {
        let gone = |l: &Live| l.made_up && (address..address + bytes).contains(&l.watched.address);
        let dropped: Vec<(BufferId, u64)> =
            self.live.iter().filter(|l| gone(l)).map(|l| (l.watched.buffer, l.watched.bytes)).collect();
        if !dropped.is_empty() {
            self.live.retain(|l| !gone(l));
            self.sets.clear();
        }
        dropped
    }

    /// Whether some watched buffer holds an address.
    pub fn covers(&self, address: u64) -> bool {
        let inside = |w: &Watched| (w.address..w.address + w.bytes).contains(&address);
        self.live.iter().any(|l| inside(&l.watched))
    }

    /// Whether some watched buffer lies in a range.
    pub fn overlap(&self, address: u64, bytes: u64) -> bool {
        let end = address.saturating_add(bytes);
        self.live.iter().any(|l| l.watched.address < end && address < l.watched.address + l.watched.bytes)
    }

    /// What is watched.
    pub fn live(&self) -> impl Iterator<Item = &Watched> {
        self.live.iter().map(|l| &l.watched)
    }

    /// Names and their present generations.
    pub fn names(&self) -> impl Iterator<Item = (&str, BufferId)> {
        self.live.iter().map(|l| (l.name.as_str(), l.watched.buffer))
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// What snapshots on a device cover: what is there. Another device's memory is not reached from it, unless the
    /// program has seen to that.
    pub fn set(&mut self, device: i32) -> Arc<[Watched]> {
        let live = &self.live;
        let reached = |l: &&Live| match l.place {
            Some(Place::Device(other) | Place::Shared(other)) => other == device,
            Some(Place::Host) | None => true,
        };
        let set = self.sets.entry(device);
        set.or_insert_with(|| live.iter().filter(reached).map(|l| l.watched).collect()).clone()
    }
}
