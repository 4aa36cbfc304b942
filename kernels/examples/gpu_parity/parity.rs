//! Ops on two backends, bit for bit.

use super::cases::{CONTENTS, Case, Operand, random_case};
use super::kernels::{
    Buffer, BufferSpec, CpuBackend, CpuForm, CudaBackend, DType, Error, Launch, Op, Role, Stream, View,
};
use super::memory;
use super::random::Random;

/// All bytes of all operands' buffers.
type Memory = Vec<Vec<u8>>;

/// A case's operands on one backend.
struct Bench<'a> {
    stream: &'a mut Stream,
    case: &'a Case,
    buffers: Vec<Buffer>,
    launch: Launch,
}

impl<'a> Bench<'a> {
    fn new(stream: &'a mut Stream, case: &'a Case) -> Result<Self, Error> {
        let mut buffers = Vec::new();
        for (i, operand) in case.operands.iter().enumerate() {
            let bytes = operand.contents[0].len();
            let spec = BufferSpec::new(&format!("operand{i}"), DType::U8, &[bytes], Role::Scratch);
            buffers.push(stream.allocate(spec)?);
        }
        let view = |i: usize, operand: &Operand| {
            View::dense(buffers[i].id, operand.dtype, operand.offset, &operand.shape)
        };
        let launch = case.launch(view);
        Ok(Bench { stream, case, buffers, launch })
    }

    /// Writes a set of contents into all buffers.
    fn reset(&mut self, set: usize) -> Result<(), Error> {
        for (buffer, operand) in self.buffers.iter().zip(&self.case.operands) {
            self.stream.write(&View::whole(buffer), &operand.contents[set])?;
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory, Error> {
        self.buffers.iter().map(|buffer| self.stream.read(&View::whole(buffer))).collect()
    }

    /// The launch on a set of contents.
    fn direct(&mut self, set: usize) -> Result<Memory, Error> {
        self.reset(set)?;
        self.stream.launch(&self.launch)?;
        self.memory()
    }

    /// The launch on each set of contents, captured before the first and run from the same graph.
    fn captured(&mut self) -> Result<[Memory; CONTENTS], Error> {
        self.reset(1)?;
        self.stream.begin_capture()?;
        self.stream.launch(&self.launch)?;
        let graph = self.stream.end_capture()?;
        let mut memories = [(); CONTENTS].map(|()| Memory::new());
        for (set, memory) in memories.iter_mut().enumerate() {
            self.reset(set)?;
            self.stream.launch_graph(&graph)?;
            *memory = self.memory()?;
        }
        self.stream.destroy_graph(graph)?;
        Ok(memories)
    }

    /// The launch on the first contents but for one operand, which is of the second.
    fn altered(&mut self, operand: usize) -> Result<Memory, Error> {
        self.reset(0)?;
        self.stream.write(&View::whole(&self.buffers[operand]), &self.case.operands[operand].contents[1])?;
        self.stream.launch(&self.launch)?;
        self.memory()
    }

    fn free(self) -> Result<(), Error> {
        self.buffers.iter().try_for_each(|buffer| self.stream.free(buffer.id))
    }
}

/// Where two memories differ first, in words.
fn difference(case: &Case, cpu: &Memory, cuda: &Memory) -> Option<String> {
    let (i, byte) = (0..cpu.len()).find_map(|i| {
        let byte = (0..cpu[i].len()).find(|&byte| cpu[i][byte] != cuda[i][byte]);
        byte.map(|byte| (i, byte))
    })?;
    let (operand, param) = (&case.operands[i], &case.op.schema().params[i]);
    let shapes: Vec<_> = case.operands.iter().map(|o| (o.dtype.name(), &o.shape)).collect();
    Some(format!(
        "`{}` byte {} (an element has {}): cpu {:02x}, cuda {:02x}; {shapes:?} {:?}",
        param.name,
        byte as i64 - operand.offset as i64,
        operand.dtype.size(),
        cpu[i][byte],
        cuda[i][byte],
        case.scalars
    ))
}

/// What was compared for one op.
#[derive(Default)]
struct Tally {
    comparisons: u64,
    bytes: usize,
    differing: u64,
    planted: u64,
    found: u64,
}

impl Tally {
    fn compare(&mut self, case: &Case, how: &str, cpu: &Memory, cuda: &Memory) {
        self.comparisons += 1;
        self.bytes += cpu.iter().map(Vec::len).sum::<usize>();
        if let Some(what) = difference(case, cpu, cuda) {
            self.differing += 1;
            if self.differing <= 2 {
                println!("  {} {how}: {what}", case.op.name());
            }
        }
    }
}

/// Runs one case on both backends, in all ways.
fn run(case: &Case, cpu: &mut Stream, cuda: &mut Stream, tally: &mut Tally) -> Result<(), Error> {
    let (mut cpu, mut cuda) = (Bench::new(cpu, case)?, Bench::new(cuda, case)?);
    let expected = [cpu.direct(0)?, cpu.direct(1)?];
    tally.compare(case, "direct", &expected[0], &cuda.direct(0)?);
    for (set, memory) in cuda.captured()?.iter().enumerate() {
        tally.compare(case, "from a graph", &expected[set], memory);
    }
    // Planted: one read operand holds something else. Outputs that depend on it must come out different.
    let params = case.op.schema().params;
    if let Some(operand) = (0..params.len()).find(|&i| !params[i].access.writes()) {
        let (other, written) = (cuda.altered(operand)?, |i: usize| params[i].access.writes());
        tally.planted += 1;
        tally.found += u64::from((0..params.len()).any(|i| written(i) && other[i] != expected[0][i]));
    }
    cpu.free()?;
    cuda.free()
}

/// Compares `cases` random launches of every op; prints a line an op.
pub(crate) fn compare(cuda: CudaBackend, cases: u64, seed: u64) -> Result<bool, Error> {
    let mut cuda = Stream::new(Box::new(cuda));
    let mut cpu = Stream::new(Box::new(CpuBackend::with_form(CpuForm::Naive)?));
    println!("\nop                 comparisons      bytes  differing  planted found");
    let mut equal = true;
    for (number, &op) in Op::ALL.iter().enumerate() {
        let mut tally = Tally::default();
        for n in 0..cases {
            let mut random = Random(seed << 32 ^ (number as u64) << 24 ^ n);
            run(&random_case(op, &mut random), &mut cpu, &mut cuda, &mut tally)?;
        }
        let Tally { comparisons, bytes, differing, planted, found } = tally;
        println!("{:<18} {comparisons:>11} {bytes:>10} {differing:>10} {found:>7} of {planted}", op.name());
        // An op without a read operand has nothing to plant in.
        equal &= differing == 0 && (found > 0 || planted == 0);
    }
    Ok(memory::compare([&mut cpu, &mut cuda], cases, seed)? && equal)
}
