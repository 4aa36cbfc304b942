//! Which memory is watched under which name: by the program, by the watch file, by itself.

use std::collections::HashSet;

use twinstep_traces::{BufferRecord, DType, GraphId, Role};

use super::{CHUNK_BYTES, Session, memory};
use crate::contents::{Contents, Node};
use crate::driver::CUfunction;
use crate::events::Event;
use crate::snapshot::Watched;
use crate::watch::{Place, StepRule, glob};

/// Bytes that buffers named by themselves may have together.
pub const AUTO_TOTAL_BYTES: u64 = 64 << 20;

/// Bytes of one buffer that is named by itself, where nobody says.
const AUTO_BYTES: u64 = 65536;

impl Session {
    /// A name for memory. The same again is nothing new; anything else is a new generation.
    ///
    /// # Errors
    /// One line.
    pub fn watch(
        &mut self,
        name: &str,
        address: u64,
        dtype: DType,
        shape: &[u64],
        role: Role,
    ) -> Result<(), String> {
        let bytes = shape.iter().try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
        let bytes = bytes.filter(|&b| b > 0 && address.checked_add(b).is_some());
        let bytes = bytes.ok_or_else(|| format!("`{name}` of shape {shape:?} has no bytes, or too many"))?;
        if address == 0 {
            return Err(format!("`{name}` has no address"));
        }
        if self.watches.same(name, address, dtype, shape, role) {
            return Ok(());
        }
        self.named = true;
        // A name that somebody gave takes the place of one that was made up.
        for (buffer, bytes) in self.watches.drop_made_up(address, bytes) {
            self.auto_total = self.auto_total.saturating_sub(bytes);
            let _ = buffer;
        }
        self.add_watch(name, address, bytes, dtype, shape.to_vec(), role, false);
        Ok(())
    }

    pub(super) fn add_watch(
        &mut self,
        name: &str,
        address: u64,
        bytes: u64,
        dtype: DType,
        shape: Vec<u64>,
        role: Role,
        made_up: bool,
    ) {
        let generation = self.watches.next_generation(name);
        let buffer = self.declare(BufferRecord {
            name: name.to_owned(),
            generation,
            dtype,
            shape: shape.clone(),
            role,
            bytes,
            chunk_bytes: CHUNK_BYTES,
            address: Some(address),
            contents: None,
        });
        let place = self.memory.place(address);
        // What is not known to be the program's alone counts as anybody's.
        let of_others = !matches!(place, Some(memory::Place::Device(_)));
        let watched = Watched { buffer, address, bytes, chunk_bytes: CHUNK_BYTES, of_others };
        self.watches.add(name, watched, place, dtype, shape, role, made_up);
    }

    /// Watches of the file that give an address, once there is memory.
    pub(super) fn watch_addresses(&mut self) {
        if self.found.iter().all(|&found| found) {
            return;
        }
        let settings = self.settings.clone();
        for (i, watch) in settings.watch.watches.iter().enumerate() {
            let Place::Address(address) = watch.place else { continue };
            let bytes = watch.shape.iter().product::<u64>() * watch.dtype.size();
            if !self.found[i] && self.memory.holds(address, bytes) {
                self.found[i] = true;
                if let Err(trouble) = self.watch(&watch.name, address, watch.dtype, &watch.shape, watch.role)
                {
                    self.not_watched(trouble);
                }
            }
        }
    }

    /// A watch of the file that came to nothing.
    fn not_watched(&mut self, trouble: String) {
        crate::process::report(&self.settings, "trouble", &trouble);
        self.push(Event::Mark(trouble));
    }

    /// Watches of the file that give a kernel's parameter.
    pub fn watch_parameters(&mut self, kernel: &str, parameters: &[Vec<u8>]) {
        if self.found.iter().all(|&found| found) {
            return;
        }
        let settings = self.settings.clone();
        for (i, watch) in settings.watch.watches.iter().enumerate() {
            let Place::Parameter { kernel: pattern, parameter, byte } = &watch.place else { continue };
            if self.found[i] || !glob(pattern, kernel) {
                continue;
            }
            self.found[i] = true;
            let value = parameters.get(*parameter).and_then(|bytes| pointer(bytes, *byte));
            let bytes = watch.shape.iter().product::<u64>() * watch.dtype.size();
            let named = match value {
                Some(address) if self.memory.holds(address, bytes) => {
                    self.watch(&watch.name, address, watch.dtype, &watch.shape, watch.role)
                }
                Some(address) => Err(format!(
                    "`{}` is not watched: parameter {parameter} of {kernel} is {address:#x}, where no {bytes} bytes \
                     are allocated",
                    watch.name
                )),
                None => Err(format!(
                    "`{}` is not watched: {kernel} has no pointer at parameter {parameter}, byte {byte}",
                    watch.name
                )),
            };
            if let Err(trouble) = named {
                self.not_watched(trouble);
            }
        }
    }

    /// Whether the watch file waits for a kernel's parameter, and this kernel was not looked at yet.
    pub fn waits_for_kernel(&mut self, function: CUfunction) -> bool {
        let watches = self.settings.watch.watches.iter().zip(&self.found);
        let mut waits =
            watches.filter(|(watch, found)| !**found && matches!(watch.place, Place::Parameter { .. }));
        waits.next().is_some() && self.looked_at.insert(function)
    }

    /// What the file asks for and was never seen, one line each.
    pub fn not_found(&self) -> Vec<String> {
        let watches = self.settings.watch.watches.iter().zip(&self.found);
        let names = watches.filter(|(_, found)| !**found).map(|(watch, _)| &watch.name);
        let mut lines: Vec<String> =
            names.map(|name| format!("`{name}` of the watch file was never found")).collect();
        if let (StepRule::Launch(pattern), false) = (&self.settings.watch.step, self.rule_met) {
            lines.push(format!("step = \"launch:{pattern}\" of the watch file fits no graph's kernels"));
        }
        lines
    }

    /// Names memory that a graph's nodes take as pointers, unless somebody named buffers. Where the graph held
    /// `before`, of the nodes that differ.
    pub(super) fn watch_by_itself(&mut self, graph: GraphId, contents: &Contents, before: Option<&Contents>) {
        let each =
            match (self.settings.watch.auto_bytes, self.named || !self.settings.watch.watches.is_empty()) {
                (Some(bytes), _) => bytes,
                (None, true) => 0,
                (None, false) => AUTO_BYTES,
            };
        if each == 0 {
            return;
        }
        let same =
            |node: usize| before.is_some_and(|before| before.nodes.get(node) == contents.nodes.get(node));
        let mut pointers = Vec::new();
        for (node, kernel) in contents.nodes.iter().enumerate() {
            let Node::Kernel(kernel) = kernel else { continue };
            for (parameter, bytes) in kernel.parameters.iter().enumerate() {
                for byte in (0..bytes.len().saturating_sub(7)).step_by(8) {
                    let Some(address) = pointer(bytes, byte) else { continue };
                    if self.memory.at(address).is_some() {
                        pointers.push((address, node, parameter, byte));
                    }
                }
            }
        }
        // An engine may change its graph in every step: mostly there is nothing new in it.
        if pointers.iter().all(|&(address, node, ..)| same(node) || self.watches.covers(address)) {
            return;
        }
        let mut starts: Vec<u64> = pointers.iter().map(|&(address, ..)| address).collect();
        starts.extend(self.watches.live().map(|watched| watched.address));
        starts.sort_unstable();
        starts.dedup();
        let mut seen = HashSet::new();
        for (address, node, parameter, byte) in pointers {
            if !seen.insert(address) || same(node) || self.watches.covers(address) {
                continue;
            }
            let Some((start, bytes, _)) = self.memory.at(address) else { continue };
            let next = starts.get(starts.partition_point(|&s| s <= address)).copied().unwrap_or(u64::MAX);
            let end = (start + bytes).min(next).min(address.saturating_add(each));
            let bytes = end - address;
            if self.auto_total + bytes > AUTO_TOTAL_BYTES {
                if !std::mem::replace(&mut self.auto_full, true) {
                    self.push(Event::Mark(format!(
                        "not all pointers of graphs are watched by themselves: {} MiB are reached; name buffers, or \
                         set auto_bytes in a watch file",
                        AUTO_TOTAL_BYTES >> 20
                    )));
                }
                return;
            }
            self.auto_total += bytes;
            let g = graph.0;
            let name = match byte {
                0 => format!("g{g}.n{node}.p{parameter}"),
                byte => format!("g{g}.n{node}.p{parameter}.{byte}"),
            };
            self.add_watch(&name, address, bytes, DType::U8, vec![bytes], Role::State, true);
        }
    }

    /// No snapshot covers the name any more.
    pub fn unwatch(&mut self, name: &str) -> bool {
        self.watches.remove(name).is_some()
    }

    /// The engine gave the memory under a name back.
    pub fn freed(&mut self, name: &str) -> bool {
        let Some(buffer) = self.watches.remove(name) else { return false };
        self.push_always(Event::Free(buffer));
        true
    }
}

/// The eight bytes at `byte` as an address.
fn pointer(bytes: &[u8], byte: usize) -> Option<u64> {
    let eight = bytes.get(byte..byte.checked_add(8)?)?;
    Some(u64::from_le_bytes(eight.try_into().ok()?))
}
