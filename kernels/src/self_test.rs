//! A quick look whether a backend computes the contract's bits on this very machine.

use crate::{Backend, BufferSpec, CpuBackend, CpuForm, DType, Error, Launch, Op, Role, Scalar, Stream, View};

/// Rows, inner and outer dimension of the products: none divisible by a block of any form.
const SHAPE: [usize; 3] = [3, 331, 75];

/// Runs a chain of ops (norm, product, SiLU, tanh, hash) on `backend`, directly and from a captured
/// graph, and on the naive CPU form, and compares the hashes of what comes out. True where both agree.
/// A smoke test that takes milliseconds; `kernels/tests` and `examples/gpu_parity.rs` are the proof.
///
/// # Errors
/// Whatever the backend reports.
pub fn self_test(backend: Box<dyn Backend>) -> Result<bool, Error> {
    let specification = chain(Box::new(CpuBackend::with_form(CpuForm::Naive)?), false)?;
    let mut stream = Stream::new(backend);
    let direct = run(&mut stream, false)?;
    let captured = run(&mut stream, true)?;
    Ok(direct == specification && captured == specification)
}

fn chain(backend: Box<dyn Backend>, captured: bool) -> Result<Vec<u8>, Error> {
    run(&mut Stream::new(backend), captured)
}

fn run(stream: &mut Stream, captured: bool) -> Result<Vec<u8>, Error> {
    let [rows, k, m] = SHAPE;
    let mut allocate = |name: &str, dtype, shape: &[usize]| {
        Ok::<_, Error>(View::whole(&stream.allocate(BufferSpec::new(name, dtype, shape, Role::Scratch))?))
    };
    let x = allocate("x", DType::F32, &[rows, k])?;
    let gain = allocate("gain", DType::F16, &[k])?;
    let weight = allocate("weight", DType::F16, &[m, k])?;
    let normed = allocate("normed", DType::F32, &[rows, k])?;
    let product = allocate("product", DType::F32, &[rows, m])?;
    let gated = allocate("gated", DType::F32, &[rows, m])?;
    let out = allocate("out", DType::F32, &[rows, m])?;
    let hash = allocate("hash", DType::U64, &[(rows * m * 4).div_ceil(256), 2])?;
    // Multiples of 2^-10 in [-1, 1): exact in f16 and f32.
    let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) % 2048) as f32 / 1024.0 - 1.0;
    let halves =
        |n: usize| -> Vec<u16> { (0..n).map(|i| crate::contract::f32_to_f16(value(i + 9))).collect() };
    let floats: Vec<f32> = (0..rows * k).map(|i| value(i) * 9.0).collect();
    stream.write(&x, bytemuck::cast_slice(&floats))?;
    stream.write(&gain, bytemuck::cast_slice(&halves(k)))?;
    stream.write(&weight, bytemuck::cast_slice(&halves(m * k)))?;
    let bytes = View::dense(out.buffer, DType::U8, 0, &[rows * m * 4]);
    let launches = [
        Launch::new(Op::RmsNorm, vec![x, gain, normed.clone()], vec![Scalar::F32(1e-6)])?,
        Launch::new(Op::Linear, vec![normed, weight, product.clone()], vec![])?,
        Launch::new(Op::SiluMul, vec![product.clone(), product, gated.clone()], vec![])?,
        Launch::new(Op::Tanh, vec![gated, out], vec![])?,
        Launch::new(Op::ChunkHash, vec![bytes, hash.clone()], vec![Scalar::U32(256)])?,
    ];
    if captured {
        stream.begin_capture()?;
    }
    launches.iter().try_for_each(|launch| stream.launch(launch))?;
    if captured {
        let graph = stream.end_capture()?;
        stream.launch_graph(&graph)?;
        stream.synchronize()?;
        stream.destroy_graph(graph)?;
    }
    stream.read(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BufferId, DeviceInfo, GraphHandle};

    /// A CPU with one wrong bit in its memory.
    struct Faulty(CpuBackend);

    impl Backend for Faulty {
        fn info(&self) -> DeviceInfo {
            self.0.info()
        }
        fn allocate(&mut self, id: BufferId, name: &str, bytes: usize) -> Result<(), Error> {
            self.0.allocate(id, name, bytes)
        }
        fn allocate_in(
            &mut self,
            id: BufferId,
            name: &str,
            bytes: usize,
            donor: (BufferId, usize),
        ) -> Result<(), Error> {
            self.0.allocate_in(id, name, bytes, donor)
        }
        fn release(&mut self, id: BufferId) -> Result<(), Error> {
            self.0.release(id)
        }
        fn address(&self, id: BufferId) -> Option<u64> {
            self.0.address(id)
        }
        fn upload(&mut self, id: BufferId, offset: usize, bytes: &[u8]) -> Result<(), Error> {
            let mut bytes = bytes.to_vec();
            bytes[0] ^= 1;
            self.0.upload(id, offset, &bytes)
        }
        fn download(&mut self, id: BufferId, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
            self.0.download(id, offset, bytes)
        }
        fn launch(&mut self, launch: &Launch) -> Result<(), Error> {
            self.0.launch(launch)
        }
        fn launch_aside(&mut self, launch: &Launch) -> Result<(), Error> {
            self.0.launch_aside(launch)
        }
        fn begin_capture(&mut self) -> Result<(), Error> {
            self.0.begin_capture()
        }
        fn end_capture(&mut self) -> Result<GraphHandle, Error> {
            self.0.end_capture()
        }
        fn launch_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
            self.0.launch_graph(graph)
        }
        fn destroy_graph(&mut self, graph: GraphHandle) -> Result<(), Error> {
            self.0.destroy_graph(graph)
        }
        fn synchronize(&mut self) -> Result<(), Error> {
            self.0.synchronize()
        }
    }

    #[test]
    fn the_vectorised_form_passes_and_a_wrong_bit_does_not() {
        assert!(self_test(Box::new(CpuBackend::new().unwrap())).unwrap());
        assert!(!self_test(Box::new(Faulty(CpuBackend::new().unwrap()))).unwrap());
    }
}
