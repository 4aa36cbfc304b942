//! The speech is real: a recogniser that knows nothing of the voice understands it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use twinstep_tests::{root, twinstep};

/// Sentences that the recogniser chooses among: the everyday sentences of `recorder/voice/evaluate.py`,
/// all 40, then 24 that no part of the voice or of `speech/recognise.py` was tuned on. They were written
/// and committed before anything was run on them. None is a whole line of the voice's training text.
fn sentences() -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let everyday = read("tests/speech/sentences.txt");
    let whole = format!("EVERYDAY = \"\"\"{}\"\"\"", everyday.trim_end());
    assert!(read("recorder/voice/evaluate.py").contains(&whole), "not all everyday sentences, or others");
    let untuned = read("tests/speech/untuned.txt");
    let sentences: Vec<String> = everyday.lines().chain(untuned.lines()).map(str::to_owned).collect();
    assert_eq!(sentences.len(), 64);
    sentences
}

/// A Python with pocketsphinx. Where there is none, CI fails and anybody else is told what to do.
fn recogniser() -> Option<String> {
    let python = std::env::var("TWINSTEP_RECOGNISER").unwrap_or_else(|_| "python3".to_owned());
    let present = Command::new(&python).args(["-c", "import pocketsphinx"]).output();
    if present.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have pocketsphinx 5.1.1");
    eprintln!("skipped: {python} has no pocketsphinx; `pip install pocketsphinx==5.1.1` and run again");
    None
}

/// Speaks the first `count` sentences greedily and lets the recogniser choose among all; which were
/// heard, -1 for none. Two at a time: what is heard depends on no other sentence.
fn heard(python: &str, sentences: &[String], count: usize, voice: Option<&Path>) -> Vec<i64> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("list.txt"), sentences.join("\n")).unwrap();
    let half = |first: usize| -> Vec<i64> {
        let wavs: Vec<String> = (first..count).step_by(2).map(|i| format!("{i}.wav")).collect();
        for (wav, sentence) in wavs.iter().zip(sentences[first..].iter().step_by(2)) {
            let text = format!("{sentence}.");
            // Rows do not depend on the batch: one row is enough here.
            let mut run = vec!["record", "--device", "cpu", "--snapshots", "off", "--batch", "1"];
            run.extend(["--max-steps", "600", "--text", &text, "--wav", wav]);
            run.extend(voice.iter().flat_map(|voice| ["--voice", voice.to_str().unwrap()]));
            twinstep(folder, &run).expect(0);
        }
        let script = root().join("tests/speech/recognise.py");
        let mut recognise = Command::new(python);
        recognise.arg(script).arg("list.txt").args(&wavs).current_dir(folder);
        let output = recognise.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().parse().unwrap()).collect()
    };
    let (even, odd) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        (half(0), odd.join().unwrap())
    });
    assert_eq!((even.len(), odd.len()), (count.div_ceil(2), count / 2));
    (0..count).map(|i| if i % 2 == 0 { even[i / 2] } else { odd[i / 2] }).collect()
}

fn right(heard: &[i64]) -> usize {
    heard.iter().enumerate().filter(|&(i, &h)| h == i as i64).count()
}

/// When this was written: 64 of 64. Of the 40, 34 with the recogniser's default beams, none confused and
/// six rejected; 40 with the beams of `recognise.py`, which were chosen on those 40. The other 24 were
/// then run once: 24. Of the voice, one choice rests on the first 20 of the 40 (see its README).
#[test]
fn a_recogniser_picks_the_right_sentence() {
    let Some(python) = recogniser() else { return };
    let sentences = sentences();
    let heard = heard(&python, &sentences, sentences.len(), None);
    for (i, &h) in heard.iter().enumerate().filter(|&(i, &h)| h != i as i64) {
        let name = usize::try_from(h).map_or("nothing", |h| &sentences[h]);
        println!("`{}`: heard `{name}`", sentences[i]);
    }
    let (all, untuned) = (right(&heard), heard.len() - 40);
    println!("{all} of {} understood, {} of the first 40", heard.len(), right(&heard[..40]));
    assert!(all * 10 >= heard.len() * 9, "only {all} of {}: {heard:?}", heard.len());
    let all = all - right(&heard[..40]);
    assert!(all * 10 >= untuned * 9, "only {all} of the {untuned} that nothing was tuned on: {heard:?}");
}

/// A copy of the embedded voice where two tensors of one shape have changed places.
fn swapped(folder: &Path, file: &str, a: &str, b: &str) {
    let voice = root().join("recorder/voice");
    for name in ["config.json", "talker.safetensors", "codec.safetensors"] {
        std::fs::copy(voice.join(name), folder.join(name)).unwrap();
    }
    let bytes = std::fs::read(voice.join(file)).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    assert_eq!(header[a]["shape"], header[b]["shape"]);
    let (at_a, at_b) = (header[a]["data_offsets"].clone(), header[b]["data_offsets"].clone());
    assert!(at_a.is_array() && at_a != at_b);
    header[a]["data_offsets"] = at_b;
    header[b]["data_offsets"] = at_a;
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(folder.join(file), [&length, &header[..], &bytes[end..]].concat()).unwrap();
}

/// The test above can fail: a codec that takes two codebooks for each other, or a talker with two
/// layers' weights confused, leaves the recogniser guessing (1 and 0 of 8 when this was written). It
/// does not see everything: with the last two codebooks, which carry the least, it still hears all 8.
#[test]
fn a_broken_voice_is_not_understood() {
    let Some(python) = recogniser() else { return };
    let sentences = sentences();
    for (file, a, b) in [
        (
            "codec.safetensors",
            "quantizer.quantizers.0.codebook.embed",
            "quantizer.quantizers.1.codebook.embed",
        ),
        ("talker.safetensors", "body.layers.2.mlp.down_proj.weight", "body.layers.3.mlp.down_proj.weight"),
    ] {
        let voice = tempfile::tempdir().unwrap();
        swapped(voice.path(), file, a, b);
        let heard = heard(&python, &sentences, 8, Some(voice.path()));
        println!("{a} for {b}: {} of 8", right(&heard));
        assert!(right(&heard) <= 2, "{a} for {b}: {heard:?}");
    }
}
