//! Memory in rows: what 2D and 3D copies and fills touch.

use crate::driver::{Memcpy2D, Memcpy3D, MemsetNodeParams};

/// `CU_MEMORYTYPE_DEVICE`.
pub const DEVICE: u32 = 2;
/// `CU_MEMORYTYPE_UNIFIED`: the device address counts, and may be one of host memory.
pub const UNIFIED: u32 = 4;

/// Pieces that a copy or fill of the program's own is told as; of more rows one item tells.
pub const PIECES: u64 = 16;

/// Linear device memory on one side: the first byte, and how far rows and planes are apart, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Side {
    /// Where the first row begins.
    pub address: u64,
    /// From a row to the next.
    pub row: u64,
    /// From a plane to the next.
    pub plane: u64,
    /// The address may be one of host memory.
    pub unified: bool,
}

/// A copy of one side to the other, or a fill. A side that is no linear device memory (host memory, an array) is
/// `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Bytes of a row.
    pub width: u64,
    /// Rows of a plane.
    pub height: u64,
    /// Planes.
    pub depth: u64,
    /// What is written.
    pub target: Option<Side>,
    /// What is read.
    pub source: Option<Side>,
    /// One element of a fill.
    pub pattern: Option<Vec<u8>>,
}

/// A linear part: the addresses of target and source, 0 for a side that is no linear device memory, and bytes.
pub type Piece = (u64, u64, u64);

impl Rows {
    /// A copy of `width` bytes, `height` rows and `depth` planes.
    pub fn copy([width, height, depth]: [usize; 3], target: Option<Side>, source: Option<Side>) -> Self {
        let (width, height, depth) = (width as u64, height as u64, depth as u64);
        Rows { width, height, depth, target, source, pattern: None }.simplified()
    }

    /// What a 2D copy moves.
    pub fn copy_2d(p: &Memcpy2D) -> Self {
        // It has no planes.
        let side = |kind, device, x, y, pitch| Side::new(kind, device, [x, y, 0], pitch, 0);
        let target = side(p.dst_memory_type, p.dst_device, p.dst_x, p.dst_y, p.dst_pitch);
        let source = side(p.src_memory_type, p.src_device, p.src_x, p.src_y, p.src_pitch);
        Rows::copy([p.width, p.height, 1], target, source)
    }

    /// What a 3D copy moves.
    pub fn copy_3d(p: &Memcpy3D) -> Self {
        let (to, from) = ([p.dst_x, p.dst_y, p.dst_z], [p.src_x, p.src_y, p.src_z]);
        let target = Side::new(p.dst_memory_type, p.dst_device, to, p.dst_pitch, p.dst_height);
        let source = Side::new(p.src_memory_type, p.src_device, from, p.src_pitch, p.src_height);
        Rows::copy([p.width, p.height, p.depth], target, source)
    }

    /// What a 2D fill writes; `width` counts elements.
    pub fn fill(p: &MemsetNodeParams) -> Self {
        let element = p.element_size.clamp(1, 4);
        Rows {
            width: (p.width as u64).saturating_mul(u64::from(element)),
            height: p.height as u64,
            depth: 1,
            target: Some(Side { address: p.dst, row: p.pitch as u64, plane: 0, unified: false }),
            source: None,
            pattern: Some(p.value.to_le_bytes()[..element as usize].to_vec()),
        }
        .simplified()
    }

    /// Without the sides that turn out to be host memory.
    pub fn known(mut self, on_device: impl Fn(u64) -> bool) -> Self {
        for side in [&mut self.target, &mut self.source] {
            side.take_if(|side| side.unified && !on_device(side.address));
        }
        self.simplified()
    }

    /// The sides that are linear device memory, the target first.
    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        self.target.iter().chain(&self.source)
    }

    /// Rows and planes that follow one another without a hole, on either side, become longer rows.
    pub fn simplified(mut self) -> Self {
        for _ in 0..2 {
            let whole = self.height == 1 || self.sides().all(|side| side.row == self.width);
            if !whole {
                break;
            }
            self.width = self.width.saturating_mul(self.height);
            (self.height, self.depth) = (self.depth, 1);
            for side in self.target.iter_mut().chain(&mut self.source) {
                (side.row, side.plane) = (side.plane, 0);
            }
        }
        // Rows that are all as far apart as the planes make them.
        let even = |side: &Side| Some(side.plane) == side.row.checked_mul(self.height);
        if self.depth > 1 && self.sides().all(even) {
            self.height = self.height.saturating_mul(self.depth);
            self.depth = 1;
        }
        if self.depth == 1 {
            self.target.iter_mut().chain(&mut self.source).for_each(|side| side.plane = 0);
        }
        if self.height == 1 && self.depth == 1 {
            self.target.iter_mut().chain(&mut self.source).for_each(|side| side.row = 0);
        }
        self
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.width.saturating_mul(self.height).saturating_mul(self.depth)
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.height.saturating_mul(self.depth)
    }

    /// Whether it touches linear device memory at all.
    pub fn is_nothing(&self) -> bool {
        self.bytes() == 0 || self.sides().next().is_none()
    }

    /// All of it, where that is one piece.
    pub fn linear(&self) -> Option<Piece> {
        (self.rows() == 1).then(|| self.piece(0, 0))
    }

    /// Its rows, one after another.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        (0..self.depth).flat_map(move |z| (0..self.height).map(move |y| self.piece(y, z)))
    }

    fn piece(&self, y: u64, z: u64) -> Piece {
        let at = |side: &Option<Side>| {
            side.as_ref().map_or(0, |side| {
                let offset = z.wrapping_mul(side.plane).wrapping_add(y.wrapping_mul(side.row));
                side.address.wrapping_add(offset)
            })
        };
        (at(&self.target), at(&self.source), self.width)
    }

    /// What it is, in words.
    pub fn name(&self) -> String {
        let rows = match self.depth {
            1 => format!("{} rows of {} bytes", self.height, self.width),
            planes => format!("{planes} planes of {} rows of {} bytes", self.height, self.width),
        };
        match &self.pattern {
            None => format!("copy of {rows}"),
            Some(_) => format!("fill of {rows}"),
        }
    }
}

impl Side {
    /// One side of a 2D or 3D copy, as the driver describes it: memory type, address, first byte, pitch and rows of a
    /// plane. `None` where it is no linear device memory.
    pub fn new(kind: u32, device: u64, [x, y, z]: [usize; 3], pitch: usize, height: usize) -> Option<Self> {
        if kind != DEVICE && kind != UNIFIED {
            return None;
        }
        let (row, plane) = (pitch as u64, (pitch as u64).wrapping_mul(height as u64));
        let offset = (z as u64).wrapping_mul(plane).wrapping_add((y as u64).wrapping_mul(row));
        let address = device.wrapping_add(offset).wrapping_add(x as u64);
        Some(Side { address, row, plane, unified: kind == UNIFIED })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(extent: [usize; 3], target: (u64, u64, u64), source: Option<(u64, u64, u64)>) -> Rows {
        let side = |(address, row, plane)| Side { address, row, plane, unified: true };
        Rows::copy(extent, Some(side(target)), source.map(side))
    }

    fn pieces(rows: &Rows) -> Vec<Piece> {
        rows.pieces().collect()
    }

    #[test]
    fn rows_without_holes_are_one_piece() {
        assert_eq!(
            rows([8, 4, 1], (100, 8, 0), None).linear(),
            Some((100, 0, 32)),
            "the other side is host memory"
        );
        assert_eq!(rows([8, 4, 1], (100, 8, 0), Some((900, 8, 0))).linear(), Some((100, 900, 32)));
        assert_eq!(
            rows([8, 1, 1], (100, 64, 0), Some((900, 16, 0))).linear(),
            Some((100, 900, 8)),
            "one row"
        );
        assert_eq!(rows([8, 2, 3], (100, 8, 16), None).linear(), Some((100, 0, 48)), "planes too");
        assert_eq!(rows([8, 1, 3], (100, 64, 8), None).linear(), Some((100, 0, 24)), "planes of one row");
    }

    #[test]
    fn a_hole_on_either_side_parts_them() {
        let one = rows([8, 3, 1], (100, 8, 0), Some((900, 16, 0)));
        assert_eq!((one.linear(), one.rows()), (None, 3));
        assert_eq!(pieces(&one), [(100, 900, 8), (108, 916, 8), (116, 932, 8)]);
        let planes = rows([4, 2, 2], (100, 4, 32), Some((900, 4, 8)));
        assert_eq!(pieces(&planes), [(100, 900, 8), (132, 908, 8)], "rows join, planes don't");
        let even = rows([4, 2, 2], (100, 8, 16), None);
        assert_eq!((even.height, even.depth), (4, 1), "planes as far apart as their rows make them");
        let all = rows([4, 2, 2], (100, 8, 64), None);
        assert_eq!(pieces(&all), [(100, 0, 4), (108, 0, 4), (164, 0, 4), (172, 0, 4)]);
        assert_eq!(all.name(), "copy of 2 planes of 2 rows of 4 bytes");
    }

    #[test]
    fn host_memory_is_no_side() {
        let one = rows([8, 3, 1], (100, 8, 0), Some((900, 16, 0)));
        assert_eq!(one.clone().known(|address| address == 100).linear(), Some((100, 0, 24)));
        assert_eq!(one.clone().known(|_| true), one);
        assert!(one.known(|_| false).is_nothing());
    }

    #[test]
    fn where_a_copy_begins_is_counted_in_rows_and_planes() {
        assert_eq!(
            Side::new(DEVICE, 1000, [3, 2, 1], 16, 4),
            Some(Side { address: 1000 + 64 + 32 + 3, row: 16, plane: 64, unified: false })
        );
        assert_eq!(Side::new(1, 1000, [0; 3], 16, 4), None, "host memory");
        assert_eq!(Side::new(3, 1000, [0; 3], 16, 4), None, "an array");
    }

    #[test]
    fn a_fill_of_a_pitched_range_is_its_rows() {
        let p = MemsetNodeParams { dst: 64, pitch: 16, value: 0x0102, element_size: 2, width: 3, height: 2 };
        let fill = Rows::fill(&p);
        assert_eq!((fill.pattern.clone(), pieces(&fill)), (Some(vec![2, 1]), vec![(64, 0, 6), (80, 0, 6)]));
        assert_eq!(fill.name(), "fill of 2 rows of 6 bytes");
        assert_eq!(Rows::fill(&MemsetNodeParams { pitch: 6, ..p }).linear(), Some((64, 0, 12)));
        assert!(Rows::fill(&MemsetNodeParams { height: 0, ..p }).is_nothing());
    }
}
