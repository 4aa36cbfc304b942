//! What is inside a graph: nodes in a topological order, with kernel names, dimensions and parameter bytes.

mod handles;
mod kernel;
mod order;

use std::collections::HashMap;
use std::ops::Range;

use crate::driver::{CUgraph, CUgraphNode, Memcpy3D, MemsetNodeParams};
use crate::rows::Rows;

/// One node of a graph, flattened out of child graphs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A kernel.
    Kernel(Kernel),
    /// A copy. An address of 0 is host memory or an array.
    Copy {
        /// Target on the device.
        target: u64,
        /// Source on the device.
        source: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// A memset.
    Fill {
        /// Target on the device.
        target: u64,
        /// One element.
        pattern: Vec<u8>,
        /// Bytes in all.
        bytes: u64,
    },
    /// A copy or memset in rows that are no one piece.
    Rows(Rows),
    /// A node that the format has no item for: its kind in words.
    Other(String),
}

/// A kernel, as a node of a graph or launched by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Kernel {
    /// Demangled name.
    pub name: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z.
    pub block: [u32; 3],
    /// Blocks of a cluster along x, y, z; zeros where there is none.
    pub cluster: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// One entry a parameter: its bytes. Empty where the driver can't tell their sizes.
    pub parameters: Vec<Vec<u8>>,
}

/// What a graph held when it was instantiated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Contents {
    /// In a topological order of the driver's edges.
    pub nodes: Vec<Node>,
    /// Pairs of indices of `nodes`; empty where they are a simple chain.
    pub edges: Vec<(u32, u32)>,
    /// What could not be read, in words.
    pub troubles: Vec<String>,
}

/// Where the driver's nodes are among [`Contents::nodes`]; of a child graph, the places of its nodes.
pub type Places = HashMap<CUgraphNode, Vec<usize>>;

/// Reads what `graph` holds. Called by the program's thread right after it was instantiated; no synchronisation.
pub fn read(graph: CUgraph) -> Contents {
    read_with_places(graph).0
}

/// As [`read`], and which node is where.
pub fn read_with_places(graph: CUgraph) -> (Contents, Places) {
    let mut flat = Flat::default();
    flat.add(graph, 0);
    let Flat { nodes, edges, mut troubles, spans } = flat;
    troubles.sort();
    troubles.dedup();
    let (order, edges) = order::topological(nodes.len(), &edges);
    let mut place = vec![0; nodes.len()];
    order.iter().enumerate().for_each(|(at, &n)| place[n] = at);
    let places = spans.into_iter().map(|(node, span)| (node, place[span].to_vec())).collect();
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let nodes = order.iter().filter_map(|&n| nodes.get_mut(n).and_then(Option::take)).collect();
    (Contents { nodes, edges, troubles }, places)
}

/// The nodes of a graph that takes the place of a child graph, in the order of that one's [`Places`].
pub fn read_child(graph: CUgraph) -> Vec<Node> {
    let mut flat = Flat::default();
    flat.add(graph, 1);
    flat.nodes
}

/// A copy as a node is given one.
pub fn copy_node(p: &Memcpy3D) -> Node {
    handles::copy_of(p)
}

/// A memset as a node is given one.
pub fn fill_node(p: &MemsetNodeParams) -> Node {
    handles::fill_of(p)
}

pub use kernel::{described as kernel_node, is_function};

/// The nodes of a graph in the order of its contents; `None` where one is a child graph, which has no place of its
/// own there, or the driver does not tell.
pub fn handles_in_order(graph: CUgraph) -> Option<Vec<CUgraphNode>> {
    let (handles, edges) = handles::nodes_and_edges(graph).ok()?;
    if handles.iter().any(|&node| handles::kind(node) == handles::CHILD) {
        return None;
    }
    let index: HashMap<CUgraphNode, usize> = handles.iter().enumerate().map(|(i, &node)| (node, i)).collect();
    let edges: Vec<(usize, usize)> =
        edges.iter().filter_map(|(from, to)| Some((*index.get(from)?, *index.get(to)?))).collect();
    let (order, _) = order::topological(handles.len(), &edges);
    Some(order.into_iter().map(|n| handles[n]).collect())
}

/// Depth of child graphs that are looked into.
const MAX_DEPTH: u32 = 16;

/// A graph and its child graphs laid flat.
#[derive(Default)]
struct Flat {
    nodes: Vec<Node>,
    edges: Vec<(usize, usize)>,
    troubles: Vec<String>,
    /// Which of `nodes` each of the driver's nodes is.
    spans: Vec<(CUgraphNode, Range<usize>)>,
}

/// Where paths through a node begin and end: one node, or the first and last ones of a child graph.
#[derive(Default, Clone)]
struct Ends {
    first: Vec<usize>,
    last: Vec<usize>,
}

impl Flat {
    fn add(&mut self, graph: CUgraph, depth: u32) -> Ends {
        let (handles, edges) = match handles::nodes_and_edges(graph) {
            Ok(read) => read,
            Err(status) => {
                self.troubles.push(format!("the driver does not tell the nodes of a graph (error {status})"));
                return Ends::default();
            }
        };
        let mut ends: Vec<Ends> = Vec::with_capacity(handles.len());
        for &node in &handles {
            let start = self.nodes.len();
            ends.push(self.add_node(node, depth));
            self.spans.push((node, start..self.nodes.len()));
        }
        let index: HashMap<CUgraphNode, usize> =
            handles.iter().enumerate().map(|(i, &node)| (node, i)).collect();
        let (mut has_before, mut has_after) = (vec![false; ends.len()], vec![false; ends.len()]);
        for (from, to) in edges {
            let (Some(&from), Some(&to)) = (index.get(&from), index.get(&to)) else { continue };
            (has_after[from], has_before[to]) = (true, true);
            for &a in &ends[from].last {
                self.edges.extend(ends[to].first.iter().map(|&b| (a, b)));
            }
        }
        let of = |is: &dyn Fn(usize) -> bool, pick: &dyn Fn(&Ends) -> &[usize]| {
            (0..ends.len()).filter(|&i| is(i)).flat_map(|i| pick(&ends[i]).to_vec()).collect()
        };
        Ends { first: of(&|i| !has_before[i], &|e| &e.first), last: of(&|i| !has_after[i], &|e| &e.last) }
    }

    fn add_node(&mut self, node: CUgraphNode, depth: u32) -> Ends {
        let read = match handles::kind(node) {
            handles::KERNEL => kernel::node(node, &mut self.troubles),
            handles::COPY => handles::copy(node, &mut self.troubles),
            handles::FILL => handles::fill(node, &mut self.troubles),
            handles::CHILD => match handles::child(node) {
                Some(child) if depth < MAX_DEPTH => {
                    let ends = self.add(child, depth + 1);
                    if !ends.first.is_empty() {
                        return ends;
                    }
                    Node::Other("child graph without nodes".to_owned())
                }
                _ => Node::Other("child graph".to_owned()),
            },
            kind => {
                self.troubles.extend(handles::hidden(kind).map(str::to_owned));
                Node::Other(handles::kind_name(kind))
            }
        };
        self.nodes.push(read);
        let n = self.nodes.len() - 1;
        Ends { first: vec![n], last: vec![n] }
    }
}

/// Reads the launch parameters of a kernel launched by itself: `params` is the driver's `kernelParams`.
///
/// # Safety
/// `params` is null or points to as many pointers to values as `function` has parameters.
pub unsafe fn read_launch(
    function: crate::driver::CUfunction,
    params: *mut *mut std::ffi::c_void,
) -> (String, Vec<Vec<u8>>) {
    // The run-time library launches kernels of libraries, whose handles it passes as functions.
    let (function, kernel) = if kernel::is_function(function) { (function, 0) } else { (0, function) };
    let name = kernel::name(function, kernel);
    // SAFETY: as the caller says.
    let parameters = unsafe { kernel::parameters(function, kernel, params, std::ptr::null_mut()) };
    (name, parameters.unwrap_or_default())
}
