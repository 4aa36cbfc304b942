//! From a launch to a kernel: which one, how many blocks, which arguments.
//!
//! All of it follows from shapes, types and scalars, never from contents of operands, so that a
//! captured kernel is right for whatever the buffers hold later.

use crate::ops::sample::fixed_top_p;
use crate::{DType, Error, Launch, Op};

/// A value passed to a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Argument {
    /// A device address, or a 64-bit number.
    U64(u64),
    /// A 32-bit number.
    U32(u32),
    /// binary32.
    F32(f32),
}

impl Argument {
    /// Its bytes, in the low end of 64 bits.
    pub(super) fn bits(self) -> u64 {
        match self {
            Argument::U64(value) => value,
            Argument::U32(value) => value.into(),
            Argument::F32(value) => value.to_bits().into(),
        }
    }
}

/// A kernel with its grid and arguments. Grids and blocks have one axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KernelLaunch {
    pub(super) kernel: String,
    pub(super) blocks: u32,
    pub(super) threads: u32,
    pub(super) arguments: Vec<Argument>,
}

// Threads a block, as the kernels expect them where they depend on it.
const ROW: u32 = 256;
const RMS_NORM: u32 = 256;
const QK_NORM_ROPE: u32 = 128;
const PRODUCT: u32 = 128;
const KV_WRITE: u32 = 128;
const ATTENTION: u32 = 256;
const ATTENTION_MERGE: u32 = 128;
const ELEMENTS: u32 = 256;
const STATE: u32 = 64;
const SAMPLE: u32 = 512;
const CONVOLUTION: u32 = 128;
const CHUNK_HASH: u32 = 128;
const WARP: u32 = 32;

/// Output channels of a thread of a convolution.
const CHANNELS: usize = 4;
/// Groups of threads of a block of a matrix product, each with its own columns.
const GROUPS: usize = 2;
/// Chunks up to this size are hashed by a warp, longer ones by a block.
const WARP_CHUNK_BYTES: u32 = 2048;
/// Positions, and dimensions of a head, that the attention kernels can count.
const MAX_ATTENTION: usize = i32::MAX as usize;

/// Gathers the arguments of one launch.
struct Planner<'a> {
    launch: &'a Launch,
    arguments: Vec<Argument>,
}

impl Planner<'_> {
    fn refuse(&self, what: String) -> Error {
        Error::Launch { op: self.launch.op().name(), what }
    }

    /// Appends a length that kernels count in 32 bits.
    fn length(&mut self, length: usize) -> Result<&mut Self, Error> {
        let narrow = u32::try_from(length);
        let narrow = narrow.map_err(|_| self.refuse(format!("a length of {length} is beyond 32 bits")))?;
        Ok(self.u32(narrow))
    }

    fn lengths(&mut self, lengths: &[usize]) -> Result<&mut Self, Error> {
        for &length in lengths {
            self.length(length)?;
        }
        Ok(self)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.arguments.push(Argument::U32(value));
        self
    }

    fn u64(&mut self, value: usize) -> &mut Self {
        self.arguments.push(Argument::U64(value as u64));
        self
    }

    fn f32(&mut self, value: f32) -> &mut Self {
        self.arguments.push(Argument::F32(value));
        self
    }

    /// The op's kernel for operands of that type.
    fn typed(&self, dtype: DType) -> String {
        format!("{}_{dtype}", self.launch.op().name())
    }

    /// One block for each of `units`.
    fn blocks(self, kernel: String, units: usize, threads: u32) -> Result<KernelLaunch, Error> {
        let blocks = u32::try_from(units).ok().filter(|&blocks| i32::try_from(blocks).is_ok());
        let blocks =
            blocks.ok_or_else(|| self.refuse(format!("{units} blocks are more than a grid holds")))?;
        Ok(KernelLaunch { kernel, blocks, threads, arguments: self.arguments })
    }

    /// One thread for each of `units`.
    fn threads(self, kernel: String, units: usize, threads: u32) -> Result<KernelLaunch, Error> {
        self.blocks(kernel, units.div_ceil(threads as usize), threads)
    }
}

/// The kernel launch for a launch whose operands start at `addresses`.
///
/// # Errors
/// [`Error::Launch`] where a shape is beyond what a CUDA grid can count.
pub(super) fn plan(launch: &Launch, addresses: &[u64]) -> Result<KernelLaunch, Error> {
    let l = launch;
    let arguments = addresses.iter().map(|&address| Argument::U64(address)).collect();
    let mut p = Planner { launch, arguments };
    let name = l.op().name().to_owned();
    let dtype = |operand: usize| l.view(operand).dtype;
    match l.op() {
        Op::EmbedText => {
            p.lengths(l.shape(1))?;
            let kernel = p.typed(dtype(1));
            p.blocks(kernel, l.shape(0)[0], ROW)
        }
        Op::EmbedCodes => {
            let [rows, codebooks] = [l.shape(0)[0], l.shape(0)[1]];
            p.lengths(&[codebooks, l.shape(2)[0] / codebooks, l.shape(2)[1]])?;
            let kernel = p.typed(dtype(2));
            p.blocks(kernel, rows, ROW)
        }
        Op::RmsNorm => {
            p.length(l.shape(0)[1])?.f32(l.f32(0));
            let kernel = p.typed(dtype(1));
            p.blocks(kernel, l.shape(0)[0], RMS_NORM)
        }
        Op::QkNormRope => {
            let [rows, heads] = [l.shape(0)[0], l.shape(0)[1]];
            let [table, half] = [l.shape(3)[0], l.shape(3)[1]];
            p.lengths(&[rows, heads, half, table])?.u32(l.u32(1)).f32(l.f32(0));
            let (kernel, warps) = (p.typed(dtype(1)), rows * heads);
            p.blocks(kernel, warps.div_ceil((QK_NORM_ROPE / WARP) as usize), QK_NORM_ROPE)
        }
        Op::Linear | Op::AudioHead | Op::LmHead => product(p, addresses),
        Op::KvWrite => {
            let (rows, cache) = (l.shape(0), l.shape(3));
            p.length(rows[0])?.u64(cache[0] * cache[1]).u64(rows[1] * rows[2]);
            let kernel = p.typed(dtype(3));
            p.blocks(kernel, rows[0], KV_WRITE)
        }
        Op::AttentionDecode => {
            let ([rows, heads], splits) = ([l.shape(0)[0], l.shape(0)[1]], l.shape(5)[2]);
            p.lengths(&[heads, l.shape(3)[1], splits])?;
            cache(&mut p, addresses)?.u32(l.u32(1)).u32(l.u32(2)).f32(l.f32(0));
            let kernel = p.typed(dtype(1));
            p.blocks(kernel, rows * heads * splits, ATTENTION)
        }
        Op::AttentionMerge => {
            let [rows, heads, splits, width] = [0, 1, 2, 3].map(|axis| l.shape(0)[axis]);
            p.lengths(&[heads, splits, width - 2])?.u32(l.u32(0));
            p.blocks(name, rows * heads, ATTENTION_MERGE)
        }
        Op::AttentionPrefill => {
            let [rows, heads] = [l.shape(0)[0], l.shape(0)[1]];
            p.lengths(&[heads, l.shape(3)[1]])?;
            cache(&mut p, addresses)?.u32(l.u32(1)).f32(l.f32(0));
            let kernel = p.typed(dtype(1));
            p.blocks(kernel, rows * heads, ATTENTION)
        }
        Op::SiluMul | Op::ResidualAdd => elementwise(name, addresses, l.view(0).len()),
        Op::Tanh => elementwise(p.typed(DType::F32), addresses, l.view(0).len()),
        Op::SeedState => {
            let [rows, codebooks] = [l.shape(0)[0], l.shape(0)[1]];
            p.lengths(&[rows, codebooks])?.u32(l.u32(0));
            p.threads(name, rows * codebooks, STATE)
        }
        Op::DelayMask => {
            p.lengths(l.shape(0))?.u32(l.u32(0)).u32(l.u32(1)).u32(l.u32(2)).u32(l.u32(3));
            p.threads(name, l.view(0).len(), ELEMENTS)
        }
        Op::UpdateState => {
            p.lengths(l.shape(0))?;
            for scalar in 0..6 {
                p.u32(l.u32(scalar));
            }
            p.threads(name, l.shape(0)[0], STATE)
        }
        Op::Sample => {
            let [rows, codebooks, vocab] = [0, 1, 2].map(|axis| l.shape(0)[axis]);
            // At most 2^24.
            let top_p = fixed_top_p(l.f32(2)) as u32;
            p.lengths(&[codebooks, vocab])?.u32(l.u32(1)).u32(top_p).f32(l.f32(0));
            p.blocks(name, rows * codebooks, SAMPLE)
        }
        Op::RvqDecode => {
            let ([t, codebooks], table) = ([l.shape(0)[0], l.shape(0)[1]], l.shape(1));
            p.lengths(&[t, codebooks, table[1], table[2]])?;
            let kernel = p.typed(dtype(1));
            p.blocks(kernel, t, ROW)
        }
        Op::Conv1d => {
            let ([inputs, t], [channels, taps]) =
                ([l.shape(0)[0], l.shape(0)[1]], [l.shape(1)[0], l.shape(1)[2]]);
            p.lengths(&[inputs, t, channels, taps])?.u32(l.u32(0)).u32((dtype(2) == DType::Bf16).into());
            let kernel = p.typed(dtype(1));
            p.threads(kernel, t.saturating_mul(channels.div_ceil(CHANNELS)), CONVOLUTION)
        }
        Op::ConvTranspose1d => {
            let ([inputs, t], channels) = ([l.shape(0)[0], l.shape(0)[1]], l.shape(1)[1]);
            let times = l.shape(3)[1];
            p.lengths(&[inputs, t, channels])?.u32(l.u32(0)).u32((dtype(2) == DType::Bf16).into());
            let kernel = p.typed(dtype(1));
            p.threads(kernel, times.saturating_mul(channels.div_ceil(CHANNELS)), CONVOLUTION)
        }
        Op::Snake => {
            p.lengths(l.shape(0))?;
            let kernel = p.typed(dtype(1));
            p.threads(kernel, l.view(0).len(), ELEMENTS)
        }
        Op::ChunkHash => {
            let chunk_bytes = l.u32(0);
            let threads_a_chunk = if chunk_bytes <= WARP_CHUNK_BYTES { WARP } else { CHUNK_HASH };
            p.u64(l.view(0).len()).u32(chunk_bytes).u32(threads_a_chunk);
            let chunks_a_block = (CHUNK_HASH / threads_a_chunk) as usize;
            p.blocks(name, l.shape(1)[0].div_ceil(chunks_a_block), CHUNK_HASH)
        }
    }
}

/// One thread for each of `len` elements, at least one, of arrays at `addresses`.
pub(super) fn elementwise(kernel: String, addresses: &[u64], len: usize) -> Result<KernelLaunch, Error> {
    let mut arguments: Vec<Argument> = addresses.iter().map(|&address| Argument::U64(address)).collect();
    arguments.push(Argument::U64(len as u64));
    let blocks = len.div_ceil(ELEMENTS as usize);
    let blocks = u32::try_from(blocks).ok().filter(|&blocks| i32::try_from(blocks).is_ok());
    let blocks = blocks
        .ok_or_else(|| Error::Launch { op: "elementwise", what: format!("{len} elements are too many") })?;
    Ok(KernelLaunch { kernel, blocks, threads: ELEMENTS, arguments })
}

/// Operands 0 and 1 allow loads of 16 bytes: rows of `columns` elements, both starting at a multiple of it.
fn aligned(addresses: &[u64], columns: usize) -> bool {
    columns.is_multiple_of(8) && addresses[..2].iter().all(|address| address.is_multiple_of(16))
}

/// A matrix product in tiles of rows and columns.
fn product(mut p: Planner<'_>, addresses: &[u64]) -> Result<KernelLaunch, Error> {
    let l = p.launch;
    let ([rows, k], m) = ([l.shape(0)[0], l.shape(0)[1]], l.shape(1)[0]);
    p.lengths(&[rows, k, m])?;
    // The audio head is a linear layer whose columns have two names.
    let op = if l.op() == Op::LmHead { Op::LmHead } else { Op::Linear };
    let (variant, tile_rows, tile_columns) = match rows {
        _ if !aligned(addresses, k) => ("unaligned", 1, 1),
        1 => ("rows1", 1, 2),
        2 => ("rows2", 2, 2),
        _ => ("rows4", 4, 2),
    };
    let kernel = format!("{}_{}_{variant}", op.name(), l.view(1).dtype);
    let tiles = rows.div_ceil(tile_rows).saturating_mul(m.div_ceil(tile_columns * GROUPS));
    p.blocks(kernel, tiles, PRODUCT)
}

/// Appends the shape of the paged cache of both attention ops.
fn cache<'p, 'a>(p: &'p mut Planner<'a>, addresses: &[u64]) -> Result<&'p mut Planner<'a>, Error> {
    let l = p.launch;
    let (shape, entries) = (l.shape(1), l.shape(3)[1]);
    let capacity = entries.saturating_mul(shape[1]);
    if capacity.max(shape[3]) > MAX_ATTENTION {
        let what = format!("{capacity} positions of {} dimensions, more than {MAX_ATTENTION}", shape[3]);
        return Err(p.refuse(what));
    }
    p.lengths(shape)?;
    Ok(p.u32(aligned(addresses, shape[3]).into()))
}

#[cfg(test)]
#[path = "../../examples/gpu_parity/cases.rs"]
mod cases;

#[cfg(test)]
#[path = "../../examples/gpu_parity/random.rs"]
mod random;

#[cfg(test)]
use crate as kernels;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::ptx::tests::parameter_types;
    use crate::{BufferId, View};

    /// A launch of a random case whose operands start at made-up addresses.
    fn random_plan(op: Op, seed: u64) -> KernelLaunch {
        let case = cases::random_case(op, &mut random::Random(seed));
        let view =
            |i: usize, o: &cases::Operand| View::dense(BufferId(i as u32), o.dtype, o.offset, &o.shape);
        let launch = case.launch(view);
        let addresses: Vec<u64> = case.operands.iter().map(|o| 4096 + o.offset as u64).collect();
        plan(&launch, &addresses).unwrap()
    }

    #[test]
    fn arguments_are_what_the_kernel_declares() {
        for &op in Op::ALL {
            for plan in (0..200).map(|seed| random_plan(op, seed)) {
                let types: Vec<_> = plan
                    .arguments
                    .iter()
                    .map(|argument| match argument {
                        Argument::U64(_) => "u64",
                        Argument::U32(_) => "u32",
                        Argument::F32(_) => "f32",
                    })
                    .collect();
                assert_eq!(Some(types), parameter_types(&plan.kernel), "{}", plan.kernel);
                assert!(plan.blocks > 0 && plan.threads % WARP == 0, "{plan:?}");
            }
        }
    }

    #[test]
    fn every_kernel_is_used() {
        let mut unused: Vec<&str> =
            crate::cuda::ptx::MODULES.iter().flat_map(|text| crate::cuda::ptx::kernels(text)).collect();
        for &op in Op::ALL {
            for plan in (0..400).map(|seed| random_plan(op, seed)) {
                unused.retain(|kernel| *kernel != plan.kernel);
            }
        }
        // The functions by themselves belong to no op.
        unused.retain(|kernel| !kernel.starts_with("contract_"));
        assert!(unused.is_empty(), "{unused:?}");
    }
}
