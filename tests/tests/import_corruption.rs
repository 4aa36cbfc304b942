//! Dumps that were damaged anywhere are imported or refused: no panic, and nothing left behind.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use twinstep_recorder::{ImportOptions, import};
use twinstep_tests::dumps::{floats, npy, npz, tensors};

/// Two steps in one of the forms; the names of the files.
fn dumps(folder: &Path, form: usize) -> Vec<String> {
    let values = |step: u32| floats(&[2, 3], &[step as f32; 6]);
    let counts = |step: u32| npy(">i4", true, &[2, 2], &[step as u8; 16]);
    (1..=2u32)
        .map(|step| {
            let extension = ["npz", "npz", "safetensors", "npy"][form];
            let name = format!("step_{step}.{extension}");
            let path = folder.join(&name);
            match form {
                0 | 1 => npz(&path, form == 1, &[("h", values(step)), ("n.before", counts(step))]),
                2 => {
                    tensors(&path, &[("h".into(), safetensors::Dtype::BF16, vec![2, 2], vec![step as u8; 8])])
                }
                _ => fs::write(&path, values(step)).unwrap(),
            }
            name
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    /// Bytes in the middle are replaced by others of the file.
    Move(usize, usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<usize>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<usize>().prop_map(Damage::Cut),
        1 => (any::<usize>(), any::<usize>(), 1..16usize).prop_map(|(from, to, n)| Damage::Move(from, to, n)),
        1 => (any::<usize>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, b)| Damage::Insert(at, b)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let length = bytes.len().max(1);
    match damage {
        Damage::Flip(at, bits) => {
            if let Some(byte) = bytes.get_mut(at % length) {
                *byte ^= bits;
            }
        }
        Damage::Cut(at) => bytes.truncate(at % length),
        Damage::Move(from, to, n) => {
            let n = (*n).min(bytes.len());
            let (from, to) = (from % (bytes.len() - n + 1), to % (bytes.len() - n + 1));
            bytes.copy_within(from..from + n, to);
        }
        Damage::Insert(at, inserted) => {
            let at = at % length.min(bytes.len() + 1);
            bytes.splice(at..at, inserted.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damage_anywhere_is_no_panic(
        form in 0..4usize,
        damages in prop::collection::vec(damage(), 1..4),
        allow in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dump = folder.path().join("d");
        fs::create_dir(&dump).unwrap();
        let names = dumps(&dump, form);
        let damaged = dump.join(&names[1]);
        let mut bytes = fs::read(&damaged).unwrap();
        damages.iter().for_each(|d| apply(&mut bytes, d));
        fs::write(&damaged, &bytes).unwrap();
        let options = ImportOptions {
            eager: Some(dump),
            prefix: folder.path().join("run"),
            allow_gaps: allow,
            allow_reshape: allow,
            ..ImportOptions::default()
        };
        let result = import(&options, &mut |_| {});
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        match result {
            Ok(report) => {
                prop_assert_eq!(left, ["d", "run.eager.twin"]);
                let trace = twinstep_traces::Trace::open(&report.traces[0].trace).unwrap();
                prop_assert!(trace.complete() && trace.verify().ok());
            }
            Err(error) => {
                prop_assert_eq!(left, ["d"]);
                let text = error.to_string();
                prop_assert!(!text.contains('\n') && text.len() > 10, "{text}");
            }
        }
    }
}
