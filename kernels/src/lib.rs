//! Ops with a bit-exact numerics contract, and what runs them.
//!
//! A [`Launch`] is an [`Op`] with its arguments: views of buffers and scalars, plain data.
//! A [`Stream`] runs launches on a [`Backend`] (a CPU or a CUDA device), now or from a captured
//! [`Graph`]. Every op computes the same bits on every backend; `NUMERICS.md` says which bits.
//!
//! The crate knows nothing of models or files.
//!
//! ```
//! use twinstep_kernels::{BufferSpec, CpuBackend, DType, Launch, Op, Role, Stream, View};
//!
//! # fn main() -> Result<(), twinstep_kernels::Error> {
//! let mut stream = Stream::new(Box::new(CpuBackend::new()?));
//! let x = stream.allocate(BufferSpec::new("x", DType::F32, &[1, 4], Role::State))?;
//! let y = stream.allocate(BufferSpec::new("y", DType::F32, &[1, 4], Role::Input))?;
//! stream.write(&View::whole(&x), bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0]))?;
//! stream.write(&View::whole(&y), bytemuck::cast_slice(&[0.5f32; 4]))?;
//! stream.launch(&Launch::new(Op::ResidualAdd, vec![View::whole(&x), View::whole(&y)], vec![])?)?;
//! let sum: Vec<f32> = bytemuck::pod_collect_to_vec(&stream.read(&View::whole(&x))?);
//! assert_eq!(sum, [1.5, 2.5, 3.5, 4.5]);
//! # Ok(())
//! # }
//! ```

mod backend;
mod buffer;
pub mod contract;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dtype;
mod error;
mod graph;
mod launch;
mod op;
mod ops;
mod self_test;
mod stream;
mod view;

pub use backend::{Backend, DeviceInfo, GraphHandle};
pub use buffer::{Buffer, BufferId, BufferSpec, FRESH_BYTE, Role};
pub use cpu::{CpuBackend, CpuForm, Extension};
#[cfg(feature = "cuda")]
pub use cuda::{ContractFunction, CudaBackend, CudaUnavailable};
pub use dtype::DType;
pub use error::Error;
pub use graph::{Graph, GraphId};
pub use launch::{Launch, Scalar};
pub use op::{Access, Op, Param, ScalarKind, ScalarParam, Schema};
pub use ops::state::flags as delay_flags;
pub use ops::{FROM_OPERAND, fault};
pub use self_test::self_test;
pub use stream::Stream;
pub use view::{Range, View};
