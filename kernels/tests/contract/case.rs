//! One launch with the contents of its operands, as plain data that a test can look at and change.

use bytemuck::Pod;
use twinstep_kernels::contract::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use twinstep_kernels::{
    Access, Buffer, BufferSpec, CpuBackend, CpuForm, DType, Error, Launch, Op, Role, Scalar, Stream, View,
};

/// Both CPU forms; every test runs both.
pub(crate) const FORMS: [CpuForm; 2] = [CpuForm::Naive, CpuForm::Vector];

/// A stream on a CPU that runs the given forms.
pub(crate) fn stream(form: CpuForm) -> Stream {
    Stream::new(Box::new(
        CpuBackend::with_form(form).expect("the test process has the contract's environment"),
    ))
}

/// The contents of one operand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operand {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Operand {
    /// From elements in their own representation.
    pub(crate) fn new<T: Pod>(dtype: DType, shape: &[usize], elements: &[T]) -> Operand {
        assert_eq!(size_of::<T>(), dtype.size());
        assert_eq!(elements.len(), shape.iter().product::<usize>());
        Operand { dtype, shape: shape.to_vec(), bytes: bytemuck::cast_slice(elements).to_vec() }
    }

    /// From floats, rounded to `dtype`.
    pub(crate) fn floats(dtype: DType, shape: &[usize], values: &[f32]) -> Operand {
        match dtype {
            DType::F32 => Operand::new(dtype, shape, values),
            DType::F16 => {
                Operand::new(dtype, shape, &values.iter().map(|&x| f32_to_f16(x)).collect::<Vec<u16>>())
            }
            _ => Operand::new(dtype, shape, &values.iter().map(|&x| f32_to_bf16(x)).collect::<Vec<u16>>()),
        }
    }

    /// Of one byte value, as a result's memory before it is written.
    pub(crate) fn filled(dtype: DType, shape: &[usize], byte: u8) -> Operand {
        let bytes = vec![byte; shape.iter().product::<usize>() * dtype.size()];
        Operand { dtype, shape: shape.to_vec(), bytes }
    }

    /// An `op_faults` without a fault.
    pub(crate) fn no_faults() -> Operand {
        Operand::new(DType::U32, &[1], &[0u32])
    }

    /// Elements in their own representation.
    pub(crate) fn elements<T: Pod>(&self) -> Vec<T> {
        assert_eq!(size_of::<T>(), self.dtype.size());
        bytemuck::pod_collect_to_vec(&self.bytes)
    }

    /// Elements of a float operand, widened.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F16 => self.elements::<u16>().into_iter().map(f16_to_f32).collect(),
            DType::Bf16 => self.elements::<u16>().into_iter().map(bf16_to_f32).collect(),
            _ => self.elements(),
        }
    }

    /// Elements of a float operand as binary64.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        self.to_f32().into_iter().map(f64::from).collect()
    }

    /// Entry `index` of the leading axis, as a leading axis of length 1.
    pub(crate) fn row(&self, index: usize) -> Operand {
        let len = self.bytes.len() / self.shape[0];
        let shape = [&[1], &self.shape[1..]].concat();
        Operand { dtype: self.dtype, shape, bytes: self.bytes[index * len..][..len].to_vec() }
    }
}

/// A launch with the contents of its operands.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) op: Op,
    pub(crate) operands: Vec<Operand>,
    pub(crate) scalars: Vec<Scalar>,
}

impl Case {
    pub(crate) fn new(op: Op, operands: Vec<Operand>, scalars: Vec<Scalar>) -> Case {
        Case { op, operands, scalars }
    }

    /// Position of the operand of that name.
    pub(crate) fn index(&self, name: &str) -> usize {
        let position = self.op.schema().params.iter().position(|p| p.name == name);
        position.unwrap_or_else(|| panic!("{} has no operand `{name}`", self.op.name()))
    }

    /// Puts each operand into a buffer of its own and makes the launch.
    pub(crate) fn place(&self, stream: &mut Stream) -> Result<(Vec<Buffer>, Launch), Error> {
        let mut buffers = Vec::new();
        for (operand, param) in self.operands.iter().zip(self.op.schema().params) {
            let spec = BufferSpec::new(param.name, operand.dtype, &operand.shape, Role::State);
            let buffer = stream.allocate(spec)?;
            stream.write(&View::whole(&buffer), &operand.bytes)?;
            buffers.push(buffer);
        }
        let views = buffers.iter().map(View::whole).collect();
        Ok((buffers, Launch::new(self.op, views, self.scalars.clone())?))
    }

    /// All operands as they are after the launch.
    pub(crate) fn try_run(&self, form: CpuForm) -> Result<Vec<Operand>, Error> {
        let mut stream = stream(form);
        let (buffers, launch) = self.place(&mut stream)?;
        stream.launch(&launch)?;
        let mut after = self.operands.clone();
        for (operand, buffer) in after.iter_mut().zip(&buffers) {
            operand.bytes = stream.read(&View::whole(buffer))?;
        }
        Ok(after)
    }

    /// All operands as they are after a launch that is known to be valid.
    pub(crate) fn run(&self, form: CpuForm) -> Vec<Operand> {
        self.try_run(form).unwrap_or_else(|error| panic!("{error}\n{self:?}"))
    }

    /// The operand of that name after the launch.
    pub(crate) fn result(&self, form: CpuForm, name: &str) -> Operand {
        self.run(form).swap_remove(self.index(name))
    }

    /// Positions of the operands that are written, without `op_faults`.
    pub(crate) fn written(&self) -> Vec<usize> {
        let params = self.op.schema().params.iter().enumerate();
        let written = params.filter(|(_, p)| p.access != Access::Read && p.name != "op_faults");
        written.map(|(i, _)| i).collect()
    }
}
