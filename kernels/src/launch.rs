//! An op with its arguments.

use crate::{Access, BufferId, Error, Op, Range, ScalarKind, View};

/// The value of a scalar argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Unsigned 32-bit.
    U32(u32),
    /// binary32.
    F32(f32),
}

impl Scalar {
    fn kind(self) -> ScalarKind {
        match self {
            Scalar::U32(_) => ScalarKind::U32,
            Scalar::F32(_) => ScalarKind::F32,
        }
    }
}

/// An op with its arguments: plain data, valid for the op's schema and shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    op: Op,
    views: Vec<View>,
    scalars: Vec<Scalar>,
}

impl Launch {
    /// Checks number, types and shapes of arguments; an operand without elements is refused. Trailing
    /// scalars that an earlier version of the op did not have may be missing: they get their defaults.
    /// Bounds are checked by the stream, which knows the buffers.
    ///
    /// # Errors
    /// [`Error::Launch`] with what does not fit.
    pub fn new(op: Op, views: Vec<View>, scalars: Vec<Scalar>) -> Result<Launch, Error> {
        let mut launch = Launch { op, views, scalars };
        let added = op.schema().scalars.iter().skip(launch.scalars.len());
        launch.scalars.extend(added.map_while(|param| param.default));
        launch.check().map_err(|what| Error::Launch { op: op.name(), what })?;
        Ok(launch)
    }

    fn check(&self) -> Result<(), String> {
        let schema = self.op.schema();
        if self.views.len() != schema.params.len() {
            return Err(format!("{} operands, wants {}", self.views.len(), schema.params.len()));
        }
        for (view, param) in self.views.iter().zip(schema.params) {
            if !param.dtypes.contains(&view.dtype) {
                let wants: Vec<_> = param.dtypes.iter().map(|d| d.name()).collect();
                return Err(format!("`{}` is {}, wants {}", param.name, view.dtype, wants.join(" or ")));
            }
            if view.shape.contains(&0) {
                return Err(format!("`{}` has no elements: shape {:?}", param.name, view.shape));
            }
            // No axis is zero, so every product of axes of one operand is bounded from here on.
            let end = view.bytes().and_then(|bytes| bytes.checked_add(view.offset));
            if end.is_none_or(|end| end > isize::MAX as usize) {
                return Err(format!("`{}` does not fit into memory: {:?}", param.name, view));
            }
            if !view.is_dense() {
                return Err(format!("`{}` is not dense row-major: {:?}", param.name, view));
            }
            if view.offset % view.dtype.size() != 0 {
                return Err(format!("`{}` starts at byte {}, not aligned", param.name, view.offset));
            }
        }
        if self.scalars.len() != schema.scalars.len() {
            return Err(format!("{} scalars, wants {}", self.scalars.len(), schema.scalars.len()));
        }
        for (scalar, param) in self.scalars.iter().zip(schema.scalars) {
            if scalar.kind() != param.kind {
                return Err(format!("`{}` is {:?}, wants {:?}", param.name, scalar, param.kind));
            }
        }
        (self.op.definition().check)(self)
    }

    /// The op.
    pub fn op(&self) -> Op {
        self.op
    }

    /// Operands, in the schema's order.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Scalars, in the schema's order.
    pub fn scalars(&self) -> &[Scalar] {
        &self.scalars
    }

    /// The operand at `index`; the schema's check has shown that it is there.
    pub(crate) fn view(&self, index: usize) -> &View {
        &self.views[index]
    }

    /// Shape of the operand at `index`.
    pub(crate) fn shape(&self, index: usize) -> &[usize] {
        &self.views[index].shape
    }

    /// The `u32` scalar at `index`, which the schema's check has shown to be one.
    pub(crate) fn u32(&self, index: usize) -> u32 {
        match self.scalars[index] {
            Scalar::U32(value) => value,
            Scalar::F32(_) => unreachable!("checked against the schema"),
        }
    }

    /// The `f32` scalar at `index`, which the schema's check has shown to be one.
    pub(crate) fn f32(&self, index: usize) -> f32 {
        match self.scalars[index] {
            Scalar::F32(value) => value,
            Scalar::U32(_) => unreachable!("checked against the schema"),
        }
    }

    /// Byte ranges that the launch may use, from its arguments alone: a superset of [`Launch::touched`].
    pub fn bound(&self) -> Vec<Range> {
        let with_param = self.views.iter().zip(self.op.schema().params);
        with_param.map(|(v, p)| v.range(p.access)).collect()
    }

    /// Byte ranges that the launch uses, given the values of its index operands, which `read`
    /// supplies: a KV write with slot -1 touches nothing. The views have to lie within their buffers
    /// ([`crate::Stream::touched`] checks that): their lengths bound the number of ranges.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn touched(
        &self,
        read: &mut dyn FnMut(&View) -> Result<Vec<u8>, Error>,
    ) -> Result<Vec<Range>, Error> {
        match self.op.definition().touched {
            Some(touched) => touched(self, read),
            None => Ok(self.bound()),
        }
    }

    /// Byte ranges written whatever the values of operands are.
    pub fn definite_writes(&self) -> Vec<Range> {
        let with_param = self.views.iter().zip(self.op.schema().params);
        let definite = with_param.filter(|(_, p)| p.access.writes() && !p.partial);
        definite.map(|(v, p)| v.range(p.access)).collect()
    }

    /// Refuses operands that are written and share bytes with another operand: kernels run their
    /// elements in no particular order. `place` says in whose memory a buffer lies and from which byte on.
    pub(crate) fn check_overlap(&self, place: impl Fn(BufferId) -> (BufferId, usize)) -> Result<(), Error> {
        let params = self.op.schema().params;
        let range = |i: usize| {
            let range = self.views[i].range(params[i].access);
            let (buffer, offset) = place(range.buffer);
            Range { buffer, start: range.start + offset, end: range.end + offset, ..range }
        };
        for i in (0..params.len()).filter(|&i| params[i].access.writes()) {
            let a = range(i);
            for b in (0..params.len()).filter(|&j| j != i).map(range) {
                if a.buffer == b.buffer && a.start < b.end && b.start < a.end {
                    return Err(Error::Overlap { op: self.op.name(), operand: params[i].name });
                }
            }
        }
        Ok(())
    }

    /// The access of the operand at `index`.
    pub(crate) fn access(&self, index: usize) -> Access {
        self.op.schema().params[index].access
    }
}
