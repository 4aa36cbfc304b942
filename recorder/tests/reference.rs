//! Against the NumPy reference (`voice/synthesize.py`) with its codes forced. `data/make.py` makes the data.

use twinstep_kernels::CpuBackend;
use twinstep_recorder::{KvType, RecordOptions, Recording, Voice, record, run_record};
use twinstep_traces::{MemoryStorage, Trace, TraceWriter};

struct Reference {
    text: String,
    rows: Vec<Vec<i64>>,
    /// Of every fourth row.
    logits: Vec<Vec<f32>>,
    waveform: Vec<f32>,
}

fn floats(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn reference() -> Reference {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/codes.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Reference {
        text: json["text"].as_str().unwrap().to_owned(),
        rows: serde_json::from_value(json["rows"].clone()).unwrap(),
        logits: floats("logits.f32").chunks_exact(4 * 514).map(<[f32]>::to_vec).collect(),
        waveform: floats("waveform.f32"),
    }
}

fn speak(options: &RecordOptions) -> (Trace, Recording<MemoryStorage>) {
    let voice = Voice::embedded().unwrap();
    let backend = Box::new(CpuBackend::new().unwrap());
    let device = twinstep_kernels::Backend::info(&*backend);
    let run = run_record(&voice, options, &device);
    let writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    let mut recording = record(&voice, options, backend, Some(writer), &mut |_| {}).unwrap();
    let trace = Trace::from_bytes(recording.storage.take().unwrap().into_bytes()).unwrap();
    (trace, recording)
}

fn argmax(x: &[f32]) -> usize {
    (0..x.len()).max_by(|&a, &b| x[a].total_cmp(&x[b]).then(b.cmp(&a))).unwrap()
}

/// Audio logits within `bound` of the reference, and the same winner wherever the reference's lead over
/// the runner-up is more than twice the bound.
fn check_logits(kv: KvType, bound: f32) {
    let reference = reference();
    let mut options = RecordOptions::new(&reference.text);
    options.kv = kv;
    options.forced_codes = Some(reference.rows.clone());
    let (trace, _) = speak(&options);
    let logits = trace.find_buffer("audio_logits", None).unwrap();
    let (mut worst, mut decided) = (0.0f32, 0);
    for (i, expected) in reference.logits.iter().enumerate() {
        let step = trace.step(trace.find_step(1, 4 * i as u32 + 1).unwrap().unwrap()).unwrap();
        let after = step.points.iter().find(|p| p.point == "step.after").unwrap().snapshot;
        let bytes = trace.read_buffer(after, logits).unwrap().unwrap();
        let row: Vec<f32> =
            bytes.chunks_exact(4).take(4 * 514).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        for (ours, theirs) in row.chunks_exact(514).zip(expected.chunks_exact(514)) {
            for (a, b) in ours.iter().zip(theirs) {
                worst = worst.max((a - b).abs());
            }
            let best = argmax(theirs);
            let second = (0..514).filter(|&j| j != best).map(|j| theirs[j]).fold(f32::MIN, f32::max);
            if theirs[best] - second > 2.0 * bound {
                assert_eq!(argmax(ours), best, "row {i}");
                decided += 1;
            }
        }
    }
    assert!(worst <= bound, "audio logits differ by {worst}, bound {bound}");
    assert!(decided > reference.logits.len(), "only {decided} clear winners");
}

#[test]
fn audio_logits_with_f16_kv_are_within_a_tenth() {
    check_logits(KvType::Weights, 0.1);
}

#[test]
fn audio_logits_with_f32_kv_are_within_two_thousandths() {
    check_logits(KvType::F32, 2e-3);
}

#[test]
fn the_codec_gives_the_references_waveform() {
    let reference = reference();
    let mut options = RecordOptions::new(&reference.text);
    options.forced_codes = Some(reference.rows.clone());
    let (_, recording) = speak(&options);
    assert_eq!(recording.waveform.len(), reference.waveform.len());
    let worst =
        recording.waveform.iter().zip(&reference.waveform).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-3, "the waveform differs by {worst}");
    let loud = reference.waveform.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(loud > 0.1, "the reference is silent");
}

#[test]
fn other_codes_are_seen() {
    let reference = reference();
    let mut rows = reference.rows.clone();
    rows[8][0] = (rows[8][0] + 1) % 512;
    let mut options = RecordOptions::new(&reference.text);
    options.forced_codes = Some(rows);
    let (_, recording) = speak(&options);
    let worst =
        recording.waveform.iter().zip(&reference.waveform).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 1e-3);
}
