//! Random recordings against a model that keeps every snapshot whole.

mod fixture;

use std::collections::BTreeMap;

use fixture::*;
use proptest::prelude::*;
use twinstep_traces::*;

/// One thing that a recorder does. Numbers are reduced to what exists at that point.
#[derive(Debug, Clone)]
enum Act {
    AddBuffer {
        bytes: u64,
        chunk_log2: u32,
    },
    /// Writes into the live memory of a buffer.
    Poke {
        buffer: usize,
        at: usize,
        value: u8,
    },
    /// Covers the buffers of a bit mask; gives all chunks, or only those that differ.
    Snapshot {
        cover: u32,
        everything: bool,
    },
    Commit {
        program: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0u64..70, 0u32..6).prop_map(|(bytes, chunk_log2)| Act::AddBuffer { bytes, chunk_log2 }),
        6 => (any::<usize>(), any::<usize>(), 0u8..3)
            .prop_map(|(buffer, at, value)| Act::Poke { buffer, at, value }),
        3 => (any::<u32>(), any::<bool>()).prop_map(|(cover, everything)| Act::Snapshot { cover, everything }),
        2 => (0u8..3).prop_map(|program| Act::Commit { program }),
    ]
}

#[derive(Default)]
struct Model {
    live: Vec<(BufferRecord, Vec<u8>)>,
    /// What the trace was last given of each buffer.
    given: BTreeMap<usize, Vec<u8>>,
    snapshots: Vec<BTreeMap<usize, Vec<u8>>>,
    steps: Vec<StepRecord>,
    /// Lengths of the above at the last commit.
    committed: (usize, usize, usize),
}

impl Model {
    fn perform<S: Storage>(&mut self, act: &Act, writer: &mut TraceWriter<S>) {
        match *act {
            Act::AddBuffer { bytes, chunk_log2 } => {
                let record = buffer("b", self.live.len() as u32, bytes, 1 << chunk_log2);
                writer.add_buffer(&record).unwrap();
                self.live.push((record, vec![0xa5; bytes as usize]));
            }
            Act::Poke { buffer, at, value } => {
                let count = self.live.len().max(1);
                if let Some((_, bytes)) = self.live.get_mut(buffer % count)
                    && !bytes.is_empty()
                {
                    let at = at % bytes.len();
                    bytes[at] = value;
                }
            }
            Act::Snapshot { cover, everything } => self.snapshot(cover, everything, writer),
            Act::Commit { program } => {
                let reason = format!("program {program}");
                let id = writer.add_program(&Program { items: vec![Item::Gap { reason }] }).unwrap();
                let record = step(1, self.steps.len() as u32 + 1, id, &[]);
                writer.commit_step(&record).unwrap();
                self.steps.push(record);
                self.committed = (self.live.len(), self.snapshots.len(), self.steps.len());
            }
        }
    }

    fn snapshot<S: Storage>(&mut self, cover: u32, everything: bool, writer: &mut TraceWriter<S>) {
        let covered: Vec<usize> = (0..self.live.len()).filter(|i| cover >> (i % 32) & 1 == 1).collect();
        let mut pieces = Vec::new();
        for &i in &covered {
            let (record, bytes) = &self.live[i];
            let chunk_bytes = record.chunk_bytes as usize;
            for (chunk, now) in bytes.chunks(chunk_bytes).enumerate() {
                let last = self.given.get(&i).map(|last| &last[chunk * chunk_bytes..][..now.len()]);
                if everything || last != Some(now) {
                    pieces.push(ChangedChunks {
                        buffer: BufferId(i as u32),
                        first_chunk: chunk as u64,
                        bytes: now,
                    });
                }
            }
        }
        pieces.reverse();
        let ids: Vec<BufferId> = covered.iter().map(|&i| BufferId(i as u32)).collect();
        let id = writer.snapshot(&ids, &pieces, &[]).unwrap();
        assert_eq!(id.0 as usize, self.snapshots.len());
        let contents: BTreeMap<_, _> = covered.iter().map(|&i| (i, self.live[i].1.clone())).collect();
        self.given.extend(contents.clone());
        self.snapshots.push(contents);
    }

    /// Whether `trace` holds the first buffers, snapshots and steps of the model and no more.
    fn check(&self, trace: &Trace, (buffers, snapshots, steps): (usize, usize, usize)) {
        assert_eq!(
            (trace.buffers().len(), trace.snapshot_count(), trace.step_count()),
            (buffers, snapshots, steps)
        );
        let told = told(trace).unwrap();
        assert_eq!(told.steps, self.steps[..steps]);
        for (i, (record, _)) in self.live[..buffers].iter().enumerate() {
            assert_eq!(&told.buffers[i], record);
            for (snapshot, contents) in self.snapshots[..snapshots].iter().enumerate() {
                assert_eq!(
                    told.snapshots[snapshot].2[i].as_ref(),
                    contents.get(&i),
                    "buffer {i} at {snapshot}"
                );
            }
        }
        let verification = trace.verify();
        assert!(verification.ok(), "{verification:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn closed_and_cut_short(acts in proptest::collection::vec(act(), 0..80)) {
        let mut bytes = Vec::new();
        let mut model = Model::default();
        let mut writer = TraceWriter::new(Borrowed(&mut bytes), &run()).unwrap();
        acts.iter().for_each(|act| model.perform(act, &mut writer));
        drop(writer);
        model.check(&Trace::from_bytes(bytes).unwrap(), model.committed);

        let mut model = Model::default();
        let mut writer = TraceWriter::new(MemoryStorage::default(), &run()).unwrap();
        acts.iter().for_each(|act| model.perform(act, &mut writer));
        let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
        prop_assert!(trace.complete());
        // Closing commits what no step did.
        model.check(&trace, (model.live.len(), model.snapshots.len(), model.steps.len()));
    }
}

struct Borrowed<'a>(&'a mut Vec<u8>);

impl Storage for Borrowed<'_> {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
