//! Nodes of instantiated graphs, changed in place.

use std::ffi::{c_int, c_uint, c_void};

use super::{hooks, real};
use crate::attached::{Attached, driver_did};
use crate::contents::{self, Node};
use crate::driver::{
    self, CUcontext, CUgraph, CUgraphExec, CUgraphNode, CUresult, KernelNodeParams, Memcpy3D,
    MemsetNodeParams, SUCCESS,
};

/// All nodes were given the parameters of another graph's, unless the driver refused.
fn updated(exec: CUgraphExec, graph: CUgraph, result: CUresult) -> CUresult {
    changed(exec, result, |attached| {
        let contents = contents::read(graph);
        attached.session().updated(exec, contents);
    })
}

/// Something of a graph was changed whose instantiation was seen.
fn changed(exec: CUgraphExec, result: CUresult, change: impl FnOnce(&Attached)) -> CUresult {
    if result == SUCCESS {
        driver_did(|attached| {
            if attached.session().knows(exec) {
                change(attached);
            }
        });
    }
    result
}

/// One node was given other parameters, in words of ours.
fn set(
    exec: CUgraphExec,
    node: CUgraphNode,
    result: CUresult,
    read: impl FnOnce(&mut Vec<String>) -> Option<Vec<Node>>,
) -> CUresult {
    changed(exec, result, |attached| {
        let mut troubles = Vec::new();
        if let Some(nodes) = read(&mut troubles) {
            attached.session().node_set(exec, node, nodes, troubles);
        }
    })
}

/// What a kernel node was given.
///
/// # Safety
/// The driver has just read what the pointers lead to.
unsafe fn kernel(mut p: KernelNodeParams, troubles: &mut Vec<String>) -> Option<Vec<Node>> {
    // The run-time library may pass a library's kernel as a function.
    if p.kern == 0 && !contents::is_function(p.func) {
        (p.func, p.kern) = (0, p.func);
    }
    // SAFETY: as the caller says.
    Some(vec![Node::Kernel(unsafe { contents::kernel_node(&p, troubles) })])
}

/// `CUDA_KERNEL_NODE_PARAMS_v1`, which is the beginning of the second version.
const KERNEL_V1: usize = 56;

/// As [`kernel`], from a structure that has `bytes` bytes of [`KernelNodeParams`].
///
/// # Safety
/// As there; it is null or has that many bytes.
unsafe fn kernel_at(params: *const c_void, bytes: usize, troubles: &mut Vec<String>) -> Option<Vec<Node>> {
    if params.is_null() {
        return None;
    }
    // SAFETY: plain numbers and pointers, for which zeros are valid; as the caller says.
    unsafe {
        let mut p: KernelNodeParams = std::mem::zeroed();
        std::ptr::copy_nonoverlapping(params.cast::<u8>(), std::ptr::from_mut(&mut p).cast(), bytes);
        kernel(p, troubles)
    }
}

/// What a node was given by a `CUgraphNodeParams`: a type, padding to 16, then what the type needs. Of other types a
/// trace says nothing but that they are there.
///
/// # Safety
/// As [`kernel`]; it is null or of its type.
unsafe fn any(params: *const c_void, troubles: &mut Vec<String>) -> Option<Vec<Node>> {
    /// Flags, reserved, context, before the copy itself.
    const COPY_AT: usize = 16;
    if params.is_null() {
        return None;
    }
    let inner = params.wrapping_byte_add(16);
    // SAFETY: as the caller says.
    unsafe {
        match *params.cast::<c_int>() {
            0 => kernel_at(inner, size_of::<KernelNodeParams>(), troubles),
            1 => Some(vec![contents::copy_node(&*inner.wrapping_byte_add(COPY_AT).cast::<Memcpy3D>())]),
            2 => Some(vec![contents::fill_node(&*inner.cast::<MemsetNodeParams>())]),
            4 => Some(contents::read_child(*inner.cast::<CUgraph>())),
            _ => None,
        }
    }
}

hooks! {
    fn cuGraphExecUpdate(exec: CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, outcome: *mut c_int) {
        updated(exec, graph, real!(driver::cuGraphExecUpdate(exec, graph, node, outcome)))
    }

    fn cuGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, outcome: *mut c_void) {
        updated(exec, graph, real!(driver::cuGraphExecUpdate_v2(exec, graph, outcome)))
    }

    fn cuGraphExecKernelNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const c_void) {
        let result = real!(driver::cuGraphExecKernelNodeSetParams(exec, node, params));
        set(exec, node, result, |troubles| real!(kernel_at(params, KERNEL_V1, troubles)))
    }

    fn cuGraphExecKernelNodeSetParams_v2(exec: CUgraphExec, node: CUgraphNode, params: *const c_void) {
        let result = real!(driver::cuGraphExecKernelNodeSetParams_v2(exec, node, params));
        let bytes = size_of::<KernelNodeParams>();
        set(exec, node, result, |troubles| real!(kernel_at(params, bytes, troubles)))
    }

    fn cuGraphExecMemcpyNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const Memcpy3D,
        context: CUcontext) {
        let result = real!(driver::cuGraphExecMemcpyNodeSetParams(exec, node, params, context));
        set(exec, node, result, |_| Some(vec![contents::copy_node(real!(params.as_ref())?)]))
    }

    fn cuGraphExecMemsetNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const MemsetNodeParams,
        context: CUcontext) {
        let result = real!(driver::cuGraphExecMemsetNodeSetParams(exec, node, params, context));
        set(exec, node, result, |_| Some(vec![contents::fill_node(real!(params.as_ref())?)]))
    }

    fn cuGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, child: CUgraph) {
        let result = real!(driver::cuGraphExecChildGraphNodeSetParams(exec, node, child));
        set(exec, node, result, |_| Some(contents::read_child(child)))
    }

    fn cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *mut c_void) {
        let result = real!(driver::cuGraphExecNodeSetParams(exec, node, params));
        set(exec, node, result, |troubles| real!(any(params, troubles)))
    }

    fn cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: c_uint) {
        let result = real!(driver::cuGraphNodeSetEnabled(exec, node, enabled));
        changed(exec, result, |attached| attached.session().node_enabled(exec, node, enabled != 0))
    }
}
