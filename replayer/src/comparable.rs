//! Whether two runs have anything to say about each other.

use std::collections::BTreeMap;
use std::fmt::Debug;

use twinstep_traces::{RunRecord, SamplingRecord, Trace};

use crate::ReplayError;
use crate::foreign::{describes_recording, is_foreign};

/// Whether two traces are of the same text, model and, of our own engine, sampling. What one of them does not know (an empty
/// text, a hash of zeros, no rows) is compared with nothing, and notes on the recording itself neither.
///
/// # Errors
/// [`ReplayError::NotComparable`] with the first thing that differs.
pub fn comparable(a: &Trace, b: &Trace) -> Result<(), ReplayError> {
    runs(a.run(), b.run())
}

fn runs(a: &RunRecord, b: &RunRecord) -> Result<(), ReplayError> {
    words("text", &a.prompt, &b.prompt)?;
    let unknown = [0; 32];
    match a.model_sha256 == unknown || b.model_sha256 == unknown {
        true => words("model", &a.model, &b.model)?,
        false if a.model_sha256 != b.model_sha256 => return differ("model", &a.model, &b.model),
        false => {}
    }
    words("element type of weights", &a.weights_dtype, &b.weights_dtype)?;
    words("element type of the KV cache", &a.kv_dtype, &b.kv_dtype)?;
    words("delay profile", &a.profile, &b.profile)?;
    if a.rows != b.rows && a.rows != 0 && b.rows != 0 {
        return differ("batch", &a.rows, &b.rows);
    }
    let (mine, theirs) = (notes(a), notes(b));
    for key in mine.keys().chain(theirs.keys()) {
        let (x, y) = (mine.get(key), theirs.get(key));
        if x != y {
            return differ(key, &x.unwrap_or(&"nothing"), &y.unwrap_or(&"nothing"));
        }
    }
    // Recorders of other engines do not know it, and wrote what they liked.
    if a.sampling != b.sampling && !is_foreign(a) {
        let (mine, theirs) = (sampling(&a.sampling), sampling(&b.sampling));
        return Err(ReplayError::NotComparable(format!("the sampling differs: {mine} in A, {theirs} in B")));
    }
    Ok(())
}

/// How codes were chosen, in words.
fn sampling(record: &SamplingRecord) -> String {
    let (temperature, top_p) = (f32::from_bits(record.temperature_bits), f32::from_bits(record.top_p_bits));
    format!("temperature {temperature}, top-k {}, top-p {top_p}, seed {}", record.top_k, record.seed)
}

/// The notes on what was run.
fn notes(run: &RunRecord) -> BTreeMap<&str, &str> {
    let notes = run.notes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    notes.filter(|(key, _)| !describes_recording(key)).collect()
}

fn words(what: &str, a: &str, b: &str) -> Result<(), ReplayError> {
    if a == b || a.is_empty() || b.is_empty() { Ok(()) } else { differ(what, &a, &b) }
}

fn differ(what: &str, a: &dyn Debug, b: &dyn Debug) -> Result<(), ReplayError> {
    Err(ReplayError::NotComparable(format!("the {what} differs: {a:?} in A, {b:?} in B")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> RunRecord {
        RunRecord {
            model: "voice".into(),
            model_sha256: [7; 32],
            weights_dtype: "f16".into(),
            kv_dtype: "f16".into(),
            profile: "voice".into(),
            prompt: "hello.".into(),
            rows: 4,
            ..RunRecord::default()
        }
    }

    fn foreign(folder: &str) -> RunRecord {
        let note = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let notes = vec![
            note("engine", "foreign"),
            note("process.pid", folder),
            note("recorder.audit", folder),
            note("source.folder", folder),
        ];
        RunRecord { notes, ..RunRecord::default() }
    }

    fn told(a: &RunRecord, b: &RunRecord) -> String {
        runs(a, b).map_or_else(|e| e.to_string(), |()| "yes".to_owned())
    }

    #[test]
    fn what_both_know_must_be_the_same() {
        assert_eq!(told(&own(), &own()), "yes");
        type Change = (&'static str, fn(&mut RunRecord), fn(&mut RunRecord));
        // What it is called, another value of it, and how it is not known.
        let changes: &[Change] = &[
            ("text", |r| r.prompt = "bye.".into(), |r| r.prompt.clear()),
            ("model", |r| r.model_sha256 = [8; 32], |r| r.model_sha256 = [0; 32]),
            ("element type of weights", |r| r.weights_dtype = "bf16".into(), |r| r.weights_dtype.clear()),
            ("element type of the KV cache", |r| r.kv_dtype = "bf16".into(), |r| r.kv_dtype.clear()),
            ("delay profile", |r| r.profile = "omni".into(), |r| r.profile.clear()),
            ("batch", |r| r.rows = 2, |r| r.rows = 0),
        ];
        for (name, change, forget) in changes {
            let (mut other, mut unknown) = (own(), own());
            change(&mut other);
            forget(&mut unknown);
            assert!(told(&own(), &other).contains(&format!("the {name} differs")), "{name}");
            assert_eq!(told(&own(), &unknown), "yes", "{name}");
            assert_eq!(told(&unknown, &other), "yes", "{name}");
        }
        let sampled = RunRecord {
            sampling: twinstep_traces::SamplingRecord { seed: 1, ..Default::default() },
            ..own()
        };
        let said = "the sampling differs: temperature 0, top-k 0, top-p 0, seed 0 in A, \
                    temperature 0, top-k 0, top-p 0, seed 1 in B";
        assert_eq!(told(&own(), &sampled), format!("not comparable: {said}"));
        // Of other engines it is not known.
        let other = RunRecord { sampling: sampled.sampling, ..foreign("a") };
        assert_eq!(told(&foreign("a"), &other), "yes");
    }

    #[test]
    fn a_model_without_a_hash_is_known_by_its_name() {
        let named = |name: &str| RunRecord { model: name.into(), ..foreign("a") };
        assert_eq!(told(&named("a"), &named("a")), "yes");
        assert_eq!(told(&named("a"), &named("")), "yes");
        assert!(told(&named("a"), &named("b")).contains("the model differs: \"a\" in A, \"b\" in B"));
    }

    #[test]
    fn notes_on_the_recording_are_not_compared() {
        assert_eq!(told(&foreign("a"), &foreign("b")), "yes");
        let mut noted = foreign("a");
        noted.notes.push(("context".into(), "256".into()));
        assert!(told(&noted, &foreign("a")).contains("the context differs: \"256\" in A, \"nothing\" in B"));
        assert!(
            told(&own(), &foreign("a")).contains("the engine differs: \"nothing\" in A, \"foreign\" in B")
        );
    }
}
