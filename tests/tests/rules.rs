//! The talker's own rules on what the recorder records: silent on clean runs, and each of them loud
//! where one element is made to break it.

use std::collections::BTreeSet;

use twinstep_kernels::{Backend, CpuBackend};
use twinstep_recorder::{
    Fault, Mode, RULES, RecordOptions, Recording, Sampling, Voice, profile, record, run_record,
};
use twinstep_replayer::{Kind, Rules, RulesReport};
use twinstep_tests::root;
use twinstep_traces::{
    BufferId, ChangedChunks, MemoryStorage, PointRecord, Program, StepKind, Trace, TraceWriter,
};

const SAMPLED: Sampling = Sampling { temperature: 0.9, top_k: 50, top_p: 0.95 };

fn rules() -> Rules {
    Rules::parse("rules.toml", RULES).unwrap_or_else(|e| panic!("{e}"))
}

fn speak(options: &RecordOptions) -> (Trace, Recording<MemoryStorage>) {
    let voice = Voice::embedded().unwrap();
    let backend = Box::new(CpuBackend::new().unwrap());
    let device = Backend::info(&*backend);
    let run = run_record(&voice, options, &device);
    let writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    let mut recording = record(&voice, options, backend, Some(writer), &mut |_| {}).unwrap();
    let trace = Trace::from_bytes(recording.storage.take().unwrap().into_bytes()).unwrap();
    (trace, recording)
}

/// Names of the rules that the report does not say were left out.
fn looked_at(rules: &Rules, report: &RulesReport) -> BTreeSet<String> {
    let left_out =
        |name: &str| report.not_looked_at.iter().any(|line| line.starts_with(&format!("rule `{name}` ")));
    rules.iter().map(|(name, ..)| name.to_owned()).filter(|name| !left_out(name)).collect()
}

#[test]
fn clean_runs_break_no_rule_and_between_them_every_rule_is_looked_at() {
    let rules = rules();
    let mut all = BTreeSet::new();
    let mut ended = 0;
    let mut runs = 0;
    for mode in [Mode::Eager, Mode::Graph, Mode::Piecewise] {
        for profile in profile::Profile::ALL {
            for sampling in [Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 }, SAMPLED] {
                let mut options = RecordOptions::new("good morning. thank you very much.");
                (options.mode, options.profile, options.sampling) = (mode, profile, sampling);
                options.rows = [1, 2, 4][(2 * runs + runs / 6) % 3];
                options.seed = runs as u64;
                options.context = Some(256);
                let (trace, recording) = speak(&options);
                let report = rules.check(&trace).unwrap();
                let what = format!("{mode:?} {} {sampling:?}, {} rows", profile.name, options.rows);
                assert_eq!(report.findings, [], "{what}");
                let steps: u32 = recording.requests.iter().map(|request| request.steps).sum();
                assert_eq!(report.steps_checked, steps as usize, "{what}");
                assert_eq!(recording.requests.len(), 2, "{what}");
                let looked_at = looked_at(&rules, &report);
                assert_eq!(looked_at.len(), report.rules_checked, "{what}: {:?}", report.not_looked_at);
                // What is left out matched no step: nothing was missing.
                for line in &report.not_looked_at {
                    assert!(line.ends_with("matched no step"), "{what}: {line}");
                }
                ended += recording.requests.iter().filter(|r| r.stopped == "end of speech").count();
                all.extend(looked_at);
                runs += 1;
            }
        }
    }
    assert!(ended >= 2 * runs - 4, "{ended} of {} requests came to their end", 2 * runs);
    assert_eq!(all.len(), rules.iter().count(), "{all:?}");
}

#[test]
fn samples_are_clean_but_for_the_stale_codes() {
    let rules = rules();
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("traces/samples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "twin") {
            continue;
        }
        let trace = Trace::open(&path).unwrap();
        assert_eq!(rules.model(), Some(trace.run().model.as_str()));
        let report = rules.check(&trace).unwrap();
        if path.ends_with("graph-stale-codes.twin") {
            let [finding] = &report.findings[..] else { panic!("{report:#?}") };
            assert_eq!((finding.check.as_str(), finding.request, finding.step), ("feedback-first", 1, 2));
            assert_eq!(finding.buffer.as_deref(), Some("last_codes@0"));
            assert!(
                finding.message.starts_with("last_codes[0,0] is 512, prefill_codes[0,0] of step 1 is "),
                "{finding:?}"
            );
        } else if path.ends_with("graph-codes-reallocated.twin") {
            // The graph feeds back into the first allocation; the name means the second.
            let [finding] = &report.findings[..] else { panic!("{report:#?}") };
            assert_eq!((finding.check.as_str(), finding.request, finding.step), ("feedback", 1, 3));
            assert_eq!(finding.buffer.as_deref(), Some("last_codes@1"));
        } else {
            // A launch that is missing, or garbage in a table, breaks no invariant of the state.
            assert_eq!(report.findings, [], "{path:?}");
        }
        assert!(report.rules_checked >= 16 && report.steps_checked >= 4, "{path:?}: {report:?}");
        seen += 1;
    }
    assert!(seen >= 8, "{seen} samples");
}

#[test]
fn stale_codes_break_the_feedback_of_every_request() {
    let mut options = RecordOptions::new("good morning. thank you.");
    (options.mode, options.faults, options.max_steps) = (Mode::Graph, vec![Fault::StaleCodes], Some(4));
    let report = rules().check(&speak(&options).0).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert_eq!((finding.check.as_str(), finding.request, finding.step), ("feedback-first", 1, 2));
    assert!(finding.message.ends_with("; 1 further step break it"), "{finding:?}");
}

/// One element of one snapshot.
struct Change {
    request: u32,
    step: u32,
    after: bool,
    buffer: &'static str,
    element: usize,
    add: i64,
}

/// The steps of a trace with the small buffers of their snapshots, one element changed.
fn changed(trace: &Trace, change: &Change) -> Trace {
    let mut writer = TraceWriter::new(MemoryStorage::default(), trace.run()).unwrap();
    let kept: Vec<BufferId> = (0..trace.buffers().len() as u32)
        .map(BufferId)
        .filter(|&id| trace.buffer(id).is_some_and(|b| b.bytes <= 64 << 10 && b.contents.is_none()))
        .collect();
    for &id in &kept {
        writer.add_buffer(trace.buffer(id).unwrap()).unwrap();
    }
    for request in trace.requests() {
        writer.add_request(request).unwrap();
    }
    let program = writer.add_program(&Program::default()).unwrap();
    let mut hits = 0;
    for index in 0..trace.step_count() {
        let mut step = trace.step(index).unwrap();
        if !matches!(step.kind, StepKind::Prefill | StepKind::Decode) {
            continue;
        }
        let mut points = Vec::new();
        for point in step.points.iter().filter(|point| point.point.starts_with("step.")) {
            let mut bytes = Vec::new();
            for (new, &id) in kept.iter().enumerate() {
                let Some(mut held) = trace.read_buffer(point.snapshot, id).unwrap() else { continue };
                let record = trace.buffer(id).unwrap();
                let here = (step.request, step.step, point.point == "step.after", record.name.as_str());
                if here == (change.request, change.step, change.after, change.buffer) {
                    let size = record.dtype.size() as usize;
                    let element = &mut held[change.element * size..][..size];
                    let mut word = [0; 8];
                    word[..size].copy_from_slice(element);
                    let value = i64::from_le_bytes(word).wrapping_add(change.add);
                    element.copy_from_slice(&value.to_le_bytes()[..size]);
                    hits += 1;
                }
                bytes.push((BufferId(new as u32), held));
            }
            let covered: Vec<BufferId> = bytes.iter().map(|(id, _)| *id).collect();
            let whole: Vec<ChangedChunks<'_>> = (bytes.iter())
                .map(|(buffer, bytes)| ChangedChunks { buffer: *buffer, first_chunk: 0, bytes })
                .collect();
            let snapshot = writer.snapshot(&covered, &whole, &[]).unwrap();
            points.push(PointRecord { point: point.point.clone(), position: 0, snapshot });
        }
        (step.program, step.points) = (program, points);
        (step.host_writes, step.host_reads) = (Vec::new(), Vec::new());
        writer.commit_step(&step).unwrap();
    }
    assert_eq!(hits, 1, "the change must happen");
    Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
}

#[test]
fn each_rule_is_broken_by_the_change_that_it_is_there_for() {
    let rules = rules();
    let mut options = RecordOptions::new("good morning. thank you.");
    (options.rows, options.context) = (2, Some(256));
    let (trace, recording) = speak(&options);
    assert!(recording.requests.iter().all(|request| request.stopped == "end of speech"));
    let last = recording.requests[1].steps;
    // The row ends in the last N - 2 = 2 steps after the one that drew EOC.
    let drew = last - 2;
    let table: &[(&str, u32, bool, &'static str, usize, i64)] = &[
        ("feedback-first", 2, false, "last_codes", 3, -1),
        ("feedback", 9, false, "last_codes", 2, 1),
        ("row-active", 5, false, "has_codes", 0, -1),
        ("seq-len-first", 1, false, "seq_lens", 0, 1),
        ("seq-len-grows", 7, false, "seq_lens", 0, 1),
        ("position", 7, false, "positions", 0, -1),
        ("slot", 7, false, "slot_mapping", 0, 1),
        ("slot", 7, false, "block_table", 1, 1),
        ("prefill-position", 1, false, "prefill_positions", 3, 1),
        ("prefill-slot", 1, false, "prefill_slots", 5, 1),
        ("padding-seq-len", 4, false, "seq_lens", 1, 1),
        ("padding-slot", 4, false, "slot_mapping", 1, 1),
        ("padding-codes", 4, true, "codes_out", 6, 1),
        ("sampler-counter-first", 1, true, "sampler_counter", 0, -1),
        ("sampler-counter", 6, true, "sampler_counter", 0, -1),
        ("delay-count-first", 1, true, "delay_count", 0, -1),
        ("delay-count", 6, true, "delay_count", 0, -1),
        ("state-kept", 6, false, "eoc_countdown", 0, 1),
        ("lead-in-first", 1, true, "prefill_codes", 1, -1),
        ("lead-in", 2, true, "codes_out", 2, -1),
        ("ramp-down", last, true, "codes_out", 1, -1),
        ("ending-begins", 6, true, "eoc_countdown", 0, 1),
        ("ending-begins", drew, true, "eoc_countdown", 0, 1),
        ("countdown", last - 1, true, "eoc_countdown", 0, 1),
        ("done", last, true, "generation_done", 0, -1),
        ("codes-first", 1, true, "prefill_codes", 0, 600),
        ("codes", 9, true, "codes_out", 2, -600),
    ];
    let mut broken = BTreeSet::new();
    for &(rule, step, after, buffer, element, add) in table {
        let change = Change { request: 2, step, after, buffer, element, add };
        let report = rules.check(&changed(&trace, &change)).unwrap();
        let finding = report.findings.iter().find(|finding| finding.check == rule);
        let finding = finding.unwrap_or_else(|| panic!("{rule}: {report:#?}"));
        assert_eq!((finding.request, finding.step), (2, step), "{finding:?}");
        assert!(finding.message.contains(buffer), "{finding:?}");
        let kind = rules.iter().find(|(name, ..)| *name == rule).map(|(_, kind, _)| kind);
        assert_eq!(Some(finding.kind), kind);
        // Nothing before the change is accused.
        assert!(report.findings.iter().all(|f| (f.request, f.step) >= (2, step)), "{report:#?}");
        broken.insert(rule);
    }
    let all: BTreeSet<&str> = rules.iter().map(|(name, ..)| name).collect();
    assert_eq!(broken, all);
    assert!(rules.iter().any(|(_, kind, _)| kind == Kind::PaddingLeak));
}
