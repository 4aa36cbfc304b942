//! Copies of the graphs that were instantiated: a program destroys its own, and a prefix needs one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::memory::addresses;
use crate::contents::{self, Contents};
use crate::driver::{self, CUgraph, CUgraphExec, CUgraphNode, SUCCESS};
use crate::session::memory::Memory;

/// Nodes that all copies may have together.
const MAX_NODES: usize = 1 << 18;

#[derive(Debug)]
struct Copy {
    /// None where the driver can't copy it, or there were too many.
    graph: Result<CUgraph, String>,
    nodes: usize,
    /// Addresses among its parameters that lay in memory at that moment.
    pointers: Vec<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Kept {
    copies: Mutex<HashMap<CUgraphExec, Copy>>,
}

/// A graph cut after a node, instantiated; both go with it.
pub struct Cut {
    graph: CUgraph,
    pub exec: CUgraphExec,
}

impl Drop for Cut {
    fn drop(&mut self) {
        // SAFETY: handles of ours; what was launched was waited for.
        unsafe {
            if self.exec != 0 {
                driver::cuGraphExecDestroy(self.exec);
            }
            driver::cuGraphDestroy(self.graph);
        }
    }
}

impl Kept {
    fn copies(&self) -> MutexGuard<'_, HashMap<CUgraphExec, Copy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `graph` was instantiated as `exec`. Its `pointers` are those of [`pointers`], `nodes` says how many nodes it has.
    pub fn keep(&self, exec: CUgraphExec, graph: CUgraph, nodes: usize, pointers: Vec<u64>) {
        self.forget(exec);
        let mut copies = self.copies();
        let kept: usize = copies.values().map(|copy| copy.nodes).sum();
        let graph = if kept + nodes > MAX_NODES {
            Err(format!("no copy of it was kept: {MAX_NODES} nodes are reached"))
        } else {
            clone(graph)
        };
        let nodes = if graph.is_ok() { nodes } else { 0 };
        copies.insert(exec, Copy { graph, nodes, pointers });
    }

    /// Nodes of `exec` were changed in place: the copy is of what it held before.
    pub fn changed(&self, exec: CUgraphExec, pointers: Vec<u64>) {
        self.forget(exec);
        let graph =
            Err("nodes of it were changed in place: only the whole graph can be launched again".to_owned());
        self.copies().insert(exec, Copy { graph, nodes: 0, pointers });
    }

    /// `exec` is about to be destroyed.
    pub fn forget(&self, exec: CUgraphExec) {
        if let Some(Copy { graph: Ok(graph), .. }) = self.copies().remove(&exec) {
            // SAFETY: a copy of ours.
            unsafe { driver::cuGraphDestroy(graph) };
        }
    }

    /// Whether all memory that a graph points to is there still: to launch it otherwise would end the program.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, exec: CUgraphExec, memory: &Memory) -> Result<(), String> {
        let copies = self.copies();
        let copy = copies.get(&exec).ok_or("the graph's instantiation was not seen")?;
        match copy.pointers.iter().find(|&&address| memory.at(address).is_none()) {
            Some(address) => {
                Err(format!("the graph points to {address:#x}, memory that was given back since"))
            }
            None => Ok(()),
        }
    }

    /// The nodes up to `last` of a graph, in the order of its recorded contents, instantiated.
    ///
    /// # Errors
    /// There is no such node, or the driver refuses.
    pub fn prefix(&self, exec: CUgraphExec, last: u32) -> Result<Cut, String> {
        let copies = self.copies();
        let copy = copies.get(&exec).ok_or("the graph's instantiation was not seen")?;
        let kept = copy.graph.clone()?;
        let mut cut = Cut { graph: clone(kept)?, exec: 0 };
        let handles = contents::handles_in_order(cut.graph);
        let Some(handles) = handles.filter(|_| contents::read(cut.graph) == contents::read(kept)) else {
            return Err("a graph with child graphs can't be cut, or its copy has another order".to_owned());
        };
        if last as usize >= handles.len() {
            return Err(format!("the graph has {} nodes, no number {last}", handles.len()));
        }
        for &node in handles[last as usize + 1..].iter().rev() {
            destroy(node)?;
        }
        // SAFETY: a place for the answer, and a graph of ours.
        let status = unsafe { driver::cuGraphInstantiateWithFlags(&mut cut.exec, cut.graph, 0) };
        if status != SUCCESS {
            cut.exec = 0;
            return Err(format!("the cut graph can't be instantiated: CUDA error {status}"));
        }
        Ok(cut)
    }
}

/// Addresses among a graph's parameters that lie in memory at this moment.
pub fn pointers(contents: &Contents, memory: &Memory) -> Vec<u64> {
    let mut pointers = addresses(contents);
    pointers.retain(|&address| memory.at(address).is_some());
    pointers.sort_unstable();
    pointers.dedup();
    pointers
}

fn destroy(node: CUgraphNode) -> Result<(), String> {
    // SAFETY: a node of a graph of ours.
    let status = unsafe { driver::cuGraphDestroyNode(node) };
    if status == SUCCESS { Ok(()) } else { Err(format!("a node can't be taken out: CUDA error {status}")) }
}

fn clone(graph: CUgraph) -> Result<CUgraph, String> {
    let mut copy = 0;
    // SAFETY: a place for the answer, and a graph that is alive.
    let status = unsafe { driver::cuGraphClone(&mut copy, graph) };
    if status == SUCCESS {
        Ok(copy)
    } else {
        Err(format!("the driver can't copy the graph: CUDA error {status}"))
    }
}
