//! What is inside graphs, and kernels launched by themselves, as items of programs.

use twinstep_traces::{Item, OpaqueLaunch, Phase, Program, WriteError};

use super::{GraphDraft, Writer};
use crate::contents::{Kernel, Node};

impl Writer {
    /// Graph records are written as late as possible: names given since the capture are used too.
    pub(super) fn write_graphs(&mut self, request: u32, step: u32) -> Result<(), WriteError> {
        for (id, contents, at) in std::mem::take(&mut self.unwritten) {
            let mut items = Vec::with_capacity(contents.nodes.len());
            for node in &contents.nodes {
                items.push(match node {
                    Node::Kernel(kernel) => self.opaque(kernel, 0, at),
                    Node::Copy { target, source, bytes } => Item::Copy {
                        stream: 0,
                        source: self.names.view(*source, *bytes, at),
                        target: self.names.view(*target, *bytes, at),
                        source_address: *source,
                        target_address: *target,
                        bytes: *bytes,
                    },
                    Node::Fill { target, pattern, bytes } => Item::Fill {
                        stream: 0,
                        target: self.names.view(*target, *bytes, at),
                        target_address: *target,
                        pattern: pattern.clone(),
                        bytes: *bytes,
                    },
                    Node::Other(kind) => Item::Mark { text: kind.clone() },
                });
            }
            items.extend(contents.troubles.iter().map(|reason| Item::Gap { reason: reason.clone() }));
            let graph = GraphDraft {
                id,
                label: String::new(),
                program: Program { items },
                edges: contents.edges.clone(),
                captured_at: (request, step),
            };
            self.ring.graph(graph)?;
        }
        Ok(())
    }

    pub(super) fn opaque(&self, kernel: &Kernel, stream: u32, at: u64) -> Item {
        let mut operands = Vec::new();
        for (parameter, bytes) in kernel.parameters.iter().enumerate() {
            for (word, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
                if let Some(view) = self.names.operand(u64::from_le_bytes(*eight), at) {
                    operands.push((parameter as u32, 8 * word as u32, view));
                }
            }
        }
        Item::Opaque(OpaqueLaunch {
            kernel: kernel.name.clone(),
            phase: Phase::Forward,
            stream,
            grid: kernel.grid,
            block: kernel.block,
            cluster: kernel.cluster,
            shared_bytes: kernel.shared_bytes,
            parameters: kernel.parameters.clone(),
            operands,
        })
    }
}
