//! What the driver tells of a graph's nodes.

use std::ffi::c_int;

use super::Node;
use crate::driver::{self, CUgraph, CUgraphNode, CUresult, Memcpy3D, MemsetNodeParams, NOT_FOUND, SUCCESS};
use crate::rows::Rows;

/// `CUgraphNodeType`.
pub const KERNEL: c_int = 0;
/// As above.
pub const COPY: c_int = 1;
/// As above.
pub const FILL: c_int = 2;
/// As above.
pub const CHILD: c_int = 4;

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
        14 => "batch of copies".to_owned(),
        18 => "batch of copies between devices".to_owned(),
        kind => format!("node of unknown type {kind}"),
    }
}

/// What nodes of a kind write that nobody tells.
pub fn hidden(kind: c_int) -> Option<&'static str> {
    match kind {
        12 => Some("what a batch of memory operations in a graph writes"),
        13 => Some("what the graphs of a conditional node do"),
        14 | 18 => Some("what a batch of copies in a graph copies"),
        _ => None,
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
pub fn copy(node: CUgraphNode, troubles: &mut Vec<String>) -> Node {
    // SAFETY: plain numbers and pointers, for which zeros are valid.
    let mut p: Memcpy3D = unsafe { std::mem::zeroed() };
    // SAFETY: a copy node, and a place for the answer.
    let status = unsafe { driver::cuGraphMemcpyNodeGetParams(node, &mut p) };
    if status != SUCCESS {
        troubles.push("what a copy in a graph copies: the driver does not tell".to_owned());
        return Node::Other(format!("copy that the driver does not describe (error {status})"));
    }
    copy_of(&p)
}

/// A copy that is described.
pub fn copy_of(p: &Memcpy3D) -> Node {
    let rows = Rows::copy_3d(&Memcpy3D { height: p.height.max(1), depth: p.depth.max(1), ..*p });
    match rows.linear() {
        Some((target, source, bytes)) => Node::Copy { target, source, bytes },
        None => Node::Rows(rows),
    }
}

/// A memset node.
pub fn fill(node: CUgraphNode, troubles: &mut Vec<String>) -> Node {
    let mut p = MemsetNodeParams::default();
    // SAFETY: a memset node, and a place for the answer.
    let status = unsafe { driver::cuGraphMemsetNodeGetParams(node, &mut p) };
    if status != SUCCESS {
        troubles.push("what a memset in a graph fills: the driver does not tell".to_owned());
        return Node::Other(format!("memset that the driver does not describe (error {status})"));
    }
    fill_of(&p)
}

/// A memset that is described.
pub fn fill_of(p: &MemsetNodeParams) -> Node {
    // The driver's documentation has the pitch unused where there is one row, and some programs pass no rows then.
    let mut rows = Rows::fill(&MemsetNodeParams { height: p.height.max(1), ..*p });
    match (rows.linear(), rows.pattern.take()) {
        (Some((target, _, bytes)), Some(pattern)) => Node::Fill { target, pattern, bytes },
        (_, pattern) => Node::Rows(Rows { pattern, ..rows }),
    }
}
