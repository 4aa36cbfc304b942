//! What the driver tells of a graph's nodes.

use std::ffi::c_int;

use super::Node;
use crate::driver::{self, CUgraph, CUgraphNode, CUresult, Memcpy3D, MemsetNodeParams, NOT_FOUND, SUCCESS};

/// `CUgraphNodeType`.
pub const KERNEL: c_int = 0;
/// As above.
pub const COPY: c_int = 1;
/// As above.
pub const FILL: c_int = 2;
/// As above.
pub const CHILD: c_int = 4;

/// `CU_MEMORYTYPE_DEVICE` and `CU_MEMORYTYPE_UNIFIED`: the device address counts.
const ON_DEVICE: [u32; 2] = [2, 4];

/// Nodes and edges of a graph by handle.
type NodesAndEdges = (Vec<CUgraphNode>, Vec<(CUgraphNode, CUgraphNode)>);

/// The nodes of a graph and its edges.
pub fn nodes_and_edges(graph: CUgraph) -> Result<NodesAndEdges, CUresult> {
    let mut count = 0;
    // SAFETY: asks for the number only.
    check(unsafe { driver::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count) })?;
    let mut nodes = vec![0; count];
    if count > 0 {
        // SAFETY: there is room for `count`.
        check(unsafe { driver::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count) })?;
        nodes.truncate(count);
    }
    Ok((nodes, edges(graph)?))
}

fn edges(graph: CUgraph) -> Result<Vec<(CUgraphNode, CUgraphNode)>, CUresult> {
    // The newer function tells edges with ports too, which the older one refuses to lose.
    let newer = |from: *mut CUgraphNode, to: *mut CUgraphNode, data: *mut [u8; 8], count: &mut usize| {
        // SAFETY: all null, or room for `count` each; `CUgraphEdgeData` has 8 bytes.
        unsafe { driver::cuGraphGetEdges_v2(graph, from, to, data.cast(), count) }
    };
    let older = |from: *mut CUgraphNode, to: *mut CUgraphNode, count: &mut usize| {
        // SAFETY: as above.
        unsafe { driver::cuGraphGetEdges(graph, from, to, count) }
    };
    let (mut count, none) = (0, std::ptr::null_mut());
    let status = newer(none, none, std::ptr::null_mut(), &mut count);
    let has_newer = status != NOT_FOUND;
    check(if has_newer { status } else { older(none, none, &mut count) })?;
    let (mut from, mut to, mut data) = (vec![0; count], vec![0; count], vec![[0u8; 8]; count]);
    if count > 0 {
        let (from, to) = (from.as_mut_ptr(), to.as_mut_ptr());
        check(if has_newer {
            newer(from, to, data.as_mut_ptr(), &mut count)
        } else {
            older(from, to, &mut count)
        })?;
    }
    Ok(from.into_iter().zip(to).take(count).collect())
}

fn check(status: CUresult) -> Result<(), CUresult> {
    if status == SUCCESS { Ok(()) } else { Err(status) }
}

/// A node's type; -1 where the driver does not tell.
pub fn kind(node: CUgraphNode) -> c_int {
    let mut kind = -1;
    // SAFETY: a node that the driver just told of, and a place for the answer.
    if unsafe { driver::cuGraphNodeGetType(node, &mut kind) } == SUCCESS { kind } else { -1 }
}

/// A kind that the format has no item for, in words.
pub fn kind_name(kind: c_int) -> String {
    match kind {
        3 => "host function".to_owned(),
        5 => "empty node".to_owned(),
        6 => "event wait".to_owned(),
        7 => "event record".to_owned(),
        8 => "external semaphore signal".to_owned(),
        9 => "external semaphore wait".to_owned(),
        10 => "memory allocation".to_owned(),
        11 => "memory free".to_owned(),
        12 => "batch of memory operations".to_owned(),
        13 => "conditional node".to_owned(),
        kind => format!("node of unknown type {kind}"),
    }
}

/// The graph inside a child graph node.
pub fn child(node: CUgraphNode) -> Option<CUgraph> {
    let mut graph = 0;
    // SAFETY: a child graph node, and a place for the answer.
    let status = unsafe { driver::cuGraphChildGraphNodeGetGraph(node, &mut graph) };
    (status == SUCCESS).then_some(graph)
}

/// A copy node.
pub fn copy(node: CUgraphNode) -> Node {
    // SAFETY: plain numbers and pointers, for which zeros are valid.
    let mut p: Memcpy3D = unsafe { std::mem::zeroed() };
    // SAFETY: a copy node, and a place for the answer.
    let status = unsafe { driver::cuGraphMemcpyNodeGetParams(node, &mut p) };
    if status != SUCCESS {
        return Node::Other(format!("copy that the driver does not describe (error {status})"));
    }
    let address = |kind: u32, device: u64, x: usize, y: usize, z: usize, pitch: usize, height: usize| {
        let at = (z * height + y) * pitch + x;
        if ON_DEVICE.contains(&kind) { device.wrapping_add(at as u64) } else { 0 }
    };
    Node::Copy {
        target: address(
            p.dst_memory_type,
            p.dst_device,
            p.dst_x,
            p.dst_y,
            p.dst_z,
            p.dst_pitch,
            p.dst_height,
        ),
        source: address(
            p.src_memory_type,
            p.src_device,
            p.src_x,
            p.src_y,
            p.src_z,
            p.src_pitch,
            p.src_height,
        ),
        bytes: (p.width * p.height.max(1) * p.depth.max(1)) as u64,
    }
}

/// A memset node.
pub fn fill(node: CUgraphNode) -> Node {
    let mut p = MemsetNodeParams::default();
    // SAFETY: a memset node, and a place for the answer.
    let status = unsafe { driver::cuGraphMemsetNodeGetParams(node, &mut p) };
    if status != SUCCESS {
        return Node::Other(format!("memset that the driver does not describe (error {status})"));
    }
    let element = p.element_size.clamp(1, 4) as usize;
    Node::Fill {
        target: p.dst,
        pattern: p.value.to_le_bytes()[..element].to_vec(),
        bytes: (element * p.width * p.height.max(1)) as u64,
    }
}
