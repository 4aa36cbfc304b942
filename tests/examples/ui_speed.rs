//! How fast the terminal UI answers a key, and how much memory it takes, on a generated pair of traces:
//! 2,000 steps and 2 GiB each. The real binary in a pseudo-terminal of 200x60.
//!
//! `cargo run --release -p twinstep-tests --example ui_speed [FOLDER]`; the folder keeps the pair.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use twinstep_tests::screen::Screen;
use twinstep_traces::*;

const STEPS: u32 = 2_000;
/// Step from which B differs.
const DIVERGES: u32 = 1_000;
const LAUNCHES: usize = 200;
/// Elements of the buffer that changes wholly in each step: 1 MiB.
const WIDE: usize = 256 << 10;
const KV_BYTES: usize = 2 * 128 * 16 * 2 * 64 * 2;

fn main() -> Result<(), Box<dyn Error>> {
    let kept = std::env::args().nth(1).map(PathBuf::from);
    let temporary = tempfile::tempdir()?;
    let folder = kept.as_deref().unwrap_or(temporary.path());
    for (name, differs) in [("a.twin", false), ("b.twin", true)] {
        let path = folder.join(name);
        if !path.exists() {
            generate(&path, differs)?;
        }
        println!("{name}: {:.2} GiB", path.metadata()?.len() as f64 / f64::from(1 << 30));
    }
    measure(folder)
}

fn buffer(name: &str, dtype: DType, shape: &[u64], role: Role, chunk_bytes: u32) -> BufferRecord {
    BufferRecord {
        name: name.to_owned(),
        generation: 0,
        dtype,
        shape: shape.to_vec(),
        role,
        bytes: shape.iter().product::<u64>() * dtype.size(),
        chunk_bytes,
        address: None,
        contents: None,
    }
}

fn generate(path: &Path, differs: bool) -> Result<(), Box<dyn Error>> {
    let run = RunRecord {
        tool: "generated".to_owned(),
        mode: "graph".to_owned(),
        device: DeviceRecord {
            backend: "cpu".to_owned(),
            name: String::new(),
            capability: String::new(),
            driver: String::new(),
            ptx_sha256: String::new(),
        },
        model: "generated".to_owned(),
        model_source: String::new(),
        model_sha256: [0; 32],
        weights_dtype: "f16".to_owned(),
        kv_dtype: "f16".to_owned(),
        profile: "voice".to_owned(),
        prompt: "generated".to_owned(),
        rows: 4,
        sampling: SamplingRecord { temperature_bits: 0, top_k: 0, top_p_bits: 0, seed: 0 },
        sample_rate: 16_000,
        notes: Vec::new(),
    };
    let mut writer = TraceWriter::create(path, &run, true)?;
    let wide = writer.add_buffer(&buffer("hidden", DType::F32, &[256, 1024], Role::State, 4096))?;
    let codes = writer.add_buffer(&buffer("codes_out", DType::I64, &[4, 8], Role::Output, 256))?;
    let mut kv = Vec::new();
    for layer in 0..4 {
        let record = buffer(&format!("kv_cache.{layer}"), DType::F16, &[2, 128, 16, 2, 64], Role::State, 256);
        kv.push(writer.add_buffer(&record)?);
    }
    let covered: Vec<BufferId> = [wide, codes].into_iter().chain(kv.iter().copied()).collect();
    let allocate = covered.iter().map(|&buffer| Item::Allocate { buffer }).collect();
    let setup = writer.add_program(&Program { items: allocate })?;
    let launch = |i: usize| {
        let (input, output) = (covered[i % covered.len()], covered[(i + 1) % covered.len()]);
        let view = |name: &str, buffer, access| ViewRecord {
            name: name.to_owned(),
            buffer,
            offset: 0,
            shape: vec![4, 8],
            strides: vec![8, 1],
            dtype: DType::F16,
            access,
        };
        Item::Launch(LaunchRecord {
            op: "generated".to_owned(),
            version: 1,
            phase: Phase::Forward,
            label: format!("launch.{i}"),
            stream: 0,
            views: vec![view("input", input, Access::Read), view("out", output, Access::Write)],
            scalars: Vec::new(),
        })
    };
    let program = writer.add_program(&Program { items: (0..LAUNCHES).map(launch).collect() })?;
    let record = |kind, request, step, program, points| StepRecord {
        kind,
        request,
        step,
        rank: 0,
        program,
        host_writes: Vec::new(),
        host_reads: Vec::new(),
        points,
    };
    writer.commit_step(&record(StepKind::Setup, 0, 0, setup, Vec::new()))?;
    writer.add_request(&RequestRecord {
        request: 1,
        text: "generated".to_owned(),
        prompt: Vec::new(),
        row: 0,
    })?;
    let mut values = vec![0u8; WIDE * 4];
    fill(&mut values, 0, false);
    let (fresh, no_codes) = (vec![0xa5; KV_BYTES], vec![0; 256]);
    let first: Vec<ChangedChunks<'_>> = [whole(wide, &values[..]), whole(codes, &no_codes[..])]
        .into_iter()
        .chain(kv.iter().map(|&id| whole(id, &fresh[..])))
        .collect();
    let mut before = writer.snapshot(&covered, &first, &[])?;
    for step in 1..=STEPS {
        fill(&mut values, step, differs && step >= DIVERGES);
        let said: Vec<u8> = (0..32i64).flat_map(|i| (i64::from(step) * 7 + i).to_le_bytes()).collect();
        let token: Vec<u8> = (0..256).map(|i| (step as u8).wrapping_add(i as u8)).collect();
        let mut changed = vec![whole(wide, &values[..]), whole(codes, &said[..])];
        for &id in &kv {
            let first_chunk = u64::from(step);
            changed.push(ChangedChunks { buffer: id, first_chunk, bytes: &token });
        }
        let after = writer.snapshot(&covered, &changed, &[])?;
        let point =
            |point: &str, position, snapshot| PointRecord { point: point.to_owned(), position, snapshot };
        let points = vec![point("step.before", 0, before), point("step.after", LAUNCHES as u32, after)];
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        writer.commit_step(&record(kind, 1, step, program, points))?;
        before = after;
    }
    writer.finish()?;
    Ok(())
}

fn whole(buffer: BufferId, bytes: &[u8]) -> ChangedChunks<'_> {
    ChangedChunks { buffer, first_chunk: 0, bytes }
}

/// Values of a step: every chunk is new, so that nothing is stored once for many.
fn fill(values: &mut [u8], step: u32, differs: bool) {
    for (i, bytes) in values.chunks_exact_mut(4).enumerate() {
        let mixed = (i as u32 ^ step.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca77);
        let mut value = (mixed >> 8) as f32 / 16_777_216.0;
        if differs && i % 9_999 == 0 {
            value += 0.125;
        }
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

fn measure(folder: &Path) -> Result<(), Box<dyn Error>> {
    // Built before the clock runs.
    let _ = twinstep_tests::binary();
    let start = Instant::now();
    let mut screen = Screen::with(folder, &["a.twin", "b.twin"], (60, 200), &[]);
    screen.shows("1 timeline");
    println!("first screen after {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    screen.shows("first difference");
    println!("compared after {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    screen.shows("phases of step");
    let walks = [
        ("timeline, step by step", "1", "njkNnn]\x1b[B\x1b[A"),
        ("buffers of a step", "2", "jkjkntt"),
        ("launches of a step", "2", "\tjjkkj\t"),
        ("list of values", "3", "jjkkn.,jl"),
        ("grid of values", "v", "jlhknjl"),
        ("hex", "v", "jlhknjl"),
        ("figures", "v", "nNnN"),
        ("codes", "4", "lhlhjk"),
        ("KV cache", "5", "jlhkljn"),
    ];
    let mut all = Vec::new();
    for (name, enter, keys) in walks {
        screen.keys(enter);
        settle(&mut screen);
        let mut times: Vec<f64> =
            (0..20).flat_map(|_| keys_of(keys)).map(|key| answer(&mut screen, &key)).collect();
        all.extend(&times);
        report(name, &mut times);
    }
    report("all keys", &mut all);
    let status = screen.child.process_id().map(|id| std::fs::read_to_string(format!("/proc/{id}/status")));
    if let Some(Ok(status)) = status {
        for line in status.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("Rss")) {
            println!("{line}");
        }
    }
    screen.keys("\x03");
    screen.ends();
    Ok(())
}

/// Single keys; an arrow is three bytes.
fn keys_of(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = if rest.starts_with('\x1b') { 3 } else { 1 };
        keys.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    keys
}

/// Until nothing is written any more.
fn settle(screen: &mut Screen) {
    let mut last = screen.raw.len();
    loop {
        screen.take(Duration::from_millis(150));
        if screen.raw.len() == last {
            return;
        }
        last = screen.raw.len();
    }
}

/// Milliseconds from a key to the last byte of the frame that answers it.
fn answer(screen: &mut Screen, key: &str) -> f64 {
    while screen.output.try_recv().is_ok() {}
    let start = Instant::now();
    screen.keys(key);
    let mut end = None;
    // Every key changes the status line or the cursor; a frame is over when two milliseconds bring nothing.
    while let Ok(bytes) = screen.output.recv_timeout(if end.is_some() {
        Duration::from_millis(2)
    } else {
        Duration::from_millis(100)
    }) {
        end = Some(start.elapsed());
        screen.raw.extend(bytes);
    }
    std::thread::sleep(Duration::from_millis(15));
    end.map_or(0.0, |end| end.as_secs_f64() * 1e3)
}

fn report(name: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{name:<24} {:>5} keys  median {:>6.2} ms  p99 {:>6.2} ms  most {:>6.2} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
