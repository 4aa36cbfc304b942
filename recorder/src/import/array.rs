//! An array as it lies in a dump, and the little-endian row-major bytes that a trace holds instead.

use twinstep_traces::DType;

/// Element type of an array in a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// What the trace calls it; `U8` where it has no name for it.
    pub(super) dtype: DType,
    /// Bytes of one element.
    pub(super) bytes: u64,
    /// The dump's name of a type that the trace stores as bytes: `float64`.
    pub(super) opaque: Option<String>,
    /// Bytes that are turned round to make it little-endian; 1 where nothing is.
    pub(super) swap: usize,
}

impl Element {
    pub(super) fn named(dtype: DType) -> Self {
        Element { dtype, bytes: dtype.size(), opaque: None, swap: 1 }
    }

    pub(super) fn opaque(name: impl Into<String>, bytes: u64) -> Self {
        Element { dtype: DType::U8, bytes, opaque: Some(name.into()), swap: 1 }
    }

    /// The dump's name of it.
    pub(super) fn name(&self) -> &str {
        self.opaque.as_deref().unwrap_or(self.dtype.name())
    }
}

/// What an array is, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArrayHeader {
    pub(super) element: Element,
    /// Elements along each axis; none for a scalar.
    pub(super) shape: Vec<u64>,
    /// Whether the first axis varies fastest.
    pub(super) fortran: bool,
}

impl ArrayHeader {
    /// Size of its elements together; `None` beyond 2^64.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.element.bytes, |n, &axis| n.checked_mul(axis))
    }

    /// Its shape in a trace: bytes of a type without a name are one more axis.
    pub(super) fn stored_shape(&self) -> Vec<u64> {
        let mut shape = self.shape.clone();
        if self.element.opaque.is_some() {
            shape.push(self.element.bytes);
        }
        shape
    }

    /// Its bytes in a trace from its bytes in the dump.
    pub(super) fn stored(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.element.swap > 1 {
            bytes.chunks_exact_mut(self.element.swap).for_each(<[u8]>::reverse);
        }
        let axes = self.shape.iter().filter(|&&axis| axis > 1).count();
        if self.fortran && axes > 1 { self.row_major(&bytes) } else { bytes }
    }

    /// Elements whose first axis varies fastest, put in order so that the last one does.
    fn row_major(&self, bytes: &[u8]) -> Vec<u8> {
        let size = self.element.bytes as usize;
        let shape: Vec<usize> = self.shape.iter().map(|&axis| axis as usize).collect();
        let mut strides = Vec::with_capacity(shape.len());
        shape.iter().fold(size, |stride, axis| {
            strides.push(stride);
            stride * axis
        });
        let mut out = Vec::with_capacity(bytes.len());
        let mut index = vec![0; shape.len()];
        let mut from = 0;
        while out.len() < bytes.len() {
            out.extend_from_slice(&bytes[from..from + size]);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                from += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                from -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The element at an index of the result is the one that column-major order has there.
        #[test]
        fn fortran_order_is_turned(shape in prop::collection::vec(1..5u64, 0..4)) {
            let n: u64 = shape.iter().product();
            let raw: Vec<u8> = (0..n as u16).flat_map(u16::to_be_bytes).collect();
            let element = Element { swap: 2, ..Element::opaque("uint16", 2) };
            let header = ArrayHeader { element, shape: shape.clone(), fortran: true };
            let stored = header.stored(raw);
            for flat in 0..n {
                let (mut rest, mut index) = (flat, Vec::new());
                for axis in shape.iter().rev() {
                    index.insert(0, rest % axis);
                    rest /= axis;
                }
                let expected = index.iter().zip(&shape).rev().fold(0, |at, (i, axis)| at * axis + i);
                let at = 2 * flat as usize;
                prop_assert_eq!(u16::from_le_bytes([stored[at], stored[at + 1]]), expected as u16);
            }
        }
    }
}
