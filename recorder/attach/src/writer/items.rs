//! What is inside graphs, and kernels launched by themselves, as items of programs.

use twinstep_traces::{Access, Item, OpaqueLaunch, Phase, Program, ViewRecord, WriteError};

use super::{GraphDraft, Writer};
use crate::contents::{Kernel, Node};
use crate::rows::{PIECES, Piece, Rows};

impl Writer {
    /// Graph records are written as late as possible: names given since the capture are used too.
    pub(super) fn write_graphs(&mut self, request: u32, step: u32) -> Result<(), WriteError> {
        for (id, contents, at) in std::mem::take(&mut self.unwritten) {
            let mut items = Vec::with_capacity(contents.nodes.len());
            for node in &contents.nodes {
                items.push(match node {
                    Node::Kernel(kernel) => self.opaque(kernel, 0, at),
                    Node::Copy { target, source, bytes } => self.copy((*target, *source, *bytes), 0, at),
                    Node::Fill { target, pattern, bytes } => self.fill((*target, 0, *bytes), pattern, 0, at),
                    Node::Rows(rows) => self.rows(rows, 0, at),
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
        Item::Opaque(launch(kernel, stream, operands))
    }

    pub(super) fn copy(&self, (target, source, bytes): Piece, stream: u32, at: u64) -> Item {
        Item::Copy {
            stream,
            source: self.names.view(source, bytes, at),
            target: self.names.view(target, bytes, at),
            source_address: source,
            target_address: target,
            bytes,
        }
    }

    pub(super) fn fill(&self, (target, _, bytes): Piece, pattern: &[u8], stream: u32, at: u64) -> Item {
        let view = self.names.view(target, bytes, at);
        Item::Fill { stream, target: view, target_address: target, pattern: pattern.to_vec(), bytes }
    }

    /// A copy or fill in rows: its rows, as long as they are few.
    pub(super) fn rows_items(&self, rows: &Rows, stream: u32, at: u64) -> Vec<Item> {
        if rows.rows() > PIECES {
            return vec![self.rows(rows, stream, at)];
        }
        let piece = |piece| match &rows.pattern {
            Some(pattern) => self.fill(piece, pattern, stream, at),
            None => self.copy(piece, stream, at),
        };
        rows.pieces().map(piece).collect()
    }

    /// A copy or fill in rows as one item: an opaque launch whose operands are written and read, with views that have
    /// the rows.
    fn rows(&self, rows: &Rows, stream: u32, at: u64) -> Item {
        let (mut parameters, mut operands) = (Vec::new(), Vec::new());
        for (side, access) in [(&rows.target, Access::Write), (&rows.source, Access::Read)] {
            let Some(side) = side else { continue };
            if let Some(mut view) = self.names.view(side.address, rows.width, at) {
                let axes = [(rows.depth, side.plane), (rows.height, side.row), (rows.width, 1)];
                let axes = &axes[usize::from(rows.depth == 1)..];
                view.shape = axes.iter().map(|axis| axis.0).collect();
                view.strides = axes.iter().map(|axis| axis.1).collect();
                view.access = access;
                operands.push((parameters.len() as u32, 0, view));
            }
            parameters.push(side.address.to_le_bytes().to_vec());
        }
        parameters.extend(rows.pattern.clone());
        let kernel = Kernel { name: rows.name(), parameters, ..Kernel::default() };
        Item::Opaque(launch(&kernel, stream, operands))
    }
}

fn launch(kernel: &Kernel, stream: u32, operands: Vec<(u32, u32, ViewRecord)>) -> OpaqueLaunch {
    OpaqueLaunch {
        kernel: kernel.name.clone(),
        phase: Phase::Forward,
        stream,
        grid: kernel.grid,
        block: kernel.block,
        cluster: kernel.cluster,
        shared_bytes: kernel.shared_bytes,
        parameters: kernel.parameters.clone(),
        operands,
    }
}
