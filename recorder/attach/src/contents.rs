//! What is inside a graph: nodes in a topological order, with kernel names, dimensions and parameter bytes.

use crate::driver::CUgraph;

/// One node of a graph, flattened out of child graphs.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A node that the format has no item for: its kind in words.
    Other(String),
}

/// A kernel, as a node of a graph or launched by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// In a topological order of the driver's edges.
    pub nodes: Vec<Node>,
    /// Pairs of indices of `nodes`; empty where they are a simple chain.
    pub edges: Vec<(u32, u32)>,
    /// What could not be read, in words.
    pub troubles: Vec<String>,
}

/// Reads what `graph` holds. Called by the program's thread right after it was instantiated; no synchronisation.
pub fn read(graph: CUgraph) -> Contents {
    let _ = graph;
    Contents { troubles: vec!["graph contents are not read by this build".to_owned()], ..Contents::default() }
}

/// Reads the launch parameters of a kernel launched by itself: `params` is the driver's `kernelParams`.
///
/// # Safety
/// `params` is null or points to as many pointers to values as `function` has parameters.
pub unsafe fn read_launch(
    function: crate::driver::CUfunction,
    params: *mut *mut std::ffi::c_void,
) -> (String, Vec<Vec<u8>>) {
    let _ = (function, params);
    (String::new(), Vec::new())
}
