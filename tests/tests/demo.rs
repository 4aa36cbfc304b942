//! The main job, as a stranger runs it.

use std::time::Instant;

use twinstep_tests::{binary, twinstep};

#[test]
fn demo_tells_the_whole_story_twice() {
    let folder = tempfile::tempdir().unwrap();
    binary();
    for _ in 0..2 {
        let start = Instant::now();
        let text = twinstep(folder.path(), &["demo"]).expect(0).stdout;
        assert!(start.elapsed().as_secs() < 60, "the demo took {:?}", start.elapsed());
        for part in ["cpu", "identical", "stale-codes", "last_codes", "no effect", "twinstep step", "wav"] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
    }
    let data = twinstep(folder.path(), &["demo", "--json"]).expect(0).json();
    assert_eq!(data["schema"], "twinstep.demo/1");
    assert_eq!(data["clean"]["identical"], true);
    assert!(data["clean"]["steps"].as_array().unwrap().len() > 100);
    let first = &data["faulty"]["first"];
    assert_eq!((&first["step"], &first["buffer"]), (&2.into(), &"last_codes".into()), "{first}");
    assert_eq!(data["steps"]["unpatched"]["equals_other"], false);
    assert_eq!(data["steps"]["patched"]["equals_other"], true);
    assert_eq!(data["steps"]["innocent"]["equals_other"], false);
    for wav in data["wavs"].as_array().unwrap() {
        let path = folder.path().join(wav.as_str().unwrap());
        let reader = hound::WavReader::open(&path).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().bits_per_sample), (16000, 16));
        assert!(reader.duration() > 16000, "{path:?}");
    }
    for command in data["next"].as_array().unwrap() {
        let words: Vec<String> = split(command.as_str().unwrap());
        assert_eq!(words[0], "twinstep");
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let run = twinstep(folder.path(), &words);
        assert!(matches!(run.status, Some(0 | 1)), "{words:?}: {run:?}");
    }
}

/// Words of a command line with simple quotes, as a shell would cut them.
fn split(line: &str) -> Vec<String> {
    let pieces = line.split('\'').enumerate();
    let words = pieces.flat_map(|(i, piece)| match i % 2 {
        0 => piece.split_whitespace().map(str::to_owned).collect(),
        _ => vec![piece.to_owned()],
    });
    words.collect()
}

#[test]
fn demo_leaves_a_folder_alone_that_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("twinstep-demo")).unwrap();
    std::fs::write(folder.path().join("twinstep-demo/precious"), "mine").unwrap();
    let run = twinstep(folder.path(), &["demo"]).expect(2);
    assert!(run.stderr.contains("twinstep-demo"), "{run:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("twinstep-demo")).unwrap().count(), 1);
}
