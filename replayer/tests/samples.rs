//! Every trace recorded on a GPU, executed again here without the recorder, bit for bit.

use std::path::Path;

use twinstep_replayer::{WeightFolder, verify_replay};
use twinstep_traces::Trace;

#[test]
fn every_snapshot_of_every_sample_is_reproduced() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let weights = WeightFolder(root.join("recorder/voice"));
    let mut replayed = 0;
    for entry in std::fs::read_dir(root.join("traces/samples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "twin") {
            continue;
        }
        let trace = Trace::open(&path).unwrap();
        let run = trace.run();
        assert_eq!(run.device.backend, "cuda", "{path:?}");
        assert!(!run.device.ptx_sha256.is_empty() && !run.device.driver.is_empty(), "{path:?}");
        let report = verify_replay(&trace, &weights, &mut |_, _| {}).unwrap();
        assert!(report.ok && report.complete, "{path:?}: {:?}", report.damage);
        assert!(report.steps_replayed >= 4 && report.snapshots_compared >= 8, "{path:?}");
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} samples");
}
