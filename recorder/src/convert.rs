//! Launches and buffers of `kernels` as records of `traces`.

use twinstep_kernels as kernels;
use twinstep_traces as traces;

use crate::tape::Labelled;

fn dtype(dtype: kernels::DType) -> traces::DType {
    match dtype {
        kernels::DType::F32 => traces::DType::F32,
        kernels::DType::F16 => traces::DType::F16,
        kernels::DType::Bf16 => traces::DType::Bf16,
        kernels::DType::I64 => traces::DType::I64,
        kernels::DType::I32 => traces::DType::I32,
        kernels::DType::U32 => traces::DType::U32,
        kernels::DType::U64 => traces::DType::U64,
        kernels::DType::U8 => traces::DType::U8,
        kernels::DType::Bool => traces::DType::Bool,
    }
}

fn role(role: kernels::Role) -> traces::Role {
    match role {
        kernels::Role::Weight => traces::Role::Weight,
        kernels::Role::Table => traces::Role::Table,
        kernels::Role::State => traces::Role::State,
        kernels::Role::Input => traces::Role::Input,
        kernels::Role::Output => traces::Role::Output,
        kernels::Role::Scratch => traces::Role::Scratch,
    }
}

fn access(access: kernels::Access) -> traces::Access {
    match access {
        kernels::Access::Read => traces::Access::Read,
        kernels::Access::Write => traces::Access::Write,
        kernels::Access::ReadWrite => traces::Access::ReadWrite,
    }
}

fn axes(axes: &[usize]) -> Vec<u64> {
    axes.iter().map(|&n| n as u64).collect()
}

/// The record of an allocation.
pub(crate) fn buffer(
    buffer: &kernels::Buffer,
    contents: Option<traces::Contents>,
    chunk_bytes: usize,
    address: Option<u64>,
) -> traces::BufferRecord {
    traces::BufferRecord {
        name: buffer.name.to_string(),
        generation: buffer.generation,
        dtype: dtype(buffer.dtype),
        shape: axes(&buffer.shape),
        role: role(buffer.role),
        bytes: buffer.bytes() as u64,
        chunk_bytes: chunk_bytes as u32,
        address,
        contents,
    }
}

/// The record of a launch on a stream.
pub(crate) fn launch(labelled: &Labelled, stream: u32) -> traces::LaunchRecord {
    let launch = &labelled.launch;
    let schema = launch.op().schema();
    let view = |(view, param): (&kernels::View, &kernels::Param)| traces::ViewRecord {
        name: param.name.to_owned(),
        buffer: traces::BufferId(view.buffer.0),
        offset: view.offset as u64,
        shape: axes(&view.shape),
        strides: axes(&view.strides),
        dtype: dtype(view.dtype),
        access: access(param.access),
    };
    let scalar = |(scalar, param): (&kernels::Scalar, &kernels::ScalarParam)| traces::ScalarRecord {
        name: param.name.to_owned(),
        value: match *scalar {
            kernels::Scalar::U32(value) => traces::ScalarValue::U32(value),
            kernels::Scalar::F32(value) => traces::ScalarValue::F32Bits(value.to_bits()),
        },
    };
    traces::LaunchRecord {
        op: schema.name.to_owned(),
        version: schema.version,
        phase: labelled.phase,
        label: labelled.label.clone(),
        stream,
        views: launch.views().iter().zip(schema.params).map(view).collect(),
        scalars: launch.scalars().iter().zip(schema.scalars).map(scalar).collect(),
    }
}
