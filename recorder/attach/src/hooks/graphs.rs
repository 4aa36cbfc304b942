//! Graphs: instantiated, launched, destroyed.

use std::ffi::{c_char, c_void};
use std::sync::atomic::Ordering;

use super::{hooks, legacy, per_thread};
use crate::attached::{Attached, driver_did};
use crate::contents::{self, Contents};
use crate::driver::{self, CUgraph, CUgraphExec, CUgraphNode, CUresult, CUstream, SUCCESS};
use crate::events::Event;
use crate::reexecute::kept::pointers;
use crate::session::Planned;
use crate::snapshot::Ticket;

/// Between the two halves of a launch's wrapper.
struct Launching {
    planned: Planned,
    before: Option<Ticket>,
}

fn before_launch(attached: &Attached, exec: CUgraphExec, stream: CUstream) -> Option<Launching> {
    if attached.capturing(stream) {
        // It becomes a node of the graph under capture and runs with that.
        return None;
    }
    attached.say_unrecorded();
    let (planned, pointers) = {
        let mut session = attached.session();
        if !session.recording() {
            return None;
        }
        let planned = session.plan_launch(exec, stream)?;
        let pointers = planned.changed.as_ref().map(|contents| pointers(contents, &session.memory));
        attached.watching.store(!session.watches.is_empty(), Ordering::Relaxed);
        (planned, pointers)
    };
    if let Some(pointers) = pointers {
        attached.kept.changed(exec, pointers);
    }
    attached.note_device();
    Some(Launching { planned, before: attached.snapshot(stream) })
}

fn after_launch(attached: &Attached, launching: Launching, stream: CUstream, result: CUresult) {
    let Launching { planned, before } = launching;
    let after = if result == SUCCESS { attached.snapshot(stream) } else { None };
    let Planned { graph, first, stream, .. } = planned;
    attached.session().push(match result {
        SUCCESS => Event::GraphLaunch { graph, first, stream, before, after },
        error => Event::Mark(format!("the launch of graph {} failed: CUDA error {error}", graph.0)),
    });
}

/// A launch with our part around it.
fn launch(exec: CUgraphExec, stream: CUstream, real: impl FnOnce() -> CUresult) -> CUresult {
    let launching = driver_did(|attached| before_launch(attached, exec, stream)).flatten();
    let result = real();
    driver_did(|attached| attached.activity.call(stream));
    if let Some(launching) = launching {
        driver_did(|attached| after_launch(attached, launching, stream, result));
    }
    result
}

/// Keeps a copy of the graph for prefixes of it.
fn keep(attached: &Attached, exec: CUgraphExec, graph: CUgraph, contents: &Contents) {
    let pointers = pointers(contents, &attached.session().memory);
    attached.kept.keep(exec, graph, contents.nodes.len(), pointers);
}

/// A graph was instantiated.
unsafe fn instantiated(exec: *mut CUgraphExec, graph: CUgraph, result: CUresult) {
    if result != SUCCESS || exec.is_null() {
        return;
    }
    driver_did(|attached| {
        attached.note_device();
        let (contents, places) = contents::read_with_places(graph);
        // SAFETY: the driver has just written there.
        let exec = unsafe { *exec };
        keep(attached, exec, graph, &contents);
        attached.change(|session| session.instantiated(exec, contents, places));
    });
}

hooks! {
    fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream) {
        // SAFETY: the program's own arguments.
        launch(exec, legacy(stream), || unsafe { driver::cuGraphLaunch(exec, stream) })
    }

    fn cuGraphLaunch_ptsz(exec: CUgraphExec, stream: CUstream) {
        // SAFETY: the program's own arguments.
        launch(exec, per_thread(stream), || unsafe { driver::cuGraphLaunch_ptsz(exec, stream) })
    }

    fn cuGraphInstantiate(exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char,
        bytes: usize) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGraphInstantiate(exec, graph, node, log, bytes);
            instantiated(exec, graph, result);
            result
        }
    }

    fn cuGraphInstantiate_v2(exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char,
        bytes: usize) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGraphInstantiate_v2(exec, graph, node, log, bytes);
            instantiated(exec, graph, result);
            result
        }
    }

    fn cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: u64) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGraphInstantiateWithFlags(exec, graph, flags);
            instantiated(exec, graph, result);
            result
        }
    }

    fn cuGraphInstantiateWithParams(exec: *mut CUgraphExec, graph: CUgraph, params: *mut c_void) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGraphInstantiateWithParams(exec, graph, params);
            instantiated(exec, graph, result);
            result
        }
    }

    fn cuGraphInstantiateWithParams_ptsz(exec: *mut CUgraphExec, graph: CUgraph, params: *mut c_void) {
        // SAFETY: the program's own arguments.
        unsafe {
            let result = driver::cuGraphInstantiateWithParams_ptsz(exec, graph, params);
            instantiated(exec, graph, result);
            result
        }
    }

    fn cuGraphExecDestroy(exec: CUgraphExec) {
        // Before the real call: once it has returned, another thread may be given the same address.
        driver_did(|attached| {
            attached.kept.forget(exec);
            attached.session().destroyed(exec);
        });
        // SAFETY: the program's own arguments.
        unsafe { driver::cuGraphExecDestroy(exec) }
    }
}
