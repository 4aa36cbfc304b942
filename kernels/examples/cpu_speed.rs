//! Speed of the CPU forms: matrix products, a decode step, the codec. Shapes are those of the embedded
//! voice: 6 layers of 256, 4 query heads over 2 KV heads of 64, feed-forward 640, 16 000 samples a second.
//!
//! ```text
//! cargo run --release -p twinstep-kernels --example cpu_speed [EXTENSION] [naive]
//! ```

use std::time::Instant;

use twinstep_kernels::{
    BufferSpec, CpuBackend, CpuForm, DType, Error, Extension, Launch, Op, Role, Scalar, Stream, View,
};

/// Launches made on one backend.
struct Bench {
    stream: Stream,
    launches: Vec<Launch>,
}

impl Bench {
    fn new(backend: CpuBackend) -> Self {
        Bench { stream: Stream::new(Box::new(backend)), launches: Vec::new() }
    }

    /// A buffer of small finite values.
    fn buffer(&mut self, dtype: DType, shape: &[usize]) -> Result<View, Error> {
        let buffer = self.stream.allocate(BufferSpec::new("buffer", dtype, shape, Role::Scratch))?;
        let view = View::whole(&buffer);
        let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 9) % 1024) as f32 / 2048.0 - 0.25;
        let count = view.len();
        let bytes = match dtype {
            DType::F32 => bytemuck::cast_slice(&(0..count).map(value).collect::<Vec<f32>>()).to_vec(),
            DType::F16 => {
                let halves = (0..count).map(|i| twinstep_kernels::contract::f32_to_f16(value(i)));
                bytemuck::cast_slice(&halves.collect::<Vec<u16>>()).to_vec()
            }
            _ => vec![0; count * dtype.size()],
        };
        self.stream.write(&view, &bytes)?;
        Ok(view)
    }

    fn integers(&mut self, dtype: DType, shape: &[usize], value: i64) -> Result<View, Error> {
        let view = self.buffer(dtype, shape)?;
        let one = &value.to_le_bytes()[..dtype.size()];
        self.stream.write(&view, &one.repeat(view.len()))?;
        Ok(view)
    }

    fn add(&mut self, op: Op, views: &[&View], scalars: &[Scalar]) -> Result<(), Error> {
        let views = views.iter().map(|&v| v.clone()).collect();
        self.launches.push(Launch::new(op, views, scalars.to_vec())?);
        Ok(())
    }

    /// `x` times new weights of `m` rows.
    fn linear(&mut self, x: &View, m: usize) -> Result<View, Error> {
        let weight = self.buffer(DType::F16, &[m, x.shape[1]])?;
        let out = self.buffer(DType::F32, &[x.shape[0], m])?;
        self.add(Op::Linear, &[x, &weight, &out], &[])?;
        Ok(out)
    }

    /// Least seconds of all launches together: other programs may be at work beside this one.
    fn seconds(&mut self) -> Result<f64, Error> {
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < 5 || (start.elapsed().as_secs_f64() < 0.5 && times.len() < 1000) {
            let run = Instant::now();
            self.launches.iter().try_for_each(|launch| self.stream.launch(launch))?;
            times.push(run.elapsed().as_secs_f64());
        }
        Ok(times.into_iter().fold(f64::INFINITY, f64::min))
    }

    /// Seconds of the launches of each op, the longest first.
    fn seconds_by_op(&mut self) -> Result<Vec<(Op, usize, f64)>, Error> {
        let all = std::mem::take(&mut self.launches);
        let mut table = Vec::new();
        for &op in Op::ALL {
            self.launches = all.iter().filter(|launch| launch.op() == op).cloned().collect();
            if !self.launches.is_empty() {
                table.push((op, self.launches.len(), self.seconds()?));
            }
        }
        self.launches = all;
        table.sort_by(|a, b| b.2.total_cmp(&a.2));
        Ok(table)
    }
}

/// One decode step (or a prefill of `rows` rows of one sequence) at position 300.
fn step(bench: &mut Bench, rows: usize, prefill: bool) -> Result<(), Error> {
    let (hidden, heads, kv_heads, d) = (256, 4, 2, 64);
    let eps = Scalar::F32(1e-6);
    let tiles_per_split = Scalar::U32(4);
    let faults = bench.integers(DType::U32, &[1], 0)?;
    let x = bench.buffer(DType::F32, &[rows, hidden])?;
    let text = bench.buffer(DType::F32, &[rows, hidden])?;
    let codes = bench.integers(DType::I64, &[rows, 4], 3)?;
    let has_codes = bench.integers(DType::Bool, &[rows], 1)?;
    let table = bench.buffer(DType::F16, &[2056, hidden])?;
    let ids = bench.integers(DType::I32, &[rows], 65)?;
    bench.add(Op::EmbedText, &[&ids, &table, &text, &faults], &[])?;
    bench.add(Op::EmbedCodes, &[&codes, &has_codes, &table, &text, &x, &faults], &[])?;
    let positions = bench.integers(DType::I64, &[rows], 300)?;
    let seq_lens = bench.integers(DType::I32, &[rows], 301)?;
    let (cos, sin) = (bench.buffer(DType::F32, &[1024, 32])?, bench.buffer(DType::F32, &[1024, 32])?);
    let block_table = bench.integers(DType::I32, &[if prefill { 1 } else { rows }, 64], 5)?;
    let slots = bench.integers(DType::I64, &[rows], 17)?;
    for _ in 0..6 {
        let gain = bench.buffer(DType::F16, &[hidden])?;
        let head_gain = bench.buffer(DType::F16, &[d])?;
        let normed = bench.buffer(DType::F32, &[rows, hidden])?;
        bench.add(Op::RmsNorm, &[&x, &gain, &normed], &[eps])?;
        let q = bench.linear(&normed, heads * d)?.reshape(&[rows, heads, d]);
        let k = bench.linear(&normed, kv_heads * d)?.reshape(&[rows, kv_heads, d]);
        let v = bench.linear(&normed, kv_heads * d)?.reshape(&[rows, kv_heads, d]);
        let rotated_q = bench.buffer(DType::F32, &[rows, heads, d])?;
        let rotated_k = bench.buffer(DType::F32, &[rows, kv_heads, d])?;
        for (x, out) in [(&q, &rotated_q), (&k, &rotated_k)] {
            bench.add(Op::QkNormRope, &[x, &head_gain, &positions, &cos, &sin, out, &faults], &[eps])?;
        }
        let k_cache = bench.buffer(DType::F16, &[256, 16, kv_heads, d])?;
        let v_cache = bench.buffer(DType::F16, &[256, 16, kv_heads, d])?;
        bench.add(Op::KvWrite, &[&rotated_k, &v, &slots, &k_cache, &v_cache, &faults], &[])?;
        let attended = bench.buffer(DType::F32, &[rows, heads * d])?;
        let scale = Scalar::F32(0.125);
        if prefill {
            let views = [&rotated_q, &k_cache, &v_cache, &block_table, &positions, &attended, &faults];
            bench.add(Op::AttentionPrefill, &views, &[scale, tiles_per_split])?;
        } else {
            let partial = bench.buffer(DType::F32, &[rows, heads, 4, d + 2])?;
            let views = [&rotated_q, &k_cache, &v_cache, &block_table, &seq_lens, &partial, &faults];
            bench.add(Op::AttentionDecode, &views, &[scale, tiles_per_split])?;
            bench.add(Op::AttentionMerge, &[&partial, &seq_lens, &attended], &[tiles_per_split])?;
        }
        let projected = bench.linear(&attended, hidden)?;
        bench.add(Op::ResidualAdd, &[&x, &projected], &[])?;
        bench.add(Op::RmsNorm, &[&x, &gain, &normed], &[eps])?;
        let (gate, up) = (bench.linear(&normed, 640)?, bench.linear(&normed, 640)?);
        let gated = bench.buffer(DType::F32, &[rows, 640])?;
        bench.add(Op::SiluMul, &[&gate, &up, &gated], &[])?;
        let down = bench.linear(&gated, hidden)?;
        bench.add(Op::ResidualAdd, &[&x, &down], &[])?;
    }
    if prefill {
        return Ok(());
    }
    let lm_weight = bench.buffer(DType::F16, &[264, hidden])?;
    let lm_logits = bench.buffer(DType::F16, &[rows, 264])?;
    bench.add(Op::LmHead, &[&x, &lm_weight, &lm_logits], &[])?;
    let logits = bench.buffer(DType::F32, &[rows, 4, 514])?;
    bench.add(Op::AudioHead, &[&x, &table, &logits], &[])?;
    let (count, countdown) =
        (bench.integers(DType::I64, &[rows], 9)?, bench.integers(DType::I64, &[rows], -1)?);
    let masked = bench.buffer(DType::F32, &[rows, 4, 514])?;
    let mask = [512, 513, 8, 7].map(Scalar::U32);
    bench.add(Op::DelayMask, &[&logits, &count, &countdown, &masked], &mask)?;
    let (key, counter) =
        (bench.integers(DType::U32, &[rows, 4], 1)?, bench.integers(DType::U32, &[rows], 1)?);
    let sampled = bench.integers(DType::I64, &[rows, 4], 0)?;
    let sampling = [Scalar::F32(0.8), Scalar::U32(50), Scalar::F32(0.95)];
    bench.add(Op::Sample, &[&masked, &key, &counter, &sampled], &sampling)
}

/// The codec's decoder over a number of frames of 320 samples.
fn codec(bench: &mut Bench, frames: usize) -> Result<(), Error> {
    let faults = bench.integers(DType::U32, &[1], 0)?;
    let codes = bench.integers(DType::I64, &[frames, 4], 3)?;
    let tables = bench.buffer(DType::F16, &[4, 512, 64])?;
    let mut x = bench.buffer(DType::F32, &[64, frames])?;
    bench.add(Op::RvqDecode, &[&codes, &tables, &x, &faults], &[])?;
    let mut time = frames;
    x = conv(bench, &x, 256, 7, 1)?;
    for (channels, stride) in [(128, 8), (64, 5), (32, 4), (16, 2)] {
        x = snake(bench, &x)?;
        time *= stride;
        let weight = bench.buffer(DType::F16, &[x.shape[0], channels, 2 * stride])?;
        let bias = bench.buffer(DType::F16, &[channels])?;
        let out = bench.buffer(DType::F32, &[channels, time])?;
        let stride = Scalar::U32(stride as u32);
        bench.add(Op::ConvTranspose1d, &[&x, &weight, &bias, &out], &[stride])?;
        x = out;
        for dilation in [1, 3, 9] {
            let y = snake(bench, &x)?;
            let y = conv(bench, &y, channels, 7, dilation)?;
            let y = snake(bench, &y)?;
            let y = conv(bench, &y, channels, 1, 1)?;
            bench.add(Op::ResidualAdd, &[&x, &y], &[])?;
        }
    }
    x = snake(bench, &x)?;
    let x = conv(bench, &x, 1, 7, 1)?;
    let wav = bench.buffer(DType::F32, &x.shape)?;
    bench.add(Op::Tanh, &[&x, &wav], &[])
}

fn conv(bench: &mut Bench, x: &View, channels: usize, taps: usize, dilation: u32) -> Result<View, Error> {
    let weight = bench.buffer(DType::F16, &[channels, x.shape[0], taps])?;
    let bias = bench.buffer(DType::F16, &[channels])?;
    let out = bench.buffer(DType::F32, &[channels, x.shape[1]])?;
    bench.add(Op::Conv1d, &[x, &weight, &bias, &out], &[Scalar::U32(dilation)])?;
    Ok(out)
}

fn snake(bench: &mut Bench, x: &View) -> Result<View, Error> {
    let alpha = bench.buffer(DType::F16, &[x.shape[0]])?;
    let out = bench.buffer(DType::F32, &x.shape)?;
    bench.add(Op::Snake, &[x, &alpha, &out], &[])?;
    Ok(out)
}

fn report(bench: &mut Bench, what: &str) -> Result<f64, Error> {
    let seconds = bench.seconds()?;
    println!("\n{what}: {:.3} ms", seconds * 1e3);
    for (op, launches, seconds) in bench.seconds_by_op()? {
        println!("  {:<18} {launches:>3} launches {:>9.1} us", op.name(), seconds * 1e6);
    }
    Ok(seconds)
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |e: &Extension| arguments.iter().any(|a| a == e.name());
    let extension = Extension::available().into_iter().find(named).unwrap_or(Extension::best());
    let naive = arguments.iter().any(|a| a == "naive");
    let backend = || match naive {
        true => CpuBackend::with_form(CpuForm::Naive),
        false => CpuBackend::with_extension(extension),
    };
    println!("{}", if naive { "naive" } else { extension.name() });
    for [m, k] in [[256, 256], [640, 256], [256, 640], [2056, 256]] {
        for rows in [1, 4, 100] {
            let mut bench = Bench::new(backend()?);
            let x = bench.buffer(DType::F32, &[rows, k])?;
            bench.linear(&x, m)?;
            let seconds = bench.seconds()?;
            let (gigabytes, multiply_adds) = ((m * k * 2) as f64 / 1e9, (rows * m * k) as f64 / 1e9);
            println!(
                "linear {m:>4} x {k} f16, {rows:>3} rows: {:>8.1} us, {:>6.2} GB/s of weights, {:>6.1} G multiply-adds/s",
                seconds * 1e6,
                gigabytes / seconds,
                multiply_adds / seconds
            );
        }
    }
    let mut bench = Bench::new(backend()?);
    step(&mut bench, 4, false)?;
    report(&mut bench, "decode step, 4 rows")?;
    let mut bench = Bench::new(backend()?);
    step(&mut bench, 100, true)?;
    report(&mut bench, "prefill, 100 rows")?;
    for frames in [8, 50, 200] {
        let mut bench = Bench::new(backend()?);
        codec(&mut bench, frames)?;
        let seconds = report(&mut bench, &format!("codec, {frames} frames"))?;
        println!("  {:.1} times real time", frames as f64 / 50.0 / seconds);
    }
    let mut bench = Bench::new(backend()?);
    let data = bench.buffer(DType::U8, &[4 << 20])?;
    let out = bench.buffer(DType::U64, &[1024, 2])?;
    bench.add(Op::ChunkHash, &[&data, &out], &[Scalar::U32(4096)])?;
    println!("\nchunk hash, 4 MiB: {:.2} GB/s", (4 << 20) as f64 / 1e9 / bench.seconds()?);
    Ok(())
}
