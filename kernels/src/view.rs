//! Views of buffers and byte ranges.

use crate::op::Access;
use crate::{Buffer, BufferId, DType};

/// An operand: elements of one buffer, by offset, shape and strides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer viewed.
    pub buffer: BufferId,
    /// Element type; the buffer's own except where bytes are hashed.
    pub dtype: DType,
    /// Bytes from the start of the buffer.
    pub offset: usize,
    /// Elements along each axis, outermost first.
    pub shape: Vec<usize>,
    /// Elements between neighbours along each axis. All ops want dense row-major views today;
    /// a strided one is refused by [`crate::Launch::new`].
    pub strides: Vec<usize>,
}

/// Strides, in elements, of a dense row-major array.
fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

impl View {
    /// All of a buffer, in its own shape.
    pub fn whole(buffer: &Buffer) -> View {
        View::dense(buffer.id, buffer.dtype, 0, &buffer.shape)
    }

    /// A dense row-major view that starts `offset` bytes into `buffer`.
    pub fn dense(buffer: BufferId, dtype: DType, offset: usize, shape: &[usize]) -> View {
        View { buffer, dtype, offset, shape: shape.to_vec(), strides: dense_strides(shape) }
    }

    /// Entries `start..start + count` of the leading axis.
    ///
    /// # Panics
    /// Where the view has no axis or the range leaves it: a mistake of the caller's code, never of data.
    #[must_use]
    pub fn rows(&self, start: usize, count: usize) -> View {
        assert!(start + count <= self.shape[0], "rows {start}+{count} of {:?}", self.shape);
        let mut view = self.clone();
        view.offset += start * self.strides[0] * self.dtype.size();
        view.shape[0] = count;
        view
    }

    /// The same dense elements in another shape.
    ///
    /// # Panics
    /// Where the number of elements differs: a mistake of the caller's code, never of data.
    #[must_use]
    pub fn reshape(&self, shape: &[usize]) -> View {
        assert_eq!(self.len(), shape.iter().product::<usize>(), "{:?} as {shape:?}", self.shape);
        View::dense(self.buffer, self.dtype, self.offset, shape)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes, or `None` where it overflows.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.size(), |n, &d| n.checked_mul(d))
    }

    /// Whether it is dense and row-major.
    pub fn is_dense(&self) -> bool {
        self.strides == dense_strides(&self.shape)
    }

    /// The bytes it covers, as used in `access`.
    pub fn range(&self, access: Access) -> Range {
        let len = self.len() * self.dtype.size();
        Range { buffer: self.buffer, start: self.offset, end: self.offset + len, access }
    }

    /// The bytes of elements `start..start + count` in row-major order.
    pub fn element_range(&self, start: usize, count: usize, access: Access) -> Range {
        let (size, from) = (self.dtype.size(), self.offset);
        Range { buffer: self.buffer, start: from + start * size, end: from + (start + count) * size, access }
    }
}

/// Bytes `start..end` of a buffer and how they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The buffer.
    pub buffer: BufferId,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// How they are used.
    pub access: Access,
}
