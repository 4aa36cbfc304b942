//! Time of each op at the shapes of a 4B talker (36 layers of 2560, 32 heads over 8 KV heads of 128).

use std::time::{Duration, Instant};

use super::kernels::{BufferSpec, CudaBackend, DType, Error, Launch, Op, Role, Scalar, Stream, View};

/// Operand sets that take turns, so that weights come from memory and not from a cache.
const SETS: usize = 4;
/// Launches in a graph.
const LAUNCHES: usize = 60;
/// Runs of the graph, of which the median counts.
const RUNS: usize = 7;

/// What to time.
struct Subject {
    op: Op,
    operands: Vec<(DType, Vec<usize>)>,
    scalars: Vec<Scalar>,
}

fn subjects() -> Vec<Subject> {
    use DType::{Bf16, Bool, F16, F32, I32, I64, U8, U32, U64};
    let of = |op, operands: &[(DType, &[usize])], scalars: &[Scalar]| Subject {
        op,
        operands: operands.iter().map(|&(dtype, shape)| (dtype, shape.to_vec())).collect(),
        scalars: scalars.to_vec(),
    };
    let faults: (DType, &[usize]) = (U32, &[1]);
    let mut subjects = Vec::new();
    for rows in [1, 4, 64] {
        for [m, k] in [[2560, 9728], [2560, 4096], [6144, 2560], [19456, 2560]] {
            subjects.push(of(Op::Linear, &[(F32, &[rows, k]), (F16, &[m, k]), (F32, &[rows, m])], &[]));
        }
    }
    let (m, k) = (151_936, 2560);
    subjects.push(of(Op::LmHead, &[(F32, &[1, k]), (Bf16, &[m, k]), (Bf16, &[1, m])], &[]));
    let (heads, cache): (&[usize], &[usize]) = (&[4, 32, 128], &[512, 16, 8, 128]);
    let [scale, tiles] = [Scalar::F32(0.088), Scalar::U32(2)];
    subjects.extend([
        of(Op::AudioHead, &[(F32, &[1, k]), (F16, &[8208, k]), (F32, &[1, 8, 1026])], &[]),
        of(Op::RmsNorm, &[(F32, &[4, k]), (F16, &[k]), (F32, &[4, k])], &[Scalar::F32(1e-6)]),
        of(
            Op::QkNormRope,
            &[
                (F32, heads),
                (F16, &[128]),
                (I64, &[4]),
                (F32, &[4096, 64]),
                (F32, &[4096, 64]),
                (F32, heads),
                faults,
            ],
            &[Scalar::F32(1e-6)],
        ),
        of(
            Op::KvWrite,
            &[(F32, &[4, 8, 128]), (F32, &[4, 8, 128]), (I64, &[4]), (F16, cache), (F16, cache), faults],
            &[],
        ),
        of(
            Op::AttentionDecode,
            &[
                (F32, heads),
                (F16, cache),
                (F16, cache),
                (I32, &[4, 128]),
                (I32, &[4]),
                (F32, &[4, 32, 16, 130]),
                faults,
            ],
            &[scale, tiles],
        ),
        of(Op::AttentionMerge, &[(F32, &[4, 32, 16, 130]), (I32, &[4]), (F32, &[4, 4096])], &[tiles]),
        of(
            Op::AttentionPrefill,
            &[
                (F32, &[64, 32, 128]),
                (F16, cache),
                (F16, cache),
                (I32, &[1, 128]),
                (I64, &[64]),
                (F32, &[64, 4096]),
                faults,
            ],
            &[scale, tiles],
        ),
        of(Op::SiluMul, &[(F32, &[4, 9728]), (F32, &[4, 9728]), (F32, &[4, 9728])], &[]),
        of(Op::ResidualAdd, &[(F32, &[4, k]), (F32, &[4, k])], &[]),
        of(
            Op::Sample,
            &[(F32, &[4, 8, 1026]), (U32, &[4, 4]), (U32, &[4]), (I64, &[4, 8])],
            &[Scalar::F32(1.0), Scalar::U32(50), Scalar::F32(0.95)],
        ),
        of(
            Op::EmbedCodes,
            &[(I64, &[4, 8]), (Bool, &[4]), (F16, &[8208, k]), (F32, &[4, k]), (F32, &[4, k]), faults],
            &[],
        ),
        of(
            Op::Conv1d,
            &[(F32, &[192, 1600]), (F16, &[192, 192, 7]), (F16, &[192]), (F32, &[192, 1600])],
            &[Scalar::U32(3)],
        ),
        of(
            Op::ConvTranspose1d,
            &[(F32, &[384, 200]), (F16, &[384, 192, 16]), (F16, &[192]), (F32, &[192, 1600])],
            &[Scalar::U32(8)],
        ),
        of(Op::Snake, &[(F32, &[192, 1600]), (F16, &[192]), (F32, &[192, 1600])], &[]),
        of(Op::ChunkHash, &[(U8, &[256 << 20]), (U64, &[65_536, 2])], &[Scalar::U32(4096)]),
    ]);
    subjects
}

/// Time of one launch: a graph of many, median of several runs.
fn time(stream: &mut Stream, subject: &Subject) -> Result<Duration, Error> {
    let mut launches = Vec::new();
    for set in 0..SETS {
        let mut views = Vec::new();
        for (i, (dtype, shape)) in subject.operands.iter().enumerate() {
            let spec = BufferSpec::new(&format!("{set}.{i}"), *dtype, shape, Role::Scratch);
            let buffer = stream.allocate(spec)?;
            // Fresh memory is finite in all float types; as an index it is out of range, so indices are
            // set: lengths and positions to 2000, everything else to 1.
            let index: i64 = match subject.op {
                Op::AttentionDecode | Op::AttentionMerge | Op::AttentionPrefill if i != 3 => 2000,
                _ => 1,
            };
            let bytes: Option<Vec<u8>> = match dtype {
                DType::I64 => Some(index.to_le_bytes().repeat(buffer.bytes() / 8)),
                DType::I32 => Some((index as i32).to_le_bytes().repeat(buffer.bytes() / 4)),
                _ => None,
            };
            if let Some(bytes) = bytes {
                stream.write(&View::whole(&buffer), &bytes)?;
            }
            views.push(View::whole(&buffer));
        }
        launches.push(Launch::new(subject.op, views, subject.scalars.clone())?);
    }
    stream.begin_capture()?;
    (0..LAUNCHES).try_for_each(|n| stream.launch(&launches[n % SETS]))?;
    let graph = stream.end_capture()?;
    stream.launch_graph(&graph)?;
    stream.synchronize()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        stream.launch_graph(&graph)?;
        stream.synchronize()?;
        times.push(start.elapsed() / LAUNCHES as u32);
    }
    times.sort_unstable();
    stream.destroy_graph(graph)?;
    for view in launches.iter().flat_map(Launch::views) {
        stream.free(view.buffer)?;
    }
    Ok(times[RUNS / 2])
}

/// Prints the time of each op and, for those that memory limits, the bandwidth.
pub(crate) fn measure(cuda: &mut CudaBackend) -> Result<(), Error> {
    const BYTES: usize = 1 << 30;
    let copy = 2.0 * BYTES as f64 / cuda.time_copy(BYTES)?.as_secs_f64();
    println!("\na device copy moves {:.2} TB/s (read and written)", copy / 1e12);
    println!("op                 operands                          microseconds    TB/s  of a copy");
    let mut stream = Stream::new(Box::new(CudaBackend::open()?));
    for subject in subjects() {
        let time = time(&mut stream, &subject)?.as_secs_f64();
        let shapes: Vec<String> =
            subject.operands.iter().take(2).map(|(dtype, shape)| format!("{dtype}{shape:?}")).collect();
        print!("{:<18} {:<33} {:>12.1}", subject.op.name(), shapes.join(" "), time * 1e6);
        if matches!(subject.op, Op::Linear | Op::LmHead | Op::AudioHead | Op::ChunkHash) {
            let bytes: usize = subject
                .operands
                .iter()
                .map(|(dtype, shape)| dtype.size() * shape.iter().product::<usize>())
                .sum();
            let speed = bytes as f64 / time;
            print!("  {:>6.2}  {:>8.0}%", speed / 1e12, speed / copy * 100.0);
        }
        println!();
    }
    Ok(())
}
